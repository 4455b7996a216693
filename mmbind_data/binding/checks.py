"""Check a request to bind before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmbind_data.binding.by_label import texts_of, with_label_map
from mmbind_data.binding.by_sensor import (
    check_comparable,
    check_derivations,
    derivable,
    has_shared,
    resolve_options,
)
from mmbind_data.binding.by_time_and_place import match_groups
from mmbind_data.binding.completion import (
    candidates,
    concatenate,
    refuse_means,
    stack_sources,
)
from mmbind_data.binding.inputs import check_disjoint, check_recordings, open_rows
from mmbind_data.binding.matching import match_sides
from mmbind_data.binding.options import BindOptions
from mmbind_data.embedding.vectors import embed_file
from mmbind_data.errors import BindingError, UsageError, suggest
from mmbind_data.spec.store import LABEL, LOCATION, TIME
from mmbind_data.store.bound import BoundDataset
from mmbind_data.store.dataset import Dataset
from mmbind_data.store.pair_table import PairTable


def check_options(
    sides: tuple[PairTable, PairTable], shared: str, options: BindOptions, *, exact: bool = True
) -> None:
    """Refuse options that the data cannot follow, as far as no sample need be compared for it.

    Parameters
    ----------
    sides : two PairTable
        That would be compared.
    shared : str
    options : BindOptions
    exact : bool
        False: the first side has at most these rows, as earlier bindings decide which of them
        carry what is shared.

    Raises
    ------
    UsageError, BindingError
    """
    if shared == LABEL:
        texts_of(sides, options)
    elif shared in (TIME, LOCATION):
        match_sides(sides, shared, options, None)
    else:
        found = [source.store.info.modalities.get(shared) for source in sides[0].sources]
        kind = next((one.kind for one in found if one), "inertial")  # else a derived motion
        n = (len(sides[0]), len(sides[1]))
        resolve_options(options, kind, n)
        match_groups(sides if exact else (sides[1], sides[1]), options.group_by)
        if isinstance(options.embed, Path):
            embed_file(options.embed, sum(n) if exact else None)


def check_request(
    opened: Sequence[Dataset | BoundDataset],
    shared: str | Sequence[str],
    derivations: Sequence[str] = (),
) -> tuple[list[PairTable], list[str]]:
    """Refuse what cannot be bound, before anything is computed.

    Returns
    -------
    list of PairTable
        Of each input.
    list of str
        What is shared at each binding.

    Raises
    ------
    UsageError, BindingError
        See `bind`.
    """
    chosen = _shared_by_binding(shared, len(opened))
    sides = open_rows(opened)
    paths = [store.path for store in opened]
    uids = [[source.uid for source in side.sources] for side in sides]
    check_disjoint(list(zip(paths, uids, strict=True)), "bind")
    if not set(chosen) <= {TIME, LOCATION}:  # by these, one recording's parts are put together
        check_recordings(opened, "bind")
    check_derivations(_stores(sides), chosen, derivations)
    known = set(_modalities(opened[0]))
    place = str(opened[0].path)
    for number, (store, name) in enumerate(zip(opened[1:], chosen, strict=True), start=1):
        own = _modalities(store)
        reach = [
            set(side) | {target for one in stores for target in derivable(one, derivations)}
            for side, stores in (
                (known, _stores(sides[:number])),
                (own, _stores(sides[number:][:1])),
            )
        ]
        _check_pair(known, own, reach, name, f"{place} and {store.path}")
        check_comparable(
            [
                (one, one.info.modalities[name])
                for one in _stores(sides[: number + 1])
                if name in one.info.modalities
            ],
            name,
        )
        known |= set(own)
        place = f"{place}, {store.path}"
    for number, (store, side) in enumerate(zip(opened, sides, strict=True)):
        # the first input must have what the first binding shares, each other one its own
        name = chosen[max(0, number - 1)]
        if not has_shared(side, name, derivations).any():
            step = "Places are the columns lat and lon, or x and y, of the sample table."
            raise BindingError(
                cannot="bind",
                problem=f"no sample carries {name}",
                at=store.path,
                expected="one or more",
                got="0",
                fix=step if name == LOCATION else "",
            )
    return sides, chosen


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


def _check_pair(
    known: set[str], own: Sequence[str], reach: Sequence[set[str]], shared: str, place: str
) -> None:
    common = [*(name for name in (*own, *sorted(reach[1] - set(own))) if name in reach[0]), LABEL]
    if shared not in (*common, TIME, LOCATION):
        refusal = BindingError if shared in {*known, *own} else UsageError
        raise refusal(
            cannot="bind",
            problem=f"{shared} is not shared",
            at=place,
            expected=f"--shared {' or '.join(common)}",
            got=repr(shared),
            fix=suggest(shared, common),
        )
    if set(known) == set(own):
        raise BindingError(
            cannot="bind",
            problem="both stores carry the same modalities",
            at=place,
            expected="a modality that the other lacks",
            got=", ".join(own),
            fix="There is nothing to complete.",
        )


def _stores(sides: Sequence[PairTable]) -> list[Dataset]:
    return [source.store for side in sides for source in side.sources]


def _modalities(store: Dataset | BoundDataset) -> list[str]:
    return list(store.info.modalities)


def check_binding(
    opened: Sequence[Dataset | BoundDataset], shared: str | Sequence[str], options: BindOptions
) -> dict[str, int]:
    """Refuse what `bind` refuses, as far as no sample need be compared for it.

    Parameters
    ----------
    opened : sequence of Dataset or BoundDataset
    shared : str or sequence of str
    options : BindOptions

    Returns
    -------
    dict of str to int
        By the ids of an input's sources: how many samples carry what its binding shares.

    Raises
    ------
    UsageError, BindingError
        See `mmbind_data.binding.bind.bind`.
    """
    sides, chosen = check_request(opened, shared, options.derive)
    options = with_label_map(options, sides, chosen)
    earlier = sides[0]
    given = np.zeros(len(earlier), dtype=bool)  # rows that a binding may have given a modality
    for side, name in zip(sides[1:], chosen, strict=True):
        first, second = stack_sources(earlier, side)
        refuse_means((first, second), mean=options.mean, top_k=options.rule.top_k)
        own, theirs = (has_shared(rows, name, options.derive) for rows in (first, second))
        most = own if name in (LABEL, TIME, LOCATION) else own | given
        both = (first.take(candidates(first, most)), second.take(candidates(second, theirs)))
        check_options(both, name, options, exact=bool((most == own).all()))
        given = np.concatenate([given | own, theirs])
        earlier = concatenate([first, second], list({**first.given, **second.given}), (name,))
    names = [chosen[0], *chosen]
    return {
        " + ".join(source.source_id for source in side.sources): int(
            has_shared(side, name, options.derive).sum()
        )
        for side, name in zip(sides, names, strict=True)
    }
