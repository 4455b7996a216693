"""Grids and gaps against naive loops."""

from __future__ import annotations

import itertools
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mmbind_data.errors import RawLayoutError
from mmbind_data.signal.time_grid import bridge, common_grid, interpolate, spans_of, undelayed

NAN = float("nan")
# quarters are exact in binary: equality may be asked for
QUARTERS = st.integers(-400, 400).map(lambda quarters: quarters / 4)
TIMES = st.lists(QUARTERS, min_size=1, max_size=12, unique=True).map(
    lambda times: np.array(sorted(times))
)
STEPS = st.integers(1, 60).map(lambda quarters: quarters / 4)


def naive_value(times: np.ndarray, column: np.ndarray, at: float) -> float:
    for time, value in zip(times, column, strict=True):
        if time == at:
            return float(value)
    if at < times[0]:
        return float(column[0])
    if at > times[-1]:
        return float(column[-1])
    for k in range(len(times) - 1):
        if times[k] < at < times[k + 1]:
            rise = (column[k + 1] - column[k]) / (times[k + 1] - times[k])
            return float(column[k] + rise * (at - times[k]))
    raise AssertionError


def in_gap(times: np.ndarray, grid: np.ndarray, max_gap: float) -> np.ndarray:
    return interpolate(times, np.empty((len(times), 0)), grid, max_gap)[1]


def naive_gap(times: np.ndarray, at: float, max_gap: float) -> bool:
    return any(
        before < at < after and after - before > max_gap
        for before, after in itertools.pairwise(times)
    )


def naive_bridge(values: np.ndarray, max_frames: int) -> tuple[np.ndarray, list[bool]]:
    """Each missing frame on its own: look for the nearest whole frame on either side."""
    whole = [all(math.isfinite(value) for value in frame) for frame in values]
    filled = np.full(values.shape, NAN)
    missing = []
    for k in range(len(values)):
        before, after = k, k
        while before >= 0 and not whole[before]:
            before -= 1
        while after < len(values) and not whole[after]:
            after += 1
        if whole[k]:
            filled[k] = values[k]
        elif before >= 0 and after < len(values) and after - before - 1 <= max_frames:
            for c in range(values.shape[1]):
                rise = (values[after, c] - values[before, c]) / (after - before)
                filled[k, c] = values[before, c] + rise * (k - before)
        missing.append(bool(np.isnan(filled[k]).any()))
    return filled, missing


@given(st.lists(TIMES, min_size=1, max_size=4), STEPS)
def test_grid_holds_every_step_that_all_streams_cover(times: list[np.ndarray], step: float) -> None:
    expected = []
    at = max(min(one) for one in times)
    while all(at <= max(one) for one in times):
        expected.append(at)
        at += step
    assert common_grid(times, step).tolist() == expected


def days(n: float) -> float:
    return n * 86_400.0


BURST = np.arange(0, 4, 0.05)
REAL = {
    "4 s of every 10 min, for two weeks": ([BURST + 600 * k for k in range(2016)], 0.05),
    "a day, and another after three months": ([np.arange(86_400.0) + days(k) for k in (0, 90)], 1),
    "three readings, a day apart": ([np.array([0.0, days(1), days(2)])], 0.02),
    "a slow sensor on a fast grid": ([np.arange(0, 1000, 5.0)], 0.01),
}
ABSURD = {
    "0 before an hour at 50 Hz": (np.arange(0, 3600, 0.02), 0.02),
    "0 before ten days at 1 Hz": (np.arange(0, days(10), 1.0), 1.0),
    "0 before a month at 1 Hz": (np.arange(0, days(30), 1.0), 1.0),
    "0 before three days at 100 Hz": (np.arange(0, days(3), 0.01), 0.01),
}


