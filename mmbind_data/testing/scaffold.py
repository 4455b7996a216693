"""Begin a dataset of one's own: a package with reader, descriptor and writer, or a descriptor."""

from __future__ import annotations

import keyword
import os
import re
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from mmbind_data.datasets.reader import TABLE
from mmbind_data.datasets.registry import list_datasets
from mmbind_data.errors import OutputError, UsageError
from mmbind_data.io.atomic import failed, staged

# template -> place in the new package
PACKAGE = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    "init.py": "@MODULE@/__init__.py",
    "reader.py": "@MODULE@/reader.py",
    "reader.json": "@MODULE@/reader.json",
    "rawdata.py": "@MODULE@/rawdata.py",
    "test_conformance.py": "tests/test_conformance.py",
}
OWN_DATA = "own_data.json"


def new_package(name: str, folder: str | Path) -> list[str]:
    """Write an installable package that adds dataset ``name``, and passes the conformance kit.

    Returned are its files, relative to the folder.

    Raises
    ------
    UsageError
        A name that cannot be used, or is taken.
    OutputError
        The folder exists already, or cannot be written.
    """
    _check_name(name)
    module = name.replace("-", "_")
    _check_module(module)
    _check_free(Path(folder))
    written = []
    with staged(Path(folder), overwrite=False, doing="begin a dataset") as root:
        for template, place in PACKAGE.items():
            path = place.replace("@MODULE@", module)
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(_filled(template, name))
            written.append(path)
    return written


def new_descriptor(name: str, path: str | Path) -> list[str]:
    """Write a commented descriptor for one's own tables (``mmbind convert table``).

    Parameters and errors are those of `new_package`.
    """
    _check_name(name)
    path = Path(path)
    _check_free(path)
    try:
        path.write_text(own_data_text(name))
    except OSError as error:
        raise failed(path, error, doing="begin a descriptor") from error
    return [path.name]


def own_data_text(name: str) -> str:
    """The commented descriptor that `new_descriptor` writes."""
    return _filled(OWN_DATA, name)


def _filled(template: str, name: str) -> str:
    text = (files(__package__) / "template" / f"{template}.template").read_text()
    return text.replace("@NAME@", name).replace("@MODULE@", name.replace("-", "_"))


def _check_free(path: Path) -> None:
    if os.path.lexists(path):
        raise OutputError(
            cannot="begin a dataset",
            problem="something is there",
            at=path,
            expected="nothing",
            got="a file",
            fix="Nothing is overwritten here: choose another place with --out.",
        )


def _check_name(name: str) -> None:
    usable = re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) is not None
    if not usable or keyword.iskeyword(name):
        expected = "small letters, digits and dashes, such as my-gloves"
        raise _unusable_name("bad name", expected, repr(name))
    if name in (TABLE, *list_datasets()):
        raise _unusable_name("name taken", "a new name", name)


def _check_module(module: str) -> None:
    """Refuse a package that would hide a module, or be hidden by it."""
    found = find_spec(module)
    if found is not None:
        place = found.origin or next(iter(found.submodule_search_locations or ()), "Python itself")
        what, expected = f"Python has a module {module} already", "a name that no module has"
        fix = f"Choose another name, such as my-{module.replace('_', '-')}."
        raise _unusable_name(what, expected, place, fix)


def _unusable_name(problem: str, expected: str, got: str, fix: str = "") -> UsageError:
    cannot = "begin a dataset"
    return UsageError(
        cannot=cannot, problem=problem, at="NAME", expected=expected, got=got, fix=fix
    )
