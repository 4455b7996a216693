"""Where an interrupted training goes on: its whole state, saved every so many steps.

One file per stage. A stage that is done keeps its file until the run is written, because the
stages behind it are made from what it learnt.
"""

from __future__ import annotations

import shutil
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import nn

from mmbind_train.training.hardware import ALONE, Processes
from mmbind_train.training.logs import Log

EVERY = 100  # steps
FIRST = "stage-00.pt"
DAMAGE = (OSError, RuntimeError, EOFError, KeyError, ValueError, TypeError, UnpicklingError)
Schedule = torch.optim.lr_scheduler.LRScheduler


@dataclass(frozen=True)
class Checkpoint:
    """State of one stage.

    Attributes
    ----------
    path : path
    every : int
        Steps.
    network : nn.Module
        All that the stage learns or keeps, with its buffers.
    rng : torch.Generator
        Of the augmentation; torch's global generators, for dropout, are saved besides.
    log : Log
    key : str
        As in `open_checkpoints`.
    processes : Processes
        The first one writes and reads; the others get what it read.
    begin_cpu_s : float
        As in `Checkpoints`.
    """

    path: Path
    every: int
    network: nn.Module
    rng: torch.Generator
    log: Log
    key: str
    processes: Processes = ALONE
    begin_cpu_s: float = 0.0

    def due(self, step: int, n_steps: int) -> bool:
        """Whether to save behind this step: every so many, and behind the last one."""
        return step % self.every == 0 or step == n_steps

    def save(
        self, step: int, optimiser: torch.optim.Optimizer, schedule: Schedule, losses: deque[float]
    ) -> None:
        """Write the state behind a step; a file that stood there is replaced at once or not."""
        if not self.processes.first:
            return
        state = {
            "key": self.key,
            "step": step,
            "network": self.network.state_dict(),
            "optimiser": optimiser.state_dict(),
            "schedule": schedule.state_dict(),
            "losses": list(losses),
            "augmentation": self.rng.get_state(),
            "random": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
            "logs": self.log.sizes(),
            "cpu_s": time.process_time() - self.begin_cpu_s,
        }
        fresh = self.path.with_suffix(".new")
        torch.save(state, fresh)
        fresh.replace(self.path)

    def restore(
        self, optimiser: torch.optim.Optimizer, schedule: Schedule, losses: deque[float]
    ) -> int:
        """Take up the state that was saved; give its step, 0 where there is none."""
        there = self.processes.first and self.path.exists()
        state = self.processes.from_first(_read(self.path) if there else None)
        if state is None:
            return 0
        self.network.load_state_dict(state["network"])
        optimiser.load_state_dict(state["optimiser"])
        schedule.load_state_dict(state["schedule"])
        losses.extend(state["losses"])
        self.rng.set_state(state["augmentation"])
        torch.set_rng_state(state["random"])
        if state["cuda"] is not None:
            torch.cuda.set_rng_state(state["cuda"])
        return int(state["step"])


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of all stages of one training.

    Attributes
    ----------
    folder : path
    every : int
        Steps.
    log : Log
    key : str
        As in `open_checkpoints`.
    processes : Processes
    earlier_cpu_s : float
        CPU seconds that interrupted processes spent on what this training goes on from.
    begin_cpu_s : float
        The CPU time of the training is the process's less this.
    """

    folder: Path
    every: int
    log: Log
    key: str
    processes: Processes = ALONE
    earlier_cpu_s: float = 0.0
    begin_cpu_s: float = 0.0

    def stage(self, number: int, network: nn.Module, rng: torch.Generator) -> Checkpoint:
        """The checkpoint of a stage, by its number from 0 on."""
        path = self.folder / f"stage-{number:02}.pt"
        return Checkpoint(
            path, self.every, network, rng, self.log, self.key, self.processes, self.begin_cpu_s
        )


def open_checkpoints(
    folder: Path, key: str, log: Log, *, every: int = EVERY, processes: Processes = ALONE
) -> tuple[Checkpoints, str]:
    """Find out whether there is something to go on from; what is of no use is deleted.

    Parameters
    ----------
    folder : path
        Exists; belongs to checkpoints alone.
    key : str
        Equal for trainings that must have equal results.
    log : Log
        Cut to where the checkpoint was saved.
    every : int
        Steps between two checkpoints.
    processes : Processes

    Returns
    -------
    Checkpoints
    str
        What was found, for the user; empty: nothing.
    """
    found = sorted(folder.glob("stage-*.pt"))
    told, last = _judge(found, key, log) if found else ("", None)
    if last is None:
        _empty(folder)
        _empty(log.folder)
    earlier = float(last["cpu_s"]) if last is not None else 0.0
    begin = time.process_time() - earlier
    return Checkpoints(folder, every, log, key, processes, earlier, begin), told


def begun_key(folder: Path) -> str | None:
    """Key of the training that left checkpoints in a folder; None: no readable ones."""
    try:
        return str(_read(folder / FIRST)["key"])
    except DAMAGE:
        return None


def _judge(found: list[Path], key: str, log: Log) -> tuple[str, dict[str, Any] | None]:
    """What to tell about the files, and the state to go on from, if there is one."""
    try:
        states = [_read(path) for path in found]
        last = states[-1]
        if any(state["key"] != key for state in states):
            return (
                "begins anew: the checkpoint is of other options, other data or another version",
                None,
            )
        if log.shorten(last["logs"]):
            return f"goes on behind step {last['step']} of stage {len(found)}", last
    except DAMAGE:
        pass
    return "begins anew: the checkpoint is damaged", None


def _read(path: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    return state


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
