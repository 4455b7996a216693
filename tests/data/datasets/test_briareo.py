"""Briareo: both layouts, invalid and missing frames, bad files, and the real list of files."""

from __future__ import annotations

import contextlib
import gzip
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from bundles import contents
from hypothesis import given, settings
from hypothesis import strategies as st
from rawdata import briareo as raw
from rawdata.compare import read_all, stream
from rawdata.content import DAMAGES, Damage, held
from rawdata.pictures import png
from rawdata.truth import Truth

from mmbind_data.datasets import briareo
from mmbind_data.datasets.registry import load_descriptor
from mmbind_data.errors import RawLayoutError
from mmbind_data.raw.files import RawFile, RawListing, scan
from mmbind_data.spec.descriptor import Recording

EVERY = ("skeleton", "ir", "depth")
PLACE, EARLY = "train/000/g00/00", "data/000/g00/00"


def make(root: Path, *clips: raw.Clip) -> Truth:
    return raw.write(root, rng=np.random.default_rng(3), clips=clips)


def find(root: Path, **options: str) -> RawListing:
    return briareo.find(scan(root), "default", **options)


def read_one(root: Path, modalities: tuple[str, ...] = EVERY, **options: str) -> Recording:
    unit = next(unit for unit in find(root, **options).units if unit.key in (PLACE, EARLY))
    (recording,) = briareo.read(unit, modalities, "default")
    return recording


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a clip of either release."""
    root = tmp_path_factory.mktemp("clips")
    return contents(make(root, raw.Clip(EARLY, EVERY, 3), raw.Clip(PLACE, EVERY, 3)).root)


def test_subjects_splits_and_labels(tmp_path: Path) -> None:
    raw.write(tmp_path, rng=np.random.default_rng(3))
    got = {one.key: one for one in read_all("briareo", tmp_path)}
    early, public = got["data/001/g11/02"], got["train/001/g11/00"]
    assert (early.subject, public.subject) == ("session_001", "001")
    assert early.label == public.label == "rotate counter-clockwise"
    assert (early.trial, public.trial) == ("02", "00")
    assert (early.extra, public.extra) == (
        {"release": "before"},
        {"release": "public", "split": "train"},
    )
    splits = {one.extra.get("split") for one in got.values()}
    assert splits == {None, "train", "validation", "test"}


def test_remarks_are_counted(tmp_path: Path) -> None:
    truth = raw.write(tmp_path, rng=np.random.default_rng(3))
    expected: Counter[str] = Counter()
    for one in truth.recordings["default"]:
        expected.update(one.counts)
    got: Counter[str] = Counter()
    for one in read_all("briareo", tmp_path):
        got.update(one.counts)
    assert got == expected
    assert got == {
        raw.REMARKS["none"]: 1,
        raw.REMARKS["invalid"]: 8,
        raw.REMARKS["skeleton"]: 1,
        raw.REMARKS["ir"]: 1,
        raw.REMARKS["depth"]: 3,
    }


def test_invalid_frames_lie_on_the_line_between_valid_ones(tmp_path: Path) -> None:
    make(tmp_path, raw.Clip(PLACE, n_frames=8, invalid=(0, 3, 4, 7)))
    got = stream(read_one(tmp_path), "skeleton")
    assert got.shape == (8, 21, 3)
    np.testing.assert_array_equal(got[0], got[1])
    np.testing.assert_array_equal(got[7], got[6])
    np.testing.assert_allclose(got[3], (2 * got[2] + got[5]) / 3, rtol=1e-6)
    np.testing.assert_allclose(got[4], (got[2] + 2 * got[5]) / 3, rtol=1e-6)


def test_one_valid_frame_is_repeated(tmp_path: Path) -> None:
    truth = make(tmp_path, raw.Clip(PLACE, invalid=(0, 1, 3, 4, 5)))
    got = stream(read_one(tmp_path), "skeleton")
    assert got.shape == (6, 21, 3)
    assert (got == got[0]).all()
    np.testing.assert_allclose(got, stream(truth.recordings["default"][0], "skeleton"), rtol=1e-6)


def test_clip_without_any_valid_frame_has_no_skeleton(tmp_path: Path) -> None:
    make(tmp_path, raw.Clip(PLACE, ("skeleton", "ir"), invalid=tuple(range(6))))
    one = read_one(tmp_path)
    assert list(one.streams) == ["ir"]
    assert one.raw_files[0] == f"{PLACE}/ir/000_ir.png"
    (unit,) = find(tmp_path).units
    assert list(briareo.read(unit, ["skeleton"], "default")) == []


def test_modalities_keep_step_where_files_are_missing(tmp_path: Path) -> None:
    """The range of frames is the clip's, also when one modality alone is asked for."""
    missing = {"ir": (0, 1), "depth": (5,)}
    make(tmp_path, raw.Clip(PLACE, EVERY, missing=missing))
    for modality in EVERY:
        assert len(stream(read_one(tmp_path, (modality,)), modality)) == 6
    ir, depth = (stream(read_one(tmp_path), name) for name in ("ir", "depth"))
    np.testing.assert_array_equal(ir[0], ir[2])
    np.testing.assert_array_equal(depth[5], depth[4])
    assert (np.diff(ir[2:, 20, 20]) == 64).all()


