"""Partners by when, or where, samples were taken: for recordings of one event by several devices.

Both functions match in both directions and give what `mmbind_data.matching.match.match` gives: a
partner and a similarity. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from mmbind_data.errors import BindingError
from mmbind_data.matching.candidates import Matches, match_within_groups
from mmbind_data.matching.metric import round_similarity

MICRO = 1_000_000  # times are compared as whole microseconds: equal overlaps are equal
EARTH_RADIUS_M = 6_371_008.8  # mean radius, IUGG
NEVER = np.iinfo(np.int64).max
LISTED_PAIRS = 1 << 18  # overlapping pairs held at a time
# Spans or places of the rows that look for partners, and of those to choose from.
Search = Callable[[np.ndarray, np.ndarray], Matches]


def match_times(
    start_a: np.ndarray,
    end_a: np.ndarray,
    start_b: np.ndarray,
    end_b: np.ndarray,
    *,
    window_s: float,
    group_a: np.ndarray | None = None,
    group_b: np.ndarray | None = None,
) -> tuple[Matches, Matches]:
    """For each sample of A the one of B that was taken at the same time, and the reverse.

    Parameters
    ----------
    start_a, end_a : ndarray, shape (n_a,), seconds
    start_b, end_b : ndarray, shape (n_b,), seconds
        One clock for both sides; end >= start, equal for an instant.
    window_s : float
        How far apart samples that do not overlap may be, >= 0.
    group_a, group_b : ndarray of str or int, shapes (n_a,), (n_b,), optional
        Only samples of equal group are matched, such as subject or session: for clocks that restart
        with each.

    Returns
    -------
    Matches, Matches
        Of A in B (n_a, 1) and of B in A (n_b, 1). The partner is the sample with the largest
        overlap, else the nearest within the window, else -1 (similarity NaN); of equal ones the
        lowest row. Similarity: of an overlap 0.5 + 0.5 * overlap / the longer duration (1: the
        same span), of a distance 0.5 - 0.5 * distance / window_s, so that any overlap counts for
        more than any distance; touching is 0.5.

    Raises
    ------
    BindingError
        A side is empty, or times are not finite, end before they start, or do not fit.

    Notes
    -----
    Found through sorted starts and ends: time grows as n log n, plus one step for each pair of
    samples that overlap.
    Source: MMBind paper, section 7, other shared information.
    """
    a, b = checked_times(start_a, end_a, start_b, end_b, window_s)
    window = round(window_s * MICRO)
    return _match_both_ways(
        (a, b), (group_a, group_b), lambda one, other: _best_spans(one, other, window), "times"
    )


def match_places(
    place_a: np.ndarray,
    place_b: np.ndarray,
    *,
    radius_m: float,
    plane: bool = False,
    group_a: np.ndarray | None = None,
    group_b: np.ndarray | None = None,
) -> tuple[Matches, Matches]:
    """For each sample of A the nearest one of B on the globe or a plane, and the reverse.

    Parameters
    ----------
    place_a : ndarray, shape (n_a, 2), degrees or metres
    place_b : ndarray, shape (n_b, 2), degrees or metres
        Latitude and longitude (WGS 84, taken as a sphere: 0.5 % off at worst); with ``plane`` x and
        y in metres.
    radius_m : float
        Farthest partner in metres, > 0.
    group_a, group_b
        As for `match_times`: for maps of several buildings, or by session.

    Returns
    -------
    Matches, Matches
        Of A in B (n_a, 1) and of B in A (n_b, 1); similarity 1 - distance / radius_m (on the globe
        the great-circle distance); -1 (NaN) where there is none within the radius. Distances are
        compared in whole millimetres; of equal ones the lowest row.

    Raises
    ------
    BindingError
        A side is empty, a place is invalid, or only one side has groups.

    Notes
    -----
    Source: MMBind paper, section 7, other shared information.
    """
    a, b = checked_places(place_a, place_b, radius_m, plane=plane)
    return _match_both_ways(
        (a, b),
        (group_a, group_b),
        lambda one, other: _nearest_places(one, other, radius_m, plane),
        "places",
    )


def checked_times(
    start_a: np.ndarray, end_a: np.ndarray, start_b: np.ndarray, end_b: np.ndarray, window_s: float
) -> tuple[np.ndarray, np.ndarray]:
    """Spans of both sides in whole microseconds, int64, shapes (n_a, 2), (n_b, 2).

    Parameters and errors are those of `match_times`.
    """
    if not window_s >= 0:
        raise _refusal("times", "bad window", "--window", "seconds, 0 or more", repr(window_s))
    return _spans(start_a, end_a, "A"), _spans(start_b, end_b, "B")


def checked_places(
    place_a: np.ndarray, place_b: np.ndarray, radius_m: float, *, plane: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Places of both sides, float64, shapes (n_a, 2), (n_b, 2).

    Parameters and errors are those of `match_places`.
    """
    if not 0 < radius_m < np.inf:
        raise _refusal("places", "bad radius", "--window", "metres, above 0", repr(radius_m))
    return _places(place_a, "A", plane), _places(place_b, "B", plane)


