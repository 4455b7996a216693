"""Embeddings that need no training: raw signals, a file, the user's own function."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mmbind_data.errors import BindingError, MMBindError
from mmbind_data.io.digests import file_digest
from mmbind_data.signal.normalise import centre, channel_statistics, standardise
from mmbind_data.spec.descriptor import Modality


@dataclass(frozen=True)
class Embedded:
    """Embeddings, and what is needed to reproduce them."""

    vectors: np.ndarray  # (n, d) float32
    config: Mapping[str, Any]  # JSON values, stored with the bound dataset
    weights: Mapping[str, np.ndarray] = field(default_factory=dict)  # of a trained encoder


def embed_raw(values: np.ndarray, modality: Modality) -> Embedded:
    """Standardised samples, flattened: the cheapest embedding, and the baseline of the others.

    The samples, (n, T, ...) float32, are the union of both datasets, all present.
    """
    centred = centre(values, modality)
    scaled = standardise(centred, channel_statistics([centred], modality))
    return Embedded(scaled.reshape(len(values), -1), {"name": "raw"})


class EmbedFunction(Protocol):
    """Any callable that turns samples into vectors."""

    def __call__(self, values: np.ndarray, modality: Modality, /) -> np.ndarray:
        """Map (n, T, ...) float32 samples of both datasets to (n, d) vectors, row by row."""


def embed_file(path: str | Path, n: int | None) -> Embedded:
    """Read one vector per sample, as float32, from a ``.npy`` file; the config has its digest.

    Parameters
    ----------
    path : str or Path
        An array of shape (n, d) of real numbers, written by ``numpy.save``.
    n : int or None
        Samples of both datasets together, those of the first dataset first; None: any number.

    Raises
    ------
    BindingError
        The file is missing or holds no such array, another number of rows, NaN or infinity.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            vectors = np.lib.format.read_array(file, allow_pickle=False)
    except FileNotFoundError:
        raise _refusal(path, n, "no embeddings", "no such file") from None
    except (OSError, ValueError, EOFError) as error:
        found = f"a file that fails to load ({error})"
        raise _refusal(path, n, "unreadable embeddings", found) from error
    config = {"name": "file", "file": path.name, "sha256": file_digest(path)}
    return Embedded(_checked(vectors, n, path), config)


def embed_with(function: EmbedFunction, values: np.ndarray, modality: Modality) -> Embedded:
    """Embed samples with the caller's function, which the config names.

    Parameters
    ----------
    function : callable (values, modality) -> ndarray of shape (n, d)
    values : ndarray, shape (n, T, ...), float32
        The union of both datasets, all present. The function gets a copy of its own.

    Raises
    ------
    BindingError
        The function does not give one finite vector per sample.
    """
    name = getattr(function, "__name__", type(function).__name__)
    vectors = np.asarray(function(values.copy(), modality))
    return Embedded(_checked(vectors, len(values), name), {"name": name})


def _checked(vectors: np.ndarray, n: int | None, where: object) -> np.ndarray:
    """Vectors as float32; raises if they cannot be embeddings of n samples."""
    if vectors.ndim != 2 or not vectors.shape[1]:
        raise _refusal(where, n, "embeddings of another shape", f"shape {vectors.shape}")
    if vectors.dtype.kind not in "fiub":
        raise _refusal(where, n, "embeddings that are no real numbers", f"type {vectors.dtype}")
    if n is not None and len(vectors) != n:
        raise _refusal(where, n, "embeddings of other samples", f"{len(vectors)} rows")
    with np.errstate(over="ignore"):
        single = np.ascontiguousarray(vectors, dtype=np.float32)
    bad = np.flatnonzero(~np.isfinite(single).all(axis=1))
    if len(bad):
        found = f"{len(bad)} rows with NaN or infinity, the first is row {bad[0]}"
        raise _refusal(where, n, "embeddings that are not finite in single precision", found)
    return single


def _refusal(where: object, n: int | None, what: str, got: str) -> MMBindError:
    size = "n" if n is None else n
    expected = f"finite real numbers of shape ({size}, d), one row per sample, first dataset first"
    return BindingError(cannot="bind", problem=what, at=where, expected=expected, got=got)
