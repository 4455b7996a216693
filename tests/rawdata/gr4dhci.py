"""Writes a small GR4DHCI as its layout is assumed, or as a mapping tells, with coded ramps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from mmbind_data.spec.descriptor import Recording
from rawdata.pictures import png
from rawdata.truth import Truth, add_macos_junk, reshape

SUBJECTS, GESTURES, TRIALS = (1, 2, 10), (1, 2, 11), (1, 2)
LACKS = {"1/2/1": "ir", "10/1/2": "skeleton"}
HEIGHT, WIDTH = 120, 160  # of an image; stored as 60 x 80
MAPPING = "gr4dhci-mapping.json"


def write(
    root: Path,
    *,
    rng: np.random.Generator,
    form: str = "folders",
    mapping: dict[str, Any] | None = None,
) -> Truth:
    """Write the raw files; each value tells its sample, frame, joint or pixel, and eye."""
    recordings = []
    samples = [(s, g, t) for s in SUBJECTS for g in GESTURES for t in TRIALS]
    for number, (subject, gesture, trial) in enumerate(samples):
        key = f"{subject}/{gesture}/{trial}"
        folder = root / f"subject_{subject}" / f"gesture_{gesture}" / f"trial_{trial}"
        folder.mkdir(parents=True)
        canonical = f"subject_{subject}/gesture_{gesture}/trial_{trial}"
        streams, files = {}, []
        if LACKS.get(key) != "skeleton":
            joints = skeleton(number, int(rng.integers(20, 45)))
            (folder / "skeleton.csv").write_text(csv_text(joints))
            streams["skeleton"] = (joints / 1000).astype(np.float32)
            files.append(f"{canonical}/skeleton.csv")
        if LACKS.get(key) != "ir":
            video = images(number, int(rng.integers(11, 14)))
            for frame, image in enumerate(video, 1):
                # not padded with zeros: 10 comes before 2 in the order of letters
                (folder / f"left_{frame}.png").write_bytes(png(image))
                files.append(f"{canonical}/left_{frame}.png")
                (folder / f"right_{frame}.png").write_bytes(png(255 - image))
            streams["ir"] = reduced(video)
        recordings.append(
            Recording(
                key=key,
                subject=str(subject),
                label=f"gesture {gesture}",
                streams=streams,
                raw_files=tuple(files),
                trial=str(trial),
            )
        )
    folders = tuple(f"subject_{subject}" for subject in SUBJECTS)
    add_macos_junk(root / folders[0])
    reshape(root, folders, form)
    if mapping is not None:
        (root / MAPPING).write_text(json.dumps(mapping))
    return Truth("gr4dhci", root, {"default": tuple(recordings)})


def skeleton(number: int, n_frames: int) -> np.ndarray:
    """(n_frames, 21, 3) in mm."""
    joints = 10.0 * np.arange(21)[:, np.newaxis] + np.array([1.0, 2.0, 4.0])
    frames = 0.01 * np.arange(n_frames)[:, np.newaxis, np.newaxis]
    return np.asarray(100.0 * number + joints + frames)


def images(number: int, n_frames: int) -> np.ndarray:
    """(n_frames, 120, 160) 8-bit; no pixel is like its neighbours."""
    frame, row, column = np.ogrid[:n_frames, :HEIGHT, :WIDTH]
    return np.asarray((5 * number + 3 * frame + row // 2 * 2 + column % 7) % 256, dtype=np.uint8)


def reduced(video: np.ndarray) -> np.ndarray:
    """Mean of each 2 x 2 pixels, (n_frames, 60, 80) float32."""
    blocks = video.reshape(len(video), HEIGHT // 2, 2, WIDTH // 2, 2)
    return np.asarray(blocks.mean(axis=(2, 4)), dtype=np.float32)


def csv_text(joints: np.ndarray) -> str:
    """One row per frame, without a header."""
    rows = joints.reshape(len(joints), -1)
    return "".join(",".join(f"{value:.2f}" for value in row) + "\n" for row in rows)
