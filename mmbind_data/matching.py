"""Find partners for the samples of two datasets: by a sensor that both carry, or by the label."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from .embed import (
    DEFAULT_LABEL_MODEL,
    Embedded,
    embed_autoencoder,
    embed_raw,
    fill_template,
    packaged_model,
)
from .errors import BindingError, problem
from .label_texts import apply_label_map, embed_labels
from .layout import Store
from .pairs import LABEL, Rows
from .similarity import Matches, best_matches, spread_ties
from .spec import Modality
from .window import stretch

Progress = Callable[[int, int, str], None]
# figures that vary with machine and threads stay out of digests
MEASURED = ("final_loss", "mean", "std")
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
    label_map : mapping of str to str
        For labels: other wordings, before the template is filled.
    weight_rule : str
        How similarity becomes the weight of the loss.
    seed : int
        Autoencoder, and the order in which equally similar partners are dealt out.
    """

    embed: Literal["autoencoder", "raw"] | Callable[[np.ndarray], np.ndarray] = "autoencoder"
    steps: int = 1000
    label_model: str = DEFAULT_LABEL_MODEL
    label_text: str = "{label}"
    label_map: Mapping[str, str] = field(default_factory=dict)
    weight_rule: WeightRule = "minmax_mean1"
    seed: int = 0
    metric: Literal["cosine", "euclidean"] = "cosine"
    match: Literal["best", "csls", "mutual", "sinkhorn"] = "best"
    top_k: int = 1
    temperature: float = 0.1

    def recipe_name(self, shared: str) -> str:
        """The named recipe that these options are, or ``custom``."""
        return "paper" if self.embed == "autoencoder" or shared == "label" else "custom"

    def changed(self) -> dict[str, Any]:
        """Options that differ from their default and are told nowhere else."""
        return {}


def match_sides(
    sides: tuple[Rows, Rows], shared: str, options: BindOptions, progress: Progress | None
) -> tuple[tuple[Matches, Matches], Embedded]:
    """Partners of both sides' rows by a sensor, or by the label."""
    if shared == LABEL:
        return match_labels(sides, options)
    return match_sensor(sides, shared, options, progress)


def match_sensor(
    sides: Sequence[Rows], shared: str, options: BindOptions, progress: Progress | None
) -> tuple[tuple[Matches, Matches], Embedded]:
    """Embed the shared sensor of both sides and match both ways; labels are never read.

    Parameters
    ----------
    sides : two Rows
        Candidates, all of which carry the shared modality.

    Returns
    -------
    (Matches, Matches)
        Of the first side's rows in the second's, and the reverse.
    Embedded

    Raises
    ------
    BindingError
        The stores' axes differ, or the embedding is not one vector per sample.

    Notes
    -----
    Source: MMBind paper, section 5.1, eq. 1 and 2.
    """
    values, modality = shared_values(sides, shared)
    embedded = _embed(values, modality, options, progress)
    n_first = len(sides[0])
    vectors = embedded.vectors
    if vectors.ndim != 2 or len(vectors) != len(values) or not np.isfinite(vectors).all():
        raise BindingError(
            problem("bind", "bad embedding", embedded.config["name"],
                    f"finite values of shape ({len(values)}, d)", f"shape {vectors.shape}")
        )  # fmt: skip
    to_b, to_a = best_matches(vectors[:n_first], vectors[n_first:])
    return (_ranked(to_b), _ranked(to_a)), embedded


def _embed(
    values: np.ndarray, modality: Modality, options: BindOptions, progress: Progress | None
) -> Embedded:
    if callable(options.embed):
        vectors = np.asarray(options.embed(values), dtype=np.float32)
        return Embedded(vectors, {"name": getattr(options.embed, "__name__", "callable")})
    if options.embed == "raw":
        return embed_raw(values, modality)
    return embed_autoencoder(
        values, modality, steps=options.steps, seed=options.seed, progress=progress
    )


