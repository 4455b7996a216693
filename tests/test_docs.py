"""What README and docs/ tell a stranger to type does run; what they name exists."""

from __future__ import annotations

import contextlib
import doctest
import importlib
import json
import os
import pkgutil
import re
import shlex
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import click
import numpy as np
import pytest
import yaml

import mmbind_data
import mmbind_train
from mmbind_data.datasets.registry import list_datasets, load_descriptor
from mmbind_data.testing.generated import write_motionsense, write_utd_mhad
from mmbind_train.benchmarks.protocol import list_protocols

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()
PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    "docs/architecture.md",
    "docs/protocols.md",
    "docs/results.md",
]
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


def resolve(name: str) -> object:
    """The module or the attribute that a dotted name means."""
    module, _, attribute = name.rpartition(".")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        return getattr(resolve(module), attribute)


@pytest.mark.parametrize("page", [*PAGES, "CHANGELOG.md"])
def test_pages_name_modules_and_files_that_exist(page: str) -> None:
    text = (ROOT / page).read_text()
    if page == "CHANGELOG.md":  # of its tables of moved names, the column of new places
        text = "".join(re.findall(r"\|([^|\n]*)\|\n", text))
    names = set(re.findall(r"\b(mmbind_(?:data|train)(?:\.\w+)+)", text)) - {"mmbind_data.schemas"}
    for name in names:
        resolve(name)
    folders = "mmbind_data|mmbind_train|cli|schemas|tests|examples|docs"
    paths = re.findall(rf"(?<![\w/.])((?:{folders})/[\w./-]*)", text)
    paths = [path for path in paths if not re.search(r"/x\.(py|json)$", path)]
    assert [path for path in paths if not (ROOT / path).exists()] == []
    links = re.findall(
        r"\]\(((?!https?:)[\w./-]+)", re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    )
    assert [link for link in links if not (ROOT / page).parent.joinpath(link).exists()] == []
    assert names or paths


def test_python_of_the_architecture_page_runs(tmp_path: Path) -> None:
    found = re.findall(r"(<!-- from: .* -->\n)?```python\n(.*?)```", ARCHITECTURE, flags=re.DOTALL)
    quoted = [code for origin, code in found if origin]
    template = ROOT / "mmbind_data" / "testing" / "template" / "reader.py.template"
    assert [code in template.read_text() for code in quoted] == [True]
    (tmp_path / "page.py").write_text("\n".join(code for origin, code in found if not origin))
    finished = subprocess.run(
        [sys.executable, "-W", "error", "page.py"], cwd=tmp_path, text=True, capture_output=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.endswith("['lower_bound', 'mmbind', 'three partners']\n")


def test_the_protocols_page_has_every_protocol_and_figure() -> None:
    page = (ROOT / "docs" / "protocols.md").read_text()
    assert set(
        re.findall(r"`((?:utd|mmfi|pamap2|sun|motion|cross|transfer)[a-z0-9-]*-[a-z0-9-]+)`", page)
    ) == {*list_protocols()}
    for name, path in list_protocols().items():
        if re.search(r"cross-node-(sensor|label)$", name):
            for row in json.loads(path.read_text())["paper"].get("figures", {}).values():
                for figure in row:
                    f1 = f"{figure['macro_f1']:.3f}".lstrip("0")
                    assert f"{100 * figure['accuracy']:.2f} {f1}" in page, (name, figure)


def test_hooks_and_the_table_of_checks_are_those_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text()
    target = makefile.split("\ntest:")[1].split("\n\n")[0]
    checks = re.findall(r"\$\(BIN\)/(.*)", target)
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    entries = [hook["entry"] for hook in hooks]
    assert entries[:-1] == checks[:-1]
    assert all((ROOT / word).exists() for word in entries[-1].split() if word.endswith(".py"))
    for check in checks:
        assert f"| `{check}` |" in (ROOT / "CONTRIBUTING.md").read_text()


def test_set_up_commands_are_targets() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"\$ make (\w+)", README + (ROOT / "CONTRIBUTING.md").read_text()):
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
