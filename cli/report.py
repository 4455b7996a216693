"""mmbind report BOUND -o FILE.html."""

from __future__ import annotations

import click

from .options import source_paths
from .output import Report, Screen, reported


@click.command("report")
@click.argument("bound", type=click.Path())
@click.option("-o", "--out", required=True, type=click.Path(), help="The HTML file.")
@click.option("--pairs", default=20, show_default=True, type=click.IntRange(min=0),
              help="Pairs to draw with both signals.")  # fmt: skip
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0),
              help="Which pairs.")  # fmt: skip
@click.option("--source", "sources", multiple=True, metavar="ID=PATH",
              help="Where a source lies now.")  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace a report at OUT.")
@reported
def command(
    bound: str, out: str, pairs: int, seed: int, sources: tuple[str, ...], overwrite: bool,
    screen: Screen,
) -> Report:  # fmt: skip
    """Write one HTML page on a bound store: who was paired with whom, how well, and why.

    It opens without a network: confusion, similarity, hubs, coverage, and pairs drawn with both
    signals and their provenance.
    """
    from mmbind_data.layout import open_bound
    from mmbind_data.report import write_report

    del screen
    opened = open_bound(bound, sources=source_paths(sources))
    result = write_report(opened, out, n_pairs=pairs, seed=seed, overwrite=overwrite)
    line = f"{out}: {result['n_pairs']} pairs, {result['n_drawn']} drawn"
    return Report(result, [f"{line}, {result['bytes'] / 1e6:.1f} MB"])
