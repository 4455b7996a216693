"""Matching against a naive double loop, ties and borders included; weights in closed form."""

from __future__ import annotations

import math
from collections import Counter

import faiss
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from naive import cosines, turned, vectors

from mmbind_data.matching.candidates import Matches
from mmbind_data.matching.match import match, normalise_weights, spread_ties
from mmbind_data.matching.products import DEFAULT_BLOCKING, Blocking
from mmbind_data.matching.rule import MatchRule

ROUNDING = 1.01e-6
RULES = ("minmax_mean1", "raw", "softmax", "none")


def assert_best(got: Matches, table: list[list[float]]) -> None:
    """Each partner is the best of its row, to the rounding of the similarity."""
    assert got.partner.dtype == np.int64
    assert got.similarity.dtype == np.float32
    assert got.partner.shape == got.similarity.shape == (len(table), 1)
    for row, partner, value in zip(table, got.partner[:, 0], got.similarity[:, 0], strict=True):
        assert row[partner] >= max(row) - ROUNDING
        assert abs(value - row[partner]) <= ROUNDING
        clear = sorted(row)[-1] - (sorted(row)[-2] if len(row) > 1 else -2) > 2 * ROUNDING
        if clear:
            assert partner == row.index(max(row))


def best_matches(
    a: np.ndarray, b: np.ndarray, blocking: Blocking = DEFAULT_BLOCKING
) -> tuple[Matches, Matches]:
    return match(a, b, MatchRule(), blocking=blocking)


def unit_rows(values: np.ndarray) -> np.ndarray:
    return np.asarray(values / np.linalg.norm(values, axis=1, keepdims=True))


@pytest.mark.parametrize(
    ("n_a", "n_b", "d"), [(1, 1, 1), (1, 9, 3), (9, 1, 3), (23, 31, 5), (40, 17, 2), (30, 30, 1)]
)
@pytest.mark.parametrize("blocks", [(256, 4096), (1, 1), (4, 28), (16, 16)])
def test_matches_are_those_of_the_double_loop_both_ways(
    n_a: int, n_b: int, d: int, blocks: tuple[int, int]
) -> None:
    a, b = vectors(n_a, d, 1), 7.0 * vectors(n_b, d, 2)
    table = cosines(a, b)
    to_b, to_a = best_matches(a, b, Blocking(*blocks))
    assert_best(to_b, table)
    assert_best(to_a, turned(table))


