"""Check a store on four levels: meta, structure, bytes, values. Each includes those before it."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from mmbind_data.errors import Finding, FormatError, IntegrityError, UsageError, suggest
from mmbind_data.io.digests import (
    MANIFEST,
    SUMS,
    ArrayDigest,
    content_digest,
    file_digest,
    manifest_lines,
    store_files,
    table_line,
)
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
    valid_path,
)
from mmbind_data.store.validation_bound import check_bound_values, check_pairs_structure
from mmbind_data.store.validation_points import check_points, point_arrays
from mmbind_data.store.writer import digest_facts

LEVELS = ("meta", "structure", "bytes", "values")
ROWS_PER_BLOCK_BYTES = 64 << 20


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
        Where the sources of a bound store lie now.

    Returns
    -------
    list of Finding
        Empty when all is well.

    Raises
    ------
    UsageError
        Unknown level.
    FormatError
        There is no store at all.
    """
    if level not in LEVELS:
        raise UsageError(
            cannot="validate",
            problem="unknown level",
            at="--level",
            expected=", ".join(LEVELS),
            got=repr(level),
            fix=suggest(level, LEVELS),
        )
    store = open_store(path, sources=sources)
    depth = LEVELS.index(level)
    problems: list[Finding] = []
    checks = (_check_meta, _check_structure, _check_bytes, _check_values)
    for check in checks[: depth + 1]:
        problems += check(store)
        if any(found.severity == "error" for found in problems):
            break  # deeper checks would only repeat the same finding in other words
    return problems


def _check_meta(store: Dataset | BoundDataset) -> Iterator[Finding]:
    documents = {MANIFEST: Manifest, DESCRIPTOR: Descriptor, PROVENANCE: None}
    if isinstance(store, BoundDataset):
        documents = {MANIFEST: Manifest, PROVENANCE: None}
    for name, model in documents.items():
        path = store.path / name
        if not path.is_file():
            yield Finding("meta-missing", "error", name, "document missing")
            continue
        try:
            if model is None:
                json.loads(path.read_bytes())
            else:
                model.model_validate_json(path.read_bytes())
        except ValueError as error:
            yield Finding("meta-invalid", "error", name, fault_text(error))


def _check_structure(store: Dataset | BoundDataset) -> Iterator[Finding]:
    manifest = Manifest.model_validate_json((store.path / MANIFEST).read_text())
    listed = {entry.path: entry.bytes for entry in manifest.files}
    found = set(store_files(store.path))
    for path in sorted(listed.keys() - found):
        yield Finding("file-missing", "error", path, "listed in the manifest, but not there")
    for path in sorted(found - listed.keys()):
        yield Finding("file-unknown", "error", path, "not listed in the manifest", "Remove it.")
    for path in sorted(found & listed.keys()):
        size = (store.path / path).stat().st_size
        if size != listed[path]:
            yield Finding("file-size", "error", path, f"{size} bytes, manifest says {listed[path]}")
    sums, lines = store.path / SUMS, manifest_lines(manifest.files).encode()
    whole = sums.is_file() and sums.read_bytes() == lines
    if not whole or hashlib.sha256(lines).hexdigest() != manifest.tree_sha256:
        yield Finding("manifest-differs", "error", SUMS, "does not tell what MANIFEST.json tells")
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
            expected |= point_arrays(name, modality, len(store))
        else:
            dimensions = ("sample", *(axis.name for axis in modality.axes))
            expected[data_path(name)] = ("float32", dimensions, (len(store), *modality.shape))
    for path, (dtype, dimensions, shape) in expected.items():
        array = store.group.get(path)
        if not isinstance(array, zarr.Array):
            yield Finding("array-missing", "error", path, "array missing")
            continue
        names = getattr(array.metadata, "dimension_names", None)
        got = (str(array.dtype), names, array.shape)
        # the number of points is free
        fits = dimensions[0] == "point" and got == (dtype, dimensions, (array.shape[0], *shape[1:]))
        if got != (dtype, dimensions, shape) and not fits:
            yield Finding(
                "array-shape", "error", path, f"expected {(dtype, dimensions, shape)}, got {got}"
            )
    try:
        table = store.samples()
    except IntegrityError as error:
        yield Finding("table-unreadable", "error", SAMPLES, str(error))
        return
    missing = [name for name in SAMPLE_COLUMNS if name not in table.column_names]
    if missing:
        yield Finding("column-missing", "error", SAMPLES, f"columns missing: {', '.join(missing)}")
    if table.num_rows != len(store):
        message = f"{table.num_rows} rows, the store has {len(store)} samples"
        yield Finding("table-rows", "error", SAMPLES, message)
    if not (store.path / RAW_FILES).is_file():
        yield Finding("table-missing", "error", RAW_FILES, "table missing")


