"""Who may pass what on: decisions by hand, and rules that hold for any set of sources."""

from __future__ import annotations

import datetime
import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmbind_data.errors import LicenceError, UsageError
from mmbind_data.publishing.rights import (
    CUSTOM,
    DISCLAIMER,
    OUTCOMES,
    TERMS,
    Decision,
    Rights,
    choose_mode,
    combine,
    decide,
    licence_summary,
    read_permissions,
    terms_of,
)
from mmbind_data.spec.bundle import Permission
from mmbind_data.spec.descriptor import Licence, Verdict
from mmbind_data.spec.store import SourceInfo

CC = [
    f"CC-BY{nc}{kind}-{version}"
    for nc, kind, version in itertools.product(("", "-NC"), ("", "-SA", "-ND"), ("3.0", "4.0"))
]
KNOWN = [*TERMS, *CC]


def rights(spdx: str | None, verdict: Verdict = "allow", name: str = "s") -> Rights:
    return Rights(name, name, f"licence of {name}", spdx, verdict, f"page of {name}")


def source(name: str, spdx: str | None, verdict: Verdict, dataset: str = "d") -> SourceInfo:
    return SourceInfo(
        source_id=name,
        dataset_id=dataset,
        dataset_version="1",
        content_digest="0",
        n_samples=1,
        modalities={},
        subjects=(),
        licence=Licence(name="its licence", spdx=spdx, redistribution=verdict, source="its page"),
        path="x.zarr",
        convert="mmbind convert",
    )


def together(*ids: str | None) -> Decision:
    return combine([rights(spdx, name=f"s{number}") for number, spdx in enumerate(ids)])


@pytest.mark.parametrize(
    ("ids", "licence", "duties"),
    [
        (("CC0-1.0", "PDDL-1.0"), "CC0-1.0", ""),
        (("CC0-1.0", "CC-BY-4.0"), "CC-BY-4.0", "a"),
        (("MIT", "MIT"), "MIT", "a"),
        (("MIT", "CC-BY-4.0"), "CC-BY-4.0", "a"),
        (("CC-BY-4.0", "CC-BY-NC-4.0"), "CC-BY-NC-4.0", "an"),
        (("CC-BY-4.0", "CC-BY-SA-4.0", "CC0-1.0"), "CC-BY-SA-4.0", "as"),
        (("CC-BY-SA-3.0", "CC-BY-SA-4.0"), "CC-BY-SA-4.0", "as"),
        (("CC-BY-NC-4.0", "CC-BY-NC-SA-4.0"), "CC-BY-NC-SA-4.0", "ans"),
        (("ODbL-1.0", "CC-BY-4.0"), "ODbL-1.0", "as"),
        ((None, "CC-BY-NC-4.0"), CUSTOM, "an"),
    ],
)
def test_terms_propagate(ids: tuple[str | None, ...], licence: str, duties: str) -> None:
    for order in itertools.permutations(ids):
        found = together(*order)
        assert (found.outcome, found.licence) == ("self-contained", licence)
        assert found.free
        flags = (found.attribution, found.non_commercial, found.share_alike)
        assert "".join(letter for letter, on in zip("ans", flags, strict=True) if on) == duties


@pytest.mark.parametrize(
    ("ids", "named"),
    [
        (("CC-BY-SA-4.0", "CC-BY-NC-SA-4.0"), ("s0 (CC-BY-SA-4.0)", "s1 (CC-BY-NC-SA-4.0)")),
        (("CC-BY-SA-4.0", "CC-BY-NC-4.0"), ("s0 (CC-BY-SA-4.0)", "s1 (CC-BY-NC-4.0)")),
        (("CC-BY-SA-4.0", "ODbL-1.0"), ("s0 (CC-BY-SA-4.0)", "s1 (ODbL-1.0)")),
        (("CC0-1.0", "CC-BY-ND-4.0"), ("s1 (CC-BY-ND-4.0)", "adaptation")),
        (("CC-BY-SA-4.0", None), ("s0 (CC-BY-SA-4.0)", "s1 (licence of s1)", "not known")),
    ],
)
def test_conflicts_are_refused_by_name(ids: tuple[str | None, ...], named: tuple[str, ...]) -> None:
    found = together(*ids)
    assert found.outcome == "refuse"
    assert found.licence == CUSTOM
    assert not found.free
    for mode in ("auto", "self-contained"):
        with pytest.raises(LicenceError) as caught:
            choose_mode(found, mode)
        assert caught.value.exit_code == 5
        for words in (*named, "--mode index-only", "--permission"):
            assert words in str(caught.value)
    # no byte of the sources, no conflict
    assert choose_mode(found, "index-only") == "index-only"