@pytest.mark.parametrize("n_a", [255, 256, 257, 511, 513])
@pytest.mark.parametrize("n_b", [4096, 4097])
def test_real_block_borders_lose_nobody(n_a: int, n_b: int) -> None:
    a, b = vectors(n_a, 6, n_a), vectors(n_b, 6, n_b)
    # the best partners lie right at the borders
    b[-1], b[-2], a[-1], a[-2] = a[3], a[5], b[11], b[13]
    table = unit_rows(a.astype(np.float64)) @ unit_rows(b.astype(np.float64)).T
    to_b, to_a = best_matches(a, b)
    np.testing.assert_array_equal(to_b.partner[[3, 5], 0], [n_b - 1, n_b - 2])
    np.testing.assert_array_equal(to_a.partner[[11, 13], 0], [n_a - 1, n_a - 2])
    for matches, own in ((to_b, table), (to_a, table.T)):
        chosen = own[np.arange(len(own)), matches.partner[:, 0]]
        np.testing.assert_allclose(chosen, own.max(axis=1), rtol=0, atol=ROUNDING)
        np.testing.assert_allclose(matches.similarity[:, 0], chosen, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("blocks", [(1, 1), (1, 100), (5, 15), (7, 7), (64, 64)])
def test_the_blocks_do_not_show_in_the_result(blocks: tuple[int, int]) -> None:
    a, b = vectors(120, 128, 1), vectors(150, 128, 2)
    expected = best_matches(a, b)
    for threads in (None, 1, 3):
        again = match(a, b, MatchRule(), threads=threads, blocking=Blocking(*blocks))
        for got, want in zip(again, expected, strict=True):
            np.testing.assert_array_equal(got.partner, want.partner)
            np.testing.assert_array_equal(got.similarity, want.similarity)


@pytest.mark.parametrize("n_extra", [0, 1, 5])
def test_of_equal_rows_the_lowest_is_taken_also_across_blocks(n_extra: int) -> None:
    # 256 rows fill a block; a single row behind it is multiplied by another routine, which
    # rounds otherwise
    a = vectors(256 + n_extra, 128, 3)
    b = vectors(700, 128, 4) + 3 * a[5]
    a[200] = a[5]
    a[256:] = a[5]
    b[[40, 699]] = b[7]
    to_b, to_a = best_matches(a, b)
    assert not np.isin(to_a.partner, [200, *range(256, 256 + n_extra)]).any()
    assert (to_a.partner == 5).mean() > 0.9
    assert not np.isin(to_b.partner, [40, 699]).any()
    same = to_b.partner[[200, *range(256, len(a))]]
    np.testing.assert_array_equal(same, np.broadcast_to(to_b.partner[5], same.shape))


@pytest.mark.parametrize("blocks", [(256, 4096), (1, 1), (2, 2), (1, 2)])
def test_of_different_rows_of_equal_similarity_the_lowest_is_taken(blocks: tuple[int, int]) -> None:
    one, two, three, four = np.eye(4)
    a, b = np.stack([one, two, three]), np.stack([four, -four, one + two, one - two, one + three])
    to_b, to_a = best_matches(a, b, Blocking(*blocks))
    np.testing.assert_array_equal(to_b.partner[:, 0], [2, 2, 4])
    np.testing.assert_array_equal(to_a.partner[:, 0], [0, 0, 0, 0, 0])


def test_identical_sets_find_themselves_with_similarity_1() -> None:
    a = vectors(300, 16, 5)
    for matches in best_matches(a, a.copy()):
        np.testing.assert_array_equal(matches.partner[:, 0], np.arange(300))
        np.testing.assert_array_equal(matches.similarity, np.ones((300, 1)))


def test_scale_does_not_count_and_opposites_are_minus_1() -> None:
    a = np.array([[1.0, 0.0], [0.0, 2.0]])
    b = np.array([[0.0, 1e-6], [1e6, 0.0]])
    to_b, _ = best_matches(a, b)
    np.testing.assert_array_equal(to_b.partner[:, 0], [1, 0])
    np.testing.assert_array_equal(to_b.similarity[:, 0], [1, 1])
    to_b, to_a = best_matches(a[:1], -3 * a[:1])
    assert (to_b.similarity[0, 0], to_a.similarity[0, 0]) == (-1.0, -1.0)


def test_a_zero_row_is_similar_to_nothing() -> None:
    a, b = np.array([[0.0, 0.0], [1.0, 1.0]]), np.array([[-1.0, -1.0], [0.0, 0.0]])
    to_b, to_a = best_matches(a, b)
    np.testing.assert_array_equal(to_b.partner[:, 0], [0, 1])  # all equal: lowest; 0 beats -1
    np.testing.assert_array_equal(to_b.similarity[:, 0], [0, 0])
    np.testing.assert_array_equal(to_a.partner[:, 0], [0, 0])
    np.testing.assert_array_equal(to_a.similarity[:, 0], [0, 0])


def test_permuting_b_permutes_the_indices_alone() -> None:
    a, b = vectors(90, 24, 6), vectors(110, 24, 7)
    order = np.random.default_rng(8).permutation(110)
    (to_b, to_a), (to_shuffled, shuffled_to_a) = best_matches(a, b), best_matches(a, b[order])
    np.testing.assert_array_equal(order[to_shuffled.partner], to_b.partner)
    np.testing.assert_array_equal(to_shuffled.similarity, to_b.similarity)
    np.testing.assert_array_equal(shuffled_to_a.partner, to_a.partner[order])
    np.testing.assert_array_equal(shuffled_to_a.similarity, to_a.similarity[order])


def test_swapping_the_sides_swaps_the_result() -> None:
    a, b = vectors(90, 24, 6), vectors(310, 24, 7)
    for got, want in zip(best_matches(b, a), best_matches(a, b)[::-1], strict=True):
        np.testing.assert_array_equal(got.partner, want.partner)
        np.testing.assert_array_equal(got.similarity, want.similarity)


def test_faiss_agrees() -> None:
    a, b = vectors(400, 32, 9), vectors(600, 32, 10)
    index = faiss.IndexFlatIP(32)
    index.add(unit_rows(b))
    value, partner = index.search(unit_rows(a), 1)
    to_b, _ = best_matches(a, b)
    np.testing.assert_array_equal(to_b.partner, partner)
    np.testing.assert_allclose(to_b.similarity, value, rtol=0, atol=ROUNDING)


@given(
    a=npst.arrays(
        np.float32, st.tuples(st.integers(1, 9), st.just(3)), elements=st.integers(-2, 2)
    ),
    b=npst.arrays(
        np.float32, st.tuples(st.integers(1, 9), st.just(3)), elements=st.integers(-2, 2)
    ),
)
def test_small_whole_numbers_with_all_their_ties(a: np.ndarray, b: np.ndarray) -> None:
    table = cosines(a, b)
    to_b, to_a = best_matches(a, b)
    assert_best(to_b, table)
    assert_best(to_a, turned(table))
    for matches, others in ((to_b, b), (to_a, a)):
        for partner in matches.partner[:, 0]:
            assert partner == others.tolist().index(others[partner].tolist())


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (np.ones((3, 2)), np.ones((3, 4))),
        (np.ones(3), np.ones((3, 1))),
        (np.ones((0, 2)), np.ones((3, 2))),
        (np.ones((3, 2)), np.ones((0, 2))),
    ],
)
def test_shapes_that_do_not_fit_are_refused(a: np.ndarray, b: np.ndarray) -> None:
    with pytest.raises(ValueError, match="shapes"):
        best_matches(a, b)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("side", [0, 1])
def test_values_that_are_not_finite_are_refused(bad: float, side: int) -> None:
    pair = [vectors(4, 3), vectors(5, 3)]
    pair[side][2, 1] = bad
    with pytest.raises(ValueError, match="not finite"):
        best_matches(pair[0], pair[1])


