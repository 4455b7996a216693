"""The sample table: one row per sample, composed of the facts about each recording.

It is built column by column: a large dataset has a million rows and a thousand recordings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from mmbind_data.errors import FormatError, RawLayoutError
from mmbind_data.io.digests import sample_uids
from mmbind_data.spec.descriptor import ColumnType
from mmbind_data.spec.store import SAMPLE_COLUMNS

TEXTS = ("subject", "session", "trial", "placement", "environment")
COMMON = (*TEXTS, "label_text", "raw_file")
EXTRA = "extra"
WRITE = "write the sample table"


def sample_columns(recordings: Iterable[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Values of all samples, in order, by column.

    Parameters
    ----------
    recordings : iterable of mapping
        ``name`` (dataset, key and variant, on which the uid depends), ``rate``, ``spans``,
        ``common`` (texts that hold for all of its samples) and ``extra``.

    Returns
    -------
    dict of str to list
        The fixed columns of the table, and those of ``extra`` with the prefix `EXTRA`.

    Raises
    ------
    FormatError
        A reader's own column is named like a fixed one.
    """
    names = (*COMMON, "uid", "raw_start", "raw_end", "t_start", "t_end", "window_index")
    columns: dict[str, list[Any]] = {name: [] for name in names}
    extra: dict[str, list[Any]] = {}
    for recording in recordings:
        (dataset_id, key, variant), rate = recording["name"], recording["rate"]
        spans = recording["spans"]
        n, n_before = len(spans), len(columns["uid"])
        for name in COMMON:
            columns[name] += [recording["common"][name]] * n
        for name in extra.keys() | recording["extra"].keys():
            if name in SAMPLE_COLUMNS:
                what, expected = f"the reader gives a column {name}", "another name in extra"
                fix = f"mmbind writes these itself: {', '.join(SAMPLE_COLUMNS)}."
                raise FormatError(
                    cannot=WRITE, problem=what, at=key, expected=expected, got=name, fix=fix
                )
            before = extra.setdefault(name, [None] * n_before)
            before += [recording["extra"].get(name)] * n
        texts = ["whole" if span is None else f"{span[0]}:{span[1]}" for span in spans]
        columns["uid"] += sample_uids(dataset_id, key, texts, variant)
        for end, side in enumerate(("start", "end")):
            frames = [None if span is None else span[end] for span in spans]
            columns[f"raw_{side}"] += frames
            columns[f"t_{side}"] += [
                frame / rate if rate and frame is not None else None for frame in frames
            ]
        columns["window_index"] += range(n)
    return columns | {EXTRA + name: extra[name] for name in sorted(extra)}


def sample_table(
    columns: Mapping[str, Sequence[Any]], labels: np.ndarray, types: Mapping[str, ColumnType]
) -> pa.Table:
    """The table of ``meta/samples.parquet``.

    Parameters
    ----------
    columns : mapping
        See `sample_columns`.
    labels : ndarray of int32, shape (n_samples,)
        Codes of the labels.
    types : mapping
        Extra columns that are numbers. They are never guessed from the values: a part of the data
        must not have another type than the whole.

    Raises
    ------
    RawLayoutError
        A text that is no such number.
    """
    given = {**columns, "row": range(len(columns["uid"])), "label": labels.tolist()}
    kinds = dict.fromkeys(("row", "raw_start", "raw_end", "window_index"), pa.int64())
    kinds |= {"label": pa.int32(), "t_start": pa.float64(), "t_end": pa.float64()}
    table = {name: column_of(given[name], kinds.get(name, pa.string())) for name in SAMPLE_COLUMNS}
    for name, values in columns.items():
        if name.startswith(EXTRA):
            own = name.removeprefix(EXTRA)
            table[own] = _extra_column(own, values, types.get(own), columns["raw_file"])
    return pa.Table.from_arrays(list(table.values()), names=list(table))


def _extra_column(
    name: str, texts: Sequence[str | None], kind: ColumnType | None, files: Sequence[str]
) -> pa.Array:
    if kind is None:
        return column_of(texts, pa.string())
    parse: Callable[[str], int | float] = {"integer": int, "number": float}[kind]
    found: dict[str | None, int | float | None] = dict.fromkeys(texts)
    for text in found:
        try:
            found[text] = parse(text) if text else None
        except ValueError:
            at, expected = files[texts.index(text)], f"{kind} as in the descriptor's column_types"
            raise RawLayoutError(
                cannot=WRITE, problem=f"column {name}", at=at, expected=expected, got=repr(text)
            ) from None
    types = {"integer": pa.int64(), "number": pa.float64()}
    return column_of([found[text] for text in texts], types[kind])


def column_of(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Column of a table; None is null.

    Composed of buffers, because `pa.array` imports pandas if it is installed: 0.2 s and 45 MB.
    """
    n_null = values.count(None)
    valid = None
    if n_null:
        present = np.array([value is not None for value in values], dtype=bool)
        valid = pa.py_buffer(np.packbits(present, bitorder="little"))
    if pa.types.is_string(kind):
        texts = [value or "" for value in values] if n_null else values
        joined = "".join(texts)
        sizes = map(len, texts if joined.isascii() else (text.encode() for text in texts))
        ends = np.cumsum([0, *sizes], dtype=np.int32)
        contents = [pa.py_buffer(ends), pa.py_buffer(joined.encode())]
    else:
        filled = [0 if value is None else value for value in values] if n_null else values
        contents = [pa.py_buffer(np.array(filled, dtype=kind.to_pandas_dtype()))]
    return pa.Array.from_buffers(kind, len(values), [valid, *contents], n_null)
