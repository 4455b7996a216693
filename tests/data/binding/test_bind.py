"""Binding against a naive construction of every pair, from known embeddings."""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import zarr
from plain import PLAIN
from rawdata.truth import Truth

from mmbind_data.binding.bind import bind
from mmbind_data.binding.options import PAPER, WeightRule
from mmbind_data.conversion.convert import convert
from mmbind_data.errors import BindingError, FormatError, UsageError
from mmbind_data.io.digests import write_manifest
from mmbind_data.matching.match import normalise_weights
from mmbind_data.matching.rule import MatchRule
from mmbind_data.signal.windows import stretch
from mmbind_data.spec.descriptor import Modality
from mmbind_data.store.bound import open_bound
from mmbind_data.store.dataset import Dataset, open_dataset
from mmbind_data.store.pair_table import bound_digest
from mmbind_data.store.partitioning import partition
from mmbind_data.store.validation import validate


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)


def moments(values: np.ndarray, modality: Modality | None = None) -> np.ndarray:
    """A cheap embedding, (n, 9): mean, spread and drift of each channel, on one scale."""
    flat = values.reshape(*values.shape[:2], -1)[:, :, :3]
    half = values.shape[1] // 2
    drift = flat[:, half:].mean(axis=1) - flat[:, :half].mean(axis=1)
    table = np.concatenate([flat.mean(axis=1), flat.std(axis=1), drift], axis=1)
    scaled: np.ndarray = (table - table.mean(axis=0)) / table.std(axis=0)
    return scaled


BY_MOMENTS = replace(PLAIN, embed=moments)


def naive_best(a: np.ndarray, b: np.ndarray) -> list[tuple[int, float]]:
    """Best row of B, and the cosine, for each row of A."""
    found = []
    for x in a.tolist():
        best = (0, -math.inf)
        for k, y in enumerate(b.tolist()):
            dot = sum(v * w for v, w in zip(x, y, strict=True))
            cosine = dot / math.sqrt(sum(v * v for v in x) * sum(w * w for w in y))
            if cosine > best[1]:
                best = (k, cosine)
        found.append(best)
    return found


def uids(store: Dataset) -> list[str]:
    return [str(uid) for uid in store.samples()["uid"].to_pylist()]


def test_every_row_is_that_of_a_naive_construction(
    utd_store: Path, node_stores: tuple[Path, Path], tmp_path: Path
) -> None:
    # A measures depth too, which most of its samples lack; B's samples lack it like B itself
    a = tmp_path / "a.zarr"
    partition(utd_store, a, subjects=["1"], modalities=["acc", "skeleton", "depth"])
    info = bind([a, node_stores[1]], tmp_path / "bound.zarr", shared="acc", options=BY_MOMENTS)
    stores = [open_dataset(a), open_dataset(node_stores[1])]
    n_a, n_b = len(stores[0]), len(stores[1])
    vectors = moments(np.concatenate([store.load("acc") for store in stores]))
    forth, back = naive_best(vectors[:n_a], vectors[n_a:]), naive_best(vectors[n_a:], vectors[:n_a])
    ids = [source.source_id for source in info.sources]
    assert ids == ["utd-mhad-a", "utd-mhad-b"]
    expected = [(0, row, 1, *match) for row, match in enumerate(forth)]
    expected += [(1, row, 0, *match) for row, match in enumerate(back)]
    weights = normalise_weights(np.array([one[4] for one in expected], dtype=np.float32),
                                "minmax_mean1")  # fmt: skip
    rows = open_bound(tmp_path / "bound.zarr").pairs().to_pylist()
    assert len(rows) == 2 * (n_a + n_b)
    depth = stores[0].present("depth")
    assert 0 < depth.sum() < n_a

    def assert_given(row: dict[str, Any], name: str, side: int, index: int, there: bool) -> None:
        got = tuple(row[f"{name}.{part}"] for part in ("source", "row", "uid"))
        want = (ids[side], index, uids(stores[side])[index]) if there else (None, None, None)
        assert got == want

    for row, (side, index, other, partner, cosine), weight in zip(
        rows[: n_a + n_b], expected, weights, strict=True
    ):
        assert (row["kind"], row["anchor_source"]) == ("pseudo", ids[side])
        assert row["anchor_uid"] == uids(stores[side])[index]
        assert row["similarity"] == pytest.approx(cosine, abs=1.1e-6)
        assert row["weight"] == pytest.approx(weight, abs=1e-4)
        assert_given(row, "acc", side, index, True)
        by_a = index if side == 0 else partner
        assert_given(row, "skeleton", 0, by_a, True)
        assert_given(row, "depth", 0, by_a, bool(depth[by_a]))
        assert_given(row, "gyro", 1, index if side == 1 else partner, True)
        assert other == 1 - side
    originals = [(0, row) for row in range(n_a)] + [(1, row) for row in range(n_b)]
    for row, (side, index) in zip(rows[n_a + n_b :], originals, strict=True):
        assert (row["kind"], row["anchor_source"]) == ("incomplete", ids[side])
        assert (row["similarity"], row["weight"]) == (None, 1.0)
        assert_given(row, "acc", side, index, True)
        assert_given(row, "skeleton", side, index, side == 0)
        assert_given(row, "depth", side, index, side == 0 and bool(depth[index]))
        assert_given(row, "gyro", side, index, side == 1)
    assert info.n_rows == {"pseudo": n_a + n_b, "incomplete": n_a + n_b, "natural": 0}
    assert info.modalities == ("acc", "skeleton", "depth", "gyro")
    assert validate(tmp_path / "bound.zarr", level="values") == []


