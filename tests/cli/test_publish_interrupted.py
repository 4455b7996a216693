"""Publish, hydrate, pack and upload, stopped at their worst moment: nothing half-written stays."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import s3fs
from bundles import contents

from .conftest import Mmbind, Workshop

# Ends the process at the n-th call of a function, by a signal that it gives itself.
SCRIPT = """
import os, signal, sys
import {module} as module
calls, real = [], module.{function}
def stops(*args, **options):
    calls.append(1)
    if len(calls) == {call}:
        os.kill(os.getpid(), signal.{signal})
    return real(*args, **options)
module.{function} = stops
from mmbind_cli.main import main
main()
"""
RENAME = ("mmbind_data.io.atomic", "commit", 1)  # all is written, and has its place in a moment


def stopped(how: str, where: tuple[str, str, int], *words: object) -> str:
    """Run a command that stops itself; what it said."""
    module, function, call = where
    script = SCRIPT.format(module=module, function=function, call=call, signal=how)
    command = [sys.executable, "-W", "ignore", "-c", script, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == (130 if how == "SIGINT" else -signal.SIGKILL), done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def bundle(mmbind: Mmbind, workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("stopped") / "bundle"
    assert mmbind("publish", workshop.store("bound"), out).exit_code == 0
    return out


@pytest.mark.parametrize(
    ("how", "what"),
    [("SIGINT", "publish"), ("SIGKILL", "publish"), ("SIGKILL", "hydrate"), ("SIGKILL", "pack")],
)
def test_a_stopped_command_leaves_nothing_and_runs_again(
    mmbind: Mmbind, workshop: Workshop, bundle: Path, tmp_path: Path, how: str, what: str
) -> None:
    out = tmp_path / "place" / ("b.zip" if what == "pack" else "out")
    out.parent.mkdir()
    given = [w for node in "AB" for w in ("--source", f"utd-mhad-{node}={workshop.store(node)}")]
    words: list[object] = {
        "publish": ["publish", workshop.store("bound"), out],
        "hydrate": ["hydrate", bundle, "-o", out, *given],
        "pack": ["pack", bundle, "-o", out],
    }[what]
    where = ("zipfile", "ZipFile.open", 4) if what == "pack" else RENAME
    told = stopped(how, where, *words)
    assert not out.exists()
    left = list(out.parent.iterdir())
    if how == "SIGINT":
        assert left == []
        assert "run the same command" in told
    else:  # nobody could clear up: hidden, named as partial, and taken over by the next run
        assert [one.name for one in left] == [f".{out.name}.partial"]
    assert mmbind(*words).exit_code == 0
    assert [one.name for one in out.parent.iterdir()] == [out.name]
    if what != "pack":
        assert mmbind("verify", out, "--deep").exit_code == 0
    if what == "publish":
        assert contents(out) == contents(bundle)
    again = mmbind(*words)
    assert again.exit_code == 4
    assert "exists already" in again.stderr


def test_an_upload_that_was_killed_goes_on(
    mmbind: Mmbind, workshop: Workshop, bundle: Path, bucket: str
) -> None:
    system, address = s3fs.S3FileSystem(), f"s3://{bucket}/b"
    words = ("publish", workshop.store("bound"), address)
    stopped("SIGKILL", ("mmbind_data.publishing.upload_s3", "BucketPrefix.put", 3), *words)
    system.invalidate_cache()
    there = {name.removeprefix(f"{bucket}/b/") for name in system.find(f"{bucket}/b/")}
    assert "README.md" in there
    assert there.isdisjoint({"bundle.json", "MANIFEST.json", "bound.zarr/zarr.json"})
    for command in ("info", "verify", "validate"):
        assert mmbind(command, address).exit_code == 4
    assert mmbind(*words).exit_code == 0
    system.invalidate_cache()
    names = system.find(f"{bucket}/b/")
    assert {name.removeprefix(f"{bucket}/b/"): system.cat_file(name) for name in names} == (
        contents(bundle))  # fmt: skip
    assert mmbind(*words).exit_code == 4