def test_missing_frame_takes_the_earlier_of_two_neighbours(tmp_path: Path) -> None:
    make(tmp_path, raw.Clip(PLACE, ("ir",), missing={"ir": (2,)}))
    ir = stream(read_one(tmp_path), "ir")
    np.testing.assert_array_equal(ir[2], ir[1])


def test_modality_with_few_frames_is_refused(tmp_path: Path) -> None:
    make(tmp_path, raw.Clip(PLACE, ("skeleton", "ir"), missing={"ir": (0, 1, 3, 5)}))
    with pytest.raises(RawLayoutError, match=r"4 of 6 frames missing .*frames 0-5, got 2, 4"):
        read_one(tmp_path)
    assert list(read_one(tmp_path, ("skeleton",)).streams) == ["skeleton"]


def test_frames_are_ordered_by_number(tmp_path: Path) -> None:
    make(tmp_path, raw.Clip(PLACE, ("ir",), 12), raw.Clip("test/032/g06/00", ("ir",)))
    ir = stream(read_one(tmp_path), "ir")
    np.testing.assert_array_equal(np.diff(ir[:, 20, 20]), 64)


def test_gz_and_npz_give_the_same_depth(tmp_path: Path) -> None:
    make(tmp_path, raw.Clip(EARLY, ("depth",)), raw.Clip(PLACE, ("depth",)))
    early, public = read_all("briareo", tmp_path)
    assert early.raw_files[0] == f"{EARLY}/depth/000_z.gz"
    # the writer's clips differ in the constant of their number only
    early_depth, public_depth = stream(early, "depth"), stream(public, "depth")
    seen = early_depth > 0
    np.testing.assert_array_equal(seen, public_depth > 0)
    np.testing.assert_allclose((public_depth - early_depth)[seen], 300 / 16384, rtol=1e-4)


@pytest.mark.parametrize(
    ("block", "shape"), [("1", (171, 224)), ("2", (85, 112)), ("3", (57, 74)), ("4", (42, 56))]
)
def test_block_sets_the_size(tmp_path: Path, block: str, shape: tuple[int, int]) -> None:
    make(tmp_path, raw.Clip(PLACE, ("ir", "depth"), 2))
    one = read_one(tmp_path, block=block)
    assert {stream(one, name).shape for name in ("ir", "depth")} == {(2, *shape)}


def test_ir_of_0_is_dark_and_depth_of_0_is_missing(tmp_path: Path) -> None:
    make(tmp_path, raw.Clip(PLACE, ("ir", "depth"), 1))
    pixels = np.zeros((171, 224))
    pixels[0:3, 1:3] = 900  # 6 of the first block's 9 pixels
    root = tmp_path / "tof" / PLACE / "tof"
    (root / "ir" / "000_ir.png").write_bytes(png(pixels.astype(np.uint16)))
    (root / "depth" / "000_z.npz").write_bytes(raw.npz(pixels / 1000))
    one = read_one(tmp_path)
    assert stream(one, "ir")[0, 0, 0] == 600
    assert stream(one, "depth")[0, 0, 0] == pytest.approx(0.9)


