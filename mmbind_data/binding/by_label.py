"""Find partners by what labels mean: a sentence model compares their texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from string import Formatter
from typing import Any

import numpy as np

from mmbind_data.binding.options import BindOptions
from mmbind_data.embedding.sentences import (
    check_label_map,
    check_template,
    embed_labels,
    fill_template,
    packaged_model,
)
from mmbind_data.embedding.vectors import Embedded
from mmbind_data.errors import BindingError, UsageError
from mmbind_data.matching.candidates import Matches
from mmbind_data.matching.match import match, spread_ties
from mmbind_data.matching.rule import MatchRule
from mmbind_data.spec.label_synonyms import with_synonyms
from mmbind_data.spec.store import LABEL
from mmbind_data.store.pair_table import PairTable


def with_label_map(
    options: BindOptions, sides: Sequence[PairTable], shared: Sequence[str]
) -> BindOptions:
    """Options for binding by label, checked against the labels and columns of all inputs.

    Parameters
    ----------
    options : BindOptions
    sides : sequence of PairTable
        Of each input.
    shared : sequence of str
        At each binding. Without the label among them, options are as they were.

    Returns
    -------
    BindOptions
        Whose label map also holds what is known of the labels at hand.

    Raises
    ------
    UsageError
        A template or a label map that names what no input has, or a map where no label is shared.
    """
    if LABEL not in shared:
        if options.label_map:
            raise UsageError(
                cannot="bind",
                problem="a label map that is of no use",
                at="--label-map",
                expected="none where no label is shared",
                got=f"--shared {', '.join(dict.fromkeys(shared))}",
            )
        return options
    stores = [source.store for side in sides for source in side.sources]
    columns = {name for store in stores for name in store.samples().column_names}
    check_template(options.label_text, columns)
    labels = {text for side in sides for text in side.texts("label") if text}
    check_label_map(options.label_map, labels)
    return replace(options, label_map=with_synonyms(options.label_map, labels))


def match_labels(
    sides: tuple[PairTable, PairTable], options: BindOptions
) -> tuple[tuple[Matches, Matches], Embedded]:
    """Match label texts, then deal out the samples behind equal texts evenly."""
    texts, groups = texts_of(sides, options)
    model = packaged_model(options.label_model)
    embedded = embed_labels([*texts[0], *texts[1]], model)
    config = {**embedded.config, "label_text": options.label_text}
    if options.label_map:
        config["label_map"] = dict(options.label_map)
    if model != options.label_model:  # the package's name says more than that of its folder
        config["model"] = options.label_model
    embedded = Embedded(embedded.vectors, config)
    n_first = len(texts[0])
    to_b, to_a = match(embedded.vectors[:n_first], embedded.vectors[n_first:], MatchRule())
    rng = np.random.default_rng(options.seed)
    return (
        spread_ties(groups[0], groups[1], to_b, rng),
        spread_ties(groups[1], groups[0], to_a, rng),
    ), embedded


def texts_of(
    sides: tuple[PairTable, PairTable], options: BindOptions
) -> tuple[list[list[str]], list[np.ndarray]]:
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
        All samples have the same text, or the template says nothing of one.
    """
    texts, groups = [], []
    for side in sides:
        filled = [
            fill_template(
                options.label_text,
                {**row, "label": options.label_map.get(row["label"], row["label"])},
            )
            for row in anchor_facts(side)
        ]
        _check_texts(filled, side, options.label_text)
        unique, group = np.unique(filled, return_inverse=True)
        texts.append([str(text) for text in unique])
        groups.append(group)
    if all(len(unique) == 1 for unique in texts):
        place = " and ".join(str(source.store.path) for source in sides[0].sources)
        raise BindingError(
            cannot="bind",
            problem="every sample has the same text",
            at=place,
            expected="several labels on a side",
            got=" and ".join(repr(unique[0]) for unique in texts),
            fix="Any partner would do: bind by a sensor, or tell more with --label-text.",
        )
    return texts, groups


def _check_texts(filled: Sequence[str], side: PairTable, template: str) -> None:
    """Refuse samples without a text: they would be partners because nothing is known of them."""
    empty = np.array([not text.strip(" ,") for text in filled], dtype=bool)
    if not empty.any():
        return
    codes = np.unique(side.anchor[empty, 0])
    place = " and ".join(str(side.sources[code].store.path) for code in codes)
    columns = " or ".join(
        dict.fromkeys(name for _, name, _, _ in Formatter().parse(template) if name)
    )
    raise BindingError(
        cannot="bind",
        problem="samples of which --label-text says nothing",
        at=place,
        expected=f"a value of {columns}",
        got=f"none in {int(empty.sum())} of {len(side)} samples",
        fix="Add what is known of all: --label-text '{label}, ...'.",
    )


def anchor_facts(side: PairTable) -> list[dict[str, Any]]:
    """Each anchor's row of its store's sample table, its label as ``label``."""
    facts: list[dict[str, Any]] = [{} for _ in range(len(side))]
    for code, source in enumerate(side.sources):
        mine = np.flatnonzero(side.anchor[:, 0] == code)
        table = source.store.samples().take(side.anchor[mine, 1])
        for place, row in zip(mine.tolist(), table.to_pylist(), strict=True):
            facts[place] = {**row, "label": row["label_text"]}
    return facts
