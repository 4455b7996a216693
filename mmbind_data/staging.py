"""Results appear whole or not at all: a staging folder beside the target, then one rename."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import OutputError, problem


def check_output(
    out: Path, *, overwrite: bool, doing: str, inputs: Iterable[str | Path] = ()
) -> None:
    """Refuse a target that exists, before any work is done; never overwrite one of the inputs.

    Raises
    ------
    OutputError
        The target exists and ``overwrite`` is off, or it is something that mmbind did not make.
    """
    if any(Path(path).resolve() == out.resolve() for path in inputs):
        raise OutputError(
            problem(doing, "the output is one of the inputs", out, "another path", "the same")
        )
    if overwrite and os.path.lexists(out) and not _replaceable(out):
        raise OutputError(
            problem(
                doing,
                "what stands there was not made by mmbind",
                out,
                "a store or a run to overwrite",
                "a folder with other content" if out.is_dir() else "a file",
                "Choose another path, or remove it yourself.",
            )
        )
    if os.path.lexists(out) and not overwrite:
        raise OutputError(
            problem(
                doing,
                "the output exists already",
                out,
                "a path that does not exist",
                "a folder" if out.is_dir() else "a file",
                "Choose another path, or replace it with --overwrite.",
            )
        )


def staging_path(out: Path) -> Path:
    """Folder in which the result for ``out`` is made: hidden, beside it, on the same disk."""
    return out.parent / f".{out.name}.partial"


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
            problem(
                doing,
                "the output cannot be written",
                path.parent,
                "a folder with write permission",
                error.strerror or str(error),
                "Choose an output path in a folder that you can write to.",
            )
        ) from error


@contextmanager
def staged(out: Path, *, overwrite: bool, doing: str) -> Iterator[Path]:
    """Give a fresh folder to write into; on success it becomes ``out``, on failure it is removed.

    Raises
    ------
    OutputError
        The target exists and ``overwrite`` is off, or it cannot be written.
    """
    check_output(out, overwrite=overwrite, doing=doing)
    folder = staging_path(out)
    remove(folder)
    make_folder(folder, doing=doing)
    try:
        yield folder
        commit(folder, out)
    except BaseException:
        remove(folder)
        raise


def commit(folder: Path, out: Path) -> None:
    """Make ``folder`` durable and rename it to ``out``; what stood there goes last."""
    for path in folder.rglob("*"):
        if path.is_file():
            _sync(path)
    for path in [*(path for path in folder.rglob("*") if path.is_dir()), folder]:
        _sync(path)
    replaced = out.parent / f".{out.name}.replaced"
    remove(replaced)
    if os.path.lexists(out):
        out.rename(replaced)
    try:
        folder.rename(out)
    except OSError:
        if os.path.lexists(replaced):
            replaced.rename(out)
        raise
    _sync(out.parent)
    remove(replaced)


def remove(path: Path) -> None:
    """Delete a file or a folder tree; nothing happens where there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        with suppress(NotADirectoryError):  # below a file there is nothing to delete
            path.unlink(missing_ok=True)


def _replaceable(out: Path) -> bool:
    """Whether --overwrite may delete it: a home folder must survive a typing error."""
    if not out.is_dir():
        return False
    # Other programs write Zarr and runs too: the document has to name us.
    documents = [path for path in (out / "zarr.json", out / "run.json") if path.is_file()]
    ours = any(b'"mmbind' in path.read_bytes() for path in documents)
    return ours or not any(out.iterdir())


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():
        return  # Windows cannot open folders
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
