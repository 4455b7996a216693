"""Results of a benchmark: the document, its parquet, markdown and figure."""

from __future__ import annotations

import json
from collections.abc import Set
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from mmbind_data.errors import OutputError
from mmbind_data.spec.descriptor import Model
from mmbind_train.benchmarks.jobs import write_atomically
from mmbind_train.benchmarks.plan import Place
from mmbind_train.benchmarks.protocol import PaperFigure, Protocol, changed_paths
from mmbind_train.benchmarks.statistics import Difference, Reached, Score, Summary

RESULTS, PARQUET, MARKDOWN, FIGURE = "results.json", "results.parquet", "results.md", "results.png"
MADE_UP = "GENERATED DATA: these figures show that it runs and nothing else."
LEVEL = "95 % bootstrap interval (splits resampled, then seeds within each)"
ONE_SPLIT = "One split: the intervals tell of its seeds alone, and nothing of other people."
CLASSIFIER = (
    "One fine-tuning for all methods, but for two things that follow from the method: its "
    "classifier reads features (lower_bound, unimodal, all that learnt from labels) or embeddings "
    "(the others), and starts at random (lower_bound), as learnt from labels, or at the means of "
    "the classes (the others)."
)
FIXED = ("space", "start", "carry")  # with these a protocol says one thing for all
ON_VALIDATION = "Validation people, for choosing hyper-parameters: no figures to report."
# parts of a protocol that no figure depends on, or that the figures themselves tell
TOLD = ("title", "paper", "remarks", "validation_remark", "seeds", "switches", "reach")


class Failure(Model):
    """A cell that could not be done."""

    cell: str
    reason: str


class Results(Model):
    """results.json."""

    spec: Literal["mmbind-results"] = "mmbind-results"
    spec_version: Literal["1.0"] = "1.0"
    generated: bool
    on: Literal["test", "validation"]
    changes: tuple[str, ...]
    command: str
    protocol: Protocol
    protocol_digest: str
    versions: dict[str, str]
    sources: dict[str, str]
    nodes: dict[str, str]
    scores: tuple[Score, ...]
    summaries: tuple[Summary, ...]
    differences: tuple[Difference, ...]
    reached: tuple[Reached, ...]
    failures: tuple[Failure, ...]


def check_folder(
    out: Path,
    protocol: Protocol,
    cells: Set[Place],
    *,
    generated: bool,
    on: str,
    paper_statistic: bool,
) -> None:
    """Refuse a folder whose results a run would replace by others, or by fewer.

    Raises
    ------
    OutputError
        Results of another protocol, of validation people, or of generated data stand there; or
        they were made with other settings, or hold figures that the run would not make.
    """
    path = out / RESULTS
    if not path.exists():
        return
    before = None
    found: tuple[str, bool, str] = ("something else", False, on)
    try:
        before = Results.model_validate_json(path.read_text())
        found = (before.protocol.name, before.generated, before.on)
    except (ValidationError, UnicodeDecodeError):
        pass
    if before is None or found != (protocol.name, generated, on):
        asked, had = (
            f"{name}, {'generated' if made_up else 'measured'} data, on {where}"
            for name, made_up, where in ((protocol.name, generated, on), found)
        )
        raise OutputError(
            cannot="run a benchmark",
            problem="other results stand there",
            at=path,
            expected=asked,
            got=had,
            fix="Choose another folder: results of different kinds are not mixed.",
        )
    what = ""
    lost = [one for one in before.scores if place_of(one) not in cells]
    if changed := changed_settings(before.protocol, protocol):
        what, expected, got = "made with other settings", "the same", f"other {', '.join(changed)}"
    elif lost:
        what, expected = "not all of them would be made again", "a run that contains them"
        first = ", ".join(map(str, place_of(lost[0])))
        got = f"one without {len(lost)} of the {len(before.scores)} figures there, such as {first}"
    elif not paper_statistic and any(one.paper_statistic is not None for one in before.scores):
        what, expected, got = "it would drop a column", "--paper-statistic", "none"
    if what:
        raise OutputError(
            cannot="replace finished results",
            problem=what,
            at=path,
            expected=expected,
            got=got,
            fix=f"Choose another folder; --work {out / 'work'} lends it the finished cells.",
        )


