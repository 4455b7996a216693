"""Check a store on four levels: meta, structure, bytes, values. Each includes those before it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from mmbind_data.errors import Finding, IntegrityError, UsageError, suggest
from mmbind_data.io.digests import MANIFEST, SUMS, file_digest, manifest_lines, store_files
from mmbind_data.spec.bundle import Manifest
from mmbind_data.spec.descriptor import Descriptor
from mmbind_data.spec.store import SAMPLE_COLUMNS
from mmbind_data.spec.validation_messages import fault_text
from mmbind_data.store.bound import BoundDataset, open_store
from mmbind_data.store.dataset import (
    CODED_COLUMNS,
    DESCRIPTOR,
    PROVENANCE,
    RAW_FILES,
    SAMPLES,
    Dataset,
    data_path,
    point_paths,
    valid_path,
)
from mmbind_data.store.validation_bound import check_bound_values, check_pairs_structure
from mmbind_data.store.validation_values import check_values

LEVELS = ("meta", "structure", "bytes", "values")


def validate(
    path: str | Path, *, level: str = "structure", sources: Mapping[str, str | Path] | None = None
) -> list[Finding]:
    """Find everything that is wrong with a store.

    Parameters
    ----------
    path : path
    level : {"meta", "structure", "bytes", "values"}
        meta: documents; structure: arrays, shapes, tables, files; bytes: sha256 of every file;
        values: every value is decoded, masks, codes and the content digest are checked.
    sources : mapping of source id to path, optional
        Current locations of sources of a bound store that have moved.

    Returns
    -------
    list of Finding
        Empty if nothing is wrong.

    Raises
    ------
    UsageError
        Unknown level.
    FormatError
        There is no store at all.

    Examples
    --------
    >>> validate("utd-mhad.zarr", level="values")  # doctest: +SKIP
    []
    """
    if level not in LEVELS:
        what, known, fix = "unknown level", ", ".join(LEVELS), suggest(level, LEVELS)
        raise UsageError(
            cannot="validate", problem=what, at="--level", expected=known, got=repr(level), fix=fix
        )
    store = open_store(path, sources=sources)
    findings: list[Finding] = []
    checks = (_check_meta, _check_structure, _check_bytes, _check_values)
    for check in checks[: LEVELS.index(level) + 1]:
        findings += check(store)
        if any(found.severity == "error" for found in findings):
            break  # deeper checks would only repeat the same finding in other words
    return findings


def _check_meta(store: Dataset | BoundDataset) -> Iterator[Finding]:
    documents: dict[str, Callable[[bytes], object]] = {
        MANIFEST: Manifest.model_validate_json,
        PROVENANCE: json.loads,
    }
    if isinstance(store, Dataset):
        documents[DESCRIPTOR] = Descriptor.model_validate_json
    for name, parse in documents.items():
        path = store.path / name
        if not path.is_file():
            yield Finding("meta-missing", name, "document missing")
            continue
        try:
            parse(path.read_bytes())
        except ValueError as error:
            yield Finding("meta-invalid", name, fault_text(error))


def _check_structure(store: Dataset | BoundDataset) -> Iterator[Finding]:
    manifest = Manifest.model_validate_json((store.path / MANIFEST).read_text())
    listed = {entry.path: entry.bytes for entry in manifest.files}
    found = set(store_files(store.path))
    for path in sorted(listed.keys() - found):
        yield Finding("file-missing", path, "listed in the manifest, but not there")
    for path in sorted(found - listed.keys()):
        yield Finding("file-unknown", path, "not listed in the manifest", "Remove it.")
    for path in sorted(found & listed.keys()):
        size = (store.path / path).stat().st_size
        if size != listed[path]:
            yield Finding("file-size", path, f"{size} bytes, manifest says {listed[path]}")
    sums, lines = store.path / SUMS, manifest_lines(manifest.files).encode()
    whole = sums.is_file() and sums.read_bytes() == lines
    if not whole or hashlib.sha256(lines).hexdigest() != manifest.tree_sha256:
        yield Finding("manifest-differs", SUMS, "differs from MANIFEST.json")
    if listed.keys() == found:
        if isinstance(store, BoundDataset):
            yield from check_pairs_structure(store)
        else:
            yield from _check_arrays(store)


def _check_arrays(store: Dataset) -> Iterator[Finding]:
    import zarr

    expected: dict[str, tuple[str, tuple[str, ...], tuple[int, ...]]] = {
        name: ("int32", ("sample",), (len(store),)) for name in CODED_COLUMNS
    }
    for name, modality in store.info.modalities.items():
        expected[valid_path(name)] = ("bool", ("sample",), (len(store),))
        if modality.ragged:
            n_frames, n_features = modality.shape
            values, offsets, frames = point_paths(name)
            expected[values] = ("float32", ("point", "channel"), (-1, n_features))
            expected[offsets] = ("int64", ("sample_edge",), (len(store) + 1,))
            expected[frames] = ("int64", ("sample", "frame_edge"), (len(store), n_frames + 1))
        else:
            dimensions = ("sample", *(axis.name for axis in modality.axes))
            expected[data_path(name)] = ("float32", dimensions, (len(store), *modality.shape))
    for path, (dtype, dimensions, shape) in expected.items():
        array = store.group.get(path)
        if not isinstance(array, zarr.Array):
            yield Finding("array-missing", path, "array missing")
            continue
        names = getattr(array.metadata, "dimension_names", None)
        got = (str(array.dtype), names, array.shape)
        if dimensions[0] == "point":  # their number is free
            shape = (array.shape[0], *shape[1:])
        if got != (dtype, dimensions, shape):
            yield Finding("array-shape", path, f"expected {(dtype, dimensions, shape)}, got {got}")
    try:
        table = store.samples()
    except IntegrityError as error:
        yield Finding("table-unreadable", SAMPLES, str(error))
        return
    missing = [name for name in SAMPLE_COLUMNS if name not in table.column_names]
    if missing:
        yield Finding("column-missing", SAMPLES, f"columns missing: {', '.join(missing)}")
    if table.num_rows != len(store):
        message = f"{table.num_rows} rows, the store has {len(store)} samples"
        yield Finding("table-rows", SAMPLES, message)
    if not (store.path / RAW_FILES).is_file():
        yield Finding("table-missing", RAW_FILES, "table missing")


def _check_bytes(store: Dataset | BoundDataset) -> Iterator[Finding]:
    manifest = Manifest.model_validate_json((store.path / MANIFEST).read_text())
    for entry in manifest.files:
        if file_digest(store.path / entry.path) != entry.sha256:
            yield Finding("file-changed", entry.path, "its sha256 differs from the manifest's")


def _check_values(store: Dataset | BoundDataset) -> Iterator[Finding]:
    return check_values(store) if isinstance(store, Dataset) else check_bound_values(store)
