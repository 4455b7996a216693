"""Cells in the order of their needs, several at a time, each failure for itself."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

import torch

from mmbind_data.errors import MMBindError
from mmbind_data.io.process_pool import ProcessPool, process_pool
from mmbind_data.progress import Progress
from mmbind_train.benchmarks.jobs import Job, run_job

Tick = Callable[[Job], None]
ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def run_jobs(
    cells: Sequence[Job], *, jobs: int = 1, progress: Progress | None = None
) -> dict[str, str]:
    """Do what is not done yet.

    Parameters
    ----------
    cells : sequence of Job
        What a cell needs stands before it.
    jobs : int
        Processes, one thread each. The results do not depend on it.
    progress : callable (done, total, text), optional

    Returns
    -------
    dict
        Key of each cell that failed, or whose needs did, and why.

    Raises
    ------
    OutputError
        A process died.
    """
    waiting = {cell.key: cell for cell in cells if not cell.done}
    tick = _counted(len(waiting), progress)
    if jobs == 1:
        return _in_turn(waiting, tick)
    with _one_thread_each():
        return _side_by_side(waiting, jobs, tick)


def _counted(total: int, progress: Progress | None) -> Tick:
    """Tell progress how many cells are done."""
    done = 0

    def tick(cell: Job) -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total, cell.title)

    return tick


def _in_turn(waiting: Mapping[str, Job], tick: Tick) -> dict[str, str]:
    failed: dict[str, str] = {}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for key, cell in waiting.items():
            reason = _spoilt(cell, failed)
            if reason is None:
                try:
                    run_job(cell)
                except Exception as error:
                    reason = _told(error)
            if reason is not None:
                failed[key] = reason
            tick(cell)
    finally:
        torch.set_num_threads(threads)
    return failed


def _side_by_side(waiting: dict[str, Job], jobs: int, tick: Tick) -> dict[str, str]:
    failed: dict[str, str] = {}
    others = {child.pid for child in multiprocessing.active_children()}
    running: dict[Future[None], Job] = {}
    with process_pool(jobs, cannot="run a benchmark", option="--jobs") as pool:
        try:
            while waiting or running:
                _submit(pool, waiting, running, failed, tick)
                for future in wait(running, return_when=FIRST_COMPLETED).done if running else ():
                    cell, error = running.pop(future), future.exception()
                    if isinstance(error, BrokenProcessPool):
                        raise error
                    if error is not None:
                        failed[cell.key] = _told(error)
                    tick(cell)
        except BaseException:
            # what a process is at is not worth waiting for: the same command does it again
            for child in multiprocessing.active_children():
                if child.pid not in others:
                    child.terminate()
            raise
    return failed


def _submit(
    pool: ProcessPool,
    waiting: dict[str, Job],
    running: dict[Future[None], Job],
    failed: dict[str, str],
    tick: Tick,
) -> None:
    """Hand out every cell whose needs are met; drop those whose needs failed."""
    for key, cell in list(waiting.items()):
        reason = _spoilt(cell, failed)
        if reason is not None:
            failed[key] = reason
            tick(waiting.pop(key))
        elif not any(need in waiting for need in cell.needs) and not any(
            other.key in cell.needs for other in running.values()
        ):
            running[pool.submit(run_job, waiting.pop(key))] = cell


def _spoilt(cell: Job, failed: Mapping[str, str]) -> str | None:
    for need in cell.needs:
        if need in failed:
            reason = failed[need]
            return reason if reason.startswith("not run: ") else f"not run: {reason}"
    return None


def _told(error: BaseException) -> str:
    return str(error) if isinstance(error, MMBindError) else f"{type(error).__name__}: {error}"


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Let processes that start now use one thread: small networks gain nothing from a second."""
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ |= dict.fromkeys(ONE_THREAD, "1")
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
