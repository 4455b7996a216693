"""Similarity of two signals that may run at different speeds: banded dynamic time warping. Pure.

Letters: n samples, T frames as stored, F frames after downsampling, C channels, m or p pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mmbind_data.errors import UsageError
from mmbind_data.matching.candidates import MILLIONTHS, Matches, rescored, union_of_pairs
from mmbind_data.signal.normalise import MIN_STD, centre, channel_statistics, standardise
from mmbind_data.spec.descriptor import Modality

# Pairs whose costs lie side by side: long enough that numpy's cost per call does not count.
BLOCK_PAIRS = 8192
BLOCK_ROWS = 64  # rows of A in a block of all pairs


@dataclass(frozen=True)
class Elastic:
    """How signals are compared; the defaults are measured, see tests/benchmarks/test_recipes.py.

    Attributes
    ----------
    frames : int
        Frames that a sample is averaged down to; fewer stay as they are.
    band : int
        How many frames two matched instants may lie apart.
    offset : float
        Share of each sample's own mean that is taken away, 0..1: how a sensor was worn, and the
        pull of gravity with it, then counts for less than how it moved.
    slope : float
        Weight of the derivative channels beside the signal's own; 0 leaves them out.
    """

    frames: int = 40
    band: int = 4
    offset: float = 0.5
    slope: float = 0.5

    def __post_init__(self) -> None:
        for name, value, least, most in (
            ("frames", self.frames, 2, None),
            ("band", self.band, 0, None),
            ("offset", self.offset, 0, 1),
            ("slope", self.slope, 0, None),
        ):
            if not (value >= least and (most is None or value <= most)):
                reach = f"at least {least}" if most is None else f"{least} to {most}"
                raise UsageError(
                    cannot="compare signals",
                    problem="bad number",
                    at=name,
                    expected=reach,
                    got=str(value),
                )


def elastic_signals(
    values: np.ndarray, modality: Modality, elastic: Elastic | None = None
) -> np.ndarray:
    """Samples as they are compared: averaged down, on a common scale, with their derivative.

    Parameters
    ----------
    values : ndarray, shape (n, T, ...), float32
        The union of both datasets, all present; scales are measured over all of it.
    modality : Modality
        A skeleton is centred on its root joint of the first frame. Axes behind time are channels.
    elastic : Elastic, optional

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
    scaled = standardise(centred, channel_statistics([centred], modality)).reshape(
        *values.shape[:2], -1
    )
    signals = mean_pool(scaled, min(elastic.frames, values.shape[1]))
    signals = _unit_variance(signals - elastic.offset * signals.mean(axis=1, keepdims=True))
    if elastic.slope:
        slopes = _unit_variance(np.gradient(signals, axis=1))
        signals = np.concatenate([signals, elastic.slope * slopes], axis=2)
    return np.ascontiguousarray(signals, dtype=np.float32)


def mean_pool(values: np.ndarray, frames: int) -> np.ndarray:
    """Means over ``frames`` equal parts of the time axis; a frame on a border counts in shares.

    Parameters
    ----------
    values : ndarray, shape (n, T, C)
    frames : int
        1 to T.

    Returns
    -------
    ndarray, shape (n, frames, C), float64

    Examples
    --------
    >>> mean_pool(np.arange(6.0).reshape(1, 6, 1), 3).ravel().tolist()
    [0.5, 2.5, 4.5]
    """
    n_frames = values.shape[1]
    if not 1 <= frames <= n_frames:
        message = f"cannot average {n_frames} frames down to {frames}"
        raise ValueError(message)
    edges = np.linspace(0.0, n_frames, frames + 1)
    first = np.arange(n_frames)
    # share (frames, T): how much of frame t lies in part f
    share = np.clip(np.minimum(edges[1:, None], first + 1) - np.maximum(edges[:-1, None], first),
                    0.0, None)  # fmt: skip
    share /= share.sum(axis=1, keepdims=True)
    pooled: np.ndarray = np.matmul(share, values.astype(np.float64))
    return pooled


def _unit_variance(signals: np.ndarray) -> np.ndarray:
    scale = signals.std(axis=(0, 1))
    return np.asarray((signals - signals.mean(axis=(0, 1))) / np.where(scale > MIN_STD, scale, 1.0))


def dtw_similarity(a: np.ndarray, b: np.ndarray, *, band: int = Elastic.band) -> np.ndarray:
    """Similarity of m given pairs of signals by exact banded dynamic time warping.

    The distance d of a pair is the least sum, over all monotone alignments of the two that keep
    within the band, of the Euclidean distances of the aligned frames, divided by the number of
    frames; the similarity is 1 / (1 + d): 1 for equal signals, falling towards 0.

    Parameters
    ----------
    a, b : ndarray, shape (m, F, C), float32
        Pair by pair, on a common scale, see `elastic_signals`.
    band : int
        How far apart in time two aligned frames may lie; 0 compares frame by frame.

    Returns
    -------
    ndarray, shape (m,), float32
        Rounded to 1e-6. Each value depends on its own pair alone, bit by bit, and not on which of
        the two comes first.

    Raises
    ------
    ValueError
        Shapes that differ, or a negative band.

    Notes
    -----
    Source: H. Sakoe, S. Chiba, "Dynamic programming algorithm optimization for spoken word
    recognition", IEEE Trans. ASSP 26 (1978): adjustment window, here with all steps of weight one.
    """
    rows = np.arange(len(a))
    if len(a) != len(b):
        message = f"{len(a)} signals cannot be paired with {len(b)}"
        raise ValueError(message)
    return dtw_pairs(a, b, rows, rows, band=band)


