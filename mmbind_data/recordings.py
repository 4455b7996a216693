"""Which raw recordings samples were cut from: the same one must not be met twice.

A uid names a sample as one conversion made it. Converted twice, with other options or under another
name, one recording has two uids; the digest of its raw file stays.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import pyarrow as pa

from .layout import RAW_FILES, Bound, Store, read_table

COLUMNS = ("uid", "recording", "dataset", "subject")


@dataclass(frozen=True)
class Seen:
    """Samples, and the recordings that they were cut from.

    Attributes
    ----------
    uids : frozenset of str
    recordings : mapping of str to frozenset of (str, str or None)
        From the sha256 of a raw file to the dataset and the subject of what was cut from it.
    """

    uids: frozenset[str]
    recordings: Mapping[str, frozenset[tuple[str, str | None]]]

    def common(self, other: Seen) -> int:
        """Number of recordings that both were cut from.

        Subjects of one dataset that share a raw file are told apart by name; between datasets, and
        without names, a raw file is one recording.
        """
        return sum(
            any(
                one[0] != two[0] or one[1] is None or two[1] is None or one[1] == two[1]
                for one in self.recordings[name]
                for two in other.recordings[name]
            )
            for name in self.recordings.keys() & other.recordings.keys()
        )


def seen_table(store: Store, uids: Collection[str] | None = None) -> pa.Table:
    """What `Seen` is made of: one row per sample with the columns `COLUMNS`.

    Parameters
    ----------
    store : Store
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
        "subject": samples["subject"].to_pylist() if "subject" in names else nothing,
    }
    table = pa.table({name: pa.array(found[name], pa.string()) for name in COLUMNS})
    if uids is None:
        return table
    wanted = set(uids)
    return table.filter(pa.array([uid in wanted for uid in found["uid"]], pa.bool_()))


def seen_of_bound(bound: Bound) -> dict[str, pa.Table]:
    """`seen_table` of each source, of the samples that the rows name; a source may hold more."""
    import pyarrow.compute as pc

    pairs, found = bound.pairs(), {}
    for source in bound.info.sources:
        uids = set[str]()
        for name in bound.info.modalities:
            own = pc.equal(pairs[f"{name}.source"], source.source_id)
            uids |= set(pairs[f"{name}.uid"].filter(own).to_pylist())
        found[source.source_id] = seen_table(bound.source(source.source_id), uids)
    return found


def seen(table: pa.Table) -> Seen:
    """Read a table of `seen_table`, or several put together."""
    recordings: dict[str, set[tuple[str, str | None]]] = {}
    columns = (table[name].to_pylist() for name in COLUMNS[1:])
    for recording, dataset, subject in set(zip(*columns, strict=True)):
        if recording is not None:
            recordings.setdefault(recording, set()).add((dataset, subject))
    kept = {name: frozenset(owners) for name, owners in recordings.items()}
    return Seen(frozenset(table["uid"].to_pylist()), kept)
