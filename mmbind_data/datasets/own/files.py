"""Read one modality out of a user's own file: CSV, Parquet, NumPy or MATLAB, to SI values."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from mmbind_data.datasets.own.descriptor import OwnDescriptor, OwnModality, Table, conversions
from mmbind_data.datasets.own.units import conversion
from mmbind_data.errors import RawLayoutError
from mmbind_data.raw.arrays import Variable, read_mat, read_npy
from mmbind_data.raw.files import OFFICIAL, RawFile, bad_file, read_content
from mmbind_data.raw.tables import check_once, header_cells, read_csv, read_rows

STEP = "Compare the file with the descriptor."
Column = str | int  # a name, or a position from 0
BACKWARDS = "rows whose time does not rise, left out"


@dataclass(frozen=True)
class Stream:
    """One modality of one recording: SI values, and seconds if a time was recorded."""

    values: np.ndarray  # (T, *frame), float64, NaN where missing
    times: np.ndarray | None
    labels: np.ndarray | None


def load_stream(own: OwnDescriptor, name: str, file: RawFile, counts: dict[str, int]) -> Stream:
    """Read one modality of one file; errors refer to the user's descriptor."""
    try:
        return _load_si(own, name, file, counts)
    except RawLayoutError as error:
        raise error.replaced(OFFICIAL, STEP) from error


def _load_si(own: OwnDescriptor, name: str, file: RawFile, counts: dict[str, int]) -> Stream:
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
            raise bad_file(file, "too short", "two rows with rising times", len(times), STEP)
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
        columns = [column for column in one.columns if isinstance(column, int)]
        if len(columns) < len(one.columns):
            expected, got = "positions: arrays have no column names", "names"
            raise bad_file(file, "columns in the descriptor", expected, got, STEP)
        if max(columns) >= values.shape[1]:
            raise bad_file(file, "columns", f"{max(columns) + 1}", values.shape[1], STEP)
        return values[:, columns]
    return values


def _load_table(
    own: OwnDescriptor, one: OwnModality, file: RawFile, ending: str
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Values (T, *frame), seconds, raw labels."""
    if one.columns is None:
        raise bad_file(file, "no columns named", "columns in the descriptor", "none", STEP)
    wanted: list[Column] = [*one.columns]
    wanted += [one.time.column] if one.time else []
    table = one.table or own.table
    names = _parquet_names(file) if ending == "parquet" else _header(file, table)
    label = own.label_column
    # a file may lack the labels where another one of the recording has them
    carries = label in names if isinstance(label, str) else label is not None and one.path is None
    text = [label] if label is not None and carries else []
    read = _read_parquet if ending == "parquet" else _read_text
    found = read(table, file, wanted, text, missing=own.missing == "gap")
    values = np.stack([found[column] for column in one.columns], axis=1).astype(np.float64)
    values = values.reshape(len(values), *one.frame_shape)
    times = None
    if one.time is not None:
        scale = conversion(one.time.unit, "time").scale  # `conversions` has checked the unit
        times = np.asarray(found[one.time.column], dtype=np.float64) * scale
        if not np.isfinite(times).all():
            got = f"none in row {int(np.argmin(np.isfinite(times)))}"
            raise bad_file(file, "missing time", "a number in every row", got, STEP)
    return values, times, found[text[0]] if text else None


def _header(file: RawFile, table: Table) -> list[str]:
    """Names of a text table's columns; as many empty ones where it has no header."""
    lines = read_content(file).split(b"\n", table.skip_lines + 1)
    line = b"".join(lines[table.skip_lines : table.skip_lines + 1])
    cells = header_cells(file, line, table.separator)
    return cells if table.header else [""] * len(cells)


def _read_text(
    table: Table, file: RawFile, columns: Sequence[Column], text: Sequence[Column], *, missing: bool
) -> dict[Column, np.ndarray]:
    chosen = list(dict.fromkeys([*columns, *text]))
    names = _header(file, table)
    place = {}
    if table.header:
        check_once(file, [column for column in chosen if isinstance(column, str)], names, STEP)
    for column in chosen:
        position = names.index(column) if column in names else column
        if not isinstance(position, int) or not 0 <= position < len(names):
            got = ", ".join(names)[:200] if table.header else f"{len(names)} columns"
            one = f" (separator {table.separator!r} finds one column)" if len(names) == 1 else ""
            expected = ", ".join(str(name) for name in chosen)
            raise bad_file(file, f"no column {column}", expected, got + one, STEP)
        place[column] = position
    if table.header and all(isinstance(column, str) for column in chosen):
        by_name = read_csv(
            file,
            [str(column) for column in chosen],
            separator=table.separator,
            missing=missing,
            text=[str(column) for column in text],
            skip=table.skip_lines,
        )
        return {column: by_name[str(column)] for column in chosen}
    found = read_rows(
        file,
        len(names),
        list(place.values()),
        separator=table.separator,
        skip=table.skip_lines + int(table.header),
        missing=missing,
        text=[place[column] for column in text],
    )
    return {column: found[position] for column, position in place.items()}


def _parquet_names(file: RawFile) -> list[str]:
    import pyarrow.parquet as pq

    with _parquet_errors(file):
        return list(pq.read_schema(io.BytesIO(read_content(file))).names)


def _read_parquet(
    table: Table, file: RawFile, columns: Sequence[Column], text: Sequence[Column], *, missing: bool
) -> dict[Column, np.ndarray]:
    del table, missing  # what is missing is seen in the values
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = _parquet_names(file)
    with _parquet_errors(file):
        chosen = {one: names[one] if isinstance(one, int) else one for one in [*columns, *text]}
        wanted = list(chosen.values())
        absent = [one for one in wanted if one not in names]
        if absent:
            got = ", ".join(names)[:200]
            raise bad_file(file, f"no column {absent[0]}", ", ".join(wanted), got, STEP)
        check_once(file, wanted, names, STEP)
        found = pq.read_table(io.BytesIO(read_content(file)), columns=wanted)
        kinds = {one: pa.string() if one in text else pa.float64() for one in chosen}
        return {
            one: found.column(name).cast(kinds[one]).to_numpy(zero_copy_only=False)
            for one, name in chosen.items()
        }


@contextmanager
def _parquet_errors(file: RawFile) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, IndexError, OSError) as error:
        expected = "a Parquet file"
        raise bad_file(file, "unreadable table", expected, str(error)[:200], STEP) from error
