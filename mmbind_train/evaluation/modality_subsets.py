"""Scores of a fine-tuned network on every subset of its modalities, and its files.

Source: MMBind paper, section 6.3 (Table 9, robustness to the modalities at inference).
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, combinations
from pathlib import Path

import numpy as np
import pyarrow as pa

from mmbind_data.spec.descriptor import Model
from mmbind_data.store.dataset import Dataset
from mmbind_train.config import EvaluateConfig
from mmbind_train.data.training_set import TrainingSet
from mmbind_train.evaluation.finetune import Pretrained, choose_labelled, stage_name
from mmbind_train.evaluation.metrics import FinetunedModel, mean_scores, predict, score_predictions
from mmbind_train.training.logs import METRICS, Log
from mmbind_train.training.run_folder import DataInfo, FinetuneInfo, StageInfo, save_run


class SubsetResult(Model):
    """Scores of the fine-tuned networks if only these modalities arrive; means over seeds."""

    modalities: tuple[str, ...]
    accuracy: float
    accuracy_std: float | None
    macro_f1: float
    n_test: int


def score_subsets(
    tuned: Sequence[FinetunedModel], rows: TrainingSet, modalities: Sequence[str]
) -> tuple[SubsetResult, ...]:
    """Score networks on every subset of the modalities, the small ones first, without training.

    Of the test rows those without any modality of a subset are left out, and so are subsets without
    rows.
    """
    found, sizes = [], range(1, len(modalities) + 1)
    for names in chain.from_iterable(combinations(modalities, size) for size in sizes):
        absent = np.array([name not in names for name in rows.modalities])
        index = np.where(absent, -1, rows.index)
        kept = replace(rows, index=index).select(np.flatnonzero((index >= 0).any(axis=1)))
        if len(kept):
            means = mean_scores([score_predictions(one, kept, predict(one, kept)) for one in tuned])
            del means["macro_f1_std"]
            result = {"modalities": names, "n_test": len(kept), **means}
            found.append(SubsetResult.model_validate(result))
    return tuple(found)


def continue_log(run: Path, folder: Path) -> Log:
    """A log in a folder that continues that of the run."""
    if (run / METRICS).exists():  # a run without steps has none
        shutil.copyfile(run / METRICS, folder / METRICS)
    return Log(folder)


def save_finetuned(
    folder: Path,
    pretrained: Pretrained,
    tuned: FinetunedModel,
    rows: TrainingSet,
    store: Dataset,
    config: EvaluateConfig,
    *,
    samples: pa.Table,
) -> None:
    """Write a fine-tuned network as a run with a classifier, which `export` and `evaluate` take.

    ``folder`` is empty, or has the log of the fine-tuning. The subjects of ``rows``, the labelled
    ones of the store, count as trained on from now on. ``samples`` are those of pre-training and
    fine-tuning, see `save_run`.
    """
    info = pretrained.info
    chosen = rows.select(choose_labelled(rows.label, config, tuned.seed))
    counts = dict(zip(chosen.modalities, chosen.present.sum(axis=0).tolist(), strict=True))
    used = tuple(name for name, count in counts.items() if count)
    stage = StageInfo(
        name=stage_name(tuned.seed),
        steps=config.budget.n_steps(len(chosen)),
        n_rows={"labelled": len(chosen)},
        n_present=counts,
        labels=True,
        final_loss=tuned.loss,
    )
    finetuned = FinetuneInfo(
        modalities=used,
        data=DataInfo(
            path=str(store.path), kind="converted", content_digest=store.info.content_digest
        ),
        config=config.model_copy(update={"seeds": (tuned.seed,)}),
    )
    subjects = {
        dataset: tuple(sorted({*info.subjects.get(dataset, ()), *rows.subjects.get(dataset, ())}))
        for dataset in {**info.subjects, **rows.subjects}
    }
    saved = info.model_copy(
        update={
            # a modality that fine-tuning did not see keeps the scale of its encoder
            "statistics": {**info.statistics, **{name: tuned.statistics[name] for name in used}},
            "stretched": {**info.stretched, **rows.stretched},
            "subjects": subjects,
            "stages": (*info.stages, stage),
            "classes": rows.label_names,
            "wordings": {},  # the classes are the labels as they are
            "space": tuned.space,
            "finetuned": finetuned,
        }
    )
    save_run(folder, saved, tuned.model, tuned.classifier, samples=samples)
