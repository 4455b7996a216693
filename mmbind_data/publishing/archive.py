"""Pack a store or a bundle into one file; the same content gives the same bytes."""

from __future__ import annotations

import zipfile
from functools import partial
from pathlib import Path

from mmbind_data.io.atomic import check_output, staged_file
from mmbind_data.io.locations import files_below, locate
from mmbind_data.progress import Progress
from mmbind_data.publishing.verify import refuse_damage, verify

DOING = "pack"
# the earliest date of a zip archive: the time of packing is no part of the content
EPOCH = (1980, 1, 1, 0, 0, 0)
PERMISSIONS = 0o100644 << 16
COMMENT = b"mmbind pack"


def pack(
    path: str | Path, out: str | Path, *, overwrite: bool = False, progress: Progress | None = None
) -> dict[str, int | str]:
    """Write a store or a bundle as one zip archive.

    Files are stored uncompressed, in the order of their names: chunks are compressed already, and
    zarr reads the archive of a store in place (``zarr.storage.ZipStore``). Any unzip gives the
    folder back.

    Parameters
    ----------
    path : path
    out : path
        The archive.
    overwrite : bool
        Replace an archive that mmbind made.
    progress : callable (done, total, text), optional

    Returns
    -------
    dict
        ``path``, ``bytes``, ``n_files``.

    Raises
    ------
    FormatError
        Neither a store nor a bundle.
    IntegrityError
        It is damaged.
    OutputError
        Something exists at ``out``, or it cannot be written.

    Examples
    --------
    >>> import mmbind_data as md
    >>> md.pack("bundle", "bundle.zip")["n_files"]  # doctest: +SKIP
    23
    """
    root, out = locate(path), Path(out)
    files = _packed_files(root)
    check = partial(_check, root, out, overwrite=overwrite)
    with (
        staged_file(out, check, doing=DOING) as path,
        zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive,
    ):
        archive.comment = COMMENT
        for number, name in enumerate(files):
            _add(archive, root / name, name)
            if progress:
                progress(number + 1, len(files), name)
    return {"path": str(out), "bytes": out.stat().st_size, "n_files": len(files)}


def plan_pack(path: str | Path, out: str | Path, *, overwrite: bool = False) -> list[str]:
    """Files that `pack` would put into the archive; parameters and errors are those of `pack`."""
    root = locate(path)
    _check(root, Path(out), overwrite=overwrite)
    return _packed_files(root)


def _packed_files(root: Path) -> list[str]:
    damage = (found for found in verify(root, depth="fast") if found.code != "source-differs")
    refuse_damage(damage, DOING, "damaged", root)
    return sorted(files_below(root))


def _add(archive: zipfile.ZipFile, path: Path, name: str) -> None:
    entry = zipfile.ZipInfo(name, EPOCH)
    entry.external_attr = PERMISSIONS
    entry.create_system = 3  # the same on every machine
    entry.file_size = path.stat().st_size
    with path.open("rb") as stream, archive.open(entry, "w") as target:
        while block := stream.read(1 << 20):
            target.write(block)


def _check(root: Path, out: Path, *, overwrite: bool) -> None:
    check_output(
        out, overwrite=overwrite, doing=DOING, inputs=[root], replaces="archive", ours=_is_ours
    )


def _is_ours(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.comment == COMMENT
    except (OSError, zipfile.BadZipFile):
        return False
