"""mmbind train DATA [-o RUN]."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import options
from ..config import read_config
from ..output import Report, Screen, notes, reported

if TYPE_CHECKING:
    from mmbind_train.training.run_folder import RunInfo

METHOD = "lower_bound, unimodal, mim, mpm, cmg, dcm, imagebind, mmbind or upper_bound."
MEMORY = "For samples; more is read in windows.  [default: what is free, or windows of 1]"
RECIPE = "Soft targets; eq. 3 as printed; what the paper's code does."
PRECISION = "Of features; auto: bfloat16 on CUDA devices that have it."


@click.command("train")
@click.argument("data", type=click.Path())
@options.out(required=False, help="Folder of the run.  [default: run, beside DATA]")
@click.option("--method", default="mmbind", show_default=True, metavar="NAME", help=METHOD)
@options.choice("--recipe", ["default", "paper", "published"], RECIPE, "default")
@options.natural("--steps", help="Optimiser steps.  [default: 700]")
@options.natural("--epochs", help="Passes over the samples instead.")
@click.option("--batch", type=click.IntRange(min=2), help="Rows per step.  [default: 64]")
@options.choice("--encoder", ["compact", "reference"], "[default: compact]")
@options.natural("--seed", help="[default: 0]")
@click.option("--config", type=click.Path(), help="JSON with every option, also those of the loss.")
@options.source()
@options.device()
@options.choice("--precision", ["auto", "float32", "bfloat16"], PRECISION, "auto")
@click.option("--deterministic", is_flag=True, help="The same weights every time on a GPU, slower.")
@click.option("--compile", "compiled", is_flag=True, help="Compile the encoders (needs C++).")
@click.option("--memory", type=click.FloatRange(0, min_open=True), metavar="GIB", help=MEMORY)
@click.option("--tensorboard", is_flag=True, help="Event files for TensorBoard in the run.")
@options.dry_run(help="Say what would be trained on, write nothing.")
@options.overwrite(help="Replace the run.")
@reported
def command(
    data: str, out: str | None, config: str | None, dry_run: bool, screen: Screen, **chosen: Any
) -> Report:
    """Pre-train encoders on DATA: a bound store, or natural pairs for upper_bound."""
    from mmbind_train.config import TrainConfig, recipe
    from mmbind_train.training.hardware import choose_hardware, join_processes
    from mmbind_train.training.pretrain import plan_training, train

    settings = read_config(TrainConfig, config, _changes(chosen), recipe(chosen["recipe"]))
    method, out = chosen["method"], out or str(Path(data).absolute().parent / "run")
    request: dict[str, Any] = {name: chosen[name] for name in ("method", "sources", "overwrite")}
    if dry_run:
        counts = plan_training(data, out, config=settings, **request)
        rows = ", ".join(f"{n} {kind} rows" for kind, n in counts.items())
        line = f"would train on {rows}" if rows else f"{method} keeps its initial weights"
        return Report({"n_rows": counts}, [line])
    processes = join_processes(chosen["device"])
    hardware = choose_hardware(
        *(chosen[name] for name in ("device", "precision")),
        **{name: chosen[name] for name in ("compiled", "deterministic")},
        processes=processes,
    )
    screen = screen if processes.first else Screen(quiet=True)
    remarks: list[str] = []

    def remark(text: str) -> None:
        remarks.append(text)
        screen.remark(text)

    with screen.progress(f"train {method}") as progress:
        request |= {"hardware": hardware, "tensorboard": chosen["tensorboard"]}
        info = train(data, out, config=settings, progress=progress, on_message=remark, **request)
    processes.leave()
    if not processes.first:
        sys.exit(0)  # the first process prints the result
    return _report(out, info, remarks)


def _report(out: str, info: RunInfo, remarks: list[str]) -> Report:
    from mmbind_data.spec.verdict import judge_pairing

    result = {
        "path": out,
        "method": info.method,
        "n_rows": info.n_rows,
        "n_pairs": [one.n_pairs for one in info.stages],
        "steps": info.steps,
        "final_loss": info.final_loss,
        "modalities": list(info.modalities),
    }
    loss = "" if info.final_loss is None else f", loss {info.final_loss:.3f}"
    lines = [f"{out}: {info.method}, {info.steps} steps on {_material(info)}{loss}"]
    if info.data.quality:
        verdict = judge_pairing(info.data.quality, info.data.shared)
        result["verdict"] = asdict(verdict)
        lines.append(str(verdict))
    lines += [f"unlike the paper: {one}" for one in info.departures]
    return Report(result, lines, notes(remarks), echo_issues=False)


def _material(info: RunInfo) -> str:
    """What a training has read, in words."""
    pairs = next((one.n_pairs for one in info.stages if one.n_pairs is not None), None)
    if pairs is not None:
        return f"{pairs:,} pairs among {sum(info.n_rows.values()):,} samples"
    return (", ".join(f"{n} {kind}" for kind, n in info.n_rows.items()) or "no") + " rows"


def _changes(chosen: dict[str, Any]) -> dict[str, Any]:
    """What the options change in the configuration."""
    length = {name: chosen[name] for name in ("steps", "epochs")}
    if all(value is not None for value in length.values()):
        raise click.UsageError("--steps and --epochs cannot be given together")
    given = {name: value for name, value in chosen.items() if value is not None}
    changes: dict[str, Any] = {name: given[name] for name in ("seed", "memory") if name in given}
    changes["budget"] = {name: given[name] for name in ("batch",) if name in given}
    if length["steps"] is not None or length["epochs"] is not None:
        changes["budget"] |= length
    if "encoder" in given:
        changes["network"] = {"variant": given["encoder"]}
    return changes
