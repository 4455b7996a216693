"""Find partners by what labels mean: a sentence model compares their texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from string import Formatter

import numpy as np

from mmbind_data.binding.options import PAPER, BindOptions
from mmbind_data.binding.pairing import BindingStep, PairingMethod, Sides
from mmbind_data.embedding.sentences import (
    check_label_map,
    check_template,
    embed_texts,
    fill_template,
    packaged_model,
)
from mmbind_data.embedding.vectors import Embedded
from mmbind_data.errors import BindingError
from mmbind_data.matching.match import match, spread_ties
from mmbind_data.progress import Progress
from mmbind_data.spec.label_synonyms import with_synonyms
from mmbind_data.spec.store import LABEL
from mmbind_data.store.pair_table import PairTable


def with_label_map(options: BindOptions, sides: Sequence[PairTable]) -> BindOptions:
    """Options for binding by label, checked against the labels and columns of all inputs.

    Their label map also holds the known synonyms among the labels at hand.

    Raises
    ------
    UsageError
        A template or a label map that names what no input has.
    """
    stores = [source.store for side in sides for source in side.sources]
    columns = {name for store in stores for name in store.samples().column_names}
    check_template(options.label_text, columns)
    labels = {text for side in sides for text in side.texts(LABEL) if text}
    check_label_map(options.label_map, labels)
    return replace(options, label_map=with_synonyms(options.label_map, labels))


def pair_by_label(
    sides: Sides, shared: str, options: BindOptions, progress: Progress | None = None
) -> BindingStep:
    """Match label texts, then distribute the samples of equal texts evenly.

    Notes
    -----
    Source: MMBind paper, section 5.1.1.
    """
    del progress
    texts, groups = texts_of(sides, options)
    model = packaged_model(options.label_model)
    embedded = embed_texts([*texts[0], *texts[1]], model)
    config = {**embedded.config, "label_text": options.label_text}
    if options.label_map:
        config["label_map"] = dict(options.label_map)
    if model != options.label_model:  # a package is known by its own name, not by its folder's
        config["model"] = options.label_model
    n = len(texts[0])
    to_b, to_a = match(embedded.vectors[:n], embedded.vectors[n:], PAPER.rule)
    rng = np.random.default_rng(options.seed)
    matches = (
        spread_ties(groups[0], groups[1], to_b, rng),
        spread_ties(groups[1], groups[0], to_a, rng),
    )
    settings = {"recipe": "paper", "metric": "cosine", "match": "best"}
    embedded = Embedded(embedded.vectors, config)
    step = BindingStep(shared, sides, matches, embedded, settings, options.label_map)
    return replace(step, weight_rule=options.similarity_rule)


def texts_of(sides: Sides, options: BindOptions) -> tuple[list[list[str]], list[np.ndarray]]:
    """The texts that are compared.

    Returns
    -------
    list of list of str
        Unique texts of each side.
    list of ndarray of int, shapes (n_a,), (n_b,)
        Which of them each sample has.

    Raises
    ------
    BindingError
        All samples have the same text, or the template gives an empty text for one.
    """
    texts, groups = [], []
    for side in sides:
        unique, group = np.unique(_filled(side, options), return_inverse=True)
        texts.append([str(text) for text in unique])
        groups.append(group)
    if all(len(unique) == 1 for unique in texts):
        raise BindingError(
            cannot="bind",
            problem="every sample has the same text",
            at=sides[0].place,
            expected="several labels on a side",
            got=" and ".join(repr(unique[0]) for unique in texts),
            fix="Any partner would do: bind by a sensor, or add columns with --label-text.",
        )
    return texts, groups


def _filled(side: PairTable, options: BindOptions) -> list[str]:
    """The template, filled with the facts of each sample; none may be empty."""
    named = [name for _, name, _, _ in Formatter().parse(options.label_text) if name]
    columns = {name: side.values(name).tolist() for name in named if name != LABEL}
    columns[LABEL] = [options.label_map.get(one, one) for one in side.values("label_text").tolist()]
    rows = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
    filled = [fill_template(options.label_text, row) for row in rows]
    # samples of which nothing is known would be partners of each other
    empty = np.array([not text.strip(" ,") for text in filled], dtype=bool)
    if empty.any():
        codes = np.unique(side.anchor[empty, 0])
        raise BindingError(
            cannot="bind",
            problem="samples of which --label-text says nothing",
            at=" and ".join(str(side.sources[code].store.path) for code in codes),
            expected=f"a value of {' or '.join(dict.fromkeys(named))}",
            got=f"none in {int(empty.sum())} of {len(side)} samples",
            fix="Add what is known of all: --label-text '{label}, ...'.",
        )
    return filled


BY_LABEL = PairingMethod(
    carries=lambda rows, shared, _: rows.carries(shared),
    check=lambda sides, _shared, options, _exact: texts_of(sides, options),
    pair=pair_by_label,
)
