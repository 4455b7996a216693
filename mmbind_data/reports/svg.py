"""From a figure of matplotlib to SVG that is part of a page.

Colours stand for variables of the page's style sheet, so that figures follow the reader's light or
dark scheme. matplotlib is imported when the first figure is drawn.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.resources import as_file, files
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from markupsafe import Markup

from mmbind_data.reports.html import clean

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STYLE = "figures.mplstyle"
Margins = tuple[float, float, float, float]  # px: left, top, right, bottom of the axes
MARGINS: Margins = (70, 30, 12, 46)
LETTER = 6.6  # px: mean width of a letter
SERIES = ("s1", "s2", "s3", "s4", "s5", "s6")
# Names of the style sheet's variables, with the values of the light scheme.
COLOURS = {
    "ink": "#1f262b",
    "soft": "#5a666e",
    "rule": "#dfe0da",
    "right": "#1f6fa8",
    "wrong": "#c9622f",
    "none": "#77868f",
    "s1": "#0072b2",
    "s2": "#c84e00",
    "s3": "#008a64",
    "s4": "#a4508b",
    "s5": "#8a6d00",
    "s6": "#5a666f",
}
VARIABLES = {value: f"var(--{name})" for name, value in COLOURS.items()}
SVG = "{http://www.w3.org/2000/svg}"
FONTS = re.compile(r"'DejaVu Sans'(, sans-serif)?")
COLOUR = re.compile("#[0-9a-f]{6}")
LONG_NUMBER = re.compile(r"(\.\d\d)\d+")


@contextmanager
def style() -> Iterator[None]:
    """The style of all figures, within the block alone."""
    import matplotlib

    with matplotlib.rc_context(_style_parameters()), warnings.catch_warnings():
        # The browser has glyphs that the font which measures the text lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


@cache
def _style_parameters() -> Any:
    import matplotlib

    with as_file(files(__package__) / "template" / STYLE) as path:
        return matplotlib.rc_params_from_file(path, use_default_template=False)


def new_axes(
    width: float, height: float, margins: Margins = MARGINS, n_rows: int = 1, **labels: Any
) -> list[Axes]:
    """Axes of a new figure, one below the other, with the margins free around each.

    Sizes are in px, which are the units of the SVG; ``labels`` are title, xlabel and ylabel.
    """
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / 72, n_rows * height / 72), dpi=72, frameon=False)
    FigureCanvasSVG(figure)
    left, top, right, bottom = margins
    inner, tall = width - left - right, height - top - bottom
    every = []
    for row in range(n_rows):
        floor = (n_rows - 1 - row + bottom / height) / n_rows
        place = (left / width, floor, inner / width, tall / height / n_rows)
        axes: Axes = figure.add_axes(place)
        axes.set(**{name: clean(text) for name, text in labels.items()})
        # Fixed places: to find them, matplotlib would lay out all tick labels once more.
        axes.xaxis.set_label_coords(0.5, (12 - bottom) / tall)
        axes.yaxis.set_label_coords((10 - left) / inner, 0.5)
        every.append(axes)
    return every


def add_legend(axes: Axes, handles: Mapping[str, Any]) -> None:
    """A legend in one line above the axes, to the right."""
    names, place = [clean(name) for name in handles], (1, 1 + 6 / axes.bbox.height)
    axes.legend(
        handles.values(), names, loc="lower right", bbox_to_anchor=place, ncols=len(handles)
    )


def mark(artist: Any, class_: str, text: str = "") -> None:
    """Give the artist's element a class and a tooltip; `inline_svg` writes them."""
    artist.set_gid(f"{class_}:{clean(text)}")


def inline_svg(axes: Axes, key: str, title: str, desc: str) -> Markup:
    """The SVG of the axes' figure as a part of a page.

    Its ids begin with the key, which is unique in the page; colours become variables of the style
    sheet; title and description are for those who cannot see the figure.
    """
    buffer = io.StringIO()
    axes.figure.savefig(buffer, format="svg", metadata={"Date": None})  # type: ignore[union-attr]
    root = ElementTree.fromstring(buffer.getvalue())
    for element in list(root.iter()):
        for child in element.findall(f"{SVG}metadata") + element.findall(f"{SVG}style"):
            element.remove(child)  # a style here would hold for the whole page
        element.tag = element.tag.removeprefix(SVG)
        element.attrib = dict(_attributes(element, key))
    width, names = float(root.attrib["width"].removesuffix("pt")), f"{key}-title {key}-desc"
    root.attrib = {"viewBox": root.attrib["viewBox"], "style": f"max-width:{width:g}px"}
    root.attrib |= {"role": "img", "aria-labelledby": names}
    _insert(root, "desc", desc, {"id": f"{key}-desc"})
    _insert(root, "title", title, {"id": f"{key}-title"})
    return Markup(ElementTree.tostring(root, encoding="unicode", short_empty_elements=False))


def _insert(parent: ElementTree.Element, tag: str, text: str, attributes: dict[str, str]) -> None:
    element = ElementTree.Element(tag, attributes)
    element.text = clean(text)
    parent.insert(0, element)


def _attributes(element: ElementTree.Element, key: str) -> Iterator[tuple[str, str]]:
    """Attributes of an element as they are to be in a page; adds the tooltip of a mark."""
    for name, value in element.attrib.items():
        name = name.rpartition("}")[2]
        class_, marked, tooltip = value.partition(":")
        if name == "id" and marked:
            yield "class", class_
            if tooltip:
                _insert(element, "title", tooltip, {})
        elif name == "id":
            if element.tag in ("path", "clipPath"):  # others are never referred to
                yield name, f"{key}-{value}"
        elif name in ("href", "clip-path"):
            yield name, value.replace("#", f"#{key}-")
        elif name == "style":
            value = FONTS.sub("inherit", value)
            yield name, COLOUR.sub(lambda found: VARIABLES.get(found[0], found[0]), value)
        elif name in ("d", "x", "y", "transform"):
            yield name, LONG_NUMBER.sub(r"\1", value.replace("\n", ""))
        else:
            yield name, value
