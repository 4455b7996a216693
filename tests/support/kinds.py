"""One small modality of every kind, and stores that hold them: activities can be told apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from smallstores import LABELS, write_labelled_store

from mmbind_data.signal.point_clouds import PointFrames, RaggedPoints
from mmbind_data.spec.descriptor import Axis, Modality, ModalityKind

XYZ = ("x", "y", "z")


def modality(
    kind: ModalityKind,
    sizes: Sequence[tuple[str, int]],
    *,
    names: tuple[str, ...] | None = None,
    unit: str = "m",
    background: float | None = None,
    classes: int | None = None,
) -> Modality:
    """Name the axes by pairs of name and size; ``names`` are those of the last axis."""
    axes = [Axis.model_validate({"name": name, "size": size}) for name, size in sizes]
    axes[-1] = axes[-1].model_copy(update={"names": names})
    return Modality(kind=kind, unit=unit, axes=tuple(axes), background=background, classes=classes)


VIDEO = (("time", 12), ("height", 20), ("width", 30))
STILL = VIDEO[1:]
MODALITIES = {
    "acc": modality("inertial", [("time", 24), ("channel", 3)], unit="m/s^2"),
    "heart_rate": modality("signal", [("time", 16), ("channel", 1)], unit="1/min"),
    "skeleton": modality("skeleton", [("time", 14), ("joint", 14), ("coordinate", 3)]),
    "keypoints": modality("skeleton", [("time", 10), ("joint", 6), ("coordinate", 2)], unit="px"),
    "depth": modality("depth_video", VIDEO, background=0.0),
    "ir": modality("depth_video", VIDEO, unit="1"),
    "radar": modality(
        "point_cloud", [("time", 11), ("channel", 5)], names=(*XYZ, "intensity", "doppler")
    ),
    "wifi_csi": modality(
        "csi", [("time", 9), ("antenna", 3), ("subcarrier", 114), ("packet", 10)], unit="dB"
    ),
    "image": modality("image", [*STILL, ("channel", 3)], unit="1"),
    "still_depth": modality("image", STILL, background=0.0),
    "semseg": modality("image", STILL, unit="1", background=0.0, classes=7),
}


def samples(name: str, label: np.ndarray, seed: int = 0) -> np.ndarray:
    """Values that depend on the label, (n, *shape) float32; not for point clouds."""
    one, rng = MODALITIES[name], np.random.default_rng(seed)
    pattern = np.random.default_rng(sorted(MODALITIES).index(name)).normal(
        size=(len(LABELS), *one.shape)
    )
    if one.classes is not None:
        spread = np.argsort(np.argsort(pattern.reshape(len(LABELS), -1), axis=1), axis=1)
        numbers = spread.reshape(pattern.shape) * one.classes // pattern[0].size
        return np.asarray(numbers[label], dtype=np.float32)
    values = 20 + 3 * pattern[label] + 0.3 * rng.normal(size=(len(label), *one.shape))
    if one.background is not None:
        values[:, ..., :3] = one.background
    return np.asarray(values, dtype=np.float32)


def clouds(name: str, label: np.ndarray, seed: int = 0) -> list[PointFrames]:
    """One sample of frames with 0 to 6 points around the label's place; the first has none."""
    one, rng = MODALITIES[name], np.random.default_rng(seed)
    n_frames, n_values = one.shape
    place = np.random.default_rng(9).normal(size=(len(LABELS), n_frames, n_values))
    found = []
    for number, code in enumerate(label):
        sizes = rng.integers(0, 7, size=n_frames) * (number > 0)
        frames = [
            3 * place[code, t] + 0.3 * rng.normal(size=(size, n_values))
            for t, size in enumerate(sizes)
        ]
        found.append(PointFrames.join(frames))
    return found


def write_kind_store(
    path: Path,
    names: Sequence[str],
    *,
    subjects: Sequence[str] = ("1", "2"),
    trials: int = 3,
    modalities: dict[str, Modality] | None = None,
    seed: int = 0,
) -> Path:
    """Write a store of some modalities; the radar of the first sample has no point at all."""
    described = {name: (modalities or {}).get(name, MODALITIES[name]) for name in names}
    label = np.array([c for _ in subjects for c in range(3) for _ in range(trials)])
    held: dict[str, np.ndarray | RaggedPoints] = {
        name: RaggedPoints.of(clouds(name, label, seed))
        if described[name].ragged
        else samples(name, label, seed)
        for name in names
    }
    return write_labelled_store(
        path, held, dataset_id="kinds", modalities=described, subjects=tuple(subjects),
        labels=LABELS, trials=trials,
    )  # fmt: skip
