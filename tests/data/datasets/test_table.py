"""A user's own data: every file kind, units, time, labels, gaps; and every way to get it wrong."""

from __future__ import annotations

import contextlib
import json
import shutil
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.io
from hypothesis import given
from hypothesis import strategies as st

from mmbind_data.conversion.convert import convert
from mmbind_data.datasets.own.descriptor import compile_pattern, match_path, parse_descriptor
from mmbind_data.datasets.own.units import conversion
from mmbind_data.errors import FormatError, RawLayoutError, UsageError
from mmbind_data.store.dataset import open_dataset
from mmbind_data.store.validation import validate

RATE, SECONDS = 50, 5
N = RATE * SECONDS
COLUMNS = ("ax", "ay", "az", "gx", "gy", "gz")
CSV: dict[str, Any] = {
    "dataset_id": "gloves",
    "title": "Two gloves",
    "path": "{subject}/{label}_{trial}.csv",
    "modalities": {
        "acc": {"columns": ["ax", "ay", "az"], "unit": "g", "rate_hz": RATE},
        "gyro": {"columns": ["gx", "gy", "gz"], "unit": "deg/s", "rate_hz": RATE},
    },
    "labels": {"wlk": "walking", "sit": "sitting"},
}


def ramp(subject: int, trial: int) -> np.ndarray:
    """Values that tell subject, trial, column and row, shape (N, 6)."""
    code = 100 * subject + 10 * trial + np.arange(6)
    return code + 1e-3 * np.arange(N)[:, None]


