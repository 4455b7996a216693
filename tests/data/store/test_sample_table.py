"""The sample table against a row-by-row oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mmbind_data.errors import FormatError
from mmbind_data.io.digests import sample_uid
from mmbind_data.spec.store import SAMPLE_COLUMNS
from mmbind_data.store.sample_table import COMMON, sample_columns, sample_table


def recording(key: str, spans: list[Any], extra: dict[str, str]) -> dict[str, Any]:
    return {
        "name": ["d", key, "default"],
        "rate": 50.0,
        "spans": spans,
        "common": {name: None if name == "session" else f"{name} of {key}" for name in COMMON},
        "extra": extra,
    }


def test_columns_equal_rows_written_one_by_one() -> None:
    recordings = [
        recording("a", [(0, 100), (50, 150)], {"sex": "f"}),
        recording("b", [None], {"age": "30"}),
        recording("c", [], {"never": "seen"}),
        recording("d", [[100, 200]], {"sex": "m", "age": "41"}),
    ]
    table = sample_table(sample_columns(recordings), np.array([3, 2, 1, -1], dtype=np.int32), {})
    rows: list[dict[str, Any]] = []
    for one in recordings:
        for index, span in enumerate(one["spans"]):
            start, end = span or (None, None)
            text = "whole" if span is None else f"{start}:{end}"
            rows.append(
                {
                    "row": len(rows),
                    "uid": sample_uid("d", one["name"][1], text, "default"),
                    "raw_start": start,
                    "raw_end": end,
                    "t_start": start / 50.0 if start is not None else None,
                    "t_end": end / 50.0 if end is not None else None,
                    "window_index": index,
                    "label": [3, 2, 1, -1][len(rows)],
                    **one["common"],
                    **{name: one["extra"].get(name) for name in ("sex", "age", "never")},
                }
            )
    assert table.to_pylist() == [{name: row[name] for name in table.column_names} for row in rows]
    assert tuple(table.column_names) == (*SAMPLE_COLUMNS, "age", "never", "sex")


@pytest.mark.parametrize("name", SAMPLE_COLUMNS)
def test_a_reader_must_not_replace_a_column_of_ours(name: str) -> None:
    with pytest.raises(FormatError, match=f"a column {name} at a: .*another name"):
        sample_columns([recording("a", [(0, 100)], {"sex": "f", name: "1"})])
