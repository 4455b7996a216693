"""Find partners by the occasion: samples that were taken at the same time, or in the same place."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .bind_options import BindOptions
from .errors import BindingError, UsageError, problem, suggest
from .label_matching import anchor_facts
from .pairs import Rows
from .similarity import Matches
from .time_binding import match_places, match_times

TIME, LOCATION = "time", "location"
# columns that say where a sample was taken: on the globe in degrees, or on a plane in metres
PLACE_COLUMNS = (("lat", "lon"), ("x", "y"))


def groups_of(
    sides: tuple[Rows, Rows], column: str | None
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
            problem("bind", "labels are not read here", "--group-by", "another column",
                    repr(column), step)
        )  # fmt: skip
    codes: dict[str, int] = {}
    found = []
    for number, side in enumerate(sides):
        facts = anchor_facts(side)
        for row in facts:
            if column not in row:
                expected = f"a column of all sample tables, such as {', '.join(sorted(row))}"
                raise UsageError(
                    problem("bind", "no such column", "--group-by", expected, repr(column),
                            suggest(column, row))
                )  # fmt: skip
        values = [row[column] for row in facts]
        if all(value is None for value in values):
            place = ", ".join(str(source.store.path) for source in side.sources)
            raise UsageError(
                problem("bind", f"no sample has a {column}", place, "a column with values",
                        f"--group-by {column}")
            )  # fmt: skip
        unknown = -1 - number
        found.append(
            np.array([
                unknown if value is None else codes.setdefault(str(value), len(codes))
                for value in values
            ])
        )  # fmt: skip
    return found[0], found[1]


def match_by_time(sides: tuple[Rows, Rows], options: BindOptions) -> tuple[Matches, Matches]:
    """Partners that were recorded at the same time.

    Raises
    ------
    BindingError
        A store does not know when its samples were taken.
    """
    groups = groups_of(sides, options.group_by)
    spans = [_times(side, options) for side in sides]
    return match_times(
        *spans[0], *spans[1], window_s=options.window_s, group_a=groups[0], group_b=groups[1]
    )


def _times(side: Rows, options: BindOptions) -> tuple[np.ndarray, np.ndarray]:
    """Seconds at which samples begin and end: of the epoch, or of their recording in a group."""
    facts = anchor_facts(side)
    place = ", ".join(str(source.store.path) for source in side.sources)
    known = all(row.get("t_start") is not None for row in facts)
    absolute = all(row.get("start_ms") not in (None, "") for row in facts)
    if not known or not (absolute or options.group_by):
        got = "none" if not known else "times that count from the begin of each recording"
        step = "" if not known else "Say what recordings have in common: --group-by COLUMN."
        message = problem("bind by time", "unknown times", place, "when each sample was taken", got,
                          step)  # fmt: skip
        raise BindingError(message)
    begin = np.array([float(row["start_ms"]) / 1e3 if absolute else 0.0 for row in facts])
    start = begin + np.array([row["t_start"] for row in facts])
    return start, begin + np.array([row["t_end"] for row in facts])


def match_by_location(
    sides: tuple[Rows, Rows], options: BindOptions
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
    groups = groups_of(sides, options.group_by)
    (place_a, one), (place_b, other) = (places_of(side) for side in sides)
    if one != other:
        stores = " and ".join(str(source.store.path) for source in sides[0].sources)
        raise BindingError(
            problem("bind by location", "places of two sorts", stores,
                    "the same two columns in both", f"{', '.join(one)} and {', '.join(other)}")
        )  # fmt: skip
    found = match_places(
        place_a, place_b, radius_m=options.window_m, plane=one == PLACE_COLUMNS[1],
        group_a=groups[0], group_b=groups[1],
    )  # fmt: skip
    return found, one


def places_of(side: Rows) -> tuple[np.ndarray, tuple[str, str]]:
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
            problem("bind by location", "no number", f"column {column}, sample {row['uid']}",
                    "degrees (lat, lon) or metres (x, y)", repr(value))
        ) from error  # fmt: skip
