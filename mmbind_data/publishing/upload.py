"""Send a bundle to an address: one order of files and one comparison for every service.

Without its manifest a bundle cannot be opened. The manifest therefore goes last, after everything
else was compared with what the service reports, and it is deleted first when a bundle is replaced.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmbind_data.errors import IntegrityError, OutputError, UsageError
from mmbind_data.io.digests import BUNDLE_OWN
from mmbind_data.io.locations import S3
from mmbind_data.progress import Progress
from mmbind_data.publishing.facts import STORE
from mmbind_data.publishing.upload_hub import FORM, HUB, HubRepository
from mmbind_data.publishing.upload_s3 import BucketPrefix
from mmbind_data.spec.bundle import ManifestEntry
from mmbind_data.store.root import BUNDLE, ROOT

Destination = BucketPrefix | HubRepository
DOING = "publish"
MANIFEST, SUMS = BUNDLE_OWN
LAST = (f"{STORE}/{ROOT}", BUNDLE, MANIFEST)  # without these nothing opens


def is_address(target: str | Path) -> bool:
    """Whether a target is a URL and not a folder.

    >>> is_address("s3://bucket/prefix"), is_address("bundle")
    (True, False)
    """
    return "://" in str(target)


def open_destination(address: str) -> Destination:
    """The place that an address names; the service is not asked yet.

    Raises
    ------
    UsageError
        The address is of another kind, or incomplete.
    FormatError
        A package is missing.
    """
    if address.startswith(S3):
        return BucketPrefix(address)
    if address.startswith(HUB):
        return HubRepository(address)
    raise UsageError(
        cannot=DOING,
        problem="unknown kind of address",
        at="BUNDLE",
        expected=f"a folder, s3://bucket/prefix or {FORM}",
        got=f"{address.partition('://')[0]}://",
    )


def check_destination(place: Destination, *, overwrite: bool) -> None:
    """Refuse a place that holds a bundle, or something else, before any work is done.

    Raises
    ------
    OutputError
        The place is taken, or the service refuses or cannot be reached.
    """
    with place.errors():
        _check(place, place.files(), resumes=True, overwrite=overwrite)


def upload(
    folder: Path,
    entries: Sequence[ManifestEntry],
    place: Destination,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    """Send every file of a bundle, list what is there, and compare.

    SHA256SUMS goes first: it identifies the upload, so that the same command sends only what is
    missing after an interruption. What an older bundle has besides is deleted.

    Parameters
    ----------
    folder : Path
        The bundle.
    entries : sequence of ManifestEntry
        All of its files, the manifest and SHA256SUMS too.
    place : Destination
    overwrite : bool
        Replace a bundle, or a part of one, that is there.
    progress : callable (done, total, text), optional

    Raises
    ------
    OutputError
        The place is taken, or the service refuses or cannot be reached.
    IntegrityError
        What is there afterwards is not what was sent.
    """
    files = {entry.path: entry for entry in entries}
    with place.errors():
        there = place.files()
        kept = set(_equal(folder, files, place, there))
        _check(place, there, resumes=SUMS in kept, overwrite=overwrite)
        removed = [name for name in reversed(LAST) if name in there] if MANIFEST in there else []
        removed += sorted(there.keys() - files.keys() - set(removed))
        groups = [[SUMS], sorted(files.keys() - {SUMS, *LAST}), *([name] for name in LAST[:-1])]
        groups = [[name for name in group if name not in kept - set(removed)] for group in groups]
        done, total = 0, sum(map(len, groups))
        for n_sent in place.send(folder, groups, removed):
            done += n_sent
            if progress:
                progress(done, total, "upload")
        _compare(folder, {name: files[name] for name in files if name != MANIFEST}, place)
        list(place.send(folder, [[MANIFEST]], []))
        _compare(folder, files, place)


def _check(place: Destination, there: Mapping[str, Any], *, resumes: bool, overwrite: bool) -> None:
    """Refuse what must not be replaced; ``resumes``: what is there may be a part of this bundle."""
    expected = "a bundle to overwrite" if overwrite else "nothing"
    fix = "Choose another place, or replace it with --overwrite."
    if not there:
        return
    if not place.is_ours(there):
        problem, fix = "no bundle that mmbind made is there", "Choose another place."
    elif overwrite or (resumes and MANIFEST not in there):
        return
    elif MANIFEST in there:
        problem = "the output exists already"
    else:
        problem = "the upload of another bundle was interrupted here"
    got = f"{len(there)} files"
    raise OutputError(
        cannot=DOING, problem=problem, at=place.address, expected=expected, got=got, fix=fix
    )


def _equal(
    folder: Path, files: Mapping[str, ManifestEntry], place: Destination, there: Mapping[str, Any]
) -> list[str]:
    """Files that are there as they are in the folder."""
    return [
        name
        for name, entry in files.items()
        if name in there and place.same(folder / name, entry, there[name])
    ]


def _compare(folder: Path, files: Mapping[str, ManifestEntry], place: Destination) -> None:
    there = place.files()
    wrong = sorted((files.keys() | there.keys()) - set(_equal(folder, files, place, there)))
    if wrong:
        raise IntegrityError(
            cannot=DOING,
            problem="what arrived is not what was sent",
            at=f"{place.address} {wrong[0]}",
            expected=f"{len(files)} files as sent",
            got=f"{len(wrong)} that differ",
            fix="Run the same command again.",
        )
