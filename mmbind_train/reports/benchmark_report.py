"""The report on the results of a benchmark: one HTML file that needs nothing but a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mmbind_data.errors import FormatError
from mmbind_data.reports.html import DOING, Section, check_page, render_page, write_page
from mmbind_data.reports.plots import dot_plot
from mmbind_data.spec.validation_messages import fault_of
from mmbind_train.benchmarks.results import LEVEL, MADE_UP, RESULTS, Results, remarks, table_rows


def report_results(
    folder: str | Path, out: str | Path, *, overwrite: bool = False
) -> dict[str, Any]:
    """Write a report on the output of `benchmark`: one HTML file, readable without a network.

    It gives ``path``, ``bytes``, ``protocol``, ``n_scores`` and ``generated``.

    Raises
    ------
    FormatError
        The folder holds no results.
    OutputError
        Something else exists at ``out``, or it cannot be written.
    """
    path, out = Path(folder) / RESULTS, Path(out)
    check_page(out, (), overwrite=overwrite)
    results = read_results(path)
    protocol = results.protocol
    page = render_page(
        "results.html",
        package=__package__,
        name=protocol.title,
        summary=MADE_UP if results.generated else f"protocol {protocol.name}, {results.on}",
        foot="Accuracy in %; the test people were read once, after the last epoch.",
        glance={"scores": results.scores, "failures": results.failures},
        sections=[
            _table(results),
            _figures(results),
            _differences(results),
            _splits(results),
            Section("remarks", "Remarks", {"remarks": remarks(results)}),
            Section("origin", "Made by", {"results": results}),
        ],
    )
    return {
        "path": str(out),
        "bytes": write_page(out, (), page, overwrite=overwrite),
        "protocol": protocol.name,
        "n_scores": len(results.scores),
        "generated": results.generated,
    }


def read_results(path: str | Path) -> Results:
    """Read results.json.

    Raises
    ------
    FormatError
        There is no such file, or it holds something else.
    """
    try:
        return Results.model_validate_json(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        step = "Results are the output of mmbind benchmark."
        raise FormatError(cannot=DOING, **fault_of(error, path), fix=step) from error


def _table(results: Results) -> Section:
    head, lines = table_rows(results)
    n_words = 2 if results.protocol.finetune == "once" else 1
    data = {"head": head, "lines": lines, "n_words": n_words}
    return Section("table", "Table", data | {"warning": MADE_UP if results.generated else ""})


def _figures(results: Results) -> Section | None:
    """One figure per condition: the mean of each row and its standard deviation."""
    drawings = {}
    for number, name in enumerate(dict.fromkeys(one.condition for one in results.summaries)):
        rows = [
            (one.row, 100 * one.accuracy, 100 * (one.accuracy_std or 0.0))
            for one in results.summaries
            if one.condition == name
        ]
        drawings[name] = dot_plot(f"accuracy-{number}", f"Accuracy, {name}", "accuracy, %", rows)
    return Section("figures", "Figure", {"drawings": drawings}) if drawings else None


def _differences(results: Results) -> Section | None:
    against = results.protocol.against or "the best baseline"
    data = {"differences": results.differences, "against": against, "level": LEVEL}
    return Section("differences", "Differences", data) if results.differences else None


def _splits(results: Results) -> Section | None:
    """Mean over seeds of every row under every condition, split by split."""
    found: dict[tuple[str, str], dict[str, list[float]]] = {}
    for one in results.scores:
        by_split = found.setdefault((one.row, one.condition), {})
        by_split.setdefault(one.split, []).append(100 * one.accuracy)
    splits = list(dict.fromkeys(one.split for one in results.scores))
    rows = [
        (*name, *(f"{np.mean(one[split]):.1f}" if split in one else "–" for split in splits))
        for name, one in found.items()
    ]
    return Section("splits", "Splits", {"splits": splits, "rows": rows}) if rows else None
