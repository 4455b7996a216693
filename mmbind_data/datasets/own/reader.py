"""Reader of a user's own data: CSV, Parquet, NumPy and MATLAB files with a descriptor."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, partial
from itertools import pairwise

import numpy as np

from mmbind_data.datasets.own.descriptor import (
    DOCUMENT,
    FIELDS,
    OwnDescriptor,
    OwnModality,
    as_descriptor,
    compile_pattern,
    match_path,
    parse_descriptor,
)
from mmbind_data.datasets.own.files import STEP, Stream, load_stream
from mmbind_data.datasets.reader import DatasetReader, make_recording
from mmbind_data.raw.files import (
    RawFile,
    RawListing,
    Unit,
    bad_file,
    bad_layout,
    is_document,
    natural,
)
from mmbind_data.signal.time_grid import bridge, common_grid, interpolate, spans_of
from mmbind_data.spec.descriptor import Recording

APART = "recordings whose streams have no time in common, left out"
UNLISTED = "rows with label {}, which the descriptor does not list, left out"


@cache
def table_dataset(document: str, where: str = DOCUMENT) -> DatasetReader:
    """Descriptor and reader for a user's descriptor, given as its text.

    ``where`` is what it was read from, for messages.

    Raises
    ------
    FormatError
        The descriptor is broken.
    """
    own = parse_descriptor(document, where)
    return DatasetReader(as_descriptor(own, where), partial(_find, own), partial(_read, own))


def _find(own: OwnDescriptor, files: Sequence[RawFile], preset: str) -> RawListing:
    """Sort the files into one unit per recording: those that agree in all shared groups."""
    del preset  # there is but one
    patterns = {text: compile_pattern(text) for text in dict.fromkeys(own.patterns.values())}
    found, unknown = _group(files, patterns)
    used = {text for roles, _ in found.values() for text in roles}
    absent = {name: text for name, text in own.patterns.items() if text not in used}
    place = files[0].path.split("/")[0] if files else "the raw folder"
    if absent:
        name, text = next(iter(absent.items()))
        what, step = f"no file for modality {name}", "Mend its path, or leave the modality out."
        if not found:
            text, what = ", ".join(patterns), "no file of this pattern"
            step = "Mend path in the descriptor."
        got = f"{len(files)} files such as {files[0].path}" if files else "no file"
        raise bad_layout(own.dataset_id, what, place, f"paths that end like {text}", got, step)
    needed = {
        text: tuple(name for name, own_text in own.patterns.items() if own_text == text)
        for text in patterns
    }
    listed, unlisted = [], []
    for key in sorted(found, key=lambda one: natural("/".join(one))):
        unit_files, groups = found[key]
        if "label" in groups and own.labels:
            if groups["label"] not in own.labels:
                unlisted.append(groups["label"])
                continue
            groups["label"] = own.labels[groups["label"]]
        listed.append(Unit("/".join(key) or "all", unit_files, groups, needed))
    if not listed:
        expected = f"one of the labels {_some(list(own.labels))}"
        got = f"{len(unlisted)} recordings of {_some(unlisted)}"
        step = "Add them to labels in the descriptor."
        what = "no recording of a listed label"
        raise bad_layout(own.dataset_id, what, place, expected, got, step)
    modalities = tuple(
        name for name, text in own.patterns.items() if any(text in unit.files for unit in listed)
    )
    n_files = sum(len(unit.files) for unit in listed)
    notes = [f"{n_files} of {len(files)} files match the descriptor: {len(listed)} recordings"]
    if unlisted:
        notes.append(
            f"{len(unlisted)} recordings of labels that are not listed, left out: {_some(unlisted)}"
        )
    return RawListing(tuple(listed), tuple(unknown), tuple(notes), modalities)


def _some(names: Sequence[str]) -> str:
    """The first five names, each once."""
    known = sorted(set(names), key=natural)
    return ", ".join(known[:5]) + (", ..." if len(known) > 5 else "")


Found = dict[tuple[str, ...], tuple[dict[str, RawFile], dict[str, str]]]


def _group(
    files: Sequence[RawFile], patterns: Mapping[str, re.Pattern[str]]
) -> tuple[Found, list[str]]:
    """Files and groups of each recording, and the paths that no pattern matches."""
    shared = set.intersection(*(set(one.groupindex) for one in patterns.values()))
    order = [name for name in next(iter(patterns.values())).groupindex if name in shared]
    found: Found = {}
    unknown = []
    for file in files:
        role = _role(file.path, patterns)
        if role is None:
            unknown += [] if is_document(file.path) else [file.path]
            continue
        text, groups = role
        unit_files, fields = found.setdefault(tuple(groups[name] for name in order), ({}, {}))
        if text in unit_files:
            named = ", ".join(f"{name} {groups[name]}" for name in order) or "no group at all"
            what = f"two files for one recording ({named})"
            step = "Give the pattern another {group} that tells them apart."
            raise bad_file(file, what, f"one, as {unit_files[text].path}", file.path, step)
        unit_files[text] = file
        fields.update(groups)
    return found, unknown


def _role(path: str, patterns: Mapping[str, re.Pattern[str]]) -> tuple[str, dict[str, str]] | None:
    for text, pattern in patterns.items():
        groups = match_path(pattern, path)
        if groups is not None:
            return text, groups
    return None


def _read(
    own: OwnDescriptor, unit: Unit, modalities: Sequence[str], preset: str
) -> Iterator[Recording]:
    del preset
    counts: dict[str, int] = {}
    streams = {
        name: load_stream(own, name, unit.files[own.patterns[name]], counts)
        for name in modalities
        if own.patterns[name] in unit.files
    }
    if not streams:
        return
    if own.label_column is not None and all(one.labels is None for one in streams.values()):
        file = next(iter(unit.files.values()))
        expected = f"a column {own.label_column} in one of the recording's files"
        raise bad_file(file, "no label column", expected, "none", STEP)
    extra = {name: value for name, value in unit.fields.items() if name not in FIELDS}
    # all segments first: what they count belongs to the first recording, or to an empty one
    segments = list(_segments(own, unit, streams, counts)) or [("", None, {}, ())]
    for suffix, label, values, gaps in segments:
        yield make_recording(
            unit,
            values,
            [unit.files[own.patterns[name]] for name in streams],
            key=suffix,
            label=label,
            extra=extra,
            gaps=gaps,
            counts=counts,
        )
        counts = {}


Segment = tuple[str, str | None, dict[str, np.ndarray], tuple[tuple[int, int], ...]]


def _segments(
    own: OwnDescriptor, unit: Unit, streams: Mapping[str, Stream], counts: dict[str, int]
) -> Iterator[Segment]:
    """Put the streams on one grid and cut them where the label changes.

    Yielded are suffix of the key, label, streams of shape (T, *frame), float32, and gaps.
    """
    windows = own.windows
    if windows.mode == "stretch":
        whole = {name: one.values.astype(np.float32) for name, one in streams.items()}
        for name, values in whole.items():
            if not np.isfinite(values).all():
                file = unit.files[own.patterns[name]]
                step = "Use windows of mode cut, which can leave gaps out."
                raise bad_file(file, "missing values", "numbers only", f"gaps in {name}", step)
        yield "", unit.fields.get("label"), whole, ()
        return
    period = 1.0 / windows.rate_hz
    times = {name: _times(own.modalities[name], one) for name, one in streams.items()}
    places = [unit.files[own.patterns[name]].place for name in times]
    grid = common_grid(list(times.values()), period, places, "s")
    if not len(grid):
        counts[APART] = counts.get(APART, 0) + 1
        return
    gridded = {}
    lost = np.zeros(len(grid), dtype=bool)
    longest = windows.max_gap_seconds
    for name, one in streams.items():
        own_period = float(np.median(np.diff(times[name]))) if len(times[name]) > 1 else period
        if own_period > max(longest, period) * (1 + 1e-6):
            file = unit.files[own.patterns[name]]
            expected = f"at most {max(longest, period):g} s (windows.max_gap_seconds)"
            step = "Is the unit of time right? For a slow sensor raise windows.max_gap_seconds."
            what = f"readings of {name} are far apart"
            raise bad_file(file, what, expected, f"{own_period:g} s", step)
        flat, _ = bridge(one.values.reshape(len(one.values), -1), round(longest / own_period))
        max_gap = max(longest, period) * (1 + 1e-6)
        on_grid, in_gap = _on_grid(times[name], flat, grid, max_gap)
        lost |= in_gap
        lost |= ~np.isfinite(on_grid).all(axis=1)
        gridded[name] = on_grid.reshape(len(grid), *one.values.shape[1:]).astype(np.float32)
    labels = next((one.labels for one in streams.values() if one.labels is not None), None)
    if labels is None:
        yield "", unit.fields.get("label"), gridded, spans_of(lost)
        return
    own_times = next(times[name] for name, one in streams.items() if one.labels is not None)
    at = np.clip(np.searchsorted(own_times, grid + 1e-9, side="right") - 1, 0, None)
    yield from _by_label(own, labels[at], gridded, lost, counts)


def _by_label(
    own: OwnDescriptor,
    labels: np.ndarray,
    streams: Mapping[str, np.ndarray],
    lost: np.ndarray,
    counts: dict[str, int],
) -> Iterator[Segment]:
    edges = [0, *(np.flatnonzero(labels[1:] != labels[:-1]) + 1).tolist(), len(labels)]
    for number, (start, end) in enumerate(pairwise(edges)):
        raw = str(labels[start]).strip()
        if not raw or (own.labels and raw not in own.labels):
            text = UNLISTED.format(repr(raw) if raw else "none")
            counts[text] = counts.get(text, 0) + end - start
            continue
        part = {name: values[start:end] for name, values in streams.items()}
        yield f"/{number}", own.labels.get(raw, raw), part, spans_of(lost[start:end])


def _times(one: OwnModality, stream: Stream) -> np.ndarray:
    """Seconds of each row: as recorded, or counted from 0 at the stated rate."""
    if stream.times is not None:
        return stream.times
    return np.arange(len(stream.values)) / (one.rate_hz or 1.0)


def _on_grid(
    times: np.ndarray, values: np.ndarray, grid: np.ndarray, max_gap: float
) -> tuple[np.ndarray, np.ndarray]:
    """Interpolate, but keep the very numbers where the grid falls on the samples."""
    on_grid, in_gap = interpolate(times, values, grid, max_gap)
    n = len(grid)
    on_samples = n <= len(times) and np.allclose(times[:n], grid, rtol=0, atol=1e-9)
    return values[:n] if on_samples else on_grid, in_gap
