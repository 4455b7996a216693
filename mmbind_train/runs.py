"""The run folder: run.json, model.safetensors, metrics.jsonl."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from mmbind_data.errors import FormatError, IntegrityError, problem
from mmbind_data.scale import Statistics
from mmbind_data.spec import Modality, Model

from .config import TrainConfig
from .model import AdaptiveModel

RUN = "run.json"
WEIGHTS = "model.safetensors"
METRICS = "metrics.jsonl"


class DataInfo(Model):
    """What a run was trained on."""

    path: str
    kind: Literal["converted", "bound"]
    content_digest: str


class RunInfo(Model):
    """run.json: everything about a pre-trained model but its weights."""

    spec: Literal["mmbind-run"] = "mmbind-run"
    spec_version: Literal["1.0"] = "1.0"
    method: str
    config: TrainConfig
    data: DataInfo
    modalities: dict[str, Modality]
    statistics: dict[str, Statistics]
    subjects: dict[str, tuple[str, ...]]
    stretched: dict[str, tuple[int, int]]
    n_rows: dict[str, int]
    steps: int
    final_loss: float | None
    versions: dict[str, str]


def save_run(folder: Path, info: RunInfo, model: AdaptiveModel) -> None:
    """Write run.json and the weights into a folder."""
    # not save_file: that makes a file that only its owner may read
    (folder / WEIGHTS).write_bytes(save(model.state_dict()))
    text = json.dumps(info.model_dump(mode="json"), indent=2) + "\n"
    (folder / RUN).write_text(text, encoding="utf-8")


def load_run(folder: Path) -> tuple[RunInfo, AdaptiveModel]:
    """Read a run back; the model gives the outputs that it gave when it was saved.

    Raises
    ------
    FormatError
        No run there, or of another specification.
    IntegrityError
        The weights are missing, damaged or of another network.
    """
    try:
        info = RunInfo.model_validate_json((folder / RUN).read_text(encoding="utf-8"))
    except (OSError, ValidationError, UnicodeDecodeError) as error:
        got = "nothing" if isinstance(error, FileNotFoundError) else str(error).splitlines()[0]
        raise FormatError(
            problem("open a run", f"no readable {RUN}", folder, "the output of mmbind train", got)
        ) from error
    model = fresh_model(info)
    try:
        weights = load_file(folder / WEIGHTS)
        model.load_state_dict(weights)
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise IntegrityError(
            problem("open a run", "weights cannot be read", folder / WEIGHTS,
                    f"the weights of {RUN}'s network", str(error).splitlines()[0], "Train again.")
        ) from error  # fmt: skip
    return info, model.eval()


def fresh_model(info: RunInfo) -> AdaptiveModel:
    """Build the run's network with weights that are about to be replaced."""
    with torch.random.fork_rng(devices=[]):
        return AdaptiveModel(info.modalities, info.config.network)
