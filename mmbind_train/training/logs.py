"""What a training writes down step by step, in the folder of its run."""

from __future__ import annotations

import importlib.util
import json
import os
import time
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

    What the seed decides stands in metrics.jsonl, what the clock decides in timing.jsonl: so the
    first is the same, byte for byte, however often the training was interrupted.

    Attributes
    ----------
    folder : path
        Of the run.
    tensorboard : bool
        Also write event files for TensorBoard into the folder ``tensorboard``.
    """

    folder: Path
    tensorboard: bool = False
    _events: Any = field(default=None, repr=False)

    def write(
        self, *, stage: str, step: int, loss: float, learning_rate: float, samples_per_s: float
    ) -> None:
        """Append one line to each file."""
        values = {"loss": loss, "learning_rate": learning_rate}
        _append(self.folder / METRICS, {"stage": stage, "step": step, **values})
        speed = {"samples_per_s": round(samples_per_s, 1)}
        _append(self.folder / TIMING, {"stage": stage, "step": step, **speed})
        if self.tensorboard:
            for name, value in {**values, **speed}.items():
                self._writer().add_scalar(f"{stage}/{name}", value, step)

    def sizes(self) -> dict[str, int]:
        """Bytes of each file, for `shorten`."""
        paths = [self.folder / name for name in (METRICS, TIMING)]
        return {path.name: path.stat().st_size if path.exists() else 0 for path in paths}

    def shorten(self, sizes: Mapping[str, int]) -> bool:
        """Forget the lines behind some sizes; False: a file does not reach so far."""
        now = self.sizes()
        if any(now.get(name, 0) < size for name, size in sizes.items()):
            return False
        for name, size in sizes.items():
            if now[name] > size:
                os.truncate(self.folder / name, size)
        return True

    def close(self) -> None:
        """Write what TensorBoard's events still hold."""
        if self._events is not None:
            self._events.close()
            self._events = None

    def _writer(self) -> Any:
        if self._events is None:
            from torch.utils.tensorboard.writer import SummaryWriter

            self._events = SummaryWriter(str(self.folder / TENSORBOARD))
        return self._events


class Clock:
    """Samples per second since the training began, or began anew."""

    def __init__(self) -> None:
        self.begin = time.perf_counter()
        self.samples = 0

    def count(self, samples: int) -> float:
        """Note that a batch is done; give the rate."""
        self.samples += samples
        return self.samples / max(1e-9, time.perf_counter() - self.begin)


def check_tensorboard() -> None:
    """Refuse to begin a training whose events could not be written.

    Raises
    ------
    UsageError
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise UsageError(
            cannot="train",
            problem="TensorBoard is not installed",
            at="--tensorboard",
            expected="the package tensorboard",
            got="none",
            fix="Run pip install 'mmbind[tensorboard]'.",
        )


def _append(path: Path, values: Mapping[str, object]) -> None:
    with path.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(values) + "\n")
