"""The jobs of a benchmark: one binding, one pre-training or one evaluation each.

A job's key depends on everything that its result depends on. Finished jobs stay on disk under
their keys: an interrupted benchmark resumes, a changed protocol repeats only what changed, and
rows that share a binding or a pre-training share the work.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmbind_data.binding.bind import bind
from mmbind_data.binding.options import BindOptions
from mmbind_train.benchmarks.controls import Control, PartnersOf
from mmbind_train.benchmarks.pairing_accuracy import PAIRED, judge_pairs
from mmbind_train.config import Budget, EvaluateConfig, TrainConfig
from mmbind_train.evaluation.evaluate import evaluate
from mmbind_train.training.hardware import CPU_ALONE, Hardware
from mmbind_train.training.pretrain import train

POWERCAP = Path("/sys/class/powercap")


@dataclass(frozen=True)
class BindTask:
    """Bind stores; ``labelled`` are converted stores whose labels judge the pairs afterwards."""

    inputs: tuple[Path, ...]
    shared: tuple[str, ...]
    options: BindOptions
    labelled: tuple[Path, ...]

    @property
    def kind(self) -> str:
        """Kind of work, for estimates of time."""
        return f"bind {self.options.embed}"

    def run(self, out: Path) -> dict[str, Any]:
        """Write the bound store; its pairs and their accuracy."""
        # an interrupted job may have left its store without a record
        info = bind(self.inputs, out, shared=self.shared, options=self.options, overwrite=True)
        pairs = sum(n for kind, n in info.n_rows.items() if kind in PAIRED)
        return {"pairs": pairs, "pairing_accuracy": judge_pairs(out, self.labelled)}


@dataclass(frozen=True)
class TrainTask:
    """Pre-train a method on a store."""

    data: Path
    method: str
    config: TrainConfig
    hardware: Hardware = CPU_ALONE
    partners: PartnersOf | None = None
    labelled: tuple[Path, ...] = ()  # as of a binding, for partners of the true label

    @property
    def kind(self) -> str:
        """Kind of work, for estimates of time."""
        partners = f" {self.partners.kind}" if self.partners else ""
        return f"train {self.method}{partners} {_length(self.config.budget)}"

    def run(self, out: Path) -> dict[str, Any]:
        """Write the run; its steps, rows and loss, and the time of interrupted calls."""
        earlier: list[float] = []
        options: dict[str, Any] = {"method": self.method, "config": self.config}
        options["hardware"] = self.hardware
        if self.partners is not None:
            arguments = (self.partners, self.data, self.labelled, self.config.seed)
            options["partners"] = Control(*arguments)
        run = train(self.data, out, overwrite=True, on_resume=earlier.append, **options)
        found = {"steps": run.steps, "rows": run.n_rows, "final_loss": run.final_loss}
        return {**found, "earlier_cpu_s": sum(earlier)}


@dataclass(frozen=True)
class ScoreTask:
    """Fine-tune a run and test it."""

    run_folder: Path
    finetune: Path
    held_out: Path
    config: EvaluateConfig
    hardware: Hardware
    paper_statistic: bool
    every_subset: bool = False
    retrieval: bool = False

    @property
    def kind(self) -> str:
        """Kind of work, for estimates of time."""
        return f"score {_length(self.config.budget)}"

    def run(self, out: Path) -> dict[str, Any]:
        """Write the result of `evaluate`; its figures."""
        result = evaluate(
            self.run_folder,
            self.finetune,
            self.held_out,
            config=self.config,
            paper_statistic=self.paper_statistic,
            every_subset=self.every_subset,
            retrieval=self.retrieval,
            hardware=self.hardware,
        )
        write_atomically(out, result.model_dump_json(indent=1) + "\n")
        kept = {"n_test", "n_classes", "per_subset", "retrieval"}
        document = result.model_dump(mode="json", include=kept)
        (score,) = result.per_seed
        return {**score.model_dump(mode="json"), **document}


def _length(budget: Budget) -> str:
    return budget.model_dump_json(include={"steps", "epochs"})


@dataclass(frozen=True)
class Job:
    """One piece of work."""

    key: str  # digest of the task, of the contents that it reads, and of the code
    task: BindTask | TrainTask | ScoreTask
    out: Path  # the result; the record lies beside it
    needs: tuple[str, ...]  # keys of jobs that must be done before
    title: str  # shown to people

    @property
    def record(self) -> Path:
        """JSON file with the outcome and the time spent; it exists if and only if done."""
        return self.out.parent / f"{self.key}.json"

    @property
    def done(self) -> bool:
        """Whether the work is on disk."""
        return self.record.exists() and self.out.exists()


def run_job(job: Job) -> None:
    """Do a job's work and write its record last."""
    begin, cpu, joules = time.monotonic(), time.process_time(), read_joules()
    job.out.parent.mkdir(parents=True, exist_ok=True)
    found = job.task.run(job.out)
    # the counter is the machine's: with other processes at work the energy cannot be attributed
    spent = None if multiprocessing.parent_process() else read_joules()
    record = {
        "kind": job.task.kind,
        "title": job.title,
        "seconds": time.monotonic() - begin,
        # the time that interrupted calls spent on a resumed training counts as well
        "cpu_seconds": time.process_time() - cpu + found.get("earlier_cpu_s", 0.0),
        "joules": None if joules is None or spent is None else max(0.0, spent - joules),
        "found": found,
    }
    write_atomically(job.record, json.dumps(record, indent=1, allow_nan=False) + "\n")


def read_record(job: Job) -> dict[str, Any]:
    """The record of a finished job."""
    document: dict[str, Any] = json.loads(job.record.read_text())
    return document


def write_atomically(path: Path, text: str) -> None:
    """Write a file that appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)


def read_joules(root: Path = POWERCAP) -> float | None:
    """Energy counter of all processor packages together in J; None if there is none to read.

    Only the difference of two readings has a meaning, and it includes everything that the machine
    does meanwhile.
    """
    packages = [
        path for path in root.glob("intel-rapl:*/energy_uj") if path.parent.name.count(":") == 1
    ]
    try:
        values = [int(path.read_text()) for path in packages]
    except (OSError, ValueError):
        return None
    return sum(values) / 1e6 if values else None
