"""What two stores hold that differs: samples and values, or rows, partners and weights.

Chunks, row numbers, paths and modes do not count: only what a training would see.
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
from mmbind_data.spec.store import BOUND_SPEC, DATASET_SPEC
from mmbind_data.store.bound import BoundDataset, open_store
from mmbind_data.store.dataset import READ_BYTES, Dataset

# a training row is named by what it is about and by the binding that made it
ROW_NAME = ("kind", "anchor_uid", "shared", "hop", "rank")
ROW_VALUES = ("similarity", "weight", "split")
BOUND_FACTS = ("shared", "modalities", "binder")
STORE_FACTS = ("dataset_id", "dataset_version", "preset", "licence")
EXAMPLES = 3


@dataclass(frozen=True)
class Difference:
    """One kind of difference: where, what, and what either store has there."""

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
        Empty where both hold the same.

    Raises
    ------
    FormatError
        No store there, or stores of different kinds.
    """
    first, second = open_store(a), open_store(b)
    if isinstance(first, BoundDataset) and isinstance(second, BoundDataset):
        return list(_compare_bound(first, second))
    if isinstance(first, Dataset) and isinstance(second, Dataset):
        return list(_compare_stores(first, second))
    names = [
        BOUND_SPEC if isinstance(one, BoundDataset) else DATASET_SPEC for one in (first, second)
    ]
    raise FormatError(
        cannot="compare stores",
        problem="stores of different kinds",
        at=f"{a} and {b}",
        expected=names[0],
        got=names[1],
    )


def logical_rows(table: pa.Table, modalities: tuple[str, ...]) -> dict[tuple[Any, ...], Any]:
    """Rows of a table of pairs by their name; values are what a training would see.

    A name that several rows bear gets a number.
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
    """What only one of them has."""
    for own, other, turn in ((a, b, True), (b, a, False)):
        alone = [name for name in own if name not in other]
        if alone:
            told = f"{len(alone)}: {_examples(alone)}"
            yield Difference(where, f"{what} in {'A' if turn else 'B'} only",
                             told if turn else "0", "0" if turn else told)  # fmt: skip


def _compare_bound(a: BoundDataset, b: BoundDataset) -> Iterator[Difference]:
    yield from _compare_facts(a.info, b.info, BOUND_FACTS)
    sources = [
        {one.source_id: one.content_digest for one in bound.info.sources} for bound in (a, b)
    ]
    yield from _compare_names("sources", "sources", *sources)
    for name in sources[0].keys() & sources[1].keys():
        if sources[0][name] != sources[1][name]:
            yield Difference(f"sources {name}", "content digest differs", sources[0][name][:12],
                             sources[1][name][:12])  # fmt: skip
    rows = [logical_rows(bound.pairs(), bound.info.modalities) for bound in (a, b)]
    yield from _compare_names("meta/pairs.parquet", "rows", *rows)
    common = [name for name in rows[0] if name in rows[1]]
    columns = sorted({key for name in common for key in (*rows[0][name], *rows[1][name])})
    for column in columns:
        changed = [one for one in common if rows[0][one].get(column) != rows[1][one].get(column)]
        if changed:
            first = changed[0]
            what = f"{len(changed)} rows differ, the first about {first[1]}"
            yield Difference(f"meta/pairs.parquet {column}", what, str(rows[0][first].get(column)),
                             str(rows[1][first].get(column)))  # fmt: skip


def _compare_stores(a: Dataset, b: Dataset) -> Iterator[Difference]:
    yield from _compare_facts(a.info, b.info, STORE_FACTS)
    yield from _compare_names("modalities", "modalities", a.info.modalities, b.info.modalities)
    tables = [store.samples() for store in (a, b)]
    place = [{uid: row for row, uid in enumerate(one["uid"].to_pylist())} for one in tables]
    yield from _compare_names("meta/samples.parquet", "samples", *place)
    common = [uid for uid in place[0] if uid in place[1]]
    rows = [np.array([one[uid] for uid in common], dtype=np.int64) for one in place]
    for column in (name for name in tables[0].column_names if name in tables[1].column_names):
        if column == "row" or column == "label":  # codes of a store: label_text is compared
            continue
        values = [
            t[column].take(pa.array(r)).to_pylist() for t, r in zip(tables, rows, strict=True)
        ]
        changed = [n for n, (one, other) in enumerate(zip(*values, strict=True)) if one != other]
        if changed:
            what = f"{len(changed)} samples differ, the first {common[changed[0]]}"
            yield Difference(f"meta/samples.parquet {column}", what,
                             *(str(one[changed[0]]) for one in values))  # fmt: skip
    columns = [set(table.column_names) for table in tables]
    yield from _compare_names("meta/samples.parquet", "columns",
                              *(dict.fromkeys(sorted(one)) for one in columns))  # fmt: skip
    for name in (one for one in a.info.modalities if one in b.info.modalities):
        yield from _compare_modality(a, b, name, common, rows)


def _compare_modality(
    a: Dataset, b: Dataset, name: str, common: list[str], rows: list[np.ndarray]
) -> Iterator[Difference]:
    where = f"modalities/{name}"
    kinds = [store.info.modalities[name] for store in (a, b)]
    if kinds[0] != kinds[1]:
        yield Difference(where, "description differs", _short(kinds[0].model_dump(mode="json")),
                         _short(kinds[1].model_dump(mode="json")))  # fmt: skip
        return
    present = [store.present(name)[chosen] for store, chosen in zip((a, b), rows, strict=True)]
    changed = np.flatnonzero(present[0] != present[1])
    if len(changed):
        what = f"{len(changed)} samples, the first {common[changed[0]]}"
        told = ["there" if one[changed[0]] else "absent" for one in present]
        yield Difference(f"{where}/valid", what, *told)
    both = np.flatnonzero(present[0] & present[1])
    step = max(1, READ_BYTES // (4 * int(np.prod(kinds[0].shape))))
    n, first = 0, -1
    for start in range(0, len(both), step):
        block = both[start : start + step]
        for place in block[_unequal(a, b, name, [r[block] for r in rows])].tolist():
            n, first = n + 1, place if first < 0 else first
    if n:
        what = f"values of {n} samples differ, the first {common[first]}"
        yield Difference(f"{where}/data", what,
                         f"row {rows[0][first]}", f"row {rows[1][first]}")  # fmt: skip


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
