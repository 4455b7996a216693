"""UTD-MHAD: layouts, partial trials, bad files, depth reduction, and the real archives."""

from __future__ import annotations

import contextlib
import io
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from rawdata import utd_mhad as raw
from rawdata.compare import assert_same, read_all
from rawdata.content import DAMAGES, Damage, held, mat
from rawdata.truth import Truth

from mmbind_data.datasets import utd_mhad
from mmbind_data.datasets.registry import load_descriptor
from mmbind_data.errors import RawLayoutError
from mmbind_data.raw.files import RawListing, scan
from mmbind_data.spec.descriptor import Recording

EVERY = ("acc", "gyro", "skeleton", "depth")


@pytest.fixture
def truth(tmp_path: Path) -> Truth:
    return raw.write(tmp_path / "raw", rng=np.random.default_rng(3), actions=(1, 2))


def find(root: Path) -> RawListing:
    return utd_mhad.find(scan(root), "default")


def read_first(root: Path) -> Recording:
    return next(utd_mhad.read(find(root).units[0], EVERY, "default"))


def naive_reduction(video: np.ndarray) -> np.ndarray:
    """Loop over every stored pixel of a (height, width, n_frames) video in millimetres."""
    height, width, n_frames = video.shape
    stored = np.zeros((n_frames, height // 4, width // 4), dtype=np.float32)
    for frame in range(n_frames):
        for row in range(height // 4):
            for column in range(width // 4):
                readings = [
                    int(video[4 * row + i, 4 * column + j, frame])
                    for i in range(4)
                    for j in range(4)
                    if video[4 * row + i, 4 * column + j, frame] > 0
                ]
                if len(readings) >= 8:
                    stored[frame, row, column] = sum(readings) / len(readings) / 1000
    return stored


def test_keys_subjects_and_labels(tmp_path: Path) -> None:
    truth = raw.write(tmp_path, rng=np.random.default_rng(3))
    got = read_all("utd-mhad", tmp_path)
    assert len(got) == 31
    assert (got[0].key, got[0].subject, got[0].label) == ("a1_s1_t1", "1", "swipe left")
    assert (got[-1].key, got[-1].subject, got[-1].label) == ("a22_s3_t4", "3", "jog")
    assert "a2_s3_t4" not in {one.key for one in got}
    assert {one.placement for one in got if one.label == "jog"} == {"right_thigh"}
    assert {one.placement for one in got if one.label != "jog"} == {"right_wrist"}
    assert truth.labels() == tuple(one.label for one in got)


def test_every_file_name_of_the_distribution_finds_its_trial(tmp_path: Path) -> None:
    missing = {"a8_s1_t4", "a23_s6_t4", "a27_s8_t4"}
    names = {f"a{a}_s{s}_t{t}" for a in range(1, 28) for s in range(1, 9) for t in range(1, 5)}
    for name in names - missing:
        (tmp_path / f"{name}_inertial.mat").touch()
    listing = find(tmp_path)
    assert [unit.key for unit in listing.units][:5] == [f"a1_s1_t{t}" for t in (1, 2, 3, 4)] + [
        "a1_s2_t1"
    ]
    assert {unit.key for unit in listing.units} == names - missing
    assert listing.notes == ("861 of 861 trials found (subjects 1-8)", "no skeleton", "no depth")
    labels = {unit.key.split("_")[0]: unit.fields["label"] for unit in listing.units}
    assert (labels["a9"], labels["a10"]) == (
        "draw circle clockwise",
        "draw circle counter-clockwise",
    )
    assert (labels["a21"], labels["a27"]) == ("pick up and throw", "squat")
    placements = {unit.key.split("_")[0]: unit.fields["placement"] for unit in listing.units}
    assert (placements["a21"], placements["a22"]) == ("right_wrist", "right_thigh")


@pytest.mark.parametrize("form", ["folders", "zips", "doubled"])
@pytest.mark.parametrize(
    ("folder", "modalities"),
    [("Inertial", ("acc", "gyro")), ("Skeleton", ("skeleton",)), ("Depth", ("depth",))],
)
def test_one_part_alone_gives_its_modalities(
    tmp_path: Path, form: str, folder: str, modalities: tuple[str, ...]
) -> None:
    rng = np.random.default_rng(3)
    truth = raw.write(tmp_path, rng=rng, form=form, folders=(folder,), actions=(1, 22))
    inner = tmp_path / (f"{folder}.zip" if form == "zips" else folder)
    for root in (tmp_path, inner):
        assert find(root).modalities == modalities
        assert_same(read_all("utd-mhad", root), truth.recordings["default"])


def test_trial_without_a_stream_lacks_the_key(truth: Truth) -> None:
    (truth.root / "Skeleton" / "a1_s1_t1_skeleton.mat").unlink()
    listing = find(truth.root)
    assert list(read_first(truth.root).streams) == ["acc", "gyro", "depth"]
    assert listing.notes == (
        "15 of 861 trials found (subjects 1, 3)",
        "skeleton found for 14 of these 15 trials",
        "depth found for 1 of these 15 trials",
    )
    assert list(utd_mhad.read(listing.units[1], ["depth"], "default")) == []


def test_files_that_do_not_belong_are_named(truth: Truth) -> None:
    source = truth.root / "Inertial" / "a1_s1_t1_inertial.mat"
    strangers = [
        f"{key}_inertial.mat" for key in ("a28_s1_t1", "a1_s9_t1", "a1_s1_t5", "a01_s1_t1")
    ]
    for name in [*strangers, "a1_s1_t1_color.avi", "readme.txt"]:
        (truth.root / name).write_bytes(source.read_bytes())
    listing = find(truth.root)
    assert set(listing.unrecognised) == {f"raw/{name}" for name in strangers}
    assert len(listing.units) == 15
    assert "RGB videos are not read" in listing.notes


def with_nan(shape: tuple[int, ...], at: tuple[int, ...]) -> np.ndarray:
    values = np.zeros(shape)
    values[at] = np.nan
    return values


GOOD = mat(d_iner=np.arange(900.0).reshape(150, 6))
BAD_FILES = {
    "empty": ("inertial", b"", r"empty file .*d_iner, n x 6 numbers, got 0 bytes"),
    "text": ("inertial", b"acc_x,acc_y\n" * 50, r"broken file .*got 600 bytes that cannot"),
    "hdf5": (
        "inertial",
        b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM" + bytes(400),
        r"another version of the format .*MAT file of version 5 to 7",
    ),
    "truncated": ("inertial", GOOD[: len(GOOD) // 2], r"broken file .*a whole MAT file"),
    "header": ("inertial", GOOD[:100], r"broken file"),
    "no variable": ("inertial", GOOD[:128], r"another variable .*got no variable"),
    "name": ("inertial", mat(d_skel=np.ones((9, 6))), r"another variable .*d_iner.*, got d_skel"),
    "cell": ("inertial", mat(d_iner=np.array([[1], ["a"]], object)), r"got d_iner of type object"),
    "complex": ("inertial", mat(d_iner=np.ones((9, 6)) * 1j), r"d_iner of type complex128"),
    "columns": ("inertial", mat(d_iner=np.ones((9, 3))), r"n x 6 numbers, got 9 x 3"),
    "turned": ("inertial", mat(d_iner=np.ones((6, 150))), r"n x 6 numbers, got 6 x 150"),
    "no frame": ("inertial", mat(d_iner=np.ones((0, 6))), r"n x 6 numbers, got 0 x 6"),
    "nan": ("inertial", mat(d_iner=with_nan((9, 6), (4, 2))), r"got nan at \[4, 2\]"),
    "frames first": ("skeleton", mat(d_skel=np.ones((50, 20, 3))), r"20 x 3 x n .*got 50 x 20 x 3"),
    "skeleton nan": (
        "skeleton",
        mat(d_skel=with_nan((20, 3, 9), (1, 2, 3))),
        r"nan at \[1, 2, 3\]",
    ),
    "float depth": ("depth", mat(d_depth=np.ones((240, 320, 2))), r"unsigned .*type float64"),
    "small depth": (
        "depth",
        mat(d_depth=np.ones((120, 160, 2), np.uint16)),
        r"240 x 320 x n unsigned integers, got 120 x 160 x 2",
    ),
    "other frames": (
        "depth",
        mat(d_depth=np.ones((240, 320, 2), np.uint16)),
        r"as many frames as the skeleton, \d+, got 2",
    ),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_file_is_refused_by_name(truth: Truth, name: str) -> None:
    role, content, message = BAD_FILES[name]
    path = truth.root / role.capitalize() / f"a1_s1_t1_{role}.mat"
    path.write_bytes(content)
    place = rf"cannot read {role.capitalize()}/a1_s1_t1_{role}\.mat: .*{path}"
    with pytest.raises(RawLayoutError, match=place) as caught:
        read_first(truth.root)
    assert caught.match(message)


@settings(max_examples=60, deadline=None)
@given(DAMAGES)
def test_damaged_bytes_never_escape_as_another_error(damage: Damage) -> None:
    (unit,) = utd_mhad.find([held("a1_s1_t1_inertial.mat", damage(GOOD))], "default").units
    # damage that the format does not notice reads as numbers; nothing but our error may be raised
    with contextlib.suppress(RawLayoutError):
        list(utd_mhad.read(unit, EVERY, "default"))


def test_whole_numbers_stored_as_integers_are_numbers(truth: Truth) -> None:
    path = truth.root / "Inertial" / "a1_s1_t1_inertial.mat"
    path.write_bytes(mat(d_iner=np.full((150, 6), 180, np.int16)))
    streams = read_first(truth.root).streams
    np.testing.assert_allclose(streams["acc"], 180 * 9.80665, rtol=1e-6)
    np.testing.assert_allclose(streams["gyro"], np.pi, rtol=1e-6)


@given(hnp.arrays(np.uint16, (8, 12, 2), elements=st.one_of(st.just(0), st.integers(0, 2**16 - 1))))
def test_depth_reduction_is_the_naive_loop(video: np.ndarray) -> None:
    np.testing.assert_allclose(utd_mhad.reduce_depth(video), naive_reduction(video), rtol=1e-6)


def test_depth_of_constant_distance_keeps_it() -> None:
    video = np.full((240, 320, 3), 65535, np.uint16)
    np.testing.assert_allclose(utd_mhad.reduce_depth(video), 65.535, rtol=1e-6)


def test_depth_memory_is_bounded_by_one_trial(tmp_path: Path) -> None:
    keys = [f"a1_s{subject}_t{trial}" for subject in (1, 2) for trial in (1, 2, 3)]
    raw.write(
        tmp_path,
        rng=np.random.default_rng(3),
        subjects=(1, 2),
        actions=(1,),
        trials=(1, 2, 3),
        folders=("Depth",),
        depth=keys,
    )
    listing = find(tmp_path)

    def peak(n_units: int) -> int:
        tracemalloc.start()
        for unit in listing.units[:n_units]:
            for _ in utd_mhad.read(unit, ["depth"], "default"):
                pass
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(1)  # imports and caches
    assert peak(6) < 1.4 * max(peak(1), 60 * 240 * 320 * 2)


def test_descriptor_names_joints_and_background() -> None:
    streams = load_descriptor("utd-mhad").streams
    joints = streams["skeleton"].channels[0].names
    assert joints is not None
    assert (joints[3], joints[10]) == ("hip_center", "right_wrist")
    assert streams["skeleton"].root in joints
    assert streams["depth"].background == 0.0


@pytest.mark.realdata
def test_real_archives_are_found_whole(real_data: Path) -> None:
    listing = find(real_data / "utd-mhad")
    assert len(listing.units) == 646
    assert listing.notes == (
        "646 of 861 trials found (subjects 1-6)",
        "depth found for 192 of these 646 trials",
    )
    assert listing.unrecognised == ()
    keys = {unit.key for unit in listing.units}
    assert keys.isdisjoint({"a8_s1_t4", "a23_s6_t4"})


@pytest.mark.realdata
def test_real_means_are_near_those_of_the_published_constants(real_data: Path) -> None:
    """Means over all 861 stretched trials are known; six of eight subjects must come near."""
    got = read_all("utd-mhad", real_data / "utd-mhad", modalities=("acc", "gyro", "skeleton"))
    assert len(got) == 646
    weighted = {
        name: np.mean([one.streams[name].mean(axis=0) for one in got], axis=0)
        for name in ("acc", "gyro", "skeleton")
    }
    assert weighted["acc"].mean() / 9.80665 == pytest.approx(-0.32627, abs=0.03)
    assert np.rad2deg(weighted["gyro"].mean()) == pytest.approx(-0.87, abs=0.6)
    np.testing.assert_allclose(
        weighted["skeleton"].mean(axis=0), [-0.08386, -0.29137, 2.87111], atol=0.03
    )
    lengths = [len(one.streams["acc"]) for one in got]
    frames = [len(one.streams["skeleton"]) for one in got]
    assert (min(lengths), max(lengths)) == (107, 308)  # 326 belongs to subjects 7 and 8
    assert 41 <= min(frames) <= max(frames) <= 125
    # heads are above hips (but for who picks something up): y is up, the joints in their order
    upright = [
        np.median(one.streams["skeleton"][:, 0, 1] - one.streams["skeleton"][:, 3, 1])
        for one in got
        if one.label != "pick up and throw"
    ]
    assert min(upright) > 0.3
    norm = np.concatenate([np.linalg.norm(one.streams["acc"], axis=1) for one in got])
    assert np.median(norm) / 9.80665 == pytest.approx(1.05, abs=0.01)


@pytest.mark.realdata
def test_real_trial_against_scipy_alone(real_data: Path) -> None:
    root = real_data / "utd-mhad"
    unit = next(unit for unit in find(root).units if unit.key == "a13_s2_t1")
    streams = next(utd_mhad.read(unit, EVERY, "default")).streams
    with zipfile.ZipFile(root / "Inertial.zip") as archive:
        content = archive.read("Inertial/a13_s2_t1_inertial.mat")
    inertial = scipy.io.loadmat(io.BytesIO(content))["d_iner"]
    np.testing.assert_allclose(streams["acc"], inertial[:, :3] * 9.80665, rtol=1e-6)
    np.testing.assert_allclose(streams["gyro"], inertial[:, 3:] * np.pi / 180, rtol=1e-6)
    with zipfile.ZipFile(root / "Skeleton.zip") as archive:
        content = archive.read("Skeleton/a13_s2_t1_skeleton.mat")
    skeleton = scipy.io.loadmat(io.BytesIO(content))["d_skel"]
    for frame in (0, 7, skeleton.shape[2] - 1):
        np.testing.assert_allclose(streams["skeleton"][frame], skeleton[:, :, frame], rtol=1e-6)
    with zipfile.ZipFile(root / "Depth.zip") as archive:
        content = archive.read("Depth/a13_s2_t1_depth.mat")
    depth = scipy.io.loadmat(io.BytesIO(content))["d_depth"][:, :, [0, 20, -1]]
    np.testing.assert_allclose(streams["depth"][[0, 20, -1]], naive_reduction(depth), rtol=1e-6)
    assert len(streams["depth"]) == len(streams["skeleton"])


@pytest.mark.realdata
def test_real_depth_shows_the_person_where_the_skeleton_stands(real_data: Path) -> None:
    """Checks unit and axes: the body's median distance is the skeleton's."""
    units = [unit for unit in find(real_data / "utd-mhad").units if "depth" in unit.files]
    for unit in units[::48]:
        streams = next(utd_mhad.read(unit, EVERY, "default")).streams
        depth, skeleton = streams["depth"], streams["skeleton"]
        body = np.median(depth[depth > 0])
        assert body == pytest.approx(float(np.median(skeleton[..., 2])), abs=0.35)
        rows = np.flatnonzero((depth > 0).any(axis=(0, 2)))
        columns = np.flatnonzero((depth > 0).any(axis=(0, 1)))
        assert np.ptp(rows) > 0.8 * np.ptp(columns)  # people are taller than wide
