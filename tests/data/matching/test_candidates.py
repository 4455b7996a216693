"""Candidate lists: re-scoring, hubness correction and rules over them, against naive loops."""

from __future__ import annotations

import numpy as np
import pytest
from naive import vectors

from mmbind_data.matching.candidates import Matches, cap_reuse, rescored
from mmbind_data.matching.match import match, match_candidates
from mmbind_data.matching.rule import MatchRule


def better(n_a: int, n_b: int) -> np.ndarray:
    return np.round(np.random.default_rng(42).uniform(-1, 1, size=(n_a, n_b)), 6)


def both(k: int, n_a: int = 30, n_b: int = 20) -> tuple[Matches, Matches, np.ndarray]:
    """Candidates by embedding, re-scored both ways by a table."""
    to_b, to_a = match(vectors(n_a, 4, 1), vectors(n_b, 4, 2), MatchRule(top_k=k))
    table = better(n_a, n_b)
    return (
        rescored(to_b, lambda rows, partners: table[rows, partners]),
        rescored(to_a, lambda rows, partners: table[partners, rows]),
        table,
    )


def pairs_of(to_b: Matches, to_a: Matches) -> set[tuple[int, int]]:
    forward = {(j, k) for j, row in enumerate(to_b.partner.tolist()) for k in row if k >= 0}
    return forward | {(j, k) for k, row in enumerate(to_a.partner.tolist()) for j in row if j >= 0}


def test_rescoring_keeps_the_candidates_and_orders_them_anew() -> None:
    before, _ = match(vectors(30, 4, 1), vectors(20, 4, 2), MatchRule(top_k=5))
    table = better(30, 20)
    got = rescored(before, lambda rows, partners: table[rows, partners])
    for j in range(30):
        assert set(got.partner[j]) == set(before.partner[j])
        expected = sorted(before.partner[j].tolist(), key=lambda k, j=j: (-table[j, k], k))  # type: ignore[misc]
        assert got.partner[j].tolist() == expected
    own = np.arange(30)[:, None]
    np.testing.assert_allclose(got.similarity, table[own, got.partner], rtol=0, atol=1e-7)
    assert got.similarity.dtype == np.float32
    assert (got.partner != before.partner).any()


def test_rescoring_breaks_ties_by_row_and_leaves_gaps_last() -> None:
    partner = np.array([[7, 3, -1], [-1, -1, -1]])
    similarity = np.array([[0.9, 0.8, np.nan], [np.nan] * 3], dtype=np.float32)
    asked = []

    def score(rows: np.ndarray, partners: np.ndarray) -> np.ndarray:
        asked.append((rows.tolist(), partners.tolist()))
        return np.array([0.5, 0.5 + 3e-7])  # equal in millionths

    got = rescored(Matches(partner, similarity), score)
    assert asked == [([0, 0], [7, 3])]
    np.testing.assert_array_equal(got.partner, [[3, 7, -1], [-1, -1, -1]])
    np.testing.assert_array_equal(got.similarity, [[0.5, 0.5, np.nan], [np.nan] * 3])


@pytest.mark.parametrize("bad", [np.array([1.0]), np.array([1.0, np.nan])])
def test_scores_that_do_not_fit_are_refused(bad: np.ndarray) -> None:
    candidates = Matches(np.array([[1, 0]]), np.ones((1, 2), dtype=np.float32))
    with pytest.raises(ValueError, match="scores of shape"):
        rescored(candidates, lambda rows, partners: bad)


