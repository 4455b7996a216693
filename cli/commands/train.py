"""mmbind train DATA -o RUN."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..options import read_config, source_paths
from ..output import Report, Screen, notes, reported

if TYPE_CHECKING:
    from mmbind_train.training.run_folder import RunInfo


@click.command("train")
@click.argument("data", type=click.Path())
@click.option("-o", "--out", required=True, type=click.Path(), help="Folder of the run.")
@click.option(
    "--method",
    default="mmbind",
    show_default=True,
    metavar="NAME",
    help="lower_bound, unimodal, mim, mpm, cmg, dcm, imagebind, mmbind or upper_bound.",
)
@click.option(
    "--recipe",
    type=click.Choice(["default", "paper", "published"]),
    default="default",
    show_default=True,
    help="Soft targets; eq. 3 as printed; what the paper's code does.",
)
@click.option("--steps", type=click.IntRange(min=0), help="Optimiser steps.  [default: 700]")
@click.option("--epochs", type=click.IntRange(min=0), help="Passes over the samples instead.")
@click.option("--batch", type=click.IntRange(min=2), help="Rows per step.  [default: 64]")
@click.option("--encoder", type=click.Choice(["compact", "reference"]), help="[default: compact]")
@click.option("--seed", type=click.IntRange(min=0), help="[default: 0]")
@click.option("--config", type=click.Path(), help="JSON with every option, also those of the loss.")
@click.option("--source", multiple=True, metavar="ID=PATH", help="Where a source lies now.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N, mps.")
@click.option(
    "--precision",
    type=click.Choice(["auto", "float32", "bfloat16"]),
    default="auto",
    show_default=True,
    help="Of features; auto: bfloat16 on CUDA devices that have it.",
)
@click.option("--compile", "compiled", is_flag=True, help="Compile the encoders (needs C++).")
@click.option(
    "--memory",
    type=click.FloatRange(min=0, min_open=True),
    metavar="GIB",
    help="For samples; more is read in windows.  [default: what is free, or windows of 1]",
)
@click.option("--tensorboard", is_flag=True, help="Event files for TensorBoard in the run.")
@click.option("--dry-run", is_flag=True, help="Say what would be trained on, write nothing.")
@click.option("--overwrite", is_flag=True, help="Replace the run.")
@reported
def command(
    data: str, out: str, method: str, seed: int | None, config: str | None, source: tuple[str, ...],
    dry_run: bool, overwrite: bool, screen: Screen, **chosen: Any,
) -> Report:  # fmt: skip
    """Pre-train encoders on DATA: a bound store, or natural pairs for upper_bound."""
    from mmbind_train.config import TrainConfig, recipe
    from mmbind_train.training.hardware import choose_hardware, join_processes
    from mmbind_train.training.pretrain import plan_training, train

    settings = read_config(TrainConfig, config, _changes(seed, chosen), recipe(chosen["recipe"]))
    places = source_paths(source)
    if dry_run:
        counts = plan_training(
            data, out, method=method, config=settings, sources=places, overwrite=overwrite
        )
        rows = ", ".join(f"{n} {kind} rows" for kind, n in counts.items())
        line = f"would train on {rows}" if rows else f"{method} keeps its initial weights"
        return Report({"n_rows": counts}, [line])
    processes = join_processes(chosen["device"])
    hardware = choose_hardware(
        chosen["device"], chosen["precision"], compiled=chosen["compiled"], processes=processes
    )
    screen = screen if processes.first else Screen(quiet=True)
    told: list[str] = []

    def tell(text: str) -> None:
        told.append(text)
        screen.tell(text)

    with screen.progress(f"train {method}") as progress:
        info = train(
            data,
            Path(out),
            method=method,
            config=settings,
            sources=places,
            overwrite=overwrite,
            progress=progress,
            hardware=hardware,
            tensorboard=chosen["tensorboard"],
            on_message=tell,
        )
    processes.leave()
    if not processes.first:
        sys.exit(0)  # the first process tells what came out
    return _report(out, info, told)


def _report(out: str, info: RunInfo, told: list[str]) -> Report:
    result = {
        "path": out,
        "method": info.method,
        "n_rows": info.n_rows,
        "steps": info.steps,
        "final_loss": info.final_loss,
        "modalities": list(info.modalities),
    }
    loss = "" if info.final_loss is None else f", loss {info.final_loss:.3f}"
    rows = ", ".join(f"{n} {kind}" for kind, n in info.n_rows.items()) or "no"
    line = f"{out}: {info.method}, {info.steps} steps on {rows} rows{loss}"
    return Report(result, [line], notes(told), echo_issues=False)


def _changes(seed: int | None, chosen: dict[str, Any]) -> dict[str, Any]:
    """What the options change in the configuration."""
    length = {name: chosen[name] for name in ("steps", "epochs")}
    if all(value is not None for value in length.values()):
        message = "--steps and --epochs cannot be given together"
        raise click.UsageError(message)
    changes: dict[str, Any] = {"budget": {}, "network": {}}
    if seed is not None:
        changes["seed"] = seed
    if any(value is not None for value in length.values()):
        changes["budget"] |= length
    if chosen["batch"] is not None:
        changes["budget"]["batch"] = chosen["batch"]
    if chosen["memory"] is not None:
        changes["memory"] = chosen["memory"]
    if chosen["encoder"] is not None:
        changes["network"]["variant"] = chosen["encoder"]
    return changes
