"""Which sources may be redistributed, under what terms, and what that makes of a bound dataset.

The rules are fixed in advance and read the licence that each descriptor states. This is not legal
advice.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
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
# from the least restrictive to the most restrictive
Outcome = Literal["self-contained", "index-only", "refuse"]
OUTCOMES: tuple[Outcome, ...] = ("self-contained", "index-only", "refuse")
Mode = Literal["self-contained", "index-only"]
RequestedMode = Literal["auto", "self-contained", "index-only", "linked"]


@dataclass(frozen=True)
class Terms:
    """What a licence requires of whoever redistributes adapted data.

    ``family`` and ``version`` tell which share-alike licences are compatible: an adaptation may
    take a later version of the same Creative Commons licence.
    """

    family: str
    version: tuple[int, ...] = ()
    attribution: bool = True
    share_alike: bool = False
    non_commercial: bool = False
    no_derivatives: bool = False


_FREE = ("CC0-1.0", "PDDL-1.0", "Unlicense")
_PERMISSIVE = ("Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "MIT")
_ATTRIBUTION = (*_PERMISSIVE, "CDLA-Permissive-2.0", "ODC-By-1.0")
_SHARE_ALIKE = ("CDLA-Sharing-1.0", "ODbL-1.0")
TERMS: Mapping[str, Terms] = {
    name: Terms(name, attribution=name not in _FREE, share_alike=name in _SHARE_ALIKE)
    for name in (*_FREE, *_ATTRIBUTION, *_SHARE_ALIKE)
}
_CREATIVE_COMMONS = re.compile(r"CC-BY(-NC)?(-SA|-ND)?-(\d+)\.(\d+)")


def terms_of(spdx: str | None) -> Terms | None:
    """Terms of a licence by its SPDX id; None if they are not known.

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
        Its name, as the owner writes it.
    spdx : str or None
        SPDX id of the terms that apply: those of the licence, or those that a permission names.
    verdict : {"allow", "forbid", "unknown"}
        Whether adapted data may be redistributed.
    why : str
        Where the verdict comes from.
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
        """Terms of the SPDX id; None if they are not known."""
        return terms_of(self.spdx)


@dataclass(frozen=True)
class Decision:
    """What the rights of all sources allow together: the strictest source decides.

    Attributes
    ----------
    rights : tuple of Rights
    outcome : {"self-contained", "index-only", "refuse"}
        What ``--mode auto`` does.
    licence : str
        SPDX id of the bundle's licence; `CUSTOM` if the terms of some source are not known.
    attribution, share_alike, non_commercial : bool
        Duties of the bundle's users.
    blocking : tuple of str
        One sentence for each source whose data must not be in the bundle.
    conflicts : tuple of str
        Why the terms of the sources exclude one another.
    """

    rights: tuple[Rights, ...]
    outcome: Outcome
    licence: str
    attribution: bool
    share_alike: bool
    non_commercial: bool
    blocking: tuple[str, ...]
    conflicts: tuple[str, ...]

    @property
    def free(self) -> bool:
        """Whether what was computed from all sources, such as an encoder, may be redistributed."""
        return self.outcome == "self-contained"

    @property
    def duties(self) -> list[str]:
        """What the bundle's users must do, in words."""
        required = (self.attribution, self.share_alike, self.non_commercial)
        return list(compress(("credit", "share alike", "no commercial use"), required))


def decide(sources: Sequence[SourceInfo], permissions: Sequence[Permission] = ()) -> Decision:
    """Combine the licences of all sources into one decision.

    Parameters
    ----------
    sources : sequence of SourceInfo
    permissions : sequence of Permission
        Each replaces the licence of the source, or of all sources of the dataset, that it names.

    Returns
    -------
    Decision
        Another source never makes it more permissive.

    Raises
    ------
    UsageError
        A permission names no source, or two name the same.
    """
    _check_permissions(sources, permissions)
    return combine([_rights(source, permissions) for source in sources])


