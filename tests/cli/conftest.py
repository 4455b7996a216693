"""The command line as a user meets it: through its installed entry point."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner
from rawdata import motionsense, utd_mhad


@dataclass(frozen=True)
class Outcome:
    """What a command printed and how it ended."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def document(self) -> Any:
        return json.loads(self.stdout)


def wait_for_group(group: int) -> None:
    """Workers must not outlive a killed parent."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail("worker processes are still running")


Mmbind = Callable[..., Outcome]


@pytest.fixture(scope="session")
def mmbind() -> Mmbind:
    """Run a command in this process; a traceback fails the test."""
    (entry,) = entry_points(group="console_scripts", name="mmbind")
    main: click.Command = entry.load()

    def run(*args: object) -> Outcome:
        result = CliRunner().invoke(main, [str(arg) for arg in args])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Outcome(result.exit_code, result.stdout, result.stderr)

    return run


@dataclass(frozen=True)
class Workshop:
    """Raw folders of both datasets and the stores made of them."""

    folder: Path
    utd_raw: Path
    motionsense_raw: Path

    def store(self, name: str) -> Path:
        return self.folder / f"{name}.zarr"


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory, mmbind: Mmbind) -> Workshop:
    """utd.zarr, its nodes A, B, C, T, and bound.zarr, all made by commands."""
    folder = tmp_path_factory.mktemp("workshop")
    rng = np.random.default_rng(3)
    utd_mhad.write(folder / "utd", rng=rng, subjects=(1, 2, 3, 4))
    motionsense.write(folder / "ms", rng=rng, subjects=(1,), form="zips")
    shop = Workshop(folder, folder / "utd", folder / "ms")
    done = [mmbind("convert", "utd-mhad", shop.utd_raw, shop.store("utd"))]
    for node, subject, modalities in (
        ("A", 1, "acc,skeleton"),
        ("B", 2, "acc,gyro"),
        ("C", 3, "gyro,skeleton"),
        ("T", 4, "gyro,skeleton"),
    ):
        options = ("--subjects", subject, "--modalities", modalities)
        done.append(mmbind("partition", shop.store("utd"), shop.store(node), *options))
    nodes = (shop.store("A"), shop.store("B"))
    bind = ("bind", "--shared", "acc", "--embed", "raw", *nodes, "-o", shop.store("bound"))
    done.append(mmbind(*bind))
    assert [outcome.exit_code for outcome in done] == [0] * 6, done
    return shop
