"""`mmbind benchmark`: a protocol from raw data to a table, cell by cell."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmbind_data.datasets.registry import load_descriptor
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
    needed_nodes,
    prepare,
)
from mmbind_train.benchmarks.plan import (
    BenchmarkRequest,
    JobChain,
    JobSelection,
    apply_request,
    estimate,
    plan_jobs,
)
from mmbind_train.benchmarks.protocol import Protocol
from mmbind_train.benchmarks.results import Failure, Results, check_folder, write_results
from mmbind_train.benchmarks.scheduler import run_jobs
from mmbind_train.benchmarks.statistics import Score, compare, reached, summarise
from mmbind_train.training.cache_keys import versions

SHIPPED_GENERATORS = ("motionsense", "utd-mhad")


@dataclass(frozen=True)
class BenchmarkPreview:
    """What a benchmark would do."""

    protocol: Protocol
    n_cells: dict[str, int]
    n_done: int
    seconds: float | None
    exact: bool
    missing: str | None


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

    What is done is kept cell by cell: an interrupted call goes on, a changed protocol repeats
    only what changed.

    Parameters
    ----------
    request : BenchmarkRequest
    out : path
        Folder of the results.
    work : path, optional
        Where stores, runs and scores are kept; protocols may share it. ``out``/work by default.
    jobs : int, optional
        Processes; as many as there are cores by default. Results do not depend on it.
    command : str
        What the user typed, for the record.
    progress : callable (done, total, text), optional

    Returns
    -------
    Results
        Cells that failed are told in ``failures``; the figures are those of the others.

    Raises
    ------
    UsageError, FormatError
        No such protocol, row or method, or a protocol that breaks a rule.
    RawLayoutError
        Raw data, or people, that are not at hand.
    OutputError
        Other results stand in ``out``, or more of them than this call would make.
    """
    out = Path(out)
    protocol, asked, changes = apply_request(request)
    generated = request.generated
    jobs = jobs or cores()
    folder = Path(work) if work is not None else out / "work"
    if request.data is None:
        raw = _generate(protocol, request, folder / "raw")
    else:
        raw = find_raw(protocol, request.data)
        generated = is_generated(raw, request.data) or generated
    _check_folder(out, protocol, asked, request, generated=generated)
    # kept apart, so that nothing made up is ever taken for something measured
    folder = folder / ("generated" if generated else "measured")
    prepared = prepare(
        protocol, raw, folder, asked.splits, asked.held_out, workers=jobs, progress=progress
    )
    cells, chains = plan_jobs(protocol, asked, prepared, folder)
    failed = run_jobs(cells, jobs=jobs, progress=progress)
    scores = tuple(_score(protocol, one) for one in chains if one.score.key not in failed)
    summaries = summarise(scores)
    titles = {cell.key: cell.title for cell in cells}
    results = Results(
        generated=generated,
        on=request.on,
        changes=changes,
        command=command,
        protocol=protocol,
        protocol_digest=text_digest(canonical_json(protocol.model_dump(mode="json"))),
        versions=versions(),
        sources=dict(prepared.digests),
        nodes={
            f"{split}/{name}": node.content_digest for (split, name), node in prepared.nodes.items()
        },
        scores=scores,
        summaries=summaries,
        differences=compare(scores, protocol.against),
        reached=reached(summaries, protocol.reach),
        failures=tuple(Failure(cell=titles[key], reason=why) for key, why in failed.items()),
    )
    write_results(out, results)
    return results


def plan_benchmark(
    request: BenchmarkRequest,
    out: str | Path,
    *,
    work: str | Path | None = None,
    jobs: int | None = None,
) -> BenchmarkPreview:
    """Say what `benchmark` would do and how long that takes; nothing is written.

    Parameters and errors are those of `benchmark`, but for missing data, which is told.
    """
    protocol, asked, _ = apply_request(request)
    folder = Path(work) if work is not None else Path(out) / "work"
    missing, generated, raw = None, request.generated, None
    try:
        if request.data is not None:
            raw = find_raw(protocol, request.data)
            generated = is_generated(raw, request.data) or generated
        else:
            _check_generators(protocol, request)
            raw = {name: folder / "raw" / name for name in SHIPPED_GENERATORS}
    except RawLayoutError as error:
        missing = str(error)
    _check_folder(Path(out), protocol, asked, request, generated=generated)
    folder = folder / ("generated" if generated else "measured")
    prepared, exact = None, True
    if raw is not None:
        try:
            prepared = prepare(protocol, raw, folder, asked.splits, asked.held_out, write=False)
        except NotPreparedError:
            pass
        except RawLayoutError as error:
            missing = str(error)
    if prepared is None:
        exact, prepared = False, _supposed(protocol, asked, folder)
    cells, _ = plan_jobs(protocol, asked, prepared, folder)
    seconds = estimate(cells, measured_times(folder))
    kinds = [cell.kind.split()[0] for cell in cells]
    return BenchmarkPreview(
        protocol=protocol,
        n_cells={kind: kinds.count(kind) for kind in dict.fromkeys(kinds)},
        n_done=sum(cell.done for cell in cells),
        seconds=None if seconds is None else seconds / (jobs or cores()),
        exact=exact,
        missing=missing,
    )


