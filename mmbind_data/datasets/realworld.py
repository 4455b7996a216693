"""Reader of RealWorld (HAR) 2016: 15 people, 8 activities, phones or watches at 7 body positions.

Source: Sztyler and Stuckenschmidt, PerCom 2016, and the dataset's web page at the University of
Mannheim; what was measured on real files, and what is only reported, is in the descriptor next to
this module.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mmbind_data.datasets.reader import found_note, make_recording, presence_notes, preset_labels
from mmbind_data.datasets.registry import load_descriptor
from mmbind_data.raw.files import (
    RawFile,
    RawListing,
    Unit,
    bad_file,
    natural,
    nothing_found,
    recognise,
)
from mmbind_data.raw.tables import read_csv
from mmbind_data.signal.time_grid import common_grid, interpolate, spans_of, undelayed
from mmbind_data.spec.descriptor import Recording

NAME = "realworld"
SUBJECTS = range(1, 16)
STILL, MOVING = ("lying", "sitting", "standing"), ("jumping", "running", "walking")
ACTIVITIES = ("climbingdown", "climbingup", *STILL, *MOVING)
POSITIONS = ("chest", "forearm", "head", "shin", "thigh", "upperarm", "waist")
# as far as known: the stairs have two parts more for three subjects, two files were never made
MORE_PARTS = {"climbingdown": 6, "climbingup": 6}
NEVER_MADE = {"climbingup": 1, "jumping": 1}
PERIOD = 20.0  # ms between two samples, and between two frames of the grid
MAX_BACK = 10_000.0  # ms that time may run back; the clock of a phone is set now and then
MEDIAN_INTERVAL = (5.0, 100.0)  # ms; the real files have 20
TIME, VALUES = "attr_time", ("attr_x", "attr_y", "attr_z")


@dataclass(frozen=True)
class Sensor:
    """How one sensor is called in the names of zips, and of the files in them."""

    folder: str
    file: str


@dataclass(frozen=True)
class Named:
    """A recording as named by its path; parts are the takes of one activity, counted from 1."""

    subject: str
    activity: str
    part: str
    position: str

    def __str__(self) -> str:
        return f"proband{self.subject}/{self.activity}_{self.part}/{self.position}"


SENSORS: Mapping[str, Sensor] = {
    "acc": Sensor("acc", "acc"),
    "gyro": Sensor("gyr", "Gyroscope"),
    "mag": Sensor("mag", "MagneticField"),
}
FILE_NAME = re.compile(
    rf"({'|'.join(sensor.file for sensor in SENSORS.values())})_({'|'.join(ACTIVITIES)})"
    rf"(?:_([1-9]))?_({'|'.join(POSITIONS)})\.csv"
)
FOLDER = re.compile(
    rf"({'|'.join(sensor.folder for sensor in SENSORS.values())})_({'|'.join(ACTIVITIES)})"
    r"(?:_([1-9]))?_csv(?:\.zip)?"
)
SUBJECT = re.compile(r"(?:proband|s)([1-9][0-9]?)(?:\.zip)?")
# other parts of the distribution, which no modality is read from
OTHER_PARTS = re.compile(
    r".*(?:^|/)(?:(?:gps|lig|mic)_[a-z]+(?:_[1-9])?_csv|[a-z]+_[a-z]+(?:_[1-9])?_sqlite)(?:\.zip)?/.+"
    r"|.*(?:^|/)proband[0-9]+(?:\.zip)?/(?:images|videos)(?:\.zip)?/.+"
)
LATE = "samples that were delivered late, put back to when they were taken"
NOT_INCREASING = "time stamps not later than the one before"
CUT = "seconds that not all sensors of a recording cover"
NO_COMMON_TIME = "recordings whose sensors have no time in common"


def find(
    files: Sequence[RawFile], preset: str, times: str = "taken", max_gap_ms: str = "100"
) -> RawListing:
    """Sort the files into one unit per subject, activity, part and position; nothing is opened.

    A unit may lack the file of one or two sensors.

    Raises
    ------
    RawLayoutError
        No file is named like one of this dataset.
    """
    labels = _labels(preset)
    by_path, unknown, notes = recognise(files, _canonical)
    found: dict[Named, dict[str, RawFile]] = {}
    for path, file in by_path.items():
        parsed = _parse(path)
        if parsed is not None and parsed[1].activity in labels:
            found.setdefault(parsed[1], {})[parsed[0]] = file
    if not found:
        expected = "files such as proband1/data/acc_walking_csv.zip"
        step = "Give the folder that holds proband1 and the others, or realworld2016_dataset.zip."
        raise nothing_found(NAME, files, expected, step)
    units = []
    for named, present in found.items():
        fields = {
            "subject": named.subject,
            "label": labels[named.activity],
            "trial": named.part,
            "placement": named.position,
            "times": times,
            "max_gap_ms": max_gap_ms,
        }
        roles = {modality: present[modality] for modality in SENSORS if modality in present}
        # no role is needed for one modality only: all sensors together make the common grid
        units.append(Unit(str(named), roles, fields))
    units.sort(key=lambda unit: natural(unit.key))
    unrecognised = tuple(path for path in unknown if not OTHER_PARTS.fullmatch(path))
    n_found = {name: sum(name in unit.files for unit in units) for name in SENSORS}
    complete = sum(
        len(POSITIONS) * (len(SUBJECTS) + MORE_PARTS.get(one, 0)) - NEVER_MADE.get(one, 0)
        for one in labels
    )
    notes += [
        found_note(units, complete, "recordings"),
        *presence_notes(n_found, len(units), "recordings"),
    ]
    n_skipped = len(unknown) - len(unrecognised)
    if n_skipped:
        notes.append(f"not read: {n_skipped} files of other sensors, images and videos")
    modalities = tuple(name for name in SENSORS if n_found[name])
    return RawListing(tuple(units), unrecognised, tuple(notes), modalities)


def read(unit: Unit, modalities: Sequence[str], preset: str) -> Iterator[Recording]:
    """Read the one recording of a unit: sensors of one device on a common grid of 50 Hz.

    The grid spans what all sensors of the recording cover, also those that were not asked for:
    the position of windows must not depend on the choice of modalities.

    Yields
    ------
    Recording
        acc (n, 3) in m/s^2 with gravity, gyro (n, 3) in rad/s, mag (n, 3) in uT, float32; NaN in
        gaps. A sensor whose file is missing is absent. Nothing is yielded for a unit that lacks
        all that was asked for.

    Raises
    ------
    RawLayoutError
        A file is empty, a column or value is not what it must be, or time runs back by more than
        10 s.
    """
    wanted = [name for name in modalities if name in unit.files]
    if not wanted:
        return
    counts: Counter[str] = Counter()
    tracks = {}
    for name, file in unit.files.items():
        columns = read_csv(file, (TIME, *VALUES) if name in wanted else (TIME,))
        tracks[name] = _track(file, columns, unit.fields["times"], counts)
    every = [times for times, _ in tracks.values()]
    grid = common_grid(every, PERIOD, [unit.files[name].place for name in tracks], "ms")
    counts[NO_COMMON_TIME] = int(len(grid) == 0)
    span = max(float(times[-1]) for times in every) - min(float(times[0]) for times in every)
    counts[CUT] = int((span - PERIOD * max(len(grid) - 1, 0)) / 1000)
    in_gap = np.zeros(len(grid), dtype=bool)
    streams = {}
    for name in wanted:
        times, values = tracks[name]
        max_gap = float(unit.fields["max_gap_ms"])
        on_grid, lost = interpolate(times, values, grid, max_gap)
        on_grid[lost] = np.nan
        streams[name] = on_grid.astype(np.float32)
        in_gap |= lost
    yield make_recording(
        unit,
        streams,
        [*unit.files.values()],
        extra={"start_ms": f"{grid[0]:.0f}"} if len(grid) else {},
        gaps=spans_of(in_gap),
        counts=counts,
    )


def are_milliseconds(intervals: np.ndarray) -> bool:
    """Whether stamps at these intervals count milliseconds: their median is in `MEDIAN_INTERVAL`.

    Without any interval the answer is yes.
    """
    low, high = MEDIAN_INTERVAL
    n_outside = max(np.count_nonzero(intervals < low), np.count_nonzero(intervals > high))
    if 2 * n_outside < len(intervals):  # so that no value need be sorted
        return True
    return not len(intervals) or bool(low <= np.median(intervals) <= high)


def _labels(preset: str) -> dict[str, str]:
    """Activities that a preset reads, and the labels they become."""
    descriptor = load_descriptor(NAME)
    kept = preset_labels(descriptor, preset)
    return {code: text for code, text in descriptor.labels.items() if text in kept}


def _track(
    file: RawFile, columns: Mapping[str, np.ndarray], times: str, counts: Counter[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Strictly increasing times in ms, shape (n,), and values, shape (n, 3).

    ``times`` is how to understand the stamps: as those of the delivery of samples that were
    "taken" at a steady rate before, or, "written", the times of the samples themselves.
    """
    stamps = columns[TIME]
    values = np.stack([columns[name] for name in VALUES if name in columns] or [stamps], axis=1)
    latest = np.maximum.accumulate(stamps)
    back = float((latest - stamps).max())
    if back > MAX_BACK:
        row = int(np.argmax(latest - stamps))
        expected = f"no step back of more than {MAX_BACK / 1000:g} s"
        raise bad_file(file, f"{TIME} on line {row + 2}", expected, f"{back / 1000:g} s back")
    if not are_milliseconds(np.diff(stamps)):
        expected = f"milliseconds, about {PERIOD:g} from row to row"
        got = f"a median of {np.median(np.diff(stamps)):g}"
        raise bad_file(file, f"unit or rate of {TIME}", expected, got)
    increasing = np.concatenate([[True], stamps[1:] > latest[:-1]])
    counts[NOT_INCREASING] += int((~increasing).sum())
    if times == "written":
        return stamps[increasing], values[increasing]
    # a device that samples faster than 50 Hz must not be slowed down to it
    period = min(PERIOD, float(latest[-1] - stamps[0]) / max(len(stamps) - 1, 1))
    taken = undelayed(stamps, period)
    counts[LATE] += int((stamps - taken > PERIOD).sum())
    return taken, values


