"""The k best partners of every row, in both directions, exactly, from one pass over all pairs.

The first pass keeps, per row and per column, the largest score of each group of 256 neighbours, and
lists the few groups that can hold one of the k best. The second pass computes these groups alone
again, finds the candidates within the error of single precision, and measures those in double
precision. So the result depends neither on blocks nor on threads nor on the kernel, and of equal
scores the lowest row comes first.

Letters: n_a, n_b rows; d embedding length; k partners; s groups listed per row.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from mmbind_data.matching import products
from mmbind_data.matching.metric import MILLIONTHS, PreparedMetric, pieces
from mmbind_data.matching.products import DEFAULT_BLOCKING, Blocking, ProductKernel

SPARE_GROUPS = 2  # listed beyond k, for groups that tie
ROW_STEP = 64  # rows of a block of the second pass come in multiples of it
LISTED_GROUPS = 1 << 17  # rows times groups that a thread sorts at a time
LISTED_COLUMNS = 1 << 14  # columns whose lists are unpacked at a time
NOTHING = np.iinfo(np.int64).min
LOW_BITS = (1 << 32) - 1


@dataclass(frozen=True)
class Neighbours:
    """The k best partners of each row, best first."""

    partner: np.ndarray  # (n, k) int32, row of the other set; -1 where there are fewer than k
    raw: np.ndarray  # (n, k) float64, cosine or distance; NaN without partner

    def keys(
        self, metric: PreparedMetric, own: np.ndarray | None, other: np.ndarray | None
    ) -> np.ndarray:
        """What the pairs are ranked by: whole millionths, the least int64 without partner; (n, k).

        Offsets, (n,) and (m,) float64, are those of these rows and of the other set.
        """
        out = np.full(self.partner.shape, NOTHING, dtype=np.int64)
        for part in pieces(len(out)):
            there = self.partner[part] >= 0
            offset = None
            if own is not None and other is not None:
                offset = (own[part, None] + other[self.partner[part]])[there]
            out[part][there] = metric.keys(self.raw[part][there], offset)
        return out


@dataclass(frozen=True)
class _Direction:
    """Rows that look for partners among columns, and what the first pass records about the rows.

    ``error`` bounds that of a float32 score; scores further apart than ``margin`` have keys in the
    same order; the k-th best score is ``reach`` at least; ``overflow``: more groups can hold one of
    the k best than are listed.
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


