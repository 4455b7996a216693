"""Convert one unit of raw data and keep the result in a spool file until the store is assembled.

A spool file is named by what went into it (configuration, raw bytes, reader version), so an
interrupted conversion finds what is done already and recomputes the rest.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from .datasets import open_dataset
from .errors import RawLayoutError, problem
from .integrity import canonical_json, file_digest, is_streamed, sample_uids, text_digest
from .points import Clouds
from .rawfiles import RawFile, Unit
from .spec import Recording, Windowing
from .window import Windows, make_windows

SPOOL_VERSION = "2"  # raise it when window.py gives other samples for the same recording
SUFFIX = ".spool"
FRAMES = ".frames"
DROPPED = "windows over gaps dropped"


@dataclass(frozen=True)
class UnitTask:
    """All that a worker process needs to convert one unit."""

    dataset: str
    dataset_id: str
    document: str | None
    unit: Unit
    preset: str
    variant: str  # preset and options: what a sample's name depends on besides its place
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
    stamps = _stamps(task.unit)
    unit, raw_files = _hold(task.unit)
    digest = text_digest(
        SPOOL_VERSION, task.config_digest, unit.key, *(sha256 for _, _, sha256, _ in raw_files)
    )
    spool = task.folder / f"{digest}{SUFFIX}"
    if spool.is_file() and _intact(spool):
        return UnitResult(spool, resumed=True, raw_files=raw_files)
    _write_spool(spool, task, unit)
    if _stamps(task.unit) != stamps:
        spool.unlink()
        raise _changed(task)
    return UnitResult(spool, resumed=False, raw_files=raw_files)


def read_head(spool: Path) -> dict[str, Any]:
    """What a spool file holds: ``rows`` of the sample table, ``counts``, and ``arrays``.

    Each row names its ``present`` modalities; ``counts`` are remarks and how often each applies.
    """
    with spool.open("rb") as stream:
        head: dict[str, Any] = json.loads(stream.readline())
    head["rows"] = [row for one in head.pop("recordings") for row in _sample_rows(one)]
    return head


def read_samples(
    spool: Path, head: Mapping[str, Any], modality: str, shape: tuple[int, ...]
) -> np.ndarray:
    """Samples of one modality in a spool file, all NaN where it is absent.

    Returns
    -------
    ndarray, shape (len(head["rows"]), *shape), float32
    """
    present = np.array([modality in row["present"] for row in head["rows"]], dtype=bool)
    if present.all():
        return _read_array(spool, head, modality)
    samples = np.full((len(present), *shape), np.nan, dtype=np.float32)
    if present.any():
        samples[present] = _read_array(spool, head, modality)
    return samples


def read_clouds(
    spool: Path, head: Mapping[str, Any], modality: str, shape: tuple[int, ...]
) -> Clouds:
    """Samples of one point cloud modality in a spool file, without points where it is absent.

    Parameters
    ----------
    shape : tuple of int
        Frames, numbers per point.
    """
    n_frames, n_features = shape
    present = np.array([modality in row["present"] for row in head["rows"]], dtype=bool)
    frames = np.zeros((len(present), n_frames + 1), dtype=np.int64)
    if not present.any():
        return Clouds(np.empty((0, n_features), dtype=np.float32), frames)
    frames[present] = _read_array(spool, head, f"{modality}{FRAMES}")
    return Clouds(_read_array(spool, head, modality), frames)


def _read_array(spool: Path, head: Mapping[str, Any], name: str) -> np.ndarray:
    entry = head["arrays"][name]
    # negative: from the end, because the head's own length is not known while it is written
    offset = spool.stat().st_size + entry["offset"]
    count = int(np.prod(entry["shape"]))
    values = np.fromfile(spool, dtype=entry["dtype"], count=count, offset=offset)
    return values.reshape(entry["shape"])


def _hold(unit: Unit) -> tuple[Unit, tuple[tuple[str, int, str, str], ...]]:
    """Hash a unit's files; all but the largest are read once, for the hash and for the reader."""
    held, raw_files = {}, []
    for role, file in sorted(unit.files.items()):
        held[role], size, sha256 = _hashed(file)
        raw_files.append((file.path, size, sha256, role))
    return replace(unit, files={role: held[role] for role in unit.files}), tuple(raw_files)


def _hashed(file: RawFile) -> tuple[RawFile, int, str]:
    if is_streamed(file):
        with suppress(OSError):  # then reading it tells what is wrong
            return file, file.container.stat().st_size, file_digest(file.container)
    content = file.read()
    return replace(file, content=content), len(content), hashlib.sha256(content).hexdigest()