def test_notes_and_unrecognised_files(tmp_path: Path) -> None:
    raw.write(tmp_path, rng=np.random.default_rng(3))
    strangers = [
        "tof/train/000/g12/00/tof/ir/000_ir.png",
        "tof/train/00/g00/00/tof/ir/000_ir.png",
        "tof/train/000/g00/0/tof/ir/000_ir.png",
        "tof/train/000/g00/00/tof/ir/00_ir.png",
        "tof/train/000/g00/00/tof/depth/000_z.npy",
        "train.json",
    ]
    for name in [*strangers, "README.md", "splits/test/rgb_test.npz"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    listing = find(tmp_path)
    assert set(listing.unrecognised) == {f"{tmp_path.name}/{name}" for name in strangers}
    assert listing.notes == (
        "12 of 1440 clips found (train: subjects 0-1; validation: subjects 26; "
        "test: subjects 32; sessions before the release: 0-1)",
        "skeleton found for 11 of these 12",
        "ir found for 4 of these 12",
        "depth found for 3 of these 12",
        "files of g12_test, a continuous recording, left aside: 1",
        "images of the RGB and Leap cameras left aside: 3",
    )


@pytest.mark.parametrize("folder", ["train", "train/000"])
def test_inner_folders_are_found(tmp_path: Path, folder: str) -> None:
    make(tmp_path, raw.Clip(PLACE, ("ir",)))
    (unit,) = find(tmp_path / "tof" / folder).units
    # given the subject's folder alone, nothing tells the split
    split = "train" if folder == "train" else "data"
    assert unit.key == f"{split}/000/g00/00"


def test_each_split_may_be_a_zip() -> None:
    for path, modality in (
        ("raw/tof.zip/train.zip/003/g04/02/tof/depth/017_z.npz", "depth"),
        ("123/g01/00/tof/train/003/g04/02/tof/ir/017_ir.png", "ir"),
    ):
        listing = briareo.find([RawFile(path, Path("listing"), None, 1)], "default")
        assert [unit.key for unit in listing.units] == ["train/003/g04/02"]
        assert listing.modalities == (modality,)


def changed(**members: object) -> bytes:
    """A frame's document with other entries in ``right_hand``."""
    document = json.loads(json.dumps(raw.document(raw.hand(1, 0.0)[0])))
    document["frame"]["right_hand"].update(members)
    return json.dumps(document).encode()


def finger(vector: object) -> dict[str, object]:
    """All five fingers with the same vector everywhere."""
    bones = {bone: {"next_joint": vector} for bone in raw.BONES}
    return {name: {"bones": bones} for name in raw.FINGERS}


JSON = f"leap_motion/{PLACE}/leap_motion/tracking_data/002_js.json"
IR, NPZ = (f"tof/{PLACE}/tof/{name}" for name in ("ir/002_ir.png", "depth/002_z.npz"))
GZ = f"{EARLY}/depth/z/002_z.gz"
ONES = np.ones((171, 224), np.uint16)
TEXT = b"".join(b"0.5 " * 223 + b"0.5\n" for _ in range(171))
GZIPPED = gzip.compress(TEXT, mtime=0)
VECTOR = [1.0, 2.0, 3.0, 0.0, 0.0, 0.0]
BAD_FILES = {
    "json empty": (JSON, b"", "empty file"),
    "json cut off": (JSON, b'{"frame": {"id": 7,', "broken JSON"),
    "json list": (JSON, b"[1, 2]", r"another structure .*, got no frame\."),
    "json number": (JSON, b"7", r"another structure .*, got no frame\."),
    "json without frame": (JSON, b"{}", r"another structure .*, got no frame\."),
    "json without hand": (JSON, b'{"frame": {"id": 7}}', r"got no frame\.right_hand\."),
    "other word": (JSON, b'{"frame": "lost"}', r"another structure .*, got no frame\.right_hand\."),
    "no wrist": (
        JSON,
        changed(wrist_position=None),
        r"6 numbers in frame\.right_hand\.wrist_position, got None",
    ),
    "finger missing": (
        JSON,
        changed(fingers={"thumb": {}}),
        r"got no frame\.right_hand\.fingers\.thumb\.bones\.",
    ),
    "vectors of 3": (
        JSON,
        changed(wrist_position=VECTOR[:3], fingers=finger(VECTOR[:3])),
        r"6 numbers in frame\.right_hand\.wrist_position, got 3 numbers",
    ),
    "one short vector": (
        JSON,
        changed(wrist_position=VECTOR[:5]),
        r"6 numbers in .*, got 5 numbers",
    ),
    "word": (
        JSON,
        changed(fingers=finger(["x"] * 6)),
        r"6 numbers in .*thumb\.bones\.metacarpal\.next_joint, got \['x'",
    ),
    "nan": (JSON, changed(wrist_position=[1.0, float("nan"), *VECTOR[2:]]), "missing value"),
    "huge": (JSON, changed(wrist_position=[10**400, *VECTOR[1:]]), "huge number"),
    "ir empty": (IR, b"", "empty file"),
    "ir cut off": (IR, png(ONES)[:60], "unreadable image"),
    "ir size": (IR, png(ONES.T.copy()), "171 x 224 pixels, got 224 x 171"),
    "ir of 8 bits": (IR, png(ONES.astype(np.uint8)), "another kind of image .*mode L"),
    "npz empty": (NPZ, b"", "empty file"),
    "npz cut off": (NPZ, raw.npz(ONES / 2)[:-30], "broken file"),
    "npz key": (NPZ, raw.npz(ONES / 2, "z"), "another variable .*arr_0, 171 x 224 .*got z"),
    "npz shape": (NPZ, raw.npz(ONES[:170] / 2), "another shape .*got 170 x 224"),
    "npz integers": (NPZ, raw.npz(ONES), "another type .*uint16"),
    "npz objects": (NPZ, raw.npz(np.array([None])), "another type .*object"),
    "npz nan": (NPZ, raw.npz(np.full((171, 224), np.nan)), "missing value .*nan at"),
    "gz empty": (GZ, b"", "empty file"),
    "gz plain text": (GZ, TEXT, "broken file .*an intact gzip file"),
    "gz cut off": (GZ, GZIPPED[:-9], "a whole gzip file of one frame"),
    "gz checksum": (GZ, GZIPPED[:-5] + b"\0" * 5, "an intact gzip file"),
    "gz too long": (GZ, gzip.compress(b"0 " * (1 << 22)), "no end"),
    "gz lines": (GZ, gzip.compress(TEXT[: 100 * 896]), "171 lines, got 100"),
    "gz columns": (GZ, gzip.compress(b"1 2 3\n"), "line 1 .*224 numbers, got 3"),
    "gz nan": (GZ, gzip.compress(TEXT.replace(b"0.5", b"nan", 1)), "missing value on line 1"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_file_is_refused_by_name(tmp_path: Path, name: str) -> None:
    path, content, message = BAD_FILES[name]
    make(tmp_path, raw.Clip(EARLY if path == GZ else PLACE, EVERY, 3), raw.Clip("test/032/g00/00"))
    (tmp_path / path).write_bytes(content)
    place = f"{EARLY if path == GZ else PLACE}/.*/{Path(path).name}: .* at {tmp_path / path}"
    with pytest.raises(RawLayoutError, match=f"cannot read {place}") as caught:
        read_one(tmp_path)
    assert caught.match(message)


@settings(max_examples=60)
@given(path=st.sampled_from([JSON, IR, NPZ, GZ]), damage=DAMAGES)
def test_damaged_bytes_never_escape_as_another_error(
    clips: dict[str, bytes], path: str, damage: Damage
) -> None:
    parts = clips | {path: damage(clips[path])}
    files = [held(f"raw/{name}", content) for name, content in parts.items()]
    # damage that the format does not notice reads as numbers; nothing but our error may be raised
    with contextlib.suppress(RawLayoutError):
        for unit in briareo.find(files, "default").units:
            list(briareo.read(unit, EVERY, "default"))


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=6)
        | st.dictionaries(st.sampled_from(["right_hand", "fingers", "bones", "thumb"]), inner)
    ),
    max_leaves=8,
)


