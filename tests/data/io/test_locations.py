"""Stores read where they lie in a bucket: a real S3 interface on this machine."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import s3fs

from mmbind_data.errors import FormatError, IntegrityError, UsageError
from mmbind_data.io.locations import locate
from mmbind_data.publishing.verify import verify
from mmbind_data.store.bound import BoundDataset, open_bound, open_store
from mmbind_data.store.dataset import open_dataset
from mmbind_data.store.validation import validate
from mmbind_train.config import Budget, TrainConfig
from mmbind_train.training.pretrain import train


@pytest.fixture
def shelf(bucket: str, bound_store: Path, node_stores: tuple[Path, Path]) -> str:
    """Address of a folder with `bound_store` and its two sources."""
    system = s3fs.S3FileSystem()
    for path in (bound_store, *node_stores):
        system.put(str(path), f"{bucket}/data/{path.name}", recursive=True)
    return f"s3://{bucket}/data"


def test_values_are_those_on_disk(shelf: str, node_stores: tuple[Path, Path]) -> None:
    far, near = open_dataset(f"{shelf}/a.zarr"), open_dataset(node_stores[0])
    assert far.info == near.info
    assert far.samples() == near.samples()
    rows = [3, 0, 7]
    np.testing.assert_array_equal(far.load("acc", rows), near.load("acc", rows))
    assert validate(f"{shelf}/a.zarr", level="values") == []


def test_a_bound_store_finds_its_sources_in_the_bucket(shelf: str, bound_store: Path) -> None:
    assert verify(f"{shelf}/bound.zarr", depth="deep") == []
    bound = open_bound(f"{shelf}/bound.zarr")
    assert str(bound.source("utd-mhad-a").path) == f"{shelf}/a.zarr"
    assert bound.pairs() == open_bound(bound_store).pairs()


def test_training_from_a_bucket_is_training_from_disk(
    shelf: str, bound_store: Path, tmp_path: Path
) -> None:
    config = TrainConfig(budget=Budget(steps=2))
    far = train(f"{shelf}/bound.zarr", tmp_path / "far", config=config)
    assert far.final_loss == train(bound_store, tmp_path / "near", config=config).final_loss
    assert far.data.path == f"{shelf}/bound.zarr"


def test_damage_in_a_bucket_is_seen(shelf: str, bucket: str) -> None:
    system = s3fs.S3FileSystem()
    (shard,) = system.glob(f"{bucket}/data/a.zarr/modalities/acc/data/c/0/0/0")
    content = bytearray(system.cat_file(shard))
    content[len(content) // 2] ^= 1
    system.pipe_file(shard, bytes(content))
    codes = [one.code for one in validate(f"{shelf}/a.zarr", level="bytes")]
    assert codes == ["file-changed"]
    system.rm_file(shard)
    with pytest.raises(IntegrityError, match="a file is missing"):
        open_dataset(f"{shelf}/a.zarr").load("acc")


def test_what_is_not_there_is_told(shelf: str) -> None:
    with pytest.raises(FormatError, match=r"not a store of mmbind .*got nothing"):
        open_store(f"{shelf}/c.zarr")
    with pytest.raises(FormatError, match="not a store of mmbind"):
        open_store("s3://no-such-bucket/c.zarr")


def test_a_service_that_does_not_answer(monkeypatch: pytest.MonkeyPatch, bucket: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    begin = time.monotonic()
    with pytest.raises(FormatError, match=r"no answer from the service.*AWS_ENDPOINT_URL"):
        open_store(f"s3://{bucket}/a.zarr")
    assert time.monotonic() - begin < 30


@pytest.mark.parametrize(
    "address", ["s3://", "s3:///a", "s3://b/a//c", "s3://b/../c", "s3://key:secret@b/c"]
)
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(UsageError, match="address of S3") as caught:
        locate(address)
    assert "secret" not in str(caught.value)


def test_paths_on_disk_stay_paths(bound_store: Path) -> None:
    assert locate(str(bound_store)) == bound_store
    assert isinstance(open_store(bound_store), BoundDataset)
