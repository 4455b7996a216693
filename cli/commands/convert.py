"""mmbind convert NAME RAW OUT."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from mmbind_data.conversion.pipeline import Converted

from .. import options
from ..output import Report, Screen, notes, reported


@click.command("convert")
@click.argument("name")
@click.argument("raw", type=click.Path())
@click.argument("out", type=click.Path())
@click.option("--preset", default="default", show_default=True, help="How to window; see datasets.")
@options.names("--subjects", help="Only these, comma separated.")
@options.names("--modalities", help="Only these, comma separated.")
@options.names("--placement", "placements", help="Only these body positions.")
@options.values("--set", "options", help="A choice that the dataset offers; see datasets NAME.")
@click.option("--descriptor", type=click.Path(dir_okay=False), help="Own data: what NAME table is.")
@click.option("--workers", default=1, show_default=True, help="Processes that read.")
@options.dry_run(help="Say what would be read, write nothing.")
@options.overwrite()
@reported
def command(name: str, raw: str, out: str, screen: Screen, **choice: Any) -> Report:
    """Convert the raw data of dataset NAME, a folder or zip RAW, to the store OUT.

    NAME "table" is your own data: tables, arrays or MAT files that --descriptor FILE describes.
    An interrupted conversion goes on where it was when the same command runs again.
    """
    from mmbind_data.conversion.convert import convert
    from mmbind_data.datasets.registry import check_document, read_document

    descriptor, workers = choice.pop("descriptor"), choice.pop("workers")
    dry_run, overwrite = choice.pop("dry_run"), choice.pop("overwrite")
    check_document(name, given=descriptor is not None)
    choice["document"] = None if descriptor is None else read_document(Path(descriptor))
    if dry_run:
        return _preview(name, raw, Path(out), choice, overwrite=overwrite)
    with screen.progress(f"convert {name}") as progress:
        choice |= {"workers": workers, "overwrite": overwrite, "progress": progress}
        return _report(convert(name, raw, out, **choice))


def _preview(name: str, raw: str, out: Path, choice: dict[str, Any], *, overwrite: bool) -> Report:
    from mmbind_data.conversion.plan import ConversionRequest, check_request, plan_conversion
    from mmbind_data.errors import printable
    from mmbind_data.io.atomic import check_output

    request = ConversionRequest(**choice)
    check_request(name, request)
    check_output(out, overwrite=overwrite, doing=f"convert {name}")
    plan = plan_conversion(name, raw, request)
    result = {
        "dataset_id": plan.descriptor.dataset_id,
        "n_units": len(plan.units),
        "raw_bytes": plan.n_bytes,
        "modalities": list(plan.modalities),
        "unrecognised": [printable(path) for path in plan.listing.unrecognised],
    }
    line = f"would read {len(plan.units)} raw units, {plan.n_bytes / 1e6:.1f} MB"
    return Report(result, [line], notes(plan.notes))


def _report(made: Converted) -> Report:
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
