"""Candidates from an approximate index (faiss), on request, and its measured recall.

For sides so large that comparing all pairs takes too long. Everything else here is exact.

Letters: n_a, n_b rows; d embedding length; c candidates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mmbind_data.matching.candidates import Matches
from mmbind_data.matching.match import match_candidates
from mmbind_data.matching.metric import Metric, PreparedMetric, make_metric
from mmbind_data.matching.nearest import nearest
from mmbind_data.matching.rule import MatchRule

JUDGED = 256  # rows of each side that are also searched exactly
CELL_ROWS = 64  # rows of an IVF cell, about


@dataclass(frozen=True)
class SearchEffort:
    """How thoroughly an index is built and searched."""

    probed: float = 0.1  # ivf: share of the cells that are searched
    least_cells: int = 8  # ivf: at least so many of them
    links: int = 32  # hnsw: M of faiss
    build: int = 200  # hnsw: efConstruction
    search: int = 128  # hnsw: efSearch


DEFAULT_EFFORT = SearchEffort()


@dataclass(frozen=True)
class Recall:
    """How much of the exact result an index found, on rows drawn from both sides."""

    best: float  # share of rows whose most similar row it found
    listed: float  # mean share of the exact candidates that it listed
    n: int  # rows drawn


def approximate_candidates(
    a: np.ndarray,
    b: np.ndarray,
    c: int,
    *,
    index: Literal["ivf", "hnsw"],
    metric: Metric = "cosine",
    seed: int = 0,
    effort: SearchEffort = DEFAULT_EFFORT,
    judged: int = JUDGED,
) -> tuple[tuple[Matches, Matches], Recall]:
    """About the c most similar of B for each row of A, and the reverse.

    Parameters
    ----------
    a : ndarray, shape (n_a, d)
    b : ndarray, shape (n_b, d)
        Finite.
    index : {"ivf", "hnsw"}
        ivf: rows in cells of about 64, a tenth of which is searched; hnsw: a graph of neighbours,
        slower to build, faster to search.
    metric : {"cosine", "euclidean"}
    seed : int
        Of the cells, and of the rows that the recall is measured on.
    judged : int
        Rows of each side that the recall is measured on.

    Returns
    -------
    (Matches, Matches)
        (n_a, min(c, n_b)) and (n_b, min(c, n_a)), best first. A pair's similarity is exact, the
        same from both sides, rounded to 1e-6; which pairs are listed is not. Built and searched in
        one thread: the same on one machine for any number of threads.
    Recall

    Notes
    -----
    Source: M. Douze et al., "The Faiss library" (2024); Y. Malkov, D. Yashunin, "Efficient and
    robust approximate nearest neighbor search using hierarchical navigable small world graphs",
    IEEE TPAMI 42 (2020).
    """
    prepared = make_metric(a, b, metric)
    left, right = (np.ascontiguousarray(rows) for rows in _vectors(prepared))
    to_b, to_a = (
        _measured(_search(rows, others, min(c, len(others)), index, seed, effort), prepared, turn)
        for turn, (rows, others) in enumerate(((left, right), (right, left)))
    )
    return (to_b, to_a), _recall(prepared, (to_b, to_a), seed, judged)


def match_approximately(
    a: np.ndarray, b: np.ndarray, rule: MatchRule, *, index: Literal["ivf", "hnsw"], seed: int = 0
) -> tuple[tuple[Matches, Matches], Recall]:
    """`match.match` over the candidates that an approximate index finds.

    A row has as many candidates as the rule looks at: partners, neighbours for csls, 32 to fall
    back on under a cap. Sinkhorn and pca are not offered.
    """
    c = max(rule.top_k, rule.csls_k if rule.match == "csls" else 1, 32 if rule.max_reuse else 1)
    listed, recall = approximate_candidates(a, b, c, index=index, metric=rule.metric, seed=seed)
    return match_candidates(*listed, rule), recall


def _vectors(metric: PreparedMetric) -> tuple[np.ndarray, np.ndarray]:
    """Float32 rows whose inner product orders pairs as the metric does."""
    if metric.metric == "cosine":
        return metric.operands(None, None)
    wide = (((rows - metric.centre) / metric.scale) for rows in (metric.a, metric.b))
    left, right = (rows.astype(np.float32) for rows in wide)
    # |x - y|^2 / 2 as a product: faiss then needs one metric alone
    own_a, own_b = ((rows**2).sum(axis=1, keepdims=True) / 2 for rows in (left, right))
    one_a, one_b = np.ones_like(own_a), np.ones_like(own_b)
    return np.hstack([left, -own_a, one_a]), np.hstack([right, one_b, -own_b])


def _search(
    own: np.ndarray, others: np.ndarray, c: int, index: str, seed: int, effort: SearchEffort
) -> np.ndarray:
    """Rows of the others for each own row, (n, c) int64; -1 where fewer were found."""
    import faiss

    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)  # a graph built by several threads differs from run to run
    try:
        if index == "ivf":
            built = _ivf(faiss, others, seed, effort)
        else:
            built = faiss.IndexHNSWFlat(others.shape[1], effort.links, faiss.METRIC_INNER_PRODUCT)
            built.hnsw.efConstruction = effort.build
            built.hnsw.efSearch = max(effort.search, 2 * c)
        built.add(others)
        partner: np.ndarray = built.search(own, c)[1]
    finally:
        faiss.omp_set_num_threads(threads)
    return partner


def _ivf(faiss: Any, others: np.ndarray, seed: int, effort: SearchEffort) -> Any:
    n, d = others.shape
    cells = max(1, min(round(4 * math.sqrt(n)), n // CELL_ROWS))
    built = faiss.IndexIVFFlat(faiss.IndexFlatIP(d), d, cells, faiss.METRIC_INNER_PRODUCT)
    built.nprobe = min(cells, max(effort.least_cells, math.ceil(effort.probed * cells)))
    built.cp.seed = seed + 1  # faiss takes 0 for its own
    built.cp.min_points_per_centroid = 1
    built.train(others)
    return built


def _measured(partner: np.ndarray, metric: PreparedMetric, turn: int) -> Matches:
    """Exact similarities of the pairs found, ranked by them; of equal ones the lowest row first."""
    row, rank = np.nonzero(partner >= 0)
    other = partner[row, rank]
    raw = metric.raw(row, other) if turn == 0 else metric.raw(other, row)
    order = np.lexsort((other, -metric.keys(raw, None), row))
    row, other, raw = row[order], other[order], raw[order]
    place = np.arange(len(row)) - np.searchsorted(row, row)
    found = Matches.empty(*partner.shape)
    found.partner[row, place] = other
    found.similarity[row, place] = metric.similarity(raw)
    return found


def _recall(
    metric: PreparedMetric, found: tuple[Matches, Matches], seed: int, judged: int
) -> Recall:
    """Compare with the exact search for some rows of each side; an equally similar row counts."""
    rng = np.random.default_rng(seed)
    best, listed = [], []
    for turn, matches in enumerate(found):
        n, c = matches.partner.shape
        rows = np.sort(rng.choice(n, min(n, judged), replace=False))
        every = np.arange(len(metric.b) if turn == 0 else len(metric.a))
        part = metric.among(rows, every) if turn == 0 else metric.among(every, rows)
        exact = nearest(part, c)[turn]
        similarity = metric.similarity(exact.raw)
        best.append(matches.similarity[rows, 0] >= similarity[:, 0])
        lists = zip(matches.partner[rows], exact.partner, strict=True)
        listed.append([np.isin(true, got).mean() for got, true in lists])
    right = np.concatenate(best)
    return Recall(float(right.mean()), float(np.concatenate(listed).mean()), len(right))