def place_of(score: Score) -> Place:
    """Row, split, seed and condition of a score."""
    return score.row, score.split, score.seed, score.condition


def changed_settings(before: Protocol, now: Protocol) -> list[str]:
    """Where two protocols differ in how they make the figures that both have, as dotted paths."""
    lists = ("rows", "conditions", "splits", "validation_splits")
    plain = [one.model_dump(mode="json", exclude={*TOLD, *lists}) for one in (before, now)]
    found = list(changed_paths(plain[0], plain[1]))
    for part in lists:
        own, other = (
            {
                one.name: one.model_dump(mode="json", exclude={"title"})
                for one in getattr(each, part)
            }
            for each in (before, now)
        )
        both = [name for name in own if name in other]
        found += [path for name in both
                  for path in changed_paths(own[name], other[name], f"{part}.{name}.")]  # fmt: skip
    return found


def write_results(out: Path, results: Results) -> None:
    """Write results.json, results.parquet, results.md and results.png."""
    out.mkdir(parents=True, exist_ok=True)
    rows = [score.model_dump(mode="json") for score in results.scores]
    table = pa.Table.from_pylist(rows) if rows else pa.table({"row": pa.array([], pa.string())})
    facts = {"generated": results.generated, "on": results.on, "changes": results.changes}
    for name, value in {"protocol": results.protocol.name, **facts}.items():
        text = value if isinstance(value, bool | str) else "; ".join(value)
        table = table.append_column(name, pa.array([text] * len(table)))
    fresh = out / f".{PARQUET}"
    pq.write_table(table, fresh)
    fresh.replace(out / PARQUET)
    draw_results(results, out / FIGURE)
    write_atomically(out / MARKDOWN, markdown(results))
    document = json.dumps(results.model_dump(mode="json"), indent=1, allow_nan=False)
    write_atomically(out / RESULTS, document + "\n")


def table_rows(results: Results) -> tuple[list[str], list[list[str]]]:
    """Heads and cells of the table: accuracy in %, mean and sample standard deviation.

    Where one network meets all conditions, a line tells of one condition and one method.
    """
    if results.protocol.finetune == "once":
        return _by_condition(results)
    conditions = list(dict.fromkeys(one.condition for one in results.summaries))
    paired = any(one.pairing_accuracy is not None for one in results.summaries)
    paper = results.protocol.paper.figures
    watched = conditions if all(s.paper_statistic is not None for s in results.summaries) else []
    late = [f"{name}, last 60 % of epochs" for name in watched]
    head = [
        "method",
        *conditions,
        *late,
        *(["pairs"] if paired else []),
        *(["paper"] if paper else []),
    ]
    lines = []
    for row in dict.fromkeys(one.row for one in results.summaries):
        own = {one.condition: one for one in results.summaries if one.row == row}
        cells = [row, *(_cell(own.get(name)) for name in conditions)]
        cells += [_late(own.get(name)) for name in watched]
        if paired:
            cells.append(_pairing(next(iter(own.values()))))
        if paper:
            cells.append("; ".join(_figure(one) for one in paper.get(row, ())))
        lines.append(cells)
    return head, lines


def _by_condition(results: Results) -> tuple[list[str], list[list[str]]]:
    paper = results.protocol.paper.figures
    asked = {one.name: one.modalities for one in results.protocol.conditions}
    lines = []
    for name in dict.fromkeys(one.condition for one in results.summaries):
        arriving = " + ".join(asked[name] or results.protocol.modalities)
        for one in results.summaries:
            if one.condition == name:
                own = [figure for figure in paper.get(one.row, ()) if figure.condition == name]
                told = "; ".join(_figure(figure, named=False) for figure in own)
                lines.append([arriving, one.row, _cell(one), *([told] if paper else [])])
    return ["modalities", "method", "accuracy", *(["paper"] if paper else [])], lines


def difference_rows(results: Results) -> list[str]:
    """One sentence for each row and condition."""
    return [
        f"{one.row} - {one.baseline}, {one.condition}: {100 * one.mean:+.1f} points"
        + ("" if one.low is None or one.high is None
           else f" [{100 * one.low:+.1f}, {100 * one.high:+.1f}]")
        + f", n = {one.n}"
        + (f" in {one.n_splits} splits" if one.n_splits and one.n_splits > 1 else "")
        for one in results.differences
    ]  # fmt: skip


