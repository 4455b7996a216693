"""Find partners by the occasion: samples that were taken at the same time, or in the same place."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mmbind_data.binding.by_label import anchor_facts
from mmbind_data.binding.options import BindOptions
from mmbind_data.errors import BindingError, UsageError, suggest
from mmbind_data.matching.candidates import Matches
from mmbind_data.matching.time_and_place import match_places, match_times
from mmbind_data.store.pair_table import PairTable

# columns that say where a sample was taken: on the globe in degrees, or on a plane in metres
PLACE_COLUMNS = (("lat", "lon"), ("x", "y"))


def match_groups(
    sides: tuple[PairTable, PairTable], column: str | None
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Codes of a metadata column, equal for equal values of both sides; unknown equals nothing.

    Raises
    ------
    UsageError
        No such column in one of the sources, one without any value, or the label's.
    """
    if column is None:
        return None, None
    step = "The label itself can be shared: --shared label."
    if column in ("label", "label_text"):
        raise UsageError(
            cannot="bind",
            problem="labels are not read here",
            at="--group-by",
            expected="another column",
            got=repr(column),
            fix=step,
        )
    codes: dict[str, int] = {}
    found = []
    for number, side in enumerate(sides):
        facts = anchor_facts(side)
        for row in facts:
            if column not in row:
                expected = f"a column of all sample tables, such as {', '.join(sorted(row))}"
                raise UsageError(
                    cannot="bind",
                    problem="no such column",
                    at="--group-by",
                    expected=expected,
                    got=repr(column),
                    fix=suggest(column, row),
                )
        values = [row[column] for row in facts]
        if all(value is None for value in values):
            place = ", ".join(str(source.store.path) for source in side.sources)
            raise UsageError(
                cannot="bind",
                problem=f"no sample has a {column}",
                at=place,
                expected="a column with values",
                got=f"--group-by {column}",
            )
        unknown = -1 - number
        found.append(
            np.array([
                unknown if value is None else codes.setdefault(str(value), len(codes))
                for value in values
            ])
        )  # fmt: skip
    return found[0], found[1]


def match_by_time(
    sides: tuple[PairTable, PairTable], options: BindOptions
) -> tuple[Matches, Matches]:
    """Partners that were recorded at the same time.

    Raises
    ------
    BindingError
        A store does not know when its samples were taken.
    """
    groups = match_groups(sides, options.group_by)
    spans = [_times(side, options) for side in sides]
    return match_times(
        *spans[0], *spans[1], window_s=options.window_s, group_a=groups[0], group_b=groups[1]
    )


def _times(side: PairTable, options: BindOptions) -> tuple[np.ndarray, np.ndarray]:
    """Seconds at which samples begin and end: of the epoch, or of their recording in a group."""
    facts = anchor_facts(side)
    place = ", ".join(str(source.store.path) for source in side.sources)
    known = all(row.get("t_start") is not None for row in facts)
    absolute = all(row.get("start_ms") not in (None, "") for row in facts)
    if not known or not (absolute or options.group_by):
        got = "none" if not known else "times that count from the begin of each recording"
        step = "" if not known else "Say what recordings have in common: --group-by COLUMN."
        raise BindingError(
            cannot="bind by time",
            problem="unknown times",
            at=place,
            expected="when each sample was taken",
            got=got,
            fix=step,
        )
    begin = np.array([float(row["start_ms"]) / 1e3 if absolute else 0.0 for row in facts])
    start = begin + np.array([row["t_start"] for row in facts])
    return start, begin + np.array([row["t_end"] for row in facts])


def match_by_location(
    sides: tuple[PairTable, PairTable], options: BindOptions
) -> tuple[tuple[Matches, Matches], tuple[str, str]]:
    """Partners that were recorded nearest by.

    Returns
    -------
    (Matches, Matches)
    (str, str)
        The columns that told the places.

    Raises
    ------
    BindingError
        A place that is none, or degrees on one side and metres on the other.
    """
    groups = match_groups(sides, options.group_by)
    (place_a, one), (place_b, other) = (locations_of(side) for side in sides)
    if one != other:
        stores = " and ".join(str(source.store.path) for source in sides[0].sources)
        raise BindingError(
            cannot="bind by location",
            problem="places of two sorts",
            at=stores,
            expected="the same two columns in both",
            got=f"{', '.join(one)} and {', '.join(other)}",
        )
    found = match_places(
        place_a, place_b, radius_m=options.window_m, plane=one == PLACE_COLUMNS[1],
        group_a=groups[0], group_b=groups[1],
    )  # fmt: skip
    return found, one


def locations_of(side: PairTable) -> tuple[np.ndarray, tuple[str, str]]:
    """Where samples were taken, and the columns that say so.

    Returns
    -------
    ndarray, shape (n, 2), float64
        NaN where a sample's place is unknown.
    (str, str)
        ``lat, lon`` (degrees) if any sample has both, else ``x, y`` (metres).

    Raises
    ------
    BindingError
        A text that is no number.
    """
    facts = anchor_facts(side)
    for columns in PLACE_COLUMNS:
        places = np.array([[_number(row, name) for name in columns] for row in facts])
        if np.isfinite(places.reshape(-1, 2)).all(axis=1).any():
            break
    return places.reshape(-1, 2), columns


def _number(row: dict[str, Any], column: str) -> float:
    """Value of a column that may be text, NaN where it is missing."""
    value = row.get(column)
    if value in (None, ""):
        return math.nan
    try:
        return float(value)
    except ValueError as error:
        raise BindingError(
            cannot="bind by location",
            problem="no number",
            at=f"column {column}, sample {row['uid']}",
            expected="degrees (lat, lon) or metres (x, y)",
            got=repr(value),
        ) from error
