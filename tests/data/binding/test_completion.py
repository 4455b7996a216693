"""Rows of kind mean: what a bound store holds of them, and that binding goes on with them."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from plain import PLAIN
from smallstores import checked_rows, edit_pairs, write_nodes, write_small_store

from mmbind_data.binding.bind import bind
from mmbind_data.binding.completion import shares
from mmbind_data.binding.options import BindOptions
from mmbind_data.errors import UsageError
from mmbind_data.matching.rule import MatchRule
from mmbind_data.store.bound import open_bound
from mmbind_data.store.root import ATTRIBUTE, ROOT
from mmbind_data.store.validation_bound import check_bound_values

MEAN = replace(PLAIN, rule=MatchRule(top_k=3), mean=True)
N = 18  # samples of a node


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_nodes(tmp_path_factory.mktemp("nodes"), noise=0.8)


def groups_of(rows: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    means = [row for row in rows if row["kind"] == "mean"]
    starts = np.cumsum([row["rank"] == 0 for row in means])
    pairs = groupby(zip(starts, means, strict=True), key=lambda one: one[0])
    return [[row for _, row in group] for _, group in pairs]


def shares_of(groups: list[list[float]], temperature: float) -> list[float]:
    similarity = np.concatenate([np.array(group, np.float32) for group in groups])
    rank = np.concatenate([np.arange(len(group)) for group in groups])
    rows: Any = SimpleNamespace(similarity=similarity, rank=rank)
    found: list[float] = shares(rows, np.arange(len(rank)), temperature).tolist()
    return found


def test_shares_in_closed_form() -> None:
    first = math.exp(8) / (math.exp(8) + math.exp(6))
    found = shares_of([[0.8, 0.6], [0.5], [0.3, 0.3, 0.3]], 0.1)
    assert found == pytest.approx([first, 1 - first, 1, *[1 / 3] * 3], rel=1e-6)


@pytest.mark.parametrize("temperature", [1e-4, 1e-300])
def test_at_low_temperatures_the_best_partner_takes_all(temperature: float) -> None:
    found = shares_of([[0.9, 0.8], [-0.5, -0.9], [0.2, 0.2]], temperature)
    assert found == [1, 0, 1, 0, 0.5, 0.5]


def test_a_mean_holds_what_soft_binding_holds(nodes: dict[str, Path], tmp_path: Path) -> None:
    stores = [nodes["A"], nodes["B"]]
    info = bind(stores, tmp_path / "mean", shared="acc", options=MEAN)
    bind(stores, tmp_path / "soft", shared="acc", options=replace(MEAN, mean=False))
    mean, soft = checked_rows(tmp_path / "mean"), checked_rows(tmp_path / "soft")
    assert info.n_rows == {"pseudo": 0, "incomplete": 2 * N, "natural": 0, "mean": 3 * 2 * N}
    assert [{**row, "kind": "pseudo"} if row["kind"] == "mean" else row for row in mean] == soft
    for group in groups_of(mean):
        assert [row["rank"] for row in group] == [0, 1, 2]
        assert sum(row["weight"] for row in group) == pytest.approx(1, abs=1e-6)
        raised = np.exp([row["similarity"] / 0.1 for row in group])
        assert [row["weight"] for row in group] == pytest.approx(raised / raised.sum(), abs=1e-6)
    binder = info.binder[0]
    assert (binder.recipe, binder.top_k, binder.options["mean"]) == ("custom", 3, True)


def test_stores_without_means_say_nothing_of_them(nodes: dict[str, Path], tmp_path: Path) -> None:
    info = bind([nodes["A"], nodes["B"]], tmp_path / "o", shared="acc", options=PLAIN)
    assert info.n_rows == {"pseudo": 2 * N, "incomplete": 2 * N, "natural": 0}
    assert "mean" not in info.binder[0].options


def test_a_mean_becomes_the_partner_of_a_third_store(
    nodes: dict[str, Path], tmp_path: Path
) -> None:
    """C has gyro alone: its partner by gyro is a mean of A or B, all of whose rows it takes."""
    bind([nodes["A"], nodes["B"]], tmp_path / "ab", shared="acc", options=MEAN)
    before = groups_of(checked_rows(tmp_path / "ab"))
    bind([tmp_path / "ab", nodes["C"]], tmp_path / "abc", shared="gyro", options=PLAIN)
    rows = checked_rows(tmp_path / "abc")
    new = [group for group in groups_of(rows) if group[0]["hop"] == 1]
    assert len(new) == N
    known = {tuple((row["acc.uid"], row["skeleton.uid"]) for row in group) for group in before}
    for group in new:
        assert group[0]["anchor_source"].endswith("C")
        assert {row["gyro.uid"] for row in group} == {group[0]["anchor_uid"]}
        assert tuple((row["acc.uid"], row["skeleton.uid"]) for row in group) in known
        assert sum(row["weight"] for row in group) == pytest.approx(1, abs=1e-6)
    kept = [group for group in groups_of(rows) if group[0]["hop"] == 0]
    columns = ("anchor_uid", "acc.uid", "gyro.uid", "skeleton.uid", "weight")
    assert [[[row[name] for name in columns] for row in group] for group in kept] == [
        [[row[name] for name in columns] for row in group] for group in before
    ]


@pytest.mark.parametrize("options", [PLAIN, MEAN])
def test_a_mean_is_completed_whole(
    nodes: dict[str, Path], tmp_path: Path, options: BindOptions
) -> None:
    """D and A lack gyro: each of the rows of a mean gains it from each of the new partners."""
    k = options.rule.top_k
    bind([nodes["D"], nodes["A"]], tmp_path / "da", shared="acc", options=MEAN)
    before = {group[0]["anchor_uid"]: group for group in groups_of(checked_rows(tmp_path / "da"))}
    bind([tmp_path / "da", nodes["B"]], tmp_path / "dab", shared="acc", options=options)
    after = {group[0]["anchor_uid"]: group for group in groups_of(checked_rows(tmp_path / "dab"))}
    # of B every sample has means as partners
    assert len(after) == 3 * N
    for anchor, old in before.items():
        group = after[anchor]
        assert [row["rank"] for row in group] == list(range(3 * k))
        partners = [row["gyro.uid"] for row in group[:k]]
        assert len(set(partners)) == k
        expected = [(row["skeleton.uid"], gyro) for row in old for gyro in partners]
        assert [(row["skeleton.uid"], row["gyro.uid"]) for row in group] == expected
        for row, link in zip(group[::k], old, strict=True):
            assert row["similarity"] <= link["similarity"]
    assert not [row for row in checked_rows(tmp_path / "dab") if row["hop"] == 0 and row["rank"]]


def test_soft_alternatives_are_replaced_together(nodes: dict[str, Path], tmp_path: Path) -> None:
    """No rank of a completed anchor remains and takes a share of another anchor's weight."""
    soft = replace(MEAN, mean=False)
    bind([nodes["D"], nodes["A"]], tmp_path / "da", shared="acc", options=soft)
    bind([tmp_path / "da", nodes["B"]], tmp_path / "dab", shared="acc", options=soft)
    rows = [row for row in checked_rows(tmp_path / "dab") if row["kind"] == "pseudo"]
    total: dict[str, float] = {}
    for row in rows:
        total[row["anchor_uid"]] = total.get(row["anchor_uid"], 0) + row["weight"]
    assert len(total) == 3 * N
    assert list(total.values()) == pytest.approx([1.0] * len(total), abs=1e-5)


