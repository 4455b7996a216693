"""A prefix of an S3 bucket as a place for a bundle."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from mmbind_data.errors import OutputError, UsageError
from mmbind_data.io.digests import BUNDLE_OWN
from mmbind_data.io.locations import bucket_and_prefix, s3_errors, s3_system
from mmbind_data.spec.bundle import ManifestEntry
from mmbind_data.store.root import BUNDLE

AT_ONCE = 32  # files


class BucketPrefix:
    """A prefix of a bucket that exists.

    Parameters
    ----------
    address : str
        ``s3://bucket/prefix``.

    Raises
    ------
    UsageError
        No prefix: a whole bucket is never replaced.
    FormatError
        A package is missing.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.bucket, prefix = bucket_and_prefix(address)
        if not prefix:
            expected, got = "s3://bucket/prefix", "a bucket alone"
            raise UsageError(
                cannot="publish", problem="no prefix", at=address, expected=expected, got=got
            )
        self.root = f"{self.bucket}/{prefix}"
        self.system = s3_system("publish")

    def errors(self) -> AbstractContextManager[None]:
        """Turn an error of S3 into one sentence, an `OutputError`."""
        return s3_errors("publish", self.address, OutputError)

    def files(self) -> dict[str, dict[str, Any]]:
        """What is below the prefix, by name, as S3 describes it: ``size``, ``ETag``."""
        self.system.invalidate_cache()
        self.system.ls(self.bucket)  # raises if the bucket does not exist
        self.system.invalidate_cache()
        found = self.system.find(f"{self.root}/", detail=True)
        return {name.removeprefix(f"{self.root}/"): info for name, info in found.items()}

    def is_ours(self, files: Mapping[str, Any]) -> bool:
        """Whether the files are a bundle of mmbind, or a part of one."""
        if BUNDLE in files and b'"mmbind' in self._read(BUNDLE):
            return True
        sums = (
            self._read(BUNDLE_OWN[1]).decode("utf-8", "replace") if BUNDLE_OWN[1] in files else ""
        )
        listed = {line.partition("  ")[2] for line in sums.splitlines()}
        return BUNDLE in listed and files.keys() <= listed | set(BUNDLE_OWN)

    def same(self, path: Path, entry: ManifestEntry, found: Mapping[str, Any]) -> bool:
        """Whether an object equals a local file: by its ETag if that is an md5, else by bytes."""
        if found["size"] != entry.bytes:
            return False
        with path.open("rb") as stream:
            md5 = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False))
        if found["ETag"].strip('"') == md5.hexdigest():
            return True
        # sent in parts, or encrypted there
        with self.system.open(f"{self.root}/{entry.path}", "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest() == entry.sha256

    def send(
        self, folder: Path, groups: Sequence[Sequence[str]], removed: Sequence[str]
    ) -> Iterator[int]:
        """Delete files, then send groups of files in order; yields how many were sent."""
        for name in removed:
            self.system.rm_file(f"{self.root}/{name}")
        for group in groups:
            for start in range(0, len(group), AT_ONCE):
                names = group[start : start + AT_ONCE]
                self.put(folder, names)
                yield len(names)

    def put(self, folder: Path, names: Sequence[str]) -> None:
        """Send files at the same time."""
        local = [str(folder / name) for name in names]
        self.system.put(local, [f"{self.root}/{name}" for name in names])

    def _read(self, name: str) -> bytes:
        content: bytes = self.system.cat_file(f"{self.root}/{name}")
        return content