def test_samples_without_the_shared_modality_are_incomplete_only(
    utd_store: Path, tmp_path: Path
) -> None:
    a, b = tmp_path / "a.zarr", tmp_path / "b.zarr"
    partition(utd_store, a, subjects=["1"], modalities=["acc", "depth"])
    partition(utd_store, b, subjects=["3"], modalities=["gyro", "depth"])
    options = replace(PLAIN, embed=lambda values, _: values.reshape(len(values), -1))
    info = bind([a, b], tmp_path / "bound.zarr", shared="depth", options=options)
    stores = [open_dataset(a), open_dataset(b)]
    assert info.n_rows == {"pseudo": 2, "incomplete": len(stores[0]) + len(stores[1]), "natural": 0}
    carriers = [int(np.flatnonzero(store.present("depth"))[0]) for store in stores]
    first, second = open_bound(tmp_path / "bound.zarr").pairs().slice(0, 2).to_pylist()
    assert (first["depth.row"], first["gyro.row"], first["acc.row"]) == (
        carriers[0], carriers[1], carriers[0],
    )  # fmt: skip
    assert (second["depth.source"], second["depth.row"]) == ("utd-mhad-b", carriers[1])


def test_figures_are_the_naive_counts(node_stores: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "bound.zarr"
    info = bind(node_stores, out, shared="acc", options=BY_MOMENTS)
    label = {
        sample["uid"]: sample["label_text"]
        for path in node_stores
        for sample in open_dataset(path).samples().to_pylist()
    }
    pseudo = [row for row in open_bound(out).pairs().to_pylist() if row["kind"] == "pseudo"]
    partner = ["gyro.uid" if row["anchor_source"] == "utd-mhad-a" else "skeleton.uid"
               for row in pseudo]  # fmt: skip
    pairs = [(row["anchor_uid"], row[name]) for row, name in zip(pseudo, partner, strict=True)]
    equal = sum(label[one] == label[other] for one, other in pairs)
    assert 0 < equal < len(pairs)
    assert info.pairing_accuracy == round(equal / len(pairs), 6)
    uses = Counter(other for _, other in pairs)
    assert info.reuse == {
        "max": max(uses.values()), "mean": round(len(pairs) / len(uses), 4),
    }  # fmt: skip
    similarity = sorted(row["similarity"] for row in pseudo)
    assert (info.similarity["min"], info.similarity["max"]) == (similarity[0], similarity[-1])
    assert info.similarity["median"] == pytest.approx(np.median(similarity))
    report = json.loads((out / "eval" / "pairing.json").read_text())
    assert report["n_judged"] == len(pairs)
    assert sum(report["similarity_histogram"]["counts"]) == len(pairs)
    for direction in report["directions"]:
        confusion = Counter(
            (label[row["anchor_uid"]], label[other])
            for row, (_, other) in zip(pseudo, pairs, strict=True)
            if row["anchor_source"] == direction["anchor"]
        )
        counted = {
            (x, y): n for x, inner in direction["confusion"].items() for y, n in inner.items()
        }
        assert counted == confusion
    partners = pq.read_table(out / "eval" / "partners.parquet").to_pylist()
    assert [(row["anchor_uid"], row["partner_uid"]) for row in partners] == pairs
    assert all(row["partner_label"] == label[row["partner_uid"]] for row in partners)
    never = len(label) - len(uses)
    assert report["reuse"]["share_never_used"] == round(never / len(label), 4)


def relabelled(path: Path, out: Path, how: str) -> Path:
    """A store of the same name with other labels, or none."""
    if how == "none":
        partition(path, out, labels="none")
        return out
    shutil.copytree(path, out)
    array = zarr.open_array(out / "label", mode="r+")
    array[:] = np.random.default_rng(1).permutation(np.asarray(array[:]))
    write_manifest(out)
    return out


@pytest.mark.parametrize("how", ["permuted", "none"])
def test_sensor_pairing_does_not_read_labels(
    node_stores: tuple[Path, Path], bound_store: Path, tmp_path: Path, how: str
) -> None:
    others = [relabelled(path, tmp_path / path.name, how) for path in node_stores]
    options = PLAIN
    info = bind([others[0], others[1]], tmp_path / "bound.zarr", shared="acc", options=options)
    first = open_bound(bound_store)
    assert open_bound(tmp_path / "bound.zarr").pairs().equals(first.pairs())
    if how == "none":
        assert info.pairing_accuracy is None
    else:
        assert info.pairing_accuracy != first.info.pairing_accuracy


def test_again_is_the_same_byte_for_byte_and_the_seed_counts(
    node_stores: tuple[Path, Path],
) -> None:
    folder = node_stores[0].parent
    outs = [folder / f"again-{index}.zarr" for index in range(3)]
    for out, seed in zip(outs, (0, 0, 1), strict=True):
        bind(node_stores, out, shared="acc", options=replace(PAPER, steps=3, seed=seed))
    files = [
        {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}
        for out in outs
    ]
    for out in outs:
        shutil.rmtree(out)
    assert files[0] == files[1]
    assert Path("encoder/model.safetensors") in files[0]
    assert files[0][Path("meta/pairs.parquet")] != files[2][Path("meta/pairs.parquet")]


def test_attributes_tell_how_and_from_what(
    node_stores: tuple[Path, Path], bound_store: Path
) -> None:
    info = open_bound(bound_store).info
    assert (info.mode, info.shared) == ("linked", ("acc",))
    assert (info.binder[0].recipe, info.binder[0].embedding["name"]) == ("custom", "raw")
    for source, path in zip(info.sources, node_stores, strict=True):
        own = open_dataset(path).info
        assert source.path == path.name
        for field in ("dataset_id", "content_digest", "n_samples", "modalities", "partition"):
            assert getattr(source, field) == getattr(own, field)
        assert source.subjects == tuple(own.subjects)
        assert source.convert.endswith(f"--modalities {','.join(own.modalities)}")
    table = open_bound(bound_store).pairs()
    digest = bound_digest(info.shared, info.binder, info.sources, table)
    assert info.content_digest == digest
    other = info.sources[1].model_copy(update={"content_digest": "0" * 64})
    assert digest != bound_digest(info.shared, info.binder, (info.sources[0], other), table)
    # no sensor values: nothing but tables and documents
    assert not (bound_store / "modalities").exists()
    assert sum(path.stat().st_size for path in bound_store.rglob("*") if path.is_file()) < 200_000


def test_windows_of_different_length_are_stretched(
    node_stores: tuple[Path, Path], motionsense_store: Path, tmp_path: Path
) -> None:
    seen: list[np.ndarray] = []

    def watched(values: np.ndarray, modality: Modality) -> np.ndarray:
        seen.append(values)
        return moments(values)

    out = tmp_path / "bound.zarr"
    info = bind(
        [node_stores[0], motionsense_store],
        out,
        shared="acc",
        options=replace(PLAIN, embed=watched),
    )
    utd, phone = open_dataset(node_stores[0]), open_dataset(motionsense_store)
    assert seen[0].shape == (len(utd) + len(phone), 100, 3)
    for row, sample in enumerate(utd.load("acc")):
        np.testing.assert_array_equal(seen[0][row], stretch(sample, 100))
    np.testing.assert_array_equal(seen[0][len(utd) :], phone.load("acc"))
    assert [source.source_id for source in info.sources] == ["utd-mhad", "motionsense"]
    assert info.binder[0].embedding == {"name": "watched"}
    assert validate(out, level="values") == []


def test_weight_rules_reach_the_table(node_stores: tuple[Path, Path], tmp_path: Path) -> None:
    rules: tuple[WeightRule, ...] = ("raw", "softmax", "none")
    for rule in rules:
        out = tmp_path / rule
        options = replace(PLAIN, embed=moments, weight_rule=rule)
        bind(node_stores, out, shared="acc", options=options)
        table = open_bound(out).pairs()
        pseudo = np.array(table["kind"].to_pylist()) == "pseudo"
        similarity = np.asarray(table["similarity"])[pseudo]
        np.testing.assert_array_equal(
            np.asarray(table["weight"])[pseudo], normalise_weights(similarity, rule)
        )
        assert (np.asarray(table["weight"])[~pseudo] == 1).all()


def test_a_recording_that_was_converted_twice_is_bound_once(
    motionsense_truth: Truth, motionsense_store: Path, tmp_path: Path
) -> None:
    """Other options give other uids; the raw files are the same."""
    turned = tmp_path / "turned.zarr"
    convert("motionsense", motionsense_truth.root, turned, options={"sign": "specific_force"})
    known = [
        set(open_dataset(path).samples()["uid"].to_pylist()) for path in (motionsense_store, turned)
    ]
    assert not known[0] & known[1]
    first, *others = open_dataset(turned).info.subjects
    nodes = [tmp_path / f"{name}.zarr" for name in "abc"]
    partition(motionsense_store, nodes[0], subjects=[first], modalities=["gyro", "acc"])
    partition(turned, nodes[1], subjects=[first], modalities=["gyro", "gravity"])
    partition(turned, nodes[2], subjects=others, modalities=["gyro", "gravity"])
    n = len(set(open_dataset(nodes[0]).samples()["raw_file"].to_pylist()))
    refused(BindingError, f"cut from the same recordings.*got {n} recordings in both",
            (nodes[0], nodes[1]), tmp_path / "o", "gyro")  # fmt: skip
    bind((nodes[0], nodes[2]), tmp_path / "o", shared="gyro", options=PLAIN)


def test_a_bound_input_keeps_the_weights_of_its_rows(
    node_stores: tuple[Path, Path], tmp_path: Path, motionsense_store: Path
) -> None:
    """Ten partners have probabilities at the first binding, one its similarity at the second."""
    third = tmp_path / "c.zarr"
    partition(motionsense_store, third, modalities=["gyro", "gravity"])
    bind(node_stores, tmp_path / "ab", shared="acc")
    one = replace(PLAIN, embed=moments, weight_rule="raw", rule=MatchRule("mutual"))
    bind([tmp_path / "ab", third], tmp_path / "abc", shared="gyro", options=one)
    before, after = (open_bound(tmp_path / name).pairs().to_pylist() for name in ("ab", "abc"))
    known = {
        (row["anchor_uid"], row["rank"]): row["weight"] for row in before if row["kind"] == "pseudo"
    }
    kept = [row for row in after if row["kind"] == "pseudo" and row["hop"] == 0]
    made = [row for row in after if row["kind"] == "pseudo" and row["hop"] == 1]
    assert kept
    assert made
    for row in kept:
        assert row["weight"] == known[row["anchor_uid"], row["rank"]]
    similarity = np.array([row["similarity"] for row in made])
    weight = np.array([row["weight"] for row in made], np.float32)
    np.testing.assert_array_equal(weight, normalise_weights(similarity, "raw"))
    assert [one.weight_rule for one in open_bound(tmp_path / "abc").info.binder] == [
        "probability",
        "raw",
    ]


@pytest.mark.parametrize(
    "vectors",
    [
        lambda values, _: np.ones(len(values)),
        lambda values, _: np.ones((len(values) - 1, 2)),
        lambda values, _: np.full((len(values), 2), np.nan),
    ],
)
def test_a_bad_embedding_is_refused(
    node_stores: tuple[Path, Path], tmp_path: Path, vectors: Any
) -> None:
    with pytest.raises(BindingError, match="cannot bind: embeddings"):
        bind(node_stores, tmp_path / "b.zarr", shared="acc", options=replace(PLAIN, embed=vectors))
    assert list(tmp_path.iterdir()) == []


def refused(
    error: type[Exception], message: str, stores: Sequence[Path], out: Path, shared: str = "acc"
) -> None:
    with pytest.raises(error, match=message):
        bind([stores[0], stores[1]], out, shared=shared, options=BY_MOMENTS)
    assert not out.exists()


def test_what_cannot_be_bound_is_refused(
    utd_store: Path, node_stores: tuple[Path, Path], bound_store: Path, tmp_path: Path
) -> None:
    a, b = node_stores
    out = tmp_path / "b.zarr"
    refused(BindingError, "both stores hold the same samples", (a, utd_store), out)
    refused(BindingError, "both stores hold the same samples", (a, a), out)
    refused(BindingError, r"skeleton is not shared.*--shared acc or label", (a, b), out, "skeleton")
    refused(UsageError, "Did you mean acc", (a, b), out, "ac")
    # a bound store is an input like others, but not together with its own sources
    refused(BindingError, "both stores hold the same samples", (a, bound_store), out)
    refused(FormatError, "not a store", (a, tmp_path / "nothing"), out)
    for name, subject in (("c", "1"), ("d", "3")):
        partition(utd_store, tmp_path / name, subjects=[subject], modalities=["acc"])
    refused(BindingError, "carry the same modalities", (tmp_path / "c", tmp_path / "d"), out)
    partition(utd_store, tmp_path / "e", subjects=["3"], modalities=["gyro"], labels="none")
    refused(BindingError, "no sample carries label", (a, tmp_path / "e"), out, "label")


def test_sources_are_found_from_behind_a_link(
    node_stores: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "far" / "away").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "far" / "away")
    out = tmp_path / "link" / "bound.zarr"
    bind(node_stores, out, shared="acc", options=BY_MOMENTS)
    for path in (out, tmp_path / "far" / "away" / "bound.zarr"):
        bound = open_bound(path)
        assert len(bound.source("utd-mhad-a")) == len(open_dataset(node_stores[0]))


