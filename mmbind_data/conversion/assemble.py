"""Put the spooled samples of all units together into one store."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import distribution, version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mmbind_data.conversion.plan import ConversionPlan
from mmbind_data.conversion.spool import Spooled, UnitResult, read_clouds, read_samples
from mmbind_data.errors import RawLayoutError
from mmbind_data.io.atomic import remove
from mmbind_data.progress import Progress
from mmbind_data.raw.files import bad_layout, natural
from mmbind_data.signal.point_clouds import RaggedPoints
from mmbind_data.spec.descriptor import Axis, Modality, RawStream
from mmbind_data.spec.store import DatasetInfo
from mmbind_data.store.dataset import CODED_COLUMNS, DESCRIPTOR, PROVENANCE
from mmbind_data.store.sample_table import column_of, sample_columns, sample_table
from mmbind_data.store.writer import StoreContent, write_store


def assemble(
    plan: ConversionPlan,
    results: Sequence[UnitResult],
    root: Path,
    progress: Progress | None = None,
    *,
    threads: int = 1,
) -> tuple[DatasetInfo, list[str]]:
    """Write the store of all spooled samples to ``root``; what is there is removed.

    ``results`` are in the order of the plan's units. ``threads`` parts of the store are encoded at
    a time, which does not change its bytes. Returned are its description, and remarks for the user.

    Raises
    ------
    RawLayoutError
        No sample at all, or a modality that was asked for by name is in none.
    """
    units = [result.spooled for result in results]
    rows = sample_columns(one for unit in units for one in unit.head["recordings"])
    counts: Counter[str] = sum((Counter(unit.head["counts"]) for unit in units), Counter())
    if not rows["uid"]:
        raise _no_sample(plan, units, counts)
    present, notes = _presence(plan, units)
    notes += _remarks(counts)
    empty = sum(not unit.present for unit in units)
    if empty:
        why = "too short, or of a label that is left out"
        notes.append(f"{empty} of {len(units)} units give no sample: {why}")
    columns = _code_columns(plan, rows)
    info = _describe(plan, rows, present, units)
    remove(root)

    def blocks(modality: str) -> Iterator[np.ndarray | RaggedPoints]:
        described = info.modalities[modality]
        read = read_clouds if described.ragged else read_samples
        for unit in units:
            if unit.present:
                yield read(unit, modality, described.shape)

    documents = {DESCRIPTOR: plan.descriptor.model_dump(mode="json"), PROVENANCE: _provenance(plan)}
    table = sample_table(rows, columns["label"][0], plan.descriptor.column_types)
    raw_files = _raw_file_table(results)
    n_points = {
        name: sum(arrays[name]["shape"][0] for arrays in _arrays(units) if name in arrays)
        for name, modality in info.modalities.items()
        if modality.ragged
    }
    content = StoreContent(info, columns, table, raw_files, present, blocks, documents, n_points)
    total = len(results)
    report = (lambda name: progress(total, total, f"writing {name}")) if progress else None
    return write_store(root, content, threads=threads, progress=report), notes


def _no_sample(
    plan: ConversionPlan, units: Sequence[Spooled], counts: Counter[str]
) -> RawLayoutError:
    """The error if no window fits: how long a window is, and how long what was found."""
    windowing = plan.preset.windowing
    step = "Ask for another preset, or for more of the raw data."
    if plan.document is not None:
        step = "Lower windows.seconds in the descriptor, or mend what is left out."
    expected, got = "a recording of a label that is kept", "none"
    if windowing.mode == "cut":
        expected = f"a recording as long as a window, {_long(plan, max(windowing.length.values()))}"
        n_frames, file = max(tuple(unit.head["longest"]) for unit in units)
        if n_frames:
            got = f"at most {_long(plan, n_frames)} without a gap, in {file}"
    got = "; ".join([got, *_remarks(counts)])
    name, at = plan.descriptor.dataset_id, f"{len(plan.units)} raw units"
    return bad_layout(name, "no sample", at, expected, got, step)


def _long(plan: ConversionPlan, n_frames: int) -> str:
    rate = plan.preset.windowing.rate_hz
    return f"{n_frames} frames ({n_frames / rate:g} s)" if rate else f"{n_frames} frames"


def _arrays(units: Sequence[Spooled]) -> Iterator[Mapping[str, Any]]:
    return (unit.head["arrays"] for unit in units)


def _remarks(counts: Counter[str]) -> list[str]:
    return [f"{text}: {n}" for text, n in sorted(counts.items()) if n]


def _presence(
    plan: ConversionPlan, units: Sequence[Spooled]
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Which rows have which modality; modalities that no row has are left out, with a note."""
    recordings = [recording for unit in units for recording in unit.present]
    sizes = [n for n, _ in recordings]
    masks = {
        name: np.repeat([name in carried for _, carried in recordings], sizes)
        for name in plan.modalities
    }
    absent = [name for name, mask in masks.items() if not mask.any()]
    if absent and plan.selection.modalities:
        what = "a modality was asked for that the raw data does not hold"
        expected = f"raw files of {', '.join(absent)}"
        raise bad_layout(plan.descriptor.dataset_id, what, "--modalities", expected, "none")
    notes = [f"{name} is left out: no recording carries it" for name in absent]
    return {name: mask for name, mask in masks.items() if mask.any()}, notes


