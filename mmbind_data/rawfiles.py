"""Raw files wherever they lie: in a folder, in zips inside a folder, or in one zip.

Readers see one flat list of `RawFile` and never learn how the user keeps the data. What a reader
finds it returns as `Unit`s: the raw files that are converted at one go.
"""

from __future__ import annotations

import os
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from mmbind_data.errors import RawLayoutError, problem

LOCAL_HEADER = struct.Struct("<4s5H3I2H")
ENCRYPTED = 0x1
AGAIN = "Download or copy it again."


@dataclass(frozen=True)
class Span:
    """Where a member lies inside its zip, so that reading it needs no look at the directory."""

    offset: int
    packed: int
    method: int
    crc: int
    flags: int


@dataclass(frozen=True)
class RawFile:
    """One raw file, on disk or inside a zip.

    ``path`` is the canonical path inside the dataset once a reader has recognised the file: the
    same for a zip, a folder or a doubled folder. `scan` sets it to where the file was seen.
    ``content`` holds the bytes once they were read for hashing.
    """

    path: str
    container: Path
    member: str | None
    size: int
    span: Span | None = None
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
            with self.container.open("rb") as stream:
                if self.span is None:
                    return stream.read()
                stream.seek(self.span.offset)
                header = stream.read(LOCAL_HEADER.size)
                if len(header) < LOCAL_HEADER.size or header[:4] != b"PK\3\4":
                    raise self._corrupt("a zip member's header", "other bytes")
                *_, name_length, extra_length = LOCAL_HEADER.unpack(header)
                stream.seek(name_length + extra_length, os.SEEK_CUR)
                packed = stream.read(self.span.packed)
        except OSError as error:
            raise self._corrupt("a readable file", error.strerror or str(error)) from error
        return self._unpack(packed, self.span)

    def _unpack(self, packed: bytes, span: Span) -> bytes:
        if span.flags & ENCRYPTED:
            raise self._corrupt("no password", "an encrypted member", "Unpack the zip first.")
        if span.method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            got = f"compression method {span.method}"
            raise self._corrupt("a stored or deflated member", got, "Unpack the zip first.")
        content = packed
        if span.method == zipfile.ZIP_DEFLATED:
            inflate = zlib.decompressobj(-zlib.MAX_WBITS)
            try:
                # one byte more than promised shows a member that is larger than its directory says
                content = inflate.decompress(packed, self.size + 1)
            except zlib.error as error:
                raise self._corrupt("an intact member", str(error)) from error
        if len(content) != self.size:
            raise self._corrupt(f"{self.size} bytes", f"{len(content)} bytes")
        if zlib.crc32(content) != span.crc:
            raise self._corrupt(f"CRC {span.crc:08x}", f"CRC {zlib.crc32(content):08x}")
        return content

    def _corrupt(self, expected: str, got: str, next_step: str = AGAIN) -> RawLayoutError:
        message = problem("read raw data", "broken file", self.place, expected, got, next_step)
        return RawLayoutError(message)


@dataclass(frozen=True)
class Unit:
    """What is converted at one go: one recording's raw files, by the role they play.

    ``fields`` holds what the names alone tell: "subject", "label", "trial", ...
    ``needed_for`` names the modalities that a role is read for; a role not in it is always read.
    """

    key: str
    files: Mapping[str, RawFile]
    fields: Mapping[str, str]
    needed_for: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

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
    """What a reader made of the files: units in store order, and what it left aside.

    ``modalities`` are those that at least one unit can give; ``unrecognised`` are files that no
    unit uses and that do not belong to the dataset as it is known.
    """

    units: tuple[Unit, ...]
    unrecognised: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    modalities: tuple[str, ...] = field(default=())


