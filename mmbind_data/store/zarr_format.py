"""Write Zarr: the zarr.json documents of groups and arrays, and the shards of arrays.

The files are, byte for byte, those that zarr writes (tested), its consolidated metadata included.
Writing them through zarr takes its import, 0.35 s, and 1.4 to 2.5 times as long: `mmbind convert`
of a small dataset would take a quarter more time.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmbind_data.spec.bundle import ManifestEntry
from mmbind_data.store.root import ATTRIBUTE, ROOT

Node = Mapping[str, Any]
TYPES = {"<f4": "float32", "<i4": "int32", "<i8": "int64", "|b1": "bool"}
# on real inertial data level 3 saves 3.6 % of the bytes and takes four times as long
ZSTD_LEVEL = 1
NOT_THERE = 2**64 - 1  # offset and length of a chunk wholly beyond the end of the array


@dataclass(frozen=True)
class Sharding:
    """How the rows of an array are divided: ``chunk`` rows a chunk, ``shard`` rows a file."""

    chunk: int
    shard: int
    fill: float | int | bool


def group_node(attributes: Mapping[str, Any] | None = None) -> Node:
    """Document of a group."""
    return {"attributes": dict(attributes or {}), "zarr_format": 3, "node_type": "group"}


def array_node(
    shape: tuple[int, ...],
    dtype: str,
    sharding: Sharding,
    dimensions: tuple[str, ...],
    attributes: Mapping[str, Any],
) -> Node:
    """Document of a sharded array that is cut along its first axis.

    Parameters
    ----------
    shape : tuple of int
    dtype : str
        Little-endian numpy type, one of `TYPES`.
    sharding : Sharding
    dimensions : tuple of str
        A name for each axis.
    attributes : mapping
    """
    endian = {"configuration": {"endian": "little"}} if np.dtype(dtype).itemsize > 1 else {}
    zstd = {"name": "zstd", "configuration": {"level": ZSTD_LEVEL, "checksum": False}}
    index = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
    shards = {
        "chunk_shape": [sharding.chunk, *shape[1:]],
        "codecs": [{"name": "bytes", **endian}, zstd, {"name": "crc32c"}],
        "index_codecs": index,
        "index_location": "end",
    }
    grid = {"chunk_shape": [sharding.shard, *shape[1:]]}
    return {
        "shape": list(shape),
        "data_type": TYPES[dtype],
        "chunk_grid": {"name": "regular", "configuration": grid},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": "NaN" if sharding.fill != sharding.fill else sharding.fill,
        "codecs": [{"name": "sharding_indexed", "configuration": shards}],
        "attributes": dict(attributes),
        "dimension_names": list(dimensions),
        "zarr_format": 3,
        "node_type": "array",
        "storage_transformers": [],
    }


def write_nodes(
    root: Path, attributes: Mapping[str, Any], nodes: Mapping[str, Node], inner: Sequence[str] = ()
) -> None:
    """Write the documents of a store, and all of them once more into that of its root.

    The copy in the root is zarr's consolidated metadata, a cache: without it, listing a group
    warns of the plain files below meta/.

    Parameters
    ----------
    root : Path
    attributes : mapping
        Attributes of the store.
    nodes : mapping of path to document
        All groups and arrays below the root.
    inner : sequence of str
        Paths of whole stores below the root, which are written already.
    """
    for path, node in nodes.items():
        (root / path).mkdir(parents=True, exist_ok=True)
        _write(root / path, node)
    nodes = {**nodes, **{path: node for store in inner for path, node in _read(root, store)}}
    paths = sorted(nodes, key=lambda path: (path.count("/"), path))
    copies = {path: _consolidated(nodes[path], {}) for path in paths}
    _write(root, _consolidated(group_node({ATTRIBUTE: dict(attributes)}), copies))


def _read(root: Path, store: str) -> Iterator[tuple[str, Node]]:
    """Documents of a store below the root."""
    for place in sorted((root / store).rglob(ROOT)):
        node = json.loads(place.read_text())
        node.pop("consolidated_metadata", None)
        yield place.parent.relative_to(root).as_posix(), node


def _consolidated(node: Node, copies: Mapping[str, Node]) -> Node:
    """A document as consolidated metadata holds it: that of a group with those below it."""
    if node["node_type"] == "array":
        return node
    metadata = {"kind": "inline", "must_understand": False, "metadata": dict(copies)}
    # in the order of zarr
    inner = {"zarr_format": 3, "consolidated_metadata": metadata, "node_type": "group"}
    return {"attributes": node["attributes"], **inner}


def _write(folder: Path, node: Node) -> None:
    (folder / ROOT).write_text(json.dumps(node, indent=2, allow_nan=False))


def encode_shard(rows: np.ndarray, sharding: Sharding) -> list[bytes]:
    """Encode the rows of one shard.

    Parameters
    ----------
    rows : ndarray, shape (n, ...), n <= sharding.shard
        Little-endian. The last shard of an array may have fewer rows.
    sharding : Sharding

    Returns
    -------
    list of bytes
        Parts of the file, in order.
    """
    import google_crc32c
    from numcodecs.zstd import Zstd

    zstd = Zstd(level=ZSTD_LEVEL)
    parts: list[bytes] = []
    index: list[int] = []
    offset = 0
    for start in range(0, len(rows), sharding.chunk):
        chunk = np.ascontiguousarray(rows[start : start + sharding.chunk])
        if len(chunk) < sharding.chunk:
            filled = np.full((sharding.chunk, *rows.shape[1:]), sharding.fill, dtype=rows.dtype)
            filled[: len(chunk)] = chunk
            chunk = filled
        packed = zstd.encode(chunk)
        parts += [packed, struct.pack("<I", google_crc32c.value(packed))]
        index += [offset, len(packed) + 4]
        offset += len(packed) + 4
    n_entries = 2 * (sharding.shard // sharding.chunk)
    index += [NOT_THERE] * (n_entries - len(index))
    table = struct.pack(f"<{n_entries}Q", *index)
    return [*parts, table, struct.pack("<I", google_crc32c.value(table))]


class ShardQueue:
    """Encodes and writes shards in threads while the caller reads and hashes the next rows.

    Parameters
    ----------
    root : Path
        The store.
    threads : ThreadPoolExecutor
    n_threads : int
        Shards encoded at a time; one more waits, which bounds the memory.
    """

    def __init__(self, root: Path, threads: ThreadPoolExecutor, n_threads: int) -> None:
        self._root, self._threads, self._n_threads = root, threads, n_threads
        self._waiting: deque[Future[ManifestEntry]] = deque()
        self.written: list[ManifestEntry] = []

    def put(self, path: str, rows: np.ndarray, sharding: Sharding) -> None:
        """Hand over the rows of the file at ``path``; waits while too many are under way."""
        self.drain(self._n_threads)
        self._waiting.append(self._threads.submit(_write_shard, self._root, path, rows, sharding))

    def drain(self, n_left: int = 0) -> None:
        """Wait until at most ``n_left`` shards are under way; raise what went wrong."""
        while len(self._waiting) > n_left:
            self.written.append(self._waiting.popleft().result())


def shard_path(array: str, index: int, n_axes: int) -> str:
    """Path of a shard in the store, by zarr's default chunk keys; only the first axis is cut.

    >>> shard_path("modalities/acc/data", 2, 3)
    'modalities/acc/data/c/2/0/0'
    """
    return "/".join([array, "c", str(index), *["0"] * (n_axes - 1)])


def _write_shard(root: Path, path: str, rows: np.ndarray, sharding: Sharding) -> ManifestEntry:
    digest = hashlib.sha256()
    parts = encode_shard(rows, sharding)
    for part in parts:
        digest.update(part)
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as stream:
        stream.writelines(parts)
    return ManifestEntry(path=path, bytes=sum(map(len, parts)), sha256=digest.hexdigest())
