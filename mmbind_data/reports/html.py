"""Markup that is always closed and always escaped, for the report. Pure."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from string import Template

from mmbind_data.io.atomic import check_output, staged_file

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


DOING = "report"
TEMPLATE = "report.html.template"
MARK = '<meta name="generator" content="mmbind report">'


def compose(name: str, summary: str, glance: Html, sections: Sequence[Section], foot: str) -> str:
    """Fill in the template.

    Parameters
    ----------
    name, summary : str
        Title and the line below it, plain text.
    glance : Html
        The figures at the top.
    sections : sequence of Section
        At least one.
    foot : str
        What a reader must know, plain text.
    """
    template = Template((files(__package__) / "template" / TEMPLATE).read_text(encoding="utf-8"))
    contents = [el("li", el("a", one.title, href=f"#{one.name}")) for one in sections]
    return template.substitute(
        mark=MARK,
        first=sections[0].name,
        name=escape(name),
        summary=escape(summary),
        glance=glance.text,
        contents=joined(contents).text,
        sections=joined(one.html for one in sections).text,
        version=escape(version("mmbind")),
        foot=escape(foot),
    )


def check_page(out: Path, inputs: Iterable[Path], *, overwrite: bool) -> None:
    """Refuse a path that is taken, unless by a report, or that lies within an input.

    Raises
    ------
    OutputError
    """
    check_output(
        out, overwrite=overwrite, doing=DOING, inputs=inputs, replaces="report", ours=_is_ours
    )


def _is_ours(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return MARK in file.read(4096).decode(errors="replace")


def write_page(out: Path, inputs: Iterable[Path], page: str, *, overwrite: bool) -> None:
    """Write beside the target, then rename: a report appears whole or not at all.

    Raises
    ------
    OutputError
    """
    check = partial(check_page, out, tuple(inputs), overwrite=overwrite)
    with staged_file(out, check, doing=DOING) as path:
        path.write_text(page, encoding="utf-8", newline="\n")
