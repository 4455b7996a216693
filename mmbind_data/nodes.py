"""The zarr.json documents of a store's groups and arrays.

A document is a few lines of JSON that the Zarr v3 specification fixes. Writing them through zarr
costs its import and a turn of its event loop per node, a third of a second for a small store.
What stands here is, byte for byte, what zarr writes (tested), its consolidated metadata included.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .attributes import ATTRIBUTE, ROOT
from .shards import ZSTD_LEVEL, Sharding

Node = Mapping[str, Any]
TYPES = {"<f4": "float32", "<i4": "int32", "<i8": "int64", "|b1": "bool"}


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
    codecs = [
        {"name": "bytes", **endian},
        {"name": "zstd", "configuration": {"level": ZSTD_LEVEL, "checksum": False}},
        {"name": "crc32c"},
    ]
    index = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
    shards = {
        "chunk_shape": [sharding.chunk, *shape[1:]],
        "codecs": codecs,
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
    root: Path,
    attributes: Mapping[str, Any],
    nodes: Mapping[str, Node],
    inner: Sequence[str] = (),
) -> None:
    """Write the documents of a store, and all of them once more into that of its root.

    The copy in the root is zarr's consolidated metadata, a cache: without it, listing a group
    warns of the plain files below meta/.

    Parameters
    ----------
    root : Path
    attributes : mapping
        What the store says about itself.
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
    if node["node_type"] == "array":
        return node
    return {
        "attributes": node["attributes"],
        "zarr_format": 3,
        "consolidated_metadata": {
            "kind": "inline",
            "must_understand": False,
            "metadata": dict(copies),
        },
        "node_type": "group",
    }


def _write(folder: Path, node: Node) -> None:
    (folder / ROOT).write_text(json.dumps(node, indent=2, allow_nan=False))
