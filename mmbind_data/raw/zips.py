"""Read zips in place, also zips inside other zips: nothing is unpacked to disk.

A member is found by its `Span`, so reading it needs no look at the directory. The sizes and the
checksums of the directory are enforced: no member yields more bytes than it announces. Members are
inflated by ISA-L, which takes a third of the time of the standard library's zipfile.
"""

from __future__ import annotations

import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from operator import attrgetter
from pathlib import Path, PurePosixPath

from isal import isal_zlib

from mmbind_data.errors import RawLayoutError

LOCAL_HEADER = struct.Struct("<4s5H3I2H")
ENCRYPTED = 0x1
EXTRA_BYTES = 1024  # read ahead for a member's name and extra field
BLOCK_BYTES = 1 << 20
# an inner zip up to this size is inflated once and kept while its members are read
CACHED_BYTES, CACHED_ZIPS = 32 << 20, 8
TAIL_BYTES = 4 << 20  # of a larger one: the end, which holds its directory
MAX_DEPTH = 3
# a member is held in memory; sensor text deflates by 3 to 10, hardly by more
MAX_MEMBER_BYTES, BOMB_BYTES, BOMB_RATIO = 4 << 30, 256 << 20, 200
DOWNLOAD_AGAIN = "Download or copy it again."
UNPACK = "Unpack the zip first."
OTHER_ARCHIVES = {
    b"Rar!": "a RAR archive",
    b"7z\xbc\xaf": "a 7z archive",
    b"\x1f\x8b": "a gzip archive",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ": "an xz archive",
    b"ustar": "a tar archive",
}


@dataclass(frozen=True, slots=True)
class Span:
    """The bytes of a member inside its zip, as the directory describes them."""

    offset: int
    packed: int
    size: int
    method: int
    crc: int
    flags: int


SPAN_FIELDS = attrgetter(
    "header_offset", "compress_size", "file_size", "compress_type", "CRC", "flag_bits"
)


@dataclass(frozen=True, slots=True)
class Member:
    """One file in a zip. ``nest`` are the zips around it, the outermost first, without the file."""

    parts: tuple[str, ...]
    span: Span
    nest: tuple[Span, ...]
    is_link: bool


def list_members(
    container: Path, nest: tuple[Span, ...] = (), inside: str = ""
) -> Iterator[Member]:
    """List the files of a zip; those of zips inside it too, down to a depth of `MAX_DEPTH`.

    ``container`` is the outermost zip, ``nest`` are the zips that lead from it to the one to list,
    ``inside`` is the path of that one in the container, for messages.

    Raises
    ------
    RawLayoutError
        Not a zip, a truncated one, or one that is made to do harm.
    """
    place = f"{container}:{inside}" if inside else str(container)
    size = nest[-1].size if nest else container.stat().st_size
    try:
        entries = _directory(container, nest)
    except PermissionError as error:
        raise _unreadable(place, "a readable file", error, "", "closed zip") from error
    except (zipfile.BadZipFile, OSError, NotImplementedError, zlib.error) as error:
        kind = "" if nest else _other_archive(container)
        got = kind or f"{size} bytes that end without a zip's directory ({error})"
        fix = "Unpack it first." if kind else DOWNLOAD_AGAIN
        raise _unreadable(place, "a whole .zip", got, fix, "broken or no zip") from error
    if sum(entry.compress_size for entry in entries) > size:
        raise _harmful(place, "members that do not overlap", "members larger than their zip")
    for entry in entries:
        parts = _safe_parts(entry.filename, place)
        span = Span(*SPAN_FIELDS(entry))
        is_link = stat.S_ISLNK(entry.external_attr >> 16)
        opens = parts[-1].lower().endswith(".zip") and len(nest) + 1 < MAX_DEPTH and not is_link
        if not opens or is_junk(parts[-1]) or span.flags & ENCRYPTED:
            yield Member(parts, span, nest, is_link)
            continue
        check_size(span.size, span.packed, f"{place}:{entry.filename}")
        inner = "/".join((inside, *parts)) if inside else "/".join(parts)
        for member in list_members(container, (*nest, span), inner):
            yield Member((*parts, *member.parts), member.span, member.nest, member.is_link)


def _directory(
    container: Path, nest: tuple[Span, ...], n_bytes: int = TAIL_BYTES
) -> list[zipfile.ZipInfo]:
    """Entries of the files in a zip; of a large inner zip the last ``n_bytes`` are read for it."""
    size = nest[-1].size if nest else 0
    start = size - n_bytes if size > max(n_bytes, CACHED_BYTES) else 0
    source = io.BytesIO(_fetch(container, nest, start, size - start)) if nest else container
    try:
        with zipfile.ZipFile(source) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    except zipfile.BadZipFile:
        if not start:
            raise
        return _directory(container, nest, 16 * n_bytes)  # it may be longer than that
    for entry in entries:  # zipfile counts from the begin of the bytes that it was given
        entry.header_offset += start
    return entries


def _other_archive(path: Path) -> str:
    """Name another kind of archive by its first bytes."""
    with path.open("rb") as stream:
        head = stream.read(300)
    for mark, name in OTHER_ARCHIVES.items():
        if head.startswith(mark) or (name == "a tar archive" and head[257:262] == mark):
            return name
    return ""


