"""Approximate indices: what they list is exact, what they miss is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from plain import PLAIN
from smallstores import write_nodes

from mmbind_data.binding.bind import bind
from mmbind_data.binding.options import BindOptions
from mmbind_data.errors import UsageError
from mmbind_data.matching.approximate import (
    SearchEffort,
    approximate_candidates,
    match_approximately,
)
from mmbind_data.matching.match import match
from mmbind_data.matching.metric import Metric
from mmbind_data.matching.rule import Match, MatchRule
from mmbind_data.store.bound import open_bound

Index = Literal["ivf", "hnsw"]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    made = write_nodes(tmp_path_factory.mktemp("nodes"), noise=0.8)
    return made["A"], made["B"]


def clusters(n: int, seed: int, d: int = 16) -> np.ndarray:
    """Rows around fifty centres, as embeddings of activities lie."""
    centres = np.random.default_rng(99).normal(size=(50, d))
    rng = np.random.default_rng(seed)
    return (centres[rng.integers(0, 50, n)] + 0.4 * rng.normal(size=(n, d))).astype(np.float32)


def naive(a: np.ndarray, b: np.ndarray, metric: str) -> np.ndarray:
    """Similarity of all pairs, float64."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    if metric == "cosine":
        lengths = np.linalg.norm(a, axis=1)[:, None] * np.linalg.norm(b, axis=1)
        return np.asarray(a @ b.T / lengths)
    union = np.concatenate([a, b])
    scale = np.sqrt(2 * ((union - union.mean(axis=0)) ** 2).sum(axis=1).mean())
    distance = np.array([np.linalg.norm(b - row, axis=1) for row in a]) / scale
    return np.asarray(1 / (1 + distance))


@pytest.mark.parametrize("index", ["ivf", "hnsw"])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_what_is_listed_is_exact_and_the_recall_is_that_of_a_loop(
    index: Index, metric: Metric
) -> None:
    hasty = SearchEffort(probed=0.02, least_cells=1, links=4, build=4, search=1)  # misses some
    a, b = clusters(900, 1), 3 * clusters(1300, 2) + 1
    found, recall = approximate_candidates(
        a, b, 10, index=index, metric=metric, effort=hasty, judged=10_000
    )
    table = naive(a, b, metric)
    best, listed = [], []
    for matches, own in zip(found, (table, table.T), strict=True):
        assert matches.partner.shape == matches.similarity.shape == (len(own), 10)
        for row, partners, values in zip(own, matches.partner, matches.similarity, strict=True):
            there = partners >= 0
            assert len(set(partners[there])) == there.sum()
            np.testing.assert_allclose(values[there], row[partners[there]], rtol=0, atol=1e-6)
            assert (np.diff(values[there]) <= 0).all()
            exact = np.argsort(-row, kind="stable")[:10]
            best.append(partners[0] == exact[0])
            listed.append(np.isin(exact, partners).mean())
    assert recall.n == 2200
    assert recall.best == pytest.approx(np.mean(best), abs=2e-3)  # as similar counts as found
    assert recall.listed == pytest.approx(np.mean(listed), abs=1e-3)
    assert 0.3 < recall.listed < 0.999


@pytest.mark.parametrize("index", ["ivf", "hnsw"])
def test_as_it_is_set_it_finds_nearly_all(index: Index) -> None:
    a, b = clusters(3000, 3), clusters(2500, 4)
    found, recall = approximate_candidates(a, b, 10, index=index)
    assert recall.best > 0.97
    assert recall.listed > 0.95
    exact = match(a, b, MatchRule(top_k=10))
    for got, want in zip(found, exact, strict=True):
        assert (got.partner[:, 0] == want.partner[:, 0]).mean() > 0.97


@pytest.mark.parametrize("name", ["best", "csls", "mutual"])
@pytest.mark.parametrize("extra", [{}, {"top_k": 3}, {"max_reuse": 2}, {"min_similarity": 0.9}])
def test_with_all_cells_searched_it_is_the_exact_match(name: Match, extra: dict[str, int]) -> None:
    a, b = clusters(60, 5), clusters(40, 6)  # of so few rows there is one cell
    rule = MatchRule(name, csls_k=60, **extra)  # type: ignore[arg-type]
    if name != "csls":
        rule = replace(rule, csls_k=10)
    got, recall = match_approximately(a, b, rule, index="ivf")
    assert (recall.best, recall.listed) == (1.0, 1.0)
    for mine, theirs in zip(got, match(a, b, rule), strict=True):
        np.testing.assert_array_equal(mine.partner, theirs.partner)
        np.testing.assert_array_equal(mine.similarity, theirs.similarity)


@pytest.mark.parametrize("index", ["ivf", "hnsw"])
def test_the_same_for_any_number_of_threads(index: Index) -> None:
    import faiss

    a, b = clusters(700, 7), clusters(800, 8)
    before = faiss.omp_get_max_threads()
    results = []
    for threads in (1, 3):
        faiss.omp_set_num_threads(threads)
        results.append(approximate_candidates(a, b, 20, index=index, seed=5))
        assert faiss.omp_get_max_threads() == threads
    faiss.omp_set_num_threads(before)
    assert results[0][1] == results[1][1]
    for one, other in zip(results[0][0], results[1][0], strict=True):
        np.testing.assert_array_equal(one.partner, other.partner)
        np.testing.assert_array_equal(one.similarity, other.similarity)


@pytest.mark.parametrize("index", ["ivf", "hnsw"])
@pytest.mark.parametrize("options", [PLAIN, BindOptions()])
def test_a_bound_store_says_that_it_is_approximate(
    nodes: tuple[Path, Path], tmp_path: Path, index: Index, options: BindOptions
) -> None:
    """All of so few are found: the pairs are those of the exact search."""
    chosen = replace(options, index=index)
    info = bind(nodes, tmp_path / "o", shared="acc", options=chosen)
    exact = bind(nodes, tmp_path / "exact", shared="acc", options=options)
    assert info.warnings == (
        f"partners are approximate: the {index} index found 100.0% of the most similar samples "
        "and 100.0% of the candidates, judged on 36 samples; --index exact finds all",
    )
    assert exact.warnings == ()
    binder = info.binder[0]
    assert (binder.recipe, binder.options["index"]) == ("custom", index)
    assert binder.embedding["index_recall_best"] == binder.embedding["index_recall_listed"] == 1.0
    assert open_bound(tmp_path / "o").pairs().equals(open_bound(tmp_path / "exact").pairs())


def test_what_an_index_does_not_offer_is_refused(nodes: tuple[Path, Path], tmp_path: Path) -> None:
    for options, words in (
        (replace(PLAIN, group_by="subject"), "--group-by"),
        (replace(PLAIN, rule=MatchRule("sinkhorn")), "--match sinkhorn"),
        (replace(PLAIN, rule=MatchRule(pca=2)), "--pca"),
    ):
        with pytest.raises(UsageError, match=f"--index ivf: expected --index exact, got {words}"):
            bind(nodes, tmp_path / "o", shared="acc", options=replace(options, index="ivf"))
        assert not (tmp_path / "o").exists()
