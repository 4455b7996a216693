"""Which samples of a source the table of pairs names, and a digest of what they hold."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .integrity import canonical_json, content_digest
from .layout import READ_BYTES, Store
from .points import Clouds


def named_uids(table: pa.Table, modalities: Sequence[str], source_id: str) -> dict[str, pa.Array]:
    """Uids of a source's samples, each once, by the modality that rows take from them.

    Parameters
    ----------
    table : pyarrow.Table
        The table of pairs.
    modalities : sequence of str
        Of the bound store.
    source_id : str

    Returns
    -------
    dict of modality to pyarrow.Array of str
        Modalities that no row takes from the source are left out; ``""`` names the anchors.
    """
    columns = {"": ("anchor_source", "anchor_uid")}
    columns |= {name: (f"{name}.source", f"{name}.uid") for name in modalities}
    found = {}
    for name, (source, uid) in columns.items():
        mine = pc.equal(table[source].cast(pa.string()), source_id)
        uids = table[uid].filter(mine).cast(pa.string()).unique()
        if len(uids):
            found[name] = uids.combine_chunks() if isinstance(uids, pa.ChunkedArray) else uids
    return found


def rows_of(store: Store, uids: pa.Array) -> np.ndarray:
    """Rows of a store that hold samples of these uids: int64, in their order, -1 = none."""
    known = store.samples()["uid"].cast(pa.string()).combine_chunks()
    found = pc.index_in(uids, value_set=known).fill_null(-1)
    return np.asarray(found.to_numpy(zero_copy_only=False), dtype=np.int64)


def named_rows(store: Store, named: Mapping[str, pa.Array]) -> np.ndarray:
    """Rows of a store that the table of pairs names, each once, ascending: int64, (n,)."""
    rows = [rows_of(store, uids) for uids in named.values()]
    return np.unique(np.concatenate([np.empty(0, dtype=np.int64), *rows]))


def sample_digest(store: Store, named: Mapping[str, pa.Array]) -> str:
    """Digest of the samples that rows name: their values by uid, wherever they lie.

    Two stores that hold these samples alike have one digest, whatever else they hold and in what
    order; so a local conversion is recognised as the source that was bound.

    Parameters
    ----------
    store : Store
        Holds all of them.
    named : mapping of modality to pyarrow.Array of str
        See `named_uids`.
    """
    lines = []
    for name in sorted(set(named) - {""}):
        uids = named[name].to_pylist()
        rows = rows_of(store, named[name])
        order = np.argsort(rows, kind="stable")
        hashes = _row_hashes(store, name, rows[order])
        told = sorted(
            f"{uids[one]} {text}" for one, text in zip(order.tolist(), hashes, strict=True)
        )
        digest = hashlib.sha256("\n".join(told).encode()).hexdigest()
        # what later versions of the specification add is left out as long as it is not used
        facts = store.info.modalities[name].model_dump(mode="json", exclude_defaults=True)
        lines.append(f"samples {name} {canonical_json(facts)} {len(told)} {digest}")
    return content_digest(lines)


def _row_hashes(store: Store, modality: str, rows: np.ndarray) -> list[str]:
    """Hex sha256 of each row's values, rows ascending, a bounded number of them at one go."""
    described = store.info.modalities[modality]
    step = max(1, READ_BYTES // (4 * int(np.prod(described.shape))))
    load = store.load_points if described.ragged else store.load
    hashes = []
    for start in range(0, len(rows), step):
        values = load(modality, rows[start : start + step])
        hashes += [hashlib.sha256(one).hexdigest() for one in _as_bytes(values)]
    return hashes


def _as_bytes(values: np.ndarray | Clouds) -> list[bytes]:
    """Canonical bytes of each sample."""
    if isinstance(values, Clouds):
        ends = np.concatenate([[0], np.cumsum(values.frame_offsets[:, -1])])
        points = values.values.astype("<f4")
        return [
            frames.astype("<i8").tobytes() + points[ends[i] : ends[i + 1]].tobytes()
            for i, frames in enumerate(values.frame_offsets)
        ]
    return [one.tobytes() for one in np.ascontiguousarray(values, dtype="<f4")]
