"""zarr.json documents are those that zarr would write."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec

from mmbind_data.store.zarr_format import ZSTD_LEVEL, Sharding, array_node, group_node, write_nodes

ARRAYS: dict[str, Any] = {
    "label": ((10,), "<i4", -1, ("sample",), {"names": ["sitting", "Stiegen ↑", 'a "b"']}),
    "modalities/acc/data": ((10, 4, 3), "<f4", np.nan, ("sample", "time", "channel"), {}),
    "modalities/acc/valid": ((10,), "|b1", False, ("sample",), {}),
    "modalities/radar/offsets": ((11,), "<i8", -1, ("sample_edge",), {}),
}
GROUPS: dict[str, dict[str, Any]] = {
    "meta": {},
    "modalities": {},
    "modalities/acc": {"unit": "m/s^2"},
    "modalities/radar": {},
}
ATTRIBUTES: dict[str, Any] = {"spec": "mmbind-dataset", "n": 1.5, "nothing": None, "text": "Grüße"}


def by_zarr(root: Path) -> None:
    group = zarr.create_group(root)
    for path, attributes in GROUPS.items():
        group.create_group(path, attributes=attributes)
    for path, (shape, dtype, fill, dimensions, attributes) in ARRAYS.items():
        group.create_array(
            path,
            shape=shape,
            dtype=dtype,
            chunks=(2, *shape[1:]),
            shards=(4, *shape[1:]),
            compressors=[ZstdCodec(level=ZSTD_LEVEL), Crc32cCodec()],
            fill_value=fill,
            dimension_names=dimensions,
            attributes=attributes,
        )
    group.attrs["mmbind"] = ATTRIBUTES
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # consolidated metadata stands outside the specification
        zarr.consolidate_metadata(root)


def test_documents_are_those_of_zarr(tmp_path: Path) -> None:
    by_zarr(tmp_path / "zarr")
    nodes = {path: group_node(attributes) for path, attributes in GROUPS.items()}
    for path, (shape, dtype, fill, dimensions, attributes) in ARRAYS.items():
        nodes[path] = array_node(shape, dtype, Sharding(2, 4, fill), dimensions, attributes)
    write_nodes(tmp_path / "ours", ATTRIBUTES, nodes)
    found = {
        name: {
            path.relative_to(tmp_path / name).as_posix(): path.read_text()
            for path in (tmp_path / name).rglob("*")
            if path.is_file()
        }
        for name in ("zarr", "ours")
    }
    assert found["ours"] == found["zarr"]
    assert len(found["ours"]) == 1 + len(GROUPS) + len(ARRAYS)


def test_a_document_is_json_that_others_can_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_nodes(tmp_path, {"x": float("nan")}, {})
