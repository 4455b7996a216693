"""RealWorld: names and nesting, times of delivery, gaps, bad files, and real files."""

from __future__ import annotations

import contextlib
import csv
import itertools
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rawdata import realworld as raw
from rawdata.compare import assert_same, read_all, stream
from rawdata.content import DAMAGES, Damage, held
from rawdata.realworld import Take
from rawdata.truth import Truth

from mmbind_data.datasets import realworld
from mmbind_data.datasets.registry import load_descriptor
from mmbind_data.errors import RawLayoutError
from mmbind_data.raw.files import RawFile, RawListing, Unit, scan
from mmbind_data.spec.descriptor import Recording

EVERY = ("acc", "gyro", "mag")
HEADER = "id,attr_time,attr_x,attr_y,attr_z"
WALK = Take(1, "walking", positions=("waist",))
CSV = {
    one: f"proband1/data/{raw.FOLDERS[one]}_walking_csv/{WALK.name(one, 'waist')}" for one in EVERY
}


@pytest.fixture
def truth(tmp_path: Path) -> Truth:
    """One recording of three sensors."""
    return raw.write(tmp_path / "raw", rng=np.random.default_rng(3), takes=(WALK,))


def find(root: Path, preset: str = "default", **options: str) -> RawListing:
    return realworld.find(scan(root), preset, **options)


def read_first(root: Path, modalities: tuple[str, ...] = EVERY, **options: str) -> Recording:
    return next(realworld.read(find(root, **options).units[0], modalities, "default"))


def seen(*paths: str) -> list[RawFile]:
    """Files as `scan` lists them; what they hold does not matter for their names."""
    return [RawFile(path, Path("raw"), None, 1) for path in paths]


def in_memory(tables: Mapping[str, str], **options: str) -> Unit:
    """A unit of one recording whose files hold these texts."""
    files = [held(CSV[name], text.encode()) for name, text in tables.items()]
    return realworld.find(files, "default", **options).units[0]


def rows(stamps: list[int], first: float = 0.0) -> str:
    """A table whose x counts the rows."""
    return "\n".join(
        [HEADER, *(f"{k + 1},{stamp},{first + k},0,{-k}" for k, stamp in enumerate(stamps))]
    )


# names and nesting


NAMES = {
    "r/proband1/data/acc_walking_csv.zip/acc_walking_chest.csv": "proband1/walking_1/chest acc",
    "proband1/data/gyr_walking_csv/Gyroscope_walking_shin.csv": "proband1/walking_1/shin gyro",
    "x/proband15/mag_lying_csv.zip/MagneticField_lying_head.csv": "proband15/lying_1/head mag",
    "proband2/data/acc_lying_csv/acc_lying_csv/acc_lying_waist.csv": "proband2/lying_1/waist acc",
    "s2/acc_lying_csv.zip/acc_lying_waist.csv": "proband2/lying_1/waist acc",
    "proband3.zip/proband3/data/acc_lying_waist.csv": "proband3/lying_1/waist acc",
    "s1/proband4/acc_lying_csv/acc_lying_waist.csv": "proband4/lying_1/waist acc",
    # zips in zips: acc numbers its first part, gyr and mag do not
    "realworld2016_dataset/proband4/data/acc_climbingup_csv.zip/acc_climbingup_1_csv.zip/acc_climbingup_chest.csv":
        "proband4/climbingup_1/chest acc",
    "realworld2016_dataset/proband4/data/gyr_climbingup_csv.zip/gyr_climbingup_csv.zip/Gyroscope_climbingup_chest.csv":
        "proband4/climbingup_1/chest gyro",
    "realworld2016_dataset/proband4/data/acc_climbingup_csv.zip/acc_climbingup_2_csv.zip/acc_climbingup_2_chest.csv":
        "proband4/climbingup_2/chest acc",
    "proband7/data/mag_climbingdown_csv.zip/mag_climbingdown_3_csv.zip/MagneticField_climbingdown_chest.csv":
        "proband7/climbingdown_3/chest mag",
    # a second take beside the first
    "proband13/data/acc_walking_csv.zip/acc_walking_2_shin.csv": "proband13/walking_2/shin acc",
}  # fmt: skip


@pytest.mark.parametrize("path", NAMES)
def test_name_tells_subject_activity_part_position(path: str) -> None:
    (unit,) = realworld.find(seen(path), "default").units
    assert " ".join([unit.key, *unit.files]) == NAMES[path]


