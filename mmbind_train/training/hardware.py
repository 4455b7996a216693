"""The hardware of a training: device, precision, and the processes that share the work."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from mmbind_data.errors import UsageError

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Processes:
    """One process among all: how many there are, and its rank from 0 on; the first writes the run.

    ``device`` is what the launcher assigned to this process; None: it is the only one.
    """

    count: int = 1
    rank: int = 0
    device: torch.device | None = None

    @property
    def first(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    def share(self, n_rows: int) -> np.ndarray:
        """Numbers of this process's rows in a batch, shape (ceil(n_rows / count),).

        All processes have the same number: missing rows are replaced by the last one, and `gather`
        drops their outputs.

        >>> [Processes(3, rank).share(5).tolist() for rank in range(3)]
        [[0, 1], [2, 3], [4, 4]]
        """
        each = -(-n_rows // self.count)
        return np.arange(self.rank * each, (self.rank + 1) * each).clip(max=n_rows - 1)

    def gather(self, outputs: Tensor, n_rows: int) -> Tensor:
        """Rows of all processes, (n_rows, ...), in the order of the batch.

        Gradients go back to this process's own rows, times the number of processes.
        """
        if self.count == 1:
            return outputs
        from torch.distributed import all_gather

        parts = [torch.empty_like(outputs) for _ in range(self.count)]
        all_gather(parts, outputs.detach().contiguous())
        own = outputs.clone()
        own.register_hook(lambda gradient: gradient * self.count)  # type: ignore[no-untyped-call]
        parts[self.rank] = own
        return torch.cat(parts)[:n_rows]

    def together(self, network: nn.Module) -> nn.Module:
        """The network with gradients averaged over the processes.

        Each has the part of the loss's gradient that its own rows cause, times their number.
        """
        if self.count == 1:
            return network
        from torch.nn.parallel import DistributedDataParallel

        # a share of the rows may lack a modality: its encoder has no gradient there
        return DistributedDataParallel(network, find_unused_parameters=True)

    def from_first(self, value: Any) -> Any:
        """The value that the first process has."""
        if self.count == 1:
            return value
        from accelerate.utils import broadcast_object_list

        values: list[Any] = broadcast_object_list([value])
        return values[0]

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.count > 1:
            _state().wait_for_everyone()

    def leave(self) -> None:
        """End the communication."""
        if self.count > 1:
            _state().destroy_process_group()


ALONE = Processes()


def join_processes(device: str = "auto") -> Processes:
    """Find the other processes of this training, if a launcher started several.

    With ``device="cpu"`` they use the CPU even if there are CUDA devices.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return ALONE
    state = _state(cpu=device == "cpu")
    found = CPU if state.device.type == "cpu" else state.device  # not cpu:0
    return Processes(state.num_processes, state.process_index, found)


def _state(**options: bool) -> Any:
    from accelerate import PartialState

    return PartialState(**options)


Precision = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True)
class Hardware:
    """A device and how to use it.

    With bfloat16 features are computed in it where torch's autocast does; weights and losses are
    float32. ``compiled`` applies torch.compile to the encoders. ``deterministic``: a GPU, too,
    computes the same weights every time, more slowly.
    """

    device: torch.device = CPU
    bfloat16: bool = False
    compiled: bool = False
    processes: Processes = ALONE
    deterministic: bool = False

    def autocast(self) -> AbstractContextManager[object]:
        """Context in which features are computed."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16)

    @contextmanager
    def determinism(self) -> Iterator[None]:
        """Context in which kernels without determinism are not used, if that was asked for."""
        if not self.deterministic:
            yield
            return
        before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
        # read when CUDA's matrix library is first used
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(mode=True)
        torch.backends.cudnn.benchmark = False
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before[0])
            torch.backends.cudnn.benchmark = before[1]

    def fork_rng(self) -> AbstractContextManager[object]:
        """Context that restores the state of torch's global generators at its end."""
        cuda = self.device.type == "cuda"
        return torch.random.fork_rng(devices=[self.device] if cuda else [])


CPU_ALONE = Hardware()


def choose_hardware(
    device: str = "auto",
    precision: Precision = "auto",
    *,
    compiled: bool = False,
    deterministic: bool = False,
    processes: Processes = ALONE,
    doing: str = "train",
) -> Hardware:
    """Find the hardware that the user asks for.

    ``device`` is auto (a CUDA device if there is one, else the CPU), cpu, cuda, cuda:N or mps; a
    launcher's choice, in ``processes``, overrides it. With ``precision="auto"`` features are
    computed in bfloat16 on CUDA devices that do so natively, in float32 elsewhere.

    Raises
    ------
    UsageError
        No such device: ``doing`` is what cannot be done then.
    """
    chosen = processes.device or _device(device, doing)
    native = chosen.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    bfloat16 = native if precision == "auto" else precision == "bfloat16"
    return Hardware(chosen, bfloat16, compiled, processes, deterministic)


def _device(name: str, doing: str) -> torch.device:
    n_cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        name = "cuda" if n_cuda else "cpu"
    kind, _, number = name.partition(":")
    counts = {"cpu": 1, "cuda": n_cuda, "mps": int(torch.backends.mps.is_available())}
    known = kind in counts and (not number or (kind == "cuda" and number.isdecimal()))
    if not known or int(number or 0) >= counts[kind]:
        here = " or ".join(one for one, count in counts.items() if count)
        raise UsageError(
            cannot=doing,
            problem="no such device here" if known else "unknown device",
            at="--device",
            expected=here if known else "auto, cpu, cuda, cuda:N or mps",
            got=repr(name),
            fix="Take --device auto.",
        )
    if kind == "cuda":
        return torch.device("cuda", int(number) if number else torch.cuda.current_device())
    return torch.device(kind)
