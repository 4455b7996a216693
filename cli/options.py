"""What option values become."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
from pydantic import BaseModel, ValidationError

from mmbind_data.errors import UsageError, problem

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
        places[source_id] = Path(path)
    return places


def read_config(model: type[Config], path: str | None, changes: Mapping[str, Any]) -> Config:
    """A configuration from its defaults, then a JSON file, then the options of the command line.

    Raises
    ------
    UsageError
        The file is missing, no JSON, or holds values that the model refuses.
    """
    document: dict[str, Any] = {}
    if path is not None:
        try:
            document = json.loads(Path(path).read_text())
            if not isinstance(document, dict):
                message = f"a {type(document).__name__}"
                raise ValueError(message)
        except (OSError, ValueError) as error:
            raise UsageError(
                problem("read the configuration", "unreadable", path, "a JSON object", str(error))
            ) from error
    for name, value in changes.items():
        if isinstance(value, dict):
            document[name] = {**document.get(name, {}), **value}
        else:
            document[name] = value
    defaults = model().model_dump(mode="json")
    for name, value in document.items():
        nested = isinstance(value, dict) and isinstance(defaults.get(name), dict)
        defaults[name] = {**defaults[name], **value} if nested else value
    try:
        return model.model_validate_json(json.dumps(defaults))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the options"
        raise UsageError(
            problem("use the configuration", "bad value", where, first["msg"], str(first["input"]))
        ) from error
