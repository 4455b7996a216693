"""Read tables and documents of raw files: CSV, white space, JSON."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from mmbind_data.raw.files import OFFICIAL, RawFile, bad_file, is_streamed, read_content

BLOCK_BYTES = 1 << 20  # the fastest of those tried
NULLS = ["", "NaN", "nan", "NAN"]
NUMBERS = {"double": "a number", "int64": "a whole number"}
CELLS = re.compile(r"Row #(\d+): Expected (\d+) columns, got (\d+)")
VALUE = re.compile(r"CSV column #(\d+): Row #(\d+): CSV conversion error to (\w+): (.*)", re.DOTALL)
NO_ROWS = ("Empty CSV", "Could not skip initial")
MAX_VALUE = 60  # characters of a cell that are shown


def header_cells(file: RawFile, line: bytes, separator: str) -> list[str]:
    """Split the first line of a table into its cells."""
    text = line.strip(b"\r\n").decode("utf-8-sig", errors="replace")
    try:
        return next(csv.reader([text], delimiter=separator), [])
    except csv.Error as error:
        got = "lone carriage returns" if "\r" in text else "a line that is no row of cells"
        raise bad_file(file, "no line ends", "lines that end with \\n or \\r\\n", got) from error


def read_csv(
    file: RawFile,
    columns: Sequence[str],
    *,
    integers: Sequence[str] = (),
    missing: bool = False,
    separator: str = ",",
    text: Sequence[str] = (),
    skip: int = 0,
) -> dict[str, np.ndarray]:
    """Decode some columns of a text table with a header line; the others are not parsed.

    Names are as the header spells them; an empty name is a name. Columns in ``integers`` and
    ``text`` hold whole numbers and text. Without ``missing`` no cell may be blank, and every number
    must be finite. ``skip`` lines precede the header. Each column is of shape (n_rows,): float64,
    int64 or, for text, object.
    """
    start, source, quoted = _open_text(file, "a header and rows")
    header = header_cells(file, next(islice(io.BytesIO(start), skip, None), b""), separator)
    absent = [name for name in columns if name not in header]
    if absent:
        what = f"no column {absent[0]}" if absent[0] else "no column with an empty name"
        raise bad_file(file, what, ",".join(columns), ",".join(header)[:200])
    check_once(file, columns, header)
    types = {name: pa.int64() if name in integers else pa.float64() for name in columns}
    types |= dict.fromkeys(text, pa.string())
    nulls = NULLS if missing else []
    with source:
        return _decode(file, source, types, nulls, quoted=quoted, separator=separator, skip=skip)


def check_once(
    file: RawFile, wanted: Sequence[str], names: Sequence[str], fix: str = OFFICIAL
) -> None:
    """Refuse a table in which a wanted column occurs twice: its name would be ambiguous."""
    for name in wanted:
        places = [place for place, other in enumerate(names, 1) if other == name]
        if len(places) > 1:
            got = f"it as columns {', '.join(map(str, places))}"
            what = f"column {name or '(no name)'} occurs {len(places)} times"
            raise bad_file(file, what, "each wanted column once", got, fix)


def read_rows(
    file: RawFile,
    n_columns: int,
    columns: Sequence[int],
    *,
    separator: str = " ",
    skip: int = 0,
    missing: bool = False,
    text: Sequence[int] = (),
) -> dict[int, np.ndarray]:
    """Decode some columns, by position from 0, of a text table without a usable header.

    Every row has ``n_columns`` cells with one character between them; ``skip`` lines precede the
    first. ``text``, ``missing`` and the result are as in `read_csv`.
    """
    _, source, quoted = _open_text(file, f"rows of {n_columns} numbers")
    names = [str(position) for position in range(n_columns)]
    types = {str(place): pa.string() if place in text else pa.float64() for place in columns}
    nulls = [""] if missing else []  # NaN is parsed as a number
    with source:
        found = _decode(
            file, source, types, nulls, quoted=quoted, separator=separator, skip=skip, names=names
        )
    return {int(name): values for name, values in found.items()}


def _open_text(file: RawFile, expected: str) -> tuple[bytes, Any, bool]:
    """The first block of a text table, a source of the whole, and whether it holds quotes."""
    if is_streamed(file):
        with suppress(OSError), file.container.open("rb") as stream:
            blocks = iter(lambda: stream.read(BLOCK_BYTES), b"")
            start = next(blocks)
            quoted = b'"' in start or any(b'"' in block for block in blocks)
            return start, pa.OSFile(str(file.container)), quoted
    content = file.read()  # if it could not be opened, the error names the reason
    if not content or content.isspace():
        raise bad_file(file, "empty file", expected, f"{len(content)} bytes")
    return content[:BLOCK_BYTES], pa.BufferReader(content), b'"' in content


def _decode(
    file: RawFile,
    source: Any,
    types: dict[str, Any],
    nulls: list[str],
    *,
    quoted: bool,
    separator: str,
    skip: int,
    names: list[str] | None = None,
) -> dict[str, np.ndarray]:
    """Parse the columns of ``types``; where there are ``nulls``, numbers may be missing."""
    # no threads: workers are processes
    read = pa_csv.ReadOptions(
        use_threads=False, block_size=BLOCK_BYTES, column_names=names, skip_rows=skip
    )
    parse = pa_csv.ParseOptions(delimiter=separator, quote_char='"' if quoted else False)
    options = pa_csv.ConvertOptions(
        include_columns=list(types),
        column_types=types,
        null_values=nulls,
        strings_can_be_null=False,
    )
    try:
        table = pa_csv.read_csv(source, read, parse, options)
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
        raise bad_file(file, *_arrow_fault(str(error))) from error
    if table.num_rows == 0:
        raise bad_file(file, "no rows", "at least one row of numbers", "none")
    header = skip + (names is None)
    return {
        name: np.array(table.column(name).to_pylist(), dtype=object)
        if kind == pa.string()
        else _column(file, table, name, missing=bool(nulls), header=header)
        for name, kind in types.items()
    }


def _column(file: RawFile, table: Any, name: str, *, missing: bool, header: int) -> np.ndarray:
    column = table.column(name)
    if column.null_count:  # then an integer column becomes float, its nulls NaN
        column = column.cast(pa.float64()).fill_null(math.nan)
    # to_numpy would import pandas where there is one, which takes longer than most files
    values = np.from_dlpack(column.combine_chunks())
    if not missing and not (finite := np.isfinite(values)).all():
        row = int(np.argmin(finite))
        what = f"column {name or '(no name)'} on line {row + header + 1}"
        raise bad_file(file, what, "a number", values[row])
    return values


def read_numbers(file: RawFile, n_columns: int, content: bytes | None = None) -> np.ndarray:
    """Decode lines of numbers between blanks or tabs; blank lines are allowed at the end only.

    Returns shape (n_rows, n_columns), float64, all finite. ``content`` is the text, where it is
    not the file's own bytes.
    """
    lines = (read_content(file) if content is None else content).rstrip().splitlines()
    if not lines:
        raise bad_file(file, "no rows", f"rows of {n_columns} numbers", "blanks")
    rows = [line.split() for line in lines]
    for index, row in enumerate(rows):
        if len(row) != n_columns:
            got = f"{len(row)} numbers"
            raise bad_file(file, f"line {index + 1}", f"{n_columns} numbers", got)
    try:
        values = np.array(rows).astype(np.float64)
    except ValueError as error:
        odd = (f"{cell} on line {i}" for i, row in enumerate(rows, 1) for cell in _no_numbers(row))
        got = next(odd, "something else")
        raise bad_file(file, "no number", f"rows of {n_columns} numbers", got) from error
    if not np.isfinite(values).all():
        row, column = np.argwhere(~np.isfinite(values))[0].tolist()
        got = f"{values[row, column]} in column {column + 1}"
        raise bad_file(file, f"missing value on line {row + 1}", "numbers only", got)
    return values


def _no_numbers(cells: Sequence[bytes]) -> Iterator[str]:
    """Cells that are no numbers, as a message shows them."""
    for cell in cells:
        try:
            np.array([cell]).astype(np.float64)
        except ValueError:
            yield repr(cell[:60].decode(errors="replace"))


def read_json(file: RawFile) -> Any:
    """Parse a JSON document in UTF-8, with or without a byte order mark."""
    content = read_content(file)
    try:
        return json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise bad_file(file, "broken JSON", "a JSON document", error) from error


def _arrow_fault(text: str) -> tuple[str, str, str]:
    """What is wrong, what was expected and what was found, from the text of an Arrow error.

    Rows are counted from 1 with the header, blank lines left out.
    """
    what = "unreadable row"
    if match := CELLS.search(text):
        row, expected, got = match.groups()
        return what, f"{expected} cells in every row", f"{got} in row {row}"
    if match := VALUE.search(text):
        column, row, kind, rest = match.groups()
        expected = f"{NUMBERS[kind]} in every cell" if kind in NUMBERS else "text in UTF-8"
        value = re.fullmatch(r"invalid value '(.*)'", rest, re.DOTALL)
        cell = "other bytes" if value is None else repr(value[1][:MAX_VALUE])
        cell = "nothing" if cell == "''" else cell
        return what, expected, f"{cell} in row {row}, column {int(column) + 1}"
    if any(words in text for words in NO_ROWS):
        return "no rows", "at least one row of numbers", "none"
    if "straddling" in text:
        return what, f"lines of at most {BLOCK_BYTES >> 20} MiB", "a longer one"
    return what, "a table of cells", " ".join(text.split())[:200]
