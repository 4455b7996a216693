"""Every kind of modality through training and evaluation; absent rows and batch statistics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from kinds import MODALITIES, write_kind_store
from plain import PLAIN
from torch import nn

from mmbind_data.binding.bind import bind
from mmbind_data.signal.normalise import channel_statistics
from mmbind_data.signal.point_clouds import RaggedPoints
from mmbind_data.spec.store import InputBounds
from mmbind_data.store.bound import open_bound
from mmbind_data.store.dataset import open_dataset
from mmbind_data.store.input_size import bounded_modality
from mmbind_data.store.partitioning import partition
from mmbind_train.config import Augmentation, Budget, EvaluateConfig, NetworkOptions, TrainConfig
from mmbind_train.data.batch import make_batch, standardise
from mmbind_train.data.training_set import (
    TrainingSet,
    gather_bound,
    gather_store,
    measure_statistics,
)
from mmbind_train.evaluation.evaluate import evaluate
from mmbind_train.networks.model import AdaptiveModel
from mmbind_train.training.pretrain import train
from mmbind_train.training.run_folder import load_run

# shared, only in A, only in B: MM-Fi and SUN RGB-D of the table cross-node-sensor, and the rest
TABLES = [
    ("skeleton", ("depth", "wifi_csi"), ("radar",)),
    ("image", ("semseg",), ("still_depth",)),
    ("acc", ("heart_rate", "keypoints"), ("ir",)),
]
BOUNDS = InputBounds(frames=8, points=5, pixels=150)
SMALL = TrainConfig(
    budget=Budget(steps=6, batch=8), inputs=BOUNDS, network=NetworkOptions(width=8, feature_dim=16)
)
QUICK = EvaluateConfig(seeds=(0,), budget=Budget(steps=50, batch=8, learning_rate=1e-2))


@pytest.fixture(scope="module", params=TABLES, ids=lambda table: table[0])
def nodes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    shared, in_a, in_b = request.param
    root = tmp_path_factory.mktemp(shared)
    everybody = ("1", "2", "3", "4")
    full = write_kind_store(root / "full.zarr", (shared, *in_a, *in_b), subjects=everybody)
    held = {"A": (shared, *in_a), "B": (shared, *in_b), "C": (*in_a, *in_b), "T": (*in_a, *in_b)}
    for subject, (name, modalities) in zip(everybody, held.items(), strict=True):
        partition(full, root / f"{name}.zarr", subjects=[subject], modalities=list(modalities))
    bind([root / "A.zarr", root / "B.zarr"], root / "AB.zarr", shared=shared, options=PLAIN)
    return root


def test_train_and_evaluate(nodes: Path) -> None:
    info = train(nodes / "AB.zarr", nodes / "run", config=SMALL)
    assert info.final_loss is not None
    again, _ = load_run(nodes / "run")
    assert again.config.inputs == BOUNDS
    for name, one in again.modalities.items():
        assert one == bounded_modality(MODALITIES[name], BOUNDS)
    stored = {name: one.shape[0] for name, one in MODALITIES.items()}
    thinned = {key.split("/")[1]: pair for key, pair in again.stretched.items()}
    assert thinned == {
        name: (stored[name], 8)
        for name in again.modalities
        if MODALITIES[name].kind in ("depth_video", "point_cloud", "csi")
    }
    result = evaluate(nodes / "run", nodes / "C.zarr", nodes / "T.zarr", config=QUICK)
    assert result.n_test == 9
    assert result.accuracy > 0.6  # chance is a third


@pytest.mark.parametrize("method", ["mim", "lower_bound", "unimodal", "cmg", "imagebind"])
def test_other_methods_take_every_kind(nodes: Path, method: str) -> None:
    info = train(nodes / "AB.zarr", nodes / f"run-{method}", method=method, config=SMALL)
    assert (info.steps == 0) == (method == "lower_bound")


def gathered(path: Path, names: list[str], bounds: InputBounds = BOUNDS) -> TrainingSet:
    return gather_store(open_dataset(path), names, bounds=bounds)


def test_clouds_are_padded_and_their_statistics_count_points_once(tmp_path: Path) -> None:
    opened = open_dataset(write_kind_store(tmp_path / "k.zarr", ["radar"]))
    rows = gathered(opened.path, ["radar"], InputBounds(frames=11, points=40))
    points = opened.load_points("radar")
    assert isinstance(points, RaggedPoints)
    assert np.isnan(rows.arrays()["radar"][0]).all()  # the first sample has no point at all
    measured = measure_statistics(rows)["radar"]
    np.testing.assert_allclose(measured.mean, points.values.mean(axis=0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(measured.std, points.values.std(axis=0), rtol=1e-4)
    for bound in (6, 7, 60):  # no frame has more than 6 points
        other = gathered(opened.path, ["radar"], InputBounds(frames=11, points=bound))
        assert measure_statistics(other)["radar"] == measured
        batches = [
            make_batch(one, np.array([0, 3, 4]), {"radar": measured}).inputs["radar"]
            for one in (rows, other)
        ]
        assert torch.equal(batches[0].isnan(), batches[1].isnan())
        assert torch.equal(batches[0].nan_to_num(), batches[1].nan_to_num())
        assert batches[0].shape[2] <= 6


def test_statistics_do_not_depend_on_how_they_are_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = gathered(write_kind_store(tmp_path / "k.zarr", ["acc"]), ["acc"])
    whole = channel_statistics([rows.arrays()["acc"]], MODALITIES["acc"])
    monkeypatch.setattr("mmbind_train.data.training_set.MEASURED_AT_ONCE", 5)
    split = measure_statistics(rows)["acc"]
    np.testing.assert_allclose(split.mean, whole.mean, rtol=1e-12)
    np.testing.assert_allclose(split.std, whole.std, rtol=1e-12)


def test_class_numbers_and_backgrounds_enter_unscaled(tmp_path: Path) -> None:
    names = ["semseg", "still_depth", "image"]
    rows = gathered(write_kind_store(tmp_path / "k.zarr", names), names)
    statistics = measure_statistics(rows)
    batch = make_batch(rows, np.arange(len(rows)), statistics)
    assert np.array_equal(batch.inputs["semseg"].numpy(), rows.arrays()["semseg"])
    odd = MODALITIES["semseg"].model_copy(update={"background": 3.0})  # a class as any other
    numbers = batch.inputs["semseg"]
    assert torch.equal(standardise(numbers, odd, statistics["semseg"]), numbers)
    hole = rows.arrays()["still_depth"] == 0.0
    assert hole.any()
    assert (batch.inputs["still_depth"].numpy()[hole] == 0).all()
    inside = batch.inputs["still_depth"].numpy()[~hole]
    assert [inside.mean(), inside.std()] == pytest.approx([0, 1], abs=1e-4)
    colours = batch.inputs["image"].flatten(0, 2)
    torch.testing.assert_close(colours.mean(dim=0), torch.zeros(3), atol=1e-4, rtol=0)


def test_stills_of_one_row_are_mirrored_together(tmp_path: Path) -> None:
    names = ["image", "still_depth", "semseg"]
    rows = gathered(write_kind_store(tmp_path / "k.zarr", names), names)
    statistics = measure_statistics(rows)
    options = Augmentation(rotation=0, warp=0, gain=0, jitter=0, shift=0, flip=0.5, drop=0)
    rng = torch.Generator().manual_seed(0)
    plain = make_batch(rows, np.arange(16), statistics).inputs
    mirrored = make_batch(rows, np.arange(16), statistics, options, rng).inputs
    turned = []
    for name in names:
        as_is = [torch.equal(a, b) for a, b in zip(mirrored[name], plain[name], strict=True)]
        flip = [torch.equal(a.flip(1), b) for a, b in zip(mirrored[name], plain[name], strict=True)]
        assert all(a != b for a, b in zip(as_is, flip, strict=True))
        turned.append(flip)
    assert turned[0] == turned[1] == turned[2]
    assert 0 < sum(turned[0]) < 16


REFERENCE = NetworkOptions(variant="reference", embedding_dim=8)


@pytest.mark.parametrize("dummies", [False, True])
@pytest.mark.parametrize("name", ["acc", "skeleton", "wifi_csi"])
def test_dummy_rows_never_enter_batch_statistics(
    tmp_path: Path, name: str, *, dummies: bool
) -> None:
    rows = gathered(write_kind_store(tmp_path / "k.zarr", [name, "keypoints"]), [name, "keypoints"])
    statistics = measure_statistics(rows)
    batch = make_batch(rows, np.arange(12), statistics)
    present = batch.present.clone()
    present[4:, 0] = False
    inputs = {**batch.inputs, name: batch.inputs[name].clone()}
    inputs[name][4:] = 0.0
    norms = []
    for n in (4, 12):  # the present rows alone, and with eight dummy rows
        torch.manual_seed(0)
        model = AdaptiveModel(rows.modalities, REFERENCE).train()
        torch.manual_seed(1)
        features = model.features(
            {key: value[:n] for key, value in inputs.items()}, present[:n], encode_dummies=dummies
        )
        assert features.isfinite().all()
        layers = model.encoders[name].modules()
        norms.append([one for one in layers if isinstance(one, (nn.BatchNorm2d, nn.BatchNorm3d))])
        if n == 12:
            absent = features[4:, 0, : model.dims[name]]
            assert (absent == absent[:1]).all()
            assert bool(absent.any()) == dummies
            assert all(one.training for one in norms[1])
    assert norms[0]
    for alone, extended in zip(*norms, strict=True):
        assert alone.num_batches_tracked == extended.num_batches_tracked == 1
        assert torch.equal(alone.running_mean, extended.running_mean)
        assert torch.equal(alone.running_var, extended.running_var)


def test_features_of_different_lengths_stand_side_by_side(tmp_path: Path) -> None:
    names = ["keypoints", "radar", "image"]
    rows = gathered(write_kind_store(tmp_path / "k.zarr", names), names, InputBounds())
    model = AdaptiveModel(rows.modalities, REFERENCE)
    assert model.dims == {"keypoints": 160, "radar": 704, "image": 32}
    batch = make_batch(rows, np.arange(5), measure_statistics(rows))
    features = model.features(batch.inputs, batch.present)
    assert features.shape == (5, 3, 704)
    for column, dim in enumerate(model.dims.values()):
        assert (features[:, column, dim:] == 0).all()
        assert features[:, column, :dim].any()
    z = model.embed(features)
    torch.testing.assert_close(z.norm(dim=-1), torch.ones(5, 3))


def test_compact_dummies_are_what_the_encoder_makes_of_zeros(nodes: Path) -> None:
    rows = gather_bound(open_bound(nodes / "AB.zarr"), bounds=BOUNDS)
    torch.manual_seed(0)
    model = AdaptiveModel(rows.modalities, SMALL.network)
    batch = make_batch(rows, np.arange(len(rows)), measure_statistics(rows))
    features = model.features(batch.inputs, batch.present, encode_dummies=True)
    for column, name in enumerate(rows.modalities):
        expected = model.encoders[name](batch.inputs[name])
        torch.testing.assert_close(features[:, column], expected, rtol=1e-4, atol=1e-5)


def test_standardise_leaves_padding_alone() -> None:
    rows = torch.tensor([[[[1.0, 10.0], [float("nan"), float("nan")]]]])
    cloud = MODALITIES["radar"]
    measured = channel_statistics([rows.numpy()], cloud)
    got = standardise(rows, cloud, measured)
    assert got[0, 0, 0].tolist() == [0.0, 0.0]
    assert got[0, 0, 1].isnan().all()
