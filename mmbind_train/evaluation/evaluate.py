"""Fine-tune a run on a few labels and test it; the test store is read once, at the very end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
from pydantic import Field

from mmbind_data.errors import FormatError, UsageError, suggest
from mmbind_data.io.atomic import staged
from mmbind_data.progress import Progress
from mmbind_data.spec.descriptor import Model
from mmbind_data.store.dataset import Dataset, open_dataset
from mmbind_data.store.lineage import lineage_of, recording_table
from mmbind_train.config import EvaluateConfig
from mmbind_train.data.leak_checks import check_apart, check_disjoint
from mmbind_train.data.stored import fits, needed_memory
from mmbind_train.data.training_set import TrainingSet, gather_store
from mmbind_train.evaluation import finetune as finetuning
from mmbind_train.evaluation import metrics
from mmbind_train.evaluation import modality_subsets as subsets
from mmbind_train.evaluation.retrieval import RetrievalResult, retrieve
from mmbind_train.training.hardware import CPU_ALONE, Hardware
from mmbind_train.training.run_folder import RunInfo, load_classifier, load_run, seen_samples


class Result(Model):
    """What `evaluate` measured; accuracy and macro-F1 lie between 0 and 1."""

    method: str
    modalities: tuple[str, ...]
    finetune_modalities: tuple[str, ...] = Field(
        default=(), description="whose labels were read; in a transfer others than those tested"
    )
    test_modalities: tuple[str, ...] = Field(default=(), description="that arrived in the test")
    accuracy: float
    accuracy_std: float | None
    macro_f1: float
    macro_f1_std: float | None
    n_test: int
    n_test_without_input: int
    n_classes: int
    per_seed: tuple[metrics.SeedResult, ...]
    per_subset: tuple[subsets.SubsetResult, ...] = Field(
        default=(), description="the same networks where only these modalities arrive"
    )
    retrieval: tuple[RetrievalResult, ...] = Field(
        default=(), description="of the run as pre-training left it, on the test samples"
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
    retrieval: bool = False,
    save: str | Path | None = None,
    overwrite: bool = False,
) -> Result:
    """Fine-tune a run on the labelled store C once per seed, then test all on the store T.

    With ``finetune_modalities`` and ``test_modalities`` of the configuration this is a transfer:
    the labels of some modalities of C serve others, for which no label is read anywhere.

    Parameters
    ----------
    run : path
        The output of `train`.
    finetune, test : path
        Converted stores with labels, C and T. Their labels are matched by text.
    paper_statistic : bool
        Also test after every fine-tuning epoch and report the mean accuracy over the last 60 % of
        them, as the published code does. All other figures are the same with and without. It looks
        at the test while training goes on, so it is no fair figure; it serves to be compared with
        the paper's.
    hardware : Hardware
        Its device; always in float32, as few labels leave no time to save.
    every_subset : bool
        Also score the same fine-tuned networks if only some of the modalities arrive; fine-tune
        with `EvaluateConfig.modality_dropout` for that.
    retrieval : bool
        Also find each test sample's ``finetune_modalities`` by its ``test_modalities`` among all
        test samples, and the reverse.
    save : path, optional
        Where to write the fine-tuned network of the first seed, as a run with a classifier.
    overwrite : bool
        Replace a run at ``save``.

    Raises
    ------
    LeakError
        A subject, a sample or a recording has two of the roles pre-training, fine-tuning and test.
    UsageError
        A modality or a label that one side lacks.
    FormatError, IntegrityError, OutputError

    Notes
    -----
    Source: MMBind paper, section 6.1.2; docs/protocols.md.

    Examples
    --------
    >>> import mmbind_train as mt
    >>> config = mt.EvaluateConfig(labels_per_class=2)
    >>> result = mt.evaluate("run", "C.zarr", "T.zarr", config=config)  # doctest: +SKIP
    >>> result.accuracy, [one.accuracy for one in result.per_seed]  # doctest: +SKIP
    (0.81, [0.80, 0.82, 0.81, 0.79, 0.83])
    >>> transfer = {"finetune_modalities": ("skeleton",), "test_modalities": ("gyro",)}
    >>> config = mt.EvaluateConfig(**transfer)  # labels of skeletons, tested on the gyroscope
    >>> mt.evaluate("run", "C.zarr", "T.zarr", config=config).accuracy  # doctest: +SKIP
    0.68
    """
    config, run = config or EvaluateConfig(), Path(run)
    info, model = load_run(run)
    pretrained = finetuning.Pretrained(info, model.to(hardware.device), load_classifier(run, info))
    stores = {"finetune": open_dataset(finetune), "test": open_dataset(test)}
    if retrieval:
        _check_retrieval(info, stores["test"], config)
    subjects, samples = check_no_leaks(run, info, stores)
    labelled, tested = choose_modalities(info, stores, config)
    classes = match_labels(stores)
    rows = _labelled(stores["finetune"], info, labelled, classes, config.memory)
    arguments = (stores["test"], info, tested, classes, config.memory)
    watched = _labelled(*arguments) if paper_statistic else None
    saving: AbstractContextManager[Path | None] = nullcontext()
    if save is not None:
        inputs = [run, *(one.path for one in stores.values())]
        out: dict[str, Any] = {"overwrite": overwrite, "inputs": inputs, "replaces": "run"}
        saving = staged(Path(save), doing="evaluate", **out)
    with saving as folder:
        tuned = _finetune(pretrained, rows, config, run, folder, progress, watched)
        if folder is not None:
            network = (pretrained, tuned[0], rows, stores["finetune"], config)
            subsets.save_finetuned(folder, *network, samples=samples)
    # Nothing is learnt or chosen after this line: the test store may be read.
    held_out = _labelled(*arguments)
    predicted = [metrics.predict(one, held_out) for one in tuned]
    scores = tuple(
        metrics.score_predictions(one, held_out, classes_of)
        for one, classes_of in zip(tuned, predicted, strict=True)
    )
    digests = {role: store.info.content_digest for role, store in stores.items()}
    return Result(
        method=info.method,
        modalities=tuple(name for name in info.modalities if name in {*labelled, *tested}),
        finetune_modalities=labelled,
        test_modalities=tested,
        retrieval=_retrieve(pretrained, stores["test"], classes, config) if retrieval else (),
        n_test=len(held_out),
        n_test_without_input=sum(stores["test"].info.labels.values()) - len(held_out),
        n_classes=len(classes),
        per_seed=scores,
        per_subset=subsets.score_subsets(tuned, held_out, tested) if every_subset else (),
        confusion=metrics.confusion(held_out, predicted),
        classes=classes,
        saved=None if save is None else str(save),
        subjects={role: dict(own) for role, own in subjects.items()},
        digests={"pretrain": info.data.content_digest, **digests},
        config=config,
        **metrics.mean_scores(scores),
    )


def _finetune(
    pretrained: finetuning.Pretrained,
    rows: TrainingSet,
    config: EvaluateConfig,
    run: Path,
    folder: Path | None,
    progress: Progress | None,
    watched: TrainingSet | None,
) -> list[metrics.FinetunedModel]:
    """A network for each seed; ``folder``, where the first is saved, gets the log of its steps."""
    tuned = []
    for number, seed in enumerate(config.seeds):
        log = None
        if folder is not None and number == 0:
            log = subsets.continue_log(run, folder)
        options: dict[str, Any] = {"watched": watched, "log": log}
        options["progress"] = _part_of(progress, number, len(config.seeds))
        tuned.append(finetuning.finetune(pretrained, rows, config, seed, **options))
    return tuned


def check_no_leaks(
    run: Path, info: RunInfo, stores: Mapping[str, Dataset]
) -> tuple[dict[str, Mapping[str, tuple[str, ...]]], pa.Table]:
    """Check that no subject, sample or recording has two roles.

    The subjects of each role by dataset, and the samples of pre-training and fine-tuning.
    """
    subjects: dict[str, Mapping[str, tuple[str, ...]]] = {"pretrain": info.subjects}
    tables, paths = {"pretrain": seen_samples(run)}, {"pretrain": run}
    for role, store in stores.items():
        subjects[role] = {store.info.dataset_id: tuple(store.info.subjects)}
        tables[role], paths[role] = recording_table(store), store.path
    check_disjoint(subjects)
    check_apart({role: (paths[role], lineage_of(table)) for role, table in tables.items()})
    return subjects, pa.concat_tables([tables["pretrain"], tables["finetune"]])


def choose_modalities(
    info: RunInfo, stores: Mapping[str, Dataset], config: EvaluateConfig
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Modalities whose labels are read, and those that are tested, in the order of the run's.

    As asked, or both times all that the run and both stores have. A transfer needs the former of C
    alone, and the latter of T alone.
    """
    finetune, test = stores["finetune"], stores["test"]
    if config.finetune_modalities and config.test_modalities:
        twice = sorted({*config.finetune_modalities} & {*config.test_modalities})
        if twice:
            problem = f"{', '.join(twice)} would be labelled and tested, which is no transfer"
            expected, fix = "modalities without labels", "Use --modalities for both at once."
            _refuse(problem, "--test-modalities", expected, ", ".join(twice), fix)
        return (
            _known(info, [finetune], config.finetune_modalities),
            _known(info, [test], config.test_modalities),
        )
    chosen = _known(info, [finetune, test], config.modalities)
    return chosen, chosen


