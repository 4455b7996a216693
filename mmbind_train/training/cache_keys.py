"""Keys of cached results: equal for equal data, options, code and libraries."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

from mmbind_data.io.digests import canonical_json, text_digest

PACKAGES = ("mmbind_data", "mmbind_train")
LIBRARIES = ("mmbind", "torch", "numpy", "scipy")
KEY_LENGTH = 24


def job_key(kind: str, *parts: Any) -> str:
    """Name of a piece of work: equal if and only if all that it depends on is equal."""
    return text_digest(kind, canonical_json(parts), canonical_json(versions()))[:KEY_LENGTH]


@functools.cache
def versions() -> dict[str, str]:
    """Versions of mmbind and of the libraries that compute."""
    return {name: version(name) for name in LIBRARIES}


@functools.cache
def code_digest(*modules: ModuleType) -> str:
    """Digest of the sources of some modules and of all of mmbind that they import.

    So a changed method is trained anew, and a changed figure or command is not. It takes modules,
    not their names: a renamed module cannot be passed over.

    Raises
    ------
    ModuleNotFoundError
        One of them imports a module of mmbind that does not exist.
    """
    found: dict[str, str] = {}
    waiting = [module.__name__ for module in modules]
    while waiting:
        module = waiting.pop()
        if module in found:
            continue
        spec = importlib.util.find_spec(module)
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError(f"no source of {module}", name=module)
        content = Path(spec.origin).read_bytes()
        found[module] = hashlib.sha256(content).hexdigest()
        is_package = spec.submodule_search_locations is not None
        waiting += _imports(module if is_package else module.rpartition(".")[0], content)
    return text_digest(canonical_json(found))


def _imports(package: str, content: bytes) -> Iterator[str]:
    """Modules of mmbind that a module of a package imports, anywhere; packages count as well."""
    for node in ast.walk(ast.parse(content)):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names if one.name.startswith(PACKAGES))
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            if base.startswith(PACKAGES):
                inner = (f"{base}.{alias.name}" for alias in node.names)
                yield from (base, *(one for one in inner if _is_module(one)))


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # its parent is a module and no package
        return False
