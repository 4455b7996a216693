"""Reader of MM-Fi: 27 actions of 40 people before cameras, lidar, radar and WiFi.

Source: Yang et al., NeurIPS 2023 Datasets and Benchmarks, and the toolbox
https://github.com/ybhbingo/MMFi_dataset (README, mmfi_lib/mmfi.py); what was measured on the files
themselves is in the descriptor next to this module.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mmbind_data.datasets.mmfi_frames import (
    ARRAYS,
    N_FRAMES,
    ROLES,
    Stream,
    depth_sides,
    read_stream,
)
from mmbind_data.datasets.reader import found_note, make_recording, presence_notes
from mmbind_data.datasets.registry import load_descriptor
from mmbind_data.errors import UsageError
from mmbind_data.raw.files import (
    RawFile,
    RawListing,
    Unit,
    bad_file,
    bad_layout,
    natural,
    nothing_found,
    read_content,
    recognise,
)
from mmbind_data.signal.point_clouds import PointFrames
from mmbind_data.spec.descriptor import Recording

NAME = "mmfi"
N_SEQUENCES = 40 * 27
FRAMES = {"default": N_FRAMES, "segments": N_FRAMES, "paper": 30}  # frames read, from the first on
FILTERED = "filtered_mmwave"
SEGMENTS = "MMFi_action_segments.csv"
SEGMENT_COLUMNS = ("Environment", "Subject", "Action", "Segments")
REHABILITATION = frozenset({1, *range(6, 13), 15, 16, 24, 25, 26})
SUFFIXES = {
    **dict.fromkeys(("rgb", "infra1", "infra2"), "npy"),
    **dict.fromkeys(("lidar", "mmwave"), "bin"),
    "depth": "png",
    "wifi-csi": "mat",
}
ENVIRONMENT = re.compile("E[0-9]{2}")
SUBJECT = re.compile("S(0[1-9]|[123][0-9]|40)")
ACTION = re.compile("A(0[1-9]|1[0-9]|2[0-7])")
SPAN = re.compile("([1-9][0-9]{0,2})-([1-9][0-9]{0,2})")


@dataclass(frozen=True)
class Place:
    """What the path of a folder means; ``folder`` is the modality's, empty for the action's."""

    sequence: str
    folder: str
    filtered: bool


def find(
    files: Sequence[RawFile], preset: str, radar: str = "plain", depth_size: str = "48x64"
) -> RawListing:
    """Sort the files into one unit per sequence; nothing is opened.

    A sequence may lack whole modalities and single frames. Frames behind the last one that the
    preset uses belong to no unit.

    Raises
    ------
    RawLayoutError
        No file of this dataset, a subject in another environment, or no segment table though the
        preset needs it.
    UsageError
        A depth size that whole squares of pixels do not make.
    """
    descriptor = load_descriptor(NAME)
    if depth_sides(depth_size) is None:
        expected = "480x640 divided by a whole number, such as 48x64 or 60x80"
        raise UsageError(
            cannot=f"convert {NAME}",
            problem="bad size",
            at="--set depth_size",
            expected=expected,
            got=depth_size,
        )
    images = {one.path for one in files if one.path.endswith(".png") and "/rgb/" in one.path}
    rest = [file for file in files if file.path not in images]
    places: dict[str, Place | None] = {}  # 297 files share a folder
    by_path, unknown, notes = recognise(rest, lambda path: _canonical(path, places))
    if images:
        notes.append(f"{len(images)} RGB images are not read")
    sequences: dict[str, dict[str, RawFile]] = {}
    # the ground truth in the filtered tree is a copy: it counts where there is no other
    for path in sorted(by_path, key=lambda one: one.startswith(FILTERED)):
        sequence, role = _role(path, FRAMES[preset], radar)
        if role:
            sequences.setdefault(sequence, {}).setdefault(role, by_path[path])
    if not sequences:
        step = "Give the folder that holds E01 to E04, unpacked or as zips."
        raise nothing_found(NAME, files, "files such as E01/S01/A01/mmwave/frame001.bin", step)
    table = by_path.get(SEGMENTS) if preset == "segments" else None
    if preset == "segments" and table is None:
        step = "Put that file beside E01, or use another preset."
        raise nothing_found(f"{NAME}, preset segments", files, SEGMENTS, step)
    options = {"radar": radar, "depth_size": depth_size}
    needed_for = _needed_for(FRAMES[preset])
    units = [
        _unit(key, sequences[key], table, descriptor.labels, options, needed_for)
        for key in sorted(sequences, key=natural)
    ]
    found = Counter(role for unit in units for role in {one.split("/")[0] for one in unit.files})
    notes.append(found_note(units, N_SEQUENCES, "sequences"))
    notes += presence_notes({one: found[one] for one in ROLES.values()}, len(units), "sequences")
    notes += _not_read(by_path, radar)
    modalities = tuple(name for name, role in ROLES.items() if found[role])
    return RawListing(tuple(units), tuple(unknown), tuple(notes), modalities)


def read(unit: Unit, modalities: Sequence[str], preset: str) -> Iterator[Recording]:
    """Read the sequence of a unit: one recording, or with preset ``segments`` one per repetition.

    Yields
    ------
    Recording
        Streams of f frames, 0.1 s apart, float32: skeleton (f, 17, 3) m, y down, z away;
        keypoints (f, 17, 2) px; depth (f, H, W) m, 0 without reading; lidar `PointFrames` x, y, z
        m, x forward; radar `PointFrames` x, y, z m, intensity, doppler m/s; wifi_csi
        (f, 3, 114, 10) dB and wifi_csi_phase rad. A missing frame repeats the nearest one up
        to 5 frames away, the earlier of two; a stream with a frame that none is near to is left
        out of the recording. Both are counted. Nothing is yielded where no stream is left.

    Raises
    ------
    RawLayoutError
        A file is not what it must be.
    """
    found = {name: read_stream(unit, name, FRAMES[preset]) for name in modalities}
    streams = {name: stream for name, stream in found.items() if stream is not None}
    if not streams:
        return  # a row without a single stream would say nothing
    if preset != "segments":
        yield from _recording(unit, streams, (1, FRAMES[preset]), None)
        return
    for number, segment in enumerate(read_segments(unit.files["segments"], unit.key), 1):
        yield from _recording(unit, streams, segment, number)


def read_segments(file: RawFile, sequence: str) -> list[tuple[int, int]]:
    """First and last frame, from 1, of each repetition in a sequence such as ``E01/S01/A01``."""
    try:
        # utf-8-sig: the official file begins with a byte order mark
        text = read_content(file).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise bad_file(file, "unreadable table", "UTF-8 text", str(error)) from error
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    header = lines[0].split(",")
    if tuple(header[:4]) != SEGMENT_COLUMNS or any(header[4:]):
        expected = ",".join(SEGMENT_COLUMNS) + " and columns without a name"
        raise bad_file(file, "another header", expected, lines[0][:200])
    for number, line in enumerate(lines, 1):
        if line and line.count(",") != len(header) - 1:
            expected = f"{len(header)} as in the header"
            raise bad_file(file, f"cells on line {number}", expected, str(line.count(",") + 1))
    start = ",".join([*sequence.split("/"), ""])
    mine = [line.removeprefix(start).split(",") for line in lines if line.startswith(start)]
    if len(mine) != 1:
        raise bad_file(file, f"rows of {sequence}", "one", str(len(mine)))
    n_cells = max((i for i, cell in enumerate(mine[0], 1) if cell), default=0)
    segments = []
    for cell in mine[0][: max(n_cells, 1)]:
        match = SPAN.fullmatch(cell)
        if match is None or not int(match[1]) <= int(match[2]) <= N_FRAMES:
            expected = f"first-last within 1-{N_FRAMES}"
            raise bad_file(file, f"a segment of {sequence}", expected, repr(cell))
        segments.append((int(match[1]), int(match[2])))
    return segments


def _recording(
    unit: Unit, streams: Mapping[str, Stream], frames: tuple[int, int], number: int | None
) -> Iterator[Recording]:
    """Yield the first to the last frame, from 1, of the streams that are complete there."""
    span, counts = slice(frames[0] - 1, frames[1]), Counter[str]()
    kept: dict[str, np.ndarray | PointFrames] = {}
    files: list[RawFile] = []
    for name, stream in streams.items():
        if stream.lost[span].any():
            counts[f"{name} left out of a recording: a frame is missing and none is near"] += 1
            continue
        values = stream.values
        kept[name] = (
            values.take(range(span.start, span.stop))
            if isinstance(values, PointFrames)
            else values[span]
        )
        used = sorted({int(index) for index in stream.source[span] if index >= 0})
        files += [stream.files[index] for index in used]
        counts.update({text: int(n[span].sum()) for text, n in stream.remarks.items()})
    extra = {"exercise": unit.fields["exercise"]}
    if number is not None:
        extra |= {"first_frame": str(frames[0]), "last_frame": str(frames[1])}
        files.append(unit.files["segments"])
    trial = None if number is None else str(number)
    yield make_recording(
        unit, kept, files, key=f"/{trial}" if trial else "", trial=trial, extra=extra, counts=counts
    )


def _canonical(path: str, places: dict[str, Place | None]) -> str | None:
    folder, _, name = path.rpartition("/")
    if name == SEGMENTS:
        return SEGMENTS
    if folder not in places:
        places[folder] = _place(folder)
    place = places[folder]
    if place is None:
        return None
    stem, _, suffix = name.rpartition(".")
    number = stem.removeprefix("frame")
    is_frame = len(stem) == 8 and len(number) == 3 and number.isascii() and number.isdigit()
    is_frame = is_frame and 1 <= int(number) <= N_FRAMES
    if place.folder:
        known = is_frame and suffix == SUFFIXES.get(place.folder)
        return f"{place.sequence}/{place.folder}/{name}" if known else None
    tree = f"{FILTERED}/" if place.filtered else ""
    if suffix == "npy" and (stem == ROLES["skeleton"] or (stem in SUFFIXES and not tree)):
        return f"{tree}{place.sequence}/{name}"
    # only the filtered tree has frames in the folder of the action itself
    return f"{FILTERED}/{place.sequence}/{name}" if is_frame and suffix == "bin" else None


def _place(folder: str) -> Place | None:
    """Tell the sequence from a folder; zips and doubled folders count as the folder they hold.

    Raises
    ------
    RawLayoutError
        The folder puts the subject into an environment that is not the subject's.
    """
    names = [name.removesuffix(".zip") for name in folder.split("/")]
    names = [name for i, name in enumerate(names) if i == 0 or name != names[i - 1]]
    inner = "" if ACTION.fullmatch(names[-1]) else names.pop()
    if len(names) < 2 or not ACTION.fullmatch(names[-1]) or not SUBJECT.fullmatch(names[-2]):
        return None
    *above, subject, action = names
    environment = f"E{(int(subject[1:]) + 9) // 10:02d}"
    if above and ENVIRONMENT.fullmatch(above[-1]) and above[-1] != environment:
        expected = f"{subject} in {environment}"
        step = "Compare the folder with the official one."
        raise bad_layout(NAME, "another environment", folder, expected, above[-1], step)
    filtered = FILTERED in above
    inner = "" if filtered and inner == "mmwave" else inner
    return Place(f"{environment}/{subject}/{action}", inner, filtered)


def _role(path: str, n_frames: int, radar: str) -> tuple[str, str]:
    """Sequence of a canonical path and the file's role in its unit; "" for a file not read."""
    filtered = path.startswith(FILTERED)
    names = path.removeprefix(f"{FILTERED}/").split("/")
    sequence, folder = "/".join(names[:3]), "mmwave" if filtered else "/".join(names[3:-1])
    stem = names[-1].partition(".")[0]
    if not stem.startswith("frame"):
        return sequence, stem if stem in ARRAYS else ""
    wanted = folder != "mmwave" or filtered == (radar == "filtered")
    return sequence, f"{folder}/{stem[5:]}" if wanted and int(stem[5:]) <= n_frames else ""