@given(st.sampled_from(["frame", "wrist_position", "fingers"]), JSON_VALUES)
def test_any_document_reads_or_is_refused(
    clips: dict[str, bytes], where: str, value: object
) -> None:
    one = {"frame": value} if where == "frame" else json.loads(changed(**{where: value}))
    parts = clips | {JSON: json.dumps(one).encode()}
    files = [held(f"raw/{name}", content) for name, content in parts.items()]
    unit = next(unit for unit in briareo.find(files, "default").units if unit.key == PLACE)
    with contextlib.suppress(RawLayoutError):
        (recording,) = briareo.read(unit, EVERY, "default")
        skeleton = recording.streams["skeleton"]
        assert skeleton.shape == (3, 21, 3)
        assert np.isfinite(skeleton).all()


@pytest.mark.realdata
def test_real_listing_is_recognised_whole(real_data: Path) -> None:
    """36,008 files of three sessions, as the author listed them before the release."""
    text = gzip.decompress((real_data / "briareo-derived" / "csv_dataset.gz").read_bytes()).decode()
    rows = [line.split(",") for line in text.splitlines()[1:]]
    assert len(rows) == 36_008
    paths = [row[0].replace("\\", "/").removeprefix("C:/") for row in rows]
    files = [RawFile(path, Path("listing"), None, 1) for path in paths]
    listing = briareo.find(files, "default")
    assert listing.unrecognised == ()
    assert listing.modalities == EVERY
    assert listing.notes == (
        "108 of 1440 clips found (sessions before the release: 0-2)",
        f"images of the RGB and Leap cameras left aside: {5 * 4501}",
    )
    assert len(listing.units) == 108
    combinations = {(unit.fields["subject"], unit.fields["label"]) for unit in listing.units}
    assert len(combinations) == 3 * 12
    lengths = []
    for unit in listing.units:
        roles = Counter(role.split("_")[0] for role in unit.files)
        assert len(set(roles.values())) == 1
        assert (unit.fields["first"], int(unit.fields["last"])) == ("0", roles["ir"] - 1)
        lengths.append(roles["ir"])
    assert [min(lengths), int(np.median(lengths)), max(lengths), sum(lengths)] == [35, 41, 59, 4501]
    # the listing's own columns agree with what the reader takes from the paths
    labels = {(row[1], row[2], row[3]): row[5] for row in rows}
    codes = {text: code for code, text in load_descriptor("briareo").labels.items()}
    for unit in listing.units:
        _, session, gesture, record = unit.key.split("/")
        assert codes[unit.fields["label"]] == gesture == f"g{labels[session, gesture, record]}"
