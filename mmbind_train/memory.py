"""Whether the samples of a training fit into memory, known before the first one is read."""

from __future__ import annotations

from pathlib import Path

import psutil
import pyarrow.compute as pc

from mmbind_data.errors import UsageError, problem
from mmbind_data.layout import READ_BYTES, Bound, Store
from mmbind_data.thinning import InputBounds, bounded

from .stored import sample_bytes

CONTAINER = Path("/sys/fs/cgroup")
GIB = 2**30
WINDOW = GIB  # that samples take at once if not all fit
BESIDE = 8 * READ_BYTES  # that reading, and training a small network, take besides the samples
LEAVE_OUT = (
    "Cut stores with fewer modalities or subjects (mmbind partition), or lower inputs.frames, "
    "inputs.points or inputs.pixels in --config."
)


def fits(need: int, memory: float | None, *, processes: int = 1) -> bool:
    """Whether all samples may be in memory at once: in as much as was said, or as is free.

    Parameters
    ----------
    need : int
        Bytes of samples that each process would hold.
    memory : float, optional
        GiB for the samples of one process.
    processes : int
        On this machine.
    """
    if memory is not None:
        return need <= memory * GIB
    return processes * (need + BESIDE) <= free_memory()


def check_memory(
    need: int,
    where: object,
    what: str,
    *,
    processes: int = 1,
    doing: str = "train",
    way_out: str = LEAVE_OUT,
) -> None:
    """Refuse what takes more memory than is free.

    Parameters
    ----------
    need : int
        Bytes of samples that each process holds.
    where, what, doing, way_out : str
        For the message: what does not fit, and what can be done.
    processes : int

    Raises
    ------
    UsageError
    """
    need, free = processes * (need + BESIDE), free_memory()
    if need > free:
        expected, got = f"at most {free / GIB:.1f} GiB, which are free", f"{need / GIB:.1f} GiB"
        raise UsageError(problem(doing, what, where, expected, got, way_out))


def window_bytes(memory: float | None) -> int:
    """Bytes of the samples that are in memory at once where not all are."""
    return WINDOW if memory is None else int(memory * GIB)


def needed_memory(data: Store | Bound, bounds: InputBounds) -> int:
    """Bytes of all samples that may enter a network, as float32."""
    if isinstance(data, Store):
        return sum(
            data.info.n_present[name] * sample_bytes(bounded(modality, bounds))
            for name, modality in data.info.modalities.items()
        )
    table = data.pairs()
    stores = [data.source(source.source_id).info for source in data.info.sources]
    total = 0
    for name in data.info.modalities:
        held = [info.modalities[name] for info in stores if name in info.modalities]
        longest = max((sample_bytes(bounded(modality, bounds)) for modality in held), default=0)
        total += longest * pc.count_distinct(table[f"{name}.uid"]).as_py()
    return total


def free_memory() -> int:
    """Bytes that this process may still take: of the machine, or of its container if less."""
    free = int(psutil.virtual_memory().available)
    try:
        limit, used = (int((CONTAINER / f"memory.{one}").read_text()) for one in ("max", "current"))
        stat = dict(line.split() for line in (CONTAINER / "memory.stat").read_text().splitlines())
        return min(free, limit - used + int(stat["file"]))  # the system gives back cached files
    except (OSError, ValueError, KeyError):  # no container, or one without a limit
        return free
