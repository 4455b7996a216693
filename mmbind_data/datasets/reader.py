"""What a dataset's reader is made of, and what the readers share."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmbind_data.raw.files import RawFile, RawListing, Unit, spans
from mmbind_data.spec.descriptor import Descriptor, Recording

TABLE = "table"
# columns of a recording that the names of raw files may give
COLUMNS = ("subject", "label", "session", "trial", "placement", "environment")


@dataclass(frozen=True)
class DatasetReader:
    """What is known about a dataset, and how its raw files are found and read.

    ``find`` and ``read`` get a preset, modalities and options that the descriptor has: whoever
    calls them has checked, see `mmbind_data.conversion.plan.plan_conversion`.
    """

    descriptor: Descriptor
    find: Callable[..., RawListing]
    read: Callable[[Unit, Sequence[str], str], Iterator[Recording]]


@dataclass(frozen=True)
class FrameFile:
    """A file of one modality; ``number`` is None if it holds all frames of a recording."""

    number: int | None
    file: RawFile


def frame_files(unit: Unit, modality: str) -> list[FrameFile]:
    """The files of a unit whose role is a modality, or its name and a number such as ``ir_012``.

    They come in the order of the unit.
    """
    role = re.compile(rf"{modality}(?:[ _]([0-9]+))?")
    found = [(role.fullmatch(text), file) for text, file in unit.files.items()]
    return [FrameFile(int(m[1]) if m[1] else None, file) for m, file in found if m is not None]


def preset_labels(descriptor: Descriptor, preset: str) -> tuple[str, ...]:
    """The labels that a preset keeps; all of the dataset's if it names none."""
    return descriptor.presets[preset].labels or tuple(descriptor.labels.values())


def found_note(units: Sequence[Unit], total: int, what: str, people: str = "subjects") -> str:
    """A remark on how many units of the whole dataset are there, and of whom.

    Subjects are numbers, perhaps with a letter before them.
    """
    numbers = spans(int(unit.fields["subject"].lstrip("S")) for unit in units)
    return f"{len(units)} of {total} {what} found ({people} {numbers})"


def presence_notes(found: Mapping[str, int], total: int, what: str = "") -> list[str]:
    """Remarks on what is not there for every unit.

    ``found`` is what is looked for, and the number of units that have it, of ``total`` in all;
    ``what`` is what a unit is, in the plural.

    >>> presence_notes({"acc": 3, "gyro": 1, "mag": 0}, 3, "trials")
    ['gyro found for 1 of these 3 trials', 'no mag']
    """
    these = f"{total} {what}".strip()
    return [
        f"{name} found for {n} of these {these}" if n else f"no {name}"
        for name, n in found.items()
        if n < total
    ]


def make_recording(
    unit: Unit,
    streams: Mapping[str, Any],
    files: Sequence[RawFile],
    *,
    key: str = "",
    counts: Mapping[str, int] | None = None,
    **further: Any,
) -> Recording:
    """Build a recording of a unit, from the streams and the files that were read for them.

    Fields of the unit that are columns of a recording become these, unless ``further`` gives them.
    ``key`` distinguishes it from other recordings of the unit and is appended to the unit's key.
    Remarks in ``counts`` that apply 0 times are left out.
    """
    fields: dict[str, Any] = {name: unit.fields.get(name) for name in COLUMNS}
    fields |= {"key": f"{unit.key}{key}", "streams": streams, **further}
    fields["raw_files"] = tuple(dict.fromkeys(file.path for file in files))
    fields["counts"] = {text: n for text, n in (counts or {}).items() if n}
    return Recording(**fields)