def shared_values(sides: Sequence[Rows], shared: str) -> tuple[np.ndarray, Modality]:
    """The shared modality of all rows as one array; longer windows are stretched to the shortest.

    Returns
    -------
    values : ndarray, shape (n_a + n_b, T, ...), float32
        T is the smallest number of frames among the stores used.
    modality : Modality
        Of the first store used.

    Raises
    ------
    BindingError
        The axes behind time, or the units, differ.
    """
    used = [
        (side, code, np.flatnonzero(side.given[shared][:, 0] == code))
        for side in sides
        for code in np.unique(side.given[shared][:, 0])
    ]
    stores = [side.sources[code].store for side, code, _ in used]
    first = stores[0].info.modalities[shared]
    for store in stores[1:]:
        _check_comparable(first, store.info.modalities[shared], shared, store)
    n_frames = min(store.info.modalities[shared].shape[0] for store in stores)
    parts = []
    for side in sides:
        values = np.empty((len(side), n_frames, *first.shape[1:]), dtype=np.float32)
        for _, code, rows in (one for one in used if one[0] is side):
            store = side.sources[code].store
            loaded = store.load(shared, side.given[shared][rows, 1])
            if loaded.shape[1] != n_frames:  # stretch works along the first axis
                loaded = stretch(loaded.swapaxes(0, 1), n_frames).swapaxes(0, 1)
            values[rows] = loaded
        parts.append(values)
    return np.concatenate(parts), first


def _check_comparable(first: Modality, second: Modality, shared: str, store: Store) -> None:
    """Refuse samples whose numbers do not mean the same, place by place, as far as is known."""
    same = (first.kind, first.unit, first.shape[1:]) == (second.kind, second.unit, second.shape[1:])
    named = same and all(
        one.name == other.name and (one.names == other.names or None in (one.names, other.names))
        for one, other in zip(first.axes[1:], second.axes[1:], strict=True)
    )
    if not named:
        raise BindingError(
            problem(
                "bind",
                f"{shared} differs between the stores",
                store.path,
                f"{first.kind} in {first.unit} of shape {first.shape}",
                f"{second.kind} in {second.unit} of shape {second.shape}"
                + (", with other names" if same else ""),
            )
        )


def match_labels(
    sides: Sequence[Rows], options: BindOptions
) -> tuple[tuple[Matches, Matches], Embedded]:
    """Match label texts, then deal out the samples behind equal texts evenly."""
    texts, groups = [], []
    known = {text for side in sides for text in side.texts("label").tolist()}
    for side in sides:
        facts = anchor_facts(side)
        named = apply_label_map([row["label"] for row in facts], options.label_map, known)
        filled = [
            fill_template(options.label_text, {**row, "label": label})
            for row, label in zip(facts, named, strict=True)
        ]
        unique, group = np.unique(filled, return_inverse=True)
        texts.append([str(text) for text in unique])
        groups.append(group)
    model = packaged_model(options.label_model)
    embedded = embed_labels([*texts[0], *texts[1]], model)
    config = {**embedded.config, "label_text": options.label_text}
    if options.label_map:
        config["label_map"] = dict(options.label_map)
    if model != options.label_model:  # the package's name says more than that of its folder
        config["model"] = options.label_model
    embedded = Embedded(embedded.vectors, config)
    n_first = len(texts[0])
    to_b, to_a = best_matches(embedded.vectors[:n_first], embedded.vectors[n_first:])
    rng = np.random.default_rng(options.seed)
    return (
        _ranked(spread_ties(groups[0], groups[1], to_b, rng)),
        _ranked(spread_ties(groups[1], groups[0], to_a, rng)),
    ), embedded


def _ranked(one: Matches) -> Matches:
    return Matches(
        one.partner.reshape(len(one.partner), -1), one.similarity.reshape(len(one.partner), -1)
    )


def anchor_facts(side: Rows) -> list[dict[str, Any]]:
    """Each anchor's row of its store's sample table, its label as ``label``."""
    facts: list[dict[str, Any]] = [{} for _ in range(len(side))]
    for code, source in enumerate(side.sources):
        mine = np.flatnonzero(side.anchor[:, 0] == code)
        table = source.store.samples().take(side.anchor[mine, 1])
        for place, row in zip(mine.tolist(), table.to_pylist(), strict=True):
            facts[place] = {**row, "label": row["label_text"]}
    return facts
