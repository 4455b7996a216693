"""Which rows each method trains on, equal budgets, determinism."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from smallstores import World

from mmbind_data.errors import OutputError, UsageError
from mmbind_data.layout import open_any, open_bound, open_store
from mmbind_data.partition import partition
from mmbind_train.config import Budget, NetworkOptions, TrainConfig
from mmbind_train.methods import METHODS, Plan, count_samples, plan_training, train
from mmbind_train.runs import METRICS, load_run

SMALL = TrainConfig(
    budget=Budget(steps=12, batch=16, warmup=2),
    network=NetworkOptions(width=8, feature_dim=16, embedding_dim=8),
)


def plan(world: World, method: str) -> Plan:
    path = world.AB if method == "upper_bound" else world.bound
    return METHODS[method](open_any(path), SMALL)


def test_rows_and_masks_of_each_method(world: World) -> None:
    expected = {"mim": {"incomplete": 36}, "mmbind": {"incomplete": 36, "pseudo": 36},
                "upper_bound": {"natural": 36}}  # fmt: skip
    for method, counts in expected.items():
        one = plan(world, method)
        kinds = one.rows.kind[one.train_on]
        assert {kind: int((kinds == kind).sum()) for kind in set(kinds)} == counts
        assert one.trains
    names = list(plan(world, "mim").rows.modalities)
    incomplete = plan(world, "mim")
    present = incomplete.rows.present[incomplete.train_on]
    assert (present.sum(axis=1) == 2).all()
    assert present[:, names.index("acc")].all()
    assert (present[:, names.index("gyro")] != present[:, names.index("skeleton")]).all()
    both = plan(world, "mmbind")
    assert both.rows.present[both.rows.kind == "pseudo"].all()
    assert plan(world, "upper_bound").rows.present.all()


def test_no_row_of_mim_or_mmbind_holds_two_target_modalities_of_one_recording(world: World) -> None:
    for method in ("mim", "mmbind"):
        rows = plan(world, method).rows
        gyro, skeleton = (list(rows.modalities).index(name) for name in ("gyro", "skeleton"))
        same = (rows.sample[:, gyro] == rows.sample[:, skeleton]) & (rows.sample[:, gyro] >= 0)
        assert not same.any()


def test_no_method_sees_labels_of_a_bound_store(world: World) -> None:
    assert (plan(world, "mmbind").rows.label == -1).all()


def test_weights_enter_as_the_table_has_them(world: World) -> None:
    rows = plan(world, "mmbind").rows
    assert (rows.weight[rows.kind == "incomplete"] == 1).all()
    pseudo = rows.weight[rows.kind == "pseudo"]
    assert pseudo.min() >= 0
    assert len(np.unique(pseudo)) > 5


@pytest.mark.parametrize("budget", [Budget(steps=12, batch=16), Budget(epochs=2, batch=16)])
def test_every_method_gets_the_same_budget(world: World, tmp_path: Path, budget: Budget) -> None:
    config = SMALL.model_copy(update={"budget": budget})
    rates = {}
    for method in ("mim", "mmbind", "upper_bound"):
        path = world.AB if method == "upper_bound" else world.bound
        info = train(path, tmp_path / method, method=method, config=config)
        lines = (tmp_path / method / METRICS).read_text().splitlines()
        rates[method] = (info.steps, [json.loads(line)["learning_rate"] for line in lines])
    assert rates["mim"] == rates["mmbind"] == rates["upper_bound"]
    assert rates["mim"][0] == (12 if budget.steps else 2 * (36 // 16))


def test_methods_share_samples_and_statistics(world: World, tmp_path: Path) -> None:
    infos = [
        train(world.bound, tmp_path / method, method=method, config=SMALL)
        for method in ("lower_bound", "mim", "mmbind")
    ]
    assert infos[0].statistics == infos[1].statistics == infos[2].statistics
    assert [info.subjects for info in infos] == [{"small": ("1", "2", "3", "4")}] * 3
    assert {count_samples(plan(world, method).rows) for method in METHODS} == {36}


def test_the_lower_bound_keeps_its_initial_weights(world: World, tmp_path: Path) -> None:
    info = train(world.bound, tmp_path / "a", method="lower_bound", config=SMALL)
    assert (info.steps, info.final_loss, info.n_rows) == (0, None, {})
    none = SMALL.model_copy(update={"budget": Budget(steps=0)})
    train(world.bound, tmp_path / "b", method="mmbind", config=none)
    train(world.bound, tmp_path / "c", method="mmbind", config=SMALL)
    a, b, c = (load_run(tmp_path / name)[1].state_dict() for name in "abc")
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert not any(torch.equal(a[key], c[key]) for key in a if key.endswith("weight"))


def test_the_same_seed_gives_the_same_run_and_leaves_torch_alone(
    world: World, tmp_path: Path
) -> None:
    states: list[dict[str, torch.Tensor]] = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        torch.manual_seed(len(states))
        before = torch.random.get_rng_state()
        config = SMALL.model_copy(update={"seed": seed})
        train(world.bound, tmp_path / name, method="mmbind", config=config)
        assert torch.equal(torch.random.get_rng_state(), before)
        states.append(load_run(tmp_path / name)[1].state_dict())
    a, b, c = states
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert not any(torch.equal(a[key], c[key]) for key in a if key.endswith("weight"))
    logs = [(tmp_path / name / METRICS).read_bytes() for name in "abc"]
    assert logs[0] == logs[1] != logs[2]


def test_training_brings_the_modalities_of_a_row_together(world: World, tmp_path: Path) -> None:
    config = SMALL.model_copy(update={"budget": Budget(steps=80, batch=16, learning_rate=3e-3)})
    info = train(world.AB, tmp_path / "run", method="upper_bound", config=config)
    lines = [json.loads(x) for x in (tmp_path / "run" / METRICS).read_text().splitlines()]
    assert info.final_loss is not None
    assert info.final_loss < 0.75 * lines[0]["loss"]


def test_wrong_requests(world: World, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Did you mean mmbind"):
        train(world.bound, tmp_path / "run", method="mbind")
    with pytest.raises(UsageError, match="not a bound store"):
        train(world.AB, tmp_path / "run", method="mim")
    with pytest.raises(UsageError, match="no natural pairs"):
        train(world.bound, tmp_path / "run", method="upper_bound")
    (tmp_path / "taken").mkdir()
    with pytest.raises(OutputError, match="exists already"):
        train(world.bound, tmp_path / "taken", method="mmbind")
    assert not (tmp_path / "run").exists()
    assert open_bound(world.bound).info.kind == "bound"
    assert open_store(world.AB).info.kind == "converted"


def test_a_failed_training_leaves_nothing(world: World, tmp_path: Path) -> None:
    def stop(done: int, total: int, text: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(world.bound, tmp_path / "run", method="mmbind", config=SMALL, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_the_published_encoders_can_be_trained(world: World, tmp_path: Path) -> None:
    # only the inertial one fits into the small windows
    partition(world.full, tmp_path / "two.zarr", subjects=["1"], modalities=["acc", "gyro"])
    config = TrainConfig(
        budget=Budget(steps=1, batch=4), network=NetworkOptions(variant="reference")
    )
    info = train(tmp_path / "two.zarr", tmp_path / "run", method="upper_bound", config=config)
    _, model = load_run(tmp_path / "run")
    assert model.dim == 1920
    assert info.final_loss is not None


@pytest.mark.parametrize("kinds", [("pseudo",), ("incomplete",), ("pseudo", "incomplete")])
def test_mmbind_trains_on_the_kinds_of_rows_asked_for(world: World, kinds: Any) -> None:
    kind = open_bound(world.bound).pairs()["kind"].to_pylist()
    config = TrainConfig(rows=kinds)
    assert plan_training(world.bound, config=config) == {name: kind.count(name) for name in kinds}