@pytest.mark.parametrize("name", REAL)
def test_real_recordings_with_long_gaps_have_their_grid(name: str) -> None:
    parts, step = REAL[name]
    times = np.concatenate(parts)
    grid = common_grid([times], step, ["a.csv"], "s")
    assert len(grid) == int((times[-1] - times[0]) / step + 1e-9) + 1


@pytest.mark.parametrize("name", ABSURD)
@pytest.mark.parametrize("where", ["first", "last"])
def test_a_time_that_cannot_be_is_named_and_no_grid_made(name: str, where: str) -> None:
    times, step = ABSURD[name]
    times = times + 1_400_000_000.0
    if where == "first":
        times[0] = 0.0
        named = f"got 0 s followed by {times[1]:.15g} s"
    else:
        times[-1] = 9_999_999_999_999.0
        named = f"got {times[-2]:.15g} s followed by 9999999999999 s"
    with pytest.raises(RawLayoutError, match=rf" at a\.csv: expected .*{re.escape(named)}\. Mend"):
        common_grid([times], step, ["a.csv"], "s")


def test_of_two_streams_the_one_with_the_longest_gap_is_named() -> None:
    times = np.arange(0, 3600, 0.02) + 1_400_000_000.0
    one, two = (np.concatenate([[first], times]) for first in (9.0, 0.0))
    with pytest.raises(RawLayoutError, match=r"at b\.csv: .*got 0 s followed"):
        common_grid([one, two], 0.02, ["a.csv", "b.csv"], "s")
    assert len(common_grid([times, two], 0.02)) == 180_000  # what all streams cover is no longer


def test_grid_of_streams_that_do_not_meet_is_empty() -> None:
    assert common_grid([np.array([0.0, 1.0]), np.array([2.0, 3.0])], 0.5).shape == (0,)


def test_grid_of_streams_that_touch_is_one_point() -> None:
    assert common_grid([np.array([0.0, 1.0]), np.array([1.0, 3.0])], 0.5).tolist() == [1.0]


def test_grid_reaches_the_last_time_despite_rounding() -> None:
    """0.3 / 0.1 is below 3 in binary."""
    grid = common_grid([np.array([0.0, 0.3])], 0.1)
    np.testing.assert_allclose(grid, [0.0, 0.1, 0.2, 0.3])


def test_grid_does_not_drift_over_hours_of_milliseconds() -> None:
    start = 1435993159412.0
    grid = common_grid([np.array([start, start + 20.0 * 500_000])], 20.0)
    assert len(grid) == 500_001
    assert (np.diff(grid) == 20.0).all()


@given(TIMES, hnp.arrays(np.float64, 12, elements=QUARTERS), st.lists(QUARTERS, max_size=20))
def test_interpolation_is_the_naive_loop(
    times: np.ndarray, column: np.ndarray, grid: list[float]
) -> None:
    values = np.stack([column[: len(times)], -2 * column[: len(times)]], axis=1)
    got, _ = interpolate(times, values, np.array(grid))
    assert got.shape == (len(grid), 2)
    assert got.dtype == np.float64
    for c in range(2):
        expected = [naive_value(times, values[:, c], at) for at in grid]
        np.testing.assert_allclose(got[:, c], expected, rtol=1e-12, atol=1e-12)


def test_interpolation_on_a_sample_takes_no_share_of_a_missing_neighbour() -> None:
    values = np.array([[1.0], [NAN], [3.0], [4.0]])
    got, _ = interpolate(np.arange(4.0), values, np.array([0.0, 0.5, 1.5, 2.0, 3.0]))
    np.testing.assert_array_equal(got[:, 0], [1.0, NAN, NAN, 3.0, 4.0])


def test_interpolation_leaves_the_input_alone() -> None:
    times, values = np.array([0.0, 1.0]), np.array([[1.0], [2.0]])
    interpolate(times, values, np.array([0.5]))[0][:] = 9.0
    assert values.tolist() == [[1.0], [2.0]]


