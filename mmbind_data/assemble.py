"""Put the spooled samples of all units together into one store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from .errors import RawLayoutError, problem
from .layout import CODED_COLUMNS, DESCRIPTOR, PROVENANCE
from .rawfiles import RawListing, Unit, natural
from .spec import Axis, DatasetInfo, Descriptor, Modality, Preset, Selection
from .spool import UnitResult, read_rows, read_table
from .staging import remove
from .writer import StoreContent, write_store

Progress = Callable[[int, int, str], None]

_TEXT = ("subject", "session", "trial", "placement", "environment")


@dataclass(frozen=True)
class Plan:
    """What a conversion will do, known before any raw file is parsed."""

    descriptor: Descriptor
    preset_name: str
    preset: Preset
    modalities: tuple[str, ...]
    selection: Selection
    listing: RawListing
    units: tuple[Unit, ...]

    @property
    def n_bytes(self) -> int:
        """Raw bytes to read, decompressed."""
        return sum(file.size for unit in self.units for file in unit.files.values())


def assemble(
    plan: Plan, results: list[UnitResult], root: Path, progress: Progress | None
) -> tuple[DatasetInfo, list[str]]:
    """Write the store of all spooled samples.

    Parameters
    ----------
    plan : Plan
    results : list of UnitResult
        In the order of the plan's units.
    root : Path
        Folder to write; what stands there is removed.
    progress : callable (done, total, text), optional

    Returns
    -------
    info : DatasetInfo
    notes : list of str
        Remarks for the user.

    Raises
    ------
    RawLayoutError
        No sample at all, or a modality that was asked for by name is in none.
    """
    tables = [read_table(result.spool) for result in results]
    rows = [row for table in tables for row in table]
    if not rows:
        raise RawLayoutError(
            problem(
                f"convert {plan.descriptor.dataset_id}",
                "no sample",
                f"{len(plan.units)} recordings",
                "at least one recording as long as a window",
                "none",
            )
        )
    present, notes = _presence(plan, rows)
    too_short = sum(not table for table in tables)
    if too_short:
        notes.append(f"{too_short} recordings give no sample: shorter than a window")
    columns = _code_columns(plan, rows)
    info = _describe(plan, rows, present)
    remove(root)

    def blocks(modality: str) -> Iterator[np.ndarray]:
        for result, table in zip(results, tables, strict=True):
            if table:
                shape = info.modalities[modality].shape
                yield read_rows(result.spool, modality, table, shape)

    documents = {
        DESCRIPTOR: plan.descriptor.model_dump(mode="json"),
        PROVENANCE: _provenance(plan),
    }
    samples, raw_files = _sample_table(rows, columns), _raw_file_table(results)
    content = StoreContent(info, columns, samples, raw_files, present, blocks, documents)
    total = len(results)
    tell = (lambda name: progress(total, total, f"writing {name}")) if progress else None
    return write_store(root, content, progress=tell), notes


def _presence(plan: Plan, rows: list[dict[str, Any]]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Which rows carry which modality; modalities that no row carries are left out, with a note."""
    masks = {
        name: np.array([name in row["present"] for row in rows], dtype=bool)
        for name in plan.modalities
    }
    absent = [name for name, mask in masks.items() if not mask.any()]
    if absent and plan.selection.modalities:
        raise RawLayoutError(
            problem(
                f"convert {plan.descriptor.dataset_id}",
                "a modality was asked for that the raw data does not hold",
                "--modalities",
                f"raw files of {', '.join(absent)}",
                "none",
            )
        )
    notes = [f"{name} is left out: no recording carries it" for name in absent]
    return {name: mask for name, mask in masks.items() if mask.any()}, notes


def _code_columns(
    plan: Plan, rows: list[dict[str, Any]]
) -> dict[str, tuple[np.ndarray, tuple[str, ...]]]:
    columns = {}
    for column in CODED_COLUMNS:
        texts = [row["label_text" if column == "label" else column] for row in rows]
        names = sorted({text for text in texts if text is not None}, key=natural)
        if column == "label":  # every label of the preset has its code, also in a subset
            names = list(plan.preset.labels or plan.descriptor.labels.values())
        code = {text: index for index, text in enumerate(names)}
        codes = np.array([-1 if text is None else code[text] for text in texts], dtype=np.int32)
        columns[column] = (codes, tuple(names))
    return columns


def _describe(
    plan: Plan, rows: list[dict[str, Any]], present: dict[str, np.ndarray]
) -> DatasetInfo:
    descriptor, windowing = plan.descriptor, plan.preset.windowing
    modalities = {}
    for name in present:
        stream = descriptor.streams[name]
        modalities[name] = Modality(
            kind=stream.kind,
            unit=stream.unit,
            axes=(Axis(name="time", size=windowing.length[name]), *stream.channels),
            rate_hz=windowing.rate_hz,
            root=stream.root,
            background=stream.background,
        )
    labels = Counter(row["label_text"] for row in rows)
    subjects = Counter(row["subject"] for row in rows)
    order = plan.preset.labels or tuple(descriptor.labels.values())
    return DatasetInfo(
        dataset_id=descriptor.dataset_id,
        dataset_version=descriptor.version,
        title=descriptor.title,
        preset=plan.preset_name,
        selection=plan.selection,
        modalities=modalities,
        n_samples=len(rows),
        subjects={name: subjects[name] for name in sorted(subjects, key=natural)},
        labels={name: labels[name] for name in order if labels[name]},
        n_present={name: int(mask.sum()) for name, mask in present.items()},
        licence=descriptor.licence,
        content_digest="",
    )


def _sample_table(
    rows: list[dict[str, Any]], columns: dict[str, tuple[np.ndarray, tuple[str, ...]]]
) -> pa.Table:
    def column(name: str, kind: pa.DataType) -> pa.Array:
        return pa.array([row[name] for row in rows], type=kind)

    table: dict[str, pa.Array] = {"row": pa.array(range(len(rows)), type=pa.int64())}
    table |= {name: column(name, pa.string()) for name in ("uid", *_TEXT)}
    table["label"] = pa.array(columns["label"][0], type=pa.int32())
    table |= {name: column(name, pa.string()) for name in ("label_text", "raw_file")}
    table |= {name: column(name, pa.int64()) for name in ("raw_start", "raw_end")}
    table |= {name: column(name, pa.float64()) for name in ("t_start", "t_end")}
    table["window_index"] = column("window_index", pa.int64())
    for name in sorted({name for row in rows for name in row["extra"]}):
        table[name] = pa.array([row["extra"].get(name) for row in rows], type=pa.string())
    return pa.table(table)


def _raw_file_table(results: list[UnitResult]) -> pa.Table:
    files = sorted({file for result in results for file in result.raw_files})
    path, size, sha256, role = zip(*files, strict=True)
    return pa.table(
        {"path": path, "bytes": pa.array(size, pa.int64()), "sha256": sha256, "role": role}
    )


def _provenance(plan: Plan) -> dict[str, Any]:
    """How the store was made. No clock, host or path: the same input gives the same bytes."""
    libraries = ("numpy", "numcodecs", "pyarrow", "scipy", "zarr")
    return {
        "command": "convert",
        "mmbind": version("mmbind"),
        "reader_version": plan.descriptor.reader_version,
        "preset": {plan.preset_name: plan.preset.model_dump(mode="json")},
        "modalities": list(plan.modalities),
        "libraries": {name: version(name) for name in libraries},
    }
