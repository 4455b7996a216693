"""mmbind diff A B."""

from __future__ import annotations

import dataclasses

import click

from ..output import Report, reported

DIFFERENT = 3


@click.command("diff")
@click.argument("a", type=click.Path())
@click.argument("b", type=click.Path())
@reported
def command(a: str, b: str) -> Report:
    """Tell what two stores or bundles hold that differs: samples, values, rows, weights.

    Paths, chunks and row numbers do not count. Ends with 0 where they are equal, else with 3.
    """
    from mmbind_data.store.differences import diff

    found = diff(a, b)
    lines = [f"{one.where}: {one.what}: {one.a} | {one.b}" for one in found]
    lines = lines or [f"{a} and {b} hold the same"]
    result = {"equal": not found, "differences": [dataclasses.asdict(one) for one in found]}
    return Report(result, lines, exit_code=DIFFERENT if found else 0)
