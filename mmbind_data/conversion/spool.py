"""Convert one unit of raw data and keep the result in a spool file until the store is assembled.

Each process appends the units it converts to a spool file of its own: one line of JSON, then the
arrays' bytes. A record holds what went into it (configuration, raw bytes, reader version), so an
interrupted conversion finds what is done already and recomputes the rest.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mmbind_data.datasets.registry import open_reader
from mmbind_data.io.digests import canonical_json, file_digest, text_digest
from mmbind_data.raw.files import OFFICIAL, RawFile, Unit, bad_layout, is_streamed
from mmbind_data.signal.point_clouds import RaggedPoints
from mmbind_data.signal.windows import WindowedRecording, make_windows
from mmbind_data.spec.descriptor import Recording, Windowing

SPOOL_VERSION = "4"  # raise it when window.py gives other samples, or the head other facts
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
    run: str  # begins the names of this run's spool files: no run appends to those of another
    earlier: tuple[Spooled, ...] = ()  # what earlier runs made of this unit


@dataclass(frozen=True)
class Spooled:
    """A converted unit: what is known of its samples, and where their bytes are.

    ``head`` holds ``recordings`` as `sample_columns` needs them, ``counts`` (remarks and how often
    each applies), ``longest`` (frames and file of the longest stretch that was too short for a
    window) and ``arrays``: dtype, shape, offset and CRC by name.
    """

    digest: str  # of all that went into it
    file: Path
    begin: int  # of the first array
    head: Mapping[str, Any]

    @property
    def present(self) -> list[tuple[int, list[str]]]:
        """Number of samples and their modalities, by recording."""
        return [(len(one["spans"]), one["present"]) for one in self.head["recordings"]]


@dataclass(frozen=True)
class UnitResult:
    """A unit's samples, and what was read for them."""

    spooled: Spooled
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
    for spooled in task.earlier:
        if spooled.digest == digest and _intact(spooled):
            return UnitResult(spooled, resumed=True, raw_files=raw_files)
    head, arrays = _convert(task, unit)
    if _stamps(task.unit) != stamps:
        files = ", ".join(file.place for file in task.unit.files.values())
        expected, got = "raw data that stays as it is", "a change while it was read"
        step = "Run the same command again."
        raise bad_layout(task.dataset, "a file that changes", files, expected, got, step)
    spooled = _append(task.folder / f"{task.run}-{os.getpid()}{SUFFIX}", digest, head, arrays)
    return UnitResult(spooled, resumed=False, raw_files=raw_files)


def read_spools(folder: Path) -> dict[str, list[Spooled]]:
    """Units that earlier runs left in a folder, by key; what a crash cut off is not among them."""
    found: dict[str, list[Spooled]] = {}
    for file in sorted(folder.glob(f"*{SUFFIX}")):
        with file.open("rb") as stream, suppress(ValueError, KeyError, TypeError):
            size = file.stat().st_size
            while line := stream.readline():
                record = json.loads(line)
                begin = stream.tell()
                if begin + record["bytes"] > size:
                    break
                spooled = Spooled(record["digest"], file, begin, record["head"])
                found.setdefault(record["head"]["key"], []).append(spooled)
                stream.seek(record["bytes"], os.SEEK_CUR)
    return found


def read_samples(spooled: Spooled, modality: str, shape: tuple[int, ...]) -> np.ndarray:
    """Samples of one modality, all NaN where it is absent: float32, shape (n_samples, *shape)."""
    if all(modality in names for _, names in spooled.present):
        return _read_array(spooled, modality)
    present = _carries(spooled, modality)
    samples = np.full((len(present), *shape), np.nan, dtype=np.float32)
    if present.any():
        samples[present] = _read_array(spooled, modality)
    return samples


def read_clouds(spooled: Spooled, modality: str, shape: tuple[int, ...]) -> RaggedPoints:
    """Samples of one point cloud modality of a unit, without points where it is absent.

    ``shape`` is the number of frames, and of numbers per point.
    """
    n_frames, n_features = shape
    present = _carries(spooled, modality)
    frames = np.zeros((len(present), n_frames + 1), dtype=np.int64)
    if not present.any():
        return RaggedPoints(np.empty((0, n_features), dtype=np.float32), frames)
    frames[present] = _read_array(spooled, f"{modality}{FRAMES}")
    return RaggedPoints(_read_array(spooled, modality), frames)


def _carries(spooled: Spooled, modality: str) -> np.ndarray:
    """Which of a unit's samples have a modality: bool, shape (n_samples,)."""
    runs = [np.full(n, modality in names) for n, names in spooled.present]
    return np.concatenate([np.zeros(0, dtype=bool), *runs])


def _read_array(spooled: Spooled, name: str) -> np.ndarray:
    entry = spooled.head["arrays"][name]
    dtype, shape = np.dtype(entry["dtype"]), tuple(entry["shape"])
    content = np.empty(dtype.itemsize * int(np.prod(shape)), dtype=np.uint8)
    n_read = 0
    with spooled.file.open("rb", buffering=0) as stream:
        stream.seek(spooled.begin + entry["offset"])
        while n_read < len(content) and (n := stream.readinto(content[n_read:].data)):
            n_read += n
    if n_read < len(content):
        message = f"{spooled.file} was cut short while it was in use"
        raise OSError(message)
    values: np.ndarray = content.view(dtype).reshape(shape)
    return values


