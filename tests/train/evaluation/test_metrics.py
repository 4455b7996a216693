"""The paper's statistic: which epochs it looks at, and that looking changes nothing."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from smallstores import World

from mmbind_train.config import Budget, EvaluateConfig, NetworkOptions, TrainConfig
from mmbind_train.evaluation.evaluate import evaluate
from mmbind_train.evaluation.metrics import late_epochs, score_predictions
from mmbind_train.training.pretrain import train

SMALL = NetworkOptions(width=8, feature_dim=8, embedding_dim=4)


@pytest.mark.parametrize(
    ("steps", "batch", "looked"),
    [
        (10, 70, [5, 6, 7, 8, 9, 10]),  # one step an epoch: the last six of ten
        (20, 32, [10, 12, 14, 16, 18, 20]),  # two steps an epoch
        (200, 100, list(range(81, 201))),  # the paper's own: epochs 81 to 200 of 200
        (1, 70, [1]),
    ],
)
def test_only_the_last_epochs_are_looked_at(steps: int, batch: int, looked: list[int]) -> None:
    curve: list[float] = []
    note = late_epochs(lambda: float(step), 70, Budget(steps=steps, batch=batch), curve)
    for step in range(1, steps + 1):
        note(step)
    assert curve == looked


def test_the_paper_s_statistic_stands_beside_the_accuracy() -> None:
    tuned: Any = SimpleNamespace(seed=0, n_rows=3, loss=None, test_accuracy=0.25)
    rows: Any = SimpleNamespace(label=np.array([0, 1]))
    found = score_predictions(tuned, rows, np.array([0, 1]))
    assert (found.accuracy, found.macro_f1, found.paper_statistic) == (1.0, 1.0, 0.25)


def test_looking_changes_no_other_figure(world: World, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(world.bound, run, method="mim", config=TrainConfig(budget=Budget(steps=2), network=SMALL))
    config = EvaluateConfig(seeds=(0, 1), budget=Budget(steps=6, batch=4))
    plain = evaluate(run, world.C, world.T, config=config)
    watched = evaluate(run, world.C, world.T, config=config, paper_statistic=True)
    assert all(one.paper_statistic is None for one in plain.per_seed)
    assert all(one.paper_statistic is not None for one in watched.per_seed)
    blank = [one.model_copy(update={"paper_statistic": None}) for one in watched.per_seed]
    assert blank == list(plain.per_seed)
    # of a single step, the last epoch is all there is
    single = EvaluateConfig(seeds=(0,), budget=Budget(steps=1))
    (one,) = evaluate(run, world.C, world.T, config=single, paper_statistic=True).per_seed
    assert one.paper_statistic == one.accuracy
