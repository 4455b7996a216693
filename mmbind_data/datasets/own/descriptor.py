"""The descriptor of a user's own data: which files there are, their columns, units and rates.

The descriptor is a JSON document; keys that begin with ``$comment`` are for people and may stand
anywhere. `parse_descriptor` checks it, `as_dataset` gives what is known in mmbind's own words.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, ValidationError, model_validator

from mmbind_data.datasets.own.units import Conversion, conversion
from mmbind_data.errors import FormatError
from mmbind_data.spec.descriptor import (
    Axis,
    ColumnType,
    DatasetId,
    Descriptor,
    Fact,
    Licence,
    Model,
    Name,
    Preset,
    RawStream,
    Windowing,
)
from mmbind_data.spec.store import SAMPLE_COLUMNS
from mmbind_data.spec.validation_messages import fault_of

FIELDS = ("subject", "label", "trial", "session", "placement", "environment")
OWN = "the user's own descriptor"
DOCUMENT = "the descriptor"
DOING = "use the descriptor"
AXES = ("channel", "joint", "coordinate", "height", "width", "antenna", "subcarrier", "packet")
MAX_FRAMES = 100_000  # of a stretched sample
INERTIAL_UNITS = ("m/s^2", "rad/s", "uT", "rad", "1")
# axes of one frame, where the descriptor names none
FRAME_AXES: dict[str, tuple[str, ...]] = {
    "inertial": ("channel",),
    "signal": ("channel",),
    "skeleton": ("joint", "coordinate"),
    "depth_video": ("height", "width"),
    "image": ("height", "width", "channel"),
    "csi": ("antenna", "subcarrier", "packet"),
}

Position = Annotated[int, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]


class TimeColumn(Model):
    """Where a table or file holds the time of its rows."""

    column: str | Position
    unit: str = Field(default="s", description="such as s, ms, us, ns")


class Table(Model):
    """How text tables are written."""

    separator: str = Field(default=",", pattern=r"^[\t !#$%&'()*,/:;<=>?@\\^_`{|}~\[\]]$")
    header: bool = True
    skip_lines: int = Field(
        default=0, ge=0, le=1_000_000, description="before the header or first row"
    )


class OwnModality(Model):
    """One stream: where its numbers are, and what they mean."""

    kind: Literal["inertial", "signal", "skeleton", "depth_video", "image", "csi"] = "inertial"
    path: str | None = Field(default=None, description="pattern of its files; null: the dataset's")
    columns: tuple[str | Position, ...] | None = Field(
        default=None, description="of a table: names, or positions from 0"
    )
    array: str | None = Field(default=None, description="variable of a .mat, entry of an .npz file")
    time_axis: int = Field(default=0, ge=0, description="of an array: which axis is time")
    shape: tuple[Count, ...] | None = Field(
        default=None, description="of one frame; null: as many numbers as columns"
    )
    axes: tuple[str, ...] | None = Field(default=None, description="names of the frame's axes")
    names: tuple[str, ...] | None = Field(default=None, description="of the first axis's entries")
    unit: str = Field(description="as recorded: g, m/s^2, deg/s, uT, mm, 1, ...")
    rate_hz: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="null: there is a time column"
    )
    time: TimeColumn | None = None
    root: str | None = Field(default=None, description="of a skeleton: the joint to centre on")
    table: Table | None = Field(default=None, description="of its files; null: the dataset's")

    @property
    def frame_shape(self) -> tuple[int, ...]:
        """Shape of one frame."""
        return self.shape or (len(self.columns or ()),)


class OwnWindows(Model):
    """How a recording becomes samples.

    ``cut``: windows of ``seconds`` every ``step_seconds``, all streams on one grid of ``rate_hz``.
    ``stretch``: one sample per recording, each stream resampled to its number of ``frames``.
    """

    mode: Literal["cut", "stretch"] = "cut"
    seconds: float = Field(default=2.0, gt=0, le=1e6)
    step_seconds: float | None = Field(default=None, gt=0, le=1e6, description="null: no overlap")
    rate_hz: float = Field(default=50.0, gt=0, le=1e7)
    max_gap_seconds: float = Field(
        default=0.1, ge=0, allow_inf_nan=False, description="longer gaps are not bridged"
    )
    frames: dict[Name, Annotated[int, Field(ge=1, le=MAX_FRAMES)]] = Field(
        default={}, description="stretch only"
    )


class OwnDescriptor(Model):
    """Everything that mmbind must know of a user's own data."""

    dataset_id: DatasetId
    title: str
    version: str = "1"
    homepage: str = ""
    citation: str = ""
    licence: Licence = Licence(name="none stated", redistribution="unknown", source=OWN)
    path: str | None = Field(
        default=None,
        description="pattern of the files' paths: {subject}/{label}_{trial}.csv; each {name} "
        "becomes a column; a regular expression with named groups does too",
    )
    table: Table = Table()
    modalities: dict[Name, OwnModality] = Field(min_length=1)
    labels: dict[str, str] = Field(default={}, description="raw label -> text; empty: as found")
    label_column: str | Position | None = Field(
        default=None, description="of a table: cuts a recording where its value changes"
    )
    column_types: dict[str, ColumnType] = Field(
        default={}, description="names in path that are numbers; the others are text"
    )
    missing: Literal["refuse", "gap"] = Field(
        default="refuse", description="numbers that are missing: an error, or a gap"
    )
    windows: OwnWindows = OwnWindows()

    @model_validator(mode="after")
    def _consistent(self) -> OwnDescriptor:
        for message in _contradictions(self):
            raise ValueError(message)
        return self

    @property
    def patterns(self) -> dict[str, str]:
        """Path pattern of each modality."""
        return {name: one.path or self.path or "" for name, one in self.modalities.items()}


