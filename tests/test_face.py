"""What ``import mmbind`` offers: every name, lazily, and the same to type checkers."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import mmbind
import mmbind_data
import mmbind_train

ROOT = Path(__file__).parents[1]
FACES = (mmbind_data, mmbind_train)


@pytest.mark.parametrize("face", FACES)
def test_type_checkers_see_what_is_imported(face: ModuleType) -> None:
    tree = ast.parse(Path(str(face.__file__)).read_text())
    (typing_only,) = (node for node in tree.body if isinstance(node, ast.If))
    seen: dict[str, tuple[str | None, str]] = {}
    for node in typing_only.body:
        assert isinstance(node, ast.ImportFrom)
        seen |= {one.asname or one.name: (node.module, one.name) for one in node.names}
    assert sorted(seen) == sorted(face.__all__) == dir(face)
    for name, (module, attribute) in seen.items():
        found = getattr(importlib.import_module(str(module)), attribute)
        assert getattr(face, name) is getattr(mmbind, name) is found
        assert getattr(face, name) is found, "a second access gives the same"
        assert not (ROOT / face.__name__ / f"{name}.py").exists()
        assert not (ROOT / face.__name__ / name).exists()


@pytest.mark.parametrize("face", FACES)
def test_public_names_are_documented(face: ModuleType) -> None:
    for name in face.__all__:
        value = getattr(face, name)
        if callable(value):
            assert inspect.getdoc(value), name


def test_mmbind_offers_both() -> None:
    names = [*mmbind_data.__all__, *mmbind_train.__all__]
    assert len(names) == len(set(names)) <= 40
    assert dir(mmbind) == sorted(names)
    for module in (mmbind, *FACES):
        with pytest.raises(AttributeError, match="no attribute 'nothing'"):
            module.nothing  # noqa: B018


def test_importing_costs_nothing() -> None:
    script = "import sys, mmbind; sys.exit('numpy' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
