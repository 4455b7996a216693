"""Time grids and gaps: put irregular samples on a common grid, and find where nothing was measured.

Pure arithmetic. Spans are (first frame, one past the last frame).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmbind_data.errors import RawLayoutError

BLOCK = 4096  # grid points
# Points of a grid without a sample. Up to the first number (four days at 50 Hz) is always allowed,
# for a few rows far apart. A recorder that records 4 s of every 10 min has 150 for each sample, one
# that is worn for a day every three months 90. A time of 0 among times since 1970 makes more than
# 1000 in a recording of less than 20 days, and more than the last bound (eight months at 50 Hz) in
# a longer one.
FREE_POINTS, POINTS_PER_SAMPLE, MAX_POINTS = 1 << 24, 1000, 1 << 30


def common_grid(
    times: Sequence[np.ndarray], step: float, places: Sequence[str] = (), unit: str = ""
) -> np.ndarray:
    """Evenly spaced times over the interval that all streams cover.

    ``times`` are those of each stream, strictly increasing, float64, of shape (n_i,) with n_i >= 1;
    there is one stream at least. ``step`` is in the same unit. For messages, ``places`` are where
    the streams were read from, and ``unit`` is that of their times. The grid, float64 of shape
    (T,), begins at the latest first time; it is empty if the streams do not overlap.

    Raises
    ------
    RawLayoutError
        The times span far more than so many samples can: one of them must be wrong.

    >>> common_grid([np.array([0.0, 10.0]), np.array([3.0, 12.0])], 2.0).tolist()
    [3.0, 5.0, 7.0, 9.0]
    """
    first = max(float(one[0]) for one in times)
    last = min(float(one[-1]) for one in times)
    n_points = (last - first) / step
    n_samples = max(len(one) for one in times)
    if n_points - n_samples > _most_points_between(n_samples):
        raise _far_apart(times, step, places, unit)
    n = int(np.floor(n_points + 1e-9)) + 1
    return first + step * np.arange(max(n, 0), dtype=np.float64)


def _most_points_between(n_samples: int) -> int:
    return min(max(POINTS_PER_SAMPLE * n_samples, FREE_POINTS), MAX_POINTS)


def _far_apart(
    times: Sequence[np.ndarray], step: float, places: Sequence[str], unit: str
) -> RawLayoutError:
    """Name the longest gap of all streams: an impossible time is at one of its ends."""
    gaps = [np.diff(one) for one in times]
    which = int(np.argmax([gap.max(initial=0.0) for gap in gaps]))
    at = int(np.argmax(gaps[which]))
    before, after = times[which][at : at + 2].tolist()
    n_samples = len(times[which])
    longest = step * _most_points_between(n_samples)
    return RawLayoutError(
        cannot="put the samples on one time grid",
        problem="a time that cannot be",
        at=places[which] if places else "one stream",
        expected=f"{n_samples} samples that span at most {longest:g} {unit}".rstrip(),
        got=f"{before:.15g} {unit}".rstrip() + f" followed by {after:.15g} {unit}".rstrip(),
        fix="Mend or remove the wrong time; two recordings far apart belong in two files.",
    )


def undelayed(arrivals: np.ndarray, period: float) -> np.ndarray:
    """Times at which samples were taken, from the times at which they were delivered.

    A sensor samples at a period; what reads it may be late and then gets several samples at once.
    The time of a sample is the latest that is not after its arrival and at least a period before
    the next sample's. Where no sample was lost, that is exact as soon as one arrives at once.

    ``arrivals``, float64 of shape (n,) with n >= 1, are in the order of sampling and need not
    increase; ``period`` is the shortest time between two samples. The result has the same shape and
    increases by at least the period.

    >>> undelayed(np.array([0.0, 20.0, 95.0, 96.0, 97.0, 100.0]), 20.0).tolist()
    [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]
    """
    steps = period * np.arange(len(arrivals), dtype=np.float64)
    return steps + np.minimum.accumulate((arrivals - steps)[::-1])[::-1]


def interpolate(
    times: np.ndarray, values: np.ndarray, grid: np.ndarray, max_gap: float = np.inf
) -> tuple[np.ndarray, np.ndarray]:
    """Values on a grid, linear in time between the neighbouring samples, and where there are none.

    On a sample the value is that sample's, whatever its neighbours are (they may be NaN); outside
    the times it is the first or the last sample's, never extrapolated. Not `numpy.interp`, whose
    last bit depends on the compiler.

    Parameters
    ----------
    times : ndarray, shape (n,), float64, strictly increasing, n >= 1
    values : ndarray, shape (n, C)
    grid : ndarray, shape (T,)

    Returns
    -------
    on_grid : ndarray, shape (T, C), float64
    in_gap : ndarray, shape (T,), bool
        Strictly between two samples that are further apart than ``max_gap``.
    """
    on_grid = np.empty((len(grid), values.shape[1]), dtype=np.float64)
    in_gap = np.empty(len(grid), dtype=bool)
    for start in range(0, len(grid), BLOCK):  # what a block needs stays in the cache
        part = slice(start, start + BLOCK)
        on_grid[part], in_gap[part] = _interpolate_block(times, values, grid[part], max_gap)
    return on_grid, in_gap


def _interpolate_block(
    times: np.ndarray, values: np.ndarray, grid: np.ndarray, max_gap: float
) -> tuple[np.ndarray, np.ndarray]:
    last = len(times) - 1
    left = np.clip(np.searchsorted(times, grid, side="right") - 1, 0, last)
    right = np.minimum(left + 1, last)
    since = grid - times.take(left)
    width = times.take(right) - times.take(left)
    between = (since > 0) & (width > 0)
    share = np.divide(since, width, out=np.zeros(len(grid)), where=between)[:, np.newaxis]
    before = values.take(left, axis=0)
    on_grid = np.asarray(before * (1.0 - share), dtype=np.float64)
    on_grid += values.take(right, axis=0) * share
    np.copyto(on_grid, before, where=~between[:, np.newaxis])
    return on_grid, between & (width > max_gap)


def spans_of(mask: np.ndarray) -> tuple[tuple[int, int], ...]:
    """Runs of True.

    >>> spans_of(np.array([False, True, True, False, True]))
    ((1, 3), (4, 5))
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return tuple((int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True))


def bridge(values: np.ndarray, max_frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Fill short drop-outs by linear interpolation; longer ones, and those at an end, stay.

    A frame of ``values``, shape (T, C), with NaN or infinity in any channel counts as missing; runs
    of up to ``max_frames`` of them are filled. Returned are the values as float64, NaN in all
    channels of a frame that stays missing, and which frames these are: bool, shape (T,).
    """
    filled = np.array(values, dtype=np.float64)
    missing = np.asarray(~np.isfinite(filled).all(axis=1))
    filled[missing] = np.nan
    for start, end in spans_of(missing):
        if end - start <= max_frames and start > 0 and end < len(filled):
            share = (np.arange(start, end) - (start - 1)) / (end - (start - 1))
            before, after = filled[start - 1], filled[end]
            filled[start:end] = before + share[:, np.newaxis] * (after - before)
            missing[start:end] = False
    return filled, missing
