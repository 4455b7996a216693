"""mmbind validate STORE."""

from __future__ import annotations

import dataclasses

import click

from .. import options
from ..output import Report, reported

FAILED = 3
LEVELS = ["meta", "structure", "bytes", "values"]


@click.command("validate")
@click.argument("store", type=click.Path())
@options.choice("--level", LEVELS, "Each level includes those before it.", "structure")
@options.source()
@reported
def command(store: str, level: str, sources: dict[str, str]) -> Report:
    """Check STORE: documents, arrays and files, every byte, every value."""
    from mmbind_data.store.validation import validate

    problems = validate(store, level=level, sources=sources)
    failed = any(problem.severity == "error" for problem in problems)
    found = [dataclasses.asdict(problem) for problem in problems]
    lines = [f"{one.severity}: {one.code} at {one.where}: {one.message}" for one in problems]
    lines = lines or [f"{store}: valid at level {level}"]
    result, exit_code = {"problems": found}, FAILED if failed else 0
    return Report(result, lines, issues=found, exit_code=exit_code, echo_issues=False)
