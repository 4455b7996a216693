"""Conversion against merely parsing the same raw data. `pytest -m benchmark -s tests/benchmarks`.

Ratios of one run, repetitions interleaved, the best of each. Each figure is given in wall seconds
and in CPU seconds (this process and its children), with the cores that other processes took
meanwhile: where these took more than a tenth of a core, the verdict is by CPU time. Converting goes
from the raw files to the durable store; deleting the store of the repetition before is not part of
it. Data is synthetic, of authentic shape; MotionSense is the real one where it is at hand.
MMBIND_BENCHMARK_ROWS=100000 makes the PAMAP2 files smaller.
"""

from __future__ import annotations

import io
import json
import os
import resource
import shutil
import subprocess
import sys
import time
import zipfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest

from mmbind_data.conversion.convert import convert

pytestmark = pytest.mark.benchmark

REPEATS = 5
N_ROWS = int(os.environ.get("MMBIND_BENCHMARK_ROWS", "376417"))  # those of PAMAP2's subject 101
PROTOCOL = (1, 2, 3, 17, 16, 12, 13, 4, 7, 6, 5, 24)
QUIET = 0.1  # cores that other processes may take before wall time means nothing
RAW = Path(os.environ.get("MMBIND_REALDATA", ""))  # real raw data, if at hand
MOTIONSENSE = RAW / "motionsense" / "A_DeviceMotion_data.zip"
STORED = [f"{name}.{axis}" for name in ("gravity", "rotationRate", "userAcceleration")
          for axis in "xyz"]  # fmt: skip
SENSORS = {"acc": "acc", "gyr": "Gyroscope", "mag": "MagneticField"}
POSITIONS = ("chest", "forearm", "head", "shin", "thigh", "upperarm", "waist")


@dataclass(frozen=True)
class Cost:
    """What one run took; ``foreign`` are the cores that others used meanwhile."""

    wall: float
    cpu: float
    foreign: float

    def __str__(self) -> str:
        return f"{self.wall:.2f} s wall, {self.cpu:.2f} s CPU, {self.foreign:.2f} cores foreign"


def cost(work: Callable[[], object]) -> Cost:
    wall, cpu, busy = time.perf_counter(), cpu_seconds(), busy_seconds()
    work()
    wall, cpu = time.perf_counter() - wall, cpu_seconds() - cpu
    return Cost(wall, cpu, max(0.0, busy_seconds() - busy - cpu) / wall)


def cpu_seconds() -> float:
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in both)


def busy_seconds() -> float:
    """CPU seconds of all processes of the machine since it started."""
    user, nice, system, _, _, irq, softirq, *_ = map(int, _stat().split()[1:])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def _stat() -> str:
    return Path("/proc/stat").read_text().splitlines()[0]


def compare(title: str, contenders: Mapping[str, Callable[[], object]]) -> dict[str, Cost]:
    """Best of interleaved runs, printed; a contender's ``tidy`` is called before each, untimed."""
    runs: dict[str, list[Cost]] = {name: [] for name in contenders}
    for _ in range(REPEATS):  # interleaved, so that other load hits all
        for name, work in contenders.items():
            getattr(work, "tidy", lambda: None)()
            runs[name].append(cost(work))
    print(f"\n{title}")
    best = {}
    for name, costs in runs.items():
        quietest = min(costs, key=lambda one: one.wall)
        best[name] = Cost(quietest.wall, min(one.cpu for one in costs), quietest.foreign)
        print(f"  {name}: {best[name]}")
    return best


def ratio(a: Cost, b: Cost) -> float:
    """How many times longer ``a`` takes; by CPU time where others were busy."""
    wall, cpu = a.wall / b.wall, a.cpu / b.cpu
    quiet = max(a.foreign, b.foreign) < QUIET
    print(f"  ratio {wall:.2f} by wall, {cpu:.2f} by CPU; quiet: {quiet}")
    return wall if quiet else cpu


@dataclass(frozen=True)
class Converting:
    """A conversion to time: in this process, or in one of its own."""

    name: str
    raw: Path
    out: Path
    workers: int = 1
    script: Path | None = None
    preset: str = "default"

    def tidy(self) -> None:
        shutil.rmtree(self.out, ignore_errors=True)

    def __call__(self) -> None:
        if self.script is None:
            convert(self.name, self.raw, self.out, workers=self.workers, preset=self.preset)
        else:
            assert self.start().wait() == 0

    def start(self) -> subprocess.Popen[bytes]:
        given = (self.script, self.name, self.raw, self.out, self.workers, self.preset)
        return subprocess.Popen([sys.executable, *map(str, given)])


