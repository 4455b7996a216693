"""Writes a small UTD-MHAD in its authentic raw layout, filled with a coded ramp."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import scipy.io

from mmbind_data.spec.descriptor import Recording
from rawdata.truth import Truth, add_macos_junk, reshape

# the labels of the actions that are written by default
LABELS = {1: "swipe left", 2: "swipe right", 10: "draw circle counter-clockwise", 22: "jog"}
FOLDERS = ("Inertial", "Skeleton", "Depth")
MISSING = ("a2_s3_t4",)
DEPTH = ("a1_s1_t1", "a22_s3_t2")


def write(
    root: Path,
    *,
    rng: np.random.Generator,
    form: str = "folders",
    subjects: Sequence[int] = (1, 3),
    actions: Sequence[int] = (1, 2, 10, 22),
    trials: Sequence[int] = (1, 2, 3, 4),
    folders: Sequence[str] = FOLDERS,
    missing: Sequence[str] = MISSING,
    depth: Sequence[str] = DEPTH,
) -> Truth:
    """Write the raw files; each value tells its trial, frame, joint and channel."""
    recordings = []
    for number, (action, subject, trial) in enumerate(
        (a, s, t) for a in actions for s in subjects for t in trials
    ):
        key = f"a{action}_s{subject}_t{trial}"
        if key in missing:
            continue
        arrays = _arrays(number, rng, with_depth=key in depth)
        arrays = {folder: arrays[folder] for folder in arrays if folder in folders}
        if not arrays:
            continue
        files = []
        for folder, (name, array) in arrays.items():
            path = root / folder / f"{key}_{folder.lower()}.mat"
            _write_mat(path, name, array)
            files.append(f"{folder}/{path.name}")
        recordings.append(
            Recording(
                key=key,
                subject=str(subject),
                label=LABELS.get(action),
                streams=_streams({folder: array for folder, (_, array) in arrays.items()}),
                raw_files=tuple(files),
                trial=str(trial),
                placement="right_thigh" if action > 21 else "right_wrist",
            )
        )
    if "Skeleton" in folders:
        (root / "Skeleton" / "Skeleton_joint_order.txt").write_text("1. head;\n2. ...\n")
    present = tuple(folder for folder in folders if (root / folder).exists())
    for folder in present:
        add_macos_junk(root / folder)
    reshape(root, present, form)
    return Truth("utd-mhad", root, {"default": tuple(recordings)})


def _arrays(
    number: int, rng: np.random.Generator, *, with_depth: bool
) -> dict[str, tuple[str, np.ndarray]]:
    """Folder -> name and coded ramp of one trial's variable."""
    n_samples, n_frames = int(rng.integers(107, 180)), int(rng.integers(41, 60))
    arrays = {
        "Inertial": ("d_iner", ramp((n_samples, 6), (1e-4, 0.03)) + 0.25 * number),
        "Skeleton": ("d_skel", ramp((20, 3, n_frames), (0.02, 5e-3, 1e-5)) + 0.5 * number),
    }
    if with_depth:
        arrays["Depth"] = ("d_depth", depth_ramp(n_frames, 500 + 50 * number))
    return arrays


def _write_mat(path: Path, name: str, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(path, {name: array}, do_compression=True)
    # scipy writes the time of day into the free text of the header
    path.write_bytes(b"MATLAB 5.0 MAT-file".ljust(116) + path.read_bytes()[116:])


def ramp(shape: tuple[int, ...], steps: tuple[float, ...]) -> np.ndarray:
    """Sum of one linear ramp per axis, (shape) float64."""
    values = np.zeros(shape)
    for axis, (size, step) in enumerate(zip(shape, steps, strict=True)):
        sides = [1] * len(shape)
        sides[axis] = size
        values += step * np.arange(size).reshape(sides)
    return values


def depth_ramp(n_frames: int, offset: int) -> np.ndarray:
    """(240, 320, n_frames) uint16 mm: a slanted body on removed background, with ragged edges."""
    values = (offset + ramp((240, 320, n_frames), (2, 1, 3))).astype(np.uint16)
    body = np.zeros((240, 320), dtype=bool)
    body[41:201, 102:222] = True  # blocks at the edge: 12, 8 and 6 of 16 pixels
    body[100:104, 300:304] = np.arange(16).reshape(4, 4) < 8  # just enough readings
    body[100:104, 308:312] = np.arange(16).reshape(4, 4) < 7  # one too few
    values[~body] = 0
    return values


def reduced(raw: np.ndarray) -> np.ndarray:
    """(f, 60, 80) float32 metres: mean of the readings of a 4 x 4 block, 0 below 8 readings."""
    blocks = raw.astype(np.float64).reshape(60, 4, 80, 4, -1)
    mean: np.ndarray = blocks.sum(axis=(1, 3)) / np.maximum((blocks > 0).sum(axis=(1, 3)), 1) / 1000
    mean[(blocks > 0).sum(axis=(1, 3)) < 8] = 0
    return np.asarray(mean.transpose(2, 0, 1), dtype=np.float32)


def _streams(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    streams = {}
    if "Inertial" in arrays:
        streams["acc"] = (9.80665 * arrays["Inertial"][:, :3]).astype(np.float32)
        streams["gyro"] = (arrays["Inertial"][:, 3:] * np.pi / 180).astype(np.float32)
    if "Skeleton" in arrays:
        streams["skeleton"] = np.moveaxis(arrays["Skeleton"], 2, 0).astype(np.float32)
    if "Depth" in arrays:
        streams["depth"] = reduced(arrays["Depth"])
    return streams
