"""Partners of each row as a ranked list, and what can be done to such lists. Pure.

Letters: n rows; k ranks; m the rows of the other set.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

MILLIONTHS = 1e6
LISTED = 1 << 17  # pairs put in order at a time
SAMPLED = 1 << 12  # rows by which the steps between them are found


@dataclass(frozen=True)
class Matches:
    """The partners of each row, best first.

    Attributes
    ----------
    partner : ndarray, shape (n, k), int64
        Row of the other set, -1 where there is no partner at that rank; of equal ones the lowest
        row comes first.
    similarity : ndarray, shape (n, k), float32
        As measured, rounded to 1e-6; NaN without partner. It falls along the ranks, except where
        the ranks follow a corrected similarity (csls, sinkhorn).
    """

    partner: np.ndarray
    similarity: np.ndarray


def keep_pairs(matches: Matches, keep: np.ndarray, top_k: int) -> Matches:
    """Matches with some pairs taken out and the others moved up.

    Parameters
    ----------
    matches : Matches, (n, k)
    keep : ndarray, shape (n, k), bool
    top_k : int
        Ranks of the result, (n, top_k).
    """
    order = np.argsort(~keep, axis=1, kind="stable")[:, :top_k]
    partner = np.full((len(keep), top_k), -1, dtype=np.int64)
    similarity = np.full((len(keep), top_k), np.nan, dtype=np.float32)
    n_ranks = order.shape[1]
    partner[:, :n_ranks] = np.take_along_axis(np.where(keep, matches.partner, -1), order, axis=1)
    similarity[:, :n_ranks] = np.take_along_axis(
        np.where(keep, matches.similarity, np.float32(np.nan)), order, axis=1
    )
    return Matches(partner, similarity)


def mutual(to_b: np.ndarray, to_a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which pairs are named by both sides.

    Parameters
    ----------
    to_b, to_a : ndarray, shapes (n_a, k), (n_b, k), int
        Partners, -1 for none.

    Returns
    -------
    ndarray, ndarray : shapes (n_a, k), (n_b, k), bool
    """
    return _named_back(to_b, to_a), _named_back(to_a, to_b)


