"""mmbind hydrate BUNDLE -o BOUND --source ID=STORE."""

from __future__ import annotations

import click

from .. import options
from ..output import Report, reported


@click.command("hydrate")
@click.argument("bundle", type=click.Path())
@options.out(help="The bound store.")
@options.source(metavar="ID=STORE", help="A local conversion; once for each source.")
@options.dry_run(help="Look for every sample, write nothing.")
@options.overwrite()
@reported
def command(
    bundle: str, out: str, sources: dict[str, str], dry_run: bool, overwrite: bool
) -> Report:
    """Attach local conversions to BUNDLE, or an archive of one, by uid: then it can be trained on.

    A store may hold more samples than the bundle names, but no other values and no modality more.
    """
    from mmbind_data.publishing.hydrate import hydrate, preview_hydration

    if dry_run:
        n_rows, stores = preview_hydration(bundle, out, sources, overwrite=overwrite)
        found = {
            name: {"path": str(store.path), "content_digest": store.info.content_digest}
            for name, store in stores.items()
        }
        line = f"would attach {', '.join(found)} to {n_rows} rows"
        return Report({"sources": found}, [line])
    info = hydrate(bundle, out, sources, overwrite=overwrite)
    result = {
        "path": out,
        "pairs": info.n_rows,
        "sources": {one.source_id: one.path for one in info.sources},
        "content_digest": info.content_digest,
    }
    names = ", ".join(one.source_id for one in info.sources)
    line = f"{out}: {sum(info.n_rows.values())} rows with {names}, content {info.content_digest}"
    return Report(result, [line])
