"""Digests of files and of decoded values, and the manifest of a store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mmbind_data.io.locations import files_below
from mmbind_data.spec.bundle import Manifest, ManifestEntry

MANIFEST = "meta/MANIFEST.json"
SUMS = "meta/SHA256SUMS"
BUNDLE_OWN = ("MANIFEST.json", "SHA256SUMS")  # of a published folder, in its root


def canonical_json(value: Any) -> str:
    """One text for one value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def text_digest(*parts: str) -> str:
    """Hex sha256 of the parts joined by ``|``."""
    return hashlib.sha256("|".join(parts).encode()).hexdigest()


def sample_uid(dataset_id: str, key: str, span: str, preset: str) -> str:
    """128-bit hex name of a sample, the same on every machine.

    >>> sample_uid("utd-mhad", "a1_s1_t1", "whole", "default")
    '35f964b42446ce8cc45dbb531765da4a'
    """
    return text_digest(dataset_id, key, span, preset)[:32]


def sample_uids(dataset_id: str, key: str, spans: Iterable[str], preset: str) -> Iterator[str]:
    """`sample_uid` of each span of one recording; what they have in common is hashed once."""
    begin = hashlib.sha256(f"{dataset_id}|{key}|".encode())
    for span in spans:
        digest = begin.copy()
        digest.update(f"{span}|{preset}".encode())
        yield digest.hexdigest()[:32]


class ArrayDigest:
    """Running sha256 over the decoded values of one array, whatever its chunks and codecs.

    ``dtype`` is a little-endian numpy type, such as ``<f4``; ``row_shape`` lacks the first axis.
    """

    def __init__(self, dtype: str, row_shape: tuple[int, ...]) -> None:
        self._dtype = np.dtype(dtype)
        self._row_shape = row_shape
        self._n_rows = 0
        self._hash = hashlib.sha256()

    def update(self, rows: np.ndarray) -> None:
        """Take in the next rows, shape (n, *row_shape)."""
        canonical = np.ascontiguousarray(rows, dtype=self._dtype)
        if canonical.dtype.kind == "f":
            absent = np.isnan(canonical)
            if absent.any():  # NaN has many bit patterns: all are digested as one of them
                canonical = np.where(absent, np.array(np.nan, canonical.dtype), canonical)
        self._n_rows += len(canonical)
        self._hash.update(canonical.data)

    def line(self, path: str) -> str:
        """Text with path, type, shape and digest."""
        shape = "x".join(str(size) for size in (self._n_rows, *self._row_shape))
        return f"array {path} {self._dtype.str} {shape} {self._hash.hexdigest()}"


def table_line(path: str, columns: Mapping[str, list[Any]]) -> str:
    """Text with the name of a table and the digest of its values, column by column."""
    digest = hashlib.sha256()
    for name, values in columns.items():
        digest.update(canonical_json([name, values]).encode())
    return f"table {path} {digest.hexdigest()}"


def content_digest(lines: Iterable[str]) -> str:
    """Digest of a store: sha256 over the sorted lines of its arrays, tables and facts."""
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def file_entry(root: Path, path: str) -> ManifestEntry:
    """Path below ``root``, size and digest of one file."""
    place = root / path
    return ManifestEntry(path=path, bytes=place.stat().st_size, sha256=file_digest(place))


def store_files(root: Path, own: tuple[str, str] = (MANIFEST, SUMS)) -> Iterator[str]:
    """Relative POSIX paths of all files below ``root``, sorted, without the two manifests."""
    yield from (path for path in sorted(files_below(root)) if path not in own)


def manifest_lines(entries: Iterable[ManifestEntry]) -> str:
    """Text of SHA256SUMS, whose own sha256 is the manifest's ``tree_sha256``."""
    return "".join(f"{entry.sha256}  {entry.path}\n" for entry in entries)


def manifest_text(manifest: Manifest) -> str:
    """Exact text of MANIFEST.json."""
    return manifest.model_dump_json(indent=1) + "\n"


def write_manifest(
    root: Path, known: Iterable[ManifestEntry] = (), *, own: tuple[str, str] = (MANIFEST, SUMS)
) -> Manifest:
    """Write MANIFEST.json and SHA256SUMS for every file of a finished store, or bundle.

    The SHA256SUMS of a store is in meta/ and holds paths from the store's root: check it with
    ``cd STORE && sha256sum -c meta/SHA256SUMS``. The two documents of a bundle are in its root:
    ``own`` are their paths. ``known`` are entries of files that need not be read again.
    """
    by_path = {entry.path: entry for entry in known}
    entries = tuple(by_path.get(path) or file_entry(root, path) for path in store_files(root, own))
    lines = manifest_lines(entries)
    manifest = Manifest(files=entries, tree_sha256=hashlib.sha256(lines.encode()).hexdigest())
    (root / own[0]).write_text(manifest_text(manifest))
    (root / own[1]).write_text(lines)
    return manifest
