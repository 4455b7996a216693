"""The command as a process: start-up, interrupts, kills."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from rawdata import motionsense

from .conftest import wait_for_group

COMMAND = [sys.executable, "-m", "mmbind_cli"]
HEAVY = {"torch", "faiss", "sentence_transformers", "transformers", "sklearn", "matplotlib"}


def modules_after(*args: str) -> set[str]:
    """Top-level packages that a command imports."""
    script = (
        "import contextlib, sys\nfrom mmbind_cli.main import main\n"
        f"with contextlib.suppress(SystemExit):\n    main.main({list(args)!r})\n"
        "print(sorted({name.split('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stderr.splitlines()[-1].replace("'", '"')))


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Raw data of which a conversion takes about a second."""
    root = tmp_path_factory.mktemp("process") / "raw"
    subjects = tuple(range(1, 25))
    motionsense.write(root, rng=np.random.default_rng(5), subjects=subjects, form="zips")
    return root


@pytest.fixture(scope="module")
def reference(raw: Path) -> str:
    """Digest of an undisturbed conversion."""
    return convert(raw, raw.parent / "reference.zarr")["content_digest"]


def convert(raw: Path, out: Path, *options: str) -> dict[str, str]:
    command = [*COMMAND, "convert", "motionsense", str(raw), str(out), "--json", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result: dict[str, str] = json.loads(done.stdout)["result"]
    return result


def test_help_and_info_start_light(raw: Path, reference: str) -> None:
    store = raw.parent / "reference.zarr"
    for args in (["--help"], ["info", str(store)]):
        assert modules_after(*args).isdisjoint(HEAVY | {"zarr", "pyarrow", "numpy", "scipy"})
    assert modules_after("validate", str(store)).isdisjoint(HEAVY)


def test_convert_imports_nothing_heavy(raw: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "o.zarr")
    found = modules_after("convert", "motionsense", str(raw), out, "--subjects", "1", "--quiet")
    assert "pyarrow" in found
    assert found.isdisjoint(HEAVY | {"zarr"})


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize(
    ("how", "exit_code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)]
)
def test_stopped_conversion_resumes(
    raw: Path, reference: str, tmp_path: Path, how: signal.Signals, exit_code: int, workers: str
) -> None:
    out = tmp_path / "o.zarr"
    process, stderr = stopped(raw, out, how, workers)
    if process.returncode == 0:  # it was done before the signal came: once more
        shutil.rmtree(out)
        process, stderr = stopped(raw, out, how, workers)
    assert process.returncode == exit_code, stderr
    assert "Traceback" not in stderr
    assert not out.exists()
    if how == signal.SIGINT:
        assert "run the same command to resume" in stderr
    wait_for_group(process.pid)
    result = convert(raw, out, "--workers", workers)
    assert result["content_digest"] == reference
    assert int(result["n_resumed"]) >= 3
    assert [path.name for path in tmp_path.iterdir()] == ["o.zarr"]


def stopped(
    raw: Path, out: Path, how: signal.Signals, workers: str
) -> tuple[subprocess.Popen[str], str]:
    """Start a conversion and stop it after three units, or a few more."""
    command = [*COMMAND, "convert", "motionsense", str(raw), str(out), "--workers", workers]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    units = out.parent / f".{out.name}.partial" / "units"
    deadline = time.monotonic() + 60
    while n_units(units) < 4 and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    if how == signal.SIGINT:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, how)  # as a terminal does
    else:
        process.send_signal(how)
    _, stderr = process.communicate(timeout=60)
    return process, stderr


def n_units(folder: Path) -> int:
    """Units that stand in spool files, the last perhaps not wholly."""
    return sum(file.read_bytes().count(b'{"bytes":') for file in folder.glob("*.spool"))


INTERRUPTED_IMPORT = """
import os, signal, sys

class Press:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Press())
sys.argv = ["mmbind", *{words!r}]
from mmbind_cli.main import main
main()
"""


@pytest.mark.parametrize(
    "module", ["click", "pydantic", "mmbind_cli.commands.info", "mmbind_data.errors"]
)
@pytest.mark.parametrize("as_json", [False, True])
def test_an_interrupt_before_the_command_has_begun(
    tmp_path: Path, module: str, as_json: bool
) -> None:
    """Ctrl-C while modules are still being imported."""
    words = ["info", str(tmp_path / "o.zarr"), *(["--json"] if as_json else [])]
    script = INTERRUPTED_IMPORT.format(module=module, words=words)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 130, done.stderr
    assert done.stderr == "error: interrupted: run the same command to resume.\n"
    if as_json:
        (issue,) = json.loads(done.stdout)["issues"]
        assert issue["code"] == "interrupted"
