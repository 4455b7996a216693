"""The whole state of an interrupted training, saved every so many steps to resume from.

There is one file per stage. The file of a finished stage is kept until the run is written, because
later stages are made from what it learnt.
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
class Checkpoints:
    """The checkpoints of all stages of one training, see `open_checkpoints`."""

    folder: Path
    every: int
    log: Log
    key: str
    processes: Processes = ALONE  # the first writes and reads, the others get what it read
    earlier_cpu_s: float = 0.0  # of earlier processes, up to the state that is resumed from
    begin_cpu_s: float = 0.0  # the CPU time of the training is the process's less this

    def stage(self, number: int, network: nn.Module, rng: torch.Generator) -> Checkpoint:
        """The checkpoint of a stage, by its number from 0 on."""
        return Checkpoint(self, self.folder / f"stage-{number:02}.pt", network, rng)


@dataclass(frozen=True)
class Checkpoint:
    """State of one stage: its network with all buffers, and the generator of its augmentation.

    The state of torch's global generators, which dropout uses, is saved too.
    """

    training: Checkpoints
    path: Path
    network: nn.Module
    rng: torch.Generator

    def save(
        self, step: int, optimiser: torch.optim.Optimizer, schedule: Schedule, losses: deque[float]
    ) -> None:
        """Write the state after a step; the file is replaced atomically."""
        training = self.training
        if not training.processes.first:
            return
        state = {
            "key": training.key,
            "step": step,
            "network": self.network.state_dict(),
            "optimiser": optimiser.state_dict(),
            "schedule": schedule.state_dict(),
            "losses": list(losses),
            "augmentation": self.rng.get_state(),
            "random": torch.get_rng_state(),
            "device": _device_generator(self.network),
            "logs": training.log.sizes(),
            "cpu_s": time.process_time() - training.begin_cpu_s,
        }
        fresh = self.path.with_suffix(".new")
        torch.save(state, fresh)
        fresh.replace(self.path)

    def restore(
        self, optimiser: torch.optim.Optimizer, schedule: Schedule, losses: deque[float]
    ) -> int:
        """Load the saved state and return its step; 0 if there is none."""
        processes = self.training.processes
        saved = processes.first and self.path.exists()
        state = processes.from_first(_read(self.path) if saved else None)
        if state is None:
            return 0
        self.network.load_state_dict(state["network"])
        optimiser.load_state_dict(state["optimiser"])
        schedule.load_state_dict(state["schedule"])
        losses.extend(state["losses"])
        self.rng.set_state(state["augmentation"])
        torch.set_rng_state(state["random"])
        if state["device"] is not None:
            torch.cuda.set_rng_state(state["device"], _device(self.network))
        return int(state["step"])


def open_checkpoints(
    folder: Path, key: str, log: Log, *, every: int = EVERY, processes: Processes = ALONE
) -> tuple[Checkpoints, str]:
    """Find a state to resume from; files of no use are deleted.

    ``folder`` exists and has nothing but checkpoints, one ``every`` so many steps. The ``key`` is
    equal for trainings that must have equal results. ``log`` is cut to its length when the
    checkpoint was saved.

    The text says for the user what was found; it is empty for nothing.
    """
    found, message, last = sorted(folder.glob("stage-*.pt")), "", None
    if found:
        message = "starts over: the checkpoint is damaged"
        try:
            states = [_read(path) for path in found]
            if any(state["key"] != key for state in states):
                reason = "is of other options, other data or another version"
                message = f"starts over: the checkpoint {reason}"
            elif log.shorten(states[-1]["logs"]):
                last = states[-1]
                message = f"resumes after step {last['step']} of stage {len(found)}"
        except DAMAGE:
            pass
    if last is None:
        for path in (*folder.iterdir(), *log.folder.iterdir()):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    earlier = float(last["cpu_s"]) if last is not None else 0.0
    begin = time.process_time() - earlier
    return Checkpoints(folder, every, log, key, processes, earlier, begin), message


def interrupted_key(folder: Path) -> str | None:
    """Key of the training that left checkpoints in a folder; None: no readable ones."""
    try:
        return str(_read(folder / FIRST)["key"])
    except DAMAGE:
        return None


def _device(network: nn.Module) -> torch.device:
    return next(network.parameters()).device


def _device_generator(network: nn.Module) -> torch.Tensor | None:
    """State of the global generator of the network's device; None: that of the CPU, saved apart."""
    device = _device(network)
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else None


def _read(path: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    return state
