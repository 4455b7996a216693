"""The table of pairs: which sample of which source gives each modality of each training row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from .integrity import canonical_json, content_digest, table_line
from .layout import PAIRS, Store
from .similarity import Matches
from .spec import BinderInfo, SourceInfo

FIXED_COLUMNS = (
    "row", "kind", "anchor_source", "anchor_uid", "shared", "similarity", "weight", "rank", "hop",
    "split",
)  # fmt: skip


@dataclass(frozen=True)
class Side:
    """One of the two datasets that are bound, its tables read once.

    Attributes
    ----------
    source_id : str
    store : Store
    uid : ndarray of str, shape (n,)
    present : mapping of modality to ndarray of bool, shape (n,)
    usable : ndarray of int, shape (k,)
        Rows that carry the shared modality, ascending.
    """

    source_id: str
    store: Store
    uid: np.ndarray
    present: dict[str, np.ndarray]
    usable: np.ndarray


@dataclass(frozen=True)
class Rows:
    """Training rows of one kind: for each modality the source and row that give it, -1 = dummy."""

    kind: str
    anchor: Side
    anchor_rows: np.ndarray
    similarity: np.ndarray | None
    weight: np.ndarray
    given: dict[str, tuple[Side, np.ndarray]]


def open_side(store: Store, source_id: str, shared: str) -> Side:
    """Read what pairing needs of a store."""
    present = {name: store.present(name) for name in store.info.modalities}
    carries = store.column("label") >= 0 if shared == "label" else present[shared]
    uid = np.array(store.samples()["uid"].to_pylist())
    return Side(source_id, store, uid, present, np.flatnonzero(carries))


def union(sides: Sequence[Side]) -> list[str]:
    """Modalities of all sides, in the order of the first that has them."""
    return list(dict.fromkeys(name for side in sides for name in side.present))


def pseudo_rows(
    anchor: Side, partner: Side, matches: Matches, weight: np.ndarray, modalities: Sequence[str]
) -> Rows:
    """Anchors completed by their partners: what the anchor measured itself is never replaced.

    Notes
    -----
    Source: MMBind paper, section 5.1.2: X_Ap = (m_1^j, m_s^j, m_2^p_j, a_jp_j).
    """
    rows = anchor.usable
    matched = partner.usable[matches.partner]
    given = {}
    for name in modalities:
        side, index = (anchor, rows) if name in anchor.present else (partner, matched)
        given[name] = (side, np.where(side.present[name][index], index, -1))
    return Rows("pseudo", anchor, rows, matches.similarity, weight, given)


def incomplete_rows(side: Side, modalities: Sequence[str]) -> Rows:
    """The original samples of one side; what it does not measure is a dummy.

    Notes
    -----
    Source: MMBind paper, section 5.2.1: X~_A = (m_1, 0, m_s).
    """
    rows = np.arange(len(side.store))
    given = {
        name: (
            side,
            np.where(side.present[name], rows, -1)
            if name in side.present
            else np.full_like(rows, -1),
        )
        for name in modalities
    }
    return Rows("incomplete", side, rows, None, np.ones(len(rows), dtype=np.float32), given)


def assemble_pairs(parts: Sequence[Rows], shared: str) -> pa.Table:
    """Put all rows into one table, in the order given.

    Returns
    -------
    pyarrow.Table
        The fixed columns, then ``<m>.source``, ``<m>.row``, ``<m>.uid`` for each modality.
    """
    table = pa.concat_tables([_part_table(part, shared) for part in parts])
    row = pa.array(range(table.num_rows), type=pa.int64())
    return table.add_column(0, "row", row).unify_dictionaries()


def bound_digest(
    shared: Sequence[str],
    binder: Sequence[BinderInfo],
    sources: Sequence[SourceInfo],
    table: pa.Table,
) -> str:
    """Content digest of a bound store: how it was bound, its sources' digests, its table."""
    facts = {
        "shared": list(shared),
        "binder": [one.model_dump(mode="json") for one in binder],
        "sources": [source.content_digest for source in sources],
    }
    return content_digest([f"facts {canonical_json(facts)}", table_line(PAIRS, table.to_pydict())])


def _part_table(part: Rows, shared: str) -> pa.Table:
    n = len(part.anchor_rows)
    similarity = pa.nulls(n, pa.float32())
    if part.similarity is not None:
        similarity = pa.array(part.similarity, type=pa.float32())
    columns: dict[str, pa.Array] = {
        "kind": _repeat(part.kind, n),
        "anchor_source": _repeat(part.anchor.source_id, n),
        "anchor_uid": pa.array(part.anchor.uid[part.anchor_rows]),
        "shared": _repeat(shared, n),
        "similarity": similarity,
        "weight": pa.array(part.weight, type=pa.float32()),
        "rank": pa.array(np.zeros(n, dtype=np.int16)),
        "hop": pa.array(np.zeros(n, dtype=np.int16)),
        "split": _repeat("train", n),
    }
    for name, (side, rows) in part.given.items():
        dummy = rows < 0
        columns[f"{name}.source"] = _repeat(side.source_id, n, dummy)
        columns[f"{name}.row"] = pa.array(rows, mask=dummy)
        columns[f"{name}.uid"] = pa.array(side.uid[rows], mask=dummy)
    return pa.table(columns)


def _repeat(text: str, n: int, mask: np.ndarray | None = None) -> pa.Array:
    indices = pa.array(np.zeros(n, dtype=np.int32), mask=mask)
    return pa.DictionaryArray.from_arrays(indices, pa.array([text], type=pa.string()))
