"""Figures of the reports: drawn with matplotlib, returned as SVG to be placed inside a page.

Each function takes a key that is unique in the page, and a title.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from mmbind_data.reports.calibration import Calibration
from mmbind_data.reports.html import clean, count, percent
from mmbind_data.reports.svg import (
    COLOURS,
    LETTER,
    SERIES,
    add_legend,
    inline_svg,
    mark,
    new_axes,
    style,
)
from mmbind_data.reports.tables import OTHER

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH = 640.0  # px, as all sizes here
MAX_LETTERS = 26
MAX_NAMED = 40  # groups of points that are named inside the figure
LINE = 15.0  # height of such a name
BLUE, SOFT, RULE = COLOURS["right"], COLOURS["soft"], COLOURS["rule"]


@style()
def histogram(
    key: str,
    title: str,
    x_name: str,
    y_name: str,
    edges: np.ndarray,
    layers: Mapping[str, tuple[str, np.ndarray]],
    names: Sequence[str] = (),
) -> Markup:
    """Draw bars, several kinds stacked on each other.

    Parameters
    ----------
    edges : ndarray, shape (bins + 1,)
    layers : mapping of name to (colour, counts of shape (bins,))
        From the bottom up; those without any count are left out.
    names : sequence of str, length bins, optional
        Ticks, one below each bar, which then bears its count; by default round numbers.
    """
    from matplotlib.ticker import MaxNLocator

    below, handles = np.zeros(len(edges) - 1), {}
    middles, widths = (edges[:-1] + edges[1:]) / 2, 0.92 * np.diff(edges)
    (axes,) = new_axes(WIDTH, 260, title=title, xlabel=x_name, ylabel=y_name)
    for name, (colour, counts) in layers.items():
        shown = np.flatnonzero(counts)
        if not len(shown):
            continue
        bars = handles[f"{name}: {count(counts.sum())}"] = axes.bar(
            middles[shown], counts[shown], widths[shown], below[shown], color=COLOURS[colour]
        )
        for bar, n in zip(bars, counts[shown], strict=True):
            mark(bar, f"fill {colour}", f"{name}: {count(n)}")
        below = below + counts
    axes.set_xlim(edges[0], edges[-1])
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.grid(axis="y")
    if names:
        axes.set_xticks(middles, names)
        for x, y in zip(middles, below, strict=True):
            axes.text(x, y, count(y) if y else "", ha="center", va="bottom", color=SOFT)
    if len(handles) > 1:
        add_legend(axes, handles)
    return inline_svg(axes, key, title, f"{y_name} by {x_name}. {'; '.join(handles)}.")


@style()
def calibration_plot(
    key: str, title: str, found: Calibration, overall: float, by_chance: float | None
) -> Markup:
    """Draw the share of right pairs by similarity, with intervals of 95 %.

    The share of all pairs is a line, that of pairs dealt out by chance a dashed one.
    """
    from matplotlib.ticker import PercentFormatter

    (axes,) = new_axes(WIDTH, 310, title=title, xlabel="similarity", ylabel="share of right pairs")
    handles = {f"all pairs {percent(overall)}": axes.axhline(overall, color=SOFT, lw=1)}
    if by_chance is not None:
        line = axes.axhline(by_chance, color=SOFT, lw=1, linestyle=(0, (4, 4)))
        handles[f"by chance {percent(by_chance)}"] = line
    axes.hlines(found.share, found.low, found.high, color=BLUE, lw=5, alpha=0.25)
    axes.vlines(found.middle, found.lower, found.upper, color=BLUE, lw=1.5)
    for x, share, n in zip(found.middle, found.share, found.n, strict=True):
        (dot,) = axes.plot(x, share, "o", color=BLUE, markersize=7, clip_on=False)
        mark(dot, "dot", f"{percent(share)} of {count(n)} pairs")
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1, 0, " %"))
    axes.grid(axis="y")
    add_legend(axes, handles)
    desc = "Share of right pairs in bins of similarity, with intervals of 95 %."
    return inline_svg(axes, key, title, desc)


@style()
def heat_map(
    key: str,
    title: str,
    rows: Sequence[str],
    columns: Sequence[str],
    counts: np.ndarray,
    *,
    judged: bool = True,
    axis_names: tuple[str, str] = ("anchor", "partner"),
    unit: str = "pairs",
) -> Markup:
    """Draw counts as coloured cells: one colour where the labels agree, one where they do not.

    Parameters
    ----------
    rows, columns : sequence of str
    counts : ndarray, shape (rows, columns), int64
        The opacity of a cell is its share of the row.
    judged : bool
        False draws all cells in one neutral colour.
    axis_names : (str, str)
        What rows and columns are.
    unit : str
        What is counted.
    """
    from matplotlib.patches import Rectangle

    n_rows, n_columns = counts.shape
    widest = LETTER * len(count(counts.max(initial=0)))
    side = min(44.0, max(22.0, 8 + widest, 220 / max(n_columns, 1)))
    left, top = (30 + LETTER * min(MAX_LETTERS, max(map(len, names))) for names in (rows, columns))
    size = left + side * n_columns + 12, top + side * n_rows + 6
    (axes,) = new_axes(*size, (left, top, 12, 6), ylabel=axis_names[0], xlabel=axis_names[1])
    axes.xaxis.set_label_coords(0.5, 1 + (top - 12) / (side * n_rows))
    axes.set(xlim=(0, n_columns), ylim=(n_rows, 0), xticks=(), yticks=())
    axes.spines[:].set(visible=True, color=RULE)
    # Texts in place of ticks, which cost matplotlib four times as long.
    for i, name in enumerate(rows):
        axes.text(-4 / side, i + 0.5, _cut(name), ha="right", va="center", color=SOFT)
    for j, name in enumerate(columns):
        axes.text(j + 0.5, -4 / side, _cut(name), ha="center", va="bottom", color=SOFT, rotation=90)
    for (i, j), n in np.ndenumerate(counts):
        agree = rows[i] == columns[j] != OTHER
        if not n and not (judged and agree):
            continue
        colour = ("right" if agree else "wrong") if judged else "none"
        share = float(n / max(counts[i].sum(), 1))
        cell = Rectangle((j + 0.02, i + 0.02), 0.96, 0.96, color=COLOURS[colour], linewidth=0)
        cell.set_alpha(round(0.06 + 0.64 * share, 2))
        axes.add_artist(cell)
        pair = f"{rows[i]} – {columns[j]}"
        mark(cell, f"fill {colour}", f"{pair}: {count(n)} {unit}, {percent(share)} of the row")
        if n:
            axes.text(j + 0.5, i + 0.5, count(n), ha="center", va="center_baseline")
    labels = (
        f"{n_rows} {axis_names[0]} labels in rows, {n_columns} {axis_names[1]} labels in columns"
    )
    return inline_svg(axes, key, title, f"{labels}; numbers of {unit}.")


def _cut(name: str) -> str:
    """A name that fits beside an axis."""
    return clean(name if len(name) <= MAX_LETTERS else f"{name[: MAX_LETTERS - 1]}…")


@style()
def curve_plot(
    key: str, title: str, x_name: str, y_name: str, points: Sequence[tuple[float, float]]
) -> Markup:
    """Draw a line through points (x, y)."""
    (axes,) = new_axes(WIDTH, 280, title=title, xlabel=x_name, ylabel=y_name)
    (line,) = axes.plot(*np.array(points).T, color=COLOURS["s1"])
    mark(line, "signal s1")
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    axes.margins(x=0.01)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.grid(axis="y")
    return inline_svg(axes, key, title, f"{y_name} over {x_name}")


@style()
def cloud_plot(key: str, title: str, places: np.ndarray, groups: Sequence[str]) -> Markup:
    """Draw points coloured by group; few groups get a legend, many are named at their medians.

    Parameters
    ----------
    places : ndarray, shape (n, 2)
        Both axes have the same scale.
    groups : sequence of str, length n
    """
    from matplotlib.colors import hsv_to_rgb

    names = list(dict.fromkeys(groups))
    few, member = len(names) <= len(SERIES), np.array([names.index(one) for one in groups])
    (axes,) = new_axes(560, 594, (2, 32, 2, 2), title=title)
    axes.set(xticks=(), yticks=())
    handles = {}
    for k, name in enumerate(names):
        colour = COLOURS[SERIES[k]] if few else tuple(hsv_to_rgb((k / len(names), 0.75, 0.75)))
        (points,) = axes.plot(*places[member == k].T, "o", color=colour, alpha=0.75, markersize=7)
        points.set_markeredgewidth(0)
        mark(points, "points", name)
        handles[name] = points
    axes.set_aspect("equal", adjustable="datalim")
    axes.spines[:].set(visible=True, color=RULE)
    if few:
        add_legend(axes, handles)
    elif len(names) <= MAX_NAMED:
        axes.apply_aspect()
        medians = [np.median(places[member == k], axis=0) for k in range(len(names))]
        for name, place in _free_places(names, axes.transData.transform(medians)).items():
            label = axes.text(*place, clean(name), transform=None, ha="center", va="center")
            mark(label, "halo")
    return inline_svg(axes, key, title, f"{count(len(groups))} points of {len(names)} groups")


def _free_places(names: Sequence[str], middles: np.ndarray) -> dict[str, tuple[float, float]]:
    """Places of names below or above their middles, none over another; without room none."""
    found: dict[str, tuple[float, float]] = {}
    for name, (x, y) in zip(names, middles.tolist(), strict=True):
        for lines in (-1, 1, -2, 2):
            place = x, y + lines * LINE
            if all(
                abs(place[1] - b) >= LINE or abs(x - a) >= LETTER * (len(name) + len(other)) / 2
                for other, (a, b) in found.items()
            ):
                found[name] = place
                break
    return found


@style()
def dot_plot(key: str, title: str, x_name: str, rows: Sequence[tuple[str, float, float]]) -> Markup:
    """Draw a point and its interval for each row (name, value, half the interval), from the top."""
    left = 24 + LETTER * max(len(name) for name, _, _ in rows)
    (axes,) = new_axes(WIDTH, 80 + 24 * len(rows), (left, 30, 16, 46), title=title, xlabel=x_name)
    for y, (name, value, half) in enumerate(rows):
        axes.plot((value - half, value + half), (y, y), color=BLUE)
        (dot,) = axes.plot(value, y, "o", color=BLUE, markersize=8)
        mark(dot, "dot", f"{name}: {value:.1f}")
    axes.set_yticks(range(len(rows)), [clean(name) for name, _, _ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(axis="x")
    return inline_svg(axes, key, title, f"{len(rows)} values with their intervals")


Layouts = dict[tuple[int, int, bool], tuple[list["Axes"], list[list[Any]]]]


@style()
def signal_plot(
    key: str,
    title: str,
    panels: Mapping[str, Mapping[str, np.ndarray]],
    span: tuple[float, float],
    duration: float | None,
    layouts: Layouts,
) -> Markup:
    """Draw time series as panels above each other, on one time axis.

    Parameters
    ----------
    panels : mapping of panel to (mapping of line to ndarray, shape (T,))
    span : (float, float)
        Limits of all vertical axes.
    duration : float or None
        Seconds from the first frame to the last; None if time is not known.
    layouts : dict
        Axes made before, by layout, to be used again: making them takes longer than drawing.
    """
    names, last = list(next(iter(panels.values()))), duration or 1.0
    shape = len(panels), len(names), bool(duration)
    if shape not in layouts:
        layouts[shape] = _signal_layout(*shape)
    every, lines = layouts[shape]
    for axes, own, (name, values) in zip(every, lines, panels.items(), strict=True):
        axes.set(xlim=(0, last), ylim=span, ylabel=clean(name))
        for line, heights in zip(own, values.values(), strict=True):
            line.set_data(np.linspace(0, last, len(heights)), heights)
    return inline_svg(axes, key, title, f"{', '.join(names)}, {span[0]:.3f} to {span[1]:.3f}.")


def _signal_layout(n_panels: int, n_lines: int, timed: bool) -> tuple[list[Axes], list[list[Any]]]:
    from matplotlib.ticker import MaxNLocator

    every, lines = new_axes(420, 112, (50, 4, 14, 22), n_rows=n_panels), []
    for axes in every:
        axes.grid(axis="y")
        axes.spines[:].set_visible(False)
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.label.set(rotation=0, ha="left", va="center")
        axes.tick_params(labelbottom=axes is every[-1])
        axes.xaxis.set_major_locator(MaxNLocator(4))
        lines.append(
            [axes.plot([], color=COLOURS[one], clip_on=False)[0] for one in SERIES[:n_lines]]
        )
        for line, one in zip(lines[-1], SERIES, strict=False):
            mark(line, f"signal {one}")
    if timed:
        every[-1].xaxis.set_major_formatter("{x:g} s")
    else:
        every[-1].set_xticks([0, 1], ["start", "end"])
    return every, lines


@style()
def point_plot(key: str, title: str, points: np.ndarray, axis_names: tuple[str, str]) -> Markup:
    """Draw points in a plane; shape (n, 2)."""
    x_name, y_name = axis_names
    (axes,) = new_axes(420, 220, (56, 6, 10, 40), xlabel=x_name, ylabel=y_name)
    axes.plot(*points.T, "o", color=COLOURS["s1"], markersize=3, markeredgewidth=0)
    axes.grid()
    return inline_svg(axes, key, title, f"{count(len(points))} points of all frames")
