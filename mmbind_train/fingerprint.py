"""What a result depends on besides data and options: the code that made it."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mmbind_data.integrity import canonical_json, text_digest

PACKAGES = ("mmbind_data", "mmbind_train")
LIBRARIES = ("mmbind", "torch", "numpy", "scipy")
KEY_LENGTH = 24


def cell_key(kind: str, *parts: Any) -> str:
    """Name of a piece of work: equal if and only if nothing that it depends on differs."""
    return text_digest(kind, canonical_json(parts), canonical_json(versions()))[:KEY_LENGTH]


@functools.cache
def versions() -> dict[str, str]:
    """Versions of mmbind and of the libraries that compute."""
    return {name: version(name) for name in LIBRARIES}


@functools.cache
def code_digest(*modules: str) -> str:
    """Digest of the sources of some modules and of all of mmbind that they import.

    So a changed method is trained anew, and a changed figure or command is not.
    """
    found: dict[str, str] = {}
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        path = _source(module)
        if path is None or module in found:
            continue
        content = path.read_bytes()
        found[module] = hashlib.sha256(content).hexdigest()
        waiting += _imports(module, path, content)
    return text_digest(canonical_json(found))


def _source(module: str) -> Path | None:
    if not module.startswith(PACKAGES):
        return None
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:  # a name that is imported from a module is none itself
        return None
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None


def _imports(module: str, path: Path, content: bytes) -> Iterator[str]:
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(content)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            name = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                name = ".".join([*above, name] if name else above)
            yield name
            yield from (f"{name}.{alias.name}" for alias in node.names)
