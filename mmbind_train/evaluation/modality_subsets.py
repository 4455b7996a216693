"""One fine-tuned network for whatever modalities arrive: its score on every subset, its files.

Source: paper section 6.3 (Table 9, robustness to the modalities at inference).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow as pa

from mmbind_data.spec.descriptor import Model
from mmbind_data.store.dataset import Dataset
from mmbind_train.config import EvaluateConfig
from mmbind_train.data.training_set import TrainingSet
from mmbind_train.evaluation.finetune import Pretrained, choose_labelled, stage_name
from mmbind_train.evaluation.metrics import FinetunedModel, score
from mmbind_train.training.logs import METRICS, Log
from mmbind_train.training.run_folder import DataInfo, FinetuneInfo, RunInfo, StageInfo, save_run


class SubsetResult(Model):
    """What the fine-tuned networks reach where only these modalities arrive; means over seeds."""

    modalities: tuple[str, ...]
    accuracy: float
    accuracy_std: float | None
    macro_f1: float
    n_test: int


def subsets(modalities: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Every subset but the empty one, the small ones first.

    >>> list(subsets(["acc", "gyro"]))
    [('acc',), ('gyro',), ('acc', 'gyro')]
    """
    for size in range(1, len(modalities) + 1):
        yield from combinations(modalities, size)


def only(rows: TrainingSet, modalities: Sequence[str]) -> TrainingSet:
    """Rows as if nothing but some modalities had been measured; those without any are left out."""
    absent = np.array([name not in modalities for name in rows.modalities])
    index = np.where(absent, -1, rows.index)
    return replace(rows, index=index).select(np.flatnonzero((index >= 0).any(axis=1)))


def score_subsets(
    tuned: Sequence[FinetunedModel], rows: TrainingSet, modalities: Sequence[str]
) -> tuple[SubsetResult, ...]:
    """Score networks, nothing learnt anew, on every subset of the modalities.

    Parameters
    ----------
    tuned : sequence of FinetunedModel
        One per seed.
    rows : TrainingSet
        Of the test. A subset that no row has a part of is left out.
    modalities : sequence of str
    """
    found = []
    for names in subsets(modalities):
        kept = only(rows, names)
        if len(kept) == 0:
            continue
        scores = [score(one, kept) for one in tuned]
        accuracy = [one.accuracy for one in scores]
        found.append(
            SubsetResult(
                modalities=names,
                accuracy=float(np.mean(accuracy)),
                accuracy_std=float(np.std(accuracy, ddof=1)) if len(accuracy) > 1 else None,
                macro_f1=float(np.mean([one.macro_f1 for one in scores])),
                n_test=len(kept),
            )
        )
    return tuple(found)


def log_subsets(run: Path, folder: Path) -> Log:
    """A log in a folder that goes on behind that of the run."""
    if (run / METRICS).exists():  # a run without steps has none
        shutil.copyfile(run / METRICS, folder / METRICS)
    return Log(folder)


def save_tuned(
    folder: Path,
    pretrained: Pretrained,
    tuned: FinetunedModel,
    rows: TrainingSet,
    store: Dataset,
    config: EvaluateConfig,
    *,
    samples: pa.Table,
) -> RunInfo:
    """Write a fine-tuned network as a run with a classifier, which `export` and `evaluate` take.

    Parameters
    ----------
    folder : Path
        Empty, or with the log of the fine-tuning.
    pretrained : Pretrained
        What was fine-tuned.
    tuned : FinetunedModel
    rows : TrainingSet
        Labelled ones of the store: their subjects count as seen from now on.
    store : Dataset
    config : EvaluateConfig
    samples : pyarrow.Table
        Those that are seen by now, see `save_run`.
    """
    info, config = pretrained.info, config.model_copy(update={"seeds": (tuned.seed,)})
    chosen = rows.select(choose_labelled(rows.label, config, tuned.seed))
    counts = {
        name: int(chosen.present[:, column].sum()) for column, name in enumerate(chosen.modalities)
    }
    used = tuple(name for name, count in counts.items() if count)
    stage = StageInfo(
        name=stage_name(tuned.seed),
        steps=config.budget.n_steps(len(chosen)),
        n_rows={"labelled": len(chosen)},
        n_present=counts,
        labels=True,
        final_loss=tuned.loss,
    )
    source = DataInfo(
        path=str(store.path), kind="converted", content_digest=store.info.content_digest
    )
    saved = info.model_copy(
        update={
            # a modality that fine-tuning did not see keeps the scale of its encoder
            "statistics": {**info.statistics, **{name: tuned.statistics[name] for name in used}},
            "stretched": {**info.stretched, **rows.stretched},
            "subjects": complete_results(info.subjects, rows.subjects),
            "stages": (*info.stages, stage),
            "classes": rows.label_names,
            "wordings": {},  # they are the labels as they are
            "space": tuned.space,
            "finetuned": FinetuneInfo(modalities=used, data=source, config=config),
        }
    )
    save_run(folder, saved, tuned.model, tuned.classifier, samples=samples)
    return saved


def complete_results(
    first: Mapping[str, Sequence[str]], second: Mapping[str, Sequence[str]]
) -> dict[str, tuple[str, ...]]:
    """Subjects of either, by dataset.

    >>> complete_results({"utd": ["1", "2"]}, {"utd": ["3"], "own": ["1"]})
    {'utd': ('1', '2', '3'), 'own': ('1',)}
    """
    return {
        dataset: tuple(sorted({*first.get(dataset, ()), *second.get(dataset, ())}))
        for dataset in {**first, **second}
    }
