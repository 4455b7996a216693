"""Find partners for the samples of two datasets: by a sensor that both carry, or by the label."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .embed import (
    DEFAULT_LABEL_MODEL,
    Embedded,
    embed_autoencoder,
    embed_raw,
    embed_texts,
    fill_template,
    packaged_model,
)
from .errors import BindingError, problem
from .pairs import Side
from .similarity import Matches, best_matches, spread_ties
from .spec import Modality
from .window import stretch

Progress = Callable[[int, int, str], None]
WeightRule = Literal["minmax_mean1", "raw", "softmax", "none"]


@dataclass(frozen=True)
class BindOptions:
    """How to find partners.

    Attributes
    ----------
    embed : {"autoencoder", "raw"} or callable
        For a sensor: the embedding. A callable maps (n, T, ...) float32 to (n, d).
    steps : int
        Optimiser steps of the autoencoder.
    label_model : str
        For labels: a sentence-transformers model, by folder, package or hub name.
    label_text : str
        For labels: template over the columns of the sample table, ``{label}`` being the text.
    weight_rule : str
        How similarity becomes the weight of the loss.
    seed : int
        Autoencoder, and the order in which equally similar partners are dealt out.
    """

    embed: Literal["autoencoder", "raw"] | Callable[[np.ndarray], np.ndarray] = "autoencoder"
    steps: int = 1000
    label_model: str = DEFAULT_LABEL_MODEL
    label_text: str = "{label}"
    weight_rule: WeightRule = "minmax_mean1"
    seed: int = 0


def match_sensor(
    sides: Sequence[Side], shared: str, options: BindOptions, progress: Progress | None
) -> tuple[tuple[Matches, Matches], Embedded]:
    """Embed the shared sensor of both sides and match both ways; labels are never read.

    Returns
    -------
    (Matches, Matches)
        Of the first side's usable rows in the second's, and the reverse.
    Embedded

    Raises
    ------
    BindingError
        The stores' axes differ, or the embedding is not one vector per sample.

    Notes
    -----
    Source: MMBind paper, section 5.1, eq. 1 and 2.
    """
    modality = sides[0].store.info.modalities[shared]
    values = common_shape(sides, shared)
    n_first = len(sides[0].usable)
    if callable(options.embed):
        vectors = np.asarray(options.embed(values), dtype=np.float32)
        embedded = Embedded(vectors, {"name": getattr(options.embed, "__name__", "callable")})
    elif options.embed == "raw":
        embedded = embed_raw(values, modality)
    else:
        embedded = embed_autoencoder(
            values, modality, steps=options.steps, seed=options.seed, progress=progress
        )
    vectors = embedded.vectors
    if vectors.ndim != 2 or len(vectors) != len(values) or not np.isfinite(vectors).all():
        raise BindingError(
            problem("bind", "bad embedding", embedded.config["name"],
                    f"finite values of shape ({len(values)}, d)", f"shape {vectors.shape}")
        )  # fmt: skip
    return best_matches(vectors[:n_first], vectors[n_first:]), embedded


def common_shape(sides: Sequence[Side], shared: str) -> np.ndarray:
    """The shared modality of both sides as one array; the longer windows are stretched.

    Returns
    -------
    ndarray, shape (n_a + n_b, T, ...), float32
        T is the smaller of the two numbers of frames.

    Raises
    ------
    BindingError
        The axes behind time, or the units, differ.
    """
    first, second = (side.store.info.modalities[shared] for side in sides)
    if not _comparable(first, second):
        raise BindingError(
            problem(
                "bind",
                f"{shared} differs between the stores",
                sides[1].store.path,
                f"{first.kind} in {first.unit} of shape {first.shape}",
                f"{second.kind} in {second.unit} of shape {second.shape}",
            )
        )
    n_frames = min(first.shape[0], second.shape[0])
    parts = []
    for side in sides:
        values = side.store.load(shared, side.usable)
        if values.shape[1] != n_frames:  # stretch works along the first axis
            values = stretch(values.swapaxes(0, 1), n_frames).swapaxes(0, 1)
        parts.append(values)
    return np.concatenate(parts)


def _comparable(first: Modality, second: Modality) -> bool:
    """Whether the numbers of two samples mean the same, place by place, as far as is known."""
    if (first.kind, first.unit, first.shape[1:]) != (second.kind, second.unit, second.shape[1:]):
        return False
    return all(
        one.name == other.name and (one.names == other.names or None in (one.names, other.names))
        for one, other in zip(first.axes[1:], second.axes[1:], strict=True)
    )


def match_labels(
    sides: Sequence[Side], options: BindOptions
) -> tuple[tuple[Matches, Matches], Embedded]:
    """Match label texts, then deal out the samples behind equal texts evenly."""
    texts, groups = [], []
    for side in sides:
        rows = side.store.samples().take(side.usable).to_pylist()
        filled = [
            fill_template(options.label_text, {**row, "label": row["label_text"]}) for row in rows
        ]
        unique, group = np.unique(filled, return_inverse=True)
        texts.append([str(text) for text in unique])
        groups.append(group)
    model = packaged_model(options.label_model)
    embedded = embed_texts([*texts[0], *texts[1]], model)
    config = {**embedded.config, "label_text": options.label_text}
    if model != options.label_model:  # the package's name says more than that of its folder
        config["model"] = options.label_model
    embedded = Embedded(embedded.vectors, config)
    n_first = len(texts[0])
    to_b, to_a = best_matches(embedded.vectors[:n_first], embedded.vectors[n_first:])
    rng = np.random.default_rng(options.seed)
    return (
        spread_ties(groups[0], groups[1], to_b, rng),
        spread_ties(groups[1], groups[0], to_a, rng),
    ), embedded
