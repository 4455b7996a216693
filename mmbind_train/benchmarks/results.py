"""Results of a benchmark: the document, and its Parquet, Markdown and PNG files."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, ValidationError

from mmbind_data.errors import OutputError
from mmbind_data.spec.descriptor import Model
from mmbind_train.benchmarks.jobs import write_atomically
from mmbind_train.benchmarks.plan import JobSelection
from mmbind_train.benchmarks.protocol import TEST, VALIDATION, Protocol, changed_paths
from mmbind_train.benchmarks.protocol_parts import PaperFigure
from mmbind_train.benchmarks.statistics import Difference, Reached, Score, Summary

RESULTS, PARQUET, MARKDOWN, FIGURE = "results.json", "results.parquet", "results.md", "results.png"
WATERMARK = "generated data"
MADE_UP = "GENERATED DATA: these figures show that it runs and nothing else."
RETRIEVAL = ["same recording in first 5", "same class first"]
LEVEL = "95 % t interval over the means of splits, exact sign-flip p"
ONE_SPLIT = "One split: the intervals cover its seeds alone, not other people."
CLASSIFIER = (
    "One fine-tuning for all methods, but for two things that follow from the method: its "
    "classifier reads features (lower_bound, unimodal, all that learnt from labels) or embeddings "
    "(the others), and starts at random (lower_bound), as learnt from labels, or at the means of "
    "the classes (the others)."
)
FIXED = ("space", "start", "carry")  # options by which a protocol sets these for all methods
ON_VALIDATION = "Validation people, for choosing hyper-parameters: no figures to report."
# parts of a protocol that do not change a figure, or that the figures show themselves
NO_SETTINGS = ("title", "paper", "remarks", "validation_remark", "seeds", "switches", "reach")


class Failure(Model):
    """A job that failed."""

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
    device: str = Field(default="cpu", description="of trainings and evaluations")
    sources: dict[str, str]
    nodes: dict[str, str]
    scores: tuple[Score, ...]
    summaries: tuple[Summary, ...]
    differences: tuple[Difference, ...]
    reached: tuple[Reached, ...]
    failures: tuple[Failure, ...]


def check_folder(
    out: Path, protocol: Protocol, selection: JobSelection, *, generated: bool, on: str
) -> None:
    """Refuse a folder whose results a run would replace by others, or by fewer.

    Raises
    ------
    OutputError
        The folder has results of another protocol, of validation people, or of generated data; or
        they were made with other settings, or have figures that the run would not make.
    """
    path = out / RESULTS
    if not path.exists():
        return
    before, found = None, "something else"
    with suppress(ValidationError, UnicodeDecodeError):
        before = Results.model_validate_json(path.read_text())
        found = _kind_of_results(before.protocol, before.generated, before.on)
    expected = _kind_of_results(protocol, generated, on)
    if before is None or found != expected:
        raise OutputError(
            cannot="run a benchmark",
            problem="the folder has other results",
            at=path,
            expected=expected,
            got=found,
            fix="Choose another folder: results of different kinds are not mixed.",
        )
    rows, splits, conditions = (
        [one.name for one in part]
        for part in (selection.rows, selection.splits, protocol.conditions)
    )
    figures = set(product(rows, splits, selection.seeds, conditions))
    made = [one.key for one in before.scores if one.condition not in before.protocol.averages]
    lost = [key for key in made if key not in figures]
    if changed := changed_settings(before.protocol, protocol):
        what, expected, got = "made with other settings", "the same", f"other {', '.join(changed)}"
    elif lost:
        what, expected = "not all of them would be made again", "a run that contains them"
        got = f"one without {len(lost)} of the {len(before.scores)} figures there, such as "
        got += ", ".join(map(str, lost[0]))
    elif selection.paper_statistic or all(one.paper_statistic is None for one in before.scores):
        return
    else:
        what, expected, got = "it would drop a column", "--paper-statistic", "none"
    raise OutputError(
        cannot="replace finished results",
        problem=what,
        at=path,
        expected=expected,
        got=got,
        fix=f"Choose another folder; with --work {out / 'work'} it reuses the finished jobs.",
    )


def _kind_of_results(protocol: Protocol, generated: bool, on: str) -> str:
    return f"{protocol.name}, {'generated' if generated else 'measured'} data, on {on}"


def changed_settings(before: Protocol, now: Protocol) -> list[str]:
    """Where two protocols differ in how they make the figures that both have, as dotted paths."""
    lists = ("rows", "conditions", "splits", "validation_splits")
    old, new = (
        one.model_dump(mode="json", exclude={*NO_SETTINGS, *lists}) for one in (before, now)
    )
    found = list(changed_paths(old, new))
    for part in lists:
        old, new = (
            {
                one.name: one.model_dump(mode="json", exclude={"title"})
                for one in getattr(each, part)
            }
            for each in (before, now)
        )
        for name in (one for one in old if one in new):
            found += changed_paths(old[name], new[name], f"{part}.{name}.")
    return found


def write_results(out: Path, results: Results) -> None:
    """Write results.json, results.parquet, results.md and results.png."""
    out.mkdir(parents=True, exist_ok=True)
    rows = [score.model_dump(mode="json") for score in results.scores]
    table = pa.Table.from_pylist(rows) if rows else pa.table({"row": pa.array([], pa.string())})
    for name, value in {
        "protocol": results.protocol.name,
        "generated": results.generated,
        "on": results.on,
        "changes": "; ".join(results.changes),
    }.items():
        table = table.append_column(name, pa.array([value] * len(table)))
    fresh = out / f".{PARQUET}"
    pq.write_table(table, fresh)
    fresh.replace(out / PARQUET)
    draw_results(results, out / FIGURE)
    write_atomically(out / MARKDOWN, markdown(results))
    document = json.dumps(results.model_dump(mode="json"), indent=1, allow_nan=False)
    write_atomically(out / RESULTS, document + "\n")


def table_rows(results: Results) -> tuple[list[str], list[list[str]]]:
    """Head and lines of the table: accuracy in %, mean and sample standard deviation.

    Where one network is tested under all conditions, a line shows one condition and one method.
    """
    if results.protocol.finetune == "once":
        return _rows_by_condition(results)
    conditions = list(dict.fromkeys(one.condition for one in results.summaries))
    paired = any(one.pairing_accuracy is not None for one in results.summaries)
    paper = results.protocol.paper.figures
    late = conditions if all(s.paper_statistic is not None for s in results.summaries) else []
    head = ["method", *conditions, *(f"{name}, last 60 % of epochs" for name in late)]
    found_by = any(one.recall_5 is not None for one in results.summaries)
    head += RETRIEVAL * found_by + ["pairs"] * paired + ["paper"] * bool(paper)
    lines = []
    for row in dict.fromkeys(one.row for one in results.summaries):
        found = {one.condition: one for one in results.summaries if one.row == row}
        line = [row]
        line += [_accuracy(found[name]) if name in found else "" for name in conditions]
        line += [_percent(found[name].paper_statistic) if name in found else "" for name in late]
        line += _retrieval(found.values()) * found_by
        line += [_pairing(next(iter(found.values())))] * paired
        line += ["; ".join(_paper_figure(one) for one in paper.get(row, ()))] * bool(paper)
        lines.append(line)
    return head, lines


def _rows_by_condition(results: Results) -> tuple[list[str], list[list[str]]]:
    paper = results.protocol.paper.figures
    lines = []
    for condition in results.protocol.conditions:
        arriving = " + ".join(condition.modalities or results.protocol.modalities)
        for one in results.summaries:
            if one.condition == condition.name:
                figures = [f for f in paper.get(one.row, ()) if f.condition == one.condition]
                text = "; ".join(_paper_figure(figure, named=False) for figure in figures)
                lines.append([arriving, one.row, _accuracy(one)] + [text] * bool(paper))
    return ["modalities", "method", "accuracy"] + ["paper"] * bool(paper), lines


def difference_rows(results: Results) -> list[str]:
    """One sentence for each row and condition."""
    found = []
    for one in results.differences:
        text = f"{one.row} - {one.baseline}, {one.condition}: {100 * one.mean:+.1f} points"
        if one.low is not None and one.high is not None:
            text += f" [{100 * one.low:+.1f}, {100 * one.high:+.1f}]"
        text += "" if one.p is None else f", p = {one.p:.3f}"
        several = one.n_splits and one.n_splits > 1
        found.append(f"{text}, n = {one.n}" + (f" in {one.n_splits} splits" if several else ""))
    return found


def remarks(results: Results) -> list[str]:
    """What a reader of the table must know."""
    protocol, validation = results.protocol, results.on == "validation"
    transfer = all(one.test_modalities is not None for one in protocol.conditions)
    counts = sorted({one.n for one in results.summaries})
    found = [
        (results.generated, MADE_UP),
        (counts, f"n = {' to '.join(map(str, counts))} (splits x seeds) in each cell."),
        (counts, _people(results)),
        (any(one.n_splits == 1 and one.n > 1 for one in results.differences), ONE_SPLIT),
        (validation, ON_VALIDATION),
        (results.changes, f"Not the protocol as shipped: {'; '.join(results.changes)}."),
        *((True, one) for one in protocol.remarks),
        (not transfer and not set(FIXED) <= protocol.evaluate.keys(), CLASSIFIER),
    ]
    if protocol.finetune == "once":
        pairs = {_pairing(one): one.row for one in results.summaries}
        found += [(text, f"Pairs of {row}: {text}.") for text, row in pairs.items()]
    found.append((validation and protocol.validation_remark, protocol.validation_remark or ""))
    if protocol.paper.figures:
        found += [(True, f"Paper: {protocol.paper.where}.")]
        found += [(True, one) for one in protocol.paper.remarks]
    found += [(True, f"Failed: {one.cell}: {one.reason}") for one in results.failures]
    return [text for holds, text in found if holds]


def _people(results: Results) -> str:
    """How many splits and people, or groups, are tested; both bound what the intervals can say."""
    tested = {one.split for one in results.scores}
    protocol, role = results.protocol, VALIDATION if results.on == "validation" else TEST
    splits = protocol.validation_splits if results.on == "validation" else protocol.splits
    groups = [one.people[role] for one in splits if one.name in tested]
    people = {person for group in groups if isinstance(group, tuple) for person in group}
    text = f"{len(tested)} {'split' if len(tested) == 1 else 'splits'}"
    return f"{text}, {len(people)} people tested." if people else f"{text}."


def markdown(results: Results) -> str:
    """The table, the differences, the remarks and where it all comes from."""
    head, lines = table_rows(results)
    against = results.protocol.against or "the best baseline"
    statistic = "mean ± sample standard deviation over splits and seeds (macro-F1)"
    text = [f"# {results.protocol.title}", ""]
    text += [f"**{MADE_UP}**", ""] if results.generated else []
    text += [f"Accuracy in %, {statistic}.", ""]
    text += ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    text += ["| " + " | ".join(line) + " |" for line in lines]
    for title, sentences in (
        (f"Paired differences to {against}, {LEVEL}", difference_rows(results)),
        ("Fine-tuning until an accuracy is reached", [_reached(one) for one in results.reached]),
        ("Remarks", remarks(results)),
    ):
        if sentences:
            text += ["", f"## {title}", "", *(f"- {sentence}" for sentence in sentences)]
    versions = ", ".join(f"{name} {one}" for name, one in results.versions.items())
    text += ["", "## Made by", "", f"    {results.command}", ""]
    text += [f"- protocol {results.protocol.name}, sha256 {results.protocol_digest}"]
    text += [f"- {versions}"]
    text += [f"- source {name}: content digest {one}" for name, one in results.sources.items()]
    return "\n".join(text) + "\n"


def _retrieval(summaries: Iterable[Summary]) -> list[str]:
    """Of the first condition that has a retrieval."""
    one = next((one for one in summaries if one.recall_5 is not None), None)
    return ["", ""] if one is None else [_percent(one.recall_5), _percent(one.same_class_1)]


def _percent(share: float | None, spread: float | None = None) -> str:
    text = "" if share is None else f"{100 * share:.1f}"
    return text if spread is None else f"{text} ± {100 * spread:.1f}"


def _accuracy(one: Summary) -> str:
    return f"{_percent(one.accuracy, one.accuracy_std)} ({one.macro_f1:.3f})"


def _pairing(one: Summary) -> str:
    if one.method != "mmbind" or one.pairing_accuracy is None or one.n_pairs is None:
        return ""
    share = _percent(one.pairing_accuracy, one.pairing_accuracy_std)
    return f"{share} % of {one.n_pairs:.0f} right"


def _paper_figure(one: PaperFigure, *, named: bool = True) -> str:
    parts = [f"{one.condition}:"] if one.condition and named else []
    parts += [f"{100 * one.accuracy:.2f}"] if one.accuracy is not None else []
    parts += [f"({one.macro_f1:.3f})"] if one.macro_f1 is not None else []
    parts += [f"pairs {100 * one.pairing_accuracy:.2f} %"] if one.pairing_accuracy else []
    return " ".join(parts)


def _reached(one: Reached) -> str:
    share = f"{one.row}: {100 * one.accuracy:.0f} %"
    if one.steps is None:
        return f"{share} is not reached"
    return f"{share} after {one.steps} steps, {one.cpu_s:.1f} s of one processor"


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
        found = [one for one in results.summaries if one.row == row]
        left = {name: k - 0.4 + width * (number + 0.5) for k, name in enumerate(conditions)}
        axes.bar(
            [left[one.condition] for one in found],
            [100 * one.accuracy for one in found],
            width,
            yerr=[100 * (one.accuracy_std or 0) for one in found],
            label=row,
            color=f"C{number % 10}",
            capsize=2,
        )
        for one in results.protocol.paper.figures.get(row, ()):
            if one.accuracy is not None and one.condition in {each.condition for each in found}:
                axes.plot([left[one.condition]], [100 * one.accuracy], "kD", markersize=4)
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
