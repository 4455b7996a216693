"""mmbind partition IN OUT."""

from __future__ import annotations

from typing import Literal

import click

from ..options import choices, comma_list
from ..output import Report, Screen, reported


@click.command("partition")
@click.argument("source", metavar="IN", type=click.Path())
@click.argument("out", type=click.Path())
@click.option("--subjects", callback=comma_list, help="Only these, comma separated.")
@click.option("--modalities", callback=comma_list, help="Only these, comma separated.")
@click.option("--labels", type=click.Choice(["all", "none"]), default="all", show_default=True)
@click.option("--where", multiple=True, metavar="COLUMN=VALUE", callback=choices,
              help="Only samples with this text in their table; repeat for more.")  # fmt: skip
@click.option("--node", help="The node's name; by default OUT without its ending.")
@click.option("--dry-run", is_flag=True, help="Say what would be kept, write nothing.")
@click.option("--overwrite", is_flag=True, help="Replace OUT.")
@reported
def command(
    source: str,
    out: str,
    subjects: list[str] | None,
    modalities: list[str] | None,
    labels: Literal["all", "none"],
    where: dict[str, list[str]],
    node: str | None,
    dry_run: bool,
    overwrite: bool,
    screen: Screen,
) -> Report:
    """Write a node's store OUT: some subjects and modalities of the store IN, and nothing else."""
    from mmbind_data.store.partitioning import partition, plan_partition

    del screen
    if dry_run:
        n_samples, kept, dropped = plan_partition(
            source,
            out,
            subjects=subjects,
            modalities=modalities,
            where=where,
            overwrite=overwrite,
        )
        result = {"n_samples": n_samples, "modalities": kept, "dropped": dropped}
        return Report(result, [f"would keep {n_samples} samples with {', '.join(kept)}"])
    info = partition(
        source,
        out,
        subjects=subjects,
        modalities=modalities,
        labels=labels,
        where=where,
        node=node,
        overwrite=overwrite,
    )
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