def _known(
    info: RunInfo, stores: Sequence[Dataset], asked: Sequence[str] | None
) -> tuple[str, ...]:
    """Modalities as asked, all of which the run and the stores must have, or all in common."""
    known = {"the run": set(info.modalities)}
    known |= {str(store.path): set(store.info.modalities) for store in stores}
    common = [name for name in info.modalities if all(name in has for has in known.values())]
    for name in asked or ():
        for holder, has in known.items():
            if name not in has:
                expected, fix = f"one of {', '.join(sorted(has))}", suggest(name, common)
                _refuse("no such modality", holder, expected, repr(name), fix)
    chosen = tuple(name for name in common if not asked or name in asked)
    if not chosen:
        expected = "at least one that the run, C and T have"
        _refuse("no modality in common", ", ".join(known), expected, "none")
    return chosen


def _check_retrieval(info: RunInfo, store: Dataset, config: EvaluateConfig) -> None:
    """Refuse a retrieval without two sets of modalities that the test store has."""
    if config.finetune_modalities is None or config.test_modalities is None:
        fix = "Give --finetune-modalities and --test-modalities."
        _refuse(
            "nothing to find one another by", "--retrieval", "two sets of modalities", "one", fix
        )
    for names in (config.finetune_modalities, config.test_modalities):
        _known(info, [store], names or ())


