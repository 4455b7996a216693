"""Pre-train a network on a store with one of the methods, and write the run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from mmbind_data.errors import UsageError, suggest
from mmbind_data.io.atomic import KEPT, check_output, resumable, staging_path
from mmbind_data.progress import Progress
from mmbind_data.spec.label_synonyms import synonym_map
from mmbind_data.store.bound import BoundDataset, open_store
from mmbind_data.store.dataset import Dataset
from mmbind_data.store.lineage import recordings_of
from mmbind_train.config import TrainConfig
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
from mmbind_train.training.cache_keys import code_digest, job_key
from mmbind_train.training.checkpoint import EVERY, Checkpoints, begun_key, open_checkpoints
from mmbind_train.training.hardware import CPU_ALONE, Hardware, choose_hardware
from mmbind_train.training.logs import Log, check_tensorboard
from mmbind_train.training.methods import METHODS, Method, check_method, check_pairs
from mmbind_train.training.run import PretrainingRun
from mmbind_train.training.run_folder import DataInfo, HardwareInfo, RunInfo, save_run


def train(
    data: str | Path,
    out: str | Path,
    *,
    method: str = "mmbind",
    config: TrainConfig | None = None,
    sources: Mapping[str, str | Path] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    hardware: Hardware | None = None,
    tensorboard: bool = False,
    checkpoint_every: int = EVERY,
    tell: Callable[[str], None] | None = None,
    tell_earlier: Callable[[float], None] | None = None,
) -> RunInfo:
    """Pre-train a network on a store and write the run.

    An interrupted training leaves a hidden folder beside the run; the same call goes on from its
    last checkpoint, with the losses and weights that it would have had anyway.

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
    sources : mapping of source id to path, optional
        Where the sources of a bound store lie now.
    overwrite : bool
    progress : callable (done, total, text), optional
    hardware : Hardware, optional
        As `choose_hardware` finds it by default. Of several processes the first one writes the run.
    tensorboard : bool
        Also write event files.
    checkpoint_every : int
        Steps.
    tell : callable (text), optional
        Told whether a checkpoint was found, whether it is of use, and how samples are read that do
        not fit into memory.
    tell_earlier : callable (seconds), optional
        Told the CPU time that went into the checkpoint which this training goes on from.

    Returns
    -------
    RunInfo

    Raises
    ------
    UsageError
        Unknown method, or a store of the wrong kind for it.
    LeakError
        The store holds what the method must not see.
    FormatError, IntegrityError, OutputError
    """
    out, config = Path(out), _for_method(config or TrainConfig(), known_method(method))
    opened = _open(data, sources, out, overwrite=overwrite)
    hardware = hardware or choose_hardware()
    if tensorboard:
        check_tensorboard()
    rows, steps, key = _prepare(opened, method, config, hardware, staging_path(out) / KEPT)
    samples = recordings_of(opened)
    opened = replace(opened)  # training reads no tables: their memory is free for it
    processes = hardware.processes
    processes.wait()  # all have seen that nothing stands in the way
    if not processes.first:
        others = Checkpoints(out, checkpoint_every, Log(out), key, processes)
        training = pretrain(
            rows, opened, method, config, steps=steps, hardware=hardware, checkpoints=others
        )
        processes.wait()
        return describe(training, opened, method, str(data))
    with resumable(out, overwrite=overwrite, doing="train", replaces="run") as (folder, kept):
        log = Log(folder, tensorboard)
        checkpoints, found = open_checkpoints(
            kept, key, log, every=checkpoint_every, processes=processes
        )
        if found and tell is not None:
            tell(found)
        if checkpoints.earlier_cpu_s and tell_earlier is not None:
            tell_earlier(checkpoints.earlier_cpu_s)
        training = pretrain(
            rows, opened, method, config, steps=steps, hardware=hardware, log=log,
            progress=progress, checkpoints=checkpoints, tell=tell,
        )  # fmt: skip
        log.close()
        info = describe(training, opened, method, str(data))
        save_run(folder, info, training.model, training.classifier, samples=samples)
    processes.wait()
    return info


def describe(
    training: PretrainingRun, data: Dataset | BoundDataset, method: str, path: str
) -> RunInfo:
    """What run.json says of a training that is done."""
    rows, hardware, stages = training.rows, training.hardware, training.stages
    binder = data.info.binder if training.classifier and isinstance(data, BoundDataset) else ()
    return RunInfo(
        method=method,
        config=training.config,
        data=DataInfo(path=path, kind=data.info.kind, content_digest=data.info.content_digest),
        modalities=dict(rows.modalities),
        statistics=dict(training.statistics),
        subjects=dict(rows.subjects),
        stretched=dict(rows.stretched),
        n_rows=dict(stages[-1].n_rows) if stages else {},
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
        ),
    )


def pretrain(
    rows: TrainingSet,
    data: Dataset | BoundDataset,
    method: str,
    config: TrainConfig,
    *,
    steps: int,
    hardware: Hardware = CPU_ALONE,
    log: Log | None = None,
    progress: Progress | None = None,
    checkpoints: Checkpoints | None = None,
    tell: Callable[[str], None] | None = None,
) -> PretrainingRun:
    """Make a network for the rows and take it through the method's stages."""
    with hardware.fork_rng():
        torch.manual_seed(config.seed)
        training = PretrainingRun(
            rows=rows,
            shared=data.info.shared if isinstance(data, BoundDataset) else (),
            model=AdaptiveModel(rows.modalities, config.network).to(hardware.device),
            statistics=measure_statistics(rows),
            config=config,
            steps=steps,
            hardware=hardware,
            log=log,
            progress=progress,
            checkpoints=checkpoints,
            tell=tell,
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
    sources: Mapping[str, str | Path] | None = None,
    overwrite: bool = False,
) -> dict[str, int]:
    """Rows of each kind that `train` would run over, all checks made, nothing written.

    Parameters and errors are those of `train`.
    """
    config = _for_method(config or TrainConfig(), known_method(method))
    opened = _open(data, sources, Path(out), overwrite=overwrite)
    if METHODS[method].pretrain is None:
        read_rows(opened, method, config, held=False)
        return {}
    rows = _prepare(opened, method, config)[0]
    training = pretrain(rows, opened, method, config, steps=0)
    return dict(training.stages[-1].n_rows)


