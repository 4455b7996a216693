"""Convert a raw dataset to a store: scan, read unit by unit, window, assemble, rename once."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from .assemble import Progress, assemble
from .datasets import TABLE
from .errors import MMBindError, OutputError, RawLayoutError, UsageError, problem
from .integrity import canonical_json, text_digest
from .plan import Plan, check_request, plan_conversion, request_of
from .rawfiles import RawListing
from .spec import DatasetInfo
from .spool import SUFFIX, UnitResult, UnitTask, convert_unit, read_spools
from .staging import (
    check_output,
    claimed,
    commit,
    discard,
    failed,
    make_folder,
    remove,
    staging_path,
)


@dataclass(frozen=True)
class Converted:
    """A finished conversion: the store, what was resumed, and remarks for the user."""

    path: Path
    info: DatasetInfo
    n_units: int
    n_resumed: int
    notes: tuple[str, ...]


def convert(
    name: str,
    raw: str | Path,
    out: str | Path,
    *,
    preset: str = "default",
    subjects: Sequence[str] | None = None,
    modalities: Sequence[str] | None = None,
    placements: Sequence[str] | None = None,
    options: Mapping[str, str] | None = None,
    document: str | None = None,
    workers: int = 1,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Converted:
    """Convert a raw dataset to a `mmbind-dataset` store.

    An interrupted conversion leaves a hidden folder beside the target; the same call resumes it.
    The result does not depend on ``workers``, nor on whether the raw data is zipped.

    Parameters
    ----------
    name : str
        Dataset id, see `mmbind_data.datasets.list_datasets`.
    raw : path
        The raw distribution: a folder, or a zip.
    out : path
        The store to write.
    preset : str
        A preset of the dataset's descriptor.
    subjects : sequence of str, optional
        Convert only these.
    modalities : sequence of str, optional
        Convert only these; by default those of the preset that the raw data holds.
    placements : sequence of str, optional
        Convert only what was worn there; by default what the preset says.
    options : mapping of str to str, optional
        Choices that the dataset's descriptor offers.
    document : str, optional
        Text of the user's own descriptor, for dataset "table".
    workers : int
        Processes that read and window; this one is among them, and writes at the end.
    overwrite : bool
        Replace a store that stands at ``out``.
    progress : callable (done, total, text), optional

    Returns
    -------
    Converted

    Raises
    ------
    UsageError, RawLayoutError, OutputError
    """
    out = Path(out)
    doing = f"convert {name}"
    if workers < 1:
        raise UsageError(problem(doing, "bad number", "--workers", "1 or more", str(workers)))
    request = request_of(
        preset=preset,
        subjects=subjects,
        modalities=modalities,
        placements=placements,
        options=options,
        document=document,
    )
    check_request(name, request)
    check_output(out, overwrite=overwrite, doing=doing)
    plan = plan_conversion(name, raw, request)
    staging = staging_path(out)
    with claimed(out, doing=doing):
        make_folder(staging / "units", doing=doing)
        results: list[UnitResult] = []
        try:
            results = _convert_units(plan, staging / "units", workers, progress)
            info, notes = assemble(plan, results, staging / "store", progress, threads=workers)
            commit(staging / "store", out, overwrite=overwrite, doing=doing)
        except BaseException as error:
            # When all units were read, reading the same bytes again would end here again.
            in_vain = bool(results) and isinstance(error, RawLayoutError)
            kept = _keep_units(staging, in_vain=in_vain)
            if isinstance(error, RawLayoutError) and kept:
                raise RawLayoutError(f"{error} {kept}") from error
            if isinstance(error, OSError) and not isinstance(error, MMBindError):
                raise failed(out, error, doing=doing, next_step=kept) from error
            raise
        discard(staging)
    n_resumed = sum(result.resumed for result in results)
    notes = [*plan.listing.notes, *unrecognised_notes(plan.listing), *notes]
    return Converted(out, info, len(results), n_resumed, tuple(notes))


def unrecognised_notes(listing: RawListing) -> list[str]:
    """A remark on raw files that no unit uses, if there are any."""
    paths = listing.unrecognised
    if not paths:
        return []
    return [f"{len(paths)} files are not part of the dataset and are left aside, e.g. {paths[0]}"]


def _keep_units(staging: Path, *, in_vain: bool) -> str:
    """Clean up after a failure; keep the finished units, if any, and say so."""
    remove(staging / "store")
    if in_vain or not any((staging / "units").glob(f"*{SUFFIX}")):
        remove(staging)
        return ""
    return f"What is done is kept in {staging}: run the same command to go on."


def _convert_units(
    plan: Plan, folder: Path, workers: int, progress: Progress | None
) -> list[UnitResult]:
    descriptor, preset = plan.descriptor, plan.preset
    config = {
        "dataset": descriptor.dataset_id,
        "reader": descriptor.reader_version,
        "preset": preset.model_dump(mode="json"),
        "modalities": sorted(plan.modalities),
        "options": dict(plan.options),
    }
    changed = plan.selection.options
    variant = f"{plan.preset_name} {canonical_json(changed)}" if changed else plan.preset_name
    earlier = read_spools(folder)
    run = str(len(list(folder.glob(f"*{SUFFIX}"))))
    tasks = [
        UnitTask(
            dataset=TABLE if plan.document else descriptor.dataset_id,
            dataset_id=descriptor.dataset_id,
            document=plan.document,
            unit=unit,
            preset=plan.preset_name,
            variant=variant,
            modalities=plan.modalities,
            kinds={name: stream.kind for name, stream in descriptor.streams.items()},
            windowing=preset.windowing,
            labels=preset.labels,
            config_digest=text_digest(canonical_json(config), *unit.placements),
            folder=folder,
            run=run,
            earlier=tuple(earlier.get(unit.key, ())),
        )
        for unit in plan.units
    ]
    results: dict[int, UnitResult] = {}
    for index, result in _run(tasks, workers):
        results[index] = result
        if progress:
            progress(len(results), len(tasks), tasks[index].unit.key)
    return [results[index] for index in range(len(tasks))]


def _run(tasks: list[UnitTask], workers: int) -> Iterator[tuple[int, UnitResult]]:
    """Convert all tasks; this process is one of the workers, so it reads while the others start."""
    if workers == 1 or len(tasks) < 2:
        for index, task in enumerate(tasks):
            yield index, convert_unit(task)
        return
    waiting = deque(_large_first(tasks, workers))
    done: SimpleQueue[tuple[int, UnitResult] | BaseException] = SimpleQueue()
    n_others = min(workers, len(tasks)) - 1
    with (
        ThreadPoolExecutor(n_others) as threads,
        ProcessPoolExecutor(
            n_others,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=prepare_worker,
        ) as pool,
    ):
        for _ in range(n_others):
            threads.submit(_feed, pool, tasks, waiting, done)
        try:
            for _ in tasks:
                own = _next(waiting) if done.empty() else None
                result = done.get() if own is None else (own, convert_unit(tasks[own]))
                if isinstance(result, BaseException):
                    raise result
                yield result
        except BrokenProcessPool as error:
            raise _worker_died(workers) from error
        finally:
            waiting.clear()


def _large_first(tasks: list[UnitTask], workers: int) -> list[int]:
    """Order in which to convert: a large unit begun last would leave the other workers idle.

    Small units keep their place, because neighbours share the zip that they are read from.
    """
    sizes = [sum(file.size for file in task.unit.files.values()) for task in tasks]
    small = sum(sizes) / (16 * workers)
    return sorted(range(len(tasks)), key=lambda index: -sizes[index] if sizes[index] > small else 0)


def _feed(
    pool: ProcessPoolExecutor,
    tasks: list[UnitTask],
    waiting: deque[int],
    done: SimpleQueue[tuple[int, UnitResult] | BaseException],
) -> None:
    """Keep one other process busy: a unit at a time, so that none waits behind a busy process."""
    if hasattr(signal, "pthread_sigmask"):
        # inherited: a process that is still starting must leave Ctrl-C to this one, too
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
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
        problem(
            "convert",
            "a worker process died",
            "--workers",
            f"{workers} processes to finish",
            "fewer",
            "Out of memory: run the same command with fewer workers to resume. In a script "
            "of your own: call convert under `if __name__ == '__main__':`.",
        )
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
