"""Read a raw folder and hold it against the truth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mmbind_data.datasets.registry import load_descriptor, load_reader_module
from mmbind_data.raw.files import RawFile, RawListing, scan
from mmbind_data.signal.point_clouds import PointFrames
from mmbind_data.spec.descriptor import Recording


def read_all(
    dataset_id: str, root: Path, preset: str = "default", modalities: Sequence[str] | None = None
) -> tuple[Recording, ...]:
    """Everything that a dataset's reader makes of a raw folder, in its own order."""
    listing = find_all(dataset_id, scan(root), preset)
    wanted = listing.modalities if modalities is None else modalities
    read = load_reader_module(dataset_id).read
    return tuple(one for unit in listing.units for one in read(unit, wanted, preset))


def find_all(dataset_id: str, files: Sequence[RawFile], preset: str = "default") -> RawListing:
    """What a reader finds with the default options, at the placements of the preset."""
    descriptor = load_descriptor(dataset_id)
    options = {name: option.default for name, option in descriptor.options.items()}
    listing: RawListing = load_reader_module(dataset_id).find(files, preset, **options)
    places = descriptor.presets[preset].placements
    if places is None:
        return listing
    units = tuple(
        replace(unit, placements=tuple(one for one in unit.placements if one in places))
        for unit in listing.units
    )
    return replace(listing, units=units)


def assert_same(got: Sequence[Recording], expected: Sequence[Recording]) -> None:
    """Compare recordings; values within one part in a million, which the ramps exceed."""
    assert [one.key for one in got] == [one.key for one in expected]
    for mine, theirs in zip(got, expected, strict=True):
        assert set(mine.streams) == set(theirs.streams), mine.key
        for name, values in mine.streams.items():
            truth = theirs.streams[name]
            if isinstance(values, PointFrames) and isinstance(truth, PointFrames):
                np.testing.assert_array_equal(values.offsets, truth.offsets)
                values, truth = values.values, truth.values
            assert isinstance(values, np.ndarray)
            assert isinstance(truth, np.ndarray)
            assert values.dtype == np.float32, (mine.key, name)
            np.testing.assert_allclose(values, truth, rtol=1e-6, atol=1e-6)
        for field in (
            "subject",
            "label",
            "raw_files",
            "session",
            "trial",
            "placement",
            "extra",
            "gaps",
        ):
            assert getattr(mine, field) == getattr(theirs, field), (mine.key, field)


def read_placed(
    dataset_id: str, root: Path, preset: str, modalities: Sequence[str], placements: Sequence[str]
) -> list[Recording]:
    """What a reader makes of a raw folder at some placements, whatever the preset takes."""
    reader = load_reader_module(dataset_id)
    found = reader.find(scan(root), preset).units
    units = [replace(unit, placements=tuple(placements)) for unit in found]
    return [one for unit in units for one in reader.read(unit, modalities, preset)]


def stream(recording: Recording, modality: str) -> np.ndarray:
    """Values of a modality that is no point cloud."""
    values = recording.streams[modality]
    assert isinstance(values, np.ndarray)
    return values


def totals(recordings: Sequence[Recording]) -> Counter[str]:
    """Remarks of all recordings, added up."""
    counts: Counter[str] = Counter()
    for one in recordings:
        counts.update(one.counts)
    return counts
