"""The version of a bundle's data: which part of it must increase, by what changed.

Source: Croissant format specification 1.1, "Dataset versioning": PATCH, the same data written
anew; MINOR, data was added and what there was is unchanged; MAJOR, existing data was changed.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from mmbind_data.errors import UsageError
from mmbind_data.spec.bundle import VERSION
from mmbind_data.store.bound import BoundDataset, open_bound
from mmbind_data.store.differences import logical_rows
from mmbind_data.store.pair_table import bound_digest
from mmbind_data.store.root import read_bundle

Change = Literal["patch", "minor", "major"]
FIRST = "1.0.0"
REASONS: dict[Change, str] = {
    "patch": "the same pairs written anew",
    "minor": "rows were added",
    "major": "rows were changed or taken away",
}


def choose_version(bound: BoundDataset, asked: str | None, previous: str | Path | None) -> str:
    """The version to publish under.

    Parameters
    ----------
    bound : BoundDataset
        What is published.
    asked : str, optional
        MAJOR.MINOR.PATCH; by default the lowest that is right.
    previous : path, optional
        The bundle that it follows.

    Raises
    ------
    UsageError
        Not a version, or one that increases less than what changed requires.
    """
    if asked is not None and re.match(VERSION, asked) is None:
        raise _bad_version("no version", "MAJOR.MINOR.PATCH", repr(asked))
    if previous is None:
        return asked or FIRST
    before = read_bundle(previous).data_version
    change = change_since(open_bound(previous), bound)
    least = raised(before, change)
    if asked is None:
        return least
    if _numbers(asked) < _numbers(least):
        raise _bad_version(
            f"the version is too low: {REASONS[change]}",
            f"{least} or higher, after {before}",
            asked,
        )
    return asked


def _bad_version(problem: str, expected: str, got: str) -> UsageError:
    at = "--data-version"
    return UsageError(cannot="publish", problem=problem, at=at, expected=expected, got=got)


def change_since(old: BoundDataset, new: BoundDataset) -> Change:
    """What became of a bound dataset: the same rows, more rows, or others.

    Rows count as unchanged only if the stores that they point into are the same.
    """
    digests = [
        bound_digest(one.info.shared, one.info.binder, one.info.sources, one.pairs())
        for one in (old, new)
    ]
    if digests[0] == digests[1]:
        return "patch"
    known = {source.content_digest for source in new.info.sources}
    if {source.content_digest for source in old.info.sources} - known:
        return "major"
    rows = [logical_rows(one.pairs(), one.info.modalities) for one in (old, new)]
    kept = all(rows[1].get(name) == values for name, values in rows[0].items())
    return "minor" if kept else "major"


def raised(version: str, change: Change) -> str:
    """The next version after a change.

    >>> raised("1.2.3", "patch"), raised("1.2.3", "minor"), raised("1.2.3", "major")
    ('1.2.4', '1.3.0', '2.0.0')
    """
    major, minor, patch = _numbers(version)
    if change == "major":
        return f"{major + 1}.0.0"
    return f"{major}.{minor + 1}.0" if change == "minor" else f"{major}.{minor}.{patch + 1}"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))