def _hold(unit: Unit) -> tuple[Unit, tuple[tuple[str, int, str, str], ...]]:
    """Hash a unit's files; all but the largest are read once, for the hash and for the reader."""
    held, raw_files = {}, []
    for role, file in sorted(unit.files.items()):
        held[role], size, sha256 = _hashed(file)
        raw_files.append((file.path, size, sha256, role))
    return replace(unit, files={role: held[role] for role in unit.files}), tuple(raw_files)


def _hashed(file: RawFile) -> tuple[RawFile, int, str]:
    if is_streamed(file):
        with suppress(OSError):  # then reading it raises an error of its own
            return file, file.container.stat().st_size, file_digest(file.container)
    content = file.read()
    return replace(file, content=content), len(content), hashlib.sha256(content).hexdigest()


def _stamps(unit: Unit) -> list[int]:
    """When the streamed files changed: what is hashed must be what is parsed later."""
    streamed = filter(is_streamed, unit.files.values())
    return [file.container.stat().st_mtime_ns for file in streamed if file.container.exists()]


def _intact(spooled: Spooled) -> bool:
    """Whether a spooled unit can be read back whole; one that cannot is made again."""
    try:
        return all(
            zlib.crc32(_read_array(spooled, name).data) == entry["crc"]
            for name, entry in spooled.head["arrays"].items()
        )
    except (ValueError, KeyError, OSError):
        return False


def _convert(task: UnitTask, unit: Unit) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read and window a unit: what is known of its samples, and their values by modality."""
    recordings: list[dict[str, Any]] = []
    counts: Counter[str] = Counter()
    parts: dict[str, list[np.ndarray]] = {}
    longest = (0, "")  # of the recordings that give no sample
    # a number beyond float32 becomes infinity, and NaN between two frames: refused below, by name
    with np.errstate(over="ignore", invalid="ignore"):
        for recording in open_reader(task.dataset, task.document).read(
            unit, task.modalities, task.preset
        ):
            if task.labels is not None and recording.label not in task.labels:
                continue
            windows = make_windows(recording, task.windowing, task.kinds)
            counts.update(recording.counts)
            if windows.n_dropped:
                counts[DROPPED] += windows.n_dropped
            if not windows.spans:
                if recording.raw_files:  # none where nothing of it could be used
                    longest = max(longest, (_longest_stretch(recording), recording.raw_files[0]))
                continue
            recordings.append(_describe(task, recording, windows))
            for name, samples in windows.data.items():
                if isinstance(samples, list):
                    clouds = RaggedPoints.of(samples)
                    parts.setdefault(f"{name}{FRAMES}", []).append(clouds.frame_offsets)
                    samples = clouds.values
                _check_finite(task, recording, name, samples)
                parts.setdefault(name, []).append(samples)
    head = {"key": unit.key, "recordings": recordings, "counts": dict(counts), "longest": longest}
    arrays = {name: one[0] if len(one) == 1 else np.concatenate(one) for name, one in parts.items()}
    return head, {name: np.ascontiguousarray(values) for name, values in arrays.items()}


def _longest_stretch(recording: Recording) -> int:
    """Frames of the longest part of a recording that no gap interrupts."""
    n_frames = min((len(values) for values in recording.streams.values()), default=0)
    edges = [0, *(edge for gap in sorted(recording.gaps) for edge in gap), n_frames]
    return max(end - start for start, end in zip(edges[::2], edges[1::2], strict=True))


def _append(
    file: Path, digest: str, head: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
) -> Spooled:
    entries = {}
    offset = 0
    for name, values in arrays.items():
        entries[name] = {
            "dtype": values.dtype.str,
            "shape": values.shape,
            "offset": offset,
            "crc": zlib.crc32(values.data),
        }
        offset += values.nbytes
    whole = {**head, "arrays": entries}
    line = canonical_json({"digest": digest, "bytes": offset, "head": whole}).encode() + b"\n"
    with file.open("ab") as stream:
        begin = stream.tell() + len(line)
        stream.write(line)
        for values in arrays.values():
            stream.write(values.data)
    return Spooled(digest, file, begin, whole)


def _check_finite(task: UnitTask, recording: Recording, modality: str, samples: np.ndarray) -> None:
    if not np.isfinite(samples).all():
        what = f"{modality} of recording {recording.key} holds a value that float32 cannot"
        expected, got = "finite numbers below 3.4e38", "infinity or NaN"
        step = OFFICIAL if task.document is None else "Mend the file: no reading is that large."
        at = ", ".join(recording.raw_files)
        raise bad_layout(task.dataset, what, at, expected, got, step)


def _describe(task: UnitTask, recording: Recording, windows: WindowedRecording) -> dict[str, Any]:
    """What the rows of a recording's samples have in common, and each one's span."""
    return {
        "name": [task.dataset_id, recording.key, task.variant],
        "rate": task.windowing.rate_hz,
        "spans": windows.spans,
        "present": sorted(windows.data),
        "common": {
            "subject": recording.subject,
            "session": recording.session,
            "trial": recording.trial,
            "placement": recording.placement,
            "environment": recording.environment,
            "label_text": recording.label,
            "raw_file": recording.raw_files[0],
        },
        "extra": dict(recording.extra),
    }
