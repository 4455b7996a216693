"""Entropic transport against plain scaling, closed forms and its own marginals."""

from __future__ import annotations

import numpy as np
import pytest
from naive import vectors

from mmbind_data.matching.match import match
from mmbind_data.matching.metric import Metric, make_metric
from mmbind_data.matching.rule import MatchRule
from mmbind_data.matching.sinkhorn import potentials


def plan_of(a: np.ndarray, b: np.ndarray, metric: Metric, temperature: float) -> np.ndarray:
    both = make_metric(a, b, metric)
    f, g = potentials(both, temperature)
    rows, columns = (index.ravel() for index in np.indices((len(a), len(b))))
    score = both.linear(both.raw(rows, columns)).reshape(len(a), len(b))
    plan: np.ndarray = np.exp((score + f[:, None] + g) / temperature)
    return plan


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("temperature", [0.05, 0.3, 3.0])
@pytest.mark.parametrize(("n_a", "n_b"), [(1, 1), (1, 7), (9, 14), (20, 6)])
def test_each_row_gives_and_each_receives_its_share(
    metric: Metric, temperature: float, n_a: int, n_b: int
) -> None:
    plan = plan_of(vectors(n_a, 3, 1), vectors(n_b, 3, 2), metric, temperature)
    np.testing.assert_allclose(plan.sum(axis=0), 1 / n_b, rtol=1e-6)
    np.testing.assert_allclose(plan.sum(axis=1), 1 / n_a, rtol=1e-6)


def test_two_by_two_in_closed_form() -> None:
    # scores [[1, 0], [0, 1]]: the plan is proportional to exp(score / t) by symmetry
    plan = plan_of(np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32), "cosine", 0.5)
    e = np.exp(2.0)
    np.testing.assert_allclose(plan, np.array([[e, 1], [1, e]]) / (2 * e + 2), rtol=1e-9)


def test_a_low_temperature_finds_the_assignment() -> None:
    # both rows of A prefer the first of B; in total (0 -> 1, 1 -> 0) is worth more
    a = np.array([[1.0, 0.1], [1.0, 0.6]], dtype=np.float32)
    b = np.array([[1.0, 0.6], [1.0, -0.4]], dtype=np.float32)
    best, _ = match(a, b, MatchRule())
    assert best.partner[:, 0].tolist() == [0, 0]
    to_b, to_a = match(a, b, MatchRule("sinkhorn", sinkhorn_temperature=0.005))
    assert to_b.partner[:, 0].tolist() == [1, 0]
    assert to_a.partner[:, 0].tolist() == [1, 0]


def test_no_hub_is_everybodys_partner() -> None:
    a = vectors(200, 10, 3)
    b = np.concatenate([vectors(199, 10, 4), a.mean(axis=0, keepdims=True)])
    plain, _ = match(a, b, MatchRule())
    moved, _ = match(a, b, MatchRule("sinkhorn", sinkhorn_temperature=0.02))
    assert np.bincount(moved.partner[:, 0]).max() < np.bincount(plain.partner[:, 0]).max()


@pytest.mark.parametrize("threads", ["1", "3"])
@pytest.mark.parametrize("pairs", [1, 40, 10**6])
def test_blocks_and_threads_do_not_show(
    monkeypatch: pytest.MonkeyPatch, threads: str, pairs: int
) -> None:
    both = make_metric(vectors(13, 4, 5), vectors(17, 4, 6), "euclidean")
    wanted = potentials(both, 0.1)
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    for got, want in zip(potentials(both, 0.1, block_pairs=pairs), wanted, strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-12)


def test_swapping_the_sides_swaps_the_potentials() -> None:
    a, b = vectors(13, 4, 7), vectors(17, 4, 8)
    f, g = potentials(make_metric(a, b, "cosine"), 0.1)
    g_swapped, f_swapped = potentials(make_metric(b, a, "cosine"), 0.1)
    np.testing.assert_allclose(f, f_swapped, rtol=0, atol=1e-9)
    np.testing.assert_allclose(g, g_swapped, rtol=0, atol=1e-9)
    assert abs(f.mean() - g.mean()) < 1e-12


def test_low_temperatures_stay_finite() -> None:
    f, g = potentials(make_metric(vectors(30, 4, 9), vectors(20, 4, 10), "cosine"), 1e-4)
    assert np.isfinite(f).all()
    assert np.isfinite(g).all()


def test_too_large_a_problem_is_refused() -> None:
    with pytest.raises(ValueError, match="sinkhorn of 10001 x 10000 rows"):
        match(vectors(10_001, 1, 0), vectors(10_000, 1, 1), MatchRule("sinkhorn"))
