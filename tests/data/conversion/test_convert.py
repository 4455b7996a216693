"""Conversion: the store holds the truth, and is the same however it came about."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from rawdata import motionsense, utd_mhad
from rawdata.truth import Truth

from mmbind_data.conversion import spool
from mmbind_data.conversion.convert import convert
from mmbind_data.conversion.plan import ConversionRequest, plan_conversion
from mmbind_data.errors import OutputError, RawLayoutError, UsageError
from mmbind_data.io import digests
from mmbind_data.raw import files
from mmbind_data.spec.descriptor import Recording
from mmbind_data.store.dataset import DESCRIPTOR, PROVENANCE, RAW_FILES, open_dataset
from mmbind_data.store.validation import validate
from mmbind_data.testing.conformance import tree

UTD_FRAMES = {"acc": 120, "gyro": 120, "skeleton": 40, "depth": 16}


def interpolated(values: np.ndarray, n: int) -> np.ndarray:
    """Whole recording on n instants between its first and last frame."""
    flat = values.reshape(len(values), -1).astype(np.float64)
    instants = np.linspace(0, len(values) - 1, n)
    columns = [np.interp(instants, np.arange(len(values)), column) for column in flat.T]
    return np.stack(columns, axis=1).reshape(n, *values.shape[1:])


def nearest(values: np.ndarray, n: int) -> np.ndarray:
    distance = np.abs(np.linspace(0, len(values) - 1, n)[:, None] - np.arange(len(values)))
    picked: np.ndarray = values[distance.argmin(axis=1)]
    return picked


def windows_of(recordings: tuple[Recording, ...]) -> list[tuple[Recording, int]]:
    """Recording and first frame of every 100-frame window, by counting frames off."""
    windows = []
    for recording in recordings:
        start = 0
        while start + 100 <= len(recording.streams["acc"]):
            windows.append((recording, start))
            start += 100
    return windows


def test_utd_mhad_holds_the_truth(utd_truth: Truth, utd_store: Path) -> None:
    store, recordings = open_dataset(utd_store), utd_truth.recordings["default"]
    assert len(store) == len(recordings) == 31
    assert set(store.info.modalities) == set(UTD_FRAMES)
    samples = store.samples().to_pylist()
    for name, n in UTD_FRAMES.items():
        data, present = store.load(name), store.present(name)
        assert store.info.n_present[name] == present.sum()
        for row, recording in enumerate(recordings):
            assert present[row] == (name in recording.streams)
            if not present[row]:
                assert np.isnan(data[row]).all()
                continue
            raw = recording.streams[name]
            want = nearest(raw, n) if name == "depth" else interpolated(raw, n)
            np.testing.assert_allclose(data[row], want, rtol=1e-5, atol=1e-5)
    assert store.present("depth").sum() == 2
    for sample, recording in zip(samples, recordings, strict=True):
        name = f"utd-mhad|{recording.key}|whole|default"
        assert sample["uid"] == hashlib.sha256(name.encode()).hexdigest()[:32]
        assert sample["raw_file"] == recording.raw_files[0]
        for column in ("subject", "trial", "placement", "environment", "session"):
            assert sample[column] == getattr(recording, column)
        assert (sample["raw_start"], sample["t_end"], sample["window_index"]) == (None, None, 0)


@pytest.mark.parametrize("preset", ["default", "paper"])
def test_motionsense_holds_the_truth(motionsense_truth: Truth, tmp_path: Path, preset: str) -> None:
    done = convert("motionsense", motionsense_truth.root, tmp_path / "m.zarr", preset=preset)
    store = open_dataset(done.path)
    assert store.info == done.info
    windows = windows_of(motionsense_truth.recordings[preset])
    assert len(store) == len(windows) > 40
    for name in store.info.modalities:
        want = [one.streams[name][start : start + 100] for one, start in windows]
        np.testing.assert_allclose(store.load(name), want, rtol=1e-6, atol=1e-7)
    for row, (sample, (one, start)) in enumerate(
        zip(store.samples().to_pylist(), windows, strict=True)
    ):
        name = f"motionsense|{one.key}|{start}:{start + 100}|{preset}"
        assert sample["uid"] == hashlib.sha256(name.encode()).hexdigest()[:32]
        assert (sample["row"], sample["window_index"]) == (row, start // 100)
        assert (sample["raw_start"], sample["raw_end"]) == (start, start + 100)
        assert (sample["t_start"], sample["t_end"]) == (start / 50, start / 50 + 2)
        assert (sample["subject"], sample["label_text"]) == (one.subject, one.label)
        assert {name: str(sample[name]) for name in one.extra} == one.extra
        assert store.names("subject")[store.column("subject")[row]] == one.subject
        assert store.names("label")[store.column("label")[row]] == one.label
        assert sample["label"] == store.column("label")[row]


def test_counts_orders_and_documents(motionsense_truth: Truth, motionsense_store: Path) -> None:
    store = open_dataset(motionsense_store)
    windows = windows_of(motionsense_truth.recordings["default"])
    assert list(store.info.subjects) == ["1", "2", "10"]
    for subject, n in store.info.subjects.items():
        assert n == sum(one.subject == subject for one, _ in windows)
    for label, n in store.info.labels.items():
        assert n == sum(one.label == label for one, _ in windows)
    # the descriptor's order, also of labels that no sample has
    assert store.names("label") == tuple(motionsense.LABELS.values())
    assert list(store.info.modalities) == ["acc", "gyro", "gravity"]
    assert store.info.modalities["acc"].shape == (100, 3)
    assert store.info.modalities["acc"].rate_hz == 50
    assert store.document(DESCRIPTOR)["dataset_id"] == "motionsense"
    assert store.document(PROVENANCE)["modalities"] == ["acc", "gyro", "gravity"]


def test_raw_files_are_listed_with_their_digests(utd_truth: Truth, utd_store: Path) -> None:
    import pyarrow.parquet as pq

    table = pq.read_table(utd_store / RAW_FILES).to_pylist()
    read = {path for one in utd_truth.recordings["default"] for path in one.raw_files}
    assert {row["path"] for row in table} == read
    for row in table:
        content = (utd_truth.root / row["path"]).read_bytes()
        assert row["bytes"] == len(content)
        assert row["sha256"] == hashlib.sha256(content).hexdigest()
        assert row["role"] == row["path"].split("/")[0].lower()


def test_again_is_the_same_byte_for_byte(
    utd_truth: Truth,
    utd_store: Path,
    motionsense_truth: Truth,
    motionsense_store: Path,
    tmp_path: Path,
) -> None:
    for truth, first in ((utd_truth, utd_store), (motionsense_truth, motionsense_store)):
        again = convert(
            truth.dataset_id, truth.root, tmp_path / "deep" / f"{truth.dataset_id}.zarr"
        )
        assert again.n_resumed == 0
        assert tree(again.path) == tree(first)
    assert len(list((tmp_path / "deep").iterdir())) == 2


@pytest.mark.parametrize("form", ["zips", "doubled"])
def test_how_the_raw_data_is_kept_does_not_show(
    motionsense_store: Path, tmp_path: Path, form: str
) -> None:
    motionsense.write(tmp_path / "other name", rng=np.random.default_rng(12), form=form)
    done = convert("motionsense", tmp_path / "other name", tmp_path / "m.zarr")
    assert tree(done.path) == tree(motionsense_store)


def test_two_workers_write_the_bytes_of_one(
    motionsense_truth: Truth, motionsense_store: Path, tmp_path: Path
) -> None:
    seen: list[tuple[int, int]] = []
    done = convert(
        "motionsense",
        motionsense_truth.root,
        tmp_path / "m.zarr",
        workers=2,
        progress=lambda done, total, text: seen.append((done, total)),
    )
    assert tree(done.path) == tree(motionsense_store)
    assert seen[:24] == [(index, 24) for index in range(1, 25)]


def test_streamed_files_give_the_bytes_of_held_ones(
    motionsense_truth: Truth,
    motionsense_store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(files, "STREAMED_BYTES", 1)
    done = convert("motionsense", motionsense_truth.root, tmp_path / "m.zarr")
    assert tree(done.path) == tree(motionsense_store)


def test_a_streamed_file_that_changes_meanwhile(
    motionsense_truth: Truth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def touching(path: Path) -> str:
        digest = digests.file_digest(path)
        os.utime(path, ns=(1, path.stat().st_mtime_ns + 1))
        return digest

    monkeypatch.setattr(files, "STREAMED_BYTES", 1)
    monkeypatch.setattr(spool, "file_digest", touching)
    raw = shutil.copytree(motionsense_truth.root, tmp_path / "raw")
    with pytest.raises(RawLayoutError, match="a change while it was read"):
        convert("motionsense", raw, tmp_path / "m.zarr")
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_subjects_and_modalities_choose(
    motionsense_truth: Truth, motionsense_store: Path, tmp_path: Path
) -> None:
    done = convert(
        "motionsense",
        motionsense_truth.root,
        tmp_path / "m.zarr",
        subjects=["10", "1"],
        modalities=["gyro", "attitude", "gyro"],
    )
    store, every = open_dataset(done.path), open_dataset(motionsense_store)
    assert list(store.info.modalities) == ["gyro", "attitude"]
    assert list(store.info.subjects) == ["1", "10"]
    rows = np.flatnonzero(np.isin(every.samples()["subject"].to_pylist(), ["1", "10"]))
    np.testing.assert_array_equal(store.load("gyro"), every.load("gyro", rows))
    assert store.samples()["uid"].to_pylist() == every.samples()["uid"].take(rows).to_pylist()
    np.testing.assert_array_equal(store.column("label"), every.column("label")[rows])
    assert validate(done.path, level="values") == []


def test_the_share_of_a_selection_is_told(motionsense_truth: Truth, tmp_path: Path) -> None:
    every = plan_conversion("motionsense", motionsense_truth.root)
    assert not any("are converted" in note for note in every.listing.notes)
    chosen = ConversionRequest(subjects=("1",))
    plan = plan_conversion("motionsense", motionsense_truth.root, chosen)
    mine = sum(unit.fields["subject"] == "1" for unit in every.units)
    assert 0 < mine < len(every.units)
    text = f"{mine} of the {len(every.units)} found are converted: --subjects 1"
    assert text in plan.listing.notes


def test_the_name_is_told_before_the_output(motionsense_truth: Truth, tmp_path: Path) -> None:
    (tmp_path / "m.zarr").write_text("in the way")
    with pytest.raises(UsageError, match="Did you mean motionsense"):
        convert("motionsens", motionsense_truth.root, tmp_path / "m.zarr")
    with pytest.raises(UsageError, match="Did you mean paper"):
        convert("motionsense", tmp_path / "nothing", tmp_path / "m.zarr", preset="papers")
    with pytest.raises(UsageError, match="unknown modality"):
        plan_conversion(
            "motionsense", tmp_path, ConversionRequest("paper", modalities=("gravity",))
        )
    with pytest.raises(OutputError, match="exists already"):
        convert("motionsense", tmp_path / "nothing", tmp_path / "m.zarr")


def test_columns_of_numbers_have_their_type_whatever_is_converted(
    motionsense_store: Path, motionsense_truth: Truth, tmp_path: Path
) -> None:
    """Without the table of people the columns are absent, not of another type."""
    whole = open_dataset(motionsense_store).samples().schema
    numbers = ("age", "height_cm", "weight_kg")
    assert [str(whole.field(name).type) for name in (*numbers, "sex")] == [*["int64"] * 3, "string"]
    one = convert("motionsense", motionsense_truth.root, tmp_path / "m.zarr", subjects=["1"])
    part = open_dataset(one.path).samples()
    assert part.schema.equals(whole)
    assert set(part["age"].to_pylist()) == {21}


def test_a_stream_that_nobody_has_is_left_out_or_refused(tmp_path: Path) -> None:
    truth = utd_mhad.write(
        tmp_path / "raw",
        rng=np.random.default_rng(1),
        folders=("Inertial",),
        subjects=(1,),
        actions=(1, 22),
        trials=(1, 2),
    )
    done = convert("utd-mhad", truth.root, tmp_path / "u.zarr")
    assert list(done.info.modalities) == ["acc", "gyro"]
    assert [note for note in done.notes if "left out" in note] == [
        "skeleton is left out: no recording carries it",
        "depth is left out: no recording carries it",
    ]
    with pytest.raises(RawLayoutError, match=r"asked for .*--modalities.*depth.*none\.$"):
        convert("utd-mhad", truth.root, tmp_path / "v.zarr", modalities=["acc", "depth"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["raw", "u.zarr"]


def test_recordings_shorter_than_a_window_give_no_sample(tmp_path: Path) -> None:
    truth = motionsense.write(
        tmp_path / "raw", rng=np.random.default_rng(1), subjects=(1,), trials=("sit_5", "wlk_7")
    )
    path = truth.root / "A_DeviceMotion_data" / "sit_5" / "sub_1.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:100]))  # 99 frames
    done = convert("motionsense", truth.root, tmp_path / "m.zarr")
    assert "1 of 2 units give no sample: too short, or of a label that is left out" in done.notes
    assert done.info.labels == {"walking": done.info.n_samples}
    other = truth.root / "A_DeviceMotion_data" / "wlk_7" / "sub_1.csv"
    other.write_text(path.read_text())
    with pytest.raises(
        RawLayoutError, match=r"100 frames \(2 s\), got at most 99 frames .*wlk_7/sub_1\.csv"
    ):
        convert("motionsense", truth.root, tmp_path / "n.zarr")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.zarr", "raw"]


def test_the_plan_reads_names_alone(tmp_path: Path) -> None:
    truth = utd_mhad.write(tmp_path / "raw", rng=np.random.default_rng(1), subjects=(1, 3))
    for path in truth.root.rglob("*.mat"):
        path.write_bytes(b"")
    plan = plan_conversion("utd-mhad", truth.root, ConversionRequest(subjects=("3",)))
    assert len(plan.units) == sum(one.subject == "3" for one in truth.recordings["default"])
    assert plan.n_bytes == 0


def test_what_is_left_when_nothing_asked_for_is_there(tmp_path: Path) -> None:
    """The message tells what there is of the people asked for, never an empty list."""
    truth = utd_mhad.write(tmp_path / "raw", rng=np.random.default_rng(1), subjects=(1, 2))
    for file in truth.root.rglob("*_s2_*_skeleton*"):
        file.unlink()
    with pytest.raises(RawLayoutError, match=r"expected files of skeleton .*got files of [a-z]"):
        convert(
            "utd-mhad", truth.root, tmp_path / "o.zarr", subjects=["2"], modalities=["skeleton"]
        )