@pytest.mark.parametrize("verdict", ["forbid", "unknown"])
def test_the_strictest_source_decides(verdict: Verdict) -> None:
    found = combine([rights("CC-BY-4.0", name="open"), rights(None, verdict, "closed")])
    assert found.outcome == "index-only"
    assert not found.free
    assert choose_mode(found) == choose_mode(found, "index-only") == "index-only"
    with pytest.raises(
        LicenceError, match=rf"closed: {verdict}.*licence of closed.*page of closed"
    ):
        choose_mode(found, "self-contained")


def test_linked_is_refused_with_two_ways_out() -> None:
    with pytest.raises(LicenceError, match=r"--mode self-contained.*--mode index-only.*hydrate"):
        choose_mode(together("CC0-1.0"), "linked")


def test_terms_by_id() -> None:
    assert terms_of(None) is None
    assert terms_of("Proprietary") is None
    assert terms_of("CC-BY-NC-ND-4.0-extra") is None
    found = terms_of("CC-BY-NC-ND-4.0")
    assert found is not None
    assert found.no_derivatives
    assert found.non_commercial
    assert not found.share_alike
    assert found.version == (4, 0)


ANY = st.builds(
    rights, st.sampled_from([None, *KNOWN]), st.sampled_from(["allow", "forbid", "unknown"])
)


@given(st.lists(ANY, min_size=1, max_size=5), ANY, st.integers(0, 5))
def test_one_more_source_never_loosens(some: list[Rights], more: Rights, place: int) -> None:
    before, after = combine(some), combine([*some[:place], more, *some[place:]])
    assert OUTCOMES.index(after.outcome) >= OUTCOMES.index(before.outcome)
    assert after.free <= before.free
    for duty in ("attribution", "share_alike", "non_commercial"):
        assert getattr(after, duty) >= getattr(before, duty)
    assert set(before.conflicts) <= set(after.conflicts)
    if after.licence != CUSTOM:
        terms = terms_of(after.licence)
        assert terms is not None
        assert not terms.no_derivatives
        assert terms.non_commercial == after.non_commercial
        assert terms.share_alike == after.share_alike
        assert terms.attribution == after.attribution


@given(st.lists(ANY, min_size=1, max_size=4))
def test_order_and_repetition_do_not_matter(some: list[Rights]) -> None:
    first, turned, twice = combine(some), combine(some[::-1]), combine([*some, *some])
    for other in (turned, twice):
        assert (first.outcome, first.licence, first.attribution) == (
            other.outcome, other.licence, other.attribution)  # fmt: skip


def permission(name: str, licence: str | None = None) -> Permission:
    date = datetime.date(2026, 2, 3)
    return Permission(source=name, granted_by="A. Owner", date=date, text="Go on.", licence=licence)


