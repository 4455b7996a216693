"""mmbind verify BUNDLE|STORE."""

from __future__ import annotations

import dataclasses

import click

from .. import options
from ..output import Report, reported

DIFFERS = 6


@click.command("verify")
@click.argument("path", metavar="BUNDLE|STORE|ZIP", type=click.Path())
@click.option("--deep", "depth", flag_value="deep", help="Hash every file.")
@click.option("--values", "depth", flag_value="values", help="Decode every value too.")
@options.source()
@reported
def command(path: str, depth: str | None, sources: dict[str, str]) -> Report:
    """Tell whether a bundle or a store, with its sources, is what its manifest and digests say.

    By default names and sizes of all files are compared. A packed one is verified as it is.
    """
    from mmbind_data.publishing.verify import verify

    reach = "deep" if depth == "deep" else "values" if depth == "values" else "fast"
    found = verify(path, depth=reach, sources=sources)  # type: ignore[arg-type]
    problems = [dataclasses.asdict(one) for one in found]
    lines = [f"{one.severity}: {one.code} at {one.where}: {one.message}" for one in found]
    lines = lines or [f"{path}: intact ({reach})"]
    result = {"depth": reach, "problems": problems}
    exit_code = DIFFERS if problems else 0
    return Report(result, lines, problems, exit_code=exit_code, echo_issues=False)
