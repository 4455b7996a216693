"""Reader of a user's own data: CSV, Parquet, NumPy and MATLAB files, as their descriptor tells."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise

import numpy as np

from mmbind_data.datasets import Dataset
from mmbind_data.decode import (
    Variable,
    bad_file,
    read_content,
    read_csv,
    read_mat,
    read_npy,
    read_rows,
)
from mmbind_data.errors import RawLayoutError, UsageError, problem, suggest
from mmbind_data.grid import bridge, common_grid, gaps_on_grid, interpolate, spans_of
from mmbind_data.own_data import (
    FIELDS,
    OwnDescriptor,
    OwnModality,
    as_descriptor,
    compile_pattern,
    conversions,
    match_path,
    parse_descriptor,
)
from mmbind_data.rawfiles import RawFile, RawListing, Unit, is_document, natural
from mmbind_data.spec import Recording

STEP = "Compare the file with the descriptor."
UNLISTED = "rows whose label the descriptor does not list, left out"
BACKWARDS = "rows whose time does not rise, left out"


@dataclass(frozen=True)
class Stream:
    """One modality of one recording as read: SI values, and seconds where a time was recorded."""

    values: np.ndarray  # (T, *frame), float64, NaN where missing
    times: np.ndarray | None
    labels: np.ndarray | None


@cache
def table_dataset(document: str) -> Dataset:
    """Descriptor and reader for a user's descriptor, given as its text.

    Raises
    ------
    FormatError
        The descriptor is broken.
    """
    own = parse_descriptor(document)
    return Dataset(as_descriptor(own), partial(_find, own), partial(_read, own))


def _find(own: OwnDescriptor, files: Sequence[RawFile], preset: str) -> RawListing:
    """Sort the files into one unit per recording: those that agree in all shared groups."""
    del preset  # there is but one
    patterns = {text: compile_pattern(text) for text in dict.fromkeys(own.patterns.values())}
    found, unknown = _group(files, patterns)
    if not found:
        where = files[0].path.split("/")[0] if files else "the raw folder"
        got = f"{len(files)} files such as {files[0].path}" if files else "no file"
        expected = f"paths that end like {', '.join(patterns)}"
        message = problem(f"convert {own.dataset_id}", "no file of this pattern", where, expected,
                          got, "Mend path in the descriptor.")  # fmt: skip
        raise RawLayoutError(message)
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
    unrecognised = tuple(path for path in unknown if not is_document(path))
    modalities = tuple(
        name for name, text in own.patterns.items() if any(text in unit.files for unit in listed)
    )
    n_files = sum(len(unit.files) for unit in listed)
    notes = [f"{n_files} of {len(files)} files match the descriptor: {len(listed)} recordings"]
    if unlisted:
        names = ", ".join(sorted(set(unlisted), key=natural)[:5])
        notes.append(f"{len(unlisted)} recordings of labels that are not listed, left out: {names}")
    return RawListing(tuple(listed), unrecognised, tuple(notes), modalities)


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
            unknown.append(file.path)
            continue
        text, groups = role
        unit_files, fields = found.setdefault(tuple(groups[name] for name in order), ({}, {}))
        if text in unit_files:
            named = ", ".join(f"{name} {groups[name]}" for name in order) or "no group at all"
            raise bad_file(
                file, f"two files for one recording ({named})", f"one, as {unit_files[text].path}",
                file.path, "Give the pattern another {group} that tells them apart.",
            )  # fmt: skip
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
    for name in modalities:
        if name not in own.modalities:
            message = problem("read", "unknown modality", unit.key, "one of the descriptor's", name)
            raise UsageError(f"{message} {suggest(name, own.modalities)}")
    counts: dict[str, int] = {}
    streams = {
        name: _load(own, name, unit.files[own.patterns[name]], counts)
        for name in modalities
        if own.patterns[name] in unit.files
    }
    if not streams:
        return
    files = {text: file.path for text, file in unit.files.items()}
    used = dict.fromkeys(files[own.patterns[name]] for name in streams)
    known = {name: unit.fields[name] for name in FIELDS if name in unit.fields}
    extra = {name: value for name, value in unit.fields.items() if name not in FIELDS}
    # all segments first: what they count is told with the first recording
    for suffix, label, values, gaps in list(_segments(own, unit, streams, counts)):
        yield Recording(
            key=f"{unit.key}{suffix}",
            subject=known.get("subject"),
            label=label,
            streams=values,
            raw_files=tuple(used),
            session=known.get("session"),
            trial=known.get("trial"),
            placement=known.get("placement"),
            environment=known.get("environment"),
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

    Yields
    ------
    suffix of the key, label, streams (T, *frame) float32, gaps
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
    grid = common_grid(list(times.values()), period)
    if not len(grid):
        return
    gridded = {}
    lost = np.zeros(len(grid), dtype=bool)
    longest = windows.max_gap_seconds
    for name, one in streams.items():
        own_period = float(np.median(np.diff(times[name]))) if len(times[name]) > 1 else period
        flat, _ = bridge(one.values.reshape(len(one.values), -1), round(longest / own_period))
        on_grid = _on_grid(times[name], flat, grid)
        # a stream slower than the longest gap has no gap between two of its own samples
        lost |= gaps_on_grid(times[name], grid, max(longest, 1.5 * own_period))
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
            counts[UNLISTED] = counts.get(UNLISTED, 0) + end - start
            continue
        part = {name: values[start:end] for name, values in streams.items()}
        yield f"/{number}", own.labels.get(raw, raw), part, spans_of(lost[start:end])


def _times(one: OwnModality, stream: Stream) -> np.ndarray:
    """Seconds of each row: as recorded, or counted from 0 at the stated rate."""
    if stream.times is not None:
        return stream.times
    return np.arange(len(stream.values)) / (one.rate_hz or 1.0)


def _on_grid(times: np.ndarray, values: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Interpolate, but keep the very numbers where the grid falls on the samples."""
    n = len(grid)
    if n <= len(times) and np.allclose(times[:n], grid, rtol=0, atol=1e-9):
        return values[:n]
    return interpolate(times, values, grid)


