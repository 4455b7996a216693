"""Exact best matches between two sets of embeddings, both ways in one blocked pass. Pure.

Letters: n_a, n_b rows; d embedding length; a_jk similarity of row j of A and row k of B.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# A block of the product stays in the cache between the multiplication and the two scans.
BLOCK_ROWS = 256
BLOCK_COLUMNS = 4096
# Similarities are compared as whole millionths: float noise of 1e-7 cannot change a partner.
MILLIONTHS = 1e6


@dataclass(frozen=True)
class Matches:
    """The best partner of each row.

    Attributes
    ----------
    partner : ndarray, shape (n,), int64
        Row of the other set; of equal ones the lowest.
    similarity : ndarray, shape (n,), float32
        Rounded to 1e-6.
    """

    partner: np.ndarray
    similarity: np.ndarray


def unit_rows(values: np.ndarray) -> np.ndarray:
    """Rows scaled to length one, float32; a zero row stays zero and is similar to nothing.

    Parameters
    ----------
    values : ndarray, shape (n, d)
    """
    wide = np.asarray(values, dtype=np.float64)
    length = np.linalg.norm(wide, axis=1, keepdims=True)
    return np.ascontiguousarray(wide / np.where(length > 0, length, 1.0), dtype=np.float32)


def best_matches(a: np.ndarray, b: np.ndarray) -> tuple[Matches, Matches]:
    """For each row of A its best partner in B, and the reverse, by cosine similarity.

    The product A.B^T is made once, in blocks; each block serves both directions. Memory beyond the
    inputs is one block and a few vectors; time grows as n_a * n_b * d.

    Parameters
    ----------
    a : ndarray, shape (n_a, d)
    b : ndarray, shape (n_b, d)
        Both at least one row, finite.

    Returns
    -------
    Matches, Matches
        Of A in B (n_a rows), and of B in A (n_b rows).

    Raises
    ------
    ValueError
        Shapes that do not fit, or values that are not finite.

    Notes
    -----
    Source: MMBind paper, eq. 2 (p_j = argmax_k a_jk), applied to both datasets (section 5.1.2).
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or not len(a) or not len(b):
        message = f"embeddings of shapes {a.shape} and {b.shape}: expected (n, d) and (m, d)"
        raise ValueError(message)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        message = "embeddings hold values that are not finite"
        raise ValueError(message)
    unit, right = unit_rows(a), unit_rows(b)
    left = unit * np.float32(MILLIONTHS)
    row_best = np.full(len(left), -np.inf, dtype=np.float32)
    row_partner = np.zeros(len(left), dtype=np.int64)
    column_best = np.full(len(right), -np.inf, dtype=np.float32)
    column_block = np.zeros(len(right), dtype=np.int64)
    buffer = np.empty(BLOCK_ROWS * BLOCK_COLUMNS, dtype=np.float32)
    for start in range(0, len(left), BLOCK_ROWS):
        rows = slice(start, min(start + BLOCK_ROWS, len(left)))
        for first in range(0, len(right), BLOCK_COLUMNS):
            columns = slice(first, min(first + BLOCK_COLUMNS, len(right)))
            block = _millionths(left[rows], right[columns], buffer)
            best = block.argmax(axis=1)
            value = block[np.arange(len(block)), best]
            # Strictly better only: of equal partners the first, hence lowest, row stays.
            better = value > row_best[rows]
            row_best[rows] = np.where(better, value, row_best[rows])
            row_partner[rows] = np.where(better, best + first, row_partner[rows])
            value = block.max(axis=0)
            better = value > column_best[columns]
            column_best[columns] = np.where(better, value, column_best[columns])
            column_block[columns] = np.where(better, start, column_block[columns])
    column_partner = _recover_rows(left, right, column_block, buffer)
    return _settle(unit, right, row_partner), _settle(right, unit, column_partner)


def _millionths(left: np.ndarray, right: np.ndarray, buffer: np.ndarray) -> np.ndarray:
    """Similarities of two blocks in whole millionths, written into a reused buffer."""
    block: np.ndarray = buffer[: len(left) * len(right)].reshape(len(left), len(right))
    np.matmul(left, right.T, out=block)
    np.rint(block, out=block)
    return block


