"""PAMAP2: segments, drop-outs, heart rate, bad files, and real rows written back as .dat."""

from __future__ import annotations

import io
import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rawdata import pamap2 as raw
from rawdata.compare import assert_same, read_placed, stream, totals
from rawdata.content import DAMAGES, Damage, held
from rawdata.pamap2 import Piece
from rawdata.truth import Truth
from realraw import pamap2_rows, write_pamap2

from mmbind_data.datasets import pamap2
from mmbind_data.datasets.labelled_rows import OTHER_ROWS
from mmbind_data.datasets.registry import load_descriptor
from mmbind_data.errors import RawLayoutError
from mmbind_data.raw.files import RawFile, RawListing, Unit, scan
from mmbind_data.spec.descriptor import Recording

INERTIAL = ("acc", "gyro", "mag")
P101 = "Protocol/subject101"


def find(root: Path, preset: str = "default") -> RawListing:
    return pamap2.find(scan(root), preset)


def read(
    root: Path,
    preset: str = "default",
    modalities: Sequence[str] = INERTIAL,
    placements: Sequence[str] = ("hand",),
) -> list[Recording]:
    return read_placed("pamap2", root, preset, modalities, placements)


def write(root: Path, *pieces: Piece, name: str = P101) -> Truth:
    return raw.write(root, rng=np.random.default_rng(3), files={name: pieces})


@pytest.mark.parametrize("preset", list(raw.KEEPS))
def test_every_placement_and_gap_is_the_truth(tmp_path: Path, preset: str) -> None:
    rng = np.random.default_rng(3)
    placements = ("hand", "chest", "ankle")
    truth = raw.write(tmp_path, rng=rng, placements=placements).recordings[preset]
    got = read(tmp_path, preset, pamap2.MODALITIES, placements)
    assert_same(got, truth)
    assert [one.gaps for one in got] == [one.gaps for one in truth]
    assert len({one.gaps for one in truth}) > 2 or preset == "reference"


def test_writer_varies_what_must_not_matter(tmp_path: Path) -> None:
    raw.write(tmp_path, rng=np.random.default_rng(3))
    first, *_ = (tmp_path / f"{P101}.dat").read_text().splitlines()
    assert len(first.split(" ")) == 54
    columns = np.genfromtxt(tmp_path / f"{P101}.dat")
    assert 5 < columns[0, 0] < 9
    assert np.isnan(columns[:, 2]).mean() == pytest.approx(0.909, abs=0.001)


def test_zip_in_zip_as_it_is_distributed(tmp_path: Path) -> None:
    truth = raw.write(tmp_path / "raw", rng=np.random.default_rng(3))
    inner, outer = io.BytesIO(), tmp_path / "pamap2+physical+activity+monitoring.zip"
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted((tmp_path / "raw").glob("*/subject*.dat")):
            archive.write(file, Path("PAMAP2_Dataset", file.relative_to(tmp_path / "raw")))
    with zipfile.ZipFile(outer, "w") as archive:
        archive.writestr("readme.pdf", b"%PDF-1.4")
        archive.writestr("PAMAP2_Dataset.zip", inner.getvalue())
    assert_same(read(outer, "default", pamap2.MODALITIES), truth.recordings["default"])


@pytest.mark.parametrize(
    "path",
    [
        "Protocol/subject101.dat",
        "PAMAP2_Dataset/Protocol/subject101.dat",
        "x.zip/PAMAP2_Dataset.zip/PAMAP2_Dataset/Protocol/subject101.dat",
        "Protocol.zip/Protocol/subject101.dat",
        "Protocol.zip/subject101.dat",
    ],
)
def test_paths_that_are_the_same_file(path: str) -> None:
    unit = pamap2.find([RawFile(path, Path("x"), None, 1)], "default").units[0]
    assert unit.key == P101
    assert unit.files["data"].path == f"{P101}.dat"
    assert unit.placements == ("hand", "chest", "ankle")


