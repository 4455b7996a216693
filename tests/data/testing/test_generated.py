"""Generated raw data: authentic in layout, consistent in physics, informative in every stream."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from rawdata.compare import read_all

from mmbind_data.datasets.registry import load_reader_module
from mmbind_data.raw.files import scan
from mmbind_data.spec.descriptor import Recording
from mmbind_data.testing import generated as synthetic


@pytest.fixture(scope="module")
def motionsense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("motionsense")
    synthetic.write_motionsense(root, n_subjects=3, seconds=10, rng=np.random.default_rng(1))
    return root


@pytest.fixture(scope="module")
def utd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("utd")
    rng = np.random.default_rng(1)
    synthetic.write_utd_mhad(root, n_subjects=4, n_actions=8, n_trials=4, rng=rng)
    return root


def content(root: Path) -> dict[str, bytes]:
    return {file.path.split("/", 1)[1]: file.read() for file in scan(root)}


def test_the_same_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        rng = np.random.default_rng(7)
        synthetic.write_motionsense(tmp_path / name, n_subjects=1, seconds=4, rng=rng)
        synthetic.write_utd_mhad(tmp_path / name, n_subjects=1, n_actions=2, n_trials=1, rng=rng)
    assert content(tmp_path / "a") == content(tmp_path / "b")
    rng = np.random.default_rng(8)
    synthetic.write_motionsense(tmp_path / "c", n_subjects=1, seconds=4, rng=rng)
    assert content(tmp_path / "c").items().isdisjoint(content(tmp_path / "a").items())


def test_motionsense_layout(motionsense: Path) -> None:
    reader = load_reader_module("motionsense")
    listing = reader.find(scan(motionsense), "default")
    assert listing.unrecognised == ()
    assert len(listing.units) == 45
    default = read_all("motionsense", motionsense)
    assert {len(one.streams["acc"]) for one in default if len(one.trial or "") == 1} == {500}
    assert {len(one.streams["acc"]) for one in default if len(one.trial or "") == 2} == {250}
    assert {one.extra["sex"] for one in default} == {"male", "female"}
    paper = read_all("motionsense", motionsense, "paper")
    assert len(paper) == 39
    # B has round(1.0112 * 500 + 14.2) = 520 rows, C 502: cut to the shorter
    assert {len(one.streams["acc"]) for one in paper if len(one.trial or "") == 1} == {502}
    b = (motionsense / "B_Accelerometer_data" / "wlk_7" / "sub_1.csv").read_text()
    assert b.startswith(",x,y,z\n0,")
    assert b.count("\n") == 1 + 520


def test_motionsense_physics(motionsense: Path) -> None:
    for one in read_all("motionsense", motionsense):
        gravity, acc = one.streams["gravity"], one.streams["acc"]
        np.testing.assert_allclose(np.linalg.norm(gravity, axis=1), 9.80665, rtol=1e-5)
        if one.label in ("sitting", "standing"):
            assert np.median(np.linalg.norm(acc, axis=1)) == pytest.approx(9.80665, abs=0.3)
            # in the same frame and, as Core Motion has it, with the same sign
            np.testing.assert_allclose(acc.mean(axis=0), gravity.mean(axis=0), atol=0.1)
        else:
            # a vector at rest in the world turns against the sensor: dg/dt = -w x g
            expected = -np.cross(one.streams["gyro"][:-1], gravity[:-1])
            got = 50 * np.diff(gravity, axis=0)
            assert np.corrcoef(expected.ravel(), got.ravel())[0, 1] > 0.97, one.key


def test_faster_accelerometer_shows_the_same_motion(motionsense: Path) -> None:
    """B, read at its own rate from its own start, is A's total acceleration."""
    default = {one.key: one for one in read_all("motionsense", motionsense)}
    key = "wlk_7/sub_2"
    rows = np.loadtxt(
        motionsense / "B_Accelerometer_data" / f"{key}.csv", delimiter=",", skiprows=1
    )
    position = np.arange(500) * 1.0112 + 14.2
    for i in range(3):
        b = np.interp(position, np.arange(len(rows)), 9.80665 * rows[:, 1 + i])
        a = default[key].streams["acc"][:, i]
        assert np.corrcoef(a, b)[0, 1] > 0.98


def test_utd_layout(utd: Path) -> None:
    listing = load_reader_module("utd-mhad").find(scan(utd), "default")
    assert len(listing.units) == 4 * 8 * 4 - 1  # a8_s1_t4 was never distributed
    assert "depth found for 8 of these 127 trials" in listing.notes
    got = read_all("utd-mhad", utd)
    for one in got:
        assert 107 <= len(one.streams["acc"]) <= 326
        ratio = len(one.streams["acc"]) / len(one.streams["skeleton"])
        assert ratio == pytest.approx(2.6, abs=0.05)
        assert np.median(np.linalg.norm(one.streams["acc"], axis=1)) == pytest.approx(9.8, abs=2.5)
        assert np.abs(one.streams["acc"]).max() < 8 * 9.80665  # the real sensor's range
        heads, hips = one.streams["skeleton"][:, 0, 1], one.streams["skeleton"][:, 3, 1]
        assert (heads > hips).all()


def test_utd_depth_shows_the_skeleton(utd: Path) -> None:
    got = [one for one in read_all("utd-mhad", utd) if "depth" in one.streams]
    assert len(got) == 8
    for one in got:
        depth, skeleton = one.streams["depth"], one.streams["skeleton"]
        rows = np.round(30 - 285 / 4 * skeleton[..., 1] / skeleton[..., 2]).astype(int)
        columns = np.round(40 + 285 / 4 * skeleton[..., 0] / skeleton[..., 2]).astype(int)
        frames = np.arange(len(depth))[:, None]
        at_joints = depth[frames, rows.clip(0, 59), columns.clip(0, 79)]
        np.testing.assert_allclose(at_joints, skeleton[..., 2], atol=1.0)
        assert 0.8 < (depth == 0).mean() < 0.97


def hits(recordings: Sequence[Recording], modality: str) -> float:
    """Share whose nearest trial of another person is of the same action."""
    rows = []
    for one in recordings:
        values = one.streams[modality]
        if modality == "skeleton":
            values = values - values[:, 3:4]
        flat = values.reshape(len(values), -1)
        at = np.linspace(0, len(flat) - 1, 60).round().astype(int)
        rows.append(flat[at].ravel())
    table = np.stack(rows)
    distance = np.linalg.norm(table[:, None] - table[None], axis=2)
    subjects = np.array([one.subject for one in recordings])
    labels = np.array([one.label for one in recordings])
    distance[subjects[:, None] == subjects[None]] = np.inf
    return float((labels[distance.argmin(axis=1)] == labels).mean())


@pytest.mark.parametrize("modality", ["acc", "gyro", "skeleton"])
def test_every_modality_tells_the_action_across_people_but_not_perfectly(
    utd: Path, modality: str
) -> None:
    share = hits(read_all("utd-mhad", utd, modalities=[modality]), modality)
    assert 3 / 8 < share < 0.99  # chance: 1 / 8
