"""mmbind publish BOUND BUNDLE."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from .. import options
from ..output import Report, Screen, make_issue, notes, reported

if TYPE_CHECKING:
    from mmbind_data.publishing.publish import PublicationPreview
    from mmbind_data.spec.bundle import BundleInfo

REFUSED = 5
MODES = ["auto", "self-contained", "index-only", "linked"]
PERMISSION = "JSON or Markdown: source, granted_by, date, text."
NO_DATA = (
    "It holds pairs and no data. Others attach their own with mmbind hydrate; its "
    "README.md has the commands. Why: publish --dry-run."
)


@click.command("publish")
@click.argument("bound", type=click.Path())
@click.argument("bundle", type=click.Path())
@options.choice("--mode", MODES, "auto: as the rights allow.", "auto")
@click.option(
    "--permission", "permissions", multiple=True, type=click.Path(), metavar="FILE", help=PERMISSION
)
@click.option("--data-version", metavar="X.Y.Z", help="[default: 1.0.0, or the next]")
@click.option("--previous", type=click.Path(), help="The bundle that this one follows.")
@click.option("--name", help="Of the bundle: a-z, 0-9 and -.")
@click.option("--date", "published", help="For the catalogue entry: YYYY-MM-DD.")
@options.source()
@options.dry_run(help="Tell the decision on rights, write nothing.")
@options.overwrite(help="Replace a bundle at BUNDLE.")
@reported
def command(bound: str, bundle: str, dry_run: bool, screen: Screen, **chosen: Any) -> Report:
    """Publish BOUND as BUNDLE: card, catalogue entry, credits, sums, report, store.

    BUNDLE is a folder, s3://bucket/prefix or hf://datasets/owner/name.

    The strictest source decides whether its data may be in it. This is not legal advice.
    """
    from mmbind_data.publishing.publish import preview_publication, publish
    from mmbind_data.publishing.rights import DISCLAIMER

    if dry_run:
        return _preview(bundle, preview_publication(bound, bundle, **chosen))
    with screen.progress("publish") as progress:
        info = publish(bound, bundle, progress=progress, **chosen)
    remarks = [DISCLAIMER, *([NO_DATA] if info.mode == "index-only" else [])]
    return Report(_result(bundle, info), [f"{bundle}: {_line(info)}"], notes(remarks))


def _preview(bundle: str, found: PublicationPreview) -> Report:
    from mmbind_data.publishing.rights import decision_document, licence_summary

    result: dict[str, Any] = {"decision": decision_document(found.decision), "bundle": None}
    lines = licence_summary(found.decision)
    if found.bundle is None:
        issue = make_issue("licence", "error", found.refusal)
        return Report(result, lines, [issue], exit_code=REFUSED)
    result["bundle"] = _result(bundle, found.bundle)
    lines = [f"would publish to {bundle}: {_line(found.bundle)}", *lines]
    if found.files:
        result["files"] = [{"path": file.path, "bytes": file.bytes} for file in found.files]
        total = sum(file.bytes for file in found.files)
        lines += [f"would send {len(found.files)} files, {total} bytes:"]
        lines += [f"  {file.bytes:>12}  {file.path}" for file in found.files]
    return Report(result, lines)


def _result(path: str, info: BundleInfo) -> dict[str, Any]:
    return {"path": path, **info.model_dump(mode="json")}


def _line(info: BundleInfo) -> str:
    return (
        f"{info.name} {info.data_version}, {info.mode}, {len(info.sources)} sources, "
        f"licence {info.licence}, content {info.content_digest[:12]}"
    )
