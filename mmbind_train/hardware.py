"""On what a training computes, and how precisely."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import torch

from mmbind_data.errors import UsageError, problem

from .processes import ALONE, Processes

Precision = Literal["auto", "float32", "bfloat16"]
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Hardware:
    """A device and how to use it.

    Attributes
    ----------
    device : torch.device
    bfloat16 : bool
        Compute features in bfloat16 where torch's autocast does; weights and losses are float32.
    compiled : bool
        Compile the encoders (torch.compile).
    processes : Processes
        Those that share the work.
    """

    device: torch.device = CPU
    bfloat16: bool = False
    compiled: bool = False
    processes: Processes = ALONE

    def autocast(self) -> AbstractContextManager[object]:
        """Context in which features are computed."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16)

    def fork_rng(self) -> AbstractContextManager[object]:
        """Context behind which torch's global generators are as they were before."""
        cuda = self.device.type == "cuda"
        return torch.random.fork_rng(devices=[self.device] if cuda else [])


CPU_ALONE = Hardware()


def choose_hardware(
    device: str = "auto",
    precision: Precision = "auto",
    *,
    compiled: bool = False,
    processes: Processes = ALONE,
    doing: str = "train",
) -> Hardware:
    """Read what the user asks for.

    Parameters
    ----------
    device : str
        auto (a CUDA device if there is one, else the CPU), cpu, cuda, cuda:N or mps.
    precision : {"auto", "float32", "bfloat16"}
        auto: bfloat16 on CUDA devices that compute it natively, float32 elsewhere.
    compiled : bool
    processes : Processes
        A launcher's choice of the device goes before the user's.
    doing : str
        Begins the message.

    Raises
    ------
    UsageError
        No such device here.
    """
    chosen = processes.device or _device(device, doing)
    native = chosen.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    bfloat16 = native if precision == "auto" else precision == "bfloat16"
    return Hardware(chosen, bfloat16, compiled, processes)


def _device(name: str, doing: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda", torch.cuda.current_device()) if _n_cuda() else CPU
    kind, _, number = name.partition(":")
    numbers = {
        "cpu": 1,
        "cuda": _n_cuda(),
        "mps": int(torch.backends.mps.is_available()),
    }
    here = [kind for kind, count in numbers.items() if count]
    if kind not in numbers or (number and not (kind == "cuda" and number.isdecimal())):
        raise UsageError(
            problem(doing, "unknown device", "--device", "auto, cpu, cuda, cuda:N or mps",
                    repr(name))
        )  # fmt: skip
    if int(number or 0) >= numbers[kind]:
        raise UsageError(
            problem(doing, "no such device here", "--device", " or ".join(here), repr(name),
                    "Take --device auto.")
        )  # fmt: skip
    if kind == "cuda":
        return torch.device("cuda", int(number) if number else torch.cuda.current_device())
    return torch.device(kind)


def _n_cuda() -> int:
    return torch.cuda.device_count() if torch.cuda.is_available() else 0
