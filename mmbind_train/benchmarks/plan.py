"""The jobs of a protocol: rows x splits x seeds x conditions, equal work planned only once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NoReturn

from mmbind_data.binding import bind
from mmbind_data.errors import UsageError, suggest
from mmbind_data.spec.store import LABEL
from mmbind_train.benchmarks import bind_settings, controls, pairing_accuracy
from mmbind_train.benchmarks.bind_settings import BindSettings
from mmbind_train.benchmarks.jobs import BindTask, Job, ScoreTask, TrainTask
from mmbind_train.benchmarks.node_stores import NodeStore, NodeStores
from mmbind_train.benchmarks.protocol import (
    FINETUNE,
    PAIRED_METHODS,
    TEST,
    VALIDATION,
    Protocol,
    load_protocol,
    merged,
)
from mmbind_train.benchmarks.protocol_parts import Condition, Row, Split
from mmbind_train.evaluation import evaluate
from mmbind_train.training import pretrain
from mmbind_train.training.cache_keys import code_digest, job_key
from mmbind_train.training.hardware import CPU_ALONE, Hardware, choose_hardware
from mmbind_train.training.methods import METHODS

# modules that compute the result of each kind of job: a change of one repeats these jobs alone
BIND_CODE = (bind, bind_settings, pairing_accuracy)
TRAIN_CODE = (pretrain,)
SCORE_CODE = (evaluate,)


@dataclass(frozen=True)
class JobChain:
    """The jobs behind one figure."""

    row: Row
    split: str
    seed: int
    condition: Condition
    bind: Job | None
    train: Job
    score: Job


@dataclass(frozen=True)
class JobSelection:
    """The part of a protocol that is to be run."""

    rows: tuple[Row, ...]
    splits: tuple[Split, ...]
    seeds: tuple[int, ...]
    held_out: str
    paper_statistic: bool = False
    hardware: Hardware = CPU_ALONE


def plan_jobs(
    protocol: Protocol, selection: JobSelection, stores: NodeStores, work: Path
) -> tuple[list[Job], list[JobChain]]:
    """All jobs, each after those that it needs, and the jobs behind each figure.

    Jobs are planned seed by seed, so that an interrupted benchmark has whole seeds.
    """
    chains = [
        chain
        for seed in selection.seeds
        for split in selection.splits
        for row in selection.rows
        for chain in _RowPlan(protocol, selection, stores, work, row, split.name, seed).chains()
    ]
    jobs = (job for chain in chains for job in (chain.bind, chain.train, chain.score) if job)
    unique: dict[str, Job] = {}
    for job in jobs:
        unique.setdefault(job.key, job)
    return list(unique.values()), chains


@dataclass(frozen=True)
class _RowPlan:
    """One row of a protocol on one split with one seed."""

    protocol: Protocol
    selection: JobSelection
    stores: NodeStores
    work: Path
    row: Row
    split: str
    seed: int

    def chains(self) -> list[JobChain]:
        bound = self.bind_job() if self.row.data is None else None
        run = self.train_job(bound)
        return [
            JobChain(self.row, self.split, self.seed, one, bound, run, self.score_job(run, one))
            for one in self.protocol.conditions
        ]

    @property
    def title(self) -> str:
        return f"{self.row.name}, split {self.split}, seed {self.seed}"

    def node(self, name: str) -> NodeStore:
        return self.stores.nodes[self.split, name]

    @property
    def labelled(self) -> tuple[Path, ...]:
        """Converted stores that know all labels: to judge pairs, and for one control."""
        return tuple(path for _, path in sorted(self.stores.sources.items()))

    def bind_job(self) -> Job:
        row, shared = self.row, self.row.shared or self.protocol.shared
        if row.method not in PAIRED_METHODS:  # it takes the common pairs, so that its run is shared
            row = row.model_copy(update={"bind": BindSettings()})
        options = self.protocol.bind_options(row, self.seed)
        if LABEL not in shared:  # the protocol's map is for rows that bind by label
            options = replace(options, label_map={})
        inputs = [self.node(name) for name in row.inputs or self.protocol.inputs]
        code = code_digest(*BIND_CODE)
        key = job_key("bind", [one.key for one in inputs], shared, repr(options), code)
        task = BindTask(tuple(one.path for one in inputs), shared, options, self.labelled)
        title = f"bind by {', '.join(shared)} for {self.title}"
        return Job(key, task, self.work / "bound" / f"{key}.zarr", (), title)

    def train_job(self, bound: Job | None) -> Job:
        method, config = self.row.method, self.protocol.train_config(self.row, self.seed)
        data = bound or self.node(self.row.data or "")
        path = data.out if isinstance(data, Job) else data.path
        code, partners = code_digest(*TRAIN_CODE), self.row.partners
        key = job_key("train", method, data.key, config.model_dump(mode="json"), code)
        if partners is not None:
            key = job_key(key, partners.model_dump(mode="json"), code_digest(controls))
        key, hardware = self._on_device(key), self.selection.hardware
        task = TrainTask(path, method, config, hardware, partners, self.labelled)
        needs = (bound.key,) if bound else ()
        return Job(key, task, self.work / "runs" / key, needs, f"train {self.title}")

    def _on_device(self, key: str) -> str:
        """The key of a job whose figures depend on the hardware, which may round otherwise."""
        hardware = self.selection.hardware
        if hardware == CPU_ALONE:
            return key
        return job_key(key, str(hardware.device), hardware.bfloat16)

    def score_job(self, run: Job, condition: Condition) -> Job:
        once = self.protocol.finetuned_once(self.row)
        config = self.protocol.evaluate_config(self.row, condition, self.seed)
        finetune, held_out = self.node(FINETUNE), self.node(self.selection.held_out)
        statistic, document = self.selection.paper_statistic, config.model_dump(mode="json")
        keys = (run.key, finetune.key, held_out.key, condition.retrieval)
        key = job_key("score", *keys, document, statistic, once, code_digest(*SCORE_CODE))
        stores, key = (run.out, finetune.path, held_out.path), self._on_device(key)
        hardware = self.selection.hardware
        task = ScoreTask(*stores, config, hardware, statistic, once, condition.retrieval)
        title = f"test {self.title}" + ("" if once else f", {condition.name}")
        return Job(key, task, self.work / "scores" / f"{key}-result.json", (run.key,), title)


def estimate(jobs: Sequence[Job], measured: Mapping[str, Sequence[float]]) -> float | None:
    """Seconds that one process needs for unfinished jobs, by the mean time of their kinds.

    None if a kind was never measured.
    """
    times = [measured.get(job.task.kind) for job in jobs if not job.done]
    return sum(sum(one) / len(one) for one in times if one) if all(times) else None


@dataclass(frozen=True)
class BenchmarkRequest:
    """What to run of a protocol."""

    protocol: str | Path  # a shipped name or a file
    data: str | Path | None = None  # folder of raw folders by dataset id; None: generated data
    methods: Sequence[str] | None = None  # rows by name or method; None: all
    seeds: int | None = None  # how many; None: those of the protocol
    splits: int | None = None  # likewise
    on: Literal["test", "validation"] = "test"
    paper_statistic: bool = False  # also the mean test accuracy of the last 60 % of epochs
    generated: bool = False  # the data is made up; without `data` it is generated
    steps: int | None = None  # optimiser steps of every training, to try a protocol out
    label_model: str | None = None  # another sentence model
    device: str = "auto"  # as of a training


def apply_request(request: BenchmarkRequest) -> tuple[Protocol, JobSelection, tuple[str, ...]]:
    """The protocol as it is to be run, the part that is run, and how that departs from the file.

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
        expected = "a protocol with validation_splits"
        _refuse(protocol, "it has no validation splits", "--on validation", expected, "none")
    if request.splits is not None and request.splits < len(splits):
        splits = splits[: request.splits]
        changes.append(f"{request.splits} splits only")
    seeds = protocol.seeds
    if request.seeds is not None and request.seeds != len(seeds):
        more = range(max(seeds) + 1, max(seeds) + 1 + request.seeds)
        seeds = (*seeds, *more)[: request.seeds]
        changes.append(f"{request.seeds} seeds")
    held_out = TEST if on_test else VALIDATION
    hardware = choose_hardware(request.device, doing="run a benchmark")
    selection = JobSelection(rows, splits, seeds, held_out, request.paper_statistic, hardware)
    return protocol, selection, tuple(changes)


