"""The parts of a protocol: sources, nodes, splits, conditions, rows, and the paper's figures."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from mmbind_data.spec.descriptor import DatasetId, Model, Name
from mmbind_train.benchmarks.bind_settings import BindSettings
from mmbind_train.benchmarks.controls import PartnersOf
from mmbind_train.config import Recipe

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
    """What one store holds; the split names the people whose samples it holds."""

    source: str
    modalities: tuple[Name, ...]
    people: tuple[Role, ...] | None = Field(
        default=None, description="roles of the split whose people it has; null: the node's name"
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
    finetune_modalities: tuple[Name, ...] | None = Field(
        default=None, description="of a transfer: whose labels serve test_modalities"
    )
    test_modalities: tuple[Name, ...] | None = None
    retrieval: bool = Field(default=False, description="of a transfer: also find one by the other")


class Row(Model):
    """One line of the table: a method, and the options in which it differs from the others."""

    name: str
    method: str
    title: str | None = None
    shared: tuple[str, ...] | None = None
    inputs: tuple[Role, ...] | None = Field(default=None, description="nodes that are bound")
    data: Role | None = Field(default=None, description="a node in place of a bound store")
    bind: BindSettings = BindSettings()
    recipe: Recipe | None = Field(default=None, description="of the training; null: default")
    partners: PartnersOf | None = Field(default=None, description="null: of the bound store")
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
    """The table of the paper, and why its figures cannot be compared directly."""

    where: str
    figures: dict[str, tuple[PaperFigure, ...]] = Field(default={})
    remarks: tuple[str, ...] = ()
