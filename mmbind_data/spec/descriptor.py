"""Frozen values that describe a raw dataset, its modalities and its recordings.

The JSON Schemas in schemas/ are generated from them, see `mmbind_data.json_schemas`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

ModalityKind = Literal[
    "inertial", "signal", "skeleton", "image", "depth_video", "point_cloud", "csi", "text"
]
Evidence = Literal["measured", "documented", "claimed"]
Verdict = Literal["allow", "forbid", "unknown"]
ColumnType = Literal["integer", "number"]
AxisName = Literal[
    "time", "channel", "joint", "coordinate", "height", "width", "antenna", "subcarrier", "packet",
    "point",
]  # fmt: skip
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
DatasetId = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")]


class Model(BaseModel):
    """A frozen value whose unknown fields are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Fact(Model):
    """One statement about a dataset and its source."""

    value: JsonValue
    source: str = Field(min_length=1, description="document, file or measurement behind the value")
    evidence: Evidence


class Licence(Model):
    """The terms of use of the data."""

    name: str
    spdx: str | None = None
    redistribution: Verdict = Field(description="may adapted data be passed on?")
    source: str = Field(min_length=1)


class Axis(Model):
    """One axis of an array, after the sample axis."""

    name: AxisName
    size: int = Field(ge=1)
    names: tuple[str, ...] | None = Field(default=None, description="one per index, if they differ")


class Modality(Model):
    """One measured stream as it is stored: shape, unit and rate are fixed.

    A stored point cloud has the axes time and channel: the number of points differs by frame. With
    a fixed number of points it has a point axis between them.
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
        """Give the axes other sizes; an axis that changes loses the names of its indices."""
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
    """An option of the conversion: ``--set name=value``."""

    summary: str
    default: str
    pattern: str = Field(description="regular expression that a value must match in full")


class Checksum(Model):
    """The digest of one file as its dataset distributes it."""

    file: str = Field(description="name of the archive, or canonical path of a file in it")
    algorithm: Literal["md5", "sha1", "sha256", "git-blob"]
    digest: str = Field(pattern=r"^[0-9a-f]+$")
    source: str = Field(min_length=1)


class Descriptor(Model):
    """The facts about a raw dataset, each with its source."""

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
    streams gives no sample, but its counts are reported. ``extra`` are further columns as texts;
    those in ``column_types`` of the descriptor become numbers.
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
