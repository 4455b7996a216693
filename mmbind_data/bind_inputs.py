"""Open what is to be bound: converted and bound stores, and the rows that each brings along."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow as pa

from .errors import BindingError, UsageError, problem, suggest
from .layout import Bound, Store, open_any
from .pairs import Rows, bound_rows, open_source, original_rows
from .recordings import seen, seen_of_bound, seen_table


def open_inputs(
    inputs: Sequence[str | Path], sources: Mapping[str, Path] | None = None
) -> list[Store | Bound]:
    """Open converted and bound stores.

    Raises
    ------
    UsageError
        A place is given for a source that no input has.
    FormatError
    """
    opened, unused = [], dict(sources or {})
    for path in inputs:
        store = open_any(path)
        if isinstance(store, Bound):
            own = {one.source_id for one in store.info.sources}
            for name in own:
                unused.pop(name, None)
            store = replace(
                store, overrides={name: at for name, at in (sources or {}).items() if name in own}
            )
        opened.append(store)
    if unused:
        known = [one.source_id for store in opened if isinstance(store, Bound)
                 for one in store.info.sources]  # fmt: skip
        raise UsageError(
            problem("bind", "unknown source", "--source", "a source of a bound input",
                    repr(next(iter(unused))), suggest(next(iter(unused)), known))
        )  # fmt: skip
    return opened


def open_rows(opened: Sequence[Store | Bound]) -> list[Rows]:
    """Rows of each input, its sources named so that no name occurs twice."""
    groups = [
        [store.source(one.source_id) for one in store.info.sources]
        if isinstance(store, Bound)
        else [store]
        for store in opened
    ]
    names = iter(_source_ids([store for group in groups for store in group]))
    sides = []
    for store, group in zip(opened, groups, strict=True):
        if isinstance(store, Bound):
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


def _source_ids(stores: Sequence[Store]) -> list[str]:
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
                problem(doing, "both stores hold the same samples",
                        f"{seen[min(twice)]} and {path}", "different subjects or datasets",
                        f"{len(twice)} common samples",
                        "Give each node subjects of its own with mmbind partition --subjects.")
            )  # fmt: skip
        seen.update(dict.fromkeys(own, path))


def check_recordings(stores: Sequence[Store | Bound], doing: str) -> None:
    """Refuse stores whose samples were cut from the same recordings, by whatever conversion.

    They would find each other: pairs that nobody needs, and natural ones where none should be.

    Parameters
    ----------
    stores : sequence of Store or Bound
    doing : str
        Begins the message.

    Raises
    ------
    BindingError
    """
    found = []
    for store in stores:
        parts = seen_of_bound(store).values() if isinstance(store, Bound) else [seen_table(store)]
        found.append((store.path, seen(pa.concat_tables(parts))))
    for (path, own), (there, others) in combinations(found, 2):
        n = own.common(others)
        if n:
            raise BindingError(
                problem(doing, "both stores were cut from the same recordings",
                        f"{path} and {there}", "recordings of different people or datasets",
                        f"{n} recordings in both",
                        "Convert each recording once, and give each node subjects of its own.")
            )  # fmt: skip
