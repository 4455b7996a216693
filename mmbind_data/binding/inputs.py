"""Open the inputs of a binding and check the request before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

from mmbind_data.binding.by_label import BY_LABEL, with_label_map
from mmbind_data.binding.by_sensor import BY_SENSOR, check_comparable, check_derivations, derivable
from mmbind_data.binding.by_time_and_place import BY_LOCATION, BY_TIME
from mmbind_data.binding.completion import original_rows
from mmbind_data.binding.options import BindOptions
from mmbind_data.binding.pairing import PairingMethod
from mmbind_data.errors import BindingError, UsageError, suggest
from mmbind_data.io.locations import locate
from mmbind_data.spec.store import LABEL, LOCATION, TIME
from mmbind_data.store.bound import BoundDataset, open_store
from mmbind_data.store.dataset import Dataset
from mmbind_data.store.lineage import lineage_of, recordings_of
from mmbind_data.store.pair_table import PairTable, Source, bound_rows, open_source

METHODS = {LABEL: BY_LABEL, TIME: BY_TIME, LOCATION: BY_LOCATION}


def pairing_method(shared: str) -> PairingMethod:
    """How samples are paired by what is shared: the label, the time, the location, or a sensor."""
    return METHODS.get(shared, BY_SENSOR)


def open_inputs(
    inputs: Sequence[str | Path], sources: Mapping[str, str | Path] | None = None
) -> list[Dataset | BoundDataset]:
    """Open converted and bound stores.

    Raises
    ------
    UsageError
        A location is given for a source that no input has.
    FormatError
    """
    opened, places, used = [], dict(sources or {}), set[str]()
    for path in inputs:
        store = open_store(path)
        if isinstance(store, BoundDataset):
            ids = {one.source_id for one in store.info.sources} & places.keys()
            store = replace(store, overrides={name: locate(places[name]) for name in ids})
            used |= ids
        opened.append(store)
    unused = [name for name in places if name not in used]
    if unused:
        bound = [store for store in opened if isinstance(store, BoundDataset)]
        known = [one.source_id for store in bound for one in store.info.sources]
        raise UsageError(
            cannot="bind",
            problem="unknown source",
            at="--source",
            expected="a source of a bound input",
            got=repr(unused[0]),
            fix=suggest(unused[0], known),
        )
    return opened


def open_rows(opened: Sequence[Dataset | BoundDataset]) -> list[PairTable]:
    """Rows of each input, with unique ids of their sources."""
    groups = [_open_sources(store) for store in opened]
    names = iter(_source_ids([source.store for group in groups for source in group]))
    sides = []
    for store, group in zip(opened, groups, strict=True):
        rows = (
            bound_rows(store, group) if isinstance(store, BoundDataset) else original_rows(group[0])
        )
        renamed = tuple(replace(source, source_id=next(names)) for source in group)
        sides.append(replace(rows, sources=renamed))
    return sides


def _open_sources(store: Dataset | BoundDataset) -> list[Source]:
    if isinstance(store, Dataset):
        return [open_source(store, "")]
    ids = [one.source_id for one in store.info.sources]
    return [open_source(store.source(source_id), source_id) for source_id in ids]


def _source_ids(stores: Sequence[Dataset]) -> list[str]:
    """Short unique names: the dataset's id, with the node's where several come from one dataset."""
    parts = [store.info.partition for store in stores]
    ids = [store.info.dataset_id for store in stores]
    ids = [
        name if ids.count(name) == 1 else f"{name}-{part.node if part else 'all'}"
        for name, part in zip(ids, parts, strict=True)
    ]
    if len(set(ids)) < len(ids):
        ids = [f"{name}-{number}" for number, name in enumerate(ids, start=1)]
    return ids


def check_disjoint(stores: Sequence[tuple[Path, Sequence[Source]]], doing: str) -> None:
    """Refuse stores that hold the same samples: each would be its own best partner.

    Raises
    ------
    BindingError
    """
    seen: dict[str, Path] = {}
    for path, sources in stores:
        own = {uid for source in sources for uid in source.uid.tolist()}
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

    They would be each other's partners: natural pairs, where there should be none.

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


def check_request(
    opened: Sequence[Dataset | BoundDataset], shared: str | Sequence[str], options: BindOptions
) -> tuple[list[PairTable], list[str], BindOptions]:
    """Refuse what cannot be bound, before anything is computed.

    Gives the rows of each input, what is shared at each binding, and the options: if a label is
    shared, with a label map that holds known synonyms too.

    Raises
    ------
    UsageError, BindingError
        See `mmbind_data.binding.bind.bind`.
    """
    chosen = _shared_by_binding(shared, len(opened))
    sides = open_rows(opened)
    paths = [store.path for store in opened]
    check_disjoint([(at, side.sources) for at, side in zip(paths, sides, strict=True)], "bind")
    if not set(chosen) <= {TIME, LOCATION}:  # by these, parts of one recording are put together
        check_recordings(opened, "bind")
    if options.derive:
        check_derivations(_stores(sides), chosen, options.derive)
    for number, name in enumerate(chosen, start=1):
        _check_binding(opened[: number + 1], sides[: number + 1], name, options)
    for number, (store, side) in enumerate(zip(opened, sides, strict=True)):
        # the first input must have what the first binding shares, each other one its own
        name = chosen[max(0, number - 1)]
        if not pairing_method(name).carries(side, name, options).any():
            step = "Places are the columns lat and lon, or x and y, of the sample table."
            raise BindingError(
                cannot="bind",
                problem=f"no sample carries {name}",
                at=store.path,
                expected="one or more",
                got="0",
                fix=step if name == LOCATION else "",
            )
    if LABEL in chosen:
        return sides, chosen, with_label_map(options, sides)
    if options.label_map:
        raise UsageError(
            cannot="bind",
            problem="a label map that is of no use",
            at="--label-map",
            expected="none where no label is shared",
            got=f"--shared {', '.join(dict.fromkeys(chosen))}",
        )
    return sides, chosen, options


def _check_binding(
    opened: Sequence[Dataset | BoundDataset],
    sides: Sequence[PairTable],
    shared: str,
    options: BindOptions,
) -> None:
    """Check that the last input and those before it share a modality and complete each other."""
    known = {name for store in opened[:-1] for name in store.info.modalities}
    own = list(opened[-1].info.modalities)
    reach = [set(known), set(own)]
    if options.derive:
        for names, stores in zip(reach, (_stores(sides[:-1]), _stores(sides[-1:])), strict=True):
            names |= {one for store in stores for one in derivable(store, options.derive)}
    place = f"{', '.join(str(store.path) for store in opened[:-1])} and {opened[-1].path}"
    common = [*(name for name in (*own, *sorted(reach[1] - set(own))) if name in reach[0]), LABEL]
    if shared not in (*common, *METHODS):
        refusal = BindingError if shared in {*known, *own} else UsageError
        raise refusal(
            cannot="bind",
            problem=f"{shared} is not shared",
            at=place,
            expected=f"--shared {' or '.join(common)}",
            got=repr(shared),
            fix=suggest(shared, common),
        )
    if known == set(own):
        raise BindingError(
            cannot="bind",
            problem="both stores carry the same modalities",
            at=place,
            expected="a modality that the other lacks",
            got=", ".join(own),
            fix="There is nothing to complete.",
        )
    stores = [store for store in _stores(sides) if shared in store.info.modalities]
    if stores:
        check_comparable([(store, store.info.modalities[shared]) for store in stores], shared)


def _shared_by_binding(shared: str | Sequence[str], n_stores: int) -> list[str]:
    """What is shared at each binding; one name stands for all of them."""
    if n_stores < 2:
        raise UsageError(
            cannot="bind", problem="too few stores", at="A B", expected="two or more", got=n_stores
        )
    chosen = [shared] if isinstance(shared, str) else list(shared)
    chosen = chosen * (n_stores - 1) if len(chosen) == 1 else chosen
    if len(chosen) != n_stores - 1:
        raise UsageError(
            cannot="bind",
            problem="another number of shared modalities",
            at="--shared",
            expected=f"one, or one for each of {n_stores - 1} bindings",
            got=len(chosen),
        )
    return chosen


def _stores(sides: Sequence[PairTable]) -> list[Dataset]:
    return [source.store for side in sides for source in side.sources]
