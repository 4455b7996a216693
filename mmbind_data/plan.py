"""Decide what of a raw dataset is converted, before any of it is parsed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from .datasets import open_dataset
from .errors import RawLayoutError, UsageError, problem, suggest
from .official import official_notes
from .rawfiles import RawListing, Unit, natural, scan
from .spec import Descriptor, Preset, Selection

Value = TypeVar("Value")


@dataclass(frozen=True)
class Plan:
    """What a conversion will do, known before any raw file is parsed."""

    descriptor: Descriptor
    document: str | None
    preset_name: str
    preset: Preset
    modalities: tuple[str, ...]
    selection: Selection
    options: Mapping[str, str]
    listing: RawListing
    units: tuple[Unit, ...]

    @property
    def n_bytes(self) -> int:
        """Raw bytes to read, decompressed."""
        return sum(file.size for unit in self.units for file in unit.files.values())


@dataclass(frozen=True)
class Request:
    """What of a raw dataset is asked for; None stands for all that the preset reads.

    Attributes
    ----------
    preset : str
        A preset of the dataset's descriptor.
    subjects, modalities, placements : tuple of str, optional
        Convert only these.
    options : mapping of str to str
        Choices that the descriptor offers; those left out keep their default.
    document : str, optional
        Text of the user's own descriptor, for dataset ``table``.
    """

    preset: str = "default"
    subjects: tuple[str, ...] | None = None
    modalities: tuple[str, ...] | None = None
    placements: tuple[str, ...] | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    document: str | None = None


def request_of(
    *,
    preset: str = "default",
    subjects: Sequence[str] | None = None,
    modalities: Sequence[str] | None = None,
    placements: Sequence[str] | None = None,
    options: Mapping[str, str] | None = None,
    document: str | None = None,
) -> Request:
    """Build a request from what a caller has at hand; an empty choice stands for none."""

    def frozen(names: Sequence[str] | None) -> tuple[str, ...] | None:
        return tuple(names) if names else None

    chosen = (frozen(subjects), frozen(modalities), frozen(placements))
    return Request(preset, *chosen, options or {}, document)


def plan_conversion(name: str, raw: str | Path, request: Request | None = None) -> Plan:
    """Find the raw files of a dataset and decide what to convert.

    Parameters
    ----------
    name : str
        Dataset id.
    raw : path
        The raw distribution: a folder, or a zip.
    request : Request

    Raises
    ------
    UsageError
        Unknown dataset, preset, modality, subject, placement or option.
    RawLayoutError
        The raw data is missing or not recognised.
    """
    request = request or Request()
    check_request(name, request)
    dataset = open_dataset(name, request.document)
    descriptor = dataset.descriptor
    preset = descriptor.presets[request.preset]
    given = request.options
    options = {key: given.get(key, one.default) for key, one in descriptor.options.items()}
    chosen = tuple(dict.fromkeys(request.modalities or preset.modalities))
    files = scan(Path(raw))
    listing = dataset.find(files, request.preset, **options)
    selected = _select(name, raw, listing, preset, request)
    units = tuple(narrowed for unit in selected if (narrowed := unit.narrowed(chosen)).files)
    if not units:
        raise _nothing_asked_for(name, raw, listing, selected, chosen)
    _check_names(name, units)
    changed = {key: value for key, value in options.items() if key in request.options}
    selection = Selection(
        subjects=request.subjects or None,
        modalities=chosen if request.modalities else None,
        placements=request.placements or None,
        options=changed,
    )
    notes = [*listing.notes, *_narrowed_note(listing, units, request)]
    listing = replace(listing, notes=(*notes, *official_notes(descriptor, files)))
    return Plan(
        descriptor,
        request.document,
        request.preset,
        preset,
        chosen,
        selection,
        options,
        listing,
        units,
    )


def _nothing_asked_for(
    name: str, raw: str | Path, listing: RawListing, units: Sequence[Unit], chosen: Sequence[str]
) -> RawLayoutError:
    """The error where no unit is left; ``units`` are those of the people and places asked for."""
    have = [one for one in listing.modalities if any(unit.narrowed((one,)).files for unit in units)]
    got = f"files of {', '.join(have)}" if have else f"{len(units)} recordings without any"
    if not units:
        got = f"none of these, and {len(listing.units)} other recordings"
    expected = f"files of {', '.join(chosen)} for these labels, subjects and placements"
    what, step = "no raw file of what was asked for", "Ask for less at once, or add those files."
    return RawLayoutError(problem(f"convert {name}", what, raw, expected, got, step))


def _check_names(name: str, units: Sequence[Unit]) -> None:
    """Refuse file names that no document can hold: bytes that are no text."""
    for unit in units:
        for text in (*(file.path for file in unit.files.values()), unit.key):
            try:
                text.encode()
            except UnicodeEncodeError:
                what, step = "a name that is no UTF-8 text", "Rename that file or folder."
                message = problem(f"convert {name}", what, text, "names in UTF-8", repr(text), step)
                raise RawLayoutError(message) from None


def check_request(name: str, request: Request) -> None:
    """Refuse what the dataset's descriptor does not know, before any file is looked at.

    Raises
    ------
    UsageError
        Unknown dataset, preset, modality or option.
    """
    descriptor = open_dataset(name, request.document).descriptor
    preset = _known(request.preset, descriptor.presets, "preset", name)
    for modality in request.modalities or preset.modalities:
        known = preset.windowing.length
        _known(modality, known, "modality", f"{name}, preset {request.preset}")
    for key, value in request.options.items():
        option = _known(key, descriptor.options, "option", f"--set, {descriptor.dataset_id}")
        if re.fullmatch(option.pattern, value) is None:
            where = f"--set {key}={value}"
            raise UsageError(problem("convert", "bad value", where, option.summary, repr(value)))


def _select(
    name: str, raw: str | Path, listing: RawListing, preset: Preset, request: Request
) -> tuple[Unit, ...]:
    """Units that can hold samples that were asked for, as far as their names tell."""
    subjects = {unit.fields["subject"] for unit in listing.units if "subject" in unit.fields}
    worn = {place for unit in listing.units for place in unit.worn}
    for what, wanted, found in (
        ("subject", request.subjects, subjects),
        ("placement", request.placements, worn),
    ):
        for one in wanted or ():
            if one not in found:
                expected = f"one of {', '.join(sorted(found, key=natural)) or 'none'}"
                raise UsageError(
                    problem(f"convert {name}", f"no {what} {one!r}", raw, expected, repr(one))
                )
    places = request.placements or preset.placements
    units = []
    for unit in listing.units:
        if request.subjects and unit.fields.get("subject") not in request.subjects:
            continue
        label = unit.fields.get("label")
        if label is not None and preset.labels is not None and label not in preset.labels:
            continue
        if places is None:
            units.append(unit)
        elif set(unit.worn) & set(places):
            kept = tuple(place for place in unit.placements if place in places)
            units.append(replace(unit, placements=kept))
    return tuple(units)


def _narrowed_note(listing: RawListing, units: Sequence[Unit], request: Request) -> list[str]:
    """How much of what was found is asked for; the reader's own notes are on the whole download."""
    asked = [
        f"{option} {','.join(values)}"
        for option, values in (
            ("--subjects", request.subjects),
            ("--placement", request.placements),
            ("--modalities", request.modalities),
        )
        if values
    ]
    if not asked or len(units) == len(listing.units):
        return []
    return [f"{len(units)} of the {len(listing.units)} found are converted: {', '.join(asked)}"]


def _known(name: str, known: Mapping[str, Value], what: str, where: str) -> Value:
    if name not in known:
        raise UsageError(
            problem("convert", f"unknown {what}", where, "a known one", repr(name),
                    suggest(name, known))
        )  # fmt: skip
    return known[name]
