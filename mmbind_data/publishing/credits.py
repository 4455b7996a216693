"""Credits and licences of a bundle: CITATION.bib and LICENSES/."""

from __future__ import annotations

import re
from importlib.resources import files

from mmbind_data.publishing.facts import Facts
from mmbind_data.publishing.rights import CUSTOM, DISCLAIMER, Rights
from mmbind_data.spec.bundle import BundleInfo

_SPECIAL = re.compile(r"([&%$#_{}])")
_DOI = re.compile(r"doi:\s*(10\.\d{4,9}/[^\s,;]*[^\s,;.])", re.IGNORECASE)


def paper() -> str:
    """BibTeX entry of the method's paper."""
    return (files(__package__) / "template" / "paper.bib").read_text(encoding="utf-8")


def citations(facts: Facts) -> str:
    """Text of CITATION.bib: the method, then each dataset as its descriptor cites it."""
    entries = [paper()]
    for dataset_id in dict.fromkeys(source.dataset_id for source in facts.bound.sources):
        store = next(s for s in facts.stores.values() if s.info.dataset_id == dataset_id)
        cited, page = facts.fact(dataset_id, "citation"), facts.fact(dataset_id, "homepage")
        fields = {"title": f"{{{_tex(store.info.title)}}}", "version": store.info.dataset_version}
        if cited is not None:
            fields["note"] = _tex(cited)
            doi = _DOI.search(cited)
            if doi:
                fields["doi"] = doi[1]
        if page is not None and page.startswith("http"):
            fields["url"] = page
        body = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items())
        entries.append(f"@misc{{{dataset_id},\n{body}\n}}\n")
    return "\n".join(entries)


def _tex(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", text)


def licence_texts(facts: Facts) -> dict[str, str]:
    """Files of LICENSES/ by name: one for each source, one for the bundle, and whole licences."""
    rights = facts.decision.rights
    ids = dict.fromkeys((facts.bundle.licence, *(right.spdx for right in rights)))
    whole = {f"{spdx}.txt": whole_licence(spdx) for spdx in ids}
    return {
        "BUNDLE.txt": bundle_terms(facts),
        **{name: text for name, text in whole.items() if text is not None},
        **{f"{right.source_id}.txt": _source_terms(facts, right) for right in rights},
    }


def bundle_terms(facts: Facts) -> str:
    """Text of LICENSES/BUNDLE.txt: the terms for users of the bundle."""
    bundle = facts.bundle
    holds = (
        "It holds pairs, weights and uids: no data of the sources. Their own terms hold for the "
        "data that you attach."
        if bundle.mode == "index-only"
        else "It holds adapted data of the sources, whose own terms go on to hold: see the other "
        "files of this folder."
    )
    head = f"Licence of this bundle: {licence_words(bundle.licence)}"
    return "\n".join([head, "", holds, *duty_sentences(bundle), "", DISCLAIMER, ""])


def duty_sentences(bundle: BundleInfo) -> list[str]:
    """The duties of a bundle's users, one sentence each."""
    duties = {
        "Credit: cite what CITATION.bib lists.": bundle.attribution,
        "Share alike: pass adaptations on under the same licence.": bundle.share_alike,
        "No commercial use.": bundle.non_commercial,
    }
    return [sentence for sentence, required in duties.items() if required]


def whole_licence(spdx: str | None) -> str | None:
    r"""Text of a licence; None if mmbind does not hold it, so that a reference must do.

    Source: the SPDX licence list, of licences whose texts may be copied by anyone and have no
    blanks to be filled in by the owner.

    >>> (whole_licence("CC-BY-4.0") or "").partition("\n")[0]
    'Creative Commons Attribution 4.0 International'
    """
    place = files(__package__) / "licence_texts" / f"{spdx}.txt"
    return place.read_text(encoding="utf-8") if place.is_file() else None


def licence_words(licence: str) -> str:
    """A licence with the address of its text.

    >>> licence_words("CC-BY-4.0")
    'CC-BY-4.0 (https://creativecommons.org/licenses/by/4.0/)'
    """
    if licence == CUSTOM:
        return "as each source has it, see LICENSES"
    return f"{licence} ({licence_url(licence)})"


def licence_url(licence: str) -> str:
    """Address of the text of a licence, by its SPDX id."""
    found = re.fullmatch(r"CC-(BY[A-Z-]*)-(\d\.\d)", licence)
    if found:
        return f"https://creativecommons.org/licenses/{found[1].lower()}/{found[2]}/"
    if licence == "CC0-1.0":
        return "https://creativecommons.org/publicdomain/zero/1.0/"
    return f"https://spdx.org/licenses/{licence}.html"


def _source_terms(facts: Facts, rights: Rights) -> str:
    store = facts.stores[rights.source_id]
    lines = [
        f"{store.info.title} ({rights.dataset_id} {store.info.dataset_version})",
        f"Licence: {rights.licence}",
        f"SPDX: {rights.spdx or 'none'}",
        f"May adapted data be passed on? {rights.verdict}",
        f"Where that is said: {rights.why}",
    ]
    if rights.spdx is not None:
        own = f"{rights.spdx}.txt and " if whole_licence(rights.spdx) else ""
        lines.append(f"Text: {own}{licence_url(rights.spdx)}")
    page, cited = (facts.fact(rights.dataset_id, name) for name in ("homepage", "citation"))
    lines += [f"Homepage: {page}"] * (page is not None)
    lines += [f"To be cited: {cited}"] * (cited is not None)
    return "\n".join([*lines, "", DISCLAIMER, ""])
