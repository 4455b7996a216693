"""mmbind convert NAME RAW OUT."""

from __future__ import annotations

from pathlib import Path

import click

from .options import comma_list
from .output import Report, Screen, notes, reported


@click.command("convert")
@click.argument("name")
@click.argument("raw", type=click.Path())
@click.argument("out", type=click.Path())
@click.option("--preset", default="default", show_default=True, help="How to window; see datasets.")
@click.option("--subjects", callback=comma_list, help="Only these, comma separated.")
@click.option("--modalities", callback=comma_list, help="Only these, comma separated.")
@click.option("--workers", default=1, show_default=True, help="Processes that read.")
@click.option("--dry-run", is_flag=True, help="Say what would be read, write nothing.")
@click.option("--overwrite", is_flag=True, help="Replace OUT.")
@reported
def command(
    name: str,
    raw: str,
    out: str,
    preset: str,
    subjects: list[str] | None,
    modalities: list[str] | None,
    workers: int,
    dry_run: bool,
    overwrite: bool,
    screen: Screen,
) -> Report:
    """Convert the raw data of dataset NAME, a folder or zip RAW, to the store OUT.

    An interrupted conversion goes on where it was when the same command runs again.
    """
    from mmbind_data.convert import convert, plan_conversion, unrecognised_notes
    from mmbind_data.staging import check_output

    if dry_run:
        check_output(Path(out), overwrite=overwrite, doing=f"convert {name}")
        plan = plan_conversion(name, raw, preset=preset, subjects=subjects, modalities=modalities)
        result = {
            "dataset_id": name,
            "n_units": len(plan.units),
            "raw_bytes": plan.n_bytes,
            "modalities": list(plan.modalities),
            "unrecognised": list(plan.listing.unrecognised),
        }
        line = f"would read {len(plan.units)} recordings, {plan.n_bytes / 1e6:.1f} MB"
        remarks = notes([*plan.listing.notes, *unrecognised_notes(plan.listing)])
        return Report(result, [line], remarks)
    with screen.progress(f"convert {name}") as progress:
        made = convert(
            name,
            raw,
            out,
            preset=preset,
            subjects=subjects,
            modalities=modalities,
            workers=workers,
            overwrite=overwrite,
            progress=progress,
        )
    info = made.info
    result = {
        "path": str(made.path),
        "dataset_id": info.dataset_id,
        "n_samples": info.n_samples,
        "modalities": {key: [info.n_samples, *one.shape] for key, one in info.modalities.items()},
        "n_subjects": len(info.subjects),
        "labels": info.labels,
        "content_digest": info.content_digest,
        "n_resumed": made.n_resumed,
    }
    resumed = [f"{made.n_resumed} of {made.n_units} were done already"] if made.n_resumed else []
    line = (
        f"{made.path}: {info.n_samples} samples of {len(info.subjects)} subjects, "
        f"{len(info.labels)} labels, {', '.join(info.modalities)}"
    )
    return Report(result, [line], notes([*made.notes, *resumed]))