def write_csv(path: Path, values: np.ndarray, header: str = ",".join(COLUMNS)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [",".join(f"{value:.4f}" for value in row) for row in values]
    path.write_text("\n".join([header, *rows] if header else rows) + "\n")


def write_all(root: Path) -> None:
    for subject in (1, 2, 10):
        for trial, label in enumerate(("sit", "wlk")):
            write_csv(root / f"s{subject}" / f"{label}_{trial}.csv", ramp(subject, trial))


def changed(**changes: Any) -> str:
    return json.dumps({**CSV, **changes})


def own(tmp_path: Path, document: str, raw: str = "raw") -> Path:
    out = tmp_path / "own.zarr"
    convert("table", tmp_path / raw, out, document=document)
    assert validate(out, level="values") == []
    return out


def test_csv_columns_units_and_groups(tmp_path: Path) -> None:
    write_all(tmp_path / "raw")
    (tmp_path / "raw" / "README.md").write_text("mine")
    (tmp_path / "raw" / "plan.xlsx").write_bytes(b"PK")
    made = convert("table", tmp_path / "raw", tmp_path / "own.zarr", document=changed())
    store = open_dataset(tmp_path / "own.zarr")
    assert store.info.dataset_id == "gloves"
    assert store.info.subjects == {"s1": 4, "s2": 4, "s10": 4}  # two whole windows of 2 s in 5 s
    assert store.info.labels == {"walking": 6, "sitting": 6}
    assert store.info.modalities["gyro"].unit == "rad/s"
    assert store.info.modalities["acc"].axes[1].names == ("x", "y", "z")
    rows = store.samples().to_pylist()
    for row in rows:
        subject, trial = int(row["subject"][1:]), int(row["trial"])
        values = ramp(subject, trial)[row["raw_start"] : row["raw_end"]]
        acc, gyro = (store.load(name, [row["row"]])[0] for name in ("acc", "gyro"))
        np.testing.assert_allclose(acc, 9.80665 * values[:, :3], rtol=1e-6)
        np.testing.assert_allclose(gyro, np.deg2rad(values[:, 3:]), rtol=1e-6)
    assert "6 of 8 files match the descriptor: 6 recordings" in made.notes
    assert any("plan.xlsx" in note for note in made.notes)
    assert not any("README" in note for note in made.notes)


def test_names_in_paths_become_numbers_where_the_descriptor_says(tmp_path: Path) -> None:
    for name in ("s1/sit_0_170_1.5", "s1/sit_1_8_2", "s2/sit_0_x_3"):
        write_csv(tmp_path / "raw" / f"{name}.csv", ramp(1, 0))
    pattern = "{subject}/{label}_{trial}_{height}_{grip}.csv"

    def document(**types: str) -> str:
        return changed(path=pattern, column_types=types)

    with pytest.raises(
        RawLayoutError, match=r"column height at .*s2/sit_0_x_3.*: expected integer .*, got 'x'"
    ):
        own(tmp_path, document(height="integer"))
    (tmp_path / "raw" / "s2" / "sit_0_x_3.csv").unlink()
    table = open_dataset(own(tmp_path, document(height="integer", grip="number"))).samples()
    assert table["height"].to_pylist()[::2] == [170, 8]
    assert table["grip"].to_pylist()[::2] == [1.5, 2.0]
    shutil.rmtree(tmp_path / "own.zarr")
    # not said: text, though all of these are numbers
    texts = open_dataset(own(tmp_path, document())).samples()["height"].to_pylist()
    assert texts[::2] == ["170", "8"]
    for name in ("subject", "hieght"):
        with pytest.raises(FormatError, match=rf"column_types '{name}'.*\(grip, height\)"):
            own(tmp_path, document(**{name: "integer"}))


def test_every_kind_of_file_gives_the_same_values(tmp_path: Path) -> None:
    values = ramp(1, 0)
    write_csv(tmp_path / "csv" / "s1" / "sit_0.csv", values)
    reference = open_dataset(own(tmp_path, changed(), "csv")).load("acc")
    folder = tmp_path / "parquet" / "s1"
    folder.mkdir(parents=True)
    table = pa.table(dict(zip(COLUMNS, np.round(values, 4).T, strict=True)))
    pq.write_table(table, folder / "sit_0.parquet")
    (tmp_path / "npz" / "s1").mkdir(parents=True)
    np.savez(tmp_path / "npz" / "s1" / "sit_0.npz", imu=np.round(values, 4))
    (tmp_path / "npy" / "s1").mkdir(parents=True)
    np.save(tmp_path / "npy" / "s1" / "sit_0.npy", np.round(values, 4))
    (tmp_path / "mat" / "s1").mkdir(parents=True)
    scipy.io.savemat(tmp_path / "mat" / "s1" / "sit_0.mat", {"imu": np.round(values, 4).T})
    (tmp_path / "tsv" / "s1").mkdir(parents=True)
    rows = ["\t".join(f"{value:.4f}" for value in row) for row in values]
    (tmp_path / "tsv" / "s1" / "sit_0.tsv").write_text("# two\n# lines\n" + "\n".join(rows))
    array = {"columns": [0, 1, 2], "unit": "g", "rate_hz": RATE, "array": "imu"}
    cases: dict[str, dict[str, Any]] = {
        "parquet": {},
        "npz": {"modalities": {"acc": array}},
        "npy": {"modalities": {"acc": array}},
        "mat": {"modalities": {"acc": {**array, "time_axis": 1}}},
        "tsv": {
            "modalities": {"acc": {"columns": [0, 1, 2], "unit": "g", "rate_hz": RATE}},
            "table": {"separator": "\t", "header": False, "skip_lines": 2},
        },
    }
    for ending, changes in cases.items():
        out = tmp_path / f"{ending}.zarr"
        document = changed(path=f"{{subject}}/{{label}}_{{trial}}.{ending}", **changes)
        convert("table", tmp_path / ending, out, document=document)
        np.testing.assert_array_equal(open_dataset(out).load("acc"), reference, err_msg=ending)


def test_streams_of_several_files_meet_on_one_grid(tmp_path: Path) -> None:
    """Own clocks in ms: 100 Hz and 40 Hz, the second starts later; linear data stay linear."""
    folder = tmp_path / "raw"
    folder.mkdir()
    fast = 10.0 * np.arange(500)
    slow = 303.0 + 25.0 * np.arange(180)
    (folder / "p1_acc.csv").write_text("t,x\n" + "".join(f"{t},{2 * t}\n" for t in fast))
    (folder / "p1_mag.csv").write_text("t,x\n" + "".join(f"{t},{-t}\n" for t in slow))
    time = {"column": "t", "unit": "ms"}
    document = changed(
        path="{subject}_acc.csv",
        modalities={
            "acc": {"columns": ["x"], "unit": "m/s^2", "time": time},
            "mag": {"columns": ["x"], "unit": "uT", "time": time, "path": "{subject}_mag.csv"},
        },
        windows={"seconds": 1, "rate_hz": 50},
    )
    store = open_dataset(own(tmp_path, document))
    grid = 303.0 + 20.0 * np.arange(200)
    np.testing.assert_allclose(store.load("acc").reshape(-1), 2 * grid, rtol=1e-5)
    np.testing.assert_allclose(store.load("mag").reshape(-1), -grid, rtol=1e-5)


def test_labels_of_a_column_cut_the_recording(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    labels = ["sit"] * 120 + ["??"] * 30 + ["wlk"] * 250
    rows = "".join(f"{i},{label}\n" for i, label in enumerate(labels))
    (tmp_path / "raw" / "p1.csv").write_text("x,activity\n" + rows)
    document = changed(
        path="{subject}.csv",
        modalities={"acc": {"columns": ["x"], "unit": "m/s^2", "rate_hz": 50}},
        label_column="activity",
    )
    made = convert("table", tmp_path / "raw", tmp_path / "o.zarr", document=document)
    store = open_dataset(made.path)
    assert store.samples()["label_text"].to_pylist() == ["sitting", "walking", "walking"]
    assert store.load("acc")[:, 0, 0].tolist() == [0, 150, 250]
    text = "rows with label '??', which the descriptor does not list, left out: 30"
    assert text in made.notes


def two_sensors(tmp_path: Path, **changes: Any) -> str:
    """A watch in ms with labels, separator ;, and a glove at 100 Hz without a clock."""
    folder = tmp_path / "raw"
    folder.mkdir()
    rows = "".join(f"{20 * t};{t};{'sit' if t < 150 else 'wlk'}\n" for t in range(300))
    (folder / "p1_watch.csv").write_text("t;x;Act\n" + rows)
    (folder / "p1_glove.csv").write_text("f\n" + "".join(f"{t / 2}\n" for t in range(600)))
    time = {"column": "t", "unit": "ms"}
    fields = {
        "path": None,
        "label_column": "Act",
        "modalities": {
            "acc": {"columns": ["x"], "unit": "m/s^2", "time": time, "path": "{subject}_watch.csv",
                    "table": {"separator": ";"}},
            "flex": {"kind": "signal", "columns": ["f"], "unit": "1", "rate_hz": 100,
                     "path": "{subject}_glove.csv"},
        },
    }  # fmt: skip
    return changed(**{**fields, **changes})


def test_labels_are_found_in_whichever_file_has_them(tmp_path: Path) -> None:
    store = open_dataset(own(tmp_path, two_sensors(tmp_path)))
    assert store.samples()["label_text"].to_pylist() == ["sitting", "walking"]
    # both count the frames of 50 Hz: the glove has two samples to a frame
    for name in ("acc", "flex"):
        np.testing.assert_allclose(store.load(name)[:, 0, 0], [0, 150])
        np.testing.assert_allclose(store.load(name)[:, -1, 0], [99, 249])


@pytest.mark.parametrize(
    ("place", "value", "sentence"),
    [
        ("label_column", "act", r"no label column .*expected a column act in one"),
        ("labels", {"run": "running"}, r"no sample .*label 'sit', which .*: 150; .*'wlk'"),
        ("modalities.acc.time.unit", "s", r"readings of acc are far apart .*got 20 s\. Is the u"),
        ("modalities.flex.path", "{subject}_flex.csv",
         r"no file for modality flex .*_flex.csv, got 2 files"),
        ("modalities.acc.table", {},
         r"no column x .*got t;x;Act \(separator ',' finds one column\)"),
    ],
)  # fmt: skip
def test_what_the_descriptor_says_otherwise_than_the_files(
    tmp_path: Path, place: str, value: Any, sentence: str
) -> None:
    document = json.loads(two_sensors(tmp_path))
    *way, last = place.split(".")
    reduce(dict.__getitem__, way, document)[last] = value
    with pytest.raises(RawLayoutError, match=sentence):
        own(tmp_path, json.dumps(document))
    assert not (tmp_path / "own.zarr").exists()


@pytest.mark.parametrize("ending", ["csv", "parquet"])
@pytest.mark.parametrize("columns", [["ax", "ay", "az"], ["ax", 1, 2]])
def test_a_wanted_column_that_stands_twice(
    tmp_path: Path, ending: str, columns: list[str | int]
) -> None:
    document = json.loads(changed(path="{subject}/{label}_{trial}." + ending))
    document["modalities"] = {"acc": {"columns": columns, "unit": "g", "rate_hz": RATE}}
    file = tmp_path / "raw" / "s1" / f"sit_0.{ending}"

    def write(names: list[str]) -> None:
        write_csv(file, ramp(1, 0), ",".join(names))
        if ending == "parquet":
            arrays = [pa.array(column) for column in ramp(1, 0).T]
            pq.write_table(pa.Table.from_arrays(arrays, names=names), file)

    write(["ax", "ay", "az", "gx", "gx", "gz"])  # a column that is not asked for
    own(tmp_path, json.dumps(document))
    shutil.rmtree(tmp_path / "own.zarr")
    write(["ax", "ay", "az", "gx", "ax", "gz"])
    expected = (
        rf"column ax occurs 2 times at .*sit_0\.{ending}: .*got it as columns 1, 5\. .*the descr"
    )
    with pytest.raises(RawLayoutError, match=expected):
        own(tmp_path, json.dumps(document))


def test_gaps_are_bridged_dropped_and_counted(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    cells = [str(float(i)) for i in range(400)]
    cells[10:14] = [""] * 4  # bridged: within 0.1 s
    cells[230:240] = ["nan"] * 10  # dropped with the third window
    (tmp_path / "raw" / "p1.csv").write_text("t,x\n" + "".join(f"1,{cell}\n" for cell in cells))
    modality = {"columns": ["x"], "unit": "m/s^2", "rate_hz": 50}
    document = changed(path="{subject}.csv", modalities={"acc": modality}, missing="gap")
    made = convert("table", tmp_path / "raw", tmp_path / "o.zarr", document=document)
    acc = open_dataset(made.path).load("acc")[..., 0]
    np.testing.assert_allclose(acc[0], np.arange(100))
    assert acc[:, 0].tolist() == [0, 100, 300]
    assert "windows over gaps dropped: 1" in made.notes
    refusing = changed(path="{subject}.csv", modalities={"acc": modality})
    with pytest.raises(RawLayoutError, match=r"p1\.csv: .*got nothing in row 12, column 2"):
        convert("table", tmp_path / "raw", tmp_path / "p.zarr", document=refusing)


def test_rows_whose_time_runs_back_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    times = [*range(150), *range(140, 300)]
    rows = "".join(f"{20 * t},{t}\n" for t in times)
    (tmp_path / "raw" / "p1.csv").write_text("t,x\n" + rows)
    modality = {"columns": ["x"], "unit": "m/s^2", "time": {"column": "t", "unit": "ms"}}
    document = changed(path="{subject}.csv", modalities={"acc": modality})
    made = convert("table", tmp_path / "raw", tmp_path / "o.zarr", document=document)
    np.testing.assert_allclose(open_dataset(made.path).load("acc").reshape(-1), np.arange(300.0))
    assert "rows whose time does not rise, left out: 10" in made.notes


def test_skeletons_are_stretched(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    values = np.arange(9 * 4 * 3, dtype=float).reshape(9, 4, 3)
    np.save(tmp_path / "raw" / "p1_wave.npy", values)
    document = changed(
        path="{subject}_{label}.npy",
        modalities={"skeleton": {"kind": "skeleton", "shape": [4, 3], "unit": "mm"}},
        windows={"mode": "stretch", "frames": {"skeleton": 5}},
        labels={},
    )
    store = open_dataset(own(tmp_path, document))
    np.testing.assert_allclose(store.load("skeleton")[0], 1e-3 * values[::2], rtol=1e-6)
    assert store.info.labels == {"wave": 1}
    assert [axis.name for axis in store.info.modalities["skeleton"].axes[1:]] == [
        "joint", "coordinate",
    ]  # fmt: skip


def test_comments_may_stand_anywhere() -> None:
    document = {**CSV, "$comment": "mine", "windows": {"$comment-why": [1], "seconds": 3}}
    assert parse_descriptor(json.dumps(document)).windows.seconds == 3


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ("{", "broken JSON"),
        ("[]", "cannot use the descriptor"),
        (changed(modalities={}), "modalities"),
        (changed(modality=1), "unknown field at modality in the descriptor"),
        (changed(dataset_id="My Data"), "dataset_id in .*pattern.*got 'My Data'"),
        (changed(modalities={"acc": {"unit": "g", "rate_hz": 50}}), "needs columns"),
        (changed(modalities={"acc": {"unit": "g", "columns": ["x"]}}), "needs rate_hz or time"),
        (changed(modalities={"acc": {"unit": "furlog", "columns": ["x"], "rate_hz": 1}}),
         "unknown unit at modality acc in the descriptor: .*'furlog'"),
        (changed(path="(?P<subject>["), "is no pattern"),
        (changed(path=None), "modality acc has no path"),
        (changed(modalities={"acc": {"unit": "s", "columns": ["x"], "rate_hz": 1}}),
         "unit of inertial modality acc .*got s. Say"),
        (changed(windows={"mode": "stretch"}), "frames lacks modality acc"),
        (changed(table={"header": False}), "columns are positions"),
    ],
)  # fmt: skip
def test_broken_descriptor(tmp_path: Path, document: str, sentence: str) -> None:
    write_all(tmp_path / "raw")
    with pytest.raises(FormatError, match=sentence):
        convert("table", tmp_path / "raw", tmp_path / "o.zarr", document=document)
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "empty file"),
        (b"ax,ay,az,gx,gy\n1,2,3,4,5\n", "no column gz at .*expected gx,gy,gz|no column gz"),
        (b"ax,ay,az,gx,gy,gz\n", "no rows"),
        (b"ax,ay,az,gx,gy,gz\n1,2,3,4,5,six\n", "unreadable row .*six"),
        (b"ax,ay,az,gx,gy,gz\n1,2,3,4,5\n", "unreadable row"),
        (b"ax,ay,az,gx,gy,gz\n1,2,3,4,5,6,7\n", "unreadable row"),
        (b"ax,ay,az,gx,gy,gz\n1,2,3,4,5,inf\n", "column gz on line 2"),
        (b"ax,ay,az,gx,gy,gz\n1,2,3,4,5,1e300\n" * 1, "float32|no sample|column"),
    ],
)
def test_bad_table_is_refused_by_name(tmp_path: Path, content: bytes, sentence: str) -> None:
    write_all(tmp_path / "raw")
    bad = tmp_path / "raw" / "s2" / "wlk_1.csv"
    if b"1e300" in content:
        content = b"ax,ay,az,gx,gy,gz\n" + b"1,2,3,4,5,1e300\n" * 120
    bad.write_bytes(content)
    with pytest.raises(RawLayoutError, match=sentence) as caught:
        convert("table", tmp_path / "raw", tmp_path / "o.zarr", document=changed())
    assert "wlk_1.csv" in str(caught.value)
    assert not (tmp_path / "o.zarr").exists()