@dataclass(frozen=True)
class Both:
    """Two conversions at once."""

    first: Converting
    second: Converting

    def tidy(self) -> None:
        self.first.tidy()
        self.second.tidy()

    def __call__(self) -> None:
        started = [self.first.start(), self.second.start()]
        assert [one.wait() for one in started] == [0, 0]


def converted(name: str, raw: Path, workers: int = 1) -> Converting:
    return Converting(name, raw, raw.with_suffix(".zarr"), workers)


def parsed(
    contents: Callable[[], Iterator[bytes]], *, threads: bool, columns: Sequence[str] = ()
) -> Callable[[], object]:
    """Parse CSV files with pyarrow, all columns or some, and drop them."""

    def work() -> None:
        read = pa.csv.ReadOptions(use_threads=threads)
        chosen = pa.csv.ConvertOptions(include_columns=list(columns))
        for content in contents():
            pa.csv.read_csv(pa.BufferReader(content), read_options=read, convert_options=chosen)

    return work


def drained(contents: Callable[[], Iterator[bytes]]) -> Callable[[], object]:
    def work() -> None:
        deque(contents(), maxlen=0)

    return work


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("raw")
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def pamap2(folder: Path) -> Path:
    """One subject."""
    root = folder / "pamap2"
    write_pamap2(root / "Protocol" / "subject101.dat", N_ROWS)
    return root


@pytest.fixture(scope="module")
def motionsense(folder: Path) -> Path:
    """Folder A, unpacked: the real one, or as many files of the same shape."""
    root = folder / "motionsense"
    if MOTIONSENSE.is_file():
        with zipfile.ZipFile(MOTIONSENSE) as archive:
            archive.extractall(root)
        shutil.rmtree(root / "__MACOSX", ignore_errors=True)
    else:
        write_motionsense(root, 24, 3900)
    return root


