"""Reader of Shoaib 2014: ten people in seven activities, a phone at five places of the body.

Source: Shoaib et al., Sensors 14(6), 2014, and the dataset's Readme.txt; the columns as several
independent loaders read them. What was checked and what not is in the descriptor.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from mmbind_data.datasets.labelled_rows import (
    OTHER_ROWS,
    bridged_streams,
    check_not_infinite,
    labelled_segments,
)
from mmbind_data.datasets.reader import found_note, make_recording, preset_labels
from mmbind_data.datasets.registry import load_descriptor
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
from mmbind_data.raw.tables import read_rows
from mmbind_data.signal.time_grid import spans_of
from mmbind_data.spec.descriptor import Recording

NAME = "shoaib"
PARTICIPANTS = range(1, 11)
N_COLUMNS = 70
BLOCK = 14  # columns from one position to the next, the last of them an empty separator
LABEL = 69
BLOCKS = {"left_pocket": 0, "right_pocket": 1, "wrist": 2, "upper_arm": 3, "belt": 4}
# within a block, whose first column is the phone's own clock: rows are aligned already
OFFSETS = {"acc": 1, "linear_acc": 4, "gyro": 7, "mag": 10}
LETTERS = {"acc": "A", "linear_acc": "L", "gyro": "G", "mag": "M"}
MISSPELT = {"upsatirs": "upstairs"}
MAX_HEADER = 3  # lines among which the column names are looked for
MAX_BRIDGE = 5  # frames, 0.1 s
DATA_NAME = re.compile(r"Participant_([1-9][0-9]?)\.csv", re.IGNORECASE)

RESPELT = "rows labelled upsatirs read as upstairs"
UNLABELLED = "rows without a label left out"
BRIDGED = "frames with blank cells, up to 0.1 s, bridged linearly"
LOST = "frames with blank cells, longer or at an end, left as gaps"


def find(files: Sequence[RawFile], preset: str) -> RawListing:
    """Make one unit of each participant's file; nothing is opened.

    Raises
    ------
    RawLayoutError
        No such file; an archive that must be unpacked first is named.
    """
    del preset  # all presets read the same files
    by_path, unknown, notes = recognise(files, _canonical)
    archives = [file for file in files if file.path.lower().endswith(".rar")]
    if not by_path:
        expected = "files such as Participant_1.csv"
        if archives:
            step = "Unpack it first, then give the folder."
            raise bad_layout(NAME, "packed data", archives[0].place, expected, "a .rar", step)
        raise nothing_found(NAME, files, expected, "Give the folder DataSet of the unpacked .rar.")
    units = []
    for path in sorted(by_path, key=natural):
        key = path.rsplit("/", 1)[-1].removesuffix(".csv")
        fields = {"subject": key.split("_")[1]}
        units.append(Unit(key, {"data": by_path[path]}, fields, placements=tuple(BLOCKS)))
    notes.append(found_note(units, len(PARTICIPANTS), "files", "participants"))
    notes += [f"{file.place} is not opened: the unpacked files are read" for file in archives]
    left = {file.path for file in archives}
    unrecognised = tuple(path for path in unknown if path not in left)
    return RawListing(tuple(units), unrecognised, tuple(notes), tuple(OFFSETS))


def read(unit: Unit, modalities: Sequence[str], preset: str) -> Iterator[Recording]:
    """Read the recordings of one file: one per placement and session.

    Yields
    ------
    Recording
        acc and linear_acc in m/s^2, gyro in rad/s, mag in uT, each (n, 3) float32 at 50 Hz, axes
        of the phone. Blank cells over at most 0.1 s are bridged linearly, longer ones are gaps.

    Raises
    ------
    RawLayoutError
        The file has other columns, a cell that is no number, or an unknown label.
    """
    content = read_content(unit.files["data"])
    file = replace(unit.files["data"], content=content)
    skip = _check_header(file, content)
    wanted = [(place, name) for place in unit.placements for name in modalities]
    columns = [column for pair in wanted for column in _columns(*pair)]
    table = read_rows(
        file, N_COLUMNS, [*columns, LABEL], separator=",", skip=skip, missing=True, text=[LABEL]
    )
    check_not_infinite(file, {column: table[column] for column in columns}, skip)
    labels, counts = _labels(file, table[LABEL], skip)
    kept = preset_labels(load_descriptor(NAME), preset)
    sessions, counts[OTHER_ROWS] = labelled_segments(labels, labels[1:] != labels[:-1], kept)
    for placement in unit.placements:
        positions = {name: _columns(placement, name) for name in modalities}
        for session in sessions:
            streams, gaps, n_bridged = bridged_streams(table, positions, session.rows, MAX_BRIDGE)
            yield make_recording(
                unit,
                streams,
                [file],
                key=f"/{placement}/{session.number}",
                session=str(session.number),
                label=session.label,
                placement=placement,
                extra={"first_row": str(session.rows.start)},
                gaps=spans_of(gaps),
                counts={**counts, BRIDGED: n_bridged, LOST: int(gaps.sum())},
            )
            counts = {}  # remarks on the whole file belong to one recording


def _canonical(path: str) -> str | None:
    match = DATA_NAME.fullmatch(path.rsplit("/", 1)[-1])
    if match is None or int(match[1]) not in PARTICIPANTS:
        return None
    return f"DataSet/Participant_{match[1]}.csv"


def _columns(placement: str, modality: str) -> range:
    start = BLOCK * BLOCKS[placement] + OFFSETS[modality]
    return range(start, start + 3)


def _check_header(file: RawFile, content: bytes) -> int:
    """Hold the header lines against the known columns, and count them.

    The line of names is preceded by one with the positions; a copy may lack it.
    """
    head = content[: 1 << 16].split(b"\n", MAX_HEADER)[:MAX_HEADER]
    lines = [line.decode("utf-8-sig", errors="replace").rstrip("\r") for line in head]
    rows = [[cell.strip().lower() for cell in line.split(",")] for line in lines]
    skip = next((i for i, cells in enumerate(rows, 1) if "ax" in cells), 0)
    expected = "a line of column names with Ax, Ay, Az for each of five positions"
    if not skip:
        raise bad_file(file, "no header", expected, lines[0][:80] or "an empty line")
    names = rows[skip - 1]
    if len(names) != N_COLUMNS:
        raise bad_file(file, "columns", f"{N_COLUMNS} of them", f"{len(names)} in the header")
    for placement in BLOCKS:
        for modality, letter in LETTERS.items():
            for column, axis in zip(_columns(placement, modality), "xyz", strict=True):
                if names[column] != f"{letter}{axis}".lower():
                    what = f"column {column + 1} ({placement})"
                    got = names[column] or "an empty name"
                    raise bad_file(file, what, f"{letter}{axis}", got)
    titles = [re.sub("[^a-z]+", "_", cell) for row in rows[: skip - 1] for cell in row]
    positions = [title for title in titles if title in BLOCKS]
    if positions and positions != list(BLOCKS):
        raise bad_file(file, "positions", ", ".join(BLOCKS), ", ".join(positions))
    return skip


def _labels(file: RawFile, cells: np.ndarray, skip: int) -> tuple[np.ndarray, dict[str, int]]:
    """Label of each row, empty where there is none, and what was mended."""
    known = load_descriptor(NAME).labels
    spellings, which = np.unique(cells.astype(str), return_inverse=True)
    labels, n_respelt = [], 0
    for index, spelling in enumerate(spellings):
        label = spelling.strip().lower()
        if label in MISSPELT:
            n_respelt += int((which == index).sum())
            label = MISSPELT[label]
        if label and label not in known:
            row = int(np.argmax(which == index))
            what = f"label on line {row + skip + 1}"
            raise bad_file(file, what, ", ".join(known), str(spelling)[:80])
        labels.append(known.get(label, ""))
    which_label = np.array(labels)[which]
    return which_label, {RESPELT: n_respelt, UNLABELLED: int((which_label == "").sum())}
