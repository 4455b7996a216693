"""Raw files wherever they are: in a folder, in zips inside a folder, or in one zip.

Readers see one flat list of `RawFile` and never learn how the user keeps the data. They return what
they find as `Unit`s: the raw files that are converted together.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from isal import isal_zlib

from mmbind_data.errors import RawLayoutError
from mmbind_data.raw.zips import (
    BLOCK_BYTES,
    DOWNLOAD_AGAIN,
    Span,
    is_junk,
    list_members,
    read_member,
)

STREAMED_BYTES = 32 << 20
OFFICIAL = "Compare the file with the official archive."
NOT_FOLLOWED = " (link, not followed)"
_error = partial(RawLayoutError, cannot="read raw data")


@dataclass(frozen=True, slots=True)
class RawFile:
    """One raw file, on disk or inside a zip.

    ``path`` is the canonical path inside the dataset once a reader has recognised the file: the
    same for a zip, a folder or a doubled folder. `scan` sets it to where the file was seen.
    ``nest`` are the zips between the container and the zip that holds the member. ``content``
    holds the bytes once they were read for hashing.
    """

    path: str
    container: Path
    member: str | None
    size: int
    span: Span | None = None
    nest: tuple[Span, ...] = ()
    content: bytes | None = field(default=None, repr=False, compare=False)

    @property
    def place(self) -> str:
        """Where the bytes are, for messages."""
        return str(self.container) if self.member is None else f"{self.container}:{self.member}"

    def read(self) -> bytes:
        """Return the file's bytes, unpacked and checked against the zip's checksum.

        Raises
        ------
        RawLayoutError
            The file is gone, unreadable, truncated or corrupt.
        """
        if self.content is not None:
            return self.content
        try:
            if self.span is not None:
                return read_member(self.container, self.nest, self.span, self.place)
            return self.container.read_bytes()
        except OSError as error:
            raise self._unreadable(error) from error

    def checksum(self) -> int:
        """CRC-32 of the bytes: of a zip's member from its directory, otherwise of the file.

        Raises
        ------
        RawLayoutError
            The file is gone or unreadable.
        """
        if self.span is not None:
            return self.span.crc
        crc = 0
        try:
            with self.container.open("rb") as stream:
                while block := stream.read(BLOCK_BYTES):
                    crc = isal_zlib.crc32(block, crc)
        except OSError as error:
            raise self._unreadable(error) from error
        return crc

    def _unreadable(self, error: OSError) -> RawLayoutError:
        what, expected = "broken file", "a readable file"
        return _error(problem=what, at=self.place, expected=expected, got=error, fix=DOWNLOAD_AGAIN)


def bad_file(
    file: RawFile, problem: str, expected: str, got: object, fix: str = OFFICIAL
) -> RawLayoutError:
    """Build the error of a raw file that is not what its dataset distributes."""
    refused = partial(RawLayoutError, cannot=f"read {file.path}", at=file.place)
    return refused(problem=problem, expected=expected, got=got, fix=fix)


def bad_layout(
    name: str, problem: str, at: object, expected: str, got: object, fix: str = ""
) -> RawLayoutError:
    """Build the error of raw data that cannot be converted, for reasons of more than one file."""
    refused = partial(RawLayoutError, cannot=f"convert {name}", at=at)
    return refused(problem=problem, expected=expected, got=got, fix=fix)


def read_content(file: RawFile) -> bytes:
    """Bytes of a file that must not be empty."""
    content = file.read()
    if not content:
        raise bad_file(file, "empty file", "data", "0 bytes")
    return content


def is_streamed(file: RawFile) -> bool:
    """Whether a raw file is hashed and parsed block by block, and not held in memory.

    Small files are read once for both; of a large one the memory costs more than a second reading.
    """
    return file.content is None and file.span is None and file.size >= STREAMED_BYTES


@dataclass(frozen=True)
class Unit:
    """The raw files of one recording, which are converted together, by the role they play.

    ``fields`` holds what the names of the files say: "subject", "label", "trial", ...
    ``needed_for`` names the modalities that a role is read for; a role not in it is always read.
    ``placements`` are the body positions whose recordings a reader takes out of these files, if
    they hold several.
    """

    key: str
    files: Mapping[str, RawFile]
    fields: Mapping[str, str]
    needed_for: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    placements: tuple[str, ...] = ()

    @property
    def worn(self) -> tuple[str, ...]:
        """Body positions that the unit holds, as far as known before it is read."""
        if self.placements or "placement" not in self.fields:
            return self.placements
        return (self.fields["placement"],)

    def narrowed(self, modalities: Sequence[str]) -> Unit:
        """Leave out the files that none of the modalities needs."""
        files = {
            role: file
            for role, file in self.files.items()
            if role not in self.needed_for or set(self.needed_for[role]) & set(modalities)
        }
        return replace(self, files=files)


@dataclass(frozen=True)
class RawListing:
    """The files as a reader understands them: units in store order, and what it left aside.

    ``modalities`` are those that at least one unit can give; ``unrecognised`` are files that no
    unit uses and that do not belong to the dataset as it is known.
    """

    units: tuple[Unit, ...]
    unrecognised: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    modalities: tuple[str, ...] = ()


def scan(raw: Path) -> list[RawFile]:
    """List all files below a folder, or inside one zip, in natural order; zips are opened.

    Left out: what macOS and Windows add (``__MACOSX``, ``._*``, ``.DS_Store``, ``Thumbs.db``) and
    hidden folders. Symbolic links that lead out of the folder, and links in zips, are listed under
    names that no reader recognises, but not followed. A path begins with the name of ``raw``,
    because a user may point at the dataset's inner folder, whose name then matters.

    Raises
    ------
    RawLayoutError
        ``raw`` is missing, neither folder nor zip, holds no file, or holds a broken zip.
    """
    # resolved, because "." has no name, and that of a link does not describe the data
    root = raw.resolve()
    if root.is_file():
        files = list(_members(root, root.name))
    elif root.is_dir():
        files = [found for path in _walk(root) for found in _open(path, root)]
    else:
        got = _special(root) if root.exists() else "no such path"
        expected = "a folder or a .zip file"
        raise _error(problem="neither folder nor zip", at=raw, expected=expected, got=got)
    if all(file.path.endswith(NOT_FOLLOWED) for file in files):
        got, fix = "no file", "Give the folder or zip that holds the data."
        if files:
            got = f"only links that are not followed, such as {files[0].place}"
            fix = "Links are followed inside the folder only: give the folder they lead to."
        raise _error(problem="nothing", at=raw, expected="raw files", got=got, fix=fix)
    return sorted(files, key=lambda file: natural(file.path))


def natural(text: str) -> tuple[tuple[str | int, ...], str]:
    """Sort key under which a2 comes before a10.

    >>> sorted(["a10", "a2"], key=natural)
    ['a2', 'a10']
    """
    # split gives text, number, text, ...: equal positions always compare equal kinds
    parts = re.split(r"([0-9]+)", text)
    return tuple(int(part) if i % 2 else part for i, part in enumerate(parts)), text


def spans(numbers: Iterable[int]) -> str:
    """Write whole numbers as runs.

    >>> spans([3, 1, 2, 5])
    '1-3, 5'
    """
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(f"{a}-{b}" if a != b else f"{a}" for a, b in runs)


def recognise(
    files: Sequence[RawFile], canonical: Callable[[str], str | None]
) -> tuple[dict[str, RawFile], list[str], list[str]]:
    """Give each file its canonical path and keep one of several copies.

    ``canonical`` maps the path that `scan` gave to the canonical one, or to None for a file that is
    not recognised.

    Returns
    -------
    by_path : dict
        Canonical path -> file. Of several copies an unpacked one wins, then the first path.
    unknown : list of str
        Scanned paths that were not recognised, without documents (see `is_document`).
    notes : list of str
        What was left aside as a copy, if anything.

    Raises
    ------
    RawLayoutError
        Two copies that differ in size or content; a file that must be compared is unreadable.
    """
    found: dict[str, RawFile] = {}
    unknown: list[str] = []
    several: dict[str, list[RawFile]] = {}
    for file in files:
        path = canonical(file.path)
        if path is None:
            if not is_document(file.path):
                unknown.append(file.path)
        elif path in found:
            several.setdefault(path, [found[path]]).append(file)
        else:
            found[path] = file
    copies = []
    # only copies are sorted: of millions of files the sort keys alone would take gigabytes
    for path, same in several.items():
        found[path], *others = sorted(same, key=_copy_order)
        copies += [(path, one) for one in others]
    by_path = {path: replace(file, path=path) for path, file in found.items()}
    copies.sort(key=lambda copy: _copy_order(copy[1]))
    notes = _copy_notes([(by_path[path], file) for path, file in copies])
    return by_path, sorted(unknown, key=natural), notes


def _copy_order(file: RawFile) -> tuple[Any, ...]:
    return file.member is not None, natural(file.path)


def _copy_notes(copies: Sequence[tuple[RawFile, RawFile]]) -> list[str]:
    if not copies:
        return []
    for used, left in copies:
        # only copies are read for it, and of those in zips the checksum is known
        if used.size != left.size or used.checksum() != left.checksum():
            what, got = f"two different copies of {used.path}", f"another content at {left.place}"
            expected, fix = "one copy, or equal ones", "Remove the wrong one."
            raise _error(problem=what, at=used.place, expected=expected, got=got, fix=fix)
    used, left = copies[0]
    return [f"copies left aside: {len(copies)}, e.g. {left.place} (used: {used.place})"]


def is_document(path: str) -> bool:
    """Whether a file is a readme, licence or paper, which every dataset may hold beside its data.

    >>> is_document("raw/README.md"), is_document("raw/sub_1.csv")
    (True, False)
    """
    name = path.rsplit("/", 1)[-1].lower()
    return name.endswith((".md", ".pdf", ".rst")) or name.startswith(("readme", "licen", "source."))


def nothing_found(name: str, files: Sequence[RawFile], expected: str, fix: str) -> RawLayoutError:
    """Build the error of a reader that recognised none of the files."""
    kind = "file" if len(files) == 1 else "files"
    got = f"{len(files)} {kind} such as {files[0].path}" if files else "no file"
    at = os.path.commonpath([file.container for file in files]) if files else "raw folder"
    return bad_layout(name, "nothing that belongs to it", at, expected, got, fix)


def _special(path: Path) -> str:
    """Name the kind of a path that is neither folder nor file."""
    kinds = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(path.stat().st_mode), "a device")


def _walk(root: Path) -> Iterator[Path]:
    def fail(error: OSError) -> None:
        what, at = "closed folder", error.filename
        raise _error(problem=what, at=at, expected="a readable one", got=error) from error

    for folder, subfolders, names in os.walk(root, onerror=fail, followlinks=False):
        subfolders[:] = sorted(name for name in subfolders if not is_junk(name))
        links = [name for name in subfolders if Path(folder, name).is_symlink()]
        yield from (Path(folder, name) for name in sorted([*names, *links]))


def _open(path: Path, root: Path) -> Iterator[RawFile]:
    seen = str(PurePosixPath(root.name, *path.relative_to(root).parts))
    if is_junk(path.name) or not (path.is_file() or path.is_symlink()):
        return
    # a link out of the tree would make one raw folder depend on another
    inside = path.is_file() and path.resolve().is_relative_to(root)
    if path.is_symlink() and not inside:
        yield RawFile(seen + NOT_FOLLOWED, path, None, 0)
    elif path.suffix.lower() == ".zip":
        yield from _members(path, seen)
    else:
        yield RawFile(seen, path, None, path.stat().st_size)


def _members(container: Path, seen: str) -> Iterator[RawFile]:
    for member in list_members(container):
        if any(is_junk(part) for part in member.parts):
            continue
        name = "/".join(member.parts)
        path = f"{seen}/{name}{NOT_FOLLOWED if member.is_link else ''}"
        yield RawFile(path, container, name, member.span.size, member.span, member.nest)