def _chosen_rows(protocol: Protocol, names: Sequence[str] | None) -> tuple[Row, ...]:
    titles = {row.name for row in protocol.rows}
    known = titles | {row.method for row in protocol.rows}
    for name in (one for one in names or () if one not in known):
        expected, fix = f"some of {', '.join(sorted(known))}", suggest(name, known)
        _refuse(protocol, "no such row or method", "--methods", expected, repr(name), fix)
    # a name that is both a row's and a method means the row: several rows may have one method
    methods = set(names or ()) - titles
    rows = tuple(
        row for row in protocol.rows if not names or row.name in names or row.method in methods
    )
    if lacking := sorted({row.method for row in rows} - set(METHODS)):
        ready = ",".join(row.name for row in protocol.rows if row.method in METHODS)
        what = "this version of mmbind lacks methods"
        expected = f"methods among {', '.join(METHODS)}"
        fix = f"Leave them out with --methods {ready}."
        _refuse(protocol, what, "its rows", expected, ", ".join(lacking), fix)
    return rows


def _refuse(
    protocol: Protocol, problem: str, at: str, expected: str, got: str, fix: str = ""
) -> NoReturn:
    cannot = f"run {protocol.name}"
    raise UsageError(cannot=cannot, problem=problem, at=at, expected=expected, got=got, fix=fix)


def _with_label_model(protocol: Protocol, label_model: str) -> Protocol:
    shared = sorted({name for row in protocol.rows for name in row.shared or protocol.shared})
    if LABEL not in shared:
        expected, got = "a protocol that binds by label", f"one that binds by {', '.join(shared)}"
        _refuse(protocol, "no label is compared", "--label-model", expected, got, "Leave it out.")
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
