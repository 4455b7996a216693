"""In which order an epoch takes the rows: a pure function of seed and epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np


def row_batches(
    n_rows: int, batch: int, seed: int, order_of: Callable[[int], np.ndarray] | None = None
) -> Iterator[np.ndarray]:
    """Batches of row numbers without end; the order is a pure function of seed and epoch.

    A last batch that is not full is left out, unless all rows fit into one batch.

    Parameters
    ----------
    n_rows, batch, seed : int
    order_of : callable, optional
        Rows in the order of an epoch, asked for when the epoch begins; all shuffled by default.
    """
    epoch = 0
    while n_rows:
        if order_of is None:
            order = np.random.default_rng((seed, epoch)).permutation(n_rows)
        else:
            order = order_of(epoch)
        for start in range(0, max(1, n_rows - batch + 1), batch):
            yield order[start : start + batch]
        epoch += 1


def block_order(block: np.ndarray, size: int, seed: int, epoch: int) -> np.ndarray:
    """Every row once: blocks in random order, rows in random order within windows of ``size`` rows.

    A pure function of its parameters.

    Parameters
    ----------
    block : ndarray of int, shape (n,)
        Of each row, from 0 on.
    size : int
    seed, epoch : int
    """
    rng = np.random.default_rng((seed, epoch))
    order = np.argsort(rng.permutation(int(block.max(initial=0)) + 1)[block], kind="stable")
    for start in range(0, len(order), size):
        order[start : start + size] = rng.permutation(order[start : start + size])
    return order
