"""A benchmark protocol: which node has which data, what is compared, and what all rows share.

A protocol is one JSON file. Its rules, such as equal budgets and people in one role only, hold for
every protocol that can be loaded; docs/protocols.md explains them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.resources import files
from itertools import combinations, product
from pathlib import Path
from typing import Any, Literal, NoReturn

from pydantic import Field, JsonValue, ValidationError, model_validator

from mmbind_data.binding.options import BindOptions
from mmbind_data.errors import FormatError, UsageError, suggest
from mmbind_data.spec.descriptor import Model, Name
from mmbind_data.spec.validation_messages import (
    DocumentFault,
    DocumentFaultError,
    fault_of,
    first_fault,
)
from mmbind_train.benchmarks.bind_settings import BindSettings, bind_options, changed_settings
from mmbind_train.benchmarks.protocol_parts import (
    Condition,
    Finetune,
    Node,
    Paper,
    People,
    Role,
    Row,
    SourceData,
    Split,
)
from mmbind_train.config import EvaluateConfig, TrainConfig, recipe

FOLDER = "protocols"
FINETUNE, TEST, VALIDATION = "C", "T", "V"  # nodes that every protocol names alike
PAIRED_METHODS = ("mmbind",)  # these read the pairs; the others read the incomplete rows alone
REFERENCES = ("mmbind", "upper_bound")  # methods that are no baselines
# options of trainings that the protocol sets itself, and the field that sets them
SET_ELSEWHERE = {
    "train": {"seed": "seeds"},
    "evaluate": {
        "seeds": "seeds",
        "modalities": "modalities",
        "finetune_modalities": "conditions",
        "test_modalities": "conditions",
        "labels_per_class": "conditions",
        "label_fraction": "conditions",
    },
}


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
    averages: dict[str, tuple[str, ...]] = Field(
        default={}, description="further columns: means over conditions, split by split"
    )
    baselines: tuple[str, ...] | None = Field(
        default=None, description="rows that are; null: those of all methods but mmbind and natural"
    )
    claims: tuple[tuple[str, str], ...] = Field(
        default=(), description="further pairs of rows whose difference is reported"
    )
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
        default=(), description="accuracies for which the least fine-tuning is reported (cost)"
    )

    @model_validator(mode="after")
    def _rules(self) -> Protocol:
        check_protocol(self)
        return self

    def train_config(self, row: Row, seed: int) -> TrainConfig:
        """Everything that the row's pre-training depends on."""
        base = recipe(row.recipe or "default").model_dump(mode="json")
        document = merged(merged(base, self.train), row.train)
        return TrainConfig.model_validate({**document, "seed": seed}, strict=False)

    def evaluate_config(self, row: Row, condition: Condition, seed: int) -> EvaluateConfig:
        """Everything that one evaluation of the row depends on."""
        document = merged(EvaluateConfig().model_dump(mode="json"), self.evaluate)
        document = merged(document, row.evaluate)
        if condition.steps is not None:
            document = merged(document, {"budget": {"steps": condition.steps, "epochs": None}})
        given = None if self.finetuned_once(row) else condition.modalities
        transfer = condition.test_modalities is not None
        document |= {
            "modalities": None if transfer else given or self.modalities,
            "finetune_modalities": condition.finetune_modalities,
            "test_modalities": condition.test_modalities,
            "labels_per_class": condition.labels_per_class,
            "label_fraction": condition.label_fraction,
            "seeds": [seed],
        }
        return EvaluateConfig.model_validate(document, strict=False)

    def finetuned_once(self, row: Row) -> bool:
        """Whether one fine-tuned network of the row is tested under all conditions."""
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
        The file is not a protocol, or breaks a rule of the benchmark.
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
    """Options in which a row differs from what all rows share, as dotted paths."""

    def configs(one: Row) -> Iterator[tuple[str, dict[str, Any]]]:
        yield "train", protocol.train_config(one, 0).model_dump(mode="json")
        for condition in protocol.conditions:
            yield "evaluate", protocol.evaluate_config(one, condition, 0).model_dump(mode="json")

    found = [
        name
        for name in ("shared", "inputs", "recipe", "partners", "finetune")
        if getattr(row, name) not in (None, getattr(protocol, name, None))
    ]
    found += [f"bind.{name}" for name in changed_settings(protocol.bind, row.bind)]
    common = row.model_copy(update={"train": {}, "evaluate": {}})
    for (part, base), (_, changed) in zip(configs(common), configs(row), strict=True):
        found += [f"{part}.{path}" for path in changed_paths(base, changed)]
    return list(dict.fromkeys(found))


