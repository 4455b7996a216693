"""Configuration of training and evaluation: defaults, a JSON file, options."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from mmbind_data.errors import UsageError, suggest
from mmbind_data.spec.validation_messages import DocumentFault, first_fault

Config = TypeVar("Config", bound=BaseModel)


def read_config(
    model: type[Config], path: str | None, changes: Mapping[str, Any], base: Config | None = None
) -> Config:
    """A configuration from its defaults, then a JSON file, then the options of the command line.

    ``base`` replaces the defaults.

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
        defaults["budget"]["epochs" if "steps" in budget else "steps"] = None  # one replaces both
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
    """The error about a value: where it was given, and what its default is."""
    parent, _, name = found.key.rpartition(".")
    known, own = _entry(plain, parent), _entry(given, parent)
    in_file = path is not None and own is not None and (name in own or not name)
    known = known or {}
    if found.problem == "unknown field":
        step = suggest(name, known)
    elif name in known:
        step = f"Leave it out for the default, {json.dumps(known[name])}."
    else:
        step = "Give one of them."
    document = path if in_file else "the options"
    return UsageError(cannot="use the configuration", **found.keywords(document), fix=step)


def _entry(document: Any, key: str) -> Mapping[str, Any] | None:
    """The object at a dotted key; empty if it is missing, None if it is not an object."""
    for part in key.split(".") if key else ():
        document = document.get(part, {}) if isinstance(document, dict) else {}
    return document if isinstance(document, dict) else None
