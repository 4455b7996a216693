"""MM-Fi: layouts, missing and empty frames, broken files, options, segments, the real files."""

from __future__ import annotations

import contextlib
import io
import itertools
import re
import shutil
import tracemalloc
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from rawdata import mmfi as raw
from rawdata.compare import assert_same
from rawdata.content import DAMAGES, Damage, held, mat, npy
from rawdata.pictures import png
from rawdata.truth import FORMS, Truth

from mmbind_data.conversion.convert import convert
from mmbind_data.datasets import mmfi
from mmbind_data.datasets.mmfi_frames import ROLES, mend_packets
from mmbind_data.datasets.registry import load_descriptor
from mmbind_data.errors import RawLayoutError, UsageError
from mmbind_data.raw.files import RawFile, RawListing, Unit, scan
from mmbind_data.signal.point_clouds import PointFrames
from mmbind_data.spec.descriptor import Recording
from mmbind_data.store.dataset import open_dataset
from mmbind_data.store.validation import validate

EVERY = tuple(ROLES)
FIRST = raw.SEQUENCES[0]
REPEATED = "frames missing, the nearest one repeated"


@pytest.fixture(scope="module")
def shared_truth(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    """Raw files that no test changes."""
    return raw.write(tmp_path_factory.mktemp("mmfi") / "raw", rng=np.random.default_rng(3))


@pytest.fixture
def truth(tmp_path: Path) -> Truth:
    return raw.write(tmp_path / "raw", rng=np.random.default_rng(3))


def read_every(
    root: Path, preset: str = "default", modalities: Sequence[str] = EVERY, **options: str
) -> list[Recording]:
    units = mmfi.find(scan(root), preset, **options).units
    return [one for unit in units for one in mmfi.read(unit, modalities, preset)]


def read_first(root: Path, *modalities: str, preset: str = "default") -> Recording:
    unit = mmfi.find(scan(root), preset).units[0]
    return next(mmfi.read(unit, modalities or EVERY, preset))


def find(root: Path, preset: str = "default") -> RawListing:
    return mmfi.find(scan(root), preset)


def cells(values: np.ndarray | PointFrames) -> np.ndarray:
    """Numbers of a stream; of points as rows of frame number and columns."""
    if isinstance(values, np.ndarray):
        return values
    frame = np.repeat(np.arange(len(values)), np.diff(values.offsets))
    return np.column_stack([frame, values.values]).astype(np.float32)


def assert_true(got: Sequence[Recording], expected: Sequence[Recording]) -> None:
    for mine, theirs in zip(got, expected, strict=True):
        assert mine.environment == theirs.environment
        for name, values in theirs.streams.items():
            assert type(mine.streams[name]) is type(values), name
            assert len(mine.streams[name]) == len(values), name
    flat = [
        [
            replace(one, streams={name: cells(one.streams[name]) for name in one.streams})
            for one in ones
        ]
        for ones in (got, expected)
    ]
    assert_same(*flat)


@pytest.mark.parametrize("preset", ["default", "paper", "segments"])
@pytest.mark.parametrize("radar", ["plain", "filtered"])
def test_values_are_the_truth_for_either_radar(tmp_path: Path, preset: str, radar: str) -> None:
    truth = raw.write(tmp_path, rng=np.random.default_rng(3), radar=radar)
    assert_true(read_every(tmp_path, preset, radar=radar), truth.recordings[preset])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("folder", raw.FOLDERS[:2])
def test_one_environment_alone(tmp_path: Path, form: str, folder: str) -> None:
    mine = [one for one in raw.SEQUENCES if one.startswith(folder)]
    truth = raw.write(tmp_path, rng=np.random.default_rng(3), form=form, sequences=mine)
    inner = tmp_path / (f"{folder}.zip" if form == "zips" else folder)
    got = read_every(inner)
    assert len(got) == 4
    # the ground truth of E02/S11/A02 lies in the filtered tree, outside this folder
    expected = [one for one in truth.recordings["default"] if one.key != raw.TRUTH_ONLY_FILTERED]
    assert_true([one for one in got if one.key != raw.TRUTH_ONLY_FILTERED], expected)


def test_a_subjects_folder_alone_knows_its_environment(shared_truth: Truth) -> None:
    units = find(shared_truth.root / "E04" / "S40").units
    assert [unit.key for unit in units] == list(raw.SEQUENCES[8:])
    assert {unit.fields["environment"] for unit in units} == {"E04"}


def test_zips_inside_a_zip_and_folders_of_their_own_name_are_seen_through() -> None:
    paths = [
        "raw.zip/E02.zip/S11/A01/rgb/frame001.npy",
        "raw/E02/E02/S11/S11/A01.zip/A01/depth.zip/depth/frame001.png",
        "raw/filtered_mmwave.zip/filtered_mmwave/E02/S11/A01/mmwave/frame001.bin",
        "raw/filtered/E02/S11/A01/frame002.bin",
    ]
    files = [RawFile(path, Path("x"), None, 9) for path in paths]
    (unit,) = mmfi.find(files, "default", radar="filtered").units
    assert set(unit.files) == {"rgb/001", "depth/001", "mmwave/001", "mmwave/002"}
    assert unit.files["mmwave/001"].path == "filtered_mmwave/E02/S11/A01/frame001.bin"


def test_units_tell_what_the_names_tell(shared_truth: Truth) -> None:
    listing = find(shared_truth.root)
    assert [unit.key for unit in listing.units] == list(raw.SEQUENCES)
    fields = listing.units[6].fields
    assert (fields["subject"], fields["environment"]) == ("S11", "E02")
    assert (fields["label"], fields["exercise"]) == ("lunge toward left side", "rehabilitation")
    assert listing.modalities == EVERY
    assert listing.unrecognised == ()
    assert listing.notes == (
        "12 of 1080 sequences found (subjects 1, 11, 40)",
        "rgb found for 10 of these 12 sequences",
        "infra1 found for 1 of these 12 sequences",
        "infra2 found for 1 of these 12 sequences",
        "depth found for 1 of these 12 sequences",
        "lidar found for 1 of these 12 sequences",
        "mmwave found for 5 of these 12 sequences",
        "wifi-csi found for 1 of these 12 sequences",
        "filtered_mmwave is not read: --set radar=filtered reads it",
    )


def test_there_are_14_daily_actions_and_13_of_rehabilitation(tmp_path: Path) -> None:
    files = [
        RawFile(f"E{(s + 9) // 10:02d}/S{s:02d}/A{a:02d}/ground_truth.npy", tmp_path, None, 9)
        for s in range(1, 41)
        for a in range(1, 28)
    ]
    units = mmfi.find(files, "default").units
    assert len(units) == 1080
    exercise = {unit.fields["label"]: unit.fields["exercise"] for unit in units}
    assert Counter(exercise.values()) == {"daily": 14, "rehabilitation": 13}
    daily = [label for label in exercise if exercise[label] == "daily"]
    assert (daily[0], daily[-1], len(daily)) == ("horizontal chest expansion", "bow", 14)
    assert exercise["jump up"] == exercise["squat"] == "rehabilitation"
    assert tuple(exercise) == tuple(load_descriptor("mmfi").labels.values())


def test_only_files_of_what_is_asked_for_are_in_the_unit(shared_truth: Truth) -> None:
    unit = find(shared_truth.root).units[0]
    roles = {role.split("/")[0] for role in unit.narrowed(["radar", "skeleton"]).files}
    assert roles == {"mmwave", "ground_truth"}
    assert len(unit.narrowed(["wifi_csi_phase"]).files) == 29
    assert set(unit.narrowed(["infra2_keypoints"]).files) == {"infra2"}
    assert set(find(shared_truth.root, "segments").units[0].narrowed(["depth"]).files) == {
        "depth/006", "depth/017", "depth/028", "segments",
    }  # fmt: skip


def test_paper_preset_reads_no_frame_behind_the_30th(shared_truth: Truth) -> None:
    numbers = {
        int(role.split("/")[1])
        for unit in find(shared_truth.root, "paper").units
        for role in unit.files
        if "/" in role
    }
    assert max(numbers) == 30
    for one in read_every(shared_truth.root, "paper"):
        assert {len(values) for values in one.streams.values()} == {30}


def test_frames_are_found_by_number_not_by_position(tmp_path: Path) -> None:
    folder = tmp_path / FIRST / "mmwave"
    folder.mkdir(parents=True)
    for number in (4, 9, 11, 10, 2):
        np.full((1, 5), float(number)).tofile(folder / f"frame{number:03d}.bin")
    unit = find(tmp_path, "paper").units[0]
    (empty,) = mmfi.read(unit, ["radar"], "paper")  # frames 17 to 30: none is near
    assert empty.streams == {}
    assert list(empty.counts.values()) == [1]
    np.full((1, 5), 20.0).tofile(folder / "frame020.bin")
    np.full((1, 5), 29.0).tofile(folder / "frame029.bin")
    unit = find(tmp_path, "paper").units[0]
    (one,) = mmfi.read(unit, ["radar"], "paper")
    radar = one.streams["radar"]
    assert isinstance(radar, PointFrames)
    expected = [2, 2, 2, 4, 4, 4, 9, 9, 9, 10, 11, 11, 11, 11, 11, 20, 20, 20, 20, 20, 20, 20]
    assert radar.values[:, 0].tolist() == [*expected, 20, 20, 29, 29, 29, 29, 29, 29]
    assert one.counts == {f"radar {REPEATED}": 23}


@pytest.mark.parametrize(("last", "lost"), [(25, False), (24, True)])
def test_a_frame_repeats_over_five_frames_and_no_more(
    tmp_path: Path, last: int, lost: bool
) -> None:
    folder = tmp_path / FIRST / "rgb"
    folder.mkdir(parents=True)
    for number in range(1, last + 1):
        np.save(folder / f"frame{number:03d}.npy", np.full((17, 2), number))
    np.save(tmp_path / FIRST / "ground_truth.npy", np.zeros((297, 17, 3), np.float32))
    one = read_first(tmp_path, "skeleton", "rgb_keypoints", preset="paper")
    left_out = "rgb_keypoints left out of a recording: a frame is missing and none is near"
    if lost:
        assert list(one.streams) == ["skeleton"]
        assert one.counts == {left_out: 1}
    else:
        assert cells(one.streams["rgb_keypoints"])[-6:, 0, 0].tolist() == [25] * 6
        assert one.counts == {f"rgb_keypoints {REPEATED}": 5}


def test_repairs_are_counted(shared_truth: Truth) -> None:
    by_key = {one.key: one.counts for one in read_every(shared_truth.root)}
    assert by_key[FIRST] == {
        f"rgb_keypoints {REPEATED}": 270,
        f"infra1_keypoints {REPEATED}": 270,
        f"lidar {REPEATED}": 270,
        f"radar {REPEATED}": 270,
        f"wifi_csi {REPEATED}": 269,  # 29 files, of which one has a packet without a value
        f"wifi_csi_phase {REPEATED}": 268,
        "wifi_csi values not finite, replaced by the mean of their packet": 3,
        "wifi_csi_phase values not finite, replaced by 0": 1,
        "depth left out of a recording: a frame is missing and none is near": 1,
    }
    assert by_key[raw.SEQUENCES[4]] == {
        f"radar {REPEATED}": 270,
        "radar frames without a point": 22,  # frames 12 to 33: 17 and 28 are 0 bytes long
    }
    assert by_key[raw.SEQUENCES[1]][f"rgb_keypoints {REPEATED}"] == 269
    assert by_key[raw.SEQUENCES[11]] == {}


def test_segments_count_only_their_own_frames(shared_truth: Truth) -> None:
    found = read_every(shared_truth.root, "segments", ["wifi_csi"])
    text = "wifi_csi values not finite, replaced by the mean of their packet"
    assert [one.counts.get(text, 0) for one in found] == [0, 3, 0, 0]
    assert [one.counts.get(f"wifi_csi {REPEATED}", 0) for one in found] == [11, 25, 1, 19]


def test_empty_radar_frame_has_no_point_and_empty_keypoints_are_a_missing_frame(
    shared_truth: Truth,
) -> None:
    found = {one.key: one.streams for one in read_every(shared_truth.root)}
    radar = found[raw.SEQUENCES[4]]["radar"]
    assert isinstance(radar, PointFrames)
    assert (len(radar.frame(16)), len(radar.frame(27)), len(radar.frame(5))) == (0, 0, 3)
    keypoints = cells(found[raw.SEQUENCES[1]]["rgb_keypoints"])
    expected = raw.keypoints(raw.SEQUENCES[1], "rgb", 12)  # 22 is as near: the earlier one
    np.testing.assert_array_equal(keypoints[16], expected.astype(np.float32))


def test_absent_frame_of_the_filtered_tree_has_no_point(shared_truth: Truth) -> None:
    found = read_every(shared_truth.root, modalities=["radar"], radar="filtered")
    assert [one.key for one in found] == list(raw.FILTERED)
    radar = found[0].streams["radar"]
    assert isinstance(radar, PointFrames)
    assert np.flatnonzero(np.diff(radar.offsets)).tolist() == [2, 16, 99]
    assert found[0].counts == {"radar frames without a point": 294}
    listing = mmfi.find(scan(shared_truth.root), "default", radar="filtered")
    assert "mmwave folders are not read: radar=filtered" in listing.notes


def test_ground_truth_beside_filtered_frames_counts_only_where_there_is_no_other(
    shared_truth: Truth,
) -> None:
    files = {unit.key: unit.files["ground_truth"].path for unit in find(shared_truth.root).units}
    assert files[FIRST] == f"{FIRST}/ground_truth.npy"
    other = raw.TRUTH_ONLY_FILTERED
    assert files[other] == f"filtered_mmwave/{other}/ground_truth.npy"


@pytest.mark.parametrize("size", ["60x80", "48x64", "120x160", "480x640", "24x32"])
def test_depth_size_is_an_option(tmp_path: Path, size: str) -> None:
    truth_image = raw.depth(6)
    folder = tmp_path / FIRST / "depth"
    folder.mkdir(parents=True)
    for number in (6, 17, 28):
        Image.fromarray(truth_image).save(folder / f"frame{number:03d}.png", compress_level=1)
    (one,) = read_every(tmp_path, "paper", ["depth"], depth_size=size)
    height, width = (int(side) for side in size.split("x"))
    depth = cells(one.streams["depth"])
    assert depth.shape == (30, height, width)
    assert depth.dtype == np.float32
    block = 480 // height
    for row, column in ((0, 0), (0, 1), (1, 2), (height - 1, 3), (height // 2, width - 1)):
        square = truth_image[row * block : (row + 1) * block, column * block : (column + 1) * block]
        readings = [int(value) for value in square.ravel() if value]
        enough = 2 * len(readings) >= block * block
        expected = sum(readings) / len(readings) / 1000 if enough else 0
        assert depth[0, row, column] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("size", ["60x81", "64x48", "77x99", "640x480", "999x999"])
def test_depth_size_must_come_from_whole_squares(shared_truth: Truth, size: str) -> None:
    with pytest.raises(UsageError, match=f"divided by a whole number.*got {size}"):
        mmfi.find(scan(shared_truth.root), "default", depth_size=size)


def test_option_patterns_admit_what_the_reader_takes() -> None:
    options = load_descriptor("mmfi").options
    for name, value in (("radar", "filtered"), ("depth_size", "60x80"), ("depth_size", "480x640")):
        assert re.fullmatch(options[name].pattern, value)
    assert not re.fullmatch(options["depth_size"].pattern, "0x0")


def test_images_arrays_and_strangers_are_named(truth: Truth) -> None:
    folder = truth.root / FIRST
    (folder / "rgb" / "frame001.png").touch()
    (folder / "depth.npy").touch()
    strangers = [
        "E01/S01/A01/depthColorized/frame001.png",
        "E01/S01/A01/rgb/frame298.npy",
        "E01/S01/A01/rgb/frame000.npy",
        "E01/S01/A01/rgb/frame0001.npy",
        "E01/S01/A01/rgb/frame01.npy",
        "E01/S01/A01/rgb/frame001.mat",
        "E01/S01/A28/rgb/frame001.npy",
        "E04/S41/A01/rgb/frame001.npy",
        "E01/S00/A01/ground_truth.npy",
        "E01/S01/A01/data.pickle",
    ]
    for name in strangers:
        (truth.root / name).parent.mkdir(parents=True, exist_ok=True)
        (truth.root / name).touch()
    listing = find(truth.root)
    assert set(listing.unrecognised) == {f"raw/{name}" for name in strangers}
    assert "1 RGB images are not read" in listing.notes
    text = f"1 arrays in place of a folder are not read, e.g. {FIRST}/depth.npy"
    assert text in listing.notes


def test_frames_are_read_rather_than_an_array_beside_them(truth: Truth) -> None:
    np.save(truth.root / FIRST / "rgb.npy", np.zeros((297, 17, 2)))
    unit = find(truth.root).units[0]
    assert "rgb" not in unit.files
    assert "rgb/006" in unit.files


def test_copies_are_read_once_and_unlike_ones_refused(truth: Truth, tmp_path: Path) -> None:
    raw.write(tmp_path / "again", rng=np.random.default_rng(3), form="zips")
    files = scan(tmp_path)
    listing = mmfi.find(files, "default")
    assert listing.notes[0].startswith("copies left aside: ")
    assert listing == mmfi.find(files[::-1], "default")
    assert {file.container.suffix for file in listing.units[0].files.values()} != {".zip"}
    (truth.root / FIRST / "mmwave" / "frame006.bin").write_bytes(bytes(40))
    with pytest.raises(RawLayoutError, match=r"two different copies of .*mmwave/frame006\.bin"):
        find(tmp_path)


def test_subject_in_another_environment_is_refused(truth: Truth) -> None:
    (truth.root / "E02" / "S11").rename(truth.root / "E01" / "S11")
    with pytest.raises(RawLayoutError, match=r"E01/S11.*expected S11 in E02, got E01"):
        find(truth.root)


def test_segments_without_their_table_are_refused(truth: Truth) -> None:
    (truth.root / "MMFi_action_segments.csv").unlink()
    with pytest.raises(RawLayoutError, match=r"preset segments.*MMFi_action_segments\.csv"):
        find(truth.root, "segments")
    assert len(find(truth.root).units) == 12


def test_a_sequence_without_a_sample_says_why(truth: Truth, tmp_path: Path) -> None:
    """One frame of 297 is none at all; the remark must not go with the recording."""
    frames = sorted((truth.root / FIRST / "wifi-csi").glob("frame*.mat"))
    kept = tmp_path / "one" / FIRST / "wifi-csi" / frames[0].name
    kept.parent.mkdir(parents=True)
    kept.write_bytes(frames[0].read_bytes())
    reason = "wifi_csi left out of a recording: a frame is missing and none is near: 1"
    with pytest.raises(RawLayoutError, match=f"no sample .* got none; {reason}"):
        convert("mmfi", tmp_path / "one", tmp_path / "o.zarr", modalities=["wifi_csi"])
    # another sequence has frames: the remark is among the notes
    other = tmp_path / "one" / raw.SEQUENCES[1] / "wifi-csi"
    shutil.copytree(truth.root / FIRST / "wifi-csi", other)
    made = convert("mmfi", tmp_path / "one", tmp_path / "o.zarr", modalities=["wifi_csi"])
    assert made.info.n_samples == 1
    assert reason in made.notes


def test_segments_keep_overlaps_order_and_single_frames(shared_truth: Truth) -> None:
    found = read_every(shared_truth.root, "segments", ["skeleton"])
    spans: dict[str, list[tuple[int, int, int]]] = {}
    for one in found:
        spans.setdefault(one.key[:11], []).append(
            (
                int(one.extra["first_frame"]),
                int(one.extra["last_frame"]),
                len(one.streams["skeleton"]),
            )
        )
    assert spans[raw.SEQUENCES[5]] == [(185, 216, 32), (148, 217, 70), (149, 282, 134)]
    assert spans[FIRST] == [(1, 12, 12), (13, 40, 28), (41, 41, 1), (60, 80, 21)]
    assert [one.trial for one in found[:4]] == ["1", "2", "3", "4"]
    assert found[2].key == f"{FIRST}/3"


SEGMENT_FAULTS = {
    "empty": (b"", r"empty file"),
    "blank": (b"\n", r"another header"),
    "encoding": (raw.segment_table() + b"\xff", r"unreadable table"),
    "header": (raw.segment_table().replace(b"Action,", b"Activity,"), r"another header"),
    "missing column": (raw.segment_table().replace(b"Environment,", b""), r"another header"),
    "extra column": (
        raw.segment_table(E01_S01_A02="E01,S01,A02,1-2" + "," * 61),
        r"cells on line 3.*got 65",
    ),
    "named column": (raw.segment_table().replace(b"Segments,,", b"Segments,x,"), r"another header"),
    "truncated": (raw.segment_table()[:-70], r"cells on line 1[34]"),
    "no row": (
        raw.segment_table(E01_S01_A01="E01,S01,A09" + "," * 61),
        r"rows of E01/S01/A01.*got 0",
    ),
    "two rows": (
        raw.segment_table(E01_S01_A02="E01,S01,A01,1-2" + "," * 60),
        r"rows of E01/S01/A01.*got 2",
    ),
    "quote": (raw.segment_table(E01_S01_A01='E01,S01,A01,"1-2'), r"cells on line 2"),
}
for _cell in ("0-5", "5-4", "1-298", "1-2-3", "x", "1 - 2", "1-", "", "٣-٤", "01-02"):
    SEGMENT_FAULTS[f"cell {_cell}"] = (
        raw.segment_table(E01_S01_A01=f"E01,S01,A01,{_cell},9-12" + "," * 59),
        rf"a segment of E01/S01/A01.*expected first-last within 1-297, got '{_cell}'",
    )


@pytest.mark.parametrize("fault", SEGMENT_FAULTS)
def test_bad_segment_table_is_refused(tmp_path: Path, fault: str) -> None:
    content, message = SEGMENT_FAULTS[fault]
    path = tmp_path / "MMFi_action_segments.csv"
    path.write_bytes(content)
    file = RawFile(path.name, path, None, len(content))
    with pytest.raises(RawLayoutError, match=f"cannot read {path.name}: ") as caught:
        mmfi.read_segments(file, FIRST)
    assert caught.match(message)
    assert str(path) in str(caught.value)


def test_row_without_segments_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "MMFi_action_segments.csv"
    path.write_bytes(raw.segment_table(E01_S01_A01="E01,S01,A01" + "," * 61))
    with pytest.raises(RawLayoutError, match=r"a segment of E01/S01/A01.*got ''"):
        mmfi.read_segments(RawFile(path.name, path, None, 9), FIRST)


def floats(n: int, fill: float = 1.0) -> bytes:
    return np.full(n, fill).astype("<f8").tobytes()


AMPLITUDE, PHASE = raw.csi(FIRST, 6)
CSI = mat(CSIamp=AMPLITUDE, CSIphase=PHASE)
NAN_POSE = np.full((17, 2), np.nan)
# role -> file, content, message
BAD_FILES = {
    "truth empty": ("ground_truth.npy", b"", r"empty file"),
    "truth truncated": ("ground_truth.npy", npy(np.zeros((297, 17, 3)))[:500], r"broken file"),
    "truth short": ("ground_truth.npy", npy(np.zeros((296, 17, 3))), r"297 x 17 x 3.*got 296 x 17"),
    "truth joints": ("ground_truth.npy", npy(np.zeros((297, 3, 17))), r"got 297 x 3 x 17"),
    "truth text": ("ground_truth.npy", npy(["a"]), r"another type"),
    "truth pickle": ("ground_truth.npy", npy(np.array([{}], object)), "another type .*object"),
    "truth nan": (
        "ground_truth.npy",
        npy(np.full((297, 17, 3), np.nan)),
        r"got nan at \[0, 0, 0\]",
    ),
    "keypoints huge": ("rgb/frame006.npy", npy(np.full((17, 2), -1e39)), r"3\.4e38, got 1e\+39"),
    "truth huge": ("ground_truth.npy", npy(np.full((297, 17, 3), 1e300)), r"huge number"),
    "csi huge": ("wifi-csi/frame006.mat", mat(CSIamp=AMPLITUDE * 1e300), r"huge number"),
    "keypoints coco": ("rgb/frame006.npy", npy(np.zeros((18, 2))), r"17 x 2 numbers, got 18 x 2"),
    "keypoints 3d": ("rgb/frame006.npy", npy(np.zeros((17, 3))), r"got 17 x 3"),
    "keypoints nan": ("rgb/frame006.npy", npy(NAN_POSE), r"got nan"),
    "array": ("infra2.npy", npy(np.zeros((30, 17, 2))), r"297 x 17 x 2.*got 30 x 17 x 2"),
    "depth text": ("depth/frame006.png", b"P5\n", r"unreadable image"),
    "depth truncated": ("depth/frame006.png", png(raw.depth(6))[:-900], r"unreadable image"),
    "depth 8 bit": ("depth/frame006.png", png(np.zeros((480, 640), np.uint8)), r"got mode L"),
    "depth colour": ("depth/frame006.png", png(np.zeros((480, 640, 3), np.uint8)), r"mode RGB"),
    "depth turned": ("depth/frame006.png", png(np.zeros((640, 480), np.uint16)), r"got 640 x 480"),
    "depth tiny": ("depth/frame006.png", png(np.zeros((4, 6), np.uint16)), r"got 4 x 6"),
    "lidar truncated": ("lidar/frame006.bin", floats(7), r"rows of 3 numbers, 24 bytes.*got 56"),
    "lidar nan": ("lidar/frame006.bin", floats(3, np.nan), r"nan in row 0, column 0"),
    "radar truncated": ("mmwave/frame006.bin", floats(10)[:-3], r"rows of 5 numbers.*got 77 bytes"),
    "radar columns": ("mmwave/frame006.bin", floats(6), r"got 48 bytes"),
    "radar inf": ("mmwave/frame006.bin", floats(5, np.inf), r"inf in row 0, column 0"),
    "csi truncated": ("wifi-csi/frame006.mat", CSI[:900], r"broken file"),
    "csi name": ("wifi-csi/frame006.mat", mat(CSI=AMPLITUDE), r"CSIamp, 3 x 114 x 10.*got CSI"),
    "csi phase": ("wifi-csi/frame006.mat", mat(CSIamp=AMPLITUDE), r"CSIphase.*got CSIamp"),
    "csi axes": ("wifi-csi/frame006.mat", mat(CSIamp=AMPLITUDE.T), r"got 10 x 114 x 3"),
    "csi complex": ("wifi-csi/frame006.mat", mat(CSIamp=AMPLITUDE * 1j), r"type complex128"),
}


def with_content(unit: Unit, role: str, content: bytes) -> Unit:
    file = replace(unit.files[role], content=content, size=len(content))
    return replace(unit, files={**unit.files, role: file})


@pytest.mark.parametrize("fault", BAD_FILES)
def test_bad_file_is_refused_by_name(shared_truth: Truth, fault: str) -> None:
    name, content, message = BAD_FILES[fault]
    role = name.partition(".")[0].replace("frame", "")
    unit = with_content(find(shared_truth.root).units[0], role, content)
    modalities = [one for one in EVERY if ROLES[one] == role.partition("/")[0]]
    place = shared_truth.root / FIRST / name
    with pytest.raises(RawLayoutError, match=rf"cannot read {FIRST}/{name}: .*{place}") as caught:
        list(mmfi.read(unit, modalities, "default"))
    assert caught.match(message)


def test_modality_of_empty_files_alone_is_refused(shared_truth: Truth) -> None:
    unit = find(shared_truth.root).units[0].narrowed(["depth"])
    for role in unit.files:
        unit = with_content(unit, role, b"")
    with pytest.raises(RawLayoutError, match=r"no usable frame of depth.*got 3 empty"):
        list(mmfi.read(unit, ["depth"], "default"))


WHOLE = {
    "ground_truth": ("skeleton", npy(np.zeros((297, 17, 3), np.float32))),
    "rgb/001": ("rgb_keypoints", npy(np.zeros((17, 2)))),
    "depth/001": (
        "depth",
        png(np.kron(np.arange(12, dtype=np.uint16).reshape(3, 4), np.ones((16, 16), np.uint16))),
    ),
    "lidar/001": ("lidar", floats(30)),
    "mmwave/001": ("radar", floats(30)),
    "wifi-csi/001": ("wifi_csi", CSI),
    "segments": ("skeleton", raw.segment_table()),
}


@settings(max_examples=250)
@given(role=st.sampled_from(sorted(WHOLE)), damage=DAMAGES)
def test_damaged_bytes_never_escape_as_another_error(role: str, damage: Damage) -> None:
    modality, content = WHOLE[role]
    preset = "segments" if role == "segments" else "paper"
    files = {role: held(role, damage(content))}
    if role == "segments":
        files["ground_truth"] = held("ground_truth", WHOLE["ground_truth"][1])
    fields = {
        "subject": "S01", "label": "squat", "environment": "E01", "exercise": "daily",
        "radar": "plain", "depth_size": "24x32",
    }  # fmt: skip
    unit = Unit(FIRST, files, fields)
    # damage that the format does not notice reads as numbers; nothing but our error may be raised
    with contextlib.suppress(RawLayoutError):
        list(mmfi.read(unit, [modality], preset))


@given(at=st.integers(0, len(raw.segment_table()) - 1))
def test_truncated_segment_table_reads_equal_or_is_refused(at: int) -> None:
    file = held("x.csv", raw.segment_table()[:at])
    with contextlib.suppress(RawLayoutError):
        assert tuple(mmfi.read_segments(file, FIRST)) == raw.segments(FIRST)


@given(
    hnp.arrays(
        np.float64,
        (2, 3, 4),
        elements=st.one_of(st.floats(-50, 50), st.sampled_from([-np.inf, np.inf, np.nan])),
    )
)
def test_packets_are_mended_as_by_a_loop(amplitude: np.ndarray) -> None:
    before = amplitude.copy()
    got, n_mended = mend_packets(amplitude)
    np.testing.assert_array_equal(amplitude, before)
    expected, n_expected, dead = before.copy(), 0, False
    for packet in range(4):
        good = [x for x in before[:, :, packet].ravel().tolist() if abs(x) < np.inf]
        dead = dead or not good
        for antenna in range(2):
            for subcarrier in range(3):
                if good and not abs(before[antenna, subcarrier, packet]) < np.inf:
                    expected[antenna, subcarrier, packet] = sum(good) / len(good)
                    n_expected += 1
    assert (got is None) == dead
    if got is not None:
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-9)
        assert n_mended == n_expected


def test_find_is_lean(tmp_path: Path) -> None:
    files = [
        RawFile(f"E01/S01/A{a:02d}/mmwave/frame{f:03d}.bin", tmp_path, None, 9)
        for a in range(1, 28)
        for f in range(1, 298)
    ]
    tracemalloc.start()
    units = mmfi.find(files, "default").units
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(units) == 27
    assert peak < 600 * len(files)


def test_converted_store_tells_what_was_repaired(shared_truth: Truth, tmp_path: Path) -> None:
    done = convert("mmfi", shared_truth.root, tmp_path / "out.zarr", preset="paper")
    assert done.info.n_samples == 12
    assert done.info.modalities["wifi_csi"].shape == (30, 3, 114, 10)
    assert done.info.modalities["depth"].shape == (30, 48, 64)
    text = " ".join(done.notes)
    assert "wifi_csi values not finite, replaced by the mean of their packet" in text
    assert "radar frames without a point" in text


@pytest.mark.realdata
def test_real_csi_frame(real_data: Path, tmp_path: Path) -> None:
    source = real_data / "mmfi" / "wifi-csi" / "frame001.mat"
    folder = tmp_path / "E01" / "S01" / "A01" / "wifi-csi"
    folder.mkdir(parents=True)
    # one real frame at each place that the grid of the first 30 needs
    for number in (6, 17, 28):
        (folder / f"frame{number:03d}.mat").write_bytes(source.read_bytes())
    one = read_first(tmp_path, "wifi_csi", "wifi_csi_phase", preset="paper")
    amplitude, phase = cells(one.streams["wifi_csi"])[5], cells(one.streams["wifi_csi_phase"])[5]
    assert amplitude.shape == phase.shape == (3, 114, 10)
    assert not any("finite" in text for text in one.counts)
    known = {(0, 0, 0): (42.36587641, -0.39889186), (2, 113, 9): (35.27629901, 2.95095375)}
    known[1, 50, 4] = (39.56648579, 1.62337938)
    for place, (decibel, angle) in known.items():
        assert amplitude[place] == pytest.approx(decibel, rel=1e-6)
        assert phase[place] == pytest.approx(angle, rel=1e-6)
    assert (amplitude.min(), amplitude.max()) == pytest.approx((29.268567, 48.836217), rel=1e-6)
    assert amplitude.mean(dtype=np.float64) == pytest.approx(41.588569, rel=1e-6)
    assert (phase.min(), phase.max()) == pytest.approx((-3.12996527, np.pi), rel=1e-6)
    assert -np.pi <= phase.min() <= phase.max() <= np.float32(np.pi)


@pytest.mark.realdata
def test_real_segment_table(real_data: Path) -> None:
    path = real_data / "mmfi" / "MMFi_action_segments.csv"
    file = held(path.name, path.read_bytes())
    keys = [f"E{(s + 9) // 10:02d}/S{s:02d}/A{a:02d}" for s in range(1, 41) for a in range(1, 28)]
    found = {key: mmfi.read_segments(file, key) for key in keys}
    assert len(path.read_text(encoding="utf-8-sig").splitlines()) == 1 + len(found) == 1081
    counts = [len(segments) for segments in found.values()]
    assert (sum(counts), min(counts), max(counts), int(np.median(counts))) == (16448, 5, 61, 13)
    lengths = [last - first + 1 for segments in found.values() for first, last in segments]
    assert (min(lengths), max(lengths), int(np.median(lengths))) == (1, 134, 19)
    assert found[FIRST][:3] == [(1, 7), (8, 15), (16, 21)]
    assert found[FIRST][-1] == (289, 294)
    assert len(found[FIRST]) == 48
    steps = [b[0] - a[1] for one in found.values() for a, b in itertools.pairwise(one)]
    assert Counter(step == 1 for step in steps) == {True: 16448 - 1080 - 2, False: 2}
    assert {(185, 216), (148, 217), (149, 282)} <= set(found["E02/S12/A02"])


@pytest.mark.realdata
def test_real_table_and_frame_convert_as_segments(real_data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "raw" / FIRST / "wifi-csi"
    folder.mkdir(parents=True)
    source = (real_data / "mmfi" / "wifi-csi" / "frame001.mat").read_bytes()
    for number in raw.ELEVENTH:
        (folder / f"frame{number:03d}.mat").write_bytes(source)
    table = real_data / "mmfi" / "MMFi_action_segments.csv"
    (tmp_path / "raw" / table.name).write_bytes(table.read_bytes())
    done = convert("mmfi", tmp_path / "raw", tmp_path / "out.zarr", preset="segments")
    assert validate(done.path, level="values") == []
    store = open_dataset(done.path)
    columns = store.samples().to_pydict()
    first, last = np.array(columns["first_frame"]), np.array(columns["last_frame"])
    assert (len(store), (last - first + 1).sum()) == (48, 294)
    assert (first[0], last[0], first[-1], last[-1]) == (1, 7, 289, 294)
    assert columns["trial"] == [str(number) for number in range(1, 49)]
    assert store.info.labels == {"stretch and relax": 48}
    frame = scipy.io.loadmat(io.BytesIO(source))["CSIamp"].astype(np.float32)
    amplitude = store.load("wifi_csi")
    assert amplitude.shape == (48, 20, 3, 114, 10)
    # all frames are the same one, so is what lies between two
    np.testing.assert_allclose(amplitude, np.broadcast_to(frame, amplitude.shape), rtol=1e-6)
