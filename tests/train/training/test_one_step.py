"""A sample's way through one training step, and paths as text."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from smallstores import World

from mmbind_train.config import Budget, EvaluateConfig, NetworkOptions, PairOptions, TrainConfig
from mmbind_train.evaluation.evaluate import evaluate
from mmbind_train.exporting.export import export
from mmbind_train.training.pretrain import plan_training, train
from mmbind_train.training.run_folder import load_classifier, load_run, seen_samples

SMALL = TrainConfig(budget=Budget(steps=8, batch=16), network=NetworkOptions(width=8))
HARD = SMALL.model_copy(update={"pairs": PairOptions(targets="hard")})


@pytest.mark.parametrize(
    ("method", "config"), [("mmbind", SMALL), ("mmbind", HARD), ("imagebind", SMALL)]
)
def test_a_step_crosses_few_modules(
    world: World, tmp_path: Path, method: str, config: TrainConfig
) -> None:
    """Modules in which a function is called from the end of one step to that of the next."""
    crossed: set[str] = set()

    def watch(frame: FrameType, event: str, argument: Any) -> None:
        name = frame.f_globals.get("__name__", "")
        if event == "call" and name.startswith(("mmbind_train.", "mmbind_data.")):
            crossed.add(name)

    def progress(done: int, total: int, text: str) -> None:
        sys.setprofile(watch if done == 2 else None)

    try:
        train(world.bound, tmp_path / "run", method=method, config=config, progress=progress)
    finally:
        sys.setprofile(None)
    assert {"mmbind_train.data.batch", "mmbind_train.networks.model"} <= crossed
    assert len(crossed) <= 12, sorted(crossed)


def test_paths_may_be_text(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data, quick = str(world.bound), EvaluateConfig(seeds=(0,), budget=Budget(steps=0))
    assert plan_training(data, "run", config=SMALL) == {"incomplete": 36}
    info = train(data, "run", config=SMALL, sources={"small-A": str(world.A)})
    assert load_run("run")[0] == info
    assert seen_samples("run").num_rows == 36
    assert load_classifier("run", info) is None
    evaluate("run", str(world.C), str(world.T), config=quick, save="tuned")
    assert load_classifier("tuned", load_run("tuned")[0]) is not None
    assert set(export("tuned", "programs", modalities=["gyro"]).modalities) == {"gyro"}
