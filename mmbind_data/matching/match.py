"""Who is whose partner: exact matching of two sets of embeddings in both directions, and weights.

Pure. Letters: n_a, n_b rows; d embedding length; k partners; a_jk similarity of row j of A and row
k of B.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mmbind_data.matching.candidates import (
    Matches,
    cap_reuse,
    keep_pairs,
    match_within_groups,
    mutual,
    ranked,
    union_of_pairs,
)
from mmbind_data.matching.csls import csls_of_pairs, csls_offsets
from mmbind_data.matching.metric import (
    PreparedMetric,
    make_metric,
    pieces,
    principal_components,
    round_similarity,
    unit_rows,
)
from mmbind_data.matching.nearest import nearest
from mmbind_data.matching.products import DEFAULT_BLOCKING, Blocking
from mmbind_data.matching.rule import MatchRule
from mmbind_data.matching.sinkhorn import potentials

# Where a cap takes partners away, a row can fall back on this many of its best.
REUSE_CANDIDATES = 32
# Similarity (float32) and priority of the candidates of one direction, (n, k) both.
Scores = tuple[np.ndarray, np.ndarray]


def match(
    a: np.ndarray,
    b: np.ndarray,
    rule: MatchRule,
    *,
    group_a: np.ndarray | None = None,
    group_b: np.ndarray | None = None,
    threads: int | None = None,
    blocking: Blocking = DEFAULT_BLOCKING,
) -> tuple[Matches, Matches]:
    """For each row of A its partners in B, and the reverse.

    Exact, by one blocked pass over all pairs that serves both directions (csls: two passes;
    sinkhorn: `sinkhorn.potentials`, then one). Memory beyond the inputs is one float32 copy of
    them, a block and a few vectors; time grows as n_a * n_b * d. The result depends on neither
    blocks nor threads, and a permutation of B only renumbers.

    Parameters
    ----------
    a : ndarray, shape (n_a, d)
    b : ndarray, shape (n_b, d)
        Both at least one row, finite.
    group_a, group_b : ndarrays, shapes (n_a,), (n_b,), int, optional
        Only rows of equal group match; neighbourhoods and plans are those inside a group. A row
        whose group the other set lacks stays without partner.
    threads : int, optional
        OMP_NUM_THREADS, or all cores, if not given.

    Returns
    -------
    Matches, Matches
        Of A in B (n_a, top_k), and of B in A (n_b, top_k).

    Raises
    ------
    ValueError
        Shapes that do not fit, values that are not finite, pca to more dimensions than there are,
        or a sinkhorn problem too large.

    Notes
    -----
    Source: MMBind paper, eq. 2 (p_j = argmax_k a_jk, the default rule), applied to both datasets
    (section 5.1.2).
    """
    if rule.match == "random":
        message = "partners by lot are drawn by match_by_lot"
        raise ValueError(message)
    _check(a, b, group_a, group_b)
    if rule.pca is not None:
        a, b = principal_components(a, b, rule.pca)
    metric = make_metric(a, b, rule.metric)
    if group_a is None or group_b is None:
        return _match_all(metric, rule, threads, blocking)

    def match_rows(rows_a: np.ndarray, rows_b: np.ndarray) -> tuple[Matches, Matches]:
        return _match_all(metric.among(rows_a, rows_b), rule, threads, blocking)

    return match_within_groups(group_a, group_b, rule.top_k, match_rows)


def _check(
    a: np.ndarray, b: np.ndarray, group_a: np.ndarray | None, group_b: np.ndarray | None
) -> None:
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or not a.size or not b.size:
        message = f"embeddings of shapes {a.shape} and {b.shape}: expected (n, d) and (m, d)"
        raise ValueError(message)
    if not all(np.isfinite(rows[part]).all() for rows in (a, b) for part in pieces(len(rows))):
        message = "embeddings hold values that are not finite"
        raise ValueError(message)
    shapes = [None if group is None else group.shape for group in (group_a, group_b)]
    if shapes not in ([None, None], [(len(a),), (len(b),)]):
        message = f"groups of shapes {shapes[0]} and {shapes[1]}: expected one code for each row"
        raise ValueError(message)


def _match_all(
    metric: PreparedMetric, rule: MatchRule, threads: int | None, blocking: Blocking
) -> tuple[Matches, Matches]:
    """Match all rows of a metric with each other."""
    offsets = None
    longest = max(len(metric.a), len(metric.b))
    if rule.match == "csls":
        k = min(rule.csls_k, longest)
        offsets = csls_offsets(metric, k, threads=threads, blocking=blocking)
    elif rule.match == "sinkhorn":
        offsets = potentials(metric, rule.sinkhorn_temperature)
    n_ranks = min(_ranks(rule), longest)
    found = nearest(metric, n_ranks, offsets, threads=threads, blocking=blocking)

    def scores(turn: int) -> Scores:
        own, other = (None, None) if offsets is None else (offsets[turn], offsets[1 - turn])
        similarity = metric.similarity(found[turn].raw)
        capped = rule.max_reuse is not None
        return similarity, found[turn].keys(metric, own, other) if capped else similarity

    return _apply_rule((found[0].partner, found[1].partner), scores, rule)


def _ranks(rule: MatchRule) -> int:
    """Candidates per row: more than partners where a cap can take the best away."""
    if rule.max_reuse is None or rule.match == "mutual":
        return rule.top_k
    return max(rule.top_k, REUSE_CANDIDATES)


def _apply_rule(
    partners: tuple[np.ndarray, np.ndarray], scores: Callable[[int], Scores], rule: MatchRule
) -> tuple[Matches, Matches]:
    """Remove pairs that are not mutual, not similar enough, or used too often.

    Scores are computed for one direction at a time: those of both together are large.
    """
    keeps = [partner >= 0 for partner in partners]
    if rule.match == "mutual":
        keeps = list(mutual(*partners))
    done = []
    for turn, keep in enumerate(keeps):
        similarity, priority = scores(turn)
        if rule.min_similarity is not None:
            # in the precision of what is stored: 0.7 keeps a pair of 0.700000
            keep = keep & (similarity >= np.float32(rule.min_similarity))
        matches = Matches(partners[turn], similarity)
        if rule.max_reuse is not None:
            keep = cap_reuse(matches, priority, keep, rule.max_reuse, rule.top_k)
        done.append(keep_pairs(matches, keep, rule.top_k))
    return done[0], done[1]


def match_by_lot(
    a: np.ndarray, b: np.ndarray, top_k: int, rng: np.random.Generator
) -> tuple[Matches, Matches]:
    """Partners drawn without regard to similarity: the control of every claim about pairs.

    Parameters
    ----------
    a : ndarray, shape (n_a, d)
    b : ndarray, shape (n_b, d)
    top_k : int
        Different partners of each row, in the order of their cosine.
    """
    own, other = unit_rows(a), unit_rows(b)
    return _drawn(own, other, top_k, rng), _drawn(other, own, top_k, rng)


def _drawn(own: np.ndarray, other: np.ndarray, top_k: int, rng: np.random.Generator) -> Matches:
    """Matches (n, top_k) of rows of unit length."""
    partner = rng.integers(len(other), size=(len(own), top_k))
    while True:  # a partner that was drawn twice is drawn again
        partner.sort(axis=1)
        twice = partner[:, 1:] == partner[:, :-1]
        if not twice.any():
            break
        partner[:, 1:][twice] = rng.integers(len(other), size=int(twice.sum()))
    cosine = np.stack(
        [np.einsum("nd,nd->n", own, other[partner[:, rank]]) for rank in range(top_k)], axis=1
    )
    similarity = round_similarity(cosine)
    order = np.argsort(-similarity, axis=1, kind="stable")
    return Matches(
        np.take_along_axis(partner, order, axis=1).astype(np.int64),
        np.take_along_axis(similarity, order, axis=1),
    )


def match_candidates(to_b: Matches, to_a: Matches, rule: MatchRule) -> tuple[Matches, Matches]:
    """Apply a rule to candidate lists, for example after re-scoring.

    The candidates of a row are the rows that it lists and those that list it. The neighbourhood of
    csls is the ``csls_k`` most similar among them, or all if there are fewer.

    Parameters
    ----------
    to_b, to_a : Matches, (n_a, any), (n_b, any)
        With one similarity per pair, whichever side lists it.
    rule : MatchRule
        Metric and pca have no meaning here.

    Returns
    -------
    Matches, Matches : (n_a, top_k), (n_b, top_k)
        As `match` gives them; csls stores the uncorrected similarity.

    Raises
    ------
    ValueError
        One pair with two similarities; sinkhorn, which needs all pairs.
    """
    if rule.match == "sinkhorn":
        message = "sinkhorn needs the similarity of all pairs: use best, csls or mutual here"
        raise ValueError(message)
    n_a, n_b = len(to_b.partner), len(to_a.partner)
    row_a, row_b, similarity = union_of_pairs(to_b, to_a)
    score = similarity
    if rule.match == "csls":
        score = csls_of_pairs(row_a, row_b, similarity, (n_a, n_b), rule.csls_k)
    n_ranks = _ranks(rule)
    found = (
        ranked(row_a, row_b, score, similarity, n_a, n_ranks),
        ranked(row_b, row_a, score, similarity, n_b, n_ranks),
    )
    partners = found[0][0].partner, found[1][0].partner
    return _apply_rule(partners, lambda turn: (found[turn][0].similarity, found[turn][1]), rule)


def spread_ties(
    group_of_a: np.ndarray, group_of_b: np.ndarray, best: Matches, rng: np.random.Generator
) -> Matches:
    """Give each row of A a partner in B, (n_a, k), when whole groups of B are equally similar.

    Rows of B with the same label text are indistinguishable; taking the first would make one sample
    everybody's partner. The rows of a group are dealt out evenly instead, in an order drawn anew
    for each round, so that how often they are used differs by one at most within a rank.

    Parameters
    ----------
    group_of_a : ndarray, shape (n_a,), int
    group_of_b : ndarray, shape (n_b,), int
    best : Matches, (groups of A, k)
        For each group of A the best groups of B; -1: no partner.
    """
    group = best.partner[group_of_a]
    partner = np.full(group.shape, -1, dtype=np.int64)
    for rank in range(group.shape[1]):
        for target in np.unique(best.partner[:, rank]):
            rows_a = np.flatnonzero(group[:, rank] == target)
            rows_b = np.flatnonzero(group_of_b == target)
            if target < 0 or not len(rows_b):
                continue
            rounds = -(-len(rows_a) // len(rows_b))
            dealt = np.concatenate([rng.permutation(rows_b) for _ in range(rounds)] or [rows_b[:0]])
            partner[rows_a, rank] = dealt[: len(rows_a)]
    return Matches(partner, best.similarity[group_of_a])


def normalise_weights(similarity: np.ndarray, rule: str) -> np.ndarray:
    """Loss weights from similarities, (n,) float32 both.

    Parameters
    ----------
    rule : {"minmax_mean1", "raw", "softmax", "none"}
        minmax_mean1: stretched to 0..1, then scaled to mean 1, never negative; raw: as measured;
        softmax: n * softmax(similarity / 0.1), mean 1; none: all 1.

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
        weights = np.exp((wide - wide.max()) / 0.1)
    elif rule == "minmax_mean1":
        weights = wide - wide.min()
    else:
        message = f"unknown weight rule {rule!r}"
        raise ValueError(message)
    if not weights.any():
        return np.ones(len(wide), dtype=np.float32)
    return np.asarray(weights / weights.mean(), dtype=np.float32)
