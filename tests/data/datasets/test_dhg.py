"""DHG-14/28 and SHREC'17: both layouts, lists, truncation, bad files, and the real SHREC files."""

from __future__ import annotations

import contextlib
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from bundles import contents
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from rawdata import briareo
from rawdata import dhg as raw
from rawdata.compare import assert_same, read_all, stream
from rawdata.content import DAMAGES, Damage, held
from rawdata.pictures import png
from rawdata.truth import Truth

from mmbind_data.binding.bind import bind
from mmbind_data.binding.options import BindOptions
from mmbind_data.conversion.convert import convert
from mmbind_data.datasets import dhg
from mmbind_data.datasets.registry import load_descriptor
from mmbind_data.errors import BindingError, RawLayoutError
from mmbind_data.raw.files import RawFile, RawListing, scan
from mmbind_data.raw.images import block_means
from mmbind_data.raw.tables import read_numbers
from mmbind_data.spec.descriptor import Recording

BOTH = ("skeleton", "depth")
DHG, SHREC = ("dhg", 1, 1, 1, 1), ("shrec17", 1, 2, 1, 1)
FIRST = "gesture_1/finger_1/subject_1/essai_1"
SECOND = "gesture_1/finger_2/subject_1/essai_1"


def make(root: Path, *places: raw.Place, **kwargs: object) -> Truth:
    return raw.write(root, rng=np.random.default_rng(3), sequences=places, **kwargs)  # type: ignore[arg-type]


def find(root: Path, preset: str = "default", **options: str) -> RawListing:
    return dhg.find(scan(root), preset, **options)


def read_one(root: Path, modalities: tuple[str, ...] = BOTH, **options: str) -> Recording:
    (unit,) = find(root, **options).units
    (recording,) = dhg.read(unit, modalities, "default")
    return recording


