"""Hubness correction: cross-domain similarity local scaling (CSLS)."""

from __future__ import annotations

import numpy as np

from mmbind_data.matching.candidates import Matches, ranked


def csls(
    row_a: np.ndarray, row_b: np.ndarray, similarity: np.ndarray, n: tuple[int, int], csls_k: int
) -> np.ndarray:
    """Similarity of listed pairs less half the mean similarity of both neighbourhoods.

    Notes
    -----
    Source: Conneau et al. 2018, Word translation without parallel data, section 2.3 (halved).
    """
    near_a = local_similarity(ranked(row_a, row_b, similarity, similarity, n[0], csls_k)[0])
    near_b = local_similarity(ranked(row_b, row_a, similarity, similarity, n[1], csls_k)[0])
    lower: np.ndarray = similarity - (near_a[row_a] + near_b[row_b]) / 2
    return lower


def local_similarity(matches: Matches) -> np.ndarray:
    """Mean similarity of the partners of each row, shape (n,), float64; 0 without partner."""
    there = matches.partner >= 0
    total = np.where(there, matches.similarity, 0.0).sum(axis=1, dtype=np.float64)
    mean: np.ndarray = total / np.maximum(there.sum(axis=1), 1)
    return mean
