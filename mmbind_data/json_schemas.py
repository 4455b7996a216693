"""The JSON documents of mmbind; ``python -m mmbind_data.json_schemas`` writes their schemas."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from mmbind_data.datasets.own.descriptor import OwnDescriptor
from mmbind_data.spec.bundle import BundleInfo, Manifest, Permission
from mmbind_data.spec.descriptor import Descriptor, Model
from mmbind_data.spec.store import BoundInfo, DatasetInfo

DIALECT = "https://json-schema.org/draft/2020-12/schema"
SCHEMAS: Mapping[str, type[Model]] = {
    "descriptor": Descriptor,
    "dataset": DatasetInfo,
    "bound": BoundInfo,
    "manifest": Manifest,
    "bundle": BundleInfo,
    "permission": Permission,
    "own_data": OwnDescriptor,
}


def json_schema(name: str) -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of one document, by its name in `SCHEMAS`."""
    # people write these two, and may leave out what has a default
    mode: Literal["validation", "serialization"] = (
        "validation" if name in ("own_data", "permission") else "serialization"
    )
    schema = SCHEMAS[name].model_json_schema(mode=mode)
    if name == "own_data":
        _allow_comments(schema)
    return {"$schema": DIALECT, **schema}


def _allow_comments(schema: Any) -> None:
    """Let every object carry keys that begin with ``$comment``."""
    if isinstance(schema, dict):
        if schema.get("additionalProperties") is False:
            schema["patternProperties"] = {r"^\$comment": {}}
        for value in schema.values():
            _allow_comments(value)
    elif isinstance(schema, list):
        for value in schema:
            _allow_comments(value)


def schema_text(name: str) -> str:
    """The exact text of schemas/<name>.schema.json."""
    return as_text(json_schema(name))


def as_text(schema: dict[str, Any]) -> str:
    """A schema as it is stored."""
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"


def write_schemas(texts: Mapping[str, str]) -> None:
    """Write schemas/<name>.schema.json of a source checkout."""
    for name, text in texts.items():
        (Path(__file__).parent.parent / "schemas" / f"{name}.schema.json").write_text(text)


if __name__ == "__main__":
    write_schemas({name: schema_text(name) for name in SCHEMAS})
