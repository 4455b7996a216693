"""Reader of MotionSense: an iPhone in the front pocket, 24 subjects, 15 trials of 6 activities.

Source: https://github.com/mmalekzadeh/motion-sense (README and folder ``data``); what was measured
on the files themselves is in the descriptor next to this module.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mmbind_data.datasets.reader import found_note, make_recording, preset_labels
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
from mmbind_data.spec.descriptor import Recording

NAME = "motionsense"
STANDARD_GRAVITY = 9.80665  # m/s^2 in one g, by definition
SUBJECTS = range(1, 25)
TRIAL_NUMBERS = {
    "dws": (1, 2, 11),
    "ups": (3, 4, 12),
    "wlk": (7, 8, 15),
    "jog": (9, 16),
    "sit": (5, 13),
    "std": (6, 14),
}
TRIALS = tuple(f"{code}_{n}" for code, numbers in TRIAL_NUMBERS.items() for n in numbers)
FOLDERS = {
    "motion": "A_DeviceMotion_data",
    "accelerometer": "B_Accelerometer_data",
    "gyroscope": "C_Gyroscope_data",
}
INFO = "data_subjects_info.csv"
INFO_COLUMNS = ("code", "weight", "height", "age", "gender")
SEXES = {"0": "female", "1": "male"}
# the last of doubled folders counts: Kaggle and some unpackers nest A_... in A_...
DATA_PATH = re.compile(
    rf"(?:^|.*/)({'|'.join(FOLDERS.values())})(?:\.zip)?/([a-z]+_[0-9]+)/sub_([1-9][0-9]*)\.csv"
)


@dataclass(frozen=True)
class Source:
    """Which columns of which file make a modality: ``scale`` times the sum of the terms."""

    role: str
    terms: tuple[tuple[str, ...], ...]
    scale: float = 1.0

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that are read."""
        return tuple(column for term in self.terms for column in term)


def _xyz(name: str) -> tuple[str, ...]:
    return tuple(f"{name}.{axis}" for axis in "xyz")


SOURCES: Mapping[str, Mapping[str, Source]] = {
    "default": {
        "acc": Source("motion", (_xyz("gravity"), _xyz("userAcceleration")), STANDARD_GRAVITY),
        "gyro": Source("motion", (_xyz("rotationRate"),)),
        "gravity": Source("motion", (_xyz("gravity"),), STANDARD_GRAVITY),
        "attitude": Source("motion", (("attitude.roll", "attitude.pitch", "attitude.yaw"),)),
    },
    "paper": {
        "acc": Source("accelerometer", (("x", "y", "z"),), STANDARD_GRAVITY),
        "gyro": Source("gyroscope", (("x", "y", "z"),)),
    },
}

TURNED = ("acc", "gravity")  # what points the other way than in specific force


def find(files: Sequence[RawFile], preset: str, sign: str = "written") -> RawListing:
    """Sort the files into one unit per trial and subject; nothing is opened.

    ``sign`` is that of acceleration and gravity: "written" as iOS writes them, or turned round to
    "specific_force", as other sensors have it.

    Raises
    ------
    RawLayoutError
        No file of the folders that the preset reads.
    """
    sources = SOURCES[preset]
    roles = tuple(dict.fromkeys(source.role for source in sources.values()))
    by_path, unknown, notes = recognise(files, _canonical)
    descriptor = load_descriptor(NAME)
    kept = preset_labels(descriptor, preset)
    units = []
    for trial in sorted(TRIALS, key=natural):
        code, number = trial.split("_")
        label = descriptor.labels[code]
        for subject in SUBJECTS:
            member = f"{trial}/sub_{subject}.csv"
            found = {role: by_path.get(f"{FOLDERS[role]}/{member}") for role in roles}
            unit_files = {role: file for role, file in found.items() if file is not None}
            if label not in kept or len(unit_files) < len(roles):
                continue
            if INFO in by_path:
                unit_files["subjects"] = by_path[INFO]
            fields = {"subject": str(subject), "label": label, "trial": number, "sign": sign}
            fields["placement"] = "front_pocket"
            units.append(Unit(f"{trial}/sub_{subject}", unit_files, fields))
    if not units:
        expected = " and ".join(f"{FOLDERS[role]}/{TRIALS[0]}/sub_1.csv" for role in roles)
        step = f"Give the folder that holds the official zips. {_other_preset(by_path, preset)}"
        raise nothing_found(NAME, files, f"files such as {expected}", step.strip())
    n_trials = sum(descriptor.labels[trial.split("_")[0]] in kept for trial in TRIALS)
    notes += _notes(units, by_path, roles, n_trials)
    return RawListing(tuple(units), tuple(unknown), tuple(notes), tuple(sources))