def test_a_permission_replaces_a_licence() -> None:
    sources = [source("a-A", None, "forbid", "a"), source("a-B", None, "forbid", "a"),
               source("b", "CC-BY-SA-4.0", "allow", "b")]  # fmt: skip
    assert decide(sources).outcome == "index-only"
    one = decide(sources, [permission("a-A")])
    assert one.outcome == "index-only"
    assert [right.verdict for right in one.rights] == ["allow", "forbid", "allow"]
    both = decide(sources, [permission("a")])  # a dataset: all its sources
    assert both.outcome == "self-contained"
    assert both.licence == CUSTOM
    assert "permission by A. Owner of 2026-02-03" in both.rights[0].why
    named = decide(sources, [permission("a", "CC-BY-4.0")])
    assert named.licence == "CC-BY-SA-4.0"
    # a permission under terms that clash with another source's does not help
    assert decide(sources, [permission("a", "CC-BY-NC-4.0")]).outcome == "refuse"
    # and one lifts the terms of a licence that allows no adaptation
    closed = [source("n", "CC-BY-ND-4.0", "allow", "n")]
    assert decide(closed).outcome == "refuse"
    assert decide(closed, [permission("n")]).outcome == "self-contained"


def test_permissions_that_fit_nothing_are_refused() -> None:
    sources = [source("a-A", None, "forbid", "a")]
    with pytest.raises(UsageError, match=r"names no source.*Did you mean a-A"):
        decide(sources, [permission("a-B")])
    with pytest.raises(UsageError, match="two name the same source"):
        decide(sources, [permission("a"), permission("a-A")])


FIELDS = {"source": "a", "granted_by": "A. Owner", "date": "2026-02-03", "text": "Go on."}


def test_permission_files(tmp_path: Path) -> None:
    one, many, words = tmp_path / "one.json", tmp_path / "many.json", tmp_path / "words.md"
    one.write_text(json.dumps(FIELDS))
    many.write_text(json.dumps([FIELDS, {**FIELDS, "source": "b", "licence": "CC-BY-4.0"}]))
    words.write_text(
        "---\nsource: a\ngranted_by: A. Owner\ndate: 2026-02-03\n---\n\nGo on.\n", newline="\r\n"
    )
    (found,) = read_permissions([one])
    assert found == (permission("a"), one)
    assert read_permissions([words]) == [(permission("a"), words)]
    assert [p for p, _ in read_permissions([many])] == [
        permission("a"), permission("b", "CC-BY-4.0")]  # fmt: skip


@pytest.mark.parametrize("name", FIELDS)
def test_a_permission_needs_every_field(tmp_path: Path, name: str) -> None:
    path = tmp_path / "p.json"
    path.write_text(json.dumps({key: value for key, value in FIELDS.items() if key != name}))
    with pytest.raises(UsageError, match=rf"cannot use a permission: missing field at {name} in"):
        read_permissions([path])


@pytest.mark.parametrize("text", ["", "[]", "{", '"yes"', '{"date": "soon"}'])
def test_what_is_no_permission(tmp_path: Path, text: str) -> None:
    path = tmp_path / "p.json"
    path.write_text(text)
    with pytest.raises(
        UsageError, match=r"cannot use a permission: .* Write source, granted_by, date"
    ):
        read_permissions([path])
    with pytest.raises(UsageError, match=r"unreadable at .*none\.md"):
        read_permissions([tmp_path / "none.md"])
    (tmp_path / "plain.md").write_text("They said yes.")
    with pytest.raises(UsageError, match="without a head"):
        read_permissions([tmp_path / "plain.md"])
    (tmp_path / "sub").mkdir()
    path.write_text(json.dumps(FIELDS))
    (tmp_path / "sub" / "p.json").write_text(json.dumps({**FIELDS, "source": "b"}))
    with pytest.raises(UsageError, match="a name twice"):
        read_permissions([path, tmp_path / "sub" / "p.json"])


def test_the_table_tells_all() -> None:
    text = "\n".join(
        licence_summary(combine([rights("CC-BY-SA-4.0", name="x"), rights("CC-BY-NC-4.0")]))
    )
    for words in ("verdict", "allow", "CC-BY-SA-4.0", "licence of x", "page of x", "conflict: x",
                  "--mode auto: refuse", "no commercial use", DISCLAIMER):  # fmt: skip
        assert words in text
