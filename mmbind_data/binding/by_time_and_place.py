"""Find partners by the time or the place at which samples were taken."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from mmbind_data.binding.options import BindOptions
from mmbind_data.binding.pairing import BindingStep, PairingMethod, Sides, match_groups
from mmbind_data.embedding.vectors import Embedded
from mmbind_data.errors import BindingError
from mmbind_data.matching.candidates import Matches
from mmbind_data.matching.time_and_place import (
    checked_places,
    checked_times,
    match_places,
    match_times,
)
from mmbind_data.progress import Progress
from mmbind_data.store.pair_table import PairTable

# columns that say where a sample was taken: on the globe in degrees, or on a plane in metres
GLOBE, PLANE = ("lat", "lon"), ("x", "y")


def pair_by_time(
    sides: Sides, shared: str, options: BindOptions, progress: Progress | None = None
) -> BindingStep:
    """Partners that were recorded at the same time.

    Raises
    ------
    BindingError
        A store does not know when its samples were taken.
    """
    del progress
    group_a, group_b = match_groups(sides, options.group_by)
    times_a, times_b = (_times(side, options) for side in sides)
    window = options.window_s
    matches = match_times(*times_a, *times_b, window_s=window, group_a=group_a, group_b=group_b)
    return _step(shared, sides, matches, options, {"window_s": window})


def check_times(sides: Sides, shared: str, options: BindOptions, exact: bool) -> None:
    """Refuse samples whose times are not known; see `PairingMethod.check`."""
    del shared, exact
    match_groups(sides, options.group_by)
    times_a, times_b = (_times(side, options) for side in sides)
    checked_times(*times_a, *times_b, options.window_s)


def _times(side: PairTable, options: BindOptions) -> tuple[np.ndarray, np.ndarray]:
    """Seconds at which samples begin and end: of the epoch, or of their recording in a group."""
    start, end, begin = (side.values(name).tolist() for name in ("t_start", "t_end", "start_ms"))
    known = None not in start
    absolute = not {None, ""} & set(begin)
    if not known or not (absolute or options.group_by):
        raise BindingError(
            cannot="bind by time",
            problem="unknown times",
            at=side.place,
            expected="when each sample was taken",
            got="times that count from the begin of each recording" if known else "none",
            fix="Say what recordings have in common: --group-by COLUMN." if known else "",
        )
    zero = np.array([float(one) / 1e3 for one in begin]) if absolute else np.zeros(len(side))
    return zero + np.array(start), zero + np.array(end)


def pair_by_location(
    sides: Sides, shared: str, options: BindOptions, progress: Progress | None = None
) -> BindingStep:
    """Partners that were recorded nearest by.

    Raises
    ------
    BindingError
        A location that is not a number, or degrees on one side and metres on the other.
    """
    del progress
    group_a, group_b = match_groups(sides, options.group_by)
    places, columns = _common_locations(sides)
    matches = match_places(
        *places, radius_m=options.window_m, plane=columns == PLANE, group_a=group_a, group_b=group_b
    )
    config = {"window_m": options.window_m, "columns": list(columns)}
    return _step(shared, sides, matches, options, config)


def check_locations(sides: Sides, shared: str, options: BindOptions, exact: bool) -> None:
    """Refuse samples whose locations cannot be compared; see `PairingMethod.check`."""
    del shared, exact
    match_groups(sides, options.group_by)
    places, columns = _common_locations(sides)
    checked_places(*places, options.window_m, plane=columns == PLANE)


def _common_locations(sides: Sides) -> tuple[tuple[np.ndarray, np.ndarray], tuple[str, str]]:
    (place_a, columns), (place_b, others) = (locations_of(side) for side in sides)
    if columns != others:
        raise BindingError(
            cannot="bind by location",
            problem="places of two sorts",
            at=sides[0].place,
            expected="the same two columns in both",
            got=f"{', '.join(columns)} and {', '.join(others)}",
        )
    return (place_a, place_b), columns


def locations_of(side: PairTable) -> tuple[np.ndarray, tuple[str, str]]:
    """Where samples were taken, and the columns that say so.

    Returns
    -------
    ndarray, shape (n, 2), float64
        NaN where a sample's location is unknown.
    (str, str)
        ``lat, lon`` (degrees) if any sample has both, else ``x, y`` (metres).

    Raises
    ------
    BindingError
        A text that is not a number.
    """
    for columns in (GLOBE, PLANE):
        places = np.stack([_numbers(side, name) for name in columns], axis=1)
        if np.isfinite(places).all(axis=1).any():
            break
    return places, columns


def _numbers(side: PairTable, column: str) -> np.ndarray:
    """Values of a column that may hold text, NaN where one is missing."""
    values = np.full(len(side), math.nan)
    for row, value in enumerate(side.values(column).tolist()):
        try:
            values[row] = math.nan if value in (None, "") else float(value)
        except ValueError as error:
            raise BindingError(
                cannot="bind by location",
                problem="no number",
                at=f"column {column}, sample {side.anchor_uid[row]}",
                expected="degrees (lat, lon) or metres (x, y)",
                got=repr(value),
            ) from error
    return values


def _step(
    shared: str,
    sides: Sides,
    matches: tuple[Matches, Matches],
    options: BindOptions,
    config: Mapping[str, Any],
) -> BindingStep:
    grouped = {"group_by": options.group_by} if options.group_by else {}
    settings = {"recipe": shared, "metric": shared, "match": "best", "options": grouped}
    nothing = np.empty((0, 0), dtype=np.float32)
    embedded = Embedded(nothing, {"name": shared, **config})
    rule = options.similarity_rule
    return BindingStep(shared, sides, matches, embedded, settings, weight_rule=rule)


BY_TIME = PairingMethod(
    carries=lambda rows, *_: np.ones(len(rows), dtype=bool), check=check_times, pair=pair_by_time
)
BY_LOCATION = PairingMethod(
    carries=lambda rows, *_: np.isfinite(locations_of(rows)[0]).all(axis=1),
    check=check_locations,
    pair=pair_by_location,
)
