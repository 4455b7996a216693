"""Bytes of array files, for tests that write one."""

from __future__ import annotations

import io

import numpy as np
import scipy.io


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
