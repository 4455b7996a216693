"""Judge the pairs of a bound store by labels that no node and no method has seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from mmbind_data.spec.label_synonyms import canonical_label, synonym_map
from mmbind_data.store.bound import open_bound
from mmbind_data.store.dataset import open_dataset

PAIRED = ("pseudo", "mean")  # kinds of rows that a binding makes


def judge_pairs(bound: Path, labelled: Sequence[Path]) -> float | None:
    """Share of pseudo-paired rows whose samples have one label, best partners alone.

    Labels are compared in the words of the store's bindings, as `mmbind bind` does. ``labelled``
    are the converted stores that the bound nodes were cut from; None if these have no label in
    common.
    """
    opened = open_bound(bound)
    wordings = synonym_map(*opened.info.binder)
    label, known = dict[str, str | None](), []
    for path in labelled:
        samples = open_dataset(path).samples()
        texts = [
            text and canonical_label(text, wordings) for text in samples["label_text"].to_pylist()
        ]
        label |= dict(zip(samples["uid"].to_pylist(), texts, strict=True))
        known.append({text for text in texts if text})
    if not can_agree(known):
        return None
    is_pair = pc.is_in(pc.field("kind").cast(pa.string()), pa.array(PAIRED))
    table = opened.pairs().filter(is_pair & (pc.field("rank") == 0))
    columns = [table[f"{name}.uid"].to_pylist() for name in opened.info.modalities]
    right = [same_label(row, label) for row in zip(*columns, strict=True)]
    return sum(right) / len(right) if right else None


def can_agree(known: Sequence[set[str]]) -> bool:
    """Whether two samples can have one label at all, given the labels of each store.

    >>> can_agree([{"walk"}]), can_agree([{"walk"}, {"walking"}, {"walk"}])
    (True, True)
    >>> can_agree([{"walk"}, {"walking"}])
    False
    """
    return len(known) == 1 or any(one & other for one, other in combinations(known, 2))


def same_label(uids: Sequence[str | None], label: Mapping[str, str | None]) -> bool:
    """Whether the samples of one row have the same, known label."""
    texts = {label.get(uid) for uid in uids if uid is not None}
    return len(texts) == 1 and None not in texts
