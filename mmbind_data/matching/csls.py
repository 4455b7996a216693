"""Hubness correction: cross-domain similarity local scaling (CSLS).

CSLS lowers the similarity of a pair by half the mean similarity of the k nearest of either row, so
that a hub, which is similar to everything, is not everybody's partner. In other words it adds to
every similarity the offsets (`hub_offset`) of the two rows.

Letters: n_a, n_b rows; k neighbours; p pairs.

Source: A. Conneau et al., "Word translation without parallel data" (ICLR 2018), section 2.3; here
halved, so that the result stays on the scale of the similarity.
"""

from __future__ import annotations

import numpy as np

from mmbind_data.matching.candidates import Matches, ranked
from mmbind_data.matching.metric import MILLIONTHS, PreparedMetric
from mmbind_data.matching.nearest import nearest
from mmbind_data.matching.products import DEFAULT_BLOCKING, Blocking


def hub_offset(mean_similarity: np.ndarray) -> np.ndarray:
    """What CSLS adds to the similarities of rows whose nearest have this mean similarity."""
    return np.asarray(-0.5 * mean_similarity)


def csls_offsets(
    metric: PreparedMetric,
    k: int,
    *,
    threads: int | None = None,
    blocking: Blocking = DEFAULT_BLOCKING,
) -> tuple[np.ndarray, np.ndarray]:
    """Offsets of all rows of two sets, from the exact search for the nearest; made for `nearest`.

    Returns
    -------
    ndarray, ndarray : shapes (n_a,), (n_b,), float64
        From scores rounded to 1e-6: cosine, or minus half the squared distance.
    """
    offsets = []
    for found in nearest(metric, k, threads=threads, blocking=blocking):
        there = found.partner >= 0
        score = np.rint(metric.linear(found.raw) * MILLIONTHS) / MILLIONTHS
        offsets.append(hub_offset(np.where(there, score, 0.0).sum(axis=1) / there.sum(axis=1)))
    return offsets[0], offsets[1]


def csls_of_pairs(
    row_a: np.ndarray, row_b: np.ndarray, similarity: np.ndarray, n: tuple[int, int], k: int
) -> np.ndarray:
    """Corrected similarity of listed pairs, (p,) float64; neighbours are found among the pairs.

    All listed partners of a row count if there are fewer than k.

    Parameters
    ----------
    row_a, row_b : ndarray, shape (p,), int
        Each pair once.
    similarity : ndarray, shape (p,), float64
    n : (int, int)
        n_a, n_b.
    """
    offset_a = _listed_offset(ranked(row_a, row_b, similarity, similarity, n[0], k)[0])
    offset_b = _listed_offset(ranked(row_b, row_a, similarity, similarity, n[1], k)[0])
    return np.asarray(similarity + (offset_a[row_a] + offset_b[row_b]))


def csls_of_table(similarity: np.ndarray, k: int) -> np.ndarray:
    """Corrected similarity of all pairs, from the whole table; (n_a, n_b) both, float64.

    All of the other set count if there are fewer than k.
    """
    n_a, n_b = similarity.shape
    rows = -np.partition(-similarity, min(k, n_b) - 1, axis=1)[:, :k]
    columns = -np.partition(-similarity, min(k, n_a) - 1, axis=0)[:k]
    offset = hub_offset(rows.mean(axis=1))[:, np.newaxis] + hub_offset(columns.mean(axis=0))
    return np.asarray(similarity + offset)


def _listed_offset(matches: Matches) -> np.ndarray:
    """Offset of each row from its listed partners, shape (n,), float64; 0 without any."""
    there = matches.partner >= 0
    total = np.where(there, matches.similarity, 0.0).sum(axis=1, dtype=np.float64)
    return hub_offset(total / np.maximum(there.sum(axis=1), 1))
