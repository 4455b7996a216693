"""contract.json: what somebody who has only the exported files must know."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from mmbind_data.integrity import file_digest
from mmbind_data.scale import Recentre, Statistics
from mmbind_data.spec import Modality, Model
from mmbind_data.window import PICKED_KINDS

from .config import Space
from .model import AdaptiveModel
from .runs import RunInfo

Format = Literal["torch", "onnx"]
VALUES, PRESENT = "values", "present"
OUTPUTS = ("features", "embeddings")  # plural: ONNX files have nodes of the singular's name
LOGITS = ("logits",)


class ExportedFile(Model):
    """One file; the first axis of every input and output counts samples, any number of them."""

    file: str
    sha256: str
    inputs: tuple[str, ...] = Field(description="names, in this order")
    outputs: tuple[str, ...] = Field(description="likewise; float32")


class ExportedModality(ExportedFile):
    """How one modality's file wants its input, and what it gives."""

    input_shape: tuple[int, ...] = Field(description="of one sample; float32, behind a batch axis")
    described: Modality = Field(description="kind, unit, rate and axes of that input")
    recentred: Recentre | None = Field(
        default=None, description="done inside the file, skeletons only: relative to the root joint"
    )
    standardised: Statistics | None = Field(
        default=None, description="done inside the file; null: class numbers, taken as they are"
    )
    before: tuple[str, ...] = Field(description="what the caller does before")
    feature_dim: int
    embedding_dim: int


class ExportedClassifier(ExportedFile):
    """The file that turns what any modalities gave into logits."""

    modalities: tuple[str, ...] = Field(
        description="columns of its first input `present`, bool; behind it comes one input each"
    )
    reads: Space = Field(description="which output of the modalities' files those inputs are")
    classes: tuple[str, ...] = Field(description="of the columns of the logits")


class Contract(Model):
    """contract.json: all that a caller of the exported files must know."""

    spec: Literal["mmbind-export"] = "mmbind-export"
    spec_version: Literal["1.0"] = "1.0"
    format: Format
    method: str
    data_digest: str
    modalities: dict[str, ExportedModality]
    presence: tuple[str, ...] | None = Field(
        description="columns of a second input `present`, bool, of each modality's file; null: none"
    )
    absent: str = "Run no file for an absent modality: its feature and embedding are zeros."
    classifier: ExportedClassifier | None
    largest_difference: float = Field(description="between the files and the run, when written")
    versions: dict[str, str]


def describe_modality(
    path: Path, name: str, info: RunInfo, model: AdaptiveModel
) -> ExportedModality:
    """What a caller of one modality's written file must know."""
    modality = info.modalities[name]
    skeleton = modality.kind == "skeleton"
    return ExportedModality(
        file=path.name,
        sha256=file_digest(path),
        inputs=(VALUES, PRESENT) if model.n_prompt else (VALUES,),
        outputs=OUTPUTS,
        input_shape=modality.shape,
        described=modality,
        recentred=info.config.recentre if skeleton else None,
        standardised=None if modality.classes is not None else info.statistics[name],
        before=_before(name, modality, info),
        feature_dim=model.dims[name],
        embedding_dim=model.embedding_dim,
    )


def describe_classifier(path: Path, info: RunInfo, given: tuple[str, ...]) -> ExportedClassifier:
    """What a caller of the written classifier must know."""
    return ExportedClassifier(
        file=path.name,
        sha256=file_digest(path),
        inputs=(PRESENT, *given),
        outputs=LOGITS,
        modalities=given,
        reads=info.space,
        classes=info.classes,
    )


def _before(name: str, modality: Modality, info: RunInfo) -> tuple[str, ...]:
    """What happens to a stored sample in front of the file, as sentences."""
    told = []
    if modality.axes[0].name == "time":
        n, rate = modality.shape[0], modality.rate_hz
        at = "" if rate is None else f" at {rate:g} Hz"
        told.append(f"One sample has {n} frames{at}.")
        picked = modality.kind in PICKED_KINDS
        how = "Take the frames nearest to evenly spaced times" if picked else "Interpolate linearly"
        told += [
            f"{how} where there are other numbers of frames ({key}: {stored} became {used})."
            for key, (stored, used) in info.stretched.items()
            if key.rpartition("/")[2] == name
        ]
    if modality.kind == "point_cloud":
        told.append(
            f"Pad each frame with NaN to {modality.shape[1]} points; of more, take as many, evenly."
        )
    pictures = any(axis.name == "height" for axis in modality.axes)
    if modality.classes is not None:
        told.append(f"Values are class numbers, 0 to {modality.classes - 1}.")
    elif modality.background is not None:
        told.append(f"Pixels without a reading are {modality.background:g}.")
    if pictures:
        what = "Take the middle pixel" if modality.classes is not None else "Take the mean"
        known = " that have a reading" * (modality.background is not None)
        told.append(f"{what} of squares of pixels{known} until the picture has this size.")
    return tuple(told)
