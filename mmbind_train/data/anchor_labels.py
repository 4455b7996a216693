"""Labels of a bound store's rows: available only if the label itself was the shared modality."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mmbind_data.spec.label_synonyms import synonym_map
from mmbind_data.spec.store import LABEL
from mmbind_data.store.bound import BoundDataset
from mmbind_train.data.training_set import TrainingSet


def bound_by_label(bound: BoundDataset) -> bool:
    """Whether all nodes' labels were given for binding, so that training may read them too.

    Of several bindings the last one decides, which compares the labels of all sources. If it binds
    by a sensor instead, the labels of the source that it adds were not given.
    """
    return bound.info.shared[-1:] == (LABEL,)


def with_anchor_labels(rows: TrainingSet, bound: BoundDataset) -> TrainingSet:
    """Give each row the label of its anchor, matched between the sources by text.

    Texts are those that the bindings compared: what a label map unites is one class. ``rows`` are
    all rows of the store, from `gather_bound`: the mean rows of an anchor are one.

    Raises
    ------
    ValueError
        The store was not bound by label: the labels of its nodes must not be read.
    """
    if not bound_by_label(bound):
        raise ValueError("labels of a store that was bound by a sensor must not be read")
    columns = (bound.pairs()[name].to_pylist() for name in ("anchor_uid", "kind", "rank"))
    # the first of an anchor's mean rows is the one that they became
    anchors = [uid for uid, kind, rank in zip(*columns, strict=True) if kind != "mean" or rank == 0]
    if len(rows) != len(anchors):
        raise ValueError(f"{len(rows)} training rows of a table of {len(anchors)}")
    text_of: dict[str, str] = {}
    synonyms = synonym_map(*bound.info.binder)
    for source in bound.info.sources:
        store = bound.source(source.source_id)
        names = (*(synonyms.get(name, name) for name in store.names(LABEL)), "")
        uids, codes = store.samples()["uid"].to_pylist(), store.column(LABEL).tolist()
        text_of |= {uid: names[code] for uid, code in zip(uids, codes, strict=True)}
    texts = [text_of[uid] for uid in anchors]
    classes = tuple(sorted(set(texts) - {""}))
    code_of = {text: number for number, text in enumerate(classes)} | {"": -1}
    label = np.array([code_of[text] for text in texts], dtype=np.int64)
    return replace(rows, label=label, label_names=classes)
