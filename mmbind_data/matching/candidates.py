"""Partners of each row as a ranked list, and operations on such lists. Pure.

Letters: n rows; k ranks; m the rows of the other set.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mmbind_data.matching.metric import MILLIONTHS, round_similarity

BLOCK_PAIRS = 1 << 17  # pairs put in order at a time
SAMPLED_ROWS = 1 << 12  # rows from which the quantiles that delimit the blocks are estimated


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
    probability : ndarray, shape (n, k), float32, optional
        That the pair is right, see `confidence`; 0 without partner.
    """

    partner: np.ndarray
    similarity: np.ndarray
    probability: np.ndarray | None = None

    @classmethod
    def empty(cls, n: int, k: int) -> Matches:
        """Matches (n, k) of rows that have no partner yet."""
        return cls(np.full((n, k), -1, np.int64), np.full((n, k), np.nan, np.float32))


def match_within_groups(
    group_a: np.ndarray,
    group_b: np.ndarray,
    k: int,
    match_rows: Callable[[np.ndarray, np.ndarray], tuple[Matches, Matches]],
) -> tuple[Matches, Matches]:
    """Match the rows of each group that both sets have; all others stay without partner.

    Parameters
    ----------
    group_a, group_b : ndarray, shapes (n_a,), (n_b,)
    k : int
        Partners per row.
    match_rows : callable (rows of A, rows of B) -> Matches, Matches
        Matches a part of each set in both directions, (any, k); partners are numbered within it.
    """
    whole = Matches.empty(len(group_a), k), Matches.empty(len(group_b), k)
    for code in np.intersect1d(group_a, group_b):
        rows = np.flatnonzero(group_a == code), np.flatnonzero(group_b == code)
        for into, own, others, part in zip(whole, rows, rows[::-1], match_rows(*rows), strict=True):
            into.partner[own] = np.where(part.partner >= 0, others[part.partner], -1)
            into.similarity[own] = part.similarity
    return whole


def keep_pairs(matches: Matches, keep: np.ndarray, top_k: int) -> Matches:
    """Remove the pairs of which (n, k) ``keep`` is False; the others move up: (n, top_k)."""
    order = np.argsort(~keep, axis=1, kind="stable")[:, :top_k]
    similarity = np.where(keep, matches.similarity, np.float32(np.nan))
    found, n_ranks = Matches.empty(len(keep), top_k), order.shape[1]
    found.partner[:, :n_ranks] = np.take_along_axis(
        np.where(keep, matches.partner, -1), order, axis=1
    )
    found.similarity[:, :n_ranks] = np.take_along_axis(similarity, order, axis=1)
    return found


