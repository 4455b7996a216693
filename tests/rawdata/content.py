"""Bytes of array files, files that lie nowhere but in memory, and damage to bytes."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.io
from hypothesis import strategies as st

from mmbind_data.raw.files import RawFile


def mat(**arrays: object) -> bytes:
    """A MATLAB file of these variables."""
    stream = io.BytesIO()
    scipy.io.savemat(stream, arrays, do_compression=True)
    return stream.getvalue()


def npy(values: object) -> bytes:
    """A NumPy file of one array."""
    stream = io.BytesIO()
    np.save(stream, np.asarray(values), allow_pickle=True)
    return stream.getvalue()


def held(path: str, content: bytes) -> RawFile:
    """A file that a reader finds there, with this content."""
    return RawFile(path, Path(path), None, len(content), content=content)


@dataclass(frozen=True)
class Damage:
    """Cuts bytes off at a place, given as a share of them, or changes the one that is there."""

    place: float
    change: int
    cut: bool

    def __call__(self, content: bytes) -> bytes:
        at = int(self.place * len(content))
        changed = bytes([content[at] ^ self.change])
        return content[:at] if self.cut else content[:at] + changed + content[at + 1 :]


DAMAGES = st.builds(
    Damage, place=st.floats(0, 1, exclude_max=True), change=st.integers(1, 255), cut=st.booleans()
)
