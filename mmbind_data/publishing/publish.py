"""Publish a bound store: a folder with card, catalogue entry, credits, sums, report and store.

The rights of the sources are examined first: they decide whether the bundle may hold their data.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from mmbind_data.binding.writing import write_json
from mmbind_data.errors import LicenceError, UsageError
from mmbind_data.io.atomic import check_output, staged
from mmbind_data.io.digests import BUNDLE_OWN, file_entry, write_manifest
from mmbind_data.io.locations import locate
from mmbind_data.progress import Progress
from mmbind_data.publishing.bundle_store import local_name, write_published
from mmbind_data.publishing.card import card
from mmbind_data.publishing.commands import label_maps
from mmbind_data.publishing.credits import citations, licence_texts
from mmbind_data.publishing.croissant import croissant
from mmbind_data.publishing.facts import SAMPLES_TABLE, STORE, gather_facts, samples_table
from mmbind_data.publishing.rights import (
    Decision,
    RequestedMode,
    choose_mode,
    decide,
    read_permissions,
)
from mmbind_data.publishing.upload import check_destination, is_address, open_destination, upload
from mmbind_data.publishing.upload_hub import HubRepository
from mmbind_data.publishing.verify import refuse_damage, verify
from mmbind_data.publishing.versioning import choose_version
from mmbind_data.reports.bound_report import report
from mmbind_data.spec.bundle import BundleInfo, BundleSource, ManifestEntry
from mmbind_data.store.bound import BoundDataset, open_bound
from mmbind_data.store.pair_table import bound_digest
from mmbind_data.store.root import BUNDLE
from mmbind_data.store.validation import validate
from mmbind_data.store.writer import write_table

DOING = "publish"
PERMISSIONS, LICENSES = "PERMISSIONS", "LICENSES"
NAME = r"[a-z0-9]+(-[a-z0-9]+)*"


class _Plan(NamedTuple):
    """What will be published, decided before anything is written."""

    bound: BoundDataset
    decision: Decision
    bundle: BundleInfo
    permissions: tuple[Path, ...]
    published: str | None


@dataclass(frozen=True)
class PublicationPreview:
    """What publishing would do.

    Attributes
    ----------
    decision : Decision
        On the rights of the sources.
    bundle : BundleInfo or None
        None if the rights do not allow it; then ``refusal`` says why.
    refusal : str
    files : tuple of ManifestEntry
        What would be sent, if the target is an address.
    """

    decision: Decision
    bundle: BundleInfo | None
    refusal: str = ""
    files: tuple[ManifestEntry, ...] = ()


def publish(
    bound: str | Path | BoundDataset,
    bundle: str | Path,
    *,
    mode: RequestedMode = "auto",
    permissions: Sequence[str | Path] = (),
    data_version: str | None = None,
    previous: str | Path | None = None,
    name: str | None = None,
    published: str | None = None,
    sources: Mapping[str, str | Path] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> BundleInfo:
    """Publish a bound store as a bundle, within the rights of its sources.

    A folder appears complete or not at all. For an address the bundle is built in a temporary
    folder, verified, sent, and compared with what is there.

    Parameters
    ----------
    bound : path or BoundDataset
    bundle : path or str
        A folder, ``s3://bucket/prefix`` or ``hf://datasets/owner/name``.
    mode : {"auto", "self-contained", "index-only", "linked"}
        auto: self-contained if the rights allow it, else index-only. linked is always refused.
    permissions : sequence of path
        Files with permissions of owners of the sources; see `rights.read_permissions`.
    data_version : str, optional
        MAJOR.MINOR.PATCH; by default 1.0.0, or the lowest that may follow ``previous``.
    previous : path, optional
        The bundle that this one follows.
    name : str, optional
        Name of the bundle: lower-case letters, digits, hyphens.
    published : str, optional
        Date for the catalogue entry, YYYY-MM-DD.
    sources : mapping of source id to path, optional
        Where sources are now, if ``bound`` is a path.
    overwrite : bool
        Replace a bundle.
    progress : callable (done, total, text), optional

    Returns
    -------
    BundleInfo

    Raises
    ------
    LicenceError
        The rights of the sources do not allow the mode.
    UsageError
        A bad name, date, version, permission or address.
    IntegrityError
        The bound store or a source is damaged, or what arrived is not what was sent.
    FormatError
        A store cannot be opened.
    OutputError
        The target exists already, or cannot be written.

    Examples
    --------
    >>> import mmbind_data as md
    >>> md.publish("bound.zarr", "bundle").mode  # doctest: +SKIP
    'index-only'
    """
    plan = _plan(
        _opened(bound, sources),
        permissions,
        mode=mode,
        data_version=data_version,
        previous=previous,
        name=name,
        published=published,
    )
    if is_address(bundle):
        place = open_destination(str(bundle))
        check_destination(place, overwrite=overwrite)
        with _built(plan, progress) as (folder, entries):
            upload(folder, entries, place, overwrite=overwrite, progress=progress)
    else:
        _check_folder(plan, Path(bundle), overwrite=overwrite)
        with staged(Path(bundle), overwrite=overwrite, doing=DOING, replaces="bundle") as folder:
            _write_bundle(plan, folder, progress)
    return plan.bundle


def preview_publication(
    bound: str | Path | BoundDataset,
    bundle: str | Path,
    *,
    permissions: Sequence[str | Path] = (),
    sources: Mapping[str, str | Path] | None = None,
    overwrite: bool = False,
    **options: Any,
) -> PublicationPreview:
    """Check and decide everything that `publish` does, with the same parameters; write nothing.

    A bucket is asked whether the prefix is free; the hub is not asked.

    Raises
    ------
    UsageError, FormatError, IntegrityError, OutputError
        As `publish`, but a refusal by the rights of the sources is part of the result.
    """
    opened = _opened(bound, sources)
    decision = decide(opened.info.sources, [given for given, _ in read_permissions(permissions)])
    try:
        plan = _plan(opened, permissions, **options)
    except LicenceError as error:
        return PublicationPreview(decision, None, str(error))
    if not is_address(bundle):
        _check_folder(plan, Path(bundle), overwrite=overwrite)
        return PublicationPreview(decision, plan.bundle)
    place = open_destination(str(bundle))
    if not isinstance(place, HubRepository):
        check_destination(place, overwrite=overwrite)
    with _built(plan, None) as (_, entries):
        return PublicationPreview(decision, plan.bundle, files=entries)


def _opened(
    bound: str | Path | BoundDataset, sources: Mapping[str, str | Path] | None
) -> BoundDataset:
    if isinstance(bound, BoundDataset):
        return bound
    places = {name: locate(path) for name, path in (sources or {}).items()}
    return open_bound(bound, sources=places)


def _plan(
    bound: BoundDataset,
    permissions: Sequence[str | Path],
    *,
    mode: RequestedMode = "auto",
    data_version: str | None = None,
    previous: str | Path | None = None,
    name: str | None = None,
    published: str | None = None,
) -> _Plan:
    """Decide what is published; for the parameters see `publish`."""
    given = read_permissions(permissions)
    info = bound.info
    decision = decide(info.sources, [permission for permission, _ in given])
    chosen = choose_mode(decision, mode)
    datasets = dict.fromkeys(source.dataset_id for source in info.sources)
    default = "-".join([*datasets, "by", *dict.fromkeys(info.shared)]).replace("_", "-")
    if name is not None and not re.fullmatch(NAME, name):
        raise _bad_option("bad name", "--name", "a word of a-z, 0-9 and -", name)
    if published is not None and not _is_day(published):
        raise _bad_option("bad date", "--date", "a day, YYYY-MM-DD", published)
    paths = {id(permission): f"{PERMISSIONS}/{path.name}" for permission, path in given}
    files = tuple(dict.fromkeys(path for _, path in given))
    bundle = BundleInfo(
        tool_version=version("mmbind"),
        data_version=choose_version(bound, data_version, previous),
        name=name or default,
        mode=chosen,
        store=STORE,
        content_digest=bound_digest(info.shared, info.binder, info.sources, bound.pairs()),
        licence=decision.licence,
        share_alike=decision.share_alike,
        non_commercial=decision.non_commercial,
        attribution=decision.attribution,
        encoder=decision.free,  # it was trained on every source
        sources=tuple(
            BundleSource(
                source_id=source.source_id,
                dataset_id=source.dataset_id,
                dataset_version=source.dataset_version,
                licence=source.licence,
                verdict=rights.verdict,
                permission=paths.get(id(rights.permission)),
            )
            for source, rights in zip(info.sources, decision.rights, strict=True)
        ),
    )
    return _Plan(bound, decision, bundle, files, published)


def _bad_option(problem: str, option: str, expected: str, got: str) -> UsageError:
    return UsageError(cannot=DOING, problem=problem, at=option, expected=expected, got=repr(got))


def _check_folder(plan: _Plan, out: Path, *, overwrite: bool) -> None:
    """Refuse a place that is taken, and a store that is damaged."""
    bound = plan.bound
    stores = [bound.path, *(bound.source(one.source_id).path for one in bound.info.sources)]
    check_output(out, overwrite=overwrite, doing=DOING, inputs=stores, replaces="bundle")
    _check_store(bound)


def _check_store(bound: BoundDataset) -> None:
    """Refuse a store that is damaged."""
    findings = validate(bound.path, level="values", sources=bound.overrides)
    errors = (found for found in findings if found.severity == "error")
    refuse_damage(errors, DOING, "the bound store is not valid", bound.path)


@contextmanager
def _built(
    plan: _Plan, progress: Progress | None
) -> Iterator[tuple[Path, tuple[ManifestEntry, ...]]]:
    """A bundle in a temporary folder, and all of its files."""
    _check_store(plan.bound)
    with tempfile.TemporaryDirectory(prefix="mmbind-publish-") as text:
        folder = Path(text)
        entries = _write_bundle(plan, folder, progress)
        damage = verify(folder, depth="deep")
        refuse_damage(damage, DOING, "the bundle was damaged on this disk", folder)
        yield folder, entries


def _write_bundle(
    plan: _Plan, folder: Path, progress: Progress | None
) -> tuple[ManifestEntry, ...]:
    """Write all files of a bundle into an empty folder."""
    bound, bundle = plan.bound, plan.bundle
    write_published(folder / STORE, bound, bundle.mode, encoder=bundle.encoder, progress=progress)
    facts = gather_facts(folder, bundle, plan.decision, bound)
    write_table(folder / SAMPLES_TABLE, samples_table(facts))
    write_json(folder / BUNDLE, bundle.model_dump(mode="json"))
    write_json(folder / "croissant.json", croissant(facts, published=plan.published))
    texts = {"README.md": card(facts), "CITATION.bib": citations(facts)}
    texts |= {f"{LICENSES}/{name}": text for name, text in licence_texts(facts).items()}
    for name, text in texts.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
    for path in plan.permissions:
        (folder / PERMISSIONS).mkdir(exist_ok=True)
        shutil.copyfile(path, folder / PERMISSIONS / path.name)
    for name, synonyms in label_maps(bound.info).items():
        write_json(folder / name, synonyms)
    report(_without_paths(bound), folder / "report.html", public=bundle.mode == "index-only")
    manifest = write_manifest(folder, own=BUNDLE_OWN)
    return (*manifest.files, *(file_entry(folder, name) for name in BUNDLE_OWN))


def _is_day(text: str) -> bool:
    """Whether a text is a day of the calendar, YYYY-MM-DD."""
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _without_paths(bound: BoundDataset) -> BoundDataset:
    """The same store, its sources called by the names that their commands give them."""
    sources = tuple(one.model_copy(update={"path": local_name(one)}) for one in bound.info.sources)
    places = {one.source_id: bound.source(one.source_id).path for one in sources}
    info = bound.info.model_copy(update={"sources": sources})
    return replace(bound, info=info, overrides=places)
