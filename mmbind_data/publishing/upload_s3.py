"""Send a bundle to an S3 bucket: what is half there is never taken for a bundle."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmbind_data.errors import IntegrityError, OutputError, UsageError
from mmbind_data.io.digests import BUNDLE_OWN
from mmbind_data.io.locations import bucket_and_prefix, s3_errors, s3_system
from mmbind_data.progress import Progress
from mmbind_data.publishing.facts import STORE
from mmbind_data.spec.bundle import ManifestEntry
from mmbind_data.store.root import BUNDLE, ROOT

DOING = "publish"
MANIFEST, SUMS = BUNDLE_OWN
# Without these nothing opens: they go last, the manifest at the very end, and are deleted first.
LAST = (f"{STORE}/{ROOT}", BUNDLE, MANIFEST)
AT_ONCE = 32  # files
ANOTHER = "Choose another prefix, or remove it yourself."


def check_bucket(address: str, *, overwrite: bool) -> None:
    """Refuse a prefix that holds a bundle already, or something else, before any work is done.

    Raises
    ------
    OutputError, FormatError, UsageError
    """
    system, root = _open(address)
    with s3_errors(DOING, address, OutputError):
        _check(system, root, _listing(system, root), None, overwrite=overwrite)


def upload_to_bucket(
    folder: Path,
    entries: Sequence[ManifestEntry],
    address: str,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    """Send every file of a bundle, list what is there, and compare.

    SHA256SUMS goes first and says whose upload it is; the same command after an interruption sends
    what is missing. MANIFEST.json goes last. With ``overwrite`` the old bundle ceases to be one
    before its first file is replaced.

    Parameters
    ----------
    folder : Path
        The bundle.
    entries : sequence of ManifestEntry
        All of its files, the manifest's own two too.
    address : str
        ``s3://bucket/prefix``; the bucket exists.
    overwrite : bool
        A bundle, or a part of one, may stand there.
    progress : callable (done, total, text), optional

    Raises
    ------
    OutputError
        The prefix is taken, or S3 refuses.
    IntegrityError
        What was sent is not what lies there.
    """
    system, root = _open(address)
    with s3_errors(DOING, address, OutputError):
        there = _listing(system, root)
        _check(system, root, there, (folder / SUMS).read_bytes(), overwrite=overwrite)
        if MANIFEST in there:
            _delete(system, root, [name for name in reversed(LAST) if name in there])
            there = {name: one for name, one in there.items() if name not in LAST}
        kept = {
            one.path
            for one in entries
            if one.path in there and _same(system, root, folder, one, there[one.path])
        }
        if SUMS not in kept:
            system.put_file(str(folder / SUMS), f"{root}/{SUMS}")
        _delete(system, root, sorted(there.keys() - {one.path for one in entries}))
        names = sorted({one.path for one in entries} - kept - {SUMS, *LAST})
        for start in range(0, len(names), AT_ONCE):
            _put(system, root, folder, names[start : start + AT_ONCE])
            if progress:
                progress(start + len(names[start : start + AT_ONCE]), len(names), "upload")
        for name in LAST[:-1]:
            _put(system, root, folder, [name])
        _compare(system, root, folder, [one for one in entries if one.path != MANIFEST], address)
        _put(system, root, folder, [MANIFEST])
        _compare(system, root, folder, entries, address)


def _open(address: str) -> tuple[Any, str]:
    bucket, prefix = bucket_and_prefix(address)
    if not prefix:  # a whole bucket is nobody's to be replaced
        raise UsageError(
            cannot=DOING,
            problem="no prefix",
            at=address,
            expected="s3://bucket/prefix",
            got="a bucket alone",
        )
    return s3_system(DOING), f"{bucket}/{prefix}"


def _listing(system: Any, root: str) -> dict[str, dict[str, Any]]:
    """Files below a prefix by name, as S3 tells them: ``size``, ``ETag``."""
    system.invalidate_cache()
    system.ls(root.partition("/")[0])  # a bucket that does not exist is no empty folder
    system.invalidate_cache()
    found = system.find(f"{root}/", detail=True)
    return {name.removeprefix(f"{root}/"): one for name, one in found.items()}


def _check(
    system: Any, root: str, there: Mapping[str, Any], sums: bytes | None, *, overwrite: bool
) -> None:
    """Refuse what may not be replaced; ``sums`` of the new bundle, once it is made."""
    if not there:
        return
    listed = system.cat_file(f"{root}/{SUMS}") if SUMS in there else b""
    named = {line.partition("  ")[2] for line in listed.decode("utf-8", "replace").splitlines()}
    described = BUNDLE in there and b'"mmbind' in system.cat_file(f"{root}/{BUNDLE}")
    if not described and not (BUNDLE in named and there.keys() <= named | set(BUNDLE_OWN)):
        raise OutputError(
            cannot=DOING,
            problem="what stands there is no bundle that mmbind made",
            at=f"s3://{root}",
            expected="nothing" if not overwrite else "a bundle to overwrite",
            got=f"{len(there)} other files",
            fix=ANOTHER,
        )
    if overwrite:
        return
    step = "Choose another prefix, or replace it with --overwrite."
    if MANIFEST in there:
        raise OutputError(
            cannot=DOING,
            problem="the output exists already",
            at=f"s3://{root}",
            expected="an empty prefix",
            got="a bundle",
            fix=step,
        )
    if sums is not None and listed != sums:
        raise OutputError(
            cannot=DOING,
            problem="the upload of another bundle was interrupted here",
            at=f"s3://{root}",
            expected="an empty prefix, or a part of this bundle",
            got=f"{len(there)} other files",
            fix=step,
        )


def _delete(system: Any, root: str, names: Sequence[str]) -> None:
    for name in names:
        system.rm_file(f"{root}/{name}")


def _put(system: Any, root: str, folder: Path, names: Sequence[str]) -> None:
    if names:
        system.put([str(folder / name) for name in names], [f"{root}/{name}" for name in names])


def _same(
    system: Any, root: str, folder: Path, entry: ManifestEntry, found: Mapping[str, Any]
) -> bool:
    """Whether an object is the file: by its ETag where that is an md5, else by its bytes."""
    if found["size"] != entry.bytes:
        return False
    with (folder / entry.path).open("rb") as stream:
        md5 = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found["ETag"].strip('"') == md5:
        return True
    # sent in parts, or encrypted there
    with system.open(f"{root}/{entry.path}", "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() == entry.sha256


def _compare(
    system: Any, root: str, folder: Path, entries: Sequence[ManifestEntry], address: str
) -> None:
    there = _listing(system, root)
    wanted = {one.path: one for one in entries}
    wrong = sorted(there.keys() ^ wanted.keys()) or [
        name for name, one in wanted.items() if not _same(system, root, folder, one, there[name])
    ]
    if wrong:
        raise IntegrityError(
            cannot=DOING,
            problem="what lies there is not what was sent",
            at=f"{address} {wrong[0]}",
            expected=f"{len(wanted)} files as sent",
            got=f"{len(wrong)} that differ",
            fix="Run the same command again.",
        )
