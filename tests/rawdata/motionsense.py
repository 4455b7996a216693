"""Writes a small MotionSense in its authentic raw layout, filled with a coded ramp."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmbind_data.spec.descriptor import Recording
from rawdata.truth import Truth, add_macos_junk, reshape

LABELS = {
    "dws": "downstairs",
    "ups": "upstairs",
    "wlk": "walking",
    "jog": "jogging",
    "sit": "sitting",
    "std": "standing",
}
FOLDERS = ("A_DeviceMotion_data", "B_Accelerometer_data", "C_Gyroscope_data")
HEADERS = {
    "A_DeviceMotion_data": (
        ",attitude.roll,attitude.pitch,attitude.yaw,gravity.x,gravity.y,gravity.z,"
        "rotationRate.x,rotationRate.y,rotationRate.z,"
        "userAcceleration.x,userAcceleration.y,userAcceleration.z"
    ),
    "B_Accelerometer_data": ",x,y,z",
    "C_Gyroscope_data": ",x,y,z",
}
# in natural order; not in the order in which the labels are listed
TRIALS = ("dws_1", "dws_11", "jog_9", "sit_5", "std_14", "ups_3", "wlk_7", "wlk_15")
INFO = "data_subjects_info.csv"


def write(
    root: Path,
    *,
    rng: np.random.Generator,
    form: str = "folders",
    subjects: Sequence[int] = (1, 2, 10),
    trials: Sequence[str] = TRIALS,
    folders: Sequence[str] = FOLDERS,
    info: bool = True,
) -> Truth:
    """Write the raw files; each value tells its subject, trial, column and row."""
    root.mkdir(parents=True, exist_ok=True)
    units = [(trial, subject) for trial in trials for subject in subjects]
    default, paper = [], []
    for number, (trial, subject) in enumerate(units):
        # the rule of the real files: C within 5 rows of A, B 1.1 % faster and 14 rows longer
        n_rows = int(rng.integers(210, 400))
        lengths = (n_rows, round(1.0112 * n_rows + 14.2), n_rows + int(rng.integers(-1, 6)))
        tables = {}
        for folder, n, first in zip(FOLDERS, lengths, (0, 12, 15), strict=True):
            n_columns = HEADERS[folder].count(",")
            code = 0.01 * (18 * number + first + np.arange(n_columns))
            tables[folder] = code + 1e-5 * np.arange(n)[:, None]
            if folder in folders:
                _write_csv(root / folder / trial / f"sub_{subject}.csv", folder, tables[folder])
        a, b, c = (tables[folder] for folder in FOLDERS)
        shorter = min(len(b), len(c))
        streams = {
            "acc": 9.80665 * (a[:, 3:6] + a[:, 9:12]),
            "gyro": a[:, 6:9],
            "gravity": 9.80665 * a[:, 3:6],
            "attitude": a[:, :3],
        }
        default.append(_recording(trial, subject, streams, FOLDERS[:1], info))
        if not trial.startswith("jog"):
            streams = {"acc": 9.80665 * b[:shorter], "gyro": c[:shorter]}
            paper.append(_recording(trial, subject, streams, FOLDERS[1:], info))
    if info:
        (root / INFO).write_bytes(_info())
    for folder in folders:
        add_macos_junk(root / folder)
    reshape(root, tuple(folders), form)
    return Truth("motionsense", root, {"default": tuple(default), "paper": tuple(paper)})


def _write_csv(path: Path, folder: str, table: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [HEADERS[folder]]
    rows += [f"{i}," + ",".join(f"{value:.5f}" for value in row) for i, row in enumerate(table)]
    path.write_bytes(("\n".join(rows) + "\n").encode())


def _info() -> bytes:
    """All 24 subjects, as in the real file: byte order mark, no final newline."""
    rows = [f"{k},{50 + k},{150 + k},{20 + k},{k % 2}" for k in range(1, 25)]
    return b"\xef\xbb\xbf" + "\n".join(["code,weight,height,age,gender", *rows]).encode()


def _recording(
    trial: str, subject: int, streams: dict[str, np.ndarray], folders: Sequence[str], info: bool
) -> Recording:
    code, number = trial.split("_")
    sex = "male" if subject % 2 else "female"
    known = {"sex": sex, "age": 20 + subject, "height_cm": 150 + subject, "weight_kg": 50 + subject}
    files = [f"{folder}/{trial}/sub_{subject}.csv" for folder in folders]
    return Recording(
        key=f"{trial}/sub_{subject}",
        subject=str(subject),
        label=LABELS[code],
        streams={name: values.astype(np.float32) for name, values in streams.items()},
        raw_files=(*files, INFO) if info else tuple(files),
        trial=number,
        placement="front_pocket",
        extra={name: str(value) for name, value in known.items()} if info else {},
    )
