"""Several processes that train one network: torchrun or accelerate launch starts them.

Each process makes the whole batch, so that what augmentation draws does not depend on their number,
and encodes its share of the rows. What came out is gathered with its gradients, and the loss is
that of the whole batch: a row's negatives are all other rows, however many processes there are.
Only dropout, and encoders with batch normalisation, see the share alone.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Processes:
    """One process among all.

    Attributes
    ----------
    count : int
    rank : int
        From 0 on; the first writes the run.
    device : torch.device, optional
        What the launcher gave to this process; None: it is alone.
    """

    count: int = 1
    rank: int = 0
    device: torch.device | None = None

    @property
    def first(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    def share(self, n_rows: int) -> np.ndarray:
        """Places of this process's rows in a batch, shape (ceil(n_rows / count),).

        All processes have equally many: where rows are lacking the last one stands in, and what
        comes of it is dropped.

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

        Of the loss's gradient each process has the part that comes of its own rows, times the
        number of processes: so the average is the gradient itself, neither more nor less.
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
        """Go on when all have come this far."""
        if self.count > 1:
            from accelerate import PartialState

            PartialState().wait_for_everyone()

    def leave(self) -> None:
        """End the communication."""
        if self.count > 1:
            from accelerate import PartialState

            PartialState().destroy_process_group()


ALONE = Processes()


def join_processes(device: str = "auto") -> Processes:
    """Find the other processes of this training, if a launcher started several.

    Parameters
    ----------
    device : str
        cpu: on the CPU although there are CUDA devices.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return ALONE
    from accelerate import PartialState

    state = PartialState(cpu=device == "cpu")
    found = torch.device("cpu") if state.device.type == "cpu" else state.device  # not cpu:0
    return Processes(state.num_processes, state.process_index, found)
