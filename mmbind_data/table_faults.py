"""What is wrong with a text table, in a user's words: Arrow tells it in a programmer's."""

from __future__ import annotations

import re

NUMBERS = {"double": "a number", "int64": "a whole number"}
CELLS = re.compile(r"Row #(\d+): Expected (\d+) columns, got (\d+)")
VALUE = re.compile(r"CSV column #(\d+): Row #(\d+): CSV conversion error to (\w+): (.*)", re.DOTALL)
NO_ROWS = ("Empty CSV", "Could not skip initial")
MAX_VALUE = 60  # characters of a cell that are shown


def table_fault(text: str, block_bytes: int) -> tuple[str, str, str]:
    """Tell what, what was expected and what was found from the text of an Arrow error.

    Rows are counted from 1 with the header, blank lines left out.

    >>> table_fault("CSV parse error: Row #3: Expected 4 columns, got 2: 7,8", 1 << 20)
    ('unreadable row', '4 cells in every row', '2 in row 3')
    """
    if match := CELLS.search(text):
        row, expected, got = match.groups()
        return "unreadable row", f"{expected} cells in every row", f"{got} in row {row}"
    if match := VALUE.search(text):
        column, row, kind, rest = match.groups()
        expected = f"{NUMBERS[kind]} in every cell" if kind in NUMBERS else "text in UTF-8"
        value = re.fullmatch(r"invalid value '(.*)'", rest, re.DOTALL)
        cell = "other bytes" if value is None else repr(value[1][:MAX_VALUE])
        cell = "nothing" if cell == "''" else cell
        return "unreadable row", expected, f"{cell} in row {row}, column {int(column) + 1}"
    if any(words in text for words in NO_ROWS):
        return "no rows", "at least one row of numbers", "none"
    if "straddling" in text:
        return "unreadable row", f"lines of at most {block_bytes >> 20} MiB", "a longer one"
    return "unreadable row", "a table of cells", " ".join(text.split())[:200]