def _open(
    data: str | Path, sources: Mapping[str, str | Path] | None, out: Path, *, overwrite: bool
) -> Dataset | BoundDataset:
    """Open what is trained on, and see that the run may be written."""
    opened = open_store(data, sources=sources)
    inputs = [opened.path]
    if isinstance(opened, BoundDataset):
        inputs += [opened.source(one.source_id).path for one in opened.info.sources]
    check_output(out, overwrite=overwrite, doing="train", inputs=inputs, replaces="run")
    return opened


def read_rows(
    data: Dataset | BoundDataset, method: str, config: TrainConfig, *, held: bool = True
) -> TrainingSet:
    """Read what a method may see of a store, and nothing else; its samples on demand if not held.

    Raises
    ------
    UsageError, LeakError, FormatError, IntegrityError
    """
    entry = METHODS[method]
    if isinstance(data, Dataset):
        if entry.data == "bound":
            raise UsageError(
                cannot=f"train {method}",
                problem="not a bound store",
                at=data.path,
                expected="a bound store",
                got="a converted store",
                fix="Make one with mmbind bind, or use --method upper_bound.",
            )
        rows = gather_store(data, recentre=config.recentre, bounds=config.inputs, held=held)
        return rows if config.labels else rows.without_labels()
    if entry.data == "natural":
        raise UsageError(
            cannot=f"train {method}",
            problem="a bound store has no natural pairs",
            at=data.path,
            expected="a converted store in which the nodes' samples have all modalities",
            got="a bound store",
            fix="Cut one with mmbind partition, with the subjects of all nodes.",
        )
    check_method(method, entry, data.info.shared, data.info.modalities)
    check_bound(data, method=method)
    rows = gather_bound(data, recentre=config.recentre, bounds=config.inputs, held=held)
    if bound_by_label(data):
        rows = with_anchor_labels(rows, data)
    return rows.select(np.isin(rows.kind, entry.kinds))


def count_samples(rows: TrainingSet) -> int:
    """Distinct source samples: an epoch has that many rows for every method alike."""
    return len(np.unique(rows.sample[rows.sample >= 0]))


def known_method(method: str) -> Method:
    """Entry of a method.

    Raises
    ------
    UsageError
        Naming the closest one.
    """
    if method not in METHODS:
        raise UsageError(
            cannot="train",
            problem="unknown method",
            at="method",
            expected=" or ".join(METHODS),
            got=repr(method),
            fix=suggest(method, METHODS),
        )
    return METHODS[method]


def _prepare(
    data: Dataset | BoundDataset,
    method: str,
    config: TrainConfig,
    hardware: Hardware = CPU_ALONE,
    kept: Path | None = None,
) -> tuple[TrainingSet, int, str]:
    """Rows, in memory if that is possible; the number of steps; and the key of checkpoints.

    A training that was interrupted goes on as it began, whatever memory is free by now.
    """
    entry, processes = METHODS[method], hardware.processes
    means = isinstance(data, BoundDataset) and data.info.n_rows.get("mean", 0) > 0
    need, what = needed_memory(data, config.inputs), "the samples do not fit into memory"
    whole = entry.whole or means
    if whole:
        what += f", and {'means' if means else method} must have all of them"
        check_memory(need, data.path, what, processes=processes.count)
    rows = read_rows(data, method, config, held=whole)
    check_pairs(method, rows, config)
    steps = config.budget.n_steps(count_samples(rows)) if entry.pretrain else 0
    keys = [_key(data, method, config, steps, hardware, held) for held in (False, True)]
    begun = begun_key(kept) if kept else None
    if begun in keys:
        held = begun == keys[True]
        what += " as they did when this training began"
    else:
        held = whole or fits(need, config.memory, processes=processes.count)
    held = processes.from_first(held)  # what is free may have changed from one to the other
    if held:
        check_memory(need, data.path, what, processes=processes.count)
        return rows.held(), steps, keys[True]
    if entry.pretrain:
        window, what = window_bytes(config.memory), "not even a window of samples fits into memory"
        way_out = "Give less --memory."
        check_memory(window, data.path, what, processes=processes.count, way_out=way_out)
    return rows, steps, keys[False]


def _key(
    data: Dataset | BoundDataset,
    method: str,
    config: TrainConfig,
    steps: int,
    hardware: Hardware,
    held: bool,
) -> str:
    """Equal for trainings whose results must be equal: a checkpoint of another one is of no use."""
    digests = [data.info.content_digest]
    if isinstance(data, BoundDataset):
        digests += [one.content_digest for one in data.info.sources]
    options = config.model_dump(mode="json")
    how = [str(hardware.device), hardware.bfloat16, hardware.compiled, hardware.processes.count]
    code = code_digest(sys.modules[__name__])
    return job_key("training", method, options, digests, steps, how, held, code)


def _for_method(config: TrainConfig, method: Method) -> TrainConfig:
    """Give the network what the method's definition adds to it."""
    network = config.network.model_copy(update={"prompt": method.prompt})
    return config.model_copy(update={"network": network})