def _recover_rows(
    left: np.ndarray, right: np.ndarray, column_block: np.ndarray, buffer: np.ndarray
) -> np.ndarray:
    """Row of the best partner of each column, searched in the one row block known to hold it.

    A column argmax costs ten times a column maximum, so the pass remembers the block alone.
    """
    partner = np.empty(len(right), dtype=np.int64)
    for start in np.unique(column_block):
        rows = left[start : start + BLOCK_ROWS]
        columns = np.flatnonzero(column_block == start)
        for first in range(0, len(columns), BLOCK_COLUMNS):
            chosen = columns[first : first + BLOCK_COLUMNS]
            block = _millionths(rows, right[chosen], buffer)
            partner[chosen] = block.argmax(axis=0) + start
    return partner


def _settle(values: np.ndarray, others: np.ndarray, partner: np.ndarray) -> Matches:
    """Name the first of identical partners, and measure the chosen pairs in double precision.

    How single precision rounds depends on where a row lies in its block and on the machine.
    """
    keys = np.ascontiguousarray(others + 0.0).view(np.dtype((np.void, others[0].nbytes)))
    _, first, group = np.unique(keys.ravel(), return_index=True, return_inverse=True)
    partner = first[group[partner]].astype(np.int64)
    similarity = np.empty(len(values), dtype=np.float64)
    for start in range(0, len(values), BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        chosen = others[partner[rows]].astype(np.float64)
        similarity[rows] = (values[rows] * chosen).sum(axis=1)
    similarity = np.clip(np.rint(similarity * MILLIONTHS) / MILLIONTHS, -1.0, 1.0)
    return Matches(partner, similarity.astype(np.float32))


def spread_ties(
    group_of_a: np.ndarray, group_of_b: np.ndarray, best: Matches, rng: np.random.Generator
) -> Matches:
    """Give each row of A a partner in B when whole groups of B are equally similar.

    Rows of B that carry the same label text are indistinguishable; taking the first would make one
    sample everybody's partner. Each group of B is dealt out evenly instead, in an order drawn anew
    for each round, so that uses of its members differ by one at most per group of A.

    Parameters
    ----------
    group_of_a : ndarray, shape (n_a,), int
    group_of_b : ndarray, shape (n_b,), int
    best : Matches
        For each group of A the best group of B.
    rng : numpy.random.Generator

    Returns
    -------
    Matches
        For each row of A a row of B.
    """
    partner = np.empty(len(group_of_a), dtype=np.int64)
    members = {group: np.flatnonzero(group_of_b == group) for group in np.unique(best.partner)}
    for target, rows_b in members.items():
        askers = np.flatnonzero(best.partner[group_of_a] == target)
        rounds = -(-len(askers) // len(rows_b))
        dealt = np.concatenate([rng.permutation(rows_b) for _ in range(rounds)] or [rows_b[:0]])
        partner[askers] = dealt[: len(askers)]
    return Matches(partner, best.similarity[group_of_a])


def normalise_weights(similarity: np.ndarray, rule: str) -> np.ndarray:
    """Loss weights from similarities.

    Parameters
    ----------
    similarity : ndarray, shape (n,), float32
    rule : {"minmax_mean1", "raw", "softmax", "none"}
        minmax_mean1: stretched to 0..1, then scaled to mean 1, never negative; raw: as measured;
        softmax: n * softmax(similarity / 0.1), mean 1; none: all 1.

    Returns
    -------
    ndarray, shape (n,), float32

    Raises
    ------
    ValueError
        Unknown rule.

    Notes
    -----
    Source: MMBind paper, section 5.2.2: "equal to the normalized pairing similarity".
    """
    wide = np.asarray(similarity, dtype=np.float64)
    if rule == "raw":
        return wide.astype(np.float32)
    if rule == "none" or not len(wide):
        return np.ones(len(wide), dtype=np.float32)
    if rule == "softmax":
        raised = np.exp((wide - wide.max()) / 0.1)
    elif rule == "minmax_mean1":
        raised = wide - wide.min()
    else:
        message = f"unknown weight rule {rule!r}"
        raise ValueError(message)
    if not raised.any():
        return np.ones(len(wide), dtype=np.float32)
    weights: np.ndarray = (raised / raised.mean()).astype(np.float32)
    return weights
