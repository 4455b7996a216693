"""Dynamic time warping against a plain loop; what it ignores, and what it does not."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmbind_data.errors import UsageError
from mmbind_data.matching.candidates import Matches
from mmbind_data.matching.dtw import Elastic, dtw_pairs, elastic_signals, mean_pool, reranked
from mmbind_data.spec.descriptor import Axis, Modality

ACC = Modality(
    kind="inertial", unit="m/s^2", axes=(Axis(name="time", size=60), Axis(name="channel", size=3))
)
SKELETON = Modality(
    kind="skeleton",
    unit="m",
    axes=(
        Axis(name="time", size=60),
        Axis(name="joint", size=2, names=("hip", "hand")),
        Axis(name="coordinate", size=3),
    ),
    root="hip",
)


def naive_distance(x: np.ndarray, y: np.ndarray, band: int) -> float:
    """The textbook recurrence, one pair, one cell at a time."""
    n = len(x)
    table = [[math.inf] * n for _ in range(n)]
    for i in range(n):
        for j in range(n):
            if abs(i - j) > band:
                continue
            cost = math.dist(x[i], y[j])
            before = [
                table[i - 1][j] if i else math.inf,
                table[i][j - 1] if j else math.inf,
                table[i - 1][j - 1] if i and j else math.inf,
            ]
            table[i][j] = cost + (min(before) if i or j else 0.0)
    return table[n - 1][n - 1]


def dtw_similarity(a: np.ndarray, b: np.ndarray, *, band: int = Elastic.band) -> np.ndarray:
    """Of the rows of A and B, pair by pair."""
    return dtw_pairs(a, b, np.arange(len(a)), np.arange(len(b)), band=band)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@settings(deadline=None, max_examples=60)
@given(
    frames=st.integers(1, 9),
    channels=st.integers(1, 4),
    band=st.integers(0, 10),
    seed=st.integers(0, 1000),
)
def test_every_pair_equals_the_plain_loop(frames: int, channels: int, band: int, seed: int) -> None:
    a, b = noise(6, frames, channels, seed=seed), noise(6, frames, channels, seed=seed + 1)
    expected = [1 / (1 + naive_distance(x, y, band) / frames) for x, y in zip(a, b, strict=True)]
    got = dtw_similarity(a, b, band=band)
    np.testing.assert_allclose(got, expected, atol=2e-6)
    assert got.dtype == np.float32
    assert np.array_equal(got, dtw_similarity(b, a, band=band))


def test_band_zero_is_the_mean_distance_of_frames() -> None:
    a, b = noise(20, 7, 3), noise(20, 7, 3, seed=1)
    expected = 1 / (1 + np.linalg.norm(a - b, axis=2).mean(axis=1))
    np.testing.assert_allclose(dtw_similarity(a, b, band=0), expected, atol=2e-6)


def test_closed_forms() -> None:
    ramp = np.arange(8, dtype=np.float32).reshape(1, 8, 1)
    assert dtw_similarity(ramp, ramp)[0] == 1
    # constants c apart: every one of the 8 least steps costs c
    flat = np.zeros_like(ramp)
    assert dtw_similarity(flat, flat + 3, band=2)[0] == pytest.approx(1 / 4)
    # one frame late: only the two ends, each one step of the ramp away, cannot be matched
    late = np.maximum(ramp - 1, 0)
    assert dtw_similarity(ramp, late, band=1)[0] == pytest.approx(1 / (1 + 1 / 8))
    assert dtw_similarity(ramp, late, band=0)[0] == pytest.approx(1 / (1 + 7 / 8))


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 1000))
def test_a_wider_band_never_lowers_the_similarity(seed: int) -> None:
    a, b = noise(10, 8, 2, seed=seed), noise(10, 8, 2, seed=seed + 1)
    by_band = [dtw_similarity(a, b, band=band) for band in range(9)]
    for narrow, wide in itertools.pairwise(by_band):
        assert (wide >= narrow).all()
    np.testing.assert_array_equal(by_band[8], by_band[7])  # the whole table is open


@pytest.mark.parametrize("block_pairs", [64, 100])
def test_blocks_do_not_show(block_pairs: int) -> None:
    a, b = noise(20, 12, 9), noise(15, 12, 9, seed=1)
    row_a, row_b = (part.ravel() for part in np.indices((20, 15)))
    whole = dtw_pairs(a, b, row_a, row_b)
    np.testing.assert_array_equal(dtw_pairs(a, b, row_a, row_b, block_pairs=block_pairs), whole)
    single = np.concatenate([dtw_similarity(a[:1], b[k : k + 1]) for k in range(5)])
    np.testing.assert_array_equal(whole[:5], single)


def test_pairs_are_those_asked_for() -> None:
    a, b = noise(5, 6, 2), noise(4, 6, 2, seed=1)
    row_a, row_b = np.array([4, 0, 4]), np.array([1, 3, 1])
    got = dtw_pairs(a, b, row_a, row_b, band=2)
    np.testing.assert_array_equal(got, dtw_similarity(a[row_a], b[row_b], band=2))
    assert got[0] == got[2] != got[1]
    assert dtw_pairs(a, b, row_a[:0], row_b[:0]).shape == (0,)


def test_candidates_are_ranked_anew() -> None:
    a, b = noise(9, 12, 3), noise(7, 12, 3, seed=1)
    rng = np.random.default_rng(2)
    to_b, to_a = (
        Matches(
            np.stack([rng.permutation(m)[:4] for _ in range(n)]),
            np.full((n, 4), 0.5, dtype=np.float32),
        )
        for n, m in ((9, 7), (7, 9))
    )
    to_b.partner[3, 1:] = -1
    to_b.similarity[3, 1:] = np.nan
    new_b, new_a = reranked(to_b, to_a, a, b, band=2)
    for old, new, own, others in ((to_b, new_b, a, b), (to_a, new_a, b, a)):
        for row in range(len(own)):
            expected = sorted(
                (-round(1 / (1 + naive_distance(own[row], others[k], 2) / 12), 5), k)
                for k in old.partner[row]
                if k >= 0
            )
            n = len(expected)
            assert new.partner[row, :n].tolist() == [k for _, k in expected]
            np.testing.assert_allclose(
                new.similarity[row, :n], [-s for s, _ in expected], atol=1e-5
            )
            assert (new.partner[row, n:] == -1).all()
            assert np.isnan(new.similarity[row, n:]).all()


@pytest.mark.parametrize(
    ("a", "b", "band"),
    [
        ((3, 4, 2), (3, 5, 2), 1),
        ((3, 4, 2), (3, 4, 1), 1),
        ((3, 4), (3, 4), 1),
        ((3, 4, 2), (3, 4, 2), -1),
        ((3, 4, 0), (3, 4, 0), 1),
    ],
)
def test_signals_that_do_not_fit_are_refused(
    a: tuple[int, ...], b: tuple[int, ...], band: int
) -> None:
    with pytest.raises(ValueError, match="expected"):
        dtw_similarity(np.zeros(a), np.zeros(b), band=band)


def test_a_gesture_at_another_speed_is_the_same_gesture() -> None:
    time = np.linspace(0, 1, 60)
    pace = time + 0.03 * np.sin(2 * np.pi * time)
    same, other = (
        np.stack([np.sin(9 * t), np.cos(7 * t), np.sin(5 * t)], axis=1) for t in (time, pace)
    )
    values = np.stack([same, other, same[::-1]]).astype(np.float32)
    signals = elastic_signals(values, ACC)
    warped = dtw_similarity(signals[[0, 0]], signals[[1, 2]])
    rigid = dtw_similarity(signals[[0, 0]], signals[[1, 2]], band=0)
    assert warped[0] > rigid[0] + 0.05
    assert warped[0] > warped[1] + 0.2


def test_pooling_is_the_mean_of_equal_parts() -> None:
    values = noise(3, 12, 2)
    np.testing.assert_allclose(
        mean_pool(values, 4), values.reshape(3, 4, 3, 2).mean(axis=2), atol=1e-6
    )
    np.testing.assert_allclose(mean_pool(values, 12), values, atol=1e-7)
    # 3 frames into 2: the middle one is shared
    got = mean_pool(np.array([0.0, 6.0, 30.0]).reshape(1, 3, 1), 2)
    np.testing.assert_allclose(got.ravel(), [2.0, 22.0])
    assert mean_pool(values, 5).mean() == pytest.approx(float(values.mean()), abs=1e-6)
    for frames in (0, 13):
        with pytest.raises(ValueError, match="12 frames"):
            mean_pool(values, frames)


def test_signals_have_the_stated_scale_and_shape() -> None:
    values = 5 + noise(20, 60, 3) * [1, 10, 100]
    signals = elastic_signals(values.astype(np.float32), ACC, Elastic(frames=20, slope=0.5))
    assert signals.shape == (20, 20, 6)
    assert signals.dtype == np.float32
    np.testing.assert_allclose(signals.mean(axis=(0, 1)), 0, atol=1e-5)
    np.testing.assert_allclose(signals.std(axis=(0, 1)), [1, 1, 1, 0.5, 0.5, 0.5], atol=1e-5)
    shorter = elastic_signals(values.astype(np.float32), ACC, Elastic(frames=90, slope=0))
    assert shorter.shape == (20, 60, 3)


def test_unit_and_offset_of_a_sensor_do_not_count() -> None:
    values = noise(20, 60, 3)
    np.testing.assert_allclose(
        elastic_signals(9.8 * values + 100, ACC), elastic_signals(values, ACC), atol=1e-3
    )


def test_a_shift_of_one_sample_counts_less_the_larger_the_offset_share() -> None:
    values = noise(20, 60, 3)
    values[1] = values[0] + 1  # the same movement, worn another way

    def apart(offset: float) -> float:
        signals = elastic_signals(values, ACC, Elastic(offset=offset, slope=0))
        return float(np.abs(signals[1] - signals[0]).mean())

    assert apart(1.0) == pytest.approx(0, abs=1e-5)
    assert apart(1.0) < apart(0.5) < apart(0.0)
    free = elastic_signals(values, ACC, Elastic(offset=1.0))
    assert dtw_similarity(free[:1], free[1:2])[0] == pytest.approx(1, abs=1e-4)


def test_where_a_body_stands_does_not_count() -> None:
    values = noise(4, 60, 2, 3).reshape(4, 60, 2, 3)
    moved = values + 5 * noise(4, 1, 1, 3, seed=1)  # everybody somewhere else
    signals = elastic_signals(values, SKELETON)
    assert signals.shape == (4, 40, 12)
    np.testing.assert_allclose(elastic_signals(moved, SKELETON), signals, atol=1e-4)


def test_a_constant_channel_stays_finite() -> None:
    values = noise(4, 60, 3)
    values[:, :, 1] = 7
    signals = elastic_signals(values, ACC)
    assert np.isfinite(signals).all()
    assert not signals[:, :, [1, 4]].any()


def test_samples_without_time_are_refused() -> None:
    still = Modality(
        kind="image", unit="1", axes=(Axis(name="height", size=4), Axis(name="width", size=4))
    )
    with pytest.raises(UsageError, match="time axis"):
        elastic_signals(np.zeros((3, 4, 4), dtype=np.float32), still)
    with pytest.raises(UsageError, match="at least 2 frames"):
        elastic_signals(np.zeros((3, 1, 3), dtype=np.float32), ACC)


@pytest.mark.parametrize(
    "bad", [{"frames": 1}, {"band": -1}, {"offset": 1.5}, {"offset": -0.1}, {"slope": float("nan")}]
)
def test_bad_settings_are_one_sentence(bad: dict[str, float]) -> None:
    (name,) = bad
    with pytest.raises(UsageError, match=f"bad number at {name}"):
        Elastic(**bad)  # type: ignore[arg-type]