def mutual(to_b: np.ndarray, to_a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the pairs that both sides list: (n_a, k) and (n_b, k) bool.

    Partners of both sides are (n_a, k) and (n_b, k) int, -1 for none.
    """
    return _listed_back(to_b, to_a), _listed_back(to_a, to_b)


def _listed_back(own: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Whether each listed partner lists the row in turn; (n, k) bool, some rows at a time."""
    back = np.zeros(own.shape, dtype=bool)
    step = max(1, BLOCK_PAIRS // max(1, other.shape[1]))
    row = np.arange(len(own))[:, None]
    for rank in range(own.shape[1]):
        for start in range(0, len(own), step):
            part = slice(start, start + step)
            partner = own[part, rank]
            back[part, rank] = (partner >= 0) & (other[partner] == row[part]).any(axis=1)
    return back


def cap_reuse(
    matches: Matches,
    priority: np.ndarray,
    keep: np.ndarray,
    max_reuse: int,
    top_k: int,
    *,
    block_pairs: int = BLOCK_PAIRS,
) -> np.ndarray:
    """Choose the pairs that remain when no partner may be used more than ``max_reuse`` times.

    Greedy: pairs are granted by priority, then by similarity, lowest row and rank; a pair is
    skipped when its row has ``top_k`` partners or its partner is used up. Rows whose candidates are
    all used up have no partner. Pairs are sorted in blocks, those of highest priority first, so
    that memory beyond the lists is a few bytes per pair.

    Parameters
    ----------
    matches : Matches, (n, k)
        Candidates; k above ``top_k`` gives rows something to fall back on.
    priority : ndarray, shape (n, k)
        Falls along the ranks.
    keep : ndarray, shape (n, k), bool
        Pairs that may be granted.
    block_pairs : int
        About how many pairs are sorted at a time; the result does not depend on it.

    Returns
    -------
    ndarray, shape (n, k), bool
    """
    mask = np.zeros(keep.shape, dtype=bool)
    uses = np.zeros(int(matches.partner.max(initial=-1)) + 1, dtype=np.int64)
    has = np.zeros(len(keep), dtype=np.int64)
    above = None
    for lowest in (*_quantiles(priority, keep, block_pairs), None):
        candidates = keep & (has < top_k)[:, None]
        if above is not None:
            candidates &= priority < above
        if lowest is not None:
            candidates &= priority >= lowest
        above = lowest
        row, rank = np.nonzero(candidates)
        unused = uses[matches.partner[row, rank]] < max_reuse
        row, rank = row[unused], rank[unused]
        order = np.lexsort((rank, row, -matches.similarity[row, rank], -priority[row, rank]))
        row, rank = row[order], rank[order]
        granted = _greedy(row, matches.partner[row, rank], has, uses, (top_k, max_reuse))
        mask[row[granted], rank[granted]] = True
    return mask


def _quantiles(priority: np.ndarray, keep: np.ndarray, block_pairs: int) -> np.ndarray:
    """Falling priorities with about ``block_pairs`` pairs between them, estimated from a sample."""
    some = slice(None, None, max(1, len(keep) // SAMPLED_ROWS))
    values = np.sort(priority[some][keep[some]])
    every = max(1, len(values) * block_pairs // max(1, keep.size))
    return np.unique(values[every::every])[::-1]


def _greedy(
    row: np.ndarray, partner: np.ndarray, has: np.ndarray, uses: np.ndarray, most: tuple[int, int]
) -> np.ndarray:
    """Positions of the pairs granted, in their order; raises the counts ``has`` and ``uses``.

    Python lists take eight times the memory of arrays and a tenth of the time for single items.
    """
    rows, row_code = np.unique(row, return_inverse=True)
    partners, partner_code = np.unique(partner, return_inverse=True)
    n_partners, n_uses = has[rows].tolist(), uses[partners].tolist()
    granted = []
    for position, (own, other) in enumerate(
        zip(row_code.tolist(), partner_code.tolist(), strict=True)
    ):
        if n_partners[own] < most[0] and n_uses[other] < most[1]:
            n_partners[own] += 1
            n_uses[other] += 1
            granted.append(position)
    has[rows], uses[partners] = n_partners, n_uses
    return np.array(granted, dtype=np.int64)


def rescored(candidates: Matches, score: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Matches:
    """Rank the same candidates, (n, k) both, by a more accurate, costlier similarity.

    Similarities are rounded to 1e-6; equal ones by lowest partner.

    Parameters
    ----------
    score : callable (rows (p,), partners (p,)) -> ndarray (p,)
        Called once, with all p pairs; larger is more similar.

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
    """Find the k best partners of each row in a list of pairs, each given once.

    Parameters
    ----------
    row, partner : ndarrays, shape (p,), int
    score : ndarray, shape (p,), float64
        Ranks, in millionths.
    similarity : ndarray, shape (p,), float64
        Stored; ranks pairs of equal score, then the lowest partner comes first.

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
    found, ranks = Matches.empty(n, k), np.full((n, k), -np.inf)
    found.partner[own, rank] = partner[order]
    found.similarity[own, rank] = round_similarity(similarity[order])
    ranks[own, rank] = whole_score[order]
    return found, ranks


def union_of_pairs(to_b: Matches, to_a: Matches) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """List every pair that one of two candidate lists contains, once.

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
