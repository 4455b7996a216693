"""`mmbind benchmark`: run a protocol from raw data to a table."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmbind_data.errors import FormatError, RawLayoutError
from mmbind_data.io.digests import canonical_json, text_digest
from mmbind_data.progress import Progress
from mmbind_data.testing.generated import write_motionsense, write_utd_mhad
from mmbind_train.benchmarks.jobs import read_record
from mmbind_train.benchmarks.node_stores import (
    GENERATED,
    NodeStore,
    NodeStores,
    NotPreparedError,
    find_raw,
    is_generated,
    missing_data,
    origins,
    prepare,
)
from mmbind_train.benchmarks.plan import (
    BenchmarkRequest,
    JobChain,
    apply_request,
    estimate,
    plan_jobs,
)
from mmbind_train.benchmarks.protocol import Protocol, read_nodes
from mmbind_train.benchmarks.results import Failure, Results, check_folder, write_results
from mmbind_train.benchmarks.scheduler import run_jobs
from mmbind_train.benchmarks.statistics import (
    Score,
    averaged_scores,
    compare,
    mean_retrieval,
    reached,
    summarise,
)
from mmbind_train.training.cache_keys import versions

SHIPPED_GENERATORS = ("motionsense", "utd-mhad")
# folders of the work: made-up data must never be taken for measured data
KINDS_OF_DATA = {True: "generated", False: "measured"}


@dataclass(frozen=True)
class BenchmarkPreview:
    """What a benchmark would do."""

    protocol: Protocol
    n_jobs: dict[str, int]  # in all, by kind: bind, train, score
    n_done: int  # finished already
    seconds: float | None  # estimate for the others; None: jobs of a kind were never measured
    exact: bool  # False: stores are still to be made, finished jobs could not be recognised
    missing: str | None  # the error about raw data that was not found


def benchmark(
    request: BenchmarkRequest,
    out: str | Path,
    *,
    work: str | Path | None = None,
    jobs: int | None = None,
    command: str = "",
    progress: Progress | None = None,
) -> Results:
    """Run a protocol and write results.json, results.parquet, results.md and results.png.

    Finished jobs are kept: an interrupted call resumes, and a changed protocol repeats only what
    changed. Jobs that failed are listed in ``failures``; the figures are those of the others.

    Parameters
    ----------
    out : path
        Folder of the results.
    work : path, optional
        Folder of stores, runs and scores; protocols may share it. ``out``/work by default.
    jobs : int, optional
        Processes; by default as many as there are cores, on a GPU one. Results do not depend on it.
    command : str
        What the user typed, for the record.

    Raises
    ------
    UsageError, FormatError
        No such protocol, row or method, or a protocol that breaks a rule.
    RawLayoutError
        Raw data, or people, that are missing.
    OutputError
        ``out`` holds other results, or more of them than this call would make.
    """
    out, work = Path(out), Path(work) if work is not None else Path(out) / "work"
    protocol, selection, changes = apply_request(request)
    device = selection.hardware.device
    processes = jobs or (cores() if device.type == "cpu" else 1)
    raw, generated = _find_data(protocol, request, work)
    if request.data is None:
        _generate(raw)
    check_folder(out, protocol, selection, generated=generated, on=request.on)
    folder = work / KINDS_OF_DATA[generated]
    options: dict[str, Any] = {"workers": processes, "progress": progress}
    stores = prepare(protocol, raw, folder, selection.splits, selection.held_out, **options)
    planned, chains = plan_jobs(protocol, selection, stores, folder)
    failed = run_jobs(planned, processes=processes, progress=progress)
    scores = tuple(_read_score(protocol, one) for one in chains if one.score.key not in failed)
    scores = (*scores, *averaged_scores(scores, protocol.averages))
    summaries, others = summarise(scores), (protocol.baselines, protocol.claims)
    results = Results(
        generated=generated,
        on=request.on,
        changes=changes,
        command=command,
        protocol=protocol,
        protocol_digest=text_digest(canonical_json(protocol.model_dump(mode="json"))),
        versions=versions(),
        device=str(device),
        sources=dict(stores.digests),
        nodes={f"{at}/{name}": one.content_digest for (at, name), one in stores.nodes.items()},
        scores=scores,
        summaries=summaries,
        differences=compare(_compared(protocol, scores), protocol.against, *others),
        reached=reached(summaries, protocol.reach),
        failures=tuple(
            Failure(cell=job.title, reason=failed[job.key]) for job in planned if job.key in failed
        ),
    )
    write_results(out, results)
    return results


def _compared(protocol: Protocol, scores: Sequence[Score]) -> list[Score]:
    """The scores whose differences are told: the averages alone, where there are any."""
    return [one for one in scores if not protocol.averages or one.condition in protocol.averages]


def plan_benchmark(
    request: BenchmarkRequest,
    out: str | Path,
    *,
    work: str | Path | None = None,
    jobs: int | None = None,
) -> BenchmarkPreview:
    """What `benchmark` would do and how long that takes; nothing is written.

    Parameters and errors are those of `benchmark`, except that missing data is no error.
    """
    out, work = Path(out), Path(work) if work is not None else Path(out) / "work"
    protocol, selection, _ = apply_request(request)
    missing, stores, raw, generated = None, None, None, request.generated
    try:
        raw, generated = _find_data(protocol, request, work)
    except RawLayoutError as error:
        missing = str(error)
    check_folder(out, protocol, selection, generated=generated, on=request.on)
    folder = work / KINDS_OF_DATA[generated]
    if raw is not None:
        try:
            stores = prepare(
                protocol, raw, folder, selection.splits, selection.held_out, write=False
            )
        except NotPreparedError:
            pass
        except RawLayoutError as error:
            missing = str(error)
    assumed = {  # stores that are still to be made: the jobs that depend on them are counted
        (split.name, name): NodeStore(name, folder, f"{split.name}/{name}", "")
        for split in selection.splits
        for name in read_nodes(protocol, selection.held_out)
    }
    planned, _ = plan_jobs(protocol, selection, stores or NodeStores(assumed, {}, {}), folder)
    seconds = estimate(planned, measured_times(folder))
    return BenchmarkPreview(
        protocol=protocol,
        n_jobs=dict(Counter(job.task.kind.split()[0] for job in planned)),
        n_done=sum(job.done for job in planned),
        seconds=None if seconds is None else seconds / (jobs or cores()),
        exact=stores is not None,
        missing=missing,
    )


def _find_data(
    protocol: Protocol, request: BenchmarkRequest, work: Path
) -> tuple[dict[str, Path], bool]:
    """Raw folder of each dataset, and whether the data is made up."""
    if request.data is not None:
        data = Path(request.data)
        raw = find_raw(protocol, data)
        return raw, is_generated(raw, data) or request.generated
    datasets = sorted({source.dataset for source in protocol.sources.values()})
    if not request.generated:
        expected, fix = f"a folder with {', '.join(datasets)}", f"Get {origins(datasets)}."
        raise missing_data(protocol, "no data given", "--data", expected, "nothing", fix)
    if lacking := ", ".join(sorted({*datasets} - {*SHIPPED_GENERATORS})):
        expected = f"datasets among {', '.join(SHIPPED_GENERATORS)}"
        fix = f"Give --data with raw folders of your own, marked by a file {GENERATED}."
        raise missing_data(protocol, "no generator is shipped", lacking, expected, lacking, fix)
    return {name: work / "raw" / name for name in datasets}, True


def _generate(raw: Mapping[str, Path]) -> None:
    """Write small raw folders in the layouts of the datasets, always the same ones."""
    for dataset, folder in raw.items():
        if (folder / GENERATED).exists():
            continue
        rng = np.random.default_rng(0)
        if dataset == "utd-mhad":
            write_utd_mhad(folder, n_subjects=8, n_actions=27, n_trials=4, rng=rng)
        else:
            write_motionsense(folder, n_subjects=24, seconds=20, rng=rng)
        (folder / GENERATED).write_text("made by mmbind benchmark --generated\n")


def measured_times(work: Path) -> dict[str, list[float]]:
    """Seconds of all finished jobs below a folder, by kind."""
    times: dict[str, list[float]] = {}
    for kind in ("bound", "runs", "scores"):
        for path in (work / kind).glob("*.json"):
            document = json.loads(path.read_text())
            if "seconds" in document:
                times.setdefault(document["kind"], []).append(document["seconds"])
    return times


def _read_score(protocol: Protocol, chain: JobChain) -> Score:
    run, found = read_record(chain.train), read_record(chain.score)
    bound = read_record(chain.bind)["found"] if chain.bind is not None else {}
    score = found["found"]
    if protocol.finetuned_once(chain.row):
        score |= _subset_score(score, chain.condition.modalities or protocol.modalities)
    config = protocol.evaluate_config(chain.row, chain.condition, chain.seed)
    steps = 0 if config.learns == "means" else config.budget.n_steps(score["n_finetune"])
    names = ("accuracy", "macro_f1", "paper_statistic", "n_finetune", "n_test", "n_classes")
    return Score(
        **{name: score[name] for name in names},
        row=chain.row.name,
        method=chain.row.method,
        split=chain.split,
        seed=chain.seed,
        condition=chain.condition.name,
        n_pairs=bound.get("pairs"),
        pairing_accuracy=bound.get("pairing_accuracy"),
        pretrain_steps=run["found"]["steps"],
        pretrain_cpu_s=run["cpu_seconds"],
        finetune_steps=steps,
        finetune_cpu_s=found["cpu_seconds"],
        joules=found["joules"],
        **mean_retrieval(score.get("retrieval", ())),
    )


def _subset_score(score: Mapping[str, Any], modalities: Sequence[str]) -> dict[str, Any]:
    """The score of a network that was given only these modalities."""
    found = {frozenset(one["modalities"]): one for one in score["per_subset"]}
    given = frozenset(modalities)
    if given not in found:
        names = ", ".join(sorted(given))
        raise FormatError(
            cannot="run a benchmark",
            problem="nobody in the test has these modalities",
            at=names,
            expected="labelled samples with at least one of them",
            got="none",
        )
    # the statistic is that of the network with all modalities
    late = score["paper_statistic"] if given == max(found, key=len) else None
    return {**found[given], "paper_statistic": late}


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
