"""What README tells a stranger to type does run, in order, on generated raw data."""

from __future__ import annotations

import contextlib
import doctest
import importlib
import pkgutil
import re
import shlex
from importlib.metadata import entry_points
from pathlib import Path

import click
import numpy as np
import pytest

import mmbind_data
import mmbind_train
from mmbind_data.datasets.registry import list_datasets, load_descriptor
from mmbind_data.testing.generated import write_motionsense, write_utd_mhad

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
FEW = ["--steps", "2"]  # the commands as written, but short
TRAINS = ("train", "evaluate")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("docs")
    rng = np.random.default_rng(0)
    write_motionsense(root / "raw" / "motionsense", n_subjects=2, seconds=10, rng=rng)
    write_utd_mhad(root / "raw" / "utd-mhad", n_subjects=6, n_actions=4, n_trials=2, rng=rng)
    write_gloves(root / "raw" / "gloves")
    return root


def write_gloves(raw: Path) -> None:
    """Own data as the descriptor of ``mmbind new-dataset --table`` describes it."""
    for subject in ("anna", "ben"):
        for label in ("sit", "walk"):
            (raw / subject).mkdir(parents=True, exist_ok=True)
            rows = "".join(",".join([f"{i / 100:.2f}"] * 6) + "\n" for i in range(150))
            (raw / subject / f"{label}_1.csv").write_text("ax,ay,az,gx,gy,gz\n" + rows)


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def commands() -> list[list[str]]:
    """All mmbind commands of the README's runnable blocks, in order."""
    runnable = re.findall(r"<!-- run: \w+ -->\n```console\n(.*?)```", README, flags=re.DOTALL)
    assert len(runnable) == 7
    lines = [line for block in runnable for line in block.splitlines()]
    assert all(line.startswith("$ mmbind ") for line in lines)
    return [shlex.split(line)[2:] for line in lines]


def main_command() -> click.Group:
    (entry,) = entry_points(group="console_scripts", name="mmbind")
    main: click.Group = entry.load()
    return main


def test_readme_commands_run_in_order(folder: Path) -> None:
    with contextlib.chdir(folder):
        for words in commands():
            few = FEW if words[0] in TRAINS else []
            report = main_command().main([*words, *few, "--quiet"], standalone_mode=False)
            assert report.exit_code == 0, words
        for block in blocks("python"):
            printed: list[object] = []
            exec(block, {"print": lambda *words, to=printed: to.append(words)})
            assert printed, block


def test_readme_names_only_what_exists() -> None:
    known = main_command()
    context = click.Context(known)
    named = set(re.findall(r"`mmbind ([\w-]+)", README)) | {words[0] for words in commands()}
    assert named <= set(known.list_commands(context))
    assert set(known.list_commands(context)) <= named
    options = {"--nproc-per-node"}  # torchrun's
    for name in known.list_commands(context):
        command = known.get_command(context, name)
        assert command is not None
        options |= {option for parameter in command.params for option in parameter.opts}
    for path in sorted((ROOT / "examples").rglob("*.py")):
        options |= set(re.findall(r'add_argument\("(--[a-z-]+)"', path.read_text()))
    assert set(re.findall(r"(?<=[`\s])(--[a-z][a-z-]+)", README)) <= options


def test_readme_tells_of_every_dataset_and_modality() -> None:
    table = README.split("| dataset | modality |")[1].split("\n\n")[0]
    assert set(re.findall(r"^\| `([a-z0-9-]+)`", table, flags=re.MULTILINE)) == {
        *list_datasets(),
        "table",
    }
    for name in list_datasets():
        part = table.split(f"| `{name}`")[1].split("\n| `")[0]
        for modality in load_descriptor(name).streams:
            word = modality.split("_")[0]
            assert word in part, (name, modality)


def test_set_up_commands_are_targets() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"\$ make (\w+)", README):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE)
    assert "make test" in (ROOT / ".ci" / "run").read_text()


@pytest.mark.parametrize(
    "name",
    [
        module.name
        for package in (mmbind_data, mmbind_train)
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    ],
)
def test_docstring_examples_hold(name: str) -> None:
    failed, _ = doctest.testmod(importlib.import_module(name))
    assert failed == 0


def test_some_docstrings_have_examples() -> None:
    for name in ("errors", "signal.windows", "store.writer", "io.digests"):
        assert doctest.testmod(importlib.import_module(f"mmbind_data.{name}")).attempted > 0
