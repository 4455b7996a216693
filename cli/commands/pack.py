"""mmbind pack BUNDLE|STORE -o FILE.zip."""

from __future__ import annotations

import click

from .. import options
from ..output import Report, Screen, reported


@click.command("pack")
@click.argument("path", metavar="BUNDLE|STORE", type=click.Path())
@options.out(help="The archive.")
@options.dry_run(help="Check the input, write nothing.")
@options.overwrite(help="Replace an archive at OUT.")
@reported
def command(path: str, out: str, dry_run: bool, overwrite: bool, screen: Screen) -> Report:
    """Put a bundle or a store into one zip archive; the same content gives the same bytes.

    zarr reads the archive of a store as it is; unzip gives the folder back.
    """
    from mmbind_data.publishing.archive import pack, plan_pack

    if dry_run:
        n_files = len(plan_pack(path, out, overwrite=overwrite))
        return Report({"n_files": n_files}, [f"would pack {n_files} files of {path}"])
    with screen.progress("pack") as progress:
        result = pack(path, out, overwrite=overwrite, progress=progress)
    return Report(result, [f"{out}: {result['n_files']} files, {result['bytes']} bytes"])
