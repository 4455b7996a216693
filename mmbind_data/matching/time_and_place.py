"""Partners by when, or where, samples were taken: for recordings of one event by several devices.

Pure. Both functions match both ways and give what similarity gives: a partner and a similarity.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mmbind_data.errors import BindingError
from mmbind_data.matching.candidates import Matches

MICRO = 1_000_000  # times are compared as whole microseconds: equal overlaps are equal
MILLIONTHS = 1e6
EARTH_RADIUS_M = 6_371_008.8  # mean radius, IUGG
NEVER = np.iinfo(np.int64).max


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
        How far apart samples that do not overlap may lie, >= 0.
    group_a, group_b : ndarray of str or int, shapes (n_a,), (n_b,), optional
        Only samples of equal group are matched, such as subject or session: for clocks that begin
        anew with each.

    Returns
    -------
    Matches, Matches
        Of A in B (n_a, 1) and of B in A (n_b, 1). The partner is the sample with the largest
        overlap, else the nearest within the window, else -1 (similarity NaN); of equal ones the
        lowest row. Similarity: of an overlap 0.5 + 0.5 * overlap / the longer duration (1: the
        same span), of a distance 0.5 - 0.5 * distance / window_s, so that any overlap counts for
        more than any nearness; touching is 0.5.

    Raises
    ------
    BindingError
        A side is empty, or times are not finite, end before they start, or do not fit.

    Notes
    -----
    Every sample of the other side lies in one of four quadrants around a span (starts before or
    not, ends after or not), and in each the best is that of a fixed order: four quadrant searches
    of O(n log^2 n), no pair is looked at twice, whatever the overlaps.
    Source: MMBind paper, section 7, other shared information.
    """
    if not window_s >= 0:
        raise BindingError(
            cannot="match times",
            problem="bad window",
            at="--window",
            expected="seconds, 0 or more",
            got=repr(window_s),
        )
    a, b = _spans(start_a, end_a, "A"), _spans(start_b, end_b, "B")
    window = round(window_s * MICRO)
    to_b, to_a = _nobody(len(a)), _nobody(len(b))
    for rows_a, rows_b in _groups(group_a, group_b, (len(a), len(b)), "match times"):
        for found, anchors, others, mine, theirs in (
            (to_b, a, b, rows_a, rows_b),
            (to_a, b, a, rows_b, rows_a),
        ):
            partner, similarity = _best_spans(anchors[mine], others[theirs], window)
            got = partner >= 0
            found.partner[mine[got], 0] = theirs[partner[got]]
            found.similarity[mine[got], 0] = similarity[got]
    return to_b, to_a


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
    plane : bool
    group_a, group_b : ndarray of str or int, shapes (n_a,), (n_b,), optional
        Only samples of equal group are matched: for maps of several buildings, or by session.

    Returns
    -------
    Matches, Matches
        Of A in B (n_a, 1) and of B in A (n_b, 1); similarity 1 - distance / radius_m (on the globe
        the great-circle distance); nobody within the radius: -1 (NaN). Distances are compared in
        whole millimetres; of equal ones the lowest row.

    Raises
    ------
    BindingError
        A side is empty, a place is none, or there are groups of one side alone.

    Notes
    -----
    Source: MMBind paper, section 7, other shared information.
    """
    a, b = _checked_places(place_a, "A", plane), _checked_places(place_b, "B", plane)
    if not 0 < radius_m < np.inf:
        raise BindingError(
            cannot="match places",
            problem="bad radius",
            at="--window",
            expected="metres, above 0",
            got=repr(radius_m),
        )
    to_b, to_a = _nobody(len(a)), _nobody(len(b))
    for rows_a, rows_b in _groups(group_a, group_b, (len(a), len(b)), "match places"):
        for found, anchors, others, mine, theirs in (
            (to_b, a, b, rows_a, rows_b),
            (to_a, b, a, rows_b, rows_a),
        ):
            partner, similarity = _nearest_places(anchors[mine], others[theirs], radius_m, plane)
            got = partner >= 0
            found.partner[mine[got], 0] = theirs[partner[got]]
            found.similarity[mine[got], 0] = similarity[got]
    return to_b, to_a


def _groups(
    group_a: np.ndarray | None, group_b: np.ndarray | None, n: tuple[int, int], doing: str
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows of either side that may be matched with one another."""
    if (group_a is None) != (group_b is None):
        raise BindingError(
            cannot=doing,
            problem="groups",
            at="the two sides",
            expected="groups of both or none",
            got="one",
        )
    codes_a = np.zeros(n[0], dtype=np.int8) if group_a is None else np.asarray(group_a)
    codes_b = np.zeros(n[1], dtype=np.int8) if group_b is None else np.asarray(group_b)
    for group in np.intersect1d(codes_a, codes_b):
        yield np.flatnonzero(codes_a == group), np.flatnonzero(codes_b == group)


