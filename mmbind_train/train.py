"""Pre-train a network on a store with one of the methods, and write the run."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from mmbind_data.errors import UsageError, problem, suggest
from mmbind_data.layout import Bound, Store, open_any
from mmbind_data.staging import check_output, staged

from .batches import Rows, gather_bound, gather_store, measure_statistics
from .config import TrainConfig
from .fit import Progress
from .guard import check_bound
from .labels import bound_by_label, with_anchor_labels
from .methods import METHODS, Method, check_method
from .model import AdaptiveModel
from .runs import METRICS, DataInfo, RunInfo, save_run
from .training import Training


def train(
    data: str | Path,
    out: str | Path,
    *,
    method: str = "mmbind",
    config: TrainConfig | None = None,
    sources: Mapping[str, Path] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> RunInfo:
    """Pre-train a network on a store and write the run.

    Parameters
    ----------
    data : path
        A bound store; for upper_bound a converted store; for lower_bound either.
    out : path
        The run's folder: run.json, model.safetensors, metrics.jsonl.
    method : str
        A key of `METHODS`.
    config : TrainConfig, optional
        The same seed gives the same weights on the same machine.
    sources : mapping of source id to path, optional
        Where the sources of a bound store lie now.
    overwrite : bool
    progress : callable (done, total, text), optional

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
    opened = open_any(Path(data), sources=sources)
    inputs = [opened.path]
    if isinstance(opened, Bound):
        inputs += [opened.source(one.source_id).path for one in opened.info.sources]
    check_output(out, overwrite=overwrite, doing="train", inputs=inputs, replaces="run")
    rows = read_rows(opened, method, config)
    steps = config.budget.n_steps(count_samples(rows)) if METHODS[method].pretrain else 0
    with staged(out, overwrite=overwrite, doing="train", replaces="run") as folder:
        (folder / METRICS).touch()
        training = pretrain(
            rows, opened, method, config, steps=steps, log=folder / METRICS, progress=progress
        )
        info = RunInfo(
            method=method,
            config=config,
            data=DataInfo(
                path=str(data), kind=opened.info.kind, content_digest=opened.info.content_digest
            ),
            modalities=dict(rows.modalities),
            statistics=dict(training.statistics),
            subjects=dict(rows.subjects),
            stretched=dict(rows.stretched),
            n_rows=dict(training.stages[-1].n_rows) if training.stages else {},
            stages=tuple(training.stages),
            classes=rows.label_names if training.classifier else (),
            space="feature" if training.classifier else METHODS[method].space,
            steps=steps,
            final_loss=training.stages[-1].final_loss if training.stages else None,
            versions={name: version(name) for name in ("mmbind", "torch", "numpy")},
        )
        save_run(folder, info, training.model, training.classifier)
    return info


def pretrain(
    rows: Rows,
    data: Store | Bound,
    method: str,
    config: TrainConfig,
    *,
    steps: int,
    log: Path | None = None,
    progress: Progress | None = None,
) -> Training:
    """Make a network for the rows and take it through the method's stages."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        training = Training(
            rows=rows,
            shared=data.info.shared if isinstance(data, Bound) else (),
            model=AdaptiveModel(rows.modalities, config.network),
            statistics=measure_statistics(rows),
            config=config,
            steps=steps,
            log=log,
            progress=progress,
        )
        stages = METHODS[method].pretrain
        if stages is not None:
            stages(training)
    return training


def plan_training(
    data: str | Path,
    *,
    method: str = "mmbind",
    config: TrainConfig | None = None,
    sources: Mapping[str, Path] | None = None,
) -> dict[str, int]:
    """Rows of each kind that `train` would run over, all checks made, nothing written.

    Parameters and errors are those of `train`.
    """
    config = _for_method(config or TrainConfig(), known_method(method))
    opened = open_any(Path(data), sources=sources)
    if METHODS[method].pretrain is None:
        read_rows(opened, method, config)
        return {}
    training = pretrain(read_rows(opened, method, config), opened, method, config, steps=0)
    return dict(training.stages[-1].n_rows)


def read_rows(data: Store | Bound, method: str, config: TrainConfig) -> Rows:
    """Read what a method may see of a store, and nothing else.

    Raises
    ------
    UsageError, LeakError, FormatError, IntegrityError
    """
    entry = METHODS[method]
    if isinstance(data, Store):
        if entry.data == "bound":
            raise UsageError(
                problem(f"train {method}", "not a bound store", data.path, "a bound store",
                        "a converted store",
                        "Make one with mmbind bind, or use --method upper_bound.")
            )  # fmt: skip
        rows = gather_store(data, recentre=config.recentre, bounds=config.inputs)
        return rows if config.labels else rows.without_labels()
    if entry.data == "natural":
        raise UsageError(
            problem(f"train {method}", "a bound store has no natural pairs", data.path,
                    "a converted store in which the nodes' samples have all modalities",
                    "a bound store",
                    "Cut one with mmbind partition, with the subjects of all nodes.")
        )  # fmt: skip
    check_method(method, entry, data.info.shared)
    check_bound(data, method=method)
    rows = gather_bound(data, recentre=config.recentre, bounds=config.inputs)
    if bound_by_label(data):
        rows = with_anchor_labels(rows, data)
    return rows.select(np.isin(rows.kind, entry.kinds))


def count_samples(rows: Rows) -> int:
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
            problem("train", "unknown method", "method", " or ".join(METHODS), repr(method),
                    suggest(method, METHODS))
        )  # fmt: skip
    return METHODS[method]


def _for_method(config: TrainConfig, method: Method) -> TrainConfig:
    """Give the network what the method's definition adds to it."""
    network = config.network.model_copy(update={"prompt": method.prompt})
    return config.model_copy(update={"network": network})
