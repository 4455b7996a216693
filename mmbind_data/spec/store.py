"""The attributes of a converted and of a bound store."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue

from mmbind_data.spec.descriptor import DatasetId, Licence, Modality, Model, Name

DATASET_SPEC = "mmbind-dataset"
BOUND_SPEC = "mmbind-bound"

TIME, LOCATION = "time", "location"
SPEC_VERSION = "1.0"
SAMPLE_COLUMNS = (  # of every sample table; extra columns of a reader follow
    "row", "uid", "subject", "session", "trial", "placement", "environment", "label",
    "label_text", "raw_file", "raw_start", "raw_end", "t_start", "t_end", "window_index",
)  # fmt: skip
LABEL = "label"


class InputBounds(Model):
    """How large one sample may be when it enters a network; a larger one is reduced."""

    frames: int = Field(
        default=30, ge=8, description="of videos, point clouds and CSI, evenly over the sample"
    )
    points: int = Field(
        default=128, ge=1, description="of a frame of a point cloud, evenly over their order"
    )
    pixels: int = Field(
        default=4800, ge=64, description="of a picture: squares of pixels become one"
    )


class PartitionInfo(Model):
    """How the store of a node was cut out of a converted one."""

    node: str
    parent_digest: str
    subjects: tuple[str, ...] | None
    modalities: tuple[Name, ...]
    dropped: tuple[Name, ...]
    labels: Literal["all", "none"]
    where: dict[str, tuple[str, ...]] | None = Field(
        default=None, description="columns of the sample table and the values that were kept"
    )


class Selection(Model):
    """The part of the raw data that was converted; null: all of it."""

    subjects: tuple[str, ...] | None = None
    modalities: tuple[Name, ...] | None = None
    placements: tuple[str, ...] | None = None
    options: dict[Name, str] = Field(default={})


class DatasetInfo(Model):
    """``attributes.mmbind`` of a converted store's root."""

    spec: Literal["mmbind-dataset"] = "mmbind-dataset"
    spec_version: Literal["1.0"] = "1.0"
    kind: Literal["converted"] = "converted"
    dataset_id: DatasetId
    dataset_version: str
    title: str
    preset: str
    selection: Selection = Selection()
    modalities: dict[Name, Modality]
    n_samples: int = Field(ge=0)
    subjects: dict[str, int] = Field(description="subject -> samples")
    labels: dict[str, int] = Field(description="label -> samples; unlabelled ones are not counted")
    n_present: dict[Name, int] = Field(description="samples that have the modality")
    licence: Licence
    partition: PartitionInfo | None = None
    content_digest: str


class SourceInfo(Model):
    """One store that a bound dataset refers to."""

    source_id: str
    dataset_id: DatasetId
    dataset_version: str
    content_digest: str
    n_samples: int
    modalities: dict[Name, Modality]
    subjects: tuple[str, ...]
    partition: PartitionInfo | None = None
    licence: Licence
    path: str = Field(
        description=(
            "relative to the folder of the bound store, or an address s3://bucket/prefix; "
            "of a published one: the name that its convert command gives it"
        )
    )
    convert: str = Field(description="the command that makes the store again")
    stored_digest: str | None = Field(
        default=None,
        description="content digest of the store that rows point into, if not the one bound",
    )
    sample_digest: str | None = Field(
        default=None, description="digest of the samples that rows name, by uid; once published"
    )

    @property
    def expected_digest(self) -> str:
        """Content digest of the store that row numbers point into."""
        return self.stored_digest or self.content_digest


class BinderInfo(Model):
    """How partners were found."""

    shared: str
    recipe: str
    embedding: dict[str, JsonValue]
    metric: Literal["cosine", "euclidean", "time", "location"]
    match: Literal["best", "csls", "mutual", "sinkhorn", "random"]
    top_k: int = Field(default=1, ge=1, description="partners per anchor")
    options: dict[Name, JsonValue] = Field(default={}, description="those that are not left out")
    parent_digest: str | None = Field(
        default=None, description="content digest of the bound store that was bound again"
    )
    weight_rule: Literal["probability", "minmax_mean1", "raw", "softmax", "none", "shares"] = Field(
        description="probability: that the pair is right; shares: the several partners of an "
        "anchor share 1 by their similarity; earlier releases write minmax_mean1 for it, too"
    )
    seed: int


class PairQuality(Model):
    """How good the pairs are: by labels, where both sides have some in common, and without."""

    first_right: float | None = Field(
        default=None, description="share of first partners with the anchor's label"
    )
    all_right: float | None = Field(
        default=None, description="the same of all partners, by their weights within an anchor"
    )
    chance: float | None = Field(
        default=None, description="the same of partners drawn by lot from the other side"
    )
    first_expected: float | None = Field(
        default=None, description="mean probability that a first partner is right, without labels"
    )
    all_expected: float | None = Field(default=None, description="the same of all partners")
    domain_gap: float | None = Field(
        default=None,
        description="how much farther the other side's nearest sample is than that of other people "
        "of the same side; 1: the sides differ as people differ",
    )


class BoundInfo(Model):
    """``attributes.mmbind`` of a bound store's root."""

    spec: Literal["mmbind-bound"] = "mmbind-bound"
    spec_version: Literal["1.0"] = "1.0"
    kind: Literal["bound"] = "bound"
    mode: Literal["linked", "index-only", "self-contained"]
    shared: tuple[str, ...]
    binder: tuple[BinderInfo, ...]
    sources: tuple[SourceInfo, ...]
    modalities: tuple[Name, ...]
    n_rows: dict[Literal["pseudo", "incomplete", "natural", "mean"], int] = Field(
        description="rows of the table; the mean rows of one anchor are one training sample"
    )
    similarity: dict[Literal["min", "median", "max"], float]
    pairing_accuracy: float | None = Field(description="null where labels are missing")
    quality: PairQuality | None = Field(
        default=None, description="null in stores of earlier releases, which did not measure it"
    )
    reuse: dict[Literal["max", "mean"], float] = Field(description="times a partner is used")
    warnings: tuple[str, ...] = Field(default=(), description="what a user should look at")
    content_digest: str

    @property
    def judged(self) -> bool:
        """Whether the weights of all pairs are the probabilities that they are right."""
        return all(one.weight_rule == "probability" for one in self.binder)
