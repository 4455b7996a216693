"""Measures of advice against loops and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive import cosine, cosines, turned
from numpy.testing import assert_allclose, assert_array_equal

from mmbind_data.binding import suitability as suit
from mmbind_data.spec.descriptor import Axis, Modality

seeds = st.integers(0, 10_000)


def modality(kind: str, shape: tuple[int, ...]) -> Modality:
    names = {1: ("time",), 2: ("time", "channel"), 3: ("time", "joint", "coordinate")}[len(shape)]
    axes = tuple(Axis(name=name, size=size) for name, size in zip(names, shape, strict=True))
    return Modality.model_validate({"kind": kind, "unit": "x", "axes": axes})


@given(seeds)
@settings(max_examples=25, deadline=None)
def test_cosines_and_their_correction(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(rng.integers(2, 8), 3)), rng.normal(size=(rng.integers(2, 8), 3))
    a[0] = 0
    k = int(rng.integers(1, 10))
    plain = cosines(a, b)
    assert_allclose(suit.cosines(a, b), plain, atol=1e-6)
    mean = [sum(sorted(row)[::-1][:k]) / min(k, len(row)) for row in plain]
    other = [sum(sorted(column)[::-1][:k]) / min(k, len(column)) for column in turned(plain)]
    expected = [
        [2 * value - mean[j] - other[i] for i, value in enumerate(row)]
        for j, row in enumerate(plain)
    ]
    assert_allclose(suit.csls_of_products(np.array(plain), k), expected, atol=1e-6)


def naive_agreement(vectors: np.ndarray, label: list[int], group: list[int]) -> float:
    shares = []
    rows = [i for i in range(len(label)) if label[i] >= 0]
    for i in rows:
        others = [j for j in rows if group[j] != group[i]]
        others.sort(key=lambda j: -round(cosine(vectors[i].tolist(), vectors[j].tolist()), 6))
        nearest = others[: suit.LABEL_K]
        shares.append(sum(label[j] == label[i] for j in nearest) / len(nearest))
    return sum(shares) / len(shares)


@given(seeds)
@settings(max_examples=40, deadline=None)
def test_label_agreement_asks_other_groups_only(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(6, 25))
    vectors = rng.integers(-2, 3, size=(n, 3)).astype(float)  # many ties
    label, group = rng.integers(-1, 3, n), rng.integers(0, 3, n)
    found = suit.label_agreement(vectors, label, group)
    known = label >= 0
    if len(set(label[known].tolist())) < 2 or len(set(group[known].tolist())) < 2:
        assert found is None
    else:
        expected = naive_agreement(vectors, label.tolist(), group.tolist())
        assert found == pytest.approx(expected, abs=1e-9)


def naive_round_trip(score: list[list[float]], label: list[int], group: list[int]) -> list[bool]:
    equal = []
    for i in range(len(label)):
        ends = [j for j in range(len(label)) if label[j] >= 0 and group[j] != group[i]]
        if label[i] < 0 or not ends:
            continue
        partner = score[i].index(max(score[i]))
        back = [score[j][partner] for j in ends]
        equal.append(label[ends[back.index(max(back))]] == label[i])
    return equal


@given(seeds)
@settings(max_examples=40, deadline=None)
def test_round_trips_against_a_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n_a, n_b = rng.integers(4, 20, 2)
    score = rng.integers(0, 6, size=(n_a, n_b)).astype(float)
    label, group = rng.integers(-1, 3, n_a), rng.integers(0, 3, n_a)
    found = suit.round_trip(score, label, group)
    known = label >= 0
    same = [
        sum(label[j] == label[i] and group[j] != group[i] for j in np.flatnonzero(known))
        for i in np.flatnonzero(known)
    ]
    few = len(same) == 0 or sum(same) / len(same) < suit.MIN_SAME
    if few or len(set(label[known].tolist())) < 2 or len(set(group[known].tolist())) < 2:
        assert found is None
        return
    expected = naive_round_trip(score.tolist(), label.tolist(), group.tolist())
    assert found is not None
    assert found[1] == len(expected)
    assert found[0] == pytest.approx(sum(expected) / len(expected))


@given(st.floats(0, 1), st.integers(2, 40))
def test_one_way_undoes_two_ways(share: float, n: int) -> None:
    chance = 1 / n
    p = chance + share * (1 - chance)
    assert suit.one_way(p**2 + (1 - p) ** 2 / (n - 1), n) == pytest.approx(p, abs=1e-6)
    assert suit.one_way(0.0, n) == pytest.approx(chance)  # never below chance


def test_round_trips_of_a_known_confusion_give_its_share_back() -> None:
    """Partners drawn with p right and the rest evenly wrong: p is found again from one side."""
    rng = np.random.default_rng(0)
    n_classes, n, p = 10, 6000, 0.6
    label = rng.integers(0, n_classes, n)
    other = rng.integers(0, n_classes, n)

    def answers(of: np.ndarray, among: np.ndarray) -> np.ndarray:
        wrong = (of + rng.integers(1, n_classes, len(of))) % n_classes
        target = np.where(rng.random(len(of)) < p, of, wrong)
        members = [np.flatnonzero(among == c) for c in range(n_classes)]
        return np.array([rng.choice(members[c]) for c in target.tolist()])

    partner, back = answers(label, other), answers(other, label)
    trip = (label[back[partner]] == label).mean()
    assert suit.one_way(float(trip), n_classes) == pytest.approx(p, abs=0.02)


def people(rng: np.random.Generator, n: int, shift: float) -> tuple[np.ndarray, np.ndarray]:
    """Four subjects, each off by a vector of their own; the side is off by `shift`."""
    group = np.arange(n) % 4
    vectors = rng.normal(size=(n, 8)) + rng.normal(size=(4, 8))[group] * 0.5
    vectors[:, 0] += shift
    return vectors, group


def test_a_distance_knows_a_shift_from_people() -> None:
    far: list[float] = []
    near: list[float] = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        a, group = people(rng, 160, 0.0)
        for shift, found in ((0.0, near), (12.0, far)):
            b, other = people(rng, 120, shift)
            found.append(suit.a_distance(a, b, group, other, seed=seed))
    assert min(far) > 1.4
    assert np.mean(near) < 0.5
    assert min(near) >= 0


def test_a_distance_without_subjects_cannot_leave_them_out() -> None:
    rng = np.random.default_rng(1)
    a, group = people(rng, 200, 0.0)
    b, other = people(rng, 200, 0.0)
    a[:, 1] += 3  # one person against another
    one = np.zeros(200, dtype=int)
    assert suit.a_distance(a, b, one, one, seed=0) > 1.0
    assert suit.a_distance(a, a, one, one, seed=0) < 0.3
    assert suit.a_distance(np.ones((9, 3)), np.ones((7, 3)), group[:9], other[:7]) == 0.0


def test_a_distance_is_the_same_for_the_same_seed() -> None:
    rng = np.random.default_rng(2)
    a, group = people(rng, 60, 0.0)
    b, other = people(rng, 50, 1.0)
    first = suit.a_distance(a, b, group, other, seed=3)
    assert suit.a_distance(a, b, group, other, seed=3) == first
    assert suit.a_distance(7 * a, 7 * b, group, other, seed=3) == pytest.approx(first, abs=1e-9)


def test_hubness_is_skewness_of_counts() -> None:
    score = np.zeros((6, 4))
    score[:, 2] = 1.0  # everybody's first
    # the count is 6 for one of four: skewness 2 / sqrt(3) for any one against n - 1 = 3 others
    assert suit.hubness(score, 1) == pytest.approx(2 / math.sqrt(3))
    assert suit.hubness(np.eye(5), 1) == 0.0
    assert suit.hubness(score, 9) == 0.0  # all four are among the nine nearest of all


@given(seeds)
@settings(max_examples=25, deadline=None)
def test_stability_counts_common_partners(seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, other = rng.integers(0, 9, size=(2, 5, 12)).astype(float)
    k = int(rng.integers(1, 8))
    kept = []
    for before, after in zip(one.tolist(), other.tolist(), strict=True):
        tops = [set(sorted(range(12), key=lambda c: -row[c])[:k]) for row in (before, after)]
        kept.append(len(tops[0] & tops[1]) / k)
    assert suit.stability(one, other, k) == pytest.approx(sum(kept) / 5)
    assert suit.stability(one, one, k) == 1.0


@pytest.mark.parametrize(
    ("kind", "shape"),
    [("inertial", (30, 3)), ("skeleton", (10, 5, 3)), ("signal", (40, 2)), ("image", (1, 6, 4))],
)
def test_perturbing_keeps_shape_and_stays_near(kind: str, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    values = np.cumsum(rng.normal(size=(200, *shape)), axis=1).astype(np.float32)
    changed = suit.perturb(values, modality(kind, shape), np.random.default_rng(1))
    again = suit.perturb(values, modality(kind, shape), np.random.default_rng(1))
    assert changed.shape == values.shape
    assert changed.dtype == np.float32
    assert_array_equal(changed, again)
    assert not np.array_equal(changed, values)
    own = [np.corrcoef(x.ravel(), y.ravel())[0, 1] for x, y in zip(values, changed, strict=True)]
    assert np.median(own) > 0.6


def test_perturbing_turns_vectors_as_a_whole() -> None:
    values = np.tile(np.array([0.0, 0.0, 9.8], dtype=np.float32), (400, 20, 1))
    changed = suit.perturb(values, modality("inertial", (20, 3)), np.random.default_rng(0))
    length = np.linalg.norm(changed, axis=2)
    # only the gain and the jitter of the (by now spread) channels change the length
    assert abs(length.mean() / 9.8 - 1) < 0.03
    tilt = np.arccos(np.clip(changed[:, 0, 2] / length[:, 0], -1, 1))
    assert 0.1 < tilt.mean() < 0.35  # two of three components of 0.15 rad each
