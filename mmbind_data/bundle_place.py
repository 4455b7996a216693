"""Find what a path holds: a bundle, and the store inside it."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from .errors import FormatError, problem
from .places import place_of
from .spec import BundleInfo

BUNDLE = "bundle.json"


def is_bundle(path: str | Path) -> bool:
    """Whether a folder is a bundle, whatever its state."""
    return (place_of(path) / BUNDLE).is_file()


def read_bundle(path: str | Path) -> BundleInfo:
    """What a bundle says about itself.

    Raises
    ------
    FormatError
        No bundle there, or of a specification that this version cannot read.
    """
    place = place_of(path) / BUNDLE
    try:
        return BundleInfo.model_validate_json(place.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        got = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    except OSError as error:
        got = error.strerror or str(error)
    raise FormatError(
        problem("open a bundle", f"no readable {BUNDLE}", place, "the output of mmbind publish",
                got, "A newer mmbind may be able to read it.")
    )  # fmt: skip


def store_place(path: str | Path) -> Path:
    """The store of a bundle; of anything else the path itself.

    Raises
    ------
    FormatError
        The bundle is broken, or names a store outside of itself.
    """
    path = place_of(path)
    if not is_bundle(path):
        return path
    name = read_bundle(path).store
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise FormatError(
            problem("open a bundle", "a store outside of it", path / BUNDLE, "a path within", name)
        )
    return path / name