def combine(rights: Sequence[Rights]) -> Decision:
    """Combine the rights of sources; see `decide`."""
    blocking = tuple(
        f"{right.source_id}: {right.verdict} ({right.licence}; {right.why})"
        for right in rights
        if right.verdict != "allow"
    )
    conflicts = tuple(_conflicts(rights))
    known = [right.terms for right in rights if right.terms is not None]
    some_unknown = len(known) < len(rights)
    return Decision(
        rights=tuple(rights),
        outcome="refuse" if conflicts else "index-only" if blocking else "self-contained",
        blocking=blocking,
        conflicts=conflicts,
        licence=CUSTOM if conflicts or some_unknown else _licence(rights),
        # terms that are not known require credit at least
        attribution=some_unknown or any(terms.attribution for terms in known),
        share_alike=any(terms.share_alike for terms in known),
        non_commercial=any(terms.non_commercial for terms in known),
    )


def choose_mode(decision: Decision, requested: RequestedMode = "auto") -> Mode:
    """The mode to publish in.

    Raises
    ------
    LicenceError
        The sources' rights do not allow what was requested; the message names source and reason.
    """
    if requested == "linked":
        raise LicenceError(
            cannot="publish",
            problem="a linked store holds paths of this machine",
            at="--mode linked",
            expected="a store that others can use",
            got="links",
            fix="Two ways out: --mode self-contained, where the sources allow it, or "
            "--mode index-only, which others attach to their own copies by mmbind hydrate.",
        )
    if requested == "index-only" or decision.outcome == "self-contained":
        return "index-only" if requested == "index-only" else "self-contained"
    fix = f"{INDEX_ONLY} Or give a permission: --permission FILE."
    if decision.conflicts:
        raise LicenceError(
            cannot="publish",
            problem="the sources' terms cannot be met at once",
            at="; ".join(decision.conflicts),
            expected="terms that agree",
            got="a conflict",
            fix=fix,
        )
    if requested == "self-contained":
        raise LicenceError(
            cannot="publish self-contained",
            problem="not every source may be passed on",
            at="; ".join(decision.blocking),
            expected="allow from every source",
            got=f"{len(decision.blocking)} of {len(decision.rights)} that do not allow it",
            fix=fix,
        )
    return "index-only"


