"""Whether the samples of a training fit into memory, known before the first one is read."""

from __future__ import annotations

import math
from pathlib import Path

import psutil
import pyarrow.compute as pc

from mmbind_data.errors import UsageError, problem
from mmbind_data.layout import Bound, Store
from mmbind_data.spec import Modality
from mmbind_data.thinning import InputBounds, bounded

CONTAINER = Path("/sys/fs/cgroup")
GIB = 2**30


def check_memory(
    data: Store | Bound, bounds: InputBounds, *, processes: int = 1, free: int | None = None
) -> None:
    """Refuse data whose samples, held once each as float32, are larger than the memory.

    Parameters
    ----------
    data : Store or Bound
    bounds : InputBounds
        How large a sample is when it enters a network.
    processes : int
        On this machine; each holds all samples.
    free : int, optional
        Bytes; what the system says by default.

    Raises
    ------
    UsageError
    """
    need = processes * needed_memory(data, bounds)
    free = free_memory() if free is None else free
    if need > free:
        raise UsageError(
            problem("train", "the samples do not fit into memory", data.path,
                    f"at most {free / GIB:.1f} GiB, which are free", f"{need / GIB:.1f} GiB",
                    "Cut stores with fewer modalities or subjects (mmbind partition), or lower "
                    "inputs.frames, inputs.points or inputs.pixels in --config.")
        )  # fmt: skip


def needed_memory(data: Store | Bound, bounds: InputBounds) -> int:
    """Bytes at the peak of reading: all samples, and those of the largest modality once more."""
    if isinstance(data, Store):
        sizes = [
            data.info.n_present[name] * _sample_bytes(modality, bounds)
            for name, modality in data.info.modalities.items()
        ]
        return sum(sizes) + max(sizes, default=0)
    table = data.pairs()
    stores = [data.source(source.source_id).info for source in data.info.sources]
    sizes = []
    for name in data.info.modalities:
        held = [info.modalities[name] for info in stores if name in info.modalities]
        longest = max((_sample_bytes(modality, bounds) for modality in held), default=0)
        sizes.append(longest * pc.count_distinct(table[f"{name}.uid"]).as_py())
    return sum(sizes) + max(sizes, default=0)


def free_memory() -> int:
    """Bytes that this process may still take: of the machine, or of its container if less."""
    free = int(psutil.virtual_memory().available)
    try:
        limit, used = (int((CONTAINER / f"memory.{one}").read_text()) for one in ("max", "current"))
        stat = dict(line.split() for line in (CONTAINER / "memory.stat").read_text().splitlines())
        return min(free, limit - used + int(stat["file"]))  # the system gives back cached files
    except (OSError, ValueError, KeyError):  # no container, or one without a limit
        return free


def _sample_bytes(modality: Modality, bounds: InputBounds) -> int:
    return 4 * math.prod(bounded(modality, bounds).shape)
