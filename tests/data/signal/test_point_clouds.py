"""Point clouds: frames in, frames out, in memory and through a store."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rawdata import mmfi

from mmbind_data.conversion.convert import convert
from mmbind_data.errors import FormatError
from mmbind_data.signal.point_clouds import PointFrames, RaggedPoints
from mmbind_data.store.dataset import open_dataset, point_paths
from mmbind_data.store.partitioning import partition
from mmbind_data.store.validation import validate

sizes = st.lists(st.integers(0, 5), min_size=1, max_size=8)


def frames_of(counts: list[int], first: int = 0) -> list[np.ndarray]:
    """Frames whose points tell frame and number, shape (n, 2)."""
    return [
        np.array([[first + index, point] for point in range(n)], dtype=np.float32).reshape(-1, 2)
        for index, n in enumerate(counts)
    ]


@given(counts=sizes, data=st.data())
def test_frames_come_back(counts: list[int], data: st.DataObject) -> None:
    frames = frames_of(counts)
    points = PointFrames.join(frames)
    assert len(points) == len(frames)
    for index, frame in enumerate(frames):
        np.testing.assert_array_equal(points.frame(index), frame)
    chosen = data.draw(st.lists(st.integers(0, len(frames) - 1), min_size=1, max_size=6))
    taken = points.take(chosen)
    for place, index in enumerate(chosen):
        np.testing.assert_array_equal(taken.frame(place), frames[index])


def test_clouds_of_samples() -> None:
    samples = [
        PointFrames.join(frames_of(counts, 10 * i)) for i, counts in enumerate(([2, 0], [1, 3]))
    ]
    clouds = RaggedPoints.join([RaggedPoints.of(samples[:1]), RaggedPoints.of(samples[1:])])
    assert clouds.offsets.tolist() == [0, 2, 6]
    for index, sample in enumerate(samples):
        np.testing.assert_array_equal(clouds.sample(index).values, sample.values)
        np.testing.assert_array_equal(clouds.sample(index).offsets, sample.offsets)


@pytest.fixture(scope="module")
def radar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small MM-Fi with radar and skeleton; copy it before changing it."""
    folder = tmp_path_factory.mktemp("radar")
    truth = mmfi.write(folder / "raw", rng=np.random.default_rng(3))
    return convert("mmfi", truth.root, folder / "o.zarr", modalities=["radar", "skeleton"]).path


def test_rows_are_read_in_any_order(radar: Path) -> None:
    store = open_dataset(radar)
    whole = store.load_points("radar")
    assert len(whole) == len(store)
    assert whole.offsets[-1] == store.n_points("radar") > 0
    for rows in ([2, 0, 1], [3, 3], [], slice(1, 3), np.array([len(store) - 1])):
        got = store.load_points("radar", rows)
        numbers = range(len(store))[rows] if isinstance(rows, slice) else rows
        assert len(got) == len(list(numbers))
        for place, row in enumerate(numbers):
            np.testing.assert_array_equal(got.sample(place).values, whole.sample(int(row)).values)
            np.testing.assert_array_equal(got.sample(place).offsets, whole.sample(int(row)).offsets)
    with pytest.raises(FormatError, match="Use load_points"):
        store.load("radar")
    with pytest.raises(FormatError, match=r"Use load\."):
        store.load_points("skeleton")


def test_a_partition_keeps_its_points(radar: Path, tmp_path: Path) -> None:
    store = open_dataset(radar)
    carried = store.samples()["subject"].take(np.flatnonzero(store.present("radar")))
    subject = carried[0].as_py()
    out = tmp_path / "p.zarr"
    partition(radar, out, subjects=[subject], modalities=["radar"])
    node = open_dataset(out)
    assert validate(out, level="values") == []
    rows = np.flatnonzero(store.column("subject") == store.names("subject").index(subject))
    rows = rows[store.present("radar")[rows]]
    expected, got = store.load_points("radar", rows), node.load_points("radar")
    np.testing.assert_array_equal(got.values, expected.values)
    np.testing.assert_array_equal(got.frame_offsets, expected.frame_offsets)


@pytest.mark.parametrize(
    ("array", "code"), [(0, "value-not-finite"), (1, "offsets-broken"), (2, "offsets-broken")]
)
def test_a_broken_point_cloud_is_found(radar: Path, tmp_path: Path, array: int, code: str) -> None:
    import zarr

    from mmbind_data.io.digests import write_manifest

    out = shutil.copytree(radar, tmp_path / "broken.zarr")
    values = zarr.open_group(out, mode="r+")[point_paths("radar")[array]]
    assert isinstance(values, zarr.Array)
    values[1] = np.nan if array == 0 else 10_000_000
    write_manifest(out)
    assert code in {found.code for found in validate(out, level="values")}
