"""Write a converted store shard by shard; its digest is computed from the written values."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmbind_data.io.digests import (
    ArrayDigest,
    canonical_json,
    content_digest,
    table_line,
    write_manifest,
)
from mmbind_data.signal.point_clouds import RaggedPoints
from mmbind_data.spec.bundle import ManifestEntry
from mmbind_data.spec.store import DatasetInfo
from mmbind_data.store.dataset import META, RAW_FILES, SAMPLES, data_path, point_paths, valid_path
from mmbind_data.store.zarr_format import (
    Node,
    Sharding,
    ShardQueue,
    array_node,
    group_node,
    shard_path,
    write_nodes,
)

if TYPE_CHECKING:
    import pyarrow as pa


MIN_CHUNK_BYTES = 128 << 10
MAX_CHUNK_ROWS = 1024
MAX_SHARD_BYTES = 32 << 20
MAX_THREADS = 4  # each holds a shard and what it is encoded to


@dataclass(frozen=True)
class StoreContent:
    """The whole content of a converted store.

    Attributes
    ----------
    info : DatasetInfo
        Complete except for ``content_digest``.
    columns : mapping of str to (ndarray of int32, shape (n_samples,); names)
        Coded columns, -1 = unknown.
    samples, raw_files : pyarrow.Table
    present : mapping of modality to ndarray of bool, shape (n_samples,)
    blocks : callable
        Yields a modality's rows in order: arrays of shape (any, *shape), NaN where absent; of a
        point cloud `RaggedPoints`, without points where absent.
    documents : mapping of path to JSON value
    n_points : mapping of point cloud modality to int
        Points in all its rows.
    """

    info: DatasetInfo
    columns: Mapping[str, tuple[np.ndarray, tuple[str, ...]]]
    samples: pa.Table
    raw_files: pa.Table
    present: Mapping[str, np.ndarray]
    blocks: Callable[[str], Iterator[np.ndarray | RaggedPoints]]
    documents: Mapping[str, Any]
    n_points: Mapping[str, int] = field(default_factory=dict)


def write_store(
    root: Path,
    content: StoreContent,
    *,
    threads: int = 1,
    progress: Callable[[str], None] | None = None,
) -> DatasetInfo:
    """Write a converted store into an empty folder.

    Parameters
    ----------
    root : Path
        Created if needed; the caller stages and renames it.
    content : StoreContent
    threads : int
        Shards to encode at a time, while this thread reads and hashes; the bytes are the same.
    progress : callable, optional
        Called with the name of each modality before it is written.

    Returns
    -------
    DatasetInfo
        ``content.info`` with its content digest.
    """
    nodes: dict[str, Node] = {"modalities": group_node(), META: group_node()}
    (root / META).mkdir(parents=True)
    threads = min(threads, MAX_THREADS)
    with ThreadPoolExecutor(threads) as pool:
        queue = ShardQueue(root, pool, threads)
        lines = _write_arrays(nodes, queue, content, progress)
        queue.drain()
    lines.append(table_line(SAMPLES, content.samples.to_pydict()))
    write_table(root / SAMPLES, content.samples)
    write_table(root / RAW_FILES, content.raw_files)
    for path, value in content.documents.items():
        (root / path).write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")
    complete = content.info.model_copy(update={"content_digest": content_digest(lines)})
    finish_store(root, complete.model_dump(mode="json"), nodes, known=queue.written)
    return complete


def _write_arrays(
    nodes: dict[str, Node],
    queue: ShardQueue,
    content: StoreContent,
    progress: Callable[[str], None] | None,
) -> list[str]:
    """Write the coded columns and all modalities; return the digest lines."""
    info, n_samples = content.info, content.info.n_samples
    write = partial(_write_array, nodes, queue)
    lines = list(digest_facts(info, {name: names for name, (_, names) in content.columns.items()}))
    for name, (codes, names) in content.columns.items():
        attributes = {"names": list(names)}
        lines.append(write(name, "<i4", (), ("sample",), [codes], n_samples, attributes))
    for name, modality in info.modalities.items():
        if progress:
            progress(name)
        nodes[f"modalities/{name}"] = group_node(
            modality.model_dump(mode="json", exclude_none=True)
        )
        if modality.ragged:
            lines += _write_points(write, name, content)
        else:
            dimensions = ("sample", *(axis.name for axis in modality.axes))
            blocks: Iterator[Any] = content.blocks(name)
            units, path, shape = {"units": modality.unit}, data_path(name), modality.shape
            lines.append(write(path, "<f4", shape, dimensions, blocks, n_samples, units))
        mask = [content.present[name]]
        lines.append(write(valid_path(name), "|b1", (), ("sample",), mask, n_samples))
    return lines


def _write_points(write: Callable[..., str], name: str, content: StoreContent) -> Iterator[str]:
    """Write a point cloud: all points, and the offsets of samples and frames among them."""
    n_frames, n_features = content.info.modalities[name].shape
    values, offsets, frames = point_paths(name)
    edges: list[np.ndarray] = []

    def points() -> Iterator[np.ndarray]:
        for clouds in content.blocks(name):
            if isinstance(clouds, RaggedPoints):
                edges.append(clouds.frame_offsets)
                yield clouds.values

    # no attribute of units: the numbers of a point need not share one
    dimensions = ("point", "channel")
    yield write(values, "<f4", (n_features,), dimensions, points(), content.n_points[name])
    frame_offsets = np.concatenate(edges)
    starts, n = np.concatenate([[0], np.cumsum(frame_offsets[:, -1])]), len(frame_offsets)
    yield write(offsets, "<i8", (), ("sample_edge",), [starts], n + 1)
    yield write(frames, "<i8", (n_frames + 1,), ("sample", "frame_edge"), [frame_offsets], n)


def finish_store(
    root: Path,
    attributes: Mapping[str, Any],
    nodes: Mapping[str, Node],
    *,
    known: Iterable[ManifestEntry] = (),
    inner: Sequence[str] = (),
) -> None:
    """Write the documents of the root, the groups and the arrays, and the manifest.

    ``known`` are files whose digests were computed while they were written, ``inner`` are stores
    within this one.
    """
    write_nodes(root, attributes, nodes, inner)
    write_manifest(root, known)


def write_table(path: Path, table: pa.Table) -> None:
    """Write a Parquet file whose bytes depend on its values alone."""
    import pyarrow.parquet as pq

    pq.write_table(table, path, compression="zstd", compression_level=3, use_dictionary=True)


def chunk_rows(row_bytes: int) -> int:
    """Rows per chunk: the smallest power of two with >= 128 KiB, within 1..1024.

    >>> chunk_rows(1200), chunk_rows(4), chunk_rows(1 << 20)
    (128, 1024, 1)
    """
    rows = 1
    while rows < MAX_CHUNK_ROWS and rows * row_bytes < MIN_CHUNK_BYTES:
        rows *= 2
    return rows


def shard_rows(row_bytes: int, n_rows: int) -> int:
    """Rows per shard: the rows of a chunk doubled up to 32 MiB or to the end of the array."""
    rows = chunk_rows(row_bytes)
    while rows * 2 * row_bytes <= MAX_SHARD_BYTES and rows < n_rows:
        rows *= 2
    return rows


def _write_array(
    nodes: dict[str, Node],
    queue: ShardQueue,
    path: str,
    dtype: str,
    row_shape: tuple[int, ...],
    dimensions: tuple[str, ...],
    blocks: Iterable[np.ndarray],
    n_rows: int,
    attributes: Mapping[str, Any] | None = None,
) -> str:
    """Create one array and fill it whole shards at a time; return its digest line."""
    row_bytes = max(1, int(np.prod(row_shape))) * np.dtype(dtype).itemsize
    fill = {"f": np.nan, "i": -1, "b": False}[np.dtype(dtype).kind]
    sharding = Sharding(chunk_rows(row_bytes), shard_rows(row_bytes, n_rows), fill)
    shape = (n_rows, *row_shape)
    nodes[path] = array_node(shape, dtype, sharding, dimensions, attributes or {})
    digest = ArrayDigest(dtype, row_shape)
    start = 0
    for index, rows in enumerate(regroup(blocks, sharding.shard)):
        canonical = np.asarray(rows, dtype=dtype)
        queue.put(shard_path(path, index, len(shape)), canonical, sharding)
        digest.update(canonical)
        start += len(rows)
    if start != n_rows:
        message = f"{path}: {start} rows given, {n_rows} announced"
        raise ValueError(message)
    return digest.line(path)


def regroup(blocks: Iterable[np.ndarray], n: int) -> Iterator[np.ndarray]:
    """Join and split blocks of rows into blocks of exactly ``n`` rows; the last may be shorter."""
    held: list[np.ndarray] = []
    n_held = 0
    for block in blocks:
        rest = block
        while n_held + len(rest) >= n:
            take = n - n_held
            yield np.concatenate([*held, rest[:take]])
            held, n_held, rest = [], 0, rest[take:]
        if len(rest):
            held.append(rest)
            n_held += len(rest)
    if held:
        yield np.concatenate(held)


def digest_facts(info: DatasetInfo, names: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
    """Lines of the content digest for the meaning of the numbers."""
    facts = info.model_dump(
        mode="json", include={"dataset_id", "dataset_version", "preset", "modalities"}
    )
    for modality in facts["modalities"].values():
        if modality["classes"] is None:  # added later: digests of older stores must not change
            del modality["classes"]
    yield f"facts {canonical_json(facts)}"
    for column, texts in names.items():
        yield f"names {column} {canonical_json(texts)}"
