"""The log of a training, step by step, in the folder of its run."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmbind_data.errors import UsageError

METRICS = "metrics.jsonl"
TIMING = "timing.jsonl"
TENSORBOARD = "tensorboard"


@dataclass
class Log:
    """Files that grow with the steps.

    What depends on the seed is in metrics.jsonl, what depends on the clock in timing.jsonl: the
    first has the same bytes however often the training was interrupted. ``tensorboard``: also write
    event files into a folder of that name.
    """

    folder: Path
    tensorboard: bool = False
    _events: Any = field(default=None, repr=False)

    def write(
        self, *, stage: str, step: int, loss: float, learning_rate: float, samples_per_s: float
    ) -> None:
        """Append one line to each file."""
        values = {"loss": loss, "learning_rate": learning_rate}
        speed = {"samples_per_s": round(samples_per_s, 1)}
        for name, own in ((METRICS, values), (TIMING, speed)):
            with (self.folder / name).open("a", encoding="utf-8") as lines:
                lines.write(json.dumps({"stage": stage, "step": step, **own}) + "\n")
        if not self.tensorboard:
            return
        if self._events is None:
            from torch.utils.tensorboard.writer import SummaryWriter

            self._events = SummaryWriter(str(self.folder / TENSORBOARD))
        for name, value in {**values, **speed}.items():
            self._events.add_scalar(f"{stage}/{name}", value, step)

    def sizes(self) -> dict[str, int]:
        """Bytes of each file, for `shorten`."""
        paths = [self.folder / name for name in (METRICS, TIMING)]
        return {path.name: path.stat().st_size if path.exists() else 0 for path in paths}

    def shorten(self, sizes: Mapping[str, int]) -> bool:
        """Cut the files to earlier sizes; False: a file is shorter than that."""
        now = self.sizes()
        if any(now.get(name, 0) < size for name, size in sizes.items()):
            return False
        for name, size in sizes.items():
            if now[name] > size:
                os.truncate(self.folder / name, size)
        return True

    def close(self) -> None:
        """Write the events that TensorBoard's writer still buffers."""
        if self._events is not None:
            self._events.close()
            self._events = None


def check_tensorboard() -> None:
    """Refuse, with a UsageError, a training whose events could not be written."""
    if importlib.util.find_spec("tensorboard") is None:
        raise UsageError(
            cannot="train",
            problem="TensorBoard is not installed",
            at="--tensorboard",
            expected="the package tensorboard",
            got="none",
            fix="Run pip install 'mmbind[tensorboard]'.",
        )
