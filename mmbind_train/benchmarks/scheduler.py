"""Run jobs in the order of their needs, several at a time; one failure leaves the others."""

from __future__ import annotations

import itertools
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

import torch

from mmbind_data.errors import MMBindError
from mmbind_data.io.process_pool import process_pool
from mmbind_data.progress import Progress
from mmbind_train.benchmarks.jobs import Job, run_job

ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def run_jobs(
    jobs: Sequence[Job], *, processes: int = 1, progress: Progress | None = None
) -> dict[str, str]:
    """Do the jobs that are not done yet.

    Jobs begin in their order, as far as those that they need are done. Each process has one thread;
    the results do not depend on their number. The key of each job that failed, or that needs one
    that failed, and why.

    Raises
    ------
    OutputError
        A process died.
    """
    waiting = {job.key: job for job in jobs if not job.done}
    total, ended = len(waiting), itertools.count(1)

    def count(job: Job) -> None:
        """Report a job that has ended."""
        if progress is not None:
            progress(next(ended), total, job.title)

    if processes == 1:
        return _run_in_turn(waiting, count)
    with _one_thread_each():
        return _run_in_pool(waiting, processes, count)


def _run_in_turn(waiting: Mapping[str, Job], count: Callable[[Job], None]) -> dict[str, str]:
    failed: dict[str, str] = {}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for key, job in waiting.items():
            reason = _failed_need(job, failed)
            if reason is None:
                try:
                    run_job(job)
                except Exception as error:
                    reason = _reason(error)
            if reason is not None:
                failed[key] = reason
            count(job)
    finally:
        torch.set_num_threads(threads)
    return failed


def _run_in_pool(
    waiting: dict[str, Job], processes: int, count: Callable[[Job], None]
) -> dict[str, str]:
    failed: dict[str, str] = {}
    others = {child.pid for child in multiprocessing.active_children()}
    running: dict[Future[None], Job] = {}
    with process_pool(processes, cannot="run a benchmark", option="--jobs") as pool:
        try:
            while waiting or running:
                unfinished = {*waiting, *(one.key for one in running.values())}
                for key, job in list(waiting.items()):
                    if len(running) == processes:
                        break
                    if reason := _failed_need(job, failed):
                        failed[key] = reason
                        count(waiting.pop(key))
                        unfinished.discard(key)
                    elif unfinished.isdisjoint(job.needs):
                        running[pool.submit(run_job, waiting.pop(key))] = job
                for future in wait(running, return_when=FIRST_COMPLETED).done if running else ():
                    job, error = running.pop(future), future.exception()
                    if isinstance(error, BrokenProcessPool):
                        raise error
                    if error is not None:
                        failed[job.key] = _reason(error)
                    count(job)
        except BaseException:
            # unfinished jobs are not worth waiting for: the same command does them again
            for child in multiprocessing.active_children():
                if child.pid not in others:
                    child.terminate()
            raise
    return failed


def _failed_need(job: Job, failed: Mapping[str, str]) -> str | None:
    """Why a job cannot be run, if one that it needs has failed."""
    reason = next((failed[need] for need in job.needs if need in failed), None)
    return reason and f"not run: {reason.removeprefix('not run: ')}"


def _reason(error: BaseException) -> str:
    return str(error) if isinstance(error, MMBindError) else f"{type(error).__name__}: {error}"


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Give one thread to processes that start now: small networks gain nothing from a second."""
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
