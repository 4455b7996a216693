"""Bundles for tests, and naive ways to look into them."""

from __future__ import annotations

import base64
import json
import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zarr

from mmbind_data.io.digests import BUNDLE_OWN, file_entry
from mmbind_data.publishing.publish import publish
from mmbind_data.publishing.upload import open_destination, upload
from mmbind_data.spec.bundle import BundleInfo
from mmbind_data.store.bound import open_bound
from mmbind_train.data.training_set import TrainingSet

BLOCK = 32
LEAST_DISTINCT = 8  # a run of zeros is nobody's data


def write_permission(path: Path, source: str, licence: str | None = None) -> Path:
    document = {
        "source": source,
        "granted_by": "The Owner",
        "date": "2026-03-01",
        "text": "You may pass on what you make of it.",
    }
    path.write_text(json.dumps({**document, "licence": licence} if licence else document))
    return path


def make_bundle(bound: Path, out: Path, *, allowed: bool, **options: object) -> BundleInfo:
    """Publish; ``allowed``: with a permission for every dataset."""
    names = {source.dataset_id for source in open_bound(bound).info.sources} if allowed else ()
    permissions = [
        write_permission(out.parent / f"permission-{name}.json", name, "CC-BY-4.0")
        for name in sorted(names)
    ]
    return publish(bound, out, permissions=permissions, **options)  # type: ignore[arg-type]


def send(bundle: Path, address: str, *, overwrite: bool = False) -> None:
    """Upload a bundle that is a folder."""
    entries = [file_entry(bundle, name) for name in contents(bundle)]
    assert {entry.path for entry in entries} > set(BUNDLE_OWN)
    upload(bundle, entries, open_destination(address), overwrite=overwrite)


def contents(folder: Path) -> dict[str, bytes]:
    """All files of a folder by name."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def assert_same_samples(rows: TrainingSet, wanted: TrainingSet) -> None:
    """The same values in each training row, wherever their stores hold them."""
    np.testing.assert_array_equal(rows.index >= 0, wanted.index >= 0)
    for column, name in enumerate(wanted.modalities):
        there = wanted.index[:, column] >= 0
        np.testing.assert_array_equal(
            rows.values[name][rows.index[there, column]],
            wanted.values[name][wanted.index[there, column]],
        )


def streams(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every byte below a folder, and every byte again as programs decode it."""
    for name, content in contents(folder).items():
        yield name, content
        if name.endswith(".parquet"):
            table = pq.read_table(pa.BufferReader(content))
            for column in table.column_names:
                for chunk in table[column].chunks:
                    for buffer in (one for one in chunk.buffers() if one is not None):
                        yield f"{name} {column}", buffer.to_pybytes()
        for number, text in enumerate(re.findall(rb"base64,([A-Za-z0-9+/=]+)", content)):
            yield f"{name} data {number}", base64.b64decode(text)
    for path in sorted(folder.rglob("zarr.json")):
        if json.loads(path.read_text())["node_type"] == "array":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                array = zarr.open_array(path.parent, mode="r")
            name = path.parent.relative_to(folder).as_posix()
            yield f"{name} decoded", np.asarray(array[...]).tobytes()


@dataclass(frozen=True)
class Blocks:
    """Blocks of source data: whatever shares 64 bytes in a row with it holds one of them."""

    whole: frozenset[bytes]
    heads: np.ndarray  # the first eight bytes of each, ascending

    def __len__(self) -> int:
        return len(self.whole)

    def offsets(self, stream: bytes) -> list[int]:
        """Where a stream holds a block, whatever the alignment."""
        found = []
        for shift in range(8):
            end = len(stream) - (len(stream) - shift) % 8
            words = np.frombuffer(stream[shift:end], dtype="<u8")
            place = np.searchsorted(self.heads, words).clip(max=len(self.heads) - 1)
            for at in (np.flatnonzero(self.heads[place] == words) * 8 + shift).tolist():
                if stream[at : at + BLOCK] in self.whole:
                    found.append(at)
        return sorted(found)


def blocks_of(pieces: Iterable[bytes]) -> Blocks:
    """Cut data into blocks; those of few distinct bytes, such as zeros, are nobody's."""
    found: set[bytes] = set()
    for piece in pieces:
        rows = np.frombuffer(piece[: len(piece) // BLOCK * BLOCK], np.uint8).reshape(-1, BLOCK)
        distinct = 1 + (np.diff(np.sort(rows, axis=1), axis=1) != 0).sum(axis=1)
        found.update(row.tobytes() for row in rows[distinct >= LEAST_DISTINCT])
    heads = np.unique(np.frombuffer(b"".join(one[:8] for one in found), dtype="<u8"))
    return Blocks(frozenset(found), heads)