def _retrieve(
    pretrained: finetuning.Pretrained,
    store: Dataset,
    classes: tuple[str, ...],
    config: EvaluateConfig,
) -> tuple[RetrievalResult, ...]:
    """Retrieval between the two sets of modalities of a transfer, both ways."""
    sets, info = (config.finetune_modalities or (), config.test_modalities or ()), pretrained.info
    rows = _labelled(store, info, (*sets[0], *sets[1]), classes, config.memory)
    return retrieve(pretrained.model, rows, info.statistics, sets, config.space or info.space)


def match_labels(stores: Mapping[str, Dataset]) -> tuple[str, ...]:
    """Classes, by label text in the order of the fine-tuning store.

    A UsageError for a store without labels, or a test label that cannot be learnt.
    """
    present = {}
    for role, store in stores.items():
        present[role] = tuple(text for text, count in store.info.labels.items() if count > 0)
        if not present[role]:
            fix = "Cut the store without --labels none."
            _refuse("no labelled samples", store.path, "labels", "none", fix)
    classes = present["finetune"]
    unknown = [text for text in present["test"] if text not in classes]
    if unknown:
        problem = "test labels that the fine-tuning store does not have"
        expected, fix = f"labels among {', '.join(classes)}", suggest(unknown[0], classes)
        _refuse(problem, stores["test"].path, expected, ", ".join(unknown), fix)
    return classes


def _refuse(problem: str, at: object, expected: str, got: str, fix: str = "") -> NoReturn:
    raise UsageError(cannot="evaluate", problem=problem, at=at, expected=expected, got=got, fix=fix)


def _labelled(
    store: Dataset,
    info: RunInfo,
    modalities: tuple[str, ...],
    classes: tuple[str, ...],
    memory: float | None,
) -> TrainingSet:
    """Rows of a store that have a label, in the run's columns and shapes, labels by class."""
    names, codes = store.names("label"), store.column("label")
    place = {text: number for number, text in enumerate(classes)}
    label = np.array([-1 if code < 0 else place.get(names[code], -1) for code in codes], np.int64)
    # a sample with none of the modalities has nothing to learn or to predict from
    with_input = np.logical_or.reduce([store.present(name) for name in modalities])
    kept = np.flatnonzero((label >= 0) & with_input)
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
        store,
        modalities,
        like=info.modalities,
        every_column=True,
        recentre=info.config.recentre,
        rows=kept,
        bounds=bounds,
        load=fits(needed_memory(store, bounds), memory),
    )
    return replace(rows, label=label[kept], label_names=classes)


def _part_of(progress: Progress | None, number: int, n_seeds: int) -> Progress | None:
    """Progress of one seed as its part of the progress of all."""
    if progress is None:
        return None
    return lambda done, total, text: progress(number * total + done, n_seeds * total, text)
