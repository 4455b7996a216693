"""Markup that is always closed and always escaped, for the report. Pure."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# Elements that HTML never closes, and shapes of SVG that hold nothing.
VOID = frozenset({"br", "img", "meta"})
# Characters that no HTML document may hold; data can hold them.
FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True)
class Html:
    """Finished markup; whatever is plain text is not of this type, and gets escaped."""

    text: str


Child = Html | str | int | float | None


def escape(text: object) -> str:
    """Plain text as markup, also within a quoted attribute.

    >>> escape('<b title="x">')
    '&lt;b title=&quot;x&quot;&gt;'
    """
    return html.escape(FORBIDDEN.sub("\ufffd", str(text)), quote=True)


def el(tag: str, *children: Child, **attributes: object) -> Html:
    """One element. ``class_`` and ``stroke_width`` stand for ``class`` and ``stroke-width``.

    Parameters
    ----------
    tag : str
    *children : Html, text, number or None
        Anything but Html is escaped; None is left out.
    **attributes : object
        None is left out.

    >>> el("td", "a < b", class_="x").text
    '<td class="x">a &lt; b</td>'
    """
    given = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for name, value in attributes.items()
        if value is not None
    )
    if tag in VOID:
        return Html(f"<{tag}{given}>")
    return Html(f"<{tag}{given}>{joined(children).text}</{tag}>")


def joined(parts: Iterable[Child]) -> Html:
    """Several pieces one after the other."""
    return Html(
        "".join(
            part.text if isinstance(part, Html) else escape(part)
            for part in parts
            if part is not None
        )
    )


def table(
    caption: str,
    head: Sequence[str],
    rows: Iterable[Sequence[Child]],
    *,
    text_columns: Sequence[int] = (0,),
) -> Html:
    """A table with a caption; the first cell of each row is its heading.

    Parameters
    ----------
    caption : str
    head : sequence of str
    rows : iterable of sequences as long as ``head``
    text_columns : sequence of int
        Columns of words; all others are numbers and stand right.
    """

    def kind(column: int) -> str | None:
        return None if column in text_columns else "n"

    titles = [el("th", name, scope="col", class_=kind(i)) for i, name in enumerate(head)]
    body = [
        el(
            "tr",
            el("th", row[0], scope="row", class_=kind(0)),
            *(el("td", cell, class_=kind(i)) for i, cell in enumerate(row) if i),
        )
        for row in rows
    ]
    whole = el("table", el("caption", caption), el("thead", el("tr", *titles)), el("tbody", *body))
    return el("div", whole, class_="wide", tabindex=0, role="region", aria_label=caption)


@dataclass(frozen=True)
class Section:
    """A part of the document that the list of contents points to."""

    name: str
    title: str
    html: Html


def section(name: str, title: str, *parts: Child) -> Section:
    """A section with a heading."""
    heading = el("h2", title, id=f"{name}-title")
    whole = el("section", heading, *parts, id=name, aria_labelledby=f"{name}-title")
    return Section(name, title, whole)


def figure(drawing: Html, caption: Child) -> Html:
    """A drawing with what there is to see in it."""
    return el("figure", drawing, el("figcaption", caption))


def count(number: float) -> str:
    """A whole number with its thousands apart.

    >>> count(12345)
    '12,345'
    """
    return f"{number:,.0f}"


def percent(share: float | None) -> str:
    """A share in per cent, one digit; a dash for none.

    >>> percent(0.6139)
    '61.4 %'
    """
    return "–" if share is None or share != share else f"{100 * share:.1f} %"


def decimal(value: float | None, digits: int = 3) -> str:
    """A number with fixed digits and a true minus sign; a dash for none.

    >>> decimal(-0.25)
    '−0.250'
    """
    if value is None or value != value:
        return "–"
    return f"{value:.{digits}f}".replace("-", "−")
