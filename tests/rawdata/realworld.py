"""Writes a small RealWorld in its authentic raw layout, filled with a ramp over true time.

Each file has its own clock: samples every 20 ms, of which some are lost and many delivered late,
several at once. The ramp runs in the time of sampling, which the stamps tell only indirectly.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmbind_data.spec.descriptor import Recording
from rawdata.truth import Truth, add_macos_junk, reshape

LABELS = {"climbingup": "upstairs", "jumping": "jumping", "sitting": "sitting"}
LABELS |= {"walking": "walking"}
PAPER = ("upstairs", "sitting", "walking")
FOLDERS = {"acc": "acc", "gyro": "gyr", "mag": "mag"}
FILES = {"acc": "acc", "gyro": "Gyroscope", "mag": "MagneticField"}
EPOCH = 1435993159412  # ms


@dataclass(frozen=True)
class Take:
    """One activity of one person, or one part of it; ``missing`` are files, as position/sensor."""

    subject: int
    activity: str
    part: int = 1
    positions: tuple[str, ...] = ("chest", "waist")
    nested: bool = False
    missing: tuple[str, ...] = ()

    @property
    def number(self) -> str:
        return "" if self.part == 1 else f"_{self.part}"

    def folders(self, sensor: str) -> tuple[str, ...]:
        """Names of the zips around a file, without .zip."""
        stem = f"{FOLDERS[sensor]}_{self.activity}"
        # of the parts, only acc numbers the first
        number = self.number or ("_1" if sensor == "acc" else "")
        inner = (f"{stem}{number}_csv",) if self.nested else ()
        return (f"{stem}_csv", *inner)

    def name(self, sensor: str, position: str) -> str:
        return f"{FILES[sensor]}_{self.activity}{self.number}_{position}.csv"


# in the order in which they are read
TAKES = (
    Take(1, "jumping", positions=("chest", "thigh", "waist"), missing=("waist/mag",)),
    Take(1, "sitting"),
    Take(1, "walking", positions=("forearm", "waist"), missing=("forearm/acc", "forearm/gyro")),
    Take(4, "climbingup", nested=True),
    Take(4, "climbingup", part=2, positions=("chest",), nested=True),
    Take(4, "climbingup", part=3, positions=("chest",), nested=True),
    Take(4, "walking", positions=("waist",)),
    Take(4, "walking", part=2, positions=("shin",)),
    Take(10, "sitting", part=2, positions=("chest",)),
)


def write(
    root: Path,
    *,
    rng: np.random.Generator,
    form: str = "folders",
    takes: Sequence[Take] = TAKES,
    n_samples: tuple[int, int] = (330, 450),
) -> Truth:
    """Write the raw files; each value tells its take, position, sensor, channel and time."""
    recordings = []
    for number, take in enumerate(takes):
        for position in take.positions:
            recordings.append(_write_recording(root, rng, take, position, number, n_samples))
    gps = root / "proband1" / "data" / "gps_walking_csv" / "GPS_walking_waist.csv"
    gps.parent.mkdir(parents=True, exist_ok=True)
    gps.write_text("id,attr_time,attr_lat,attr_lng\n1,1435993159412,49.48,8.46")
    (root / "proband1" / "data" / "readMe").write_text("see the web page\n")
    probands = tuple(sorted({f"proband{take.subject}" for take in takes} | {"proband1"}))
    add_macos_junk(root / "proband10" if "proband10" in probands else root / "proband1")
    if form == "zips":
        inner = root / "realworld2016_dataset"
        for proband in probands:
            (root / proband / "data").rename(_made(inner / proband) / "data")
        for child in sorted(root.iterdir()):
            if child != inner:
                shutil.rmtree(child)
        for folder in sorted(inner.glob("proband*/data/*_csv")):
            _zip(folder)
    else:
        reshape(root, probands, form)
    paper = tuple(one for one in recordings if one.label in PAPER)
    return Truth("realworld", root, {"default": tuple(recordings), "paper": paper})


def _write_recording(
    root: Path,
    rng: np.random.Generator,
    take: Take,
    position: str,
    number: int,
    n_samples: tuple[int, int],
) -> Recording:
    data = root / f"proband{take.subject}" / "data"
    start = 1_000_000 * number + EPOCH
    ramps, taken, files = {}, {}, []
    for place, sensor in enumerate(FILES):
        if f"{position}/{sensor}" in take.missing:
            continue
        n = int(rng.integers(*n_samples))
        taken[sensor], arrived = clock(rng, n)
        offset = 40 * number + 12 * take.positions.index(position) + 4 * place
        ramps[sensor] = (0.1 * (offset + np.arange(3) + 1), np.array([1.0, -1.0, 2.0]) / 1000)
        values = on_ramp(ramps[sensor], taken[sensor])
        path = data.joinpath(*take.folders(sensor), take.name(sensor, position))
        _made(path.parent)
        path.write_text(table(start + arrived, values))
        folder = f"{FOLDERS[sensor]}_{take.activity}_csv"
        files.append(f"proband{take.subject}/data/{folder}/{path.name}")
    grid, gaps = naive_grid(list(taken.values()))
    streams = {name: on_ramp(ramp, np.array(grid, dtype=float)) for name, ramp in ramps.items()}
    for name, times in taken.items():
        streams[name][naive_lost(times, grid)] = np.nan
    return Recording(
        key=f"proband{take.subject}/{take.activity}_{take.part}/{position}",
        subject=str(take.subject),
        label=LABELS[take.activity],
        streams={name: values.astype(np.float32) for name, values in streams.items()},
        raw_files=tuple(files),
        trial=str(take.part),
        placement=position,
        extra={"start_ms": str(start + grid[0])},
        gaps=gaps,
    )


def clock(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """When n samples were taken and when they came, whole milliseconds from about 0, increasing.

    Every 40th sample comes at once; before it one may be lost, or, once, a quarter of a second.
    """
    period, lost = 20, rng.integers(0, 2, n)
    lost[n // 2 // 40 * 40] = 12  # the real gap
    taken = int(rng.integers(0, 15)) + np.cumsum(
        [0] + [period * (1 + lost[k] if k % 40 == 0 else 1) for k in range(1, n)]
    )
    late = np.where(rng.random(n) < 0.5, rng.integers(0, 300, n), 0)
    late[(np.arange(n) % 40 == 39) | (np.arange(n) == n - 1)] = 0
    arrived = taken + late
    # what waits comes together, a millisecond apart, before the next sample that comes at once
    for k in range(n - 2, -1, -1):
        arrived[k] = min(arrived[k], max(arrived[k + 1] - 1, taken[k]))
    return taken, arrived


def on_ramp(ramp: tuple[np.ndarray, np.ndarray], times: np.ndarray) -> np.ndarray:
    """Values of three channels at times in ms, shape (n, 3)."""
    first, slope = ramp
    return np.asarray(first + slope * times[:, np.newaxis])


def naive_grid(taken: list[np.ndarray]) -> tuple[list[int], tuple[tuple[int, int], ...]]:
    """Every 20 ms that all sensors cover, and the spans of frames in a gap of any of them."""
    grid = [max(int(times[0]) for times in taken)]
    while grid[-1] + 20 <= min(int(times[-1]) for times in taken):
        grid.append(grid[-1] + 20)
    lost = [any(one) for one in zip(*(naive_lost(times, grid) for times in taken), strict=True)]
    spans: list[tuple[int, int]] = []
    for k in range(len(grid)):
        if lost[k] and spans and spans[-1][1] == k:
            spans[-1] = (spans[-1][0], k + 1)
        elif lost[k]:
            spans.append((k, k + 1))
    return grid, tuple(spans)


def naive_lost(times: np.ndarray, grid: list[int]) -> list[bool]:
    """Which frames lie between two samples more than 100 ms apart."""
    return [
        any(
            times[k] < at < times[k + 1] and times[k + 1] - times[k] > 100
            for k in range(len(times) - 1)
        )
        for at in grid
    ]


def table(stamps: np.ndarray, values: np.ndarray) -> str:
    """One CSV as distributed: no newline at its end."""
    rows = ["id,attr_time,attr_x,attr_y,attr_z"]
    for k, (stamp, row) in enumerate(zip(stamps, values, strict=True)):
        rows.append(f"{k + 1},{stamp}," + ",".join(f"{value:.9g}" for value in row))
    return "\n".join(rows)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _zip(folder: Path) -> None:
    """Put a folder's content into a zip of its name, its folders into zips inside it."""
    for inner in sorted(one for one in folder.iterdir() if one.is_dir()):
        _zip(inner)
    with zipfile.ZipFile(folder.with_suffix(".zip"), "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, file.name)
    shutil.rmtree(folder)