def changed_paths(
    base: Mapping[str, Any], changed: Mapping[str, Any], at: str = ""
) -> Iterator[str]:
    """Where a document differs from another of the same fields, as dotted paths."""
    for name, value in changed.items():
        if isinstance(value, dict) and isinstance(base.get(name), dict):
            yield from changed_paths(base[name], value, f"{at}{name}.")
        elif value != base.get(name):
            yield f"{at}{name}"


def read_nodes(protocol: Protocol, held_out: str) -> list[str]:
    """Nodes that the rows read when ``held_out`` is tested, in the protocol's order."""
    names = {*protocol.inputs, FINETUNE, held_out}
    for row in protocol.rows:
        names |= {*(row.inputs or ()), *([row.data] if row.data else [])}
    return [name for name in protocol.nodes if name in names]


def _check_names(protocol: Protocol) -> None:
    for what in ("rows", "conditions", "splits", "validation_splits"):
        names = [one.name for one in getattr(protocol, what)]
        if len(set(names)) < len(names):
            _refuse(f"two {what} have one name", what, "names that differ", names)
    for name, node in protocol.nodes.items():
        if node.source not in protocol.sources:
            what = f"node {name} is cut from an unknown source"
            _refuse(what, f"nodes.{name}.source", protocol.sources, node.source)
    known = {name for row in protocol.rows for name in row.inputs or ()} | set(protocol.inputs)
    known |= {row.data for row in protocol.rows if row.data} | {FINETUNE, TEST}
    known |= {VALIDATION} if protocol.validation_splits else set()
    if missing := sorted(known - set(protocol.nodes)):
        what = f"no node {', '.join(missing)}"
        _refuse(what, "nodes", "every node that is read", protocol.nodes)
    columns = [one.name for one in protocol.conditions]
    for name, parts in protocol.averages.items():
        if name in columns or not parts or not set(parts) <= set(columns):
            what = f"average {name} is not of other conditions"
            _refuse(what, f"averages.{name}", columns, parts)
    for condition in protocol.conditions if protocol.finetune == "once" else ():
        if not set(condition.modalities or ()) <= set(protocol.modalities):
            what = f"condition {condition.name} has modalities that nothing is fine-tuned on"
            at = f"conditions.{condition.name}.modalities"
            _refuse(what, at, protocol.modalities, condition.modalities or ())
    rows = [row.name for row in protocol.rows]
    named = [protocol.against] if protocol.against else []
    named += [*(protocol.baselines or ()), *(one for pair in protocol.claims for one in pair)]
    if unknown := [one for one in named if one not in rows]:
        at = "against, baselines, claims"
        _refuse("rows are compared with an unknown row", at, rows, ", ".join(unknown))
    if figures := sorted(set(protocol.paper.figures) - set(rows)):
        what = f"the paper's figures name rows that are not here: {', '.join(figures)}"
        _refuse(what, "paper.figures", rows, figures)


def _check_options(owner: str, given: Protocol | Row) -> None:
    """Refuse options that would be overridden silently."""
    for part, names in SET_ELSEWHERE.items():
        for name in names.keys() & getattr(given, part).keys():
            what = f"{owner} has {part}.{name}, which {names[name]} sets for every row"
            value = repr(getattr(given, part)[name])
            fix = f"Leave it out and set {names[name]}."
            _refuse(what, f"{part}.{name}", "none", value, fix)


