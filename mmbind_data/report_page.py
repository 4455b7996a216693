"""One page: the template filled in, and written whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from string import Template

from .report_html import Html, Section, el, escape, joined
from .staging import check_output, staged_file

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