def _nobody(n: int) -> Matches:
    return Matches(np.full((n, 1), -1, np.int64), np.full((n, 1), np.nan, np.float32))


def _spans(start: np.ndarray, end: np.ndarray, side: str) -> np.ndarray:
    """Checked spans in whole microseconds, shape (n, 2), int64."""
    first, last = np.asarray(start, dtype=np.float64), np.asarray(end, dtype=np.float64)
    if first.ndim != 1 or first.shape != last.shape or not len(first):
        raise BindingError(
            cannot="match times",
            problem="bad times",
            at=f"side {side}",
            expected="a start and an end per sample",
            got=f"shapes {first.shape} and {last.shape}",
        )
    bad = ~(np.isfinite(first) & np.isfinite(last) & (last >= first))
    if bad.any():
        row = int(bad.argmax())
        raise BindingError(
            cannot="match times",
            problem="bad times",
            at=f"side {side}, row {row}",
            expected="finite seconds, the end not before the start",
            got=f"{first[row]} to {last[row]}",
            fix="Leave out rows without times.",
        )
    return np.rint(np.stack([first, last], axis=1) * MICRO).astype(np.int64)


def _best_spans(
    anchors: np.ndarray, others: np.ndarray, window: int
) -> tuple[np.ndarray, np.ndarray]:
    """Row of the best span for each anchor, -1 for none, and the similarity; see `match_times`."""
    start, end = anchors[:, 0], anchors[:, 1]
    first, last = others[:, 0], others[:, 1]
    found = np.stack(
        [
            # around the anchor: any one, the lowest row
            _quadrant(-first, last, np.zeros_like(first), -start, end),
            # inside it: the longest
            _quadrant(first, -last, first - last, start, -end),
            # from before it, ending within or before: the latest end
            _quadrant(-first, -last, -last, -start, -end),
            # from within or after it: the earliest start
            _quadrant(first, last, first, start, end),
        ]
    )
    begin, stop = first[found], last[found]
    overlap = np.minimum(end, stop) - np.maximum(start, begin)  # negative: the distance
    overlap[found < 0] = -NEVER
    best = overlap.max(axis=0)
    row = np.where(overlap == best, found, len(others)).min(axis=0)
    longer = np.maximum(end - start, last[row] - first[row])
    same = (best == 0) & (longer == 0)  # two equal instants
    share = np.where(same, 1.0, best / np.maximum(longer, 1))
    near = -best / max(window, 1)
    similarity = np.where((best > 0) | same, 0.5 + 0.5 * share, 0.5 - 0.5 * near)
    similarity = np.rint(similarity * MILLIONTHS) / MILLIONTHS
    return np.where(-best <= window, row, -1), similarity.astype(np.float32)


