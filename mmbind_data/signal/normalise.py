"""Bring samples of one modality to a common scale: centre skeletons, standardise channels. Pure.

Letters: n samples, T frames, J joints, C channels.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, TypeVar

import numpy as np

from mmbind_data.spec.descriptor import Modality, Model

Recentre = Literal["frame", "first", "none"]
Array = TypeVar("Array")

# Last axes along which each entry has a scale of its own; pixels and packets share one.
CHANNEL_AXES = frozenset({"channel", "coordinate"})
MIN_STD = 1e-6


class Statistics(Model):
    """Mean and standard deviation: one value per channel, or one for all pixels."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


def centre(values: Array, modality: Modality, recentre: Recentre = "first") -> Array:
    """Skeletons relative to their root joint, or to the mean joint; other kinds unchanged.

    Where a person stood depends on the camera.

    Parameters
    ----------
    values : ndarray or torch.Tensor, shape (n, T, J, 3), metres, (n, T, J, 2), pixels, or (n, ...)
    recentre : {"frame", "first", "none"}
        The root of each frame, or of the first frame, which keeps the path of the body.
    """
    if modality.kind != "skeleton" or recentre == "none":
        return values
    body: Any = values
    frames = body if recentre == "frame" else body[:, :1]
    if modality.root is None:
        origin = frames.mean(axis=2, keepdims=True)
    else:
        root = (modality.axes[1].names or ()).index(modality.root)
        origin = frames[:, :, root : root + 1]
    centred: Array = body - origin
    return centred


def channel_statistics(samples: Iterable[np.ndarray], modality: Modality) -> Statistics:
    """Mean and standard deviation of blocks of samples, each of shape (n, *any, channels).

    Absent rows (NaN), background pixels and the padding of point clouds (NaN) are left out. Class
    numbers get mean 0 and deviation 1.
    """
    count, total, squares = 0, np.zeros(1), np.zeros(1)
    for block in samples if modality.classes is None else ():
        rows = block
        if modality.kind == "point_cloud":
            rows = block.reshape(-1, block.shape[-1])
        rows = rows[np.isfinite(rows).all(axis=tuple(range(1, rows.ndim)))]
        if not has_channels(modality) and modality.background is not None:
            rows = rows[rows != modality.background]
        wide = rows.reshape(-1, block.shape[-1] if has_channels(modality) else 1)
        wide = wide.astype(np.float64)
        count += len(wide)
        total = total + wide.sum(axis=0)
        squares = squares + (wide**2).sum(axis=0)
    if not count:
        return Statistics(mean=(0.0,), std=(1.0,))
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0.0))
    return Statistics(mean=tuple(mean.tolist()), std=tuple(np.maximum(std, MIN_STD).tolist()))


def standardise(values: np.ndarray, statistics: Statistics) -> np.ndarray:
    """Subtract the mean and divide by the standard deviation: float32, the same shape."""
    mean = np.asarray(statistics.mean, dtype=np.float32)
    std = np.asarray(statistics.std, dtype=np.float32)
    return np.asarray((values - mean) / std, dtype=np.float32)


def has_channels(modality: Modality) -> bool:
    """Whether the last axis holds channels or coordinates, each with a scale of its own."""
    return modality.axes[-1].name in CHANNEL_AXES
