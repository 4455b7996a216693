"""Drawings of the report as inline SVG; colours are the style sheet's. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from mmbind_data.reports.calibration import Calibration
from mmbind_data.reports.html import Child, Html, count, decimal, el, percent

WIDTH = 640
LEFT, RIGHT, TOP, BOTTOM = 66, 12, 12, 44
LETTER = 6.0  # width of a letter at the size of labels
MAX_LETTERS = 26
MAX_CLASSES = 30
OTHER = "all other labels"


def drawing(key: str, width: float, height: float, title: str, desc: str, *parts: Child) -> Html:
    """An SVG that tells its content also to those who do not see it."""
    return el(
        "svg",
        el("title", title, id=f"drawing-{key}-title"),
        el("desc", desc, id=f"drawing-{key}-desc"),
        *parts,
        viewBox=f"0 0 {_short(width)} {_short(height)}",
        role="img",
        aria_labelledby=f"drawing-{key}-title drawing-{key}-desc",
        style=f"max-width:{_short(width)}px",
    )


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers between two values, at most about ``most``.

    >>> ticks(0, 1, 5)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    if not high > low:
        return [low]
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    """The straight line from values to places; a range without extent lies in the middle."""
    if high <= low:
        return lambda _: (start + end) / 2
    return lambda value: start + (value - low) / (high - low) * (end - start)


def text(x: float, y: float, words: str, **attributes: object) -> Html:
    """Words at a place."""
    return el("text", words, x=_short(x), y=_short(y), **attributes)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Html:
    """A straight line."""
    return el("line", x1=_short(x1), y1=_short(y1), x2=_short(x2), y2=_short(y2), class_=class_)


def curve(x: np.ndarray, y: np.ndarray, class_: str) -> Html:
    """A line through points, broken where a value is not finite; shapes (n,)."""
    pieces, pen = [], "M"
    for one, other in zip(x.tolist(), y.tolist(), strict=True):
        if math.isfinite(other):
            pieces.append(f"{pen}{_short(one)} {_short(other)}")
            pen = "L"
        else:
            pen = "M"
    return el("path", d="".join(pieces), class_=class_)


def _short(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")


def axes(
    x: Callable[[float], float],
    x_ticks: Mapping[float, str],
    x_name: str,
    y: Callable[[float], float],
    y_ticks: Mapping[float, str],
    y_name: str,
    height: float,
) -> list[Html]:
    """Grid, tick labels and names of both axes of a plot of `WIDTH`."""
    floor = height - BOTTOM
    parts = [line(LEFT, y(at), WIDTH - RIGHT, y(at), "grid") for at in y_ticks]
    parts += [text(LEFT - 8, y(at) + 4, name, class_="end") for at, name in y_ticks.items()]
    parts += [text(x(at), floor + 16, name, class_="mid") for at, name in x_ticks.items()]
    parts.append(line(LEFT, floor, WIDTH - RIGHT, floor, "axis"))
    parts.append(text((LEFT + WIDTH - RIGHT) / 2, height - 6, x_name, class_="mid name"))
    middle = (TOP + floor) / 2
    parts.append(
        text(11, middle, y_name, class_="mid name", transform=f"rotate(-90 11 {_short(middle)})")
    )
    return parts


def histogram(
    key: str,
    title: str,
    x_name: str,
    y_name: str,
    edges: np.ndarray,
    layers: Mapping[str, tuple[str, np.ndarray]],
    names: Mapping[float, str] | None = None,
) -> Html:
    """Bars, several kinds on top of each other.

    Parameters
    ----------
    key : str
        Unique in the document.
    title, x_name, y_name : str
    edges : ndarray, shape (bins + 1,)
    layers : mapping of name to (class, counts of shape (bins,))
        From the bottom up; those without any count are left out.
    names : mapping of place to text, optional
        Ticks; else round numbers. With names the bars bear their numbers.
    """
    layers = {name: layer for name, layer in layers.items() if layer[1].sum()}
    total = np.sum([counts for _, counts in layers.values()], axis=0)
    height, floor = 240.0, 240.0 - BOTTOM
    x = scale(float(edges[0]), float(edges[-1]), LEFT + 4, WIDTH - RIGHT - 4)
    y = scale(0, float(total.max()), floor, TOP + 18)
    shown = ticks(float(edges[0]), float(edges[-1]), 8)
    digits = decimals(shown)
    parts = axes(
        x, names or {at: decimal(at, digits) for at in shown}, x_name,
        y, {at: count(at) for at in ticks(0, float(total.max()), 4) if at == int(at)}, y_name,
        height,
    )  # fmt: skip
    below = np.zeros(len(total))
    for name, (class_, counts) in layers.items():
        for i in np.flatnonzero(counts):
            left, right = x(edges[i]), x(edges[i + 1])
            top, bottom = y(below[i] + counts[i]), y(below[i])
            gap = min(1.0, (right - left) / 6)
            parts.append(
                el("rect", el("title", f"{name}: {count(counts[i])}"), x=_short(left + gap / 2),
                   y=_short(top), width=_short(max(right - left - gap, 0.5)),
                   height=f"{max(bottom - top, 0.5):.2f}", class_=f"fill {class_}")
            )  # fmt: skip
        below = below + counts
    for i in np.flatnonzero(total) if names else []:
        parts.append(text(x((edges[i] + edges[i + 1]) / 2), y(total[i]) - 4, count(total[i]),
                          class_="mid"))  # fmt: skip
    if len(layers) > 1:
        parts += legend(LEFT + 6, TOP + 4, {name: class_ for name, (class_, _) in layers.items()})
    said = "; ".join(f"{name}: {count(counts.sum())}" for name, (_, counts) in layers.items())
    return drawing(key, WIDTH, height, title, f"{x_name} against {y_name}. {said}.", *parts)


def legend(x: float, y: float, classes: Mapping[str, str]) -> list[Html]:
    """A row of coloured squares with their names."""
    parts = []
    for name, class_ in classes.items():
        parts.append(
            el("rect", x=_short(x), y=_short(y - 5), width=10, height=10, class_=f"fill {class_}")
        )
        parts.append(text(x + 15, y + 4, name))
        x += 28 + LETTER * len(name)
    return parts


def decimals(values: Sequence[float]) -> int:
    """Decimals needed to write all ticks.

    >>> decimals([0.0, 0.25, 0.5])
    2
    """
    return next(
        (d for d in range(6) if all(abs(v - round(v, d)) < 1e-9 for v in values)), 6
    )  # fmt: skip


def calibration_plot(
    key: str, title: str, found: Calibration, overall: float, by_chance: float | None
) -> Html:
    """Share of right pairs by similarity, with intervals of 95 %.

    Parameters
    ----------
    key, title : str
    found : Calibration
    overall : float
        Share over all bins, a line.
    by_chance : float or None
        Another line.
    """
    height, floor = 300.0, 300.0 - BOTTOM
    low, high = float(found.low[0]), float(found.high[-1])
    x = scale(low, high, LEFT + 10, WIDTH - RIGHT - 10)
    y = scale(0, 1, floor, TOP)
    shown = ticks(low, high, 8)
    digits = decimals(shown)
    parts = axes(
        x, {at: decimal(at, digits) for at in shown}, "similarity",
        y, {at: f"{100 * at:.0f} %" for at in ticks(0, 1, 5)}, "share of right pairs", height,
    )  # fmt: skip
    levels = []
    for share, name, class_ in ((overall, "all pairs", "all"), (by_chance, "by chance", "chance")):
        if share is not None:
            parts.append(line(LEFT, y(share), WIDTH - RIGHT, y(share), f"level {class_}"))
            levels.append(text(LEFT + 6, y(share) - 5, f"{name} {percent(share)}", class_="halo"))
    for i, share in enumerate(found.share.tolist()):
        left, right, at = x(found.low[i]), x(found.high[i]), x(found.middle[i])
        parts.append(line(left, y(share), right, y(share), "span"))
        parts.append(line(at, y(found.lower[i]), at, y(found.upper[i]), "whisker"))
        said = f"{percent(share)} of {count(found.n[i])} pairs"
        parts.append(
            el("circle", el("title", said), cx=_short(at), cy=_short(y(share)), r=4, class_="dot")
        )
    desc = "Points: share of right pairs in bins of similarity; vertical lines: intervals of 95 %."
    return drawing(key, WIDTH, height, title, desc, *parts, *levels)


def fold_classes(
    confusion: Mapping[str, Mapping[str, int]], order: Sequence[str]
) -> tuple[list[str], list[str], np.ndarray]:
    """A confusion as a matrix of at most `MAX_CLASSES` + 1 rows and columns.

    Parameters
    ----------
    confusion : mapping of anchor's label to (partner's label to count)
    order : sequence of str
        All labels. Of too many, those with the most wrong pairs stay; the rest is added up.

    Returns
    -------
    rows, columns : list of str
    counts : ndarray, shape (rows, columns), int64
    """
    seen = {label for inner in confusion.values() for label in inner}
    if seen & set(confusion):  # labels of one kind: the diagonal is where they agree
        seen |= set(confusion)
        rows = columns = [one for one in order if one in seen]
    else:
        rows = [one for one in order if one in confusion]
        columns = [one for one in order if one in seen]
    wrong = {
        one: sum(n for to, n in confusion.get(one, {}).items() if to != one)
        + sum(inner.get(one, 0) for label, inner in confusion.items() if label != one)
        for one in order
    }

    def folded(labels: list[str]) -> tuple[list[str], dict[str, int]]:
        keep = set(sorted(labels, key=lambda one: -wrong[one])[:MAX_CLASSES])
        names = [one for one in labels if one in keep]
        if len(names) < len(labels):
            names.append(OTHER)
        place = {one: i for i, one in enumerate(names)}
        return names, {one: place.get(one, len(names) - 1) for one in labels}

    row_names, row_of = folded(rows)
    column_names, column_of = folded(columns)
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
    axes: tuple[str, str] = ("anchor", "partner"),
    unit: str = "pairs",
) -> Html:
    """Counts as coloured cells: one colour where the labels agree, one where they do not.

    Parameters
    ----------
    key, title : str
    rows, columns : sequence of str
        Labels of anchors and of partners.
    counts : ndarray, shape (rows, columns), int64
        The depth of a colour is the share within its row.
    judged : bool
        Else one neutral colour.
    axes : (str, str)
        What rows and columns are.
    unit : str
        What is counted.
    """
    widest = int(counts.max()) if counts.size else 0
    side = max(22.0, 10 + LETTER * len(count(widest)), 200 / max(len(columns), 1))
    side = min(side, 44.0)
    left = 24 + LETTER * min(MAX_LETTERS, max(map(len, rows)))
    top = 22 + LETTER * min(MAX_LETTERS, max(map(len, columns)))
    width, height = left + side * len(columns) + 40, top + side * len(rows) + 4
    parts = [
        text(14, top + side * len(rows) / 2, axes[0], class_="mid name",
             transform=f"rotate(-90 14 {_short(top + side * len(rows) / 2)})"),
        text(left + side * len(columns) / 2, 12, axes[1], class_="mid name"),
    ]  # fmt: skip
    for j, name in enumerate(columns):
        x = left + side * (j + 0.5) + 4
        turn = f"rotate(-90 {_short(x)} {_short(top - 6)})"
        parts.append(text(x, top - 6, _cut(name), transform=turn))
    for i, (name, inner) in enumerate(zip(rows, counts, strict=True)):
        y = top + side * i
        parts.append(text(left - 6, y + side / 2 + 4, _cut(name), class_="end"))
        for j, to in enumerate(columns):
            class_ = "right" if name == to and name != OTHER else "wrong"
            if inner[j] or (judged and class_ == "right"):
                class_ = class_ if judged else "none"
                share = float(inner[j] / max(inner.sum(), 1))
                parts += _cell(left + side * j, y, side, class_, int(inner[j]), share,
                               f"{name} – {to}", unit)  # fmt: skip
    frame = el("rect", x=_short(left), y=_short(top), width=_short(side * len(columns)),
               height=_short(side * len(rows)), class_="frame")  # fmt: skip
    desc = f"{len(rows)} {axes[0]} labels in rows, {len(columns)} {axes[1]} in columns; {unit}."
    return drawing(key, width, height, title, desc, frame, *parts)


def _cell(
    x: float,
    y: float,
    side: float,
    class_: str,
    number: int,
    share: float,
    pair: str,
    unit: str,
) -> list[Html]:
    parts = [
        el("rect", el("title", f"{pair}: {count(number)} {unit}, {percent(share)} of the row"),
           x=_short(x + 0.5), y=_short(y + 0.5), width=_short(side - 1), height=_short(side - 1),
           fill_opacity=f"{0.06 + 0.64 * share:.2f}", class_=f"fill {class_}")
    ]  # fmt: skip
    if number:
        parts.append(text(x + side / 2, y + side / 2 + 4, count(number), class_="mid name"))
    return parts


def _cut(name: str) -> str:
    return name if len(name) <= MAX_LETTERS else f"{name[: MAX_LETTERS - 1]}…"