def _quadrant(
    x: np.ndarray, y: np.ndarray, value: np.ndarray, at_x: np.ndarray, at_y: np.ndarray
) -> np.ndarray:
    """For each query the point with x >= at_x and y >= at_y of least (value, row); -1 for none.

    Points lie in order of x; those from a query on fall into blocks, at most one of each power of
    two, counted from the end. In a block, in order of y, the least of all further on is known.
    """
    n = len(x)
    rank = np.empty(n, dtype=np.int64)
    order = np.lexsort((np.arange(n), value))
    rank[order] = np.arange(n)
    by_x = np.argsort(-x, kind="stable")  # descending: a query wants the first m points
    wanted = n - np.searchsorted(x[by_x][::-1], at_x, side="left")
    heights, height = np.unique(y[by_x], return_inverse=True)
    low = np.searchsorted(heights, at_y, side="left")  # first height that is high enough
    best = np.full(len(at_x), n, dtype=np.int64)
    span = len(heights) + 1
    for power in range(n.bit_length()):
        size = 1 << power
        block = np.arange(n) // size
        key = block * span + height
        within = np.argsort(key, kind="stable")
        least = _least_onwards(rank[by_x][within], block[within], n)
        # the block of this size that ends the query's first m points, if m has that bit
        asks = np.flatnonzero(wanted & size)
        number = (wanted[asks] >> power) - 1
        place = np.searchsorted(key[within], number * span + low[asks], side="left")
        inside = (place < n) & (block[within][np.minimum(place, n - 1)] == number)
        candidate = np.where(inside, least[np.minimum(place, n - 1)], n)
        best[asks] = np.minimum(best[asks], candidate)
    return np.where(best < n, np.append(order, -1)[best], -1)


def _least_onwards(rank: np.ndarray, block: np.ndarray, n: int) -> np.ndarray:
    """Least rank from each place to the end of its block; blocks ascend along the array."""
    # a block's ranks are lifted so far that no later block can be lower
    lifted = rank + block * np.int64(n)
    backwards = np.minimum.accumulate(lifted[::-1])[::-1]
    return np.asarray(backwards - block * np.int64(n))


def _checked_places(place: np.ndarray, side: str, plane: bool) -> np.ndarray:
    table = np.asarray(place, dtype=np.float64)
    fits = table.ndim == 2 and table.shape[1:] == (2,) and len(table) > 0
    inside = np.isfinite(table) if plane else np.abs(table) <= 90.0 * np.arange(1, 3)
    if not fits or not inside.all():
        expected = "a latitude (-90 to 90) and a longitude (-180 to 180)"
        raise BindingError(
            cannot="match places",
            problem="bad places",
            at=f"side {side}",
            expected=f"{'finite x and y' if plane else expected} per sample",
            got=f"shape {table.shape}" if not fits else "others, or none",
        )
    return table


def _nearest_places(
    anchors: np.ndarray, others: np.ndarray, radius_m: float, plane: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Row of the nearest place for each anchor, -1 for none, and the similarity."""
    from scipy.spatial import KDTree

    tree, points = (table if plane else _on_sphere(table) for table in (others, anchors))
    tree = KDTree(tree)
    chord, _ = tree.query(points)
    # everybody about as near as the nearest: the exact choice is made among these
    slack = 2e-3 if plane else 2e-3 / EARTH_RADIUS_M
    close = tree.query_ball_point(points, chord * (1 + 1e-9) + slack)
    partner = np.full(len(anchors), -1, dtype=np.int64)
    similarity = np.full(len(anchors), np.nan, dtype=np.float32)
    for row, candidates in enumerate(close):
        rows = np.sort(np.asarray(candidates, dtype=np.int64))
        apart = (
            np.hypot(*(anchors[row] - others[rows]).T)
            if plane
            else haversine(anchors[row], others[rows])
        )
        distance = np.rint(apart * 1e3)
        best = int(distance.argmin())
        if distance[best] <= radius_m * 1e3:
            near = 1.0 - distance[best] / (radius_m * 1e3)
            partner[row] = rows[best]
            similarity[row] = np.rint(near * MILLIONTHS) / MILLIONTHS
    return partner, similarity


def haversine(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Great-circle distance in metres.

    Parameters
    ----------
    one, other : ndarray, shapes (..., 2), degrees
        Latitude, longitude.
    """
    (lat_1, lon_1), (lat_2, lon_2) = (
        np.moveaxis(np.radians(np.asarray(place, dtype=np.float64)), -1, 0)
        for place in (one, other)
    )
    half = (
        np.sin((lat_2 - lat_1) / 2) ** 2
        + np.cos(lat_1) * np.cos(lat_2) * np.sin((lon_2 - lon_1) / 2) ** 2
    )
    return np.asarray(2 * EARTH_RADIUS_M * np.arcsin(np.sqrt(np.clip(half, 0.0, 1.0))))


def _on_sphere(place: np.ndarray) -> np.ndarray:
    lat, lon = np.radians(place).T
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)