@pytest.mark.parametrize("csls_k", [1, 3, 50])
@pytest.mark.parametrize("top_k", [1, 4])
def test_csls_over_the_union_of_both_lists(csls_k: int, top_k: int) -> None:
    to_b, to_a, table = both(5)
    pairs = pairs_of(to_b, to_a)
    of_a = {j: [k for one, k in pairs if one == j] for j in range(30)}
    of_b = {k: [j for j, one in pairs if one == k] for k in range(20)}
    near_a = {j: np.mean(sorted(table[j, ks])[::-1][:csls_k]) for j, ks in of_a.items()}
    near_b = {k: np.mean(sorted(table[js, k])[::-1][:csls_k]) for k, js in of_b.items()}
    got_b, got_a = match_candidates(to_b, to_a, MatchRule("csls", csls_k=csls_k, top_k=top_k))

    def corrected(j: int, k: int) -> int:
        return round(float(table[j, k] - (near_a[j] + near_b[k]) / 2) * 1e6)

    for j in range(30):
        expected = sorted(of_a[j], key=lambda k, j=j: (-corrected(j, k), k))[:top_k]  # type: ignore[misc]
        assert [k for k in got_b.partner[j].tolist() if k >= 0] == expected
        np.testing.assert_allclose(
            got_b.similarity[j, : len(expected)], table[j, expected], rtol=0, atol=1e-7
        )
    for k in range(20):
        expected = sorted(of_b[k], key=lambda j, k=k: (-corrected(j, k), j))[:top_k]  # type: ignore[misc]
        assert [j for j in got_a.partner[k].tolist() if j >= 0] == expected
    assert csls_k == 1 or (got_b.partner[:, 0] != to_b.partner[:, 0]).any()


@pytest.mark.parametrize("name", ["best", "csls", "mutual"])
def test_all_pairs_as_candidates_give_what_matching_gives(name: str) -> None:
    a, b = vectors(30, 4, 1), vectors(20, 4, 2)
    to_b, to_a = match(a, b, MatchRule(top_k=30))
    for extra in ({}, {"min_similarity": 0.6}, {"max_reuse": 2}, {"top_k": 3, "csls_k": 4}):
        rule = MatchRule(match=name, **extra)  # type: ignore[arg-type]
        for got, want in zip(match_candidates(to_b, to_a, rule), match(a, b, rule), strict=True):
            np.testing.assert_array_equal(got.partner, want.partner)
            np.testing.assert_array_equal(got.similarity, want.similarity)


@pytest.mark.parametrize("block_pairs", [1, 7, 50, 10_000])
@pytest.mark.parametrize(("max_reuse", "top_k"), [(1, 1), (2, 1), (3, 4)])
def test_a_cap_grants_pairs_as_one_sorted_list_would(
    block_pairs: int, max_reuse: int, top_k: int
) -> None:
    rng = np.random.default_rng(block_pairs)
    n, k, m = 60, 8, 25
    partner = np.array([rng.permutation(m)[:k] for _ in range(n)])
    priority = -np.sort(rng.integers(0, 12, size=(n, k)), axis=1)  # many ties
    similarity = -np.sort(rng.integers(0, 5, size=(n, k)), axis=1).astype(np.float32)
    keep = rng.uniform(size=(n, k)) < 0.8
    pairs = sorted((-priority[r, c], -similarity[r, c], r, c) for r, c in np.argwhere(keep))
    uses, has, expected = [0] * m, [0] * n, np.zeros((n, k), dtype=bool)
    for _, _, r, c in pairs:
        if has[r] < top_k and uses[partner[r, c]] < max_reuse:
            has[r] += 1
            uses[partner[r, c]] += 1
            expected[r, c] = True
    got = cap_reuse(
        Matches(partner, similarity), priority, keep, max_reuse, top_k, block_pairs=block_pairs
    )
    np.testing.assert_array_equal(got, expected)


def test_a_pair_with_two_similarities_is_refused() -> None:
    to_b, to_a, _ = both(3)
    with pytest.raises(ValueError, match="one pair two similarities"):
        match_candidates(
            to_b, Matches(to_a.partner, to_a.similarity + np.float32(0.01)), MatchRule("csls")
        )


def test_sinkhorn_is_refused_over_lists() -> None:
    to_b, to_a, _ = both(3)
    with pytest.raises(ValueError, match="sinkhorn"):
        match_candidates(to_b, to_a, MatchRule("sinkhorn"))


def test_lists_without_any_pair_stay_empty() -> None:
    empty = Matches.empty(3, 2)
    for got in match_candidates(empty, empty, MatchRule("csls")):
        np.testing.assert_array_equal(got.partner, np.full((3, 1), -1))
        assert np.isnan(got.similarity).all()
