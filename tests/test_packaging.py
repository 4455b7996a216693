"""The wheel holds what it must, and nothing else."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = (
    "mmbind_data/testing/template",
    "mmbind_data/reports/template",
    "mmbind_train/reports/template",
    "mmbind_data/publishing/licence_texts",
    "mmbind_data/publishing/template",
    "mmbind_train/benchmarks/protocols",
)
FOLDERS = {"mmbind_data.schemas": "schemas"}


def declared() -> list[str]:
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"][
        "packages"
    ]
    return list(packages)


def folder_of(package: str) -> Path:
    top, *rooms = package.split(".")
    return ROOT / FOLDERS.get(package, "/".join([{"mmbind_cli": "cli"}.get(top, top), *rooms]))


def test_every_folder_of_modules_is_declared() -> None:
    found = {
        path.parent
        for top in ("mmbind_data", "mmbind_train", "cli", "schemas")
        for path in (ROOT / top).rglob("__init__.py")
    }
    assert found == {folder_of(package) for package in declared()}


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    shutil.rmtree(ROOT / "build", ignore_errors=True)  # modules that are gone stay there
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "-w", str(out), str(ROOT)], check=True, capture_output=True)
    return next(out.glob("*.whl"))


def test_wheel_holds_every_module_and_document(wheel: Path) -> None:
    expected = {"mmbind.py"}
    for package in declared():
        for path in folder_of(package).iterdir():
            if path.suffix in (".py", ".json") or path.name == "py.typed":
                expected.add(f"{package.replace('.', '/')}/{path.name}")
    for folder in DOCUMENTS:
        expected |= {f"{folder}/{path.name}" for path in (ROOT / folder).iterdir()}
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == expected
    assert {"mmbind_data/schemas/bound.schema.json", "mmbind_data/py.typed"} <= names


def test_version_has_one_source() -> None:
    from importlib.metadata import version

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert version("mmbind") == project["version"]