def _needed_for(n_frames: int) -> dict[str, tuple[str, ...]]:
    needed_for: dict[str, tuple[str, ...]] = {}
    for role in dict.fromkeys(ROLES.values()):
        names = tuple(name for name in ROLES if ROLES[name] == role)
        frames = (f"{role}/{number:03d}" for number in range(1, n_frames + 1))
        needed_for |= dict.fromkeys((role, *frames), names)
    return needed_for


def _unit(
    sequence: str,
    found: Mapping[str, RawFile],
    table: RawFile | None,
    labels: Mapping[str, str],
    options: Mapping[str, str],
    needed_for: Mapping[str, tuple[str, ...]],
) -> Unit:
    environment, subject, action = sequence.split("/")
    folders = {role.partition("/")[0] for role in found if "/" in role}
    # frames are read rather than one array of the same modality
    roles = {role: found[role] for role in sorted(found) if role not in folders}
    if table is not None:
        roles["segments"] = table
    fields = {
        "environment": environment,
        "subject": subject,
        "label": labels[action],
        "exercise": "rehabilitation" if int(action[1:]) in REHABILITATION else "daily",
    }
    return Unit(sequence, roles, {**fields, **options}, needed_for)


def _not_read(by_path: Mapping[str, RawFile], radar: str) -> list[str]:
    """Remarks on what belongs to the dataset and is left aside."""
    notes = []
    if radar == "plain" and any(path.startswith(FILTERED) for path in by_path):
        notes.append(f"{FILTERED} is not read: --set radar=filtered reads it")
    if radar == "filtered" and any("/mmwave/" in path for path in by_path):
        notes.append("mmwave folders are not read: radar=filtered")
    arrays = [path for path in by_path if path.endswith(".npy") and "/frame" not in path]
    arrays = [path for path in arrays if path.rsplit("/", 1)[-1][:-4] not in ARRAYS]
    if arrays:
        notes.append(f"{len(arrays)} arrays in place of a folder are not read, e.g. {min(arrays)}")
    return notes
