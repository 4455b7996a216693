"""The one training loop: pre-training and fine-tuning of every method go through `fit`."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mmbind_data.errors import TrainingError, problem

from .batches import row_batches
from .config import Budget

Progress = Callable[[int, int, str], None]
LOG_EVERY = 10


@dataclass(frozen=True)
class Group:
    """Modules that learn at one rate, relative to the budget's learning rate; 0 = frozen."""

    modules: Sequence[nn.Module]
    rate: float = 1.0


def fit(
    groups: Sequence[Group],
    loss_of: Callable[[np.ndarray], Tensor],
    *,
    n_rows: int,
    n_steps: int,
    budget: Budget,
    seed: int,
    stage: str,
    log: Path | None = None,
    progress: Progress | None = None,
    after_step: Callable[[int], None] | None = None,
) -> float | None:
    """Minimise a loss with AdamW: linear warm-up, then half a cosine down to zero.

    Parameters
    ----------
    groups : sequence of Group
        What learns, and how fast.
    loss_of : callable
        From row numbers, shape (B,), to the loss of that batch.
    n_rows : int
        Rows that the batches are drawn from.
    n_steps : int
        Optimiser steps.
    budget : Budget
        Batch size, learning rate, weight decay, warm-up.
    seed : int
        Of the order of rows. Dropout uses torch's global generator: seed that before.
    stage : str
        Name of the stage in the log and in progress reports.
    log : Path, optional
        metrics.jsonl, appended to: every tenth step and the last.
    progress : callable (done, total, text), optional
    after_step : callable (step), optional
        Called when a step is done, from 1 on; it must leave the networks as they are.

    Returns
    -------
    float or None
        Mean loss over the last tenth of the steps; None without steps.
    """
    learning = [
        {
            "params": [value for module in group.modules for value in module.parameters()],
            "lr": budget.learning_rate * group.rate,
        }
        for group in groups
        if group.rate > 0
    ]
    if n_steps == 0 or not learning:
        return None
    optimiser = torch.optim.AdamW(learning, weight_decay=budget.weight_decay, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: learning_rate_factor(step, n_steps, budget.warmup)
    )
    losses, batches = [], row_batches(n_rows, budget.batch, seed)
    for step in range(1, n_steps + 1):
        loss = loss_of(next(batches))
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        rate = schedule.get_last_lr()[0]
        schedule.step()
        losses.append(float(loss.detach()))
        if not math.isfinite(losses[-1]):
            raise TrainingError(
                problem(f"go on with the {stage} training", "the loss is no number",
                        f"step {step} of {n_steps}", "a finite loss", str(losses[-1]),
                        f"Lower the learning rate ({budget.learning_rate:g}).")
            )  # fmt: skip
        if log is not None and (step % LOG_EVERY == 0 or step == n_steps):
            write_metrics(log, stage=stage, step=step, loss=losses[-1], learning_rate=rate)
        if progress is not None:
            progress(step, n_steps, f"{stage} loss {losses[-1]:.3f}")
        if after_step is not None:
            after_step(step)
    return float(np.mean(losses[-max(1, n_steps // 10) :]))


def learning_rate_factor(step: int, n_steps: int, warmup: int) -> float:
    """Factor on the learning rate in front of step ``step`` (from 0) of ``n_steps``."""
    rise = min(1.0, (step + 1) / warmup) if warmup else 1.0
    return rise * 0.5 * (1 + math.cos(math.pi * min(step, n_steps) / n_steps))


def write_metrics(log: Path, **values: object) -> None:
    """Append one JSON line."""
    with log.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(values) + "\n")
