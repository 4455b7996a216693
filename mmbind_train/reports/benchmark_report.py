"""Show the results of a benchmark: one HTML file that needs nothing but a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mmbind_data.errors import FormatError
from mmbind_data.reports.curves import dot_plot
from mmbind_data.reports.html import (
    Child,
    Html,
    Section,
    check_page,
    compose,
    count,
    el,
    figure,
    section,
    table,
    write_page,
)
from mmbind_data.spec.validation_messages import fault_of
from mmbind_train.benchmarks.results import LEVEL, MADE_UP, RESULTS, Results, remarks, table_rows

FOOT = "Accuracy in %; the test people were read once, after the last epoch."


def write_results_report(
    folder: str | Path, out: str | Path, *, overwrite: bool = False
) -> dict[str, Any]:
    """Write a report on a benchmark: one HTML file, readable without a network.

    Parameters
    ----------
    folder : path
        The output of `benchmark`.
    out : path
        The HTML file.
    overwrite : bool
        A report may stand there.

    Returns
    -------
    dict
        ``path``, ``bytes``, ``protocol``, ``n_scores``, ``generated``.

    Raises
    ------
    FormatError
        No results there.
    OutputError
    """
    path, out = Path(folder) / RESULTS, Path(out)
    check_page(out, (), overwrite=overwrite)
    results = read_results(path)
    sections = [
        _table(results),
        *_figures(results),
        _differences(results),
        _splits(results),
        section("remarks", "Remarks", el("ul", *(el("li", one) for one in remarks(results)))),
        _origin(results),
    ]
    page = compose(
        results.protocol.title,
        MADE_UP if results.generated else f"protocol {results.protocol.name}, {results.on}",
        _glance(results),
        [one for one in sections if one is not None],
        FOOT,
    )
    write_page(out, (), page, overwrite=overwrite)
    return {
        "path": str(out),
        "bytes": len(page.encode()),
        "protocol": results.protocol.name,
        "n_scores": len(results.scores),
        "generated": results.generated,
    }


def read_results(path: Path) -> Results:
    """Read results.json.

    Raises
    ------
    FormatError
    """
    try:
        return Results.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        step = "Results are the output of mmbind benchmark."
        raise FormatError(cannot="report", **fault_of(error, path), fix=step) from error


def _glance(results: Results) -> Html:
    facts = [
        ("rows", len({one.row for one in results.scores})),
        ("splits", len({one.split for one in results.scores})),
        ("seeds", len({one.seed for one in results.scores})),
        ("evaluations", len(results.scores)),
        ("failed", len(results.failures)),
    ]
    pairs = (el("div", el("dt", name), el("dd", count(n))) for name, n in facts)
    return el("dl", *pairs, class_="glance")


def _table(results: Results) -> Section:
    head, lines = table_rows(results)
    made_up = el("p", MADE_UP, class_="warning") if results.generated else None
    told = "Accuracy in %, mean ± sample standard deviation over splits and seeds (macro-F1)"
    words = (0, 1) if results.protocol.finetune == "once" else (0,)
    return section("table", "Table", made_up, table(told, head, lines, text_columns=words))


def _figures(results: Results) -> list[Section]:
    """One figure per condition: the mean of each row and its standard deviation."""
    drawn: list[Child] = []
    for number, name in enumerate(dict.fromkeys(one.condition for one in results.summaries)):
        rows = [
            (one.row, 100 * one.accuracy, 100 * (one.accuracy - spread),
             100 * (one.accuracy + spread))
            for one in results.summaries if one.condition == name
            for spread in [one.accuracy_std or 0.0]
        ]  # fmt: skip
        plot = dot_plot(f"accuracy-{number}", f"Accuracy, {name}", "accuracy, %", rows)
        drawn += [el("h3", name), figure(plot, "Mean, and one standard deviation to each side.")]
    return [section("figure", "Figure", *drawn)] if drawn else []


def _differences(results: Results) -> Section | None:
    rows = [
        (one.row, one.baseline, one.condition, f"{100 * one.mean:+.1f}",
         "–" if one.low is None or one.high is None
         else f"{100 * one.low:+.1f} to {100 * one.high:+.1f}", count(one.n))
        for one in results.differences
    ]  # fmt: skip
    if not rows:
        return None
    head = ("row", "minus", "condition", "points", LEVEL, "pairs")
    caption = f"Paired differences to {results.protocol.against or 'the best baseline'}"
    return section("differences", "Differences", table(caption, head, rows, text_columns=(0, 1, 2)))


def _splits(results: Results) -> Section | None:
    """Mean over seeds of every row under every condition, split by split."""
    splits = list(dict.fromkeys(one.split for one in results.scores))
    if not splits:
        return None
    rows = []
    for row, condition in dict.fromkeys((one.row, one.condition) for one in results.scores):
        cells = []
        for split in splits:
            own = [
                one.accuracy for one in results.scores
                if (one.row, one.condition, one.split) == (row, condition, split)
            ]  # fmt: skip
            cells.append(f"{100 * float(np.mean(own)):.1f}" if own else "–")
        rows.append((row, condition, *cells))
    head = ("row", "condition", *splits)
    caption = "Accuracy in %, mean over seeds, by split"
    return section("splits", "Splits", table(caption, head, rows, text_columns=(0, 1)))


def _origin(results: Results) -> Section:
    versions = ", ".join(f"{name} {one}" for name, one in results.versions.items())
    sources = [(name, el("code", digest)) for name, digest in results.sources.items()]
    return section(
        "origin",
        "Made by",
        el("pre", el("code", results.command or "mmbind_train.benchmarks.run.benchmark")),
        el("p", f"Protocol {results.protocol.name}, sha256 ", el("code", results.protocol_digest)),
        el("p", versions),
        table("Sources", ("source", "content digest"), sources, text_columns=(0, 1)),
    )
