"""Publish, verify, hydrate, train: UTD-MHAD with MotionSense, on real bytes of a few people."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from bundles import blocks_of, make_bundle, streams

from mmbind_data.binding.bind import bind
from mmbind_data.conversion.convert import convert
from mmbind_data.publishing.hydrate import hydrate
from mmbind_data.publishing.verify import verify
from mmbind_data.store.bound import open_bound
from mmbind_data.store.dataset import open_dataset
from mmbind_data.store.differences import diff
from mmbind_train.config import Budget, TrainConfig
from mmbind_train.training.pretrain import train

pytestmark = pytest.mark.realdata
SHORT = TrainConfig(budget=Budget(steps=3))


@pytest.fixture(scope="module")
def home(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A machine that has both datasets' stores, and binds them."""
    root = tmp_path_factory.mktemp("home")
    kept = ["acc", "gyro", "skeleton"]
    convert("utd-mhad", real_data / "utd-mhad", root / "utd.zarr", subjects=["1"], modalities=kept)
    convert("motionsense", real_data / "motionsense", root / "ms.zarr", subjects=["3"])
    bind([root / "utd.zarr", root / "ms.zarr"], root / "bound.zarr", shared="acc")
    return root


@pytest.mark.parametrize("allowed", [False, True])
def test_round_trip_of_real_data(home: Path, tmp_path: Path, allowed: bool) -> None:
    original = open_bound(home / "bound.zarr")
    info = make_bundle(home / "bound.zarr", tmp_path / "bundle", allowed=allowed)
    # neither dataset's licence says that its data may be passed on
    assert info.mode == ("self-contained" if allowed else "index-only")
    assert [one.licence.redistribution for one in info.sources] == ["unknown", "unknown"]
    assert verify(tmp_path / "bundle", depth="values") == []
    # another machine: other folders, more people, in another order
    away = tmp_path / "away" / "data"
    away.mkdir(parents=True)
    shutil.copytree(home / "utd.zarr", away / "mhad.zarr")
    shutil.copytree(home / "ms.zarr", away / "motion.zarr")
    places = {"utd-mhad": away / "mhad.zarr", "motionsense": away / "motion.zarr"}
    hydrated = tmp_path / "away" / "work" / "bound.zarr"
    assert hydrate(tmp_path / "bundle", hydrated, places).content_digest == info.content_digest
    assert info.content_digest == original.info.content_digest
    assert verify(hydrated, depth="deep") == []
    assert diff(hydrated, home / "bound.zarr") == diff(tmp_path / "bundle", hydrated) == []
    stores = [home / "bound.zarr", hydrated] + [tmp_path / "bundle/bound.zarr"] * allowed
    losses = [
        train(store, tmp_path / f"run{number}", config=SHORT).final_loss
        for number, store in enumerate(stores)
    ]
    assert len(set(losses)) == 1
    assert np.isfinite(losses[0] or np.nan)


def test_no_real_byte_is_in_an_index_only_bundle(home: Path, tmp_path: Path) -> None:
    make_bundle(home / "bound.zarr", tmp_path / "bundle", allowed=False)
    stores = [open_dataset(home / name) for name in ("utd.zarr", "ms.zarr")]
    blocks = blocks_of(s.load(name).tobytes() for s in stores for name in s.info.modalities)
    assert len(blocks) > 30_000
    for name, stream in streams(tmp_path / "bundle"):
        assert blocks.offsets(stream) == [], name
