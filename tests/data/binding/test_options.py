"""Every option of binding reaches the table of pairs, and says so in the attributes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plain import PLAIN
from smallstores import write_small_store

from mmbind_data.binding.bind import bind
from mmbind_data.binding.options import (
    DEFAULT,
    DEFAULT_TOP_K,
    PAPER,
    BindOptions,
    command_words,
    recipe_of,
    recorded_settings,
    restored_options,
)
from mmbind_data.embedding.vectors import embed_raw
from mmbind_data.errors import BindingError, UsageError
from mmbind_data.matching.csls import shortlist
from mmbind_data.matching.dtw import Elastic, elastic_signals, reranked
from mmbind_data.matching.match import match_candidates
from mmbind_data.matching.rule import MatchRule
from mmbind_data.spec.store import BinderInfo
from mmbind_data.store.bound import open_bound
from mmbind_data.store.dataset import Dataset, open_dataset
from mmbind_data.store.partitioning import partition
from mmbind_data.store.validation import validate

Nodes = tuple[Path, Path]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Nodes:
    """A: acc + skeleton of two people, B: acc + gyro of two others, 18 samples each."""
    folder = tmp_path_factory.mktemp("nodes")
    whole = write_small_store(
        folder / "whole", subjects=("1", "2", "3", "4"), noise=0.8,
        extra={"trial": [str(row % 3) for row in range(36)], "hand": [None, "left", "right"] * 12},
    )  # fmt: skip
    partition(whole, folder / "a.zarr", subjects=["1", "2"], modalities=["acc", "skeleton"])
    partition(whole, folder / "b.zarr", subjects=["3", "4"], modalities=["acc", "gyro"])
    return folder / "a.zarr", folder / "b.zarr"


def pseudo(nodes: Nodes, out: Path, options: BindOptions, shared: str = "acc") -> list[Any]:
    bind(nodes, out, shared=shared, options=options)
    assert validate(out, level="values") == []
    return [row for row in open_bound(out).pairs().to_pylist() if row["kind"] == "pseudo"]


def partner_uid(row: Mapping[str, Any]) -> str:
    """The uid of the sample that completes a row: the one of the modality the anchor lacks."""
    uid = row["gyro.uid"] if row["gyro.uid"] != row["anchor_uid"] else row["skeleton.uid"]
    return str(uid)


def labels(nodes: Nodes) -> dict[str, dict[str, Any]]:
    return {row["uid"]: row for path in nodes for row in open_dataset(path).samples().to_pylist()}


def test_the_default_recipe_is_its_parts_put_together(nodes: Nodes, tmp_path: Path) -> None:
    rows = pseudo(nodes, tmp_path / "o", DEFAULT)[::DEFAULT_TOP_K]
    stores = [open_dataset(path) for path in nodes]
    values = np.concatenate([store.load("acc") for store in stores])
    modality, n = stores[0].info.modalities["acc"], len(stores[0])
    vectors = embed_raw(values, modality).vectors
    signals = elastic_signals(values, modality, DEFAULT.elastic)
    listed = shortlist(vectors[:n], vectors[n:], DEFAULT.candidates)
    ranked = reranked(*listed, signals[:n], signals[n:], band=DEFAULT.elastic.band)
    expected = match_candidates(*ranked, MatchRule("csls", top_k=DEFAULT_TOP_K))
    uids = [np.array(store.samples()["uid"].to_pylist()) for store in stores]
    for start, side, others in ((0, 0, 1), (n, 1, 0)):
        for index in range(len(uids[side])):
            row = rows[start + index]
            assert row["anchor_uid"] == uids[side][index]
            assert partner_uid(row) == uids[others][expected[side].partner[index, 0]]
            assert row["similarity"] == pytest.approx(expected[side].similarity[index, 0])
    binder = open_bound(tmp_path / "o").info.binder[0]
    assert (binder.recipe, binder.match, binder.embedding["name"]) == ("default", "csls", "raw")
    assert binder.options["rerank"] == "dtw"
    assert binder.options["candidates"] == 100


def test_recipes_are_recognised() -> None:
    assert recipe_of(DEFAULT) == "default"
    assert recipe_of(replace(PAPER, seed=3, weight_rule="raw")) == "paper"
    for changed in (
        replace(DEFAULT, candidates=50),
        replace(DEFAULT, rule=MatchRule("csls", top_k=3)),
        replace(PAPER, steps=10),
        PLAIN,
    ):
        assert recipe_of(changed) == "custom"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (replace(DEFAULT, seed=3), "--seed 3"),
        (replace(DEFAULT, temperature=0.2, weight_rule="minmax_mean1"),
         "--temperature 0.2 --weights minmax_mean1"),
        (replace(PAPER, weight_rule="raw"), "--recipe paper --weights raw"),
        (replace(PLAIN, group_by="trial", embed="contrastive", steps=9),
         "--embed contrastive --match best --top-k 1 --rerank none --group-by trial --steps 9 "
         "--weights minmax_mean1"),
        (replace(DEFAULT, mean=True, elastic=Elastic(band=2)), "--mean 10"),
    ],
)  # fmt: skip
def test_recorded_options_are_restored(options: BindOptions, words: str) -> None:
    shares = options.mean or (options.rule.top_k > 1 and options.weight_rule != "probability")
    binder = BinderInfo(
        shared="acc", embedding={"name": str(options.embed), "steps": options.steps},
        weight_rule="shares" if shares else options.weight_rule, seed=options.seed,
        **recorded_settings(options, "inertial"),
    )  # fmt: skip
    assert restored_options(binder) == options
    assert " ".join(f"{name} {value}" for name, value in command_words(binder).items()) == words


def test_several_partners_share_one_weight(nodes: Nodes, tmp_path: Path) -> None:
    rows = pseudo(nodes, tmp_path / "o", replace(PLAIN, rule=MatchRule(top_k=4), temperature=0.2))
    assert len(rows) == 4 * 36
    by_anchor: dict[str, list[Any]] = {}
    for row in rows:
        by_anchor.setdefault(row["anchor_uid"], []).append(row)
    for group in by_anchor.values():
        assert [row["rank"] for row in group] == [0, 1, 2, 3]
        assert len({partner_uid(row) for row in group}) == 4
        similarity = np.array([row["similarity"] for row in group])
        assert (np.diff(similarity) <= 0).all()
        raised = np.exp(similarity / 0.2)
        weights = [row["weight"] for row in group]
        np.testing.assert_allclose(weights, raised / raised.sum(), rtol=1e-5)
    info = open_bound(tmp_path / "o").info
    assert (info.n_rows["pseudo"], info.binder[0].top_k) == (144, 4)


def test_groups_are_kept(nodes: Nodes, tmp_path: Path) -> None:
    known = labels(nodes)
    for rerank in ("none", "dtw"):
        options = replace(PLAIN, group_by="trial", rerank=rerank)
        rows = pseudo(nodes, tmp_path / rerank, options)
        assert len(rows) == 36
        for row in rows:
            own, other = known[row["anchor_uid"]], known[partner_uid(row)]
            assert own["trial"] == other["trial"]
        assert open_bound(tmp_path / rerank).info.binder[0].options["group_by"] == "trial"
        by_hand = pseudo(nodes, tmp_path / f"{rerank}-hand", replace(options, group_by="hand"))
        hands = [
            known[uid]["hand"] for row in by_hand for uid in (row["anchor_uid"], partner_uid(row))
        ]
        assert len(by_hand) == 24  # an unknown hand equals no other
        assert None not in hands
        assert hands[::2] == hands[1::2]
    apart = replace(PLAIN, group_by="subject")  # no person is on both sides
    with pytest.raises(BindingError, match="no sample found a partner"):
        bind(nodes, tmp_path / "o", shared="acc", options=apart)
    with pytest.raises(UsageError, match=r"no such column at --group-by.*Did you mean subject"):
        bind(nodes, tmp_path / "o", shared="acc", options=replace(PLAIN, group_by="subjct"))
    for column in ("label", "label_text"):  # pairing by a sensor must not read them
        with pytest.raises(UsageError, match="labels are not read here at --group-by"):
            bind(nodes, tmp_path / "o", shared="acc", options=replace(PLAIN, group_by=column))
    assert not (tmp_path / "o").exists()


def test_rules_reach_the_pairs(nodes: Nodes, tmp_path: Path) -> None:
    def bound(name: str, **rule: Any) -> list[Any]:
        return pseudo(nodes, tmp_path / name, replace(PLAIN, rule=MatchRule(**rule)))

    plain = bound("plain")
    mutual = bound("mutual", match="mutual")
    chosen = {row["anchor_uid"]: partner_uid(row) for row in plain}
    both = {one for one, other in chosen.items() if chosen[other] == one}
    assert {row["anchor_uid"] for row in mutual} == both
    assert 0 < len(both) < 36
    threshold = float(np.median([row["similarity"] for row in plain]))
    likely = bound("likely", min_similarity=threshold)
    expected = [row["anchor_uid"] for row in plain if row["similarity"] >= threshold]
    assert [row["anchor_uid"] for row in likely] == expected
    fair = bound("fair", max_reuse=1)
    assert max(Counter(partner_uid(row) for row in fair).values()) == 1
    assert max(Counter(partner_uid(row) for row in plain).values()) > 1
    for name, rule in (("sinkhorn", {"match": "sinkhorn"}), ("far", {"metric": "euclidean"}),
                       ("pca", {"pca": 4})):  # fmt: skip
        assert len(bound(name, **rule)) == 36
    for option, rule in (
        ("--match", {"match": "sinkhorn"}), ("--metric", {"metric": "euclidean"}),
        ("--pca", {"pca": 4}), ("--top-k", {"top_k": 101}), ("--top-k", {"top_k": 19}),
    ):  # fmt: skip
        options = replace(DEFAULT, rule=MatchRule(**rule))
        with pytest.raises(UsageError, match=f"a rule that cannot be followed at {option}: "):
            bind(nodes, tmp_path / "o", shared="acc", options=options)
    with pytest.raises(BindingError, match="no sample found a partner"):
        bound("o", min_similarity=2.0)
    assert not (tmp_path / "o").exists()


def test_embeddings_from_a_file(nodes: Nodes, tmp_path: Path) -> None:
    stores = [open_dataset(path) for path in nodes]
    values = np.concatenate([store.load("acc") for store in stores])
    vectors = embed_raw(values, stores[0].info.modalities["acc"]).vectors
    np.save(tmp_path / "v.npy", vectors)
    given = pseudo(nodes, tmp_path / "given", replace(PLAIN, embed=tmp_path / "v.npy"))
    assert given == pseudo(nodes, tmp_path / "own", PLAIN)


def test_contrastive_embeddings_are_trained_and_kept(nodes: Nodes, tmp_path: Path) -> None:
    options = replace(PLAIN, embed="contrastive", steps=3)
    first = pseudo(nodes, tmp_path / "a", options)
    assert first == pseudo(nodes, tmp_path / "b", options)
    assert open_bound(tmp_path / "a").info.binder[0].embedding["name"] == "contrastive"
    assert (tmp_path / "a" / "encoder" / "model.safetensors").is_file()


def test_a_store_without_the_shared_modality_may_derive_it(utd_store: Path, tmp_path: Path) -> None:
    nodes = tmp_path / "a.zarr", tmp_path / "b.zarr"
    partition(utd_store, nodes[0], subjects=["1"], modalities=["skeleton"])
    partition(utd_store, nodes[1], subjects=["3"], modalities=["acc", "gyro"])
    with pytest.raises(BindingError, match="acc is not shared"):
        bind(nodes, tmp_path / "o", shared="acc", options=PLAIN)
    options = replace(PLAIN, derive=("right_wrist_acc",))
    rows = pseudo(nodes, tmp_path / "o", options)
    bound = open_bound(tmp_path / "o")
    n = [len(open_dataset(path)) for path in nodes]
    assert len(rows) == sum(n)
    # what was derived only finds the partner: acc itself is always a measured one
    for row in rows:
        assert row["acc.source"].endswith("b")
        assert row["skeleton.source"].endswith("a")
    assert bound.info.binder[0].options["derive"] == ["right_wrist_acc"]
    assert set(bound.info.modalities) == {"skeleton", "acc", "gyro"}
    with pytest.raises(UsageError, match=r"no such derivation.*Did you mean right_wrist_acc"):
        bind(
            nodes, tmp_path / "p", shared="acc", options=replace(PLAIN, derive=("rigt_wrist_acc",))
        )


def test_samples_of_the_same_time_are_bound(motionsense_store: Path, tmp_path: Path) -> None:
    """Two devices, one clock that begins anew with each trial: sample finds simultaneous sample."""
    nodes = tmp_path / "a.zarr", tmp_path / "b.zarr"
    subjects = list(open_dataset(motionsense_store).info.subjects)
    partition(motionsense_store, nodes[0], subjects=subjects[:1], modalities=["acc"])
    partition(motionsense_store, nodes[1], subjects=subjects[1:], modalities=["gyro"])
    with pytest.raises(BindingError, match=r"unknown times .*--group-by COLUMN"):
        bind(nodes, tmp_path / "o", shared="time", options=PLAIN)
    options = replace(PLAIN, group_by="trial", window_s=0.0)
    bind(nodes, tmp_path / "o", shared="time", options=options)
    table = open_bound(tmp_path / "o").pairs().to_pylist()
    known = labels(nodes)
    rows = [row for row in table if row["kind"] == "pseudo"]
    assert rows
    for row in rows:
        acc, gyro = known[row["acc.uid"]], known[row["gyro.uid"]]
        assert acc["label_text"] == gyro["label_text"]
        assert (row["similarity"] == 1.0) == (acc["t_start"] == gyro["t_start"])
    # trials differ in length: the last sample of a longer one only touches its neighbour in time
    exact = [row["similarity"] == 1.0 for row in rows]
    assert sum(exact) > 0.8 * len(rows)
    assert all(row["similarity"] == 0.5 for row, same in zip(rows, exact, strict=True) if not same)
    binder = open_bound(tmp_path / "o").info.binder[0]
    assert (binder.shared, binder.metric, binder.recipe) == ("time", "time", "time")


def test_nothing_depends_on_the_order_of_the_other_side(nodes: Nodes, tmp_path: Path) -> None:
    """A and B change places: the same pairs."""
    one = pseudo(nodes, tmp_path / "ab", DEFAULT)
    other = pseudo(nodes[::-1], tmp_path / "ba", DEFAULT)
    pairs = [{(row["anchor_uid"], partner_uid(row)) for row in rows} for rows in (one, other)]
    assert pairs[0] == pairs[1]


def test_a_store_bound_with_its_double_finds_itself(nodes: Nodes, tmp_path: Path) -> None:
    """Equal samples under other names: similarity 1, and each its own double."""
    a: Dataset = open_dataset(nodes[0])
    doubles = write_small_store(
        tmp_path / "double", dataset_id="double", subjects=("1", "2", "3", "4"), noise=0.8
    )
    partition(doubles, tmp_path / "d.zarr", subjects=["1", "2"], modalities=["acc", "gyro"])
    rows = pseudo((nodes[0], tmp_path / "d.zarr"), tmp_path / "o", PLAIN)
    assert len(rows) == 2 * len(a)
    for row in rows:
        assert row["similarity"] == pytest.approx(1.0, abs=2e-6)
        assert row["anchor_uid"].split("-", 1)[1] == partner_uid(row).split("-", 1)[1]
