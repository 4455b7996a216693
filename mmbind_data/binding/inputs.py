"""Open what is to be bound: converted and bound stores, and the rows that each brings along."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np

from mmbind_data.binding.completion import original_rows
from mmbind_data.errors import BindingError, UsageError, suggest
from mmbind_data.io.locations import locate
from mmbind_data.store.bound import BoundDataset, open_store
from mmbind_data.store.dataset import Dataset
from mmbind_data.store.lineage import lineage_of, recordings_of
from mmbind_data.store.pair_table import PairTable, bound_rows, open_source


def open_inputs(
    inputs: Sequence[str | Path], sources: Mapping[str, str | Path] | None = None
) -> list[Dataset | BoundDataset]:
    """Open converted and bound stores.

    Raises
    ------
    UsageError
        A place is given for a source that no input has.
    FormatError
    """
    opened, unused = [], dict(sources or {})
    for path in inputs:
        store = open_store(path)
        if isinstance(store, BoundDataset):
            own = {one.source_id for one in store.info.sources}
            for name in own:
                unused.pop(name, None)
            overrides = {name: locate(at) for name, at in (sources or {}).items() if name in own}
            store = replace(store, overrides=overrides)
        opened.append(store)
    if unused:
        known = [one.source_id for store in opened if isinstance(store, BoundDataset)
                 for one in store.info.sources]  # fmt: skip
        raise UsageError(
            cannot="bind",
            problem="unknown source",
            at="--source",
            expected="a source of a bound input",
            got=repr(next(iter(unused))),
            fix=suggest(next(iter(unused)), known),
        )
    return opened


def open_rows(opened: Sequence[Dataset | BoundDataset]) -> list[PairTable]:
    """Rows of each input, its sources named so that no name occurs twice."""
    groups = [
        [store.source(one.source_id) for one in store.info.sources]
        if isinstance(store, BoundDataset)
        else [store]
        for store in opened
    ]
    names = iter(_source_ids([store for group in groups for store in group]))
    sides = []
    for store, group in zip(opened, groups, strict=True):
        if isinstance(store, BoundDataset):
            sources = [
                open_source(one, source.source_id)
                for one, source in zip(group, store.info.sources, strict=True)
            ]
            rows = bound_rows(store, sources)
        else:
            rows = original_rows(open_source(group[0], ""))
        renamed = tuple(replace(source, source_id=next(names)) for source in rows.sources)
        sides.append(replace(rows, sources=renamed))
    return sides


def _source_ids(stores: Sequence[Dataset]) -> list[str]:
    """Short unique names: the dataset's id, with the node's where several come from one dataset."""
    ids = [store.info.dataset_id for store in stores]
    if len(set(ids)) < len(ids):
        ids = [
            name
            if ids.count(name) == 1
            else f"{name}-{part.node if (part := store.info.partition) else 'all'}"
            for name, store in zip(ids, stores, strict=True)
        ]
    if len(set(ids)) < len(ids):
        ids = [f"{name}-{index + 1}" for index, name in enumerate(ids)]
    return ids


def check_disjoint(uids: Sequence[tuple[Path, Sequence[np.ndarray]]], doing: str) -> None:
    """Refuse stores that hold the same samples: each would be its own best partner.

    Parameters
    ----------
    uids : sequence of (path, arrays of str)
        Of each store.
    doing : str
        Begins the message.

    Raises
    ------
    BindingError
    """
    seen: dict[str, Path] = {}
    for path, parts in uids:
        own = {uid for part in parts for uid in part.tolist()}
        twice = own & seen.keys()
        if twice:
            raise BindingError(
                cannot=doing,
                problem="both stores hold the same samples",
                at=f"{seen[min(twice)]} and {path}",
                expected="different subjects or datasets",
                got=f"{len(twice)} common samples",
                fix="Give each node subjects of its own with mmbind partition --subjects.",
            )
        seen.update(dict.fromkeys(own, path))


def check_recordings(stores: Sequence[Dataset | BoundDataset], doing: str) -> None:
    """Refuse stores whose samples were cut from the same recordings, by whatever conversion.

    They would find each other: pairs that nobody needs, and natural ones where none should be.

    Parameters
    ----------
    stores : sequence of Dataset or BoundDataset
    doing : str
        Begins the message.

    Raises
    ------
    BindingError
    """
    found = [(store.path, lineage_of(recordings_of(store))) for store in stores]
    for (path, own), (there, others) in combinations(found, 2):
        n = own.common(others)
        if n:
            raise BindingError(
                cannot=doing,
                problem="both stores were cut from the same recordings",
                at=f"{path} and {there}",
                expected="recordings of different people or datasets",
                got=f"{n} recordings in both",
                fix="Convert each recording once, and give each node subjects of its own.",
            )
