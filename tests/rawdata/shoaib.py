"""Writes a small Shoaib 2014 in its authentic raw layout, filled with a coded ramp."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmbind_data.spec.descriptor import Recording
from rawdata.truth import Truth, add_macos_junk, lasting, reshape

POSITIONS = ("Left_pocket", "Right_pocket", "Wrist", "Upper_arm", "Belt")
NAMES = "time_stamp,Ax,Ay,Az,Lx,Ly,Lz,Gx,Gy,Gz,Mx,My,Mz"
SENSORS = ("acc", "linear_acc", "gyro", "mag")
PAPER = {"walking", "sitting", "standing", "upstairs", "downstairs"}
PRESETS = ("default", "paper")


@dataclass(frozen=True)
class Run:
    """Rows of one label as it is spelled; blank cells are (position, sensor, first row, rows)."""

    spelling: str
    n_rows: int
    blank: tuple[tuple[str, str, int, int], ...] = ()

    @property
    def label(self) -> str:
        return self.spelling.strip().lower().replace("upsatirs", "upstairs")


BLANK = (
    ("wrist", "gyro", 40, 5),  # bridged
    ("wrist", "acc", 60, 6),  # one frame too long
    ("wrist", "mag", 0, 1),  # nothing before it
    ("belt", "acc", 219, 2),  # nothing behind it
)
FILES: Mapping[int, tuple[Run, ...]] = {
    1: (
        Run("walking", 221, BLANK),
        Run("standing", 131),
        Run("upstairs", 70),
        Run("upsatirs", 60),  # one session with the rows before
        Run("jogging", 120),
        Run("sitting", 105),
        Run("walking", 115),
        Run("biking", 110),
        Run("downstairs", 99),  # shorter than a window
    ),
    2: (Run("", 3), Run("upstairs", 140), Run("", 4), Run("downstairs", 230), Run("walking", 101)),
    10: (Run("Walking ", 120), Run("sitting", 102)),
}


def write(
    root: Path,
    *,
    rng: np.random.Generator,
    form: str = "folders",
    files: Mapping[int, Sequence[Run]] = FILES,
) -> Truth:
    """Write the raw files; each value tells its participant, column and row."""
    folder = root / "DataSet"
    folder.mkdir(parents=True, exist_ok=True)
    recordings: dict[str, list[Recording]] = {preset: [] for preset in PRESETS}
    for participant, runs in files.items():
        whole = _table(participant, sum(run.n_rows for run in runs), rng)
        table = whole.copy()
        _blank(table, runs)
        end = "\r\n" if participant % 2 else "\n"
        (folder / f"Participant_{participant}.csv").write_bytes(_csv(table, runs, end))
        for preset in PRESETS:
            recordings[preset] += _recordings(participant, runs, whole, table, preset)
    (folder / "Readme.txt").write_bytes(b"Participants\x92 phones\r\n")  # not UTF-8
    add_macos_junk(folder)
    reshape(root, ("DataSet",), form)
    return Truth("shoaib", root, {preset: tuple(ones) for preset, ones in recordings.items()})


def _table(participant: int, n_rows: int, rng: np.random.Generator) -> np.ndarray:
    """(n, 69) without blanks: column k starts at 0.1 k + 10 for each participant."""
    rows = np.arange(n_rows)
    table = 10.0 * participant + 0.1 * np.arange(69) + 0.001 * rows[:, np.newaxis]
    for block in range(5):  # every phone has a clock of its own
        table[:, 14 * block] = 1.39e12 + rng.integers(1000) + 20 * rows
    return np.round(table, 3)


def _first_column(position: str, sensor: str) -> int:
    titles = [title.lower() for title in POSITIONS]
    return 14 * titles.index(position) + 1 + 3 * SENSORS.index(sensor)


def _blank(table: np.ndarray, runs: Sequence[Run]) -> None:
    first = 0
    for run in runs:
        for position, sensor, offset, length in run.blank:
            column = _first_column(position, sensor)
            # one cell of the last row, all three of the others
            table[first + offset : first + offset + length, column] = np.nan
            table[first + offset : first + offset + length - 1, column : column + 3] = np.nan
        first += run.n_rows


def _csv(table: np.ndarray, runs: Sequence[Run], end: str) -> bytes:
    titles = ",".join(title + 13 * "," for title in POSITIONS)
    lines = [titles, ",,".join([NAMES] * 5) + ","]
    labels = [run.spelling for run in runs for _ in range(run.n_rows)]
    for values, label in zip(table, labels, strict=True):
        cells = ["" if np.isnan(value) else f"{value:.10g}" for value in values]
        for separator in (13, 27, 41, 55):
            cells[separator] = ""
        lines.append(",".join([*cells, label]))
    return (end.join(lines) + end).encode()


def _recordings(
    participant: int, runs: Sequence[Run], whole: np.ndarray, table: np.ndarray, preset: str
) -> list[Recording]:
    labels = [run.label for run in runs for _ in range(run.n_rows)]
    sessions = []
    start = 0
    for row in range(1, len(labels) + 1):
        if row == len(labels) or labels[row] != labels[start]:
            if labels[start]:
                sessions.append((start, row))
            start = row
    found = []
    for position in (title.lower() for title in POSITIONS):
        for number, (start, stop) in enumerate(sessions, 1):
            if preset == "paper" and labels[start] not in PAPER:
                continue
            streams, gaps = _streams(whole[start:stop], table[start:stop], position, preset)
            found.append(
                Recording(
                    key=f"Participant_{participant}/{position}/{number}",
                    subject=str(participant),
                    label=labels[start],
                    streams=streams,
                    raw_files=(f"DataSet/Participant_{participant}.csv",),
                    session=str(number),
                    placement=position,
                    extra={"first_row": str(start)},
                    gaps=gaps,
                )
            )
    return found


def _streams(
    whole: np.ndarray, table: np.ndarray, position: str, preset: str
) -> tuple[dict[str, np.ndarray], tuple[tuple[int, int], ...]]:
    """A bridged ramp is the ramp itself: only what must stay missing is taken out."""
    streams, gaps = {}, set()
    for sensor in SENSORS:
        column = _first_column(position, sensor)
        values = whole[:, column : column + 3].astype(np.float32)
        blank = np.isnan(table[:, column]).tolist()
        for frame, end in lasting(blank, 5):
            values[frame:end] = np.nan
            gaps.add((frame, end))
        streams[sensor] = values
    return streams, tuple(sorted(gaps))
