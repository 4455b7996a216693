"""Labels of a bound store's rows: to be had only where the label itself was the shared modality."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmbind_data.spec.label_synonyms import synonym_map
from mmbind_data.spec.store import LABEL
from mmbind_data.store.bound import BoundDataset
from mmbind_train.data.training_set import TrainingSet


def bound_by_label(bound: BoundDataset) -> bool:
    """Whether all nodes' labels were given for binding, so that training may read them too.

    Of several bindings the last one counts: it compares the labels of all sources. One that joins
    a source by a sensor behind a binding by label is given no label of that source.
    """
    return bound.info.shared[-1:] == (LABEL,)


def with_anchor_labels(rows: TrainingSet, bound: BoundDataset) -> TrainingSet:
    """Give each row the label of its anchor, matched between the sources by text.

    Texts are those that the bindings compared: what a label map calls the same is one class.

    Parameters
    ----------
    rows : TrainingSet
        All rows of the store, from `gather_bound`: the mean rows of an anchor are one.
    bound : BoundDataset

    Raises
    ------
    ValueError
        The store was not bound by label: its nodes' labels are nobody's to read.
    """
    if not bound_by_label(bound):
        message = "labels of a store that was bound by a sensor must not be read"
        raise ValueError(message)
    table = bound.pairs()
    # of an anchor's mean rows the first stands for all
    one_row = pc.or_(pc.not_equal(table["kind"].cast(pa.string()), "mean"),
                     pc.equal(table["rank"], 0))  # fmt: skip
    anchors = table["anchor_uid"].filter(one_row).to_pylist()
    if len(rows) != len(anchors):
        message = f"{len(rows)} training rows of a table of {len(anchors)}"
        raise ValueError(message)
    text_of: dict[str, str] = {}
    wordings = synonym_map(*bound.info.binder)
    for source in bound.info.sources:
        store = bound.source(source.source_id)
        names = (*(wordings.get(name, name) for name in store.names(LABEL)), "")
        uids = store.samples()["uid"].to_pylist()
        codes = store.column(LABEL).tolist()
        text_of |= {uid: names[code] for uid, code in zip(uids, codes, strict=True)}
    texts = [text_of[uid] for uid in anchors]
    names = tuple(sorted(set(texts) - {""}))
    place = {text: number for number, text in enumerate(names)} | {"": -1}
    label = np.array([place[text] for text in texts], dtype=np.int64)
    return replace(rows, label=label, label_names=names)