def test_equal_names_of_two_nodes_are_told_apart(utd_store: Path, tmp_path: Path) -> None:
    for folder, subject, modality in (("x", "1", "gyro"), ("y", "3", "skeleton")):
        partition(
            utd_store, tmp_path / folder / "node.zarr", subjects=[subject],
            modalities=["acc", modality],
        )  # fmt: skip
    stores = [tmp_path / folder / "node.zarr" for folder in "xy"]
    info = bind([stores[0], stores[1]], tmp_path / "b.zarr", shared="acc", options=BY_MOMENTS)
    ids = [source.source_id for source in info.sources]
    assert ids == ["utd-mhad-node-1", "utd-mhad-node-2"]
    assert [source.path for source in info.sources] == ["x/node.zarr", "y/node.zarr"]


def test_datasets_without_a_common_label_have_no_pairing_accuracy(
    utd_store: Path, motionsense_store: Path, tmp_path: Path
) -> None:
    labels = [set(open_dataset(path).info.labels) for path in (utd_store, motionsense_store)]
    assert labels[0].isdisjoint(labels[1])
    out = tmp_path / "across.zarr"
    options = PLAIN
    info = bind([utd_store, motionsense_store], out, shared="acc", options=options)
    assert info.pairing_accuracy is None
    document = json.loads((out / "eval" / "pairing.json").read_text())
    assert document["n_judged"] == 0
    assert sum(document["similarity_histogram"]["counts"]) == info.n_rows["pseudo"]
