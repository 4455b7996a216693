"""The loop and the network: schedule, frozen groups, absent modalities, checkpoints."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from smallstores import World, modality
from torch import nn

from mmbind_data.errors import FormatError, IntegrityError
from mmbind_train.config import Budget, EvaluateConfig, NetworkOptions, TrainConfig
from mmbind_train.networks.model import AdaptiveModel, Classifier
from mmbind_train.training.logs import METRICS, TIMING, Log
from mmbind_train.training.loop import Group, fit, learning_rate_factor
from mmbind_train.training.pretrain import train
from mmbind_train.training.run_folder import RUN, SAMPLES, WEIGHTS, RunInfo, load_run

MODALITIES = {name: modality(name, 16) for name in ("acc", "gyro", "skeleton")}
SMALL = NetworkOptions(width=8, feature_dim=16, embedding_dim=8)


def batch(n: int = 6) -> dict[str, torch.Tensor]:
    return {name: torch.randn(n, *one.shape) for name, one in MODALITIES.items()}


def test_the_loop_solves_least_squares_and_logs(tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = torch.randn(40, 3)
    y = x @ torch.tensor([1.0, -2.0, 0.5])
    line, seen = nn.Linear(3, 1), []

    def loss_of(rows: np.ndarray) -> torch.Tensor:
        error: torch.Tensor = line(x[rows]).squeeze(1) - y[rows]
        return error.square().mean()

    final = fit(
        [Group([line])],
        loss_of,
        n_rows=40,
        n_steps=305,
        budget=Budget(steps=305, batch=16, learning_rate=0.05),
        seed=0,
        stage="line",
        log=Log(tmp_path),
        progress=lambda done, total, text: seen.append((done, total, text)),
    )
    assert final is not None
    assert final < 1e-3
    assert line.weight.detach().squeeze().tolist() == pytest.approx([1, -2, 0.5], abs=0.02)
    lines = [json.loads(text) for text in (tmp_path / METRICS).read_text().splitlines()]
    assert [one["step"] for one in lines] == [*range(10, 301, 10), 305]
    assert lines[0].keys() == {"stage", "step", "loss", "learning_rate"}
    assert [done for done, _, _ in seen] == list(range(1, 306))
    assert seen[-1][1] == 305
    assert re.fullmatch(rf"line loss {lines[-1]['loss']:.3f}, \d+ samples/s", seen[-1][2])
    timing = [json.loads(text) for text in (tmp_path / TIMING).read_text().splitlines()]
    assert [one["step"] for one in timing] == [one["step"] for one in lines]
    assert all(one["samples_per_s"] > 0 for one in timing)


def test_schedule_rises_then_falls_to_zero() -> None:
    factors = [learning_rate_factor(step, 100, 10) for step in range(101)]
    assert factors[0] == pytest.approx(0.1)
    assert max(factors) == max(factors[8:12])
    assert all(a >= b for a, b in itertools.pairwise(factors[10:]))
    assert factors[100] == pytest.approx(0)


def test_a_group_of_rate_zero_stays_and_others_scale() -> None:
    moving, slow, frozen = (nn.Linear(2, 1, bias=False) for _ in range(3))
    before = [m.weight.detach().clone() for m in (moving, slow, frozen)]

    def loss_of(rows: np.ndarray) -> torch.Tensor:
        return sum((m.weight.sum() for m in (moving, slow, frozen)), torch.zeros(()))

    budget = Budget(steps=1, learning_rate=0.1, weight_decay=0, warmup=0)
    groups = [Group([moving]), Group([slow], 0.5), Group([frozen], 0.0)]
    fit(groups, loss_of, n_rows=4, n_steps=1, budget=budget, seed=0, stage="x")
    steps = [
        float((b - m.weight.detach()).mean())
        for b, m in zip(before, (moving, slow, frozen), strict=True)
    ]
    assert steps == pytest.approx([0.1, 0.05, 0.0], abs=1e-6)


def test_no_steps_change_nothing() -> None:
    def never(rows: np.ndarray) -> torch.Tensor:
        raise AssertionError

    budget = Budget(steps=0)
    assert (
        fit(
            [Group([nn.Linear(1, 1)])], never, n_rows=4, n_steps=0, budget=budget, seed=0, stage="x"
        )
        is None
    )


def test_absent_features_are_zero_and_never_matter() -> None:
    torch.manual_seed(0)
    model, inputs = AdaptiveModel(MODALITIES, SMALL), batch()
    present = torch.rand(6, 3) < 0.6
    features = model.features(inputs, present)
    assert (features[~present] == 0).all()
    assert (features[present].abs().sum(dim=1) > 0).all()
    replaced = {
        name: torch.where(present[:, k].view(-1, *[1] * (x.ndim - 1)), x, torch.nan)
        for k, (name, x) in enumerate(inputs.items())
    }
    torch.testing.assert_close(model.features(replaced, present), features)
    dummies = model.features(inputs, present, encode_dummies=True)
    assert (dummies[~present].abs().sum(dim=1) > 0).all()
    only = model.features(inputs, torch.ones(6, 3, dtype=torch.bool), only=("gyro",))
    assert (only[:, [0, 2]] == 0).all()
    assert (only[:, 1] != 0).any()


def test_embeddings_have_unit_norm_and_gradients_reach_everything() -> None:
    torch.manual_seed(0)
    model = AdaptiveModel(MODALITIES, SMALL)
    z = model.embed(model.features(batch(), torch.ones(6, 3, dtype=torch.bool)))
    assert z.shape == (6, 3, 8)
    torch.testing.assert_close(z.norm(dim=-1), torch.ones(6, 3))
    torch.autograd.backward((z * torch.randn(6, 3, 8)).sum())
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())


def test_the_classifier_ignores_the_size_of_a_modality_s_features() -> None:
    classifier = Classifier(3, 16, 5, 0.5).eval()
    features = torch.randn(4, 3, 16)
    scaled = features * torch.tensor([1.0, 50.0, 0.1]).view(1, 3, 1)
    torch.testing.assert_close(classifier(features), classifier(scaled))
    features[:, 1] = 0
    assert torch.isfinite(classifier(features)).all()


def test_a_run_loads_back_to_identical_outputs(world: World, tmp_path: Path) -> None:
    config = TrainConfig(budget=Budget(steps=3, batch=8), network=SMALL)
    info = train(world.bound, tmp_path / "run", method="mmbind", config=config)
    again, model = load_run(tmp_path / "run")
    assert again == info
    assert RunInfo.model_validate_json(info.model_dump_json()) == info
    _, other = load_run(tmp_path / "run")
    inputs = {name: torch.randn(5, *one.shape) for name, one in info.modalities.items()}
    here = torch.ones(5, 3, dtype=torch.bool)
    assert torch.equal(
        model.embed(model.features(inputs, here)), other.embed(other.features(inputs, here))
    )
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == sorted(
        [METRICS, TIMING, WEIGHTS, RUN, SAMPLES]
    )


def test_damaged_runs_are_refused(world: World, tmp_path: Path) -> None:
    run = tmp_path / "run"
    config = TrainConfig(budget=Budget(steps=0), network=SMALL)
    train(world.bound, run, method="mim", config=config)
    whole = (run / WEIGHTS).read_bytes()
    for damage in (whole[:-40], b"", b"\xff" * 100):
        (run / WEIGHTS).write_bytes(damage)
        with pytest.raises(IntegrityError, match="weights cannot be read"):
            load_run(run)
    (run / WEIGHTS).write_bytes(whole)
    document = json.loads((run / RUN).read_text())
    document["config"]["network"]["feature_dim"] = 24
    (run / RUN).write_text(json.dumps(document))
    with pytest.raises(IntegrityError, match="weights cannot be read"):
        load_run(run)
    (run / RUN).write_text("{}")
    with pytest.raises(FormatError, match=r"missing field at method in \S+/run\.json"):
        load_run(run)
    with pytest.raises(FormatError, match="got no file"):
        load_run(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "config", [TrainConfig(seed=3), EvaluateConfig(labels_per_class=2, seeds=(1,))]
)
def test_configs_round_trip(config: TrainConfig | EvaluateConfig) -> None:
    assert type(config).model_validate_json(config.model_dump_json()) == config


def test_contradicting_configs_are_refused() -> None:
    with pytest.raises(ValueError, match="either steps or epochs"):
        Budget(steps=3, epochs=3)
    with pytest.raises(ValueError, match="not both"):
        EvaluateConfig(labels_per_class=1, label_fraction=0.5)
    with pytest.raises(ValueError, match="seed is given twice"):
        EvaluateConfig(seeds=(1, 1))
    assert Budget(epochs=3, batch=10).n_steps(35) == 9