def read_member(container: Path, nest: tuple[Span, ...], span: Span, place: str) -> bytes:
    """Bytes of a member, inflated and checked against its zip's directory.

    Raises
    ------
    RawLayoutError
        The member is truncated, corrupt, encrypted or far larger than raw data is.
    OSError
        The container cannot be read.
    """
    check_size(span.size, span.packed, place)
    content = _packed(container, nest, span, place)
    if span.flags & ENCRYPTED:
        raise _unreadable(place, "no password", "an encrypted member", UNPACK)
    if span.method == zipfile.ZIP_DEFLATED:
        inflate = isal_zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            # one byte more than promised shows a member that is larger than its directory says
            content = inflate.decompress(content, span.size + 1)
        except isal_zlib.error as error:  # type: ignore[misc]  # its stub names an instance
            raise _unreadable(place, "an intact member", error) from error
    elif span.method != zipfile.ZIP_STORED:
        got = f"compression method {span.method}"
        raise _unreadable(place, "a stored or deflated member", got, UNPACK)
    if len(content) != span.size:
        raise _unreadable(place, f"{span.size} bytes", f"{len(content)} bytes")
    crc = isal_zlib.crc32(content)
    if crc != span.crc:
        raise _unreadable(place, f"CRC {span.crc:08x}", f"CRC {crc:08x}")
    return content


def is_junk(name: str) -> bool:
    """Whether a file or folder is hidden, or one that macOS and Windows create."""
    return name in ("__MACOSX", "Thumbs.db") or (name.startswith(".") and name != "..")


def _safe_parts(name: str, place: str) -> tuple[str, ...]:
    """Split a member's name; one that would leave the folder it is unpacked to is refused."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if not parts or parts[0] == "/" or ".." in parts or parts[0].endswith(":"):
        raise _harmful(place, "names below the zip's own folder", repr(name))
    return parts


def check_size(size: int, packed: int, place: str) -> None:
    """Refuse a member that would be inflated to far more than raw data is.

    Raises
    ------
    RawLayoutError
        More than `MAX_MEMBER_BYTES`, or deflated by more than `BOMB_RATIO` to `BOMB_BYTES` or more.
    """
    if size > MAX_MEMBER_BYTES or (size > BOMB_BYTES and size > BOMB_RATIO * max(packed, 1)):
        expected = f"at most {MAX_MEMBER_BYTES >> 30} GiB, deflated by {BOMB_RATIO} or less"
        raise _harmful(place, expected, f"{size} bytes from {packed}")


def _packed(container: Path, nest: tuple[Span, ...], span: Span, place: str) -> bytes:
    """A member's bytes as its zip holds them."""
    ahead = LOCAL_HEADER.size + EXTRA_BYTES
    raw = _fetch(container, nest, span.offset, ahead + span.packed)
    if len(raw) < LOCAL_HEADER.size or raw[:4] != b"PK\3\4":
        raise _unreadable(place, "a zip member's header", "other bytes")
    start = _data_start(raw)
    if start > ahead:
        raw = _fetch(container, nest, span.offset, start + span.packed)
    return raw[start : start + span.packed]


def _data_start(raw: bytes) -> int:
    *_, name_length, extra_length = LOCAL_HEADER.unpack_from(raw)
    return LOCAL_HEADER.size + int(name_length) + int(extra_length)


def _fetch(container: Path, nest: tuple[Span, ...], offset: int, n: int) -> bytes:
    """Read ``n`` bytes at ``offset`` of the innermost zip of ``nest``, or fewer at its end."""
    if not nest:
        with container.open("rb") as stream:
            stream.seek(offset)
            return stream.read(n)
    zipped = nest[-1]
    if zipped.method != zipfile.ZIP_STORED and zipped.size <= CACHED_BYTES:
        return _inflated(container, nest, container.stat().st_mtime_ns)[offset : offset + n]
    header = _fetch(container, nest[:-1], zipped.offset, LOCAL_HEADER.size)
    start = zipped.offset + _data_start(header)
    if zipped.method == zipfile.ZIP_STORED:
        return _fetch(container, nest[:-1], start + offset, min(n, zipped.size - offset))
    return _stream(container, nest, start, offset, n)


@lru_cache(CACHED_ZIPS)
def _inflated(container: Path, nest: tuple[Span, ...], modified_ns: int) -> bytes:
    """All of an inner zip; ``modified_ns`` distinguishes two states of one container."""
    del modified_ns
    return read_member(container, nest[:-1], nest[-1], f"{container}: zip inside")


def _stream(container: Path, nest: tuple[Span, ...], start: int, offset: int, n: int) -> bytes:
    """Inflate an inner zip up to the wanted bytes, in bounded memory: those before are dropped."""
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    stop = start + nest[-1].packed
    kept: list[bytes] = []
    seen = 0
    while seen < offset + n and not inflate.eof:
        block = inflate.unconsumed_tail
        if not block:
            block = _fetch(container, nest[:-1], start, min(BLOCK_BYTES, stop - start))
            start += len(block)
        if not block:
            break
        content = inflate.decompress(block, BLOCK_BYTES)
        kept.append(content[max(0, offset - seen) : max(0, offset + n - seen)])
        seen += len(content)
    return b"".join(kept)


def _unreadable(
    place: str, expected: str, got: object, fix: str = DOWNLOAD_AGAIN, problem: str = "broken file"
) -> RawLayoutError:
    return RawLayoutError(
        cannot="read raw data", problem=problem, at=place, expected=expected, got=got, fix=fix
    )


def _harmful(place: str, expected: str, got: str) -> RawLayoutError:
    fix = "Take the archive from its official source, or unpack it by hand."
    return _unreadable(place, expected, got, fix, "unsafe file")
