"""What option values become."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from pydantic import BaseModel, ValidationError

from mmbind_data.errors import UsageError, suggest
from mmbind_data.io.locations import locate
from mmbind_data.spec.validation_messages import DocumentFault, first_fault

if TYPE_CHECKING:
    from mmbind_data.binding.options import BindOptions
    from mmbind_data.matching.rule import MatchRule

Config = TypeVar("Config", bound=BaseModel)


def comma_list(
    ctx: click.Context, parameter: click.Parameter, value: str | None
) -> list[str] | None:
    """Turn ``a,b`` into a list (a click callback); an empty list is never meant."""
    if value is None:
        return None
    parts = [part.strip() for part in value.split(",")]
    if not all(parts):
        message = "expected names separated by commas, got an empty one"
        raise click.BadParameter(message, ctx=ctx, param=parameter)
    return parts


def assignments(
    ctx: click.Context, parameter: click.Parameter, texts: Sequence[str]
) -> dict[str, str]:
    """Turn ``NAME=VALUE`` texts into a mapping (a click callback)."""
    values: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals and value) or name in values:
            message = f"expected NAME=VALUE, each name once, got {text!r}"
            raise click.BadParameter(message, ctx=ctx, param=parameter)
        values[name] = value
    return values


def choices(
    ctx: click.Context, parameter: click.Parameter, texts: Sequence[str]
) -> dict[str, list[str]]:
    """Turn ``COLUMN=VALUE`` texts into the values of each column (a click callback)."""
    values: dict[str, list[str]] = {}
    for text in texts:
        column, equals, value = text.partition("=")
        if not (column and equals and value):
            message = f"expected COLUMN=VALUE, got {text!r}"
            raise click.BadParameter(message, ctx=ctx, param=parameter)
        values.setdefault(column, []).append(value)
    return values


def finite(ctx: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    """Refuse nan and infinity, which click takes for numbers of any range (a click callback)."""
    if value is not None and not math.isfinite(value):
        message = f"{value} is no finite number"
        raise click.BadParameter(message, ctx=ctx, param=parameter)
    return value


def source_paths(texts: Sequence[str]) -> dict[str, Path]:
    """Turn ``ID=PATH`` texts into a mapping.

    Raises
    ------
    click.UsageError
        A text without ``=``.
    """
    places = {}
    for text in texts:
        source_id, equals, path = text.partition("=")
        if not (source_id and equals and path):
            message = f"--source {text!r}: expected ID=PATH"
            raise click.UsageError(message)
        places[source_id] = locate(path)
    return places


def read_config(
    model: type[Config], path: str | None, changes: Mapping[str, Any], base: Config | None = None
) -> Config:
    """A configuration from its defaults, then a JSON file, then the options of the command line.

    With ``base``, that configuration stands in for the defaults.

    Raises
    ------
    UsageError
        The file is missing, no JSON, or holds values that the model refuses.
    """
    given = _read_object(path) if path is not None else {}
    document = dict(given)
    for name, value in changes.items():
        own = document.get(name, {})
        if not isinstance(value, dict):
            document[name] = value
        elif isinstance(own, dict):  # else it is refused below
            document[name] = {**own, **value}
    plain = (base or model()).model_dump(mode="json")
    defaults = dict(plain)
    for name, value in document.items():
        nested = isinstance(value, dict) and isinstance(defaults.get(name), dict)
        defaults[name] = {**defaults[name], **value} if nested else value
    budget = document.get("budget")
    if isinstance(budget, dict) and ("steps" in budget) != ("epochs" in budget):
        defaults["budget"]["epochs" if "steps" in budget else "steps"] = None  # one stands for both
    try:
        return model.model_validate_json(json.dumps(defaults))
    except ValidationError as error:
        raise _bad_value(first_fault(error), path, given, plain) from error


def _read_object(path: str) -> dict[str, Any]:
    """The JSON object in a file of options."""
    got = "a folder" if Path(path).is_dir() else "no such file" if not Path(path).exists() else ""
    if not got:
        try:
            document = json.loads(Path(path).read_text(encoding="utf-8-sig"))
        except (OSError, ValueError) as error:
            got = str(error)
        else:
            if isinstance(document, dict):
                return document
            got = f"a {type(document).__name__}"
    step = 'Give a file with options, such as {"budget": {"steps": 300}}.'
    raise UsageError(
        cannot="read the configuration",
        problem="unreadable",
        at=path,
        expected="a JSON object",
        got=got,
        fix=step,
    )


def _bad_value(
    found: DocumentFault, path: str | None, given: Mapping[str, Any], plain: Mapping[str, Any]
) -> UsageError:
    """The error about a value: where it was given, and what stands there by default."""
    parent, _, name = found.key.rpartition(".")
    usual: Any = plain
    told: Any = given
    for part in parent.split(".") if parent else ():
        usual = usual.get(part, {}) if isinstance(usual, dict) else {}
        told = told.get(part, {}) if isinstance(told, dict) else {}
    known = usual if isinstance(usual, dict) else {}
    in_file = path is not None and isinstance(told, dict) and (name in told or not name)
    if found.problem == "unknown field":
        step = suggest(name, known)
    elif name in known:
        step = f"Leave it out for the default, {json.dumps(known[name])}."
    else:
        step = "Give one of them."
    document = path if in_file else "the options"
    return UsageError(cannot="use the configuration", **found.keywords(document), fix=step)


# options of bind that belong to one sort of shared modality alone
SENSOR = (
    "recipe", "embed", "rerank", "candidates", "match", "metric", "top_k", "min_similarity",
    "mean", "max_reuse", "pca", "index", "steps", "derive",
)  # fmt: skip
TEXT = ("label_model", "label_text", "label_map")
RULE = ("match", "metric", "top_k", "min_similarity", "max_reuse", "pca")
AS_GIVEN = (
    "rerank", "candidates", "index", "steps", "group_by", "label_model", "label_text",
    "temperature",
)  # fmt: skip


def bind_options(shared: Sequence[str], chosen: Mapping[str, Any]) -> BindOptions:
    """Options of a binding: those of the recipe, then those of the command line.

    Raises
    ------
    click.UsageError
        An option that the chosen kind of shared modality does not use: a misunderstanding.
    """
    from mmbind_data.binding.options import RECIPES

    context = click.get_current_context()
    given = {
        name: value
        for name, value in chosen.items()
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    }
    _refuse_idle(shared, given)
    recipe = RECIPES[chosen["recipe"]]
    rule = replace(recipe.rule, **{name: given[name] for name in RULE if name in given})
    changes: dict[str, Any] = {"rule": rule, "seed": chosen["seed"]}
    changes |= {name: given[name] for name in AS_GIVEN if name in given}
    changes |= _translated(shared, given, rule)
    options = replace(recipe, **changes)
    _refuse_useless(shared, given, options)
    return options


def _refuse_useless(shared: Sequence[str], given: Mapping[str, Any], options: BindOptions) -> None:
    """Refuse options that the others leave without effect."""
    several = options.rule.top_k > 1
    one_each = not several or {"label", "time", "location"} & set(shared)
    trained = options.embed in ("autoencoder", "contrastive")
    for name, useful, reason in (
        ("steps", trained, "by an embedding that is not trained: see --embed"),
        ("weights", one_each, "by several partners per anchor: they share 1, see --temperature"),
        ("temperature", several, "by one partner per anchor: see --weights"),
        ("candidates", options.rerank != "none", "where none are compared once more: see --rerank"),
    ):
        if name in given and not useful:
            message = f"--{name} is not used {reason}"
            raise click.UsageError(message)


def _refuse_idle(shared: Sequence[str], given: Mapping[str, Any]) -> None:
    """Refuse options that what is shared does not use, or that contradict one another."""
    occasions = {name for name in shared if name in ("time", "location")}
    sensors = [name for name in shared if name not in ("label", *occasions)]
    idle = [] if "label" in shared else [*TEXT]
    idle += [] if sensors else [*SENSOR, "temperature"]
    idle += [] if occasions else ["window"]
    idle += [] if sensors or occasions else ["group_by"]
    for name in idle:
        if name in given:
            sort = ", ".join(dict.fromkeys(shared))
            message = f"--{name.replace('_', '-')} is not used when {sort} is shared"
            raise click.UsageError(message)
    if "window" in given and len(occasions) > 1:
        message = "--window would mean seconds and metres: bind by time and location one by one"
        raise click.UsageError(message)
    if "mean" in given and "top_k" in given:
        message = "--mean averages its partners, --top-k keeps them apart: choose one"
        raise click.UsageError(message)


def _translated(shared: Sequence[str], given: Mapping[str, Any], rule: MatchRule) -> dict[str, Any]:
    """Options that bear another name, or hold something else, on the command line."""
    from mmbind_data.embedding.sentences import read_label_map

    changes: dict[str, Any] = {}
    if "mean" in given:
        changes |= {"rule": replace(rule, top_k=given["mean"]), "mean": True}
    if "derive" in given:
        changes["derive"] = tuple(given["derive"])
    if "embed" in given:
        changes["embed"] = _embedding(given["embed"])
    if "window" in given:
        changes["window_m" if "location" in shared else "window_s"] = given["window"]
    if "weights" in given:
        changes["weight_rule"] = given["weights"]
    if "label_map" in given:
        changes["label_map"] = read_label_map(given["label_map"])
    return changes


def _embedding(text: str) -> str | Path:
    if text in ("raw", "autoencoder", "contrastive"):
        return text
    if text.endswith(".npy"):
        return Path(text)
    message = f"--embed {text!r}: expected raw, autoencoder, contrastive or PATH.npy"
    raise click.UsageError(message)
