"""Reader of PAMAP2: nine people in 18 activities, inertial units on hand, chest and ankle.

Source: Reiss and Stricker, ISWC 2012, and the readme of the UCI archive; what was measured on real
rows is in the descriptor next to this module.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from mmbind_data.datasets.labelled_rows import (
    OTHER_ROWS,
    Segment,
    bridged_streams,
    check_not_infinite,
    labelled_segments,
)
from mmbind_data.datasets.reader import make_recording, preset_labels
from mmbind_data.datasets.registry import load_descriptor
from mmbind_data.raw.files import (
    RawFile,
    RawListing,
    Unit,
    bad_file,
    natural,
    nothing_found,
    recognise,
    spans,
)
from mmbind_data.raw.tables import read_rows
from mmbind_data.signal.time_grid import spans_of
from mmbind_data.spec.descriptor import Recording

NAME = "pamap2"
FOLDERS = {"protocol": "Protocol", "optional": "Optional"}
SUBJECTS = {"protocol": tuple(range(101, 110)), "optional": (101, 105, 106, 108, 109)}
SESSIONS = {"default": ("protocol",), "reference": ("protocol",), "all": ("protocol", "optional")}
N_COLUMNS = 54
TIME, ACTIVITY, HEART_RATE = 0, 1, 2
UNIT_START = {"hand": 3, "chest": 20, "ankle": 37}
# within a unit's 17 columns; 4-6 is the +-6 g acceleration, which saturates, 13-16 is invalid
OFFSETS = {"acc": 1, "gyro": 7, "mag": 10}
MODALITIES = (*OFFSETS, "heart_rate")
TRANSIENT = 0  # between two activities
STEP = 0.01  # seconds between two rows
MAX_BRIDGE = 10  # frames, 0.1 s: most drop-outs last 1 to 7
STALE = 10.0  # seconds; a heart rate that was read longer ago is worth a remark
FEMALE, LEFT_HANDED = {"102"}, {"108"}
# rows of the official files, which reveal a file that was cut at the end of a line
N_ROWS = {
    "Protocol/subject101.dat": 376417,
    "Protocol/subject102.dat": 447000,
    "Protocol/subject103.dat": 252833,
    "Protocol/subject104.dat": 329576,
    "Protocol/subject105.dat": 374783,
    "Protocol/subject106.dat": 361817,
    "Protocol/subject107.dat": 313599,
    "Protocol/subject108.dat": 408031,
    "Protocol/subject109.dat": 8477,
}
DATA_PATH = re.compile(r"(?:^|.*/)(Protocol|Optional)(?:\.zip)?/subject(10[1-9])\.dat")

TRANSIENT_ROWS = "rows between activities (label 0) left out"
SPLITS = "activities split at a time gap"
WRONG_ROWS = "rows more or fewer than in the official files"
BRIDGED = "frames of drop-outs up to 0.1 s bridged linearly"
LOST = "frames of longer drop-outs, or of drop-outs at an end, left as gaps"
ZEROED = "frames of drop-outs set to 0"
HELD = "heart-rate frames carried forward from an earlier reading"
HELD_LONG = "heart-rate frames carried forward for more than 10 s"


def find(files: Sequence[RawFile], preset: str) -> RawListing:
    """Make one unit of each subject's session that the preset reads; nothing is opened.

    Raises
    ------
    RawLayoutError
        No file of such a session.
    """
    by_path, unknown, notes = recognise(files, _canonical)
    units, left = [], []
    for path in sorted(by_path, key=natural):
        session = path.split("/")[0].lower()
        if session not in SESSIONS[preset]:
            left.append(path)
            continue
        fields = {"subject": path[-7:-4], "session": session}
        key = path.removesuffix(".dat")
        units.append(Unit(key, {"data": by_path[path]}, fields, placements=tuple(UNIT_START)))
    if not units:
        step = "Give the folder that holds PAMAP2_Dataset.zip, or Protocol."
        if left:
            step = "What is there fits --preset all."
        raise nothing_found(NAME, files, "files such as Protocol/subject101.dat", step)
    notes += _notes(units, SESSIONS[preset])
    if left:
        notes.append(f"not read with this preset: {len(left)} files of optional activities")
    return RawListing(tuple(units), tuple(unknown), tuple(notes), MODALITIES)


def read(unit: Unit, modalities: Sequence[str], preset: str) -> Iterator[Recording]:
    """Read the recordings of one file: one per placement and uninterrupted activity.

    Yields
    ------
    Recording
        acc in m/s^2, gyro in rad/s, mag in uT, each (n, 3); heart_rate (n, 1) in 1/min, the last
        reading carried forward, absent before the file's first. All float32 at 100 Hz. Drop-outs
        of up to 0.1 s are bridged linearly, longer ones are gaps; with preset reference all are 0.

    Raises
    ------
    RawLayoutError
        The file is no table of 54 numbers per row, or a time or an activity is not what it can be.
    """
    file = unit.files["data"]
    table = _decode(file, modalities, unit.placements)
    codes = _codes(file, table)
    segments, counts = _segments(file, table[TIME], codes, preset)
    heart_rate = _held(table) if "heart_rate" in modalities else None
    for placement in unit.placements:
        positions = {name: _columns(placement, name) for name in modalities if name in OFFSETS}
        for segment in segments:
            streams, gaps, repairs = _streams(table, positions, segment.rows, preset)
            if heart_rate is not None:
                streams, gaps = _with_heart_rate(streams, gaps, heart_rate, segment.rows, repairs)
            if not streams:
                continue  # only the heart rate was asked for, and none was read yet
            yield make_recording(
                unit,
                {name: streams[name] for name in modalities if name in streams},
                [file],
                key=f"/{placement}/{segment.number}",
                label=segment.label,
                trial=str(segment.number),
                placement=placement,
                extra=_extra(unit.fields["subject"], segment.rows.start),
                gaps=spans_of(gaps),
                counts={**counts, **repairs},
            )
            counts = {}  # remarks on the whole file belong to one recording


def _canonical(path: str) -> str | None:
    match = DATA_PATH.fullmatch(path)
    if match is None or int(match[2]) not in SUBJECTS[match[1].lower()]:
        return None
    return f"{match[1]}/subject{match[2]}.dat"


def _notes(units: Sequence[Unit], sessions: Sequence[str]) -> list[str]:
    total = sum(len(SUBJECTS[session]) for session in sessions)
    parts = []
    for session in sessions:
        subjects = [int(one.fields["subject"]) for one in units if one.fields["session"] == session]
        parts.append(f"{FOLDERS[session]} {spans(subjects) or 'none'}")
    return [f"{len(units)} of {total} files found ({', '.join(parts)})"]


def _extra(subject: str, first_row: int) -> dict[str, str]:
    return {
        "sex": "female" if subject in FEMALE else "male",
        "dominant_hand": "left" if subject in LEFT_HANDED else "right",
        "first_row": str(first_row),
    }


def _decode(
    file: RawFile, modalities: Sequence[str], placements: Sequence[str]
) -> dict[int, np.ndarray]:
    """Decode the columns that are needed, NaN where nothing was read."""
    columns = [TIME, ACTIVITY]
    if "heart_rate" in modalities:
        columns.append(HEART_RATE)
    for placement in placements:
        for name in modalities:
            if name in OFFSETS:
                columns += _columns(placement, name)
    table = read_rows(file, N_COLUMNS, columns, missing=True)
    check_not_infinite(file, table, expected="a number", complete=[TIME])
    return table


def _columns(placement: str, modality: str) -> range:
    start = UNIT_START[placement] + OFFSETS[modality]
    return range(start, start + 3)


def _codes(file: RawFile, table: Mapping[int, np.ndarray]) -> np.ndarray:
    known = [TRANSIENT, *(int(code) for code in load_descriptor(NAME).labels)]
    values = table[ACTIVITY]
    foreign = ~np.isin(values, known)
    if foreign.any():
        row = int(np.argmax(foreign))
        what = f"activity on line {row + 1}"
        raise bad_file(file, what, f"one of {spans(known)}", f"{values[row]:g}")
    return values.astype(np.int64)


def _segments(
    file: RawFile, times: np.ndarray, codes: np.ndarray, preset: str
) -> tuple[list[Segment], dict[str, int]]:
    """Split the rows where the activity changes or the time does not go on by one step."""
    descriptor = load_descriptor(NAME)
    jumps = np.abs(np.diff(times) - STEP) > STEP / 2
    changes = np.diff(codes) != 0
    labels = [descriptor.labels.get(str(code), "") for code in range(codes.max() + 1)]
    kept = preset_labels(descriptor, preset)
    segments, n_others = labelled_segments(np.array(labels)[codes], jumps | changes, kept)
    return segments, {
        TRANSIENT_ROWS: int((codes == TRANSIENT).sum()),
        OTHER_ROWS: n_others,
        SPLITS: int((jumps & ~changes & (codes[1:] != TRANSIENT)).sum()),
        WRONG_ROWS: abs(len(codes) - N_ROWS.get(file.path, len(codes))),
    }


def _streams(
    table: Mapping[int, np.ndarray], positions: Mapping[str, range], rows: slice, preset: str
) -> tuple[dict[str, np.ndarray], np.ndarray, dict[str, int]]:
    """Inertial streams of one segment, the frames that stay missing, and what was repaired."""
    if preset == "reference":
        values = [np.stack([table[i][rows] for i in at], axis=1) for at in positions.values()]
        no_gap = np.zeros(rows.stop - rows.start, dtype=bool)
        absent = [np.isnan(one).any(axis=1) for one in values]
        zeroed = int(np.logical_or.reduce([no_gap, *absent]).sum())
        filled = (np.nan_to_num(one).astype(np.float32) for one in values)
        return dict(zip(positions, filled, strict=True)), no_gap, {ZEROED: zeroed}
    streams, gaps, n_bridged = bridged_streams(table, positions, rows, MAX_BRIDGE)
    return streams, gaps, {BRIDGED: n_bridged, LOST: int(gaps.sum())}


def _held(table: Mapping[int, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Heart rate carried forward through the file, and its age in seconds (0: just read)."""
    values, times = table[HEART_RATE], table[TIME]
    rows = np.arange(len(values))
    last = np.maximum.accumulate(np.where(np.isnan(values), 0, rows))
    return values[last], np.where(last == rows, 0.0, times - times[last])


def _with_heart_rate(
    streams: Mapping[str, np.ndarray],
    gaps: np.ndarray,
    heart_rate: tuple[np.ndarray, np.ndarray],
    part: slice,
    repairs: dict[str, int],
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    values, age = (one[part] for one in heart_rate)
    missing = np.isnan(values)
    if missing.all():
        return dict(streams), gaps
    repairs[HELD] = int(((age != 0) & ~missing).sum())
    repairs[HELD_LONG] = int(((np.abs(age) > STALE + STEP / 2) & ~missing).sum())
    return {**streams, "heart_rate": values[:, np.newaxis].astype(np.float32)}, gaps | missing
