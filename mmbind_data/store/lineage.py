"""Which raw recordings samples were cut from, so that none is used twice unnoticed.

A uid identifies a sample of one conversion. A recording that is converted twice, with other options
or under another name, has two uids, but the digest of its raw file is the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmbind_data.io.digests import canonical_json, content_digest
from mmbind_data.signal.point_clouds import RaggedPoints
from mmbind_data.store.bound import BoundDataset
from mmbind_data.store.dataset import RAW_FILES, READ_BYTES, Dataset, read_table

COLUMNS = ("uid", "recording", "dataset", "subject", "placement")
Owner = tuple[str, str | None, str | None]  # dataset, subject, placement


@dataclass(frozen=True)
class Lineage:
    """Samples, and the recordings that they were cut from.

    Attributes
    ----------
    uids : frozenset of str
    recordings : mapping of str to frozenset of (str, str or None, str or None)
        From the sha256 of a raw file to the dataset, the subject and the placement of what was cut
        from it.
    """

    uids: frozenset[str]
    recordings: Mapping[str, frozenset[Owner]]

    def common(self, other: Lineage) -> int:
        """Number of recordings that both were cut from.

        A raw file of one dataset may hold several subjects and placements, which are distinguished
        by name; between datasets, and without names, a raw file is one recording.
        """
        return sum(
            any(_same(one, two) for one in self.recordings[name] for two in other.recordings[name])
            for name in self.recordings.keys() & other.recordings.keys()
        )


def _same(one: Owner, two: Owner) -> bool:
    alike = (a is None or b is None or a == b for a, b in zip(one[1:], two[1:], strict=True))
    return one[0] != two[0] or all(alike)


def recording_table(store: Dataset, uids: Collection[str] | None = None) -> pa.Table:
    """The facts that a `Lineage` is made of: one row per sample with the columns `COLUMNS`.

    Parameters
    ----------
    store : Dataset
    uids : collection of str, optional
        Only these samples.

    Raises
    ------
    IntegrityError
        A table of the store is missing or broken.
    """
    samples, files = store.samples(), read_table(store.path / RAW_FILES)
    digests = dict(zip(files["path"].to_pylist(), files["sha256"].to_pylist(), strict=True))
    nothing = [None] * len(samples)
    names = samples.column_names
    found = {
        "uid": samples["uid"].to_pylist(),
        "recording": [
            digests.get(path)
            for path in (samples["raw_file"].to_pylist() if "raw_file" in names else nothing)
        ],
        "dataset": [store.info.dataset_id] * len(samples),
        **{
            name: samples[name].to_pylist() if name in names else nothing
            for name in ("subject", "placement")
        },
    }
    table = pa.table({name: pa.array(found[name], pa.string()) for name in COLUMNS})
    if uids is None:
        return table
    return table.filter(pc.is_in(table["uid"], pa.array(list(uids), pa.string())))


def recording_tables_of_bound(bound: BoundDataset) -> dict[str, pa.Table]:
    """`recording_table` of each source, of the samples that the rows name."""
    pairs, found = bound.pairs(), {}
    for source in bound.info.sources:
        uids = set[str]()
        for name in bound.info.modalities:
            own = pc.equal(pairs[f"{name}.source"], source.source_id)
            uids |= set(pairs[f"{name}.uid"].filter(own).to_pylist())
        found[source.source_id] = recording_table(bound.source(source.source_id), uids)
    return found


def recordings_of(store: Dataset | BoundDataset) -> pa.Table:
    """`recording_table` of the samples that a store holds, or that the rows of a bound one name."""
    if isinstance(store, BoundDataset):
        return pa.concat_tables(recording_tables_of_bound(store).values())
    return recording_table(store)


def lineage_of(table: pa.Table) -> Lineage:
    """The lineage of samples from a `recording_table`, or several concatenated."""
    recordings: dict[str, set[Owner]] = {}
    columns = (table[name].to_pylist() for name in COLUMNS[1:])
    for recording, *owner in set(zip(*columns, strict=True)):
        if recording is not None:
            dataset, subject, placement = owner
            recordings.setdefault(recording, set()).add((dataset, subject, placement))
    frozen = {name: frozenset(owners) for name, owners in recordings.items()}
    return Lineage(frozenset(table["uid"].to_pylist()), frozen)


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


def rows_of(store: Dataset, uids: pa.Array) -> np.ndarray:
    """Rows of a store that hold samples of these uids: int64, in their order, -1 = none."""
    known = store.samples()["uid"].cast(pa.string()).combine_chunks()
    found = pc.index_in(uids, value_set=known).fill_null(-1)
    return np.asarray(found.to_numpy(zero_copy_only=False), dtype=np.int64)


def named_rows(store: Dataset, named: Mapping[str, pa.Array]) -> np.ndarray:
    """Rows of a store that the table of pairs names, each once, ascending: int64, (n,)."""
    rows = [rows_of(store, uids) for uids in named.values()]
    return np.unique(np.concatenate([np.empty(0, dtype=np.int64), *rows]))


def sample_digest(store: Dataset, named: Mapping[str, pa.Array]) -> str:
    """Digest of the samples that rows refer to: their values by uid.

    Stores with equal values of these samples have the same digest, whatever else they hold and in
    whatever order; so a local conversion is recognised as the source that was bound.

    Parameters
    ----------
    store : Dataset
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
        samples = sorted(
            f"{uids[row]} {text}" for row, text in zip(order.tolist(), hashes, strict=True)
        )
        digest = hashlib.sha256("\n".join(samples).encode()).hexdigest()
        # fields that later versions of the specification add are left out while they are unused
        facts = store.info.modalities[name].model_dump(mode="json", exclude_defaults=True)
        lines.append(f"samples {name} {canonical_json(facts)} {len(samples)} {digest}")
    return content_digest(lines)


def _row_hashes(store: Dataset, modality: str, rows: np.ndarray) -> list[str]:
    """Hex sha256 of each row's values; rows ascend, and a bounded number is read at a time."""
    described = store.info.modalities[modality]
    step = max(1, READ_BYTES // (4 * int(np.prod(described.shape))))
    load = store.load_points if described.ragged else store.load
    hashes = []
    for start in range(0, len(rows), step):
        values = load(modality, rows[start : start + step])
        hashes += [hashlib.sha256(one).hexdigest() for one in _as_bytes(values)]
    return hashes


def _as_bytes(values: np.ndarray | RaggedPoints) -> list[bytes]:
    """Canonical bytes of each sample."""
    if isinstance(values, RaggedPoints):
        ends = np.concatenate([[0], np.cumsum(values.frame_offsets[:, -1])])
        points = values.values.astype("<f4")
        return [
            frames.astype("<i8").tobytes() + points[ends[i] : ends[i + 1]].tobytes()
            for i, frames in enumerate(values.frame_offsets)
        ]
    return [one.tobytes() for one in np.ascontiguousarray(values, dtype="<f4")]
