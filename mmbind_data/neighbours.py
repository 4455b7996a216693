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
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from . import products
from .measures import MILLIONTHS, Measure
from .products import Kernel

GROUP = 256
SPARE_GROUPS = 2  # remembered beyond k, for groups that tie
PENDING = 50_000  # candidates held before they are reduced to k a row
VISIT_ROWS = 1024
VISITS = 1 << 17  # rows times groups that a thread lists at a time
SPAN = 1 << 14  # columns whose lists are joined at a time
NOTHING = np.iinfo(np.int64).min


@dataclass(frozen=True)
class Found:
    """The k best partners of each row, best first.

    Attributes
    ----------
    partner : ndarray, shape (n, k), int64
        Row of the other set; -1 where there are fewer than k.
    raw : ndarray, shape (n, k), float64
        Cosine or distance; NaN without partner.
    key : ndarray, shape (n, k), int64
        What the order follows, in millionths; the least integer without partner.
    """

    partner: np.ndarray
    raw: np.ndarray
    key: np.ndarray


@dataclass(frozen=True)
class _Side:
    """One direction: rows that ask, columns that answer; and what the pass remembers of it.

    error: bound of a float32 score; margin: float32 scores further apart have keys in their order;
    reach: the k-th best is no less; overflow: more groups count than are remembered.
    """

    left: np.ndarray
    right: np.ndarray
    offset_left: np.ndarray | None
    offset_right: np.ndarray | None
    raw: Callable[[np.ndarray, np.ndarray], np.ndarray]
    error: np.ndarray  # (n,) float64
    margin: np.ndarray  # (n,) float64
    groups: np.ndarray  # (n, s) int32, -1 = none
    reach: np.ndarray  # (n,) float32
    overflow: np.ndarray  # (n,) bool


