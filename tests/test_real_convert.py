"""Every real file converts, and the store holds what is known of it.

Where the numbers come from: the SOURCE.md beside each file, and the raw rows themselves, read with
other means. MotionSense and UTD-MHAD without depth stand in test_real_chain.py.
"""

from __future__ import annotations

import io
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from PIL import Image
from rawdata.mmfi import write_frame
from realraw import B3DO, KV2, PAMAP2_SENSORS, pamap2_rows, sun_rgbd_together, write_pamap2

from mmbind_data.conversion.convert import convert
from mmbind_data.conversion.pipeline import Converted
from mmbind_data.datasets.registry import load_descriptor
from mmbind_data.store.dataset import Dataset, open_dataset
from mmbind_data.store.validation import validate

pytestmark = pytest.mark.realdata

Convert = Callable[..., tuple[Dataset, Converted]]
SEQUENCE = "E01/S01/A01"


@pytest.fixture
def stored(tmp_path: Path) -> Convert:
    """Convert, check every value, open."""

    def run(
        name: str, raw: Path, out: str = "out.zarr", **options: Any
    ) -> tuple[Dataset, Converted]:
        done = convert(name, raw, tmp_path / out, **options)
        assert validate(done.path, level="values") == []
        return open_dataset(done.path), done

    return run


def rows_where(store: Dataset, **wanted: str) -> np.ndarray:
    """Rows of the samples whose columns hold these texts."""
    table = store.samples()
    columns = [np.array(table[key].to_pylist()) == text for key, text in wanted.items()]
    return np.flatnonzero(np.logical_and.reduce(columns))


def test_realworld(real_data: Path, stored: Convert) -> None:
    """Files of 31,948 rows (walking, waist) and 32,864 (climbing up): 319 and 328 windows."""
    store, done = stored("realworld", real_data / "realworld")
    columns = store.samples().to_pydict()
    assert Counter(zip(columns["label_text"], columns["placement"], strict=True)) == {
        ("upstairs", "forearm"): 271,
        ("upstairs", "waist"): 328,
        ("walking", "forearm"): 318,  # of 319, one lies over a gap
        ("walking", "shin"): 319,
        ("walking", "waist"): 319,
    }
    assert "windows over gaps dropped: 1" in done.notes
    assert store.info.subjects == {"1": 1555}
    assert store.info.modalities["acc"].shape == (100, 3)
    # a recording begins with the first row of its file; shin where gyro begins
    first_rows = {
        ("upstairs", "forearm"): (-9.57434, -2.02733, 1.34506),
        ("upstairs", "waist"): (9.326612, 0.17417817, 3.4500446),
        ("walking", "forearm"): (-7.56606, -6.39685, -1.0083),
        ("walking", "shin"): (-0.78529817, 9.94312, -1.3988123),
        ("walking", "waist"): (9.375694, 0.45669398, 3.1717186),
    }
    for (label, placement), expected in first_rows.items():
        rows = rows_where(store, label_text=label, placement=placement)
        assert [columns["window_index"][row] for row in rows[:3]] == [0, 1, 2]
        acc = store.load("acc", rows)
        np.testing.assert_allclose(acc[0, 0], expected, rtol=1e-6)
        assert np.median(np.linalg.norm(acc, axis=-1)) == pytest.approx(9.81, abs=0.7)
    shin = rows_where(store, label_text="walking", placement="shin")
    assert store.present("gyro").nonzero()[0].tolist() == shin.tolist()
    # 118.6 s after the start, a quarter of the way between two rows of each file
    for modality, before, after in (
        ("acc", (-2.3750482, 8.59279, -2.8395233), (-5.4743423, 6.611588, -0.9828198)),
        ("gyro", (-4.0860777, 0.9624182, 0.24984388), (-3.143818, 1.5289958, -0.13316862)),
    ):
        wanted = 0.75 * np.array(before) + 0.25 * np.array(after)
        got = store.load(modality, shin[59:60])[0, 30]
        np.testing.assert_allclose(got, wanted, rtol=1e-5)