def _stamps(unit: Unit) -> list[int]:
    """When the streamed files changed: what is hashed must be what is parsed later."""
    streamed = filter(is_streamed, unit.files.values())
    return [file.container.stat().st_mtime_ns for file in streamed if file.container.exists()]


def _changed(task: UnitTask) -> RawLayoutError:
    files = ", ".join(file.place for file in task.unit.files.values())
    expected, got = "raw data that stays as it is", "a change while it was read"
    step = "Run the same command again."
    return RawLayoutError(
        problem(f"convert {task.dataset}", "a file that changes", files, expected, got, step)
    )


def _intact(spool: Path) -> bool:
    """Whether a spool file can be read back whole; one that cannot is made again."""
    try:
        head = read_head(spool)
        return all(
            zlib.crc32(_read_array(spool, head, name).data) == entry["crc"]
            for name, entry in head["arrays"].items()
        )
    except (ValueError, KeyError, OSError):
        return False


def _write_spool(spool: Path, task: UnitTask, unit: Unit) -> None:
    recordings: list[dict[str, Any]] = []
    counts: Counter[str] = Counter()
    parts: dict[str, list[np.ndarray]] = {}
    with np.errstate(over="ignore"):  # a number beyond float32 is refused below, by name
        for recording in open_dataset(task.dataset, task.document).read(
            unit, task.modalities, task.preset
        ):
            if task.labels is not None and recording.label not in task.labels:
                continue
            windows = make_windows(recording, task.windowing, task.kinds)
            counts.update(recording.counts)
            if windows.n_dropped:
                counts[DROPPED] += windows.n_dropped
            if not windows.spans:
                continue
            recordings.append(_describe(task, recording, windows))
            for name, samples in windows.data.items():
                if isinstance(samples, list):
                    clouds = Clouds.of(samples)
                    parts.setdefault(f"{name}{FRAMES}", []).append(clouds.frame_offsets)
                    samples = clouds.values
                _check_finite(task, recording, name, samples)
                parts.setdefault(name, []).append(samples)
    _save(spool, recordings, counts, {name: np.concatenate(one) for name, one in parts.items()})


def _save(
    spool: Path,
    recordings: list[dict[str, Any]],
    counts: Mapping[str, int],
    arrays: Mapping[str, np.ndarray],
) -> None:
    """Write one line of JSON, then the arrays' bytes; whole or not at all."""
    entries = {}
    offset = -sum(values.nbytes for values in arrays.values())
    for name, values in arrays.items():
        entries[name] = {
            "dtype": values.dtype.str,
            "shape": values.shape,
            "offset": offset,
            "crc": zlib.crc32(values.data),
        }
        offset += values.nbytes
    partial = spool.with_suffix(".partial")
    with partial.open("wb") as stream:
        head = {"recordings": recordings, "counts": dict(counts), "arrays": entries}
        stream.write(canonical_json(head).encode() + b"\n")
        for values in arrays.values():
            stream.write(values.data)
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


def _describe(task: UnitTask, recording: Recording, windows: Windows) -> dict[str, Any]:
    """What the rows of a recording's samples have in common, and each one's span."""
    return {
        "name": [task.dataset_id, recording.key, task.variant],
        "rate": task.windowing.rate_hz,
        "spans": windows.spans,
        "common": {
            "subject": recording.subject,
            "session": recording.session,
            "trial": recording.trial,
            "placement": recording.placement,
            "environment": recording.environment,
            "label_text": recording.label,
            "raw_file": recording.raw_files[0],
            "extra": dict(recording.extra),
            "present": sorted(windows.data),
        },
    }


def _sample_rows(recording: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Rows of the sample table, from what `_describe` kept."""
    (dataset_id, key, variant), rate = recording["name"], recording["rate"]
    spans = recording["spans"]
    texts = ["whole" if span is None else f"{span[0]}:{span[1]}" for span in spans]
    uids = sample_uids(dataset_id, key, texts, variant)
    for index, (span, uid) in enumerate(zip(spans, uids, strict=True)):
        start, end = span or (None, None)
        yield {
            **recording["common"],
            "uid": uid,
            "raw_start": start,
            "raw_end": end,
            "t_start": start / rate if rate and start is not None else None,
            "t_end": end / rate if rate and end is not None else None,
            "window_index": index,
        }
