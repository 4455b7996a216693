"""Statistics and centring against numpy and closed forms."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest

from mmbind_data.signal.normalise import (
    MIN_STD,
    Statistics,
    centre,
    channel_statistics,
    standardise,
)
from mmbind_data.spec.descriptor import Axis, Modality

JOINTS = ("head", "hip", "hand", "foot")


def modality(kind: Literal["inertial", "skeleton", "depth_video"]) -> Modality:
    axes = {
        "inertial": (Axis(name="time", size=6), Axis(name="channel", size=3)),
        "skeleton": (
            Axis(name="time", size=6),
            Axis(name="joint", size=4, names=JOINTS),
            Axis(name="coordinate", size=3),
        ),
        "depth_video": (
            Axis(name="time", size=6),
            Axis(name="height", size=2),
            Axis(name="width", size=5),
        ),
    }[kind]
    return Modality(kind=kind, unit="m", axes=axes, root="hip" if kind == "skeleton" else None)


def samples(kind: Literal["inertial", "skeleton", "depth_video"], n: int = 40) -> np.ndarray:
    shape = modality(kind).shape
    offsets = np.linspace(-9.8, 20.0, shape[-1])
    noise = np.random.default_rng(3).normal(size=(n, *shape))
    return (offsets + noise * np.arange(1, shape[-1] + 1)).astype(np.float32)


@pytest.mark.parametrize("kind", ["inertial", "skeleton"])
def test_measure_is_numpy_per_channel(kind: Literal["inertial", "skeleton"]) -> None:
    values = samples(kind)
    got = channel_statistics([values[:7], values[7:8], values[8:]], modality(kind))
    flat = values.reshape(-1, 3).astype(np.float64)
    np.testing.assert_allclose(got.mean, flat.mean(axis=0), rtol=1e-10)
    np.testing.assert_allclose(got.std, flat.std(axis=0), rtol=1e-10)


def test_pixels_share_one_scale() -> None:
    values = samples("depth_video")
    got = channel_statistics([values[:11], values[11:]], modality("depth_video"))
    np.testing.assert_allclose(got.mean, [values.mean(dtype=np.float64)], rtol=1e-10)
    np.testing.assert_allclose(got.std, [values.std(dtype=np.float64)], rtol=1e-10)


def test_absent_rows_are_left_out_and_blocks_may_be_empty() -> None:
    values = samples("inertial")
    expected = channel_statistics([values], modality("inertial"))
    holed = np.insert(values, [0, 9, 40], np.nan, axis=0)
    assert channel_statistics([holed], modality("inertial")) == expected
    parts = [holed[:1], holed[1:1], holed[1:]]  # all absent, nothing, the rest
    np.testing.assert_allclose(channel_statistics(parts, modality("inertial")).mean, expected.mean)
    np.testing.assert_allclose(channel_statistics(parts, modality("inertial")).std, expected.std)


def test_a_constant_channel_stays_finite_and_zero() -> None:
    values = np.full((5, 6, 3), 9.80665, dtype=np.float32)
    statistics = channel_statistics([values], modality("inertial"))
    assert statistics.std == (MIN_STD,) * 3
    np.testing.assert_array_equal(standardise(values, statistics), np.zeros_like(values))


def test_no_sample_at_all_gives_finite_statistics() -> None:
    got = channel_statistics([np.full((2, 6, 3), np.nan, dtype=np.float32)], modality("inertial"))
    assert np.isfinite([*got.mean, *got.std]).all()
    assert min(got.std) > 0


def test_standardised_channels_have_mean_0_and_std_1() -> None:
    values = samples("inertial", n=300)
    got = standardise(values, channel_statistics([values], modality("inertial")))
    assert got.dtype == np.float32
    assert got.shape == values.shape
    np.testing.assert_allclose(got.mean(axis=(0, 1)), 0, atol=1e-5)
    np.testing.assert_allclose(got.std(axis=(0, 1)), 1, atol=1e-5)


def test_standardise_is_the_closed_form() -> None:
    got = standardise(np.array([[[3.0, -4.0]]]), Statistics(mean=(1.0, 2.0), std=(4.0, 3.0)))
    np.testing.assert_allclose(got, [[[0.5, -2.0]]])


def test_centre_puts_the_first_frames_root_at_zero_and_keeps_the_motion() -> None:
    values = samples("skeleton")
    got = centre(values, modality("skeleton"))
    np.testing.assert_array_equal(got[:, 0, JOINTS.index("hip")], np.zeros((len(values), 3)))
    for n, t, joint in [(0, 0, 0), (3, 5, 1), (39, 2, 3)]:
        np.testing.assert_allclose(got[n, t, joint], values[n, t, joint] - values[n, 0, 1])
    moved = values + np.array([1.0, -2.0, 3.0], dtype=np.float32)  # the camera elsewhere
    np.testing.assert_allclose(centre(moved, modality("skeleton")), got, atol=1e-5)


def test_centre_on_every_frame_keeps_the_root_at_zero() -> None:
    values = samples("skeleton")
    got = centre(values, modality("skeleton"), "frame")
    np.testing.assert_array_equal(got[:, :, 1], np.zeros((len(values), 6, 3)))
    np.testing.assert_allclose(got[3, 5, 2], values[3, 5, 2] - values[3, 5, 1])
    np.testing.assert_array_equal(centre(values, modality("skeleton"), "none"), values)


def test_background_pixels_do_not_count() -> None:
    body = modality("depth_video").model_copy(update={"background": 0.0})
    values = samples("depth_video")
    holed = values.copy()
    holed[:, :, 0] = 0.0
    expected = values[:, :, 1].astype(np.float64)
    got = channel_statistics([holed[:9], holed[9:]], body)
    np.testing.assert_allclose(got.mean, [expected.mean()], rtol=1e-6)
    np.testing.assert_allclose(got.std, [expected.std()], rtol=1e-6)


def test_other_kinds_are_not_centred() -> None:
    values = samples("inertial")
    np.testing.assert_array_equal(centre(values, modality("inertial")), values)


@pytest.mark.parametrize(("recentre", "frames"), [("frame", slice(None)), ("first", slice(0, 1))])
def test_a_skeleton_without_root_is_centred_on_its_mean_joint(
    recentre: Literal["frame", "first"], frames: slice
) -> None:
    rootless = modality("skeleton").model_copy(update={"root": None})
    values = samples("skeleton")
    middle = np.sum([values[:, frames, joint] for joint in range(4)], axis=0) / 4
    got = centre(values, rootless, recentre)
    np.testing.assert_allclose(got, values - middle[:, :, np.newaxis], atol=1e-5)
    np.testing.assert_array_equal(centre(values, rootless, "none"), values)


def test_points_count_one_by_one_and_padding_does_not() -> None:
    axes = (Axis(name="time", size=2), Axis(name="point", size=3), Axis(name="channel", size=2))
    cloud = Modality(kind="point_cloud", unit="m", axes=axes)
    values = np.full((2, 2, 3, 2), np.nan, dtype=np.float32)
    values[0, 0, :2] = [[1, 10], [2, 20]]
    values[1, 1, 0] = [6, 60]
    got = channel_statistics([values], cloud)
    np.testing.assert_allclose(got.mean, [3, 30])
    np.testing.assert_allclose(got.std, np.std([[1, 10], [2, 20], [6, 60]], axis=0))
    assert channel_statistics([np.full_like(values, np.nan)], cloud).std == (1.0,)


def test_colours_have_a_scale_each_and_class_numbers_none() -> None:
    size = (Axis(name="height", size=4), Axis(name="width", size=5))
    colours = Modality(kind="image", unit="1", axes=(*size, Axis(name="channel", size=3)))
    values = np.random.default_rng(0).normal([1, 5, 9], [1, 2, 3], (6, 4, 5, 3)).astype(np.float32)
    np.testing.assert_allclose(
        channel_statistics([values], colours).mean, values.mean(axis=(0, 1, 2)), 1e-5
    )
    classes = Modality(kind="image", unit="1", axes=size, background=0.0, classes=7)
    numbers = np.full((2, 4, 5), 6, dtype=np.float32)
    assert channel_statistics([numbers], classes) == Statistics(mean=(0.0,), std=(1.0,))