def write_pamap2(path: Path, n_rows: int) -> None:
    """54 columns, a dozen activities with transient rows before each, a heart rate now and then."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(0).normal(0, 5, (4096, 51))
    cells = [" ".join(f"{value:.6g}" for value in row) for row in values]
    codes = np.zeros(n_rows, dtype=int)
    edges = np.linspace(0, n_rows, len(PROTOCOL) + 1).astype(int)
    for code, start, stop in zip(PROTOCOL, edges[:-1], edges[1:], strict=True):
        codes[start + (stop - start) // 4 : stop] = code
    with path.open("w") as stream:
        for row, code in enumerate(codes.tolist()):
            heart_rate = "NaN" if row % 11 else "104"
            stream.write(f"{8.38 + row / 100:.2f} {code} {heart_rate} {cells[row * 7 % 4096]}\n")


def write_motionsense(root: Path, n_subjects: int, n_rows: int) -> None:
    """As folder A: 15 trials of each subject, twelve columns behind the row number."""
    values = np.random.default_rng(0).normal(0, 1, (n_rows, 12))
    rows = [f"{k}," + ",".join(f"{one:.6f}" for one in row) for k, row in enumerate(values)]
    names = ["attitude.roll", "attitude.pitch", "attitude.yaw"]
    names += [f"{name}.{axis}" for name in ("gravity", "rotationRate", "userAcceleration")
              for axis in "xyz"]  # fmt: skip
    text = "\n".join(["," + ",".join(names), *rows]) + "\n"
    trials = {"dws": (1, 2, 11), "ups": (3, 4, 12), "wlk": (7, 8, 15), "jog": (9, 16),
              "sit": (5, 13), "std": (6, 14)}  # fmt: skip
    for trial in (f"{code}_{n}" for code, numbers in trials.items() for n in numbers):
        place = root / "A_DeviceMotion_data" / trial
        place.mkdir(parents=True)
        for subject in range(1, n_subjects + 1):
            (place / f"sub_{subject}.csv").write_text(text)


def write_realworld(root: Path, activities: tuple[str, ...], n_rows: int = 30_000) -> float:
    """Zips of one proband as distributed, those of stairs with zips in them; returns the MB."""
    rng = np.random.default_rng(0)
    data = root / "proband1" / "data"
    data.mkdir(parents=True)
    total = 0
    for activity in activities:
        for short, sensor in SENSORS.items():
            files = {}
            for position in POSITIONS:
                stamps = 1435993159412 + np.cumsum(rng.integers(16, 25, n_rows))
                lines = ["id,attr_time,attr_x,attr_y,attr_z"]
                for k, (stamp, row) in enumerate(
                    zip(stamps.tolist(), rng.normal(0, 5, (n_rows, 3)).tolist(), strict=True)
                ):
                    lines.append(f"{k + 1},{stamp}," + ",".join(f"{value:.7g}" for value in row))
                files[f"{sensor}_{activity}_{position}.csv"] = "\n".join(lines).encode()
            total += sum(map(len, files.values()))
            content = zipped(files)
            if activity.startswith("climbing"):
                content = zipped({f"{short}_{activity}_1_csv.zip": content})
            (data / f"{short}_{activity}_csv.zip").write_bytes(content)
    return total / 1e6


def zipped(files: Mapping[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def unzipped(content: bytes | Path) -> Iterator[bytes]:
    with zipfile.ZipFile(content if isinstance(content, Path) else io.BytesIO(content)) as archive:
        for name in archive.namelist():
            inner = archive.read(name)
            yield from unzipped(inner) if name.endswith(".zip") else (inner,)


def test_a_pamap2_subject_converts_faster_than_loadtxt_reads_it(pamap2: Path) -> None:
    file = next(pamap2.rglob("*.dat"))
    size = file.stat().st_size / 1e6
    best = compare(
        f"PAMAP2-like subject, {N_ROWS} rows, {size:.0f} MB; one worker",
        {
            "mmbind convert": converted("pamap2", pamap2),
            "numpy.loadtxt, all columns": lambda: np.loadtxt(file),
        },
    )
    print(f"  {size / best['mmbind convert'].wall:.0f} MB/s")
    assert ratio(best["numpy.loadtxt, all columns"], best["mmbind convert"]) >= 1.5


def test_motionsense_converts_within_twice_the_time_of_parsing(motionsense: Path) -> None:
    files = sorted(motionsense.rglob("*.csv"))
    contents = lambda: (file.read_bytes() for file in files)  # noqa: E731
    real = "real" if MOTIONSENSE.is_file() else "synthetic"
    size = sum(file.stat().st_size for file in files) / 1e6
    best = compare(
        f"MotionSense folder A ({real}), {len(files)} files, {size:.0f} MB",
        {
            "mmbind convert, one worker": converted("motionsense", motionsense),
            "pyarrow.csv, one thread": parsed(contents, threads=False),
            "mmbind convert, two workers": converted("motionsense", motionsense, 2),
            "pyarrow.csv, threads": parsed(contents, threads=True),
            "pyarrow.csv, one thread, only what is stored": parsed(
                contents, threads=False, columns=STORED
            ),
        },
    )
    one, parse_one, two, parse_all, parse_stored = best.values()
    print("  two workers against threads:")
    ratio(two, parse_all)
    print("  one worker against one thread that reads only the columns that are stored:")
    ratio(one, parse_stored)
    print("  one worker against one thread:")
    assert ratio(one, parse_one) <= 2.0


def test_nested_zips_convert_within_one_and_a_half_of_unzip_and_parse(folder: Path) -> None:
    root = folder / "realworld"
    size = write_realworld(root, ("climbingup", "walking"))
    zips = sorted(root.rglob("*.zip"))
    contents = lambda: (content for path in zips for content in unzipped(path))  # noqa: E731
    best = compare(
        f"RealWorld-like zips, some with zips in them, {size:.0f} MB of CSV",
        {
            "mmbind convert, one worker": converted("realworld", root),
            "unzip and pyarrow.csv, one thread": parsed(contents, threads=False),
            "unzip and pyarrow.csv, threads": parsed(contents, threads=True),
            "unzip": drained(contents),
        },
    )
    ours, one, threads, unzip = best.values()
    for text, other in (("threads", threads), ("unzip alone", unzip)):
        print(f"  against {text}:")
        ratio(ours, other)
    print("  against one thread:")
    assert ratio(ours, one) <= 1.5


CONVERT = """
import json, sys
from mmbind_data.conversion.convert import convert
if __name__ == "__main__":
    name, raw, out, workers, preset = sys.argv[1:]
    convert(name, raw, out, workers=int(workers), preset=preset)
