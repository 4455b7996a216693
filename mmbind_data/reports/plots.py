"""Figures of the reports: drawn with matplotlib, returned as SVG to be placed inside a page."""

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
    add_axes,
    add_legend,
    inline_svg,
    mark,
    new_figure,
    style,
)
from mmbind_data.reports.tables import OTHER

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 640.0  # px, as all sizes here
MAX_LETTERS = 26
MAX_NAMED = 40  # groups of points that are named inside the figure
LINE = 15.0  # height of such a name
NAME_SHIFTS = (0.0, LINE, -LINE, 2 * LINE, -2 * LINE)


def histogram(
    key: str,
    title: str,
    x_name: str,
    y_name: str,
    edges: np.ndarray,
    layers: Mapping[str, tuple[str, np.ndarray]],
    names: Mapping[float, str] | None = None,
) -> Markup:
    """Draw bars, several kinds stacked on each other.

    Parameters
    ----------
    key : str
        Unique in the page.
    title, x_name, y_name : str
    edges : ndarray, shape (bins + 1,)
    layers : mapping of name to (colour, counts of shape (bins,))
        From the bottom up; those without any count are left out.
    names : mapping of position to text, optional
        Ticks; by default round numbers. With names the bars bear their counts.
    """
    layers = {name: layer for name, layer in layers.items() if layer[1].sum()}
    below, handles = np.zeros(len(edges) - 1), {}
    middles, widths = (edges[:-1] + edges[1:]) / 2, 0.92 * np.diff(edges)
    with style():
        figure = new_figure(WIDTH, 260)
        axes = add_axes(figure, title=title, xlabel=x_name, ylabel=y_name)
        for name, (colour, counts) in layers.items():
            shown = np.flatnonzero(counts)
            bars = axes.bar(
                middles[shown], counts[shown], widths[shown], below[shown], color=COLOURS[colour]
            )
            for bar, n in zip(bars, counts[shown], strict=True):
                mark(bar, f"fill {colour}", f"{name}: {count(n)}")
            below, handles[name] = below + counts, bars
        axes.set_xlim(edges[0], edges[-1])
        _count_axis(axes)
        if names:
            axes.set_xticks(list(names), list(names.values()))
            axes.margins(y=0.1)
            for i in np.flatnonzero(below):
                axes.annotate(count(below[i]), (middles[i], below[i]), (0, 3), ha="center",
                              textcoords="offset points", color=COLOURS["soft"])  # fmt: skip
        if len(handles) > 1:
            add_legend(axes, handles)
        totals = "; ".join(f"{name}: {count(one.sum())}" for name, (_, one) in layers.items())
        return inline_svg(figure, key, title, f"{y_name} by {x_name}. {totals}.")


def _count_axis(axes: Axes) -> None:
    """A grid at whole numbers of the vertical axis."""
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    axes.grid(axis="y")
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def calibration_plot(
    key: str, title: str, found: Calibration, overall: float, by_chance: float | None
) -> Markup:
    """Draw the share of right pairs by similarity, with intervals of 95 %.

    Parameters
    ----------
    key, title : str
    found : Calibration
    overall : float
        Share over all bins, a horizontal line.
    by_chance : float or None
        A dashed one.
    """
    from matplotlib.ticker import PercentFormatter

    blue, soft = COLOURS["right"], COLOURS["soft"]
    with style():
        figure = new_figure(WIDTH, 310)
        axes = add_axes(figure, title=title, xlabel="similarity", ylabel="share of right pairs")
        handles = {f"all pairs {percent(overall)}": axes.axhline(overall, color=soft, lw=1)}
        if by_chance is not None:
            line = axes.axhline(by_chance, color=soft, lw=1, linestyle=(0, (4, 4)))
            handles[f"by chance {percent(by_chance)}"] = line
        axes.hlines(found.share, found.low, found.high, color=blue, lw=5, alpha=0.25)
        axes.vlines(found.middle, found.lower, found.upper, color=blue, lw=1.5)
        for x, share, n in zip(found.middle, found.share, found.n, strict=True):
            (dot,) = axes.plot(x, share, "o", color=blue, markersize=7, clip_on=False)
            mark(dot, "dot", f"{percent(share)} of {count(n)} pairs")
        axes.set_ylim(0, 1)
        axes.yaxis.set_major_formatter(PercentFormatter(1, 0, " %"))
        axes.grid(axis="y")
        add_legend(axes, handles)
        desc = "Share of right pairs in bins of similarity, with intervals of 95 %."
        return inline_svg(figure, key, title, desc)


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
    key, title : str
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

    widest = count(counts.max()) if counts.size else ""
    side = min(44.0, max(22.0, 8 + LETTER * len(widest), 220 / max(len(columns), 1)))
    left, top = (30 + LETTER * min(MAX_LETTERS, max(map(len, names))) for names in (rows, columns))
    width, height = left + side * len(columns) + 12, top + side * len(rows) + 6
    with style():
        figure = new_figure(width, height)
        axes = add_axes(figure, (left, top, 12, 6), ylabel=axis_names[0], xlabel=axis_names[1])
        for (i, j), n in np.ndenumerate(counts):
            agree = rows[i] == columns[j] != OTHER
            if not n and not (judged and agree):
                continue
            colour = ("right" if agree else "wrong") if judged else "none"
            share = float(n / max(counts[i].sum(), 1))
            cell = Rectangle((j + 0.02, i + 0.02), 0.96, 0.96, color=COLOURS[colour],
                             alpha=round(0.06 + 0.64 * share, 2), linewidth=0)  # fmt: skip
            axes.add_patch(cell)
            tooltip = f"{rows[i]} – {columns[j]}: {count(n)} {unit}, {percent(share)} of the row"
            mark(cell, f"fill {colour}", tooltip)
            if n:
                axes.text(j + 0.5, i + 0.5, count(n), ha="center", va="center_baseline")
        axes.set(xlim=(0, len(columns)), ylim=(len(rows), 0))
        axes.xaxis.tick_top()
        axes.xaxis.set_label_coords(0.5, 1 + (top - 12) / (side * len(rows)))
        axes.set_xticks(np.arange(len(columns)) + 0.5, [_cut(one) for one in columns], rotation=90)
        axes.set_yticks(np.arange(len(rows)) + 0.5, [_cut(one) for one in rows])
        axes.tick_params(length=0)
        axes.spines[:].set(visible=True, color=COLOURS["rule"])
        desc = (
            f"{len(rows)} {axis_names[0]} labels in rows, {len(columns)} {axis_names[1]} labels "
            f"in columns; numbers of {unit}."
        )
        return inline_svg(figure, key, title, desc)