def _memory(n: int, n_groups: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return (
        np.full((n, n_groups), -1, dtype=np.int32),
        np.full(n, -np.inf, dtype=np.float32),
        np.zeros(n, dtype=bool),
    )


def nearest(
    measure: Measure,
    k: int,
    offsets: tuple[np.ndarray, np.ndarray] | None = None,
    *,
    threads: int | None = None,
) -> tuple[Found, Found]:
    """The k best of B for each row of A, and of A for each row of B.

    Time grows as n_a * n_b * d. Memory beyond the inputs: one float32 copy of them, one block of
    4 MiB per thread, and s = k + 2 numbers per row and thread.

    Parameters
    ----------
    measure : Measure
    k : int
    offsets : two ndarrays, shapes (n_a,), (n_b,), float64, optional
        Added to the scores before ranking.
    threads : int, optional
        As many as `products.usable_threads` for large problems, else one.

    Returns
    -------
    Found, Found
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
        error_a, 2 * error_a + slack_a, *_memory(len(left), k + SPARE_GROUPS),
    )  # fmt: skip
    to_a = _Side(
        right, left, offset_b, offset_a, lambda rows, others: measure.raw(others, rows),
        error_b, 2 * error_b + slack_b, *_memory(len(right), k + SPARE_GROUPS),
    )  # fmt: skip
    with (
        products.fast_kernel(work, left.shape[1]) as kernel,
        ThreadPoolExecutor(threads) as pool,
    ):
        _pass(to_b, to_a, k, kernel, pool, threads)
        return (
            _look_again(to_b, measure, k, kernel, pool, threads),
            _look_again(to_a, measure, k, kernel, pool, threads),
        )


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
    measure: Measure, left: np.ndarray, right: np.ndarray, *, offset: bool
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
    held = list(pool.map(lambda _: _walk(to_b, to_a, k, kernel, starts), range(threads)))
    kept = to_a.groups.shape[1]
    for start in range(0, len(to_a.left), SPAN):
        span = slice(start, start + SPAN)
        best = np.sort(np.concatenate([one[:, span] for one in held]), axis=0)[::-1][:kept]
        value, group = _unpacked(best)
        to_a.reach[span] = value[k - 1]
        lowest = _below(to_a.reach[span] - to_a.margin[span])
        to_a.groups[span] = np.where((value >= lowest) & (group >= 0), group, -1).T
    # the last one remembered still counts: others that count may have been forgotten
    to_a.overflow[:] = to_a.groups[:, -1] >= 0


def _walk(to_b: _Side, to_a: _Side, k: int, kernel: Kernel, starts: Iterable[int]) -> np.ndarray:
    """Multiply row blocks until none is left; returns packed (s, n_b) best row groups."""
    left, right = to_b.left, to_b.right
    width = products.BLOCK_COLUMNS
    buffer = np.empty(min(len(left), GROUP) * min(len(right), width), dtype=np.float32)
    n_groups = -(-len(right) // GROUP)
    maxima = np.empty((min(len(left), GROUP), n_groups), dtype=np.float32)
    held = np.full((to_a.groups.shape[1], len(right)), NOTHING, dtype=np.int64)
    floor = np.full(len(right), -np.inf, dtype=np.float32)
    for start in starts:
        rows = left[start : start + GROUP]
        for first in range(0, len(right), width):
            columns = right[first : first + width]
            block = buffer[: len(rows) * len(columns)].reshape(len(rows), len(columns))
            kernel.multiply(rows, columns, block)
            _group_maxima(block, maxima[: len(rows), first // GROUP :], kernel)
            part = slice(first, first + len(columns))
            _insert(held[:, part], floor[part], block.max(axis=0), start // GROUP)
        _remember(to_b, start, maxima[: len(rows)], k)
    return held


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
    side: _Side, measure: Measure, k: int, kernel: Kernel, pool: ThreadPoolExecutor, threads: int
) -> Found:
    n, kept = side.groups.shape
    found = Found(
        np.full((n, k), -1, dtype=np.int64),
        np.full((n, k), np.nan),
        np.full((n, k), NOTHING, dtype=np.int64),
    )
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
        self, side: _Side, measure: Measure, kernel: Kernel, found: Found, start: int, stop: int
    ) -> None:
        rows = slice(start, stop)
        self.side, self.measure, self.kernel = side, measure, kernel
        self.rows, self.start, self.k = rows, start, found.partner.shape[1]
        self.partner, self.raw, self.key = found.partner[rows], found.raw[rows], found.key[rows]
        self.buffer = np.empty(VISIT_ROWS * GROUP, dtype=np.float32)
        self.lowest = side.reach[rows] - side.margin[rows]
        self.few = -(-len(side.right) // GROUP) < self.k
        self.waiting: list[tuple[np.ndarray, np.ndarray]] = []
        self.pending = 0

    def visit(self, asking: np.ndarray, first: int) -> None:
        """Note the columns of one group that may be among the k best."""
        columns = self.side.right[first : first + GROUP]
        block = self.buffer[: len(asking) * len(columns)].reshape(len(asking), len(columns))
        self.kernel.multiply(self.side.left[self.start + asking], columns, block)
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
        side, k = self.side, self.k
        row, column = (np.concatenate(parts) for parts in zip(*self.waiting, strict=True))
        self.waiting, self.pending = [], 0
        raw = side.raw(self.start + row, column)
        offset = None
        if side.offset_left is not None and side.offset_right is not None:
            offset = side.offset_left[self.start + row] + side.offset_right[column]
        key = self.measure.keys(raw, offset)
        touched = np.flatnonzero(np.bincount(row, minlength=len(self.key)))
        old, place = np.nonzero(self.partner[touched] >= 0)
        old = touched[old]
        row = np.concatenate([row, old])
        column = np.concatenate([column, self.partner[old, place]])
        raw = np.concatenate([raw, self.raw[old, place]])
        key = np.concatenate([key, self.key[old, place]])
        alike = key if offset is None else self.measure.keys(raw, None)
        order = np.lexsort((column, -alike, -key, row))
        row = row[order]
        rank = np.arange(len(row)) - np.searchsorted(row, row)
        keep = rank < k
        row, rank, order = row[keep], rank[keep], order[keep]
        self.partner[row, rank] = column[order]
        self.raw[row, rank] = raw[order]
        self.key[row, rank] = key[order]
        full = touched[self.partner[touched, -1] >= 0]
        reach = self.measure.score_to_reach(self.key[full, -1], offset=offset is not None)
        self.lowest[full] = np.maximum(self.lowest[full], reach - side.error[self.start + full])
