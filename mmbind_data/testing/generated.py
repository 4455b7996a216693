"""Small raw folders with physically plausible signals, for `mmbind demo`.

A sensor has a path and an orientation; accelerometer and gyroscope follow from both, and the
skeleton follows the same path. So every modality shows what was done, and the accelerations of
one action resemble each other across people, who differ in gain, tempo and how they wear it.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import scipy.io
from scipy.spatial.transform import Rotation

from mmbind_data.datasets.motionsense import FOLDERS, INFO, INFO_COLUMNS, TRIALS

G = 9.80665  # m/s^2
UP = np.array([0.0, 1.0, 0.0])
RATE = 50.0  # inertial samples per second
SAMPLES_PER_FRAME = 2.6  # inertial samples per Kinect frame, as in the real UTD-MHAD
NEVER_DISTRIBUTED = ("a8_s1_t4", "a23_s6_t4", "a27_s8_t4")

# steps per second, acceleration in m/s^2, swing of the thigh and its mean pitch in rad
GAITS = {
    "dws": (1.9, 3.5, 0.30, 0.1),
    "ups": (1.6, 2.4, 0.55, 0.4),
    "wlk": (1.8, 2.6, 0.38, 0.0),
    "jog": (2.7, 9.0, 0.65, 0.2),
    "sit": (0.3, 0.05, 0.01, 1.5),
    "std": (0.4, 0.12, 0.02, 0.0),
}

# the Kinect's 20 joints of a standing person, metres, x right, y up, z away from the camera
POSE = np.array(
    [
        (0.00, 0.62, 2.9),  # head
        (0.00, 0.42, 2.9),
        (0.00, 0.10, 2.9),
        (0.00, 0.00, 2.9),  # hip_center
        *((-0.18, 0.38, 2.9), (-0.24, 0.12, 2.9), (-0.26, -0.10, 2.85), (-0.26, -0.18, 2.84)),
        *((0.18, 0.38, 2.9), (0.24, 0.12, 2.9), (0.26, -0.10, 2.85), (0.26, -0.18, 2.84)),
        *((-0.09, -0.05, 2.9), (-0.10, -0.45, 2.9), (-0.11, -0.85, 2.9), (-0.11, -0.92, 2.8)),
        *((0.09, -0.05, 2.9), (0.10, -0.45, 2.9), (0.11, -0.85, 2.9), (0.11, -0.92, 2.8)),
    ]
) - np.array([0.08, 0.25, 0.0])
# how much of the path each joint of a limb follows
RIGHT_ARM = {9: 0.5, 10: 1.0, 11: 1.1}
LEFT_ARM = {5: 0.5, 6: 1.0, 7: 1.1}
RIGHT_LEG = {17: 0.6, 18: 0.4, 19: 0.4}
BONES = (0, 0, 1, 2, 1, 4, 5, 6, 1, 8, 9, 10, 3, 12, 13, 14, 3, 16, 17, 18)  # joint -> parent
FIRST_THIGH_ACTION = 22
SLOPPINESS = 0.45  # spread of a gesture's waves: acc is as informative as in the real set
FOCAL = 285.0  # pixels, Kinect depth camera at 320 x 240


@dataclass(frozen=True)
class Person:
    """What makes one person's signals differ from another's."""

    gain: float
    tempo: float
    wearing: Rotation  # sensor frame -> limb frame


def write_motionsense(
    root: Path, *, n_subjects: int, seconds: float, rng: np.random.Generator
) -> None:
    """Write folders A, B and C and the table of subjects in MotionSense's raw layout.

    Each of the 1 to 24 subjects has all 15 trials. Trials 1-9 last ``seconds``, those from 11 on
    half as long, as in the real set. ``rng`` is the source of all randomness.
    """
    for subject in range(1, n_subjects + 1):
        person = _person(rng, wearing=0.25)
        for trial in TRIALS:
            code, number = trial.split("_")
            duration = seconds if int(number) < 10 else seconds / 2
            tables = _gait(code, person, duration, rng)
            for folder, table in zip(FOLDERS.values(), tables, strict=True):
                _write_csv(root / folder / trial / f"sub_{subject}.csv", table)
    rows = [
        f"{code},{rng.integers(48, 103)},{rng.integers(160, 191)},{rng.integers(18, 47)},{code % 2}"
        for code in range(1, n_subjects + 1)
    ]
    # byte order mark and no final newline: as distributed
    (root / INFO).write_text("\n".join([",".join(INFO_COLUMNS), *rows]), encoding="utf-8-sig")


def write_utd_mhad(
    root: Path, *, n_subjects: int, n_actions: int, n_trials: int, rng: np.random.Generator
) -> None:
    """Write Inertial, Skeleton and Depth in UTD-MHAD's raw layout.

    Actions 1 to ``n_actions`` of subjects 1 to ``n_subjects``, but for the trials that the real
    dataset lacks; there are at most 8 subjects, 27 actions and 4 trials. Depth is written for the
    first trial of actions 1 and 2 only. ``rng`` is the source of all randomness but the actions
    themselves, which are the same in every call.
    """
    for folder in ("Inertial", "Skeleton", "Depth"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for subject in range(1, n_subjects + 1):
        person = _person(rng, wearing=0.2)
        for action in range(1, n_actions + 1):
            for trial in range(1, n_trials + 1):
                key = f"a{action}_s{subject}_t{trial}"
                if key in NEVER_DISTRIBUTED:
                    continue
                inertial, skeleton = _gesture(action, person, rng)
                arrays = {"inertial": ("d_iner", inertial), "skeleton": ("d_skel", skeleton)}
                if action <= 2 and trial == 1:
                    arrays["depth"] = ("d_depth", _depth(skeleton))
                for role, (name, array) in arrays.items():
                    _write_mat(root / role.capitalize() / f"{key}_{role}.mat", name, array)


def _person(rng: np.random.Generator, wearing: float) -> Person:
    return Person(
        gain=rng.uniform(0.8, 1.2),
        tempo=rng.uniform(0.88, 1.12),
        wearing=Rotation.from_rotvec(wearing * rng.standard_normal(3)),
    )


def _inertial(
    acceleration: np.ndarray, orientation: Rotation, rate: float
) -> tuple[np.ndarray, np.ndarray]:
    """Specific force in m/s^2 and angular rate in rad/s, (n, 3) each, in the sensor's frame.

    ``acceleration`` (n, 3) m/s^2 is in the world's frame, ``orientation`` turns sensor to world.
    """
    force = orientation.inv().apply(acceleration + G * UP)
    step = (orientation[:-1].inv() * orientation[1:]).as_rotvec() * rate
    return force, np.concatenate([step, step[-1:]])


def _gait(
    code: str, person: Person, seconds: float, rng: np.random.Generator
) -> list[dict[str, np.ndarray]]:
    """Columns of the files A, B and C of one trial."""
    cadence, strength, swing, pitch = GAITS[code]
    # of an activity, not of a person: the shape of a step is drawn from a fixed seed
    template = np.random.default_rng([1, list(GAITS).index(code)])
    weights = template.uniform(0.2, 1.0, (4, 3)) / np.array([1.0, 1.3, 2.0, 3.0])[:, None]
    phases = template.uniform(0, 2 * np.pi, (4, 3))
    n_rows = round(seconds * RATE)
    # B starts 14 rows earlier and runs 1.1 % faster than A, as in the real set
    time = np.arange(-15, n_rows + 6) / RATE
    stride = np.pi * cadence * person.tempo * time + rng.uniform(0, 2 * np.pi)
    stride += 0.03 * np.cumsum(rng.standard_normal(len(time)))  # no two steps alike
    harmonics = np.arange(1, 5)[:, None, None] * stride[:, None]
    waves = weights[:, None] * np.sin(harmonics + phases[:, None])
    acceleration = person.gain * strength * waves.sum(axis=0)
    angles = np.stack([pitch + swing * np.sin(stride), 0.2 * swing * np.cos(stride)], axis=1)
    orientation = Rotation.from_euler("xy", angles) * person.wearing
    force, rate = _inertial(acceleration, orientation, RATE)
    # Core Motion reports gravity downwards, and total acceleration with the same sign
    gravity = -orientation.inv().apply(UP)
    total = -force / G + 0.01 * rng.standard_normal(force.shape)
    rate = rate + 0.02 * rng.standard_normal(rate.shape)
    attitude = orientation.as_euler("yxz")
    a = slice(15, 15 + n_rows)
    n_b = round(1.0112 * n_rows + 14.2)
    faster = (np.arange(n_b) - 14.2) / 1.0112 / RATE
    raw = np.stack([np.interp(faster, time, total[:, i]) for i in range(3)], axis=1)
    motion = {
        **_columns("attitude", ("roll", "pitch", "yaw"), attitude[a]),
        **_columns("gravity", "xyz", gravity[a]),
        **_columns("rotationRate", "xyz", rate[a]),
        **_columns("userAcceleration", "xyz", (total - gravity)[a]),
    }
    biased = rate[13 : 15 + n_rows] + 0.01
    return [motion, _columns("", "xyz", raw), _columns("", "xyz", biased)]


def _columns(name: str, axes: Sequence[str], values: np.ndarray) -> dict[str, np.ndarray]:
    return {f"{name}.{axis}".lstrip("."): values[:, i] for i, axis in enumerate(axes)}


def _write_csv(path: Path, columns: dict[str, np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    n_rows = len(next(iter(columns.values())))
    rounded = {name: np.round(values, 6) for name, values in columns.items()}
    table = pa.table({"": np.arange(n_rows), **rounded})
    with path.open("wb") as stream:
        # pyarrow would put the names in quotes, which the real files do not have
        stream.write((",".join(table.column_names) + "\n").encode())
        pa_csv.write_csv(table, stream, pa_csv.WriteOptions(include_header=False))


def _write_mat(path: Path, name: str, array: np.ndarray) -> None:
    stream = io.BytesIO()
    scipy.io.savemat(stream, {name: array}, do_compression=True)
    # scipy puts the time of day into the header's free text: the same seed must give the same file
    path.write_bytes(b"MATLAB 5.0 MAT-file".ljust(116) + stream.getvalue()[116:])


def _gesture(
    action: int, person: Person, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """One trial: (n, 6) g and deg/s, and (20, 3, f) m."""
    n_samples = int(np.clip(150 / person.tempo * rng.uniform(0.92, 1.08), 107, 326))
    n_frames = round(n_samples / SAMPLES_PER_FRAME)
    spread = rng.uniform(0.9, 1.1) * person.gain
    warp, delay = rng.uniform(-0.08, 0.08), rng.uniform(-0.06, 0.06)
    # of an action, not of a person: the path of the limb is drawn from a fixed seed
    template = np.random.default_rng([2, action])
    sizes = template.normal(0, 1, (2, 3, 3)) / np.array([1.0, 1.5, 2.5])[:, None]
    phases = template.uniform(0, 2 * np.pi, (2, 3, 3))
    # nobody does a thing twice alike
    sizes = sizes + SLOPPINESS * rng.normal(0, 1, sizes.shape)
    phases = phases + SLOPPINESS * rng.normal(0, 1, phases.shape)
    both_arms = template.random() < 0.4

    def motion(n: int) -> np.ndarray:
        """Path in m and rotation vector in rad, (2, n, 3), at rest at both ends."""
        time = np.linspace(0, 1, n)
        phase = time + warp * np.sin(2 * np.pi * time) + delay * np.sin(np.pi * time)
        turns = 2 * np.pi * np.arange(1, 4)[:, None, None] * phase[:, None]
        waves = np.sin(turns + phases[:, :, None]) * sizes[:, :, None]
        scale = np.array([0.16, 0.55])[:, None, None] * spread
        return np.asarray(scale * waves.sum(axis=1) * np.sin(np.pi * time)[:, None] ** 2)

    path, turn = motion(n_samples)
    acceleration = np.gradient(np.gradient(path, 1 / RATE, axis=0), 1 / RATE, axis=0)
    orientation = Rotation.from_rotvec(turn) * person.wearing
    force, rate = _inertial(acceleration, orientation, RATE)
    inertial = np.concatenate([force / G, np.rad2deg(rate)], axis=1)
    inertial += np.array([0.04] * 3 + [3.0] * 3) * rng.standard_normal(inertial.shape)
    path, _ = motion(n_frames)
    joints = np.repeat(POSE[None] * [person.gain**0.3, person.gain**0.3, 1], n_frames, axis=0)
    limb = RIGHT_ARM if action < FIRST_THIGH_ACTION else RIGHT_LEG
    for joint, share in limb.items():
        joints[:, joint] += share * path
    for joint, share in LEFT_ARM.items() if both_arms else ():
        joints[:, joint] += share * path * [-1, 1, 1]
    joints += rng.normal(0, 0.05, 3) + 0.008 * rng.standard_normal(joints.shape)
    return inertial, joints.transpose(1, 2, 0)


def _depth(skeleton: np.ndarray) -> np.ndarray:
    """Draw a skeleton (20, 3, f) as the (240, 320, f) uint16 mm video of a body of discs."""
    joints = skeleton.transpose(2, 0, 1)
    parents = joints[:, list(BONES)]
    along = np.linspace(0, 1, 6)[:, None, None, None]
    points = (joints + along * (parents - joints)).transpose(1, 0, 2, 3).reshape(len(joints), -1, 3)
    # drawn at a quarter of the size and enlarged: the reader reduces it by as much again
    rows = np.round(30 - FOCAL / 4 * points[..., 1] / points[..., 2]).astype(int)
    columns = np.round(40 + FOCAL / 4 * points[..., 0] / points[..., 2]).astype(int)
    frames = np.arange(len(joints))[:, None]
    video = np.zeros((len(joints), 60, 80), np.uint16)
    for i, k in np.ndindex(5, 5):
        inside = (np.clip(rows + i - 2, 0, 59), np.clip(columns + k - 2, 0, 79))
        video[frames, *inside] = np.round(1000 * points[..., 2])
    return video.transpose(1, 2, 0).repeat(4, axis=0).repeat(4, axis=1)
