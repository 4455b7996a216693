"""Binding by time and place against loops over all pairs."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from mmbind_data.errors import BindingError
from mmbind_data.matching.candidates import Matches
from mmbind_data.matching.time_and_place import EARTH_RADIUS_M, haversine, match_places, match_times

Span = tuple[int, int]


def naive_times(a: list[Span], b: list[Span], window: int) -> list[tuple[int, float]]:
    """Spans in whole seconds, so that everything is exact."""
    found = []
    for start, end in a:
        best, chosen = -math.inf, -1
        for row, (first, last) in enumerate(b):
            overlap = min(end, last) - max(start, first)
            if overlap > best:
                best, chosen = overlap, row
        longer = max(end - start, b[chosen][1] - b[chosen][0])
        if -best > window:
            found.append((-1, math.nan))
        elif best > 0:
            found.append((chosen, 0.5 + 0.5 * best / longer))
        elif best == 0 and longer == 0:
            found.append((chosen, 1.0))
        else:
            found.append((chosen, 0.5 + 0.5 * best / window if window else 0.5))
    return found


def columns(spans: list[Span]) -> tuple[np.ndarray, np.ndarray]:
    table = np.array(spans, dtype=np.float64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def check(matches: Matches, expected: list[tuple[int, float]]) -> None:
    assert matches.partner.shape == matches.similarity.shape == (len(expected), 1)
    assert matches.partner.dtype == np.int64
    assert matches.similarity.dtype == np.float32
    assert matches.partner[:, 0].tolist() == [row for row, _ in expected]
    assert_allclose(matches.similarity[:, 0], [value for _, value in expected], atol=1e-6)


spans = st.lists(
    st.tuples(st.integers(0, 30), st.integers(0, 12)).map(lambda s: (s[0], s[0] + s[1])),
    min_size=1,
    max_size=24,
)


@given(spans, spans, st.integers(0, 6))
@settings(max_examples=300, deadline=None)
def test_times_match_the_loop_over_all_pairs(a: list[Span], b: list[Span], window: int) -> None:
    to_b, to_a = match_times(*columns(a), *columns(b), window_s=window)
    check(to_b, naive_times(a, b, window))
    check(to_a, naive_times(b, a, window))


@given(spans, spans, st.integers(-(10**6), 10**6))
@settings(max_examples=100, deadline=None)
def test_only_differences_of_time_count(a: list[Span], b: list[Span], shift: int) -> None:
    before, _ = match_times(*columns(a), *columns(b), window_s=2)
    moved = [[(s + shift, e + shift) for s, e in side] for side in (a, b)]
    after, _ = match_times(*columns(moved[0]), *columns(moved[1]), window_s=2)
    assert_array_equal(before.partner, after.partner)
    assert_array_equal(before.similarity, after.similarity)


@given(spans, st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_permuting_one_side_only_renumbers(a: list[Span], seed: int) -> None:
    b = [(3 * k, 3 * k + 2) for k in range(12)]  # nobody overlaps two of them equally, or else:
    a = [(s, e) for s, e in a if len({min(e, y) - max(s, x) for x, y in b}) == len(b)]
    if not a:
        return
    order = np.random.default_rng(seed).permutation(len(b))
    plain, _ = match_times(*columns(a), *columns(b), window_s=2)
    shuffled, _ = match_times(*columns(a), *columns([b[k] for k in order]), window_s=2)
    renumbered = np.where(shuffled.partner >= 0, order[shuffled.partner], -1)
    assert_array_equal(renumbered, plain.partner)


def test_groups_have_their_own_clocks() -> None:
    start = np.array([0.0, 10.0, 0.0, 10.0])
    times = start, start + 2, start[::-1], start[::-1] + 2
    group_a, group_b = np.array(["x", "x", "y", "y"]), np.array(["y", "y", "z", "z"])
    to_b, to_a = match_times(*times, window_s=1, group_a=group_a, group_b=group_b)
    assert to_b.partner[:, 0].tolist() == [-1, -1, 1, 0]
    assert to_a.partner[:, 0].tolist() == [3, 2, -1, -1]
    assert np.isnan(to_b.similarity[:2]).all()
    assert to_b.similarity[2:, 0].tolist() == [1.0, 1.0]


def test_epoch_times_keep_their_microseconds() -> None:
    start = 1.7e9 + np.array([0.0, 0.5, 1.0])
    to_b, _ = match_times(start, start + 0.5, start + 0.001, start + 0.501, window_s=0)
    assert to_b.partner[:, 0].tolist() == [0, 1, 2]
    assert_allclose(to_b.similarity[:, 0], 0.5 + 0.5 * 0.499 / 0.5, atol=1e-6)


def test_memory_does_not_grow_with_all_pairs() -> None:
    import tracemalloc

    rng = np.random.default_rng(0)
    n = 10_000
    start = np.sort(rng.uniform(0, 1000, n))  # hundreds of overlaps each, some spanning all
    length = rng.exponential(20, n)
    length[::1000] = 1000
    tracemalloc.start()
    match_times(start, start + length, start, start + length, window_s=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40e6  # one byte per pair would be 100 MB


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        ([], [], "side A: expected a start and an end per sample"),
        ([0.0], [1.0, 2.0], "shapes (1,) and (2,)"),
        ([0.0, math.nan], [1.0, 2.0], "side A, row 1"),
        ([0.0, 5.0], [1.0, 4.0], "5.0 to 4.0"),
    ],
)
def test_times_that_are_none(start: list[float], end: list[float], message: str) -> None:
    with pytest.raises(BindingError, match=re.escape(message)):
        match_times(np.array(start), np.array(end), np.zeros(1), np.ones(1), window_s=1)


def test_window_and_groups_are_checked() -> None:
    one = np.zeros(1)
    for window in (-1.0, math.nan):
        with pytest.raises(BindingError, match="bad window"):
            match_times(one, one, one, one, window_s=window)
    with pytest.raises(BindingError, match="groups of both or none"):
        match_times(one, one, one, one, window_s=1, group_a=one)


def naive_distance(one: list[float], other: list[float]) -> float:
    """Angle between two vectors, in metres: not the haversine formula."""
    vectors = []
    for lat, lon in (one, other):
        lat, lon = math.radians(lat), math.radians(lon)
        vectors.append(
            (math.cos(lat) * math.cos(lon), math.cos(lat) * math.sin(lon), math.sin(lat))
        )
    u, v = vectors
    cross = (u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0])
    dot = sum(x * y for x, y in zip(u, v, strict=True))
    return EARTH_RADIUS_M * math.atan2(math.sqrt(sum(x * x for x in cross)), dot)


grid = st.lists(
    st.tuples(st.integers(-6, 6), st.integers(-6, 6)).map(
        lambda p: [51.0 + p[0] / 100, 7.0 + p[1] / 100]
    ),
    min_size=1,
    max_size=15,
)


@given(grid, grid, st.sampled_from([1.0, 1500.0, 20e3]))
@settings(max_examples=100, deadline=None)
def test_places_match_the_loop_over_all_pairs(
    a: list[list[float]], b: list[list[float]], radius: float
) -> None:
    expected = []
    for one in a:
        distances = [round(naive_distance(one, other), 3) for other in b]
        row = distances.index(min(distances))
        near = distances[row] <= radius
        expected.append((row, 1 - distances[row] / radius) if near else (-1, math.nan))
    check(match_places(np.array(a), np.array(b), radius_m=radius)[0], expected)


@given(grid, grid, st.sampled_from([0.004, 0.011, 1.0]), st.booleans())
@settings(max_examples=60, deadline=None)
def test_points_of_a_plane_match_the_loop_over_all_pairs(
    a: list[list[float]], b: list[list[float]], radius: float, grouped: bool
) -> None:
    groups = ([row % 2 for row in range(len(a))], [row % 3 for row in range(len(b))])
    expected: list[tuple[int, float]] = []
    for one, group in zip(a, groups[0], strict=True):
        rows = [k for k in range(len(b)) if not grouped or groups[1][k] == group]
        near = [(round(math.dist(one, b[row]), 3), row) for row in rows]
        distance, row = min(near, default=(math.inf, -1))
        expected.append((row, 1 - distance / radius) if distance <= radius else (-1, math.nan))
    codes = [np.array(codes) if grouped else None for codes in groups]
    got = match_places(
        np.array(a), np.array(b), radius_m=radius, plane=True, group_a=codes[0], group_b=codes[1]
    )
    check(got[0], expected)


def test_distances_known_on_a_sphere() -> None:
    quarter = math.pi / 2 * EARTH_RADIUS_M
    assert_allclose(haversine(np.array([0.0, 0.0]), np.array([90.0, 55.0])), quarter)
    assert_allclose(haversine(np.array([0.0, -180.0]), np.array([0.0, 180.0])), 0.0, atol=1e-6)
    # over the date line there is no gap
    to_b, to_a = match_places(np.array([[0.0, 180.0]]), np.array([[0.0, -180.0]]), radius_m=1)
    assert to_b.partner[0, 0] == to_a.partner[0, 0] == 0


def test_places_that_are_none() -> None:
    good = np.array([[51.0, 7.0]])
    for bad in (
        np.zeros((0, 2)),
        np.zeros(2),
        np.array([[91.0, 0.0]]),
        np.array([[0.0, math.nan]]),
    ):
        with pytest.raises(BindingError, match="bad places at side B"):
            match_places(good, bad, radius_m=1)
    with pytest.raises(BindingError, match="bad radius"):
        match_places(good, good, radius_m=0)
    with pytest.raises(BindingError, match="finite x and y"):
        match_places(good, np.array([[math.inf, 0.0]]), radius_m=1, plane=True)
    match_places(good, np.array([[9e9, 181.0]]), radius_m=1, plane=True)
    with pytest.raises(BindingError, match="groups of both or none"):
        match_places(good, good, radius_m=1, group_a=np.zeros(1))
