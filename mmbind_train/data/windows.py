"""Rows whose samples do not fit into memory: read a window at a time, shuffled within it.

Rows that are neighbours on disk are a block. An epoch takes the blocks in random order; as many
rows as fit into memory are a window, and the rows of a window are shuffled. So samples are read in
runs, and `Reading` reports how much worse than a shuffle of all rows that is. Rows that an
objective adds to a batch, such as partners, belong to the window and may be anywhere on disk.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from pydantic import Field

from mmbind_data.errors import UsageError
from mmbind_data.spec.descriptor import Model
from mmbind_data.store.writer import chunk_rows
from mmbind_train.data.stored import StoredSamples, sample_bytes
from mmbind_train.data.training_set import TrainingSet

BLOCKS = 32  # that a window mixes, if the chunks on disk are small enough
MIB = 2**20


class Reading(Model):
    """How the rows of a stage that did not fit into memory were read."""

    window_rows: int = Field(description="rows in memory at a time, and shuffled among themselves")
    n_windows: int = Field(description="of an epoch")
    n_blocks: int = Field(description="runs of rows that are neighbours on disk")
    blocks_per_window: float = Field(description="mean of the first epoch")
    neighbours: float = Field(
        description="share of the other rows of its batch that are of a row's own block; expected "
        "in the first epoch"
    )
    neighbours_shuffled: float = Field(description="the same if all rows were shuffled")

    def __str__(self) -> str:
        return (
            f"reads windows of {self.window_rows} rows from {self.blocks_per_window:.0f} of "
            f"{self.n_blocks} blocks: {self.neighbours:.1%} of a batch are neighbours on disk "
            f"({self.neighbours_shuffled:.1%} if all were shuffled)"
        )


# from an order (n,), a batch size and a generator to an order with rows added: `Objective.arrange`
Arrange = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]


class WindowReader:
    """The windows of rows whose samples are on disk: whole batches of ``batch`` rows.

    ``n_bytes`` are for the samples of a window; a UsageError if not even one batch fits.
    """

    def __init__(
        self, rows: TrainingSet, batch: int, seed: int, n_bytes: int, arrange: Arrange
    ) -> None:
        self._rows, self._batch, self._seed, self._arrange = rows, batch, seed, arrange
        sizes = np.array([sample_bytes(one) for one in rows.modalities.values()])
        taken = rows.present * sizes
        row_bytes = max(1, int(taken.sum(axis=1).max(initial=0)))
        self._size = min(n_bytes // row_bytes // batch * batch, -(-len(rows) // batch) * batch)
        if self._size == 0:
            raise UsageError(
                cannot="train",
                problem="not even one batch fits into memory",
                at=f"batch of {batch} rows",
                expected=f"at most {n_bytes / MIB:.0f} MiB",
                got=f"{batch * row_bytes / MIB:.0f} MiB",
                fix="Give more --memory or a smaller --batch.",
            )
        self._block, self._loaded = find_blocks(rows, taken.argmax(axis=1), self._size), rows
        self.reading = measure_reading(self._block, self._size, self.order(0))

    def order(self, epoch: int) -> np.ndarray:
        """The rows of an epoch that begins, in their order: every row once, and those added."""
        rng = np.random.default_rng((self._seed, epoch, 1))
        some = np.arange(min(len(self._rows), self._batch))
        added = len(self._arrange(some, self._batch, np.random.default_rng(0))) / max(1, len(some))
        order = block_order(self._block, max(1, int(self._size / added)), self._seed, epoch)
        self._order = self._arrange(order, self._batch, rng)
        first = np.arange(0, len(self._order), self._batch)
        self._place, self._begin = dict(zip(self._order[first].tolist(), first, strict=True)), -1
        return self._order

    def load(self, chosen: np.ndarray) -> tuple[TrainingSet, np.ndarray]:
        """Rows in memory, and the numbers of the chosen rows among them.

        ``chosen``, (B,) int, is a batch of the epoch's order.
        """
        place = int(self._place[int(chosen[0])])
        begin = place // self._size * self._size
        if begin != self._begin:
            self._loaded = self._rows  # frees the last window before the next one is read
            self._loaded = self._rows.select(self._order[begin : begin + self._size]).loaded()
            self._begin = begin
        return self._loaded, np.arange(place, place + len(chosen)) - begin


def find_blocks(rows: TrainingSet, column: np.ndarray, size: int) -> np.ndarray:
    """Block of each row: whole chunks of the store, small enough that a window mixes `BLOCKS`.

    ``column``, (n_rows,) int, is a row's largest sample, which decides on its block: it is read in
    runs, and others of the row, such as a partner, may be anywhere. A window has ``size`` rows.
    """
    block, first = np.zeros(len(rows), np.int64), 0
    for number, name in enumerate(rows.modalities):
        mine = np.flatnonzero((column == number) & (rows.index[:, number] >= 0))
        samples, index = rows.values[name], rows.index[mine, number]
        if not len(mine) or not isinstance(samples, StoredSamples):
            continue
        # a sample may be in several rows, each of which counts
        n_rows = size * len(np.unique(index)) // (BLOCKS * len(index))
        block[mine] = first + samples.neighbourhoods(_whole_chunks(n_rows, samples))[index]
        first = int(block[mine].max()) + 1
    return np.unique(block, return_inverse=True)[1].astype(np.int64)


def measure_reading(block: np.ndarray, size: int, order: np.ndarray) -> Reading:
    """How well windows shuffle: counted over the windows of one epoch's order."""
    windows = np.split(block[order], range(size, len(order), size))
    weights = [len(one) for one in windows]
    return Reading(
        window_rows=size,
        n_windows=len(windows),
        n_blocks=int(block.max(initial=-1)) + 1,
        blocks_per_window=float(np.mean([len(np.unique(one)) for one in windows])),
        neighbours=float(np.average([_same_block(one) for one in windows], weights=weights)),
        neighbours_shuffled=_same_block(block),
    )


def _same_block(block: np.ndarray) -> float:
    """Share of the ordered pairs of two different rows that are of one block."""
    counts, n = np.unique(block, return_counts=True)[1], len(block)
    return float((counts * (counts - 1)).sum() / max(1, n * (n - 1)))


def _whole_chunks(n_rows: int, samples: StoredSamples) -> int:
    """The largest power of two up to ``n_rows``, but at least a chunk of the stores."""
    chunk = 1
    for part in samples.parts:
        stored = part.store.info.modalities[samples.name]
        if not stored.ragged:
            chunk = max(chunk, chunk_rows(sample_bytes(stored)))
    return max(chunk, 1 << max(0, n_rows.bit_length() - 1))


def block_order(block: np.ndarray, size: int, seed: int, epoch: int) -> np.ndarray:
    """Every row once: blocks in random order, rows in random order within windows of ``size`` rows.

    A pure function of the blocks' numbers, (n,) int from 0 on, and the other parameters.
    """
    rng = np.random.default_rng((seed, epoch))
    order = np.argsort(rng.permutation(int(block.max(initial=0)) + 1)[block], kind="stable")
    for start in range(0, len(order), size):
        order[start : start + size] = rng.permutation(order[start : start + size])
    return order
