"""Options that several commands have, and what their values become."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import click

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def comma_list(
    ctx: click.Context, parameter: click.Parameter, value: str | None
) -> list[str] | None:
    """Turn ``a,b`` into a list (a click callback); an empty list is never meant."""
    if value is None:
        return None
    parts = [part.strip() for part in value.split(",")]
    if not all(parts):
        raise click.BadParameter("expected names separated by commas, got an empty one")
    return parts


def assignments(
    ctx: click.Context, parameter: click.Parameter, texts: Sequence[str]
) -> dict[str, str]:
    """Turn ``NAME=VALUE`` texts into a mapping (a click callback)."""
    values: dict[str, str] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if not (name and value) or name in values:
            raise click.BadParameter(f"expected NAME=VALUE, each name once, got {text!r}")
        values[name] = value
    return values


def choices(
    ctx: click.Context, parameter: click.Parameter, texts: Sequence[str]
) -> dict[str, list[str]]:
    """Turn ``COLUMN=VALUE`` texts into the values of each column (a click callback)."""
    values: dict[str, list[str]] = {}
    for text in texts:
        column, _, value = text.partition("=")
        if not (column and value):
            raise click.BadParameter(f"expected COLUMN=VALUE, got {text!r}")
        values.setdefault(column, []).append(value)
    return values


def finite(ctx: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    """Refuse nan and infinity, which click takes for numbers of any range (a click callback)."""
    if value is not None and not math.isfinite(value):
        raise click.BadParameter(f"{value} is no finite number")
    return value


def source_paths(
    ctx: click.Context, parameter: click.Parameter, texts: Sequence[str]
) -> dict[str, str]:
    """Turn ``ID=PATH`` texts into a mapping (a click callback)."""
    places = {}
    for text in texts:
        source_id, _, path = text.partition("=")
        if not (source_id and path):
            raise click.UsageError(f"--source {text!r}: expected ID=PATH")
        places[source_id] = path
    return places


count = partial(click.option, type=click.IntRange(min=1))
natural = partial(click.option, type=click.IntRange(min=0))
names = partial(click.option, callback=comma_list)
values = partial(click.option, multiple=True, metavar="NAME=VALUE", callback=assignments)
out = partial(click.option, "-o", "--out", required=True, type=click.Path())
dry_run = partial(click.option, "--dry-run", is_flag=True)
overwrite = partial(click.option, "--overwrite", is_flag=True, help="Replace OUT.")
source = partial(
    click.option,
    *("--source", "sources"),
    multiple=True,
    metavar="ID=PATH",
    callback=source_paths,
    help="Where a source lies now.",
)
label_model = partial(
    click.option, "--label-model", help="Sentence model: a folder, a package or a hub name."
)
device = partial(
    click.option,
    "--device",
    default="auto",
    show_default=True,
    help="auto, cpu, cuda, cuda:N, mps.",
)


def choice(
    name: str, words: Sequence[str], help: str = "", default: str | None = None
) -> Decorator:
    """An option that takes one of several words."""
    shown, kind = default is not None, click.Choice(words)
    return click.option(name, type=kind, default=default, show_default=shown, help=help)
