"""A reader that slips is seen: each mutation of each dataset turns the kit's checks red."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from rawdata.truth import Truth

from mmbind_data.conversion.convert import convert
from mmbind_data.datasets.registry import list_datasets, load_reader_module
from mmbind_data.signal.point_clouds import PointFrames
from mmbind_data.spec.descriptor import Recording
from mmbind_data.store.dataset import Dataset, open_dataset
from mmbind_data.testing.conformance import check_columns, check_values, expected_samples

Values = np.ndarray | PointFrames
Spans = Sequence[tuple[int, int]]
Change = Callable[[Values, Spans], Values]


def swapped_axes(values: Values, _: Spans) -> Values:
    """The last axis begins one later: x, y, z are y, z, x."""
    if isinstance(values, PointFrames):
        return PointFrames(np.roll(values.values, 1, axis=1), values.offsets)
    return np.roll(values, 1, axis=-1)


def wrong_unit(values: Values, _: Spans) -> Values:
    """A factor that is wrong by one in a thousand, as of two values of g."""
    if isinstance(values, PointFrames):
        return PointFrames(values.values * np.float32(1.001), values.offsets)
    return values * np.float32(1.001)


def shifted_frame(values: Values, gaps: Spans) -> Values:
    """Each frame between two gaps where the next belongs; the rows of a single frame so."""
    order = np.arange(len(values))
    edges = [0, *(edge for gap in gaps for edge in gap), len(values)]
    for begin, end in zip(edges[::2], edges[1::2], strict=True):
        order[begin:end] = np.roll(order[begin:end], 1)
    if isinstance(values, PointFrames):
        return values.take(order)
    return values[order] if len(values) > 1 else np.roll(values, 1, axis=1)


CHANGES: tuple[Change, ...] = (swapped_axes, wrong_unit, shifted_frame)


@pytest.fixture(scope="module", params=list_datasets())
def truth(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Truth:
    """The raw data of the kit, once per dataset."""
    writer = importlib.import_module(f"rawdata.{request.param.replace('-', '_')}")
    root = tmp_path_factory.mktemp(request.param) / "raw"
    written: Truth = writer.write(root, rng=np.random.default_rng(7))
    return written


def converted_by(
    reader: ModuleType, change: Callable[[Recording], Recording], truth: Truth, out: Path
) -> Dataset:
    """The store of a reader of which each recording is changed."""
    read = reader.read

    def slipping(*args: object) -> Iterator[Recording]:
        return (change(one) for one in read(*args))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader, "read", slipping)
        return open_dataset(convert(truth.dataset_id, truth.root, out).path)


@pytest.mark.parametrize("change", CHANGES, ids=lambda one: one.__name__)
def test_wrong_values_of_every_modality_are_seen(
    truth: Truth, change: Change, tmp_path: Path
) -> None:
    def slip(one: Recording) -> Recording:
        streams = {name: change(values, one.gaps) for name, values in one.streams.items()}
        return replace(one, streams=streams)

    store = converted_by(load_reader_module(truth.dataset_id), slip, truth, tmp_path / "out.zarr")
    expected = expected_samples(truth)
    assert len(store) == len(expected)
    check_columns(store, [recording for recording, _ in expected])
    seen = []
    for modality, info in store.info.modalities.items():
        if change is swapped_axes and info.shape[-1] == 1:
            continue
        with pytest.raises(AssertionError):
            check_values(store, modality, expected)
        seen.append(modality)
    assert seen


def test_wrong_subjects_are_seen(truth: Truth, tmp_path: Path) -> None:
    names: Sequence[str | None] = (*truth.subjects(), "one more")
    following = dict(itertools.pairwise(names))

    def slip(one: Recording) -> Recording:
        return replace(one, subject=following[one.subject])

    store = converted_by(load_reader_module(truth.dataset_id), slip, truth, tmp_path / "out.zarr")
    expected = expected_samples(truth)
    for modality in store.info.modalities:
        check_values(store, modality, expected)
    with pytest.raises(AssertionError):
        check_columns(store, [recording for recording, _ in expected])