def _check_folder(
    out: Path,
    protocol: Protocol,
    asked: JobSelection,
    request: BenchmarkRequest,
    *,
    generated: bool,
) -> None:
    conditions = [one.name for one in protocol.conditions]
    check_folder(
        out,
        protocol,
        {
            (row.name, split.name, seed, condition)
            for row in asked.rows
            for split in asked.splits
            for seed in asked.seeds
            for condition in conditions
        },
        generated=generated,
        on=request.on,
        paper_statistic=request.paper_statistic,
    )


def _check_generators(protocol: Protocol, request: BenchmarkRequest) -> None:
    datasets = {source.dataset for source in protocol.sources.values()}
    if not request.generated:
        pages = [f"{one} from {load_descriptor(one).homepage.value}" for one in sorted(datasets)]
        raise RawLayoutError(
            cannot=f"run {protocol.name}",
            problem="no data given",
            at="--data",
            expected=f"a folder with {', '.join(sorted(datasets))}",
            got="nothing",
            fix=f"Get {', '.join(pages)}.",
        )
    lacking = sorted(datasets - set(SHIPPED_GENERATORS))
    if lacking:
        raise RawLayoutError(
            cannot=f"run {protocol.name}",
            problem="no generator is shipped",
            at=", ".join(lacking),
            expected=f"datasets among {', '.join(SHIPPED_GENERATORS)}",
            got=", ".join(lacking),
            fix=f"Give --data with raw folders of your own, marked by a file {GENERATED}.",
        )


def _generate(protocol: Protocol, request: BenchmarkRequest, root: Path) -> dict[str, Path]:
    """Write small raw folders in the layouts of the datasets, always the same ones."""
    _check_generators(protocol, request)
    found = {}
    for dataset in sorted({source.dataset for source in protocol.sources.values()}):
        found[dataset] = folder = root / dataset
        if (folder / GENERATED).exists():
            continue
        rng = np.random.default_rng(0)
        if dataset == "utd-mhad":
            write_utd_mhad(folder, n_subjects=8, n_actions=27, n_trials=4, rng=rng)
        else:
            write_motionsense(folder, n_subjects=24, seconds=20, rng=rng)
        (folder / GENERATED).write_text("made by mmbind benchmark --generated\n")
    return found


def _supposed(protocol: Protocol, asked: JobSelection, folder: Path) -> NodeStores:
    """Stores that are still to be made, for counting what depends on them."""
    nodes = {
        (split.name, name): NodeStore(name, folder, f"{split.name}/{name}", "")
        for split in asked.splits
        for name in needed_nodes(protocol, asked.held_out)
    }
    return NodeStores(nodes, {}, {})


def measured_times(work: Path) -> dict[str, list[float]]:
    """Seconds of all finished cells below a folder, by kind."""
    times: dict[str, list[float]] = {}
    for kind in ("bound", "runs", "scores"):
        for path in (work / kind).glob("*.json"):
            document = json.loads(path.read_text())
            if "seconds" in document:
                times.setdefault(document["kind"], []).append(document["seconds"])
    return times


def _score(protocol: Protocol, chain: JobChain) -> Score:
    run, found = read_record(chain.train), read_record(chain.score)
    bound = read_record(chain.bind)["found"] if chain.bind is not None else {}
    score = found["found"]
    if protocol.once(chain.row):
        score |= _of_subset(score, chain.condition.modalities or protocol.modalities)
    config = chain.score.job.config  # type: ignore[union-attr]
    return Score(
        row=chain.row.name,
        method=chain.row.method,
        split=chain.split,
        seed=chain.seed,
        condition=chain.condition.name,
        accuracy=score["accuracy"],
        macro_f1=score["macro_f1"],
        paper_statistic=score["paper_statistic"],
        n_finetune=score["n_finetune"],
        n_test=score["n_test"],
        n_classes=score["n_classes"],
        n_pairs=bound.get("pairs"),
        pairing_accuracy=bound.get("pairing_accuracy"),
        pretrain_steps=run["found"]["steps"],
        pretrain_cpu_s=run["cpu_seconds"],
        finetune_steps=config.budget.n_steps(score["n_finetune"]),
        finetune_cpu_s=found["cpu_seconds"],
        joules=found["joules"],
    )


def _of_subset(score: Mapping[str, Any], modalities: Sequence[str]) -> dict[str, Any]:
    """What a network reached where only these modalities arrived."""
    found = {frozenset(one["modalities"]): one for one in score["per_subset"]}
    asked = frozenset(modalities)
    if asked not in found:
        names = ", ".join(sorted(asked))
        raise FormatError(
            cannot="run a benchmark",
            problem="nobody in the test has these modalities",
            at=names,
            expected="labelled samples with at least one of them",
            got="none",
        )
    # it was watched with all modalities arriving
    late = score["paper_statistic"] if asked == max(found, key=len) else None
    return {**found[asked], "paper_statistic": late}


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
