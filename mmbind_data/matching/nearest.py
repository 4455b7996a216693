"""The k best partners of every row, both ways, from one blocked pass over all pairs. Exact.

The pass keeps, per row and per column, the largest score of each group of 256 neighbours, and
remembers the few groups that can hold one of the k best. A second look at these groups alone finds
the candidates within the error of single precision, and measures those in double precision. So the
result depends neither on blocks nor on threads nor on the kernel, and equal scores give the lowest
row.

Letters: n_a, n_b rows; d embedding length; k partners; s groups remembered per row.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from mmbind_data.matching import products
from mmbind_data.matching.metric import MILLIONTHS, PIECE, PreparedMetric
from mmbind_data.matching.products import Kernel

GROUP = 256
SPARE_GROUPS = 2  # remembered beyond k, for groups that tie
PENDING = 50_000  # candidates held before they are reduced to k a row
VISIT_ROWS = 1024
VISIT_STEP = 64
VISITS = 1 << 17  # rows times groups that a thread lists at a time
SPAN = 1 << 14  # columns whose lists are joined at a time
NOTHING = np.iinfo(np.int64).min


@dataclass(frozen=True)
class Neighbours:
    """The k best partners of each row, best first.

    Attributes
    ----------
    partner : ndarray, shape (n, k), int32
        Row of the other set; -1 where there are fewer than k.
    raw : ndarray, shape (n, k), float64
        Cosine or distance; NaN without partner.
    """

    partner: np.ndarray
    raw: np.ndarray

    def keys(
        self, measure: PreparedMetric, own: np.ndarray | None, other: np.ndarray | None
    ) -> np.ndarray:
        """What the order follows, whole millionths: (n, k) int64; the least one without partner.

        Parameters
        ----------
        measure : PreparedMetric
        own, other : ndarrays, shapes (n,), (m,), float64, optional
            Offsets of these rows, and of those of the other set.
        """
        out = np.full(self.partner.shape, NOTHING, dtype=np.int64)
        for start in range(0, len(out), PIECE):
            part = slice(start, start + PIECE)
            there = self.partner[part] >= 0
            offset = None
            if own is not None and other is not None:
                offset = (own[part, None] + other[self.partner[part]])[there]
            out[part][there] = measure.keys(self.raw[part][there], offset)
        return out


@dataclass(frozen=True)
class _Side:
    """One direction: rows that ask, columns that answer; and what the pass remembers of it.

    error bounds a float32 score; scores further apart than margin have keys in their order; the
    k-th best is no less than reach; overflow: more groups count than are remembered.
    """

    left: np.ndarray
    right: np.ndarray
    offset_left: np.ndarray | None
    offset_right: np.ndarray | None
    raw: Callable[[np.ndarray, np.ndarray], np.ndarray]
    error: np.ndarray  # (n,) float64
    margin: np.ndarray  # (n,) float64
    groups: np.ndarray  # (n, s) int16 where that is enough, -1 = none
    reach: np.ndarray  # (n,) float32
    overflow: np.ndarray  # (n,) bool


def _memory(n: int, n_kept: int, n_others: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    groups = np.full((n, n_kept), -1, dtype=np.min_scalar_type(-1 - n_others // GROUP))
    return groups, np.full(n, -np.inf, dtype=np.float32), np.zeros(n, dtype=bool)


def nearest(
    measure: PreparedMetric,
    k: int,
    offsets: tuple[np.ndarray, np.ndarray] | None = None,
    *,
    threads: int | None = None,
) -> tuple[Neighbours, Neighbours]:
    """The k best of B for each row of A, and of A for each row of B.

    Time grows as n_a * n_b * d. Memory beyond the inputs: one float32 copy of them, one block of
    4 MiB per thread, the result, and while all pairs are multiplied s = k + 2 numbers per row (10
    bytes each for B, 2 for A).

    Parameters
    ----------
    measure : PreparedMetric
    k : int
    offsets : two ndarrays, shapes (n_a,), (n_b,), float64, optional
        Added to the scores before ranking.
    threads : int, optional
        As many as `products.usable_threads` for large problems, else one.

    Returns
    -------
    Neighbours, Neighbours
        Of shapes (n_a, k), (n_b, k).
    """
    offset_a, offset_b = offsets or (None, None)
    left, right = measure.operands(offset_a, offset_b)
    work = float(len(left)) * len(right) * left.shape[1]
    if threads is None:
        threads = products.usable_threads() if work >= products.LARGE else 1
    error_a, error_b = _errors(left, right)
    slack_a, slack_b = _rounding(measure, left, right, offset=offsets is not None)
    to_b = _Side(
        left, right, offset_a, offset_b, measure.raw,
        error_a, 2 * error_a + slack_a, *_memory(len(left), k + SPARE_GROUPS, len(right)),
    )  # fmt: skip
    to_a = _Side(
        right, left, offset_b, offset_a, lambda rows, others: measure.raw(others, rows),
        error_b, 2 * error_b + slack_b, *_memory(len(right), k + SPARE_GROUPS, len(left)),
    )  # fmt: skip
    with (
        products.fast_kernel(work, left.shape[1]) as kernel,
        ThreadPoolExecutor(threads) as pool,
    ):
        _pass(to_b, to_a, k, kernel, pool, threads)
        first = _look_again(to_b, measure, k, kernel, pool, threads)
        del to_b  # its lists make room for those of the other side
        return first, _look_again(to_a, measure, k, kernel, pool, threads)


def _errors(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bound of the error of a float32 score for each row of both sides.

    Sums of d products, in any order, err by at most d * 2^-24 * |left| * |right| (Higham, Accuracy
    and Stability of Numerical Algorithms, section 3.1); four more for the rounding of the operands.
    """
    unit = max(left.shape[1] + 4, 20) * 2.0**-24
    long_a, long_b = (np.sqrt(np.einsum("ij,ij->i", rows, rows)) for rows in (left, right))
    return (
        unit * long_a.astype(np.float64) * float(long_b.max()),
        unit * long_b.astype(np.float64) * float(long_a.max()),
    )


