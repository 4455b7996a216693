"""Similarity of two signals that may run at different speeds: banded dynamic time warping. Pure.

Letters: n samples, T frames as stored, F frames after downsampling, C channels, p pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmbind_data.errors import UsageError
from mmbind_data.matching.candidates import Matches, rescored, union_of_pairs
from mmbind_data.matching.metric import MILLIONTHS
from mmbind_data.signal.normalise import MIN_STD, centre, channel_statistics, standardise
from mmbind_data.spec.descriptor import Modality

# Pairs that are compared at a time: enough that numpy's cost per call does not count.
BLOCK_PAIRS = 8192


@dataclass(frozen=True)
class Elastic:
    """How signals are compared; the defaults are measured, see tests/benchmarks/test_recipes.py."""

    frames: int = 40  # that a sample is averaged down to; fewer stay as they are
    band: int = 4  # largest distance in frames between two aligned instants
    # share of each sample's own mean that is subtracted, 0..1: how a sensor was worn, and the
    # direction of gravity with it, then counts for less than how it moved
    offset: float = 0.5
    slope: float = 0.5  # weight of the derivative channels relative to the signal; 0: none

    def __post_init__(self) -> None:
        for name, value, least, most in (
            ("frames", self.frames, 2, None),
            ("band", self.band, 0, None),
            ("offset", self.offset, 0, 1),
            ("slope", self.slope, 0, None),
        ):
            if not (value >= least and (most is None or value <= most)):
                raise UsageError(
                    cannot="compare signals",
                    problem="bad number",
                    at=name,
                    expected=f"at least {least}" if most is None else f"{least} to {most}",
                    got=value,
                )


def elastic_signals(
    values: np.ndarray, modality: Modality, elastic: Elastic | None = None
) -> np.ndarray:
    """Prepare samples for comparison: averaged down, on a common scale, with their derivative.

    Parameters
    ----------
    values : ndarray, shape (n, T, ...), float32
        The union of both datasets, all present; scales are measured over all of it.
    modality : Modality
        A skeleton is centred on its root joint of the first frame. Axes after time are channels.

    Returns
    -------
    ndarray, shape (n, F, C), float32
        F = min(T, frames); C doubles when derivatives are added. Every channel has variance one
        (the derivatives ``slope ** 2``), or zero where it is constant.

    Raises
    ------
    UsageError
        The samples have no time axis, or a single frame.
    """
    elastic = elastic or Elastic()
    if modality.axes[0].name != "time" or values.ndim < 3 or values.shape[1] < 2:
        raise UsageError(
            cannot="warp signals in time",
            problem="no signal",
            at=f"a sample of kind {modality.kind!r}",
            expected="a time axis of at least 2 frames",
            got=f"shape {values.shape[1:]}",
        )
    centred = centre(values, modality)
    scaled = standardise(centred, channel_statistics([centred], modality))
    flat = scaled.reshape(*values.shape[:2], -1)
    signals = mean_pool(flat, min(elastic.frames, values.shape[1]))
    signals = _unit_variance(signals - elastic.offset * signals.mean(axis=1, keepdims=True))
    if elastic.slope:
        slopes = _unit_variance(np.gradient(signals, axis=1))
        signals = np.concatenate([signals, elastic.slope * slopes], axis=2)
    return np.ascontiguousarray(signals, dtype=np.float32)


def mean_pool(values: np.ndarray, frames: int) -> np.ndarray:
    """Means over ``frames`` (1 to T) equal parts of the time axis: (n, T, C) to (n, F, C) float64.

    A frame on a border counts in shares.

    >>> mean_pool(np.arange(6.0).reshape(1, 6, 1), 3).ravel().tolist()
    [0.5, 2.5, 4.5]
    """
    n_frames = values.shape[1]
    if not 1 <= frames <= n_frames:
        message = f"cannot average {n_frames} frames down to {frames}"
        raise ValueError(message)
    edges = np.linspace(0.0, n_frames, frames + 1)
    first = np.arange(n_frames)
    # share (frames, T): how much of frame t belongs to part f
    share = np.minimum(edges[1:, None], first + 1) - np.maximum(edges[:-1, None], first)
    share = np.clip(share, 0.0, None)
    share /= share.sum(axis=1, keepdims=True)
    pooled: np.ndarray = np.matmul(share, values.astype(np.float64))
    return pooled


def _unit_variance(signals: np.ndarray) -> np.ndarray:
    scale = signals.std(axis=(0, 1))
    return np.asarray((signals - signals.mean(axis=(0, 1))) / np.where(scale > MIN_STD, scale, 1.0))


def dtw_pairs(
    a: np.ndarray,
    b: np.ndarray,
    row_a: np.ndarray,
    row_b: np.ndarray,
    *,
    band: int = Elastic.band,
    block_pairs: int = BLOCK_PAIRS,
) -> np.ndarray:
    """Similarity of pairs of signals by exact banded dynamic time warping.

    The distance d of a pair is the least sum, over all monotone alignments of the two that keep
    within the band, of the Euclidean distances of the aligned frames, divided by the number of
    frames; the similarity is 1 / (1 + d): 1 for equal signals, falling towards 0.

    Parameters
    ----------
    a : ndarray, shape (n_a, F, C), float32
    b : ndarray, shape (n_b, F, C), float32
        On a common scale, see `elastic_signals`.
    row_a, row_b : ndarray, shape (p,), int64
        Rows of the pairs.
    band : int
        Largest distance in frames between two aligned instants; 0 compares frame by frame.
    block_pairs : int
        Pairs that are compared at a time.

    Returns
    -------
    ndarray, shape (p,), float32
        Rounded to 1e-6. Each value depends on its own pair alone, bit by bit, and not on which of
        the two comes first. Time grows as p * F * (2 band + 1) * C; memory beyond inputs and
        result is one block.

    Raises
    ------
    ValueError
        Shapes that do not fit, or a negative band.

    Notes
    -----
    Source: H. Sakoe, S. Chiba, "Dynamic programming algorithm optimization for spoken word
    recognition", IEEE Trans. ASSP 26 (1978): adjustment window, here with all steps of weight one.
    """
    if a.ndim != 3 or b.ndim != 3 or a.shape[1:] != b.shape[1:] or 0 in a.shape[1:] or band < 0:
        message = (
            f"signals {a.shape} and {b.shape}, band {band}: expected (n, F, C), (m, F, C), >= 0"
        )
        raise ValueError(message)
    # contiguous (F, C, n): one instant of many samples side by side; turned before the pairs are
    # picked, since turning every block of pairs would take as long as comparing it
    left, right = (
        np.ascontiguousarray(signals.transpose(1, 2, 0), dtype=np.float32) for signals in (a, b)
    )
    found = np.empty(len(row_a), dtype=np.float32)
    for start in range(0, len(row_a), block_pairs):
        pairs = slice(start, start + block_pairs)
        x, y = left.take(row_a[pairs], axis=2), right.take(row_b[pairs], axis=2)
        distance = _warped_distance(x, y, band).astype(np.float64) / len(x)
        found[pairs] = np.rint(MILLIONTHS / (1.0 + distance)) / MILLIONTHS
    return found


def reranked(
    to_b: Matches, to_a: Matches, a: np.ndarray, b: np.ndarray, *, band: int = Elastic.band
) -> tuple[Matches, Matches]:
    """Rank the candidates of both directions anew by `dtw_pairs`; each pair is measured once.

    Parameters
    ----------
    to_b, to_a : Matches, (n_a, any), (n_b, any)
        Candidates of A in B, and of B in A.
    a : ndarray, shape (n_a, F, C), float32
    b : ndarray, shape (n_b, F, C), float32
        See `elastic_signals`.

    Returns
    -------
    Matches, Matches
        The same pairs, best first: what `match_candidates` takes.
    """
    row_a, row_b, _ = union_of_pairs(to_b, to_a)
    similarity = dtw_pairs(a, b, row_a, row_b, band=band)
    code = row_a * len(b) + row_b  # ascending

    def score(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
        return np.asarray(similarity[np.searchsorted(code, rows * len(b) + others)])

    return rescored(to_b, score), rescored(to_a, lambda rows, others: score(others, rows))


def _warped_distance(x: np.ndarray, y: np.ndarray, band: int) -> np.ndarray:
    """Least sum of frame distances along a warping path, for many pairs at once.

    Cells (i, j) of equal i + j need only the two diagonals before, so one diagonal of all pairs is
    computed at a time; sums over channels run in a fixed order for every shape. x and y are
    (F, C, p), the result (p,), all float32.
    """
    n, n_pairs = len(x), x.shape[2]
    y = y[::-1]  # along a diagonal j falls as i rises
    # Path costs of three diagonals by i + 1, with infinity around them; two buffers for frames.
    diagonals = np.full((3, n + 2, n_pairs), np.inf, dtype=np.float32)
    cost, step = np.empty((2, min(n, band + 1), n_pairs), dtype=np.float32)
    for diagonal in range(2 * n - 1):
        low = max(0, diagonal - n + 1, -((band - diagonal) // 2))
        high = min(diagonal, n - 1, (diagonal + band) // 2)
        here, before, twice = (diagonals[(diagonal - back) % 3] for back in (0, 1, 2))
        here[low] = np.inf  # outside the band; above it, nothing has been written yet
        if low > high:  # odd diagonals of a band of 0
            continue
        of_y = slice(n - 1 - diagonal + low, n - diagonal + high)
        total, part = cost[: high - low + 1], step[: high - low + 1]
        for channel in range(x.shape[1]):
            target = part if channel else total
            np.subtract(x[low : high + 1, channel], y[of_y, channel], out=target)
            np.multiply(target, target, out=target)
            if channel:
                total += part
        np.sqrt(total, out=total)
        if diagonal:
            np.minimum(before[low : high + 1], before[low + 1 : high + 2], out=part)
            np.minimum(part, twice[low : high + 1], out=part)
            total += part
        here[low + 1 : high + 2] = total
    last: np.ndarray = diagonals[(2 * n - 2) % 3][n]
    return last