@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_interpolation_computes_in_doubles(dtype: type) -> None:
    values: np.ndarray = np.array([[0], [1]], dtype=dtype)
    assert interpolate(np.array([0.0, 3.0]), values, np.array([1.0]))[0][0, 0] == 1 / 3


@given(TIMES, st.lists(QUARTERS, max_size=20), STEPS)
def test_gaps_are_the_naive_loop(times: np.ndarray, grid: list[float], max_gap: float) -> None:
    got = in_gap(times, np.array(grid), max_gap)
    assert got.dtype == bool
    assert got.tolist() == [naive_gap(times, at, max_gap) for at in grid]


def test_distance_of_just_the_limit_is_no_gap() -> None:
    times, grid = np.array([0.0, 4.0, 9.0]), np.arange(10.0)
    assert spans_of(in_gap(times, grid, 4.0)) == ((5, 9),)
    assert spans_of(in_gap(times, grid, 5.0)) == ()


def naive_undelayed(arrivals: list[float], period: float) -> list[float]:
    """Walk back from the last sample: each was taken a period before the next, or earlier."""
    times = [arrivals[-1]]
    for arrival in reversed(arrivals[:-1]):
        times.insert(0, min(arrival, times[0] - period))
    return times


@given(st.lists(st.integers(-400, 400).map(float), min_size=1, max_size=20), st.integers(1, 30))
def test_undelayed_is_the_walk_back(arrivals: list[float], period: int) -> None:
    got = undelayed(np.array(arrivals), float(period))
    assert got.tolist() == naive_undelayed(arrivals, period)
    assert (np.diff(got) >= period).all()
    assert (got <= arrivals).all()


@given(
    st.lists(st.integers(0, 500), min_size=1, max_size=40),
    st.lists(st.integers(0, 3), min_size=40, max_size=40),
)
def test_undelayed_finds_when_samples_were_taken(delays: list[int], lost: list[int]) -> None:
    """As long as one sample before each loss, and the last, came at once."""
    n = len(delays)
    taken = 20.0 * np.cumsum([1 + (lost[k] if k % 7 == 0 else 0) for k in range(n)])
    late = np.array([0 if k % 7 == 6 or k == n - 1 else delays[k] for k in range(n)])
    np.testing.assert_array_equal(undelayed(taken + late, 20.0), taken)


@given(hnp.arrays(bool, st.integers(0, 30)))
def test_spans_are_the_runs(mask: np.ndarray) -> None:
    spans = spans_of(mask)
    marked = [k for start, end in spans for k in range(start, end)]
    assert marked == [k for k in range(len(mask)) if mask[k]]
    assert all(start < end for start, end in spans)
    assert all(one[1] < other[0] for one, other in itertools.pairwise(spans))
    assert all(isinstance(bound, int) for span in spans for bound in span)


@given(
    hnp.arrays(
        np.float64,
        st.tuples(st.integers(0, 15), st.integers(1, 3)),
        elements=st.one_of(QUARTERS, st.sampled_from([NAN, NAN, math.inf])),
    ),
    st.integers(0, 5),
)
def test_bridge_is_the_naive_loop(values: np.ndarray, max_frames: int) -> None:
    kept = values.copy()
    filled, missing = bridge(values, max_frames)
    expected, still_missing = naive_bridge(values, max_frames)
    np.testing.assert_allclose(filled, expected, rtol=1e-12, atol=1e-12)
    assert missing.tolist() == still_missing
    np.testing.assert_array_equal(values, kept)


def test_bridge_stops_at_its_limit_and_at_the_ends() -> None:
    values = np.array([[NAN], [0.0], [NAN], [NAN], [3.0], [NAN], [NAN], [NAN], [7.0], [NAN]])
    filled, missing = bridge(values, 2)
    assert spans_of(missing) == ((0, 1), (5, 8), (9, 10))
    assert filled[1:5, 0].tolist() == [0.0, 1.0, 2.0, 3.0]
