"""A benchmark protocol: who has which data, what is compared, and what is the same for all.

A protocol is one JSON file. Its rules (equal budgets, people in one role only) are in
`mmbind_train.benchmarks.protocol` and hold for every protocol that can be loaded.

Source: shared/PROTOCOLS.md sections 2 and 3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

from pydantic import Field, JsonValue, ValidationError, model_validator

from mmbind_data.binding.options import BindOptions
from mmbind_data.errors import FormatError, UsageError, suggest
from mmbind_data.spec.descriptor import DatasetId, Model, Name
from mmbind_data.spec.validation_messages import (
    DocumentFault,
    DocumentFaultError,
    fault_of,
    first_fault,
)
from mmbind_train.benchmarks.bind_settings import BindSettings, bind_options, changed_settings
from mmbind_train.config import EvaluateConfig, TrainConfig

FOLDER = "protocols"
Role = Annotated[str, Field(pattern=r"^[A-Z][A-Za-z_]*$")]


class SourceData(Model):
    """One dataset and how it is converted."""

    dataset: DatasetId
    preset: str = "default"
    modalities: tuple[Name, ...] | None = None
    placements: tuple[str, ...] | None = None
    options: dict[str, str] = Field(default={})


class Share(Model):
    """Whole groups of a column, chosen by a hash of their names, where there are no people.

    A sample without a name there is a group of its own.
    """

    column: Name
    low: float = Field(ge=0, lt=1, description="sha256 of the name, as a number from 0 to 1")
    high: float = Field(gt=0, le=1)


People = tuple[str, ...] | Share


class Node(Model):
    """What one store holds; whose samples, the split says."""

    source: str
    modalities: tuple[Name, ...]
    people: tuple[Role, ...] | None = Field(
        default=None, description="roles of the split whose people it has; null: its own"
    )
    labels: Literal["all", "none"] = "none"
    classes: tuple[str, ...] | None = Field(default=None, description="label texts that it has")


class Split(Model):
    """Who plays which role."""

    name: str
    people: dict[Role, People]


Finetune = Literal["each", "once"]


class Condition(Model):
    """One column of the table: what an evaluation is given."""

    name: str
    labels_per_class: int | None = Field(default=None, ge=1)
    label_fraction: float | None = Field(default=None, gt=0, le=1)
    steps: int | None = Field(default=None, ge=0, description="of the fine-tuning")
    modalities: tuple[Name, ...] | None = Field(default=None, description="null: the protocol's")


class Row(Model):
    """One line of the table: a method, and where it departs from what is common to all."""

    name: str
    method: str
    title: str | None = None
    shared: tuple[str, ...] | None = None
    inputs: tuple[Role, ...] | None = Field(default=None, description="nodes that are bound")
    data: Role | None = Field(default=None, description="a node in place of a bound store")
    bind: BindSettings = BindSettings()
    train: dict[str, JsonValue] = Field(default={})
    evaluate: dict[str, JsonValue] = Field(default={})
    finetune: Finetune | None = Field(default=None, description="null: the protocol's")


class PaperFigure(Model):
    """What the paper reports for a row; accuracy and F1 between 0 and 1."""

    accuracy: float | None = Field(default=None, ge=0, le=1)
    macro_f1: float | None = Field(default=None, ge=0, le=1)
    pairing_accuracy: float | None = Field(default=None, ge=0, le=1)
    condition: str | None = Field(
        default=None, description="its column here; null: none is the same"
    )


class Paper(Model):
    """The table of the paper, and why its figures are no like for like."""

    where: str
    figures: dict[str, tuple[PaperFigure, ...]] = Field(default={})
    remarks: tuple[str, ...] = ()


class Protocol(Model):
    """One protocol file."""

    spec: Literal["mmbind-protocol"] = "mmbind-protocol"
    spec_version: Literal["1.0"] = "1.0"
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    title: str
    paper: Paper
    remarks: tuple[str, ...] = ()
    sources: dict[str, SourceData]
    nodes: dict[Role, Node]
    splits: tuple[Split, ...] = Field(min_length=1, description="figures are means over them")
    validation_splits: tuple[Split, ...] = Field(
        default=(), description="with V in place of T, for choosing hyper-parameters"
    )
    validation_remark: str | None = Field(
        default=None, description="needed where people of V are people of T in another split"
    )
    inputs: tuple[Role, ...] = Field(min_length=2, description="nodes that are bound, in order")
    shared: tuple[str, ...] = Field(min_length=1, description="modality, or label")
    modalities: tuple[Name, ...] = Field(min_length=1, description="inputs of the classifier")
    bind: BindSettings = BindSettings()
    train: dict[str, JsonValue] = Field(default={}, description="of TrainConfig, where it differs")
    evaluate: dict[str, JsonValue] = Field(default={}, description="of EvaluateConfig, likewise")
    conditions: tuple[Condition, ...] = Field(min_length=1)
    finetune: Finetune = Field(
        default="each",
        description="each: anew for every condition, on its modalities; once: on all modalities of "
        "the protocol, and those of a condition are what arrives at the test",
    )
    rows: tuple[Row, ...] = Field(min_length=1)
    switches: tuple[str, ...] = Field(
        default=(),
        description="in what rows may differ, such as bind.top_k: what this table is about",
    )
    seeds: tuple[int, ...] = Field(default=(0, 1, 2, 3, 4), min_length=1)
    against: str | None = Field(
        default=None, description="row that the others are compared with; null: the best baseline"
    )
    statistic: Literal["last_epoch"] = "last_epoch"
    reach: tuple[float, ...] = Field(
        default=(), description="accuracies whose steps and seconds are told (cost)"
    )

    @model_validator(mode="after")
    def _rules(self) -> Protocol:
        check_protocol(self)
        return self

    def train_config(self, row: Row, seed: int) -> TrainConfig:
        """Everything that the row's pre-training depends on."""
        document = merged(merged(TrainConfig().model_dump(mode="json"), self.train), row.train)
        return TrainConfig.model_validate({**document, "seed": seed}, strict=False)

    def evaluate_config(self, row: Row, condition: Condition, seed: int) -> EvaluateConfig:
        """Everything that one evaluation of the row depends on."""
        document = merged(EvaluateConfig().model_dump(mode="json"), self.evaluate)
        document = merged(document, row.evaluate)
        if condition.steps is not None:
            document = merged(document, {"budget": {"steps": condition.steps, "epochs": None}})
        given = None if self.once(row) else condition.modalities
        document |= {
            "modalities": given or self.modalities,
            "labels_per_class": condition.labels_per_class,
            "label_fraction": condition.label_fraction,
            "seeds": [seed],
        }
        return EvaluateConfig.model_validate(document, strict=False)

    def once(self, row: Row) -> bool:
        """Whether one fine-tuned network of the row meets all conditions."""
        return (row.finetune or self.finetune) == "once"

    def bind_options(self, row: Row, seed: int) -> BindOptions:
        """How the row's partners are found."""
        return bind_options(self.bind, row.bind, seed)