def scan(raw: Path) -> list[RawFile]:
    """List all files below a folder (zips in it opened), or inside one zip, in natural order.

    Left out: what macOS and Windows add (``__MACOSX``, ``._*``, ``.DS_Store``, ``Thumbs.db``),
    hidden folders, and symbolic links that lead out of the folder. A path begins with the name of
    ``raw``, because a user may point at the dataset's inner folder, whose name then matters.

    Raises
    ------
    RawLayoutError
        ``raw`` is missing, neither folder nor zip, holds no file, or holds a broken zip.
    """
    # resolved: "." and links have no telling name of their own
    root = raw.resolve()
    if not root.exists():
        raise RawLayoutError(
            problem("read raw data", "nothing", raw, "a folder or a .zip file", "no such path")
        )
    if root.is_file():
        files = list(_members(root, root.name))
    else:
        files = [found for path in _walk(root) for found in _open(path, root)]
    if not files:
        step = "Links that lead out of the folder are not followed: give the folder they lead to."
        message = problem("read raw data", "nothing", raw, "raw files", "no file", step)
        raise RawLayoutError(message)
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

    Parameters
    ----------
    files : sequence of RawFile
        As `scan` returns them.
    canonical : callable
        Maps a scanned path to the canonical one; None for a file that is not recognised.

    Returns
    -------
    by_path : dict
        Canonical path -> file. Of several copies an unpacked one wins, then the first path.
    unknown : list of str
        Scanned paths that were not recognised.
    notes : list of str
        What was left aside as a copy, if anything.

    Raises
    ------
    RawLayoutError
        Two copies that differ in size, or in their checksums as two zips give them.
    """
    by_path: dict[str, RawFile] = {}
    unknown: list[str] = []
    copies: list[tuple[RawFile, RawFile]] = []
    for file in sorted(files, key=lambda one: (one.member is not None, natural(one.path))):
        path = canonical(file.path)
        if path is None:
            unknown.append(file.path)
        elif path in by_path:
            copies.append((by_path[path], file))
        else:
            by_path[path] = replace(file, path=path)
    return by_path, sorted(unknown, key=natural), _copy_notes(copies)


def _copy_notes(copies: Sequence[tuple[RawFile, RawFile]]) -> list[str]:
    if not copies:
        return []
    for used, left in copies:
        if used.size != left.size or (used.span and left.span and used.span.crc != left.span.crc):
            raise RawLayoutError(
                problem(
                    "read raw data",
                    f"two different copies of {used.path}",
                    used.place,
                    "one copy, or equal ones",
                    f"another content at {left.place}",
                    "Remove the wrong one.",
                )
            )
    used, left = copies[0]
    return [f"copies left aside: {len(copies)}, e.g. {left.place} (used: {used.place})"]


def is_document(path: str) -> bool:
    """Tell a readme, licence or paper, which every dataset may carry, from data.

    >>> is_document("raw/README.md"), is_document("raw/sub_1.csv")
    (True, False)
    """
    name = path.rsplit("/", 1)[-1].lower()
    return name.endswith((".md", ".pdf", ".rst")) or name.startswith(("readme", "licen", "source."))


def nothing_found(name: str, files: Sequence[RawFile], expected: str, step: str) -> RawLayoutError:
    """Build the error of a reader that recognised none of the files."""
    kind = "file" if len(files) == 1 else "files"
    got = f"{len(files)} {kind} such as {files[0].path}" if files else "no file"
    where = os.path.commonpath([file.container for file in files]) if files else "raw folder"
    return RawLayoutError(
        problem(f"convert {name}", "nothing that belongs to it", where, expected, got, step)
    )


def _walk(root: Path) -> Iterator[Path]:
    def fail(error: OSError) -> None:
        raise RawLayoutError(
            problem("read raw data", "closed folder", error.filename, "a readable one", str(error))
        ) from error

    for folder, subfolders, names in os.walk(root, onerror=fail, followlinks=False):
        subfolders[:] = sorted(name for name in subfolders if not _is_junk(name))
        for name in sorted(names):
            path = Path(folder, name)
            # a link out of the tree would make one raw folder depend on another
            if not path.is_symlink() or path.resolve().is_relative_to(root):
                yield path


def _open(path: Path, root: Path) -> Iterator[RawFile]:
    seen = str(PurePosixPath(root.name, *path.relative_to(root).parts))
    if _is_junk(path.name) or not path.is_file():
        return
    if path.suffix.lower() == ".zip":
        yield from _members(path, seen)
    else:
        yield RawFile(seen, path, None, path.stat().st_size)


def _members(container: Path, seen: str) -> Iterator[RawFile]:
    try:
        with zipfile.ZipFile(container) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, NotImplementedError) as error:
        size = container.stat().st_size
        step = f"{AGAIN} Another kind of archive must be unpacked first."
        got = f"{size} bytes that end without a zip's directory ({error})"
        raise RawLayoutError(
            problem("read raw data", "broken or no zip", container, "a whole .zip", got, step)
        ) from error
    for entry in entries:
        parts = PurePosixPath(entry.filename.replace("\\", "/")).parts
        if entry.is_dir() or any(_is_junk(part) for part in parts):
            continue
        span = Span(
            entry.header_offset,
            entry.compress_size,
            entry.compress_type,
            entry.CRC,
            entry.flag_bits,
        )
        path = str(PurePosixPath(seen, *(part for part in parts if part != "/")))
        yield RawFile(path, container, entry.filename, entry.file_size, span)


def _is_junk(name: str) -> bool:
    return name == "__MACOSX" or name == "Thumbs.db" or (name.startswith(".") and name != "..")
