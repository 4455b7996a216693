"""Reader of UTD-MHAD: 27 actions, 8 subjects, a Kinect and one wearable inertial sensor.

Source: Chen, Jafari, Kehtarnavaz, ICIP 2015, and the dataset's web page; what was measured on the
files themselves is in the descriptor next to this module.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mmbind_data.datasets.reader import found_note, make_recording, presence_notes
from mmbind_data.datasets.registry import load_descriptor
from mmbind_data.raw.arrays import Variable, read_mat
from mmbind_data.raw.files import (
    RawFile,
    RawListing,
    Unit,
    bad_file,
    natural,
    nothing_found,
    recognise,
)
from mmbind_data.spec.descriptor import Recording

NAME = "utd-mhad"
STANDARD_GRAVITY = 9.80665  # m/s^2 in one g, by definition
ACTIONS, SUBJECTS, TRIALS = range(1, 28), range(1, 9), range(1, 5)
N_TRIALS = 861  # of 27 * 8 * 4 = 864: a8_s1_t4, a23_s6_t4 and a27_s8_t4 were never distributed
FIRST_THIGH_ACTION = 22
BLOCK = 4  # side in pixels of the square that becomes one pixel of the stored depth
MILLIMETRE = 1e-3
FOLDERS = {"inertial": "Inertial", "skeleton": "Skeleton", "depth": "Depth"}
ROLES = {"acc": "inertial", "gyro": "inertial", "skeleton": "skeleton", "depth": "depth"}
NEEDED_FOR = {role: tuple(name for name in ROLES if ROLES[name] == role) for role in FOLDERS}
DATA_NAME = re.compile(r"(a([1-9][0-9]?)_s([1-9])_t([1-9]))_(inertial|skeleton|depth)\.mat")
# other parts of the distribution, which no modality is read from
OTHER_PARTS = re.compile(r".*(_color\.avi|Skeleton_joint_order\.txt|\.m|\.fig|\.asv)")

VARIABLES: Mapping[str, Variable] = {
    "inertial": Variable("d_iner", (None, 6)),
    "skeleton": Variable("d_skel", (20, 3, None)),
    "depth": Variable("d_depth", (240, 320, None), "u"),
}


def find(files: Sequence[RawFile], preset: str) -> RawListing:
    """Sort the files into one unit per trial; nothing is opened.

    A trial may lack the inertial, the skeleton or the depth file.

    Raises
    ------
    RawLayoutError
        No file is named like one of this dataset.
    """
    descriptor = load_descriptor(NAME)
    by_path, unknown, notes = recognise(files, _canonical)
    trials: dict[str, dict[str, RawFile]] = {}
    for path, file in by_path.items():
        match = DATA_NAME.fullmatch(path.rsplit("/", 1)[-1])
        if match is not None:
            trials.setdefault(match[1], {})[match[5]] = file
    if not trials:
        expected = "files such as a1_s1_t1_inertial.mat"
        step = "Give the folder that holds Inertial.zip, Skeleton.zip and Depth.zip."
        raise nothing_found(NAME, files, expected, step)
    units = []
    for key in sorted(trials, key=natural):
        action, subject, trial = (part[1:] for part in key.split("_"))
        fields = {
            "subject": subject,
            "label": descriptor.labels[f"a{action}"],
            "trial": trial,
            "placement": "right_wrist" if int(action) < FIRST_THIGH_ACTION else "right_thigh",
        }
        roles = {role: trials[key][role] for role in FOLDERS if role in trials[key]}
        units.append(Unit(key, roles, fields, NEEDED_FOR))
    skipped = [path for path in unknown if OTHER_PARTS.fullmatch(path)]
    if any(path.endswith(".avi") for path in skipped):
        notes.append("RGB videos are not read")
    unrecognised = tuple(path for path in unknown if path not in skipped)
    found = {role: sum(role in unit.files for unit in units) for role in FOLDERS}
    notes.append(found_note(units, N_TRIALS, "trials"))
    notes += presence_notes(found, len(units), "trials")
    modalities = tuple(name for name, role in ROLES.items() if found[role])
    return RawListing(tuple(units), unrecognised, tuple(notes), modalities)


def read(unit: Unit, modalities: Sequence[str], preset: str) -> Iterator[Recording]:
    """Read the one recording of a unit.

    Yields
    ------
    Recording
        acc (n, 3) in m/s^2 and gyro (n, 3) in rad/s; skeleton (f, 20, 3) in m, Kinect frame (x
        right, y up, z away); depth (f, 60, 80) in m, 0 without reading. All float32. The streams
        span the same motion at different rates; those whose file is missing are absent. Nothing
        is yielded for a trial that lacks all that was asked for.

    Raises
    ------
    RawLayoutError
        A file is no intact MAT file, or its array is not what it must be.
    """
    roles = [role for role in FOLDERS if role in unit.files]
    wanted = [role for role in roles if role in {ROLES[name] for name in modalities}]
    streams: dict[str, np.ndarray] = {}
    for role in wanted:
        streams.update(_streams(role, read_mat(unit.files[role], VARIABLES[role])))
    frames = {role: len(streams[role]) for role in ("skeleton", "depth") if role in streams}
    if len(set(frames.values())) > 1:
        expected = f"as many frames as the skeleton, {frames['skeleton']}"
        raise bad_file(unit.files["depth"], "frames", expected, frames["depth"])
    if not streams:
        return  # a row without a single stream would say nothing
    ordered = {name: streams[name] for name in modalities if name in streams}
    yield make_recording(unit, ordered, [unit.files[role] for role in wanted])


def reduce_depth(raw: np.ndarray) -> np.ndarray:
    """Shrink a depth video fourfold and convert it to metres.

    A stored pixel is the mean of those of its 4 x 4 raw pixels that have a reading, and 0 (no
    reading) where fewer than 8 have one: the background is removed in the raw data, and a mean
    over it would put the body's outline at depths where nothing is. From (height, width, n_frames)
    unsigned integers, millimetres, to (n_frames, height / 4, width / 4) float32.
    """
    # MATLAB's order: transposed, the array is contiguous in the order of this loop
    pixels = raw.T
    total = _sum_blocks(pixels, np.dtype(np.uint32))
    count = _sum_blocks(pixels != 0, np.dtype(np.uint8))
    mean = MILLIMETRE * total / np.maximum(count, 1)
    mean[count < BLOCK * BLOCK // 2] = 0.0
    return np.ascontiguousarray(mean.transpose(0, 2, 1), dtype=np.float32)


def _sum_blocks(pixels: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """Sum the blocks of the last two axes; strided additions are six times a 5-axis sum."""
    n_frames, width, height = pixels.shape
    columns = np.zeros((n_frames, width // BLOCK, height), dtype)
    for i in range(BLOCK):
        columns += pixels[:, i::BLOCK]
    blocks = np.zeros((n_frames, width // BLOCK, height // BLOCK), dtype)
    for i in range(BLOCK):
        blocks += columns[..., i::BLOCK]
    return blocks


def _canonical(path: str) -> str | None:
    name = path.rsplit("/", 1)[-1]
    match = DATA_NAME.fullmatch(name)
    if match is None:
        return None
    action, subject, trial = int(match[2]), int(match[3]), int(match[4])
    if action not in ACTIONS or subject not in SUBJECTS or trial not in TRIALS:
        return None
    return f"{FOLDERS[match[5]]}/{name}"


def _streams(role: str, values: np.ndarray) -> dict[str, np.ndarray]:
    if role == "inertial":
        acc = STANDARD_GRAVITY * values[:, :3].astype(np.float64)
        gyro = np.deg2rad(values[:, 3:].astype(np.float64))
        # order C: MATLAB's arrays come column by column
        return {"acc": acc.astype(np.float32, "C"), "gyro": gyro.astype(np.float32, "C")}
    if role == "skeleton":
        frames_first = values.transpose(2, 0, 1)
        return {"skeleton": np.ascontiguousarray(frames_first, dtype=np.float32)}
    return {"depth": reduce_depth(values)}
