"""Publish a bound store: a folder with card, catalogue entry, credits, sums, report and store.

The sources' rights come first: they decide whether the bundle may hold their data.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mmbind_data.errors import IntegrityError, LicenceError, UsageError
from mmbind_data.io.atomic import check_output, staged
from mmbind_data.io.digests import BUNDLE_OWN, write_manifest
from mmbind_data.progress import Progress
from mmbind_data.publishing.bundle_store import Mode, local_name, write_json, write_published
from mmbind_data.publishing.card import card
from mmbind_data.publishing.commands import label_maps
from mmbind_data.publishing.credits import citations, licence_texts
from mmbind_data.publishing.croissant import croissant
from mmbind_data.publishing.facts import SAMPLES_TABLE, STORE, Facts, gather_facts, samples_table
from mmbind_data.publishing.rights import (
    Decision,
    RequestedMode,
    choose_mode,
    decide,
    read_permissions,
)
from mmbind_data.publishing.versioning import choose_version
from mmbind_data.reports.bound_report import report
from mmbind_data.spec.bundle import BundleInfo, BundleSource
from mmbind_data.store.bound import BoundDataset
from mmbind_data.store.pair_table import bound_digest
from mmbind_data.store.root import BUNDLE
from mmbind_data.store.validation import validate
from mmbind_data.store.writer import write_table

PERMISSIONS, LICENSES = "PERMISSIONS", "LICENSES"
NAME = r"[a-z0-9]+(-[a-z0-9]+)*"


@dataclass(frozen=True)
class PublicationPlan:
    """What is going to be published, all refusals behind it.

    Attributes
    ----------
    bound : BoundDataset
    decision : Decision
    mode : {"self-contained", "index-only"}
    bundle : BundleInfo
    permissions : tuple of Path
        Files that are copied into the bundle.
    published : str or None
        Date for the catalogue entry.
    """

    bound: BoundDataset
    decision: Decision
    mode: Mode
    bundle: BundleInfo
    permissions: tuple[Path, ...]
    published: str | None = None


@dataclass(frozen=True)
class PublicationPreview:
    """What publishing would do: the decision on rights, and the plan or why there is none."""

    decision: Decision
    plan: PublicationPlan | None
    refusal: str | None


def preview_publication(
    bound: BoundDataset, out: str | Path | None, *, permissions: Sequence[str | Path] = (),
    overwrite: bool = False, **chosen: Any,
) -> PublicationPreview:  # fmt: skip
    """Decide all, write nothing; options are those of `plan_bundle`; ``out`` is None for no folder.

    Raises
    ------
    UsageError, FormatError, IntegrityError, OutputError
        A refusal by the sources' rights is told in the result instead.
    """
    decision = decide(bound.info.sources, [one for one, _ in read_permissions(permissions)])
    try:
        plan = plan_bundle(bound, permissions=permissions, **chosen)
    except LicenceError as error:
        return PublicationPreview(decision, None, str(error))
    if out is not None:
        check_publication(plan, Path(out), overwrite=overwrite)
    return PublicationPreview(decision, plan, None)


def plan_bundle(
    bound: BoundDataset,
    *,
    mode: RequestedMode = "auto",
    permissions: Sequence[str | Path] = (),
    data_version: str | None = None,
    previous: str | Path | None = None,
    name: str | None = None,
    published: str | None = None,
) -> PublicationPlan:
    """Decide what is published, before anything is written.

    Parameters
    ----------
    bound : BoundDataset
    mode : {"auto", "self-contained", "index-only", "linked"}
    permissions : sequence of path
        See `permissions.read_permissions`.
    data_version : str, optional
    previous : path, optional
        See `data_version.choose_version`.
    name : str, optional
        The bundle's name: lower-case letters, digits, hyphens.
    published : str, optional
        Date for the catalogue entry, YYYY-MM-DD.

    Raises
    ------
    LicenceError
        The sources' rights do not allow the mode.
    UsageError
        A bad name, date, version or permission.
    """
    given = read_permissions(permissions)
    decision = decide(bound.info.sources, [one for one, _ in given])
    chosen = choose_mode(decision, mode)
    own = "-".join([*dict.fromkeys(source.dataset_id for source in bound.info.sources), "by",
                    *dict.fromkeys(bound.info.shared)]).replace("_", "-")  # fmt: skip
    if name is not None and not re.fullmatch(NAME, name):
        expected = "a word of a-z, 0-9 and -"
        raise UsageError(
            cannot="publish", problem="bad name", at="--name", expected=expected, got=repr(name)
        )
    if published is not None and not _is_day(published):
        expected = "a day, YYYY-MM-DD"
        raise UsageError(
            cannot="publish",
            problem="bad date",
            at="--date",
            expected=expected,
            got=repr(published),
        )
    files = tuple(dict.fromkeys(path for _, path in given))
    bundle = _describe(bound, decision, chosen, name or own,
                       choose_version(bound, data_version, previous), given)  # fmt: skip
    return PublicationPlan(bound, decision, chosen, bundle, files, published)


def publish(
    plan: PublicationPlan,
    out: str | Path,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> BundleInfo:
    """Write a bundle into a new folder; it appears whole or not at all.

    Parameters
    ----------
    plan : PublicationPlan
        See `plan_bundle`.
    out : path
    overwrite : bool
        A bundle may stand there.
    progress : callable (done, total, text), optional

    Returns
    -------
    BundleInfo

    Raises
    ------
    IntegrityError
        The bound store or a source is damaged.
    FormatError, OutputError
    """
    out = Path(out)
    check_publication(plan, out, overwrite=overwrite)
    with staged(out, overwrite=overwrite, doing="publish", replaces="bundle") as folder:
        write_bundle(plan, folder, progress)
    return plan.bundle


def check_publication(plan: PublicationPlan, out: Path, *, overwrite: bool) -> None:
    """Refuse a place that is taken, and a store that is damaged.

    Raises
    ------
    OutputError, FormatError, IntegrityError
    """
    bound = plan.bound
    stores = [bound.path, *(bound.source(one.source_id).path for one in bound.info.sources)]
    check_output(out, overwrite=overwrite, doing="publish", inputs=stores, replaces="bundle")
    check_store(plan)


def check_store(plan: PublicationPlan) -> None:
    """Refuse a store that is damaged.

    Raises
    ------
    FormatError, IntegrityError
    """
    bound = plan.bound
    problems = validate(bound.path, level="values", sources=bound.overrides)
    errors = [one for one in problems if one.severity == "error"]
    if errors:
        found = f"{errors[0].code}: {errors[0].message}"
        raise IntegrityError(
            cannot="publish",
            problem="the bound store is not valid",
            at=f"{bound.path} {errors[0].where}",
            expected="no problem",
            got=found,
            fix=errors[0].fix,
        )


def write_bundle(plan: PublicationPlan, folder: Path, progress: Progress | None = None) -> Facts:
    """Write all files of a bundle into an empty folder; a target other than a folder sends these.

    Parameters
    ----------
    plan : PublicationPlan
    folder : Path
    progress : callable (done, total, text), optional

    Returns
    -------
    Facts
        What its documents tell.
    """
    bound, bundle = plan.bound, plan.bundle
    write_published(folder / STORE, bound, plan.mode, encoder=bundle.encoder, progress=progress)
    facts = gather_facts(folder, bundle, plan.decision, bound)
    write_table(folder / SAMPLES_TABLE, samples_table(facts))
    write_json(folder / BUNDLE, bundle.model_dump(mode="json"))
    _write_text(folder / "README.md", card(facts))
    write_json(folder / "croissant.json", croissant(facts, published=plan.published))
    _write_text(folder / "CITATION.bib", citations(facts))
    for name, text in licence_texts(facts).items():
        _write_text(folder / LICENSES / name, text)
    for path in plan.permissions:
        (folder / PERMISSIONS).mkdir(exist_ok=True)
        shutil.copyfile(path, folder / PERMISSIONS / path.name)
    for file, wordings in label_maps(bound.info).items():
        write_json(folder / file, wordings)
    report(_without_paths(bound), folder / "report.html", public=plan.mode == "index-only")
    write_manifest(folder, own=BUNDLE_OWN)
    return facts


def _describe(
    bound: BoundDataset, decision: Decision, mode: Mode, name: str, data_version: str,
    given: Sequence[tuple[object, Path]],
) -> BundleInfo:  # fmt: skip
    info = bound.info
    paths = {id(one): f"{PERMISSIONS}/{path.name}" for one, path in given}
    return BundleInfo(
        tool_version=version("mmbind"),
        data_version=data_version,
        name=name,
        mode=mode,
        store=STORE,
        content_digest=bound_digest(info.shared, info.binder, info.sources, bound.pairs()),
        licence=decision.licence,
        share_alike=decision.share_alike,
        non_commercial=decision.non_commercial,
        attribution=decision.attribution,
        # it saw every source: whoever may not have one of them may not have it either
        encoder=decision.free,
        sources=tuple(
            BundleSource(
                source_id=one.source_id,
                dataset_id=one.dataset_id,
                dataset_version=one.dataset_version,
                licence=one.licence,
                verdict=rights.verdict,
                permission=paths.get(id(rights.permission)),
            )
            for one, rights in zip(info.sources, decision.rights, strict=True)
        ),
    )


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


def _write_text(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")
