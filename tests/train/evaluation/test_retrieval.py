"""Retrieval of one set of modalities by another, against a naive loop."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from smallstores import World

from mmbind_data.errors import UsageError
from mmbind_train.config import Budget, EvaluateConfig, NetworkOptions, TrainConfig
from mmbind_train.evaluation.evaluate import evaluate
from mmbind_train.evaluation.retrieval import score_retrieval
from mmbind_train.training.pretrain import train

NAMES = {"query": ("a",), "gallery": ("b",)}


def naive(similarity: np.ndarray, label: np.ndarray, k: int) -> tuple[float, float, float]:
    """Recall of the recording and of the class among k results, and the mean rank."""
    recording, same_class, ranks = [], [], []
    for i, row in enumerate(similarity):
        # of equal results the wanted one comes last
        order = sorted(range(len(row)), key=lambda j: (-row[j], j == i))
        ranks.append(order.index(i) + 1)
        recording.append(i in order[:k])
        order = sorted(range(len(row)), key=lambda j: (-row[j], label[j] == label[i]))
        same_class.append(any(label[j] == label[i] for j in order[:k]))
    return float(np.mean(recording)), float(np.mean(same_class)), float(np.mean(ranks))


@pytest.mark.parametrize("k", [1, 5, 10])
def test_scores_are_those_of_a_naive_loop(k: int) -> None:
    rng = np.random.default_rng(k)
    similarity = rng.integers(0, 6, (40, 40)) / 6  # many ties
    label = rng.integers(0, 7, 40)
    found = score_retrieval(similarity, label, **NAMES)
    expected = naive(similarity, label, k)
    assert (found.recording[str(k)], found.same_class[str(k)]) == pytest.approx(expected[:2])
    assert found.mean_rank == pytest.approx(expected[2])


def test_equal_embeddings_find_nothing() -> None:
    found = score_retrieval(np.ones((20, 20)), np.arange(20) % 2, **NAMES)
    assert found.recording == {"1": 0, "5": 0, "10": 0}
    assert found.same_class == {"1": 0, "5": 0, "10": 0}
    assert found.mean_rank == 20


def test_perfect_alignment_finds_all() -> None:
    found = score_retrieval(np.eye(20), np.arange(20), **NAMES)
    assert found.recording["1"] == found.same_class["1"] == found.mean_rank == 1


def test_both_directions_of_a_run(world: World, tmp_path: Path) -> None:
    config = TrainConfig(
        budget=Budget(steps=5, batch=16), network=NetworkOptions(width=8, feature_dim=16)
    )
    train(world.bound, tmp_path / "run", method="mmbind", config=config)
    asked = EvaluateConfig(finetune_modalities=("skeleton",), test_modalities=("gyro",), seeds=(0,))
    arguments = (tmp_path / "run", world.C, world.T)
    result = evaluate(*arguments, config=asked, retrieval=True)
    assert [(one.query, one.gallery) for one in result.retrieval] == [
        (("skeleton",), ("gyro",)),
        (("gyro",), ("skeleton",)),
    ]
    assert {one.n for one in result.retrieval} == {9}
    with pytest.raises(UsageError, match="--finetune-modalities"):
        evaluate(*arguments, config=EvaluateConfig(seeds=(0,)), retrieval=True)