@pytest.mark.parametrize(
    "path",
    [
        "acc_walking_csv/acc_walking_chest.csv",  # whose?
        "proband16/data/acc_walking_csv/acc_walking_chest.csv",
        "proband1/data/acc_walking_csv/acc_walking_knee.csv",
        "proband1/data/acc_walking_csv/acc_dancing_chest.csv",
        "proband1/data/acc_walking_csv/gyr_walking_chest.csv",
        "proband1/data/acc_walking_csv/acc_running_chest.csv",
        "proband1/data/acc_walking_csv/Gyroscope_walking_chest.csv",
        "proband4/data/acc_climbingup_csv/acc_climbingup_2_csv/acc_climbingup_3_chest.csv",
        "proband1/data/acc_walking_csv/acc_walking_chest.csv.bak",
    ],
)
def test_name_that_tells_otherwise_is_not_recognised(path: str) -> None:
    good = "proband1/data/acc_lying_csv.zip/acc_lying_chest.csv"
    assert realworld.find(seen(path, good), "default").unrecognised == (path,)
    with pytest.raises(RawLayoutError, match=r"expected files such as proband1/data/acc_walking"):
        realworld.find(seen(path), "default")


def test_all_names_of_the_distribution(tmp_path: Path) -> None:
    """As the loaders of the whole dataset describe it."""
    paths = []
    for subject, activity, sensor, position in itertools.product(
        range(1, 16), realworld.ACTIVITIES, EVERY, realworld.POSITIONS
    ):
        if (subject, activity, position) in {(2, "climbingup", "forearm"), (6, "jumping", "thigh")}:
            continue
        in_parts = subject in (4, 7, 14) and activity.startswith("climbing")
        for part in (1, 2, 3) if in_parts else (1,):
            take = Take(subject, activity, part=part, nested=in_parts)
            zips = "/".join(f"{folder}.zip" for folder in take.folders(sensor))
            paths.append(f"d/proband{subject}/data/{zips}/{take.name(sensor, position)}")
    listing = realworld.find(seen(*paths), "default")
    assert listing.notes == ("922 of 922 recordings found (subjects 1-15)",)
    assert {len(unit.files) for unit in listing.units} == {3}
    assert realworld.find(seen(*paths), "paper").notes == (
        "608 of 608 recordings found (subjects 1-15)",
    )


def test_other_parts_are_known_and_foreign_files_are_named() -> None:
    good = "d/proband1/data/acc_lying_csv.zip/acc_lying_chest.csv"
    known = [
        "d/proband1/data/gps_lying_csv.zip/GPS_lying_chest.csv",
        "d/proband1/data/lig_climbingup_csv.zip/lig_climbingup_2_csv.zip/Light_climbingup_2_head.csv",
        "d/proband1/data/mic_lying_csv/Microphone_lying_chest.csv",
        "d/proband1/data/acc_lying_sqlite.zip/acc_lying.sqlite",
        "d/proband1/images/chest.jpg",
        "d/proband1/videos/lying.mp4",
        "d/proband1/data/acc_lying_csv.zip/readMe",
    ]
    foreign = ["d/proband1/data/notes.txt", "d/holiday/photo.jpg"]
    listing = realworld.find(seen(good, *known, *foreign), "default")
    assert set(listing.unrecognised) == set(foreign)
    assert "not read: 6 files of other sensors, images and videos" in listing.notes


@pytest.mark.parametrize("unpacked", ["itself", "twice"])
def test_zip_unpacked_into_a_folder_of_its_name(tmp_path: Path, unpacked: str) -> None:
    truth = raw.write(tmp_path / "raw", rng=np.random.default_rng(3))
    for folder in sorted(truth.root.glob("proband*/data/*_csv")):
        inner = folder.with_name("inner")
        folder.rename(inner)
        folder.mkdir()
        inner.rename(folder / folder.name)
        if unpacked == "twice":
            (folder / folder.name).rename(folder / "again")
            (folder / folder.name).mkdir()
            (folder / "again").rename(folder / folder.name / folder.name)
    assert_same(read_all("realworld", truth.root), truth.recordings["default"])


def test_whole_distribution_in_one_zip(tmp_path: Path) -> None:
    """Three zips deep where the stairs have parts."""
    truth = raw.write(tmp_path / "raw", rng=np.random.default_rng(3), form="zips")
    whole = tmp_path / "realworld2016_dataset.zip"
    with zipfile.ZipFile(whole, "w") as archive:
        for file in sorted(truth.root.rglob("*")):
            archive.write(file, file.relative_to(truth.root))
    assert_same(read_all("realworld", whole), truth.recordings["default"])