def _cut(name: str) -> str:
    """A name that fits beside an axis."""
    return clean(name if len(name) <= MAX_LETTERS else f"{name[: MAX_LETTERS - 1]}…")


def curves_plot(
    key: str,
    title: str,
    x_name: str,
    y_name: str,
    curves: Mapping[str, Sequence[tuple[float, float]]],
) -> Markup:
    """Draw lines through points.

    Parameters
    ----------
    key : str
        Unique in the page.
    title, x_name, y_name : str
    curves : mapping of name to points (x, y)
        At least one point in all.
    """
    with style():
        figure = new_figure(WIDTH, 280)
        axes = add_axes(figure, title=title, xlabel=x_name, ylabel=y_name)
        handles = {}
        for k, (name, points) in enumerate(curves.items()):
            colour = SERIES[k % len(SERIES)]
            (handles[name],) = axes.plot(*np.array(points).T, color=COLOURS[colour])
            mark(handles[name], f"signal {colour}")
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
        axes.margins(x=0.01)
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.grid(axis="y")
        if len(handles) > 1:
            add_legend(axes, handles)
        return inline_svg(figure, key, title, f"{y_name} over {x_name}")


def cloud_plot(key: str, title: str, places: np.ndarray, groups: Sequence[str]) -> Markup:
    """Draw points coloured by group; few groups get a legend, many are named at their medians.

    Parameters
    ----------
    key, title : str
    places : ndarray, shape (n, 2)
        Both axes have the same scale.
    groups : sequence of str, length n
    """
    names = list(dict.fromkeys(groups))
    member = np.array([names.index(one) for one in groups])
    few, side = len(names) <= len(SERIES), 560.0
    with style():
        figure = new_figure(side, side + 34)
        axes = add_axes(figure, (2, 32, 2, 2), title=title)
        axes.set(xticks=(), yticks=())
        handles = {}
        for k, name in enumerate(names):
            (handles[name],) = axes.plot(
                *places[member == k].T, "o", color=_group_colour(k, len(names)), alpha=0.75,
                markersize=7, markeredgewidth=0,
            )  # fmt: skip
            mark(handles[name], "points", name)
        axes.set_aspect("equal", adjustable="datalim")
        axes.spines[:].set(visible=True, color=COLOURS["rule"])
        if few:
            add_legend(axes, handles)
        elif len(names) <= MAX_NAMED:
            medians = [np.median(places[member == k], axis=0) for k in range(len(names))]
            axes.apply_aspect()
            for name, place in _free_places(names, axes.transData.transform(medians)).items():
                label = axes.text(*place, clean(name), transform=None, ha="center", va="center")
                mark(label, "halo")
        return inline_svg(figure, key, title, f"{count(len(groups))} points of {len(names)} groups")


