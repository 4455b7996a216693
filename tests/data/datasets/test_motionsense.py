"""MotionSense: layouts, presets, bad files, and the real archives."""

from __future__ import annotations

import contextlib
import csv
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rawdata import motionsense as raw
from rawdata.compare import assert_same, read_all
from rawdata.content import DAMAGES, Damage, held
from rawdata.truth import Truth

from mmbind_data.datasets import motionsense
from mmbind_data.datasets.registry import load_descriptor
from mmbind_data.errors import RawLayoutError
from mmbind_data.raw.files import RawListing, scan
from mmbind_data.spec.descriptor import Recording

A, B, C = raw.FOLDERS
WHOLE = b",x,y,z\n0,1.5,-2.25,3e-3\n1,4,5,6.125\n2,-7,8,9\n"
PEOPLE = b"\xef\xbb\xbfcode,weight,height,age,gender\n1,102,188,46,1\n2,72,180,28,1\n"


@pytest.fixture
def truth(tmp_path: Path) -> Truth:
    return raw.write(
        tmp_path / "raw",
        rng=np.random.default_rng(3),
        subjects=(1, 10),
        trials=("dws_1", "jog_9", "sit_5"),
    )


def find(root: Path, preset: str = "default") -> RawListing:
    return motionsense.find(scan(root), preset)


def read_first(root: Path, preset: str = "default") -> Recording:
    modalities = ("acc", "gyro")
    unit = find(root, preset).units[0]
    return next(motionsense.read(unit, modalities, preset))


def test_writer_varies_what_must_not_matter(truth: Truth) -> None:
    """The truth is worth something only if the files differ where a reader can slip."""
    default, paper = truth.recordings["default"], truth.recordings["paper"]
    assert len({len(one.streams["acc"]) for one in default}) > 3
    # the cut pair of B and C is not as long as A
    lengths = {one.key: len(one.streams["acc"]) for one in default}
    assert any(len(one.streams["acc"]) != lengths[one.key] for one in paper)
    assert (truth.root / "data_subjects_info.csv").read_bytes()[:3] == b"\xef\xbb\xbf"
    assert list((truth.root / "__MACOSX").rglob("._sub_1.csv"))


def test_zips_carry_macos_twins(tmp_path: Path) -> None:
    raw.write(tmp_path, rng=np.random.default_rng(3), form="zips", subjects=(1,), trials=("dws_1",))
    with zipfile.ZipFile(tmp_path / f"{A}.zip") as archive:
        assert "__MACOSX/A_DeviceMotion_data/dws_1/._sub_1.csv" in archive.namelist()


@pytest.mark.parametrize("form", ["folders", "doubled", "zips"])
def test_folder_a_alone_can_be_given(tmp_path: Path, form: str) -> None:
    truth = raw.write(tmp_path, rng=np.random.default_rng(3), form=form, info=False)
    inner = tmp_path / (f"{A}.zip" if form == "zips" else A)
    assert_same(read_all("motionsense", inner), truth.recordings["default"])


@pytest.mark.parametrize("preset", ["default", "paper"])
def test_specific_force_turns_acceleration_and_gravity_round(truth: Truth, preset: str) -> None:
    names = ("acc", "gyro", *(("gravity", "attitude") if preset == "default" else ()))
    turned, kept = (
        motionsense.find(scan(truth.root), preset, **options).units[0]
        for options in ({"sign": "specific_force"}, {})
    )
    one, other = (next(motionsense.read(unit, names, preset)).streams for unit in (turned, kept))
    for name in names:
        sign = -1 if name in ("acc", "gravity") else 1
        np.testing.assert_array_equal(one[name], sign * other[name])


def test_zip_without_its_top_folder(tmp_path: Path) -> None:
    truth = raw.write(tmp_path / "raw", rng=np.random.default_rng(3), folders=(A,), info=False)
    with zipfile.ZipFile(tmp_path / f"{A}.zip", "w") as archive:
        for file in sorted((truth.root / A).rglob("*.csv")):
            archive.write(file, file.relative_to(truth.root / A))
    assert_same(read_all("motionsense", tmp_path / f"{A}.zip"), truth.recordings["default"])


def test_fields_are_known_before_reading(truth: Truth) -> None:
    unit = find(truth.root).units[1]
    assert unit.key == "dws_1/sub_10"
    assert unit.fields == {
        "subject": "10",
        "label": "downstairs",
        "trial": "1",
        "placement": "front_pocket",
        "sign": "written",
    }


def test_attitude_is_read_only_by_name() -> None:
    descriptor = load_descriptor("motionsense")
    assert descriptor.streams["attitude"].optional
    assert "attitude" not in descriptor.presets["default"].modalities
    assert descriptor.streams["attitude"].channels[0].names == ("roll", "pitch", "yaw")


