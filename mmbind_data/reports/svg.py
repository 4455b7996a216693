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
    from matplotlib.figure import Figure

STYLE = "figures.mplstyle"
MARGINS = (70.0, 30.0, 12.0, 46.0)  # px: left, top, right, bottom of the axes
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


def new_figure(width: float, height: float) -> Figure:
    """A figure of a size in px, which are the units of its SVG."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / 72, height / 72), dpi=72, frameon=False)
    FigureCanvasSVG(figure)
    return figure


def add_axes(
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


def add_legend(axes: Axes, handles: Mapping[str, Any]) -> None:
    """A legend in one line above the axes, to the right."""
    axes.legend(
        list(handles.values()),
        [clean(name) for name in handles],
        loc="lower right",
        bbox_to_anchor=(1, 1.03),
        ncols=len(handles),
    )


def mark(artist: Any, class_: str, text: str = "") -> None:
    """Give the artist's element a class and a tooltip; `inline_svg` writes them."""
    artist.set_gid(f"{class_}:{clean(text)}")


def inline_svg(figure: Figure, key: str, title: str, desc: str) -> Markup:
    """The SVG of a figure as a part of a page.

    Its ids begin with the key, which is unique in the page; colours become variables of the style
    sheet; title and description are for those who cannot see the figure.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    root = ElementTree.fromstring(buffer.getvalue())
    root.remove(root.find(f"{SVG}metadata"))  # type: ignore[arg-type]
    for element in list(root.iter()):
        element.tag = element.tag.removeprefix(SVG)
        for child in element.findall(f"{SVG}style"):  # would hold for the whole page
            element.remove(child)
        _rewrite(element, key)
    width = float(root.attrib["width"].removesuffix("pt"))
    names = f"{key}-title {key}-desc"
    root.attrib = {"viewBox": root.attrib["viewBox"], "style": f"max-width:{width:g}px"}
    root.attrib |= {"role": "img", "aria-labelledby": names}
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
