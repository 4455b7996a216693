"""Figures of the reports: drawn with matplotlib, returned as SVG to be placed inside a page.

Colours stand for variables of the page's style sheet, so that figures follow the reader's light or
dark scheme. matplotlib is imported when the first figure is drawn.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
from markupsafe import Markup

from mmbind_data.reports.calibration import Calibration
from mmbind_data.reports.html import clean, count, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 640.0  # px, as all sizes here
MARGINS = (70.0, 30.0, 12.0, 46.0)  # left, top, right, bottom of the axes
FONT = 11.5
LETTER = 6.6  # mean width of a letter of that size
MAX_LETTERS = 26
MAX_CLASSES = 30
OTHER = "all other labels"
MAX_NAMED = 40  # groups of points that are named inside the figure
LINE = 15.0  # height of such a name
NAME_SHIFTS = (0.0, LINE, -LINE, 2 * LINE, -2 * LINE)

SERIES = ("s1", "s2", "s3", "s4", "s5", "s6")
# The light scheme's value of each variable of the style sheet.
COLOURS = {
    "ink": "#1f262b", "soft": "#5a666e", "rule": "#dfe0da",
    "right": "#1f6fa8", "wrong": "#c9622f", "none": "#77868f",
    "s1": "#0072b2", "s2": "#c84e00", "s3": "#008a64", "s4": "#a4508b", "s5": "#8a6d00",
    "s6": "#5a666f",
}  # fmt: skip
VARIABLES = {value: f"var(--{name})" for name, value in COLOURS.items()}
STYLE = {
    "svg.fonttype": "none", "svg.hashsalt": "mmbind", "text.parse_math": False,
    "path.simplify": False, "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"],
    "font.size": FONT, "axes.labelsize": FONT, "axes.titlesize": FONT + 0.5,
    "axes.titleweight": "bold", "axes.titlelocation": "left", "axes.titlepad": 12.0,
    "axes.titley": 1.0,
    "text.color": COLOURS["ink"], "axes.labelcolor": COLOURS["ink"],
    "axes.titlecolor": COLOURS["ink"], "axes.edgecolor": COLOURS["soft"],
    "xtick.labelcolor": COLOURS["soft"], "ytick.labelcolor": COLOURS["soft"],
    "xtick.labelsize": FONT, "ytick.labelsize": FONT, "xtick.bottom": False, "ytick.left": False,
    "axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False,
    "axes.linewidth": 1.0, "axes.axisbelow": True, "grid.color": COLOURS["rule"],
    "grid.linewidth": 1.0, "axes.facecolor": "none", "figure.facecolor": "none",
    "legend.frameon": False, "legend.fontsize": FONT, "legend.handlelength": 1.0,
    "legend.columnspacing": 1.4, "legend.borderaxespad": 0.0, "legend.borderpad": 0.2,
    "lines.linewidth": 1.4, "lines.solid_joinstyle": "round", "lines.solid_capstyle": "butt",
}  # fmt: skip
SVG = "{http://www.w3.org/2000/svg}"
FONTS = re.compile(r"'DejaVu Sans'(, sans-serif)?")
LONG_NUMBER = re.compile(r"(\.\d\d)\d+")


@contextmanager
def _style() -> Iterator[None]:
    """The style of all figures, within the block alone."""
    import matplotlib

    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        # The browser has glyphs that the font which measures the text lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def _new_figure(width: float, height: float) -> Figure:
    """A figure of a size in px, which are the units of its SVG."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / 72, height / 72), dpi=72, frameon=False)
    FigureCanvasSVG(figure)
    return figure


def _axes(
    figure: Figure, margins: tuple[float, float, float, float] = MARGINS, **labels: Any
) -> Axes:
    """Axes that leave the margins (left, top, right, bottom) free."""
    left, top, right, bottom = margins
    width, height = figure.get_size_inches() * 72
    inner, tall = width - left - right, height - top - bottom
    axes: Axes = figure.add_axes((left / width, bottom / height, inner / width, tall / height))
    axes.set(**{name: clean(text) for name, text in labels.items()})
    # Fixed places: to find them, matplotlib would lay out all tick labels once more.
    axes.xaxis.set_label_coords(0.5, (12 - bottom) / tall)
    axes.yaxis.set_label_coords((10 - left) / inner, 0.5)
    return axes


def _legend(axes: Axes, handles: Mapping[str, Any]) -> None:
    """A legend in one line above the axes, to the right."""
    axes.legend(
        list(handles.values()),
        [clean(name) for name in handles],
        loc="lower right",
        bbox_to_anchor=(1, 1.03),
        ncols=len(handles),
    )


def _mark(artist: Any, class_: str, text: str = "") -> None:
    """Give the artist's element a class and a tooltip; `_inline` writes them."""
    artist.set_gid(f"{class_}:{clean(text)}")


