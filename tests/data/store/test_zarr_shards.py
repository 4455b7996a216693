"""Shards are those that zarr would write, however many threads encode them."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.codecs import Crc32cCodec, ZstdCodec

from mmbind_data.store.zarr_format import ZSTD_LEVEL, Sharding, ShardQueue, encode_shard, shard_path

FILL = {"<f4": np.nan, "<i4": -1, "<i8": -1, "|b1": False}


def zarr_array(
    root: Path, values: np.ndarray, sharding: Sharding, *, fill: float
) -> zarr.Array[Any]:
    array: zarr.Array[Any] = zarr.create_array(
        root / "a",
        shape=values.shape,
        dtype=values.dtype,
        chunks=(sharding.chunk, *values.shape[1:]),
        shards=(sharding.shard, *values.shape[1:]),
        compressors=[ZstdCodec(level=ZSTD_LEVEL), Crc32cCodec()],
        fill_value=fill,
        config={"write_empty_chunks": True},
        overwrite=True,
    )
    return array


@settings(max_examples=60, deadline=None)
@given(
    n_rows=st.integers(1, 70),
    row_shape=st.sampled_from([(), (3,), (5, 2), (1, 1, 2)]),
    dtype=st.sampled_from(sorted(FILL)),
    chunk=st.integers(1, 9),
    n_chunks=st.integers(1, 8),
    empty=st.booleans(),
)
def test_bytes_are_those_of_zarr(
    tmp_path_factory: pytest.TempPathFactory,
    n_rows: int,
    row_shape: tuple[int, ...],
    dtype: str,
    chunk: int,
    n_chunks: int,
    empty: bool,
) -> None:
    root = tmp_path_factory.getbasetemp() / "shards"
    rng = np.random.default_rng(n_rows)
    values = (rng.normal(size=(n_rows, *row_shape)) * 100).astype(dtype)
    if empty:
        values[:] = FILL[dtype]
    sharding = Sharding(chunk, chunk * n_chunks, FILL[dtype])
    zarr_array(root, values, sharding, fill=FILL[dtype])[:] = values
    for index, start in enumerate(range(0, n_rows, sharding.shard)):
        parts = encode_shard(values[start : start + sharding.shard], sharding)
        path = root / shard_path("a", index, values.ndim)
        assert b"".join(parts) == path.read_bytes()


@pytest.mark.parametrize("n_threads", [1, 3])
def test_queued_shards_read_back_and_are_known_by_their_digests(
    tmp_path: Path, n_threads: int
) -> None:
    values = np.arange(1000 * 4, dtype="<f4").reshape(1000, 4)
    sharding = Sharding(8, 64, np.nan)
    array = zarr_array(tmp_path, values, sharding, fill=np.nan)
    with ThreadPoolExecutor(n_threads) as pool:
        queue = ShardQueue(tmp_path, pool, n_threads)
        for index, start in enumerate(range(0, 1000, 64)):
            queue.put(shard_path("a", index, 2), values[start : start + 64], sharding)
        queue.drain()
    np.testing.assert_array_equal(array[:], values)
    assert [entry.path for entry in queue.written] == [f"a/c/{index}/0" for index in range(16)]
    for entry in queue.written:
        content = (tmp_path / entry.path).read_bytes()
        assert (entry.bytes, entry.sha256) == (len(content), hashlib.sha256(content).hexdigest())


def test_a_failure_in_a_thread_reaches_the_caller(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a file where a folder has to be")
    with ThreadPoolExecutor(1) as pool:
        queue = ShardQueue(tmp_path, pool, 1)
        queue.put("a/c/0", np.zeros(3, dtype="<f4"), Sharding(4, 4, np.nan))
        with pytest.raises(NotADirectoryError):
            queue.drain()
