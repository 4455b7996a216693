"""Predictions and scores of a fine-tuned network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from pydantic import Field
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score
from torch import nn

from mmbind_data.signal.normalise import Statistics
from mmbind_data.spec.descriptor import Model
from mmbind_train.config import Budget, Space
from mmbind_train.data.batch import all_batches
from mmbind_train.data.training_set import TrainingSet
from mmbind_train.networks.model import AdaptiveModel, Classifier


class SeedResult(Model):
    """Scores of the fine-tuning with one seed."""

    seed: int
    accuracy: float
    macro_f1: float = Field(
        description="mean over all classes that are true or predicted somewhere"
    )
    n_finetune: int
    final_loss: float | None
    paper_statistic: float | None = Field(
        default=None, description="mean test accuracy over the last 60 % of epochs; see evaluate"
    )


@dataclass(frozen=True)
class FinetunedModel:
    """A fine-tuned network, ready for the test."""

    seed: int
    model: AdaptiveModel
    classifier: Classifier
    statistics: Mapping[str, Statistics]
    n_rows: int
    loss: float | None
    test_accuracy: float | None = None
    space: Space = "feature"


@torch.no_grad()
def predict(tuned: FinetunedModel, rows: TrainingSet) -> np.ndarray:
    """Class of each row, shape (n_rows,), int64."""
    predicted = []
    for batch in all_batches(rows, tuned.statistics, tuned.model.device):
        features = tuned.model.represent(batch.inputs, batch.present, tuned.space)
        predicted.append(tuned.classifier(features).argmax(dim=1).cpu().numpy())
    return np.concatenate(predicted)


def score_predictions(
    tuned: FinetunedModel, rows: TrainingSet, predicted: np.ndarray
) -> SeedResult:
    """Accuracy and macro-F1 of predicted classes, shape (n_rows,), of labelled rows."""
    return SeedResult(
        seed=tuned.seed,
        accuracy=float(accuracy_score(rows.label, predicted)),
        macro_f1=float(f1_score(rows.label, predicted, average="macro", zero_division=0.0)),
        n_finetune=tuned.n_rows,
        final_loss=tuned.loss,
        paper_statistic=tuned.test_accuracy,
    )


def mean_scores(scores: Sequence[SeedResult]) -> dict[str, float | None]:
    """Means over the seeds, and the sample standard deviation, which one seed does not have."""
    found: dict[str, float | None] = {}
    for name in ("accuracy", "macro_f1"):
        values = [getattr(one, name) for one in scores]
        found |= {name: float(np.mean(values)), f"{name}_std": spread(values)}
    return found


def spread(values: Sequence[float]) -> float | None:
    """Sample standard deviation; None for fewer than two values."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def confusion(rows: TrainingSet, predicted: Sequence[np.ndarray]) -> tuple[tuple[int, ...], ...]:
    """How often each class (row) was taken for each class (column), all networks together."""
    numbers = np.arange(len(rows.label_names))
    total = sum(confusion_matrix(rows.label, one, labels=numbers) for one in predicted)
    return tuple(tuple(row) for row in np.asarray(total).tolist())


def late_epochs(
    look: Callable[[], float], n_rows: int, budget: Budget, curve: list[float]
) -> Callable[[int], None]:
    """A callback for `fit` that appends what ``look`` gives in the last 60 % of epochs.

    Source: published code, UTD/UTD-acc-bind/evaluation/save_train_C/label_216/calculate_means.py:
    epochs 81 to 200 of 200.
    """
    n_steps, epoch = budget.n_steps(n_rows), max(1, n_rows // budget.batch)

    def after_step(step: int) -> None:
        if step % epoch == 0 and step // epoch > 0.4 * (n_steps // epoch):
            curve.append(look())

    return after_step


def accuracy_while_training(tuned: FinetunedModel, rows: TrainingSet) -> float:
    """Accuracy in evaluation mode; afterwards the networks are in training mode."""
    networks = nn.ModuleList([tuned.model, tuned.classifier]).eval()
    accuracy = float(accuracy_score(rows.label, predict(tuned, rows)))
    networks.train()
    return accuracy
