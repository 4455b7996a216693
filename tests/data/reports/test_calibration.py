"""What a similarity is worth, and which pairs stand for all: against naive counting."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmbind_data.reports.calibration import MAX_BINS, PAIRS_PER_BIN, calibrate, chance, wilson
from mmbind_data.reports.pair_cards import OUTCOMES, PLACES, draw_pairs
from mmbind_data.reports.tables import JudgedPairs

# few values, so that many are equal
pairs_of = st.lists(st.tuples(st.integers(-20, 20), st.booleans()), min_size=1, max_size=300)


@given(pairs_of)
def test_bins_hold_every_pair_once_and_equal_ones_together(pairs: list[tuple[int, bool]]) -> None:
    similarity = np.array([value / 20 for value, _ in pairs], dtype=np.float32)
    right = np.array([flag for _, flag in pairs])
    found = calibrate(similarity, right)
    assert 1 <= len(found.n) <= min(MAX_BINS, max(1, len(pairs) // PAIRS_PER_BIN))
    assert (found.high[:-1] < found.low[1:]).all()
    for i in range(len(found.n)):
        mine = [flag for value, flag in zip(similarity.tolist(), right.tolist(), strict=True)
                if found.low[i] <= value <= found.high[i]]  # fmt: skip
        assert (found.n[i], found.n_right[i]) == (len(mine), sum(mine))
        assert found.low[i] <= found.middle[i] <= found.high[i]
        assert found.lower[i] <= found.share[i] + 1e-12
        assert found.share[i] <= found.upper[i] + 1e-12
    assert found.n.sum() == len(pairs)
    counted = list(zip(similarity.tolist(), right.tolist(), strict=True))
    wins = [
        (one > other) + 0.5 * (one == other)
        for one, a in counted if a for other, b in counted if not b
    ]  # fmt: skip
    if wins:
        assert found.order == pytest.approx(sum(wins) / len(wins))
    else:
        assert math.isnan(found.order)


def test_bins_are_of_equal_count_where_values_differ() -> None:
    similarity = np.random.default_rng(0).permutation(1000).astype(np.float32)
    found = calibrate(similarity, similarity > 500)
    assert found.n.tolist() == [100] * 10
    assert found.low.tolist() == [100.0 * i for i in range(10)]
    assert found.n_right.tolist() == [0] * 5 + [99] + [100] * 4
    assert found.order == 1.0


def test_the_interval_is_where_the_score_test_does_not_reject() -> None:
    n_right, n = np.array([0, 1, 5, 43, 99]), np.array([10, 10, 10, 43, 400])
    lower, upper = wilson(n_right, n)
    for k, size, low, high in zip(n_right, n, lower, upper, strict=True):
        for edge in {low, high} - {0.0, 1.0}:
            score = abs(k / size - edge) / math.sqrt(edge * (1 - edge) / size)
            assert score == pytest.approx(1.959964, abs=1e-5)
    # published: 5 of 10
    assert [lower[2], upper[2]] == pytest.approx([0.2366, 0.7634], abs=1e-4)
    assert (lower[0], upper[3]) == (0.0, 1.0)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_interval_holds_the_share_and_narrows(share: float) -> None:
    n = np.array([50.0, 5000.0, 50.0])
    lower, upper = wilson(share * n, n, 1.645)
    assert (lower <= share + 1e-9).all()
    assert (share <= upper + 1e-9).all()
    width = upper - lower
    assert width[1] < width[0] == width[2] < np.diff(wilson(share * n, n), axis=0)[0, 0]


def test_chance_is_the_mean_over_all_ways_to_deal() -> None:
    confusion = {"a": {"a": 3, "b": 1}, "b": {"a": 1, "c": 2}}
    rows, columns = "aaaabbb", "aaabacc"
    hits = np.mean([one == other for one in rows for other in columns])
    both = {"directions": [{"confusion": confusion}, {"confusion": {}}]}
    assert chance(both) == pytest.approx(hits)
    assert chance({"directions": [{"confusion": {}}]}) is None


def judged_of(similarity: Any, outcome: list[int]) -> JudgedPairs:
    n = len(outcome)
    zeros, numbers = np.zeros(n, dtype=np.int64), np.arange(n)
    kind = np.array(outcome)
    return JudgedPairs(
        document={}, hop=zeros, rank=zeros, direction=zeros, anchor=numbers, partner=numbers,
        row=numbers, similarity=np.asarray(similarity, dtype=np.float32),
        weight=np.ones(n, dtype=np.float32), judged=kind < 2, right=kind == 0,
    )  # fmt: skip


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 2)), max_size=80), st.integers(0, 30))
def test_draws_are_different_pairs_spread_evenly(pairs: list[tuple[int, int]], n: int) -> None:
    judged = judged_of([value for value, _ in pairs], [kind for _, kind in pairs])
    drawn = draw_pairs(judged, n, np.random.default_rng(0))
    assert len(drawn) == len({one.pair for one in drawn}) == min(n, len(pairs))
    for one in drawn:
        assert one.outcome == OUTCOMES[pairs[one.pair][1]]
    sizes = Counter(kind for _, kind in pairs)
    counts = Counter((one.outcome, one.place) for one in drawn)
    for kind, outcome in enumerate(OUTCOMES):
        values: dict[str, list[int]] = {place: [] for place in PLACES}
        for one in drawn:
            if one.outcome == outcome:
                values[one.place].append(pairs[one.pair][0])
        for better, worse in (("best", "median"), ("median", "worst"), ("best", "worst")):
            if values[better] and values[worse]:
                assert min(values[better]) >= max(values[worse])
        # a stratum gets less than another only if it has no more
        for place in PLACES:
            if counts[outcome, place] < max(counts.values(), default=0) - 1:
                assert counts[outcome, place] >= sizes[kind] // 3


def test_best_median_and_worst_are_what_they_are_called() -> None:
    similarity = np.random.default_rng(1).permutation(1000)
    judged = judged_of(similarity, [0] * 1000)
    seen: dict[str, set[int]] = {place: set() for place in PLACES}
    for seed in range(40):
        for one in draw_pairs(judged, 9, np.random.default_rng(seed)):
            seen[one.place].add(int(similarity[one.pair]))
    assert min(seen["best"]) >= 900
    assert max(seen["worst"]) < 100
    assert min(seen["median"]) >= 449
    assert max(seen["median"]) <= 550
    assert all(len(values) > 50 for values in seen.values())


def test_pairs_of_unknown_similarity_are_not_drawn() -> None:
    judged = judged_of([np.nan, 0.5, np.nan], [0, 0, 1])
    assert [one.pair for one in draw_pairs(judged, 20, np.random.default_rng(0))] == [1]
