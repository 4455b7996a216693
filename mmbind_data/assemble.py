"""Put the spooled samples of all units together into one store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from .errors import RawLayoutError, problem
from .layout import CODED_COLUMNS, DESCRIPTOR, PROVENANCE
from .plan import Plan
from .points import Clouds
from .rawfiles import natural
from .spec import Axis, DatasetInfo, Modality, RawStream
from .spool import UnitResult, read_clouds, read_head, read_samples
from .staging import remove
from .writer import StoreContent, write_store

Progress = Callable[[int, int, str], None]

_TEXT = ("subject", "session", "trial", "placement", "environment")


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
    heads = [read_head(result.spool) for result in results]
    rows = [row for head in heads for row in head["rows"]]
    counts: Counter[str] = sum((Counter(head["counts"]) for head in heads), Counter())
    if not rows:
        raise RawLayoutError(
            problem(
                f"convert {plan.descriptor.dataset_id}",
                "no sample",
                f"{len(plan.units)} raw units",
                "at least one recording as long as a window",
                "; ".join(["none", *_remarks(counts)]),
            )
        )
    present, notes = _presence(plan, rows)
    notes += _remarks(counts)
    empty = sum(not head["rows"] for head in heads)
    if empty:
        why = "too short, or of a label that is left out"
        notes.append(f"{empty} of {len(heads)} units give no sample: {why}")
    columns = _code_columns(plan, rows)
    info = _describe(plan, rows, present, heads)
    remove(root)

    def blocks(modality: str) -> Iterator[np.ndarray | Clouds]:
        described = info.modalities[modality]
        read = read_clouds if described.ragged else read_samples
        for result, head in zip(results, heads, strict=True):
            if head["rows"]:
                yield read(result.spool, head, modality, described.shape)

    documents = {
        DESCRIPTOR: plan.descriptor.model_dump(mode="json"),
        PROVENANCE: _provenance(plan),
    }
    samples, raw_files = _sample_table(rows, columns), _raw_file_table(results)
    n_points = {
        name: sum(head["arrays"][name]["shape"][0] for head in heads if name in head["arrays"])
        for name, modality in info.modalities.items()
        if modality.ragged
    }
    content = StoreContent(info, columns, samples, raw_files, present, blocks, documents, n_points)
    total = len(results)
    tell = (lambda name: progress(total, total, f"writing {name}")) if progress else None
    return write_store(root, content, progress=tell), notes


def _remarks(counts: Counter[str]) -> list[str]:
    return [f"{text}: {n}" for text, n in sorted(counts.items()) if n]


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
            names = list(plan.preset.labels or plan.descriptor.labels.values()) or names
        code = {text: index for index, text in enumerate(names)}
        codes = np.array([-1 if text is None else code[text] for text in texts], dtype=np.int32)
        columns[column] = (codes, tuple(names))
    return columns


def _describe(
    plan: Plan,
    rows: list[dict[str, Any]],
    present: dict[str, np.ndarray],
    heads: list[dict[str, Any]],
) -> DatasetInfo:
    descriptor, windowing = plan.descriptor, plan.preset.windowing
    modalities = {}
    for name in present:
        stream = descriptor.streams[name]
        axes = _axes(stream, _sizes(plan, name, heads))
        named = {text for axis in axes for text in axis.names or ()}
        if windowing.mode != "still":
            axes.insert(0, Axis(name="time", size=windowing.length[name]))
        modalities[name] = Modality(
            kind=stream.kind,
            unit=stream.unit,
            axes=tuple(axes),
            rate_hz=windowing.rate_hz,
            root=stream.root if stream.root in named else None,
            background=stream.background,
            classes=stream.classes,
        )
    texts = [row["label_text"] for row in rows if row["label_text"] is not None]
    labels = {
        text: n for text, n in sorted(Counter(texts).items(), key=lambda one: natural(one[0]))
    }
    subjects = Counter(row["subject"] for row in rows if row["subject"] is not None)
    order = plan.preset.labels or tuple(descriptor.labels.values()) or labels
    return DatasetInfo(
        dataset_id=descriptor.dataset_id,
        dataset_version=descriptor.version,
        title=descriptor.title,
        preset=plan.preset_name,
        selection=plan.selection,
        modalities=modalities,
        n_samples=len(rows),
        subjects={name: subjects[name] for name in sorted(subjects, key=natural)},
        labels={name: labels[name] for name in order if name in labels},
        n_present={name: int(mask.sum()) for name, mask in present.items()},
        licence=descriptor.licence,
        content_digest="",
    )


def _axes(stream: RawStream, sizes: tuple[int, ...]) -> list[Axis]:
    """The axes behind time for the sizes found: those the descriptor names, or without names."""
    for known in (stream.channels, *stream.variants):
        if tuple(axis.size for axis in known) == sizes:
            return list(known)
    return [
        axis if axis.size == size else axis.model_copy(update={"size": size, "names": None})
        for axis, size in zip(stream.channels, sizes, strict=True)
    ]


def _sizes(plan: Plan, modality: str, heads: list[dict[str, Any]]) -> tuple[int, ...]:
    """Sizes of a modality's axes behind time, as found; options may change those of the descriptor.

    Raises
    ------
    RawLayoutError
        Two raw units differ.
    """
    n_axes = len(plan.descriptor.streams[modality].channels)
    found: dict[tuple[int, ...], str] = {}
    for unit, head in zip(plan.units, heads, strict=True):
        if modality in head["arrays"]:
            found.setdefault(tuple(head["arrays"][modality]["shape"][-n_axes:]), unit.key)
    if len(found) > 1:
        (expected, first), (got, other), *_ = found.items()
        raise RawLayoutError(
            problem(f"convert {plan.descriptor.dataset_id}", f"{modality} of another size", other,
                    f"{' x '.join(map(str, expected))} as in {first}", " x ".join(map(str, got)))
        )  # fmt: skip
    return next(iter(found))


def _sample_table(
    rows: list[dict[str, Any]], columns: dict[str, tuple[np.ndarray, tuple[str, ...]]]
) -> pa.Table:
    def column(name: str, kind: pa.DataType) -> pa.Array:
        return _column([row[name] for row in rows], kind)

    table: dict[str, pa.Array] = {"row": _column(range(len(rows)), pa.int64())}
    table |= {name: column(name, pa.string()) for name in ("uid", *_TEXT)}
    table["label"] = _column(columns["label"][0].tolist(), pa.int32())
    table |= {name: column(name, pa.string()) for name in ("label_text", "raw_file")}
    table |= {name: column(name, pa.int64()) for name in ("raw_start", "raw_end")}
    table |= {name: column(name, pa.float64()) for name in ("t_start", "t_end")}
    table["window_index"] = column("window_index", pa.int64())
    for name in sorted({name for row in rows for name in row["extra"]}):
        table[name] = _column([row["extra"].get(name) for row in rows], pa.string())
    return pa.Table.from_arrays(list(table.values()), names=list(table))


def _raw_file_table(results: list[UnitResult]) -> pa.Table:
    files = sorted({file for result in results for file in result.raw_files})
    path, size, sha256, role = (list(values) for values in zip(*files, strict=True))
    texts = {"path": path, "sha256": sha256, "role": role}
    columns = {name: _column(values, pa.string()) for name, values in texts.items()}
    columns["bytes"] = _column(size, pa.int64())
    names = ["path", "bytes", "sha256", "role"]
    return pa.Table.from_arrays([columns[name] for name in names], names=names)


def _column(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Column of a table; None is null.

    By hand, because `pa.array` imports pandas where there is one: 0.2 s and 45 MB for nothing.
    """
    present = np.array([value is not None for value in values], dtype=bool)
    n_null = int(len(present) - present.sum())
    valid = pa.py_buffer(np.packbits(present, bitorder="little")) if n_null else None
    if pa.types.is_string(kind):
        texts = [(value or "").encode() for value in values]
        ends = np.cumsum([0, *map(len, texts)], dtype=np.int32)
        contents = [pa.py_buffer(ends), pa.py_buffer(b"".join(texts))]
    else:
        filled = [0 if value is None else value for value in values]
        contents = [pa.py_buffer(np.array(filled, dtype=kind.to_pandas_dtype()))]
    return pa.Array.from_buffers(kind, len(present), [valid, *contents], n_null)


def _provenance(plan: Plan) -> dict[str, Any]:
    """How the store was made. No clock, host or path: the same input gives the same bytes."""
    libraries = ("numcodecs", "numpy", "pillow", "pyarrow", "scipy", "zarr")
    return {
        "command": "convert",
        "mmbind": version("mmbind"),
        "reader_version": plan.descriptor.reader_version,
        "preset": {plan.preset_name: plan.preset.model_dump(mode="json")},
        "modalities": list(plan.modalities),
        "options": dict(plan.options),
        "libraries": {name: version(name) for name in libraries},
    }