@pytest.mark.parametrize(
    ("row", "sample", "size", "depth", "median", "most", "holes"),
    [
        (1, KV2, "530x730", "raw", 2.397, 3.783, 0.134),
        (1, KV2, "530x730", "bfx", None, 3.783, 0.0),
        (0, B3DO, "427x561", "raw", None, 2.525, 0.3234),
        (0, B3DO, "427x561", "bfx", None, 2.525, 0.0),
    ],
)
def test_sun_rgbd_at_full_size(
    real_data: Path,
    stored: Convert,
    row: int,
    sample: str,
    size: str,
    depth: str,
    median: float | None,
    most: float,
    holes: float,
) -> None:
    options = {"size": size, "depth": depth}
    store, _ = stored("sun-rgbd", real_data / "sunrgbd", options=options)
    metres = store.load("depth", [row])[0]
    assert metres.max() == np.float32(most)
    assert (metres == 0).mean() == pytest.approx(holes, abs=5e-5)
    if median is not None:
        assert np.median(metres[metres > 0]) == pytest.approx(median, abs=5e-4)
    folder = real_data / "sunrgbd" / "SUNRGBD" / sample
    (jpeg,) = (folder / "image").iterdir()
    with Image.open(jpeg) as image:
        np.testing.assert_array_equal(store.load("image", [row])[0], np.asarray(image))


def test_sun_rgbd_with_polygons_and_lists(real_data: Path, tmp_path: Path, stored: Convert) -> None:
    root = sun_rgbd_together(real_data, tmp_path / "raw")
    store, done = stored("sun-rgbd", root, options={"size": "427x561"})
    columns = store.samples().to_pydict()
    assert columns["label_text"] == ["office", "office"]
    assert columns["split"] == ["train", "test"]
    assert columns["sensor"] == ["kv1", "kv2"]
    assert columns["fx"] == [520.532, 529.5]
    assert "official file, checksum known: dection19list.mat" in done.notes
    assert store.present("semseg").tolist() == [True, False]
    numbers, pixels = np.unique(store.load("semseg", [0]), return_counts=True)
    shares = dict(zip(numbers.tolist(), (pixels / 427 / 561).round(4).tolist(), strict=True))
    assert shares == {0: 0.7668, 1: 0.1001, 2: 0.0465, 5: 0.0307, 23: 0.0282, 29: 0.0277}


def test_shrec_clip(real_data: Path, stored: Convert) -> None:
    store, done = stored("dhg", real_data / "shrec17")
    assert "1 of 2800 sequences found" in done.notes
    (row,) = store.samples().to_pylist()
    known = {"label_text": "grab", "subject": "shrec17_1", "trial": "1", "split": "test"}
    known |= {"fingers": "one finger", "release": "shrec17"}
    assert {key: row[key] for key in known} == known
    assert (row["label14"], row["label28_dhg"], row["label28_shrec17"]) == (1, 1, 1)
    (joints,) = store.load("skeleton")
    np.testing.assert_allclose(joints[0, 0], [0.49394463, -0.41033334, 0.591467], rtol=1e-6)
    np.testing.assert_allclose(joints[-1, -1], [0.48106477, -0.34789555, 0.532121], rtol=1e-6)
    # 95 frames become 30: between two lines of the file, as numpy reads it
    (path,) = (real_data / "shrec17").rglob("skeletons_world.txt")
    lines = np.loadtxt(path).reshape(95, 22, 3)
    for frame, at in ((1, 94 / 29), (13, 13 * 94 / 29), (28, 28 * 94 / 29)):
        low, share = int(at), at % 1
        expected = (1 - share) * lines[low] + share * lines[low + 1]
        np.testing.assert_allclose(joints[frame], expected, rtol=1e-5, atol=1e-7)
    names = load_descriptor("dhg").streams["skeleton"].channels[0].names
    assert names is not None
    palm = joints[:, names.index("palm")] - joints[:, names.index("wrist")]
    assert np.linalg.norm(palm, axis=1).mean() == pytest.approx(0.062, abs=0.001)