def _free_places(names: Sequence[str], middles: np.ndarray) -> dict[str, tuple[float, float]]:
    """Places of names at or near their middles, none over another; without room none."""
    found: dict[str, tuple[float, float]] = {}
    for name, (x, y) in zip(names, middles.tolist(), strict=True):
        for shift in NAME_SHIFTS:
            if all(
                abs(y + shift - b) >= LINE or abs(x - a) >= LETTER * (len(name) + len(other)) / 2
                for other, (a, b) in found.items()
            ):
                found[name] = (x, y + shift)
                break
    return found


def _group_colour(k: int, n: int) -> Any:
    """A colour of the style sheet if there are enough, else one of evenly spaced hues."""
    from matplotlib.colors import hsv_to_rgb

    return COLOURS[SERIES[k]] if n <= len(SERIES) else tuple(hsv_to_rgb((k / n, 0.75, 0.75)))


def dot_plot(key: str, title: str, x_name: str, rows: Sequence[tuple[str, float, float]]) -> Markup:
    """Draw a point with its interval in each row.

    Parameters
    ----------
    key, title, x_name : str
    rows : sequence of (name, value, half the length of its interval)
        At least one, from the top.
    """
    names = [one[0] for one in rows]
    left, place, blue = 24 + LETTER * max(map(len, names)), range(len(rows)), COLOURS["right"]
    with style():
        figure = new_figure(WIDTH, 80 + 24 * len(rows))
        axes = add_axes(figure, (left, 30, 16, 46), title=title, xlabel=x_name)
        for y, (name, value, half) in enumerate(rows):
            axes.plot((value - half, value + half), (y, y), color=blue)
            (dot,) = axes.plot(value, y, "o", color=blue, markersize=8)
            mark(dot, "dot", f"{name}: {value:.1f}")
        axes.set_yticks(place, [clean(one) for one in names])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.grid(axis="x")
        return inline_svg(figure, key, title, f"{len(rows)} values with their intervals")


Layouts = dict[tuple[int, int, bool], tuple["Figure", list["Axes"], list[list[Any]]]]


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
    key, title : str
    panels : mapping of panel to (mapping of line to ndarray, shape (T,))
    span : (float, float)
        Limits of all vertical axes.
    duration : float or None
        Seconds from the first frame to the last; None if time is not known.
    layouts : dict
        Figures made before, by layout, to be used again: making axes takes longer than drawing.
    """
    shape = len(panels), len(next(iter(panels.values()))), bool(duration)
    with style():
        if shape not in layouts:
            layouts[shape] = _signal_layout(*shape[:2])
        figure, every, lines = layouts[shape]
        last = duration or 1.0
        for axes, own, (name, values) in zip(every, lines, panels.items(), strict=True):
            axes.set_ylabel(clean(name))
            axes.set(xlim=(0, last), ylim=span)
            for line, heights in zip(own, values.values(), strict=True):
                line.set_data(np.linspace(0, last, len(heights)), heights)
        every[-1].xaxis.set_major_formatter("{x:g} s")
        if not duration:
            every[-1].set_xticks([0, 1], ["start", "end"])
        names = ", ".join(next(iter(panels.values())))
        return inline_svg(figure, key, title, f"{names}, {span[0]:.3f} to {span[1]:.3f}.")


def _signal_layout(n_panels: int, n_lines: int) -> tuple[Figure, list[Axes], list[list[Any]]]:
    from matplotlib.ticker import MaxNLocator

    figure = new_figure(420, 24 + 100 * n_panels)
    every, lines = [], []
    for i in range(n_panels):
        axes = add_axes(figure, (50, 4 + 100 * i, 14, 28 + 100 * (n_panels - 1 - i)))
        axes.grid(axis="y")
        axes.spines[:].set_visible(False)
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.label.set(rotation=0, ha="left", va="center")
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.tick_params(labelbottom=i == n_panels - 1)
        own = []
        for k in range(n_lines):
            (line,) = axes.plot([], color=COLOURS[SERIES[k % len(SERIES)]], clip_on=False)
            mark(line, f"signal {SERIES[k % len(SERIES)]}")
            own.append(line)
        every.append(axes)
        lines.append(own)
    return figure, every, lines


def point_plot(key: str, title: str, points: np.ndarray, axis_names: tuple[str, str]) -> Markup:
    """Draw points in a plane, both axes to the same scale.

    Parameters
    ----------
    key, title : str
    points : ndarray, shape (n, 2)
    axis_names : (str, str)
    """
    with style():
        figure = new_figure(420, 220)
        axes = add_axes(figure, (56, 6, 10, 40), xlabel=axis_names[0], ylabel=axis_names[1])
        axes.plot(*points.T, "o", color=COLOURS["s1"], markersize=3, markeredgewidth=0)
        axes.grid()
        return inline_svg(figure, key, title, f"{count(len(points))} points of all frames")