def test_files_that_do_not_belong_are_named(tmp_path: Path) -> None:
    write(tmp_path / "raw", Piece(4, 20))
    strangers = ["Protocol/subject110.dat", "Optional/subject102.dat", "subject101.dat"]
    for name in strangers:
        (tmp_path / "raw" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "raw" / name).write_bytes(b"1 2 3\n")
    listing = find(tmp_path / "raw", "all")
    assert set(listing.unrecognised) == {f"raw/{name}" for name in strangers}
    assert listing.notes[0] == "1 of 14 files found (Protocol 101, Optional none)"


def test_optional_sessions_are_of_the_same_people(tmp_path: Path) -> None:
    raw.write(tmp_path, rng=np.random.default_rng(3))
    got = read(tmp_path, "all")
    assert {one.session for one in got} == {"protocol", "optional"}
    assert {one.subject for one in got if one.session == "optional"} == {"101"}
    assert {one.session for one in read(tmp_path)} == {"protocol"}
    assert "not read with this preset: 1 files" in find(tmp_path).notes[1]


def test_optional_alone_names_the_preset_that_fits(tmp_path: Path) -> None:
    write(tmp_path, Piece(9, 20), name="Optional/subject101")
    with pytest.raises(RawLayoutError, match=r"What is there fits --preset all\.$"):
        find(tmp_path)


def test_subject_109_has_rope_jumping_only_and_drops_out_of_reference(tmp_path: Path) -> None:
    write(tmp_path, Piece(0, 5), Piece(24, 300), name="Protocol/subject109")
    assert [one.label for one in read(tmp_path)] == ["rope jumping"]
    assert read(tmp_path, "reference") == []


def test_label_0_is_left_out_and_counted(tmp_path: Path) -> None:
    write(tmp_path, Piece(0, 7), Piece(4, 20), Piece(0, 5), Piece(5, 9))
    got = read(tmp_path, "reference")
    assert [(one.label, one.trial, one.extra["first_row"]) for one in got] == [
        ("walking", "1", "7")
    ]
    assert totals(got)[pamap2.TRANSIENT_ROWS] == 12
    assert totals(got)[OTHER_ROWS] == 9
    assert totals(got)[pamap2.WRONG_ROWS] == 376417 - 41


def test_segments_keep_their_number_in_every_preset(tmp_path: Path) -> None:
    write(tmp_path, Piece(5, 20), Piece(4, 20), Piece(24, 20), Piece(17, 20))
    everything = {one.key: one.label for one in read(tmp_path)}
    assert list(everything) == [f"{P101}/hand/{n}" for n in (1, 2, 3, 4)]
    some = {one.key: one.label for one in read(tmp_path, "reference")}
    assert list(some) == [f"{P101}/hand/2", f"{P101}/hand/4"]
    assert some.items() <= everything.items()


@pytest.mark.parametrize("jump", [0.01, 0.05, 7.0, -0.01, -3.0])
def test_a_time_gap_ends_the_segment(tmp_path: Path, jump: float) -> None:
    write(tmp_path, Piece(4, 30), Piece(4, 40, jump=jump), Piece(0, 5, jump=jump))
    got = read(tmp_path)
    assert [len(stream(one, "acc")) for one in got] == [30, 40]
    assert totals(got)[pamap2.SPLITS] == 1


@pytest.mark.parametrize(("n_lost", "gaps"), [(1, ()), (10, ()), (11, ((50, 61),))])
def test_drop_outs_up_to_a_tenth_of_a_second_are_bridged(
    tmp_path: Path, n_lost: int, gaps: tuple[tuple[int, int], ...]
) -> None:
    write(tmp_path, Piece(4, 100, (("hand", 50, n_lost),)))
    (got,) = read(tmp_path)
    assert got.gaps == gaps
    bridged, lost = (n_lost, 0) if not gaps else (0, n_lost)
    assert (got.counts.get(pamap2.BRIDGED, 0), got.counts.get(pamap2.LOST, 0)) == (bridged, lost)
    steps = np.diff(stream(got, "gyro")[:, 1])
    np.testing.assert_allclose(steps[~np.isnan(steps)], 0.01, atol=1e-5)
    assert np.isnan(stream(got, "mag")).sum() == 3 * lost


