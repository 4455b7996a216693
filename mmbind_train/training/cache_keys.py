"""What a result depends on besides data and options: the code that made it."""

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
    """Name of a piece of work: equal if and only if nothing that it depends on differs."""
    return text_digest(kind, canonical_json(parts), canonical_json(versions()))[:KEY_LENGTH]


@functools.cache
def versions() -> dict[str, str]:
    """Versions of mmbind and of the libraries that compute."""
    return {name: version(name) for name in LIBRARIES}


@functools.cache
def code_digest(*modules: ModuleType) -> str:
    """Digest of the sources of some modules and of all of mmbind that they import.

    So a changed method is trained anew, and a changed figure or command is not.

    Parameters
    ----------
    modules : module
        Modules, not their names: a module that was renamed cannot be passed over.

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
        path = _source(module)
        content = path.read_bytes()
        found[module] = hashlib.sha256(content).hexdigest()
        waiting += _imports(module, path, content)
    return text_digest(canonical_json(found))


def _source(module: str) -> Path:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"no source of {module}", name=module)
    return Path(spec.origin)


def _imports(module: str, path: Path, content: bytes) -> Iterator[str]:
    """Modules of mmbind that a module imports, at its head or later; packages count as well."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(content)):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names if one.name.startswith(PACKAGES))
        elif isinstance(node, ast.ImportFrom):
            name = node.module or ""
            if node.level:
                name = importlib.util.resolve_name("." * node.level + name, package)
            if name.startswith(PACKAGES):
                yield name
                yield from (
                    one for alias in node.names if _is_module(one := f"{name}.{alias.name}")
                )


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # its parent is a module and no package
        return False
