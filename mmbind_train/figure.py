"""The figure of a benchmark: accuracy by condition, one line or bar per row."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .results import Results

WATERMARK = "generated data"


def draw_results(results: Results, path: Path) -> None:
    """Write a PNG: bars with sample standard deviations, the paper's figures as diamonds."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    conditions = list(dict.fromkeys(one.condition for one in results.summaries))
    rows = list(dict.fromkeys(one.row for one in results.summaries))
    figure = Figure(figsize=(max(6.0, 1.5 + 0.35 * len(rows) * len(conditions)), 4.5), dpi=120)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    width = 0.8 / max(1, len(rows))
    for number, row in enumerate(rows):
        own = {one.condition: one for one in results.summaries if one.row == row}
        places = [k for k, name in enumerate(conditions) if name in own]
        means = [100 * own[conditions[k]].accuracy for k in places]
        spreads = [100 * (own[conditions[k]].accuracy_std or 0) for k in places]
        at = [k - 0.4 + width * (number + 0.5) for k in places]
        axes.bar(at, means, width, yerr=spreads, label=row, color=f"C{number % 10}", capsize=2)
        for one in results.protocol.paper.figures.get(row, ()):
            if one.accuracy is not None and one.condition in own:
                place = conditions.index(one.condition) - 0.4 + width * (number + 0.5)
                axes.plot([place], [100 * one.accuracy], "kD", markersize=4)
    axes.set_xticks(range(len(conditions)), conditions)
    axes.set_ylabel("accuracy, %")
    axes.set_ylim(0, 100)
    axes.set_title(results.protocol.title, fontsize=9)
    if rows:
        axes.legend(fontsize=7, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.1))
    if results.generated or results.on == "validation":
        text = WATERMARK if results.generated else "validation"
        figure.text(0.5, 0.5, text, fontsize=36, color="red", alpha=0.35, ha="center", rotation=20)
    fresh = path.with_name(f".{path.name}")
    figure.savefig(fresh, format="png", bbox_inches="tight", metadata={"Software": "mmbind"})
    fresh.replace(path)
