"""An interrupted training goes on as if nothing had happened."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import click
import pytest
import torch
from click.testing import CliRunner
from smallstores import World

from mmbind_data.errors import OutputError, TrainingError
from mmbind_data.io.atomic import staging_path
from mmbind_train.benchmarks import jobs as benchmark_jobs
from mmbind_train.benchmarks.jobs import Job, TrainTask, read_record, run_job
from mmbind_train.config import Budget, NetworkOptions, TrainConfig
from mmbind_train.training import run_folder as runs
from mmbind_train.training.logs import METRICS, TIMING
from mmbind_train.training.pretrain import train
from mmbind_train.training.run_folder import WEIGHTS, RunInfo

CONFIG = TrainConfig(
    budget=Budget(steps=50, batch=8),
    network=NetworkOptions(width=8, feature_dim=16, embedding_dim=8),
)
Stop = type("Stop", (BaseException,), {})  # as kill -9: nobody catches it


def stop_behind(monkeypatch: pytest.MonkeyPatch, n_steps: int, error: BaseException) -> None:
    """Raise in the step behind so many of all stages together, once."""
    done = 0
    real = torch.autograd.backward

    def backward(loss: torch.Tensor) -> None:
        nonlocal done
        if done == n_steps:
            done += 1
            raise error
        done += 1
        real(loss)

    monkeypatch.setattr(torch.autograd, "backward", backward)


def run(world: World, out: Path, method: str = "mmbind", **extra: Any) -> RunInfo:
    data = world.AB if method == "upper_bound" else world.bound
    settings: dict[str, Any] = {"config": CONFIG, "checkpoint_every": 20} | extra
    return train(data, out, method=method, **settings)


def begin(
    world: World, out: Path, monkeypatch: pytest.MonkeyPatch, n_steps: int, *more: str, **extra: Any
) -> None:
    """A run that is killed in the step behind so many."""
    with monkeypatch.context() as patched:
        stop_behind(patched, n_steps, Stop())
        with pytest.raises(Stop):
            run(world, out, *more, **extra)


def files(out: Path) -> list[bytes]:
    return [(out / name).read_bytes() for name in (METRICS, WEIGHTS)]


def assert_goes_on(world: World, folder: Path, message: str) -> None:
    """Go on with a run, which says so, to the files of one that nothing disturbed."""
    messages: list[str] = []
    run(world, folder / "run", on_message=messages.append)
    assert messages == [message]
    run(world, folder / "fresh")
    assert files(folder / "run") == files(folder / "fresh")


# stops: in front of the first checkpoint, between two, right behind one, in the last step; of the
# methods with two stages of 25 steps each, in either
@pytest.mark.parametrize(
    ("method", "stop"),
    [("mmbind", 7), ("mmbind", 33), ("mmbind", 40), ("mmbind", 49), ("upper_bound", 33)]
    + [(method, stop) for method in ("cmg", "imagebind") for stop in (22, 25, 48)],
)
def test_losses_and_weights_are_those_of_an_undisturbed_run(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, stop: int
) -> None:
    whole = run(world, tmp_path / "whole", method)
    begin(world, tmp_path / "again", monkeypatch, stop, method)
    assert not (tmp_path / "again").exists()
    messages: list[str] = []
    resumed = run(world, tmp_path / "again", method, on_message=messages.append)
    assert resumed == whole
    assert files(tmp_path / "again") == files(tmp_path / "whole")
    timed, logged = (
        [json.loads(line)["step"] for line in path.read_text().splitlines()]
        for path in (tmp_path / "again" / TIMING, tmp_path / "whole" / METRICS)
    )
    assert timed == logged
    assert bool(messages) == (stop >= 20)
    assert not list(tmp_path.glob(".*"))


def test_only_the_steps_behind_the_checkpoint_are_done_again(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(world, tmp_path / "run", monkeypatch, 43)
    seen: list[int] = []
    run(world, tmp_path / "run", progress=lambda done, total, text: seen.append(done))
    assert seen == list(range(41, 51))


def count_steps_as_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step takes one second of CPU time, and nothing else takes any."""
    clock, real = [1000.0], torch.autograd.backward

    def backward(loss: torch.Tensor) -> None:
        real(loss)
        clock[0] += 1

    monkeypatch.setattr(torch.autograd, "backward", backward)
    monkeypatch.setattr(time, "process_time", lambda: clock[0])