def _inline(figure: Figure, key: str, title: str, desc: str) -> Markup:
    """The SVG of a figure as a part of a page.

    Its ids begin with the key, which is unique in the page; colours become variables of the style
    sheet; title and description are for those who cannot see the figure.
    """
    buffer = io.StringIO()
    figure.canvas.print_svg(buffer, metadata={"Date": None})
    root = ElementTree.fromstring(buffer.getvalue())
    root.remove(root.find(f"{SVG}metadata"))  # type: ignore[arg-type]
    for element in list(root.iter()):
        element.tag = element.tag.removeprefix(SVG)
        for child in element.findall(f"{SVG}style"):  # would hold for the whole page
            element.remove(child)
        _rewrite(element, key)
    width = float(root.attrib["width"].removesuffix("pt"))
    root.attrib = {
        "viewBox": root.attrib["viewBox"], "role": "img", "style": f"max-width:{width:g}px",
        "aria-labelledby": f"{key}-title {key}-desc",
    }  # fmt: skip
    for place, (tag, text) in enumerate((("title", title), ("desc", desc))):
        element = ElementTree.Element(tag, {"id": f"{key}-{tag}"})
        element.text = clean(text)
        root.insert(place, element)
    return Markup(ElementTree.tostring(root, encoding="unicode", short_empty_elements=False))


def _rewrite(element: ElementTree.Element, key: str) -> None:
    """Attributes of an element as they are to stand in a page."""
    kept = {}
    for name, value in element.attrib.items():
        name = name.rpartition("}")[2]
        if name == "id":
            class_, marked, text = value.partition(":")
            if marked:
                kept["class"] = class_
                if text:
                    title = ElementTree.Element("title")
                    title.text = text
                    element.insert(0, title)
            elif element.tag in ("path", "clipPath"):  # others are never referred to
                kept["id"] = f"{key}-{value}"
            continue
        if name == "href":
            value = f"#{key}-{value[1:]}"
        elif name == "clip-path":
            value = value.replace("#", f"#{key}-")
        elif name == "style":
            value = FONTS.sub("inherit", value) if "font-family" in value else value
            for colour, variable in VARIABLES.items():
                value = value.replace(colour, variable)
        elif name in ("d", "x", "y", "transform"):
            value = LONG_NUMBER.sub(r"\1", value.replace("\n", ""))
        kept[name] = value
    element.attrib = kept


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
    with _style():
        figure = _new_figure(WIDTH, 260)
        axes = _axes(figure, title=title, xlabel=x_name, ylabel=y_name)
        for name, (colour, counts) in layers.items():
            shown = np.flatnonzero(counts)
            bars = axes.bar(
                middles[shown], counts[shown], widths[shown], below[shown], color=COLOURS[colour]
            )
            for bar, n in zip(bars, counts[shown], strict=True):
                _mark(bar, f"fill {colour}", f"{name}: {count(n)}")
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
            _legend(axes, handles)
        totals = "; ".join(f"{name}: {count(one.sum())}" for name, (_, one) in layers.items())
        return _inline(figure, key, title, f"{y_name} by {x_name}. {totals}.")


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
    with _style():
        figure = _new_figure(WIDTH, 310)
        axes = _axes(figure, title=title, xlabel="similarity", ylabel="share of right pairs")
        handles = {f"all pairs {percent(overall)}": axes.axhline(overall, color=soft, lw=1)}
        if by_chance is not None:
            line = axes.axhline(by_chance, color=soft, lw=1, linestyle=(0, (4, 4)))
            handles[f"by chance {percent(by_chance)}"] = line
        axes.hlines(found.share, found.low, found.high, color=blue, lw=5, alpha=0.25)
        axes.vlines(found.middle, found.lower, found.upper, color=blue, lw=1.5)
        for x, share, n in zip(found.middle, found.share, found.n, strict=True):
            (dot,) = axes.plot(x, share, "o", color=blue, markersize=7, clip_on=False)
            _mark(dot, "dot", f"{percent(share)} of {count(n)} pairs")
        axes.set_ylim(0, 1)
        axes.yaxis.set_major_formatter(PercentFormatter(1, 0, " %"))
        axes.grid(axis="y")
        _legend(axes, handles)
        desc = "Share of right pairs in bins of similarity, with intervals of 95 %."
        return _inline(figure, key, title, desc)