def licence_summary(decision: Decision) -> list[str]:
    """The decision as lines of text: a table of the sources, and what follows from it."""
    rows = [("source", "verdict", "SPDX", "licence", "where it says so")]
    rows += [
        (right.source_id, right.verdict, right.spdx or "none", right.licence, right.why)
        for right in decision.rights
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    widths[3:] = [0, 0]
    lines = ["  ".join(map(str.ljust, row, widths)) for row in rows]
    lines += [f"conflict: {sentence}" for sentence in decision.conflicts]
    duties = ", ".join(decision.duties) or "nothing"
    lines.append(
        f"--mode auto: {decision.outcome}; licence {decision.licence}; asked for: {duties}"
    )
    return [*lines, DISCLAIMER]


def decision_document(decision: Decision) -> dict[str, Any]:
    """The decision as a JSON object."""
    fields = ("source_id", "verdict", "spdx", "licence")
    sources = [
        {**{name: getattr(right, name) for name in fields}, "source": right.why}
        for right in decision.rights
    ]
    rest = {name: value for name, value in vars(decision).items() if name != "rights"}
    return {"sources": sources, **rest}


def _names(source: SourceInfo, permission: Permission) -> bool:
    return permission.source in (source.source_id, source.dataset_id)


def _rights(source: SourceInfo, permissions: Sequence[Permission]) -> Rights:
    licence = source.licence
    given = next((found for found in permissions if _names(source, found)), None)
    name = (source.source_id, source.dataset_id, licence.name)
    if given is None:
        return Rights(*name, licence.spdx, licence.redistribution, licence.source)
    why = f"permission by {given.granted_by} of {given.date.isoformat()}"
    return Rights(*name, given.licence, "allow", why, given)


def _permission_error(problem: str, expected: str, got: object, fix: str = "") -> UsageError:
    at = "--permission"
    return UsageError(
        cannot="use a permission", problem=problem, at=at, expected=expected, got=got, fix=fix
    )


def _check_permissions(sources: Sequence[SourceInfo], permissions: Sequence[Permission]) -> None:
    known = {name for source in sources for name in (source.source_id, source.dataset_id)}
    for given in permissions:
        if given.source not in known:
            fix = suggest(given.source, known)
            expected = ", ".join(sorted(known))
            raise _permission_error("it names no source", expected, repr(given.source), fix)
    for source in sources:
        covering = [given.source for given in permissions if _names(source, given)]
        if len(covering) > 1:
            expected, got = f"one for {source.source_id}", " and ".join(covering)
            raise _permission_error("two name the same source", expected, got)


def _conflicts(rights: Sequence[Rights]) -> list[str]:
    """Sentences that name the sources whose terms exclude one another."""
    found = [
        f"{right.source_id} ({right.spdx}) allows no adaptation, but windows cut from it are one"
        for right in rights
        if right.verdict == "allow" and right.terms is not None and right.terms.no_derivatives
    ]
    for right in rights:
        terms = right.terms
        if terms is None or not terms.share_alike:
            continue
        wants = f"{right.source_id} ({right.spdx}) wants all of it under its own licence"
        for other in rights:
            # whoever gave a permission without naming terms asked for none
            if other.terms is None and other.permission is None and other.verdict == "allow":
                unknown = f"the terms of {other.source_id} ({other.licence}) are not known"
                found.append(f"{wants}, but {unknown}")
            elif other.terms is not None and _excludes(terms, other.terms) and other is not right:
                found.append(f"{wants}, which {other.source_id} ({other.spdx}) does not allow")
    return list(dict.fromkeys(found))


def _excludes(own: Terms, other: Terms) -> bool:
    """Whether a share-alike licence cannot meet what the other licence requires."""
    if other.share_alike:
        return own.family != other.family
    return other.non_commercial and not own.non_commercial


def _licence(rights: Sequence[Rights]) -> str:
    """SPDX id of a licence that meets the terms of all, which are known and do not conflict."""
    terms = {str(right.spdx): right.terms for right in rights if right.terms is not None}
    if any(found.no_derivatives for found in terms.values()):
        return CUSTOM  # nothing but the name of such a source is in the bundle
    if len(terms) == 1:
        return next(iter(terms))
    shared = {spdx: found.version for spdx, found in terms.items() if found.share_alike}
    if shared:
        return max(shared, key=lambda spdx: shared[spdx])
    if any(found.non_commercial for found in terms.values()):
        return "CC-BY-NC-4.0"
    return "CC-BY-4.0" if any(found.attribution for found in terms.values()) else "CC0-1.0"


_HEAD = re.compile(r"---\n(.*?)\n---\n(.*)", re.DOTALL)
HOW_TO_WRITE = (
    "Write source, granted_by, date (YYYY-MM-DD) and text as a JSON object, or as Markdown whose "
    "head between two lines of --- has the first three and whose body is the text."
)


def read_permissions(paths: Sequence[str | Path]) -> list[tuple[Permission, Path]]:
    """Read permissions, each with the file that holds it.

    Parameters
    ----------
    paths : sequence of path
        JSON: one object or a list of them. Markdown: ``name: value`` lines between two lines of
        ``---``, then the text of the permission.

    Returns
    -------
    list of (Permission, Path)

    Raises
    ------
    UsageError
        A file is missing, unreadable, or lacks a field; two files have the same name.
    """
    found: list[tuple[Permission, Path]] = []
    by_name: dict[str, Path] = {}
    for path in map(Path, paths):
        if by_name.setdefault(path.name, path) != path:
            got = f"{by_name[path.name]} and {path}"
            raise _permission_error("a name twice", "files of different names", got)
        found += [(permission, path) for permission in _read(path)]
    return found


def _read(path: Path) -> list[Permission]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        document = _markdown(text) if path.suffix.lower() in (".md", ".txt") else json.loads(text)
        listed = document if isinstance(document, list) else [document]
        if not listed:
            raise _not_a_permission("an empty list")
        # as JSON, because pydantic accepts a date as text only there
        return [Permission.model_validate_json(json.dumps(entry)) for entry in listed]
    except (OSError, ValueError) as error:
        raise UsageError(
            cannot="use a permission", **fault_of(error, path), fix=HOW_TO_WRITE
        ) from error


def _not_a_permission(got: str) -> DocumentFaultError:
    expected = "a JSON object, or Markdown with a head"
    return DocumentFaultError(DocumentFault("not a permission", "", expected, got))


def _markdown(text: str) -> dict[str, Any]:
    found = _HEAD.fullmatch(text.replace("\r\n", "\n"))
    if found is None:
        raise _not_a_permission("Markdown without a head")
    pairs = [line.partition(":") for line in found[1].splitlines() if line.strip()]
    return {name.strip(): value.strip() for name, _, value in pairs} | {"text": found[2].strip()}