def _code_columns(
    plan: ConversionPlan, rows: Mapping[str, Sequence[Any]]
) -> dict[str, tuple[np.ndarray, tuple[str, ...]]]:
    columns = {}
    for column in CODED_COLUMNS:
        texts = rows["label_text" if column == "label" else column]
        names = sorted({text for text in texts if text is not None}, key=natural)
        if column == "label":  # every label of the preset has its code, also in a subset
            known = plan.preset.labels or plan.descriptor.labels.values()
            names = list(dict.fromkeys(known)) or names  # two raw labels may have one text
        code = {text: index for index, text in enumerate(names)}
        codes = np.array([-1 if text is None else code[text] for text in texts], dtype=np.int32)
        columns[column] = (codes, tuple(names))
    return columns


def _describe(
    plan: ConversionPlan,
    rows: Mapping[str, Sequence[Any]],
    present: dict[str, np.ndarray],
    units: Sequence[Spooled],
) -> DatasetInfo:
    descriptor, windowing = plan.descriptor, plan.preset.windowing
    modalities = {}
    for name in present:
        stream = descriptor.streams[name]
        axes = _axes(stream, _sizes(plan, name, units))
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
    labels, subjects = (
        Counter(text for text in rows[column] if text is not None)
        for column in ("label_text", "subject")
    )
    order = plan.preset.labels or tuple(descriptor.labels.values()) or sorted(labels, key=natural)
    return DatasetInfo(
        dataset_id=descriptor.dataset_id,
        dataset_version=descriptor.version,
        title=descriptor.title,
        preset=plan.preset_name,
        selection=plan.selection,
        modalities=modalities,
        n_samples=len(rows["uid"]),
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


def _sizes(plan: ConversionPlan, modality: str, units: Sequence[Spooled]) -> tuple[int, ...]:
    """Sizes of a modality's axes behind time, as found; options may change those of the descriptor.

    Raises
    ------
    RawLayoutError
        Two raw units differ.
    """
    n_axes = len(plan.descriptor.streams[modality].channels)
    found: dict[tuple[int, ...], str] = {}
    for unit, arrays in zip(plan.units, _arrays(units), strict=True):
        if modality in arrays:
            found.setdefault(tuple(arrays[modality]["shape"][-n_axes:]), unit.key)
    if len(found) > 1:
        (size, first), (other, unit_key), *_ = found.items()
        expected = f"{' x '.join(map(str, size))} as in {first}"
        got, name = " x ".join(map(str, other)), plan.descriptor.dataset_id
        raise bad_layout(name, f"{modality} of another size", unit_key, expected, got)
    return next(iter(found))


def _raw_file_table(results: Sequence[UnitResult]) -> pa.Table:
    files = sorted({file for result in results for file in result.raw_files})
    types = {"path": pa.string(), "bytes": pa.int64(), "sha256": pa.string(), "role": pa.string()}
    columns = zip(zip(*files, strict=True), types.values(), strict=True)
    arrays = [column_of(list(values), kind) for values, kind in columns]
    return pa.Table.from_arrays(arrays, names=list(types))


def _provenance(plan: ConversionPlan) -> dict[str, Any]:
    """How the store was made. No clock, host or path: the same input gives the same bytes."""
    libraries = ("numcodecs", "numpy", "pillow", "pyarrow", "scipy", "zarr")
    return {
        "command": "convert",
        "mmbind": version("mmbind"),
        "reader_version": plan.descriptor.reader_version,
        "preset": {plan.preset_name: plan.preset.model_dump(mode="json")},
        "modalities": list(plan.modalities),
        "options": dict(plan.options),
        "libraries": {name: _version(name) for name in libraries},
    }


def _version(name: str) -> str:
    """Version of an installed package; `version` alone would parse its whole description."""
    head = re.search(r"^Version: (\S+)$", distribution(name).read_text("METADATA") or "", re.M)
    return head[1] if head else version(name)
