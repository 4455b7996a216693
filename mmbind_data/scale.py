"""Put samples of one modality on a common scale: centre skeletons, standardise channels. Pure.

Letters: n samples, T frames, J joints, C channels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from .spec import Modality

# Kinds whose last axis is a channel with its own unit-like scale; pixels share one.
CHANNEL_KINDS = frozenset({"inertial", "skeleton"})
MIN_STD = 1e-6


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation per channel, or of all values for pixel-like kinds.

    Attributes
    ----------
    mean, std : tuple of float
        One value per channel, or one value.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]


def centre(values: np.ndarray, modality: Modality) -> np.ndarray:
    """Skeletons relative to the first frame's root joint; every other kind unchanged.

    Where a person stood is a matter of the camera; how the body moved is kept.

    Parameters
    ----------
    values : ndarray, shape (n, T, J, 3), metres, or (n, ...)
    modality : Modality
        Names the root joint, if it has one.
    """
    if modality.kind != "skeleton" or modality.root is None:
        return values
    joints = modality.axes[1].names or ()
    root = joints.index(modality.root)
    return np.asarray(values - values[:, :1, root : root + 1])


def measure(samples: Iterable[np.ndarray], modality: Modality) -> Statistics:
    """Statistics over the given samples; rows with NaN (absent) are left out.

    Parameters
    ----------
    samples : iterable of ndarray, shape (n, *any)
        Blocks whose last axis is the channel.
    modality : Modality
    """
    count, total, squares = 0, np.zeros(1), np.zeros(1)
    for block in samples:
        rows = block[np.isfinite(block).all(axis=tuple(range(1, block.ndim)))]
        wide = rows.reshape(-1, _n_channels(rows, modality)).astype(np.float64)
        count += len(wide)
        total = total + wide.sum(axis=0)
        squares = squares + (wide**2).sum(axis=0)
    mean = total / max(count, 1)
    std = np.sqrt(np.maximum(squares / max(count, 1) - mean**2, 0.0))
    return Statistics(tuple(mean.tolist()), tuple(np.maximum(std, MIN_STD).tolist()))


def standardise(values: np.ndarray, statistics: Statistics) -> np.ndarray:
    """Subtract the mean and divide by the standard deviation: float32, the same shape."""
    mean = np.asarray(statistics.mean, dtype=np.float32)
    std = np.asarray(statistics.std, dtype=np.float32)
    return np.asarray((values - mean) / std, dtype=np.float32)


def _n_channels(values: np.ndarray, modality: Modality) -> int:
    return values.shape[-1] if modality.kind in CHANNEL_KINDS else 1
