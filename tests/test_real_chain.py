"""The whole chain on real raw data, trainings short: figures that follow from the bytes alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from plain import PLAIN

from mmbind_data.binding.bind import bind
from mmbind_data.binding.options import PAPER
from mmbind_data.conversion.convert import convert
from mmbind_data.conversion.spool import read_spools
from mmbind_data.store.bound import open_bound
from mmbind_data.store.dataset import Dataset, open_dataset
from mmbind_data.store.partitioning import partition
from mmbind_data.store.validation import validate
from mmbind_train.config import Budget, EvaluateConfig, TrainConfig
from mmbind_train.evaluation.evaluate import evaluate
from mmbind_train.training.pretrain import train

pytestmark = pytest.mark.realdata


@pytest.fixture(scope="module")
def utd(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All real UTD-MHAD trials without depth."""
    out = tmp_path_factory.mktemp("utd") / "utd.zarr"
    modalities = ["acc", "gyro", "skeleton"]
    return convert("utd-mhad", real_data / "utd-mhad", out, modalities=modalities).path


@pytest.fixture(scope="module")
def motionsense(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All real MotionSense windows."""
    out = tmp_path_factory.mktemp("ms") / "ms.zarr"
    return convert("motionsense", real_data / "motionsense", out).path


def test_utd_store_holds_the_known_figures(utd: Path) -> None:
    store = open_dataset(utd)
    assert len(store) == 646
    assert store.info.subjects == {"1": 107, "2": 108, "3": 108, "4": 108, "5": 108, "6": 107}
    assert len(store.info.labels) == 27
    assert validate(utd, level="values") == []
    # whole-trial resampling keeps the published means (acc -0.326 g, z of skeleton 2.87 m)
    acc, skeleton = store.load("acc"), store.load("skeleton")
    assert acc.mean() / 9.80665 == pytest.approx(-0.326, abs=0.02)
    assert skeleton[..., 2].mean() == pytest.approx(2.87, abs=0.02)
    # at rest a wrist measures gravity: the median magnitude over all frames is near 1 g
    magnitude = np.linalg.norm(acc, axis=-1)
    assert np.median(magnitude) / 9.80665 == pytest.approx(1.05, abs=0.03)


def test_motionsense_store_holds_the_known_figures(motionsense: Path) -> None:
    store = open_dataset(motionsense)
    assert (len(store), len(store.info.subjects), len(store.info.labels)) == (10_416, 18, 6)
    assert validate(motionsense, level="values") == []
    still = np.isin(store.column("label"), [store.names("label").index("sitting")])
    magnitude = np.linalg.norm(store.load("acc", np.flatnonzero(still)[::7]), axis=-1)
    assert np.median(magnitude) == pytest.approx(9.81, abs=0.1)
    gravity = np.linalg.norm(store.load("gravity", slice(0, 200)), axis=-1)
    np.testing.assert_allclose(gravity, 9.80665, rtol=2e-3)


def test_killed_conversion_of_real_data_resumes(
    real_data: Path, motionsense: Path, tmp_path: Path
) -> None:
    out = tmp_path / "ms.zarr"
    raw = str(real_data / "motionsense")
    command = [sys.executable, "-m", "mmbind_cli", "convert", "motionsense", raw, str(out)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    units = tmp_path / ".ms.zarr.partial" / "units"
    deadline = time.monotonic() + 60
    while sum(map(len, read_spools(units).values())) < 20:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    again = convert("motionsense", raw, out)
    assert again.n_resumed >= 20
    assert again.info.content_digest == open_dataset(motionsense).info.content_digest


def test_chain_on_utd_nodes(utd: Path, tmp_path: Path) -> None:
    for node, subjects, modalities in (
        ("A", ["1", "6"], ["acc", "skeleton"]),
        ("B", ["2", "3"], ["acc", "gyro"]),
        ("C", ["4"], ["gyro", "skeleton"]),
        ("T", ["5"], ["gyro", "skeleton"]),
    ):
        partition(utd, tmp_path / f"{node}.zarr", subjects=subjects, modalities=modalities)
    bound = tmp_path / "bound.zarr"
    options = PLAIN
    info = bind([tmp_path / "A.zarr", tmp_path / "B.zarr"], bound, shared="acc", options=options)
    assert info.n_rows == {"pseudo": 430, "incomplete": 430, "natural": 0}
    assert info.pairing_accuracy == pytest.approx(naive_accuracy(tmp_path), abs=1e-6)
    assert validate(bound, level="values") == []
    train(bound, tmp_path / "run", config=TrainConfig(budget=Budget(steps=5)))
    config = EvaluateConfig(labels_per_class=1, seeds=(0,), budget=Budget(steps=60))
    result = evaluate(tmp_path / "run", tmp_path / "C.zarr", tmp_path / "T.zarr", config=config)
    assert (result.n_test, result.n_classes) == (108, 27)
    assert result.accuracy > 5 / 27  # five times chance after a few seconds


def naive_accuracy(folder: Path) -> float:
    """Pairing accuracy of standardised raw acc under cosine, by the full matrix."""
    stores = [open_dataset(folder / f"{node}.zarr") for node in "AB"]
    values = np.concatenate([store.load("acc") for store in stores]).astype(np.float64)
    values = (values - values.mean(axis=(0, 1))) / values.std(axis=(0, 1))
    flat = values.reshape(len(values), -1)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    n_first = len(stores[0])
    similarity = flat[:n_first] @ flat[n_first:].T
    labels = [store.column("label") for store in stores]
    right = (labels[1][similarity.argmax(axis=1)] == labels[0]).sum()
    right += (labels[0][similarity.argmax(axis=0)] == labels[1]).sum()
    return float(right / len(flat))


def test_cross_dataset_bound_store(utd: Path, motionsense: Path, tmp_path: Path) -> None:
    """Other rate, other placement, other length: bound by acc, inspected, trained on."""
    small = [tmp_path / "utd.zarr", tmp_path / "ms.zarr"]
    partition(utd, small[0], subjects=["1"])
    partition(motionsense, small[1], subjects=["3"])
    bound = tmp_path / "bound.zarr"
    bind([small[0], small[1]], bound, shared="acc", options=replace(PAPER, steps=20))
    assert validate(bound, level="values") == []
    opened = open_bound(bound)
    assert set(opened.info.modalities) == {"acc", "gyro", "skeleton", "gravity"}
    sources = {store.path.stem: store for store in map(open_dataset, small)}
    assert isinstance(opened.source("motionsense"), Dataset)
    assert opened.info.n_rows["pseudo"] == sum(len(store) for store in sources.values())
    info = train(bound, tmp_path / "run", config=TrainConfig(budget=Budget(steps=3)))
    assert set(info.stretched) == {"motionsense/acc", "motionsense/gyro"}
    assert np.isfinite(info.final_loss or np.nan)