def _contradictions(own: OwnDescriptor) -> Iterator[str]:
    """What does not fit together in a descriptor, as messages."""
    windows = own.windows
    n_frames = round(windows.seconds * windows.rate_hz)
    if windows.mode == "cut" and n_frames < 1:
        yield (
            f"windows: {windows.seconds:g} s at {windows.rate_hz:g} Hz are {n_frames} frames, "
            "a window needs one at least: raise windows.seconds or windows.rate_hz"
        )
    for name in windows.frames:
        if name not in own.modalities:
            yield f"windows.frames {name!r}: no modality ({', '.join(own.modalities)})"
    for name, one in own.modalities.items():
        yield from _modality_contradictions(name, one, own)
        yield from _frame_contradictions(name, one)
    further: set[str] = set()
    for text in own.patterns.values():
        try:
            further |= set(compile_pattern(text).groupindex) - set(FIELDS)
        except re.error as error:
            yield f"path {text!r} is no pattern: {error}"
    taken = sorted(further & set(SAMPLE_COLUMNS))
    if taken:
        yield f"path: mmbind writes a column {taken[0]} itself, rename that group"
    for name in own.column_types:
        if name not in further:
            free = ", ".join(sorted(further)) or "none"
            yield f"column_types {name!r}: no further name in a path ({free})"


def _frame_contradictions(name: str, one: OwnModality) -> Iterator[str]:
    """Axes, names and a root that do not fit the shape of a frame."""
    axes, n_axes = one.axes or FRAME_AXES[one.kind], len(one.frame_shape)
    if len(axes) != n_axes:
        yield f"modality {name}: shape {one.frame_shape}, but axes {', '.join(axes)}"
    if not set(axes) <= set(AXES) or len(set(axes)) < n_axes:
        these = f"axes {', '.join(axes)}, but each must be another of these: {', '.join(AXES)}"
        yield f"modality {name}: {these}"
    if one.time_axis > n_axes:
        yield f"modality {name}: time_axis {one.time_axis}, but arrays have {n_axes + 1} axes"
    if one.names is not None and len(one.names) != one.frame_shape[0]:
        sizes = f"{len(one.names)} names, but axis {axes[0]} has {one.frame_shape[0]}"
        yield f"modality {name}: {sizes}"
    if one.root is not None and one.root not in (one.names or ()):
        yield f"modality {name}: root {one.root!r} is none of its names"


def _modality_contradictions(name: str, one: OwnModality, own: OwnDescriptor) -> Iterator[str]:
    if one.path is None and own.path is None:
        yield f"modality {name} has no path, and the descriptor has none for all"
    if not one.columns and not one.shape:
        yield f"modality {name} needs columns (of a table) or shape (of an array's frame)"
    if one.columns and one.shape and math.prod(one.shape) != len(one.columns):
        yield f"modality {name}: {len(one.columns)} columns do not fill the shape {one.shape}"
    if own.windows.mode == "cut" and one.rate_hz is None and one.time is None:
        yield f"modality {name} needs rate_hz or time, so that windows can be cut"
    if own.windows.mode == "stretch" and name not in own.windows.frames:
        yield f"windows.frames lacks modality {name}"
    named = any(isinstance(column, str) for column in one.columns or ())
    if named and not (one.table or own.table).header:
        yield f"modality {name}: without a header, columns are positions (numbers from 0)"


def parse_descriptor(text: str, where: str = DOCUMENT) -> OwnDescriptor:
    """Read a user's descriptor; ``where`` is what the text was read from, for messages.

    Raises
    ------
    FormatError
        No JSON, or a field that does not fit.
    """
    try:
        value = without_comments(json.loads(text))
        json.dumps(value, ensure_ascii=False).encode()  # half a character could not be stored
        return OwnDescriptor.model_validate(value)
    except (ValueError, RecursionError) as error:
        step = "Mend that place, or begin anew with mmbind new-dataset NAME --table."
        if isinstance(error, ValidationError):
            step = "mmbind datasets table shows a whole descriptor, with --json its schema."
        raise FormatError(cannot=DOING, **fault_of(error, where), fix=step) from error


def without_comments(value: Any) -> Any:
    """A JSON value without the keys that begin with ``$comment``, at any depth."""
    if isinstance(value, dict):
        kept = {key: one for key, one in value.items() if not key.startswith("$comment")}
        return {key: without_comments(one) for key, one in kept.items()}
    return [without_comments(one) for one in value] if isinstance(value, list) else value