def fold_classes(
    confusion: Mapping[str, Mapping[str, int]], order: Sequence[str]
) -> tuple[list[str], list[str], np.ndarray]:
    """Make a confusion a matrix of at most `MAX_CLASSES` + 1 rows and columns.

    Parameters
    ----------
    confusion : mapping of anchor's label to (partner's label to count)
    order : sequence of str
        All labels. If there are too many, those with the most wrong pairs stay, and the others are
        added up.

    Returns
    -------
    rows, columns : list of str
    counts : ndarray, shape (rows, columns), int64
    """
    rows, columns = set(confusion), {label for inner in confusion.values() for label in inner}
    if rows & columns:  # labels of one kind: they agree on the diagonal
        rows = columns = rows | columns
    wrong = dict.fromkeys(order, 0)
    for label, inner in confusion.items():
        for to, n in inner.items():
            if to != label:
                wrong[label] += n
                wrong[to] += n

    def fold(labels: set[str]) -> tuple[list[str], dict[str, int]]:
        ordered = [one for one in order if one in labels]
        kept = set(sorted(ordered, key=lambda one: -wrong[one])[:MAX_CLASSES])
        names = [one for one in ordered if one in kept]
        names += [OTHER] if len(names) < len(ordered) else []
        place = {one: i for i, one in enumerate(names)}
        return names, {one: place.get(one, len(names) - 1) for one in ordered}

    row_names, row_of = fold(rows)
    column_names, column_of = fold(columns)
    counts = np.zeros((len(row_names), len(column_names)), dtype=np.int64)
    for label, inner in confusion.items():
        for to, n in inner.items():
            counts[row_of[label], column_of[to]] += n
    return row_names, column_names, counts


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
    with _style():
        figure = _new_figure(width, height)
        axes = _axes(figure, (left, top, 12, 6), ylabel=axis_names[0], xlabel=axis_names[1])
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
            _mark(cell, f"fill {colour}", tooltip)
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
        return _inline(figure, key, title, desc)


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
    with _style():
        figure = _new_figure(WIDTH, 280)
        axes = _axes(figure, title=title, xlabel=x_name, ylabel=y_name)
        handles = {}
        for k, (name, points) in enumerate(curves.items()):
            colour = SERIES[k % len(SERIES)]
            (handles[name],) = axes.plot(*np.array(points).T, color=COLOURS[colour])
            _mark(handles[name], f"signal {colour}")
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
        axes.margins(x=0.01)
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.grid(axis="y")
        if len(handles) > 1:
            _legend(axes, handles)
        return _inline(figure, key, title, f"{y_name} over {x_name}")


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
    with _style():
        figure = _new_figure(side, side + 34)
        axes = _axes(figure, (2, 32, 2, 2), title=title)
        axes.set(xticks=(), yticks=())
        handles = {}
        for k, name in enumerate(names):
            (handles[name],) = axes.plot(
                *places[member == k].T, "o", color=_group_colour(k, len(names)), alpha=0.75,
                markersize=7, markeredgewidth=0,
            )  # fmt: skip
            _mark(handles[name], "points", name)
        axes.set_aspect("equal", adjustable="datalim")
        axes.spines[:].set(visible=True, color=COLOURS["rule"])
        if few:
            _legend(axes, handles)
        elif len(names) <= MAX_NAMED:
            medians = [np.median(places[member == k], axis=0) for k in range(len(names))]
            axes.apply_aspect()
            for name, place in _free_places(names, axes.transData.transform(medians)).items():
                label = axes.text(*place, clean(name), transform=None, ha="center", va="center")
                _mark(label, "halo")
        return _inline(figure, key, title, f"{count(len(groups))} points of {len(names)} groups")


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


def dot_plot(
    key: str, title: str, x_name: str, rows: Sequence[tuple[str, float, float, float]]
) -> Markup:
    """Draw a point with its interval in each row.

    Parameters
    ----------
    key, title, x_name : str
    rows : sequence of (name, value, low, high)
        At least one, from the top.
    """
    names, values, low, high = zip(*rows, strict=True)
    left, place, blue = 24 + LETTER * max(map(len, names)), range(len(rows)), COLOURS["right"]
    with _style():
        figure = _new_figure(WIDTH, 80 + 24 * len(rows))
        axes = _axes(figure, (left, 30, 16, 46), title=title, xlabel=x_name)
        axes.hlines(place, low, high, color=blue, lw=1.5)
        for y, name, value in zip(place, names, values, strict=True):
            (dot,) = axes.plot(value, y, "o", color=blue, markersize=8)
            _mark(dot, "dot", f"{name}: {value:.1f}")
        axes.set_yticks(place, [clean(one) for one in names])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.grid(axis="x")
        return _inline(figure, key, title, f"{len(rows)} values with their intervals")


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
    with _style():
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
        return _inline(figure, key, title, f"{names}, {span[0]:.3f} to {span[1]:.3f}.")


def _signal_layout(n_panels: int, n_lines: int) -> tuple[Figure, list[Axes], list[list[Any]]]:
    from matplotlib.ticker import MaxNLocator

    figure = _new_figure(420, 24 + 100 * n_panels)
    every, lines = [], []
    for i in range(n_panels):
        axes = _axes(figure, (50, 4 + 100 * i, 14, 28 + 100 * (n_panels - 1 - i)))
        axes.grid(axis="y")
        axes.spines[:].set_visible(False)
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.label.set(rotation=0, ha="left", va="center")
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.tick_params(labelbottom=i == n_panels - 1)
        own = []
        for k in range(n_lines):
            (line,) = axes.plot([], color=COLOURS[SERIES[k % len(SERIES)]], clip_on=False)
            _mark(line, f"signal {SERIES[k % len(SERIES)]}")
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
    with _style():
        figure = _new_figure(420, 220)
        axes = _axes(figure, (56, 6, 10, 40), xlabel=axis_names[0], ylabel=axis_names[1])
        axes.plot(*points.T, "o", color=COLOURS["s1"], markersize=3, markeredgewidth=0)
        axes.grid()
        return _inline(figure, key, title, f"{count(len(points))} points of all frames")