# of the 43, 48 or 12 steps that were begun, the first are in a checkpoint; imagebind's second stage
# begins behind step 25
@pytest.mark.parametrize(
    ("method", "stop", "kept"), [("mmbind", 43, 40), ("imagebind", 48, 45), ("mmbind", 12, 0)]
)
def test_cpu_time_is_that_of_all_the_calls_that_it_took(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    method: str, stop: int, kept: int,
) -> None:  # fmt: skip
    task = TrainTask(world.bound, method, CONFIG)
    job = Job("key", task, tmp_path / "runs" / "run", (), "a training")
    monkeypatch.setattr(benchmark_jobs, "train", partial(train, checkpoint_every=20))
    count_steps_as_seconds(monkeypatch)
    stop_behind(monkeypatch, stop, Stop())
    with pytest.raises(Stop):
        run_job(job)
    run_job(job)
    record = read_record(job)
    assert record["found"]["earlier_cpu_s"] == kept
    assert record["cpu_seconds"] == 50


def test_cpu_time_adds_up_over_several_interruptions(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count_steps_as_seconds(monkeypatch)
    messages: list[float] = []
    for stop in (25, 22):  # behind 20 of the first call, and 20 more of the second
        begin(world, tmp_path / "run", monkeypatch, stop, on_resume=messages.append)
    run(world, tmp_path / "run", on_resume=messages.append)
    assert messages == [20, 40]
    run(world, tmp_path / "fresh", on_resume=messages.append)
    assert len(messages) == 2


@pytest.mark.parametrize("change", ["seed", "steps", "method", "data"])
def test_a_checkpoint_of_something_else_is_left(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    config, method = CONFIG, "mmbind"
    if change == "seed":
        config = CONFIG.model_copy(update={"seed": 1})
    if change == "steps":
        config = CONFIG.model_copy(update={"budget": Budget(steps=60, batch=8)})
    method = {"method": "dcm", "data": "upper_bound"}.get(change, method)
    begin(world, tmp_path / "run", monkeypatch, 33, method, config=config)
    told = "starts over: the checkpoint is of other options, other data or another version"
    assert_goes_on(world, tmp_path, told)


@pytest.mark.parametrize("damage", ["cut", "log"])
def test_a_damaged_checkpoint_is_left(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    begin(world, tmp_path / "run", monkeypatch, 33)
    staging = staging_path(tmp_path / "run")
    broken = next(staging.rglob("stage-*.pt" if damage == "cut" else METRICS))
    broken.write_bytes(broken.read_bytes()[:-30] if damage == "cut" else b"")
    assert_goes_on(world, tmp_path, "starts over: the checkpoint is damaged")


def test_a_loss_that_is_no_number_leaves_nothing_to_go_on_from(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = TrainingError(
        cannot="convert", problem="broken", at="here", expected="it whole", got="a part"
    )
    stop_behind(monkeypatch, 33, error)
    with pytest.raises(TrainingError):
        run(world, tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_keeps_what_is_done_and_says_so(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(runs, "save", full)
    with pytest.raises(OutputError, match=r"kept in .*\.run\.partial: run the same command"):
        run(world, tmp_path / "run")
    monkeypatch.undo()
    seen: list[int] = []
    run(world, tmp_path / "run", progress=lambda done, total, text: seen.append(done))
    assert seen == []


def test_a_kill_while_a_checkpoint_is_written_leaves_the_one_before(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = torch.save

    def half(state: dict[str, Any], path: Path) -> None:
        real(state, path)
        if state["step"] == 40:
            path.write_bytes(path.read_bytes()[:100])
            raise Stop

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(Stop):
        run(world, tmp_path / "run")
    monkeypatch.undo()
    assert_goes_on(world, tmp_path, "resumes after step 20 of stage 1")


def test_a_killed_command_goes_on_and_says_so_at_once(
    world: World, tmp_path: Path, mmbind: click.Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = CONFIG.model_copy(update={"budget": Budget(steps=260, batch=8)})
    (tmp_path / "c.json").write_text(config.model_dump_json())
    out = tmp_path / "killed"
    words = ["train", str(world.bound), "-o", str(out), "--config", str(tmp_path / "c.json")]
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as many threads here as there: equal bytes
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    process = subprocess.Popen([sys.executable, "-m", "mmbind_cli", *words, "--quiet"])
    deadline = time.monotonic() + 60
    while not list(staging_path(out).rglob("stage-*.pt")) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not out.exists()
    resumed = CliRunner().invoke(mmbind, [*words, "--json"])
    assert resumed.exit_code == 0, resumed.stderr
    first, *others = resumed.stderr.splitlines()
    assert re.fullmatch(r"info: resumes after step [12]00 of stage 1", first)
    assert others[-1].startswith("train mmbind: 260 of 260")
    assert not any(line.startswith("info") for line in others)
    train(world.bound, tmp_path / "whole", config=config)
    torch.set_num_threads(threads)
    assert files(out) == files(tmp_path / "whole")
    (issue,) = json.loads(resumed.stdout)["issues"]
    assert issue["message"] == first.removeprefix("info: ")
