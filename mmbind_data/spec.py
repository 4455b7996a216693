"""The nouns of mmbind as frozen values: what a dataset, a store and a table are made of.

The JSON Schemas in schemas/ are generated from them, see `mmbind_data.documents`.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

DATASET_SPEC = "mmbind-dataset"
BOUND_SPEC = "mmbind-bound"
BUNDLE_SPEC = "mmbind-bundle"
SPEC_VERSION = "1.0"
SAMPLE_COLUMNS = (  # of every sample table; columns of a reader's own come behind
    "row", "uid", "subject", "session", "trial", "placement", "environment", "label",
    "label_text", "raw_file", "raw_start", "raw_end", "t_start", "t_end", "window_index",
)  # fmt: skip
VERSION = r"^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)$"

ModalityKind = Literal[
    "inertial", "signal", "skeleton", "image", "depth_video", "point_cloud", "csi", "text"
]
Evidence = Literal["measured", "documented", "claimed"]
Verdict = Literal["allow", "forbid", "unknown"]
ColumnType = Literal["integer", "number"]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
DatasetId = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")]


class Model(BaseModel):
    """A frozen value whose unknown fields are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Fact(Model):
    """One statement about a dataset and where it comes from."""

    value: JsonValue
    source: str = Field(min_length=1, description="document, file or measurement behind the value")
    evidence: Evidence


class Licence(Model):
    """What the owner of the data allows."""

    name: str
    spdx: str | None = None
    redistribution: Verdict = Field(description="may adapted data be passed on?")
    source: str = Field(min_length=1)


class Axis(Model):
    """One array axis behind the sample axis."""

    name: Literal[
        "time", "channel", "joint", "coordinate", "height", "width",
        "antenna", "subcarrier", "packet", "point",
    ]  # fmt: skip
    size: int = Field(ge=1)
    names: tuple[str, ...] | None = Field(default=None, description="one per index, if they differ")


class Modality(Model):
    """One measured stream as it is stored: shape, unit and rate are fixed.

    Of a point cloud as stored the axes are time and channel: the number of points differs by
    frame. Brought to one number of points it has a point axis between them.
    """

    kind: ModalityKind
    unit: str
    axes: tuple[Axis, ...]
    rate_hz: float | None = Field(default=None, description="null: stretched, no common rate")
    root: str | None = Field(default=None, description="the joint that others are centred on")
    background: float | None = Field(default=None, description="value of pixels without reading")
    classes: int | None = Field(
        default=None, ge=2, description="values are class numbers, 0 to classes - 1"
    )

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample, time first; of a point cloud: frames, numbers per point."""
        return tuple(axis.size for axis in self.axes)

    @property
    def ragged(self) -> bool:
        """Whether the number of points differs from frame to frame."""
        return self.kind == "point_cloud" and all(axis.name != "point" for axis in self.axes)

    def sized(self, shape: tuple[int, ...]) -> Modality:
        """Give the axes other sizes; an axis that changes loses the names of its places."""
        pairs = zip(self.axes, shape, strict=True)
        axes = [a if a.size == n else Axis(name=a.name, size=n) for a, n in pairs]
        return self.model_copy(update={"axes": tuple(axes)})


class RawStream(Model):
    """One modality as it is distributed, and how it becomes SI."""

    kind: ModalityKind
    optional: bool = Field(default=False, description="left out unless asked for by name")
    raw_unit: Fact
    unit: str
    scale: float = Field(description="stored = scale * raw")
    raw_rate_hz: Fact
    channels: tuple[Axis, ...] = Field(
        description="axes behind time; sizes may be changed by an option"
    )
    variants: tuple[tuple[Axis, ...], ...] = Field(
        default=(), description="what an option may make of channels, where names change with it"
    )
    root: str | None = None
    background: float | None = None
    classes: int | None = Field(default=None, ge=2)


class Windowing(Model):
    """How a recording becomes samples.

    ``cut``: consecutive windows of ``length`` frames every ``step`` frames, the rest is dropped.
    ``stretch``: the whole recording resampled to a fixed number of frames per modality.
    ``still``: the recording is one frame, stored without a time axis.
    """

    mode: Literal["cut", "stretch", "still"]
    length: dict[Name, int] = Field(description="frames per sample for each modality")
    step: int | None = Field(default=None, ge=1, description="cut only")
    rate_hz: float | None = Field(default=None, description="cut only: frames per second")


class Preset(Model):
    """A named way to convert a dataset."""

    summary: str
    windowing: Windowing
    modalities: tuple[Name, ...]
    labels: tuple[str, ...] | None = Field(default=None, description="null: all labels")
    placements: tuple[str, ...] | None = Field(default=None, description="null: all placements")
    source: str


class Option(Model):
    """A choice about the conversion that is the user's: ``--set name=value``."""

    summary: str
    default: str
    pattern: str = Field(description="regular expression that a value must match in full")


class Checksum(Model):
    """The digest of one file as it is officially distributed."""

    file: str = Field(description="name of the archive, or canonical path of a file in it")
    algorithm: Literal["md5", "sha1", "sha256", "git-blob"]
    digest: str = Field(pattern=r"^[0-9a-f]+$")
    source: str = Field(min_length=1)


