"""Windows: what is cut or stretched keeps its values, its order and its ends."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmbind_data.signal.point_clouds import PointFrames
from mmbind_data.signal.windows import cut, make_windows, pick, stretch, window_starts
from mmbind_data.spec.descriptor import Recording, Windowing

SIZES = [(1, 1), (1, 5), (2, 1), (2, 7), (3, 8), (7, 3), (50, 50), (119, 120), (180, 120), (8, 51)]


def naive_stretch(values: np.ndarray, n: int) -> np.ndarray:
    """One value at a time, positions as exact fractions."""
    flat = values.reshape(len(values), -1).astype(np.float64)
    result = np.zeros((n, flat.shape[1]))
    for k in range(n):
        position = Fraction(k * (len(flat) - 1), n - 1) if n > 1 else Fraction(0)
        left = math.floor(position)
        share = float(position - left)
        for c in range(flat.shape[1]):
            right = flat[left + 1, c] if left + 1 < len(flat) else flat[left, c]
            result[k, c] = flat[left, c] + share * (right - flat[left, c])
    return result.reshape(n, *values.shape[1:])


@pytest.mark.parametrize(("n_frames", "n"), SIZES)
def test_stretch_is_the_naive_loop(n_frames: int, n: int) -> None:
    values = np.random.default_rng(1).normal(size=(n_frames, 2, 3))
    got = stretch(values, n)
    assert got.dtype == np.float32
    assert got.flags.c_contiguous
    np.testing.assert_allclose(got, naive_stretch(values, n), rtol=0, atol=1e-6)


@given(
    n_frames=st.integers(1, 200),
    n=st.integers(2, 200),
    start=st.floats(-10, 10),
    slope=st.floats(-1, 1),
)
def test_a_ramp_stays_a_ramp_between_the_same_ends(
    n_frames: int, n: int, start: float, slope: float
) -> None:
    got = stretch(start + slope * np.arange(n_frames), n)
    expected = np.linspace(start, start + slope * (n_frames - 1), n)
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-5)


@given(st.integers(1, 60), st.integers(2, 60))
def test_both_end_points_are_kept_and_nothing_is_overshot(n_frames: int, n: int) -> None:
    values = np.random.default_rng(n_frames).normal(size=(n_frames, 3)).astype(np.float32)
    got = stretch(values, n)
    np.testing.assert_array_equal(got[0], values[0])
    np.testing.assert_array_equal(got[-1], values[-1])
    assert (got >= values.min(axis=0) - 1e-6).all()
    assert (got <= values.max(axis=0) + 1e-6).all()


@pytest.mark.parametrize("resample", [stretch, pick])
def test_same_length_and_single_frame(resample: object) -> None:
    assert callable(resample)
    values = np.random.default_rng(2).normal(size=(9, 4)).astype(np.float32)
    np.testing.assert_array_equal(resample(values, 9), values)
    np.testing.assert_array_equal(resample(values[:1], 3), np.repeat(values[:1], 3, axis=0))
    np.testing.assert_array_equal(resample(values, 1), values[:1])
    for n_frames, n in [(0, 3), (3, 0)]:
        with pytest.raises(ValueError, match="at least 1"):
            resample(np.zeros((n_frames, 2)), n)


@given(n_frames=st.integers(1, 60), n=st.integers(1, 60))
def test_pick_takes_the_nearest_frame_and_the_earlier_of_two(n_frames: int, n: int) -> None:
    got = pick(np.arange(n_frames), n)
    for k in range(n):
        position = Fraction(k * (n_frames - 1), n - 1) if n > 1 else Fraction(0)
        # min keeps the first of equal distances, which is the earlier frame
        assert got[k] == min(range(n_frames), key=lambda frame: abs(frame - position)), k


@pytest.mark.parametrize(("n_frames", "n", "k", "frame"), [(8, 51, 25, 3), (2, 3, 1, 0)])
def test_pick_breaks_ties_where_rounding_would_not(
    n_frames: int, n: int, k: int, frame: int
) -> None:
    assert pick(np.arange(n_frames), n)[k] == frame


@given(n_frames=st.integers(0, 80), length=st.integers(1, 40), step=st.integers(1, 50))
def test_windows_lie_inside_and_no_window_is_forgotten(
    n_frames: int, length: int, step: int
) -> None:
    starts = list(window_starts(n_frames, length, step))
    assert starts == [s for s in range(0, n_frames, step) if s + length <= n_frames]
    values = np.arange(n_frames * 2).reshape(n_frames, 2)
    windows = cut(values, starts, length)
    assert windows.shape == (len(starts), length, 2)
    assert windows.dtype == np.float32
    for window, start in zip(windows, starts, strict=True):
        np.testing.assert_array_equal(window, values[start : start + length])


def recording(**streams: np.ndarray | PointFrames) -> Recording:
    return Recording("a/b", "1", "walk", streams, ("raw.csv",))


def test_cut_gives_all_streams_the_same_spans() -> None:
    values = np.arange(250 * 3, dtype=np.float32).reshape(250, 3)
    windowing = Windowing(mode="cut", length={"acc": 100, "gyro": 100}, step=50, rate_hz=50)
    got = make_windows(
        recording(acc=values, gyro=-values), windowing, dict.fromkeys(("acc", "gyro"), "inertial")
    )
    assert got.spans == [(0, 100), (50, 150), (100, 200), (150, 250)]
    for index, (start, end) in enumerate(span for span in got.spans if span is not None):
        np.testing.assert_array_equal(got.data["acc"][index], values[start:end])
        np.testing.assert_array_equal(got.data["gyro"][index], -values[start:end])


def test_cut_without_step_leaves_no_gap_and_no_overlap() -> None:
    windowing = Windowing(mode="cut", length={"acc": 100}, rate_hz=50)
    got = make_windows(recording(acc=np.zeros((299, 3))), windowing, {"acc": "inertial"})
    assert got.spans == [(0, 100), (100, 200)]


def test_a_recording_shorter_than_a_window_gives_none() -> None:
    windowing = Windowing(mode="cut", length={"acc": 100}, step=100, rate_hz=50)
    got = make_windows(recording(acc=np.zeros((99, 3))), windowing, {"acc": "inertial"})
    assert got.spans == []
    assert np.asarray(got.data["acc"]).shape == (0, 100, 3)


def test_streams_of_different_lengths_cannot_be_cut_together() -> None:
    windowing = Windowing(mode="cut", length={"acc": 10, "gyro": 10}, step=10, rate_hz=50)
    streams = {"acc": np.zeros((40, 3)), "gyro": np.zeros((41, 3))}
    with pytest.raises(ValueError, match=r"a/b.*40.*41"):
        make_windows(recording(**streams), windowing, dict.fromkeys(streams, "inertial"))


def test_depth_is_picked_where_a_body_is_stretched() -> None:
    depth = np.zeros((2, 4, 5), dtype=np.float32)
    depth[0, :2], depth[1, 2:] = 1.0, 3.0
    skeleton = np.stack([np.zeros((20, 3)), np.ones((20, 3))])
    windowing = Windowing(mode="stretch", length={"depth": 5, "skeleton": 5})
    kinds = {"depth": "depth_video", "skeleton": "skeleton"}
    got = make_windows(recording(depth=depth, skeleton=skeleton), windowing, kinds)
    assert got.spans == [None]
    np.testing.assert_array_equal(got.data["depth"][0], depth[[0, 0, 0, 1, 1]])
    body = np.asarray(got.data["skeleton"])
    np.testing.assert_allclose(body[0, :, 7, 1], [0, 0.25, 0.5, 0.75, 1])


def test_a_recording_without_streams_gives_no_window() -> None:
    windowing = Windowing(mode="stretch", length={"acc": 5})
    got = make_windows(recording(), windowing, {"acc": "inertial"})
    assert (got.data, got.spans) == ({}, [])


@given(
    n_frames=st.integers(1, 60),
    length=st.integers(1, 12),
    step=st.integers(1, 15),
    spans=st.lists(st.tuples(st.integers(0, 59), st.integers(1, 9)), max_size=3),
)
def test_windows_that_touch_a_gap_are_dropped_and_counted(
    n_frames: int, length: int, step: int, spans: list[tuple[int, int]]
) -> None:
    gaps = tuple((start, min(start + size, n_frames)) for start, size in spans if start < n_frames)
    values = np.arange(n_frames, dtype=float)[:, None]
    windowing = Windowing(mode="cut", length={"acc": length}, step=step, rate_hz=50)
    one = replace(recording(acc=values), gaps=gaps)
    got = make_windows(one, windowing, {"acc": "inertial"})
    lost = {frame for start, end in gaps for frame in range(start, end)}
    every = list(window_starts(n_frames, length, step))
    kept = [start for start in every if lost.isdisjoint(range(start, start + length))]
    assert [span[0] for span in got.spans if span] == kept
    assert got.n_dropped == len(every) - len(kept)
    assert np.asarray(got.data["acc"])[:, 0, 0].tolist() == kept


def test_a_still_recording_is_one_sample_without_time() -> None:
    image = np.arange(24.0).reshape(1, 2, 4, 3)
    windowing = Windowing(mode="still", length={"image": 1})
    got = make_windows(recording(image=image), windowing, {"image": "image"})
    assert got.spans == [None]
    np.testing.assert_array_equal(np.asarray(got.data["image"]), image)
    with pytest.raises(ValueError, match="image has 2 frames, not one"):
        make_windows(recording(image=np.zeros((2, 2, 4, 3))), windowing, {"image": "image"})


def test_points_are_picked_and_cut_frame_by_frame() -> None:
    frames = [np.full((n, 2), index, dtype=np.float32) for index, n in enumerate((3, 0, 1, 4, 2))]
    points = PointFrames.join(frames)
    stretched = Windowing(mode="stretch", length={"radar": 3})
    (sample,) = make_windows(recording(radar=points), stretched, {"radar": "point_cloud"}).data[
        "radar"
    ]
    assert [sample.frame(index)[:, 0].tolist() for index in range(3)] == [[0] * 3, [2], [4, 4]]
    cut_by_two = Windowing(mode="cut", length={"radar": 2}, step=2, rate_hz=10)
    samples = make_windows(recording(radar=points), cut_by_two, {"radar": "point_cloud"}).data[
        "radar"
    ]
    assert [np.diff(one.offsets).tolist() for one in samples] == [[3, 0], [1, 4]]