def _check_bytes(store: Dataset | BoundDataset) -> Iterator[Finding]:
    manifest = Manifest.model_validate_json((store.path / MANIFEST).read_text())
    for entry in manifest.files:
        if file_digest(store.path / entry.path) != entry.sha256:
            yield Finding(
                "file-changed", "error", entry.path, "its sha256 differs from the manifest's"
            )


def _check_values(store: Dataset | BoundDataset) -> Iterator[Finding]:
    if isinstance(store, BoundDataset):
        yield from check_bound_values(store)
        return
    try:
        yield from _check_codes(store)
        lines = list(digest_facts(store.info, {name: store.names(name) for name in CODED_COLUMNS}))
        for name in CODED_COLUMNS:
            digest = ArrayDigest("<i4", ())
            digest.update(store.column(name))
            lines.append(digest.line(name))
        for name, modality in store.info.modalities.items():
            check = check_points if modality.ragged else _check_modality
            yield from check(store, name, lines)
    except (IntegrityError, FormatError) as error:
        yield Finding("data-damaged", "error", str(store.path), str(error))
        return
    try:
        lines.append(table_line(SAMPLES, store.samples().to_pydict()))
    except ValueError as error:
        yield Finding("value-not-finite", "error", SAMPLES, str(error))
        return
    if content_digest(lines) != store.info.content_digest:
        yield Finding(
            "digest-differs", "error", "zarr.json", "the values are not those of content_digest"
        )


def _check_modality(store: Dataset, name: str, lines: list[str]) -> Iterator[Finding]:
    modality = store.info.modalities[name]
    present = store.present(name)
    mask, data = ArrayDigest("|b1", ()), ArrayDigest("<f4", modality.shape)
    mask.update(present)
    block = max(1, ROWS_PER_BLOCK_BYTES // (4 * int(np.prod(modality.shape))))
    for start in range(0, len(store), block):
        rows = store.load(name, slice(start, start + block))
        data.update(rows)
        flat = rows.reshape(len(rows), -1)
        here = present[start : start + block]
        broken = np.flatnonzero(here & ~np.isfinite(flat).all(axis=1))
        if len(broken):
            yield Finding(
                "value-not-finite", "error", data_path(name), f"row {start + broken[0]} holds NaN"
            )
        filled = np.flatnonzero(~here & ~np.isnan(flat).all(axis=1))
        if len(filled):
            yield Finding(
                "value-not-absent",
                "error",
                data_path(name),
                f"row {start + filled[0]} is marked absent but holds values",
            )
    if int(present.sum()) != store.info.n_present.get(name):
        yield Finding("count-differs", "error", valid_path(name), "n_present differs from the mask")
    lines += [mask.line(valid_path(name)), data.line(data_path(name))]


def _check_codes(store: Dataset) -> Iterator[Finding]:
    table = store.samples()
    counts = {"label": store.info.labels, "subject": store.info.subjects}
    for name in CODED_COLUMNS:
        codes, names = store.column(name), store.names(name)
        if len(codes) and (codes.min() < -1 or codes.max() >= len(names)):
            yield Finding("code-range", "error", name, f"codes outside -1..{len(names) - 1}")
            continue
        texts = [names[code] if code >= 0 else None for code in codes]
        if texts != table["label_text" if name == "label" else name].to_pylist():
            yield Finding("code-differs", "error", name, f"texts differ from those in {SAMPLES}")
        found = Counter(text for text in texts if text is not None)
        if name in counts and found != Counter(counts[name]):
            yield Finding("count-differs", "error", name, "the attributes count other samples")
    uids = table["uid"].to_pylist()
    if len(set(uids)) != len(uids):
        yield Finding("uid-repeated", "error", SAMPLES, "a uid stands in two rows")