def merged(document: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A document with some values replaced; objects are merged key by key."""
    result = dict(document)
    for name, value in changes.items():
        both = isinstance(value, dict) and isinstance(result.get(name), dict)
        result[name] = merged(result[name], value) if both else value
    return result


def list_protocols() -> dict[str, Path]:
    """Names of the shipped protocols and their files."""
    folder = Path(str(files(__package__) / FOLDER))
    return {path.stem: path for path in sorted(folder.glob("*.json"))}


def load_protocol(name: str | Path) -> Protocol:
    """Load a shipped protocol by name, or a file.

    Raises
    ------
    UsageError
        No such protocol.
    FormatError
        The file is no protocol, or breaks a rule of the benchmark.
    """
    known = list_protocols()
    path = known.get(str(name), Path(name))
    if str(name) not in known and path.suffix != ".json":
        raise UsageError(
            cannot="run a benchmark",
            problem="no such protocol",
            at="PROTOCOL",
            expected="a name from mmbind benchmark --list, or a .json file",
            got=repr(str(name)),
            fix=suggest(str(name), known),
        )
    try:
        return Protocol.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        found = first_fault(error)
        step = found.fix or "schemas/protocol.schema.json has all fields and what they mean."
        if error.errors()[0]["type"] == "extra_forbidden" and "." not in found.key:
            step = suggest(found.key, Protocol.model_fields)
        raise FormatError(cannot="read a protocol", **found.keywords(path), fix=step) from error
    except (OSError, UnicodeDecodeError) as error:
        step = "mmbind benchmark --list shows the protocols that are shipped."
        raise FormatError(cannot="read a protocol", **fault_of(error, path), fix=step) from error


FINETUNE, TEST, VALIDATION = "C", "T", "V"
PAIRED_METHODS = ("mmbind",)  # those that read the pairs, and not the incomplete rows alone
REFERENCES = ("mmbind", "upper_bound")  # what is no baseline
# options of trainings that the protocol sets itself, and where it says them
SET_ELSEWHERE = {
    "train": {"seed": "seeds"},
    "evaluate": {
        "seeds": "seeds",
        "modalities": "modalities",
        "labels_per_class": "conditions",
        "label_fraction": "conditions",
    },
}


def check_protocol(protocol: Protocol) -> None:
    """Check a protocol whose fields are well-formed.

    Raises
    ------
    DocumentFaultError
        Naming the row, split or node that breaks a rule.
    """
    _check_names(protocol)
    _check_options("the protocol", protocol)
    _check_configs(protocol, protocol.rows[0].model_copy(update={"train": {}, "evaluate": {}}), "")
    for row in protocol.rows:
        _check_configs(protocol, row, f"rows.{row.name}.")
        _check_options(f"row {row.name}", row)
        _check_row(protocol, row)
    for split in protocol.splits:
        _check_split(protocol, split, TEST)
    for split in protocol.validation_splits:
        _check_split(protocol, split, VALIDATION)
    _check_validation(protocol)


def differences(protocol: Protocol, row: Row) -> list[str]:
    """In what a row differs from what is common to all, as dotted paths."""
    found = [
        name
        for name in ("shared", "inputs", "finetune")
        if getattr(row, name) not in (None, getattr(protocol, name))
    ]
    found += [f"bind.{name}" for name in changed_settings(protocol.bind, row.bind)]
    plain = row.model_copy(update={"train": {}, "evaluate": {}})
    own, base = (protocol.train_config(one, 0).model_dump(mode="json") for one in (row, plain))
    found += [f"train.{path}" for path in changed_paths(base, own)]
    for condition in protocol.conditions:
        own, base = (
            protocol.evaluate_config(one, condition, 0).model_dump(mode="json")
            for one in (row, plain)
        )
        found += [f"evaluate.{path}" for path in changed_paths(base, own)]
    return list(dict.fromkeys(found))


def changed_paths(base: Mapping[str, Any], own: Mapping[str, Any], at: str = "") -> Iterator[str]:
    """Where a document departs from another of the same fields, as dotted paths."""
    for name, value in own.items():
        if isinstance(value, dict) and isinstance(base.get(name), dict):
            yield from changed_paths(base[name], value, f"{at}{name}.")
        elif value != base.get(name):
            yield f"{at}{name}"


def _check_names(protocol: Protocol) -> None:
    for what in ("rows", "conditions", "splits", "validation_splits"):
        names = [one.name for one in getattr(protocol, what)]
        if len(set(names)) < len(names):
            _refuse(f"two {what} have one name", what, "names that differ", ", ".join(names))
    for name, node in protocol.nodes.items():
        if node.source not in protocol.sources:
            _refuse(f"node {name} is cut from what is no source", f"nodes.{name}.source",
                    f"one of {', '.join(protocol.sources)}", node.source)  # fmt: skip
    known = {name for row in protocol.rows for name in row.inputs or ()} | set(protocol.inputs)
    known |= {row.data for row in protocol.rows if row.data} | {FINETUNE, TEST}
    known |= {VALIDATION} if protocol.validation_splits else set()
    missing = sorted(known - set(protocol.nodes))
    if missing:
        _refuse(f"no node {', '.join(missing)}", "nodes", "every node that is read",
                ", ".join(protocol.nodes))  # fmt: skip
    for condition in protocol.conditions if protocol.finetune == "once" else ():
        if not set(condition.modalities or ()) <= set(protocol.modalities):
            _refuse(
                f"condition {condition.name} has modalities that nothing is fine-tuned on",
                f"conditions.{condition.name}.modalities",
                f"some of {', '.join(protocol.modalities)}",
                ", ".join(condition.modalities or ()),
            )
    if protocol.against not in (None, *(row.name for row in protocol.rows)):
        known_rows = ", ".join(row.name for row in protocol.rows)
        _refuse("rows are compared with what is none of them", "against", f"one of {known_rows}",
                str(protocol.against))  # fmt: skip
    figures = set(protocol.paper.figures) - {row.name for row in protocol.rows}
    if figures:
        _refuse(
            f"the paper's figures name rows that are not here: {', '.join(sorted(figures))}",
            "paper.figures",
            f"some of {', '.join(row.name for row in protocol.rows)}",
            ", ".join(sorted(figures)),
        )


def _check_options(owner: str, given: Protocol | Row) -> None:
    """Refuse options that would be overridden without a word."""
    for part, names in SET_ELSEWHERE.items():
        for name in names.keys() & getattr(given, part).keys():
            _refuse(
                f"{owner} has {part}.{name}, which is said by {names[name]} for every row",
                f"{part}.{name}", "none", repr(getattr(given, part)[name]),
                f"Leave it out and set {names[name]}.",
            )  # fmt: skip


def _check_configs(protocol: Protocol, row: Row, owner: str) -> None:
    """Refuse options of a training that there are not; ``owner`` begins their path."""
    configs: dict[str, Callable[[], object]] = {
        "train": lambda: protocol.train_config(row, 0),
        "evaluate": lambda: protocol.evaluate_config(row, protocol.conditions[0], 0),
    }
    for part, make in configs.items():
        try:
            make()
        except ValidationError as error:
            found = first_fault(error)
            raise DocumentFaultError(replace(found, key=f"{owner}{part}.{found.key}")) from error


def _check_row(protocol: Protocol, row: Row) -> None:
    unallowed = [path for path in differences(protocol, row) if not _allowed(path, protocol)]
    if unallowed:
        _refuse(
            f"row {row.name} differs in {', '.join(unallowed)}", f"rows.{row.name}",
            "the same budget and options in every row", "options of its own",
            "Set them for all rows; or name them in switches, if they are what the table is about.",
        )  # fmt: skip
    if row.method not in PAIRED_METHODS and row.bind.given():
        _refuse(f"{row.method} does not read pairs", f"rows.{row.name}.bind", "no options",
                ", ".join(row.bind.given()), "Leave them out.")  # fmt: skip
    protocol.bind_options(row, 0)
    if row.data is not None and (row.shared or row.inputs):
        _refuse("a row with a node for data takes neither shared nor inputs", f"rows.{row.name}",
                "data alone", "both", "Leave shared and inputs out.")  # fmt: skip
    if (row.method == "upper_bound") != (row.data is not None):
        _refuse("upper_bound takes a node for data, the other methods do not",
                f"rows.{row.name}.data", "a node" if row.data is None else "none",
                row.data or "none")  # fmt: skip


def _allowed(path: str, protocol: Protocol) -> bool:
    return any(path == switch or path.startswith(f"{switch}.") for switch in protocol.switches)


def _check_split(protocol: Protocol, split: Split, held_out: str) -> None:
    other = VALIDATION if held_out == TEST else TEST
    if other in split.people:
        _refuse(f"{other} has no place beside {held_out}", f"splits.{split.name}.people",
                f"people of {held_out} alone", "of both",
                "T belongs into splits, V into validation_splits.")  # fmt: skip
    needed = {FINETUNE, held_out, *protocol.inputs}
    needed |= {name for row in protocol.rows for name in row.inputs or ()}
    stages: dict[str, list[tuple[str, str]]] = {"pretrain": [], "finetune": [], "held out": []}
    for name in sorted(needed | {row.data for row in protocol.rows if row.data}):
        for role in protocol.nodes[name].people or (name,):
            if not split.people.get(role):
                _refuse(f"split {split.name} does not say who is {role}",
                        f"splits.{split.name}.people.{role}", "people", "nobody")  # fmt: skip
            stage = {FINETUNE: "finetune", held_out: "held out"}.get(name, "pretrain")
            stages[stage].append((name, role))
    _check_stages(protocol, split, stages)


def _check_stages(
    protocol: Protocol, split: Split, stages: Mapping[str, Sequence[tuple[str, str]]]
) -> None:
    """No person of a dataset in two stages; no overlap of two nodes that are bound, either."""
    pairs = [
        (first, second)
        for stage, members in stages.items()
        for later, others in stages.items()
        if stage < later
        for first in members
        for second in others
    ]
    bound = [(name, role) for name, role in stages["pretrain"] if name in protocol.inputs]
    pairs += [
        (first, second) for i, first in enumerate(bound) for second in bound[i + 1 :]
        if protocol.nodes[first[0]].source == protocol.nodes[second[0]].source
    ]  # fmt: skip
    for (name, role), (other, second) in pairs:
        datasets = [protocol.sources[protocol.nodes[one].source].dataset for one in (name, other)]
        if datasets[0] == datasets[1] and _overlap(split.people[role], split.people[second]):
            _refuse(f"{role} and {second} have people in common", f"splits.{split.name}.people",
                    "everybody in one role", f"{split.people[role]} and {split.people[second]}",
                    "Take the people out of one of them.")  # fmt: skip


def _overlap(first: tuple[str, ...] | Share, second: tuple[str, ...] | Share) -> bool:
    if isinstance(first, tuple) and isinstance(second, tuple):
        return bool(set(first) & set(second))
    if isinstance(first, tuple) or isinstance(second, tuple) or first.column != second.column:
        return True  # nobody can tell that they are apart
    return first.low < second.high and second.low < first.high


def _check_validation(protocol: Protocol) -> None:
    if protocol.validation_remark:
        return
    for split in protocol.splits:
        for other in protocol.validation_splits:
            if _overlap(split.people[TEST], other.people[VALIDATION]):
                _refuse(
                    "people for choosing are people of the test",
                    f"validation_splits.{other.name}.people.{VALIDATION}",
                    f"nobody of {TEST} of split {split.name}", str(other.people[VALIDATION]),
                    "Take them out, or say in validation_remark why they are there.",
                )  # fmt: skip


def _refuse(problem: str, key: str, expected: str, got: str, fix: str = "") -> NoReturn:
    raise DocumentFaultError(DocumentFault(problem, key, expected, got, fix))
