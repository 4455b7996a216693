"""The cells of a benchmark: one binding, one pre-training or one evaluation each.

A cell is named by all that it depends on. What is done stays on disk under that name, so an
interrupted benchmark goes on, a changed protocol repeats what changed, and rows that share a
binding or a pre-training share the work.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from mmbind_data.binding.bind import bind
from mmbind_data.binding.options import BindOptions
from mmbind_data.spec.label_synonyms import canonical_label, synonym_map
from mmbind_data.store.bound import open_bound
from mmbind_data.store.dataset import open_dataset
from mmbind_train.config import EvaluateConfig, TrainConfig
from mmbind_train.evaluation.evaluate import evaluate
from mmbind_train.training.pretrain import train

PAIRED: tuple[Literal["pseudo", "mean"], ...] = ("pseudo", "mean")


@dataclass(frozen=True)
class BindJob:
    """Bind stores; ``labelled`` are converted stores whose labels judge the pairs afterwards."""

    inputs: tuple[Path, ...]
    shared: tuple[str, ...]
    options: BindOptions
    labelled: tuple[Path, ...]


@dataclass(frozen=True)
class TrainJob:
    """Pre-train a method on a store."""

    data: Path
    method: str
    config: TrainConfig


@dataclass(frozen=True)
class ScoreJob:
    """Fine-tune a run and test it."""

    run: Path
    finetune: Path
    held_out: Path
    config: EvaluateConfig
    paper_statistic: bool
    every_subset: bool = False


@dataclass(frozen=True)
class Job:
    """One piece of work.

    Attributes
    ----------
    key : str
        Digest of the job, of the contents that it reads, and of the code.
    job : BindJob, TrainJob or ScoreJob
    out : Path
        What is written; beside it lies the record.
    needs : tuple of str
        Keys of cells that come first.
    title : str
        For people.
    """

    key: str
    job: BindJob | TrainJob | ScoreJob
    out: Path
    needs: tuple[str, ...]
    title: str

    @property
    def kind(self) -> str:
        """What sort of work, for estimates of time."""
        if isinstance(self.job, BindJob):
            return f"bind {self.job.options.embed}"
        length = self.job.config.budget.model_dump_json(include={"steps", "epochs"})
        what = f"train {self.job.method}" if isinstance(self.job, TrainJob) else "score"
        return f"{what} {length}"

    @property
    def record(self) -> Path:
        """JSON with what the cell found and how long it took; it exists if and only if done."""
        return self.out.parent / f"{self.key}.json"

    @property
    def done(self) -> bool:
        """Whether the work is on disk."""
        return self.record.exists() and self.out.exists()


def run_job(cell: Job) -> None:
    """Do a cell's work and write its record last."""
    begin, cpu, joules = time.monotonic(), time.process_time(), read_joules()
    found = _do(cell)
    # beside other cells nobody can tell whose energy it is
    spent = None if multiprocessing.parent_process() else read_joules()
    record = {
        "kind": cell.kind,
        "title": cell.title,
        "seconds": time.monotonic() - begin,
        # what an interrupted call spent on the training that this one went on with counts, too
        "cpu_seconds": time.process_time() - cpu + found.get("earlier_cpu_s", 0.0),
        "joules": None if joules is None or spent is None else max(0.0, spent - joules),
        "found": found,
    }
    write_atomically(cell.record, json.dumps(record, indent=1, allow_nan=False) + "\n")


def read_record(cell: Job) -> dict[str, Any]:
    """The record of a finished cell."""
    document: dict[str, Any] = json.loads(cell.record.read_text())
    return document


def write_atomically(path: Path, text: str) -> None:
    """Write a file that appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)


def _do(cell: Job) -> dict[str, Any]:
    job = cell.job
    cell.out.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(job, BindJob):
        # an interrupted cell may have left its store without a record
        info = bind(job.inputs, cell.out, shared=job.shared, options=job.options, overwrite=True)
        pairs = sum(info.n_rows.get(kind, 0) for kind in PAIRED)
        return {"pairs": pairs, **judge_pairs(cell.out, job.labelled)}
    if isinstance(job, TrainJob):
        earlier: list[float] = []
        run = train(
            job.data, cell.out, method=job.method, config=job.config, overwrite=True,
            tell_earlier=earlier.append,
        )  # fmt: skip
        return {
            "steps": run.steps,
            "rows": run.n_rows,
            "final_loss": run.final_loss,
            "earlier_cpu_s": sum(earlier),
        }
    result = evaluate(
        job.run, job.finetune, job.held_out, config=job.config,
        paper_statistic=job.paper_statistic, every_subset=job.every_subset,
    )  # fmt: skip
    (one,) = result.per_seed
    write_atomically(cell.out, result.model_dump_json(indent=1) + "\n")
    return {
        **one.model_dump(mode="json"),
        "n_test": result.n_test,
        "n_classes": result.n_classes,
        "per_subset": [each.model_dump(mode="json") for each in result.per_subset],
    }


def judge_pairs(bound: Path, labelled: tuple[Path, ...]) -> dict[str, float | None]:
    """Pairing accuracy by the labels of the converted stores, which no node and no method sees.

    Parameters
    ----------
    bound : path
    labelled : tuple of path
        Stores that the nodes were cut from.

    Returns
    -------
    dict
        ``pairing_accuracy``: share of pseudo-paired rows whose samples all have one label, best
        partners alone; None where the stores have no label in common. Labels are read in the
        words that the bindings compared, or that are known, as `mmbind bind` judges its pairs.
    """
    opened = open_bound(bound)
    wordings = synonym_map(*opened.info.binder)
    label: dict[str, str | None] = {}
    known = []
    for path in labelled:
        samples = open_dataset(path).samples()
        texts = [
            text and canonical_label(text, wordings) for text in samples["label_text"].to_pylist()
        ]
        label |= dict(zip(samples["uid"].to_pylist(), texts, strict=True))
        known.append({text for text in texts if text})
    if not can_agree(known):
        return {"pairing_accuracy": None}
    table = opened.pairs()
    table = table.filter(pc.is_in(table["kind"].cast(pa.string()), pa.array(PAIRED)))
    table = table.filter(pc.equal(table["rank"], 0))
    columns = [table[f"{name}.uid"].to_pylist() for name in opened.info.modalities]
    right = [same_label(row, label) for row in zip(*columns, strict=True)]
    return {"pairing_accuracy": sum(right) / len(right) if right else None}


def can_agree(known: Sequence[set[str]]) -> bool:
    """Whether samples of one label can be found at all, by the labels of each store.

    >>> can_agree([{"walk"}]), can_agree([{"walk"}, {"walking"}, {"walk"}])
    (True, True)
    >>> can_agree([{"walk"}, {"walking"}])
    False
    """
    return len(known) == 1 or any(one & other for one, other in combinations(known, 2))


def same_label(uids: tuple[str | None, ...], label: Mapping[str, str | None]) -> bool:
    """Whether the samples of one row were given one label."""
    texts = {label.get(uid) for uid in uids if uid is not None}
    return len(texts) == 1 and None not in texts


POWERCAP = Path("/sys/class/powercap")


def read_joules(root: Path = POWERCAP) -> float | None:
    """Counter of all packages together in J, or None where the machine tells nothing.

    Only a difference of two readings means something, and it counts all that the machine does.
    """
    packages = [
        path for path in root.glob("intel-rapl:*/energy_uj") if path.parent.name.count(":") == 1
    ]
    try:
        values = [int(path.read_text()) for path in packages]
    except (OSError, ValueError):
        return None
    return sum(values) / 1e6 if values else None
