"""Fine-tune a run on a few labels and test it: the test store is read once, at the very end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from pydantic import Field

from mmbind_data.errors import FormatError, UsageError, suggest
from mmbind_data.io.atomic import staged
from mmbind_data.progress import Progress
from mmbind_data.spec.descriptor import Model
from mmbind_data.spec.store import DatasetInfo
from mmbind_data.store.dataset import Dataset, open_dataset
from mmbind_data.store.lineage import lineage_of, recording_table
from mmbind_train.config import EvaluateConfig
from mmbind_train.data.leak_checks import check_apart, check_disjoint
from mmbind_train.data.stored import fits, needed_memory
from mmbind_train.data.training_set import TrainingSet, gather_store
from mmbind_train.evaluation.finetune import Pretrained
from mmbind_train.evaluation.finetune import finetune as finetune_once
from mmbind_train.evaluation.metrics import SeedResult, confusion, predict, score_predictions
from mmbind_train.evaluation.modality_subsets import (
    SubsetResult,
    log_subsets,
    save_tuned,
    score_subsets,
)
from mmbind_train.training.hardware import CPU_ALONE, Hardware
from mmbind_train.training.run_folder import RunInfo, load_classifier, load_run, seen_samples


class Result(Model):
    """What `evaluate` measured; accuracy and macro-F1 lie between 0 and 1."""

    method: str
    modalities: tuple[str, ...]
    accuracy: float
    accuracy_std: float | None
    macro_f1: float
    macro_f1_std: float | None
    n_test: int
    n_test_without_input: int
    n_classes: int
    per_seed: tuple[SeedResult, ...]
    per_subset: tuple[SubsetResult, ...] = Field(
        default=(), description="the same networks where only these modalities arrive"
    )
    confusion: tuple[tuple[int, ...], ...] = Field(
        default=(), description="true classes in rows, predicted in columns; all seeds together"
    )
    classes: tuple[str, ...] = ()
    saved: str | None = Field(default=None, description="where the first seed's network is kept")
    subjects: dict[str, dict[str, tuple[str, ...]]]
    digests: dict[str, str]
    config: EvaluateConfig


def evaluate(
    run: str | Path,
    finetune: str | Path,
    test: str | Path,
    *,
    config: EvaluateConfig | None = None,
    progress: Progress | None = None,
    paper_statistic: bool = False,
    hardware: Hardware = CPU_ALONE,
    every_subset: bool = False,
    save: str | Path | None = None,
    overwrite: bool = False,
) -> Result:
    """Fine-tune a run on the labelled store C once per seed, then test all on the store T.

    Parameters
    ----------
    run : path
        The output of `train`.
    finetune, test : path
        Converted stores with labels. Their labels are matched by text.
    config : EvaluateConfig, optional
    progress : callable (done, total, text), optional
    paper_statistic : bool
        Also test after every fine-tuning epoch and tell the mean accuracy over the last 60 % of
        them, which is what the published code reports. Nothing else depends on it: all other
        figures are the same with and without. It looks at the test while training goes on, so it
        is no fair figure; it serves to be held beside the paper's.
    hardware : Hardware
        Its device; always in float32, as few labels leave nothing to save.
    every_subset : bool
        Also score the same fine-tuned networks where only some of the modalities arrive; fine-tune
        with `EvaluateConfig.modality_dropout` for that.
    save : path, optional
        Where to write the fine-tuned network of the first seed, as a run with a classifier.
    overwrite : bool
        Replace a run at ``save``.

    Returns
    -------
    Result
        Means over the seeds, and each seed's figures.

    Raises
    ------
    LeakError
        A subject, or a sample, appears in two of pre-training, fine-tuning and test.
    UsageError
        A modality or a label that one side lacks.
    FormatError, IntegrityError, OutputError

    Notes
    -----
    Source: paper section 6.1.2 and shared/PROTOCOLS.md section 2, rules 3, 5 and 6.
    """
    config = config or EvaluateConfig()
    info, model = load_run(Path(run))
    pretrained = Pretrained(info, model.to(hardware.device), load_classifier(Path(run), info))
    stores = {"finetune": open_dataset(finetune), "test": open_dataset(test)}
    roles, met = check_no_leaks(Path(run), info, stores)
    modalities = choose_modalities(info, stores, config)
    classes = match_labels(stores["finetune"].info, stores["test"].info, stores)
    wanted = (info, modalities, classes, config.memory)
    rows = _labelled(stores["finetune"], *wanted)
    watched = _labelled(stores["test"], *wanted) if paper_statistic else None
    tuned = []
    with _saving(save, [Path(run), *(one.path for one in stores.values())], overwrite) as folder:
        for number, seed in enumerate(config.seeds):
            report = _shift(progress, number, len(config.seeds))
            log = None if folder is None or number else log_subsets(Path(run), folder)
            tuned.append(
                finetune_once(
                    pretrained, rows, config, seed, progress=report, watched=watched, log=log
                )
            )
        if folder is not None:
            save_tuned(folder, pretrained, tuned[0], rows, stores["finetune"], config, samples=met)
    # From here on nothing is learnt or chosen any more: the test store may be read.
    held_out = _labelled(stores["test"], *wanted)
    predicted = [predict(one, held_out) for one in tuned]
    scores = tuple(
        score_predictions(one, held_out, said) for one, said in zip(tuned, predicted, strict=True)
    )
    accuracy, f1 = ([getattr(s, name) for s in scores] for name in ("accuracy", "macro_f1"))
    return Result(
        method=info.method,
        modalities=modalities,
        accuracy=float(np.mean(accuracy)),
        accuracy_std=_std(accuracy),
        macro_f1=float(np.mean(f1)),
        macro_f1_std=_std(f1),
        n_test=len(held_out),
        n_test_without_input=sum(stores["test"].info.labels.values()) - len(held_out),
        n_classes=len(classes),
        per_seed=scores,
        per_subset=score_subsets(tuned, held_out, modalities) if every_subset else (),
        confusion=confusion(held_out, predicted),
        classes=classes,
        saved=None if save is None else str(save),
        subjects={role: dict(subjects) for role, subjects in roles.items()},
        digests={"pretrain": info.data.content_digest}
        | {role: store.info.content_digest for role, store in stores.items()},
        config=config,
    )


def _saving(
    save: str | Path | None, inputs: Sequence[Path], overwrite: bool
) -> AbstractContextManager[Path | None]:
    """A folder for the network that is kept, or None where none is."""
    if save is None:
        return nullcontext()
    return staged(Path(save), overwrite=overwrite, doing="evaluate", inputs=inputs, replaces="run")


def check_no_leaks(
    run: Path, info: RunInfo, stores: Mapping[str, Dataset]
) -> tuple[dict[str, Mapping[str, tuple[str, ...]]], pa.Table]:
    """Make sure that nobody, no sample and no recording is met twice.

    Returns
    -------
    roles : dict
        Subjects of each role by dataset.
    met : pyarrow.Table
        The samples that pre-training and fine-tuning see.
    """
    roles: dict[str, Mapping[str, tuple[str, ...]]] = {"pretrain": info.subjects}
    tables = {"pretrain": seen_samples(run)}
    for role, store in stores.items():
        roles[role] = {store.info.dataset_id: tuple(store.info.subjects)}
        tables[role] = recording_table(store)
    check_disjoint(roles)
    paths = {"pretrain": run} | {role: store.path for role, store in stores.items()}
    check_apart({role: (paths[role], lineage_of(table)) for role, table in tables.items()})
    return roles, pa.concat_tables([tables["pretrain"], tables["finetune"]])


def choose_modalities(
    info: RunInfo, stores: Mapping[str, Dataset], config: EvaluateConfig
) -> tuple[str, ...]:
    """Modalities to fine-tune and test with: as asked, or all that everybody has."""
    known = {"the run": set(info.modalities)} | {
        str(store.path): set(store.info.modalities) for store in stores.values()
    }
    common = [name for name in info.modalities if all(name in has for has in known.values())]
    for name in config.modalities or ():
        for holder, has in known.items():
            if name not in has:
                raise UsageError(
                    cannot="evaluate",
                    problem="no such modality",
                    at=holder,
                    expected=f"one of {', '.join(sorted(has))}",
                    got=repr(name),
                    fix=suggest(name, common),
                )
    chosen = tuple(name for name in common if not config.modalities or name in config.modalities)
    if not chosen:
        raise UsageError(
            cannot="evaluate",
            problem="no modality in common",
            at=", ".join(known),
            expected="at least one that the run, C and T have",
            got="none",
        )
    return chosen


def match_labels(
    finetune: DatasetInfo, test: DatasetInfo, stores: Mapping[str, Dataset]
) -> tuple[str, ...]:
    """Classes, by label text in the order of the fine-tuning store.

    Raises
    ------
    UsageError
        A store without labels, or a test label that cannot be learnt.
    """
    classes = tuple(text for text, count in finetune.labels.items() if count > 0)
    tested = [text for text, count in test.labels.items() if count > 0]
    for role, labels in (("finetune", classes), ("test", tested)):
        if not labels:
            raise UsageError(
                cannot="evaluate",
                problem="no labelled samples",
                at=stores[role].path,
                expected="labels",
                got="none",
                fix="Cut the store without --labels none.",
            )
    unknown = [text for text in tested if text not in classes]
    if unknown:
        raise UsageError(
            cannot="evaluate",
            problem="test labels that the fine-tuning store does not have",
            at=stores["test"].path,
            expected=f"labels among {', '.join(classes)}",
            got=", ".join(unknown),
            fix=suggest(unknown[0], classes),
        )
    return classes


def _labelled(
    store: Dataset,
    info: RunInfo,
    modalities: tuple[str, ...],
    classes: tuple[str, ...],
    memory: float | None,
) -> TrainingSet:
    """Rows of a store that have a label, in the run's shapes, labels as indices into classes."""
    names, codes = store.names("label"), store.column("label")
    place = {text: number for number, text in enumerate(classes)}
    label = np.array([-1 if code < 0 else place.get(names[code], -1) for code in codes], np.int64)
    # a sample that carries none of the modalities has nothing to learn from or to be judged by
    carried = np.logical_or.reduce([store.present(name) for name in modalities])
    kept = np.flatnonzero((label >= 0) & carried)
    if len(kept) == 0:
        raise FormatError(
            cannot="evaluate",
            problem="no labelled samples with such inputs",
            at=store.path,
            expected=f"labels and {' or '.join(modalities)}",
            got="none",
        )
    bounds = info.config.inputs
    rows = gather_store(
        store, modalities, like=info.modalities, recentre=info.config.recentre, rows=kept,
        bounds=bounds, held=fits(needed_memory(store, bounds), memory),
    )  # fmt: skip
    return _in_columns(rows, info, label[kept], classes)


def _in_columns(
    rows: TrainingSet, info: RunInfo, label: np.ndarray, classes: tuple[str, ...]
) -> TrainingSet:
    """Arrange the columns as the run's model has them; a modality not asked for is absent."""
    given = tuple(rows.modalities)
    absent = np.full(len(rows), -1, np.int64)
    order = [given.index(name) if name in given else None for name in info.modalities]
    index, sample = (
        np.stack([absent if k is None else columns[:, k] for k in order], axis=1)
        for columns in (rows.index, rows.sample)
    )
    values = {
        name: rows.values[name] if name in given else np.empty((0, *modality.shape), np.float32)
        for name, modality in info.modalities.items()
    }
    return replace(
        rows,
        modalities=info.modalities,
        values=values,
        index=index,
        sample=sample,
        label=label,
        label_names=classes,
    )


def _std(values: list[float]) -> float | None:
    """Sample standard deviation; unknown from one value."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def _shift(progress: Progress | None, number: int, n_seeds: int) -> Callable[..., None] | None:
    """Let one seed's progress count as its part of all seeds'."""
    if progress is None:
        return None
    report = progress

    def shifted(done: int, total: int, text: str) -> None:
        report(number * total + done, n_seeds * total, text)

    return shifted
