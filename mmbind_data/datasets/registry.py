"""The known datasets: one reader module and one descriptor of the same stem each.

Packages add datasets through the entry-point group ``mmbind.datasets``: the name is the dataset
id, the value a module with ``find`` and ``read``, next to a JSON file of the same stem.
"""

from __future__ import annotations

import importlib
import json
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from mmbind_data.datasets.own.descriptor import DOCUMENT, DOING, without_comments
from mmbind_data.datasets.reader import TABLE, DatasetReader
from mmbind_data.errors import FormatError, UsageError, suggest
from mmbind_data.spec.descriptor import Descriptor
from mmbind_data.spec.validation_messages import fault_of

GROUP = "mmbind.datasets"


def open_reader(name: str, document: str | None = None) -> DatasetReader:
    """Descriptor and reader of a dataset; "table" is a user's own data.

    ``document`` is the text of the user's descriptor: with "table" only, and there always.

    Raises
    ------
    UsageError
        No dataset of this name, or a document where none belongs.
    FormatError
        The descriptor or the reader is broken.
    """
    check_document(name, given=document is not None)
    if document is not None:
        return _own_reader(document, DOCUMENT)
    reader = load_reader_module(name)
    return DatasetReader(load_descriptor(name), reader.find, reader.read)


def check_document(name: str, *, given: bool) -> None:
    """Refuse a descriptor where none belongs, and its absence where one must be.

    Raises
    ------
    UsageError
    """
    if (name == TABLE) != given:
        raise UsageError(
            cannot=f"convert {name}",
            problem="descriptor",
            at="--descriptor",
            expected="one for dataset table",
            got=f"one for {name}" if given else "none",
            fix="Give --descriptor FILE with dataset table, and with no other.",
        )


def read_document(path: Path) -> str:
    """Text of a user's descriptor file, which is checked.

    Raises
    ------
    FormatError
        It cannot be read, or is broken.
    """
    try:
        document = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        step = "mmbind new-dataset NAME --table writes one to begin with."
        doing, what, expected = "read the descriptor", "no such text", "a JSON file"
        raise _unusable(doing, what, path, expected, error, step) from error
    _own_reader(document, str(path))
    return document


def _own_reader(document: str, where: str) -> DatasetReader:
    """Reader of a user's own data, whose name must not be that of a known dataset."""
    from mmbind_data.datasets.own.reader import table_dataset

    reader = table_dataset(document, where)
    name = reader.descriptor.dataset_id
    if name in list_datasets():
        what, expected = "dataset_id of a known dataset", "an id of your own"
        step = "Give your data another dataset_id: others would take them for the known ones."
        raise _unusable(DOING, what, where, expected, repr(name), step)
    return reader


def list_datasets() -> list[str]:
    """Ids of all datasets that can be converted here, sorted.

    These are the built-in ones and those of installed packages that add a dataset.

    >>> "motionsense" in list_datasets()
    True
    """
    return sorted({*_built_in(), *_installed()})


def load_descriptor(name: str) -> Descriptor:
    """Load what is known about a dataset: licence, raw layout, streams, presets and labels.

    No reader is imported for it.

    Raises
    ------
    UsageError
        No dataset of this name, see `list_datasets`.
    FormatError
        The descriptor is missing or does not fit the schema.

    Examples
    --------
    >>> descriptor = load_descriptor("utd-mhad")
    >>> list(descriptor.streams)
    ['acc', 'gyro', 'skeleton', 'depth']
    >>> descriptor.streams["acc"].unit
    'm/s^2'
    """
    path = _built_in().get(name) or _beside(_entry_point(name))
    try:
        descriptor = _descriptor(path.read_bytes())
    except (OSError, ValueError) as error:  # a ValidationError is one too
        step = "schemas/descriptor.schema.json describes the document."
        raise FormatError(cannot=f"describe {name}", **fault_of(error, path), fix=step) from error
    if descriptor.dataset_id != name:
        what, got = "another dataset's descriptor", descriptor.dataset_id
        raise _unusable(f"describe {name}", what, path, name, got)
    return descriptor


def load_reader_module(name: str) -> ModuleType:
    """Import a dataset's reader: a module with the functions ``find`` and ``read``.

    Raises
    ------
    UsageError
        No dataset of this name.
    FormatError
        An installed reader cannot be imported or lacks one of the functions.
    """
    if name in _built_in():
        return importlib.import_module(f"{__package__}.{name.replace('-', '_')}")
    entry = _entry_point(name)
    doing, at = f"read {name}", entry.value
    try:
        reader = importlib.import_module(entry.module)
    except ImportError as error:
        raise _unusable(doing, "reader", at, "a module that can be imported", error) from error
    missing = [word for word in ("find", "read") if not callable(getattr(reader, word, None))]
    if missing:
        raise _unusable(doing, "reader", at, "functions find and read", f"no {missing[0]}")
    return reader


def _unusable(
    doing: str, what: str, at: object, expected: str, got: object, step: str = ""
) -> FormatError:
    """Build the error of a descriptor or reader that cannot be used."""
    return FormatError(cannot=doing, problem=what, at=at, expected=expected, got=got, fix=step)


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
        doing, what, at = f"find dataset {name}", "unknown name", "mmbind datasets"
        expected, step = "a known dataset", suggest(name, list_datasets())
        raise UsageError(cannot=doing, problem=what, at=at, expected=expected, got=name, fix=step)
    return installed[name]


def _beside(entry: EntryPoint) -> Path:
    """The descriptor of an installed dataset: the JSON file next to its reader."""
    try:
        spec = find_spec(entry.module)
        found: object = "none"
    except ImportError as error:
        spec, found = None, error
    if spec is None or spec.origin is None:
        doing, expected = f"describe {entry.name}", "an installed module"
        raise _unusable(doing, "reader", entry.value, expected, found)
    return Path(spec.origin).with_suffix(".json")
