"""Which cells a protocol needs: rows x splits x seeds x conditions, equal work only once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from mmbind_data.binding import bind
from mmbind_data.errors import UsageError, suggest
from mmbind_data.spec.descriptor import Model
from mmbind_data.spec.store import LABEL
from mmbind_train.benchmarks import bind_settings, jobs
from mmbind_train.benchmarks.bind_settings import BindSettings
from mmbind_train.benchmarks.jobs import BindJob, Job, ScoreJob, TrainJob
from mmbind_train.benchmarks.node_stores import NodeStore, NodeStores
from mmbind_train.benchmarks.protocol import (
    FINETUNE,
    PAIRED_METHODS,
    TEST,
    VALIDATION,
    Condition,
    Protocol,
    Row,
    Split,
    load_protocol,
    merged,
)
from mmbind_train.evaluation import evaluate
from mmbind_train.training import pretrain
from mmbind_train.training.cache_keys import code_digest, job_key
from mmbind_train.training.methods import METHODS

# one evaluation of one row
Place = tuple[str, str, int, str]


@dataclass(frozen=True)
class JobChain:
    """The cells behind one figure."""

    row: Row
    split: str
    seed: int
    condition: Condition
    bind: Job | None
    train: Job
    score: Job


@dataclass(frozen=True)
class JobSelection:
    """What of a protocol is to be run."""

    rows: tuple[Row, ...]
    splits: tuple[Split, ...]
    seeds: tuple[int, ...]
    held_out: str
    paper_statistic: bool = False


def plan_jobs(
    protocol: Protocol, asked: JobSelection, prepared: NodeStores, work: Path
) -> tuple[list[Job], list[JobChain]]:
    """All cells, those that others need first, and what each figure comes from.

    Cells come seed by seed, so that an interrupted run has whole seeds.
    """
    chains = []
    for seed in asked.seeds:
        for split in asked.splits:
            nodes = {name: one for (at, name), one in prepared.nodes.items() if at == split.name}
            for row in asked.rows:
                chains += _chains(protocol, asked, row, split.name, seed, nodes, prepared, work)
    cells: dict[str, Job] = {}
    for chain in chains:
        for cell in (chain.bind, chain.train, chain.score):
            if cell is not None:
                cells.setdefault(cell.key, cell)
    return list(cells.values()), chains


def _chains(
    protocol: Protocol,
    asked: JobSelection,
    row: Row,
    split: str,
    seed: int,
    nodes: Mapping[str, NodeStore],
    prepared: NodeStores,
    work: Path,
) -> list[JobChain]:
    at = f"{row.name}, split {split}, seed {seed}"
    bound = None
    if row.data is None:
        bound = _bind(protocol, row, seed, nodes, prepared, work, at)
        data, data_key = bound.out, bound.key
    else:
        data, data_key = nodes[row.data].path, nodes[row.data].key
    config = protocol.train_config(row, seed)
    code = code_digest(pretrain)
    key = job_key("train", row.method, data_key, _plain(config), code)
    run = Job(
        key, TrainJob(data, row.method, config), work / "runs" / key,
        (bound.key,) if bound else (), f"train {at}",
    )  # fmt: skip
    chains = []
    for condition in protocol.conditions:
        score = _score(protocol, asked, row, condition, seed, nodes, run, work)
        told = "" if protocol.once(row) else f", {condition.name}"
        named = replace(score, title=f"test {at}{told}")
        chains.append(JobChain(row, split, seed, condition, bound, run, named))
    return chains


def _bind(
    protocol: Protocol,
    row: Row,
    seed: int,
    nodes: Mapping[str, NodeStore],
    prepared: NodeStores,
    work: Path,
    at: str,
) -> Job:
    # a method that does not read pairs takes those of the protocol, so its run is made once
    own = row if row.method in PAIRED_METHODS else row.model_copy(update={"bind": BindSettings()})
    options = protocol.bind_options(own, seed)
    inputs = [nodes[name] for name in row.inputs or protocol.inputs]
    shared = row.shared or protocol.shared
    if LABEL not in shared:  # the protocol's map is for those of its rows that bind by label
        options = replace(options, label_map={})
    labelled = tuple(prepared.sources[name] for name in sorted(prepared.sources))
    code = code_digest(bind, bind_settings, jobs)
    key = job_key("bind", [one.key for one in inputs], shared, repr(options), code)
    job = BindJob(tuple(one.path for one in inputs), shared, options, labelled)
    return Job(
        key, job, work / "bound" / f"{key}.zarr", (), f"bind by {', '.join(shared)} for {at}"
    )


def _score(
    protocol: Protocol,
    asked: JobSelection,
    row: Row,
    condition: Condition,
    seed: int,
    nodes: Mapping[str, NodeStore],
    run: Job,
    work: Path,
) -> Job:
    finetune, held_out = nodes[FINETUNE], nodes[asked.held_out]
    config, once = protocol.evaluate_config(row, condition, seed), protocol.once(row)
    code = code_digest(evaluate)
    key = job_key(
        "score", run.key, finetune.key, held_out.key, _plain(config), asked.paper_statistic, once,
        code,
    )  # fmt: skip
    job = ScoreJob(run.out, finetune.path, held_out.path, config, asked.paper_statistic, once)
    return Job(key, job, work / "scores" / f"{key}-result.json", (run.key,), "")


def _plain(config: Model) -> dict[str, object]:
    return config.model_dump(mode="json")


def estimate(cells: Sequence[Job], measured: Mapping[str, Sequence[float]]) -> float | None:
    """Seconds of one process for what is not done, by the mean time of cells of its kind.

    None if some kind was never measured.
    """
    total = 0.0
    for cell in cells:
        if not cell.done:
            known = measured.get(cell.kind)
            if not known:
                return None
            total += sum(known) / len(known)
    return total


@dataclass(frozen=True)
class BenchmarkRequest:
    """What to run of a protocol.

    Attributes
    ----------
    protocol : str or Path
        A shipped name or a file.
    data : Path, optional
        Folder of raw folders by dataset id; none with generated data.
    methods : sequence of str, optional
        Rows by name or method; all by default.
    seeds, splits : int, optional
        How many; those of the protocol by default.
    on : {"test", "validation"}
    paper_statistic : bool
    generated : bool
        The data is made up; without ``data`` it is made here.
    steps : int, optional
        Optimiser steps of every training, to try a protocol out.
    label_model : str, optional
        Another sentence model.
    """

    protocol: str | Path
    data: Path | None = None
    methods: Sequence[str] | None = None
    seeds: int | None = None
    splits: int | None = None
    on: Literal["test", "validation"] = "test"
    paper_statistic: bool = False
    generated: bool = False
    steps: int | None = None
    label_model: str | None = None


def apply_request(request: BenchmarkRequest) -> tuple[Protocol, JobSelection, tuple[str, ...]]:
    """The protocol as it is to be run, what of it, and how that departs from the file.

    Raises
    ------
    UsageError
        A row or method that does not exist, validation without validation splits, or a label model
        where no label is compared.
    """
    protocol = load_protocol(request.protocol)
    changes = []
    if request.steps is not None:
        protocol = _with_steps(protocol, request.steps)
        changes.append(f"{request.steps} steps of every training")
    if request.label_model is not None:
        protocol = _with_label_model(protocol, request.label_model)
        changes.append(f"label model {request.label_model}")
    rows = _chosen_rows(protocol, request.methods)
    if len(rows) < len(protocol.rows):
        changes.append(f"rows {', '.join(row.name for row in rows)} only")
    on_test = request.on == "test"
    splits = protocol.splits if on_test else protocol.validation_splits
    if not splits:
        raise UsageError(
            cannot=f"run {protocol.name}",
            problem="it has no validation splits",
            at="--on validation",
            expected="a protocol with validation_splits",
            got="none",
        )
    if request.splits is not None and request.splits < len(splits):
        splits = splits[: request.splits]
        changes.append(f"{request.splits} splits only")
    seeds = protocol.seeds
    if request.seeds is not None and request.seeds != len(seeds):
        more = range(max(seeds) + 1, max(seeds) + 1 + request.seeds)
        seeds = (*seeds, *more)[: request.seeds]
        changes.append(f"{request.seeds} seeds")
    held_out = TEST if on_test else VALIDATION
    asked = JobSelection(rows, splits, seeds, held_out, request.paper_statistic)
    return protocol, asked, tuple(changes)


def _chosen_rows(protocol: Protocol, names: Sequence[str] | None) -> tuple[Row, ...]:
    known = {name for row in protocol.rows for name in (row.name, row.method)}
    for name in names or ():
        if name not in known:
            raise UsageError(
                cannot=f"run {protocol.name}",
                problem="no such row or method",
                at="--methods",
                expected=f"some of {', '.join(sorted(known))}",
                got=repr(name),
                fix=suggest(name, known),
            )
    # a row's own name is meant first: several rows may have one method
    titles = {row.name for row in protocol.rows}
    rows = tuple(
        row
        for row in protocol.rows
        if not names or row.name in names or row.method in set(names) - titles
    )
    lacking = sorted({row.method for row in rows} - set(METHODS))
    if lacking:
        ready = [row.name for row in protocol.rows if row.method in METHODS]
        raise UsageError(
            cannot=f"run {protocol.name}",
            problem="this version of mmbind lacks methods",
            at="its rows",
            expected=f"methods among {', '.join(METHODS)}",
            got=", ".join(lacking),
            fix=f"Leave them out with --methods {','.join(ready)}.",
        )
    return rows


def _with_label_model(protocol: Protocol, label_model: str) -> Protocol:
    shared = sorted({name for row in protocol.rows for name in row.shared or protocol.shared})
    if LABEL not in shared:
        raise UsageError(
            cannot=f"run {protocol.name}",
            problem="no label is compared",
            at="--label-model",
            expected="a protocol that binds by label",
            got=f"one that binds by {', '.join(shared)}",
            fix="Leave it out.",
        )
    document = protocol.model_dump(mode="json")
    document["bind"]["label_model"] = label_model
    return Protocol.model_validate_json(json.dumps(document))


def _with_steps(protocol: Protocol, steps: int) -> Protocol:
    """The same protocol with short trainings, for every row alike."""
    document = protocol.model_dump(mode="json")
    budget = {"budget": {"steps": steps, "epochs": None}}
    document["train"] = merged(document["train"], budget)
    document["evaluate"] = merged(document["evaluate"], budget)
    embedding = max(1, steps)  # one that is not trained at all is none
    document["bind"]["steps"] = embedding
    for row in document["rows"]:
        for part in ("train", "evaluate"):
            if "budget" in row[part]:  # one of its own: shortened as well
                row[part] = merged(row[part], budget)
        if row["bind"]["recipe"] is not None or row["bind"]["steps"] is not None:
            row["bind"]["steps"] = embedding
    for condition in document["conditions"]:
        if condition["steps"] is not None:
            condition["steps"] = min(steps, condition["steps"])
    document["switches"] = [*document["switches"], "bind.steps"]
    return Protocol.model_validate_json(json.dumps(document))
