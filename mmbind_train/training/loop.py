"""The one training loop: pre-training and fine-tuning of every method go through `fit`."""

from __future__ import annotations

import itertools
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mmbind_data.errors import TrainingError
from mmbind_data.progress import Progress
from mmbind_train.config import Budget
from mmbind_train.training.checkpoint import Checkpoint
from mmbind_train.training.logs import Log

LOG_EVERY = 10  # steps


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
    log: Log | None = None,
    progress: Progress | None = None,
    after_step: Callable[[int], None] | None = None,
    checkpoint: Checkpoint | None = None,
    order_of: Callable[[int], np.ndarray] | None = None,
) -> float | None:
    """Minimise a loss with AdamW: linear warm-up, then half a cosine down to zero.

    Parameters
    ----------
    loss_of : callable
        From row numbers, shape (B,), of ``n_rows`` rows to the loss of that batch.
    budget : Budget
        Batch size, learning rate, weight decay, warm-up; ``n_steps`` replaces its length.
    seed : int
        Of the order of rows. Dropout uses torch's global generator: seed that before.
    stage : str
        Its name in the log and in progress reports.
    log : Log, optional
        Gets every tenth step and the last.
    after_step : callable (step), optional
        Called after each step, from 1 on; it must not change the networks.
    checkpoint : Checkpoint, optional
        Where to resume from and what to save to; the losses are the same with and without.
    order_of : callable, optional
        As in `row_batches`.

    Returns
    -------
    float or None
        Mean loss over the last tenth of the steps; None without steps.

    Raises
    ------
    TrainingError
        A loss is not finite.
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
    losses = _Losses(stage, n_steps, budget.learning_rate)
    n_samples, started = 0, time.perf_counter()
    done = checkpoint.restore(optimiser, schedule, losses.last) if checkpoint else 0
    batches = itertools.islice(row_batches(n_rows, budget.batch, seed, order_of), done, None)
    for step in range(done + 1, n_steps + 1):
        chosen = next(batches)
        loss = loss_of(chosen)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        rate = float(schedule.get_last_lr()[0])
        schedule.step()
        losses.add(step, loss.detach())
        n_samples += len(chosen)
        speed = n_samples / max(1e-9, time.perf_counter() - started)
        if log is not None and (step % LOG_EVERY == 0 or step == n_steps):
            log.write(
                stage=stage, step=step, loss=losses.read(), learning_rate=rate, samples_per_s=speed
            )
        if progress is not None:
            progress(step, n_steps, f"{stage} loss {losses.known:.3f}, {speed:.0f} samples/s")
        if after_step is not None:
            after_step(step)
        if checkpoint is not None and (step % checkpoint.training.every == 0 or step == n_steps):
            losses.read()
            checkpoint.save(step, optimiser, schedule, losses.last)
    losses.read()
    return float(np.mean(losses.last))


class _Losses:
    """The losses of the last tenth of the steps.

    They are read from a device every few steps only: reading one waits until it is computed.
    """

    def __init__(self, stage: str, n_steps: int, learning_rate: float) -> None:
        self.stage, self.n_steps, self.learning_rate = stage, n_steps, learning_rate
        self.last: deque[float] = deque(maxlen=max(1, n_steps // 10))
        self.waiting: list[tuple[int, Tensor]] = []
        self.known = math.nan

    def add(self, step: int, loss: Tensor) -> None:
        self.waiting.append((step, loss))
        if loss.device.type == "cpu" or len(self.waiting) == LOG_EVERY or step == 1:
            self.read()

    def read(self) -> float:
        """The newest loss; raises if one is not finite."""
        for step, loss in self.waiting:
            self.known = float(loss)
            self.last.append(self.known)
            if not math.isfinite(self.known):
                raise TrainingError(
                    cannot=f"go on with the {self.stage} training",
                    problem="the loss is no number",
                    at=f"step {step} of {self.n_steps}",
                    expected="a finite loss",
                    got=self.known,
                    fix=f"Lower the learning rate ({self.learning_rate:g}).",
                )
        self.waiting.clear()
        return self.known


def row_batches(
    n_rows: int, batch: int, seed: int, order_of: Callable[[int], np.ndarray] | None = None
) -> Iterator[np.ndarray]:
    """Batches of row numbers without end; the order is a pure function of seed and epoch.

    A last batch that is not full is left out, unless all rows fit into one batch. ``order_of``
    gives the rows of an epoch that begins, in their order; all shuffled by default.
    """
    for epoch in itertools.count() if n_rows else ():
        shuffled = np.random.default_rng((seed, epoch)).permutation
        order = order_of(epoch) if order_of else shuffled(n_rows)
        for start in range(0, max(1, len(order) - batch + 1), batch):
            yield order[start : start + batch]


def learning_rate_factor(step: int, n_steps: int, warmup: int) -> float:
    """Factor on the learning rate of step ``step`` (from 0) of ``n_steps``."""
    rise = min(1.0, (step + 1) / warmup) if warmup else 1.0
    return rise * 0.5 * (1 + math.cos(math.pi * min(step, n_steps) / n_steps))
