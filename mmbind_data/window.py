"""Cut or stretch one recording into samples of fixed shape. Pure arithmetic, no files.

Letters: T frames of a recording, n frames of a sample, k windows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .spec import Recording, Windowing

# Blending two depth frames puts readings where neither frame has a surface.
PICKED_KINDS = frozenset({"depth_video", "image"})


@dataclass(frozen=True)
class Windows:
    """The samples of one recording.

    Attributes
    ----------
    data : dict of str to ndarray, shape (k, n, ...), float32
        One array per modality that the recording carries; all have the same k.
    spans : list of (int, int) or None
        First and one-past-last raw frame of a window; None where a sample is the whole recording.
    """

    data: dict[str, np.ndarray]
    spans: list[tuple[int, int] | None]


def stretch(values: np.ndarray, n: int) -> np.ndarray:
    """Resample the first axis to ``n`` frames, linear in time, both end points kept.

    Parameters
    ----------
    values : ndarray, shape (T, ...)
        T >= 1; a single frame is repeated.
    n : int
        Frames of the result, >= 1.

    Returns
    -------
    ndarray, shape (n, ...), float32

    Notes
    -----
    Source: the published UTD-MHAD constants fit resampling of the whole trial, not cropping or
    padding (checked on the 861 trials, within 1e-4 of the means).
    """
    position = _positions(len(values), n)
    left = np.floor(position).astype(np.intp)
    right = np.minimum(left + 1, len(values) - 1)
    share = (position - left).reshape(-1, *[1] * (values.ndim - 1))
    stretched = values[left] * (1.0 - share) + values[right] * share
    return np.ascontiguousarray(stretched, dtype=np.float32)


def pick(values: np.ndarray, n: int) -> np.ndarray:
    """Resample the first axis to ``n`` frames by taking the nearest frame (ties: the earlier).

    Parameters and result are those of `stretch`.
    """
    _check_frames(len(values), n)
    # In whole numbers, because rounding would turn some ties into the later frame.
    steps = max(n - 1, 1)
    index = -((steps - 2 * np.arange(n) * (len(values) - 1)) // (2 * steps))
    return np.ascontiguousarray(values[index], dtype=np.float32)


def cut(values: np.ndarray, length: int, step: int) -> np.ndarray:
    """Consecutive windows; the frames behind the last full window are dropped.

    Parameters
    ----------
    values : ndarray, shape (T, ...)
    length, step : int
        Frames per window, and from one window's start to the next.

    Returns
    -------
    ndarray, shape (k, length, ...), float32
        k = 0 when the recording is shorter than a window.
    """
    starts = window_starts(len(values), length, step)
    windows = np.empty((len(starts), length, *values.shape[1:]), dtype=np.float32)
    for index, start in enumerate(starts):
        windows[index] = values[start : start + length]
    return windows


def window_starts(n_frames: int, length: int, step: int) -> range:
    """First frames of all windows that lie fully inside the recording.

    >>> list(window_starts(250, 100, 50))
    [0, 50, 100, 150]
    """
    return range(0, n_frames - length + 1, step)


def make_windows(recording: Recording, windowing: Windowing, kinds: Mapping[str, str]) -> Windows:
    """Samples of one recording under a preset's windowing.

    Parameters
    ----------
    recording : Recording
        Its streams at native rate, each (T, ...). For ``cut`` all have the same T.
    windowing : Windowing
    kinds : mapping of modality to modality kind
        Depth and image frames are picked, never blended.

    Raises
    ------
    ValueError
        When streams to be cut together differ in length: the reader has to align them.
    """
    if windowing.mode == "stretch":
        resampled = {
            name: (pick if kinds[name] in PICKED_KINDS else stretch)(
                values, windowing.length[name]
            )[np.newaxis]
            for name, values in recording.streams.items()
        }
        return Windows(resampled, [None] if resampled else [])
    if len({windowing.length[name] for name in recording.streams}) > 1:
        message = f"recording {recording.key}: windows of different lengths cannot be cut together"
        raise ValueError(message)
    lengths = {name: len(values) for name, values in recording.streams.items()}
    if len(set(lengths.values())) > 1:
        message = f"recording {recording.key}: streams of different lengths {lengths}"
        raise ValueError(message)
    step = windowing.step or max(windowing.length.values())
    data: dict[str, np.ndarray] = {}
    spans: list[tuple[int, int] | None] = []
    for name, values in recording.streams.items():
        length = windowing.length[name]
        data[name] = cut(values, length, step)
        spans = [(start, start + length) for start in window_starts(len(values), length, step)]
    return Windows(data, spans)


def _positions(n_frames: int, n: int) -> np.ndarray:
    _check_frames(n_frames, n)
    return np.linspace(0.0, n_frames - 1, n)


def _check_frames(n_frames: int, n: int) -> None:
    if n_frames < 1 or n < 1:
        message = f"cannot resample {n_frames} frames to {n}: both must be at least 1"
        raise ValueError(message)
