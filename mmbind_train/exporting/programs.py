"""The parts of a run that work without mmbind, from physical units to features and logits.

Letters: n samples, M modalities.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from mmbind_data.io.digests import file_digest
from mmbind_data.signal.normalise import Recentre, Statistics, centre
from mmbind_data.signal.windows import PICKED_KINDS
from mmbind_data.spec.descriptor import Modality, Model
from mmbind_train.config import Space
from mmbind_train.data.batch import standardise
from mmbind_train.networks.model import AdaptiveModel, Classifier
from mmbind_train.training.run_folder import RunInfo

Format = Literal["torch", "onnx"]
VALUES, PRESENT = "values", "present"
OUTPUTS = ("features", "embeddings")  # plural: ONNX files have nodes of the singular's name
LOGITS = ("logits",)


class ModalityPart(nn.Module):
    """Encoder and head of one modality, with what prepares a sample for them.

    The parts of the model are copied.
    """

    outputs = OUTPUTS

    def __init__(self, info: RunInfo, model: AdaptiveModel, name: str) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(model.encoders[name]).cpu().eval()
        self.head = copy.deepcopy(model.head(name)).cpu().eval()
        self.modality, self.statistics = info.modalities[name], info.statistics[name]
        self.recentre = info.config.recentre

    def forward(self, values: Tensor, present: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Features, (n, dim), and embeddings of unit norm, (n, F), from (n, *shape) samples.

        They are in the modality's unit, point clouds padded with NaN. ``present``, (n, M) bool, is
        given if and only if the network has it as an input.
        """
        centred = centre(values, self.modality, self.recentre)
        feature = self.encoder(standardise(centred, self.modality, self.statistics))
        prompted = feature if present is None else torch.cat([feature, present.float()], dim=-1)
        return feature, functional.normalize(self.head(prompted), dim=-1)


class ClassifierPart(nn.Module):
    """From the outputs of the modalities' parts to the logits of the classes.

    The classifier is copied; ``space`` is what it reads, and ``given`` are the modalities in the
    order of the inputs: all others of the model are absent.
    """

    outputs = LOGITS

    def __init__(
        self, model: AdaptiveModel, classifier: Classifier, space: Space, given: tuple[str, ...]
    ) -> None:
        super().__init__()
        self.classifier = copy.deepcopy(classifier).cpu().eval()
        self.columns = [given.index(name) if name in given else None for name in model.modalities]
        self.prompted = model.n_prompt > 0 and space == "feature"
        self.longest = model.width(space) - (model.n_prompt if self.prompted else 0)

    def forward(self, present: Tensor, *read: Tensor) -> Tensor:
        """Logits, shape (n, classes), from the presence of `given`, shape (n, len(given)), bool.

        ``read`` has the feature or embedding, (n, dim), of each of them; absent ones do not count.
        """
        mask, columns = present.float(), []
        nothing = torch.zeros_like(mask[:, :1])
        everybody = torch.cat(
            [nothing if k is None else mask[:, k : k + 1] for k in self.columns], dim=1
        )
        for k in self.columns:
            column = nothing.expand(-1, self.longest)
            if k is not None:
                own = torch.where(present[:, k : k + 1], read[k], 0.0)
                column = functional.pad(own, (0, self.longest - own.shape[1]))
            columns.append(torch.cat([column, everybody], dim=1) if self.prompted else column)
        logits: Tensor = self.classifier(torch.stack(columns, dim=1))
        return logits


class ExportedFile(Model):
    """One file; the first axis of every input and output counts samples, any number of them."""

    file: str
    sha256: str
    inputs: tuple[str, ...] = Field(description="names, in this order")
    outputs: tuple[str, ...] = Field(description="likewise; float32")


class ExportedModality(ExportedFile):
    """The input and the outputs of one modality's file."""

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
    """The file that turns the outputs of any modalities into logits."""

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
    """Describe a modality's written file for its callers."""
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
    """Describe the written classifier for its callers."""
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
    """What happens to a stored sample before the file gets it, as sentences."""
    steps, classes = [], modality.classes
    if modality.axes[0].name == "time":
        at = "" if modality.rate_hz is None else f" at {modality.rate_hz:g} Hz"
        steps.append(f"One sample has {modality.shape[0]} frames{at}.")
        picked = modality.kind in PICKED_KINDS
        how = "Take the frames nearest to evenly spaced times" if picked else "Interpolate linearly"
        steps += [
            f"{how} where there are other numbers of frames ({key}: {stored} became {used})."
            for key, (stored, used) in info.stretched.items()
            if key.rpartition("/")[2] == name
        ]
    if modality.kind == "point_cloud":
        steps.append(
            f"Pad each frame with NaN to {modality.shape[1]} points; of more, take as many, evenly."
        )
    if classes is not None:
        steps.append(f"Values are class numbers, 0 to {classes - 1}.")
    elif modality.background is not None:
        steps.append(f"Pixels without a reading are {modality.background:g}.")
    if any(axis.name == "height" for axis in modality.axes):
        how = "Take the mean" if classes is None else "Take the middle pixel"
        known = " that have a reading" * (modality.background is not None)
        steps.append(f"{how} of squares of pixels{known} until the picture has this size.")
    return tuple(steps)