@pytest.fixture(scope="module")
def shrec(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of one sequence."""
    root = make(tmp_path_factory.mktemp("shrec"), SHREC, depth=(SHREC,)).root
    return contents(root)


def test_releases_are_told_apart_by_their_file_names(tmp_path: Path) -> None:
    """Two sequences of one name in one folder: one of each release."""
    place = ("dhg", 1, 1, 1, 1)
    make(tmp_path, place, ("shrec17", *place[1:]))
    for folder in raw.FOLDERS.values():
        for path in sorted((tmp_path / folder).rglob("*")):
            if path.is_file():
                target = tmp_path / "all" / path.relative_to(tmp_path / folder)
                target.parent.mkdir(parents=True, exist_ok=True)
                path.rename(target)
    one, other = read_all("dhg", tmp_path / "all")
    assert (one.subject, other.subject) == ("1", "shrec17_1")
    assert (one.key, other.key) == (f"dhg/{FIRST}", f"shrec17/{FIRST}")
    assert (one.extra["release"], other.extra["release"]) == ("dhg", "shrec17")
    assert len(stream(one, "skeleton")) < len(other.streams["skeleton"])  # only one is cut


def test_class_numbers_in_both_conventions(tmp_path: Path) -> None:
    make(tmp_path, ("dhg", 13, 2, 1, 5), ("shrec17", 12, 2, 28, 13), ("shrec17", 13, 1, 2, 1))
    keys = ("label14", "label28_dhg", "label28_shrec17", "fingers")
    assert [tuple(one.extra[key] for key in keys) for one in read_all("dhg", tmp_path)] == [
        ("13", "27", "26", "whole hand"),
        ("12", "26", "24", "whole hand"),
        ("13", "13", "25", "one finger"),
    ]


def test_all_labels_by_hand() -> None:
    descriptor = load_descriptor("dhg")
    default, fingers = (descriptor.presets[name].labels or () for name in ("default", "fingers"))
    assert (len(default), len(fingers)) == (14, 28)
    assert [default[number - 1] for number in (1, 2, 7, 8, 12, 13)] == [
        "grab", "tap", "swipe right", "swipe left", "swipe plus", "swipe v",
    ]  # fmt: skip
    # the order of the 28 is that of SHREC'17: 2 (gesture - 1) + finger
    assert fingers[2 * (13 - 1) + 1 - 1] == "swipe v, one finger"
    assert fingers[-1] == "shake, whole hand"


def test_images_are_ordered_by_number_not_by_text(tmp_path: Path) -> None:
    for place in (DHG, SHREC):
        truth = make(tmp_path / place[0], place, depth=(place,))
        got = stream(read_all("dhg", truth.root)[0], "depth")
        assert len(got) > 5
        np.testing.assert_allclose(np.diff(got[:, 30, 30]), 0.003, rtol=1e-4)


@pytest.mark.parametrize(
    ("truncation", "first", "last"), [("from0", 2, -4), ("from1", 1, -5), ("off", 0, -1)]
)
def test_truncation_counts_from_0_from_1_or_not_at_all(
    tmp_path: Path, truncation: str, first: int, last: int
) -> None:
    truth = make(tmp_path, DHG, depth=(DHG,))
    whole = np.loadtxt(truth.root / "DHG2016" / FIRST / "skeleton_world.txt").reshape(-1, 22, 3)
    got = read_one(truth.root, truncation=truncation)
    np.testing.assert_allclose(stream(got, "skeleton")[0], whole[first], rtol=1e-6)
    np.testing.assert_allclose(stream(got, "skeleton")[-1], whole[last], rtol=1e-6)
    assert len(stream(got, "depth")) == len(stream(got, "skeleton"))
    assert f"DHG2016/{FIRST}/depth_{first + 1}.png" in got.raw_files
    assert (f"DHG2016/{FIRST}/depth_{first}.png" in got.raw_files) is False


def test_sequences_without_lists_are_whole_and_without_split(tmp_path: Path) -> None:
    truth = make(tmp_path, DHG, SHREC, lists=False)
    assert_same(read_all("dhg", truth.root), truth.recordings["default"])
    assert "split" not in read_all("dhg", truth.root)[1].extra
    notes = find(truth.root).notes
    name = "informations_troncage_sequences.txt"
    assert f"{name} not found: sequences are not cut to the gesture" in notes
    assert "train_gestures.txt not found: no split" in notes


def test_remarks_are_counted(tmp_path: Path) -> None:
    truth = raw.write(tmp_path, rng=np.random.default_rng(3))
    got: Counter[str] = Counter()
    for one in read_all("dhg", truth.root):
        got.update(one.counts)
    assert got == dict.fromkeys(raw.REMARKS.values(), 1)


def test_notes_and_unrecognised_files(tmp_path: Path) -> None:
    truth = raw.write(tmp_path, rng=np.random.default_rng(3))
    folder = truth.root / "DHG2016"
    strangers = [
        "gesture_15/finger_1/subject_1/essai_1/skeleton_world.txt",
        "gesture_1/finger_3/subject_1/essai_1/skeleton_world.txt",
        "gesture_1/finger_1/subject_21/essai_1/skeleton_world.txt",
        "gesture_1/finger_1/subject_1/essai_6/depth_1.png",
        f"{FIRST}/depth_01.png",
        f"{FIRST}/skeleton.txt",
    ]
    for name in [*strangers, "display.py", "ReadMe.txt"]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    listing = find(truth.root)
    assert set(listing.unrecognised) == {f"{tmp_path.name}/DHG2016/{name}" for name in strangers}
    assert listing.notes[:3] == (
        "14 of 5600 sequences found",
        "dhg: 8 of 2800, subjects 1, 12",
        "shrec17: 6 of 2800, subjects 1-2, 28",
    )
    assert "depth found for 4 of these 14" in listing.notes


def test_inner_folders_and_a_zip_per_gesture_are_found(tmp_path: Path) -> None:
    truth = make(tmp_path, DHG)
    inner = truth.root / "DHG2016" / "gesture_1"
    assert [unit.key for unit in find(inner).units] == [f"dhg/{FIRST}"]
    path = "raw/gesture_1.zip/finger_1/subject_1/essai_1/0_depth.png"
    listing = dhg.find([RawFile(path, Path("listing"), None, 1)], "default")
    assert [unit.key for unit in listing.units] == [f"shrec17/{FIRST}"]


def test_palm_can_be_left_out(tmp_path: Path) -> None:
    truth = make(tmp_path, SHREC)
    whole, without = read_one(truth.root), read_one(truth.root, joints="21")
    kept = [0, *range(2, 22)]
    np.testing.assert_array_equal(stream(without, "skeleton"), stream(whole, "skeleton")[:, kept])


def test_block_sets_the_size(tmp_path: Path) -> None:
    truth = make(tmp_path, SHREC, depth=(SHREC,))
    sizes = {block: read_one(truth.root, block=block) for block in ("4", "8", "16")}
    shapes = [stream(one, "depth").shape[1:] for one in sizes.values()]
    assert shapes == [(120, 160), (60, 80), (30, 40)]


@given(
    hnp.arrays(np.uint16, (13, 9), elements=st.sampled_from([0, 1, 500, 65535])), st.integers(1, 4)
)
def test_reduction_is_the_naive_loop(image: np.ndarray, block: int) -> None:
    height, width = 13 // block, 9 // block
    top, left = (13 - height * block) // 2, (9 - width * block) // 2
    expected, plain = np.zeros((height, width)), np.zeros((height, width))
    for row in range(height):
        for column in range(width):
            pixels = [
                int(image[top + row * block + i, left + column * block + j])
                for i in range(block)
                for j in range(block)
            ]
            readings = [pixel for pixel in pixels if pixel > 0]
            plain[row, column] = sum(pixels) / len(pixels)
            if len(readings) >= block**2 / 2:
                expected[row, column] = sum(readings) / len(readings)
    np.testing.assert_allclose(block_means(image, block, skip_zeros=True), expected)
    np.testing.assert_allclose(block_means(image, block), plain)


def test_memory_is_bounded_by_the_reduced_clip(tmp_path: Path) -> None:
    truth = make(tmp_path, SHREC, depth=(SHREC,))
    (unit,) = find(truth.root).units
    n_frames = sum(role.startswith("depth") for role in unit.files)
    list(dhg.read(unit, BOTH, "default"))  # imports and caches
    tracemalloc.start()
    list(dhg.read(unit, BOTH, "default"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # a few images at work and the stored clip twice, not all images at once
    assert peak < 2 * n_frames * 60 * 80 * 4 + 12 * 480 * 640 * 2


ROW = b" ".join(b"%d.5" % number for number in range(66)) + b"\n"
IMAGE = png(np.full((480, 640), 700, np.uint16))
SKELETON = f"HandGestureDataset_SHREC2017/{SECOND}/skeletons_world.txt"
DEPTH = f"HandGestureDataset_SHREC2017/{SECOND}/3_depth.png"
TRAIN, TEST = (f"HandGestureDataset_SHREC2017/{name}_gestures.txt" for name in ("train", "test"))
CUTS = "DHG2016/informations_troncage_sequences.txt"
BAD_FILES = {
    "skeleton empty": (SKELETON, b"", "empty file .*got 0 bytes"),
    "skeleton blank": (SKELETON, b" \n\n", "no rows"),
    "skeleton cut off": (SKELETON, 12 * ROW + ROW[:40], r"line 13 .*66 numbers, got 10 numbers"),
    "skeleton short": (SKELETON, 5 * ROW, r"number of frames .*as many rows as .*got 5"),
    "column missing": (SKELETON, b"1 2 3\n", r"line 1 .*expected 66 numbers, got 3 numbers"),
    "column extra": (SKELETON, ROW[:-1] + b" 7\n", r"expected 66 numbers, got 67 numbers"),
    "empty line": (SKELETON, ROW + b"\n" + ROW, r"line 2 .*got 0 numbers"),
    "nan": (SKELETON, ROW + ROW.replace(b"3.5", b"nan", 1), r"missing value on line 2 .*column 4"),
    "infinite": (SKELETON, ROW.replace(b"3.5", b"1e999", 1), r"got inf in column 4"),
    "word": (
        SKELETON,
        ROW.replace(b"3.5", b"x", 1),
        r"no number .*rows of 66 numbers, got 'x' on line 1\.",
    ),
    "bytes": (SKELETON, ROW.replace(b"3.5", b"\xff", 1), r"no number .*got '\ufffd' on line 1\."),
    "image empty": (DEPTH, b"", "empty file"),
    "image cut off": (DEPTH, IMAGE[: len(IMAGE) // 2], "unreadable image"),
    "image text": (DEPTH, b"no image", "unreadable image"),
    "image size": (DEPTH, png(np.ones((240, 320), np.uint16)), r"480 x 640 pixels, got 240 x 320"),
    "image of 8 bits": (DEPTH, png(np.ones((480, 640), np.uint8)), r"another kind .*mode L"),
    "list empty": (TRAIN, b"", "empty file"),
    "list with another count": (TRAIN, b"1 2 1 1 1 2 99\n", r"number of frames .*\[1, 2, 99\]"),
    "list with another class": (TRAIN, b"1 2 1 1 1 15 11\n", r"\[1, 15, 11\]"),
    "list without count": (TRAIN, b"1 2 1 1 1 2\n", r"3 more whole numbers, got '1 2'"),
    "list with a word": (TRAIN, b"1 2 1 1 1 2 x\n", r"whole numbers, got '1 2 x'"),
    "list with two lines": (TRAIN, b"1 2 1 1 1 2 9\n1 2 1 1 1 2 8\n", r"got '1 2 8 / 1 2 9'"),
    "both lists": (TEST, b"1 2 1 1 1 2 11\n", r"one split, got one of both"),
    "span turned": (CUTS, b"1 1 1 1 7 5\n", r"counted from0, got 7 to 5"),
    "span behind the end": (CUTS, b"1 1 1 1 100 110\n", r"got 100 to 110"),
    "span with a sign": (CUTS, b"1 1 1 1 -1 5\n", r"2 more whole numbers, got '-1 5'"),
    "span of three": (CUTS, b"1 1 1 1 1 5 9\n", r"2 more whole numbers, got '1 5 9'"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_file_is_refused_by_name(tmp_path: Path, name: str) -> None:
    path, content, message = BAD_FILES[name]
    make(tmp_path, DHG if path == CUTS else SHREC, depth=(SHREC,))
    (tmp_path / path).write_bytes(content)
    with pytest.raises(RawLayoutError, match=f"cannot read {path}: .*{tmp_path / path}") as caught:
        read_one(tmp_path)
    assert caught.match(message)


def test_span_0_is_refused_when_counted_from_1(tmp_path: Path) -> None:
    make(tmp_path, DHG)
    (tmp_path / CUTS).write_bytes(b"1 1 1 1 0 5\n")
    with pytest.raises(RawLayoutError, match="counted from1, got 0 to 5"):
        read_one(tmp_path, truncation="from1")
    assert len(stream(read_one(tmp_path), "skeleton")) == 6


@pytest.mark.parametrize(("lost", "left"), [(4, "0-3, 5-"), (0, "1-")])
def test_missing_image_is_refused(tmp_path: Path, lost: int, left: str) -> None:
    """Without the first image the numbers still run on: the count tells."""
    make(tmp_path, SHREC, depth=(SHREC,))
    (tmp_path / DEPTH).with_name(f"{lost}_depth.png").unlink()
    expected = f"run on from 0 or 1, got {left}" if lost else "as many rows as depth images"
    with pytest.raises(RawLayoutError, match=expected):
        read_one(tmp_path)


def test_images_that_begin_with_number_2_are_refused(tmp_path: Path) -> None:
    make(tmp_path, DHG, depth=(DHG,), lists=False)
    (tmp_path / "DHG2016" / FIRST / "depth_1.png").unlink()
    with pytest.raises(RawLayoutError, match=r"run on from 0 or 1, got 2-1\d"):
        read_one(tmp_path, ("depth",))


def test_count_of_images_alone_is_held_against_the_list(tmp_path: Path) -> None:
    make(tmp_path, SHREC, depth=(SHREC,))
    last = max((tmp_path / DEPTH).parent.glob("*.png"), key=lambda path: int(path.stem[:-6]))
    last.unlink()
    with pytest.raises(RawLayoutError, match="number of frames"):
        read_one(tmp_path, ("depth",))


def test_list_alone_is_no_dataset(tmp_path: Path) -> None:
    (tmp_path / "DHG2016").mkdir()
    (tmp_path / "DHG2016" / "train_gestures.txt").write_text("1 1 1 1 1 1 5\n")
    with pytest.raises(RawLayoutError, match="nothing that belongs to it"):
        find(tmp_path)


@settings(max_examples=60)
@given(path=st.sampled_from([SKELETON, DEPTH, TRAIN]), damage=DAMAGES)
def test_damaged_bytes_never_escape_as_another_error(
    shrec: dict[str, bytes], path: str, damage: Damage
) -> None:
    parts = shrec | {path: damage(shrec[path])}
    files = [held(f"raw/{name}", content) for name, content in parts.items()]
    # damage that the format does not notice reads as numbers; nothing but our error may be raised
    with contextlib.suppress(RawLayoutError):
        list(dhg.read(dhg.find(files, "default").units[0], BOTH, "default"))


@given(st.binary(max_size=60) | st.text(" 0123456789.\n\t-e", max_size=60).map(str.encode))
def test_any_text_reads_as_numbers_or_is_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("raw") / "numbers.txt"
    path.write_bytes(content)
    with contextlib.suppress(RawLayoutError):
        values = read_numbers(scan(path.parent)[0], 2)
        assert values.shape[1] == 2
        assert np.isfinite(values).all()


@pytest.mark.parametrize("name", ["informations_troncage_sequences", "train_gestures"])
@pytest.mark.parametrize("content", [bytes(range(128, 256)), b"1 1 1\n", b"<html></html>\n"])
def test_list_of_something_else_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    raw.write(tmp_path, rng=np.random.default_rng(3))
    (path,) = tmp_path.rglob(f"{name}.txt")
    path.write_bytes(content)
    n_numbers = 6 if name.startswith("informations") else 7
    message = rf"another list at {path}: expected lines of {n_numbers} whole numbers, got none in"
    with pytest.raises(RawLayoutError, match=message):
        read_all("dhg", tmp_path)


REAL_CLIP = f"shrec17/{FIRST}"


@pytest.mark.realdata
def test_real_clip_has_the_known_numbers(real_data: Path) -> None:
    root = real_data / "shrec17"
    listing = find(root)
    assert listing.notes[:2] == ("1 of 2800 sequences found", "shrec17: 1 of 2800, subjects 1")
    assert (listing.unrecognised, listing.modalities) == ((), ("skeleton",))
    one = read_one(root)
    assert (one.key, one.subject, one.label, one.counts) == (REAL_CLIP, "shrec17_1", "grab", {})
    assert one.extra == {
        "release": "shrec17", "fingers": "one finger", "label14": "1", "label28_dhg": "1",
        "label28_shrec17": "1", "split": "test",
    }  # fmt: skip
    joints = stream(one, "skeleton")
    assert joints.shape == (95, 22, 3)
    np.testing.assert_allclose(joints[0, 0], [0.49394463, -0.41033334, 0.591467], rtol=1e-6)
    np.testing.assert_allclose(joints[-1, -1], [0.48106477, -0.34789555, 0.532121], rtol=1e-6)
    low, high = joints.min(axis=(0, 1)), joints.max(axis=(0, 1))
    np.testing.assert_allclose(low, [0.285, -0.417, 0.288], atol=5e-4)
    np.testing.assert_allclose(high, [0.502, -0.100, 0.591], atol=5e-4)


@pytest.mark.realdata
def test_real_bones_are_those_of_a_hand(real_data: Path) -> None:
    """Checks unit and joint order: names of the descriptor, lengths in mm."""
    names = load_descriptor("dhg").streams["skeleton"].channels[0].names
    assert names is not None
    joints = stream(read_one(real_data / "shrec17"), "skeleton")
    expected = {
        ("wrist", "palm"): 62,
        ("palm", "index_base"): 97,
        ("index_base", "index_first"): 40,
        ("index_first", "index_second"): 24,
        ("index_second", "index_tip"): 18,
    }
    for (a, b), length in expected.items():
        bones = np.linalg.norm(joints[:, names.index(a)] - joints[:, names.index(b)], axis=1)
        assert 1000 * bones.mean() == pytest.approx(length, abs=0.6), (a, b)
    for finger in ("index", "middle", "ring", "little"):
        start = names.index(f"{finger}_base")
        parts = np.linalg.norm(np.diff(joints[:, start : start + 4], axis=1), axis=2).mean(axis=0)
        assert parts[0] > parts[1] > parts[2] > 0.01, finger


@pytest.mark.realdata
def test_real_lists_name_every_sequence_once(real_data: Path) -> None:
    folder = real_data / "shrec17" / "HandGestureDataset_SHREC2017"
    splits = [np.loadtxt(folder / f"{name}_gestures.txt", dtype=int) for name in ("train", "test")]
    assert [len(rows) for rows in splits] == [1960, 840]
    rows = np.concatenate(splits)
    assert len({tuple(row) for row in rows[:, :4]}) == 2800
    gesture, finger, subject, trial, label14, label28, length = rows.T
    np.testing.assert_array_equal(label14, gesture)
    np.testing.assert_array_equal(label28, 2 * (gesture - 1) + finger)
    assert (subject.min(), subject.max(), trial.max()) == (1, 28, 13)
    assert (length.min(), np.median(length), length.max(), length.sum()) == (7, 57, 171, 164969)
    counts = Counter(subject.tolist())
    assert {counts[number] for number in range(21, 29)} == {140}
    assert (min(counts.values()), sum(counts.values())) == (20, 2800)


@pytest.mark.realdata
def test_every_listed_sequence_is_found_and_split(real_data: Path, tmp_path: Path) -> None:
    """Folders after the real lists: all 2,800 are recognised; each line is read for its own."""
    source = real_data / "shrec17" / "HandGestureDataset_SHREC2017"
    folder = tmp_path / source.name
    splits: dict[str, tuple[str, int]] = {}
    for split in ("train", "test"):
        content = (source / f"{split}_gestures.txt").read_bytes()
        folder.mkdir(exist_ok=True)
        (folder / f"{split}_gestures.txt").write_bytes(content)
        for line in content.decode().splitlines():
            gesture, finger, subject, trial, *_, n = line.split()
            key = f"gesture_{gesture}/finger_{finger}/subject_{subject}/essai_{trial}"
            splits[f"shrec17/{key}"] = (split, int(n))
            (folder / key).mkdir(parents=True)
            (folder / key / "skeletons_world.txt").touch()
    listing = find(tmp_path)
    assert listing.notes[:2] == (
        "2800 of 2800 sequences found",
        "shrec17: 2800 of 2800, subjects 1-28",
    )
    assert {unit.key for unit in listing.units} == set(splits)
    line = " ".join(["0.5"] * 66) + "\n"
    for unit in listing.units[::50]:
        split, n_frames = splits[unit.key]
        skeleton = folder / unit.key.removeprefix("shrec17/") / "skeletons_world.txt"
        skeleton.write_text(line * n_frames)
        (recording,) = dhg.read(unit, ["skeleton"], "default")
        assert recording.extra["split"] == split
        assert len(recording.streams["skeleton"]) == n_frames
        skeleton.write_text(line * (n_frames + 1))
        with pytest.raises(RawLayoutError, match="number of frames"):
            list(dhg.read(unit, ["skeleton"], "default"))


@pytest.mark.realdata
def test_real_derived_depth_is_in_millimetres_where_the_hands_are(real_data: Path) -> None:
    """Hand regions that a third party cut and resampled: the only real depth there is."""
    paths = sorted((real_data / "shrec17-derived").rglob("depth_video.npy"))
    assert len(paths) == 8
    medians = []
    for path in paths:
        video = np.load(path)
        assert (video.dtype, video.shape) == (np.uint16, (32, 50, 50))
        medians.append(int(np.median(video[video > 0])))
    assert medians == [375, 375, 375, 352, 400, 312, 449, 438]
    joints = stream(read_one(real_data / "shrec17"), "skeleton")
    assert joints[..., 2].min() - 0.05 < np.median(medians) / 1000 < joints[..., 2].max()


def test_hands_of_two_datasets_can_be_bound(tmp_path: Path) -> None:
    """Without the palm, DHG's joints are those of Briareo, name by name."""
    hands = make(tmp_path / "dhg", SHREC)
    car = briareo.write(tmp_path / "car", rng=np.random.default_rng(3))
    a, b, out = (tmp_path / name for name in ("a.zarr", "b.zarr", "bound.zarr"))
    skeleton = ["skeleton"]
    made = convert("dhg", hands.root, a, modalities=skeleton, options={"joints": "21"})
    convert("briareo", car.root, b, modalities=["skeleton", "ir"])
    joints = made.info.modalities["skeleton"].axes[1]
    assert joints.size == 21
    assert "palm" not in (joints.names or ())
    assert made.info.modalities["skeleton"].root == "wrist"
    info = bind([a, b], out, shared="skeleton", options=BindOptions(embed="raw"))
    assert info.n_rows["pseudo"] > 0
    whole = convert("dhg", hands.root, tmp_path / "c.zarr", modalities=skeleton)
    assert whole.info.content_digest != made.info.content_digest
    with pytest.raises(BindingError, match="skeleton differs between the stores"):
        bind([tmp_path / "c.zarr", b], tmp_path / "no.zarr", shared="skeleton")
