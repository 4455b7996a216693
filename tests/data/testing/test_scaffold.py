"""What new-dataset writes works as it stands: installed, listed, converted, kit green."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mmbind_data.conversion.convert import convert
from mmbind_data.errors import OutputError, UsageError
from mmbind_data.store.dataset import open_dataset
from mmbind_data.testing.scaffold import new_descriptor, new_package

ROOT = Path(__file__).parents[3]
INFO = "Metadata-Version: 2.1\nName: my-gloves\nVersion: 0.1.0\n"


def test_package_is_found_and_passes_the_kit(tmp_path: Path) -> None:
    package = tmp_path / "my-gloves"
    written = new_package("my-gloves", package)
    assert sorted(path.relative_to(package).as_posix() for path in package.rglob("*.*")) == sorted(
        written
    )
    # as pip install -e would: the folder on the path, and what its pyproject.toml declares
    info = package / "my_gloves-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(INFO)
    (info / "entry_points.txt").write_text("[mmbind.datasets]\nmy-gloves = my_gloves.reader\n")
    assert 'my-gloves = "my_gloves.reader"' in (package / "pyproject.toml").read_text()
    options = ["-q", "-p", "no:cacheprovider", "-W", "error"]
    command = [sys.executable, "-m", "pytest", *options, "tests"]
    environment = {"PYTHONPATH": str(package), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=package, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    # the kit can fail: a reader whose axes are swapped is caught
    reader = package / "my_gloves" / "reader.py"
    reader.write_text(reader.read_text().replace('("ax", "ay", "az")', '("ay", "ax", "az")'))
    done = subprocess.run(command, cwd=package, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert "test_store_holds_the_truth" in done.stdout


def test_generated_code_is_clean(tmp_path: Path) -> None:
    new_package("my-gloves", tmp_path / "p")
    config = ["--config", str(ROOT / "pyproject.toml"), "--config", f"src = ['{tmp_path}/p']"]
    for words in (["check", "--ignore", "D"], ["format", "--check"]):
        command = [sys.executable, "-m", "ruff", *words, *config, str(tmp_path / "p")]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


def test_descriptor_converts_a_table_as_it_stands(tmp_path: Path) -> None:
    new_descriptor("my-gloves", tmp_path / "d.json")
    folder = tmp_path / "raw" / "anna"
    folder.mkdir(parents=True)
    values = np.arange(120 * 6).reshape(120, 6)
    rows = "".join(",".join(map(str, row)) + "\n" for row in values)
    (folder / "walk_1.csv").write_text("ax,ay,az,gx,gy,gz\n" + rows)
    out = tmp_path / "own.zarr"
    convert("table", tmp_path / "raw", out, document=(tmp_path / "d.json").read_text())
    np.testing.assert_allclose(
        open_dataset(out).load("acc")[0], 9.80665 * values[:100, :3], rtol=1e-6
    )
    assert open_dataset(out).info.labels == {"walking": 1}


@pytest.mark.parametrize("name", ["My", "a b", "", "-a", "a--b", "utd-mhad", "table", "class"])
def test_names_that_cannot_be_used(tmp_path: Path, name: str) -> None:
    for begin in (new_package, new_descriptor):
        with pytest.raises(UsageError, match="at NAME: expected"):
            begin(name, tmp_path / "x")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["mmbind-data", "json", "numpy", "pytest"])
def test_names_of_modules_that_exist(tmp_path: Path, name: str) -> None:
    """A package of that name would hide the module, or be hidden by it."""
    module = name.replace("-", "_")
    with pytest.raises(UsageError, match=f"Python has a module {module} already .*my-{name}"):
        new_package(name, tmp_path / "x")
    assert not list(tmp_path.iterdir())
    assert new_descriptor(name, tmp_path / "x.json") == ["x.json"]  # no module: no harm


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("mine")
    for begin in (new_package, new_descriptor):
        with pytest.raises(OutputError):
            begin("gloves", tmp_path / "x")
    assert (tmp_path / "x").read_text() == "mine"
