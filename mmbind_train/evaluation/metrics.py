"""Scores of a fine-tuned network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from pydantic import Field
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score
from torch import nn

from mmbind_data.signal.normalise import Statistics
from mmbind_data.spec.descriptor import Model
from mmbind_train.config import Budget, Space
from mmbind_train.data.batch import make_batch
from mmbind_train.data.training_set import TrainingSet
from mmbind_train.networks.model import AdaptiveModel, Classifier

TEST_BATCH = 256


class SeedResult(Model):
    """One fine-tuning."""

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


def predict(tuned: FinetunedModel, rows: TrainingSet) -> np.ndarray:
    """Class of each row, shape (n_rows,), int64."""
    predicted = []
    with torch.no_grad():
        for start in range(0, len(rows), TEST_BATCH):
            picked = np.arange(start, min(start + TEST_BATCH, len(rows)))
            batch = make_batch(rows, picked, tuned.statistics).to(tuned.model.device)
            read = tuned.model.represent(batch.inputs, batch.present, tuned.space)
            predicted.append(tuned.classifier(read).argmax(dim=1).cpu().numpy())
    return np.concatenate(predicted)


def score(tuned: FinetunedModel, rows: TrainingSet) -> SeedResult:
    """Accuracy and macro-F1 of a fine-tuned network on labelled rows."""
    return score_predictions(tuned, rows, predict(tuned, rows))


def score_predictions(
    tuned: FinetunedModel, rows: TrainingSet, predicted: np.ndarray
) -> SeedResult:
    """Accuracy and macro-F1 of what a fine-tuned network said of labelled rows."""
    return SeedResult(
        seed=tuned.seed,
        accuracy=float(accuracy_score(rows.label, predicted)),
        macro_f1=float(f1_score(rows.label, predicted, average="macro", zero_division=0.0)),
        n_finetune=tuned.n_rows,
        final_loss=tuned.loss,
        paper_statistic=tuned.test_accuracy,
    )


def confusion(rows: TrainingSet, predicted: Sequence[np.ndarray]) -> tuple[tuple[int, ...], ...]:
    """How often each class (row) was taken for each class (column), all networks together."""
    numbers = np.arange(len(rows.label_names))
    total = sum(confusion_matrix(rows.label, one, labels=numbers) for one in predicted)
    return tuple(tuple(row) for row in np.asarray(total).tolist())


def late_epochs(
    tuned: FinetunedModel, watched: TrainingSet, curve: list[float], budget: Budget
) -> Callable[[int], None]:
    """What `fit` calls after each step to note the test accuracy of the last 60 % of epochs.

    Source: shared/facts/reference-utd-pamap2-cross.md, fact 8: epochs 81 to 200 of 200.
    """
    n_steps, epoch = budget.n_steps(tuned.n_rows), max(1, tuned.n_rows // budget.batch)

    def after_step(step: int) -> None:
        if step % epoch == 0 and step // epoch > 0.4 * (n_steps // epoch):
            with evaluating(tuned.model, tuned.classifier):
                predicted = predict(tuned, watched)
            curve.append(float(accuracy_score(watched.label, predicted)))

    return after_step


@contextmanager
def evaluating(*networks: nn.Module) -> Iterator[None]:
    """Put networks in the mode for tests, and back into that for training."""
    for network in networks:
        network.eval()
    yield
    for network in networks:
        network.train()
