"""Convert raw units in several processes at once; the one that asks is among them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING

from mmbind_data.errors import OutputError

if TYPE_CHECKING:
    from mmbind_data.conversion.spool import UnitResult, UnitTask


@dataclass(frozen=True)
class Others:
    """The processes beside this one, each fed by a thread.

    Attributes
    ----------
    count : int
    threads : ThreadPoolExecutor
    pool : ProcessPoolExecutor
        Starts a process when a unit is given and none is idle.
    """

    count: int
    threads: ThreadPoolExecutor
    pool: ProcessPoolExecutor


@contextmanager
def processes_beside(count: int) -> Iterator[Others | None]:
    """Start the first of ``count`` processes at once, the others when there is work for them.

    While it imports what it needs, this process can do the same and plan.
    """
    if count < 1:
        yield None
        return
    context = multiprocessing.get_context("spawn")
    with (
        ProcessPoolExecutor(count, mp_context=context, initializer=prepare_worker) as pool,
        ThreadPoolExecutor(count, initializer=_leave_interrupts) as threads,
    ):
        threads.submit(pool.submit, _import)
        yield Others(count, threads, pool)


def convert_units(tasks: list[UnitTask], others: Others | None) -> Iterator[tuple[int, UnitResult]]:
    """Convert all tasks, in any order.

    Yields
    ------
    index : int
        Of the task.
    result : UnitResult

    Raises
    ------
    OutputError
        A process died.
    """
    from mmbind_data.conversion.spool import convert_unit

    if others is None:
        for index, task in enumerate(tasks):
            yield index, convert_unit(task)
        return
    sizes = [sum(file.size for file in task.unit.files.values()) for task in tasks]
    waiting = deque(large_first(sizes, others.count + 1))
    done: SimpleQueue[tuple[int, UnitResult] | BaseException] = SimpleQueue()
    feeds = [
        others.threads.submit(_feed, others.pool, tasks, waiting, done)
        for _ in range(min(others.count, len(tasks) - 1))
    ]
    try:
        for _ in tasks:
            own = _next(waiting) if done.empty() else None
            result = done.get() if own is None else (own, convert_unit(tasks[own]))
            if isinstance(result, BaseException):
                raise result
            yield result
    except BrokenProcessPool as error:
        raise _worker_died(others.count + 1) from error
    finally:
        waiting.clear()
        wait(feeds)  # whoever clears up after a failure must find nobody writing
    others.threads.submit(others.pool.shutdown)  # they end while the store is put together


def _import() -> None:
    """Import what the first unit needs: half a second."""
    from mmbind_data.conversion import spool  # noqa: F401


def large_first(sizes: Sequence[int], workers: int) -> list[int]:
    """Order in which to convert: a large unit begun last would leave the other workers idle.

    Small units keep their place, because neighbours share the zip that they are read from.

    Parameters
    ----------
    sizes : sequence of int
        Raw bytes of each unit.
    workers : int

    Examples
    --------
    >>> large_first([1, 1, 50, 1, 90], workers=2)
    [4, 2, 0, 1, 3]
    """
    small = sum(sizes) / (16 * workers)
    return sorted(range(len(sizes)), key=lambda index: -sizes[index] if sizes[index] > small else 0)


def _leave_interrupts() -> None:
    """Leave Ctrl-C to the main thread; inherited by a process that is still starting."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


def _feed(
    pool: ProcessPoolExecutor,
    tasks: list[UnitTask],
    waiting: deque[int],
    done: SimpleQueue[tuple[int, UnitResult] | BaseException],
) -> None:
    """Keep one other process busy: a unit at a time, so that none waits behind a busy process."""
    from mmbind_data.conversion.spool import convert_unit

    try:
        while (index := _next(waiting)) is not None:
            done.put((index, pool.submit(convert_unit, tasks[index]).result()))
    except BaseException as error:
        done.put(error)


def _next(waiting: deque[int]) -> int | None:
    try:
        return waiting.popleft()
    except IndexError:
        return None


def _worker_died(workers: int) -> OutputError:
    return OutputError(
        cannot="convert",
        problem="a worker process died",
        at="--workers",
        expected=f"{workers} processes to finish",
        got="fewer",
        fix="Out of memory: run the same command with fewer workers to resume. In a script "
        "of your own: call convert under `if __name__ == '__main__':`.",
    )


def prepare_worker() -> None:
    """Leave Ctrl-C to the parent, and do not outlive it when it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_follow, args=(parent,), daemon=True).start()


def _follow(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)