def conversions(own: OwnDescriptor, where: str = DOCUMENT) -> dict[str, Conversion]:
    """How each modality becomes SI; ``where`` is what the descriptor was read from.

    Raises
    ------
    FormatError
        An unknown unit, or one of another quantity.
    """
    found = {}
    for name, one in own.modalities.items():
        found[name] = conversion(one.unit, f"modality {name} in {where}")
        refused = partial(FormatError, cannot=DOING, at=where)
        if one.kind == "inertial" and found[name].unit not in INERTIAL_UNITS:
            raise refused(
                problem=f"unit of inertial modality {name}",
                expected="acceleration, angular velocity, magnetic field, angle or a plain number",
                got=one.unit,
                fix='Say "kind": "signal" for another quantity.',
            )
        if one.time and conversion(one.time.unit, f"time of {name} in {where}").unit != "s":
            raise refused(
                problem=f"unit of the time of {name}",
                expected="s, ms, us, ns or min",
                got=one.time.unit,
                fix="Mend time.unit.",
            )
    return found


def as_descriptor(own: OwnDescriptor, where: str = DOCUMENT) -> Descriptor:
    """Turn a user's descriptor into one like those of the built-in datasets.

    Raises
    ------
    FormatError
        An unknown unit.
    """
    windows = own.windows
    modalities = tuple(own.modalities)
    if windows.mode == "cut":
        length = {name: round(windows.seconds * windows.rate_hz) for name in modalities}
        step = round((windows.step_seconds or windows.seconds) * windows.rate_hz)
        windowing = Windowing(mode="cut", length=length, step=max(1, step), rate_hz=windows.rate_hz)
    else:
        windowing = Windowing(mode="stretch", length=windows.frames)
    summary = f"as {OWN} says"
    preset = Preset(summary=summary, windowing=windowing, modalities=modalities, source=OWN)
    found = conversions(own, where)
    return Descriptor(
        dataset_id=own.dataset_id,
        title=own.title,
        version=own.version,
        homepage=_stated(own.homepage),
        citation=_stated(own.citation),
        licence=own.licence,
        size=_stated("not stated"),
        raw_layout=_stated("; ".join(sorted(set(own.patterns.values())))),
        n_subjects=_stated(None),
        labels=own.labels,
        labels_source=OWN,
        column_types=own.column_types,
        streams={name: _stream(own.modalities[name], one) for name, one in found.items()},
        presets={"default": preset},
        verified=(),
        unverified=("everything: nobody but the user knows these data",),
        reader_version=1,
    )


def _stream(one: OwnModality, found: Conversion) -> RawStream:
    names: list[tuple[str, ...] | None] = [None] * len(one.frame_shape)
    names[0] = one.names
    if one.names is None and len(one.frame_shape) == 1 and one.columns:
        # three of a kind are an axis each, in this order: so own data can be bound with others
        xyz = one.kind == "inertial" and len(one.columns) == 3
        names[0] = tuple("xyz") if xyz else tuple(str(column) for column in one.columns)
    axes = one.axes or FRAME_AXES[one.kind]
    return RawStream(
        kind=one.kind,
        raw_unit=_stated(one.unit),
        unit=found.unit,
        scale=found.scale,
        raw_rate_hz=_stated(one.rate_hz),
        channels=tuple(
            Axis.model_validate({"name": axis, "size": size, "names": given})
            for axis, size, given in zip(axes, one.frame_shape, names, strict=True)
        ),
        root=one.root,
    )


def _stated(value: JsonValue) -> Fact:
    return Fact(value=value, source=OWN, evidence="claimed")


GROUP = re.compile(r"\{([a-z][a-z0-9_]*)\}")


def match_path(pattern: re.Pattern[str], path: str) -> dict[str, str] | None:
    """Groups of a path that a pattern matches, or None.

    The path below the raw folder (the first part of ``path``) must match, or else the whole path,
    or else its end: people point at a folder above or below the one they had in mind.
    """
    parts = path.split("/")
    for start in (1, 0, *range(2, len(parts))):
        match = pattern.fullmatch("/".join(parts[start:]))
        if match is not None:
            return {name: value or "" for name, value in match.groupdict().items()}
    return None


def compile_pattern(text: str) -> re.Pattern[str]:
    """Turn a path pattern into a regular expression; see `match_path`.

    ``{name}`` matches text without a slash, ``*`` for any such text, ``**`` for any text; a
    pattern with ``(?P<`` is a regular expression already.

    >>> match_path(compile_pattern("{subject}/{label}.csv"), "raw/s1/walk.csv")
    {'subject': 's1', 'label': 'walk'}
    """
    if "(?P<" in text:
        return re.compile(text)
    parts, end, seen = [], 0, set()
    for match in GROUP.finditer(text):
        parts.append(_literal(text[end : match.start()]))
        name = match[1]
        parts.append(f"(?P={name})" if name in seen else f"(?P<{name}>[^/]+?)")
        seen.add(name)
        end = match.end()
    return re.compile("".join(parts) + _literal(text[end:]))


def _literal(text: str) -> str:
    return re.escape(text).replace(r"\*\*", ".*").replace(r"\*", "[^/]*")