def test_pamap2_excerpts(real_data: Path, tmp_path: Path, stored: Convert) -> None:
    """Two windows of 2 s of each of 12 activities at three places; drop-outs are bridged."""
    rows = pamap2_rows(real_data)
    write_pamap2(tmp_path / "raw", rows)
    store, done = stored(
        "pamap2",
        tmp_path / "raw",
        placements=["hand", "chest", "ankle"],
        modalities=["acc", "gyro", "mag", "heart_rate"],
    )
    assert "frames of drop-outs up to 0.1 s bridged linearly: 81" in done.notes
    assert "rows between activities (label 0) left out: 500" in done.notes
    assert (len(store), store.info.subjects) == (72, {"101": 72})
    values = {name: store.load(name) for name in store.info.modalities}
    for code in rows.keys() - {"0"}:
        for place in ("hand", "chest", "ankle"):
            label = load_descriptor("pamap2").labels[code]
            found = rows_where(store, label_text=label, placement=place)
            assert len(found) == 2
            for name, sensor in PAMAP2_SENSORS.items():
                raw = np.stack([rows[code][f"{place}{sensor}{axis}"] for axis in "XYZ"], 1)[:400]
                measured = np.isfinite(raw).all(axis=1)
                got = values[name][found].reshape(400, 3)
                np.testing.assert_allclose(got[measured], raw[measured], rtol=1e-6)
            beats = values["heart_rate"][found].reshape(400)
            np.testing.assert_array_equal(beats, rows[code]["heartrate"][:400])


def place_csi_frame(real_data: Path, raw: Path, numbers: tuple[int, ...]) -> None:
    """The real frame 1 in its place, and made-up frames that the sequence cannot do without."""
    folder = raw / SEQUENCE / "wifi-csi"
    folder.mkdir(parents=True)
    content = (real_data / "mmfi" / "wifi-csi" / "frame001.mat").read_bytes()
    (folder / "frame001.mat").write_bytes(content)
    for number in numbers:
        write_frame(folder / f"frame{number:03d}.mat", SEQUENCE, "wifi-csi", number)


def check_csi_frame(decibel: np.ndarray, phase: np.ndarray) -> None:
    """Compare a frame with what scipy reads of the real file."""
    known = {(0, 0, 0): (42.36587641, -0.39889186), (2, 113, 9): (35.27629901, 2.95095375)}
    known[1, 50, 4] = (39.56648579, 1.62337938)
    for at, (amplitude, angle) in known.items():
        assert decibel[at] == pytest.approx(amplitude, rel=1e-6)
        assert phase[at] == pytest.approx(angle, rel=1e-6)
    assert (decibel.min(), decibel.max()) == pytest.approx((29.268567, 48.836217), rel=1e-6)
    assert decibel.mean(dtype=np.float64) == pytest.approx(41.588569, rel=1e-6)


def test_mmfi_frame(real_data: Path, tmp_path: Path, stored: Convert) -> None:
    """A frame stands for those up to five behind it, so 30 need three more."""
    place_csi_frame(real_data, tmp_path / "raw", (12, 23, 30))
    modalities = ["wifi_csi", "wifi_csi_phase"]
    store, _ = stored("mmfi", tmp_path / "raw", preset="paper", modalities=modalities)
    (row,) = store.samples().to_pylist()
    assert (row["label_text"], row["subject"]) == ("stretch and relax", "S01")
    assert row["environment"] == "E01"
    assert row["raw_file"] == f"{SEQUENCE}/wifi-csi/frame001.mat"
    decibel, phase = (store.load(name)[0] for name in modalities)
    assert decibel.shape == phase.shape == (30, 3, 114, 10)
    for frame in range(6):
        check_csi_frame(decibel[frame], phase[frame])
    assert not np.isclose(decibel[6], decibel[0]).all()
    path = real_data / "mmfi" / "wifi-csi" / "frame001.mat"
    np.testing.assert_allclose(decibel[0], scipy.io.loadmat(path)["CSIamp"], rtol=1e-6)


