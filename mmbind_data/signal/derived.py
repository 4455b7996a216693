"""Compute a shareable modality from another: what a sensor on a limb would have measured. Pure.

A skeleton records the motion that a wearable sensor measures. `derive` computes the reading of a
virtual sensor tied to one body segment, so that a dataset with a skeleton and one with an
accelerometer can be bound by ``acc``. Letters: n samples, T frames, J joints.

The same sensor at another placement needs no code: cut both stores by placement (``mmbind convert
--placements``) and bind by the modality itself; where the two sensors are turned against each
other, bind by ``acc_magnitude`` or ``acc_motion`` of both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np
from scipy.ndimage import gaussian_filter1d

from mmbind_data.errors import BindingError, UsageError, suggest
from mmbind_data.spec.descriptor import Axis, Modality

STANDARD_GRAVITY = 9.80665  # m/s^2
XYZ = ("x", "y", "z")
DerivationRule = Literal["acceleration", "rotation", "magnitude", "motion"]
# A limb shorter than this many metres, or a straighter joint, has no defined direction.
MIN_LENGTH = 1e-6


@dataclass(frozen=True)
class Derivation:
    """How one modality is computed from another.

    Attributes
    ----------
    rule : {"acceleration", "rotation", "magnitude", "motion"}
        acceleration: specific force of a sensor on a body segment, m/s^2, gravity included;
        rotation: angular velocity of the segment, rad/s, in the segment's own axes;
        magnitude: length of the vector of each frame, free of orientation;
        motion: the same after the slow part (gravity) is taken off.
    segment : (str, str, str)
        Joints: the segment's near end, its far end (where the sensor sits), and the joint before
        the near end, which fixes how the segment is turned about itself.
    seconds : float
        Length of a sample if the store states no rate. It only sets how strong movement is
        relative to gravity; UTD-MHAD's trials are 2.2 s by the camera's nominal rate, 3.6 s by the
        sensor's (means over subjects 1-6), and 1.5 to 6 s were tried there.
    smooth_s : float
        Standard deviation in seconds of the Gaussian that joints are smoothed with; for ``motion``
        of the one that finds the slow part.
    """

    name: str
    source_kind: Literal["skeleton", "inertial"]
    target: str  # name of the modality it makes: bind it with a modality of that name
    rule: DerivationRule
    segment: tuple[str, str, str] = ("", "", "")
    up: tuple[float, float, float] = (0.0, 1.0, 0.0)  # away from the ground, as the skeleton has it
    seconds: float = 3.0
    smooth_s: float = 0.075


_SEGMENTS = {  # near end, far end, joint before the near end
    "right_wrist": ("right_elbow", "right_wrist", "right_shoulder"),
    "left_wrist": ("left_elbow", "left_wrist", "left_shoulder"),
    "right_thigh": ("right_hip", "right_knee", "hip_center"),
    "left_thigh": ("left_hip", "left_knee", "hip_center"),
}
_SENSORS: Mapping[str, DerivationRule] = {"acc": "acceleration", "gyro": "rotation"}

DERIVATIONS: Mapping[str, Derivation] = MappingProxyType(
    {
        f"{place}_{sensor}": Derivation(f"{place}_{sensor}", "skeleton", sensor, rule, joints)
        for sensor, rule in _SENSORS.items()
        for place, joints in _SEGMENTS.items()
    }
    | {
        "acc_magnitude": Derivation("acc_magnitude", "inertial", "acc_magnitude", "magnitude"),
        "acc_motion": Derivation("acc_motion", "inertial", "acc_motion", "motion", smooth_s=0.5),
    }
)


def find_derivation(name: str) -> Derivation:
    """Find a derivation by name.

    Raises
    ------
    UsageError
        There is none of that name; the message suggests similar ones.
    """
    if name not in DERIVATIONS:
        doing, what, at = "derive a modality", "no such derivation", "--derive"
        expected, got, hint = "a known one", repr(name), suggest(name, DERIVATIONS)
        raise UsageError(cannot=doing, problem=what, at=at, expected=expected, got=got, fix=hint)
    return DERIVATIONS[name]


def derive(
    values: np.ndarray, modality: Modality, derivation: Derivation
) -> tuple[np.ndarray, Modality]:
    """Compute a modality from another.

    Parameters
    ----------
    values : ndarray, shape (n, T, J, 3), metres, or (n, T, C), in the modality's unit
        Samples; one that is absent (NaN) stays absent.
    modality : Modality
        Of the values. Its rate, if it has one, turns frames into seconds.

    Returns
    -------
    ndarray, shape (n, T, 3) or (n, T, 1), float32
    Modality
        Inertial, of the same frames and rate; a derived ``acc`` has the unit and axes of a
        measured one and may be matched with it.

    Raises
    ------
    BindingError
        The modality is of another kind, lacks a joint, or has too few frames.

    Notes
    -----
    The axes of the virtual sensor: x along the segment to its far end, z the normal of the plane
    through segment and joint before it, y = z × x. A sensor mounted otherwise is turned by a
    constant rotation; `acc_magnitude` of both sides does not see it. That UTD-MHAD's sensor has its
    x along the limb was read off its natural pairs, subjects 1-6.
    Source: Young, Ling, Arvind: IMUSim, IPSN 2011 (a sensor simulated from captured motion).
    """
    _check(values, modality, derivation)
    step = (
        1.0 / modality.rate_hz if modality.rate_hz else derivation.seconds / (values.shape[1] - 1)
    )
    wide = np.asarray(values, dtype=np.float64)
    if derivation.rule in ("acceleration", "rotation"):
        joints = _joints(modality, derivation)
        near, far, before = (
            gaussian_filter1d(wide[:, :, joint], derivation.smooth_s / step, axis=1, mode="nearest")
            for joint in joints
        )
        axes = segment_axes(near, far, before)
        if derivation.rule == "acceleration":
            up = np.asarray(derivation.up) / np.linalg.norm(derivation.up)
            force = _second_difference(far) / step**2 + STANDARD_GRAVITY * up
            result, unit = np.einsum("ntij,ntj->nti", axes, force), "m/s^2"
        else:
            result, unit = angular_velocity(axes, step), "rad/s"
        names: tuple[str, ...] = XYZ
    else:
        if derivation.rule == "motion":
            sigma = derivation.smooth_s / step
            wide = wide - gaussian_filter1d(wide, sigma, axis=1, mode="nearest")
        result, unit = np.linalg.norm(wide, axis=2, keepdims=True), modality.unit
        names = ("magnitude",)
    axis = Axis(name="channel", size=len(names), names=names)
    derived = Modality(
        kind="inertial", unit=unit, axes=(modality.axes[0], axis), rate_hz=modality.rate_hz
    )
    return np.ascontiguousarray(result, dtype=np.float32), derived


def segment_axes(near: np.ndarray, far: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Axes of a body segment in each frame: shape (n, T, 3, 3), rows x, y, z.

    They are orthonormal and right-handed. The joints, each of shape (n, T, 3), are the ends of the
    segment and the joint before its near end. If they are on a line (a stretched arm) the rotation
    about x is undefined: a normal is chosen that depends on the line alone.
    """
    along = _unit(far - near)
    normal = np.cross(along, near - before)
    # a line has no plane: use the coordinate axis that is most across it
    spare = np.cross(along, np.eye(3)[np.abs(along).argmin(axis=-1)])
    flat = np.linalg.norm(normal, axis=-1, keepdims=True) < MIN_LENGTH
    z = _unit(np.where(flat, spare, normal))
    return np.stack([along, np.cross(z, along), z], axis=-2)


