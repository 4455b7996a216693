"""mmbind partition IN OUT."""

from __future__ import annotations

from typing import Any

import click

from .. import options
from ..output import Report, reported

WHERE = "Only samples with this text in their table; repeat for more."


@click.command("partition")
@click.argument("source", metavar="IN", type=click.Path())
@click.argument("out", type=click.Path())
@options.names("--subjects", help="Only these, comma separated.")
@options.names("--modalities", help="Only these, comma separated.")
@options.choice("--labels", ["all", "none"], default="all")
@click.option(
    "--where", multiple=True, metavar="COLUMN=VALUE", callback=options.choices, help=WHERE
)
@click.option("--node", help="The node's name; by default OUT without its ending.")
@options.dry_run(help="Say what would be kept, write nothing.")
@options.overwrite()
@reported
def command(source: str, out: str, dry_run: bool, **chosen: Any) -> Report:
    """Write a node's store OUT: some subjects and modalities of the store IN, and nothing else."""
    from mmbind_data.store.partitioning import partition, plan_partition

    if dry_run:
        for name in ("labels", "node"):
            del chosen[name]
        n_samples, kept, dropped = plan_partition(source, out, **chosen)
        result = {"n_samples": n_samples, "modalities": kept, "dropped": dropped}
        return Report(result, [f"would keep {n_samples} samples with {', '.join(kept)}"])
    info = partition(source, out, **chosen)
    result = {
        "path": out,
        "n_samples": info.n_samples,
        "modalities": {key: [info.n_samples, *one.shape] for key, one in info.modalities.items()},
        "subjects": info.subjects,
        "content_digest": info.content_digest,
    }
    line = (
        f"{out}: {info.n_samples} samples of {len(info.subjects)} subjects, "
        f"{', '.join(info.modalities)}"
    )
    return Report(result, [line])
