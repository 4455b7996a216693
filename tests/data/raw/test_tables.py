"""Errors of text tables are explained in plain words, not in those of Arrow."""

from __future__ import annotations

import pytest
from rawdata.content import held

from mmbind_data.errors import RawLayoutError
from mmbind_data.raw.tables import read_csv, read_numbers, read_rows

NUMBER, WHOLE = "a number in every cell", "a whole number in every cell"
CSV = {
    "short row": (b"a,b\n1,2\n\n1\n", "unreadable row", "2 cells in every row", "1 in row 3"),
    "long row": (b"a,b\n1,2,3\n", "unreadable row", "2 cells in every row", "3 in row 2"),
    "text": (b"a,b\n1,2\n1,x y\n", "unreadable row", NUMBER, "'x y' in row 3, column 2"),
    "quote": (b"a,b\n1,it's\n", "unreadable row", NUMBER, '"it\'s" in row 2, column 2'),
    "blank": (b"a,b\n1,\n", "unreadable row", NUMBER, "nothing in row 2, column 2"),
    "half": (b"a,b\n1.5,2\n", "unreadable row", WHOLE, "'1.5' in row 2, column 1"),
    "only a header": (b"a,b", "no rows", "at least one row of numbers", "none"),
    "long line": (
        b"a,b\n" + b"1" * (3 << 20) + b",2\n",
        "unreadable row",
        "lines of at most 1 MiB",
        "a longer one",
    ),
}


@pytest.mark.parametrize("name", CSV)
def test_fault_of_a_csv(name: str) -> None:
    content, what, expected, got = CSV[name]
    with pytest.raises(RawLayoutError) as caught:
        read_csv(held("a.csv", content), ["a", "b"], integers=["a"])
    sentence = f"cannot read a.csv: {what} at a.csv: expected {expected}, got {got}. Compare"
    assert str(caught.value).startswith(sentence)


def test_text_of_no_encoding() -> None:
    with pytest.raises(RawLayoutError, match="expected text in UTF-8, got other bytes in row 2, "):
        read_csv(held("a.csv", b"a\n\xff\n"), ["a"], text=["a"])


def test_rows_that_are_all_skipped() -> None:
    with pytest.raises(RawLayoutError, match="no rows"):
        read_rows(held("a.csv", b"1 2\n"), 2, [0, 1], skip=5)


def test_word_among_numbers() -> None:
    with pytest.raises(RawLayoutError, match=r"expected rows of 2 numbers, got '0,1' on line 2\."):
        read_numbers(held("a.csv", b"1 2\n3 0,1\n"), 2)