def largest(scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Columns and scores, (n, k) int64, of the k largest of each row; of equal ones the lowest.

    Scores, (n, m) int64, are between -2^31 and 2^31, and overwritten; k is m at most.
    """
    n_columns = scores.shape[1]
    scores <<= 32
    scores += LOW_BITS - np.arange(n_columns, dtype=np.int64)
    top = np.partition(scores, n_columns - k, axis=1)[:, n_columns - k :]
    top = np.sort(top, axis=1)[:, ::-1]
    return LOW_BITS - (top & LOW_BITS), top >> 32


def nearest(
    metric: PreparedMetric,
    k: int,
    offsets: tuple[np.ndarray, np.ndarray] | None = None,
    *,
    threads: int | None = None,
    blocking: Blocking = DEFAULT_BLOCKING,
) -> tuple[Neighbours, Neighbours]:
    """The k best of B for each row of A, and of A for each row of B.

    Time grows as n_a * n_b * d. Memory beyond the inputs: one float32 copy of them, one block of
    4 MiB per thread, the result, and while all pairs are multiplied s = k + 2 numbers per row (10
    bytes each for B, 2 for A).

    Parameters
    ----------
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
    left, right = metric.operands(offset_a, offset_b)
    work = float(len(left)) * len(right) * left.shape[1]
    if threads is None:
        threads = products.usable_threads() if work >= blocking.large else 1
    errors = _errors(left, right)
    slack = _rounding(metric, left, right, offset=offsets is not None)

    def direction(turn: int, raw: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> _Direction:
        rows, columns = (left, right) if turn == 0 else (right, left)
        n, offset = len(rows), (offset_a, offset_b)
        kind = np.min_scalar_type(-1 - len(columns) // blocking.group)
        return _Direction(
            rows,
            columns,
            offset[turn],
            offset[1 - turn],
            raw,
            errors[turn],
            2 * errors[turn] + slack[turn],
            groups=np.full((n, k + SPARE_GROUPS), -1, dtype=kind),
            reach=np.full(n, -np.inf, dtype=np.float32),
            overflow=np.zeros(n, dtype=bool),
        )

    to_b = direction(0, metric.raw)
    to_a = direction(1, lambda rows, others: metric.raw(others, rows))
    with (
        products.fast_kernel(work, left.shape[1], blocking=blocking) as kernel,
        ThreadPoolExecutor(threads) as pool,
    ):
        run = _Run(metric, k, kernel, pool, threads, blocking)
        run.list_groups(to_b, to_a)
        first = run.search(to_b)
        del to_b  # its lists make room for those of the other direction
        return first, run.search(to_a)


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
    metric: PreparedMetric, left: np.ndarray, right: np.ndarray, *, offset: bool
) -> tuple[np.ndarray, np.ndarray]:
    """How far apart two scores can be whose keys are equal, for each row of both sides."""
    if offset or metric.metric == "cosine":
        return np.full(len(left), 1.01 / MILLIONTHS), np.full(len(right), 1.01 / MILLIONTHS)
    # keys are distances r; a step of 1e-6 in r is one of r * 1e-6 in r^2 / 2
    far_a, far_b = np.sqrt(-2.0 * left[:, -2]), np.sqrt(-2.0 * right[:, -1])
    return (
        1.01 * (far_a + float(far_b.max()) + 1e-6) / MILLIONTHS,
        1.01 * (far_b + float(far_a.max()) + 1e-6) / MILLIONTHS,
    )


def _below(value: np.ndarray) -> np.ndarray:
    """A float32 that is surely less, and nearly equal."""
    return np.nextafter(value.astype(np.float32), np.float32(-np.inf))


@dataclass(frozen=True)
class _Run:
    """What both passes of one call need."""

    metric: PreparedMetric
    k: int
    kernel: ProductKernel
    pool: ThreadPoolExecutor
    threads: int
    blocking: Blocking

    # --- first pass: which groups can hold one of the k best ------------------------------------

    def list_groups(self, to_b: _Direction, to_a: _Direction) -> None:
        """Multiply all pairs, and fill in the groups of both directions."""
        starts = iter(range(0, len(to_b.left), self.blocking.group))  # next() is atomic
        column_lists = _ColumnLists(to_a.groups.shape[1], len(to_a.left), self.blocking.columns)
        walks = self.pool.map(
            lambda _: self._multiply(to_b, column_lists, starts), range(self.threads)
        )
        list(walks)
        for start in range(0, len(to_a.left), LISTED_COLUMNS):
            part = slice(start, start + LISTED_COLUMNS)
            value, group = _unpacked(column_lists.packed[:, part])
            to_a.reach[part] = value[self.k - 1]
            lowest = _below(to_a.reach[part] - to_a.margin[part])
            to_a.groups[part] = np.where((value >= lowest) & (group >= 0), group, -1).T
        # the last one listed can hold one of the k best: so can others that are not listed
        to_a.overflow[:] = to_a.groups[:, -1] >= 0

    def _multiply(self, to_b: _Direction, lists: _ColumnLists, starts: Iterable[int]) -> None:
        """Multiply row blocks until none is left."""
        left, right = to_b.left, to_b.right
        size, width = self.blocking.group, self.blocking.columns
        buffer = np.empty(min(len(left), size) * min(len(right), width), dtype=np.float32)
        maxima = np.empty((min(len(left), size), -(-len(right) // size)), dtype=np.float32)
        for start in starts:
            rows = left[start : start + size]
            for first in range(0, len(right), width):
                columns = right[first : first + width]
                block = buffer[: len(rows) * len(columns)].reshape(len(rows), len(columns))
                self.kernel.multiply(rows, columns, block)
                self._group_maxima(block, maxima[: len(rows), first // size :])
                lists.insert(first, block.max(axis=0), start // size)
            self._list_row_groups(to_b, start, maxima[: len(rows)])

    def _group_maxima(self, block: np.ndarray, out: np.ndarray) -> None:
        size = self.blocking.group
        whole = block.shape[1] // size
        if whole:
            out[:, :whole] = self.kernel.group_maxima(block[:, : whole * size], size)
        if whole * size < block.shape[1]:
            out[:, whole] = block[:, whole * size :].max(axis=1)

    def _list_row_groups(self, to_b: _Direction, start: int, maxima: np.ndarray) -> None:
        """List the groups of a finished row block that can hold one of the k best of its rows."""
        rows, n_groups = slice(start, start + len(maxima)), maxima.shape[1]
        if self.k == 1:
            to_b.reach[rows] = maxima.max(axis=1)
        elif n_groups >= self.k:
            place = n_groups - self.k
            to_b.reach[rows] = np.partition(maxima, place, axis=1)[:, place]
        possible = maxima >= _below(to_b.reach[rows] - to_b.margin[rows])[:, None]
        to_b.overflow[rows] = possible.sum(axis=1) > to_b.groups.shape[1]
        row, group = np.nonzero(possible & ~to_b.overflow[rows, None])
        rank = np.arange(len(row)) - np.searchsorted(row, row)
        to_b.groups[start + row, rank] = group

    # --- second pass: which columns of these groups ----------------------------------------------

    def search(self, side: _Direction) -> Neighbours:
        """Find the k best of each row in the groups that are listed for it."""
        n, n_listed = side.groups.shape
        found = Neighbours(np.full((n, self.k), -1, dtype=np.int32), np.full((n, self.k), np.nan))
        # few rows at a time save memory, many make blocks that are worth a product
        parts = max(self.threads, -(-n * n_listed // LISTED_GROUPS))
        bounds = np.linspace(0, n, parts + 1).astype(int).tolist()
        spans = itertools.pairwise(bounds)
        list(self.pool.map(lambda span: _Candidates(self, side, found, *span).search(), spans))
        return found


class _ColumnLists:
    """The best row groups of each column, packed (s, n_b), best first.

    All threads write to it: the best of a set do not depend on the order in which they come.
    """

    def __init__(self, n_groups: int, n: int, block_columns: int) -> None:
        self.packed = np.full((n_groups, n), NOTHING, dtype=np.int64)
        self.lowest = np.full(n, -np.inf, dtype=np.float32)
        self.width = block_columns
        self.locks = [threading.Lock() for _ in range(0, n, block_columns)]

    def insert(self, first: int, value: np.ndarray, group: int) -> None:
        """Insert the maxima of one row group into the sorted lists of one block's columns."""
        with self.locks[first // self.width]:
            columns = first + np.flatnonzero(value > self.lowest[first : first + len(value)])
            if not len(columns):
                return
            packed = _packed(value[columns - first], group)
            lists = self.packed[:, columns]
            for level in range(len(lists)):
                higher = np.maximum(lists[level], packed)
                packed = np.minimum(lists[level], packed)
                lists[level] = higher
            self.packed[:, columns] = lists
            self.lowest[columns] = _unpacked(lists[-1])[0]


def _packed(value: np.ndarray, group: int) -> np.ndarray:
    """A float32 and a group in one int64 that sorts by value, then by lowest group."""
    bits = value.view(np.int32).astype(np.int64)
    ordered = np.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    packed: np.ndarray = (ordered << 32) | (LOW_BITS - group)
    return packed


def _unpacked(packed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values, float32, and groups; -inf and -1 where nothing is listed."""
    ordered = (packed >> 32).astype(np.int32)
    value = np.where(ordered < 0, ordered ^ np.int32(0x7FFFFFFF), ordered).view(np.float32)
    group = LOW_BITS - (packed & LOW_BITS)
    nothing = packed == NOTHING
    return np.where(nothing, np.float32(-np.inf), value), np.where(nothing, -1, group)


class _Candidates:
    """Candidates of some rows of one direction, reduced to the k best when there are many."""

    def __init__(
        self, run: _Run, side: _Direction, found: Neighbours, start: int, stop: int
    ) -> None:
        rows = slice(start, stop)
        self.run, self.side, self.start, self.k = run, side, start, run.k
        self.size = run.blocking.group
        self.groups, self.overflow = side.groups[rows], side.overflow[rows]
        self.partner, self.raw = found.partner[rows], found.raw[rows]
        self.buffer = np.empty((run.blocking.visited_rows + ROW_STEP) * self.size, dtype=np.float32)
        self.lowest = side.reach[rows] - side.margin[rows]
        self.few_groups = -(-len(side.right) // self.size) < self.k
        self.waiting: list[tuple[np.ndarray, np.ndarray]] = []
        self.n_waiting = 0

    def search(self) -> None:
        """Visit the groups that are listed for each row, or all groups where too many are."""
        everywhere = np.flatnonzero(self.overflow)
        row, place = np.nonzero((self.groups >= 0) & ~self.overflow[:, None])
        group = self.groups[row, place]
        order = np.argsort(group, kind="stable")
        row, group = row[order], group[order]
        n_groups = -(-len(self.side.right) // self.size)
        # ascending groups: what is held has a lower row than what comes, and wins when equal
        edges = np.searchsorted(group, np.arange(n_groups + 1))
        step = self.run.blocking.visited_rows
        for number, (begin, end) in enumerate(itertools.pairwise(edges)):
            rows = np.concatenate([row[begin:end], everywhere])
            for first in range(0, len(rows), step):
                self._visit(rows[first : first + step], number * self.size)
        self._reduce()

    def _visit(self, rows: np.ndarray, first: int) -> None:
        """Note the columns of one group that may be among the k best of some rows."""
        side = self.side
        columns = side.right[first : first + self.size]
        # multiples of a step: a kernel keeps code for each shape that it has met, for ever
        n_rows = -(-len(rows) // ROW_STEP) * ROW_STEP
        block = self.buffer[: n_rows * len(columns)].reshape(n_rows, len(columns))
        self.run.kernel.multiply(side.left[self.start + np.resize(rows, n_rows)], columns, block)
        block = block[: len(rows)]
        lowest = self.lowest[rows]
        if self.few_groups and len(columns) >= self.k:  # fewer groups than k: use the k-th here
            place = len(columns) - self.k
            kth = np.partition(block, place, axis=1)[:, place]
            lowest = np.maximum(lowest, kth - side.margin[self.start + rows])
        hits = np.flatnonzero(block >= _below(lowest)[:, None])
        row, column = np.divmod(hits, len(columns))
        self.waiting.append((rows[row], column + first))
        self.n_waiting += len(row)
        if self.n_waiting > self.run.blocking.pending:
            self._reduce()

    def _reduce(self) -> None:
        """Measure the waiting candidates, keep the k best of each row, and raise its threshold."""
        if not self.waiting:
            return
        side, metric = self.side, self.run.metric
        row, column = (np.concatenate(parts) for parts in zip(*self.waiting, strict=True))
        self.waiting, self.n_waiting = [], 0
        touched = np.flatnonzero(np.bincount(row, minlength=len(self.partner)))
        old, place = np.nonzero(self.partner[touched] >= 0)
        old = touched[old]
        raw = np.concatenate([side.raw(self.start + row, column), self.raw[old, place]])
        row = np.concatenate([row, old])
        column = np.concatenate([column, self.partner[old, place]])
        key = self._keys(row, column, raw)
        alike = key if side.offset_left is None else metric.keys(raw, None)
        order = np.lexsort((column, -alike, -key, row))
        rank = np.arange(len(row)) - np.searchsorted(row[order], row[order])
        row, rank, order = (part[rank < self.k] for part in (row[order], rank, order))
        self.partner[row, rank] = column[order]
        self.raw[row, rank] = raw[order]
        full = touched[self.partner[touched, -1] >= 0]
        worst = self._keys(full, self.partner[full, -1], self.raw[full, -1])
        reach = metric.score_to_reach(worst, offset=side.offset_left is not None)
        self.lowest[full] = np.maximum(self.lowest[full], reach - side.error[self.start + full])

    def _keys(self, row: np.ndarray, column: np.ndarray, raw: np.ndarray) -> np.ndarray:
        """What pairs are ranked by, whole millionths."""
        side, offset = self.side, None
        if side.offset_left is not None and side.offset_right is not None:
            offset = side.offset_left[self.start + row] + side.offset_right[column]
        return self.run.metric.keys(raw, offset)
