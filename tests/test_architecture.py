"""The house plan: imports point down only, and every module stays readable."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Lowest first; a module may import from its own layer's lower part (listed order inside is free)
# and from all layers before it, never from one after it.
LAYERS: tuple[frozenset[str], ...] = (
    frozenset(f"mmbind_data.{name}" for name in ("errors", "problems", "schemas", "time_left")),
    frozenset({"mmbind_data.spec"}),
    frozenset(
        f"mmbind_data.{name}"
        for name in (
            "attributes",
            "bundle_place",
            "decode",
            "declared",
            "documents",
            "grid",
            "images",
            "integrity",
            "calibration",
            "candidates",
            "comparable",
            "elastic",
            "measures",
            "misfits",
            "neighbours",
            "nodes",
            "own_data",
            "path_patterns",
            "points",
            "products",
            "rawfiles",
            "rule",
            "samples",
            "scale",
            "shards",
            "shortlist",
            "licences",
            "permissions",
            "places",
            "similarity",
            "suitability",
            "table_faults",
            "time_binding",
            "transport",
            "units",
            "window",
            "zips",
        )
    ),
    frozenset(f"mmbind_data.{name}" for name in ("layout", "official", "staging", "datasets")),
    frozenset(
        f"mmbind_data.{name}"
        for name in (
            "writer",
            "diff",
            "pairs",
            "recordings",
            "mean_rows",
            "references",
            "thinning",
            "encoders",
            "encoders_image",
            "encoders_points",
            "encoders_reference",
            "encoders_temporal",
            "encoders_transformer",
        )
    ),
    frozenset(
        f"mmbind_data.{name}"
        for name in (
            "approximate",
            "assemble",
            "bind_options",
            "derive",
            "embed_contrastive",
            "embed_given",
            "label_matching",
            "spool",
            "conformance",
            "conversion",
            "convert",
            "workers",
            "plan",
            "partition",
            "embed",
            "embed_trained",
            "label_texts",
            "label_wordings",
            "matching",
            "new_dataset",
            "occasion",
            "pairing_report",
            "validate",
            "validate_bound",
            "validate_points",
            "synthetic",
        )
    ),
    frozenset(
        f"mmbind_data.{name}"
        for name in (
            "advice_samples",
            "advice_scores",
            "advice_words",
            "advise",
            "bind_inputs",
            "binding",
            "bound_store",
            "rehearsal",
        )
    ),
    frozenset(
        f"mmbind_data.report{part}"
        for part in (
            "",
            "_cards",
            "_curves",
            "_draws",
            "_figures",
            "_html",
            "_page",
            "_partners",
            "_sections",
            "_signals",
            "_tables",
        )
    ),
    frozenset(
        f"mmbind_data.{name}"
        for name in (
            "published_store",
            "data_version",
            "recipe",
            "verify",
            "hydrate",
            "pack",
            "unpack",
        )
    ),
    frozenset(
        f"mmbind_data.{name}"
        for name in (
            "bundle_facts",
            "credits",
            "card",
            "croissant",
            "publish",
            "publish_remote",
            "upload_s3",
            "upload_hub",
        )
    ),
    frozenset({"mmbind_train"}),
    frozenset({"mmbind_cli"}),
)
HEAVY = ("torch", "faiss", "sentence_transformers", "transformers", "sklearn")
MAY_BE_HEAVY = (
    "mmbind_data.approximate",
    "mmbind_data.encoders",
    "mmbind_data.embed",
    "mmbind_train",
)
MAX_LINES, MAX_FUNCTION = 400, 50


def modules() -> Iterator[tuple[str, Path]]:
    for folder, package in (
        ("mmbind_data", "mmbind_data"),
        ("mmbind_train", "mmbind_train"),
        ("cli", "mmbind_cli"),
    ):
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            dotted = ".".join(part for part in parts if part != "__init__")
            yield (f"{package}.{dotted}" if dotted else package), path


MODULES = dict(modules())


def layer_of(module: str) -> int | None:
    """Index of the layer that names the module or the closest package above it."""
    while module:
        for index, layer in enumerate(LAYERS):
            if module in layer:
                return index
        module = module.rpartition(".")[0]
    return None


def imports(module: str, path: Path) -> Iterator[str]:
    """Absolute names of everything imported, also inside functions; not for type checking only."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    tree = ast.parse(path.read_text())
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield inner if inner in MODULES else base


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module: str) -> None:
    own = layer_of(module)
    if module in ("mmbind_data",):
        return
    assert own is not None, f"{module} stands in no layer"
    for imported in imports(module, MODULES[module]):
        other = layer_of(imported)
        if imported.startswith("mmbind") and other is not None:
            assert other <= own, f"{module} (layer {own}) imports {imported} (layer {other})"


@pytest.mark.parametrize("module", MODULES)
def test_heavy_packages_stay_behind_their_modules(module: str) -> None:
    if module.startswith(MAY_BE_HEAVY):
        return
    found = [name for name in imports(module, MODULES[module]) if name.split(".")[0] in HEAVY]
    assert found == []


@pytest.mark.parametrize("module", [name for name in MODULES if name.count(".") == 2])
def test_readers_know_neither_stores_nor_windows(module: str) -> None:
    if not module.startswith("mmbind_data.datasets."):
        pytest.fail(f"unexpected depth: {module}")
    forbidden = {"zarr", "mmbind_data.window", "mmbind_data.layout", "mmbind_data.writer", "torch"}
    assert forbidden.isdisjoint(imports(module, MODULES[module]))


@pytest.mark.parametrize("module", MODULES)
def test_modules_and_functions_stay_short(module: str) -> None:
    text = MODULES[module].read_text()
    assert text.count("\n") < MAX_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            if body and node.end_lineno is not None:
                length = node.end_lineno - body[0].lineno + 1
                assert length <= MAX_FUNCTION, f"{node.name}: {length} lines"


def test_the_rule_sees_a_breach(tmp_path: Path) -> None:
    breach = tmp_path / "errors.py"
    breach.write_text("def late():\n    from .binding import bind\n    import torch\n")
    found = list(imports("mmbind_data.errors", breach))
    assert found == ["mmbind_data.binding", "torch"]
    assert (layer_of("mmbind_data.binding") or 0) > (layer_of("mmbind_data.errors") or 0)