def _rounding(
    measure: PreparedMetric, left: np.ndarray, right: np.ndarray, *, offset: bool
) -> tuple[np.ndarray, np.ndarray]:
    """How far apart two scores can be whose keys are equal, for each row of both sides."""
    if offset or measure.metric == "cosine":
        return np.full(len(left), 1.01 / MILLIONTHS), np.full(len(right), 1.01 / MILLIONTHS)
    # keys are distances r; a step of 1e-6 in r is one of r * 1e-6 in r^2 / 2
    far_a, far_b = np.sqrt(-2.0 * left[:, -2]), np.sqrt(-2.0 * right[:, -1])
    return (
        1.01 * (far_a + float(far_b.max()) + 1e-6) / MILLIONTHS,
        1.01 * (far_b + float(far_a.max()) + 1e-6) / MILLIONTHS,
    )


def _below(value: np.ndarray) -> np.ndarray:
    """The largest float32 that is surely less."""
    return np.nextafter(value.astype(np.float32), np.float32(-np.inf))


# --- the pass: which groups can hold one of the k best ------------------------------------------


def _pass(
    to_b: _Side, to_a: _Side, k: int, kernel: Kernel, pool: ThreadPoolExecutor, threads: int
) -> None:
    starts = iter(range(0, len(to_b.left), GROUP))  # next() is atomic: threads share it
    lists = _Lists(to_a.groups.shape[1], len(to_a.left))
    list(pool.map(lambda _: _walk(to_b, lists, k, kernel, starts), range(threads)))
    for start in range(0, len(to_a.left), SPAN):
        span = slice(start, start + SPAN)
        value, group = _unpacked(lists.held[:, span])
        to_a.reach[span] = value[k - 1]
        lowest = _below(to_a.reach[span] - to_a.margin[span])
        to_a.groups[span] = np.where((value >= lowest) & (group >= 0), group, -1).T
    # the last one remembered still counts: others that count may have been forgotten
    to_a.overflow[:] = to_a.groups[:, -1] >= 0


