"""Check that a bundle or a store is what was published: by sizes, by every byte, or every value."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
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
    path: str | Path, *, depth: Depth = "fast", sources: Mapping[str, str | Path] | None = None
) -> list[Finding]:
    """Find what differs from what the manifest and the digests say.

    Parameters
    ----------
    path : path
        A bundle, a converted store, or a bound store with the stores that it refers to; or an
        archive of one of these, which is unpacked into a temporary folder.
    depth : {"fast", "deep", "values"}
        fast: every file is there with its size, no other file is, and sources are the right ones
        by their attributes. deep: also the sha256 of every file. values: also every value is
        decoded, and digests of contents are computed anew.
    sources : mapping of source id to path, optional
        Where the sources of a bound store are now.

    Returns
    -------
    list of Finding
        Empty if nothing differs; ``where`` is a path below ``path``, or that of a source.

    Raises
    ------
    FormatError
        There is neither a bundle nor a store.

    Examples
    --------
    >>> import mmbind_data as md
    >>> md.verify("bundle", depth="deep")  # doctest: +SKIP
    []
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
        return [_damage("unreadable", str(path), str(error))]


def refuse_damage(found: Iterable[Finding], doing: str, problem: str, at: object) -> None:
    """Raise an `IntegrityError` for the first finding, if there is one.

    Parameters
    ----------
    found : iterable of Finding
    doing, problem : str
        See `MMBindError`.
    at : path
        What was examined.
    """
    for one in found:
        raise IntegrityError(
            cannot=doing,
            problem=problem,
            at=f"{at} {one.where}",
            expected="what was written",
            got=f"{one.code}: {one.message}",
            fix=one.fix,
        )


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
    manifest = _read_manifest(root, own)
    if isinstance(manifest, Finding):
        yield manifest
        return
    listed = {entry.path: entry for entry in manifest.files}
    present = set(store_files(root, own))
    for name in sorted(listed.keys() - present):
        yield _damage("file-missing", name, "listed in the manifest, but not there")
    for name in sorted(present - listed.keys()):
        yield _damage("file-unknown", name, "not listed in the manifest", "Remove it.")
    for name in sorted(present & listed.keys()):
        entry, size = listed[name], (root / name).stat().st_size
        if not deep and size == entry.bytes:
            continue
        if file_digest(root / name) != entry.sha256:
            text = f"its content differs from what the manifest says ({size} bytes)"
            yield _damage("file-changed", name, text)
        elif size != entry.bytes:
            text = f"it gives {name} {entry.bytes} bytes, but the file is intact with {size}"
            yield _damage("manifest-changed", own[0], text)


def _damage(code: str, where: str, message: str, fix: str = AGAIN) -> Finding:
    return Finding(code, where, message, fix)


def _read_manifest(root: Path, own: tuple[str, str]) -> Manifest | Finding:
    """The manifest, if it can be trusted; else which of the two documents cannot."""
    for name in own:
        if not (root / name).is_file():
            return _damage("file-missing", name, "document missing")
    content, sums = ((root / name).read_bytes() for name in own)
    try:
        manifest = Manifest.model_validate_json(content)
    except ValueError as error:
        return _damage("manifest-changed", own[0], fault_text(error))
    lines = manifest_lines(manifest.files).encode()
    whole = hashlib.sha256(lines).hexdigest() == manifest.tree_sha256
    # whichever of the two agrees with itself or with the digest is the intact one
    if not whole or content != manifest_text(manifest).encode():
        return _damage("manifest-changed", own[0], "does not agree with itself")
    if sums != lines:
        return _damage("manifest-changed", own[1], f"does not say what {own[0]} says")
    return manifest


def _check_contents(
    root: Path, depth: Depth, sources: Mapping[str, str | Path], *, bundled: bool
) -> Iterator[Finding]:
    place = locate_store(root)
    store = open_store(place, sources=sources)
    if bundled:
        bundle = read_bundle(root)
        if store.info.content_digest != bundle.content_digest:
            yield _damage("digest-differs", bundle.store, "the store is not that of the bundle")
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
    """Check a store that a bound one refers to, wherever it is."""
    (source,) = [one for one in bound.info.sources if one.source_id == source_id]
    try:
        store = bound.source(source_id)
    except (FormatError, IntegrityError) as error:
        fix = f"Give the right one: --source {source_id}=PATH"
        yield _damage("source-differs", source_id, str(error), fix)
        return
    inside = store.path.is_relative_to(root)
    where = store.path.relative_to(root).as_posix() if inside else str(store.path)
    found: list[Finding] = []
    if not inside:  # files inside were compared with the manifest of the whole
        found += check_files(store.path, (MANIFEST, SUMS), deep=depth != "fast")
    if depth == "values" and not found:
        found += [one for one in validate(store.path, level="values") if one.severity == "error"]
        named = named_uids(bound.pairs(), bound.info.modalities, source_id)
        if not found and source.sample_digest not in (None, sample_digest(store, named)):
            text = "the samples that rows name are not those that were published"
            found.append(_damage("digest-differs", PAIRS, text))
    yield from (replace(one, where=f"{where}/{one.where}") for one in found)
