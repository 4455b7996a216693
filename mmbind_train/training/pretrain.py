"""Pre-train a network on a store with one of the methods, and write the run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmbind_data.io.atomic import KEPT, check_output, resumable, staging_path
from mmbind_data.progress import Progress
from mmbind_data.spec.label_synonyms import synonym_map
from mmbind_data.spec.store import BoundInfo
from mmbind_data.store.bound import BoundDataset, open_store
from mmbind_data.store.dataset import Dataset
from mmbind_data.store.lineage import recordings_of
from mmbind_train.config import TrainConfig, recipe
from mmbind_train.data.anchor_labels import bound_by_label, with_anchor_labels
from mmbind_train.data.leak_checks import check_bound
from mmbind_train.data.stored import check_memory, fits, needed_memory, window_bytes
from mmbind_train.data.training_set import (
    TrainingSet,
    gather_bound,
    gather_store,
    measure_statistics,
)
from mmbind_train.networks.model import AdaptiveModel
from mmbind_train.objectives.pair_graph import Partners
from mmbind_train.training.cache_keys import code_digest, job_key
from mmbind_train.training.checkpoint import EVERY, Checkpoints, interrupted_key, open_checkpoints
from mmbind_train.training.hardware import CPU_ALONE, Hardware, choose_hardware
from mmbind_train.training.logs import Log, check_tensorboard
from mmbind_train.training.methods import (
    METHODS,
    check_method,
    check_pairs,
    check_partners,
    find_method,
)
from mmbind_train.training.run import PretrainingRun
from mmbind_train.training.run_folder import DataInfo, HardwareInfo, RunInfo, save_run


def train(
    data: str | Path,
    out: str | Path,
    *,
    method: str = "mmbind",
    config: TrainConfig | None = None,
    partners: Partners | None = None,
    sources: Mapping[str, str | Path] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    hardware: Hardware | None = None,
    tensorboard: bool = False,
    checkpoint_every: int = EVERY,
    on_message: Callable[[str], None] | None = None,
    on_resume: Callable[[float], None] | None = None,
) -> RunInfo:
    """Pre-train a network on a store and write the run.

    An interrupted training leaves a hidden folder beside the run; the same call resumes from its
    last checkpoint, with the losses and weights of an uninterrupted training.

    Parameters
    ----------
    data : path
        A bound store; for upper_bound a converted store; for lower_bound either.
    out : path
        The run's folder: run.json, model.safetensors, metrics.jsonl, timing.jsonl.
    method : str
        A key of `METHODS`.
    config : TrainConfig, optional
        The same seed gives the same weights on the same machine.
    partners : callable (TrainingSet) -> PairGraph, optional
        Partners of mmbind's soft targets in place of the pairs of the table, such as a control of
        what right pairs are worth; its text, ``str(partners)``, is recorded in the run and must say
        which it is. The nodes of the graph are the rows of `incomplete_rows`.
    sources : mapping of source id to path, optional
        Current locations of the sources of a bound store.
    overwrite : bool
        Replace a run at ``out``.
    hardware : Hardware, optional
        By default that of `choose_hardware`. Of several processes the first one writes the run.
    tensorboard : bool
        Also write event files.
    checkpoint_every : int
        Steps.
    on_message : callable (text), optional
        Receives whether a checkpoint was found and is of use, and how samples are read that do not
        fit into memory.
    on_resume : callable (seconds), optional
        Receives the CPU time that went into the checkpoint which this training resumes from.

    Returns
    -------
    RunInfo
        What run.json contains; `load_run` reads it back with the network.

    Raises
    ------
    UsageError
        Unknown method, or a store of the wrong kind for it.
    LeakError
        The store holds what the method must not see.
    FormatError, IntegrityError, OutputError

    Examples
    --------
    >>> import mmbind_train as mt
    >>> info = mt.train("bound.zarr", "run", method="mmbind")  # doctest: +SKIP
    >>> info.final_loss, info.modalities["acc"].shape  # doctest: +SKIP
    (1.2037, (120, 3))
    """
    out, config = Path(out), _for_method(config, method)
    opened = _open(data, out, sources=sources, overwrite=overwrite)
    hardware = hardware or choose_hardware()
    if tensorboard:
        check_tensorboard()
    rows, steps, key = _prepare(opened, method, config, hardware, staging_path(out) / KEPT)
    if partners is not None:
        check_partners(method, rows, config)
        key = job_key(key, str(partners))
    samples = recordings_of(opened)
    opened = replace(opened)  # training reads no tables: their memory is free for it
    processes = hardware.processes
    processes.wait()  # until all have passed the checks

    def learn(checkpoints: Checkpoints, **options: Any) -> tuple[PretrainingRun, RunInfo]:
        options |= {"steps": steps, "hardware": hardware, "checkpoints": checkpoints}
        options["partners"] = partners
        training = pretrain(rows, opened, method, config, **options)
        return training, describe(training, opened, method, str(data))

    if not processes.first:
        info = learn(Checkpoints(out, checkpoint_every, Log(out), key, processes))[1]
        processes.wait()
        return info
    with resumable(out, overwrite=overwrite, doing="train", replaces="run") as (folder, kept):
        log = Log(folder, tensorboard)
        checkpoints, found = open_checkpoints(
            kept, key, log, every=checkpoint_every, processes=processes
        )
        if found and on_message is not None:
            on_message(found)
        if checkpoints.earlier_cpu_s and on_resume is not None:
            on_resume(checkpoints.earlier_cpu_s)
        training, info = learn(checkpoints, log=log, progress=progress, on_message=on_message)
        log.close()
        save_run(folder, info, training.model, training.classifier, samples=samples)
    processes.wait()
    return info


def describe(
    training: PretrainingRun, data: Dataset | BoundDataset, method: str, path: str
) -> RunInfo:
    """The contents of run.json after a training."""
    rows, hardware, stages = training.rows, training.hardware, training.stages
    bound = data.info if isinstance(data, BoundDataset) else None
    binder = bound.binder if training.classifier and bound else ()
    reads_pairs = "pseudo" in METHODS[method].kinds and training.partners is None
    return RunInfo(
        method=method,
        partners=None if training.partners is None else str(training.partners),
        config=training.config,
        data=DataInfo(
            path=path,
            kind=data.info.kind,
            content_digest=data.info.content_digest,
            shared=bound.shared if bound else (),
            quality=bound.quality if bound and reads_pairs else None,
        ),
        modalities=dict(rows.modalities),
        statistics=dict(training.statistics),
        subjects=dict(rows.subjects),
        stretched=dict(rows.stretched),
        n_rows=dict(stages[-1].n_rows) if stages else {},
        departures=departures(training.config, bound),
        stages=tuple(stages),
        classes=rows.label_names if training.classifier else (),
        wordings=synonym_map(*binder),
        space="feature" if training.classifier else METHODS[method].space,
        steps=training.steps,
        final_loss=stages[-1].final_loss if stages else None,
        versions={name: version(name) for name in ("mmbind", "torch", "numpy")},
        hardware=HardwareInfo(
            device=str(hardware.device),
            precision="bfloat16" if hardware.bfloat16 else "float32",
            compiled=hardware.compiled,
            processes=hardware.processes.count,
            deterministic=hardware.deterministic,
        ),
    )


def departures(config: TrainConfig, bound: BoundInfo | None) -> tuple[str, ...]:
    """In what a training with the options of recipe paper differs from the text still.

    Nothing for trainings with other options: `recipe` says what these are.

    Source: MMBind paper, sections 5.1, 5.2 and 6.1.
    """
    paper, options = recipe("paper"), ("loss", "pairs", "mask_same_sample", "augmentation")
    if any(getattr(config, name) != getattr(paper, name) for name in options):
        return ()
    found = ["AdamW with warm-up and a cosine in place of Adam at a constant rate"]
    if config.network.variant == "compact":
        found.append("mmbind's encoders in place of the published ones (--encoder reference)")
    rules = {one.weight_rule for one in bound.binder} if bound else set()
    if rules - {"minmax_mean1"}:
        found.append(
            f"pairs are weighed by {', '.join(sorted(rules))} (mmbind bind --recipe paper)"
        )
    return tuple(found)


def pretrain(
    rows: TrainingSet,
    data: Dataset | BoundDataset,
    method: str,
    config: TrainConfig,
    *,
    steps: int,
    hardware: Hardware = CPU_ALONE,
    **options: Any,
) -> PretrainingRun:
    """Make a network for the rows of a store, from `read_rows`, and run the method's stages.

    ``options`` are partners, log, progress, checkpoints and on_message of `PretrainingRun`.
    """
    with hardware.fork_rng(), hardware.determinism():
        torch.manual_seed(config.seed)
        training = PretrainingRun(
            rows=rows,
            shared=data.info.shared if isinstance(data, BoundDataset) else (),
            judged=isinstance(data, BoundDataset) and data.info.judged,
            model=AdaptiveModel(rows.modalities, config.network).to(hardware.device),
            statistics=measure_statistics(rows),
            config=config,
            steps=steps,
            hardware=hardware,
            **options,
        )
        if hardware.compiled:
            training.model.compile_encoders()
        stages = METHODS[method].pretrain
        if stages is not None:
            stages(training)
    return training


def plan_training(
    data: str | Path,
    out: str | Path,
    *,
    method: str = "mmbind",
    config: TrainConfig | None = None,
    **options: Any,
) -> dict[str, int]:
    """Rows of each kind that `train` would use, after all checks; nothing is written.

    Parameters (``options``: sources, overwrite) and errors are those of `train`.
    """
    config = _for_method(config, method)
    opened = _open(data, Path(out), **options)
    if METHODS[method].pretrain is None:
        read_rows(opened, method, config, load=False)
        return {}
    rows = _prepare(opened, method, config)[0]
    return dict(pretrain(rows, opened, method, config, steps=0).stages[-1].n_rows)


def read_rows(
    data: Dataset | BoundDataset, method: str, config: TrainConfig, *, load: bool = True
) -> TrainingSet:
    """Read what a method may see of a store, and nothing else; ``load=False``: samples on demand.

    Raises
    ------
    UsageError, LeakError, FormatError, IntegrityError
    """
    check_method(method, data)
    if isinstance(data, Dataset):
        rows = gather_store(data, recentre=config.recentre, bounds=config.inputs, load=load)
        return rows if config.labels else rows.without_labels()
    check_bound(data, method=method)
    rows = gather_bound(data, recentre=config.recentre, bounds=config.inputs, load=load)
    if bound_by_label(data):
        rows = with_anchor_labels(rows, data)
    return rows.select(np.isin(rows.kind, METHODS[method].kinds))


def count_samples(rows: TrainingSet) -> int:
    """Distinct source samples: the rows of an epoch, the same number for every method."""
    return len(np.unique(rows.sample[rows.sample >= 0]))


def _for_method(config: TrainConfig | None, method: str) -> TrainConfig:
    """Give the network what the method's definition adds to it."""
    config = config or TrainConfig()
    network = config.network.model_copy(update={"prompt": find_method(method).prompt})
    return config.model_copy(update={"network": network})


