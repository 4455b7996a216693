"""The known datasets: one reader module and one descriptor of the same stem each.

Packages add datasets through the entry-point group ``mmbind.datasets``: the name is the dataset
id, the value a module with ``find`` and ``read`` beside which a JSON of the same stem lies.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from mmbind_data.errors import FormatError, UsageError, problem, suggest
from mmbind_data.own_data import without_comments
from mmbind_data.rawfiles import RawListing, Unit
from mmbind_data.spec import Descriptor, Recording

GROUP = "mmbind.datasets"
TABLE = "table"


@dataclass(frozen=True)
class Dataset:
    """What is known about a dataset, and how its raw files are found and read.

    ``find`` and ``read`` get a preset, modalities and options that the descriptor has: whoever
    calls them has checked, see `mmbind_data.plan.plan_conversion`.
    """

    descriptor: Descriptor
    find: Callable[..., RawListing]
    read: Callable[[Unit, Sequence[str], str], Iterator[Recording]]


def open_dataset(name: str, document: str | None = None) -> Dataset:
    """Descriptor and reader of a dataset.

    Parameters
    ----------
    name : str
        Dataset id; "table" for a user's own data.
    document : str, optional
        Text of the user's descriptor; with "table" only, and there always.

    Raises
    ------
    UsageError
        No dataset of this name, or a document where none belongs.
    FormatError
        The descriptor or the reader is broken.
    """
    check_document(name, given=document is not None)
    if document is not None:
        from .table import table_dataset

        return table_dataset(document)
    reader = load_reader(name)
    return Dataset(load_descriptor(name), reader.find, reader.read)


def check_document(name: str, *, given: bool) -> None:
    """Refuse a descriptor where none belongs, and its absence where one must be.

    Raises
    ------
    UsageError
    """
    if (name == TABLE) != given:
        got = f"one for {name}" if given else "none"
        step = "Give --descriptor FILE with dataset table, and with no other."
        expected = "one for dataset table"
        message = problem(f"convert {name}", "descriptor", "--descriptor", expected, got, step)
        raise UsageError(message)


def read_document(path: Path) -> str:
    """Text of a user's descriptor file, which is checked.

    Raises
    ------
    FormatError
        It cannot be read, or is broken.
    """
    from .table import table_dataset

    try:
        document = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        step = "mmbind new-dataset NAME --table writes one to begin with."
        message = problem(
            "read the descriptor", "no such text", path, "a JSON file", str(error), step
        )
        raise FormatError(message) from error
    table_dataset(document, str(path))
    return document


def list_datasets() -> list[str]:
    """Ids of all datasets that can be converted here, sorted."""
    return sorted({*_built_in(), *_installed()})


def load_descriptor(name: str) -> Descriptor:
    """Load what is known about a dataset; no reader is imported.

    Raises
    ------
    UsageError
        No dataset of this name.
    FormatError
        The descriptor is missing or does not fit the schema.
    """
    path = _built_in().get(name) or _beside(_entry_point(name))
    try:
        descriptor = _descriptor(path.read_bytes())
    except (OSError, ValueError) as error:  # a ValidationError is one too
        expected = "a JSON document after descriptor.schema.json"
        message = problem(f"describe {name}", "broken descriptor", path, expected, str(error))
        raise FormatError(message) from error
    if descriptor.dataset_id != name:
        message = problem(
            f"describe {name}", "another dataset's descriptor", path, name, descriptor.dataset_id
        )
        raise FormatError(message)
    return descriptor


def load_reader(name: str) -> ModuleType:
    """Import a dataset's reader: a module with the functions ``find`` and ``read``.

    Raises
    ------
    UsageError
        No dataset of this name.
    FormatError
        An installed reader cannot be imported or lacks one of the functions.
    """
    if name in _built_in():
        return importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
    entry = _entry_point(name)
    try:
        reader = importlib.import_module(entry.module)
    except ImportError as error:
        message = problem(
            f"read {name}", "reader", entry.value, "a module that can be imported", str(error)
        )
        raise FormatError(message) from error
    missing = [word for word in ("find", "read") if not callable(getattr(reader, word, None))]
    if missing:
        message = problem(
            f"read {name}", "reader", entry.value, "functions find and read", f"no {missing[0]}"
        )
        raise FormatError(message)
    return reader


@lru_cache(32)
def _descriptor(content: bytes) -> Descriptor:
    """A descriptor from its text; every unit of a conversion asks for the same one."""
    return Descriptor.model_validate(without_comments(json.loads(content)))


@lru_cache(1)
def _built_in() -> dict[str, Path]:
    return {path.stem.replace("_", "-"): path for path in Path(__file__).parent.glob("*.json")}


def _installed() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def _entry_point(name: str) -> EntryPoint:
    installed = _installed()
    if name not in installed:
        known = list_datasets()
        message = problem(
            f"find dataset {name}", "unknown name", "mmbind datasets", "a known dataset", name
        )
        raise UsageError(f"{message} {suggest(name, known)}")
    return installed[name]


def _beside(entry: EntryPoint) -> Path:
    try:
        spec = find_spec(entry.module)
    except ImportError as error:
        message = problem(
            f"describe {entry.name}", "reader", entry.value, "an installed module", str(error)
        )
        raise FormatError(message) from error
    if spec is None or spec.origin is None:
        message = problem(
            f"describe {entry.name}", "reader", entry.value, "an installed module", "none"
        )
        raise FormatError(message)
    return Path(spec.origin).with_suffix(".json")
