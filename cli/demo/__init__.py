"""mmbind demo: the real commands, one after the other, on small generated raw data."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import click

from ..output import Report, Screen, reported
from .steps import PACKAGED_MODEL, generate, run_chain, say


@click.command("demo")
@click.option("-o", "--out", type=click.Path(), help="Keep everything in this new folder.")
@click.option("--label-model", help="Sentence model; by default the packaged one, if installed.")
@reported
def command(out: str | None, label_model: str | None, screen: Screen) -> Report:
    """Run the whole chain: generate, convert, partition, bind, train, evaluate. No network."""
    if label_model is None and find_spec(PACKAGED_MODEL.replace("-", "_")):
        label_model = PACKAGED_MODEL
    with _folder(out) as folder:
        say(screen, "# raw data in the layouts of MotionSense and UTD-MHAD, made up")
        generate(folder / "raw")
        return run_chain(folder, label_model, screen)


@contextlib.contextmanager
def _folder(out: str | None) -> Iterator[Path]:
    from mmbind_data.io.atomic import check_output, make_folder, remove

    if out is None:
        with tempfile.TemporaryDirectory(prefix="mmbind-demo-") as folder:
            yield Path(folder)
        return
    check_output(Path(out), overwrite=False, doing="run the demo")
    make_folder(Path(out), doing="run the demo")
    try:
        yield Path(out)
    except BaseException:
        remove(Path(out))
        raise
