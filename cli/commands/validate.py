"""mmbind validate STORE."""

from __future__ import annotations

import dataclasses

import click

from ..options import source_paths
from ..output import Report, Screen, reported

FAILED = 3


@click.command("validate")
@click.argument("store", type=click.Path())
@click.option(
    "--level",
    type=click.Choice(["meta", "structure", "bytes", "values"]),
    default="structure",
    show_default=True,
    help="Each level includes those before it.",
)
@click.option("--source", multiple=True, metavar="ID=PATH", help="Where a source lies now.")
@reported
def command(store: str, level: str, source: tuple[str, ...], screen: Screen) -> Report:
    """Check STORE: documents, arrays and files, every byte, every value."""
    from mmbind_data.store.validation import validate

    del screen
    problems = validate(store, level=level, sources=source_paths(source))
    failed = any(problem.severity == "error" for problem in problems)
    found = [dataclasses.asdict(problem) for problem in problems]
    lines = [f"{one.severity}: {one.code} at {one.where}: {one.message}" for one in problems]
    lines = lines or [f"{store}: valid at level {level}"]
    result, exit_code = {"problems": found}, FAILED if failed else 0
    return Report(result, lines, issues=found, exit_code=exit_code, echo_issues=False)