def _check_configs(protocol: Protocol, row: Row, owner: str) -> None:
    """Refuse unknown options of a training; ``owner`` begins their path."""
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
    at = f"rows.{row.name}"
    allowed = tuple(f"{switch}." for switch in protocol.switches)
    if found := [one for one in differences(protocol, row) if not f"{one}.".startswith(allowed)]:
        _refuse(
            f"row {row.name} differs in {', '.join(found)}",
            at,
            "the same budget and options in every row",
            "options of its own",
            "Set them for all rows; or name them in switches, if they are what the table is about.",
        )
    if row.method not in PAIRED_METHODS and (given := row.bind.given()):
        what = f"{row.method} does not read pairs"
        _refuse(what, f"{at}.bind", "no options", given, "Leave them out.")
    if row.method not in PAIRED_METHODS and row.partners is not None:
        what = f"{row.method} does not read partners"
        _refuse(what, f"{at}.partners", "none", row.partners.kind, "Leave them out.")
    protocol.bind_options(row, 0)
    if row.data is not None and (row.shared or row.inputs):
        what = "a row with a node for data takes neither shared nor inputs"
        _refuse(what, at, "data alone", "both", "Leave shared and inputs out.")
    if (row.method == "upper_bound") != (row.data is not None):
        what = "upper_bound takes a node for data, the other methods do not"
        expected = "a node" if row.data is None else "none"
        _refuse(what, f"{at}.data", expected, row.data or "none")


def _check_split(protocol: Protocol, split: Split, held_out: str) -> None:
    other = VALIDATION if held_out == TEST else TEST
    at = f"splits.{split.name}.people"
    if other in split.people:
        what = f"{other} cannot stand beside {held_out}"
        fix = f"{TEST} belongs into splits, {VALIDATION} into validation_splits."
        _refuse(what, at, f"people of {held_out} alone", "of both", fix)
    stages: dict[str, list[tuple[str, str]]] = {"pretrain": [], "finetune": [], "held out": []}
    for name in sorted(read_nodes(protocol, held_out)):
        for role in protocol.nodes[name].people or (name,):
            if not split.people.get(role):
                what = f"split {split.name} does not say who is {role}"
                _refuse(what, f"{at}.{role}", "people", "nobody")
            stage = {FINETUNE: "finetune", held_out: "held out"}.get(name, "pretrain")
            stages[stage].append((name, role))
    _check_stages(protocol, split, stages)


def _check_stages(
    protocol: Protocol, split: Split, stages: Mapping[str, Sequence[tuple[str, str]]]
) -> None:
    """Refuse a person in two stages of a dataset, or in two nodes of a dataset that are bound."""
    pairs = [
        pair
        for first, second in combinations(sorted(stages), 2)
        for pair in product(stages[first], stages[second])
    ]
    bound = [(name, role) for name, role in stages["pretrain"] if name in protocol.inputs]
    sources = {name: protocol.nodes[name].source for name, _ in bound}
    pairs += [two for two in combinations(bound, 2) if sources[two[0][0]] == sources[two[1][0]]]
    for (name, role), (other, second) in pairs:
        datasets = {protocol.sources[protocol.nodes[one].source].dataset for one in (name, other)}
        if len(datasets) == 1 and _overlap(split.people[role], split.people[second]):
            what = f"{role} and {second} have people in common"
            got = f"{split.people[role]} and {split.people[second]}"
            at = f"splits.{split.name}.people"
            _refuse(what, at, "everybody in one role", got, "Take the people out of one of them.")


def _overlap(first: People, second: People) -> bool:
    if isinstance(first, tuple) and isinstance(second, tuple):
        return bool(set(first) & set(second))
    if isinstance(first, tuple) or isinstance(second, tuple) or first.column != second.column:
        return True  # it cannot be shown that they are disjoint
    return first.low < second.high and second.low < first.high


def _check_validation(protocol: Protocol) -> None:
    if protocol.validation_remark:
        return
    for split, other in product(protocol.splits, protocol.validation_splits):
        chosen = other.people[VALIDATION]
        if _overlap(split.people[TEST], chosen):
            _refuse(
                "people for choosing are people of the test",
                f"validation_splits.{other.name}.people.{VALIDATION}",
                f"nobody of {TEST} of split {split.name}",
                str(chosen),
                "Take them out, or say in validation_remark why they are there.",
            )


def _refuse(
    what: str, key: str, expected: str | Iterable[str], got: str | Iterable[str], fix: str = ""
) -> NoReturn:
    expected = expected if isinstance(expected, str) else f"some of {', '.join(expected)}"
    got = got if isinstance(got, str) else ", ".join(got)
    raise DocumentFaultError(DocumentFault(what, key, expected, got, fix))
