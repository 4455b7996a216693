"""Entropic optimal transport between two sets of rows, blockwise and in log space. Pure."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from mmbind_data.matching import products
from mmbind_data.matching.metric import PreparedMetric

# Pairs of a block (float64), and pairs of the largest problem that is worth the wait.
BLOCK_PAIRS = 1 << 22
MAX_PAIRS = 10**8
MAX_ROUNDS = 1000
MARGINAL_ERROR = 1e-9


def potentials(
    metric: PreparedMetric, temperature: float, *, block_pairs: int = BLOCK_PAIRS
) -> tuple[np.ndarray, np.ndarray]:
    """Offsets f, g by which score + f + g = temperature * log(plan).

    The plan has uniform marginals: each row of A gives 1 / n_a, each of B receives 1 / n_b. It is
    the one of largest sum(plan * score) + temperature * entropy.

    Memory is two blocks of 32 MiB per thread; scores are multiplied anew in each round, unless one
    block holds them all. A round costs n_a * n_b * (2 d + about 20) operations in float64, and 50
    to 1000 rounds are needed, more for low temperatures: stopped at a relative error of the
    marginals of 1e-9, or after 1000 rounds.

    Parameters
    ----------
    metric : PreparedMetric
        Score: cosine, or minus half the squared distance.
    temperature : float, > 0
        In units of the score.
    block_pairs : int
        Scores held at a time.

    Returns
    -------
    ndarray, ndarray : shapes (n_a,), (n_b,), float64
        Of equal mean.

    Raises
    ------
    ValueError
        More than 1e8 pairs (10 000 x 10 000): that takes minutes.

    Notes
    -----
    Source: Cuturi 2013, Sinkhorn distances, algorithm 1; in log space as Peyre and Cuturi 2019,
    Computational optimal transport, section 4.4.
    """
    n_a, n_b = len(metric.a), len(metric.b)
    if n_a * n_b > MAX_PAIRS:
        message = (
            f"sinkhorn of {n_a} x {n_b} rows: expected {MAX_PAIRS:.0e} pairs or fewer; use csls, "
            "which also corrects for hubs, or groups"
        )
        raise ValueError(message)
    rows = max(1, block_pairs // n_b)
    spans = [(start, min(start + rows, n_a)) for start in range(0, n_a, rows)]
    left, right = metric.operands(dtype=np.float64)
    kept = left @ right.T if len(spans) == 1 else None
    f, g = np.zeros(n_a), np.zeros(n_b)

    def half_round(span: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Offsets of some rows, and what the columns receive of these rows."""
        scores = kept if kept is not None else left[slice(*span)] @ right.T
        block = (scores + g) / temperature
        top = block.max(axis=1)
        block -= top[:, None]
        np.exp(block, out=block)
        total = block.sum(axis=1)
        return -temperature * (top + np.log(total * n_a)), (1.0 / (total * n_a)) @ block

    threads = products.usable_threads() if len(spans) > 1 else 1
    with products.one_blas_thread(), ThreadPoolExecutor(threads) as pool:
        for _ in range(MAX_ROUNDS):
            received = np.zeros(n_b)
            for span, (own, columns) in zip(spans, pool.map(half_round, spans), strict=True):
                f[slice(*span)] = own
                received += columns  # in the order of the rows, whichever thread was first
            if np.abs(received * n_b - 1.0).max() <= MARGINAL_ERROR:
                break
            # a column so far from all rows that it receives nothing comes nearer step by step
            g -= temperature * np.log(np.maximum(received, 1e-300) * n_b)
    shift = (f.mean() - g.mean()) / 2
    return f - shift, g + shift
