"""Complete rows by their partners: the algebra of the table of pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mmbind_data.errors import UsageError
from mmbind_data.matching.candidates import Matches
from mmbind_data.store.pair_table import COLUMNS, INCOMPLETE, MEAN, PSEUDO, PairTable, Source


def original_rows(source: Source) -> PairTable:
    """The samples of one store as they were measured; a modality that it lacks is a dummy.

    Notes
    -----
    Source: MMBind paper, section 5.2.1: X~_A = (m_1, 0, m_s).
    """
    n = len(source.store)
    own = np.stack([np.zeros(n, dtype=np.int64), np.arange(n)], axis=1)
    given = {
        name: np.where(source.store.present(name)[:, np.newaxis], own, -1)
        for name in source.store.info.modalities
    }
    return PairTable(
        sources=(source,),
        kind=np.full(n, INCOMPLETE, dtype=np.int8),
        anchor=own,
        given=given,
        shared=(),
        hop=np.zeros(n, dtype=np.int16),
        similarity=np.full(n, np.nan, dtype=np.float32),
        weight=np.ones(n, dtype=np.float32),
        rank=np.zeros(n, dtype=np.int16),
    )


def candidates(rows: PairTable, carried: np.ndarray) -> np.ndarray:
    """Row numbers that can be anchors or partners, ascending.

    An original whose sample is the anchor of a bound row is excluded in favour of the bound row,
    which contains it; of several ranks only the first is used.

    Parameters
    ----------
    carried : ndarray of bool, shape (n,)
        Rows that have what is shared.
    """
    usable = carried & (rows.rank == 0)
    if (rows.kind != INCOMPLETE).any():
        span = max(len(source.uid) for source in rows.sources)
        name = rows.anchor[:, 0] * span + rows.anchor[:, 1]
        bound = np.unique(name[usable & (rows.kind != INCOMPLETE)])
        usable &= (rows.kind != INCOMPLETE) | ~np.isin(name, bound)
    return np.flatnonzero(usable)


def stack_sources(first: PairTable, second: PairTable) -> tuple[PairTable, PairTable]:
    """Both tables over the same sources: those of the first, then those of the second."""
    sources = (*first.sources, *second.sources)
    step = np.array([len(first.sources), 0], dtype=np.int64)
    moved = {name: np.where(one >= 0, one + step, -1) for name, one in second.given.items()}
    return (
        replace(first, sources=sources),
        replace(second, sources=sources, anchor=second.anchor + step, given=moved),
    )


def complete_rows(
    own: PairTable, other: PairTable, similarity: np.ndarray, modalities: Sequence[str]
) -> PairTable:
    """Rows completed by as many others, one by one; kind, hop and rank stay those of the first."""
    given = {}
    for name in modalities:
        mine = _given(own, name)
        given[name] = np.where(mine[:, :1] >= 0, mine, _given(other, name))
    links = np.stack([similarity, own.similarity, other.similarity])
    return replace(own, given=given, similarity=np.fmin.reduce(links).astype(np.float32))


def concatenate(
    parts: Sequence[PairTable], modalities: Sequence[str], shared: tuple[str, ...]
) -> PairTable:
    """Put rows of the same sources together, in the order given."""
    given = {name: np.concatenate([_given(part, name) for part in parts]) for name in modalities}
    columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in COLUMNS}
    return PairTable(sources=parts[0].sources, given=given, shared=shared, **columns)


def _given(rows: PairTable, name: str) -> np.ndarray:
    """Where each row has a modality from, shape (n, 2); -1 where it is a dummy."""
    return rows.given.get(name, np.full((len(rows), 2), -1, dtype=np.int64))


def refuse_means(sides: tuple[PairTable, PairTable], *, mean: bool, top_k: int) -> None:
    """Refuse to average what has no mean, and alternatives of what is a mean already.

    Raises
    ------
    UsageError
    """
    if not mean and not any((side.kind == MEAN).any() for side in sides):
        return
    if top_k > 1 and not mean:
        raise UsageError(
            cannot="bind",
            problem="several partners for rows that are means",
            at=sides[0].place,
            expected="one partner, or their mean too",
            got=f"--top-k {top_k}",
            fix=f"Use --mean {top_k} instead.",
        )
    for source in sides[0].sources:
        for name, modality in source.store.info.modalities.items():
            if modality.ragged or modality.classes is not None:
                raise UsageError(
                    cannot="bind",
                    problem=f"no mean of {name}",
                    at=source.store.path,
                    expected="modalities whose values can be averaged",
                    got="point clouds" if modality.ragged else "classes of pixels",
                    fix="Use --top-k, or cut the store without it: mmbind partition.",
                )


def group_sizes(rows: PairTable) -> np.ndarray:
    """Rows from each row to the end of its group, (n,) int64: 1 for a row on its own.

    A group are the rows of one kind from a rank 0 up to the next one.
    """
    n = len(rows)
    starts = (rows.rank == 0) | (rows.kind == INCOMPLETE)
    starts[1:] |= rows.kind[1:] != rows.kind[:-1]
    edges = np.append(np.flatnonzero(starts), n)
    return np.asarray(edges[np.searchsorted(edges, np.arange(n), side="right")] - np.arange(n))


def complete_groups(
    first: PairTable,
    anchors: np.ndarray,
    second: PairTable,
    partners: np.ndarray,
    matches: Matches,
    modalities: Sequence[str],
    hop: int,
    *,
    mean: bool,
) -> tuple[PairTable, np.ndarray]:
    """Anchors completed by their partners; what an anchor has itself is never replaced.

    An anchor or a partner may be a group of mean rows: then each row of the anchor's group is
    completed by each row of each partner's group.

    Parameters
    ----------
    first, second : PairTable
        Of the same sources.
    anchors, partners : ndarray of int, shapes (n,), (m,)
        Rows of the first that were matched, of the second that ``matches.partner`` counts.
    matches : Matches, shape (n, k)
    mean : bool
        The k partners are to be averaged.

    Returns
    -------
    PairTable
        Anchor by anchor. Ranks count within an anchor; the similarity is the smallest of a row's
        bindings, the weight the product of theirs and of the pair's probability. Kind mean where
        partners are averaged or a mean is completed, else pseudo.
    ndarray, int64
        The anchor that each row belongs to, from 0.

    Notes
    -----
    Source: MMBind paper, section 5.1.2: X_Ap = (m_1^j, m_s^j, m_2^p_j, a_jp_j).
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
    begins = (second.kind != MEAN) | (second.rank == 0)
    group = np.maximum.accumulate(np.where(begins, np.arange(len(second)), 0))
    order = np.lexsort((rank[pair], other - group[other], own, index[pair]))
    pair, own, other = pair[order], own[order], other[order]
    anchor = index[pair]
    rows = complete_rows(first.take(own), second.take(other), similarity[pair], modalities)
    weight = rows.weight * second.weight[other]
    if matches.probability is not None:
        weight = weight * matches.probability[index, rank][pair]
    is_mean = np.zeros(len(anchors), dtype=bool)
    np.logical_or.at(is_mean, index, averaged | mean)
    kind = np.where(is_mean[anchor], MEAN, PSEUDO).astype(np.int8)
    ranks = (np.arange(len(anchor)) - np.searchsorted(anchor, anchor)).astype(np.int16)
    hops = np.full_like(ranks, hop)
    return replace(rows, kind=kind, rank=ranks, hop=hops, weight=weight), anchor