def test_paper_preset_leaves_jogging_out(truth: Truth) -> None:
    units = find(truth.root, "paper").units
    assert [unit.key for unit in units] == [
        "dws_1/sub_1",
        "dws_1/sub_10",
        "sit_5/sub_1",
        "sit_5/sub_10",
    ]
    assert find(truth.root, "paper").notes[0] == "4 of 312 recordings found (subjects 1, 10)"
    assert find(truth.root).notes[0] == "6 of 360 recordings found (subjects 1, 10)"


def test_pair_without_its_other_half_is_left_out(truth: Truth) -> None:
    (truth.root / C / "dws_1" / "sub_1.csv").unlink()
    keys = [unit.key for unit in find(truth.root, "paper").units]
    assert keys == ["dws_1/sub_10", "sit_5/sub_1", "sit_5/sub_10"]


def test_preset_that_does_not_fit_the_folders(tmp_path: Path) -> None:
    for name, folders in {"a": (A,), "b": (B,), "bc": (B, C)}.items():
        rng = np.random.default_rng(3)
        raw.write(tmp_path / name, rng=rng, folders=folders, subjects=(1,), trials=("dws_1",))
    with pytest.raises(RawLayoutError, match=r"What is there fits --preset default\."):
        find(tmp_path / "a", "paper")
    with pytest.raises(RawLayoutError, match=r"What is there fits --preset paper\."):
        find(tmp_path / "bc", "default")
    with pytest.raises(RawLayoutError, match=r"B_.* and C_.*sub_1\.csv, got .*official zips\.$"):
        find(tmp_path / "b", "paper")


def test_without_the_table_of_subjects_nothing_is_made_up(tmp_path: Path) -> None:
    raw.write(tmp_path, rng=np.random.default_rng(3), info=False)
    assert "data_subjects_info.csv not found" in " ".join(find(tmp_path).notes)
    assert read_first(tmp_path).extra == {}


def test_files_that_do_not_belong_are_named(truth: Truth) -> None:
    source = truth.root / A / "dws_1" / "sub_1.csv"
    strangers = ["wlk_10/sub_1.csv", "dws_1/sub_25.csv", "dws_1/sub_01.csv", "dws_1/x.csv"]
    for name in strangers:
        (truth.root / A / name).parent.mkdir(exist_ok=True)
        (truth.root / A / name).write_bytes(source.read_bytes())
    (truth.root / "SOURCE.md").write_text("where it comes from")
    listing = find(truth.root)
    assert set(listing.unrecognised) == {f"raw/{A}/{name}" for name in strangers}
    assert len(listing.units) == 6


