"""The table of pairs: which sample of which source provides each modality of a training row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from mmbind_data.errors import IntegrityError
from mmbind_data.io.digests import canonical_json, content_digest, table_line
from mmbind_data.spec.store import LABEL, BinderInfo, SourceInfo
from mmbind_data.store.bound import PAIRS, BoundDataset
from mmbind_data.store.dataset import SAMPLES, Dataset

FIXED_COLUMNS = (
    "row", "kind", "anchor_source", "anchor_uid", "shared", "similarity", "weight", "rank", "hop",
    "split",
)  # fmt: skip
KINDS = ("pseudo", "incomplete", "natural", "mean")
PSEUDO, INCOMPLETE, NATURAL, MEAN = range(4)
# of `PairTable`: arrays with a row for each of its rows
COLUMNS = ("kind", "anchor", "hop", "similarity", "weight", "rank")
STEP = "Check it with mmbind validate."


@dataclass(frozen=True)
class Source:
    """One store that rows refer to.

    Attributes
    ----------
    source_id : str
    store : Dataset
    uid : ndarray of str, shape (n,)
    """

    source_id: str
    store: Dataset
    uid: np.ndarray


@dataclass(frozen=True)
class PairTable:
    """Training rows over some sources, as columns of equal length n.

    Attributes
    ----------
    sources : tuple of Source
        The source codes below are positions in it.
    kind : ndarray, shape (n,), int8
        `PSEUDO`, `INCOMPLETE`, `NATURAL` or `MEAN`. Consecutive rows of kind mean, from a rank 0 to
        the next one, are one training sample: what differs between them is averaged by weight.
    anchor : ndarray, shape (n, 2), int64
        Source code and row of the sample that a row is about.
    given : mapping of modality to ndarray, shape (n, 2), int64
        Source code and row of the sample that provides it; -1, -1 = dummy.
    shared : tuple of str
        What rows were bound by; `hop` is a position in it.
    hop : ndarray, shape (n,), int16
        The binding that completed a pseudo row last, from 0.
    similarity : ndarray, shape (n,), float32
        The smallest of the bindings of a pseudo row; NaN of other rows.
    weight : ndarray, shape (n,), float32
    rank : ndarray, shape (n,), int16
    """

    sources: tuple[Source, ...]
    kind: np.ndarray
    anchor: np.ndarray
    given: Mapping[str, np.ndarray]
    shared: tuple[str, ...]
    hop: np.ndarray
    similarity: np.ndarray
    weight: np.ndarray
    rank: np.ndarray

    def __len__(self) -> int:
        return len(self.kind)

    def take(self, chosen: np.ndarray) -> PairTable:
        """Some of the rows, by number or mask."""
        given = {name: references[chosen] for name, references in self.given.items()}
        return replace(self, given=given, **{name: getattr(self, name)[chosen] for name in COLUMNS})

    def carries(self, name: str) -> np.ndarray:
        """Which rows have a modality, or for ``label`` a labelled anchor: bool, shape (n,)."""
        if name == LABEL:
            return self.column(LABEL) >= 0
        if name not in self.given:
            return np.zeros(len(self), dtype=bool)
        return np.asarray(self.given[name][:, 0] >= 0)

    def column(self, name: str) -> np.ndarray:
        """A coded column of the anchors' stores, int32; codes of different stores differ."""
        codes = np.full(len(self), -1, dtype=np.int32)
        for mine, rows, source in self._by_source():
            codes[mine] = source.store.column(name)[rows]
        return codes

    def texts(self, name: str) -> np.ndarray:
        """Texts of a coded column of the anchors, empty where unknown: objects, shape (n,)."""
        texts = np.full(len(self), "", dtype=object)
        for mine, rows, source in self._by_source():
            names = np.array([*source.store.names(name), ""], dtype=object)
            texts[mine] = names[source.store.column(name)[rows]]
        return texts

    def values(self, name: str) -> np.ndarray:
        """A column of the anchors' sample tables: objects, shape (n,), None where unknown."""
        values = np.full(len(self), None, dtype=object)
        for mine, rows, source in self._by_source():
            table = source.store.samples()
            if name in table.column_names:
                known = table[name].take(pa.array(rows)).to_pylist()
                values[mine] = np.array(known, dtype=object)
        return values

    @property
    def anchor_uid(self) -> np.ndarray:
        """Uid of each row's anchor: objects, shape (n,)."""
        uids = np.empty(len(self), dtype=object)
        for mine, rows, source in self._by_source():
            uids[mine] = source.uid[rows]
        return uids

    @property
    def place(self) -> str:
        """Paths of the stores, for messages."""
        return " and ".join(str(source.store.path) for source in self.sources)

    def _by_source(self) -> Iterator[tuple[np.ndarray, np.ndarray, Source]]:
        """Rows of each source's anchors, and the rows of the source that are these anchors."""
        for code, source in enumerate(self.sources):
            mine = np.flatnonzero(self.anchor[:, 0] == code)
            if len(mine):
                yield mine, self.anchor[mine, 1], source


def open_source(store: Dataset, source_id: str) -> Source:
    """Read the uids of a store.

    Raises
    ------
    IntegrityError
        The sample table is not that of the store.
    """
    table = store.samples()
    if "uid" not in table.column_names or table.num_rows != len(store):
        raise IntegrityError(
            cannot="read a store",
            problem="another table",
            at=store.path / SAMPLES,
            expected=f"{len(store)} rows with a uid each",
            got=f"{table.num_rows} rows of {', '.join(table.column_names)}",
            fix=STEP,
        )
    return Source(source_id, store, np.array(table["uid"].to_pylist()))


