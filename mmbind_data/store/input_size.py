"""Reduce large samples while they are read: fewer frames, points and pixels.

The reduction is deterministic: the same stored sample always gives the same input.

Letters: n samples, T frames, P points, H x W pixels, C channels.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mmbind_data.errors import IntegrityError
from mmbind_data.signal.point_clouds import RaggedPoints
from mmbind_data.signal.windows import PICKED_KINDS, pick, picked_frames, stretch
from mmbind_data.spec.descriptor import Axis, Modality
from mmbind_data.spec.store import InputBounds
from mmbind_data.store.dataset import READ_BYTES, Dataset

# one frame of these kinds is so large that a network cannot take all of a sample
FRAME_KINDS = frozenset({"depth_video", "point_cloud", "csi"})


def bounded_modality(modality: Modality, bounds: InputBounds) -> Modality:
    """Describe a stored modality as it enters a network.

    A point cloud gets its point axis; pictures are reduced by the smallest whole factor that fits.

    >>> axes = (Axis(name="height", size=240), Axis(name="width", size=320))
    >>> bounded_modality(Modality(kind="image", unit="m", axes=axes), InputBounds()).shape
    (60, 80)
    """
    if modality.ragged:
        time, *rest = modality.axes
        axes = (time, Axis(name="point", size=bounds.points), *rest)
        modality = modality.model_copy(update={"axes": axes})
    shape = list(modality.shape)
    if modality.kind in FRAME_KINDS:
        shape[0] = min(shape[0], bounds.frames)
    names = [axis.name for axis in modality.axes]
    if "height" in names:
        row, column = names.index("height"), names.index("width")
        factor = 1
        while (shape[row] // factor) * (shape[column] // factor) > bounds.pixels:
            factor += 1
        shape[row], shape[column] = shape[row] // factor, shape[column] // factor
    return modality.sized(tuple(shape))


def load_reduced(store: Dataset, name: str, rows: np.ndarray, target: Modality) -> np.ndarray:
    """Read samples in the shape in which they enter a network, in blocks that bound the memory.

    Parameters
    ----------
    store : Dataset
    name : str
    rows : ndarray of int, shape (n,)
    target : Modality
        From `bounded_modality`, possibly with another number of frames.

    Returns
    -------
    ndarray, shape (n, *target.shape), float32
        As stored if the shape is the same; point clouds padded with NaN.

    Raises
    ------
    IntegrityError
        A value is not finite although the store marks the modality as present.
    """
    result = np.empty((len(rows), *target.shape), dtype=np.float32)
    stored = store.info.modalities[name]
    if stored.ragged:
        frames = picked_frames(stored.shape[0], target.shape[0])
        for places, clouds in _clouds(store, name, rows):
            _check_finite(clouds.values, store, name)
            result[places] = clouds.padded(frames, target.shape[1])
        return result
    for places, values in store.blocks(name, rows):
        _check_finite(values, store, name)
        result[places] = reduce_samples(values, stored, target.shape)
    return result


def _check_finite(values: np.ndarray, store: Dataset, name: str) -> None:
    if not np.isfinite(values).all():
        what, at = "values that are not finite", f"{store.path} modality {name}"
        expected = "numbers where the store marks the modality as present"
        fix = "Run mmbind validate --level values."
        raise IntegrityError(
            cannot="train", problem=what, at=at, expected=expected, got="NaN or infinity", fix=fix
        )


def reduce_samples(values: np.ndarray, modality: Modality, shape: tuple[int, ...]) -> np.ndarray:
    """Bring samples of a fixed shape to another one.

    Parameters
    ----------
    values : ndarray, shape (n, *modality.shape), float32
    modality : Modality
    shape : tuple of int
        Its number of frames may be smaller or larger: frames of pictures are picked, so are those
        of CSI where there are fewer, others are interpolated. Its pictures may be smaller by a
        whole factor: of class maps the middle pixel of each square is taken, of depth the mean of
        the pixels with a reading, of others the mean.

    Returns
    -------
    ndarray, shape (n, *shape), float32
    """
    if modality.axes[0].name == "time" and modality.shape[0] != shape[0]:
        fewer = modality.kind == "csi" and shape[0] < modality.shape[0]
        resample = pick if fewer or modality.kind in PICKED_KINDS else stretch
        values = resample(values.swapaxes(0, 1), shape[0]).swapaxes(0, 1)
    names = [axis.name for axis in modality.axes]
    if "height" in names and values.shape[1:] != shape:
        values = _reduce(values, modality, names.index("height") + 1, shape[names.index("height")])
    return np.ascontiguousarray(values)


def _reduce(values: np.ndarray, modality: Modality, axis: int, height: int) -> np.ndarray:
    """Reduce each square to one pixel; ``axis`` and the next one are height and width."""
    factor = values.shape[axis] // height
    width = values.shape[axis + 1] // factor
    lead, tail = values.shape[:axis], values.shape[axis + 2 :]
    whole = (slice(None),) * axis + (slice(height * factor), slice(width * factor))
    squares = values[whole].reshape(*lead, height, factor, width, factor, *tail)
    squares = np.moveaxis(squares, axis + 2, axis + 1)
    if modality.classes is not None:
        middle = (factor - 1) // 2
        return squares[(slice(None),) * (axis + 2) + (middle, middle)]
    sides = (axis + 2, axis + 3)
    if modality.background is None:
        return np.asarray(squares.mean(axis=sides))
    reading = squares != modality.background
    count = reading.sum(axis=sides)
    total = np.where(reading, squares, 0.0).sum(axis=sides)
    mean = total / np.maximum(count, 1)
    return np.where(count > 0, mean, modality.background).astype(np.float32)


def _clouds(
    store: Dataset, name: str, rows: np.ndarray
) -> Iterator[tuple[np.ndarray, RaggedPoints]]:
    """Positions in ``rows`` and their clouds, about `READ_BYTES` of points at a time."""
    n_values = store.info.modalities[name].shape[-1]
    size = np.diff(store.point_edges(name))[rows] * n_values * 4
    part = (np.cumsum(size) - size) // READ_BYTES
    for places in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(part)) + 1):
        if len(places):
            yield places, store.load_points(name, rows[places])
