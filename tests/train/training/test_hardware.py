"""Devices, precision, several processes, TensorBoard."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from smallstores import World

from mmbind_data.errors import UsageError
from mmbind_train.config import Augmentation, Budget, EvaluateConfig, NetworkOptions, TrainConfig
from mmbind_train.data.batch import make_batch
from mmbind_train.evaluation.evaluate import evaluate
from mmbind_train.training.hardware import CPU, Hardware, Processes, choose_hardware
from mmbind_train.training.logs import METRICS, TENSORBOARD
from mmbind_train.training.methods import METHODS
from mmbind_train.training.pretrain import train
from mmbind_train.training.run_folder import WEIGHTS, load_run

CONFIG = TrainConfig(
    budget=Budget(steps=8, batch=8),
    network=NetworkOptions(width=8, feature_dim=16, embedding_dim=8),
)
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def test_devices_that_are_not_here_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_hardware() == Hardware(CPU, bfloat16=False)
    assert choose_hardware("cpu", "bfloat16") == Hardware(CPU, bfloat16=True)
    with pytest.raises(UsageError, match=r"no such device here.*expected cpu.*got 'cuda:1'"):
        choose_hardware("cuda:1")
    for name in ("gpu", "cpu:1", "cuda:x", ""):
        with pytest.raises(UsageError, match="unknown device at --device"):
            choose_hardware(name)


def test_auto_takes_the_first_device_and_its_native_precision(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    for native in (True, False):
        monkeypatch.setattr(
            torch.cuda, "is_bf16_supported", lambda including_emulation, now=native: now
        )
        assert choose_hardware() == Hardware(torch.device("cuda", 0), bfloat16=native)
    assert choose_hardware("cuda:1", "float32") == Hardware(torch.device("cuda", 1))
    with pytest.raises(UsageError, match="no such device"):
        choose_hardware("cuda:2")


@pytest.mark.parametrize("method", [name for name in METHODS if name != "lower_bound"])
def test_bfloat16_computes_nearly_the_same(world: World, tmp_path: Path, method: str) -> None:
    data = world.AB if method == "upper_bound" else world.bound
    exact = train(data, tmp_path / "exact", method=method, config=CONFIG)
    rough = train(
        data, tmp_path / "rough", method=method, config=CONFIG,
        hardware=Hardware(CPU, bfloat16=True),
    )  # fmt: skip
    assert rough.final_loss == pytest.approx(exact.final_loss, rel=0.05)
    assert rough.final_loss != exact.final_loss
    assert rough.hardware is not None
    assert rough.hardware.model_dump() == {
        "device": "cpu", "precision": "bfloat16", "compiled": False, "processes": 1,
        "deterministic": False,
    }  # fmt: skip
    stored = load_file(tmp_path / "rough" / WEIGHTS)
    assert {one.dtype for one in stored.values()} == {torch.float32}


def test_deterministic_kernels_are_asked_for_while_training(world: World, tmp_path: Path) -> None:
    seen: list[bool] = []

    def look(done: int, total: int, text: str) -> None:
        seen.append(torch.are_deterministic_algorithms_enabled())

    runs = [
        train(
            world.bound, tmp_path / str(number), config=CONFIG, progress=look,
            hardware=choose_hardware("cpu", deterministic=asked),
        )
        for number, asked in enumerate((False, True))
    ]  # fmt: skip
    assert seen == [False] * 8 + [True] * 8
    assert not torch.are_deterministic_algorithms_enabled()
    assert [one.hardware and one.hardware.deterministic for one in runs] == [False, True]
    assert runs[0].final_loss == runs[1].final_loss


@needs_cuda
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_gpu_computes_nearly_the_same(world: World, tmp_path: Path, precision: str) -> None:
    hardware = choose_hardware("cuda", precision)  # type: ignore[arg-type]
    here = train(world.bound, tmp_path / "cpu", config=CONFIG, hardware=Hardware())
    there = train(world.bound, tmp_path / "gpu", config=CONFIG, hardware=hardware)
    assert there.final_loss == pytest.approx(here.final_loss, rel=0.05)
    assert there.hardware is not None
    assert there.hardware.device.startswith("cuda")
    assert load_run(tmp_path / "gpu")[1].device == CPU
    config = EvaluateConfig(labels_per_class=1, seeds=(0,), budget=Budget(steps=5))
    result = evaluate(tmp_path / "gpu", world.C, world.T, config=config, hardware=hardware)
    assert 0 <= result.accuracy <= 1


@pytest.mark.parametrize(("n_rows", "count"), [(64, 2), (7, 2), (5, 3), (1, 4)])
def test_the_shares_of_all_processes_are_the_batch(n_rows: int, count: int) -> None:
    shares = [Processes(count, rank).share(n_rows) for rank in range(count)]
    assert len({len(one) for one in shares}) == 1
    assert np.concatenate(shares)[:n_rows].tolist() == list(range(n_rows))


@pytest.mark.parametrize(("n_rows", "count"), [(6, 2), (5, 3)])
def test_the_mean_of_all_gradients_is_that_of_the_loss(
    monkeypatch: pytest.MonkeyPatch, n_rows: int, count: int
) -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(n_rows, 4), torch.randn(4, 3)
    processes = [Processes(count, rank) for rank in range(count)]

    def all_gather(parts: list[torch.Tensor], own: torch.Tensor) -> None:
        for part, process in zip(parts, processes, strict=True):
            part.copy_(x[process.share(n_rows)] @ weight)

    def gradient(process: Processes) -> tuple[float, torch.Tensor]:
        own = weight.clone().requires_grad_()
        z = process.gather(x[process.share(n_rows)] @ own, n_rows)
        loss = (z @ z.T).logsumexp(dim=1).mean()  # every row matters to every other
        return float(loss.detach()), torch.autograd.grad(loss, own)[0]

    wanted_loss, wanted = gradient(Processes())
    monkeypatch.setattr(torch.distributed, "all_gather", all_gather)
    losses, gradients = zip(*map(gradient, processes), strict=True)
    assert losses == pytest.approx([wanted_loss] * count)
    torch.testing.assert_close(torch.stack(gradients).mean(dim=0), wanted)


def test_a_share_of_a_batch_has_its_rows(world: World) -> None:
    from mmbind_data.store.dataset import open_dataset
    from mmbind_train.data.training_set import gather_store, measure_statistics

    rows = gather_store(open_dataset(world.AB))
    statistics = measure_statistics(rows)
    whole = make_batch(rows, np.arange(6), statistics)
    part = whole.take(np.array([4, 5]))
    wanted = make_batch(rows, np.array([4, 5]), statistics)
    assert part.label.tolist() == wanted.label.tolist()
    assert part.present.tolist() == wanted.present.tolist()
    for name, values in wanted.inputs.items():
        assert torch.equal(part.inputs[name], values)


def in_two_processes(*words: object) -> subprocess.CompletedProcess[str]:
    """Train on the CPU, as a launcher does."""
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    command = ("-m", "mmbind_cli", "train", *map(str, words), "--device", "cpu")
    return subprocess.run(
        [sys.executable, *launcher, *command], capture_output=True, text=True, check=False,
        timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


# 36 rows in batches of 8 and in one of 36; augmentation is on
@pytest.mark.parametrize("method", ["mmbind", "imagebind"])
def test_two_processes_learn_what_one_learns(world: World, tmp_path: Path, method: str) -> None:
    assert CONFIG.augmentation == Augmentation()
    (tmp_path / "config.json").write_text(CONFIG.model_dump_json())
    options = ("--method", method, "--config", tmp_path / "config.json", "--json")
    done = in_two_processes(world.bound, "-o", tmp_path / "two", *options)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('"ok": true') == 1
    alone = train(world.bound, tmp_path / "one", method=method, config=CONFIG)
    info, _ = load_run(tmp_path / "two")
    assert info.hardware is not None
    assert info.hardware.processes == 2
    assert info.final_loss == pytest.approx(alone.final_loss, rel=1e-4)
    one, two = (load_file(tmp_path / name / WEIGHTS) for name in ("one", "two"))
    for name, weights in one.items():
        torch.testing.assert_close(two[name], weights, rtol=1e-3, atol=2e-4)
    assert not list(tmp_path.glob(".*"))


def test_of_two_processes_one_tells_the_error(world: World, tmp_path: Path) -> None:
    done = in_two_processes(world.bound, "-o", tmp_path / "run", "--method", "mmbnd")
    assert done.returncode != 0
    assert done.stderr.count("error: cannot train: unknown method") == 1


def test_an_error_of_a_later_process_alone_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mmbind: click.Command
) -> None:
    monkeypatch.setenv("RANK", "1")
    waited: list[float] = []
    monkeypatch.setattr("mmbind_cli.output.time.sleep", waited.append)
    words = ["train", str(tmp_path / "none"), "-o", str(tmp_path / "run"), "--device", "cpu"]
    outcome = CliRunner().invoke(mmbind, words)
    assert outcome.exit_code == 4
    assert outcome.stderr.startswith("error: cannot open")
    assert waited == [5.0]


def test_tensorboard_gets_the_losses(world: World, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    train(world.bound, tmp_path / "run", config=CONFIG, tensorboard=True)
    (events,) = (tmp_path / "run" / TENSORBOARD).iterdir()
    assert b"soft contrast/loss" in events.read_bytes()
    assert (tmp_path / "run" / METRICS).exists()


def test_a_missing_tensorboard_is_told_before_the_training(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'mmbind\[tensorboard\]'"):
        train(world.bound, tmp_path / "run", config=CONFIG, tensorboard=True)
    assert not list(tmp_path.iterdir())