def _named_back(own: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Whether the partner of each place lists the row itself; (n, k) bool, some rows at a time."""
    back = np.zeros(own.shape, dtype=bool)
    step = max(1, LISTED // max(1, other.shape[1]))
    row = np.arange(len(own))[:, None]
    for rank in range(own.shape[1]):
        for start in range(0, len(own), step):
            part = slice(start, start + step)
            partner = own[part, rank]
            back[part, rank] = (partner >= 0) & (other[partner] == row[part]).any(axis=1)
    return back


def cap_reuse(
    matches: Matches, priority: np.ndarray, keep: np.ndarray, max_reuse: int, top_k: int
) -> np.ndarray:
    """Pairs that remain when no partner may be used more than ``max_reuse`` times.

    Greedy: pairs are granted by priority, then by similarity, lowest row and rank; a pair is passed
    over when its row has ``top_k`` partners or its partner is used up. Rows whose candidates are
    all used up go without. Pairs are put in order some at a time, those of highest priority first:
    memory beyond the lists is a few bytes a pair.

    Parameters
    ----------
    matches : Matches, (n, k)
        Candidates; k above ``top_k`` gives rows something to fall back on.
    priority : ndarray, shape (n, k)
        Falls along the ranks.
    keep : ndarray, shape (n, k), bool
        Pairs that may be granted.
    max_reuse, top_k : int

    Returns
    -------
    ndarray, shape (n, k), bool
    """
    mask = np.zeros(keep.shape, dtype=bool)
    uses = np.zeros(int(matches.partner.max(initial=-1)) + 1, dtype=np.int64)
    has = np.zeros(len(keep), dtype=np.int64)
    above = None
    for lowest in (*_steps(priority, keep), None):
        due = keep & (has < top_k)[:, None]
        if above is not None:
            due &= priority < above
        if lowest is not None:
            due &= priority >= lowest
        above = lowest
        row, rank = np.nonzero(due)
        open_ = uses[matches.partner[row, rank]] < max_reuse
        row, rank = row[open_], rank[open_]
        order = np.lexsort((rank, row, -matches.similarity[row, rank], -priority[row, rank]))
        row, rank = row[order], rank[order]
        given = _greedy(row, matches.partner[row, rank], has, uses, (top_k, max_reuse))
        mask[row[given], rank[given]] = True
    return mask


def _steps(priority: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """Falling priorities between which about `LISTED` pairs lie each, as far as a sample tells."""
    some = slice(None, None, max(1, len(keep) // SAMPLED))
    values = np.sort(priority[some][keep[some]])
    every = max(1, len(values) * LISTED // max(1, keep.size))
    return np.unique(values[every::every])[::-1]


def _greedy(
    row: np.ndarray, partner: np.ndarray, has: np.ndarray, uses: np.ndarray, most: tuple[int, int]
) -> np.ndarray:
    """Numbers of the pairs granted, in their order; what rows have and partners' uses are raised.

    Python's lists take eight times the room of arrays and a tenth of the time for single items.
    """
    rows, own = np.unique(row, return_inverse=True)
    partners, other = np.unique(partner, return_inverse=True)
    left, used = has[rows].tolist(), uses[partners].tolist()
    given = []
    for place, (one, two) in enumerate(zip(own.tolist(), other.tolist(), strict=True)):
        if left[one] < most[0] and used[two] < most[1]:
            left[one] += 1
            used[two] += 1
            given.append(place)
    has[rows], uses[partners] = left, used
    return np.array(given, dtype=np.int64)


def rescored(candidates: Matches, score: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Matches:
    """The same candidates ranked by a better, dearer similarity.

    Parameters
    ----------
    candidates : Matches, (n, k)
    score : callable (rows (p,), partners (p,)) -> ndarray (p,)
        Called once, with all p pairs; larger is more similar.

    Returns
    -------
    Matches, (n, k)
        Similarities rounded to 1e-6; equal ones by lowest partner.

    Raises
    ------
    ValueError
        Not one finite number per pair.
    """
    row, rank = np.nonzero(candidates.partner >= 0)
    partner = candidates.partner[row, rank]
    value = np.asarray(score(row, partner), dtype=np.float64)
    if value.shape != row.shape or not np.isfinite(value).all():
        message = f"scores of shape {value.shape}: expected {row.shape}, all finite"
        raise ValueError(message)
    return ranked(row, partner, value, value, *candidates.partner.shape)[0]


def ranked(
    row: np.ndarray, partner: np.ndarray, score: np.ndarray, similarity: np.ndarray, n: int, k: int
) -> tuple[Matches, np.ndarray]:
    """The k best partners of each row from a list of pairs, each named once.

    Parameters
    ----------
    row, partner : ndarrays, shape (p,), int
    score : ndarray, shape (p,), float64
        Ranks, in millionths.
    similarity : ndarray, shape (p,), float64
        Stored; ranks pairs of equal score, then the lowest partner comes first.
    n, k : int

    Returns
    -------
    Matches, (n, k)
    ndarray, shape (n, k), float64
        Score in whole millionths, -inf without partner.
    """
    whole_score, whole_similarity = np.rint(score * MILLIONTHS), np.rint(similarity * MILLIONTHS)
    order = np.lexsort((partner, -whole_similarity, -whole_score, row))
    own = row[order]
    rank = np.arange(len(own)) - np.searchsorted(own, own)
    order, own, rank = (part[rank < k] for part in (order, own, rank))
    found = np.full((n, k), -1, dtype=np.int64)
    value = np.full((n, k), np.nan, dtype=np.float32)
    found[own, rank] = partner[order]
    ranks = np.full((n, k), -np.inf)
    ranks[own, rank] = whole_score[order]
    value[own, rank] = np.rint(similarity[order] * MILLIONTHS) / MILLIONTHS
    return Matches(found, value), ranks


def union_of_pairs(to_b: Matches, to_a: Matches) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every pair that one of two candidate lists names, once.

    Returns
    -------
    row_a, row_b : ndarrays, shape (p,), int64
    similarity : ndarray, shape (p,), float64

    Raises
    ------
    ValueError
        The lists give one pair two similarities.
    """
    row_a, rank = np.nonzero(to_b.partner >= 0)
    row_b = to_b.partner[row_a, rank]
    other_b, other_rank = np.nonzero(to_a.partner >= 0)
    other_a = to_a.partner[other_b, other_rank]
    similarity = np.concatenate(
        [to_b.similarity[row_a, rank], to_a.similarity[other_b, other_rank]]
    )
    code = np.concatenate([row_a, other_a]) * len(to_a.partner) + np.concatenate([row_b, other_b])
    unique, first, inverse = np.unique(code, return_index=True, return_inverse=True)
    value = similarity[first].astype(np.float64)
    if len(code) and np.abs(value[inverse] - similarity).max() > 2.5 / MILLIONTHS:
        message = "the two candidate lists give one pair two similarities: score both ways alike"
        raise ValueError(message)
    return unique // len(to_a.partner), unique % len(to_a.partner), value
