"""Unpack an archive of a bundle or store into a temporary folder while it is read."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from mmbind_data.errors import Finding, FormatError, MMBindError, OutputError
from mmbind_data.io.locations import is_remote

SUFFIX, MAGIC = ".zip", b"PK"
AGAIN = "Fetch it again."


def is_archive(path: str | Path) -> bool:
    """Whether a path is a zip archive on this disk, intact or not."""
    if is_remote(path) or not Path(path).is_file():
        return False
    if Path(path).suffix.lower() == SUFFIX:
        return True
    with Path(path).open("rb") as stream:
        return stream.read(len(MAGIC)) == MAGIC


@contextmanager
def unpacked(path: str | Path, *, doing: str) -> Iterator[tuple[Path, list[Finding]]]:
    """Give the content of an archive as a folder, which is deleted afterwards.

    Of an archive that holds a single folder, as file managers make them, that folder is given.
    The findings are the files whose checksum is not that of the archive: they are left out.
    ``doing`` is what the caller does, as it follows "cannot" in messages.

    Raises
    ------
    FormatError
        Not a zip archive, or a file in it lies outside of it.
    OutputError
        Too little space for temporary files.
    """
    with tempfile.TemporaryDirectory(prefix="mmbind-unpack-") as text:
        folder = Path(text)
        damage = _unpack(Path(path), folder, doing)
        found = list(folder.iterdir())
        if len(found) == 1 and found[0].is_dir():
            folder = found[0]
        try:
            yield folder, damage
        except MMBindError as error:  # the user does not know the folder
            raise error.replaced(str(folder), str(path)) from error


def _unpack(path: Path, folder: Path, doing: str) -> list[Finding]:
    damage = []
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [one for one in archive.infolist() if not one.is_dir()]
            _check(path, folder, entries, doing)
            for one in entries:
                place = folder / one.filename
                place.parent.mkdir(parents=True, exist_ok=True)
                try:
                    with archive.open(one) as source, place.open("wb") as target:
                        shutil.copyfileobj(source, target)
                except (zipfile.BadZipFile, zlib.error, EOFError):
                    place.unlink(missing_ok=True)
                    text = "its checksum is not that in the archive"
                    damage.append(Finding("file-changed", one.filename, text, AGAIN))
    except MMBindError:
        raise
    # a password, a compression that Python does not know, or no zip at all
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, OSError) as error:
        what, expected = "the archive cannot be read", "a zip archive as mmbind pack makes"
        raise FormatError(
            cannot=doing, problem=what, at=path, expected=expected, got=error, fix=AGAIN
        ) from error
    return damage


def _check(path: Path, folder: Path, entries: list[zipfile.ZipInfo], doing: str) -> None:
    """Refuse names that lead out of the folder or occur twice, and more bytes than fit on disk."""
    seen: set[str] = set()
    for name in (one.filename for one in entries):
        parts = PurePosixPath(name).parts
        if name.startswith("/") or "\\" in name or ".." in parts or name in seen:
            what, expected = "a file that must not be in it", "names below its own folder"
            raise FormatError(
                cannot=doing, problem=what, at=path, expected=expected, got=repr(name), fix=AGAIN
            )
        seen.add(name)
    needed, free = sum(one.file_size for one in entries), shutil.disk_usage(folder).free
    if needed > free:
        what, at = "too little space for temporary files", folder.parent
        expected = f"{needed} bytes"
        fix = "Set TMPDIR to a folder on a larger disk, or unpack the archive yourself."
        raise OutputError(cannot=doing, problem=what, at=at, expected=expected, got=free, fix=fix)
