"""Rows of kind mean: several rows of one anchor that the trainer averages into one sample.

They hold what soft binding holds, the k partners with weights that share 1. No value is averaged
here: a bound store stays a table.

Source: MMBind paper, section 7 ("a weighted sum of multiple similar samples").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .errors import UsageError, problem
from .pairs import INCOMPLETE, MEAN, PSEUDO, Rows, joined
from .similarity import Matches


def refuse_means(sides: tuple[Rows, Rows], *, mean: bool, top_k: int) -> None:
    """Refuse to average what has no mean, and alternatives of what is a mean already.

    Raises
    ------
    UsageError
    """
    averaged = [bool((side.kind == MEAN).any()) for side in sides]
    if not mean and not any(averaged):
        return
    place = " and ".join(str(source.store.path) for source in sides[0].sources)
    if top_k > 1 and not mean:
        raise UsageError(
            problem("bind", "several partners for rows that are means", place,
                    "one partner, or their mean too", f"--top-k {top_k}",
                    f"Use --mean {top_k} instead.")
        )  # fmt: skip
    for source in sides[0].sources:
        for name, modality in source.store.info.modalities.items():
            if modality.ragged or modality.classes is not None:
                why = "point clouds" if modality.ragged else "classes of pixels"
                raise UsageError(
                    problem("bind", f"no mean of {name}", source.store.path,
                            "modalities whose values can be averaged", why,
                            "Use --top-k, or cut the store without it: mmbind partition.")
                )  # fmt: skip


def group_sizes(rows: Rows) -> np.ndarray:
    """Rows from each row to the end of its group, (n,) int64: 1 for a row on its own.

    A group are the rows of one kind from a rank 0 up to the next one.
    """
    n = len(rows)
    starts = (rows.rank == 0) | (rows.kind == INCOMPLETE)
    starts[1:] |= rows.kind[1:] != rows.kind[:-1]
    edges = np.append(np.flatnonzero(starts), n)
    return np.asarray(edges[np.searchsorted(edges, np.arange(n), side="right")] - np.arange(n))


def whole_groups(rows: Rows, first: np.ndarray) -> np.ndarray:
    """Numbers of all rows of the groups that begin at the given rows, in their order."""
    return _spread(first, group_sizes(rows)[first])[1]


def complete_groups(
    first: Rows,
    anchors: np.ndarray,
    second: Rows,
    partners: np.ndarray,
    matches: Matches,
    modalities: Sequence[str],
    hop: int,
    *,
    mean: bool,
) -> tuple[Rows, np.ndarray]:
    """`pairs.complete` where an anchor or a partner may be a group of mean rows.

    Each row of the anchor's group is completed by each row of each partner's group.

    Parameters
    ----------
    first, second : Rows
        Of the same sources.
    anchors, partners : ndarray of int, shapes (n,), (m,)
        Rows of the first that were matched, of the second that ``matches.partner`` counts.
    matches : Matches, shape (n, k)
    modalities : sequence of str
    hop : int
    mean : bool
        The k partners are to be averaged.

    Returns
    -------
    Rows
        Anchor by anchor. Ranks count within an anchor; the similarity is the smallest of a row's
        bindings. Kind mean where partners are averaged or a mean is completed, else pseudo.
    ndarray, int64
        The anchor that each row belongs to, from 0.
    """
    index, rank = np.nonzero(matches.partner >= 0)
    similarity = matches.similarity[index, rank]
    own, other = anchors[index], partners[matches.partner[index, rank]]
    averaged = (first.kind[own] == MEAN) | (second.kind[other] == MEAN)
    sizes = [
        np.where(rows.kind[chosen] == MEAN, group_sizes(rows)[chosen], 1)
        for rows, chosen in ((first, own), (second, other))
    ]
    pair, own = _spread(own, sizes[0])
    again, other = _spread(other[pair], sizes[1][pair])
    pair, own = pair[again], own[again]
    # partners change fastest: rank r of the match is rank r of the rows
    order = np.lexsort((rank[pair], other - _group_start(other, second), own, index[pair]))
    pair, own, other = pair[order], own[order], other[order]
    anchor = index[pair]
    made = joined(first.take(own), second.take(other), similarity[pair], modalities)
    is_mean = np.zeros(len(anchors), dtype=bool)
    np.logical_or.at(is_mean, index, averaged | mean)
    kind = np.where(is_mean[anchor], MEAN, PSEUDO).astype(np.int8)
    ranks = np.arange(len(anchor)) - np.searchsorted(anchor, anchor)
    return replace(
        made, kind=kind, rank=ranks.astype(np.int16),
        hop=np.full(len(anchor), hop, dtype=np.int16),
    ), anchor  # fmt: skip


def _group_start(chosen: np.ndarray, rows: Rows) -> np.ndarray:
    """First row of the group of each row chosen; the row itself where it is no mean."""
    member = rows.kind == MEAN
    begin = np.maximum.accumulate(np.where(~member | (rows.rank == 0), np.arange(len(rows)), 0))
    return np.asarray(begin[chosen])


def shares(rows: Rows, chosen: np.ndarray, temperature: float) -> np.ndarray:
    """Weights of the chosen rows, whole groups: softmax of the similarity, 1 for each group.

    Parameters
    ----------
    rows : Rows
    chosen : ndarray of int, shape (p,)
        Ascending.
    temperature : float

    Returns
    -------
    ndarray, shape (p,), float64
    """
    starts = rows.rank[chosen] == 0
    group = np.cumsum(starts) - 1
    wide = rows.similarity[chosen].astype(np.float64)
    # behind the best of the group: else low temperatures raise to infinity, or all to 0
    best = np.maximum.reduceat(wide, np.flatnonzero(starts))
    raised = np.exp((wide - best[group]) / temperature)
    return np.asarray(raised / np.bincount(group, raised)[group])


def _spread(first: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each number counted on as often as it is large: which one it came from, and the numbers."""
    origin = np.repeat(np.arange(len(first)), sizes)
    step = np.arange(len(origin)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return origin, first[origin] + step
