"""A benchmark protocol: who has which data, what is compared, and what is the same for all.

A protocol is one JSON file. Its rules (equal budgets, people in one role only) are in
`mmbind_train.protocol_rules` and hold for every protocol that can be loaded.

Source: shared/PROTOCOLS.md sections 2 and 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, ValidationError, model_validator

from mmbind_data.bind_options import BindOptions
from mmbind_data.errors import FormatError, UsageError, problem, suggest
from mmbind_data.misfits import first_misfit
from mmbind_data.spec import DatasetId, Model, Name

from .config import EvaluateConfig, TrainConfig
from .protocol_bind import BindSettings, bind_options
from .protocol_rules import check_protocol

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
    folder = Path(str(files("mmbind_train") / FOLDER))
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
            problem("run a benchmark", "no such protocol", "PROTOCOL",
                    "a name from mmbind benchmark --list, or a .json file", repr(str(name)),
                    suggest(str(name), known))
        )  # fmt: skip
    try:
        return Protocol.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        found = first_misfit(error)
        step = found.next_step or "schemas/protocol.schema.json has all fields and what they mean."
        if error.errors()[0]["type"] == "extra_forbidden" and "." not in found.key:
            step = suggest(found.key, Protocol.model_fields)
        raise FormatError(
            problem("read a protocol", found.what, found.place(path), found.expected, found.got,
                    step)
        ) from error  # fmt: skip
    except (OSError, UnicodeDecodeError) as error:
        raise FormatError(
            problem("read a protocol", "unreadable", path, "a JSON file",
                    "a folder" if path.is_dir() else str(error),
                    "mmbind benchmark --list tells the protocols that are shipped.")
        ) from error  # fmt: skip
