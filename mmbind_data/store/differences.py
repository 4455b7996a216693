"""Differences between two stores: of samples and values, or of rows, partners and weights.

Chunks, row numbers, paths and modes are not compared: only the content that a training would see.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mmbind_data.errors import FormatError
from mmbind_data.signal.point_clouds import RaggedPoints
from mmbind_data.store.bound import BoundDataset, open_store
from mmbind_data.store.dataset import READ_BYTES, Dataset

# a training row is identified by its anchor and by the binding that made it
ROW_NAME = ("kind", "anchor_uid", "shared", "hop", "rank")
ROW_VALUES = ("similarity", "weight", "split")
BOUND_FACTS = ("shared", "modalities", "binder")
STORE_FACTS = ("dataset_id", "dataset_version", "preset", "licence")
EXAMPLES = 3


@dataclass(frozen=True)
class Difference:
    """One kind of difference: where, what, and the content of either store."""

    where: str
    what: str
    a: str
    b: str


def diff(a: str | Path, b: str | Path) -> list[Difference]:
    """Compare two stores of one kind.

    Parameters
    ----------
    a, b : path
        Two converted stores, two bound stores, or bundles of such.

    Returns
    -------
    list of Difference
        Empty if both have the same content.

    Raises
    ------
    FormatError
        No store, or stores of different kinds.

    Examples
    --------
    >>> diff("utd-mhad.zarr", "partition.zarr")  # doctest: +SKIP
    [Difference(where='modalities', what='modalities in A only', a='1: gyro', b='0')]
    """
    first, second = open_store(a), open_store(b)
    if isinstance(first, BoundDataset) and isinstance(second, BoundDataset):
        return list(_compare_bound(first, second))
    if isinstance(first, Dataset) and isinstance(second, Dataset):
        return list(_compare_stores(first, second))
    cannot, what, at = "compare stores", "stores of different kinds", f"{a} and {b}"
    expected, got = first.info.spec, second.info.spec
    raise FormatError(cannot=cannot, problem=what, at=at, expected=expected, got=got)


def logical_rows(table: pa.Table, modalities: tuple[str, ...]) -> dict[tuple[Any, ...], Any]:
    """Rows of a table of pairs by their name; the values are those that a training would see.

    The names of rows that share one are numbered.
    """
    names = list(zip(*(table[name].to_pylist() for name in ROW_NAME), strict=True))
    columns = [*ROW_VALUES, *(f"{name}.uid" for name in modalities)]
    values = list(zip(*(table[name].to_pylist() for name in columns), strict=True))
    seen: dict[tuple[Any, ...], int] = {}
    rows = {}
    for name, value in zip(names, values, strict=True):
        seen[name] = seen.get(name, 0) + 1
        # modalities without a sample are left out: one more column of dummies changes nothing
        given = {key: one for key, one in zip(columns, value, strict=True) if one is not None}
        rows[(*name, seen[name])] = given
    return rows


def _compare_facts(a: Any, b: Any, names: tuple[str, ...]) -> Iterator[Difference]:
    for name in names:
        one, other = (info.model_dump(mode="json")[name] for info in (a, b))
        if one != other:
            yield Difference(f"zarr.json {name}", "attribute differs", _short(one), _short(other))


def _compare_names(
    where: str, what: str, a: Mapping[Any, Any], b: Mapping[Any, Any]
) -> Iterator[Difference]:
    """Names that only one of them has."""
    if alone := [name for name in a if name not in b]:
        yield Difference(where, f"{what} in A only", f"{len(alone)}: {_examples(alone)}", "0")
    if alone := [name for name in b if name not in a]:
        yield Difference(where, f"{what} in B only", "0", f"{len(alone)}: {_examples(alone)}")


def _compare_bound(a: BoundDataset, b: BoundDataset) -> Iterator[Difference]:
    yield from _compare_facts(a.info, b.info, BOUND_FACTS)
    sources = [
        {one.source_id: one.content_digest for one in bound.info.sources} for bound in (a, b)
    ]
    yield from _compare_names("sources", "sources", *sources)
    for name in sources[0].keys() & sources[1].keys():
        digests = [one[name][:12] for one in sources]
        if sources[0][name] != sources[1][name]:
            yield Difference(f"sources {name}", "content digest differs", *digests)
    rows = [logical_rows(bound.pairs(), bound.info.modalities) for bound in (a, b)]
    yield from _compare_names("meta/pairs.parquet", "rows", *rows)
    common = [name for name in rows[0] if name in rows[1]]
    columns = sorted({key for name in common for key in (*rows[0][name], *rows[1][name])})
    for column in columns:
        changed = [one for one in common if rows[0][one].get(column) != rows[1][one].get(column)]
        if changed:
            first = changed[0]
            what = f"{len(changed)} rows differ, the first about {first[1]}"
            cells = [str(one[first].get(column)) for one in rows]
            yield Difference(f"meta/pairs.parquet {column}", what, *cells)


def _compare_stores(a: Dataset, b: Dataset) -> Iterator[Difference]:
    yield from _compare_facts(a.info, b.info, STORE_FACTS)
    yield from _compare_names("modalities", "modalities", a.info.modalities, b.info.modalities)
    tables = [store.samples() for store in (a, b)]
    place = [{uid: row for row, uid in enumerate(one["uid"].to_pylist())} for one in tables]
    yield from _compare_names("meta/samples.parquet", "samples", *place)
    common = [uid for uid in place[0] if uid in place[1]]
    rows = [np.array([one[uid] for uid in common], dtype=np.int64) for one in place]
    for column in (name for name in tables[0].column_names if name in tables[1].column_names):
        if column in ("row", "label"):  # codes of a store: label_text is compared
            continue
        values = [
            t[column].take(pa.array(r)).to_pylist() for t, r in zip(tables, rows, strict=True)
        ]
        changed = [n for n, (one, other) in enumerate(zip(*values, strict=True)) if one != other]
        if changed:
            what = f"{len(changed)} samples differ, the first {common[changed[0]]}"
            cells = [str(one[changed[0]]) for one in values]
            yield Difference(f"meta/samples.parquet {column}", what, *cells)
    columns = [dict.fromkeys(sorted(table.column_names)) for table in tables]
    yield from _compare_names("meta/samples.parquet", "columns", *columns)
    for name in (one for one in a.info.modalities if one in b.info.modalities):
        yield from _compare_modality(a, b, name, common, rows)


def _compare_modality(
    a: Dataset, b: Dataset, name: str, common: list[str], rows: list[np.ndarray]
) -> Iterator[Difference]:
    where = f"modalities/{name}"
    kinds = [store.info.modalities[name] for store in (a, b)]
    if kinds[0] != kinds[1]:
        described = [_short(kind.model_dump(mode="json")) for kind in kinds]
        yield Difference(where, "description differs", *described)
        return
    present = [store.present(name)[chosen] for store, chosen in zip((a, b), rows, strict=True)]
    changed = np.flatnonzero(present[0] != present[1])
    if len(changed):
        what = f"{len(changed)} samples, the first {common[changed[0]]}"
        states = ["there" if mask[changed[0]] else "absent" for mask in present]
        yield Difference(f"{where}/valid", what, *states)
    both = np.flatnonzero(present[0] & present[1])
    step = max(1, READ_BYTES // (4 * int(np.prod(kinds[0].shape))))
    n, first = 0, -1
    for start in range(0, len(both), step):
        block = both[start : start + step]
        for place in block[_unequal(a, b, name, [r[block] for r in rows])].tolist():
            n, first = n + 1, place if first < 0 else first
    if n:
        what = f"values of {n} samples differ, the first {common[first]}"
        yield Difference(f"{where}/data", what, *(f"row {chosen[first]}" for chosen in rows))


def _unequal(a: Dataset, b: Dataset, name: str, rows: list[np.ndarray]) -> np.ndarray:
    """Which of some samples differ: bool, shape (n,)."""
    ragged = a.info.modalities[name].ragged
    values: list[Any] = [
        store.load_points(name, chosen) if ragged else store.load(name, chosen)
        for store, chosen in zip((a, b), rows, strict=True)
    ]
    if not ragged:
        flat = [one.reshape(len(one), -1) for one in values]
        return np.asarray((flat[0] != flat[1]).any(axis=1))
    samples = [_split(one) for one in values]
    return np.array([one != other for one, other in zip(*samples, strict=True)], dtype=bool)


def _split(clouds: RaggedPoints) -> list[tuple[bytes, bytes]]:
    ends = np.concatenate([[0], np.cumsum(clouds.frame_offsets[:, -1])])
    return [
        (frames.tobytes(), clouds.values[ends[i] : ends[i + 1]].tobytes())
        for i, frames in enumerate(clouds.frame_offsets)
    ]


def _examples(names: list[Any]) -> str:
    texts = [" ".join(map(str, one)) if isinstance(one, tuple) else str(one) for one in names]
    return ", ".join(texts[:EXAMPLES]) + (", ..." if len(texts) > EXAMPLES else "")


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
