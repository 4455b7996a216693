"""What a user says of data of their own: which files there are, which columns, units and rates.

The descriptor is a JSON document; keys that begin with ``$comment`` are for people and may stand
anywhere. `parse_descriptor` checks it, `as_dataset` gives what is known in mmbind's own words.
"""

from __future__ import annotations

import json
import re
from typing import Any, Literal

from pydantic import Field, JsonValue, ValidationError, model_validator

from .errors import FormatError, problem
from .spec import (
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
from .units import Conversion, conversion

FIELDS = ("subject", "label", "trial", "session", "placement", "environment")
OWN = "the user's own descriptor"
GROUP = re.compile(r"\{([a-z][a-z0-9_]*)\}")
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


class TimeColumn(Model):
    """Where a table or file holds the time of its rows."""

    column: str | int
    unit: str = Field(default="s", description="such as s, ms, us, ns")


class Table(Model):
    """How text tables are written."""

    separator: str = Field(default=",", min_length=1, max_length=1)
    header: bool = True
    skip_lines: int = Field(default=0, ge=0, description="before the header or first row")


class OwnModality(Model):
    """One stream: where its numbers are, and what they mean."""

    kind: Literal["inertial", "signal", "skeleton", "depth_video", "image", "csi"] = "inertial"
    path: str | None = Field(default=None, description="pattern of its files; null: the dataset's")
    columns: tuple[str | int, ...] | None = Field(
        default=None, description="of a table: names, or positions from 0"
    )
    array: str | None = Field(default=None, description="variable of a .mat, entry of an .npz file")
    time_axis: int = Field(default=0, description="of an array: which axis is time")
    shape: tuple[int, ...] | None = Field(
        default=None, description="of one frame; null: as many numbers as columns"
    )
    axes: tuple[str, ...] | None = Field(default=None, description="names of the frame's axes")
    names: tuple[str, ...] | None = Field(default=None, description="of the first axis's entries")
    unit: str = Field(description="as recorded: g, m/s^2, deg/s, uT, mm, 1, ...")
    rate_hz: float | None = Field(default=None, gt=0, description="null: there is a time column")
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
    seconds: float = Field(default=2.0, gt=0)
    step_seconds: float | None = Field(default=None, gt=0, description="null: no overlap")
    rate_hz: float = Field(default=50.0, gt=0)
    max_gap_seconds: float = Field(default=0.1, ge=0, description="longer gaps are not bridged")
    frames: dict[Name, int] = Field(default={}, description="stretch only")


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
    label_column: str | int | None = Field(
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
    def _complete(self) -> OwnDescriptor:
        for name, one in self.modalities.items():
            _check_modality(name, one, self)
        for text in self.patterns.values():
            try:
                compile_pattern(text)
            except re.error as error:
                message = f"path {text!r} is no pattern: {error}"
                raise ValueError(message) from error
        groups = [compile_pattern(text).groupindex for text in self.patterns.values()]
        further = {name for one in groups for name in one} - set(FIELDS)
        for name in self.column_types:
            if name not in further:
                free = ", ".join(sorted(further)) or "none"
                message = f"column_types {name!r}: no further name in a path ({free})"
                raise ValueError(message)
        return self

    @property
    def patterns(self) -> dict[str, str]:
        """Path pattern of each modality."""
        return {name: one.path or self.path or "" for name, one in self.modalities.items()}


def _check_modality(name: str, one: OwnModality, whole: OwnDescriptor) -> None:
    if one.path is None and whole.path is None:
        message = f"modality {name} has no path, and the descriptor has none for all"
        raise ValueError(message)
    if not one.columns and not one.shape:
        message = f"modality {name} needs columns (of a table) or shape (of an array's frame)"
        raise ValueError(message)
    if one.columns and one.shape and _product(one.shape) != len(one.columns):
        message = f"modality {name}: {len(one.columns)} columns do not fill the shape {one.shape}"
        raise ValueError(message)
    axes = one.axes or FRAME_AXES[one.kind]
    if len(axes) != len(one.frame_shape):
        message = f"modality {name}: shape {one.frame_shape}, but axes {', '.join(axes)}"
        raise ValueError(message)
    if whole.windows.mode == "cut" and one.rate_hz is None and one.time is None:
        message = f"modality {name} needs rate_hz or time, so that windows can be cut"
        raise ValueError(message)
    if whole.windows.mode == "stretch" and name not in whole.windows.frames:
        message = f"windows.frames lacks modality {name}"
        raise ValueError(message)
    if not (one.table or whole.table).header and any(
        isinstance(column, str) for column in one.columns or ()
    ):
        message = f"modality {name}: without a header, columns are positions (numbers from 0)"
        raise ValueError(message)


def parse_descriptor(text: str, where: str = "--descriptor") -> OwnDescriptor:
    """Read a user's descriptor.

    Raises
    ------
    FormatError
        No JSON, or a field that does not fit.
    """
    try:
        return OwnDescriptor.model_validate(without_comments(json.loads(text)))
    except ValidationError as error:
        raise FormatError(_sentence(error, where)) from error
    except ValueError as error:
        message = problem("use the descriptor", "broken JSON", where, "a JSON object", str(error))
        raise FormatError(message) from error


def _sentence(error: ValidationError, where: str) -> str:
    """The first of pydantic's findings, in the words of all our messages."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"]) or "its fields"
    text = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    step = "mmbind datasets table shows a whole descriptor, with --json its schema."
    if first["type"] == "missing":
        return problem("use the descriptor", f"no {place}", where, "this field", "none", step)
    if first["type"] == "extra_forbidden":
        return problem("use the descriptor", f"unknown field {place}", where,
                       "a field of the schema", repr(first["input"])[:80], step)  # fmt: skip
    if first["type"] == "value_error":
        return problem("use the descriptor", text, where, "fields that agree", "these", step)
    return problem("use the descriptor", place, where, text, repr(first["input"])[:80], step)


def without_comments(value: Any) -> Any:
    """A JSON value without the keys that begin with ``$comment``, at any depth."""
    if isinstance(value, dict):
        kept = {key: one for key, one in value.items() if not key.startswith("$comment")}
        return {key: without_comments(one) for key, one in kept.items()}
    return [without_comments(one) for one in value] if isinstance(value, list) else value


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

    ``{name}`` stands for text without a slash, ``*`` for any such text, ``**`` for any text; a
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


def conversions(own: OwnDescriptor) -> dict[str, Conversion]:
    """How each modality becomes SI."""
    found = {}
    for name, one in own.modalities.items():
        found[name] = conversion(one.unit, f"modality {name}")
        if one.kind == "inertial" and found[name].unit not in INERTIAL_UNITS:
            expected = "acceleration, angular velocity, magnetic field, angle or a plain number"
            step = 'Say "kind": "signal" for another quantity.'
            message = problem("use the descriptor", f"unit of inertial modality {name}",
                              "--descriptor", expected, one.unit, step)  # fmt: skip
            raise FormatError(message)
    return found


def as_descriptor(own: OwnDescriptor) -> Descriptor:
    """Say a user's descriptor in the words of the built-in datasets.

    Raises
    ------
    FormatError
        An unknown unit.
    """
    windows = own.windows
    modalities = tuple(own.modalities)
    cut = windows.mode == "cut"
    if cut:
        length = {name: round(windows.seconds * windows.rate_hz) for name in modalities}
        step = round((windows.step_seconds or windows.seconds) * windows.rate_hz)
        windowing = Windowing(mode="cut", length=length, step=max(1, step), rate_hz=windows.rate_hz)
    else:
        windowing = Windowing(mode="stretch", length=windows.frames)
    return Descriptor(
        dataset_id=own.dataset_id,
        title=own.title,
        version=own.version,
        homepage=_said(own.homepage),
        citation=_said(own.citation),
        licence=own.licence,
        size=_said("not stated"),
        raw_layout=_said("; ".join(sorted(set(own.patterns.values())))),
        n_subjects=_said(None),
        labels=own.labels,
        labels_source=OWN,
        column_types=own.column_types,
        streams={name: _stream(one, found) for (name, one), found in zip(
            own.modalities.items(), conversions(own).values(), strict=True)},
        presets={"default": Preset(
            summary=f"as {OWN} says", windowing=windowing, modalities=modalities, source=OWN)},
        verified=(),
        unverified=("everything: nobody but the user knows these data",),
        reader_version=1,
    )  # fmt: skip


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
        raw_unit=_said(one.unit),
        unit=found.unit,
        scale=found.scale,
        raw_rate_hz=_said(one.rate_hz),
        channels=tuple(
            Axis.model_validate({"name": axis, "size": size, "names": given})
            for axis, size, given in zip(axes, one.frame_shape, names, strict=True)
        ),
        root=one.root,
    )


def _said(value: JsonValue) -> Fact:
    return Fact(value=value, source=OWN, evidence="claimed")


def _product(shape: tuple[int, ...]) -> int:
    product = 1
    for size in shape:
        product *= size
    return product
