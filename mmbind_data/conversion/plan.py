"""Decide what of a raw dataset is converted, before any of it is parsed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from mmbind_data.conversion.checksums import checksum_notes
from mmbind_data.datasets.registry import open_reader
from mmbind_data.errors import RawLayoutError, UsageError, suggest
from mmbind_data.raw.files import RawListing, Unit, bad_layout, natural, scan
from mmbind_data.spec.descriptor import Descriptor, Preset
from mmbind_data.spec.store import Selection

Value = TypeVar("Value")


@dataclass(frozen=True)
class ConversionPlan:
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

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks for the user on what was found."""
        paths = self.listing.unrecognised
        text = f"{len(paths)} files are not part of the dataset and are left aside, e.g. "
        return (*self.listing.notes, *(f"{text}{path}" for path in paths[:1]))


@dataclass(frozen=True)
class ConversionRequest:
    """What of a raw dataset is asked for; the fields are parameters of `convert`.

    None, or no name at all, means everything that the preset reads.
    """

    preset: str = "default"
    subjects: Sequence[str] | None = None
    modalities: Sequence[str] | None = None
    placements: Sequence[str] | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    document: str | None = None


def plan_conversion(
    name: str, raw: str | Path, request: ConversionRequest | None = None
) -> ConversionPlan:
    """Find the raw files of a dataset, in a folder or a zip, and decide what to convert.

    Raises
    ------
    UsageError
        Unknown dataset, preset, modality, subject, placement or option.
    RawLayoutError
        The raw data is missing or not recognised.
    """
    request = request or ConversionRequest()
    check_request(name, request)
    dataset = open_reader(name, request.document)
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
    selection = Selection(
        subjects=tuple(request.subjects or ()) or None,
        modalities=chosen if request.modalities else None,
        placements=tuple(request.placements or ()) or None,
        options={key: value for key, value in options.items() if key in request.options},
    )
    notes = [*listing.notes, *_narrowed_note(listing, units, request)]
    listing = replace(listing, notes=(*notes, *checksum_notes(descriptor, files)))
    return ConversionPlan(
        descriptor=descriptor,
        document=request.document,
        preset_name=request.preset,
        preset=preset,
        modalities=chosen,
        selection=selection,
        options=options,
        listing=listing,
        units=units,
    )


def _nothing_asked_for(
    name: str, raw: str | Path, listing: RawListing, units: Sequence[Unit], chosen: Sequence[str]
) -> RawLayoutError:
    """The error if no unit is left; ``units`` are those of the people and places asked for."""
    have = [one for one in listing.modalities if any(unit.narrowed((one,)).files for unit in units)]
    got = f"files of {', '.join(have)}" if have else f"{len(units)} recordings without any"
    if not units:
        got = f"none of these, and {len(listing.units)} other recordings"
    expected = f"files of {', '.join(chosen)} for these labels, subjects and placements"
    what, step = "no raw file of what was asked for", "Ask for less at once, or add those files."
    return bad_layout(name, what, raw, expected, got, step)


def _check_names(name: str, units: Sequence[Unit]) -> None:
    """Refuse file names that no document can hold: bytes that are no text."""
    for unit in units:
        for text in (*(file.path for file in unit.files.values()), unit.key):
            try:
                text.encode()
            except UnicodeEncodeError:
                what, step = "a name that is no UTF-8 text", "Rename that file or folder."
                raise bad_layout(name, what, text, "names in UTF-8", repr(text), step) from None


def check_request(name: str, request: ConversionRequest) -> None:
    """Refuse what the dataset's descriptor does not know, before any file is looked at.

    Raises
    ------
    UsageError
        Unknown dataset, preset, modality or option.
    """
    descriptor = open_reader(name, request.document).descriptor
    preset = _known(request.preset, descriptor.presets, "preset", name)
    for modality in request.modalities or preset.modalities:
        known = preset.windowing.length
        _known(modality, known, "modality", f"{name}, preset {request.preset}")
    for key, value in request.options.items():
        option = _known(key, descriptor.options, "option", f"--set, {descriptor.dataset_id}")
        if re.fullmatch(option.pattern, value) is None:
            at, got = f"--set {key}={value}", repr(value)
            raise _misuse("bad value", at, option.summary, got)


def _select(
    name: str, raw: str | Path, listing: RawListing, preset: Preset, request: ConversionRequest
) -> tuple[Unit, ...]:
    """Units that can hold samples that were asked for, judging by their names."""
    subjects = {unit.fields["subject"] for unit in listing.units if "subject" in unit.fields}
    worn = {place for unit in listing.units for place in unit.worn}
    for what, names, found in (
        ("subject", request.subjects, subjects),
        ("placement", request.placements, worn),
    ):
        for one in names or ():
            if one not in found:
                expected = f"one of {', '.join(sorted(found, key=natural)) or 'none'}"
                raise _misuse(f"no {what} {one!r}", raw, expected, repr(one), name=name)
    places = request.placements or preset.placements
    units = []
    for unit in listing.units:
        subject, label = unit.fields.get("subject"), unit.fields.get("label")
        if request.subjects and subject not in request.subjects:
            continue
        if label is not None and preset.labels is not None and label not in preset.labels:
            continue
        if places is None:
            units.append(unit)
        elif set(unit.worn) & set(places):
            kept = tuple(place for place in unit.placements if place in places)
            units.append(replace(unit, placements=kept))
    return tuple(units)


def _narrowed_note(
    listing: RawListing, units: Sequence[Unit], request: ConversionRequest
) -> list[str]:
    """How much of what was found is converted; the reader's notes are on the whole download."""
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
        step = suggest(name, known)
        raise _misuse(f"unknown {what}", where, "a known one", repr(name), step)
    return known[name]


def _misuse(
    what: str, at: object, expected: str, got: str, step: str = "", *, name: str = ""
) -> UsageError:
    doing = f"convert {name}".strip()
    return UsageError(cannot=doing, problem=what, at=at, expected=expected, got=got, fix=step)
