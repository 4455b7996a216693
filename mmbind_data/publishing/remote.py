"""Publish to an address instead of a folder: built and checked here, then sent."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmbind_data.errors import IntegrityError, UsageError
from mmbind_data.io.digests import BUNDLE_OWN, file_digest
from mmbind_data.io.locations import S3
from mmbind_data.progress import Progress
from mmbind_data.publishing.publish import PublicationPlan, check_store, write_bundle
from mmbind_data.publishing.upload_hub import FORM, HUB, check_hub, repository, upload_to_hub
from mmbind_data.publishing.upload_s3 import check_bucket, upload_to_bucket
from mmbind_data.publishing.verify import verify
from mmbind_data.spec.bundle import BundleInfo, Manifest, ManifestEntry


def is_address(target: str | Path) -> bool:
    """Whether a target is no folder."""
    return "://" in str(target)


def publish_remote(
    plan: PublicationPlan,
    address: str,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> BundleInfo:
    """Build a bundle in a temporary folder, send it, and compare what lies there.

    Parameters
    ----------
    plan : PublicationPlan
        See `publish.plan_bundle`.
    address : str
        ``s3://bucket/prefix``, or ``hf://datasets/owner/name``.
    overwrite : bool
        A bundle may stand there.
    progress : callable (done, total, text), optional

    Raises
    ------
    UsageError
        An address of another kind.
    IntegrityError
        The bound store is damaged, or what lies there is not what was sent.
    OutputError
        The place is taken, or cannot be written.
    """
    check_address(address, overwrite=overwrite)
    upload = upload_to_bucket if address.startswith(S3) else upload_to_hub
    with _built(plan, progress) as (folder, entries):
        upload(folder, entries, address, overwrite=overwrite, progress=progress)
    return plan.bundle


def rehearse_remote(
    plan: PublicationPlan, address: str, *, overwrite: bool
) -> tuple[ManifestEntry, ...]:
    """Files that `publish_remote` would send; nothing is sent, and the hub is not asked."""
    if address.startswith(HUB):
        repository(address)
    else:
        check_address(address, overwrite=overwrite)
    with _built(plan, None) as (_, entries):
        return entries


def check_address(address: str, *, overwrite: bool) -> None:
    """Refuse an address of another kind, and a place that is taken.

    Raises
    ------
    UsageError, OutputError, FormatError
    """
    if address.startswith(S3):
        check_bucket(address, overwrite=overwrite)
    elif address.startswith(HUB):
        check_hub(address, overwrite=overwrite)
    else:
        scheme = address.partition("://")[0]
        raise UsageError(
            cannot="publish",
            problem="unknown kind of address",
            at="BUNDLE",
            expected=f"a folder, s3://bucket/prefix or {FORM}",
            got=f"{scheme}://",
        )


@contextmanager
def _built(
    plan: PublicationPlan, progress: Progress | None
) -> Iterator[tuple[Path, tuple[ManifestEntry, ...]]]:
    """A bundle in a temporary folder, and all of its files."""
    check_store(plan)
    with tempfile.TemporaryDirectory(prefix="mmbind-publish-") as text:
        folder = Path(text)
        write_bundle(plan, folder, progress)
        for found in verify(folder, depth="deep"):
            raise IntegrityError(
                cannot="publish",
                problem="the bundle was damaged on this disk",
                at=f"{folder}/{found.where}",
                expected="what was written",
                got=found.message,
                fix="Run the same command again.",
            )
        manifest = Manifest.model_validate_json((folder / BUNDLE_OWN[0]).read_bytes())
        own = (
            ManifestEntry(path=name, bytes=(folder / name).stat().st_size,
                          sha256=file_digest(folder / name))
            for name in BUNDLE_OWN
        )  # fmt: skip
        yield folder, (*manifest.files, *own)
