"""Data of the report on a bound store: samples, and pairs with their labels, as columns."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmbind_data.errors import IntegrityError
from mmbind_data.reports.html import DOING
from mmbind_data.store.bound import EVALUATION, BoundDataset
from mmbind_data.store.dataset import Dataset, read_table

MAX_CLASSES = 30
OTHER = "all other labels"
REBIND = "Bind anew with mmbind bind."
# Columns of a table of samples that stores may lack.
OPTIONAL = "subject session trial placement environment raw_file raw_start raw_end t_start t_end"


@dataclass(frozen=True)
class Samples:
    """The samples of all sources, end to end.

    Attributes
    ----------
    stores : tuple of Dataset
    ids : tuple of str
        Source ids, in the order of the stores.
    source : ndarray, shape (n,), int64
        The store of each sample, as an index.
    row : ndarray, shape (n,), int64
        Its row in that store.
    uid : pyarrow.Array of str, length n
    label, subject : ndarray of str, shape (n,)
        Empty where unknown.
    """

    stores: tuple[Dataset, ...]
    ids: tuple[str, ...]
    source: np.ndarray
    row: np.ndarray
    uid: pa.Array
    label: np.ndarray
    subject: np.ndarray

    def __len__(self) -> int:
        return len(self.row)

    def find(self, uids: pa.ChunkedArray) -> np.ndarray:
        """Numbers of the samples with these uids: int64, -1 = none."""
        found = pc.index_in(uids.cast(pa.string()), value_set=self.uid)
        return np.asarray(found.fill_null(-1).to_numpy(), dtype=np.int64)

    def facts(self, numbers: Sequence[int]) -> dict[int, dict[str, Any]]:
        """Rows of the tables of samples, by number, with their source id and label text.

        Columns that a table lacks are None.
        """
        chosen = np.unique(np.asarray(numbers, dtype=np.int64))
        facts: dict[int, dict[str, Any]] = {}
        for code in np.unique(self.source[chosen]):
            mine = chosen[self.source[chosen] == code]
            rows = self.stores[code].samples().take(self.row[mine]).to_pylist()
            for number, row in zip(mine.tolist(), rows, strict=True):
                facts[number] = dict.fromkeys(OPTIONAL.split()) | row
                facts[number] |= {"source": self.ids[code], "label": self.label[number]}
        return facts


@dataclass(frozen=True)
class JudgedPairs:
    """One entry for each partner of each anchor, in the order of the table of partners.

    Attributes
    ----------
    document : mapping
        ``eval/pairing.json``.
    hop, rank, direction : ndarray, shape (n,), int64
        Hop counts what the store was bound by, direction those of the document.
    anchor, partner : ndarray, shape (n,), int64
        Numbers within `Samples`.
    row : ndarray, shape (n,), int64
        Row of the table of pairs; -1 where a later binding has replaced it.
    similarity, weight : ndarray, shape (n,), float32
        NaN where not known.
    judged, right : ndarray, shape (n,), bool
        Whether both labels are known and could be equal; whether they are.
    """

    document: Mapping[str, Any]
    hop: np.ndarray
    rank: np.ndarray
    direction: np.ndarray
    anchor: np.ndarray
    partner: np.ndarray
    row: np.ndarray
    similarity: np.ndarray
    weight: np.ndarray
    judged: np.ndarray
    right: np.ndarray

    def __len__(self) -> int:
        return len(self.anchor)

    @property
    def first(self) -> np.ndarray:
        """The judged pairs of anchors with their first partners: bool, shape (n,)."""
        first: np.ndarray = self.judged & (self.rank == 0)
        return first


def read_samples(bound: BoundDataset) -> Samples:
    """Open every source and read label and subject of each sample.

    Raises
    ------
    FormatError
        A source is missing.
    """
    ids = tuple(source.source_id for source in bound.info.sources)
    stores = tuple(bound.source(one) for one in ids)
    texts: dict[str, list[np.ndarray]] = {"label": [], "subject": []}
    for store in stores:
        for column, parts in texts.items():
            names = np.array([*store.names(column), ""], dtype=object)
            parts.append(names[store.column(column)])
    uids = [store.samples()["uid"].combine_chunks().cast(pa.string()) for store in stores]
    return Samples(
        stores=stores,
        ids=ids,
        source=np.repeat(np.arange(len(stores)), [len(store) for store in stores]),
        row=np.concatenate([np.arange(len(store)) for store in stores]),
        uid=pa.concat_arrays(uids),
        label=np.concatenate(texts["label"]),
        subject=np.concatenate(texts["subject"]),
    )


def read_judged(bound: BoundDataset, samples: Samples) -> JudgedPairs:
    """Read the evaluation of pairing, and find each pair's row in the table of pairs.

    Raises
    ------
    IntegrityError
        The evaluation is missing, or does not fit the sources.
    """
    path = bound.path / EVALUATION
    table = read_table(path / "partners.parquet")
    try:
        document = json.loads((path / "pairing.json").read_text())
    except (OSError, ValueError) as error:
        problem, expected = "unreadable evaluation", "a JSON document"
        raise IntegrityError(
            cannot=DOING, problem=problem, at=path, expected=expected, got=error, fix=REBIND
        ) from error
    sizes = [one["n_pairs"] for one in document["directions"]]
    anchor, partner = samples.find(table["anchor_uid"]), samples.find(table["partner_uid"])
    if sum(sizes) != len(table) or min(anchor.min(initial=0), partner.min(initial=0)) < 0:
        expected, problem = f"{sum(sizes)} pairs", "the evaluation does not fit the store"
        raise IntegrityError(
            cannot=DOING, problem=problem, at=path, expected=expected, got=len(table), fix=REBIND
        )
    direction = np.repeat(np.arange(len(sizes)), sizes)
    comparable = np.array([bool(one["confusion"]) for one in document["directions"]])
    known = pc.and_(table["anchor_label"].is_valid(), table["partner_label"].is_valid())
    judged = known.to_numpy() & comparable[direction]
    equal = pc.equal(table["anchor_label"], table["partner_label"]).fill_null(False).to_numpy()
    hop, rank = _integers(table, "hop"), _integers(table, "rank")
    hop += len(bound.info.shared) - 1 - hop.max(initial=0)  # inputs may bring hops of their own
    row, similarity, weight = _rows_of_pairs(bound, samples, hop, anchor, rank)
    if "similarity" in table.column_names:  # of this binding, not of a chain of several
        similarity = table["similarity"].to_numpy()
    found = row, similarity, weight, judged, judged & equal
    return JudgedPairs(document, hop, rank, direction, anchor, partner, *found)


def _rows_of_pairs(
    bound: BoundDataset, samples: Samples, hop: np.ndarray, anchor: np.ndarray, rank: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row, similarity and weight of each pair in the table of pairs; -1 and NaN if there is none.

    Hop, anchor and rank identify a row; if several rows share all three, their order counts.
    """
    table, n = pseudo_rows(bound), len(hop)
    stored = _integers(table, "hop"), samples.find(table["anchor_uid"]), _integers(table, "rank")
    keys = np.concatenate([(hop, anchor, rank), stored], axis=1)
    codes = np.ravel_multi_index(tuple(keys), tuple(keys.max(axis=1, initial=0) + 1))
    _, place, source = np.intersect1d(
        _distinct(codes[:n]), _distinct(codes[n:]), assume_unique=True, return_indices=True
    )
    columns = {"row": np.full(n, -1)}
    columns |= {name: np.full(n, np.nan, np.float32) for name in ("similarity", "weight")}
    for name, values in columns.items():
        values[place] = table[name].to_numpy()[source]
    return columns["row"], columns["similarity"], columns["weight"]