def dtw_pairs(
    a: np.ndarray,
    b: np.ndarray,
    row_a: np.ndarray,
    row_b: np.ndarray,
    *,
    band: int = Elastic.band,
) -> np.ndarray:
    """`dtw_similarity` of rows of A and rows of B, given by number: made for `rescored`.

    Parameters
    ----------
    a : ndarray, shape (n_a, F, C), float32
    b : ndarray, shape (n_b, F, C), float32
    row_a, row_b : ndarray, shape (p,), int64
    band : int

    Returns
    -------
    ndarray, shape (p,), float32
        Time grows as p * F * (2 band + 1) * C; memory beyond inputs and result is one block.
    """
    _check(a, b, band)
    left, right = _frames_first(a), _frames_first(b)
    found = np.empty(len(row_a), dtype=np.float32)
    for start in range(0, len(row_a), BLOCK_PAIRS):
        pairs = slice(start, start + BLOCK_PAIRS)
        # picked behind the turn: turning every block of pairs would take as long as comparing it
        x, y = left.take(row_a[pairs], axis=2), right.take(row_b[pairs], axis=2)
        found[pairs] = _similarity(x, y, band)
    return found


def reranked(
    to_b: Matches, to_a: Matches, a: np.ndarray, b: np.ndarray, *, band: int = Elastic.band
) -> tuple[Matches, Matches]:
    """Candidates of both directions ranked anew by `dtw_similarity`; each pair is measured once.

    Parameters
    ----------
    to_b, to_a : Matches, (n_a, any), (n_b, any)
        Candidates of A in B, and of B in A.
    a : ndarray, shape (n_a, F, C), float32
    b : ndarray, shape (n_b, F, C), float32
        See `elastic_signals`.
    band : int

    Returns
    -------
    Matches, Matches
        The same pairs, best first: what `match_candidates` takes.
    """
    row_a, row_b, _ = union_of_pairs(to_b, to_a)
    similarity = dtw_pairs(a, b, row_a, row_b, band=band)
    code = row_a * len(b) + row_b  # ascending
    return (
        rescored(
            to_b, lambda rows, others: similarity[np.searchsorted(code, rows * len(b) + others)]
        ),
        rescored(
            to_a, lambda rows, others: similarity[np.searchsorted(code, others * len(b) + rows)]
        ),
    )


def dtw_blocks(
    a: np.ndarray, b: np.ndarray, *, band: int = Elastic.band
) -> Iterator[tuple[slice, np.ndarray]]:
    """Similarities of all pairs, some rows of A at a time, see `dtw_similarity`.

    Parameters
    ----------
    a : ndarray, shape (n_a, F, C), float32
    b : ndarray, shape (n_b, F, C), float32
    band : int

    Yields
    ------
    (slice, ndarray of shape (64 or fewer, n_b), float32)
        The rows of A, and their similarities to all of B. Memory is one such block.
    """
    _check(a, b, band)
    left, right = _frames_first(a), _frames_first(b)
    width = BLOCK_PAIRS // BLOCK_ROWS
    for start in range(0, len(a), BLOCK_ROWS):
        rows = slice(start, min(start + BLOCK_ROWS, len(a)))
        block = np.empty((rows.stop - start, len(b)), dtype=np.float32)
        for first in range(0, len(b), width):
            columns = slice(first, first + width)
            block[:, columns] = _similarity(
                left[:, :, rows, np.newaxis], right[:, :, np.newaxis, columns], band
            )
        yield rows, block


def _check(a: np.ndarray, b: np.ndarray, band: int) -> None:
    if a.ndim != 3 or b.ndim != 3 or a.shape[1:] != b.shape[1:] or 0 in a.shape[1:] or band < 0:
        message = (
            f"signals {a.shape} and {b.shape}, band {band}: expected (n, F, C), (m, F, C), >= 0"
        )
        raise ValueError(message)


def _frames_first(signals: np.ndarray) -> np.ndarray:
    """(n, F, C) as contiguous (F, C, n): one instant of many samples side by side."""
    return np.ascontiguousarray(signals.transpose(1, 2, 0), dtype=np.float32)


def _similarity(x: np.ndarray, y: np.ndarray, band: int) -> np.ndarray:
    distance = warped_distance(x, y, band).astype(np.float64) / len(x)
    return np.asarray(np.rint(MILLIONTHS / (1.0 + distance)) / MILLIONTHS, dtype=np.float32)


def warped_distance(x: np.ndarray, y: np.ndarray, band: int) -> np.ndarray:
    """Least sum of frame distances along a warping path, for many pairs at once.

    Cells (i, j) of equal i + j need only the two diagonals before, so one diagonal of all pairs is
    computed at a time; sums over channels run in a fixed order, whatever the shape.

    Parameters
    ----------
    x : ndarray, shape (F, C, *P), float32
    y : ndarray, shape (F, C, *Q), float32
        P and Q broadcast against each other.
    band : int

    Returns
    -------
    ndarray, shape of P and Q broadcast, float32
    """
    n = len(x)
    shape = np.broadcast_shapes(x.shape[2:], y.shape[2:])
    y = y[::-1]  # along a diagonal j falls as i rises
    # Path costs of three diagonals by i + 1, with a wall around them; two buffers for frames.
    diagonals = np.full((3, n + 2, *shape), np.inf, dtype=np.float32)
    cost, step = np.empty((2, min(n, band + 1), *shape), dtype=np.float32)
    for diagonal in range(2 * n - 1):
        low = max(0, diagonal - n + 1, -((band - diagonal) // 2))
        high = min(diagonal, n - 1, (diagonal + band) // 2)
        here, before, twice = (diagonals[(diagonal - back) % 3] for back in (0, 1, 2))
        here[low] = np.inf  # a wall; above, no diagonal has been yet
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
