"""The table of pairs, row by row, on stores small enough to count by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from stores import write_coded

from mmbind_data.pairs import (
    FIXED_COLUMNS,
    Side,
    assemble_pairs,
    bound_digest,
    incomplete_rows,
    open_side,
    pseudo_rows,
    union,
)
from mmbind_data.similarity import Matches
from mmbind_data.spec import BinderInfo

SIMILARITY = np.array([0.5, 0.25, 1.0], dtype=np.float32)
BINDER = BinderInfo(
    shared="depth", recipe="custom", embedding={}, metric="cosine", match="best",
    weight_rule="none", seed=0,
)  # fmt: skip


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> tuple[Side, Side]:
    """A of 4 rows, B of 5; depth is absent in row 2 of A and row 0 of B; B has no acc."""
    folder: Path = tmp_path_factory.mktemp("sides")
    a = open_side(write_coded(folder / "a", 4, absent=[2]), "A", "depth")
    b = open_side(write_coded(folder / "b", 5, absent=[0]), "B", "depth")
    return a, Side("B", b.store, np.char.add("b", b.uid), {"depth": b.present["depth"]}, b.usable)


def pseudo(sides: tuple[Side, Side]) -> pa.Table:
    a, b = sides
    to_b = Matches(np.array([3, 0, 0]), SIMILARITY)  # numbers count the usable rows of B
    to_a = Matches(np.array([2, 2, 0, 1]), np.zeros(4, dtype=np.float32))
    weight = np.arange(4, dtype=np.float32)
    parts = [
        pseudo_rows(a, b, to_b, weight[:3], union(sides)),
        pseudo_rows(b, a, to_a, weight, union(sides)),
        incomplete_rows(a, union(sides)),
        incomplete_rows(b, union(sides)),
    ]
    return assemble_pairs(parts, "depth")


def test_a_side_knows_who_carries_the_shared_modality(sides: tuple[Side, Side]) -> None:
    np.testing.assert_array_equal(sides[0].usable, [0, 1, 3])
    np.testing.assert_array_equal(sides[1].usable, [1, 2, 3, 4])
    labels = open_side(sides[0].store, "A", "label")
    np.testing.assert_array_equal(labels.usable, [0, 1, 2, 3])
    assert union(sides) == ["acc", "depth"]
    assert union(sides[::-1]) == ["depth", "acc"]


def test_a_side_bound_by_label_leaves_unlabelled_rows_out(tmp_path: Path) -> None:
    side = open_side(write_coded(tmp_path / "s", 9), "S", "label")
    np.testing.assert_array_equal(side.usable, [0, 1, 2, 3, 4, 5, 7, 8])


def test_every_row_of_the_table(sides: tuple[Side, Side]) -> None:
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
    uid = {side.source_id: side.uid for side in sides}
    for name, expected in (("acc", [*acc, *acc_alone]), ("depth", [*depth, *depth_alone])):
        for row, want in zip(rows, expected, strict=True):
            got = tuple(row[f"{name}.{part}"] for part in ("source", "row", "uid"))
            assert got == ((None,) * 3 if want is None else (*want, uid[want[0]][want[1]]))
    anchors = [0, 1, 3, 1, 2, 3, 4, *range(4), *range(5)]
    for row, anchor in zip(rows, anchors, strict=True):
        assert row["anchor_uid"] == uid[row["anchor_source"]][anchor]


def test_numbers_and_constants_of_the_table(sides: tuple[Side, Side]) -> None:
    table = pseudo(sides)
    assert table["similarity"].to_pylist() == [*SIMILARITY.tolist(), *[0.0] * 4, *[None] * 9]
    assert table["weight"].to_pylist() == [0, 1, 2, 0, 1, 2, 3, *[1] * 9]
    for name, value in (("shared", "depth"), ("rank", 0), ("hop", 0), ("split", "train")):
        assert set(table[name].to_pylist()) == {value}
    for name, kind in (("similarity", pa.float32()), ("weight", pa.float32())):
        assert table.schema.field(name).type == kind
    assert table.schema.field("acc.row").type == pa.int64()


def test_what_the_anchor_lacks_is_never_filled_from_its_partner(sides: tuple[Side, Side]) -> None:
    a, b = sides
    everyone = Side("A", a.store, a.uid, a.present, np.arange(4))
    part = pseudo_rows(
        everyone, b, Matches(np.zeros(4, dtype=np.int64), np.ones(4)), np.ones(4), ["acc", "depth"]
    )
    side, rows = part.given["depth"]
    assert side.source_id == "A"
    np.testing.assert_array_equal(rows, [0, 1, -1, 3])


def test_a_partner_that_lacks_a_modality_gives_a_dummy(sides: tuple[Side, Side]) -> None:
    a, b = sides
    by_label = Side("B", b.store, b.uid, {"gyro": b.present["depth"]}, np.arange(5))
    matches = Matches(np.array([0, 1, 0]), SIMILARITY)
    side, rows = pseudo_rows(a, by_label, matches, SIMILARITY, ["acc", "gyro"]).given["gyro"]
    assert side.source_id == "B"
    np.testing.assert_array_equal(rows, [-1, 1, -1])


def test_the_digest_sees_table_binder_and_sources(sides: tuple[Side, Side]) -> None:
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