def test_inputs_are_left_as_they_were() -> None:
    a, b = vectors(5, 3), vectors(6, 3)
    kept = a.copy(), b.copy()
    best_matches(a, b)
    np.testing.assert_array_equal(a, kept[0])
    np.testing.assert_array_equal(b, kept[1])


@given(
    sizes_a=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    sizes_b=st.lists(st.integers(1, 7), min_size=1, max_size=4),
    seed=st.integers(0, 99),
)
def test_equal_partners_are_dealt_out_evenly(
    sizes_a: list[int], sizes_b: list[int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    group_of_a = rng.permutation(np.repeat(np.arange(len(sizes_a)), sizes_a))
    group_of_b = rng.permutation(np.repeat(np.arange(len(sizes_b)), sizes_b))
    value = rng.uniform(size=len(sizes_a)).astype(np.float32)
    best = Matches(rng.integers(0, len(sizes_b), len(sizes_a))[:, None], value[:, None])
    got = spread_ties(group_of_a, group_of_b, best, np.random.default_rng(seed))
    np.testing.assert_array_equal(group_of_b[got.partner], best.partner[group_of_a])
    np.testing.assert_array_equal(got.similarity[:, 0], value[group_of_a])
    uses = Counter(got.partner[:, 0].tolist())
    for target in set(best.partner[:, 0].tolist()):
        counts = [uses[row] for row in np.flatnonzero(group_of_b == target).tolist()]
        assert max(counts) - min(counts) <= 1


def test_dealing_follows_the_generator_and_draws_each_round_anew() -> None:
    group_of_a, group_of_b = np.zeros(40, dtype=np.int64), np.zeros(10, dtype=np.int64)
    best = Matches(np.array([[0]]), np.array([[0.5]], dtype=np.float32))

    def deal(seed: int) -> list[list[int]]:
        rng = np.random.default_rng(seed)
        partner = spread_ties(group_of_a, group_of_b, best, rng).partner
        return [round_.tolist() for round_ in partner.reshape(4, 10)]

    assert deal(1) == deal(1)
    assert deal(1) != deal(2)
    rounds = deal(1)
    assert all(sorted(one) == list(range(10)) for one in rounds)
    assert len({tuple(one) for one in rounds}) == 4


def test_dealing_serves_each_rank_and_leaves_out_who_has_no_group() -> None:
    group_of_a, group_of_b = np.repeat([0, 1], 6), np.repeat([0, 1, 2], 3)
    similar = np.array([[0.9, 0.5], [np.nan, np.nan]], dtype=np.float32)
    best = Matches(np.array([[2, 0], [-1, -1]]), similar)
    got = spread_ties(group_of_a, group_of_b, best, np.random.default_rng(0))
    assert sorted(got.partner[:6, 0].tolist()) == [6, 6, 7, 7, 8, 8]
    assert sorted(got.partner[:6, 1].tolist()) == [0, 0, 1, 1, 2, 2]
    np.testing.assert_array_equal(got.partner[6:], np.full((6, 2), -1))
    np.testing.assert_array_equal(got.similarity, np.repeat(similar, 6, axis=0))


def test_weights_in_closed_form() -> None:
    similarity_values = np.array([0.2, 0.6, 1.0], dtype=np.float32)
    np.testing.assert_allclose(
        normalise_weights(similarity_values, "minmax_mean1"), [0, 1, 2], atol=1e-6
    )
    np.testing.assert_array_equal(normalise_weights(similarity_values, "raw"), similarity_values)
    np.testing.assert_array_equal(normalise_weights(similarity_values, "none"), [1, 1, 1])
    raised = [math.exp(2.0), math.exp(6.0), math.exp(10.0)]
    np.testing.assert_allclose(
        normalise_weights(similarity_values, "softmax"),
        [3 * value / sum(raised) for value in raised],
        rtol=1e-5,
    )


@given(
    npst.arrays(np.float32, st.integers(1, 50), elements=st.floats(-1, 1, width=32)),
    st.sampled_from(RULES),
)
def test_weights_have_mean_1_are_never_negative_and_keep_the_order(
    values: np.ndarray, rule: str
) -> None:
    got = normalise_weights(values, rule)
    assert got.dtype == np.float32
    assert got.shape == values.shape
    assert np.isfinite(got).all()
    assert (np.diff(got[np.argsort(values)]) >= 0).all()
    if rule != "raw":
        assert got.min() >= 0
        assert abs(float(got.mean(dtype=np.float64)) - 1) < 1e-5


@pytest.mark.parametrize("rule", ["minmax_mean1", "softmax", "none"])
def test_constant_similarity_weighs_1(rule: str) -> None:
    values = np.full(5, 0.7, dtype=np.float32)
    np.testing.assert_array_equal(normalise_weights(values, rule), np.ones(5))
    assert len(normalise_weights(values[:0], rule)) == 0


def test_unknown_weight_rule_is_refused() -> None:
    with pytest.raises(ValueError, match="linear"):
        normalise_weights(np.ones(2), "linear")
