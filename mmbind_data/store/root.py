"""What a store says about itself in its root document.

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


def read_info(path: str | Path) -> DatasetInfo | BoundInfo:
    """What a store says about itself, from its root document alone.

    Raises
    ------
    FormatError
        Nothing there, not a store of mmbind, or of a specification that this version cannot read.
    """
    path = locate(path)
    attributes = _root_attributes(path)
    spec, version = attributes.get("spec"), attributes.get("spec_version")
    models: dict[Any, type[DatasetInfo] | type[BoundInfo]] = {
        DATASET_SPEC: DatasetInfo,
        BOUND_SPEC: BoundInfo,
    }
    if spec not in models or version != SPEC_VERSION:
        raise FormatError(
            cannot="open a store",
            problem="unknown specification",
            at=path,
            expected=f"{DATASET_SPEC} or {BOUND_SPEC} {SPEC_VERSION}",
            got=f"{spec} {version}",
            fix="A newer mmbind may be able to read it.",
        )
    try:
        return models[spec].model_validate_json(json.dumps(attributes))
    except ValidationError as error:
        raise FormatError(cannot="open a store", **fault_of(error, path / ROOT)) from error


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
        cannot="open a store",
        problem="not a store of mmbind",
        at=path,
        expected=f"a folder with {ROOT}",
        got=got,
        fix=step,
    )


BUNDLE = "bundle.json"


def is_bundle(path: str | Path) -> bool:
    """Whether a folder is a bundle, whatever its state."""
    return (locate(path) / BUNDLE).is_file()


def read_bundle(path: str | Path) -> BundleInfo:
    """What a bundle says about itself.

    Raises
    ------
    FormatError
        No bundle there, or of a specification that this version cannot read.
    """
    place = locate(path) / BUNDLE
    try:
        return BundleInfo.model_validate_json(place.read_bytes())
    except (OSError, ValidationError) as error:
        step = "Bundles are made by mmbind publish; a newer mmbind may be able to read it."
        raise FormatError(cannot="open a bundle", **fault_of(error, place), fix=step) from error


def locate_store(path: str | Path) -> Path:
    """The store of a bundle; of anything else the path itself.

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
        raise FormatError(
            cannot="open a bundle",
            problem="a store outside of it",
            at=path / BUNDLE,
            expected="a path within",
            got=name,
        )
    return path / name