"""


def test_two_workers_are_faster_than_one(
    folder: Path, pamap2: Path, motionsense: Path, tmp_path: Path
) -> None:
    """Against what two cores of this machine give: two separate conversions at once."""
    every = folder / "every"
    for session, numbers in (
        ("Protocol", range(101, 109)),
        ("Optional", (101, 105, 106, 108, 109)),
    ):
        (every / session).mkdir(parents=True)
        for number in numbers:  # one file under thirteen names: the disk holds it once
            link = every / session / f"subject{number}.dat"
            link.hardlink_to(next(pamap2.rglob("*.dat")))
    script = tmp_path / "convert.py"
    script.write_text(CONVERT)  # a process of its own: the start of Python is in all figures
    speedups = {}
    for name, raw, preset in (("pamap2", every, "all"), ("motionsense", motionsense, "default")):
        outs = [tmp_path / "first.zarr", tmp_path / "second.zarr"]
        single, other = (Converting(name, raw, out, 1, script, preset) for out in outs)
        best = compare(
            f"{name}, the start of Python included; {os.cpu_count()} cores",
            {
                "--workers 1": single,
                "--workers 2": Converting(name, raw, outs[0], 2, script, preset),
                "--workers 1 twice at once": Both(single, other),
            },
        )
        one, two, both = best.values()
        possible = 2 * one.wall / both.wall
        speedups[name] = one.wall / two.wall
        overhead = two.cpu / one.cpu
        print(f"  {speedups[name]:.2f} times as fast; CPU time times {overhead:.2f}")
        print(f"  two separate conversions at once: {possible:.2f} times as fast as in turn")
        if name == "pamap2":
            foreign, pamap2_overhead = max(one.foreign, two.foreign, both.foreign), overhead
            goal = 1.6 * min(1.0, possible / 2)
    if foreign < QUIET:
        assert speedups["pamap2"] >= goal
    # on a busy box: the work that a second worker adds must leave room for 1.6 on two free cores
    assert pamap2_overhead <= 2 / 1.6


PEAK = """
import json, sys, threading, time
from pathlib import Path
from mmbind_data.conversion.convert import convert
peaks = {}

def field(pid, name):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1])
    return 0

def watch():
    # VmHWM and not getrusage: what a process was before it started Python must not count
    while True:
        children = Path(f"/proc/self/task/{main}/children").read_text().split()
        for tasks in Path("/proc/self/task").iterdir():
            children += (tasks / "children").read_text().split()
        for pid in set(children):
            try:
                peaks[pid] = max(peaks.get(pid, 0), field(pid, "VmHWM"))
            except OSError:
                pass
        time.sleep(0.01)

if __name__ == "__main__":
    main = threading.main_thread().native_id
    threading.Thread(target=watch, daemon=True).start()
    name, raw, out, workers = sys.argv[1:]
    convert(name, raw, out, workers=int(workers))
    print(json.dumps({"main": field("self", "VmHWM"), "worker": max(peaks.values(), default=0)}))
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_memory_does_not_grow_with_the_number_of_recordings(tmp_path: Path, workers: int) -> None:
    """Beyond about 1 KiB a sample for its row in the table, and shards up to their full 32 MiB."""
    script = tmp_path / "peak.py"
    script.write_text(PEAK)
    peaks = {}
    for n_subjects in (6, 24):
        raw = tmp_path / f"raw{n_subjects}"
        write_motionsense(raw, n_subjects, 2000)
        command = [sys.executable, str(script), "motionsense", str(raw)]
        command += [str(raw.with_suffix(".zarr")), str(workers)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        peaks[15 * n_subjects] = {k: v / 1024 for k, v in json.loads(done.stdout).items()}
    print(f"\npeak resident memory, {workers} workers")
    for n, found in peaks.items():
        print(f"  {n} recordings: " + ", ".join(f"{k} {v:.0f} MiB" for k, v in found.items()))
    few, many = peaks.values()
    for process in few:
        assert many[process] - few[process] < 40