def _open(
    data: str | Path,
    out: Path,
    *,
    sources: Mapping[str, str | Path] | None = None,
    overwrite: bool = False,
) -> Dataset | BoundDataset:
    """Open the store, and check that the run may be written."""
    opened = open_store(data, sources=sources)
    inputs = [opened.path]
    if isinstance(opened, BoundDataset):
        inputs += [opened.source(one.source_id).path for one in opened.info.sources]
    check_output(out, overwrite=overwrite, doing="train", inputs=inputs, replaces="run")
    return opened


def _prepare(
    data: Dataset | BoundDataset,
    method: str,
    config: TrainConfig,
    hardware: Hardware = CPU_ALONE,
    kept: Path | None = None,
) -> tuple[TrainingSet, int, str]:
    """Rows, in memory if that is possible; the number of steps; and the key of checkpoints.

    An interrupted training goes on as it began, whatever memory is free now.
    """
    entry, processes = METHODS[method], hardware.processes
    means = isinstance(data, BoundDataset) and data.info.n_rows.get("mean", 0) > 0
    need, problem = needed_memory(data, config.inputs), "the samples do not fit into memory"
    whole = entry.whole or means
    if whole:
        problem += f", and {'means' if means else method} must have all of them"
        check_memory(need, data.path, problem, processes=processes.count)
    rows = read_rows(data, method, config, load=whole)
    check_pairs(method, rows, config)
    steps = config.budget.n_steps(count_samples(rows)) if entry.pretrain else 0
    # equal for trainings whose results must be equal, so that one may resume the other
    digests = [data.info.content_digest]
    if isinstance(data, BoundDataset):
        digests += [one.content_digest for one in data.info.sources]
    how = [str(hardware.device), hardware.bfloat16, hardware.compiled, processes.count]
    how += [hardware.deterministic, torch.get_num_threads()]
    options, code = config.model_dump(mode="json"), code_digest(sys.modules[__name__])
    keys = [
        job_key("training", method, options, digests, steps, how, loaded, code)
        for loaded in (False, True)
    ]
    interrupted = interrupted_key(kept) if kept else None
    if interrupted in keys:
        load = interrupted == keys[True]
        problem += " as they did when this training began"
    else:
        load = whole or fits(need, config.memory, processes=processes.count)
    load = processes.from_first(load)  # free memory may have changed between the processes
    if load:
        check_memory(need, data.path, problem, processes=processes.count)
        return rows.loaded(), steps, keys[True]
    if entry.pretrain:
        need, problem = window_bytes(config.memory), "not even a window of samples fits into memory"
        fix = "Give less --memory."
        check_memory(need, data.path, problem, processes=processes.count, fix=fix)
    return rows, steps, keys[False]
