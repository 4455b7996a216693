"""Every method and recipe, tests and exports, on a device that refuses to mix with the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from pretended import pretended_device
from smallstores import World

from mmbind_train.config import Budget, EvaluateConfig, NetworkOptions, Recipe, TrainConfig, recipe
from mmbind_train.evaluation.evaluate import evaluate
from mmbind_train.exporting.export import export
from mmbind_train.training.hardware import Hardware
from mmbind_train.training.methods import METHODS
from mmbind_train.training.pretrain import train
from mmbind_train.training.run_folder import load_run

BUDGET = Budget(steps=2, batch=16, warmup=1)
NETWORK = NetworkOptions(width=8, feature_dim=16, embedding_dim=8)
SMALL = TrainConfig(budget=BUDGET, network=NETWORK)


@pytest.fixture(scope="module")
def device() -> Iterator[Hardware]:
    before = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)
    yield Hardware(pretended_device())
    torch.__future__.set_swap_module_params_on_conversion(before)


def test_the_device_refuses_to_mix(device: Hardware) -> None:
    here, there = torch.ones(3), torch.ones(3).to(device.device)
    with pytest.raises(RuntimeError, match="mixes the pretended device with the CPU"):
        here + there
    assert (there + 1).cpu().tolist() == [2, 2, 2]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_learns_what_it_learns_on_the_cpu(
    world: World, tmp_path: Path, device: Hardware, method: str
) -> None:
    data = world.AB if method == "upper_bound" else world.bound
    there = train(data, tmp_path / "there", method=method, config=SMALL, hardware=device)
    here = train(data, tmp_path / "here", method=method, config=SMALL)
    if method != "lower_bound":
        assert there.final_loss == pytest.approx(here.final_loss, rel=1e-4)
    assert there.hardware is not None
    assert there.hardware.device == "pretended:0"
    one, two = (load_run(tmp_path / name)[1].state_dict() for name in ("there", "here"))
    for key, value in one.items():
        torch.testing.assert_close(value, two[key], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["paper", "published"])
def test_recipes(world: World, tmp_path: Path, device: Hardware, name: Recipe) -> None:
    config = recipe(name).model_copy(update={"budget": BUDGET, "network": NETWORK})
    there, here = (
        train(world.bound, tmp_path / place, config=config, hardware=hardware)
        for place, hardware in (("there", device), ("here", Hardware()))
    )
    assert there.final_loss == pytest.approx(here.final_loss, rel=1e-4)


@pytest.mark.parametrize("transfer", [False, True])
def test_a_run_is_tested_and_exported(
    world: World, tmp_path: Path, device: Hardware, transfer: bool
) -> None:
    train(world.bound, tmp_path / "run", config=SMALL, hardware=device)
    config = EvaluateConfig(seeds=(0,), budget=Budget(steps=3, batch=8))
    if transfer:
        ways = {"finetune_modalities": ("skeleton",), "test_modalities": ("gyro",)}
        config = config.model_copy(update=ways)
    results = [
        evaluate(
            tmp_path / "run", world.C, world.T, config=config, hardware=hardware,
            retrieval=transfer, every_subset=not transfer, save=tmp_path / f"tuned-{number}",
        )
        for number, hardware in enumerate((device, Hardware()))
    ]  # fmt: skip
    assert results[0].accuracy == results[1].accuracy
    assert results[0].retrieval == results[1].retrieval
    assert export(tmp_path / "tuned-0", tmp_path / "exported")
