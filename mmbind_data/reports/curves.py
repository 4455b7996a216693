"""Drawings of the reports on trainings: curves over steps, clouds of points. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mmbind_data.reports.figures import (
    BOTTOM,
    LEFT,
    LETTER,
    RIGHT,
    TOP,
    WIDTH,
    axes,
    curve,
    decimals,
    drawing,
    legend,
    line,
    scale,
    text,
    ticks,
)
from mmbind_data.reports.html import Html, count, decimal, el

N_COLOURS = 6  # of the style sheet
NAMED = 40  # groups that are named where they lie
LINE = 13.0  # height of such a name
BESIDE = (19.0, -12.0, 30.0, -24.0)  # where one may lie below a middle


def curves_plot(
    key: str,
    title: str,
    x_name: str,
    y_name: str,
    curves: Mapping[str, Sequence[tuple[float, float]]],
) -> Html:
    """Lines through points.

    Parameters
    ----------
    key : str
        Unique in the document.
    title, x_name, y_name : str
    curves : mapping of name to points (x, y)
        At least one point in all.
    """
    height = 260.0
    points = np.array([one for through in curves.values() for one in through], dtype=np.float64)
    low, high = points.min(axis=0), points.max(axis=0)
    x = scale(float(low[0]), float(high[0]), LEFT + 4, WIDTH - RIGHT - 4)
    y = scale(min(0.0, float(low[1])), float(high[1]), height - BOTTOM, TOP + 18)
    y_ticks = ticks(min(0.0, float(low[1])), float(high[1]), 5)
    digits = decimals(y_ticks)
    parts = axes(
        x, {at: count(at) for at in ticks(float(low[0]), float(high[0]), 8)}, x_name,
        y, {at: decimal(at, digits) for at in y_ticks}, y_name, height,
    )  # fmt: skip
    colours = {name: f"s{k % N_COLOURS + 1}" for k, name in enumerate(curves)}
    for name, through in curves.items():
        places = np.array([(x(a), y(b)) for a, b in through])
        parts.append(curve(places[:, 0], places[:, 1], f"signal {colours[name]}"))
    if len(curves) > 1:
        parts += legend(LEFT + 6, TOP + 4, colours)
    return drawing(key, WIDTH, height, title, f"{y_name} over {x_name}", *parts)


def cloud_plot(key: str, title: str, places: np.ndarray, groups: Sequence[str]) -> Html:
    """Points coloured by group; a legend tells of few groups, names beside them of many.

    Parameters
    ----------
    key, title : str
    places : ndarray, shape (n, 2)
        Both axes are drawn to the same scale.
    groups : sequence of str, length n
    """
    names = sorted(set(groups))
    member = np.array([names.index(one) for one in groups])
    few, side = len(names) <= N_COLOURS, 560.0
    top = 26.0 if few else 0.0
    middle = (places.min(axis=0) + places.max(axis=0)) / 2
    reach = float(np.ptp(places, axis=0).max()) / 2 or 1.0
    at = (places - middle) / reach * (side / 2 - 28) * (1, -1) + (side / 2, top + side / 2)
    parts = [el("rect", x=0, y=f"{top:g}", width=f"{side:g}", height=f"{side:g}", class_="frame")]
    for k, name in enumerate(names):
        dots = [
            el("circle", cx=f"{a:.1f}", cy=f"{b:.1f}", r=3.5) for a, b in at[member == k].tolist()
        ]
        parts.append(el("g", el("title", name), *dots, style=f"fill:{_colour(k, len(names))}",
                        fill_opacity="0.75"))  # fmt: skip
    if few:
        parts += legend(0, 8, {name: f"s{k + 1}" for k, name in enumerate(names)})
    elif len(names) <= NAMED:
        middles = np.array([np.median(at[member == k], axis=0) for k in range(len(names))])
        for name, (a, b) in _apart(names, middles).items():
            parts.append(text(a, b, name, class_="mid name"))
    desc = f"{count(len(groups))} points of {len(names)} groups"
    return drawing(key, side, top + side, title, desc, *parts)


def _apart(names: Sequence[str], middles: np.ndarray) -> dict[str, tuple[float, float]]:
    """Places of names above or below their middles, none over another; without room none."""
    found: dict[str, tuple[float, float]] = {}
    for name, (x, y) in zip(names, middles.tolist(), strict=True):
        for shift in BESIDE:
            free = all(
                abs(y + shift - b) >= LINE
                or abs(x - a) >= LETTER * (len(name) + len(other)) / 2 + 4
                for other, (a, b) in found.items()
            )
            if free:
                found[name] = (x, y + shift)
                break
    return found


def _colour(k: int, n: int) -> str:
    """Those of the style sheet where they suffice, else hues evenly round the circle."""
    return f"var(--s{k + 1})" if n <= N_COLOURS else f"hsl({360 * k / n:.0f} 65% 48%)"


def dot_plot(
    key: str, title: str, x_name: str, rows: Sequence[tuple[str, float, float, float]]
) -> Html:
    """A point with its span in each line.

    Parameters
    ----------
    key, title, x_name : str
    rows : sequence of (name, value, low, high)
        At least one; the lines from the top.
    """
    step, left = 24.0, 24 + LETTER * max(len(name) for name, *_ in rows)
    height = TOP + step * len(rows) + BOTTOM
    low, high = min(one[2] for one in rows), max(one[3] for one in rows)
    x = scale(low, high, left + 8, WIDTH - RIGHT - 8)
    floor = height - BOTTOM
    shown = ticks(low, high, 8)
    digits = decimals(shown)
    parts = []
    for at in shown:
        parts += [line(x(at), TOP, x(at), floor, "grid"),
                  text(x(at), floor + 16, decimal(at, digits), class_="mid")]  # fmt: skip
    for number, (name, value, lower, upper) in enumerate(rows):
        y = TOP + step * (number + 0.5)
        said = f"{name}: {decimal(value, 1)}"
        parts += [
            text(left - 8, y + 4, name, class_="end"),
            line(x(lower), y, x(upper), y, "whisker"),
            el("circle", el("title", said), cx=f"{x(value):.1f}", cy=f"{y:.1f}", r=4, class_="dot"),
        ]
    parts.append(text((left + WIDTH - RIGHT) / 2, height - 6, x_name, class_="mid name"))
    return drawing(key, WIDTH, height, title, f"{len(rows)} points with their spans", *parts)
