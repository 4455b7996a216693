"""Virtual sensors against motions whose readings are known in closed form."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.spatial.transform import Rotation

from mmbind_data.errors import BindingError, UsageError
from mmbind_data.signal.derived import (
    DERIVATIONS,
    STANDARD_GRAVITY,
    Derivation,
    angular_velocity,
    derive,
    find_derivation,
    segment_axes,
)
from mmbind_data.spec.descriptor import Axis, Modality

JOINTS = ("right_shoulder", "right_elbow", "right_wrist")
RATE = 50.0
SHARP = replace(DERIVATIONS["right_wrist_acc"], smooth_s=1e-3)  # narrower than a frame


def skeleton(n_frames: int, rate_hz: float | None = RATE) -> Modality:
    axes = (
        Axis(name="time", size=n_frames),
        Axis(name="joint", size=3, names=JOINTS),
        Axis(name="coordinate", size=3, names=("x", "y", "z")),
    )
    return Modality(kind="skeleton", unit="m", axes=axes, rate_hz=rate_hz)


def acceleration(n_frames: int) -> Modality:
    axes = (Axis(name="time", size=n_frames), Axis(name="channel", size=3, names=("x", "y", "z")))
    return Modality(kind="inertial", unit="m/s^2", axes=axes, rate_hz=RATE)


def bent_arm(wrist: np.ndarray) -> np.ndarray:
    """Forearm along camera x, upper arm hanging from a shoulder above the elbow; (1, T, 3, 3)."""
    elbow = wrist - np.array([0.25, 0.0, 0.0])
    return np.stack([elbow + np.array([0.0, 0.3, 0.0]), elbow, wrist], axis=1)[np.newaxis]


def naive_axes(shoulder: np.ndarray, elbow: np.ndarray, wrist: np.ndarray) -> np.ndarray:
    x = (wrist - elbow) / math.dist(wrist, elbow)
    z = np.cross(x, elbow - shoulder)
    z = z / math.sqrt(sum(z * z))
    return np.array([x, np.cross(z, x), z])


def test_a_resting_arm_feels_gravity_alone() -> None:
    values, made = derive(bent_arm(np.zeros((20, 3))), skeleton(20), DERIVATIONS["right_wrist_acc"])
    # x lies level along the forearm; y = z × x with z = x × down = -z of the camera: y is down
    assert_allclose(values[0], np.tile([0.0, -STANDARD_GRAVITY, 0.0], (20, 1)), atol=1e-5)
    assert values.dtype == np.float32
    assert made == acceleration(20)


def test_steady_acceleration_adds_to_gravity() -> None:
    t = np.arange(40) / RATE
    push = np.array([2.0, 3.0, -4.0])
    values, _ = derive(bent_arm(0.5 * push * t[:, None] ** 2), skeleton(40), SHARP)
    expected = [2.0, -(3.0 + STANDARD_GRAVITY), 4.0]
    assert_allclose(values[0], np.tile(expected, (40, 1)), atol=1e-3)


def test_free_fall_weighs_nothing() -> None:
    t = np.arange(40) / RATE
    fall = np.array([0.0, -STANDARD_GRAVITY / 2, 0.0]) * t[:, None] ** 2
    values, _ = derive(bent_arm(fall), skeleton(40), SHARP)
    assert_allclose(values, 0.0, atol=1e-3)


def test_samples_without_a_rate_take_the_declared_length() -> None:
    t = np.arange(31) / 30
    motion = bent_arm(np.stack([t**2, 0 * t, 0 * t], axis=1))
    for seconds in (1.0, 2.0):
        chosen = replace(SHARP, seconds=seconds)
        values, made = derive(motion, skeleton(31, None), chosen)
        assert_allclose(values[0, :, 0], 2.0 / seconds**2, rtol=1e-3)
        assert made.rate_hz is None


@given(st.integers(0, 999))
@settings(max_examples=30, deadline=None)
def test_axes_follow_the_arm(seed: int) -> None:
    rng = np.random.default_rng(seed)
    near, far, before = rng.normal(size=(3, 2, 4, 3))
    axes = segment_axes(near, far, before)
    for n in range(2):
        for t in range(4):
            assert_allclose(axes[n, t], naive_axes(before[n, t], near[n, t], far[n, t]), atol=1e-9)
    assert_allclose(np.linalg.det(axes), 1.0, atol=1e-9)
    # whoever turns with the arm sees no difference
    turn = Rotation.random(rng=seed).as_matrix()
    turned = segment_axes(near @ turn.T, far @ turn.T, before @ turn.T)
    assert_allclose(turned, axes @ turn.T, atol=1e-9)


def test_a_stretched_arm_still_has_axes() -> None:
    line = np.array([0.0, 1.0, 2.0])
    for direction in (*np.eye(3), np.ones(3) / math.sqrt(3)):
        before, near, far = (value * direction[np.newaxis, np.newaxis] for value in line)
        axes = segment_axes(near, far, before)[0, 0]
        assert_allclose(axes @ axes.T, np.eye(3), atol=1e-9)
        assert_allclose(axes[0], direction, atol=1e-9)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_steady_turn_is_read_on_its_own_axis(axis: int) -> None:
    step, speed = 0.01, 1.5
    vector = np.zeros((30, 3))
    vector[:, axis] = speed * step * np.arange(30)
    start = Rotation.random(rng=5)
    body = start * Rotation.from_rotvec(vector)  # turned about its own axis
    axes = body.as_matrix().swapaxes(1, 2)[np.newaxis]  # rows: the body's axes in the room
    expected = np.zeros(3)
    expected[axis] = speed
    inner = angular_velocity(axes, step)[0, 1:-1]
    assert_allclose(inner, np.tile(expected, (28, 1)), atol=1e-3)


def test_rotation_of_a_forearm_about_the_elbow() -> None:
    t = np.arange(50) / RATE
    wrist = 0.25 * np.stack([np.cos(2 * t), np.sin(2 * t), 0 * t], axis=1)
    elbow = np.zeros_like(wrist)
    shoulder = elbow + np.array([-0.3, -0.01, 0.0])
    values, made = derive(
        np.stack([shoulder, elbow, wrist], axis=1)[np.newaxis],
        skeleton(50),
        replace(DERIVATIONS["right_wrist_gyro"], smooth_s=1e-3),
    )
    # x × (elbow - shoulder) points to -z of the room while the arm turns about +z
    assert_allclose(values[0, 2:20], np.tile([0.0, 0.0, -2.0], (18, 1)), atol=5e-3)
    assert made.unit == "rad/s"


@given(st.integers(0, 999))
@settings(max_examples=20, deadline=None)
def test_magnitude_does_not_see_how_a_sensor_is_mounted(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(3, 12, 3)).astype(np.float32)
    turned = (values @ Rotation.random(rng=seed).as_matrix().T).astype(np.float32)
    for name in ("acc_magnitude", "acc_motion"):
        one, made = derive(values, acceleration(12), DERIVATIONS[name])
        other, _ = derive(turned, acceleration(12), DERIVATIONS[name])
        assert_allclose(one, other, atol=1e-5)
        assert one.shape == (3, *made.shape) == (3, 12, 1)
    one, _ = derive(values, acceleration(12), DERIVATIONS["acc_magnitude"])
    expected = [[math.hypot(*frame) for frame in sample] for sample in values.tolist()]
    assert_allclose(one[:, :, 0], expected, rtol=1e-5)


def test_motion_is_free_of_gravity() -> None:
    still = np.tile(np.array([0.0, 9.8, 0.0], dtype=np.float32), (1, 50, 1))
    values, _ = derive(still, acceleration(50), DERIVATIONS["acc_motion"])
    assert_allclose(values, 0.0, atol=1e-6)


def test_absent_samples_stay_absent() -> None:
    values = np.concatenate([bent_arm(np.zeros((10, 3)))] * 2)
    values[1] = np.nan
    made, _ = derive(values, skeleton(10), DERIVATIONS["right_wrist_acc"])
    assert np.isfinite(made[0]).all()
    assert np.isnan(made[1]).all()


def test_every_declared_derivation_is_filed_under_its_name() -> None:
    for name, each in DERIVATIONS.items():
        assert find_derivation(name) is each
        assert each.name == name


def test_what_cannot_be_derived() -> None:
    motion = bent_arm(np.zeros((10, 3)))
    with pytest.raises(UsageError, match=r"no such derivation.*Did you mean right_wrist_acc"):
        find_derivation("right_wrist_ac")
    with pytest.raises(BindingError, match="expected skeleton, got inertial"):
        derive(np.zeros((1, 10, 3)), acceleration(10), DERIVATIONS["right_wrist_acc"])
    with pytest.raises(BindingError, match="joint missing at the skeleton: expected left_elbow"):
        derive(motion, skeleton(10), DERIVATIONS["left_wrist_acc"])
    with pytest.raises(BindingError, match="at least 3 frames"):
        derive(motion[:, :2], skeleton(2), DERIVATIONS["right_wrist_acc"])
    with pytest.raises(BindingError, match="bad shape"):
        derive(motion[:, :9], skeleton(10), DERIVATIONS["right_wrist_acc"])


def test_a_derivation_of_ones_own() -> None:
    joints = ("right_shoulder", "right_elbow", "right_wrist")
    mine = Derivation("elbow", "skeleton", "acc", "acceleration", joints, up=(0.0, 0.0, -2.0))
    values, _ = derive(bent_arm(np.zeros((10, 3))), skeleton(10), mine)
    assert_allclose(np.linalg.norm(values, axis=2), STANDARD_GRAVITY, rtol=1e-5)
