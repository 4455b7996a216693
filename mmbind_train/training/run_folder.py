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
from torch import nn

from mmbind_data.errors import FormatError, IntegrityError
from mmbind_data.signal.normalise import Statistics
from mmbind_data.spec.descriptor import Modality, Model
from mmbind_data.spec.store import PairQuality
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
    """The store that a run was trained on."""

    path: str
    kind: Literal["converted", "bound"]
    content_digest: str
    shared: tuple[str, ...] = Field(default=(), description="of a bound store")
    quality: PairQuality | None = Field(
        default=None, description="of the pairs of a bound store, as `mmbind bind` found it"
    )


class StageInfo(Model):
    """One stage of a training."""

    name: str
    steps: int
    n_rows: dict[str, int]
    n_present: dict[str, int]
    labels: bool
    n_pairs: int | None = Field(
        default=None, description="different pairs of samples; null: rows are trained on, not pairs"
    )
    final_loss: float | None
    reading: Reading | None = Field(default=None, description="null: all samples in memory")


class FinetuneInfo(Model):
    """What a run was fine-tuned with."""

    modalities: tuple[str, ...]
    data: DataInfo
    config: EvaluateConfig = Field(description="its one seed is that of this network")


class HardwareInfo(Model):
    """The device and the precision of a training."""

    device: str
    precision: Literal["float32", "bfloat16"]
    compiled: bool
    processes: int
    deterministic: bool = False


class RunInfo(Model):
    """run.json: everything about a pre-trained model but its weights."""

    spec: Literal["mmbind-run"] = "mmbind-run"
    spec_version: Literal["1.0"] = "1.0"
    method: str
    partners: str | None = Field(
        default=None, description="what replaced the pairs of the store, such as a control"
    )
    config: TrainConfig
    data: DataInfo
    modalities: dict[str, Modality]
    statistics: dict[str, Statistics]
    subjects: dict[str, tuple[str, ...]]
    stretched: dict[str, tuple[int, int]]
    n_rows: dict[str, int]
    departures: tuple[str, ...] = Field(
        default=(), description="of recipe paper: in what this training differs from the text"
    )
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
    """Write run.json, the weights and the table of the samples that were used into a folder.

    ``samples`` is as `mmbind_data.store.lineage.recording_table` returns it.
    """
    for name, module in ((WEIGHTS, model), (CLASSIFIER, classifier)):
        if module is not None:
            state = {
                key: one.detach().cpu().contiguous() for key, one in module.state_dict().items()
            }
            # not save_file, which makes a file that only its owner may read
            (folder / name).write_bytes(save(state))
    pq.write_table(samples.sort_by("uid"), folder / SAMPLES, compression="zstd")
    text = json.dumps(info.model_dump(mode="json"), indent=2) + "\n"
    (folder / RUN).write_text(text, encoding="utf-8")


def load_run(folder: str | Path) -> tuple[RunInfo, AdaptiveModel]:
    """Read a run back; the model gives the outputs that it gave when it was saved.

    Parameters
    ----------
    folder : path
        The output of `train`, or what `evaluate` has saved.

    Returns
    -------
    RunInfo
        The contents of run.json.
    AdaptiveModel
        On the CPU, in evaluation mode.

    Raises
    ------
    FormatError
        There is no run, or one of another specification.
    IntegrityError
        The weights are missing, damaged or of another network.

    Examples
    --------
    >>> import mmbind_train as mt
    >>> info, model = mt.load_run("run")  # doctest: +SKIP
    >>> model.modalities, info.statistics["acc"].mean  # doctest: +SKIP
    (('acc', 'skeleton', 'gyro'), (-5.2, 0.7, 0.3))
    """
    folder = Path(folder)
    try:
        info = RunInfo.model_validate_json((folder / RUN).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        step = "Runs are made by mmbind train."
        raise FormatError(cannot="open a run", **fault_of(error, folder / RUN), fix=step) from error
    model = _network(info)
    _load(model, folder / WEIGHTS)
    return info, model.eval()


def seen_samples(folder: str | Path) -> pa.Table:
    """The samples that a run was trained on, as `recording_table` describes them.

    An IntegrityError if the table is damaged; runs of early releases have none: no rows.
    """
    path = Path(folder) / SAMPLES
    if not path.exists():
        return pa.table({name: pa.array([], pa.string()) for name in COLUMNS})
    return read_table(path)


def load_classifier(folder: str | Path, info: RunInfo) -> Classifier | None:
    """Read the classifier of a run whose ``info`` is from `load_run`; None: it has none.

    Raises
    ------
    IntegrityError
        The weights are missing or damaged.
    """
    if not info.classes:
        return None
    width, n_classes = _network(info).width(info.space), len(info.classes)
    classifier = Classifier(len(info.modalities), width, n_classes, info.config.dropout)
    _load(classifier, Path(folder) / CLASSIFIER)
    return classifier.eval()


def _network(info: RunInfo) -> AdaptiveModel:
    """The run's network with initial weights; the state of torch's generator is kept."""
    with torch.random.fork_rng(devices=[]):
        return AdaptiveModel(info.modalities, info.config.network)


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
