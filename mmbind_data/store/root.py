"""Read the documents that describe a store and a bundle: zarr.json and bundle.json.

Needs neither numpy nor zarr nor pyarrow, so that ``mmbind info`` answers at once.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mmbind_data.errors import FormatError
from mmbind_data.io.locations import locate
from mmbind_data.spec.bundle import BundleInfo
from mmbind_data.spec.store import BOUND_SPEC, DATASET_SPEC, SPEC_VERSION, BoundInfo, DatasetInfo
from mmbind_data.spec.validation_messages import fault_of

ROOT = "zarr.json"
ATTRIBUTE = "mmbind"
BUNDLE = "bundle.json"
OPEN = "open a store"
NEWER = "A newer mmbind may be able to read it."


def read_info(path: str | Path) -> DatasetInfo | BoundInfo:
    """Read the attributes of a store, from its root document alone.

    Raises
    ------
    FormatError
        There is no store of mmbind, or one of a specification that this version cannot read.
    """
    path = locate(path)
    attributes = _root_attributes(path)
    spec, version = attributes.get("spec"), attributes.get("spec_version")
    models: dict[Any, type[DatasetInfo] | type[BoundInfo]] = {
        DATASET_SPEC: DatasetInfo,
        BOUND_SPEC: BoundInfo,
    }
    if spec not in models or version != SPEC_VERSION:
        expected = f"{DATASET_SPEC} or {BOUND_SPEC} {SPEC_VERSION}"
        what, got, fix = "unknown specification", f"{spec} {version}", NEWER
        raise FormatError(cannot=OPEN, problem=what, at=path, expected=expected, got=got, fix=fix)
    try:
        return models[spec].model_validate_json(json.dumps(attributes))
    except ValidationError as error:
        raise FormatError(cannot=OPEN, **fault_of(error, path / ROOT)) from error


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
    what, expected = "not a store of mmbind", f"a folder with {ROOT}"
    fix = "Stores are made by mmbind convert, partition and bind."
    if got == "a file" and path.suffix.lower() == ".zip":
        fix = f"Unpack the archive first: unzip {path} -d FOLDER."
    raise FormatError(cannot=OPEN, problem=what, at=path, expected=expected, got=got, fix=fix)


def is_bundle(path: str | Path) -> bool:
    """Whether a folder is a bundle, intact or not."""
    return (locate(path) / BUNDLE).is_file()


def read_bundle(path: str | Path) -> BundleInfo:
    """Read the document of a bundle.

    Raises
    ------
    FormatError
        There is no bundle, or one of a specification that this version cannot read.
    """
    place = locate(path) / BUNDLE
    try:
        return BundleInfo.model_validate_json(place.read_bytes())
    except (OSError, ValidationError) as error:
        fix = f"Bundles are made by mmbind publish. {NEWER}"
        raise FormatError(cannot="open a bundle", **fault_of(error, place), fix=fix) from error


def locate_store(path: str | Path) -> Path:
    """The path of a bundle's store; any other path is returned as it is.

    Raises
    ------
    FormatError
        The bundle is broken, or names a store outside of itself.
    """
    path = locate(path)
    if not is_bundle(path):
        return path
    name = read_bundle(path).store
    if Path(name).is_absolute() or ".." in Path(name).parts:
        what, at = "a store outside of it", path / BUNDLE
        raise FormatError(
            cannot="open a bundle", problem=what, at=at, expected="a path within", got=name
        )
    return path / name