def test_mmfi_segments(real_data: Path, tmp_path: Path, stored: Convert) -> None:
    """The real table tells 48 segments; two lie where there are frames, the others are told."""
    place_csi_frame(real_data, tmp_path / "raw", (12,))
    table = real_data / "mmfi" / "MMFi_action_segments.csv"
    (tmp_path / "raw" / table.name).write_bytes(table.read_bytes())
    modalities = ["wifi_csi", "wifi_csi_phase"]
    store, done = stored("mmfi", tmp_path / "raw", preset="segments", modalities=modalities)
    columns = store.samples().to_pydict()
    spans = list(zip(columns["first_frame"], columns["last_frame"], strict=True))
    assert spans == [(1, 7), (8, 15)]
    told = "wifi_csi left out of a recording: a frame is missing and none is near: 46"
    assert told in done.notes
    # 7 frames become 20: the first 16 lie within frames 1 to 6, all of them the real one
    decibel, phase = (store.load(name)[0] for name in modalities)
    for frame in (0, 7, 15):
        check_csi_frame(decibel[frame], phase[frame])
    assert not np.isclose(decibel[16], decibel[0]).all()


def test_utd_depth(real_data: Path, stored: Convert) -> None:
    """240 x 320 in mm become 16 frames of 60 x 80 in m: means of 4 x 4, 0 with few readings."""
    raw = real_data / "utd-mhad"
    store, done = stored("utd-mhad", raw, subjects=["2"], modalities=["depth", "skeleton"])
    assert "depth found for 192 of these 646 trials" in done.notes
    with_depth = np.flatnonzero(store.present("depth"))
    assert (len(store), len(with_depth)) == (108, 32)
    (row,) = rows_where(store, label_text="boxing", trial="1")
    with zipfile.ZipFile(raw / "Depth.zip") as archive:
        clip = scipy.io.loadmat(io.BytesIO(archive.read("Depth/a13_s2_t1_depth.mat")))["d_depth"]
    got = store.load("depth", [row])[0]
    assert got.shape == (16, 60, 80)
    for frame, source in ((0, 0), (15, clip.shape[2] - 1)):
        squares = clip[:, :, source].reshape(60, 4, 80, 4).swapaxes(1, 2).reshape(60, 80, 16)
        readings = (squares > 0).sum(axis=2)
        mean = squares.sum(axis=2) / np.maximum(readings, 1) / 1000
        np.testing.assert_allclose(got[frame], np.where(readings >= 8, mean, 0), rtol=1e-6)
    skeleton = store.load("skeleton", with_depth)
    depth = store.load("depth", with_depth)
    body = [np.median(one[one > 0]) for one in depth]
    np.testing.assert_allclose(body, np.median(skeleton[..., 2], axis=(1, 2)), atol=0.35)


def test_motionsense_b_and_c(real_data: Path, stored: Convert) -> None:
    """Archives B and C: 3,042 windows and the published extremes, in SI."""
    store, done = stored("motionsense", real_data / "motionsense", preset="paper")
    assert (len(store), len(store.info.subjects)) == (3042, 18)
    assert store.load("acc").max() / 9.80665 == pytest.approx(6.923737, abs=1e-6)
    assert store.load("gyro").max() == pytest.approx(11.836725, abs=1e-6)
    assert "official file, checksum known: data_subjects_info.csv" in done.notes
    (first,) = np.flatnonzero(np.array(store.samples()["window_index"]) == 0)[:1]
    row = store.samples().slice(first, 1).to_pylist()[0]
    assert (row["sex"], row["age"], row["height_cm"], row["weight_kg"]) == ("male", 46, 188, 102)
