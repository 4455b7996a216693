"""One pre-training: the data that a method may see, its network, and its stages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmbind_data.progress import Progress
from mmbind_data.signal.normalise import Statistics
from mmbind_train.config import Budget, TrainConfig
from mmbind_train.data.batch import make_batch
from mmbind_train.data.stored import window_bytes
from mmbind_train.data.training_set import TrainingSet
from mmbind_train.data.windows import WindowReader
from mmbind_train.networks.model import AdaptiveModel, Classifier
from mmbind_train.objectives.modules import Classify, Objective, SoftContrast
from mmbind_train.objectives.pair_graph import PairGraph, Partners, pair_graph
from mmbind_train.training.checkpoint import Checkpoints
from mmbind_train.training.hardware import CPU_ALONE, Hardware
from mmbind_train.training.logs import Log
from mmbind_train.training.loop import Group, fit
from mmbind_train.training.run_folder import StageInfo


@dataclass
class PretrainingRun:
    """A pre-training in progress; its options are those of `train` and `fit`."""

    rows: TrainingSet  # all that the method may see: inputs are standardised with these samples
    shared: tuple[str, ...]  # what the nodes were bound by; empty for naturally paired rows
    model: AdaptiveModel
    statistics: Mapping[str, Statistics]
    config: TrainConfig
    steps: int  # of all stages together, the same for every method
    hardware: Hardware = CPU_ALONE
    log: Log | None = None
    progress: Progress | None = None
    checkpoints: Checkpoints | None = None
    on_message: Callable[[str], None] | None = None
    judged: bool = False  # the weights of pairs are the probabilities that they are right
    partners: Partners | None = None  # in place of the pairs of the table
    stages: list[StageInfo] = field(default_factory=list)  # so far
    classifier: Classifier | None = None  # the last one that a stage has learnt

    def graph(self, own: TrainingSet) -> PairGraph:
        """Partners of the samples, which ``own`` has once each: by the table, or as asked."""
        if self.partners is not None:
            return self.partners(self.rows)
        return pair_graph(self.rows, own, relative=not self.judged)

    @property
    def labelled(self) -> bool:
        """Whether the rows' labels may be read."""
        return len(self.rows.label_names) > 0

    def run(
        self,
        name: str,
        objective: Objective,
        *,
        share: float = 1.0,
        frozen: Sequence[str] = (),
        labels: bool = False,
    ) -> None:
        """Minimise an objective over its rows for a share of the steps.

        The shares of a method's stages sum to 1. The encoders of ``frozen`` modalities keep their
        weights, dropout off. The objective gets the rows' labels only if ``labels`` says so.
        """
        if not labels:
            objective.rows = objective.rows.without_labels()
        rows, steps, number = objective.rows, round(share * self.steps), len(self.stages)
        seed, budget = self.config.seed, self.config.budget
        rng = torch.Generator().manual_seed(stage_seed(seed, number))
        hardware, processes = self.hardware, self.hardware.processes
        windows = self._windows(objective) if steps and rows.on_disk else None
        objective.to(hardware.device)
        for kept in frozen:
            self.model.encoders[kept].requires_grad_(False)
        network, autocast = processes.together(objective).train(), hardware.autocast()
        for kept in frozen:
            self.model.encoders[kept].eval()

        def loss_of(chosen: np.ndarray) -> Tensor:
            loaded, numbers = windows.load(chosen) if windows else (rows, chosen)
            batch = make_batch(loaded, numbers, self.statistics, self.config.augmentation, rng)
            if processes.count > 1:
                batch = batch.take(processes.share(len(chosen)))
            with autocast:
                outputs = network(batch.to(hardware.device))
            outputs = outputs.float()
            if processes.count > 1:
                outputs = processes.gather(outputs, len(chosen))
            return objective.loss(outputs, chosen)

        saved = self.checkpoints
        checkpoint = saved.stage(number, objective, rng) if saved is not None else None
        learning = [one for key, one in self.model.encoders.items() if key not in frozen]
        loss = fit(
            [Group([*learning, self.model.heads, objective.auxiliary])],
            loss_of,
            n_rows=len(rows),
            n_steps=steps,
            budget=budget,
            seed=seed,
            stage=name,
            log=self.log,
            progress=self.progress,
            checkpoint=checkpoint,
            order_of=windows.order if windows else partial(arranged_rows, objective, budget, seed),
        )
        self.model.requires_grad_(True)
        if isinstance(objective, Classify):
            self.classifier = objective.classifier
        reading = windows.reading if windows else None
        options = {"labels": labels, "final_loss": loss, "reading": reading}
        if isinstance(objective, SoftContrast) and self.shared:
            options["n_pairs"] = objective.graph.n_pairs
        self.stages.append(_describe(rows, name=name, steps=steps, **options))

    def _windows(self, objective: Objective) -> WindowReader:
        """Windows of rows that are on disk, announced."""
        n_bytes, batch = window_bytes(self.config.memory), self.config.budget.batch
        arguments = objective.rows, batch, self.config.seed, n_bytes, objective.arrange
        windows = WindowReader(*arguments)
        if self.on_message is not None:
            self.on_message(str(windows.reading))
        return windows


def arranged_rows(objective: Objective, budget: Budget, seed: int, epoch: int) -> np.ndarray:
    """All rows of an epoch, shuffled, as the objective arranges them for batches."""
    order = np.random.default_rng((seed, epoch)).permutation(len(objective.rows))
    return objective.arrange(order, budget.batch, np.random.default_rng((seed, epoch, 1)))


def stage_seed(seed: int, number: int) -> int:
    """Seed of the augmentation of a stage, from 0: no other seed and stage has the same."""
    return int(np.random.SeedSequence((seed, number)).generate_state(1, np.uint64)[0] >> 1)


def _describe(rows: TrainingSet, **fields: Any) -> StageInfo:
    kinds, counts = np.unique(rows.kind.astype(str), return_counts=True)
    fields["n_rows"] = dict(zip(kinds.tolist(), counts.tolist(), strict=True))
    present = rows.present.sum(axis=0).tolist()
    return StageInfo(n_present=dict(zip(rows.modalities, present, strict=True)), **fields)