def remarks(results: Results) -> list[str]:
    """What a reader of the table must know."""
    said = [MADE_UP] if results.generated else []
    counts = sorted({one.n for one in results.summaries})
    said += [f"n = {' to '.join(map(str, counts))} (splits x seeds) in each cell."] * bool(counts)
    said += [ONE_SPLIT] * any(one.n_splits == 1 and one.n > 1 for one in results.differences)
    said += [ON_VALIDATION] if results.on == "validation" else []
    said += [f"Not the protocol as shipped: {'; '.join(results.changes)}."] * bool(results.changes)
    said += [*results.protocol.remarks]
    said += [CLASSIFIER] * (not set(FIXED) <= results.protocol.evaluate.keys())
    if results.protocol.finetune == "once":
        pairs = {_pairing(one): one.row for one in results.summaries}
        said += [f"Pairs of {row}: {told}." for told, row in pairs.items() if told]
    if results.protocol.validation_remark and results.on == "validation":
        said.append(results.protocol.validation_remark)
    if results.protocol.paper.figures:
        said += [f"Paper: {results.protocol.paper.where}.", *results.protocol.paper.remarks]
    said += [f"Failed: {one.cell}: {one.reason}" for one in results.failures]
    return said


def markdown(results: Results) -> str:
    """The table, the differences, the remarks and where it all comes from."""
    head, lines = table_rows(results)
    text = [f"# {results.protocol.title}", ""]
    text += [f"**{MADE_UP}**", ""] if results.generated else []
    text += [
        "Accuracy in %, mean ± sample standard deviation over splits and seeds (macro-F1).",
        "",
    ]
    text += ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    text += ["| " + " | ".join(cells) + " |" for cells in lines]
    for title, sentences in (
        (
            f"Paired differences to {results.protocol.against or 'the best baseline'}, {LEVEL}",
            difference_rows(results),
        ),
        ("Fine-tuning until an accuracy is reached", [_told(one) for one in results.reached]),
        ("Remarks", remarks(results)),
    ):  # fmt: skip
        if sentences:
            text += ["", f"## {title}", "", *(f"- {sentence}" for sentence in sentences)]
    versions = ", ".join(f"{name} {one}" for name, one in results.versions.items())
    text += ["", "## Made by", "", f"    {results.command}", ""]
    text += [f"- protocol {results.protocol.name}, sha256 {results.protocol_digest}"]
    text += [f"- {versions}"]
    text += [f"- source {name}: content digest {one}" for name, one in results.sources.items()]
    return "\n".join(text) + "\n"


def _cell(one: Summary | None) -> str:
    if one is None:
        return ""
    spread = "" if one.accuracy_std is None else f" ± {100 * one.accuracy_std:.1f}"
    return f"{100 * one.accuracy:.1f}{spread} ({one.macro_f1:.3f})"


def _late(one: Summary | None) -> str:
    return "" if one is None or one.paper_statistic is None else f"{100 * one.paper_statistic:.1f}"


def _pairing(one: Summary) -> str:
    if one.method != "mmbind" or one.pairing_accuracy is None or one.n_pairs is None:
        return ""
    spread = one.pairing_accuracy_std
    more = "" if spread is None else f" ± {100 * spread:.1f}"
    return f"{100 * one.pairing_accuracy:.1f}{more} % of {one.n_pairs:.0f} right"


def _figure(one: PaperFigure, *, named: bool = True) -> str:
    told = [f"{one.condition}:"] if one.condition and named else []
    told += [f"{100 * one.accuracy:.2f}"] if one.accuracy is not None else []
    told += [f"({one.macro_f1:.3f})"] if one.macro_f1 is not None else []
    told += [f"pairs {100 * one.pairing_accuracy:.2f} %"] if one.pairing_accuracy else []
    return " ".join(told)


def _told(one: Reached) -> str:
    if one.steps is None:
        return f"{one.row}: {100 * one.accuracy:.0f} % is not reached"
    return (
        f"{one.row}: {100 * one.accuracy:.0f} % after {one.steps} steps, {one.cpu_s:.1f} s of one "
        "processor"
    )


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
