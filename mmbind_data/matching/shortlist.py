"""Many candidates for each row at the price of a matrix product, for re-scoring only. Pure.

`similarity.match` ranks by the similarity as it is stored; of a hundred candidates that are to be
re-scored only membership matters. So embeddings are rounded to a grid on which float32 products
are exact, whatever the order of their sums: the list depends on neither BLAS, blocks nor threads.

Letters: n_a, n_b rows; d embedding length; c candidates.
"""

from __future__ import annotations

import numpy as np

from mmbind_data.matching.candidates import Matches

# Unit vectors on this grid have products in whole steps of its square; with |a||b| and the sum with
# the correction below 4 they take 24 bits, which is what float32 has.
GRID = 2.0**11
FINE = GRID * GRID
# Rows of a block: a block of scores is this many rows of all the others.
BLOCK_VALUES = 1 << 21
LOW_BITS = (1 << 32) - 1


def shortlist(a: np.ndarray, b: np.ndarray, c: int, *, csls_k: int = 10) -> tuple[Matches, Matches]:
    """The c most similar of B for each row of A by corrected cosine, and the reverse.

    A similarity is lowered by half the mean similarity of the ``csls_k`` nearest of either row, so
    that hubs do not fill every list.

    Parameters
    ----------
    a : ndarray, shape (n_a, d)
    b : ndarray, shape (n_b, d)
        Finite; a row of zeros is similar to nothing.
    c : int
        Candidates per row; at most all of the other set are listed.
    csls_k : int

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

    Notes
    -----
    Source: A. Conneau et al., "Word translation without parallel data" (ICLR 2018), section 2.3.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1:] != b.shape[1:] or min(c, csls_k) < 1:
        message = f"embeddings {a.shape}, {b.shape}: expected (n, d), (m, d), c and csls_k above 0"
        raise ValueError(message)
    left, right = _on_grid(a), _on_grid(b)
    half_a, half_b = (
        _half_mean(_largest(one, other, None, csls_k)[1])
        for one, other in ((left, right), (right, left))
    )
    return (
        Matches(*_largest(left, right, half_b, c)),
        Matches(*_largest(right, left, half_a, c)),
    )


def _on_grid(values: np.ndarray) -> np.ndarray:
    """Rows of about length one, in whole steps of the grid; (n, d) float32."""
    wide = np.asarray(values, dtype=np.float64)
    length = np.linalg.norm(wide, axis=1, keepdims=True)
    return np.asarray(np.rint(wide / np.where(length > 0, length, 1.0) * GRID), dtype=np.float32)


def _half_mean(similarity: np.ndarray) -> np.ndarray:
    """Half the mean of each row in whole steps of the fine grid, (n,) float32."""
    mean = similarity.mean(axis=1, dtype=np.float64)
    return np.asarray(np.rint(mean * FINE / 2), dtype=np.float32)


def _largest(
    left: np.ndarray, right: np.ndarray, lowered: np.ndarray | None, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Columns of the k largest scores of each row and their similarities, best first."""
    k = min(k, len(right))
    column = LOW_BITS - np.arange(len(right), dtype=np.int64)  # of equal scores the lowest wins
    partner = np.empty((len(left), k), dtype=np.int64)
    similarity = np.empty((len(left), k), dtype=np.float32)
    step = max(1, BLOCK_VALUES // len(right))
    for start in range(0, len(left), step):
        rows = slice(start, start + step)
        score = left[rows] @ right.T
        if lowered is not None:
            score -= lowered
        keys = score.astype(np.int64)
        keys <<= 32
        keys += column
        best = np.sort(np.partition(keys, len(right) - k, axis=1)[:, len(right) - k :], axis=1)
        best = best[:, ::-1]
        partner[rows] = LOW_BITS - (best & LOW_BITS)
        value = (best >> 32).astype(np.float64)
        if lowered is not None:
            value += lowered[partner[rows]]
        # to 1e-6, as every similarity
        similarity[rows] = np.clip(np.rint(value / FINE * 1e6) / 1e6, -1.0, 1.0)
    return partner, similarity
