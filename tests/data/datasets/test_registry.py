"""Datasets by name: built in, and installed by other packages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mmbind_data.datasets.registry import list_datasets, load_descriptor, load_reader_module
from mmbind_data.errors import FormatError, UsageError

READER = """
def find(files, preset): return "found"
def read(unit, modalities, preset): return iter(())
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed distribution that brings dataset ``steps`` in module ``steps_reader``."""
    info = tmp_path / "steps-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: steps\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[mmbind.datasets]\nsteps = steps_reader\n")
    (tmp_path / "steps_reader.py").write_text(READER)
    descriptor = load_descriptor("utd-mhad").model_copy(update={"dataset_id": "steps"})
    (tmp_path / "steps_reader.json").write_text(descriptor.model_dump_json())
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "steps_reader", raising=False)
    return tmp_path


def test_unknown_name_is_answered_with_the_close_one() -> None:
    for load in (load_descriptor, load_reader_module):
        with pytest.raises(UsageError, match=r"Did you mean motionsense\?"):
            load("motion-sense")
        with pytest.raises(UsageError, match=r"Did you mean utd-mhad\?"):
            load("UTD_MHAD")


def test_installed_dataset_is_listed_described_and_read(plugin: Path) -> None:
    assert "steps" in list_datasets()
    assert load_descriptor("steps").dataset_id == "steps"
    assert "steps_reader" not in sys.modules  # describing imports no reader
    assert load_reader_module("steps").find([], "default") == "found"


def test_reader_without_read(plugin: Path) -> None:
    (plugin / "steps_reader.py").write_text("def find(): pass\n")
    with pytest.raises(FormatError, match=r"expected functions find and read, got no read"):
        load_reader_module("steps")


def test_reader_that_is_not_there(plugin: Path) -> None:
    (plugin / "steps_reader.py").unlink()
    with pytest.raises(FormatError, match=r"expected a module that can be imported"):
        load_reader_module("steps")
    with pytest.raises(FormatError, match=r"expected an installed module, got none"):
        load_descriptor("steps")


def test_broken_descriptors(plugin: Path) -> None:
    path = plugin / "steps_reader.json"
    path.write_text('{"dataset_id": "steps"}')
    with pytest.raises(FormatError, match=r"cannot describe steps: missing field"):
        load_descriptor("steps")
    path.write_text(load_descriptor("utd-mhad").model_dump_json())
    with pytest.raises(FormatError, match=r"expected steps, got utd-mhad"):
        load_descriptor("steps")
    path.unlink()
    with pytest.raises(FormatError, match=r"cannot describe steps: unreadable at .*got no file"):
        load_descriptor("steps")


def test_describing_a_dataset_imports_no_parser() -> None:
    """`mmbind datasets` must answer fast: scipy and pyarrow are for reading."""
    code = (
        "import sys; from mmbind_data.datasets.registry import list_datasets, load_descriptor\n"
        "[load_descriptor(name) for name in list_datasets()]\n"
        "print([name for name in ('scipy', 'pyarrow', 'zarr', 'torch') if name in sys.modules])"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True
    )
    assert done.stdout.strip() == "[]"