def test_what_has_no_mean_is_refused(nodes: dict[str, Path], tmp_path: Path) -> None:
    bind([nodes["D"], nodes["A"]], tmp_path / "da", shared="acc", options=MEAN)
    soft = replace(MEAN, mean=False)
    with pytest.raises(UsageError, match=r"rows that are means.*Use --mean 3"):
        bind([tmp_path / "da", nodes["B"]], tmp_path / "o", shared="acc", options=soft)
    with pytest.raises(ValueError, match="mean of 1"):
        replace(PLAIN, mean=True)
    frames = {"acc": 24, "gyro": 24}
    coded = write_small_store(tmp_path / "coded", dataset_id="c", subjects=("x",), frames=frames)
    document = json.loads((coded / ROOT).read_text())
    document["attributes"][ATTRIBUTE]["modalities"]["gyro"]["classes"] = 9
    (coded / ROOT).write_text(json.dumps(document))
    with pytest.raises(UsageError, match=r"no mean of gyro.*classes of pixels"):
        bind([nodes["A"], coded], tmp_path / "o", shared="acc", options=MEAN)
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"weight": {0: 0.9}}, "add up to 1"),
        ({"rank": {1: 2, 2: 1}}, "ranks 0, 1"),
        ({"rank": {0: 1}}, "ranks 0, 1"),
        ({"rank": {3: 3}}, "ranks 0, 1"),
    ],
)
def test_validation_sees_broken_means(
    nodes: dict[str, Path], tmp_path: Path, changes: dict[str, dict[int, object]], words: str
) -> None:
    bind([nodes["A"], nodes["B"]], tmp_path / "o", shared="acc", options=MEAN)
    edit_pairs(tmp_path / "o", changes)
    problems = list(check_bound_values(open_bound(tmp_path / "o")))
    found = [one.message for one in problems if one.code == "mean-broken"]
    assert len(found) == 1, problems
    assert words in found[0]
