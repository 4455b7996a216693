"""Which raw recordings samples were cut from: the same one must not be met twice.

A uid names a sample as one conversion made it. Converted twice, with other options or under another
name, one recording has two uids; the digest of its raw file stays.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import pyarrow as pa

from .layout import RAW_FILES, Bound, Store, read_table

COLUMNS = ("uid", "recording", "dataset", "subject", "placement")
Owner = tuple[str, str | None, str | None]  # dataset, subject, placement


@dataclass(frozen=True)
class Seen:
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

    def common(self, other: Seen) -> int:
        """Number of recordings that both were cut from.

        Subjects and placements of one dataset that share a raw file are told apart by name; between
        datasets, and without names, a raw file is one recording.
        """
        return sum(
            any(_same(one, two) for one in self.recordings[name] for two in other.recordings[name])
            for name in self.recordings.keys() & other.recordings.keys()
        )


def _same(one: Owner, two: Owner) -> bool:
    alike = (a is None or b is None or a == b for a, b in zip(one[1:], two[1:], strict=True))
    return one[0] != two[0] or all(alike)


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
        **{
            name: samples[name].to_pylist() if name in names else nothing
            for name in ("subject", "placement")
        },
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
    recordings: dict[str, set[Owner]] = {}
    columns = (table[name].to_pylist() for name in COLUMNS[1:])
    for recording, *owner in set(zip(*columns, strict=True)):
        if recording is not None:
            dataset, subject, placement = owner
            recordings.setdefault(recording, set()).add((dataset, subject, placement))
    kept = {name: frozenset(owners) for name, owners in recordings.items()}
    return Seen(frozenset(table["uid"].to_pylist()), kept)
