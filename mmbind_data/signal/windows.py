"""Cut or stretch one recording into samples of fixed shape. Pure arithmetic, no files.

Letters: T frames of a recording, n frames of a sample, k windows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mmbind_data.signal.point_clouds import PointFrames
from mmbind_data.spec.descriptor import Recording, Windowing

# Blending two depth frames makes readings where neither frame has a surface; points of two frames
# do not correspond.
PICKED_KINDS = frozenset({"depth_video", "image", "point_cloud"})


@dataclass(frozen=True)
class WindowedRecording:
    """The samples of one recording.

    ``data`` holds for each modality that the recording carries its k samples: float32 of shape
    (k, n, ...), or k PointFrames of n frames. ``spans`` are the first and one-past-last raw frame
    of each window; None where a sample is the whole recording.
    """

    data: dict[str, np.ndarray | list[PointFrames]]
    spans: list[tuple[int, int] | None]
    n_dropped: int = 0  # windows left out because they touch a gap of the recording


def stretch(values: np.ndarray, n: int) -> np.ndarray:
    """Resample the first axis to ``n`` frames, linear in time, both end points kept.

    From shape (T, ...) to (n, ...), float32; T and n are at least 1, a single frame is repeated.

    Source: the published UTD-MHAD constants fit resampling of the whole trial, not cropping or
    padding (checked on the 861 trials, within 1e-4 of the means).
    """
    _check_frames(len(values), n)
    position = np.linspace(0.0, len(values) - 1, n)
    left = np.floor(position).astype(np.intp)
    right = np.minimum(left + 1, len(values) - 1)
    share = (position - left).reshape(-1, *[1] * (values.ndim - 1))
    stretched = values[left] * (1.0 - share) + values[right] * share
    return np.ascontiguousarray(stretched, dtype=np.float32)


def pick(values: np.ndarray, n: int) -> np.ndarray:
    """Resample the first axis to ``n`` frames by taking the nearest frame (ties: the earlier).

    Parameters and result are those of `stretch`.
    """
    return np.ascontiguousarray(values[picked_frames(len(values), n)], dtype=np.float32)


def picked_frames(n_frames: int, n: int) -> np.ndarray:
    """Numbers of the ``n`` frames that lie nearest to evenly spaced times (ties: the earlier).

    >>> picked_frames(4, 3).tolist()
    [0, 1, 3]
    """
    _check_frames(n_frames, n)
    # In whole numbers, because rounding would turn some ties into the later frame.
    steps = max(n - 1, 1)
    return -((steps - 2 * np.arange(n) * (n_frames - 1)) // (2 * steps))


def cut(values: np.ndarray, starts: Sequence[int], length: int) -> np.ndarray:
    """Windows of ``length`` frames from each of k starts: shape (k, length, ...), float32."""
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


def make_windows(
    recording: Recording, windowing: Windowing, kinds: Mapping[str, str]
) -> WindowedRecording:
    """Samples of one recording under a preset's windowing.

    The streams, each (T, ...), are at native rate; for ``cut`` all have the same T, for ``still`` T
    is 1. ``kinds`` are those of the modalities: depth and image frames are picked, never blended.

    Raises
    ------
    ValueError
        When streams to be cut together differ in length, or a still one has more than a frame:
        the reader has to align them.
    """
    if not recording.streams:
        return WindowedRecording({}, [])
    if windowing.mode == "cut":
        return _cut(recording, windowing)
    data: dict[str, np.ndarray | list[PointFrames]] = {}
    for name, values in recording.streams.items():
        n = windowing.length[name]
        if windowing.mode == "still" and len(values) != 1:
            message = f"recording {recording.key}: {name} has {len(values)} frames, not one"
            raise ValueError(message)
        if isinstance(values, PointFrames):
            data[name] = [values.take(picked_frames(len(values), n))]
        elif windowing.mode == "still":
            data[name] = np.asarray(values, dtype=np.float32)
        else:
            resample = pick if kinds[name] in PICKED_KINDS else stretch
            data[name] = resample(values, n)[np.newaxis]
    return WindowedRecording(data, [None])


def _cut(recording: Recording, windowing: Windowing) -> WindowedRecording:
    """Consecutive windows without those over gaps; the frames behind the last one are dropped."""
    lengths = {windowing.length[name] for name in recording.streams}
    if len(lengths) > 1:
        message = f"recording {recording.key}: windows of different lengths cannot be cut together"
        raise ValueError(message)
    frames = {name: len(values) for name, values in recording.streams.items()}
    if len(set(frames.values())) > 1:
        message = f"recording {recording.key}: streams of different lengths {frames}"
        raise ValueError(message)
    (length,), (n_frames, *_) = lengths, frames.values()
    all_starts = window_starts(n_frames, length, windowing.step or length)
    starts = [
        start
        for start in all_starts
        if not any(a < start + length and start < b for a, b in recording.gaps)
    ]
    data: dict[str, np.ndarray | list[PointFrames]] = {}
    for name, values in recording.streams.items():
        if isinstance(values, PointFrames):
            data[name] = [values.take(range(start, start + length)) for start in starts]
        else:
            data[name] = cut(values, starts, length)
    spans: list[tuple[int, int] | None] = [(start, start + length) for start in starts]
    return WindowedRecording(data, spans, len(all_starts) - len(starts))


def _check_frames(n_frames: int, n: int) -> None:
    if n_frames < 1 or n < 1:
        message = f"cannot resample {n_frames} frames to {n}: both must be at least 1"
        raise ValueError(message)
