"""Atomic results: written into a hidden folder beside the target, then renamed to it."""

from __future__ import annotations

import getpass
import hashlib
import os
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Literal

import filelock

from mmbind_data.errors import MMBindError, OutputError, TrainingError
from mmbind_data.io.locations import is_remote

SYNC_THREADS = 16
RESULT, KEPT = "result", "kept"
Kind = Literal["store", "run", "bundle", "export", "archive", "report"]
DOCUMENTS: Mapping[Kind, str] = {
    "store": "zarr.json",
    "run": "run.json",
    "bundle": "bundle.json",
    "export": "contract.json",
}


def check_output(
    out: Path,
    *,
    overwrite: bool,
    doing: str,
    inputs: Iterable[str | Path] = (),
    replaces: Kind = "store",
    ours: Callable[[Path], bool] | None = None,
) -> None:
    """Refuse a target that exists, or that is inside an input, before any work is done.

    An overwrite that was killed between its two renames is undone first. ``doing`` is what the
    caller does, as it follows "cannot" in messages; ``inputs`` are stores that the result is made
    from, or refers to. With ``overwrite`` a result of the kind ``replaces`` that mmbind made may be
    replaced; ``ours`` tells whether a path is one, by default a folder with its document is.

    Raises
    ------
    OutputError
    """
    ours = ours or partial(_replaceable, replaces=replaces)
    for path in inputs:
        if not is_remote(path) and out.resolve().is_relative_to(Path(path).resolve()):
            what = "the output is one of the inputs, or lies inside one"
            expected, got = "a path outside the inputs", f"{out} within {path}"
            raise _refusal(out, doing, what, expected, got)
    if not os.path.lexists(out) and os.path.lexists(_replaced(out)):
        _replaced(out).rename(out)
    if not os.path.lexists(out):
        return
    found = "a folder" if out.is_dir() else "a file"
    if not overwrite:
        fix = "Choose another path, or replace it with --overwrite."
        what, expected = "the output exists already", "a path that does not exist"
        raise _refusal(out, doing, what, expected, found, fix)
    if not ours(out):
        what = f"the existing output is no {replaces} that mmbind made"
        expected = f"{'an' if replaces[0] in 'ae' else 'a'} {replaces} to overwrite"
        fix = "Choose another path, or remove it yourself."
        raise _refusal(out, doing, what, expected, f"{found} of another kind", fix)
    locked = _write_protected(out)
    if locked is not None:
        what, expected = "the existing output cannot be deleted", "folders with write permission"
        fix = "Choose another path, or give yourself write permission."
        raise _refusal(out, doing, what, expected, f"{locked} without", fix)


def _refusal(
    out: Path, doing: str, problem: str, expected: str, got: object, fix: str = ""
) -> OutputError:
    return OutputError(cannot=doing, problem=problem, at=out, expected=expected, got=got, fix=fix)


def staging_path(out: Path) -> Path:
    """Folder in which the result for ``out`` is made: hidden, beside it, on the same disk."""
    return out.parent / f".{out.name}.partial"


def _replaced(out: Path) -> Path:
    """Where the old result is kept while the new one takes its place."""
    return out.parent / f".{out.name}.replaced"


