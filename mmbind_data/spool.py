"""Convert one unit of raw data and keep the result in a spool file until the store is assembled.

A spool file is named by what went into it (configuration, raw bytes, reader version), so an
interrupted conversion finds what is done already and recomputes the rest.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from .datasets import load_reader
from .errors import RawLayoutError, problem
from .integrity import canonical_json, sample_uid, text_digest
from .rawfiles import Unit
from .spec import Recording, Windowing
from .window import Windows, make_windows

SPOOL_VERSION = "1"  # raise it when window.py gives other samples for the same recording
TABLE = "table"


@dataclass(frozen=True)
class UnitTask:
    """All that a worker process needs to convert one unit."""

    dataset: str
    unit: Unit
    preset: str
    modalities: tuple[str, ...]
    kinds: Mapping[str, str]
    windowing: Windowing
    labels: tuple[str, ...] | None
    config_digest: str
    folder: Path


@dataclass(frozen=True)
class UnitResult:
    """Where a unit's samples are, and what was read for them."""

    spool: Path
    resumed: bool
    raw_files: tuple[tuple[str, int, str, str], ...]  # path, bytes, sha256, role


def convert_unit(task: UnitTask) -> UnitResult:
    """Read, window and spool one unit; a unit that is done already is only hashed.

    Raises
    ------
    RawLayoutError
        The raw bytes are not what the reader expects.
    """
    unit, raw_files = _hold(task.unit)
    digest = text_digest(
        SPOOL_VERSION, task.config_digest, unit.key, *(sha256 for _, _, sha256, _ in raw_files)
    )
    spool = task.folder / f"{digest}.npz"
    if spool.is_file() and _intact(spool):
        return UnitResult(spool, resumed=True, raw_files=raw_files)
    _write_spool(spool, task, unit)
    return UnitResult(spool, resumed=False, raw_files=raw_files)


def read_table(spool: Path) -> list[dict[str, Any]]:
    """Rows of the sample table that a spool file holds, each with its ``present`` modalities."""
    with np.load(spool, allow_pickle=False) as archive:
        rows: list[dict[str, Any]] = json.loads(archive[TABLE].tobytes())
    return rows


def read_rows(
    spool: Path, modality: str, rows: list[dict[str, Any]], shape: tuple[int, ...]
) -> np.ndarray:
    """Samples of one modality in a spool file, all NaN where it is absent.

    Returns
    -------
    ndarray, shape (len(rows), *shape), float32
    """
    present = np.array([modality in row["present"] for row in rows], dtype=bool)
    samples = np.full((len(rows), *shape), np.nan, dtype=np.float32)
    if present.any():
        with np.load(spool, allow_pickle=False) as archive:
            samples[present] = archive[modality]
    return samples


def _hold(unit: Unit) -> tuple[Unit, tuple[tuple[str, int, str, str], ...]]:
    """Read a unit's files once, for the hash and for the reader."""
    held = {role: replace(file, content=file.read()) for role, file in unit.files.items()}
    raw_files = tuple(
        (file.path, len(content), hashlib.sha256(content).hexdigest(), role)
        for role, file in sorted(held.items())
        if (content := file.content) is not None
    )
    return replace(unit, files=held), raw_files


def _intact(spool: Path) -> bool:
    """Whether a spool file can be read back whole; one that cannot is made again."""
    try:
        with zipfile.ZipFile(spool) as archive:
            return archive.testzip() is None and f"{TABLE}.npy" in archive.namelist()
    except (zipfile.BadZipFile, EOFError, OSError, zlib.error):
        return False


def _write_spool(spool: Path, task: UnitTask, unit: Unit) -> None:
    rows: list[dict[str, Any]] = []
    parts: dict[str, list[np.ndarray]] = {name: [] for name in task.modalities}
    with np.errstate(over="ignore"):  # a number beyond float32 is refused below, by name
        for recording in load_reader(task.dataset).read(unit, task.modalities, task.preset):
            if task.labels is not None and recording.label not in task.labels:
                continue
            windows = make_windows(recording, task.windowing, task.kinds)
            rows += _sample_rows(task, recording, windows)
            for name, samples in windows.data.items():
                _check_finite(task, recording, name, samples)
                parts[name].append(samples)
    arrays: dict[str, np.ndarray] = {
        name: np.concatenate(samples) for name, samples in parts.items() if samples
    }
    arrays[TABLE] = np.frombuffer(canonical_json(rows).encode(), dtype=np.uint8)
    partial = spool.with_suffix(".partial")
    with partial.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **arrays)
    partial.rename(spool)


def _check_finite(task: UnitTask, recording: Recording, modality: str, samples: np.ndarray) -> None:
    if not np.isfinite(samples).all():
        raise RawLayoutError(
            problem(
                f"convert {task.dataset}",
                f"{modality} of recording {recording.key} holds a value that float32 cannot",
                ", ".join(recording.raw_files),
                "finite numbers below 3.4e38",
                "infinity or NaN",
                "Compare the file with the official archive.",
            )
        )


def _sample_rows(task: UnitTask, recording: Recording, windows: Windows) -> list[dict[str, Any]]:
    rate = task.windowing.rate_hz
    rows = []
    for index, span in enumerate(windows.spans):
        start, end = span or (None, None)
        text = "whole" if span is None else f"{start}:{end}"
        rows.append(
            {
                "uid": sample_uid(task.dataset, recording.key, text, task.preset),
                "subject": recording.subject,
                "session": recording.session,
                "trial": recording.trial,
                "placement": recording.placement,
                "environment": recording.environment,
                "label_text": recording.label,
                "raw_file": recording.raw_files[0],
                "raw_start": start,
                "raw_end": end,
                "t_start": start / rate if rate and start is not None else None,
                "t_end": end / rate if rate and end is not None else None,
                "window_index": index,
                "extra": dict(recording.extra),
                "present": sorted(windows.data),
            }
        )
    return rows
