"""Compare raw files with those that the dataset's owner distributes, if their digest is known."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from mmbind_data.raw.files import RawFile
from mmbind_data.spec.descriptor import Checksum, Descriptor

BLOCK_BYTES = 1 << 20


def checksum_notes(descriptor: Descriptor, files: Sequence[RawFile]) -> list[str]:
    """Remarks on the files whose official digest is known: whether they have it.

    ``files`` are as `mmbind_data.raw.files.scan` lists them.
    """
    known: dict[str, list[Checksum]] = {}
    for checksum in descriptor.checksums:
        known.setdefault(checksum.file.rsplit("/", 1)[-1], []).append(checksum)
    found: dict[bool, list[str]] = {True: [], False: []}
    for name, place, source in _candidates(files, known):
        fitting = [one for one in known[name] if f"/{place}".endswith(f"/{one.file}")]
        if fitting:
            found[any(_digest(one, source) == one.digest for one in fitting)].append(name)
    texts = {
        True: "official file, checksum known",
        False: "warning: not the official file as its checksum tells (changed or packed anew?)",
    }
    return [f"{texts[same]}: {', '.join(sorted(names))}" for same, names in found.items() if names]


def _candidates(
    files: Sequence[RawFile], names: dict[str, list[Checksum]]
) -> list[tuple[str, str, RawFile | Path]]:
    """Archives and files with a known name: name, path for comparison, where to read it."""
    archives = {file.container for file in files if file.member is not None}
    found: list[tuple[str, str, RawFile | Path]] = [
        (archive.name, str(archive), archive) for archive in sorted(archives)
    ]
    found += [(file.path.rsplit("/", 1)[-1], file.path, file) for file in files]
    return [one for one in found if one[0] in names]


def _digest(checksum: Checksum, source: RawFile | Path) -> str:
    size = source.size if isinstance(source, RawFile) else source.stat().st_size
    digest = hashlib.new("sha1" if checksum.algorithm == "git-blob" else checksum.algorithm)
    if checksum.algorithm == "git-blob":
        digest.update(f"blob {size}\0".encode())
    if isinstance(source, RawFile):
        digest.update(source.read())
    else:
        with source.open("rb") as stream:
            while block := stream.read(BLOCK_BYTES):
                digest.update(block)
    return digest.hexdigest()
