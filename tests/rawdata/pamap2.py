"""Writes a small PAMAP2 in its authentic raw layout, filled with a coded ramp."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

from mmbind_data.spec.descriptor import Recording
from rawdata.truth import Truth, add_macos_junk, lasting, reshape

LABELS = {
    1: "lying",
    3: "standing",
    4: "walking",
    9: "watching TV",
    12: "ascending stairs",
    13: "descending stairs",
    16: "vacuum cleaning",
    19: "house cleaning",
    24: "rope jumping",
}
PROTOCOL_ONLY = {1, 3, 4, 12, 13, 16, 24}
REFERENCE = {1, 3, 4, 12, 13, 16}
START = {"hand": 4, "chest": 21, "ankle": 38}  # 1-based, as the readme counts
OFFSET = {"acc": 1, "gyro": 7, "mag": 10}
HEART_RATE_EVERY = 11


@dataclass(frozen=True)
class Piece:
    """Rows of one activity code; drop-outs are (placement, first row of the piece, rows)."""

    code: int
    n_rows: int
    lost: tuple[tuple[str, int, int], ...] = ()
    jump: float = 0.0  # seconds by which the time leaps before the piece


# of the hand: 1, 7 and 10 frames to be bridged, then 11, 21 and one at the end that stay gaps
LOST = (
    ("hand", 3, 1),
    ("hand", 150, 7),
    ("hand", 1300, 10),
    ("hand", 1500, 11),
    ("hand", 800, 21),
    ("hand", 2108, 2),
    ("chest", 405, 30),
    ("ankle", 0, 4),
)
FILES: Mapping[str, tuple[Piece, ...]] = {
    "Protocol/subject101": (
        Piece(0, 57),
        Piece(1, 2050),
        Piece(0, 31),
        Piece(3, 2110, LOST),
        Piece(4, 1040, (("hand", 0, 2),)),  # two activities with nothing between
        Piece(0, 13),
        Piece(24, 230),
        Piece(24, 215, jump=0.05),
    ),
    "Protocol/subject102": (
        Piece(0, 20),
        Piece(12, 1060),
        Piece(13, 1015),
        Piece(0, 9),
        Piece(12, 1100, (("hand", 200, 5),)),
        Piece(16, 2010),
        Piece(4, 1001),
    ),
    # as the real one: nothing but rope jumping
    "Protocol/subject109": (Piece(0, 40), Piece(24, 650), Piece(0, 12)),
    "Optional/subject101": (Piece(0, 15), Piece(9, 420), Piece(19, 410), Piece(4, 205)),
}
KEEPS = {
    "default": ("Protocol", PROTOCOL_ONLY),
    "reference": ("Protocol", REFERENCE),
    "all": ("", set(LABELS)),
}


def write(
    root: Path,
    *,
    rng: np.random.Generator,
    form: str = "folders",
    files: Mapping[str, Sequence[Piece]] = FILES,
    placements: Sequence[str] = ("hand",),
) -> Truth:
    """Write the raw files; each value tells its file, column and row."""
    root.mkdir(parents=True, exist_ok=True)
    recordings: dict[str, list[Recording]] = {preset: [] for preset in KEEPS}
    for number, name in enumerate(sorted(files)):
        table = _table(number, files[name], first_time=float(rng.integers(500, 900)) / 100)
        whole = table.copy()
        _drop_out(table, files[name])
        _write_dat(root / f"{name}.dat", table)
        for preset in KEEPS:
            recordings[preset] += _recordings(name, files[name], whole, table, preset, placements)
    folders = tuple(sorted({name.split("/")[0] for name in files}))
    for folder in folders:
        add_macos_junk(root / folder)
    (root / "readme.pdf").write_bytes(b"%PDF-1.4")
    reshape(root, folders, form)
    return Truth("pamap2", root, {preset: tuple(ones) for preset, ones in recordings.items()})


def _table(number: int, pieces: Sequence[Piece], first_time: float) -> np.ndarray:
    """(n, 54) without drop-outs; column k of file f starts at 0.5 k + 40 f and gains 0.01 a row."""
    n_rows = sum(piece.n_rows for piece in pieces)
    rows = np.arange(n_rows)
    table = 40.0 * number + 0.5 * np.arange(54) + 0.01 * rows[:, np.newaxis]
    leaps = np.repeat([piece.jump for piece in pieces], [piece.n_rows for piece in pieces])
    starts = np.cumsum([0, *(piece.n_rows for piece in pieces)])[:-1]
    jumps = np.zeros(n_rows)
    jumps[starts] = leaps[starts]
    table[:, 0] = np.round(first_time + 0.01 * rows + np.cumsum(jumps), 2)
    table[:, 1] = np.repeat([piece.code for piece in pieces], [piece.n_rows for piece in pieces])
    table[:, 2] = np.where(rows % HEART_RATE_EVERY == 0, 60 + rows // HEART_RATE_EVERY, np.nan)
    for start in START.values():
        table[:, start - 1] = 30.4  # temperature
        table[:, start + 3 : start + 6] = -1.5  # +-6 g: not to be read
        table[:, start + 12 : start + 16] = (1, 0, 0, 0)
    return np.round(table, 4)


def _drop_out(table: np.ndarray, pieces: Sequence[Piece]) -> None:
    first = 0
    for piece in pieces:
        for placement, offset, length in piece.lost:
            column = START[placement] - 1
            table[first + offset : first + offset + length, column : column + 17] = np.nan
        first += piece.n_rows


def _write_dat(path: Path, table: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {str(k): column for k, column in enumerate(table.T)}
    columns["1"] = table[:, 1].astype(np.int64)
    options = pa.csv.WriteOptions(include_header=False, delimiter=" ", quoting_style="none")
    sink = pa.BufferOutputStream()
    pa.csv.write_csv(pa.table(columns), sink, options)
    path.write_bytes(sink.getvalue().to_pybytes().replace(b"nan", b"NaN"))


def _recordings(
    name: str,
    pieces: Sequence[Piece],
    whole: np.ndarray,
    table: np.ndarray,
    preset: str,
    placements: Sequence[str],
) -> list[Recording]:
    folder, codes = KEEPS[preset]
    subject = name[-3:]
    found = []
    for placement in placements:
        first, number = 0, 0
        for piece in pieces:
            rows = slice(first, first + piece.n_rows)
            first += piece.n_rows
            number += piece.code != 0
            if piece.code not in codes or not name.startswith(folder):
                continue
            streams, gaps = _streams(whole, table, placement, rows, preset)
            streams["heart_rate"] = _heart_rate(rows)
            found.append(
                Recording(
                    key=f"{name}/{placement}/{number}",
                    subject=subject,
                    label=LABELS[piece.code],
                    streams={key: values.astype(np.float32) for key, values in streams.items()},
                    raw_files=(f"{name}.dat",),
                    session=name.split("/")[0].lower(),
                    trial=str(number),
                    placement=placement,
                    extra={
                        "sex": "female" if subject == "102" else "male",
                        "dominant_hand": "left" if subject == "108" else "right",
                        "first_row": str(rows.start),
                    },
                    gaps=gaps,
                )
            )
    return found


def _streams(
    whole: np.ndarray, table: np.ndarray, placement: str, rows: slice, preset: str
) -> tuple[dict[str, np.ndarray], tuple[tuple[int, int], ...]]:
    """A bridged ramp is the ramp itself: only what must stay missing is taken out."""
    start = START[placement] - 1
    lost = np.isnan(table[rows, start])
    gaps = lasting(lost.tolist(), 10)
    streams = {}
    for name, offset in OFFSET.items():
        values = whole[rows, start + offset : start + offset + 3].copy()
        if preset == "reference":
            values[lost] = 0
        else:
            for begin, end in gaps:
                values[begin:end] = np.nan
        streams[name] = values
    return streams, () if preset == "reference" else tuple(gaps)


def _heart_rate(rows: slice) -> np.ndarray:
    return np.array([[60 + row // HEART_RATE_EVERY] for row in range(rows.start, rows.stop)])
