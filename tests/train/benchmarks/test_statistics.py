"""Statistics of a benchmark against closed forms and naive loops."""

from __future__ import annotations

import itertools
import statistics

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from mmbind_train.benchmarks.statistics import (
    Score,
    compare,
    interval,
    reached,
    sign_flip_p,
    summarise,
)


def score(row: str, seed: int, accuracy: float, **changes: object) -> Score:
    plain: dict[str, object] = {
        "row": row, "method": row, "split": "s", "seed": seed, "condition": "c",
        "accuracy": accuracy, "macro_f1": accuracy / 2, "paper_statistic": None, "n_finetune": 3,
        "n_test": 9, "n_classes": 3, "n_pairs": None, "pairing_accuracy": None,
        "pretrain_steps": 1, "pretrain_cpu_s": 1.0, "finetune_steps": 1, "finetune_cpu_s": 1.0,
        "joules": None,
    }  # fmt: skip
    return Score.model_validate(plain | changes)


def test_means_and_sample_deviations_are_those_of_the_library() -> None:
    rng = np.random.default_rng(0)
    values = {row: rng.random(6).tolist() for row in ("mim", "mmbind")}
    scores = [score(row, seed, values[row][seed]) for seed in range(6) for row in values]
    for one in summarise(scores):
        assert one.n == 6
        assert one.accuracy == pytest.approx(statistics.mean(values[one.row]))
        assert one.accuracy_std == pytest.approx(statistics.stdev(values[one.row]))
        halves = [value / 2 for value in values[one.row]]
        assert one.macro_f1_std == pytest.approx(statistics.stdev(halves))
    (alone,) = summarise(scores[:1])
    assert alone.accuracy_std is None


def test_interval_of_two_splits_is_that_of_the_table() -> None:
    # t with one degree of freedom, 97.5 %: 12.706
    half = 12.706 * statistics.stdev([0.02, 0.08]) / 2**0.5
    expected = pytest.approx((0.05 - half, 0.05 + half), abs=1e-4)
    assert interval(np.array([0.02, 0.08]), "st") == expected
    assert interval(np.array([0.05, 0.05]), "st") == (0.05, 0.05)
    assert interval(np.array([0.05]), "s") == (None, None)
    assert sign_flip_p(np.array([0.05]), "s") is None


def test_seeds_count_as_one_however_many_they_are() -> None:
    means = np.array([0.10, -0.01, 0.02])
    expected, p = interval(means, "stu"), sign_flip_p(means, "stu")
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.05, (3, 5))
    values = means[:, None] + noise - noise.mean(axis=1, keepdims=True)
    splits = np.repeat(["s", "t", "u"], 5).tolist()
    assert interval(values.ravel(), splits) == pytest.approx(expected)
    assert sign_flip_p(values.ravel(), splits) == p
    # unequal numbers of seeds: a split with many has no more to say
    unequal = np.concatenate([np.full(9, 0.10), [-0.01], [0.02, 0.02]])
    assert interval(unequal, "s" * 9 + "tuu") == pytest.approx(expected)
    # of one split: over its seeds
    alone = interval(values[0], "sssss")
    assert alone == pytest.approx(interval(values[0], "stuvw"))


@pytest.mark.parametrize("n", [3, 6])
def test_p_is_the_share_of_all_changes_of_sign(n: int) -> None:
    values = np.random.default_rng(n).normal(0.5, 1, n)
    means = [np.mean(values * signs) for signs in itertools.product([-1, 1], repeat=n)]
    expected = np.mean([abs(one) >= abs(values.mean()) - 1e-12 for one in means])
    assert sign_flip_p(values, "abcdef"[:n]) == pytest.approx(expected)
    assert sign_flip_p(np.arange(1.0, n + 1), "abcdef"[:n]) == pytest.approx(2 / 2**n)


def test_p_of_many_splits_is_drawn() -> None:
    values = np.random.default_rng(0).normal(0.3, 1, 20)
    p = sign_flip_p(values, [str(one) for one in range(20)])
    assert p == sign_flip_p(values, [str(one) for one in range(20)])
    assert p == pytest.approx(ttest_1samp(values, 0).pvalue, abs=0.03)


