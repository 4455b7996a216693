"""One conversion: scan, read unit by unit, window, assemble, rename once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmbind_data.conversion.assemble import assemble
from mmbind_data.conversion.plan import (
    ConversionPlan,
    ConversionRequest,
    check_request,
    plan_conversion,
)
from mmbind_data.conversion.spool import SUFFIX, UnitResult, UnitTask, convert_unit, read_spools
from mmbind_data.datasets.reader import TABLE
from mmbind_data.errors import MMBindError, RawLayoutError
from mmbind_data.io.atomic import (
    check_output,
    claimed,
    commit,
    discard,
    failed,
    make_folder,
    remove,
    staging_path,
)
from mmbind_data.io.digests import canonical_json, text_digest
from mmbind_data.io.process_pool import ProcessPool, run_all
from mmbind_data.progress import Progress
from mmbind_data.spec.store import DatasetInfo


@dataclass(frozen=True)
class Converted:
    """A finished conversion: the store, what was resumed, and remarks for the user."""

    path: Path
    info: DatasetInfo
    n_units: int
    n_resumed: int
    notes: tuple[str, ...]


def convert_dataset(
    name: str,
    raw: str | Path,
    out: Path,
    request: ConversionRequest,
    *,
    pool: ProcessPool | None = None,
    workers: int = 1,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Converted:
    """Convert what a request asks for; parameters and errors are those of `convert`.

    The processes of ``pool`` read together with this one; ``workers`` are all of them, and the
    parts of the store that are encoded at a time.
    """
    doing = f"convert {name}"
    check_request(name, request)
    check_output(out, overwrite=overwrite, doing=doing)
    plan = plan_conversion(name, raw, request)
    staging = staging_path(out)
    with claimed(out, doing=doing):
        make_folder(staging / "units", doing=doing)
        try:
            results = _convert_units(plan, staging / "units", pool, workers, progress)
            info, notes = assemble(plan, results, staging / "store", progress, threads=workers)
            commit(staging / "store", out, overwrite=overwrite, doing=doing)
        except BaseException as error:
            if isinstance(error, RawLayoutError):  # what is damaged has to be replaced first
                remove(staging)
                raise
            kept = _keep_units(staging)
            if isinstance(error, OSError) and not isinstance(error, MMBindError):
                raise failed(out, error, doing=doing, fix=kept) from error
            raise
        discard(staging)
    n_resumed = sum(result.resumed for result in results)
    return Converted(out, info, len(results), n_resumed, (*plan.notes, *notes))


def _keep_units(staging: Path) -> str:
    """Clean up after a failure; keep the finished units, if any, and say so."""
    remove(staging / "store")
    if not any((staging / "units").glob(f"*{SUFFIX}")):
        remove(staging)
        return ""
    return f"What is done is kept in {staging}: run the same command to go on."


def _convert_units(
    plan: ConversionPlan,
    folder: Path,
    pool: ProcessPool | None,
    workers: int,
    progress: Progress | None,
) -> list[UnitResult]:
    tasks = _tasks(plan, folder)
    sizes = [sum(file.size for file in unit.files.values()) for unit in plan.units]
    order = large_first(sizes, workers) if pool else range(len(tasks))
    results: dict[int, UnitResult] = {}
    for index, result in run_all(pool, convert_unit, tasks, order):
        results[index] = result
        if progress:
            progress(len(results), len(tasks), tasks[index].unit.key)
    return [results[index] for index in range(len(tasks))]


def _tasks(plan: ConversionPlan, folder: Path) -> list[UnitTask]:
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
    return [
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


def large_first(sizes: Sequence[int], workers: int) -> list[int]:
    """Order in which to convert: a large unit begun last would leave the other workers idle.

    ``sizes`` are the raw bytes of each unit. Small units keep their place, because neighbours share
    the zip that they are read from.

    >>> large_first([1, 1, 50, 1, 90], workers=2)
    [4, 2, 0, 1, 3]
    """
    small = sum(sizes) / (16 * workers)
    return sorted(range(len(sizes)), key=lambda index: -sizes[index] if sizes[index] > small else 0)
