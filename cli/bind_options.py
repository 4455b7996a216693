"""Options of ``mmbind bind``: which of them go together, and the value that the library takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from mmbind_data.binding.options import BindOptions

RULE = ("match", "metric", "top_k", "min_similarity", "max_reuse", "pca")
# options that one sort of shared modality alone uses
SENSOR = (
    *("recipe", "embed", "rerank", "candidates", "mean", "index", "steps", "derive"),
    *("temperature", *RULE),
)
TEXT = ("label_model", "label_text", "label_map")


def bind_options(shared: Sequence[str], chosen: Mapping[str, Any]) -> BindOptions:
    """Options of a binding: those of the recipe, then those of the command line.

    Raises
    ------
    click.UsageError
        An option that the shared modality, or another option, leaves without effect.
    """
    from mmbind_data.binding.options import RECIPES

    context = click.get_current_context()
    given = {
        name: value
        for name, value in chosen.items()
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    }
    _refuse_unused(shared, given)
    recipe = RECIPES[given.pop("recipe", "default")]
    changes = _translated(shared, given)
    rule = {name: changes.pop(name) for name in RULE if name in changes}
    options = replace(recipe, rule=replace(recipe.rule, **rule), **changes)
    _refuse_without_effect(shared, given, options)
    return options


def _refuse_without_effect(
    shared: Sequence[str], given: Mapping[str, Any], options: BindOptions
) -> None:
    """Refuse options that the others leave without effect."""
    several = options.rule.top_k > 1
    one_each = not several or {"label", "time", "location"} & set(shared)
    trained = options.embed in ("autoencoder", "contrastive")
    for name, useful, reason in (
        ("steps", trained, "by an embedding that is not trained: see --embed"),
        ("weights", one_each, "by several partners per anchor: they share 1, see --temperature"),
        ("temperature", several, "by one partner per anchor: see --weights"),
        ("candidates", options.rerank != "none", "where none are compared once more: see --rerank"),
    ):
        if name in given and not useful:
            raise click.UsageError(f"--{name} is not used {reason}")


def _refuse_unused(shared: Sequence[str], given: Mapping[str, Any]) -> None:
    """Refuse options that what is shared does not use, or that contradict one another."""
    by_place = {name for name in shared if name in ("time", "location")}
    sensors = [name for name in shared if name not in ("label", *by_place)]
    unused = [] if "label" in shared else [*TEXT]
    unused += [] if sensors else [*SENSOR]
    unused += [] if by_place else ["window"]
    unused += [] if sensors or by_place else ["group_by"]
    for name in unused:
        if name in given:
            kinds = ", ".join(dict.fromkeys(shared))
            raise click.UsageError(f"--{name.replace('_', '-')} is not used when {kinds} is shared")
    if "window" in given and len(by_place) > 1:
        message = "--window would mean seconds and metres: bind by time and location one by one"
        raise click.UsageError(message)
    if "mean" in given and "top_k" in given:
        raise click.UsageError("--mean averages its partners, --top-k keeps them apart: choose one")


def _translated(shared: Sequence[str], given: Mapping[str, Any]) -> dict[str, Any]:
    """The options under the names, and with the values, that the library knows."""
    from mmbind_data.embedding.sentences import read_label_map

    changes = dict(given)
    if "mean" in given:
        changes |= {"top_k": given["mean"], "mean": True}
    if "derive" in given:
        changes["derive"] = tuple(given["derive"])
    if "embed" in given:
        changes["embed"] = _embedding(given["embed"])
    if "window" in given:
        changes["window_m" if "location" in shared else "window_s"] = changes.pop("window")
    if "weights" in given:
        changes["weight_rule"] = changes.pop("weights")
    if "label_map" in given:
        changes["label_map"] = read_label_map(given["label_map"])
    return changes


def _embedding(text: str) -> str | Path:
    if text in ("raw", "autoencoder", "contrastive"):
        return text
    if text.endswith(".npy"):
        return Path(text)
    raise click.UsageError(f"--embed {text!r}: expected raw, autoencoder, contrastive or PATH.npy")