def _distinct(keys: np.ndarray) -> np.ndarray:
    """Keys made distinct by how often each has occurred before: int64, shape (n,)."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    again = np.empty(len(keys), dtype=np.int64)
    again[order] = np.arange(len(keys)) - np.searchsorted(ordered, ordered)
    return keys + again * (int(keys.max(initial=0)) + 1)


def pseudo_rows(bound: BoundDataset) -> pa.Table:
    """The rows of the table of pairs that binding made."""
    kinds = bound.pairs()["kind"].cast(pa.string())
    return bound.pairs().filter(pc.is_in(kinds, pa.array(["pseudo", "mean"])))


def coverage(names: np.ndarray, judged: JudgedPairs) -> list[tuple[Any, ...]]:
    """How a class, or a subject, takes part in the pairs.

    Parameters
    ----------
    names : ndarray of str, shape (n_samples,)
        What a sample belongs to; empty ones are left out.
    judged : JudgedPairs

    Returns
    -------
    list of tuple
        In the order of first appearance: name; samples; of these anchors with a partner; used as a
        partner; times used; first pairs judged; of these right.
    """
    n, first = len(names), judged.first
    uses = np.bincount(judged.partner, minlength=n)
    columns = [
        np.ones(n, dtype=np.int64),
        np.bincount(judged.anchor, minlength=n) > 0,
        uses > 0,
        uses,
        np.bincount(judged.anchor[first], minlength=n),
        np.bincount(judged.anchor[first & judged.right], minlength=n),
    ]
    known, begin, group = np.unique(names.astype(str), return_index=True, return_inverse=True)
    sums = [np.bincount(group, weights=one, minlength=len(known)).astype(int) for one in columns]
    return [(str(known[i]), *(one[i] for one in sums)) for i in np.argsort(begin) if known[i]]


def label_pairs(
    samples: Samples, judged: JudgedPairs, chosen: np.ndarray
) -> Counter[tuple[str, str]]:
    """How often which label of an anchor meets which of a partner, in the pairs chosen by a mask.

    Pairs without both labels are left out.
    """
    labels = (samples.label[one[chosen]] for one in (judged.anchor, judged.partner))
    return Counter(pair for pair in zip(*labels, strict=True) if all(pair))


def fold_classes(
    confusion: Mapping[tuple[str, str], int], order: Sequence[str]
) -> tuple[list[str], list[str], np.ndarray]:
    """Make a confusion a matrix of at most `MAX_CLASSES` + 1 rows and columns.

    Parameters
    ----------
    confusion : mapping of (anchor's label, partner's label) to count
    order : sequence of str
        All labels. If there are too many, those with the most wrong pairs stay, and the others are
        added up.

    Returns
    -------
    rows, columns : list of str
    counts : ndarray, shape (rows, columns), int64
    """
    sides = [{pair[k] for pair in confusion} for k in (0, 1)]
    if sides[0] & sides[1]:  # labels of one kind: they agree on the diagonal
        sides = [sides[0] | sides[1]] * 2
    wrong = Counter[str]()
    for pair, n in confusion.items():
        if pair[0] != pair[1]:
            wrong.update(dict.fromkeys(pair, n))
    names, places = [], []
    for labels in sides:
        ordered = [one for one in order if one in labels]
        kept = set(sorted(ordered, key=lambda one: -wrong[one])[:MAX_CLASSES])
        shown = [one for one in ordered if one in kept]
        names.append(shown + ([OTHER] if len(shown) < len(ordered) else []))
        places.append({one: shown.index(one) if one in kept else len(shown) for one in ordered})
    counts = np.zeros((len(names[0]), len(names[1])), dtype=np.int64)
    for (label, to), n in confusion.items():
        counts[places[0][label], places[1][to]] += n
    return names[0], names[1], counts


def share(flags: np.ndarray) -> float | None:
    """Mean of flags; None where there are none."""
    return float(flags.mean()) if len(flags) else None


def _integers(table: pa.Table, name: str) -> np.ndarray:
    """A column as int64; zeros if a store of an older version lacks it."""
    if name not in table.column_names:
        return np.zeros(len(table), dtype=np.int64)
    return np.array(table[name].to_numpy(), dtype=np.int64)
