"""Hubness correction: cross-domain similarity local scaling (CSLS).

CSLS lowers the similarity of a pair by half the mean similarity of the k nearest of either row, so
that a hub, which is similar to everything, is not everybody's partner. In other words it adds to
every similarity the offsets (`hub_offset`) of the two rows.

Letters: n_a, n_b rows; d embedding length; k neighbours; p pairs; c candidates.

Source: A. Conneau et al., "Word translation without parallel data" (ICLR 2018), section 2.3; here
halved, so that the result stays on the scale of the similarity.

`match.match` ranks by the similarity as it is stored. `shortlist` lists many candidates at the cost
of a matrix product, for re-scoring: of a hundred candidates only membership matters. Embeddings are
rounded to a grid on which float32 products are exact, in any order of their sums, so that the lists
depend on neither BLAS, blocks nor threads.
"""

from __future__ import annotations

import numpy as np

from mmbind_data.matching.candidates import Matches, ranked
from mmbind_data.matching.metric import MILLIONTHS, PreparedMetric, round_similarity, unit_rows
from mmbind_data.matching.nearest import largest, nearest
from mmbind_data.matching.products import DEFAULT_BLOCKING, Blocking

# Products of unit vectors on this grid are whole multiples of its square; products and corrected
# products are below 4, so they take 24 bits, which is what float32 has.
GRID = 2.0**11
FINE = GRID * GRID
BLOCK_VALUES = 1 << 21  # scores held at a time


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


def shortlist(
    a: np.ndarray, b: np.ndarray, c: int, *, csls_k: int = 10, block_values: int = BLOCK_VALUES
) -> tuple[Matches, Matches]:
    """The c most similar of B for each row of A by corrected cosine, and the reverse.

    The correction is that of `csls`, so that hubs do not fill every list.

    Parameters
    ----------
    a : ndarray, shape (n_a, d)
    b : ndarray, shape (n_b, d)
        Finite; a row of zeros is similar to nothing.
    c : int
        Candidates per row; at most all of the other set are listed.
    block_values : int
        Scores held at a time; the result does not depend on it.

    Returns
    -------
    Matches, Matches
        (n_a, min(c, n_b)) and (n_b, min(c, n_a)), best first, of equal ones the lowest row; the
        similarity is the uncorrected cosine, good to about 1e-3 and the same from both sides.
        Time grows as n_a * n_b * d, memory beyond inputs and results is one block.

    Raises
    ------
    ValueError
        Shapes that do not fit, or c or csls_k below 1.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1:] != b.shape[1:] or min(c, csls_k) < 1:
        message = f"embeddings {a.shape}, {b.shape}: expected (n, d), (m, d), c and csls_k above 0"
        raise ValueError(message)
    left, right = (np.rint(unit_rows(rows) * GRID).astype(np.float32) for rows in (a, b))
    offset_a, offset_b = (
        _grid_offset(_most_similar(one, other, None, csls_k, block_values).similarity)
        for one, other in ((left, right), (right, left))
    )
    return (
        _most_similar(left, right, offset_b, c, block_values),
        _most_similar(right, left, offset_a, c, block_values),
    )


def _grid_offset(similarity: np.ndarray) -> np.ndarray:
    """`hub_offset` of each row in whole steps of the squared grid, (n,) float32."""
    mean = similarity.mean(axis=1, dtype=np.float64)
    return np.asarray(np.rint(hub_offset(mean) * FINE), dtype=np.float32)


def _most_similar(
    left: np.ndarray, right: np.ndarray, offset: np.ndarray | None, k: int, block_values: int
) -> Matches:
    """The k rows of the right of largest score for each row of the left."""
    found = Matches.empty(len(left), min(k, len(right)))
    step = max(1, block_values // len(right))
    whole = np.empty((min(step, len(left)), len(right)), dtype=np.int64)
    for start in range(0, len(left), step):
        rows = slice(start, start + step)
        score = left[rows] @ right.T
        if offset is not None:
            score += offset
        scores = whole[: len(score)]
        scores[:] = score
        partner, best = largest(scores, found.partner.shape[1])
        if offset is not None:
            best = best - offset[partner].astype(np.int64)
        found.partner[rows] = partner
        found.similarity[rows] = np.clip(round_similarity(best / FINE), -1.0, 1.0)
    return found