def complete_sides(
    sides: tuple[PairTable, PairTable],
    chosen: tuple[np.ndarray, np.ndarray],
    matches: tuple[Matches, Matches],
    shared: str,
    *,
    mean: bool,
) -> PairTable:
    """The rows of two sides after a binding.

    In order: completed rows of the first, of the second, then rows that stay as they were.

    Parameters
    ----------
    sides : two PairTable
        Of the same sources.
    chosen : two ndarrays of int, shapes (n_a,), (n_b,)
        Rows of each side that were compared.
    matches : two Matches
        Of the chosen rows of the first side in those of the second, and the reverse.
    mean : bool
        The partners of a row are to be averaged.
    """
    names = (*sides[0].shared, *sides[1].shared, shared)
    modalities = list(dict.fromkeys((*sides[0].given, *sides[1].given)))
    parts, remaining = [], []
    for turn in (0, 1):
        rows, anchors = sides[turn], chosen[turn]
        completed, anchor = complete_groups(
            rows, anchors, sides[1 - turn], chosen[1 - turn], matches[turn], modalities,
            len(names) - 1, mean=mean,
        )  # fmt: skip
        more = _n_given(completed, modalities) > _n_given(rows, modalities)[anchors][anchor]
        gained = np.bincount(anchor, more, minlength=len(anchors)) > 0
        # an original always gets its pseudo-paired row; one that is bound already must gain
        fresh = rows.kind[anchors] == INCOMPLETE
        parts.append(completed.take((fresh | gained)[anchor]))
        begins = anchors[~fresh & gained]
        _, replaced = _spread(begins, group_sizes(rows)[begins])
        remaining.append(rows.take(np.setdiff1d(np.arange(len(rows)), replaced)))
    # hops of the second side are counted after those of the first
    second = remaining[1]
    moved = second.hop + len(sides[0].shared) * (second.kind != INCOMPLETE)
    remaining[1] = replace(second, hop=moved.astype(np.int16))
    bound = [rows.take(rows.kind != INCOMPLETE) for rows in remaining]
    originals = [rows.take(rows.kind == INCOMPLETE) for rows in remaining]
    return concatenate([*parts, *bound, *originals], modalities, names)


def _n_given(rows: PairTable, modalities: Sequence[str]) -> np.ndarray:
    """Number of modalities of each row, shape (n,)."""
    return np.asarray(np.sum([rows.carries(name) for name in modalities], axis=0))


def shares(rows: PairTable, chosen: np.ndarray, temperature: float) -> np.ndarray:
    """Weights of the rows chosen, ascending (p,): softmax of the similarity within each group.

    They sum to 1 for each group, of which all rows are chosen; (p,) float64.
    """
    starts = rows.rank[chosen] == 0
    group = np.cumsum(starts) - 1
    wide = rows.similarity[chosen].astype(np.float64)
    # relative to the best of the group: else low temperatures overflow, or all underflow to 0
    best = np.maximum.reduceat(wide, np.flatnonzero(starts))
    raised = np.exp((wide - best[group]) / temperature)
    return np.asarray(raised / np.bincount(group, raised)[group])


def _spread(first: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Runs of ascending numbers: the run that each belongs to, and the numbers, both (sum,).

    Run i has ``sizes[i]`` numbers and begins at ``first[i]``.
    """
    origin = np.repeat(np.arange(len(first)), sizes)
    step = np.arange(len(origin)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return origin, first[origin] + step
