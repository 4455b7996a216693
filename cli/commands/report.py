"""mmbind report BOUND|RUN|RESULTS -o FILE.html."""

from __future__ import annotations

from pathlib import Path

import click

from .. import options
from ..output import Report, reported

ONLY = {"pairs": "a bound store", "sources": "a bound store", "evaluation": "a run", "map": "a run"}


@click.command("report")
@click.argument("path", type=click.Path())
@click.option("-o", "--out", required=True, type=click.Path(), help="The HTML file.")
@click.option("--pairs", type=click.IntRange(min=0),
              help="Of a bound store: pairs to draw with both signals.  [default: 20]")  # fmt: skip
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0),
              help="Which pairs, or which samples of the map.")  # fmt: skip
@options.source(help="Of a bound store: where a source is now.")
@click.option("--evaluation", type=click.Path(),
              help="Of a run: what mmbind evaluate --json printed.")  # fmt: skip
@click.option("--map", type=click.Path(), help="Of a run: a store whose embeddings are drawn.")
@click.option("--overwrite", is_flag=True, help="Replace a report at OUT.")
@reported
def command(
    path: str, out: str, pairs: int | None, seed: int, sources: dict[str, str],
    evaluation: str | None, map: str | None, overwrite: bool,
) -> Report:  # fmt: skip
    """Write one HTML page on a bound store, a run or a benchmark's results.

    It opens without a network. A bound store: who was paired with whom, how well, and why. A run:
    loss, what was read, confusion, embeddings. Results: tables, intervals, figures, splits.
    """
    kind = _kind(Path(path))
    given = {"pairs": pairs, "sources": sources or None, "evaluation": evaluation, "map": map}
    for name, value in given.items():
        if value is not None and ONLY[name] != kind:
            option = "--source" if name == "sources" else f"--{name}"
            raise click.UsageError(f"{option} is for {ONLY[name]}, {path} is {kind}")
    if kind == "a run":
        from mmbind_train.reports.run_report import report_run

        result = report_run(
            path, out, evaluation=evaluation, store=map, seed=seed, overwrite=overwrite
        )
        line = f"{out}: {result['method']}, {len(result['stages'])} stages"
    elif kind == "results":
        from mmbind_train.reports.benchmark_report import report_results

        result = report_results(path, out, overwrite=overwrite)
        line = f"{out}: {result['protocol']}, {result['n_scores']} evaluations"
    else:
        from mmbind_data.reports.bound_report import report
        from mmbind_data.store.bound import open_bound

        opened = open_bound(path, sources=sources)
        n_pairs = 20 if pairs is None else pairs
        result = report(opened, out, n_pairs=n_pairs, seed=seed, overwrite=overwrite)
        line = f"{out}: {result['n_pairs']} pairs, {result['n_drawn']} drawn"
    return Report(result, [f"{line}, {result['bytes'] / 1e6:.1f} MB"])


def _kind(path: Path) -> str:
    """The kind of a path, by the document that it holds; a bound store if it holds none."""
    if (path / "run.json").exists():
        return "a run"
    return "results" if (path / "results.json").exists() else "a bound store"