class _Lists:
    """The best row groups of each column, packed (s, n_b), best first.

    All threads write to it: the best of a set do not depend on the order in which they come.
    """

    def __init__(self, n_groups: int, n: int) -> None:
        self.held = np.full((n_groups, n), NOTHING, dtype=np.int64)
        self.floor = np.full(n, -np.inf, dtype=np.float32)
        self.locks = [threading.Lock() for _ in range(0, n, products.BLOCK_COLUMNS)]

    def insert(self, first: int, value: np.ndarray, group: int) -> None:
        """Put one row group's maxima where they belong, for the columns of one block."""
        columns = slice(first, first + len(value))
        with self.locks[first // products.BLOCK_COLUMNS]:
            _insert(self.held[:, columns], self.floor[columns], value, group)


def _walk(to_b: _Side, lists: _Lists, k: int, kernel: Kernel, starts: Iterable[int]) -> None:
    """Multiply row blocks until none is left."""
    left, right = to_b.left, to_b.right
    width = products.BLOCK_COLUMNS
    buffer = np.empty(min(len(left), GROUP) * min(len(right), width), dtype=np.float32)
    n_groups = -(-len(right) // GROUP)
    maxima = np.empty((min(len(left), GROUP), n_groups), dtype=np.float32)
    for start in starts:
        rows = left[start : start + GROUP]
        for first in range(0, len(right), width):
            columns = right[first : first + width]
            block = buffer[: len(rows) * len(columns)].reshape(len(rows), len(columns))
            kernel.multiply(rows, columns, block)
            _group_maxima(block, maxima[: len(rows), first // GROUP :], kernel)
            lists.insert(first, block.max(axis=0), start // GROUP)
        _remember(to_b, start, maxima[: len(rows)], k)


def _group_maxima(block: np.ndarray, out: np.ndarray, kernel: Kernel) -> None:
    whole = block.shape[1] // GROUP
    if whole:
        out[:, :whole] = kernel.group_maxima(block[:, : whole * GROUP], GROUP)
    if whole * GROUP < block.shape[1]:
        out[:, whole] = block[:, whole * GROUP :].max(axis=1)


def _insert(held: np.ndarray, floor: np.ndarray, value: np.ndarray, group: int) -> None:
    """Put one row group's maxima into the sorted list of each column where they belong."""
    columns = np.flatnonzero(value > floor)
    if not len(columns):
        return
    packed = _packed(value[columns], group)
    lists = held[:, columns]
    for level in range(len(lists)):
        higher = np.maximum(lists[level], packed)
        packed = np.minimum(lists[level], packed)
        lists[level] = higher
    held[:, columns] = lists
    floor[columns] = _unpacked(lists[-1])[0]


def _packed(value: np.ndarray, group: int) -> np.ndarray:
    """A float32 and a group in one int64 that sorts by value, then by lowest group."""
    bits = value.view(np.int32).astype(np.int64)
    ordered = np.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    packed: np.ndarray = (ordered << 32) | (0xFFFFFFFF - group)
    return packed


def _unpacked(packed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values, float32, -inf where nothing is held; groups, -1 there."""
    ordered = (packed >> 32).astype(np.int32)
    value = np.where(ordered < 0, ordered ^ np.int32(0x7FFFFFFF), ordered).view(np.float32)
    group = 0xFFFFFFFF - (packed & 0xFFFFFFFF)
    nothing = packed == NOTHING
    return np.where(nothing, np.float32(-np.inf), value), np.where(nothing, -1, group)


def _remember(side: _Side, start: int, maxima: np.ndarray, k: int) -> None:
    """The groups of a finished row block that can hold one of the k best of its rows."""
    rows = slice(start, start + len(maxima))
    n_groups = maxima.shape[1]
    if k == 1:
        side.reach[rows] = maxima.max(axis=1)
    elif n_groups >= k:
        side.reach[rows] = np.partition(maxima, n_groups - k, axis=1)[:, n_groups - k]
    counts = maxima >= _below(side.reach[rows] - side.margin[rows])[:, None]
    side.overflow[rows] = counts.sum(axis=1) > side.groups.shape[1]
    row, group = np.nonzero(counts & ~side.overflow[rows, None])
    place = np.arange(len(row)) - np.searchsorted(row, row)
    side.groups[start + row, place] = group


# --- the second look: which columns of these groups ----------------------------------------------


def _look_again(
    side: _Side,
    measure: PreparedMetric,
    k: int,
    kernel: Kernel,
    pool: ThreadPoolExecutor,
    threads: int,
) -> Neighbours:
    n, kept = side.groups.shape
    found = Neighbours(np.full((n, k), -1, dtype=np.int32), np.full((n, k), np.nan))
    # few rows at a time for memory, many for blocks that are worth a product
    parts = max(threads, -(-n * kept // VISITS))
    bounds = np.linspace(0, n, parts + 1).astype(int).tolist()
    list(
        pool.map(
            lambda span: _search(side, _Best(side, measure, kernel, found, *span)),
            itertools.pairwise(bounds),
        )
    )
    return found


def _search(side: _Side, best: _Best) -> None:
    """Visit the groups that count for some rows, and all groups where too many count."""
    listed = side.groups[best.rows]
    everywhere = np.flatnonzero(side.overflow[best.rows])
    listed[everywhere] = -1
    own, place = np.nonzero(listed >= 0)
    group = listed[own, place]
    order = np.argsort(group, kind="stable")
    own, group = own[order], group[order]
    n_groups = -(-len(side.right) // GROUP)
    # ascending groups: what is held has a lower row than what comes, and wins when equal
    edges = np.searchsorted(group, np.arange(n_groups + 1))
    for number in range(n_groups):
        asking = np.concatenate([own[edges[number] : edges[number + 1]], everywhere])
        for first in range(0, len(asking), VISIT_ROWS):
            best.visit(asking[first : first + VISIT_ROWS], number * GROUP)
    best.reduce()


class _Best:
    """Candidates of some rows of one side, reduced to the k best whenever there are many."""

    def __init__(
        self,
        side: _Side,
        measure: PreparedMetric,
        kernel: Kernel,
        found: Neighbours,
        start: int,
        stop: int,
    ) -> None:
        rows = slice(start, stop)
        self.side, self.measure, self.kernel = side, measure, kernel
        self.rows, self.start, self.k = rows, start, found.partner.shape[1]
        self.partner, self.raw = found.partner[rows], found.raw[rows]
        self.buffer = np.empty((VISIT_ROWS + VISIT_STEP) * GROUP, dtype=np.float32)
        self.lowest = side.reach[rows] - side.margin[rows]
        self.few = -(-len(side.right) // GROUP) < self.k
        self.waiting: list[tuple[np.ndarray, np.ndarray]] = []
        self.pending = 0

    def visit(self, asking: np.ndarray, first: int) -> None:
        """Note the columns of one group that may be among the k best."""
        columns = self.side.right[first : first + GROUP]
        # whole steps: a kernel keeps code for each shape that it has met, and never forgets it
        n_rows = -(-len(asking) // VISIT_STEP) * VISIT_STEP
        left = self.side.left[self.start + np.resize(asking, n_rows)]
        block = self.buffer[: n_rows * len(columns)].reshape(n_rows, len(columns))
        self.kernel.multiply(left, columns, block)
        block = block[: len(asking)]
        lowest = self.lowest[asking]
        if self.few and len(columns) >= self.k:  # no group count to go by: the group's own k-th
            place = len(columns) - self.k
            own = np.partition(block, place, axis=1)[:, place]
            lowest = np.maximum(lowest, own - self.side.margin[self.start + asking])
        hits = np.flatnonzero(block >= _below(lowest)[:, None])
        row, column = np.divmod(hits, len(columns))
        self.waiting.append((asking[row], column + first))
        self.pending += len(row)
        if self.pending > PENDING:
            self.reduce()

    def reduce(self) -> None:
        """Measure what waits, keep the k best of each row, and raise the bar to what is held."""
        if not self.waiting:
            return
        side = self.side
        row, column = (np.concatenate(parts) for parts in zip(*self.waiting, strict=True))
        self.waiting, self.pending = [], 0
        touched = np.flatnonzero(np.bincount(row, minlength=len(self.partner)))
        old, place = np.nonzero(self.partner[touched] >= 0)
        old = touched[old]
        raw = np.concatenate([side.raw(self.start + row, column), self.raw[old, place]])
        row = np.concatenate([row, old])
        column = np.concatenate([column, self.partner[old, place]])
        key = self._keys(row, column, raw)
        alike = key if side.offset_left is None else self.measure.keys(raw, None)
        order = np.lexsort((column, -alike, -key, row))
        rank = np.arange(len(row)) - np.searchsorted(row[order], row[order])
        row, rank, order = (part[rank < self.k] for part in (row[order], rank, order))
        self.partner[row, rank] = column[order]
        self.raw[row, rank] = raw[order]
        full = touched[self.partner[touched, -1] >= 0]
        worst = self._keys(full, self.partner[full, -1], self.raw[full, -1])
        reach = self.measure.score_to_reach(worst, offset=side.offset_left is not None)
        self.lowest[full] = np.maximum(self.lowest[full], reach - side.error[self.start + full])

    def _keys(self, row: np.ndarray, column: np.ndarray, raw: np.ndarray) -> np.ndarray:
        """What pairs are ranked by, whole millionths."""
        side, offset = self.side, None
        if side.offset_left is not None and side.offset_right is not None:
            offset = side.offset_left[self.start + row] + side.offset_right[column]
        return self.measure.keys(raw, offset)