def haversine(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Great-circle distance in metres of places (..., 2): latitude and longitude in degrees."""
    (lat_1, lon_1), (lat_2, lon_2) = (
        np.moveaxis(np.radians(np.asarray(place, dtype=np.float64)), -1, 0)
        for place in (one, other)
    )
    half = (
        np.sin((lat_2 - lat_1) / 2) ** 2
        + np.cos(lat_1) * np.cos(lat_2) * np.sin((lon_2 - lon_1) / 2) ** 2
    )
    return np.asarray(2 * EARTH_RADIUS_M * np.arcsin(np.sqrt(np.clip(half, 0.0, 1.0))))


def _match_both_ways(
    sides: tuple[np.ndarray, np.ndarray],
    groups: tuple[np.ndarray | None, np.ndarray | None],
    search: Search,
    matched: str,
) -> tuple[Matches, Matches]:
    """Search in both directions, within each group."""
    if (groups[0] is None) != (groups[1] is None):
        raise _refusal(matched, "groups", "the two sides", "groups of both or none", "one")
    codes = [
        np.zeros(len(side), dtype=np.int8) if group is None else np.asarray(group)
        for side, group in zip(sides, groups, strict=True)
    ]

    def match_rows(rows_a: np.ndarray, rows_b: np.ndarray) -> tuple[Matches, Matches]:
        a, b = sides[0][rows_a], sides[1][rows_b]
        return search(a, b), search(b, a)

    return match_within_groups(codes[0], codes[1], 1, match_rows)


def _refusal(
    matched: str, problem: str, at: str, expected: str, got: str, fix: str = ""
) -> BindingError:
    return BindingError(
        cannot=f"match {matched}", problem=problem, at=at, expected=expected, got=got, fix=fix
    )


def _spans(start: np.ndarray, end: np.ndarray, side: str) -> np.ndarray:
    """Checked spans in whole microseconds, shape (n, 2), int64."""
    first, last = np.asarray(start, dtype=np.float64), np.asarray(end, dtype=np.float64)
    if first.ndim != 1 or first.shape != last.shape or not len(first):
        got = f"shapes {first.shape} and {last.shape}"
        expected = "a start and an end per sample"
        raise _refusal("times", "bad times", f"side {side}", expected, got)
    bad = ~(np.isfinite(first) & np.isfinite(last) & (last >= first))
    if bad.any():
        row = int(bad.argmax())
        raise _refusal(
            "times",
            "bad times",
            f"side {side}, row {row}",
            "finite seconds, the end not before the start",
            f"{first[row]} to {last[row]}",
            "Leave out rows without times.",
        )
    return np.rint(np.stack([first, last], axis=1) * MICRO).astype(np.int64)


def _best_spans(anchors: np.ndarray, others: np.ndarray, window: int) -> Matches:
    """The best of the other spans for each anchor; see `match_times`."""
    anchors, same_anchor = np.unique(anchors, axis=0, return_inverse=True)
    rows = np.sort(np.unique(others, axis=0, return_index=True)[1])  # of equal spans the lowest
    (start, end), (first, last) = anchors.T, others[rows].T
    overlap = np.full(len(anchors), -NEVER)  # negative: the distance
    chosen = np.full(len(anchors), len(rows))
    for anchor, other in _candidate_spans(anchors, others[rows]):
        found = np.minimum(end[anchor], last[other]) - np.maximum(start[anchor], first[other])
        before = overlap.copy()
        np.maximum.at(overlap, anchor, found)
        chosen[overlap > before] = len(rows)
        best = found == overlap[anchor]
        np.minimum.at(chosen, anchor[best], other[best])
    longer = np.maximum(end - start, last[chosen] - first[chosen])
    equal_instants = (overlap == 0) & (longer == 0)
    share = np.where(equal_instants, 1.0, overlap / np.maximum(longer, 1))
    distance = -overlap / max(window, 1)
    overlapping = (overlap > 0) | equal_instants
    similarity = np.where(overlapping, 0.5 + 0.5 * share, 0.5 - 0.5 * distance)
    partner = np.where(-overlap <= window, rows[chosen], -1)
    return _single(partner[same_anchor], similarity[same_anchor])


def _candidate_spans(
    anchors: np.ndarray, others: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of rows that hold the best of every anchor: its neighbours, and all that it touches.

    The others are taken by length, in powers of two: those of one power that begin more than it
    before an anchor have ended before it, so that a long span costs the short ones nothing.
    """
    (start, end), (first, last) = anchors.T, others.T
    by_start = np.argsort(first, kind="stable")
    by_end = np.lexsort((-np.arange(len(others)), last))  # of equal ends the lowest row comes last
    before = np.searchsorted(last[by_end], start, side="right") - 1
    yield np.flatnonzero(before >= 0), by_end[before[before >= 0]]
    after = np.searchsorted(first[by_start], end, side="left")
    inside = after < len(others)
    yield np.flatnonzero(inside), by_start[after[inside]]
    power = np.frexp(last - first)[1].astype(np.int64)
    for exponent in np.unique(power):
        rows = by_start[power[by_start] == exponent]
        low = np.searchsorted(first[rows], start - (1 << exponent), side="left")
        count = np.searchsorted(first[rows], end, side="right") - low
        blocks = np.flatnonzero(np.diff(np.cumsum(count) // LISTED_PAIRS)) + 1
        for some in np.split(np.arange(len(anchors)), blocks):
            anchor = np.repeat(some, count[some])
            place = np.arange(len(anchor)) - np.searchsorted(anchor, anchor)
            yield anchor, rows[low[anchor] + place]


def _places(place: np.ndarray, side: str, plane: bool) -> np.ndarray:
    table = np.asarray(place, dtype=np.float64)
    fits = table.ndim == 2 and table.shape[1:] == (2,) and len(table) > 0
    inside = np.isfinite(table) if plane else np.abs(table) <= 90.0 * np.arange(1, 3)
    if not fits or not inside.all():
        pair = "finite x and y" if plane else "a latitude (-90 to 90) and a longitude (-180 to 180)"
        got = "others, or none" if fits else f"shape {table.shape}"
        raise _refusal("places", "bad places", f"side {side}", f"{pair} per sample", got)
    return table


def _single(partner: np.ndarray, similarity: np.ndarray) -> Matches:
    """One partner for each row, and its similarity in whole millionths; NaN without partner."""
    value = np.where(partner >= 0, round_similarity(similarity), np.float32(np.nan))
    return Matches(partner[:, None], value[:, None])


def _nearest_places(
    anchors: np.ndarray, others: np.ndarray, radius_m: float, plane: bool
) -> Matches:
    """The nearest of the other places for each anchor; see `match_places`."""
    from scipy.spatial import KDTree

    cartesian, points = (side if plane else _on_sphere(side) for side in (others, anchors))
    tree = KDTree(cartesian)
    chord, _ = tree.query(points)
    # all about as near as the nearest: the exact choice is made among these
    slack = 2e-3 if plane else 2e-3 / EARTH_RADIUS_M
    close = tree.query_ball_point(points, chord * (1 + 1e-9) + slack)
    partner = np.full(len(anchors), -1, dtype=np.int64)
    similarity = np.zeros(len(anchors))
    for row, candidates in enumerate(close):
        rows = np.sort(np.asarray(candidates, dtype=np.int64))
        if plane:
            apart = np.hypot(*(anchors[row] - others[rows]).T)
        else:
            apart = haversine(anchors[row], others[rows])
        millimetres = np.rint(apart * 1e3)
        best = int(millimetres.argmin())
        if millimetres[best] <= radius_m * 1e3:
            partner[row] = rows[best]
            similarity[row] = 1.0 - millimetres[best] / (radius_m * 1e3)
    return _single(partner, similarity)


def _on_sphere(place: np.ndarray) -> np.ndarray:
    lat, lon = np.radians(place).T
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)