def angular_velocity(axes: np.ndarray, step: float) -> np.ndarray:
    """Angular velocity of moving axes, in these axes: what a gyroscope tied to them reads.

    ``axes`` are of shape (n, T, 3, 3), T >= 2: rows x, y, z, orthonormal, ``step`` seconds from
    frame to frame. The result is in rad/s, of shape (n, T, 3).
    """
    change = np.gradient(axes, step, axis=1)
    x, y, z = (axes[..., index, :] for index in range(3))
    dx, dy, dz = (change[..., index, :] for index in range(3))
    parts = [(dy * z).sum(-1), (dz * x).sum(-1), (dx * y).sum(-1)]
    return np.stack(parts, axis=-1)


def _second_difference(position: np.ndarray) -> np.ndarray:
    """Second central difference along the frames; the two outermost frames repeat their neighbour.

    Taken twice instead, a first difference would blur over five frames and halve at the ends.
    """
    inner = position[:, 2:] - 2.0 * position[:, 1:-1] + position[:, :-2]
    return np.concatenate([inner[:, :1], inner, inner[:, -1:]], axis=1)


def _unit(vectors: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(length, MIN_LENGTH))


def _joints(modality: Modality, derivation: Derivation) -> list[int]:
    names = modality.axes[1].names or ()
    for joint in derivation.segment:
        if joint not in names:
            found = ", ".join(names) or "joints without names"
            hint = suggest(joint, names)
            raise _refusal(derivation, "joint missing", "the skeleton", joint, found, hint)
    return [names.index(joint) for joint in derivation.segment]


def _check(values: np.ndarray, modality: Modality, derivation: Derivation) -> None:
    kind, expected_kind, shape = modality.kind, derivation.source_kind, modality.shape
    if kind != expected_kind:
        raise _refusal(derivation, "wrong kind of modality", "the source", expected_kind, kind)
    if values.shape[1:] != shape or shape[0] < 3:
        expected, got = f"samples of shape {shape} with at least 3 frames", values.shape[1:]
        raise _refusal(derivation, "bad shape", "the source", expected, f"shape {got}")


def _refusal(
    derivation: Derivation, problem: str, at: str, expected: str, got: str, fix: str = ""
) -> BindingError:
    doing = f"derive {derivation.name}"
    return BindingError(cannot=doing, problem=problem, at=at, expected=expected, got=got, fix=fix)