def make_folder(path: Path, *, doing: str) -> None:
    """Create a folder and its parents.

    Raises
    ------
    OutputError
        The folder is read-only, or a part of the path is a file.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / ".probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        what, expected = "the output cannot be written", "a folder with write permission"
        fix = "Choose an output path in a folder that you can write to."
        raise _refusal(path.parent, doing, what, expected, error, fix) from error


@contextmanager
def claimed(out: Path, *, doing: str) -> Iterator[None]:
    """Lock the target for this process: two writers would mix their files.

    The lock file is kept in the folder for temporary files and never deleted: deleting a lock that
    another process waits for would let a third one in.

    Raises
    ------
    OutputError
        Another process of this machine writes there.
    """
    digest = hashlib.sha256(str(out.resolve()).encode()).hexdigest()[:24]
    name = f"mmbind-{getpass.getuser()}-{digest}.lock"
    lock = filelock.FileLock(Path(tempfile.gettempdir()) / name)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        what, fix = "another mmbind command writes there", "Wait for it, or choose another path."
        raise _refusal(out, doing, what, "no other", "a running one", fix) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def staged(
    out: Path,
    *,
    overwrite: bool,
    doing: str,
    inputs: Iterable[str | Path] = (),
    replaces: Kind = "store",
) -> Iterator[Path]:
    """Create a folder to write into; on success it becomes ``out``, on failure it is removed.

    Parameters are those of `check_output`.

    Raises
    ------
    OutputError
        See `check_output` and `claimed`; or writing failed.
    """
    check_output(out, overwrite=overwrite, doing=doing, inputs=inputs, replaces=replaces)
    folder = staging_path(out)
    with claimed(out, doing=doing):
        try:
            remove(folder)
            make_folder(folder, doing=doing)
            yield folder
            commit(folder, out, overwrite=overwrite, doing=doing, replaces=replaces)
        except BaseException as error:
            remove(folder)
            if isinstance(error, OSError) and not isinstance(error, MMBindError):
                raise failed(out, error, doing=doing) from error
            raise


@contextmanager
def staged_file(out: Path, check: Callable[[], None], *, doing: str) -> Iterator[Path]:
    """Give a path for a single file; on success it becomes ``out``, on failure it is removed.

    ``check`` raises if ``out`` may not be replaced; it is called before the file is written and
    before it is renamed. ``doing`` is that of `check_output`.

    Raises
    ------
    OutputError
        See `claimed`; from ``check``; or writing failed.
    """
    check()
    make_folder(out.parent, doing=doing)
    unfinished = staging_path(out)
    with claimed(out, doing=doing):
        try:
            yield unfinished
            _sync(unfinished)
            check()
            unfinished.replace(out)
        except OSError as error:
            if isinstance(error, OutputError):
                raise
            raise failed(out, error, doing=doing) from error
        finally:
            unfinished.unlink(missing_ok=True)


@contextmanager
def resumable(
    out: Path, *, overwrite: bool, doing: str, replaces: Kind = "store"
) -> Iterator[tuple[Path, Path]]:
    """Give a folder for the result, and one for checkpoints, from which a later call goes on.

    Both may hold files of an earlier call that failed. On success the first becomes ``out`` and the
    second is removed. After a training that diverged both are removed: it would diverge again.

    Parameters are those of `check_output`.

    Raises
    ------
    OutputError
        See `check_output` and `claimed`; or writing failed.
    """
    check_output(out, overwrite=overwrite, doing=doing, replaces=replaces)
    folder = staging_path(out)
    result, kept = folder / RESULT, folder / KEPT
    with claimed(out, doing=doing):
        try:
            make_folder(result, doing=doing)
            make_folder(kept, doing=doing)
            yield result, kept
            commit(result, out, overwrite=overwrite, doing=doing, replaces=replaces)
        except BaseException as error:
            fix = f"Finished work is kept in {folder}: run the same command to go on."
            if isinstance(error, TrainingError) or not (kept.is_dir() and any(kept.iterdir())):
                remove(folder)
                fix = ""
            if isinstance(error, OSError) and not isinstance(error, MMBindError):
                raise failed(out, error, doing=doing, fix=fix) from error
            raise
        remove(folder)


def failed(out: Path, error: OSError, *, doing: str, fix: str = "") -> OutputError:
    """The error for a disk that is full or gone while a result is written."""
    return _refusal(out, doing, "writing failed", "a disk with space", error, fix)


def commit(
    folder: Path, out: Path, *, overwrite: bool, doing: str, replaces: Kind = "store"
) -> None:
    """Put ``folder`` on disk and rename it to ``out``; an old result is deleted last.

    Raises
    ------
    OutputError
        Meanwhile ``out`` has come to exist and may not be replaced.
    """
    _sync_all(folder)
    check_output(out, overwrite=overwrite, doing=doing, replaces=replaces)
    replaced = _replaced(out)
    discard(replaced)
    try:
        if os.path.lexists(out):
            out.rename(replaced)
        folder.rename(out)
    except BaseException:
        if os.path.lexists(replaced) and not os.path.lexists(out):
            replaced.rename(out)
        raise
    with suppress(OSError):  # some file systems cannot: the result is there all the same
        _sync(out.parent)
    discard(replaced)


def discard(path: Path) -> None:
    """Delete what a finished result does not need, if possible: failing to do so is no error.

    It is renamed first: a half-deleted result must never be taken for a whole one.
    """
    if not os.path.lexists(path):
        return
    with suppress(OSError):
        aside = Path(tempfile.mkdtemp(prefix=f"{path.name}-", dir=path.parent))
        try:
            path.rename(aside / path.name)
        finally:
            remove(aside)


def remove(path: Path) -> None:
    """Delete a file or a folder tree, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        with suppress(NotADirectoryError):  # below a file there is nothing to delete
            path.unlink(missing_ok=True)


def _write_protected(out: Path) -> Path | None:
    """A folder of a result that may not be changed, if any; of a link only itself is deleted."""
    if out.is_symlink():
        return None
    folders = (Path(folder) for folder, _, _ in os.walk(out))
    return next((path for path in folders if not os.access(path, os.W_OK | os.X_OK)), None)


def _replaceable(out: Path, replaces: Kind) -> bool:
    """Whether --overwrite may delete it: a home folder must survive a typing error."""
    if not out.is_dir():
        return False
    # other programs write Zarr and runs too: the document has to name mmbind
    document = out / DOCUMENTS[replaces]
    ours = document.is_file() and b'"mmbind' in document.read_bytes()
    return ours or not any(out.iterdir())


def _sync_all(folder: Path) -> None:
    """Put all files on disk, and then the folders that name them.

    In many threads, because the disk's journal takes them together: ten times as fast.
    """
    paths = [folder, *folder.rglob("*")]
    with ThreadPoolExecutor(SYNC_THREADS) as pool:
        for kind in (Path.is_file, Path.is_dir):
            deque(pool.map(_sync, filter(kind, paths)), maxlen=0)  # raises what went wrong


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():
        return  # Windows cannot open folders
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
