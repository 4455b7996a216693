"""Objectives as modules: the temperature that is learnt."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from mmbind_train.config import NetworkOptions, TrainConfig
from mmbind_train.data.batch import make_batch, same_sample
from mmbind_train.data.training_set import TrainingSet, measure_statistics
from mmbind_train.networks.model import AdaptiveModel
from mmbind_train.objectives.info_nce import soft_info_nce, weighted_info_nce
from mmbind_train.objectives.modules import (
    Classify,
    Contrast,
    Contrasting,
    SoftContrast,
    Temperature,
)
from mmbind_train.objectives.pair_graph import incomplete_rows, pair_graph

START = 0.2


def objective(rows: TrainingSet, *, soft: bool, learnt: bool) -> Contrasting:
    torch.manual_seed(0)
    config = TrainConfig(temperature=START, learn_temperature=learnt, mask_same_sample=False)
    own = incomplete_rows(rows) if soft else rows
    model = AdaptiveModel(rows.modalities, NetworkOptions())
    if soft:
        return SoftContrast(model, own, config, pair_graph(rows, own))
    return Contrast(model, own, config)


def loss_of(it: Contrasting, chosen: np.ndarray) -> torch.Tensor:
    batch = make_batch(it.rows, chosen, measure_statistics(it.rows))
    return it.loss(it(batch), chosen)


@pytest.mark.parametrize("soft", [False, True])
def test_a_learnt_temperature_begins_with_the_fixed_one(rows: TrainingSet, soft: bool) -> None:
    chosen = np.arange(8)
    fixed, learnt = (
        loss_of(objective(rows, soft=soft, learnt=yes), chosen) for yes in (False, True)
    )
    assert learnt.item() == pytest.approx(fixed.item(), rel=1e-5)


def test_its_gradient_is_that_of_the_loss_by_the_temperature(rows: TrainingSet) -> None:
    it, chosen = objective(rows, soft=False, learnt=True), np.arange(8)
    temperature = it.auxiliary["temperature"]
    assert isinstance(temperature, Temperature)
    (gradient,) = torch.autograd.grad(loss_of(it, chosen), temperature.log_scale)
    batch = make_batch(rows, chosen, measure_statistics(rows))
    with torch.no_grad():
        z = it.model.embed(it.model.features(batch.inputs, batch.present)).double()
        present, weight = (torch.from_numpy(x[chosen]) for x in (rows.present, rows.weight))
        high, low = (
            weighted_info_nce(
                z, present, weight, temperature=START * np.exp(step), options=it.config.loss
            )
            for step in (-1e-4, 1e-4)
        )
    assert gradient.item() == pytest.approx((high - low).item() / 2e-4, rel=1e-3)


def test_it_stays_above_a_hundredth() -> None:
    it = Temperature(1e-5)
    assert it(torch.ones(1)).square().item() == pytest.approx(100)


def test_a_fixed_temperature_adds_no_parameter(rows: TrainingSet) -> None:
    assert not objective(rows, soft=True, learnt=False).auxiliary


def test_rows_of_one_sample_are_no_negatives_of_one_another(rows: TrainingSet) -> None:
    """A pseudo row and the incomplete row of its partner, labelled otherwise: nothing to tell."""
    own = Classify(
        AdaptiveModel(rows.modalities, NetworkOptions()),
        replace(rows, label=np.zeros(len(rows), np.int64), label_names=("a", "b")),
        TrainConfig(),
        contrast=True,
    )
    same = same_sample(rows.sample) & (rows.kind[:, None] == "pseudo")
    same &= rows.kind[None, :] == "incomplete"
    row, other = np.argwhere(same)[0]
    far = np.flatnonzero(~same_sample(rows.sample)[row] & ~same_sample(rows.sample)[other])[:3]
    chosen = np.array([row, other, *far])
    z = functional.normalize(torch.randn(len(chosen), len(rows.modalities), 8), dim=-1)
    apart = np.eye(len(chosen))
    present, weight = (torch.from_numpy(x[chosen]) for x in (rows.present, rows.weight))
    exclude = torch.zeros(len(chosen), len(chosen), dtype=torch.bool)
    exclude[0, 1] = exclude[1, 0] = True
    target = torch.eye(len(chosen))
    for mask, expected in ((True, exclude), (False, None)):
        own.config = TrainConfig(mask_same_sample=mask)
        found = own.soft_loss(z, chosen, apart)
        torch.testing.assert_close(
            found, soft_info_nce(z, present, weight, target, temperature=0.07, exclude=expected)
        )
    # where the two have one label they are positives, excluded or not
    apart[0, 1] = apart[1, 0] = 1
    losses = []
    for mask in (True, False):
        own.config = TrainConfig(mask_same_sample=mask)
        losses.append(own.soft_loss(z, chosen, apart).item())
    assert losses[0] == losses[1]
