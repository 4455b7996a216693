"""Refuses training and evaluation that would use what they must not use.

A node must not hold the modalities that it is said to lack; incomplete rows hold one source's own
modalities; no subject, sample or recording has two roles.

Source: MMBind paper (SenSys 2025), section 6.1. The incomplete rows of the published code held all
modalities, natural pairs included; what it did otherwise is in docs/protocols.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations
from pathlib import Path
from typing import NoReturn

import numpy as np

from mmbind_data.errors import IntegrityError, LeakError
from mmbind_data.spec.store import LOCATION, TIME, SourceInfo
from mmbind_data.store.bound import BoundDataset
from mmbind_data.store.dataset import Dataset, data_path
from mmbind_data.store.lineage import Lineage, lineage_of, recording_tables_of_bound


def check_bound(bound: BoundDataset, *, method: str) -> None:
    """Check the nodes on disk and the table of pairs before a method may read a bound store.

    Raises
    ------
    LeakError
        A source holds a modality that its partition dropped or that it did not have when it was
        bound; a row that is not naturally paired holds samples that only a complete recording has;
        or the store has natural rows.
    IntegrityError
        The table refers to another sample than it names.
    """
    doing = f"train {method}"
    for source in bound.info.sources:
        _check_node(bound.source(source.source_id), source, doing)
    if not {TIME, LOCATION} & set(bound.info.shared):
        found = {name: lineage_of(one) for name, one in recording_tables_of_bound(bound).items()}
        fix = "Give each node subjects of its own and bind again."
        for (name, one), (other, two) in combinations(found.items(), 2):
            pair, n = (name, other), one.common(two)
            _check_none_common(doing, "recordings", n, pair, bound.path, fix)
    kinds = set(bound.pairs()["kind"].to_pylist())
    if "natural" in kinds:
        problem, expected = "naturally paired rows in a bound store", "pseudo and incomplete rows"
        fix = "Only upper_bound may see natural pairs; give it a converted store."
        _refuse(doing, problem, bound.path, expected, ", ".join(sorted(kinds)), fix)
    _check_table(bound, doing)


def check_disjoint(
    roles: Mapping[str, Mapping[str, Iterable[str]]], *, doing: str = "evaluate"
) -> None:
    """Check that no subject of a dataset has two roles.

    From roles (pretrain, finetune, test) to dataset ids to subjects. Raises a LeakError.
    """
    role_of: dict[tuple[str, str], str] = {}
    fix = "Choose other subjects with mmbind partition --subjects."
    for role, datasets in roles.items():
        for dataset, subjects in datasets.items():
            for subject in sorted(subjects):
                pair = (role_of.setdefault((dataset, subject), role), role)
                if pair[0] != role:
                    _check_none_common(doing, "subjects", f"subject {subject}", pair, dataset, fix)


def check_apart(lineages: Mapping[str, tuple[Path, Lineage]], *, doing: str = "evaluate") -> None:
    """Check that no sample and no recording has two roles, also where subjects have no names.

    From roles to the path of the store and the lineage of the samples. Raises a LeakError.
    """
    fix = "Choose others with mmbind partition --subjects or --where."
    for (role, (path, one)), (other, (there, two)) in combinations(lineages.items(), 2):
        at, pair = f"{path} and {there}", (role, other)
        _check_none_common(doing, "samples", len(one.uids & two.uids), pair, at, fix)
        _check_none_common(doing, "recordings", one.common(two), pair, at, fix)


def _check_none_common(
    doing: str, things: str, common: int | str, pair: tuple[str, str], at: object, fix: str
) -> None:
    one, other = pair
    if common:
        expected = f"{one} and {other} without common {things}"
        got = f"{common} in both" if isinstance(common, str) else f"{common} {things} in both"
        _refuse(doing, f"{things} are in {one} and in {other}", at, expected, got, fix)


def _refuse(doing: str, problem: str, at: object, expected: str, got: str, fix: str) -> NoReturn:
    raise LeakError(cannot=doing, problem=problem, at=at, expected=expected, got=got, fix=fix)


def _check_node(store: Dataset, source: SourceInfo, doing: str) -> None:
    """Look on disk for modalities that the node is said to lack, whatever its attributes say."""
    lacking = set(source.partition.dropped if source.partition else ())
    lacking |= set(store.info.modalities) - set(source.modalities)
    stored = [name for name in sorted(lacking) if (store.path / data_path(name)).parent.exists()]
    if stored:
        problem, expected = "a node holds what it is said to lack", ", ".join(source.modalities)
        fix = "Cut the node's store anew with mmbind partition and bind again."
        got = f"also {', '.join(stored)}"
        _refuse(doing, problem, store.path, f"only {expected}", got, fix)


def _check_table(bound: BoundDataset, doing: str) -> None:
    """Check each row's references against the nodes that they refer to."""
    table, names = bound.pairs(), bound.info.modalities

    def column(name: str) -> np.ndarray:
        return np.array(table[name].to_pylist(), dtype=object)

    def refuse(wrong: np.ndarray, problem: str, expected: str) -> None:
        if wrong.any():
            row, place = np.argwhere(wrong)[0]
            got = f"{names[place]} in {int(wrong.any(axis=1).sum())} rows"
            at, fix = f"{bound.path} pair row {row}", "Bind again with mmbind bind."
            _refuse(doing, problem, at, expected, got, fix)

    owner, uid, row = (
        np.stack([column(f"{name}.{part}") for name in names], axis=1)
        for part in ("source", "uid", "row")
    )
    given = owner.astype(bool)
    foreign = (owner != column("anchor_source")[:, None]) | (uid != column("anchor_uid")[:, None])
    incomplete = (column("kind") == "incomplete")[:, None] & given
    problem = "an incomplete row holds another sample's modality"
    refuse(incomplete & foreign, problem, "its own source sample only")
    complete = [
        len(set(zip(sources[has], uids[has], strict=True))) > len(set(uids[has]))
        for sources, uids, has in zip(owner, uid, given, strict=True)
    ]
    problem = "a pseudo-paired row is one recording put together again"
    refuse(np.array(complete)[:, None] & given, problem, "samples of different recordings")
    for source in bound.info.sources:
        taken = owner == source.source_id
        lacks = np.array([name not in source.modalities for name in names])
        problem = f"a row takes from {source.source_id} what that node lacks"
        refuse(taken & lacks, problem, f"only {', '.join(source.modalities)}")
        stored = np.array(bound.source(source.source_id).samples()["uid"].to_pylist(), dtype=object)
        rows = row[taken].astype(np.int64)
        inside = (rows >= 0) & (rows < len(stored))
        if not inside.all() or (stored[rows] != uid[taken]).any():
            raise IntegrityError(
                cannot="train",
                problem="the table of pairs points at another sample than it names",
                at=bound.path,
                expected=f"the uids of {source.source_id}",
                got="other rows or uids",
                fix="Bind again.",
            )