BAD_FILES = {
    "empty": (b"", r"empty file .*: expected a header and rows, got 0 bytes"),
    "blank": (b"\n\n", r"empty file .*: expected a header and rows, got 2 bytes"),
    "html": (b"<html>\n", r"no column with an empty name .*, got <html>"),
    "header only": (b",x,y,z\n", r"no rows .*: expected at least one row of numbers, got none"),
    "no column": (b",x,y\n0,1,2\n", r"no column z .*: expected ,x,y,z, got ,x,y\."),
    "no index": (b"x,y,z\n1,2,3\n", r"no column with an empty name .*, got x,y,z"),
    "index from 1": (b",x,y,z\n1,2,3,4\n", r"row index on line 2 .*: expected 0, got 1"),
    "gap": (b",x,y,z\n0,2,3,4\n2,2,3,4\n", r"row index on line 3 .*: expected 1, got 2"),
    "no number": (
        b",x,y,z\n,2,3,4\n",
        r"unreadable row .*a whole number in every cell, got nothing in row 2, column 1\.",
    ),
    "index text": (b",x,y,z\na,2,3,4\n", r"unreadable row .*got 'a' in row 2, column 1\."),
    "nan": (b",x,y,z\n0,1,2,3\n1,1,nan,3\n", r"y on line 3 .*: expected a number, got nan"),
    "blank cell": (
        b",x,y,z\n0,1,2,\n",
        r"unreadable row .*a number in every cell, got nothing in row 2, column 4\.",
    ),
    "infinite": (b",x,y,z\n0,inf,2,3\n", r"x on line 2 .*: expected a number, got inf"),
    "text": (b",x,y,z\n0,1,2,3\n1,1,2,abc\n", r"unreadable row .*got 'abc' in row 3, column 4\."),
    "short row": (
        b",x,y,z\n0,1,2,3\n1,1\n",
        r"unreadable row .*4 cells in every row, got 2 in row 3\.",
    ),
    "binary": (b",x,y,z\n0,\xff\xfe,2,3\n", r"unreadable row"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_file_is_refused_by_name(truth: Truth, name: str) -> None:
    content, message = BAD_FILES[name]
    path = truth.root / B / "dws_1" / "sub_1.csv"
    path.write_bytes(content)
    place = rf"cannot read {B}/dws_1/sub_1\.csv: .*{path}: expected"
    with pytest.raises(RawLayoutError, match=place) as caught:
        read_first(truth.root, "paper")
    assert caught.match(message)


def test_crlf_and_reordered_columns_are_read_by_name(truth: Truth) -> None:
    path = truth.root / B / "dws_1" / "sub_1.csv"
    path.write_bytes(b",z,x,y\r\n0,3,1,2\r\n1,6,4,5\r\n")
    got = read_first(truth.root, "paper").streams["acc"]
    np.testing.assert_allclose(got, 9.80665 * np.array([[1, 2, 3], [4, 5, 6]]), rtol=1e-6)


BAD_TABLES = {
    "another table": (b"a,b\n1,2\n", r"another table .*got a,b"),
    "no rows": (b"", r"another table .*got no rows"),
    "short row": (b"code,weight,height,age,gender\n1,2\n", r"another table"),
    "long row": (b"code,weight,height,age,gender\n1,2,3,4,1,6\n", r"another table"),
    "gender": (b"code,weight,height,age,gender\n1,2,3,4,F\n", r"gender of subject 1 .*got F"),
    "encoding": (b"code,weight,height,age,gender\n\xff,2,3,4,0\n", r"unreadable table"),
}


@pytest.mark.parametrize("name", BAD_TABLES)
def test_bad_table_of_subjects_is_refused(truth: Truth, name: str) -> None:
    content, message = BAD_TABLES[name]
    (truth.root / "data_subjects_info.csv").write_bytes(content)
    with pytest.raises(RawLayoutError, match=message):
        read_first(truth.root)


def test_subject_missing_from_the_table_has_no_extra(truth: Truth) -> None:
    (truth.root / "data_subjects_info.csv").write_bytes(
        b"code,weight,height,age,gender\n2,1,1,1,1\n"
    )
    assert read_first(truth.root).extra == {}


def read_content(table: bytes, people: bytes) -> Recording:
    """The recording of one file of archive B and its twin of C, with a table of subjects."""
    contents = {f"{B}/dws_1/sub_1.csv": table, f"{C}/dws_1/sub_1.csv": WHOLE}
    contents["data_subjects_info.csv"] = people
    files = [held(path, content) for path, content in contents.items()]
    unit = motionsense.find(files, "paper").units[0]
    return next(motionsense.read(unit, ("acc", "gyro"), "paper"))


def read_or_refuse(table: bytes, people: bytes = PEOPLE) -> None:
    """What damage does not show reads as numbers; nothing but our error may be raised."""
    # a number beyond float32 is refused by the engine
    with contextlib.suppress(RawLayoutError), np.errstate(over="ignore"):
        one = read_content(table, people)
        for values in one.streams.values():
            assert (values.dtype, values.shape[1]) == (np.float32, 3)
            assert 1 <= len(values) <= 3
            assert not np.isnan(values).any()
        assert set(one.extra) in (set(), {"sex", "age", "height_cm", "weight_kg"})


@given(DAMAGES)
def test_damaged_bytes_never_escape_as_another_error(damage: Damage) -> None:
    read_or_refuse(damage(WHOLE))
    read_or_refuse(WHOLE, damage(PEOPLE))


@given(st.binary(max_size=60) | st.text('0123456789.,-+einfa"\n \t', max_size=60).map(str.encode))
def test_any_content_is_read_or_refused(content: bytes) -> None:
    read_or_refuse(content)
    read_or_refuse(b",x,y,z\n" + content)
    read_or_refuse(WHOLE, content)


def test_undamaged_content_is_read() -> None:
    """What the damages begin with is whole."""
    one = read_content(WHOLE, PEOPLE)
    expected = np.array([[1.5, -2.25, 3e-3], [4, 5, 6.125], [-7, 8, 9]])
    np.testing.assert_allclose(one.streams["gyro"], expected, rtol=1e-6)
    np.testing.assert_allclose(one.streams["acc"], 9.80665 * expected, rtol=1e-6)
    assert one.extra == {"sex": "male", "age": "46", "height_cm": "188", "weight_kg": "102"}


def rows_of(archive: zipfile.ZipFile, name: str) -> int:
    return archive.read(name).count(b"\n") - 1  # the header


@pytest.mark.realdata
def test_real_archives_are_found_whole(real_data: Path) -> None:
    listing = find(real_data / "motionsense")
    assert len(listing.units) == 270
    assert listing.notes[0] == "270 of 360 recordings found (subjects 1-18)"
    assert listing.unrecognised == ()
    assert len(find(real_data / "motionsense", "paper").units) == 5 * 18 + 8 * 2


@pytest.mark.realdata
def test_real_rows_and_paper_windows_by_counting_lines(real_data: Path) -> None:
    root = real_data / "motionsense"
    with zipfile.ZipFile(root / f"{B}.zip") as b, zipfile.ZipFile(root / f"{C}.zip") as c:
        shorter = {
            name.removeprefix(f"{B}/")[:-4]: min(rows_of(b, name), rows_of(c, name.replace(B, C)))
            for name in b.namelist()
            if "jog" not in name
        }
    got = read_all("motionsense", root, "paper", ["acc"])
    assert {one.key: len(one.streams["acc"]) for one in got} == shorter
    windows = {one.key: len(one.streams["acc"]) // 100 for one in got}
    assert sum(windows.values()) == sum(rows // 100 for rows in shorter.values()) == 3042


@pytest.mark.realdata
def test_real_extremes_are_those_of_the_published_constants(real_data: Path) -> None:
    """The reference code prints the largest values of its B and C windows, in raw units."""
    got = read_all("motionsense", real_data / "motionsense", "paper")
    acc = max(float(one.streams["acc"].max()) for one in got)
    gyro = max(float(one.streams["gyro"].max()) for one in got)
    assert acc / 9.80665 == pytest.approx(6.923737, abs=1e-6)
    assert gyro == pytest.approx(11.836725, abs=1e-6)


@pytest.mark.realdata
def test_real_b_runs_faster_than_a(real_data: Path) -> None:
    """rows(B) = 1.0112 rows(A) + 14.2, residual sd 1.1 rows: the files are the real ones."""
    root = real_data / "motionsense"
    with zipfile.ZipFile(root / f"{A}.zip") as a, zipfile.ZipFile(root / f"{B}.zip") as b:
        residuals = [
            rows_of(b, name) - 1.0112 * rows_of(a, name.replace(B, A)) - 14.2
            for name in b.namelist()
        ]
    assert abs(np.mean(residuals)) < 0.3
    assert np.std(residuals) == pytest.approx(1.1, abs=0.4)


@pytest.mark.realdata
def test_real_values_against_a_naive_parse(real_data: Path) -> None:
    root = real_data / "motionsense"
    member = f"{A}/wlk_15/sub_3.csv"
    with zipfile.ZipFile(root / f"{A}.zip") as archive:
        rows = list(csv.DictReader(io.StringIO(archive.read(member).decode())))
    listing = find(root)
    unit = next(unit for unit in listing.units if unit.key == "wlk_15/sub_3")
    recording = next(motionsense.read(unit, listing.modalities, "default"))
    for i, axis in enumerate("xyz"):
        total = [
            float(row[f"gravity.{axis}"]) + float(row[f"userAcceleration.{axis}"]) for row in rows
        ]
        rate = [float(row[f"rotationRate.{axis}"]) for row in rows]
        np.testing.assert_allclose(
            recording.streams["acc"][:, i], 9.80665 * np.array(total), rtol=1e-6, atol=1e-6
        )
        np.testing.assert_allclose(recording.streams["gyro"][:, i], rate, rtol=1e-6)
    for i, angle in enumerate(("roll", "pitch", "yaw")):
        angles = [float(row[f"attitude.{angle}"]) for row in rows]
        np.testing.assert_allclose(recording.streams["attitude"][:, i], angles, rtol=1e-6)
    # subject 3 of the published table: 48 kg, 161 cm, 28 years, female
    assert recording.extra == {"sex": "female", "age": "28", "height_cm": "161", "weight_kg": "48"}
    assert recording.label == "walking"


@pytest.mark.realdata
def test_real_gravity_is_one_g_and_so_is_acc_at_rest(real_data: Path) -> None:
    listing = find(real_data / "motionsense")
    at_rest = [unit for unit in listing.units if unit.key.startswith(("sit_13", "std_14"))]
    assert len(at_rest) == 36
    for unit in at_rest:
        streams = next(motionsense.read(unit, ["acc", "gravity"], "default")).streams
        length = np.linalg.norm(streams["gravity"], axis=1)
        np.testing.assert_allclose(length, 9.80665, rtol=3e-4)
        assert np.median(np.linalg.norm(streams["acc"], axis=1)) == pytest.approx(9.81, abs=0.15)
