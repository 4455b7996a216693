"""Conversions that were interrupted, killed or refused: nothing lost, nothing half-written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rawdata import motionsense
from rawdata.truth import Truth

from mmbind_data.conversion.convert import convert
from mmbind_data.conversion.spool import UnitTask, read_spools
from mmbind_data.errors import OutputError, RawLayoutError
from mmbind_data.io.atomic import claimed, staging_path
from mmbind_data.progress import Progress
from mmbind_data.store.dataset import open_dataset
from mmbind_data.store.validation import validate
from mmbind_data.testing.conformance import tree


def failing(n: int, error: type[BaseException]) -> Progress:
    """A progress callback that raises when n units are done, or as the store is written."""

    def progress(done: int, total: int, text: str) -> None:
        if done >= n:
            raise error("in the middle")

    return progress


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_interrupted_conversion_resumes_to_the_same_bytes(
    motionsense_truth: Truth, motionsense_store: Path, tmp_path: Path, error: type[BaseException]
) -> None:
    out = tmp_path / "m.zarr"
    with pytest.raises(error):
        convert("motionsense", motionsense_truth.root, out, progress=failing(9, error))
    assert not out.exists()
    assert sum(map(len, read_spools(staging_path(out) / "units").values())) == 9
    done = convert("motionsense", motionsense_truth.root, out)
    assert (done.n_resumed, done.n_units) == (9, 24)
    assert tree(out) == tree(motionsense_store)
    assert [path.name for path in tmp_path.iterdir()] == ["m.zarr"]


def test_killed_conversion_resumes_to_the_same_bytes(
    motionsense_truth: Truth, motionsense_store: Path, tmp_path: Path
) -> None:
    script = """if True:
        import os, signal, sys
        from mmbind_data.conversion.convert import convert

        def die(done, total, text):
            if text == "writing gyro":  # acc is written, the store is half there
                os.kill(os.getpid(), signal.SIGKILL)

        convert("motionsense", sys.argv[1], sys.argv[2], progress=die)
    """
    out = tmp_path / "m.zarr"
    command = [sys.executable, "-c", script, str(motionsense_truth.root), str(out)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert not out.exists()
    done = convert("motionsense", motionsense_truth.root, out)
    assert done.n_resumed == 24
    assert tree(out) == tree(motionsense_store)
    assert os.listdir(tmp_path) == ["m.zarr"]  # noqa: PTH208 - hidden files too


def test_failure_before_the_first_unit_leaves_nothing(
    motionsense_truth: Truth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(task: UnitTask) -> None:
        raise MemoryError(task)

    monkeypatch.setattr("mmbind_data.conversion.pipeline.convert_unit", fail)
    with pytest.raises(MemoryError):
        convert("motionsense", motionsense_truth.root, tmp_path / "m.zarr")
    assert list(tmp_path.iterdir()) == []


def test_a_changed_raw_byte_or_another_choice_is_not_taken_from_the_spool(tmp_path: Path) -> None:
    truth = motionsense.write(tmp_path / "raw", rng=np.random.default_rng(1), subjects=(1, 2))
    out = tmp_path / "m.zarr"

    def interrupt() -> None:
        with pytest.raises(KeyboardInterrupt):
            convert("motionsense", truth.root, out, progress=failing(16, KeyboardInterrupt))

    interrupt()
    path = truth.root / "A_DeviceMotion_data" / "sit_5" / "sub_1.csv"
    lines = path.read_text().split("\n")
    cells = lines[4].split(",")
    cells[7] = "9.5"  # rotationRate.x of frame 3
    path.write_text("\n".join([*lines[:4], ",".join(cells), *lines[5:]]))
    done = convert("motionsense", truth.root, out)
    assert (done.n_resumed, done.n_units) == (15, 16)
    store = open_dataset(out)
    row = store.samples()["raw_file"].to_pylist().index("A_DeviceMotion_data/sit_5/sub_1.csv")
    assert store.load("gyro", np.array([row]))[0, 3, 0] == 9.5
    done = convert("motionsense", truth.root, out, overwrite=True)
    assert done.n_resumed == 0  # what was spooled is gone once it is in the store
    out = tmp_path / "n.zarr"
    interrupt()
    assert convert("motionsense", truth.root, out, modalities=["gyro"]).n_resumed == 0


def test_a_second_conversion_to_the_same_place_is_refused(
    motionsense_truth: Truth, tmp_path: Path
) -> None:
    out = tmp_path / "m.zarr"
    with (
        claimed(out, doing="test"),
        pytest.raises(OutputError, match="another mmbind command writes there"),
    ):
        convert("motionsense", motionsense_truth.root, out)
    assert not out.exists()
    assert len(open_dataset(convert("motionsense", motionsense_truth.root, out).path))


def cut(keep: int | None) -> Callable[[bytes], bytes]:
    return lambda content: content[:keep]


def flip(place: int) -> Callable[[bytes], bytes]:
    def damaged(content: bytes) -> bytes:
        changed = bytearray(content)
        changed[place] ^= 1
        return bytes(changed)

    return damaged


def second_line(content: bytes) -> bytes:
    """Break the JSON of the second unit."""
    place = content.index(b'{"bytes"', 10)
    return content[:place] + b"[" + content[place + 1 :]


@pytest.mark.parametrize(
    ("damage", "n_left"),
    [(cut(0), 0), (cut(1000), 0), (cut(-20), 2), (flip(-20), 2), (second_line, 1), (cut(None), 3)],
    ids=["empty", "one line", "short", "a bit", "no JSON", "whole"],
)
def test_damaged_units_of_a_spool_file_are_made_again(
    motionsense_truth: Truth, tmp_path: Path, damage: Callable[[bytes], bytes], n_left: int
) -> None:
    """As after a power cut, or a full disk."""
    reference = convert("motionsense", motionsense_truth.root, tmp_path / "whole.zarr")
    out = tmp_path / "m.zarr"
    with pytest.raises(MemoryError):
        convert("motionsense", motionsense_truth.root, out, progress=failing(3, MemoryError))
    (spool,) = (staging_path(out) / "units").glob("*.spool")
    spool.write_bytes(damage(spool.read_bytes()))
    again = convert("motionsense", motionsense_truth.root, out)
    assert again.n_resumed == n_left
    assert tree(out) == tree(reference.path)


def test_a_conversion_may_be_interrupted_again_and_again(
    motionsense_truth: Truth, motionsense_store: Path, tmp_path: Path
) -> None:
    """Each run goes on behind what all earlier ones left, the last of which was cut short."""
    out = tmp_path / "m.zarr"
    units = staging_path(out) / "units"
    for n_done, n_whole in ((5, 4), (11, 10)):
        with pytest.raises(MemoryError):
            convert(
                "motionsense", motionsense_truth.root, out, progress=failing(n_done, MemoryError)
            )
        last = max(units.glob("*.spool"))
        last.write_bytes(last.read_bytes()[:-1])
        assert sum(map(len, read_spools(units).values())) == n_whole
    assert len(list(units.glob("*.spool"))) == 2
    done = convert("motionsense", motionsense_truth.root, out)
    assert done.n_resumed == 10
    assert tree(out) == tree(motionsense_store)


def test_an_existing_output_is_kept_unless_told(motionsense_truth: Truth, tmp_path: Path) -> None:
    out = tmp_path / "m.zarr"
    convert("motionsense", motionsense_truth.root, out, subjects=["1"])
    before = tree(out)
    with pytest.raises(OutputError, match="exists already"):
        convert("motionsense", tmp_path / "no raw data is even looked for", out)
    with pytest.raises(MemoryError):
        convert(
            "motionsense",
            motionsense_truth.root,
            out,
            overwrite=True,
            progress=failing(2, MemoryError),
        )
    assert tree(out) == before
    convert("motionsense", motionsense_truth.root, out, subjects=["2"], overwrite=True)
    assert list(open_dataset(out).info.subjects) == ["2"]
    assert [path.name for path in tmp_path.iterdir()] == ["m.zarr"]


def test_a_broken_raw_file_leaves_nothing(tmp_path: Path) -> None:
    """Neither of this run, nor of an earlier one that was interrupted."""
    truth = motionsense.write(tmp_path / "raw", rng=np.random.default_rng(1), subjects=(1,))
    path = truth.root / "A_DeviceMotion_data" / "sit_5" / "sub_1.csv"
    intact, out = path.read_bytes(), tmp_path / "m.zarr"
    path.write_bytes(intact[:5000])
    with pytest.raises(RawLayoutError, match=r"sit_5/sub_1\.csv") as caught:
        convert("motionsense", truth.root, out)
    assert str(caught.value).endswith("Compare the file with the official archive.")
    assert [one.name for one in tmp_path.iterdir()] == ["raw"]
    path.write_bytes(intact)
    assert convert("motionsense", truth.root, out).n_resumed == 0
    assert validate(out, level="values") == []


def test_a_full_disk_keeps_what_is_done(motionsense_truth: Truth, tmp_path: Path) -> None:
    out = tmp_path / "m.zarr"
    with pytest.raises(OutputError, match=r"\.m\.zarr\.partial: run the same command"):
        convert("motionsense", motionsense_truth.root, out, progress=failing(9, OSError))
    assert convert("motionsense", motionsense_truth.root, out).n_resumed == 9
