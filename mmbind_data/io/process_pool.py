"""A pool of worker processes: spawned, deaf to Ctrl-C, and gone when this process is.

Each worker has a thread in this process, which starts the worker and gives it one task at a time.
So a task that has not begun can still be cancelled, or be done by somebody else.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from mmbind_data.errors import OutputError

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class ProcessPool:
    """Worker processes, see `process_pool`."""

    processes: ProcessPoolExecutor  # starts one when a task arrives and none is idle
    threads: ThreadPoolExecutor  # one for each process

    def submit(self, function: Callable[[T], R], task: T) -> Future[R]:
        """Run a function, defined in a module, on a task in one of the processes.

        The result is a future; it fails with `BrokenProcessPool` if a process has died.
        """
        return self.threads.submit(lambda: self.processes.submit(function, task).result())

    def warm_up(self, module: str) -> None:
        """Start the first process now and let it import a module."""
        self.submit(_import, module)

    def close(self) -> None:
        """Let the processes end when they have done what was submitted; does not wait."""
        self.threads.submit(self.processes.shutdown)

    def stop(self) -> None:
        """Cancel the tasks that have not begun, and wait for the others."""
        self.threads.shutdown(cancel_futures=True)
        self.processes.shutdown(cancel_futures=True)


@contextmanager
def process_pool(size: int, *, cannot: str, option: str) -> Iterator[ProcessPool]:
    """Open a pool of at most ``size`` processes; they start when there is work for them.

    At the end, also after an error, the tasks that have not begun are cancelled and the others are
    waited for.

    Raises
    ------
    OutputError
        A process died: ``cannot`` is what failed, ``option`` chooses the number of processes.
    """
    context = multiprocessing.get_context("spawn")
    pool = ProcessPool(
        ProcessPoolExecutor(size, mp_context=context, initializer=_prepare_worker),
        ThreadPoolExecutor(size, initializer=_block_interrupts),
    )
    try:
        yield pool
    except BrokenProcessPool as error:
        raise OutputError(
            cannot=cannot,
            problem="a worker process died",
            at=option,
            expected="every process to finish",
            got="fewer",
            fix=f"Out of memory: run the same command with a smaller {option} to resume. In a "
            f"script of your own: start it under `if __name__ == '__main__':`.",
        ) from error
    finally:
        pool.stop()


def run_all(
    pool: ProcessPool | None, function: Callable[[T], R], tasks: Sequence[T], order: Sequence[int]
) -> Iterator[tuple[int, R]]:
    """Run a function of a module on every task, in this process and in those of a pool.

    ``order`` holds the positions of the tasks in the order in which to begin them. Yielded are the
    position of a task and its result, as they are done.

    Raises
    ------
    BrokenProcessPool
        A process died.
    """
    if pool is None:
        yield from ((index, function(tasks[index])) for index in order)
        return
    first, *rest = order
    futures = {pool.submit(function, tasks[index]): index for index in rest}
    try:
        yield first, function(tasks[first])
        begun: list[Future[R]] = []  # elsewhere, and not yet yielded
        for future, index in futures.items():
            if future.cancel():
                yield index, function(tasks[index])
            else:
                begun.append(future)
            for done in [one for one in begun if one.done()]:
                begun.remove(done)
                yield futures[done], done.result()
        yield from ((futures[done], done.result()) for done in as_completed(begun))
    except BaseException:
        pool.stop()  # whoever clears up after a failure must find nobody writing
        raise
    pool.close()


def _import(module: str) -> None:
    importlib.import_module(module)


def _block_interrupts() -> None:
    """Leave Ctrl-C to the main thread; a process that is started here inherits this."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


def _prepare_worker() -> None:
    """Leave Ctrl-C to the parent, and do not outlive it when it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_follow, args=(parent,), daemon=True).start()


def _follow(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)
