"""The methods: which rows each trains on, and `train`, which does the rest alike for all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mmbind_data.errors import UsageError, problem, suggest
from mmbind_data.layout import Bound, Store, open_any
from mmbind_data.scale import Statistics
from mmbind_data.staging import check_output, staged

from .batches import Rows, gather_bound, gather_store, measure_statistics
from .config import LossOptions, TrainConfig
from .fit import Group, Progress, fit
from .guard import check_bound
from .inputs import make_batch
from .model import AdaptiveModel
from .objectives import weighted_info_nce
from .runs import METRICS, DataInfo, RunInfo, save_run


@dataclass(frozen=True)
class Plan:
    """What a method pre-trains on.

    Attributes
    ----------
    rows : Rows
        All samples that the method may see: the inputs are standardised with them.
    train_on : ndarray of int
        Rows that the loss runs over.
    loss : LossOptions
    trains : bool
        False: the network keeps its initial weights.
    """

    rows: Rows
    train_on: np.ndarray
    loss: LossOptions
    trains: bool = True


def lower_bound(data: Store | Bound, config: TrainConfig) -> Plan:
    """No pre-training: a network from scratch.

    Source: paper section 6.1.2, "Lower Bound".
    """
    if isinstance(data, Bound):
        check_bound(data, method="lower_bound")
        rows = gather_bound(data, recentre=config.recentre, bounds=config.inputs)
    else:
        rows = gather_store(data, recentre=config.recentre, bounds=config.inputs)
    return Plan(rows, np.arange(len(rows)), config.loss, trains=False)


def mim(data: Store | Bound, config: TrainConfig) -> Plan:
    """Incomplete rows only; a missing modality is a zero input that counts as a view.

    Source: paper section 6.1.2, "Multimodal Learning with Incomplete Modality"; that dummy inputs
    are views there follows from "Dual Contrastive", which differs from it in just this.
    """
    bound = _need_bound(data, "mim")
    check_bound(bound, method="mim")
    rows = gather_bound(bound, recentre=config.recentre, bounds=config.inputs)
    loss = config.loss.model_copy(update={"dummy_views": True})
    return Plan(rows, np.flatnonzero(rows.kind == "incomplete"), loss)


def mmbind(data: Store | Bound, config: TrainConfig) -> Plan:
    """Pseudo-paired rows with their weights, and the incomplete rows that they are made of.

    Source: paper section 5.2 (D_S = X_A, X_B and X_P).
    """
    bound = _need_bound(data, "mmbind")
    check_bound(bound, method="mmbind")
    rows = gather_bound(bound, recentre=config.recentre, bounds=config.inputs)
    # a mean is a pseudo-paired row too: one of several partners put together
    kinds = {*config.rows, *(("mean",) if "pseudo" in config.rows else ())}
    chosen = np.flatnonzero(np.isin(rows.kind, sorted(kinds)))
    return Plan(rows, chosen, config.loss)


def upper_bound(data: Store | Bound, config: TrainConfig) -> Plan:
    """Naturally paired rows: what could be learnt if the nodes lacked nothing.

    Source: paper section 6.1.2, "Theoretical Upper Bound".
    """
    if isinstance(data, Bound):
        raise UsageError(
            problem("train upper_bound", "a bound store has no natural pairs", data.path,
                    "a converted store in which the nodes' samples have all modalities",
                    "a bound store",
                    "Cut one with mmbind partition, with the subjects of all nodes.")
        )  # fmt: skip
    rows = gather_store(data, recentre=config.recentre, bounds=config.inputs)
    return Plan(rows, np.arange(len(rows)), config.loss)


METHODS: Mapping[str, Callable[[Store | Bound, TrainConfig], Plan]] = {
    "lower_bound": lower_bound,
    "mim": mim,
    "mmbind": mmbind,
    "upper_bound": upper_bound,
}


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
    out, config = Path(out), config or TrainConfig()
    _known_method(method)
    opened = open_any(Path(data), sources=sources)
    inputs = [opened.path]
    if isinstance(opened, Bound):
        inputs += [opened.source(one.source_id).path for one in opened.info.sources]
    check_output(out, overwrite=overwrite, doing="train", inputs=inputs, replaces="run")
    plan = METHODS[method](opened, config)
    statistics = measure_statistics(plan.rows)
    steps = config.budget.n_steps(count_samples(plan.rows)) if plan.trains else 0
    with staged(out, overwrite=overwrite, doing="train", replaces="run") as folder:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            model = AdaptiveModel(plan.rows.modalities, config.network)
            (folder / METRICS).touch()
            loss = pretrain(model, plan, statistics, config, steps, folder / METRICS, progress)
        kinds, counts = np.unique(plan.rows.kind[plan.train_on], return_counts=True)
        info = RunInfo(
            method=method,
            config=config,
            data=DataInfo(
                path=str(data), kind=opened.info.kind, content_digest=opened.info.content_digest
            ),
            modalities=dict(plan.rows.modalities),
            statistics=statistics,
            subjects=dict(plan.rows.subjects),
            stretched=dict(plan.rows.stretched),
            n_rows=dict(zip(kinds.tolist(), counts.tolist(), strict=True)) if plan.trains else {},
            steps=steps,
            final_loss=loss,
            versions={name: version(name) for name in ("mmbind", "torch", "numpy")},
        )
        save_run(folder, info, model)
    return info


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
    _known_method(method)
    plan = METHODS[method](open_any(Path(data), sources=sources), config or TrainConfig())
    kinds, counts = np.unique(plan.rows.kind[plan.train_on], return_counts=True)
    return dict(zip(kinds.tolist(), counts.tolist(), strict=True)) if plan.trains else {}


def pretrain(
    model: AdaptiveModel,
    plan: Plan,
    statistics: Mapping[str, Statistics],
    config: TrainConfig,
    steps: int,
    log: Path | None = None,
    progress: Progress | None = None,
) -> float | None:
    """Train the encoders and heads of a model in place; return the loss at the end."""
    rows = plan.rows.select(plan.train_on)
    rng = torch.Generator().manual_seed(config.seed)

    def loss_of(chosen: np.ndarray) -> Tensor:
        batch = make_batch(rows, chosen, statistics, config.augmentation, rng)
        features = model.features(batch.inputs, batch.present, encode_dummies=plan.loss.dummy_views)
        return weighted_info_nce(
            model.embed(features),
            batch.present,
            batch.weight,
            temperature=config.temperature,
            exclude=batch.same_sample if config.mask_same_sample else None,
            options=plan.loss,
        )

    model.train()
    return fit(
        [Group([model])],
        loss_of,
        n_rows=len(rows),
        n_steps=steps,
        budget=config.budget,
        seed=config.seed,
        stage="pretrain",
        log=log,
        progress=progress,
    )


def count_samples(rows: Rows) -> int:
    """Distinct source samples: an epoch has that many rows for every method alike."""
    return len(np.unique(rows.sample[rows.sample >= 0]))


def _need_bound(data: Store | Bound, method: str) -> Bound:
    if isinstance(data, Bound):
        return data
    raise UsageError(
        problem(f"train {method}", "not a bound store", data.path, "a bound store",
                "a converted store", "Make one with mmbind bind, or use --method upper_bound.")
    )  # fmt: skip


def _known_method(method: str) -> None:
    if method not in METHODS:
        raise UsageError(
            problem("train", "unknown method", "method", " or ".join(METHODS), repr(method),
                    suggest(method, METHODS))
        )  # fmt: skip