@pytest.mark.parametrize("n_splits", [3, 6])
def test_intervals_cover_what_they_promise(n_splits: int) -> None:
    """Simulated tables: people differ by 4 points, seeds of one by 3; the truth is 2 points."""
    rng = np.random.default_rng(0)
    splits = np.repeat([str(one) for one in range(n_splits)], 5).tolist()
    hits = 0
    for _ in range(2000):
        people = rng.normal(0.02, 0.04, n_splits)
        low, high = interval(np.repeat(people, 5) + rng.normal(0, 0.03, 5 * n_splits), splits)
        assert low is not None
        assert high is not None
        hits += low <= 0.02 <= high
    assert 0.935 < hits / 2000 < 0.965


def test_differences_are_paired_and_against_the_best_baseline() -> None:
    # a hard and an easy split: the spread between them must not count
    mim, lower, own = [0.2, 0.8], [0.3, 0.9], [0.35, 0.95]
    scores = [
        score(row, 0, values[k], split=f"s{k}")
        for row, values in (("mim", mim), ("lower_bound", lower), ("mmbind", own))
        for k in range(2)
    ] + [score("upper_bound", 0, 0.99, split=f"s{k}") for k in range(2)]
    found = {one.row: one for one in compare(scores)}
    assert set(found) == {"mim", "mmbind", "upper_bound"}
    assert {one.baseline for one in found.values()} == {"lower_bound"}
    assert found["mmbind"].mean == pytest.approx(0.05)
    assert found["mmbind"].low == pytest.approx(0.05)
    assert found["mmbind"].high == pytest.approx(0.05)
    assert found["upper_bound"].n == 2
    expected = interval(np.array([0.69, 0.09]), "st")
    assert (found["upper_bound"].low, found["upper_bound"].high) == pytest.approx(expected)
    assert found["mmbind"].p == pytest.approx(0.5)
    named = {one.row: one for one in compare(scores, "mmbind")}
    assert set(named) == {"mim", "lower_bound", "upper_bound"}
    assert {one.baseline for one in named.values()} == {"mmbind"}
    assert named["mim"].mean == pytest.approx(-0.15)
    assert compare(scores, "nobody") == ()


def test_a_baseline_whose_hard_cells_failed_is_not_the_best() -> None:
    accuracies = {"mim": [0.2, 0.9, 0.9], "dcm": [0.3, 0.92, 0.92], "mmbind": [0.4, 0.95, 0.95]}
    scores = [
        score(row, 0, each, split=f"s{k}")
        for row, values in accuracies.items()
        for k, each in enumerate(values)
        if (row, k) != ("mim", 0)  # its mean is the highest now
    ]
    found = {one.row: one for one in compare(scores)}
    assert set(found) == {"mim", "mmbind"}
    assert {one.baseline for one in found.values()} == {"dcm"}
    assert (found["mmbind"].n, found["mmbind"].n_splits) == (3, 3)
    assert (found["mim"].n, found["mim"].n_splits) == (2, 2)
    apart = [score("mim", 0, 0.5), score("dcm", 1, 0.5), score("mmbind", 0, 0.6)]
    assert compare(apart) == ()


def test_a_failed_cell_leaves_the_other_pairs() -> None:
    scores = [score("mim", seed, 0.5) for seed in range(3)]
    scores += [score("mmbind", seed, 0.5 + seed / 10) for seed in (0, 2)]
    (one,) = compare(scores)
    assert one.n == 2
    assert one.mean == pytest.approx(0.1)


def test_reached_tells_the_fewest_steps() -> None:
    curve = {10: 0.3, 25: 0.62, 50: 0.6, 100: 0.7}
    scores = [
        score("a", 0, accuracy, condition=str(n), finetune_steps=n, finetune_cpu_s=n)
        for n, accuracy in reversed(curve.items())
    ]
    found = reached(summarise(scores), [0.6, 0.7, 0.9])
    assert [one.steps for one in found] == [25, 100, None]
    assert found[0].cpu_s == 25
