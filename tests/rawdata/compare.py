"""Read a raw folder and hold it against the truth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmbind_data.datasets import load_reader
from mmbind_data.rawfiles import scan
from mmbind_data.spec import Recording


def read_all(
    dataset_id: str, root: Path, preset: str = "default", modalities: Sequence[str] | None = None
) -> tuple[Recording, ...]:
    """Everything that a dataset's reader makes of a raw folder, in its own order."""
    reader = load_reader(dataset_id)
    listing = reader.find(scan(root), preset)
    wanted = listing.modalities if modalities is None else modalities
    return tuple(one for unit in listing.units for one in reader.read(unit, wanted, preset))


def assert_same(got: Sequence[Recording], expected: Sequence[Recording]) -> None:
    """Compare recordings; values within one part in a million, which the ramps exceed."""
    assert [one.key for one in got] == [one.key for one in expected]
    for mine, theirs in zip(got, expected, strict=True):
        assert set(mine.streams) == set(theirs.streams), mine.key
        for name, values in mine.streams.items():
            assert values.dtype == np.float32, (mine.key, name)
            np.testing.assert_allclose(values, theirs.streams[name], rtol=1e-6, atol=1e-8)
        for field in ("subject", "label", "raw_files", "session", "trial", "placement", "extra"):
            assert getattr(mine, field) == getattr(theirs, field), (mine.key, field)
