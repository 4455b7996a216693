"""One small world of stores that all training tests read."""

from __future__ import annotations

import shutil
from importlib.metadata import entry_points
from pathlib import Path

import click
import pytest
import torch
from pretended import pretended_device
from smallstores import World, make_world

from mmbind_data.store.bound import open_bound
from mmbind_train.data.training_set import TrainingSet, gather_bound

pretended_device()  # torch counts its devices when gradients are computed for the first time


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Stores that no test may change."""
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="session")
def rows(world: World) -> TrainingSet:
    """Every row of the bound store; no test may change it."""
    return gather_bound(open_bound(world.bound))


@pytest.fixture
def own_world(world: World, tmp_path: Path) -> World:
    """A copy that a test may spoil."""
    shutil.copytree(world.root, tmp_path / "world")
    return World(tmp_path / "world")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def mmbind() -> click.Command:
    """The command, through its installed entry point."""
    (entry,) = entry_points(group="console_scripts", name="mmbind")
    command: click.Command = entry.load()
    return command