def test_drop_outs_are_not_bridged_across_activities(tmp_path: Path) -> None:
    write(tmp_path, Piece(4, 50, (("hand", 48, 2),)), Piece(5, 50, (("hand", 0, 3),)))
    assert [one.gaps for one in read(tmp_path)] == [((48, 50),), ((0, 3),)]


def test_a_drop_out_of_one_unit_is_none_of_another(tmp_path: Path) -> None:
    write(tmp_path, Piece(4, 100, (("ankle", 50, 20),)))
    got = read(tmp_path, placements=("hand", "chest", "ankle"))
    assert [(one.placement, one.gaps) for one in got] == [
        ("hand", ()), ("chest", ()), ("ankle", ((50, 70),)),
    ]  # fmt: skip


def test_reference_sets_drop_outs_to_zero_and_says_so(tmp_path: Path) -> None:
    write(tmp_path, Piece(4, 100, (("hand", 50, 20), ("hand", 0, 1))))
    (got,) = read(tmp_path, "reference")
    zero = [*range(50, 70), 0]
    assert got.gaps == ()
    assert got.counts[pamap2.ZEROED] == 21
    for name in INERTIAL:
        assert (stream(got, name)[zero] == 0).all()
        assert (stream(got, name) != 0).sum() == 3 * 79


def test_a_cell_alone_can_be_missing(tmp_path: Path) -> None:
    """Real drop-outs take the whole unit; a single NaN must not spread to other sensors."""
    write(tmp_path, Piece(4, 60))
    path = tmp_path / f"{P101}.dat"
    table = [line.split(" ") for line in path.read_text().splitlines()]
    for row in range(20, 40):
        table[row][13] = "NaN"  # hand, magnetometer x
    path.write_text("\n".join(" ".join(row) for row in table))
    (got,) = read(tmp_path)
    assert got.gaps == ((20, 40),)
    assert np.isfinite(stream(got, "acc")).all()
    (alone,) = read(tmp_path, modalities=("acc",))
    assert alone.gaps == ()
    (reference,) = read(tmp_path, "reference")
    assert (stream(reference, "mag")[20:40, 0] == 0).all()
    assert (stream(reference, "mag")[:, 1] != 0).all()


def test_heart_rate_is_read_only_by_name() -> None:
    descriptor = load_descriptor("pamap2")
    assert descriptor.streams["heart_rate"].optional
    for preset in descriptor.presets.values():
        assert preset.modalities == INERTIAL
        assert preset.placements == ("hand",)


def rewrite_heart_rate(path: Path, readings: dict[int, str]) -> None:
    lines = [line.split(" ") for line in path.read_text().splitlines()]
    for row, cells in enumerate(lines):
        cells[2] = readings.get(row, "NaN")
    path.write_text("\n".join(" ".join(cells) for cells in lines) + "\n")


def test_heart_rate_is_carried_forward_and_counted(tmp_path: Path) -> None:
    write(tmp_path, Piece(0, 10), Piece(4, 50), Piece(5, 1200))
    rewrite_heart_rate(tmp_path / f"{P101}.dat", {3: "88", 20: "90", 70: "111"})
    walking, running = read(tmp_path, modalities=("acc", "heart_rate"))
    assert stream(walking, "heart_rate").shape == (50, 1)
    assert stream(walking, "heart_rate")[:, 0].tolist() == [88.0] * 10 + [90.0] * 40
    assert stream(running, "heart_rate")[:, 0].tolist() == [90.0] * 10 + [111.0] * 1190
    assert walking.counts[pamap2.HELD] == 49
    assert running.counts[pamap2.HELD] == 1199
    assert running.counts[pamap2.HELD_LONG] == 1260 - 70 - 1001
    assert pamap2.HELD_LONG not in walking.counts


