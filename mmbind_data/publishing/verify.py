"""Tell whether a bundle or a store is what was published: fast, every byte, or every value."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

from mmbind_data.errors import Finding, FormatError, IntegrityError
from mmbind_data.io.digests import (
    BUNDLE_OWN,
    MANIFEST,
    SUMS,
    file_digest,
    manifest_lines,
    manifest_text,
    store_files,
)
from mmbind_data.io.locations import locate
from mmbind_data.io.unzip import is_archive, unpacked
from mmbind_data.spec.bundle import Manifest
from mmbind_data.spec.validation_messages import fault_text
from mmbind_data.store.bound import PAIRS, BoundDataset, open_store
from mmbind_data.store.lineage import named_uids, sample_digest
from mmbind_data.store.root import BUNDLE, ROOT, is_bundle, locate_store, read_bundle
from mmbind_data.store.validation import validate

Depth = Literal["fast", "deep", "values"]
AGAIN = "Fetch or make it again."


def verify(
    path: str | Path, *, depth: Depth = "fast", sources: Mapping[str, Path] | None = None
) -> list[Finding]:
    """Find what differs from what the manifest and the digests say.

    Parameters
    ----------
    path : path
        A bundle, a converted store, or a bound store, with the stores it refers to; or an archive
        of one of these, which is unpacked into a temporary folder.
    depth : {"fast", "deep", "values"}
        fast: every file is there with its size, nothing else is; sources are the right ones by
        their attributes. deep: sha256 of every file too. values: every value is decoded too, and
        digests of contents are taken anew.
    sources : mapping of source id to path, optional
        Where the sources of a bound store lie now.

    Returns
    -------
    list of Finding
        Empty when all is well; ``where`` is a path below ``path``, or that of a source.

    Raises
    ------
    FormatError
        There is neither a bundle nor a store.
    """
    if is_archive(path):
        with unpacked(path, doing="verify") as (folder, damage):
            found = damage or verify(folder, depth=depth, sources=sources)
            return [_renamed(one, str(folder), str(path)) for one in found]
    root = locate(path)
    bundled = is_bundle(root) or (root / BUNDLE_OWN[0]).is_file()
    if not bundled and not any((root / name).is_file() for name in (ROOT, MANIFEST, SUMS)):
        raise FormatError(
            cannot="verify",
            problem="neither a bundle nor a store",
            at=path,
            expected=f"{BUNDLE} or {ROOT}",
            got="nothing",
        )
    own = BUNDLE_OWN if bundled else (MANIFEST, SUMS)
    problems = list(check_files(root, own, deep=depth != "fast"))
    if problems:
        return problems
    try:
        return list(_check_contents(root, depth, sources or {}, bundled=bundled))
    except (FormatError, IntegrityError) as error:
        return [Finding("unreadable", str(path), str(error), AGAIN)]


def _renamed(found: Finding, folder: str, path: str) -> Finding:
    where, message = (text.replace(folder, path) for text in (found.where, found.message))
    return replace(found, where=where, message=message)


def check_files(root: Path, own: tuple[str, str], *, deep: bool) -> Iterator[Finding]:
    """Compare the files below a folder with its manifest.

    Parameters
    ----------
    root : Path
    own : (str, str)
        Paths of manifest and sums.
    deep : bool
        Hash every file, whatever its size.
    """
    manifest = None
    for found in _read_manifest(root, own):
        if isinstance(found, Finding):
            yield found
        else:
            manifest = found
    if manifest is None:
        return
    listed = {entry.path: entry for entry in manifest.files}
    present = set(store_files(root, own))
    for name in sorted(listed.keys() - present):
        yield Finding("file-missing", name, "listed in the manifest, but not there", AGAIN)
    for name in sorted(present - listed.keys()):
        yield Finding("file-unknown", name, "not listed in the manifest", "Remove it.")
    for name in sorted(present & listed.keys()):
        entry, size = listed[name], (root / name).stat().st_size
        if not deep and size == entry.bytes:
            continue
        same = file_digest(root / name) == entry.sha256
        if not same:
            text = f"its content differs from what the manifest says ({size} bytes)"
            yield Finding("file-changed", name, text, AGAIN)
        elif size != entry.bytes:
            text = f"it gives {name} {entry.bytes} bytes, but the file is intact with {size}"
            yield Finding("manifest-changed", own[0], text, AGAIN)


def _read_manifest(root: Path, own: tuple[str, str]) -> Iterator[Finding | Manifest]:
    """The manifest, if it can be trusted; else which of the two documents cannot."""
    for name in own:
        if not (root / name).is_file():
            yield Finding("file-missing", name, "document missing", AGAIN)
            return
    content, sums = ((root / name).read_bytes() for name in own)
    try:
        manifest = Manifest.model_validate_json(content)
    except ValueError as error:
        yield Finding("manifest-changed", own[0], fault_text(error), AGAIN)
        return
    lines = manifest_lines(manifest.files).encode()
    whole = hashlib.sha256(lines).hexdigest() == manifest.tree_sha256
    # whichever of the two agrees with itself or with the digest is the intact one
    if not whole or content != manifest_text(manifest).encode():
        yield Finding("manifest-changed", own[0], "does not agree with itself", AGAIN)
    elif sums != lines:
        text = f"does not say what {own[0]} says"
        yield Finding("manifest-changed", own[1], text, AGAIN)
    else:
        yield manifest


def _check_contents(
    root: Path, depth: Depth, sources: Mapping[str, Path], *, bundled: bool
) -> Iterator[Finding]:
    place = locate_store(root)
    store = open_store(place, sources=sources)
    if bundled:
        bundle = read_bundle(root)
        if store.info.content_digest != bundle.content_digest:
            text = "the store is another one than the bundle's"
            yield Finding("digest-differs", bundle.store, text, AGAIN)
    prefix = f"{place.relative_to(root).as_posix()}/" if bundled else ""
    if depth == "values":
        for found in validate(place, level="values", sources=sources):
            if found.severity == "error":
                yield replace(found, where=f"{prefix}{found.where}")
    if isinstance(store, BoundDataset):
        for source in store.info.sources:
            if store.attached(source.source_id):
                yield from _check_source(store, source.source_id, depth, root)


def _check_source(
    bound: BoundDataset, source_id: str, depth: Depth, root: Path
) -> Iterator[Finding]:
    """Check a store that a bound one refers to, wherever it lies."""
    (source,) = [one for one in bound.info.sources if one.source_id == source_id]
    try:
        store = bound.source(source_id)
    except (FormatError, IntegrityError) as error:
        fix = f"Give the right one: --source {source_id}=PATH"
        yield Finding("source-differs", source_id, str(error), fix)
        return
    inside = store.path.is_relative_to(root)
    where = store.path.relative_to(root).as_posix() if inside else str(store.path)
    found: list[Finding] = []
    if not inside:  # what lies inside has been looked at as part of the whole
        found += check_files(store.path, (MANIFEST, SUMS), deep=depth != "fast")
    if depth == "values" and not found:
        found += [one for one in validate(store.path, level="values") if one.severity == "error"]
        named = named_uids(bound.pairs(), bound.info.modalities, source_id)
        if not found and source.sample_digest not in (None, sample_digest(store, named)):
            text = "the samples that rows name are not those that were published"
            found.append(Finding("digest-differs", PAIRS, text, AGAIN))
    yield from (replace(one, where=f"{where}/{one.where}") for one in found)