def bound_rows(bound: BoundDataset, sources: Sequence[Source]) -> PairTable:
    """The rows of a bound store, over its sources in their order.

    Raises
    ------
    IntegrityError
        The table of pairs lacks a column, or refers to samples that its sources do not have.
    """
    table = bound.pairs()
    needed = [f"{name}.{part}" for name in bound.info.modalities for part in ("source", "row")]
    lacking = sorted({*FIXED_COLUMNS, *needed} - set(table.column_names))
    if lacking:
        raise _bad_pairs(bound, f"no column {', '.join(lacking)}")
    codes = {source.source_id: code for code, source in enumerate(sources)}
    row_of = [{uid: row for row, uid in enumerate(source.uid.tolist())} for source in sources]
    names, uids = (table[name].to_pylist() for name in ("anchor_source", "anchor_uid"))
    if not set(names) <= codes.keys():
        raise _bad_pairs(bound, "an anchor of an unknown source")
    code = [codes[name] for name in names]
    row = [row_of[source].get(uid, -1) for source, uid in zip(code, uids, strict=True)]
    anchor = np.array([code, row], dtype=np.int64).T
    given = {}
    for name in bound.info.modalities:
        source_code = [codes.get(one, -1) for one in table[f"{name}.source"].to_pylist()]
        rows = table[f"{name}.row"].fill_null(-1).to_numpy().astype(np.int64)
        given[name] = np.stack([np.array(source_code, dtype=np.int64), rows], axis=1)
    sizes = np.array([*(len(source.uid) for source in sources), 0])  # the last is that of dummies
    fits = all((one[:, 1] < np.maximum(sizes[one[:, 0]], 0)).all() for one in given.values())
    if anchor[:, 1].min(initial=0) < 0 or not fits:
        raise _bad_pairs(bound, "a sample that its source does not have")
    kinds = {name: number for number, name in enumerate(KINDS)}
    return PairTable(
        sources=tuple(sources),
        kind=np.array([kinds[one] for one in table["kind"].to_pylist()], dtype=np.int8),
        anchor=anchor,
        given=given,
        shared=bound.info.shared,
        hop=table["hop"].to_numpy().astype(np.int16),
        similarity=table["similarity"].to_numpy(zero_copy_only=False).astype(np.float32),
        weight=table["weight"].to_numpy().astype(np.float32),
        rank=table["rank"].to_numpy().astype(np.int16),
    )


def _bad_pairs(bound: BoundDataset, got: str) -> IntegrityError:
    return IntegrityError(
        cannot="read a bound store",
        problem="another table",
        at=bound.path / PAIRS,
        expected="the pairs that mmbind bind wrote",
        got=got,
        fix=STEP,
    )


def pairs_table(rows: PairTable) -> pa.Table:
    """The table of pairs as it is stored.

    Returns
    -------
    pyarrow.Table
        The fixed columns, then ``<m>.source``, ``<m>.row``, ``<m>.uid`` for each modality.
    """
    names = pa.array([source.source_id for source in rows.sources])
    bound = rows.kind != INCOMPLETE
    columns: dict[str, pa.Array] = {
        "row": pa.array(np.arange(len(rows))),
        "kind": _coded(rows.kind, pa.array(KINDS)),
        "anchor_source": _coded(rows.anchor[:, 0], names),
        "anchor_uid": pa.array(rows.anchor_uid, type=pa.string()),
        "shared": _coded(np.where(bound, rows.hop, -1), pa.array(rows.shared)),
        "similarity": pa.array(rows.similarity, type=pa.float32(), mask=np.isnan(rows.similarity)),
        "weight": pa.array(rows.weight, type=pa.float32()),
        "rank": pa.array(rows.rank),
        "hop": pa.array(rows.hop),
        "split": _coded(np.zeros(len(rows), dtype=np.int32), pa.array(["train"])),
    }
    for name, given in rows.given.items():
        dummy = given[:, 0] < 0
        uids = np.full(len(rows), "", dtype=object)
        for code, source in enumerate(rows.sources):
            mine = given[:, 0] == code
            uids[mine] = source.uid[given[mine, 1]]
        columns[f"{name}.source"] = _coded(given[:, 0], names)
        columns[f"{name}.row"] = pa.array(given[:, 1], mask=dummy)
        columns[f"{name}.uid"] = pa.array(uids, type=pa.string(), mask=dummy)
    return pa.table(columns).unify_dictionaries()


def bound_digest(
    shared: Sequence[str],
    binder: Sequence[BinderInfo],
    sources: Sequence[SourceInfo],
    table: pa.Table,
    *,
    row_numbers: bool = False,
) -> str:
    """Content digest of a bound store: how it was bound, its sources' digests, its table.

    Parameters
    ----------
    shared, binder, sources
        As in the store's attributes.
    table : pyarrow.Table
        The table of pairs.
    row_numbers : bool
        Include the row numbers of the sources, as mmbind 0.1 did. Uids carry the same information
        and do not change when a source is cut down for a bundle or converted again: without row
        numbers the digest is the same for a linked, self-contained, index-only or hydrated store.
    """
    if not row_numbers:
        chosen = [name for name in table.column_names if not name.endswith(".row")]
        table = table.select(chosen)
    facts = {
        "shared": list(shared),
        "binder": [one.model_dump(mode="json") for one in binder],
        "sources": [source.content_digest for source in sources],
    }
    return content_digest([f"facts {canonical_json(facts)}", table_line(PAIRS, table.to_pydict())])


def _coded(codes: np.ndarray, names: pa.Array) -> pa.Array:
    """Texts by code; a negative code is null."""
    indices = pa.array(np.maximum(codes, 0).astype(np.int32), mask=codes < 0)
    return pa.DictionaryArray.from_arrays(indices, names)