def _load(own: OwnDescriptor, name: str, file: RawFile, counts: dict[str, int]) -> Stream:
    """Read one modality of one file and convert it to SI."""
    one = own.modalities[name]
    ending = file.path.rsplit(".", 1)[-1].lower()
    if ending in ("npy", "npz", "mat"):
        values, times, labels = _load_array(own, one, file, ending), None, None
    else:
        values, times, labels = _load_table(own, one, file, ending)
    if own.missing == "refuse" and not np.isfinite(values).all():
        place = np.argwhere(~np.isfinite(values))[0].tolist()
        step = 'Say "missing": "gap" in the descriptor to leave such spans out.'
        raise bad_file(file, f"missing value of {name}", "a number", f"none at {place}", step)
    found = conversions(own)[name]
    values = found.scale * values + found.offset
    if times is not None:
        rising = np.concatenate([[True], np.diff(np.maximum.accumulate(times)) > 0])
        if not rising.all():
            counts[BACKWARDS] = counts.get(BACKWARDS, 0) + int((~rising).sum())
            values, times = values[rising], times[rising]
            labels = None if labels is None else labels[rising]
        if len(times) < 2:
            raise bad_file(file, "too short", "two rows with rising times", f"{len(times)}", STEP)
    return Stream(values, times, labels)


def _load_array(own: OwnDescriptor, one: OwnModality, file: RawFile, ending: str) -> np.ndarray:
    shape: list[int | None] = list(one.shape or (None,))
    shape.insert(one.time_axis, None)
    variable = Variable(one.array or "array", tuple(shape), "fiu")
    finite = own.missing == "refuse"
    if ending == "mat":
        if one.array is None:
            raise bad_file(file, "no variable named", "array in the descriptor", "none", STEP)
        found = read_mat(file, variable, finite=finite)
    else:
        found = read_npy(file, variable, finite=finite)
    values = np.moveaxis(found, one.time_axis, 0).astype(np.float64)
    if one.columns is not None and one.shape is None:
        columns = [int(column) for column in one.columns]
        if max(columns) >= values.shape[1]:
            raise bad_file(file, "columns", f"{max(columns) + 1}", f"{values.shape[1]}", STEP)
        return values[:, columns]
    return values


