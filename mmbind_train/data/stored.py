"""Samples of one modality as they enter the network, read from disk on demand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pyarrow.compute as pc

from mmbind_data.errors import UsageError
from mmbind_data.signal.normalise import Recentre, centre
from mmbind_data.spec.descriptor import Modality
from mmbind_data.spec.store import InputBounds
from mmbind_data.store.bound import BoundDataset
from mmbind_data.store.dataset import READ_BYTES, Dataset
from mmbind_data.store.input_size import bounded_modality, load_reduced


@dataclass(frozen=True)
class Part:
    """Some rows of a store, ascending."""

    store: Dataset
    rows: np.ndarray


@dataclass(frozen=True)
class StoredSamples:
    """The samples of one modality, of one store after the other, indexed like an array of them.

    ``modality`` describes them as they enter the network.
    """

    name: str
    modality: Modality
    recentre: Recentre
    parts: Sequence[Part]

    def __len__(self) -> int:
        return sum(len(part.rows) for part in self.parts)

    def __getitem__(self, places: np.ndarray) -> np.ndarray:
        """Read some samples, each once, in the order of the stores: (n,) -> (n, *shape) float32.

        Raises
        ------
        IntegrityError
            A sample is missing, damaged or not finite.
        """
        read, inverse = np.unique(places, return_inverse=True)
        values = np.empty((len(read), *self.modality.shape), dtype=np.float32)
        first, step = 0, max(1, READ_BYTES // sample_bytes(self.modality))
        for part in self.parts:
            here = slice(*np.searchsorted(read, (first, first + len(part.rows))))
            rows, found = part.rows[read[here] - first], values[here]
            for start in range(0, len(rows), step):  # nothing is in memory twice
                some = slice(start, start + step)
                reduced = load_reduced(part.store, self.name, rows[some], self.modality)
                found[some] = centre(reduced, self.modality, self.recentre)
            first += len(part.rows)
        return values if np.array_equal(read, places) else values[inverse]

    def neighbourhoods(self, n_rows: int) -> np.ndarray:
        """Number of each sample's run of ``n_rows`` rows of its store: (len(self),) int64."""
        runs, first = [np.empty(0, np.int64)], 0
        for part in self.parts:
            runs.append(first + part.rows // n_rows)
            first = int(runs[-1].max(initial=first - 1)) + 1
        return np.unique(np.concatenate(runs), return_inverse=True)[1].astype(np.int64)


def sample_bytes(modality: Modality) -> int:
    """Bytes of one sample of fixed shape."""
    return 4 * math.prod(modality.shape)


CONTAINER = Path("/sys/fs/cgroup")
GIB = 2**30
WINDOW = GIB  # for samples at a time if not all fit
OVERHEAD_BYTES = 8 * READ_BYTES  # for reading, and for training a small network, beside the samples
FEWER_SAMPLES = (
    "Cut stores with fewer modalities or subjects (mmbind partition), or lower inputs.frames, "
    "inputs.points or inputs.pixels in --config."
)


def fits(need: int, memory: float | None, *, processes: int = 1) -> bool:
    """Whether ``need`` bytes of samples of each process fit into the memory that was granted.

    That is ``memory`` GiB for each process, or what is free on the machine if it is None.
    """
    if memory is not None:
        return need <= memory * GIB
    return processes * (need + OVERHEAD_BYTES) <= free_memory()


def check_memory(
    need: int,
    at: object,
    problem: str,
    *,
    processes: int = 1,
    doing: str = "train",
    fix: str = FEWER_SAMPLES,
) -> None:
    """Raise a UsageError if ``need`` bytes of samples of each process are more than is free."""
    need, free = processes * (need + OVERHEAD_BYTES), free_memory()
    if need > free:
        expected, got = f"at most {free / GIB:.1f} GiB, which are free", f"{need / GIB:.1f} GiB"
        raise UsageError(cannot=doing, problem=problem, at=at, expected=expected, got=got, fix=fix)


def window_bytes(memory: float | None) -> int:
    """Bytes of the samples that are in memory at a time if not all are."""
    return WINDOW if memory is None else int(memory * GIB)


def needed_memory(data: Dataset | BoundDataset, bounds: InputBounds) -> int:
    """Bytes of all samples that may enter a network, as float32."""
    if isinstance(data, Dataset):
        infos, counts = [data.info], dict(data.info.n_present)
    else:
        infos = [data.source(one.source_id).info for one in data.info.sources]
        counts = {
            name: pc.count_distinct(data.pairs()[f"{name}.uid"]).as_py()
            for name in data.info.modalities
        }
    total = 0
    for name in data.info.modalities:
        stored = [info.modalities[name] for info in infos if name in info.modalities]
        sizes = [sample_bytes(bounded_modality(one, bounds)) for one in stored]
        total += counts[name] * max(sizes, default=0)
    return total


def free_memory() -> int:
    """Bytes that this process may still take: of the machine, or of its container if less."""
    free = int(psutil.virtual_memory().available)
    try:
        limit, used = (int((CONTAINER / f"memory.{one}").read_text()) for one in ("max", "current"))
        stat = dict(line.split() for line in (CONTAINER / "memory.stat").read_text().splitlines())
        return min(free, limit - used + int(stat["file"]))  # cached files are given back
    except (OSError, ValueError, KeyError):  # no container, or one without a limit
        return free