def _parse(path: str) -> tuple[str, Named] | None:
    """Modality and recording of a path.

    The number of a part is in the name of the file, of the zip that holds it, or in neither:
    then it is the first. The zip around that zip has none.
    """
    *folders, name = path.split("/")
    file = FILE_NAME.fullmatch(name)
    subjects = [match[1] for part in folders if (match := SUBJECT.fullmatch(part))]
    if file is None or not subjects or int(subjects[-1]) not in SUBJECTS:
        return None
    modality = next(one for one in SENSORS if SENSORS[one].file == file[1])
    inner = [match for part in folders if (match := FOLDER.fullmatch(part))]
    if inner and inner[-1].group(1, 2) != (SENSORS[modality].folder, file[2]):
        return None
    numbers = {match[3] for match in (*inner[-1:], file) if match[3]}
    if len(numbers) > 1:
        return None
    return modality, Named(subjects[-1], file[2], next(iter(numbers), "1"), file[4])


def _canonical(path: str) -> str | None:
    """Path as in a zip without zips in it, so that it is the same however the data is unpacked."""
    parsed = _parse(path)
    if parsed is None:
        return None
    modality, named = parsed
    sensor = SENSORS[modality]
    number = "" if named.part == "1" else f"_{named.part}"
    folder = f"proband{named.subject}/data/{sensor.folder}_{named.activity}_csv"
    return f"{folder}/{sensor.file}_{named.activity}{number}_{named.position}.csv"