def test_one_proband_alone_can_be_given(tmp_path: Path) -> None:
    truth = raw.write(tmp_path / "raw", rng=np.random.default_rng(3), form="zips")
    expected = [one for one in truth.recordings["default"] if one.subject == "4"]
    assert_same(read_all("realworld", truth.root / "realworld2016_dataset" / "proband4"), expected)


# sensors and modalities


def test_sensor_without_a_file_is_absent(tmp_path: Path) -> None:
    truth = raw.write(tmp_path, rng=np.random.default_rng(3))
    got = {one.key: one for one in read_all("realworld", tmp_path)}
    assert list(got["proband1/jumping_1/waist"].streams) == ["acc", "gyro"]
    assert list(got["proband1/walking_1/forearm"].streams) == ["mag"]
    listing = find(tmp_path)
    assert listing.notes[:4] == (
        "14 of 922 recordings found (subjects 1, 4, 10)",
        "acc found for 13 of these 14 recordings",
        "gyro found for 13 of these 14 recordings",
        "mag found for 13 of these 14 recordings",
    )
    assert truth.root == tmp_path
    forearm = next(unit for unit in listing.units if unit.key.endswith("forearm"))
    assert list(realworld.read(forearm, ["acc", "gyro"], "default")) == []


def test_units_can_be_chosen_by_where_they_were_worn(truth: Truth) -> None:
    (unit,) = find(truth.root).units
    assert unit.worn == ("waist",)
    assert set(load_descriptor("realworld").placements) == set(realworld.POSITIONS)


def test_grid_spans_all_sensors_whatever_was_asked_for() -> None:
    unit = in_memory(
        {
            "acc": rows([1000 + 20 * k for k in range(10)]),
            "gyro": rows([1050 + 20 * k for k in range(6)]),
        }
    )
    (both,) = realworld.read(unit, EVERY, "default")
    (alone,) = realworld.read(unit, ["acc"], "default")
    assert both.extra == alone.extra == {"start_ms": "1050"}
    assert stream(both, "gyro")[:, 0].tolist() == [0, 1, 2, 3, 4, 5]
    np.testing.assert_allclose(stream(both, "acc")[:, 0], [2.5, 3.5, 4.5, 5.5, 6.5, 7.5])
    np.testing.assert_array_equal(stream(alone, "acc"), stream(both, "acc"))
    assert both.raw_files == alone.raw_files == (CSV["acc"], CSV["gyro"])


def test_time_that_not_all_sensors_cover_is_counted() -> None:
    unit = in_memory(
        {
            "acc": rows([1000 + 20 * k for k in range(300)]),
            "gyro": rows([3500 + 20 * k for k in range(50)]),
        }
    )
    (one,) = realworld.read(unit, EVERY, "default")
    assert len(stream(one, "acc")) == 50
    # 6 s less 1 s, a little more than 5
    assert one.counts == {"seconds that not all sensors of a recording cover": 5}


def test_sensors_without_a_common_time_give_no_frame_and_a_remark() -> None:
    unit = in_memory({"acc": rows([1000, 1020]), "gyro": rows([5000, 5020])})
    (one,) = realworld.read(unit, EVERY, "default")
    assert {name: stream(one, name).shape for name in one.streams} == {
        "acc": (0, 3),
        "gyro": (0, 3),
    }
    assert one.counts["recordings whose sensors have no time in common"] == 1
    assert one.extra == {}


# times of delivery, gaps


def test_samples_delivered_together_are_put_back_to_when_they_were_taken() -> None:
    stamps = [1000, 1020, 1101, 1102, 1103, 1104, 1120, 1140]
    (one,) = realworld.read(in_memory({"acc": rows(stamps)}), ["acc"], "default")
    assert stream(one, "acc")[:, 0].tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    assert one.counts == {realworld.LATE: 3}
    assert one.gaps == ()


def test_stamps_can_be_used_as_written() -> None:
    stamps = [1000, 1020, 1100, 1101, 1102, 1103, 1120, 1140]
    unit = in_memory({"acc": rows(stamps)}, times="written")
    (one,) = realworld.read(unit, ["acc"], "default")
    np.testing.assert_allclose(
        stream(one, "acc")[:, 0], [0, 1, 1.25, 1.5, 1.75, 2, 6, 7], rtol=1e-6
    )
    assert one.counts == {}


