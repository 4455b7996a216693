"""mmbind benchmark PROTOCOL --data DIR -o RESULTS."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import options
from ..output import Report, Screen, notes, reported

if TYPE_CHECKING:
    from mmbind_train.benchmarks.results import Results
    from mmbind_train.benchmarks.run import BenchmarkPreview

PARTIAL = 7
WORK = "Finished jobs; protocols may share it.  [default: OUT/work]"
ON = "validation: on the people for choosing; the test is not opened."
STATISTIC = "Also the mean test accuracy over the last 60 % of epochs."


@click.command("benchmark")
@click.argument("protocol", required=False)
@click.option("--list", "listing", is_flag=True, help="The protocols, one line each.")
@click.option("--data", type=click.Path(path_type=Path), help="Raw folders or zips, by dataset id.")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Folder of the results.")
@click.option("--work", type=click.Path(path_type=Path), help=WORK)
@options.names("--methods", help="Only these rows, by name or method.")
@options.count("--seeds", help="How many.  [default: the protocol's]")
@options.count("--splits", help="How many.  [default: the protocol's]")
@options.count("--jobs", help="Processes.  [default: as many as cores; one on a GPU]")
@options.device()
@options.choice("--on", ["test", "validation"], ON, "test")
@click.option("--paper-statistic", is_flag=True, help=STATISTIC)
@click.option("--generated", is_flag=True, help="Made-up data; without --data it is made here.")
@options.natural("--steps", help="Of every training, to try it out.")
@options.label_model()
@options.dry_run(help="Say what there is to do and how long it takes.")
@reported
def command(
    protocol: str | None, out: Path | None, dry_run: bool, screen: Screen, **chosen: Any
) -> Report:
    """Run PROTOCOL, a name from --list or a JSON file, from raw data to a table.

    The same command resumes where it was interrupted, and repeats only what a change affects.
    """
    if chosen.pop("listing"):
        return _list()
    if protocol is None or out is None:
        message = "give a PROTOCOL and -o OUT; mmbind benchmark --list names the protocols"
        raise click.UsageError(message)
    from mmbind_train.benchmarks.plan import BenchmarkRequest
    from mmbind_train.benchmarks.run import benchmark, plan_benchmark

    how = {name: chosen.pop(name) for name in ("work", "jobs")}
    request = BenchmarkRequest(protocol=protocol, **chosen)
    if dry_run:
        return _preview(plan_benchmark(request, out, **how))
    words = shlex.join(["mmbind", *sys.argv[1:]])
    with screen.progress(f"benchmark {Path(protocol).stem}") as progress:
        results = benchmark(request, out, command=words, progress=progress, **how)
    return _report(out, results)


def _list() -> Report:
    from mmbind_train.benchmarks.protocol import list_protocols, load_protocol

    titles = {name: load_protocol(name).title for name in list_protocols()}
    width = max(map(len, titles))
    return Report(titles, [f"{name:{width}}  {title}" for name, title in titles.items()])


def _preview(preview: BenchmarkPreview) -> Report:
    from mmbind_data.progress import duration

    result = {
        "protocol": preview.protocol.name,
        "cells": preview.n_jobs,
        "done": preview.n_done,
        "seconds": preview.seconds,
        "exact": preview.exact,
        "missing": preview.missing,
    }
    counts = ", ".join(f"{count} {kind}" for kind, count in preview.n_jobs.items())
    left = "unknown before jobs of each kind were measured"
    if preview.seconds is not None:
        left = f"about {duration(preview.seconds)}"
    lines = [preview.protocol.title, f"jobs: {counts}; {preview.n_done} done", f"time: {left}"]
    return Report(result, lines, notes([f"warning: {preview.missing}"] if preview.missing else []))


def _report(out: Path, results: Results) -> Report:
    from rich.table import Table

    from mmbind_train.benchmarks.results import LEVEL, difference_rows, remarks, table_rows

    head, rows = table_rows(results)
    table = Table(*head, title=results.protocol.title)
    for row in rows:
        table.add_row(*row)
    result = {"path": str(out), **results.model_dump(mode="json")}
    differences = [f"Paired differences, {LEVEL}:", *difference_rows(results)]
    lines = [table, *(differences if results.differences else []), *remarks(results)]
    return Report(result, lines, exit_code=PARTIAL if results.failures else 0)
