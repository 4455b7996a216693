"""Pages of reports: Jinja2 templates, tables, number formats, and how a page is written."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mmbind_data.io.atomic import check_output, staged_file

DOING = "report"
MARK = Markup('<meta name="generator" content="mmbind report">')
# Characters that neither HTML nor XML may hold; data can hold them.
FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True)
class Section:
    """A section of a page: the template's macro ``name`` renders ``data`` below the title."""

    name: str
    title: str
    data: Mapping[str, Any] = field(default_factory=dict)


def clean(text: object) -> str:
    """Text without the characters that a document must not hold."""
    return FORBIDDEN.sub("\ufffd", str(text))


def count(number: float) -> str:
    """Format a whole number with separators of thousands.

    >>> count(12345)
    '12,345'
    """
    return f"{number:,.0f}"


def percent(share: float | None) -> str:
    """Format a share in per cent with one digit; a dash for None and NaN.

    >>> percent(0.6139)
    '61.4 %'
    """
    return "–" if share is None or share != share else f"{100 * share:.1f} %"


def decimal(value: float | None, digits: int = 3) -> str:
    """Format a number with fixed digits and a true minus sign; a dash for None and NaN.

    >>> decimal(-0.25)
    '−0.250'
    """
    return "–" if value is None or value != value else f"{value:.{digits}f}".replace("-", "−")


def interval(lower: float, upper: float) -> str:
    """Format an interval of a share in per cent.

    >>> interval(0.835, 0.888)
    '83.5–88.8 %'
    """
    return f"{100 * lower:.1f}–{100 * upper:.1f} %"


def render_page(
    template: str,
    *,
    package: str = __package__,
    name: str,
    summary: str,
    foot: str,
    glance: Mapping[str, Any],
    sections: Iterable[Section | None],
) -> str:
    """Render a report: one document that needs no network and no script.

    Parameters
    ----------
    template : str
        A file with a macro for each section, and a macro ``glance`` for the figures at the top.
    package : str
        The package whose folder ``template`` holds the file.
    name, summary, foot : str
        Title, the line below it, and what is said at the end.
    glance : mapping
        Arguments of the macro ``glance``.
    sections : iterable of Section or None
        None is left out.
    """
    loader = ChoiceLoader([PackageLoader(one, "template") for one in (package, __package__)])
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    environment.trim_blocks = environment.lstrip_blocks = True
    environment.filters |= {"count": count, "percent": percent, "decimal": decimal}
    environment.globals |= {"interval": interval}
    macros = environment.get_template(template).module
    page = environment.get_template("page.html").render(
        mark=MARK,
        name=name,
        summary=summary,
        foot=foot,
        version=version("mmbind"),
        glance=macros.glance(**glance),  # type: ignore[attr-defined]
        sections=[
            (one.name, one.title, getattr(macros, one.name)(**one.data)) for one in sections if one
        ],
    )
    return clean(page)


def check_page(out: Path, inputs: Iterable[Path], *, overwrite: bool) -> None:
    """Refuse a path inside an input, and one that exists unless it is a report to overwrite.

    Raises
    ------
    OutputError
    """
    check = partial(check_output, doing=DOING, replaces="report", ours=_is_report)
    check(out, overwrite=overwrite, inputs=inputs)


def _is_report(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return MARK in file.read(4096).decode(errors="replace")


def write_page(out: Path, inputs: Iterable[Path], page: str, *, overwrite: bool) -> int:
    """Write a page atomically and return its size in bytes.

    Raises
    ------
    OutputError
    """
    check = partial(check_page, out, tuple(inputs), overwrite=overwrite)
    with staged_file(out, check, doing=DOING) as path:
        return path.write_bytes(page.encode())
