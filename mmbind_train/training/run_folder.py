"""The run folder: run.json, model.safetensors, samples.parquet, and the logs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from mmbind_data.errors import FormatError, IntegrityError
from mmbind_data.signal.normalise import Statistics
from mmbind_data.spec.descriptor import Modality, Model
from mmbind_data.spec.validation_messages import fault_of
from mmbind_data.store.dataset import read_table
from mmbind_data.store.lineage import COLUMNS
from mmbind_train.config import EvaluateConfig, Space, TrainConfig
from mmbind_train.data.windows import Reading
from mmbind_train.networks.model import AdaptiveModel, Classifier

RUN = "run.json"
WEIGHTS = "model.safetensors"
CLASSIFIER = "classifier.safetensors"
SAMPLES = "samples.parquet"


class DataInfo(Model):
    """What a run was trained on."""

    path: str
    kind: Literal["converted", "bound"]
    content_digest: str


class StageInfo(Model):
    """What one stage of a pre-training ran over."""

    name: str
    steps: int
    n_rows: dict[str, int]
    n_present: dict[str, int]
    labels: bool
    final_loss: float | None
    reading: Reading | None = Field(default=None, description="null: all samples in memory")


class FinetuneInfo(Model):
    """What a run was fine-tuned with."""

    modalities: tuple[str, ...]
    data: DataInfo
    config: EvaluateConfig = Field(description="its one seed is that of this network")


class HardwareInfo(Model):
    """What a run was trained on, and how."""

    device: str
    precision: Literal["float32", "bfloat16"]
    compiled: bool
    processes: int


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
    stages: tuple[StageInfo, ...] = ()
    classes: tuple[str, ...] = Field(
        default=(), description="what the classifier learnt along with the encoders tells apart"
    )
    wordings: dict[str, str] = Field(
        default={}, description="other words that labels were given before they became classes"
    )
    space: Space = Field(
        default="feature", description="what the pre-training shaped and a classifier should read"
    )
    finetuned: FinetuneInfo | None = Field(
        default=None, description="null: the network is as its pre-training left it"
    )
    steps: int
    final_loss: float | None
    versions: dict[str, str]
    hardware: HardwareInfo | None = Field(
        default=None, description="null in runs of earlier releases"
    )


def save_run(
    folder: Path,
    info: RunInfo,
    model: AdaptiveModel,
    classifier: Classifier | None = None,
    *,
    samples: pa.Table,
) -> None:
    """Write run.json, the weights and the table of the samples that were seen into a folder.

    ``samples`` is as `mmbind_data.store.lineage.recording_table` gives it.
    """
    # not save_file: that makes a file that only its owner may read
    (folder / WEIGHTS).write_bytes(save(_stored(model)))
    if classifier is not None:
        (folder / CLASSIFIER).write_bytes(save(_stored(classifier)))
    pq.write_table(samples.sort_by("uid"), folder / SAMPLES, compression="zstd")
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
    except (OSError, ValueError) as error:
        step = "Runs are made by mmbind train."
        raise FormatError(cannot="open a run", **fault_of(error, folder / RUN), fix=step) from error
    model = fresh_model(info)
    _load(model, folder / WEIGHTS)
    return info, model.eval()


def seen_samples(folder: Path) -> pa.Table:
    """The samples that a run has seen; none are known of runs of earlier releases.

    Raises
    ------
    IntegrityError
        The table is damaged.
    """
    if not (folder / SAMPLES).exists():
        return pa.table({name: pa.array([], pa.string()) for name in COLUMNS})
    return read_table(folder / SAMPLES)


def load_classifier(folder: Path, info: RunInfo) -> Classifier | None:
    """Read the classifier that was learnt along with the encoders; None: there was none.

    Raises
    ------
    IntegrityError
        The weights are missing or damaged.
    """
    if not info.classes:
        return None
    model = fresh_model(info)
    classifier = Classifier(
        len(info.modalities), model.width(info.space), len(info.classes), info.config.dropout
    )
    _load(classifier, folder / CLASSIFIER)
    return classifier.eval()


def _stored(module: nn.Module) -> dict[str, Tensor]:
    return {name: one.detach().cpu().contiguous() for name, one in module.state_dict().items()}


def _load(module: nn.Module, path: Path) -> None:
    try:
        module.load_state_dict(load_file(path))
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise IntegrityError(
            cannot="open a run",
            problem="weights cannot be read",
            at=path,
            expected=f"the weights of {RUN}'s network",
            got=str(error).splitlines()[0],
            fix="Train again.",
        ) from error


def fresh_model(info: RunInfo) -> AdaptiveModel:
    """Build the run's network with weights that are about to be replaced."""
    with torch.random.fork_rng(devices=[]):
        return AdaptiveModel(info.modalities, info.config.network)
