"""Shoaib 2014: sessions, positions, blank cells, spelling, bad files. No real CSV is at hand."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rawdata import shoaib as raw
from rawdata.compare import assert_same, read_placed, stream, totals
from rawdata.content import DAMAGES, Damage, held
from rawdata.shoaib import Run
from rawdata.truth import Truth

from mmbind_data.datasets import shoaib
from mmbind_data.datasets.labelled_rows import OTHER_ROWS
from mmbind_data.datasets.registry import load_descriptor
from mmbind_data.errors import RawLayoutError
from mmbind_data.raw.files import RawListing, Unit, scan
from mmbind_data.spec.descriptor import Recording

EVERY = ("acc", "linear_acc", "gyro", "mag")
P1 = "DataSet/Participant_1.csv"


def find(root: Path, preset: str = "default") -> RawListing:
    return shoaib.find(scan(root), preset)


def read(
    root: Path,
    preset: str = "default",
    modalities: Sequence[str] = EVERY,
    placements: Sequence[str] = ("wrist",),
) -> list[Recording]:
    return read_placed("shoaib", root, preset, modalities, placements)


def write(root: Path, *runs: Run) -> Truth:
    return raw.write(root, rng=np.random.default_rng(3), files={1: runs})


@pytest.mark.parametrize("preset", raw.PRESETS)
def test_every_position_and_gap_is_the_truth(tmp_path: Path, preset: str) -> None:
    truth = raw.write(tmp_path, rng=np.random.default_rng(3)).recordings[preset]
    got = read(tmp_path, preset, EVERY, tuple(shoaib.BLOCKS))
    assert_same(got, truth)
    assert [one.gaps for one in got] == [one.gaps for one in truth]
    assert len({one.gaps for one in got}) == 3


@pytest.mark.parametrize("placement", list(shoaib.BLOCKS))
def test_one_position_reads_as_it_does_among_all(tmp_path: Path, placement: str) -> None:
    truth = raw.write(tmp_path, rng=np.random.default_rng(3)).recordings["default"]
    got = read(tmp_path, placements=(placement,))
    assert_same(got, [one for one in truth if one.placement == placement])
    # what holds for the whole file is said once, whatever the positions
    assert totals(got)[shoaib.RESPELT] == 60
    assert totals(got)[shoaib.UNLABELLED] == 7


def test_writer_has_the_known_columns(tmp_path: Path) -> None:
    raw.write(tmp_path, rng=np.random.default_rng(3))
    content = (tmp_path / P1).read_bytes()
    first, second, third, *_ = [line.split(b",") for line in content.split(b"\r\n")]
    assert len(first) == len(second) == len(third) == 70
    assert [first[k] for k in (0, 14, 28, 42, 56)] == [t.encode() for t in raw.POSITIONS]
    assert [second[k] for k in (0, 1, 13, 15, 27, 41, 55, 57, 68, 69)] == [
        b"time_stamp", b"Ax", b"", b"Ax", b"", b"", b"", b"Ax", b"Mz", b"",
    ]  # fmt: skip
    assert [third[k] for k in (13, 27, 41, 55, 69)] == [b"", b"", b"", b"", b"walking"]


def test_paper_counts_450_windows_per_person_and_position(tmp_path: Path) -> None:
    """Sessions of 180 s at 50 Hz: with ten people, the 4,500 of the paper."""
    labels = ("walking", "standing", "jogging", "sitting", "biking", "upstairs", "downstairs")
    path = tmp_path / P1
    path.parent.mkdir()
    path.write_text(header() + "".join(9000 * ROW.replace("walking", one) for one in labels))
    paper = load_descriptor("shoaib").presets["paper"].windowing
    got = read(tmp_path, "paper")
    assert sum(len(stream(one, "acc")) // paper.length["acc"] for one in got) == 450
    assert totals(got)[OTHER_ROWS] == 2 * 9000
    assert sum(len(stream(one, "acc")) // 100 for one in read(tmp_path)) == 630


def test_upsatirs_is_upstairs_and_counted(tmp_path: Path) -> None:
    first, second = Run("upstairs", 20), Run("upsatirs", 30)
    write(tmp_path, first, second, Run("walking", 10), Run("upsatirs", 9))
    got = read(tmp_path)
    assert [(one.label, one.session, len(stream(one, "mag"))) for one in got] == [
        ("upstairs", "1", 50), ("walking", "2", 10), ("upstairs", "3", 9),
    ]  # fmt: skip
    assert totals(got)[shoaib.RESPELT] == 39


def test_a_session_ends_with_its_label(tmp_path: Path) -> None:
    write(tmp_path, Run("walking", 20), Run("sitting", 1), Run("walking", 20), Run("", 2))
    got = read(tmp_path, "paper")
    assert [(one.key, one.extra["first_row"]) for one in got] == [
        ("Participant_1/wrist/1", "0"),
        ("Participant_1/wrist/2", "20"),
        ("Participant_1/wrist/3", "21"),
    ]
    assert totals(got)[shoaib.UNLABELLED] == 2


def test_sessions_keep_their_number_in_every_preset(tmp_path: Path) -> None:
    write(tmp_path, Run("jogging", 20), Run("walking", 20), Run("biking", 20), Run("sitting", 20))
    assert [one.session for one in read(tmp_path)] == ["1", "2", "3", "4"]
    assert [one.session for one in read(tmp_path, "paper")] == ["2", "4"]


@pytest.mark.parametrize(("n_blank", "gaps"), [(1, ()), (5, ()), (6, ((30, 36),))])
def test_blank_cells_up_to_a_tenth_of_a_second_are_bridged(
    tmp_path: Path, n_blank: int, gaps: tuple[tuple[int, int], ...]
) -> None:
    write(tmp_path, Run("walking", 60, (("wrist", "gyro", 30, n_blank),)))
    (got,) = read(tmp_path)
    assert got.gaps == gaps
    bridged, lost = (n_blank, 0) if not gaps else (0, n_blank)
    assert (got.counts.get(shoaib.BRIDGED, 0), got.counts.get(shoaib.LOST, 0)) == (bridged, lost)
    steps = np.diff(stream(got, "gyro")[:, 2])
    np.testing.assert_allclose(steps[~np.isnan(steps)], 0.001, atol=2e-6)
    assert np.isfinite(stream(got, "acc")).all()
    # another position, and the same one without the gyroscope, know of no blank
    assert [one.counts for one in read(tmp_path, placements=("belt",))] == [{}]
    assert [one.counts for one in read(tmp_path, modalities=("acc", "mag"))] == [{}]


def test_blank_cells_are_not_bridged_across_sessions(tmp_path: Path) -> None:
    write(
        tmp_path,
        Run("walking", 20, (("wrist", "acc", 18, 2),)),
        Run("sitting", 20, (("wrist", "acc", 0, 2),)),
    )
    assert [one.gaps for one in read(tmp_path)] == [((18, 20),), ((0, 2),)]


def test_only_needed_columns_are_decoded(tmp_path: Path) -> None:
    write(tmp_path, Run("walking", 20))
    lines = (tmp_path / P1).read_text().split("\n")
    cells = lines[9].split(",")
    cells[29] = "oops"  # wrist, Ax
    lines[9] = ",".join(cells)
    (tmp_path / P1).write_text("\n".join(lines))
    assert len(read(tmp_path, placements=("belt", "upper_arm"))) == 2
    assert len(read(tmp_path, modalities=("gyro",))) == 1
    with pytest.raises(RawLayoutError, match="oops"):
        read(tmp_path, modalities=("acc",))


def test_header_without_the_line_of_positions(tmp_path: Path) -> None:
    truth = write(tmp_path, Run("walking", 20))
    _, rest = (tmp_path / P1).read_bytes().split(b"\r\n", 1)
    (tmp_path / P1).write_bytes(rest)
    expected = [one for one in truth.recordings["default"] if one.placement == "wrist"]
    assert_same(read(tmp_path), expected)


@pytest.mark.parametrize("name", ["sensors.rar", "DataSet.RAR"])
def test_a_rar_must_be_unpacked_first(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"Rar!\x1a\x07\x00")
    with pytest.raises(RawLayoutError, match=rf"packed data at .*{name}: .*Unpack it first") as one:
        find(tmp_path)
    assert one.match(r"expected files such as Participant_1\.csv, got a \.rar")


def test_a_rar_beside_its_files_is_left_aside(tmp_path: Path) -> None:
    write(tmp_path, Run("walking", 20))
    (tmp_path / "sensors.rar").write_bytes(b"Rar!\x1a\x07\x00")
    listing = find(tmp_path)
    assert listing.unrecognised == ()
    assert "sensors.rar is not opened: the unpacked files are read" in listing.notes[1]


def test_files_that_do_not_belong_are_named(tmp_path: Path) -> None:
    raw.write(tmp_path / "raw", rng=np.random.default_rng(3))
    strangers = ["DataSet/Participant_11.csv", "DataSet/Participant_01.csv", "DataSet/x.csv"]
    for name in strangers:
        (tmp_path / "raw" / name).write_bytes((tmp_path / "raw" / P1).read_bytes())
    listing = find(tmp_path / "raw")
    assert set(listing.unrecognised) == {f"raw/{name}" for name in strangers}
    assert listing.notes[0] == "3 of 10 files found (participants 1-2, 10)"
    assert [unit.key for unit in listing.units] == [
        "Participant_1", "Participant_2", "Participant_10",
    ]  # fmt: skip
    assert {unit.placements for unit in listing.units} == {tuple(shoaib.BLOCKS)}


def test_checksums_are_those_of_git_hash_object(tmp_path: Path) -> None:
    checksums = load_descriptor("shoaib").checksums
    assert [one.file for one in checksums] == [
        f"DataSet/Participant_{number}.csv" for number in range(1, 11)
    ]
    assert {one.algorithm for one in checksums} == {"git-blob"}
    # the form of such a digest
    assert {len(one.digest) for one in checksums} == {len(hashlib.sha1(b"blob 0\0").hexdigest())}


def header() -> str:
    first = ",".join(title + 13 * "," for title in raw.POSITIONS)
    return f"{first}\n{',,'.join([raw.NAMES] * 5)},\n"


BLOCKS = ",,".join(["1000,1,2,3,4,5,6,7,8,9,10,11,12"] * 5)
ROW = f"{BLOCKS},walking\n"
SWAPPED = header().replace("Wrist", "x").replace("Belt", "Wrist").replace("x", "Belt", 1)
BAD_FILES = {
    "empty": ("", r"empty file .*got 0 bytes"),
    "html": ("<html>\n", r"no header .*Ax, Ay, Az .*got <html>"),
    "no header": (ROW, r"no header"),
    "header only": (header(), r"no rows .*at least one row of numbers, got none"),
    "missing column": (header().replace(",Mz", "") + ROW, r"columns .*70 of them, got 65"),
    "extra column": (header().replace("Mz,\n", "Mz,,\n") + ROW, r"expected 70 of them, got 71"),
    "other order": (
        header().replace("Gx,Gy", "Gy,Gx") + ROW,
        r"column 8 \(left_pocket\) .*expected Gx, got gy",
    ),
    "other positions": (SWAPPED + ROW, r"positions .*left_pocket, right_pocket, wrist"),
    "short row": (
        header() + ROW + ROW[20:],
        r"unreadable row .*70 cells in every row, got 62 in row 4\.",
    ),
    "long row": (
        header() + ROW + "1," + ROW,
        r"unreadable row .*70 cells in every row, got 71 in row 4\.",
    ),
    "text": (header() + ROW.replace(",1,", ",one,"), r"unreadable row .*'one'"),
    "infinite": (header() + ROW + ROW.replace(",1,", ",inf,"), r"column 30 on line 4 .*, got inf"),
    "label": (header() + ROW + ROW.replace("walking", "swimming"), r"label on line 4 .*swimming"),
    "cut label": (header() + ROW + ROW[:-2], r"label on line 4 .*got walkin\."),
    "binary": (header() + "\x00\xff\n" * 3, r"unreadable row"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_file_is_refused_by_name(tmp_path: Path, name: str) -> None:
    content, message = BAD_FILES[name]
    path = tmp_path / P1
    path.parent.mkdir()
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(RawLayoutError, match=rf"cannot read {P1}: .*{path}: expected") as caught:
        read(tmp_path)
    assert caught.match(message)


WHOLE = (header() + 4 * ROW + 3 * ROW.replace("walking", "upsatirs")).encode()


def read_or_refuse(content: bytes) -> list[Recording]:
    files = {"data": held(P1, content)}
    unit = Unit("Participant_1", files, {"subject": "1"}, placements=("wrist",))
    try:
        with np.errstate(over="ignore"):  # a number beyond float32 is the converter's to refuse
            return list(shoaib.read(unit, EVERY, "default"))
    except RawLayoutError as error:
        if P1 not in str(error):
            raise
        return []


@settings(max_examples=80)
@given(st.integers(0, len(WHOLE)))
def test_any_truncation_is_refused_or_gives_the_first_rows(n_bytes: int) -> None:
    whole = read_or_refuse(WHOLE)
    for one, other in zip(read_or_refuse(WHOLE[:n_bytes]), whole, strict=False):
        assert one.label == other.label
        for name in EVERY:
            values = stream(one, name)
            np.testing.assert_array_equal(values, stream(other, name)[: len(values)])


@settings(max_examples=150)
@given(DAMAGES)
def test_damaged_bytes_never_escape_as_another_error(damage: Damage) -> None:
    read_or_refuse(damage(WHOLE))