class Descriptor(Model):
    """Everything that is known about a raw dataset, each fact with its source."""

    dataset_id: DatasetId
    title: str
    version: str
    homepage: Fact
    citation: Fact
    licence: Licence
    size: Fact = Field(description="of the download, and unpacked where known")
    raw_layout: Fact
    n_subjects: Fact
    labels: dict[str, str] = Field(description="raw code -> label text, in label order")
    labels_source: str
    streams: dict[Name, RawStream]
    presets: dict[Name, Preset]
    placements: tuple[str, ...] = Field(default=(), description="body positions, if several")
    options: dict[Name, Option] = {}
    column_types: dict[str, ColumnType] = Field(
        default={},
        description="further columns of the sample table that are numbers; the others are text",
    )
    checksums: tuple[Checksum, ...] = ()
    verified: tuple[str, ...] = Field(description="what was checked on real bytes")
    unverified: tuple[str, ...] = Field(description="what was not")
    quirks: tuple[Fact, ...] = ()
    reader_version: int = Field(ge=1, description="raised when the same bytes convert differently")


@dataclass(frozen=True)
class Recording:
    """One raw uninterrupted capture, in SI units, at its native rate.

    ``streams`` maps a modality to an array of shape (n_frames, ...) float32, or to the `Points` of
    n_frames frames; a modality that was not captured is absent from the mapping. ``key`` names the
    recording within its dataset on every machine; ``raw_files`` are the canonical paths of the
    files it was read from. ``gaps`` are the spans of frames, first and one past the last, over
    which nothing was measured: no window may touch one. ``counts`` are remarks for the user, added
    up over all recordings: what was repaired or left out, and how often. A recording without
    streams gives no sample, but its counts are told. ``extra`` are further columns as texts; those
    that the descriptor's ``column_types`` name become numbers, whatever part is converted.
    """

    key: str
    subject: str | None
    label: str | None
    streams: Mapping[str, Any]  # ndarray or Points: readers know which
    raw_files: tuple[str, ...]
    session: str | None = None
    trial: str | None = None
    placement: str | None = None
    environment: str | None = None
    extra: Mapping[str, str] = field(default_factory=dict)
    gaps: tuple[tuple[int, int], ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)


class PartitionInfo(Model):
    """How a node's store was cut out of a converted one."""

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
    """What of the raw data was asked for; null: everything there is."""

    subjects: tuple[str, ...] | None = None
    modalities: tuple[Name, ...] | None = None
    placements: tuple[str, ...] | None = None
    options: dict[Name, str] = {}


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
    n_present: dict[Name, int] = Field(description="samples that carry the modality")
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
            "relative to the folder that holds the bound store, or an address s3://bucket/prefix; "
            "of a published one: the name that its convert command gives it"
        )
    )
    convert: str = Field(description="the command that makes the store anew")
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
    match: Literal["best", "csls", "mutual", "sinkhorn"]
    top_k: int = Field(default=1, ge=1, description="partners per anchor")
    options: dict[Name, JsonValue] = Field(default={}, description="those that are not left out")
    parent_digest: str | None = Field(
        default=None, description="content digest of the bound store that was bound again"
    )
    weight_rule: Literal["minmax_mean1", "raw", "softmax", "none", "shares"] = Field(
        description="shares: the several partners of an anchor share 1 by their similarity; "
        "earlier releases say minmax_mean1 there, too"
    )
    seed: int


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
    reuse: dict[Literal["max", "mean"], float] = Field(description="times a partner is used")
    warnings: tuple[str, ...] = Field(default=(), description="what a user should look at")
    content_digest: str


class Permission(Model):
    """What somebody who owns a source has allowed beyond its licence."""

    source: str = Field(min_length=1, description="a source id of the bound store, or a dataset id")
    granted_by: str = Field(min_length=1, description="who granted it")
    date: datetime.date
    text: str = Field(min_length=1, description="the words of the permission")
    licence: str | None = Field(
        default=None, description="SPDX id under which adapted data may be passed on, if named"
    )


class BundleSource(Model):
    """What a bundle says about the rights of one source."""

    source_id: str
    dataset_id: DatasetId
    dataset_version: str
    licence: Licence
    verdict: Verdict = Field(description="that decided: the licence's, or the permission's")
    permission: str | None = Field(default=None, description="path of the permission, if any")


class BundleInfo(Model):
    """``bundle.json``: what a published folder is. Spec, tool and data have their own versions."""

    spec: Literal["mmbind-bundle"] = "mmbind-bundle"
    spec_version: Literal["1.0"] = "1.0"
    tool_version: str = Field(description="the mmbind that published it")
    data_version: str = Field(
        pattern=VERSION,
        description="PATCH: the same content; MINOR: rows added; MAJOR: rows changed or gone",
    )
    name: str
    mode: Literal["index-only", "self-contained"]
    store: str = Field(description="path of the bound store within the bundle")
    content_digest: str = Field(description="of the bound store, in whatever mode")
    licence: str = Field(description="SPDX id, or LicenseRef-sources: see LICENSES")
    share_alike: bool
    non_commercial: bool
    attribution: bool
    encoder: bool = Field(description="whether the encoder's weights are in it")
    sources: tuple[BundleSource, ...]


class ManifestEntry(Model):
    """One file of a store."""

    path: str
    bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Manifest(Model):
    """``meta/MANIFEST.json``: every file of a store but itself and SHA256SUMS."""

    spec: Literal["mmbind-manifest"] = "mmbind-manifest"
    spec_version: Literal["1.0"] = "1.0"
    files: tuple[ManifestEntry, ...]
    tree_sha256: str = Field(description="sha256 over the lines '<sha256>  <path>' in path order")
