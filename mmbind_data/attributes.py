"""What a store says about itself in its root document.

Needs neither numpy nor zarr nor pyarrow, so that ``mmbind info`` answers at once.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from .errors import FormatError, problem
from .places import place_of
from .spec import BOUND_SPEC, DATASET_SPEC, SPEC_VERSION, BoundInfo, DatasetInfo

ROOT = "zarr.json"
ATTRIBUTE = "mmbind"


def read_info(path: str | Path) -> DatasetInfo | BoundInfo:
    """What a store says about itself, from its root document alone.

    Raises
    ------
    FormatError
        Nothing there, not a store of mmbind, or of a specification that this version cannot read.
    """
    path = place_of(path)
    attributes = _root_attributes(path)
    spec, version = attributes.get("spec"), attributes.get("spec_version")
    models: dict[Any, type[DatasetInfo] | type[BoundInfo]] = {
        DATASET_SPEC: DatasetInfo,
        BOUND_SPEC: BoundInfo,
    }
    if spec not in models or version != SPEC_VERSION:
        raise FormatError(
            problem(
                "open a store",
                "unknown specification",
                path,
                f"{DATASET_SPEC} or {BOUND_SPEC} {SPEC_VERSION}",
                f"{spec} {version}",
                "A newer mmbind may be able to read it.",
            )
        )
    try:
        return models[spec].model_validate_json(json.dumps(attributes))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise FormatError(
            problem("open a store", f"bad attribute {place}", path, first["msg"], "another value")
        ) from error


def _root_attributes(path: Path) -> dict[str, Any]:
    where = path / ROOT
    try:
        attributes = json.loads(where.read_text())["attributes"][ATTRIBUTE]
    except (FileNotFoundError, NotADirectoryError):
        got = "a file" if path.is_file() else "a folder without it" if path.is_dir() else "nothing"
    except (OSError, ValueError, KeyError, TypeError):
        got = "a document without mmbind's attributes"
    else:
        if isinstance(attributes, dict):
            return attributes
        got = "attributes of another shape"
    step = "Stores are made by mmbind convert, partition and bind."
    if got == "a file" and path.suffix.lower() == ".zip":
        step = f"An archive is unpacked first: unzip {path} -d FOLDER."
    raise FormatError(
        problem("open a store", "not a store of mmbind", path, f"a folder with {ROOT}", got, step)
    )