def test_before_the_first_heart_beat_there_is_a_gap(tmp_path: Path) -> None:
    write(tmp_path, Piece(3, 30), Piece(4, 50))
    rewrite_heart_rate(tmp_path / f"{P101}.dat", {42: "90"})
    standing, walking = read(tmp_path, modalities=("acc", "heart_rate"))
    assert set(standing.streams) == {"acc"}
    assert standing.gaps == ()
    assert walking.gaps == ((0, 12),)
    assert [one.label for one in read(tmp_path, modalities=("heart_rate",))] == ["walking"]
    assert read(tmp_path, modalities=("acc",))[1].gaps == ()


def test_only_needed_columns_are_decoded(tmp_path: Path) -> None:
    """A fault in a column that nobody asked for does not hurt; in one that is needed it does."""
    write(tmp_path, Piece(4, 30))
    path = tmp_path / f"{P101}.dat"
    lines = [line.split(" ") for line in path.read_text().splitlines()]
    lines[5][22] = "oops"  # chest, acceleration y
    path.write_text("\n".join(" ".join(cells) for cells in lines))
    assert len(read(tmp_path)) == 1
    assert len(read(tmp_path, modalities=("gyro",), placements=("chest",))) == 1
    with pytest.raises(RawLayoutError, match="oops"):
        read(tmp_path, placements=("chest",))


