"""The table of pairs, row by row, on stores small enough to count by hand; then three stores."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from plain import PLAIN
from smallstores import checked_rows, write_nodes, write_small_store
from stores import write_coded

from mmbind_data.binding.bind import bind
from mmbind_data.binding.completion import (
    candidates,
    complete_groups,
    concatenate,
    original_rows,
    stack_sources,
)
from mmbind_data.errors import BindingError, UsageError
from mmbind_data.matching.candidates import Matches
from mmbind_data.spec.store import BinderInfo
from mmbind_data.store.bound import open_bound
from mmbind_data.store.pair_table import (
    FIXED_COLUMNS,
    PSEUDO,
    PairTable,
    bound_digest,
    open_source,
    pairs_table,
)
from mmbind_data.store.partitioning import partition

SIMILARITY = np.array([[0.5], [0.25], [1.0]], dtype=np.float32)
BINDER = BinderInfo(
    shared="depth", recipe="custom", embedding={}, metric="cosine", match="best",
    weight_rule="none", seed=0,
)  # fmt: skip
RAW = PLAIN


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> tuple[PairTable, PairTable]:
    """A of 4 rows, B of 5; depth is absent in row 2 of A and row 0 of B; B has no acc."""
    folder: Path = tmp_path_factory.mktemp("sides")
    a = open_source(write_coded(folder / "a", 4, absent=[2]), "A")
    b = open_source(write_coded(folder / "b", 5, absent=[0]), "B")
    b = replace(b, uid=np.char.add("b", b.uid))
    second = original_rows(b)
    second = replace(second, given={"depth": second.given["depth"]})
    return stack_sources(original_rows(a), second)


def complete(
    anchors: PairTable, partners: PairTable, matches: Matches, names: list[str], hop: int
) -> PairTable:
    """All anchors completed by their partners."""
    everyone, others = np.arange(len(anchors)), np.arange(len(partners))
    return complete_groups(anchors, everyone, partners, others, matches, names, hop, mean=False)[0]


def pseudo(sides: tuple[PairTable, PairTable], shared: tuple[str, ...] = ("depth",)) -> pa.Table:
    a, b = sides
    of_a, of_b = (
        a.take(candidates(a, a.carries("depth"))),
        b.take(candidates(b, b.carries("depth"))),
    )
    to_b = Matches(np.array([[3], [0], [0]]), SIMILARITY)  # numbers count the candidates of B
    to_a = Matches(np.array([[2], [2], [0], [1]]), np.zeros((4, 1), dtype=np.float32))
    names = ["acc", "depth"]
    first, second = complete(of_a, of_b, to_b, names, 0), complete(of_b, of_a, to_a, names, 0)
    first = replace(first, weight=np.arange(3, dtype=np.float32))
    return pairs_table(concatenate([first, second, a, b], names, shared))


def test_candidates_carry_what_is_shared(sides: tuple[PairTable, PairTable]) -> None:
    a, b = sides
    np.testing.assert_array_equal(candidates(a, a.carries("depth")), [0, 1, 3])
    np.testing.assert_array_equal(candidates(b, b.carries("depth")), [1, 2, 3, 4])
    np.testing.assert_array_equal(candidates(b, b.carries("acc")), [])
    np.testing.assert_array_equal(candidates(a, a.carries("label")), [0, 1, 2, 3])


def test_unlabelled_samples_are_no_candidates_for_labels(tmp_path: Path) -> None:
    rows = original_rows(open_source(write_coded(tmp_path / "s", 9), "S"))
    np.testing.assert_array_equal(candidates(rows, rows.carries("label")), [0, 1, 2, 3, 4, 5, 7, 8])
    assert rows.texts("label").tolist() == [
        "walk", "run", "sit", "walk", "run", "sit", "", "run", "sit",
    ]  # fmt: skip


def test_a_bound_row_stands_for_its_original_and_first_ranks_alone_count(
    sides: tuple[PairTable, PairTable],
) -> None:
    a, _ = sides
    bound = replace(
        a.take(np.array([0, 0, 3])),
        kind=np.full(3, PSEUDO, dtype=np.int8),
        rank=np.array([0, 1, 0], dtype=np.int16),
    )
    both = concatenate([bound, a], ["acc", "depth"], ("acc",))
    # bound rows 0 and 2 (row 1 is a second rank); of the originals 0 and 3 are bound, 2 lacks depth
    np.testing.assert_array_equal(candidates(both, both.carries("depth")), [0, 2, 4])
    np.testing.assert_array_equal(candidates(both, both.carries("acc")), [0, 2, 4, 5])


def test_every_row_of_the_table(sides: tuple[PairTable, PairTable]) -> None:
    table = pseudo(sides)
    names = [f"{m}.{part}" for m in ("acc", "depth") for part in ("source", "row", "uid")]
    assert table.column_names == [*FIXED_COLUMNS, *names]
    rows = table.to_pylist()
    assert [row["row"] for row in rows] == list(range(3 + 4 + 4 + 5))
    assert [row["kind"] for row in rows] == ["pseudo"] * 7 + ["incomplete"] * 9
    assert [row["anchor_source"] for row in rows] == [*"AAABBBB", *"AAAA", *"BBBBB"]
    # A gives its own acc and depth; B's own depth stands, acc comes from its partner in A
    acc = [("A", 0), ("A", 1), ("A", 3), ("A", 3), ("A", 3), ("A", 0), ("A", 1)]
    depth = [("A", 0), ("A", 1), ("A", 3), ("B", 1), ("B", 2), ("B", 3), ("B", 4)]
    # originals: a dummy where the sample lacks the modality, or the whole source does
    acc_alone = [*(("A", row) for row in range(4)), *[None] * 5]
    depth_alone = [("A", 0), ("A", 1), None, ("A", 3), None, *(("B", row) for row in range(1, 5))]
    uid = {source.source_id: source.uid for source in sides[0].sources}
    for name, expected in (("acc", [*acc, *acc_alone]), ("depth", [*depth, *depth_alone])):
        for row, want in zip(rows, expected, strict=True):
            got = tuple(row[f"{name}.{part}"] for part in ("source", "row", "uid"))
            assert got == ((None,) * 3 if want is None else (*want, uid[want[0]][want[1]]))
    anchors = [0, 1, 3, 1, 2, 3, 4, *range(4), *range(5)]
    for row, anchor in zip(rows, anchors, strict=True):
        assert row["anchor_uid"] == uid[row["anchor_source"]][anchor]


def test_numbers_and_constants_of_the_table(sides: tuple[PairTable, PairTable]) -> None:
    table = pseudo(sides)
    similarity = [*SIMILARITY[:, 0].tolist(), *[0.0] * 4, *[None] * 9]
    assert table["similarity"].to_pylist() == similarity
    assert table["weight"].to_pylist() == [0, 1, 2, *[1] * 13]
    assert table["shared"].to_pylist() == [*["depth"] * 7, *[None] * 9]
    for name, value in (("rank", 0), ("hop", 0), ("split", "train")):
        assert set(table[name].to_pylist()) == {value}
    for name, kind in (("similarity", pa.float32()), ("weight", pa.float32())):
        assert table.schema.field(name).type == kind
    assert table.schema.field("acc.row").type == pa.int64()


def test_a_partner_fills_what_a_sample_lacks_and_replaces_nothing(
    sides: tuple[PairTable, PairTable],
) -> None:
    a, b = sides
    everyone = Matches(np.full((4, 1), 4), np.ones((4, 1), dtype=np.float32))
    made = complete(a, b, everyone, ["acc", "depth"], 0)
    np.testing.assert_array_equal(made.given["depth"], [[0, 0], [0, 1], [1, 4], [0, 3]])
    np.testing.assert_array_equal(made.given["acc"], a.given["acc"])


def test_several_ranks_and_anchors_without_partner(sides: tuple[PairTable, PairTable]) -> None:
    a, b = sides
    partner = np.array([[3, 1], [-1, -1], [2, -1], [0, 4]])
    similarity = np.array([[0.9, 0.5], [np.nan] * 2, [0.3, np.nan], [0.8, 0.8]], dtype=np.float32)
    made = complete(a, b, Matches(partner, similarity), ["acc", "depth"], 2)
    assert made.anchor[:, 1].tolist() == [0, 0, 2, 3, 3]
    assert made.rank.tolist() == [0, 1, 0, 0, 1]
    np.testing.assert_allclose(made.similarity, [0.9, 0.5, 0.3, 0.8, 0.8])
    assert set(made.hop.tolist()) == {2}


def test_a_chain_is_as_similar_as_its_weakest_link(sides: tuple[PairTable, PairTable]) -> None:
    a, b = sides
    before = replace(a, similarity=np.array([0.9, 0.2, np.nan, 0.5], dtype=np.float32))
    later = replace(b, similarity=np.array([np.nan] * 4 + [0.4], dtype=np.float32))
    match = Matches(np.full((4, 1), 4), np.full((4, 1), 0.7, dtype=np.float32))
    made = complete(before, later, match, ["acc", "depth"], 1)
    np.testing.assert_allclose(made.similarity, [0.4, 0.2, 0.4, 0.4])


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_nodes(tmp_path_factory.mktemp("nodes"))


def test_three_stores_at_once_or_one_after_the_other(
    nodes: dict[str, Path], tmp_path: Path
) -> None:
    chain = ["acc", "gyro"]
    at_once = bind([nodes[name] for name in "ABC"], tmp_path / "abc", shared=chain, options=RAW)
    bind([nodes["A"], nodes["B"]], tmp_path / "ab", shared="acc", options=RAW)
    stepwise = bind([tmp_path / "ab", nodes["C"]], tmp_path / "ab_c", shared="gyro", options=RAW)
    assert at_once.shared == stepwise.shared == ("acc", "gyro")
    assert checked_rows(tmp_path / "abc") == checked_rows(tmp_path / "ab_c")
    assert [one.shared for one in stepwise.binder] == chain
    ab = open_bound(tmp_path / "ab").info
    assert [one.parent_digest for one in stepwise.binder] == [None, ab.content_digest]
    assert set(at_once.modalities) == {"acc", "skeleton", "gyro"}


def test_what_the_second_hop_makes(nodes: dict[str, Path], tmp_path: Path) -> None:
    """C gains acc and skeleton from a bound row; that row has everything and stays as it was."""
    bind([nodes["A"], nodes["B"]], tmp_path / "ab", shared="acc", options=RAW)
    before = [row for row in checked_rows(tmp_path / "ab") if row["kind"] == "pseudo"]
    bind([tmp_path / "ab", nodes["C"]], tmp_path / "abc", shared="gyro", options=RAW)
    rows = checked_rows(tmp_path / "abc")
    new = [row for row in rows if row["hop"] == 1]
    samples = 2 * 3 * 3  # subjects, labels, trials
    assert len(new) == samples
    partners = {
        tuple(row[f"{name}.uid"] for name in ("acc", "gyro", "skeleton")): row for row in before
    }
    for row in new:
        assert row["anchor_source"].endswith("C")
        assert row["shared"] == "gyro"
        assert row["gyro.uid"] == row["anchor_uid"]
        fits = [
            one for one in partners if (one[0], one[2]) == (row["acc.uid"], row["skeleton.uid"])
        ]
        assert fits
        assert any(row["similarity"] <= partners[one]["similarity"] for one in fits)
    kept = [row for row in rows if row["kind"] == "pseudo" and row["hop"] == 0]
    assert [row["anchor_uid"] for row in kept] == [row["anchor_uid"] for row in before]
    originals = [row for row in rows if row["kind"] == "incomplete"]
    assert len(originals) == 3 * samples
    weights = np.array([row["weight"] for row in rows if row["kind"] == "pseudo"])
    assert weights.mean() == pytest.approx(1.0, rel=1e-5)


def test_bound_rows_are_completed_in_place(nodes: dict[str, Path], tmp_path: Path) -> None:
    """First two that lack gyro, then one that has it: every bound row gains it."""
    bind([nodes["D"], nodes["A"]], tmp_path / "da", shared="acc", options=RAW)
    bind([tmp_path / "da", nodes["B"]], tmp_path / "dab", shared="acc", options=RAW)
    rows = [row for row in checked_rows(tmp_path / "dab") if row["kind"] == "pseudo"]
    samples = 2 * 3 * 3
    # rows of D and of A, completed in place, and those of B
    assert len(rows) == 3 * samples
    assert {row["hop"] for row in rows} == {1}
    for row in rows:
        assert all(row[f"{name}.uid"] for name in ("acc", "gyro", "skeleton"))


def test_a_source_unlike_the_others_is_told(tmp_path: Path) -> None:
    stores = []
    for index, (name, kept) in enumerate((("A", ["acc", "gyro"]), ("B", ["acc", "skeleton"]))):
        subjects = tuple(str(2 * index + one) for one in (1, 2))
        whole = write_small_store(tmp_path / f"w{name}", dataset_id=f"set-{name.lower()}",
                                  subjects=subjects)  # fmt: skip
        stores.append(tmp_path / name)
        partition(whole, stores[-1], modalities=kept)
    noise = write_small_store(
        tmp_path / "C", dataset_id="strange", labels=("a", "b", "c"), subjects=("8", "9"),
        frames={"acc": 24}, seed=5, noise=3.0,
    )  # fmt: skip
    info = bind([*stores, noise], tmp_path / "abc", shared="acc", options=RAW)
    assert len(info.warnings) == 1
    assert info.warnings[0].startswith("strange resembles the others much less (median similarity")
    calm = bind(stores, tmp_path / "ab", shared="acc", options=RAW)
    assert calm.warnings == ()


def test_bad_requests_of_several_stores(nodes: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "o"
    bind([nodes["A"], nodes["B"]], tmp_path / "ab", shared="acc", options=RAW)
    cases: list[tuple[list[Path], Any, type[Exception], str]] = [
        ([nodes["A"]], "acc", UsageError, "too few stores"),
        ([nodes[n] for n in "ABC"], "acc", BindingError, "acc is not shared .*gyro or label"),
        ([nodes[n] for n in "ABC"], ["acc"] * 3, UsageError, "one for each of 2 bindings, got 3"),
        ([tmp_path / "ab", nodes["A"]], "acc", BindingError, "hold the same samples .*18 common"),
        ([tmp_path / "ab", nodes["C"]], "skeleton", BindingError, "skeleton is not shared"),
    ]
    for stores, shared, error, sentence in cases:
        with pytest.raises(error, match=sentence):
            bind(stores, out, shared=shared, options=RAW)
        assert not out.exists()


def test_the_digest_sees_table_binder_and_sources(sides: tuple[PairTable, PairTable]) -> None:
    table = pseudo(sides)
    place = table.column_names.index("weight")
    other = table.set_column(place, "weight", pa.array(np.zeros(16, dtype=np.float32)))
    digests = [
        bound_digest(["depth"], [BINDER], [], table),
        bound_digest(["acc"], [BINDER], [], table),
        bound_digest(["depth"], [BINDER.model_copy(update={"seed": 1})], [], table),
        bound_digest(["depth"], [BINDER], [], other),
        bound_digest(["depth"], [BINDER], [], table.slice(1)),
    ]
    assert len(set(digests)) == 5
    assert digests[0] == bound_digest(["depth"], [BINDER], [], pseudo(sides))