def read(unit: Unit, modalities: Sequence[str], preset: str) -> Iterator[Recording]:
    """Read the one recording of a unit.

    Yields
    ------
    Recording
        Streams of shape (n_frames, 3) float32 at 50 Hz: acc and gravity in m/s^2, gyro in rad/s,
        attitude (roll, pitch, yaw) in rad. With preset ``paper`` the files of both sensors are
        cut to the shorter one from the start, as the paper's 12,636 windows require.

    Raises
    ------
    RawLayoutError
        A file is empty, or a column, the row index or a value is not what it must be.
    """
    sources = SOURCES[preset]
    columns = _read_files(unit, sources, modalities)
    n_frames = min(len(next(iter(table.values()))) for table in columns.values())
    streams = {}
    for name in modalities:
        source = sources[name]
        table = columns[source.role]
        terms = [
            np.stack([table[column][:n_frames] for column in term], 1) for term in source.terms
        ]
        turned = unit.fields["sign"] == "specific_force" and name in TURNED
        scale = -source.scale if turned else source.scale
        streams[name] = (scale * sum(terms[1:], terms[0])).astype(np.float32)
    yield make_recording(unit, streams, [*unit.files.values()], extra=_subject_info(unit))


def _canonical(path: str) -> str | None:
    name = path.rsplit("/", 1)[-1]
    if name == INFO:
        return INFO
    match = DATA_PATH.fullmatch(path)
    if match is None or match[2] not in TRIALS or int(match[3]) not in SUBJECTS:
        return None
    return f"{match[1]}/{match[2]}/{name}"


def _other_preset(by_path: Mapping[str, RawFile], preset: str) -> str:
    """A hint at a preset that fits the folders, or an empty text."""
    folders = {path.split("/")[0] for path in by_path} & set(FOLDERS.values())
    for other, sources in SOURCES.items():
        if other != preset and {FOLDERS[source.role] for source in sources.values()} <= folders:
            return f"What is there fits --preset {other}."
    return ""


def _notes(
    units: Sequence[Unit], by_path: Mapping[str, RawFile], roles: Sequence[str], n_trials: int
) -> list[str]:
    notes = [found_note(units, n_trials * len(SUBJECTS), "recordings")]
    folders = {path.split("/")[0] for path in by_path if path != INFO}
    unused = sorted(folders - {FOLDERS[role] for role in roles})
    if unused:
        notes.append(f"not read with this preset: {', '.join(unused)}")
    if INFO not in by_path:
        notes.append(f"{INFO} not found: no sex, age, height and weight")
    return notes


def _read_files(
    unit: Unit, sources: Mapping[str, Source], modalities: Sequence[str]
) -> dict[str, dict[str, np.ndarray]]:
    """Read the needed columns of each data file, by role; float64 of shape (n_rows,) each.

    Every file is read even if its modality was not asked for: the common length, and with it the
    identity of the windows, must not depend on the choice of modalities. The first column has an
    empty name in the header and counts the rows from 0.
    """
    needed: dict[str, list[str]] = {source.role: [""] for source in sources.values()}
    for name in modalities:
        needed[sources[name].role] += sources[name].columns
    tables = {}
    for role, columns in needed.items():
        file = unit.files[role]
        tables[role] = read_csv(file, list(dict.fromkeys(columns)), integers=[""])
        index = tables[role][""]
        wrong = np.flatnonzero(index != np.arange(len(index)))
        if len(wrong):
            row = int(wrong[0])
            raise bad_file(file, f"row index on line {row + 2}", str(row), f"{index[row]:g}")
    return tables


def _subject_info(unit: Unit) -> dict[str, str]:
    """Sex, age in years, height in cm and weight in kg of the unit's subject, where known."""
    file = unit.files.get("subjects")
    if file is None:
        return {}
    try:
        # utf-8-sig: the official file begins with a byte order mark
        rows = list(csv.DictReader(file.read().decode("utf-8-sig").splitlines(), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise bad_file(file, "unreadable table", "UTF-8 CSV", str(error)) from error
    if not rows or any(set(row) != set(INFO_COLUMNS) or None in row.values() for row in rows):
        got = ",".join(str(column) for column in rows[0]) if rows else "no rows"
        raise bad_file(file, "another table", ",".join(INFO_COLUMNS) + " in every row", got)
    by_code = {row["code"]: row for row in rows}
    row = by_code.get(unit.fields["subject"])
    if row is None:
        return {}
    if row["gender"] not in SEXES:
        raise bad_file(file, f"gender of subject {row['code']}", "0 or 1", row["gender"])
    known = {"sex": SEXES[row["gender"]], "age": row["age"]}
    return {**known, "height_cm": row["height"], "weight_kg": row["weight"]}
