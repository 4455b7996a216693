"""Refuses training and evaluation that would see what they must not see.

A node physically lacks what it is said to lack; incomplete rows hold one source's own modalities;
no subject is met twice.

Source: shared/PROTOCOLS.md sections 1 and 2 (the published "incomplete" rows carried all
modalities; that leak must be impossible here).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow as pa

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
        The table points at another sample than it names.
    """
    table = bound.pairs()
    for source in bound.info.sources:
        _check_node(bound.source(source.source_id), source, method)
    if not {TIME, LOCATION} & set(bound.info.shared):
        _check_recordings(bound, method)
    kinds = set(table["kind"].to_pylist())
    if "natural" in kinds:
        raise LeakError(
            cannot=f"train {method}",
            problem="naturally paired rows in a bound store",
            at=bound.path,
            expected="pseudo and incomplete rows",
            got=", ".join(sorted(kinds)),
            fix="Only upper_bound may see natural pairs; give it a converted store.",
        )
    _check_table(bound, table, method)


def check_disjoint(
    roles: Mapping[str, Mapping[str, Iterable[str]]], *, doing: str = "evaluate"
) -> None:
    """Check that no subject of a dataset appears in two roles.

    Parameters
    ----------
    roles : mapping of role to mapping of dataset id to subjects
        For example pretrain, finetune and test.

    Raises
    ------
    LeakError
        Naming both roles, the dataset and the subjects.
    """
    seen: dict[tuple[str, str], str] = {}
    for role, datasets in roles.items():
        for dataset, subjects in datasets.items():
            for subject in sorted(subjects):
                earlier = seen.setdefault((dataset, subject), role)
                if earlier != role:
                    raise LeakError(
                        cannot=doing,
                        problem=f"a subject is in {earlier} and in {role}",
                        at=dataset,
                        expected=f"{earlier} and {role} without common subjects",
                        got=f"subject {subject} in both",
                        fix="Choose other subjects with mmbind partition --subjects.",
                    )


def check_apart(seen: Mapping[str, tuple[Path, Lineage]], *, doing: str = "evaluate") -> None:
    """Check that no sample and no recording is met in two roles, also where nobody is named.

    Parameters
    ----------
    seen : mapping of role to (path, Lineage)
        Where the role's samples are from, and which they are.

    Raises
    ------
    LeakError
        Naming both roles and both paths.
    """
    for (role, (path, own)), (other, (there, theirs)) in combinations(seen.items(), 2):
        for what, common in (
            ("samples", len(own.uids & theirs.uids)), ("recordings", own.common(theirs))
        ):  # fmt: skip
            if common:
                raise LeakError(
                    cannot=doing,
                    problem=f"{what} are in {role} and in {other}",
                    at=f"{path} and {there}",
                    expected=f"{role} and {other} without common {what}",
                    got=f"{common} {what} in both",
                    fix="Choose others with mmbind partition --subjects or --where.",
                )


def held_modalities(store: Dataset, names: Iterable[str]) -> list[str]:
    """Modalities that lie in the store's folder, whatever its attributes say."""
    return [name for name in names if (store.path / data_path(name)).parent.exists()]


def _check_node(store: Dataset, source: SourceInfo, method: str) -> None:
    """Look on disk for modalities that the node is said to lack."""
    partition = source.partition
    lacking = set(partition.dropped if partition else ())
    lacking |= set(store.info.modalities) - set(source.modalities)
    held = held_modalities(store, sorted(lacking))
    if held:
        raise LeakError(
            cannot=f"train {method}",
            problem="a node holds what it is said to lack",
            at=store.path,
            expected=f"only {', '.join(source.modalities)}",
            got=f"also {', '.join(held)}",
            fix="Cut the node's store anew with mmbind partition and bind again.",
        )


def _check_recordings(bound: BoundDataset, method: str) -> None:
    """Check that no recording lies in two nodes, converted twice: its pairs would be natural."""
    found = {name: lineage_of(table) for name, table in recording_tables_of_bound(bound).items()}
    for (name, own), (other, theirs) in combinations(found.items(), 2):
        n = own.common(theirs)
        if n:
            raise LeakError(
                cannot=f"train {method}",
                problem=f"recordings are in {name} and in {other}",
                at=bound.path,
                expected="nodes without common recordings",
                got=f"{n} recordings in both",
                fix="Give each node subjects of its own and bind again.",
            )


def _check_table(bound: BoundDataset, table: pa.Table, method: str) -> None:
    """Check each row's references against the nodes that they point into."""
    names = bound.info.modalities
    kind = np.array(table["kind"].to_pylist(), dtype=object)
    owner, uid, row = (
        np.array([table[f"{name}.{part}"].to_pylist() for name in names], dtype=object).T
        for part in ("source", "uid", "row")
    )
    anchor = np.array(table["anchor_source"].to_pylist(), dtype=object)
    anchor_uid = np.array(table["anchor_uid"].to_pylist(), dtype=object)
    given = owner.astype(bool)
    incomplete = (kind == "incomplete")[:, None] & given
    foreign = incomplete & ((owner != anchor[:, None]) | (uid != anchor_uid[:, None]))
    _refuse(foreign, bound, names, method, "an incomplete row holds another sample's modality",
            "its own source sample only")  # fmt: skip
    complete = np.array(
        [
            len(set(zip(sources[has], uids[has], strict=True))) > len(set(uids[has]))
            for sources, uids, has in zip(owner, uid, given, strict=True)
        ]
    )
    _refuse(complete[:, None] & given, bound, names, method,
            "a pseudo-paired row is one recording put together again",
            "samples of different recordings")  # fmt: skip
    for source in bound.info.sources:
        mine = owner == source.source_id
        lacks = np.array([name not in source.modalities for name in names])
        _refuse(mine & lacks, bound, names, method,
                f"a row takes from {source.source_id} what that node lacks",
                f"only {', '.join(source.modalities)}")  # fmt: skip
        _check_uids(bound, source.source_id, row[mine], uid[mine])


def _refuse(
    wrong: np.ndarray,
    bound: BoundDataset,
    names: tuple[str, ...],
    method: str,
    what: str,
    expected: str,
) -> None:
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise LeakError(
            cannot=f"train {method}",
            problem=what,
            at=f"{bound.path} pair row {row}",
            expected=expected,
            got=f"{names[column]} in {int(wrong.any(axis=1).sum())} rows",
            fix="Bind again with mmbind bind.",
        )


def _check_uids(bound: BoundDataset, source_id: str, row: np.ndarray, uid: np.ndarray) -> None:
    """Compare the uids that the table names with those at the rows that it points to."""
    stored = np.array(bound.source(source_id).samples()["uid"].to_pylist(), dtype=object)
    row = row.astype(np.int64)
    inside = (row >= 0) & (row < len(stored))
    if not inside.all() or (stored[row] != uid).any():
        raise IntegrityError(
            cannot="train",
            problem="the table of pairs points at another sample than it names",
            at=bound.path,
            expected=f"the uids of {source_id}",
            got="other rows or uids",
            fix="Bind again.",
        )
