"""Which sources may be passed on, under what terms, and what that makes of a bound dataset.

It follows rules that were written down beforehand. It is not legal advice.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mmbind_data.errors import LicenceError, UsageError, suggest
from mmbind_data.spec.bundle import Permission
from mmbind_data.spec.descriptor import Verdict
from mmbind_data.spec.store import SourceInfo
from mmbind_data.spec.validation_messages import DocumentFault, DocumentFaultError, fault_of

DISCLAIMER = "This follows the descriptors' verdicts by fixed rules. It is not legal advice."
CUSTOM = "LicenseRef-sources"
INDEX_ONLY = "--mode index-only publishes pairs and weights without a byte of the sources."
# from what may be published with least care to what may not be published as it is
Outcome = Literal["self-contained", "index-only", "refuse"]
OUTCOMES: tuple[Outcome, ...] = ("self-contained", "index-only", "refuse")
RequestedMode = Literal["auto", "self-contained", "index-only", "linked"]


@dataclass(frozen=True)
class Terms:
    """What a licence asks of whoever passes adapted data on.

    ``family`` and ``version`` tell which share-alike licences are one licence: an adaptation may
    take a later version of the same Creative Commons licence.
    """

    family: str
    version: tuple[int, ...]
    attribution: bool = True
    share_alike: bool = False
    non_commercial: bool = False
    no_derivatives: bool = False


_FREE: Mapping[str, Terms] = {
    name: Terms(name, (), attribution=False) for name in ("CC0-1.0", "PDDL-1.0", "Unlicense")
}
_ATTRIBUTION: Mapping[str, Terms] = {
    name: Terms(name, ())
    for name in ("Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CDLA-Permissive-2.0", "MIT",
                 "ODC-By-1.0")
}  # fmt: skip
_SHARE_ALIKE: Mapping[str, Terms] = {
    name: Terms(name, (), share_alike=True) for name in ("CDLA-Sharing-1.0", "ODbL-1.0")
}
TERMS: Mapping[str, Terms] = {**_FREE, **_ATTRIBUTION, **_SHARE_ALIKE}
_CREATIVE_COMMONS = re.compile(r"CC-BY(-NC)?(-SA|-ND)?-(\d+)\.(\d+)")


def terms_of(spdx: str | None) -> Terms | None:
    """Terms of a licence by its SPDX id; None where they are not known.

    >>> terms_of("CC-BY-NC-SA-4.0").non_commercial
    True
    """
    found = _CREATIVE_COMMONS.fullmatch(spdx or "")
    if found is None:
        return TERMS.get(spdx or "")
    return Terms(
        family=f"CC-BY{found[1] or ''}{found[2] or ''}",
        version=(int(found[3]), int(found[4])),
        share_alike=found[2] == "-SA",
        non_commercial=bool(found[1]),
        no_derivatives=found[2] == "-ND",
    )


@dataclass(frozen=True)
class Rights:
    """What one source allows.

    Attributes
    ----------
    source_id, dataset_id : str
    licence : str
        As its owner calls it.
    spdx : str or None
        Of the terms that count: the licence's, or those that a permission names.
    verdict : {"allow", "forbid", "unknown"}
        May adapted data be passed on?
    why : str
        Where that is said.
    permission : Permission or None
    """

    source_id: str
    dataset_id: str
    licence: str
    spdx: str | None
    verdict: Verdict
    why: str
    permission: Permission | None = None

    @property
    def terms(self) -> Terms | None:
        """Of the SPDX id; None where they are not known."""
        return terms_of(self.spdx)


@dataclass(frozen=True)
class Decision:
    """What the rights of all sources allow together: the strictest decides.

    Attributes
    ----------
    rights : tuple of Rights
    outcome : {"self-contained", "index-only", "refuse"}
        What ``--mode auto`` does.
    blocking : tuple of str
        Why nothing of the sources may be in it, one sentence for each source.
    conflicts : tuple of str
        Why their terms cannot be met at once.
    licence : str
        SPDX id of the bundle's licence; `CUSTOM` where the sources' terms are not all known.
    attribution, share_alike, non_commercial : bool
        What the bundle's users must keep to.
    """

    rights: tuple[Rights, ...]
    outcome: Outcome
    blocking: tuple[str, ...]
    conflicts: tuple[str, ...]
    licence: str
    attribution: bool
    share_alike: bool
    non_commercial: bool

    @property
    def free(self) -> bool:
        """Whether what was computed from all sources, such as an encoder, may be passed on."""
        return self.outcome == "self-contained"


def decide(sources: Sequence[SourceInfo], permissions: Sequence[Permission] = ()) -> Decision:
    """Weigh the licences of all sources.

    Parameters
    ----------
    sources : sequence of SourceInfo
    permissions : sequence of Permission
        Each replaces the licence of the source, or of all sources of the dataset, that it names.

    Returns
    -------
    Decision
        One more source never makes it looser.

    Raises
    ------
    UsageError
        A permission names no source, or two name the same.
    """
    _check_permissions(sources, permissions)
    rights = tuple(_rights(source, permissions) for source in sources)
    return combine(rights)


def combine(rights: Sequence[Rights]) -> Decision:
    """Put the rights of sources together; see `decide`."""
    blocking = tuple(
        f"{one.source_id}: {one.verdict} ({one.licence}; {one.why})"
        for one in rights
        if one.verdict != "allow"
    )
    conflicts = tuple(_conflicts(rights))
    outcome: Outcome = "refuse" if conflicts else "index-only" if blocking else "self-contained"
    terms = [one.terms for one in rights]
    known = [one for one in terms if one is not None]
    return Decision(
        rights=tuple(rights),
        outcome=outcome,
        blocking=blocking,
        conflicts=conflicts,
        licence=CUSTOM if conflicts or len(known) < len(terms) else _licence(rights, known),
        # terms that are not known ask for credit at least
        attribution=len(known) < len(terms) or any(one.attribution for one in known),
        share_alike=any(one.share_alike for one in known),
        non_commercial=any(one.non_commercial for one in known),
    )


def choose_mode(
    decision: Decision, asked: RequestedMode = "auto"
) -> Literal["self-contained", "index-only"]:
    """The mode to publish in.

    Raises
    ------
    LicenceError
        The sources' rights do not allow what was asked for; it says which source and why.
    """
    if asked == "linked":
        raise LicenceError(
            cannot="publish",
            problem="a linked store holds paths of this machine",
            at="--mode linked",
            expected="a store that others can use",
            got="links",
            fix="Two ways out: --mode self-contained, where the sources allow it, or "
            "--mode index-only, which others attach to their own copies by mmbind hydrate.",
        )
    if asked == "index-only":
        return asked
    if decision.conflicts:
        raise LicenceError(
            cannot="publish",
            problem="the sources' terms cannot be met at once",
            at="; ".join(decision.conflicts),
            expected="terms that agree",
            got="a conflict",
            fix=f"{INDEX_ONLY} Or give a permission: --permission FILE.",
        )
    if decision.outcome == "index-only":
        if asked == "self-contained":
            raise LicenceError(
                cannot="publish self-contained",
                problem="not every source may be passed on",
                at="; ".join(decision.blocking),
                expected="allow from every source",
                got=f"{len(decision.blocking)} of {len(decision.rights)} that do not allow it",
                fix=f"{INDEX_ONLY} Or give a permission: --permission FILE.",
            )
        return "index-only"
    return "self-contained"


def licence_summary(decision: Decision) -> list[str]:
    """The decision as a table for people, one line each, and what follows from it."""
    rows = [("source", "verdict", "SPDX", "licence", "where it says so")]
    rows += [(one.source_id, one.verdict, one.spdx or "none", one.licence, one.why)
             for one in decision.rights]  # fmt: skip
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [
        "  ".join(
            [*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), *row[3:]]
        )
        for row in rows
    ]
    lines += [f"conflict: {one}" for one in decision.conflicts]
    duties = {"credit": decision.attribution, "share alike": decision.share_alike,
              "no commercial use": decision.non_commercial}  # fmt: skip
    asked = ", ".join(name for name, holds in duties.items() if holds) or "nothing"
    lines.append(f"--mode auto: {decision.outcome}; licence {decision.licence}; asked for: {asked}")
    return [*lines, DISCLAIMER]


def decision_document(decision: Decision) -> dict[str, Any]:
    """The decision as JSON."""
    sources = [
        {"source_id": one.source_id, "verdict": one.verdict, "spdx": one.spdx,
         "licence": one.licence, "source": one.why}
        for one in decision.rights
    ]  # fmt: skip
    names = ("outcome", "licence", "attribution", "share_alike", "non_commercial")
    told = {name: getattr(decision, name) for name in names}
    lists = {name: list(getattr(decision, name)) for name in ("blocking", "conflicts")}
    return {"sources": sources, **told, **lists}


def _rights(source: SourceInfo, permissions: Sequence[Permission]) -> Rights:
    licence = source.licence
    given = next(
        (one for one in permissions if one.source in (source.source_id, source.dataset_id)), None
    )
    if given is None:
        return Rights(source.source_id, source.dataset_id, licence.name, licence.spdx,
                      licence.redistribution, licence.source)  # fmt: skip
    why = f"permission by {given.granted_by} of {given.date.isoformat()}"
    return Rights(source.source_id, source.dataset_id, licence.name, given.licence, "allow", why,
                  given)  # fmt: skip


def _check_permissions(sources: Sequence[SourceInfo], permissions: Sequence[Permission]) -> None:
    named = {name for source in sources for name in (source.source_id, source.dataset_id)}
    covered: dict[str, Permission] = {}
    for one in permissions:
        if one.source not in named:
            raise UsageError(
                cannot="use a permission",
                problem="it names no source",
                at="--permission",
                expected=", ".join(sorted(named)),
                got=repr(one.source),
                fix=suggest(one.source, named),
            )
        for source in sources:
            if one.source in (source.source_id, source.dataset_id):
                other = covered.setdefault(source.source_id, one)
                if other is not one:
                    raise UsageError(
                        cannot="use a permission",
                        problem="two name the same source",
                        at="--permission",
                        expected=f"one for {source.source_id}",
                        got=f"{other.source} and {one.source}",
                    )


def _conflicts(rights: Sequence[Rights]) -> list[str]:
    """Sentences that name the sources whose terms exclude one another."""
    found = [
        f"{one.source_id} ({one.spdx}) allows no adaptation, but windows cut from it are one"
        for one in rights
        if one.verdict == "allow" and one.terms is not None and one.terms.no_derivatives
    ]
    for one in rights:
        own = one.terms
        if own is None or not own.share_alike:
            continue
        for other in rights:
            theirs = other.terms
            if other.permission is not None and theirs is None:
                continue  # whoever permitted it did not ask for terms of their own
            if theirs is None and other.verdict == "allow":
                found.append(
                    f"{one.source_id} ({one.spdx}) wants all of it under its own licence, "
                    f"but the terms of {other.source_id} ({other.licence}) are not known"
                )
            elif theirs is not None and _excludes(own, theirs) and one is not other:
                found.append(
                    f"{one.source_id} ({one.spdx}) wants all of it under its own licence, which "
                    f"{other.source_id} ({other.spdx}) does not allow"
                )
    return list(dict.fromkeys(found))


def _excludes(own: Terms, other: Terms) -> bool:
    """Whether what the other licence asks for cannot be kept under a share-alike licence."""
    if other.share_alike:
        return own.family != other.family
    return other.non_commercial and not own.non_commercial


def _licence(rights: Sequence[Rights], terms: Sequence[Terms]) -> str:
    """SPDX id that keeps to the terms of all, which are known and do not conflict."""
    ids = {one.spdx for one in rights}
    if any(one.no_derivatives for one in terms):
        return CUSTOM  # of such a source nothing but its name is in it
    if len(ids) == 1:
        return str(ids.pop())
    shared = [(one, spdx) for one, spdx in zip(terms, (r.spdx for r in rights), strict=True)
              if one.share_alike]  # fmt: skip
    if shared:
        return str(max(shared, key=lambda found: found[0].version)[1])
    if any(one.non_commercial for one in terms):
        return "CC-BY-NC-4.0"
    return "CC-BY-4.0" if any(one.attribution for one in terms) else "CC0-1.0"


_HEAD = re.compile(r"---\n(.*?)\n---\n(.*)", re.DOTALL)
NEXT = (
    "Write source, granted_by, date (YYYY-MM-DD) and text as a JSON object, or as Markdown whose "
    "head between two lines of --- has the first three and whose body is the text."
)


def read_permissions(paths: Sequence[str | Path]) -> list[tuple[Permission, Path]]:
    """Read permissions, each with the file that holds it.

    Parameters
    ----------
    paths : sequence of path
        JSON: one object or a list of them. Markdown: ``name: value`` lines between two lines of
        ``---``, then the words of the permission.

    Returns
    -------
    list of (Permission, Path)

    Raises
    ------
    UsageError
        A file is missing, unreadable, or lacks a field; two files have one name.
    """
    found: list[tuple[Permission, Path]] = []
    places: dict[str, Path] = {}
    for path in map(Path, paths):
        if places.setdefault(path.name, path) != path:
            expected, got = "files of different names", f"{places[path.name]} and {path}"
            raise UsageError(
                cannot="use a permission",
                problem="a name twice",
                at="--permission",
                expected=expected,
                got=got,
            )
        found += [(one, path) for one in _read(path)]
    return found


def _read(path: Path) -> list[Permission]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        document = _markdown(text) if path.suffix.lower() in (".md", ".txt") else json.loads(text)
        listed = document if isinstance(document, list) else [document]
        if not listed:
            raise _not_a_permission("an empty list")
        # as JSON, because from there a date is a text
        return [Permission.model_validate_json(json.dumps(one)) for one in listed]
    except (OSError, ValueError) as error:
        raise UsageError(cannot="use a permission", **fault_of(error, path), fix=NEXT) from error


def _not_a_permission(got: str) -> DocumentFaultError:
    expected = "a JSON object, or Markdown with a head"
    return DocumentFaultError(DocumentFault("not a permission", "", expected, got))


def _markdown(text: str) -> dict[str, Any]:
    found = _HEAD.fullmatch(text.replace("\r\n", "\n"))
    if found is None:
        raise _not_a_permission("Markdown without a head")
    pairs = [line.partition(":") for line in found[1].splitlines() if line.strip()]
    head = {name.strip(): value.strip() for name, _, value in pairs}
    return {**head, "text": found[2].strip()}