def test_device_faster_than_the_grid_keeps_its_times() -> None:
    """100 Hz: nothing is late, though samples are nearer than 20 ms."""
    (one,) = realworld.read(
        in_memory({"acc": rows([1000 + 10 * k for k in range(101)])}), ["acc"], "default"
    )
    assert stream(one, "acc")[:, 0].tolist() == list(range(0, 101, 2))
    assert one.counts == {}


@pytest.mark.parametrize(
    ("max_gap", "gaps"), [("100", ((6, 13),)), ("140", ((6, 13),)), ("160", ())]
)
def test_lost_samples_leave_a_gap(max_gap: str, gaps: tuple[tuple[int, int], ...]) -> None:
    stamps = [1000 + 20 * k for k in range(6)] + [1260 + 20 * k for k in range(6)]
    unit = in_memory({"acc": rows(stamps)}, max_gap_ms=max_gap)
    (one,) = realworld.read(unit, ["acc"], "default")
    assert one.gaps == gaps
    assert np.isnan(stream(one, "acc")[6:13]).all() == bool(gaps)
    assert np.isfinite(stream(one, "acc")[[5, 13]]).all()
    assert one.counts == {}


@pytest.mark.parametrize("holey", ["acc", "gyro"])
def test_gap_of_one_sensor_is_a_gap_of_those_asked_for_with_it(holey: str) -> None:
    whole = [1000 + 20 * k for k in range(20)]
    broken = [stamp for stamp in whole if not 1040 < stamp < 1200]
    other = "gyro" if holey == "acc" else "acc"
    unit = in_memory({holey: rows(broken), other: rows(whole)})
    (both,) = realworld.read(unit, ["acc", "gyro"], "default")
    (alone,) = realworld.read(unit, [other], "default")
    assert both.gaps == ((3, 10),)
    assert np.isfinite(stream(both, other)).all()
    assert alone.gaps == ()


@pytest.mark.parametrize(
    ("times", "expected"), [("taken", [0, 1, 2, 3, 4]), ("written", [0, 1, 3])]
)
def test_stamps_that_do_not_increase_are_counted(times: str, expected: list[int]) -> None:
    # the second row's stamp occurs twice; the last one lies before it
    stamps = [1000, 1020, 1020, 1040] if times == "written" else [1000, 1060, 1060, 1060, 1080]
    (one,) = realworld.read(in_memory({"acc": rows(stamps)}, times=times), ["acc"], "default")
    assert stream(one, "acc")[:, 0].tolist() == expected
    assert one.counts[realworld.NOT_INCREASING] == (1 if times == "written" else 2)


def test_file_in_which_time_runs_back_is_refused() -> None:
    stamps = [100_000 + 20 * k for k in range(600)]
    unit = in_memory({"acc": rows(stamps + stamps)})
    with pytest.raises(RawLayoutError, match=r"attr_time on line 602 .*10 s, got 11\.98 s back"):
        list(realworld.read(unit, ["acc"], "default"))


@given(st.lists(st.sampled_from([0.02, 4.9, 5.0, 20.0, 100.0, 100.1, 900.0]), max_size=9))
def test_the_median_interval_tells_milliseconds(intervals: list[float]) -> None:
    expected = not intervals or 5.0 <= np.median(intervals) <= 100.0
    assert realworld.are_milliseconds(np.array(intervals)) == expected


# bad files

