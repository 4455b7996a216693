"""The plan of the house: which room may import which, and how large its parts may be."""

from __future__ import annotations

import ast
import statistics
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# A room imports itself and the rooms before it.
DATA = """
errors progress spec io raw signal datasets matching embedding store reports conversion binding
publishing testing json_schemas
"""
TRAIN = """
config networks data objectives training evaluation exporting benchmarks reports json_schemas
"""
ORDER = [f"mmbind_data.{room}" for room in DATA.split()]
ORDER += [f"mmbind_train.{room}" for room in TRAIN.split()] + ["mmbind_cli"]
HEAVY = {
    "torch": ("mmbind_data.embedding", "mmbind_train"),
    "faiss": ("mmbind_data.matching.approximate",),
    "sentence_transformers": ("mmbind_data.embedding.sentences",),
    "matplotlib": ("mmbind_data.reports", "mmbind_train.benchmarks", "mmbind_train.reports"),
    "sklearn": ("mmbind_train",),
}
FACES = {"mmbind_data", "mmbind_train", "mmbind_data.schemas"}
MAX_FILES, MAX_LINES, MAX_MEDIAN, MAX_FUNCTION = 18, 500, 220, 50


def modules() -> dict[str, Path]:
    """All modules of the product by their dotted names."""
    found = {}
    tops = {"mmbind_data": "mmbind_data", "mmbind_train": "mmbind_train", "cli": "mmbind_cli"}
    for folder, package in tops.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            found[".".join((package, *(one for one in parts if one != "__init__")))] = path
    return found


MODULES = modules()
HOUSE = {name: path for name, path in MODULES.items() if name not in FACES}


def imports(module: str, path: Path, known: Mapping[str, Path] = MODULES) -> Iterator[str]:
    """Modules that a module imports, wherever: at its head, in a function, for type checking."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*(above if node.level else []), *filter(None, [node.module])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield inner if inner in known else base


def place(module: str) -> int | None:
    """Position of a module's room in the order; None of what is not ours."""
    rooms = [room for room in ORDER if f"{module}.".startswith(f"{room}.")]
    return ORDER.index(rooms[0]) if rooms else None


@pytest.mark.parametrize("module", HOUSE)
def test_imports_point_down(module: str) -> None:
    own = place(module)
    assert own is not None, f"{module} is in no room"
    for imported in imports(module, HOUSE[module]):
        assert imported not in FACES - {"mmbind_data.schemas"}, f"{module} imports a face"
        assert (place(imported) or 0) <= own, f"{module} imports {imported}"


def test_no_circle() -> None:
    graph = {name: {one for one in imports(name, path) if one in HOUSE}
             for name, path in HOUSE.items()}  # fmt: skip
    assert [name for name, found in graph.items() if name in found] == []
    list(TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("module", HOUSE)
def test_heavy_packages_stay_in_their_rooms(module: str) -> None:
    for imported in imports(module, HOUSE[module]):
        rooms = HEAVY.get(imported.split(".")[0], ("",))
        assert any(f"{module}.".startswith(room) for room in rooms), f"{module} imports {imported}"


@pytest.mark.parametrize("module", [one for one in HOUSE if ".datasets." in one])
def test_readers_import_neither_zarr_nor_torch(module: str) -> None:
    forbidden = {"zarr", "torch", "mmbind_data.signal.windows"}
    assert forbidden.isdisjoint(imports(module, HOUSE[module]))


def test_folders_and_modules_stay_small() -> None:
    lines = {name: path.read_text().count("\n") for name, path in HOUSE.items()}
    assert {name: n for name, n in lines.items() if n > MAX_LINES} == {}
    assert (
        statistics.median(lines[n] for n, p in HOUSE.items() if p.stem != "__init__") <= MAX_MEDIAN
    )
    folders = [path.parent for path in HOUSE.values() if path.stem != "__init__"]
    crowded = {one: folders.count(one) for one in folders if folders.count(one) > MAX_FILES}
    assert crowded == {}


@pytest.mark.parametrize("module", HOUSE)
def test_functions_stay_short(module: str) -> None:
    for node in ast.walk(ast.parse(HOUSE[module].read_text())):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            if body and node.end_lineno is not None:
                length = node.end_lineno - body[0].lineno + 1
                assert length <= MAX_FUNCTION, f"{node.name}: {length} lines"


TESTS = sorted((ROOT / "tests").rglob("*.py"))


def private_names(source: str) -> set[str]:
    """Names with a leading underscore that a module takes from another object or from mmbind."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            owner = ast.unparse(node.value)
            if owner not in ("self", "cls") and not owner.startswith("torch"):
                found.add(node.attr)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mmbind"):
            found |= {alias.name for alias in node.names}
    private = {name for name in found if name.startswith("_") and not name.startswith("__")}
    return private - {"_exit"}  # os._exit is public


@pytest.mark.parametrize("path", TESTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_tests_use_public_names(path: Path) -> None:
    assert private_names(path.read_text()) == set()


def test_the_rules_see_a_breach(tmp_path: Path) -> None:
    breach = tmp_path / "errors.py"
    breach.write_text(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from mmbind_data.store.bound import BoundDataset\n"
        "def late():\n    from mmbind_data.binding.bind import bind\n    import torch\n"
    )
    found = set(imports("mmbind_data.errors", breach))
    assert found >= {"mmbind_data.store.bound", "mmbind_data.binding.bind", "torch"}
    assert (place("mmbind_data.binding.bind") or 0) > (place("mmbind_data.errors") or 0)
    with pytest.raises(CycleError):
        TopologicalSorter({"a": {"b"}, "b": {"a"}}).prepare()
    assert private_names("from mmbind_data import _a\nstore._b\nself._c") == {"_a", "_b"}