ROW = " ".join(["8.38", "4", "NaN", *["1.5"] * 51])
BAD_FILES = {
    "empty": ("", r"empty file .*: expected rows of 54 numbers, got 0 bytes"),
    "blank": ("\n \n", r"empty file"),
    "html": ("<html>\n", r"unreadable row .*54 cells in every row, got 1 in row 1\."),
    "missing column": (
        ROW[:-4] + "\n",
        r"unreadable row .*54 cells in every row, got 53 in row 1\.",
    ),
    "extra column": (ROW + " 1\n", r"unreadable row .*54 cells in every row, got 55 in row 1\."),
    "short last row": (
        f"{ROW}\n{ROW[:90]}",
        r"unreadable row .*54 cells in every row, got 23 in row 2\.",
    ),
    "text": (
        ROW.replace("1.5", "abc") + "\n",
        r"unreadable row .*a number in every cell, got 'abc' in row 1, column 5\.",
    ),
    "infinite": (f"{ROW}\n" + ROW.replace("1.5", "inf"), r"column 5 on line 2 .*, got inf"),
    "no time": (ROW.replace("8.38", "NaN") + "\n", r"column 1 on line 1 .*a number, got nan"),
    "no activity": (f"{ROW}\n" + ROW.replace(" 4 ", " NaN ", 1), r"activity on line 2 .*got nan"),
    "unknown activity": (
        ROW.replace(" 4 ", " 8 ", 1),
        r"activity on line 1 .*expected one of 0-7, 9-13, 16-20, 24, got 8",
    ),
    "half an activity": (ROW.replace(" 4 ", " 4.5 ", 1), r"activity on line 1 .*got 4\.5"),
    "comma": (ROW.replace(" ", ",") + "\n", r"unreadable row"),
    "binary": ("\x00\xff\xfe" * 30, r"unreadable row"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_file_is_refused_by_name(tmp_path: Path, name: str) -> None:
    content, message = BAD_FILES[name]
    path = tmp_path / f"{P101}.dat"
    path.parent.mkdir()
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(RawLayoutError, match=rf"cannot read {P101}\.dat: .*{path}: exp") as caught:
        read(tmp_path)
    assert caught.match(message)


WHOLE = b"\n".join(
    b" ".join(b"%g" % value for value in [8 + row / 100, 4, 60, *np.arange(51) + row / 8])
    for row in range(12)
)


def read_or_refuse(content: bytes) -> list[Recording]:
    fields = {"subject": "101", "session": "protocol"}
    unit = Unit(P101, {"data": held(f"{P101}.dat", content)}, fields, placements=("hand",))
    try:
        with np.errstate(over="ignore"):  # a number beyond float32 is the converter's to refuse
            return list(pamap2.read(unit, pamap2.MODALITIES, "default"))
    except RawLayoutError as error:
        if "Protocol/subject101.dat" not in str(error):
            raise
        return []


@settings(max_examples=60)
@given(st.integers(0, len(WHOLE)))
def test_any_truncation_is_refused_or_gives_the_first_rows(n_bytes: int) -> None:
    got = read_or_refuse(WHOLE[:n_bytes])
    (whole,) = read_or_refuse(WHOLE)
    n_rows = WHOLE[:n_bytes].count(b"\n") + (WHOLE[n_bytes - 1 : n_bytes] != b"\n")
    for one in got:
        for name in INERTIAL:
            np.testing.assert_array_equal(stream(one, name), stream(whole, name)[:n_rows])


@settings(max_examples=120)
@given(DAMAGES)
def test_damaged_bytes_never_escape_as_another_error(damage: Damage) -> None:
    read_or_refuse(damage(WHOLE))


@pytest.mark.realdata
def test_real_rows_read_back_from_dat(real_data: Path, tmp_path: Path) -> None:
    rows = pamap2_rows(real_data)
    write_pamap2(tmp_path, rows)
    got = read(tmp_path, "default", pamap2.MODALITIES, ("hand", "chest", "ankle"))
    assert len(got) == 3 * 12
    labels = load_descriptor("pamap2").labels
    by_key = {(one.placement, one.label): one for one in got}
    n_lost = 0
    for code in rows.keys() - {"0"}:
        for unit in ("hand", "chest", "ankle"):
            one = by_key[unit, labels[code]]
            for name, sensor in (("acc", "Acc"), ("gyro", "Gyr"), ("mag", "Mag")):
                expected = np.stack([rows[code][f"{unit}{sensor}{axis}"] for axis in "XYZ"], 1)
                measured = np.isfinite(expected).all(axis=1)
                n_lost += int((~measured).sum())
                np.testing.assert_allclose(
                    stream(one, name)[measured], expected[measured], rtol=1e-6
                )
            np.testing.assert_array_equal(
                stream(one, "heart_rate")[:, 0], rows[code]["heartrate"].astype(np.float32)
            )
    # drop-outs of 1 to 7 rows, none at an end: all bridged, the same for the three sensors
    assert all(one.gaps == () for one in got)
    assert totals(got)[pamap2.BRIDGED] == n_lost / 3 == 81
    assert totals(got)[pamap2.TRANSIENT_ROWS] == 500


@pytest.mark.realdata
def test_real_drop_outs_take_a_whole_unit_and_are_short(real_data: Path) -> None:
    lengths = Counter[int]()
    for columns in pamap2_rows(real_data).values():
        np.testing.assert_allclose(np.diff(columns["timestamp"]), 0.01, atol=1e-9)
        for unit in ("hand", "chest", "ankle"):
            lost = np.array(
                [np.isnan(values) for name, values in columns.items() if name.startswith(unit)]
            )
            assert len(lost) == 9
            assert (lost.all(axis=0) == lost.any(axis=0)).all()
            edges = np.flatnonzero(np.diff(np.concatenate([[0], lost[0], [0]])))
            lengths.update((edges[1::2] - edges[::2]).tolist())
    assert lengths == {1: 52, 2: 9, 3: 3, 4: 1, 5: 1, 6: 1, 7: 1, 21: 1}


@pytest.mark.realdata
def test_real_units_are_si(real_data: Path) -> None:
    rows = pamap2_rows(real_data)
    for code in ("1", "2", "3"):  # lying, sitting, standing
        for unit in ("hand", "chest", "ankle"):
            lengths = {
                sensor: np.nanmedian(
                    np.linalg.norm([rows[code][f"{unit}{sensor}{axis}"] for axis in "XYZ"], axis=0)
                )
                for sensor in ("Acc", "Gyr", "Mag")
            }
            assert 9.6 < lengths["Acc"] < 10.2  # m/s^2
            assert lengths["Gyr"] < 1.3  # rad/s
            assert 25 < lengths["Mag"] < 69  # uT
    assert 60 < rows["1"]["heartrate"].mean() < rows["24"]["heartrate"].mean() < 200