@given(data=st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    folder = tmp_path_factory.mktemp("any")
    for ending, extra in (
        ("csv", {}),
        ("parquet", {}),
        ("npz", {"array": "x"}),
        ("mat", {"array": "x"}),
    ):
        raw = folder / ending
        raw.mkdir()
        (raw / f"p1.{ending}").write_bytes(data)
        columns: list[Any] = [0] if extra else ["x"]
        modality = {"columns": columns, "unit": "g", "rate_hz": 50, **extra}
        document = changed(path=f"{{subject}}.{ending}", modalities={"acc": modality})
        with pytest.raises(RawLayoutError, match="cannot"):
            convert("table", raw, folder / f"{ending}.zarr", document=document)
        assert not (folder / f"{ending}.zarr").exists()


def test_pattern_must_tell_recordings_apart(tmp_path: Path) -> None:
    write_all(tmp_path / "raw")
    with pytest.raises(RawLayoutError, match=r"two files for one recording \(subject s1\)"):
        own(tmp_path, changed(path="{subject}/*.csv"))
    with pytest.raises(RawLayoutError, match=r"no file of this pattern .*got 6 files such as"):
        own(tmp_path, changed(path="x/{subject}.csv"))


def test_a_descriptor_belongs_to_table_alone(tmp_path: Path) -> None:
    for name, document in (("table", None), ("utd-mhad", changed())):
        with pytest.raises(UsageError, match="--descriptor"):
            convert(name, tmp_path, tmp_path / "o.zarr", document=document)


def test_workers_give_the_same_store(tmp_path: Path) -> None:
    write_all(tmp_path / "raw")
    one = convert("table", tmp_path / "raw", tmp_path / "1.zarr", document=changed())
    two = convert("table", tmp_path / "raw", tmp_path / "2.zarr", document=changed(), workers=2)
    assert one.info == two.info


@pytest.mark.parametrize(
    ("pattern", "path", "groups"),
    [
        ("{subject}/{label}_{trial}.csv", "raw/s1/walk_up_3.csv",
         {"subject": "s1", "label": "walk", "trial": "up_3"}),
        ("{subject}/*/{label}.csv", "raw/s1/day2/walk.csv", {"subject": "s1", "label": "walk"}),
        ("{subject}/**.csv", "raw/s1/a/b/c.csv", {"subject": "s1"}),
        ("{subject}/{subject}_x.csv", "s1/s1_x.csv", {"subject": "s1"}),
        (r"(?P<subject>\d+)-(?P<label>[a-z]+)\.csv", "raw/12-run.csv",
         {"subject": "12", "label": "run"}),
    ],
)  # fmt: skip
def test_patterns(pattern: str, path: str, groups: dict[str, str]) -> None:
    assert match_path(compile_pattern(pattern), path) == groups


def test_patterns_match_whole_names() -> None:
    pattern = compile_pattern("{subject}/{label}.csv")
    for path in ("s1.csv", "raw/s1/walk.csv.bak", "raw/s1/walk_csv", "raw/s1/.csv"):
        assert match_path(pattern, path) is None
    assert match_path(compile_pattern("{subject}/{subject}.csv"), "s1/s2.csv") is None


@pytest.mark.parametrize(
    ("text", "unit", "scale", "offset"),
    [
        ("g", "m/s^2", 9.80665, 0), ("mg", "m/s^2", 9.80665e-3, 0), ("m/s²", "m/s^2", 1, 0),
        ("deg/s", "rad/s", np.pi / 180, 0), ("dps", "rad/s", np.pi / 180, 0),
        ("rad/s", "rad/s", 1, 0),
        ("uT", "uT", 1, 0), ("gauss", "uT", 100, 0), ("mgauss", "uT", 0.1, 0), ("mm", "m", 1e-3, 0),
        ("bpm", "1/min", 1, 0), ("degC", "K", 1, 273.15), ("1", "1", 1, 0), ("px", "px", 1, 0),
        ("mV", "V", 1e-3, 0), ("lux", "lx", 1, 0), ("deg", "rad", np.pi / 180, 0),
        ("Hz", "Hz", 1, 0),
    ],
)  # fmt: skip
def test_units_become_si(text: str, unit: str, scale: float, offset: float) -> None:
    got = conversion(text, "x")
    assert got.unit == unit
    assert (got.scale, got.offset) == pytest.approx((scale, offset), rel=1e-12)


@given(text=st.text(max_size=12))
def test_any_text_is_a_unit_or_a_sentence(text: str) -> None:
    with contextlib.suppress(FormatError):
        assert np.isfinite(conversion(text, "x").scale)