def _load_table(
    own: OwnDescriptor, one: OwnModality, file: RawFile, ending: str
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Values (T, *frame), seconds, raw labels."""
    if one.columns is None:
        raise bad_file(file, "no columns named", "columns in the descriptor", "none", STEP)
    wanted: list[str | int] = [*one.columns]
    wanted += [one.time.column] if one.time else []
    # labels stand in the dataset's own files, not in those of a modality with a path of its own
    text = [] if own.label_column is None or one.path is not None else [own.label_column]
    read = _read_parquet if ending == "parquet" else _read_text
    found = read(own, file, wanted, text)
    values = np.stack([found[column] for column in one.columns], axis=1).astype(np.float64)
    values = values.reshape(len(values), *one.frame_shape)
    times = None
    if one.time is not None:
        from mmbind_data.units import conversion

        seconds = conversion(one.time.unit, "time")
        if seconds.unit != "s":
            raise bad_file(file, "unit of time", "s, ms, us or ns", one.time.unit, STEP)
        times = np.asarray(found[one.time.column], dtype=np.float64) * seconds.scale
        if not np.isfinite(times).all():
            row = int(np.argmin(np.isfinite(times)))
            raise bad_file(
                file, "missing time", "a number in every row", f"none in row {row}", STEP
            )
    return values, times, found[text[0]] if text else None


def _read_text(
    own: OwnDescriptor, file: RawFile, columns: Sequence[str | int], text: Sequence[str | int]
) -> dict[str | int, np.ndarray]:
    table = own.table
    missing = own.missing == "gap"
    chosen = list(dict.fromkeys([*columns, *text]))
    if table.header and all(isinstance(column, str) for column in chosen):
        named = [str(column) for column in chosen]
        words = [str(column) for column in text]
        by_name = read_csv(file, named, missing=missing, separator=table.separator, text=words,
                           skip=table.skip_lines)  # fmt: skip
        return {column: by_name[str(column)] for column in chosen}
    lines = read_content(file).split(b"\n", table.skip_lines + 1)
    first = [line.strip(b"\r") for line in lines[table.skip_lines : table.skip_lines + 1]]
    n_columns = first[0].count(table.separator.encode()) + 1 if first else 0
    names: list[str] = []
    if table.header and first:
        names = first[0].decode("utf-8-sig", errors="replace").split(table.separator)
    place = {}
    for column in chosen:
        position = names.index(column) if column in names else column
        if not isinstance(position, int) or not 0 <= position < n_columns:
            raise bad_file(
                file, f"no column {column}", f"{len(chosen)} columns", f"{n_columns}", STEP
            )
        place[column] = position
    skip = table.skip_lines + int(table.header)
    words_at = [place[column] for column in text]
    found = read_rows(file, n_columns, list(place.values()), separator=table.separator, skip=skip,
                      missing=missing, text=words_at)  # fmt: skip
    return {column: found[position] for column, position in place.items()}


def _read_parquet(
    own: OwnDescriptor, file: RawFile, columns: Sequence[str | int], text: Sequence[str | int]
) -> dict[str | int, np.ndarray]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        source = pq.ParquetFile(io.BytesIO(read_content(file)))
        names = source.schema_arrow.names
        chosen = {one: names[one] if isinstance(one, int) else one for one in [*columns, *text]}
        absent = [one for one in chosen.values() if one not in names]
        if absent:
            raise bad_file(file, f"no column {absent[0]}", ", ".join(chosen.values()),
                           ", ".join(names)[:200], STEP)  # fmt: skip
        table = source.read(columns=list(chosen.values()))
        found: dict[str | int, np.ndarray] = {}
        for one, name in chosen.items():
            kind = pa.string() if one in text else pa.float64()
            found[one] = table.column(name).cast(kind).to_numpy(zero_copy_only=False)
        return found
    except (pa.ArrowException, IndexError, OSError) as error:
        raise bad_file(
            file, "unreadable table", "a Parquet file", str(error)[:200], STEP
        ) from error
