"""Results appear whole or not at all: a staging folder beside the target, then one rename."""

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
    """Refuse a target that exists, or that lies in the way of an input, before any work is done.

    An overwrite that was killed between its two renames is undone first.

    Parameters
    ----------
    out : Path
    overwrite : bool
        Something of the same kind that mmbind made may stand there.
    doing : str
        Begins the message.
    inputs : iterable of path
        Stores that the result is made from, or refers to.
    replaces : {"store", "run", "bundle", "export", "archive", "report"}
        What may be overwritten.
    ours : callable (path) -> bool, optional
        Whether what stands there is of that kind; by default a folder with its document.

    Raises
    ------
    OutputError
    """
    ours = ours or partial(_replaceable, replaces=replaces)
    place = out.resolve()
    for path in inputs:
        if is_remote(path):
            continue
        if place == Path(path).resolve() or Path(path).resolve() in place.parents:
            expected, got = "a path outside the inputs", f"{out} within {path}"
            what = "the output is one of the inputs, or lies inside one"
            raise OutputError(cannot=doing, problem=what, at=out, expected=expected, got=got)
    if not os.path.lexists(out) and os.path.lexists(_replaced(out)):
        _replaced(out).rename(out)
    if not os.path.lexists(out):
        return
    found = "a folder" if out.is_dir() else "a file"
    if not overwrite:
        step = "Choose another path, or replace it with --overwrite."
        expected = "a path that does not exist"
        raise OutputError(
            cannot=doing,
            problem="the output exists already",
            at=out,
            expected=expected,
            got=found,
            fix=step,
        )
    if not ours(out):
        step = "Choose another path, or remove it yourself."
        what = f"what stands there is no {replaces} that mmbind made"
        expected = f"{'an' if replaces[0] in 'ae' else 'a'} {replaces} to overwrite"
        raise OutputError(
            cannot=doing,
            problem=what,
            at=out,
            expected=expected,
            got=f"{found} of another kind",
            fix=step,
        )
    locked = _write_protected(out)
    if locked is not None:
        step = "Choose another path, or give yourself write permission."
        what, expected = "what stands there cannot be deleted", "folders with write permission"
        raise OutputError(
            cannot=doing, problem=what, at=out, expected=expected, got=f"{locked} without", fix=step
        )


def staging_path(out: Path) -> Path:
    """Folder in which the result for ``out`` is made: hidden, beside it, on the same disk."""
    return out.parent / f".{out.name}.partial"


def _replaced(out: Path) -> Path:
    """Where the old result waits while the new one takes its place."""
    return out.parent / f".{out.name}.replaced"


def make_folder(path: Path, *, doing: str) -> None:
    """Create a folder and its parents.

    Raises
    ------
    OutputError
        The place is read-only, or something on the way is a file.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / ".probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OutputError(
            cannot=doing,
            problem="the output cannot be written",
            at=path.parent,
            expected="a folder with write permission",
            got=error.strerror or str(error),
            fix="Choose an output path in a folder that you can write to.",
        ) from error


@contextmanager
def claimed(out: Path, *, doing: str) -> Iterator[None]:
    """Keep the target for this process: two writers would mix their files.

    The lock file lies in the folder for temporary files, where it is no litter and where it can
    stay: deleting a lock that somebody waits for lets a third process in.

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
        step = "Wait for it, or choose another path."
        what = "another mmbind command writes there"
        raise OutputError(
            cannot=doing, problem=what, at=out, expected="no other", got="a running one", fix=step
        ) from error
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
    """Give a fresh folder to write into; on success it becomes ``out``, on failure it is removed.

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

    Parameters
    ----------
    out : Path
    check : callable
        Refuses what stands at ``out``; asked before anything is written and before it is replaced.
    doing : str
        Begins the message.

    Raises
    ------
    OutputError
        See `claimed`; what ``check`` raises; or writing failed.
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
    """Give a folder for the result and one that outlives a failure, to go on from.

    Both may hold what an earlier call left. On success the first becomes ``out`` and the second is
    removed. After a training that diverged both are: it would diverge again.

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
            step = f"What is done is kept in {folder}: run the same command to go on."
            if isinstance(error, TrainingError) or not (kept.is_dir() and any(kept.iterdir())):
                remove(folder)
                step = ""
            if isinstance(error, OSError) and not isinstance(error, MMBindError):
                raise failed(out, error, doing=doing, next_step=step) from error
            raise
        remove(folder)


def failed(out: Path, error: OSError, *, doing: str, next_step: str = "") -> OutputError:
    """The error for a disk that is full or gone while a result is written."""
    got = error.strerror or str(error)
    return OutputError(
        cannot=doing,
        problem="writing failed",
        at=out,
        expected="a disk with space",
        got=got,
        fix=next_step,
    )


def commit(
    folder: Path, out: Path, *, overwrite: bool, doing: str, replaces: Kind = "store"
) -> None:
    """Make ``folder`` durable and rename it to ``out``; what stood there goes last.

    Raises
    ------
    OutputError
        Something has come to stand at ``out`` meanwhile that may not be replaced.
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
    with suppress(OSError):  # some file systems cannot: the result stands there all the same
        _sync(out.parent)
    discard(replaced)


def discard(path: Path) -> None:
    """Delete what a finished result does not need; that it cannot be deleted is no failure.

    It loses its name first: half of an old result must never be taken for the whole.
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
    """Delete a file or a folder tree; nothing happens where there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        with suppress(NotADirectoryError):  # below a file there is nothing to delete
            path.unlink(missing_ok=True)


def _write_protected(out: Path) -> Path | None:
    """A folder of a result that may not be changed, if any; of a link the link alone goes."""
    if out.is_symlink():
        return None
    folders = (Path(folder) for folder, _, _ in os.walk(out))
    return next((one for one in folders if not os.access(one, os.W_OK | os.X_OK)), None)


def _replaceable(out: Path, replaces: Kind) -> bool:
    """Whether --overwrite may delete it: a home folder must survive a typing error."""
    if not out.is_dir():
        return False
    # Other programs write Zarr and runs too: the document has to name us.
    document = out / DOCUMENTS[replaces]
    ours = document.is_file() and b'"mmbind' in document.read_bytes()
    return ours or not any(out.iterdir())


def _sync_all(folder: Path) -> None:
    """Put all files on disk, and then the folders that name them.

    Many at a time: the disk's journal takes them in one go, which is ten times as fast.
    """
    paths = [folder, *folder.rglob("*")]
    with ThreadPoolExecutor(SYNC_THREADS) as pool:
        for wanted in (Path.is_file, Path.is_dir):
            deque(pool.map(_sync, filter(wanted, paths)), maxlen=0)  # raises what went wrong


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():
        return  # Windows cannot open folders
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
