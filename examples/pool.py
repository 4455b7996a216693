"""Several benchmarks of the same rows as one table, such as the two halves of the people.

    mmbind benchmark utd-cross-node-sensor --data raw -o table-acc
    mmbind benchmark utd-cross-node-sensor-swapped --data raw -o table-swapped
    python examples/pool.py table-acc table-swapped --of mmbind

prints each row's mean, sample standard deviation and macro-F1 over all splits and seeds, and what
the row named with --of is better by than each other one (95 % t interval, sign-flip p).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mmbind_data.errors import MMBindError
from mmbind_train.benchmarks.results import Results
from mmbind_train.benchmarks.statistics import Score, difference, summarise
from mmbind_train.reports.benchmark_report import read_results


def pooled(tables: list[Results]) -> list[Score]:
    """All scores, of tables that differ in their splits and in nothing else that counts."""
    first = tables[0]
    for other in tables[1:]:
        for name in ("rows", "conditions", "train", "evaluate", "shared"):
            if getattr(first.protocol, name) != getattr(other.protocol, name):
                message = f"{first.protocol.name} and {other.protocol.name} differ in {name}"
                raise SystemExit(message)
        if (first.generated, first.on) != (other.generated, other.on):
            message = "made-up and real data, or test and validation, are not pooled"
            raise SystemExit(message)
    scores = [score for table in tables for score in table.scores]
    if len({(s.row, s.condition, s.split, s.seed) for s in scores}) < len(scores):
        message = "two tables hold the same split"
        raise SystemExit(message)
    return scores


def table(scores: list[Score]) -> str:
    """One line for each row, a column for each condition."""
    summaries = summarise(scores)
    conditions = list(dict.fromkeys(one.condition for one in summaries))
    lines = ["| method | " + " | ".join(conditions) + " |", "|---" * (len(conditions) + 1) + "|"]
    for row in dict.fromkeys(one.row for one in summaries):
        cells = [
            f"{100 * one.accuracy:.1f} ± {100 * (one.accuracy_std or 0):.1f} ({one.macro_f1:.2f})"
            for one in summaries
            if one.row == row
        ]
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def against(scores: list[Score], own: str) -> list[str]:
    """What one row is better by than each other, under each condition."""
    lines = []
    for condition in dict.fromkeys(score.condition for score in scores):
        rows: dict[str, dict[tuple[str, int], float]] = {}
        for score in scores:
            if score.condition == condition:
                rows.setdefault(score.row, {})[score.split, score.seed] = score.accuracy
        for other in rows:
            found = difference(own, other, condition, rows[own], rows[other])
            if other != own and found and found.low is not None and found.high is not None:
                low, mean, high = (100 * one for one in (found.low, found.mean, found.high))
                lines.append(
                    f"{own} - {other}, {condition}: {mean:+.1f} [{low:+.1f}, {high:+.1f}], "
                    f"p = {found.p:.3f}, n = {found.n} of {found.n_splits} splits"
                )
    return lines


def main() -> None:
    """Read, check, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("results", nargs="+", type=Path, help="folders of mmbind benchmark")
    parser.add_argument("--of", default="mmbind", help="the row that is compared")
    given = parser.parse_args()
    try:
        scores = pooled([read_results(folder / "results.json") for folder in given.results])
    except MMBindError as error:
        raise SystemExit(f"error: {error}") from error
    if given.of not in {score.row for score in scores}:
        raise SystemExit(f"error: no row {given.of} in these results")
    sys.stdout.write("\n".join([table(scores), "", *against(scores, given.of), ""]))


if __name__ == "__main__":
    main()
