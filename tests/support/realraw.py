"""Real bytes that were kept apart from their official layout, put back into it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np

B3DO = "kv1/b3dodata/img_0063"
KV2 = "kv2/align_kv2/2014-12-18_11-31-54_260595134347"
PAMAP2_SENSORS = {"acc": "Acc", "gyro": "Gyr", "mag": "Mag"}
_FIRST_COLUMN = {"hand": 3, "chest": 20, "ankle": 37}
_OFFSET = {"Acc": 1, "Gyr": 7, "Mag": 10}


def sun_rgbd_together(real_data: Path, root: Path) -> Path:
    """The two real samples, the polygons of one, and the (re-saved) official lists, together."""
    for source, target in (
        ("sunrgbd/SUNRGBD", "SUNRGBD"),
        ("sunrgbd/SUNRGBDtoolbox", "SUNRGBDtoolbox"),
        ("sunrgbd-derived/SUNRGBDtoolbox", "SUNRGBDtoolbox"),
    ):
        shutil.copytree(real_data / source, root / target, dirs_exist_ok=True)
    place = root / "SUNRGBD" / B3DO / "annotation2Dfinal" / "index.json"
    place.parent.mkdir()
    shutil.copy(real_data / f"sunrgbd-derived/reformatted_json/{B3DO}/annotation.json", place)
    return root


def pamap2_rows(real_data: Path) -> dict[str, dict[str, np.ndarray]]:
    """Activity code -> column -> 500 rows of 100 Hz, NaN where the export has null."""
    text = (real_data / "pamap2-derived" / "static" / "testresponse.js").read_text()
    return {
        code: {
            column: np.array([np.nan if one is None else one for one in values], dtype=float)
            for column, values in next(iter(sessions.values())).items()
        }
        for code, sessions in json.loads(text).items()
    }


def write_pamap2(root: Path, rows: dict[str, dict[str, np.ndarray]]) -> None:
    """One .dat file with the excerpts in the order of their times, 54 columns, as downloaded."""
    tables = []
    for code, columns in rows.items():
        table = np.full((500, 54), np.nan)
        table[:, 0] = np.round(columns["timestamp"], 2)
        table[:, 1] = int(code)
        table[:, 2] = columns["heartrate"]
        for unit, first in _FIRST_COLUMN.items():
            for sensor, offset in _OFFSET.items():
                for axis in range(3):
                    table[:, first + offset + axis] = columns[f"{unit}{sensor}{'XYZ'[axis]}"]
        tables.append(table)
    tables.sort(key=lambda table: table[0, 0])
    (root / "Protocol").mkdir(parents=True)
    lines = [
        " ".join("NaN" if np.isnan(cell) else repr(float(cell)) for cell in row)
        for table in tables
        for row in table
    ]
    (root / "Protocol" / "subject101.dat").write_text("\n".join(lines) + "\n")
