"""Many candidates for each row at the cost of a matrix product, for re-scoring only. Pure.

`match.match` ranks by the similarity as it is stored; of a hundred candidates that are re-scored
afterwards only membership matters. So embeddings are rounded to a grid on which float32 products
are exact, in any order of their sums: the lists depend on neither BLAS, blocks nor threads.

Letters: n_a, n_b rows; d embedding length; c candidates.
"""

from __future__ import annotations

import numpy as np

from mmbind_data.matching.candidates import Matches
from mmbind_data.matching.csls import hub_offset
from mmbind_data.matching.metric import round_similarity, unit_rows
from mmbind_data.matching.nearest import largest

# Products of unit vectors on this grid are whole multiples of its square; products and corrected
# products are below 4, so they take 24 bits, which is what float32 has.
GRID = 2.0**11
FINE = GRID * GRID
BLOCK_VALUES = 1 << 21  # scores held at a time


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
