"""Samples made smaller while read: which frames, points and pixels, against naive loops."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import zarr
from kinds import MODALITIES, clouds, samples, write_kind_store

from mmbind_data.errors import IntegrityError
from mmbind_data.signal.point_clouds import PointFrames, RaggedPoints
from mmbind_data.signal.windows import picked_frames, stretch
from mmbind_data.spec.descriptor import Modality
from mmbind_data.spec.store import InputBounds
from mmbind_data.store import dataset as layout
from mmbind_data.store import input_size as thinning
from mmbind_data.store.dataset import Dataset, data_path, open_dataset, point_paths
from mmbind_data.store.input_size import bounded_modality, load_reduced, reduce_samples

NAMES = tuple(MODALITIES)
LABEL = np.repeat([0, 1, 2], 3).tolist() * 2


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return open_dataset(write_kind_store(tmp_path_factory.mktemp("k") / "k.zarr", NAMES))


@pytest.mark.parametrize(
    ("name", "stored", "bounds", "expected"),
    [
        ("depth", (297, 48, 64), {}, (30, 48, 64)),
        ("depth", (16, 60, 80), {}, (16, 60, 80)),
        ("ir", (30, 57, 74), {}, (30, 57, 74)),
        ("depth", (30, 480, 640), {}, (30, 60, 80)),
        ("wifi_csi", (297, 3, 114, 10), {"frames": 50}, (50, 3, 114, 10)),
        ("radar", (297, 5), {"points": 7}, (30, 7, 5)),
        ("image", (240, 320, 3), {}, (60, 80, 3)),
        ("image", (240, 320, 3), {"pixels": 76800}, (240, 320, 3)),
        ("semseg", (100, 101), {"pixels": 1200}, (33, 33)),
        ("acc", (1000, 3), {}, (1000, 3)),
        ("keypoints", (297, 17, 2), {}, (297, 17, 2)),
    ],
)
def test_shapes_that_enter(
    name: str, stored: tuple[int, ...], bounds: dict[str, int], expected: tuple[int, ...]
) -> None:
    one = MODALITIES[name].sized(stored)
    entering = bounded_modality(one, InputBounds.model_validate(bounds))
    assert entering.shape == expected
    assert not entering.ragged
    assert (entering.unit, entering.background) == (one.unit, one.background)


@pytest.mark.parametrize("name", NAMES)
def test_within_the_bounds_samples_are_as_stored(store: Dataset, name: str) -> None:
    rows = np.array([5, 0, 17, 5])
    one = bounded_modality(store.info.modalities[name], InputBounds(points=9))
    got = load_reduced(store, name, rows, one)
    assert got.shape == (4, *one.shape)
    if not MODALITIES[name].ragged:
        assert np.array_equal(got, store.load(name, rows))
        return
    written = clouds(name, np.array(LABEL))
    for sample, row in zip(got, rows, strict=True):
        for t in range(11):
            points = written[row].frame(t)
            assert np.array_equal(sample[t, : len(points)], points)
            assert np.isnan(sample[t, len(points) :]).all()


def test_frames_are_picked_and_too_many_points_thinned_evenly() -> None:
    rng = np.random.default_rng(0)
    sizes = [0, 1, 2, 3, 4, 5, 9, 40]
    frames = [rng.normal(size=(size, 3)).astype("f4") for size in sizes]
    other = [frames[(k * 3) % 8] for k in range(8)]
    stored = RaggedPoints.of(
        [
            PointFrames.join(frames),
            PointFrames.join([f[:0] for f in frames]),
            PointFrames.join(other),
        ]
    )
    chosen = picked_frames(8, 5)
    got = stored.padded(chosen, 4)
    assert got.shape == (3, 5, 4, 3)
    for sample, source in ((0, frames), (2, other)):
        for t, number in enumerate(chosen):
            points = source[number]
            if len(points) > 4:
                points = points[picked_frames(len(points), 4)]
            assert np.array_equal(got[sample, t, : len(points)], points)
            assert np.isnan(got[sample, t, len(points) :]).all()
    assert np.isnan(got[1]).all()
    assert RaggedPoints.of([PointFrames.join([frames[7]])]).padded(np.array([0]), 1)[
        0, 0, 0
    ].tolist() == (frames[7][0].tolist())


@pytest.mark.parametrize("name", ["depth", "wifi_csi", "skeleton", "acc"])
@pytest.mark.parametrize("n_frames", [8, 31])
def test_frames_of_pictures_are_picked_others_interpolated(name: str, n_frames: int) -> None:
    one = MODALITIES[name]
    values = samples(name, np.array([0, 2]))
    got = reduce_samples(values, one, (n_frames, *one.shape[1:]))
    for sample, written in zip(got, values, strict=True):
        if name == "depth" or (name == "wifi_csi" and n_frames == 8):
            expected = written[picked_frames(len(written), n_frames)]
        else:
            expected = stretch(written, n_frames)
        assert np.array_equal(sample, expected)


def squares(picture: np.ndarray, factor: int) -> list[tuple[int, int, np.ndarray]]:
    height, width = (side // factor for side in picture.shape[:2])
    return [
        (y, x, picture[y * factor : (y + 1) * factor, x * factor : (x + 1) * factor])
        for y in range(height)
        for x in range(width)
    ]


@pytest.mark.parametrize("name", ["depth", "ir", "image", "still_depth", "semseg"])
@pytest.mark.parametrize("factor", [2, 3])
def test_squares_of_pixels_become_one(name: str, factor: int) -> None:
    one = MODALITIES[name]
    values = samples(name, np.array([1, 2]))
    if one.background is not None and one.classes is None:
        values[..., 4:9, 8:20] = one.background  # whole squares without a reading
    shape = bounded_modality(one, InputBounds.model_construct(pixels=600 // factor**2)).shape
    got = reduce_samples(values, one, shape)
    assert got.shape == (2, *shape)
    for sample, written in zip(got, values, strict=True):
        for frame, picture in zip(
            sample if one.axes[0].name == "time" else [sample],
            written if one.axes[0].name == "time" else [written],
            strict=True,
        ):
            for y, x, square in squares(picture, factor):
                if one.classes is not None:
                    expected = square[(factor - 1) // 2, (factor - 1) // 2]
                elif one.background is None:
                    expected = square.mean(axis=(0, 1))
                else:
                    readings = square[square != one.background]
                    expected = readings.mean() if len(readings) else one.background
                np.testing.assert_allclose(frame[y, x], expected, rtol=1e-5)


def test_a_long_video_is_never_in_memory_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = MODALITIES["depth"].sized((120, 20, 30))
    monkeypatch.setattr(layout, "READ_BYTES", 4 * 120 * 600 * 4)
    monkeypatch.setitem(MODALITIES, "depth", long)
    path = write_kind_store(tmp_path / "l.zarr", ["depth"], trials=20)
    opened = open_dataset(path)
    n = len(opened)
    stored = n * 120 * 600 * 4
    entering = bounded_modality(long, InputBounds(frames=8))
    tracemalloc.start()
    got = load_reduced(opened, "depth", np.arange(n), entering)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.array_equal(got, opened.load("depth")[:, picked_frames(120, 8)])
    assert got.nbytes < stored / 10
    assert peak < stored / 2, f"{peak / stored:.2f} of what is stored"


def test_clouds_are_read_in_parts(store: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.array([3, 1, 0, 16, 2, 9])
    one = bounded_modality(store.info.modalities["radar"], InputBounds(points=9))
    whole = load_reduced(store, "radar", rows, one)
    monkeypatch.setattr(thinning, "READ_BYTES", 600)
    np.testing.assert_array_equal(load_reduced(store, "radar", rows, one), whole)
    assert load_reduced(store, "radar", rows[:0], one).shape == (0, *one.shape)


@pytest.mark.parametrize("name", ["acc", "radar"])
def test_a_stored_value_that_is_not_finite_is_refused(tmp_path: Path, name: str) -> None:
    opened = open_dataset(write_kind_store(tmp_path / "s.zarr", [name]))
    ragged = name == "radar"
    path = point_paths(name)[0] if ragged else data_path(name)
    array = zarr.open_array(opened.path / path, mode="r+")
    array[(opened.point_edges(name)[4] + 2, 1) if ragged else (4, 3, 1)] = np.nan
    one: Modality = bounded_modality(opened.info.modalities[name], InputBounds())
    load_reduced(opened, name, np.arange(4), one)
    with pytest.raises(IntegrityError, match="not finite"):
        load_reduced(opened, name, np.arange(6), one)
