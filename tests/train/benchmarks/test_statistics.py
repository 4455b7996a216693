"""Statistics of a benchmark against closed forms and naive loops."""

from __future__ import annotations

import itertools
import statistics

import numpy as np
import pytest

from mmbind_train.benchmarks.statistics import Score, compare, interval, reached, summarise


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


def test_interval_of_two_values_is_the_two_values() -> None:
    # resamples of (a, b): a, a | a, b | b, a | b, b: a quarter each at both ends
    for splits in ("ss", "st"):
        assert interval(np.array([0.02, 0.08]), splits) == (0.02, 0.08)
        assert interval(np.array([0.05, 0.05]), splits) == (0.05, 0.05)
    assert interval(np.array([0.05]), "s") == (None, None)


def test_interval_agrees_with_all_resamples() -> None:
    """Every resample of both levels is equally likely: exact quantiles by counting them all."""
    groups = {"s": [-0.04, 0.01], "t": [0.02, 0.05], "u": [0.11, 0.17]}
    means = [
        np.mean(seeds)
        for taken in itertools.product(groups, repeat=3)
        for seeds in itertools.product(*(groups[name] for name in taken for _ in range(2)))
    ]
    values = np.concatenate(list(groups.values()))
    low, high = interval(values, "ssttuu")
    assert low == pytest.approx(np.quantile(means, 0.025), abs=0.004)
    assert high == pytest.approx(np.quantile(means, 0.975), abs=0.004)
    assert interval(values, "ssttuu") == (low, high)
    one = [np.mean(seeds) for seeds in itertools.product(values, repeat=6)]
    low, high = interval(values, "ssssss")  # of one split
    assert low == pytest.approx(np.quantile(one, 0.025), abs=0.004)
    assert high == pytest.approx(np.quantile(one, 0.975), abs=0.004)


def test_interval_of_unequal_splits_is_that_of_a_naive_loop() -> None:
    rng = np.random.default_rng(1)
    groups = [rng.normal(mean, 0.02, size) for mean, size in ((0, 5), (0.1, 2), (0.05, 1))]
    means = []
    for _ in range(20_000):
        drawn: list[float] = []
        for _ in groups:
            group = groups[rng.integers(3)]
            drawn += [group[rng.integers(len(group))] for _ in group]
        means.append(sum(drawn) / len(drawn))
    found = interval(np.concatenate(groups), "sssssttu")
    assert found == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])), abs=0.004)


def test_seeds_do_not_stand_in_for_splits() -> None:
    # the mean of three draws of (0.1, 0, 0) is 0.1 once in 27, more than 1 in 40
    values = np.repeat([0.10, 0, 0], 5)
    splits = np.repeat(["s", "t", "u"], 5).tolist()
    assert interval(values, splits) == pytest.approx((0, 0.1))
    low, high = interval(values, ["s"] * 15)
    assert low is not None
    assert high is not None
    assert high < 0.07  # as if all fifteen were independent


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
    assert found["upper_bound"].low == pytest.approx(0.09)
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