GOOD = rows([1000 + 20 * k for k in range(30)])
BAD_FILES = {
    "empty": ("", r"empty file .*a header and rows, got 0 bytes"),
    "blank": ("\n\n", r"empty file"),
    "header only": (HEADER, r"no rows .*at least one row of numbers, got none"),
    "no column": ("id,attr_time,attr_x,attr_y\n1,2,3,4", r"no column attr_z .*, got id,attr_time"),
    "column twice": (
        "id,attr_time,attr_x,attr_y,attr_z,attr_y\n1,1000,1,1,1,1",
        r"column attr_y occurs 2 times at .*each wanted column once, got it as columns 4, 6\.",
    ),
    "another table": ("id,attr_time,attr_lat,attr_lng\n1,2,3,4", r"no column attr_x"),
    "short row": (
        f"{HEADER}\n1,1000,1,1,1\n2,1020,1",
        r"unreadable row .*5 cells in every row, got 3 in row 3\.",
    ),
    "long row": (
        f"{HEADER}\n1,1000,1,1,1,7",
        r"unreadable row .*5 cells in every row, got 6 in row 2\.",
    ),
    "text": (
        f"{HEADER}\n1,1000,1,x,1",
        r"unreadable row .*a number in every cell, got 'x' in row 2, column 4\.",
    ),
    "blank cell": (f"{HEADER}\n1,1000,1,,1", r"unreadable row .*got nothing in row 2, column 4"),
    "nan": (f"{HEADER}\n1,1000,1,nan,1", r"column attr_y on line 2 .*a number, got nan"),
    "infinite": (f"{HEADER}\n1,1000,1,2,inf", r"column attr_z on line 2 .*a number, got inf"),
    "seconds": (
        "\n".join([HEADER, *(f"{k},{1435993159 + k / 50},1,1,1" for k in range(9))]),
        r"unit or rate of attr_time .*milliseconds, about 20 .*, got a median of 0\.02",
    ),
    "microseconds": (rows([20_000 * k for k in range(9)]), r"got a median of 20000"),
    "html": ("<html>\n<body>", r"no column attr_time"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_file_is_refused_by_name(truth: Truth, name: str) -> None:
    content, message = BAD_FILES[name]
    path = truth.root / CSV["gyro"]
    path.write_text(content)
    with pytest.raises(RawLayoutError, match=rf"cannot read {CSV['gyro']}: .* at {path}") as caught:
        read_first(truth.root)
    assert caught.match(message)


def test_extra_and_reordered_columns_are_read_by_name(truth: Truth) -> None:
    path = truth.root / CSV["acc"]
    for name in ("gyro", "mag"):
        (truth.root / CSV[name]).unlink()
    path.write_text(
        "more,attr_z,attr_x,attr_time,attr_y,id\r\n9,3,1,1000,2,1\r\n9,6,4,1020,5,2\r\n"
    )
    assert stream(read_first(truth.root), "acc").tolist() == [[1, 2, 3], [4, 5, 6]]


@given(DAMAGES)
def test_damaged_bytes_never_escape_as_another_error(damage: Damage) -> None:
    unit = realworld.find([held(CSV["acc"], damage(GOOD.encode()))], "default").units[0]
    # a number beyond float32 is refused by the engine
    with contextlib.suppress(RawLayoutError), np.errstate(over="ignore"):
        for one in realworld.read(unit, ["acc"], "default"):
            assert stream(one, "acc").dtype == np.float32


def test_writer_varies_what_must_not_matter(tmp_path: Path) -> None:
    """The truth is worth something only if stamps differ from the times of sampling."""
    truth = raw.write(tmp_path, rng=np.random.default_rng(3))
    taken, arrived = raw.clock(np.random.default_rng(3), 300)
    assert (np.diff(arrived) > 0).all()
    assert (arrived - taken > 20).sum() > 50
    assert np.diff(taken).max() == 260
    default = truth.recordings["default"]
    assert len({len(stream(one, name)) for one in default for name in one.streams}) > 5
    assert all(one.gaps for one in default)
    assert not next(tmp_path.rglob("*.csv")).read_text().endswith("\n")


# real files: acc of five recordings of proband1, one of them with gyro


def real_tables(root: Path) -> dict[str, list[list[float]]]:
    """File name -> rows of id, time, x, y, z, parsed by the csv module."""
    tables = {}
    for path in sorted((root / "realworld").rglob("*.csv")):
        with path.open() as stream:
            tables[path.name] = [
                [float(cell) for cell in row] for row in csv.reader(stream) if row[0] != "id"
            ]
    return tables


@pytest.mark.realdata
def test_real_files_are_found(real_data: Path) -> None:
    listing = find(real_data / "realworld")
    assert [unit.key for unit in listing.units] == [
        "proband1/climbingup_1/forearm",
        "proband1/climbingup_1/waist",
        "proband1/walking_1/forearm",
        "proband1/walking_1/shin",
        "proband1/walking_1/waist",
    ]
    assert listing.notes == (
        "5 of 922 recordings found (subjects 1)",
        "gyro found for 1 of these 5 recordings",
        "no mag",
    )
    assert listing.modalities == ("acc", "gyro")
    assert listing.unrecognised == ()


@pytest.mark.realdata
def test_real_samples_were_delivered_late_not_lost(real_data: Path) -> None:
    """What comes 1 ms apart after a silence differs as much as what comes 20 ms apart."""
    silences = 0
    for name, table in real_tables(real_data).items():
        values = np.array(table)
        interval = np.diff(values[:, 1])
        assert interval.min() == 1
        change = np.linalg.norm(np.diff(values[:, 2:], axis=0), axis=1)
        at_once = interval <= 2
        usual = np.median(change[(interval >= 18) & (interval <= 22)])
        assert 0.75 < np.median(change[at_once]) / usual < 1.35, name
        for k in np.flatnonzero(interval > 800):
            silences += 1
            # about as many rows follow at once as the silence is long
            assert at_once[k + 1 : k + int(interval[k] / 25)].mean() > 0.9, name
    assert silences == 67


@pytest.mark.realdata
def test_real_windows(real_data: Path) -> None:
    """Rows of waist: 31,948 walking and 32,864 climbing up, so 319 and 328 windows."""
    got = {one.key[9:]: one for one in read_all("realworld", real_data / "realworld")}
    n_frames = {key: len(stream(one, "acc")) for key, one in got.items()}
    assert n_frames == {
        "climbingup_1/forearm": 27128,
        "climbingup_1/waist": 32895,
        "walking_1/forearm": 31980,
        "walking_1/shin": 31977,
        "walking_1/waist": 31980,
    }
    assert {key: one.gaps for key, one in got.items() if one.gaps} == {
        "walking_1/forearm": ((9321, 9327),)
    }
    assert {one.label for one in got.values()} == {"upstairs", "walking"}
    assert list(got["walking_1/shin"].streams) == ["acc", "gyro"]


@pytest.mark.realdata
def test_real_stamps_as_written_would_lose_windows(real_data: Path) -> None:
    listing = find(real_data / "realworld", times="written")
    lost = {}
    for unit in listing.units:
        (one,) = realworld.read(unit, ["acc"], "default")
        starts = range(0, len(stream(one, "acc")) - 99, 100)
        lost[unit.key[9:]] = sum(any(a < k + 100 and k < b for a, b in one.gaps) for k in starts)
    assert lost == {
        "climbingup_1/forearm": 12,
        "climbingup_1/waist": 139,
        "walking_1/forearm": 62,
        "walking_1/shin": 53,
        "walking_1/waist": 49,
    }


@pytest.mark.realdata
def test_real_values_against_a_walk_back_by_hand(real_data: Path) -> None:
    tables = real_tables(real_data)
    got = {one.key[9:]: one for one in read_all("realworld", real_data / "realworld")}
    shin = got["walking_1/shin"]
    start = int(shin.extra["start_ms"])
    for modality, name in {
        "acc": "acc_walking_shin.csv",
        "gyro": "Gyroscope_walking_shin.csv",
    }.items():
        table = tables[name]
        taken = [table[-1][1]]
        for row in reversed(table[:-1]):
            taken.append(min(row[1], taken[-1] - 20.0))
        taken.reverse()
        for frame in (0, 1, 5930, 16120, 31976):
            at = start + 20.0 * frame
            k = max(k for k in range(len(taken)) if taken[k] <= at)
            share = 0.0 if taken[k] == at else (at - taken[k]) / (taken[k + 1] - taken[k])
            following = table[min(k + 1, len(table) - 1)]
            expected = [(1 - share) * table[k][c] + share * following[c] for c in (2, 3, 4)]
            np.testing.assert_allclose(stream(shin, modality)[frame], expected, rtol=1e-5)


@pytest.mark.realdata
def test_real_values_are_in_si(real_data: Path) -> None:
    got = {one.key[9:]: one for one in read_all("realworld", real_data / "realworld")}
    for one in got.values():
        length = np.linalg.norm(stream(one, "acc"), axis=1)
        assert np.nanmedian(length) == pytest.approx(9.81, abs=0.7), one.key
    # interpolation stays within the extremes, which are those of the published constants
    shin = got["walking_1/shin"]
    assert 19.4 < stream(shin, "acc").max() <= np.float32(19.608511)
    assert -19.60911 <= stream(shin, "acc").min() < -19.4
    # between two samples a peak is lower: raw -7.416 and 6.680
    assert (stream(shin, "gyro").min(), stream(shin, "gyro").max()) == pytest.approx(
        (-7.199, 6.394), abs=1e-3
    )
