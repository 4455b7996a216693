"""A user's mistake gets one clear sentence, the documented exit code, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from rawdata import motionsense, utd_mhad

from .conftest import Mmbind, Outcome, Workshop


def assert_refused(outcome: Outcome, exit_code: int, *words: str) -> None:
    """One line on stderr, in the shape of every message."""
    assert outcome.exit_code == exit_code, outcome
    assert outcome.stdout == ""
    lines = outcome.stderr.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: cannot ")
    assert "Traceback" not in outcome.stderr
    for word in (*words, "expected", "got"):
        assert word in lines[0]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """An empty folder for outputs; nothing half-written may be in it afterwards."""
    folder = tmp_path / "place"
    folder.mkdir()
    yield folder
    assert list(folder.iterdir()) == []


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A small MotionSense to spoil."""
    rng = np.random.default_rng(0)
    motionsense.write(tmp_path / "raw", rng=rng, subjects=(1, 2), trials=("wlk_7", "sit_5"))
    return tmp_path / "raw"


def csv(raw: Path) -> Path:
    return raw / "A_DeviceMotion_data" / "sit_5" / "sub_2.csv"


def test_zip_with_a_damaged_member(mmbind: Mmbind, raw: Path, tmp_path: Path, place: Path) -> None:
    packed = tmp_path / "A_DeviceMotion_data.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        archive.write(csv(raw), "A_DeviceMotion_data/sit_5/sub_2.csv")
    content = bytearray(packed.read_bytes())
    content[5000] ^= 4
    packed.write_bytes(content)
    assert_refused(
        mmbind("convert", "motionsense", packed, place / "o.zarr"), 4, "sub_2.csv", "CRC"
    )


@pytest.mark.parametrize("value", ["NaN", "", "nan", "12,5", "abc", "1e39"])
def test_a_value_that_is_no_number(mmbind: Mmbind, raw: Path, place: Path, value: str) -> None:
    """Nor one of float32."""
    lines = csv(raw).read_text().splitlines()
    cells = lines[120].split(",")
    cells[7] = value
    lines[120] = ",".join(cells)
    csv(raw).write_text("\n".join(lines) + "\n")
    outcome = mmbind("convert", "motionsense", raw, place / "o.zarr", "--subjects", 2)
    assert_refused(outcome, 4, "sub_2.csv", *(["gyro"] if value == "1e39" else []))


@pytest.mark.parametrize("workers", [1, 3])
def test_a_broken_unit_leaves_nothing(
    mmbind: Mmbind, raw: Path, tmp_path: Path, workers: int
) -> None:
    """One next step, and no hidden folder: the file has to be mended before anything else."""
    whole = csv(raw).read_text()
    csv(raw).write_bytes(b"")
    out = tmp_path / "o.zarr"
    outcome = mmbind("convert", "motionsense", raw, out, "--workers", workers)
    assert_refused(outcome, 4, "sub_2.csv", "Compare the file with the official archive.")
    assert "run the same command" not in outcome.stderr
    assert not list(tmp_path.glob("*o.zarr*"))
    csv(raw).write_text(whole)
    outcome = mmbind("convert", "motionsense", raw, out, "--json")
    assert outcome.document["result"]["n_resumed"] == 0
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("convert", "motionsens", "RAW", "OUT"), ("Did you mean motionsense?",)),
        (("convert", "utd-mhad", "RAW", "OUT", "--modalities", "skelton"), ("skeleton?",)),
        (("convert", "utd-mhad", "RAW", "OUT", "--preset", "defualt"), ("default?",)),
        (("convert", "utd-mhad", "RAW", "OUT", "--subjects", "99"), ("1, 2, 3, 4",)),
        (("convert", "utd-mhad", "RAW", "OUT", "--workers", "0"), ("1 or more",)),
        (("partition", "UTD", "OUT", "--modalities", "giro"), ("gyro?",)),
        (("partition", "UTD", "OUT", "--subjects", "9"), ("1, 2, 3, 4",)),
        (("bind", "--shared", "ac", "A", "B", "-o", "OUT"), ("acc?",)),
        (("train", "BOUND", "-o", "OUT", "--method", "mmbin"), ("Did you mean mmbind",)),
    ],
)
def test_unknown_names_suggest_the_close_one(
    mmbind: Mmbind, workshop: Workshop, place: Path, command: tuple[str, ...], words: tuple[str]
) -> None:
    paths = {
        "RAW": workshop.utd_raw,
        "OUT": place / "o.zarr",
        "UTD": workshop.store("utd"),
        "A": workshop.store("A"),
        "B": workshop.store("B"),
        "BOUND": workshop.store("bound"),
    }
    assert_refused(mmbind(*(paths.get(part, part) for part in command)), 2, *words)


def test_unknown_command_suggests(mmbind: Mmbind) -> None:
    outcome = mmbind("convrt")
    assert outcome.exit_code == 2
    assert "Did you mean convert" in outcome.stderr


def test_store_of_the_wrong_kind(mmbind: Mmbind, workshop: Workshop, place: Path) -> None:
    a, bound = workshop.store("A"), workshop.store("bound")
    for other in (bound, workshop.store("utd")):
        outcome = mmbind("bind", "--shared", "acc", a, other, "-o", place / "o")
        assert_refused(outcome, 4, "same samples")
    assert_refused(mmbind("partition", bound, place / "o"), 4, "mmbind-dataset")
    assert_refused(mmbind("train", a, "-o", place / "o"), 2, "bound store")
    assert_refused(mmbind("info", workshop.utd_raw), 4, str(workshop.utd_raw))
    assert_refused(mmbind("info", workshop.folder / "nothing.zarr"), 4, "nothing")
    assert_refused(mmbind("validate", workshop.utd_raw / "Inertial"), 4)


def test_output_that_exists(mmbind: Mmbind, workshop: Workshop) -> None:
    a, b, bound = (workshop.store(name) for name in ("A", "B", "bound"))
    before = {path: path.read_bytes() for path in a.rglob("*") if path.is_file()}
    assert_refused(mmbind("convert", "utd-mhad", workshop.utd_raw, a), 4, "--overwrite")
    assert_refused(mmbind("partition", workshop.store("utd"), a), 4, "--overwrite")
    assert_refused(mmbind("bind", "--shared", "acc", a, b, "-o", a), 4, "one of the inputs")
    assert_refused(mmbind("bind", "--shared", "acc", a, b, "-o", bound), 4, "--overwrite")
    assert_refused(mmbind("train", bound, "-o", a), 4, "one of the inputs")
    assert_refused(mmbind("train", bound, "-o", bound, "--overwrite"), 4, "one of the inputs")
    assert_refused(mmbind("train", bound, "-o", workshop.store("C"), "--overwrite"), 4, "no run")
    assert_refused(mmbind("partition", a, a / "sub.zarr"), 4, "inside")
    assert before == {path: path.read_bytes() for path in a.rglob("*") if path.is_file()}


def test_overwrite_spares_a_folder_of_somebody_else(
    mmbind: Mmbind, workshop: Workshop, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.txt").write_text("years of work")
    command = ("convert", "utd-mhad", workshop.utd_raw, home, "--overwrite")
    assert_refused(mmbind(*command), 4, str(home))
    assert (home / "thesis.txt").read_text() == "years of work"


def test_output_that_cannot_be_written(mmbind: Mmbind, workshop: Workshop, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    a, b, bound = (workshop.store(name) for name in ("A", "B", "bound"))
    # below a file, and on a file system that nobody can write to, not even root
    for out in (tmp_path / "file" / "o.zarr", Path("/proc/mmbind-o.zarr")):
        assert_refused(mmbind("convert", "utd-mhad", workshop.utd_raw, out), 4, str(out.parent))
        assert_refused(mmbind("partition", workshop.store("utd"), out), 4, str(out.parent))
        assert_refused(mmbind("bind", "--shared", "acc", "--embed", "raw", a, b, "-o", out), 4)
        assert_refused(mmbind("train", bound, "-o", out, "--steps", 1), 4)


def test_test_subjects_that_were_trained_on(
    mmbind: Mmbind, workshop: Workshop, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert mmbind("train", workshop.store("bound"), "-o", run, "--steps", 1).exit_code == 0
    stores = ("--finetune", workshop.store("C"), "--test", workshop.store("utd"))
    outcome = mmbind("evaluate", run, *stores, "--seeds", 1, "--steps", 1)
    assert_refused(outcome, 3, "subject")


def test_source_that_moved(mmbind: Mmbind, workshop: Workshop, tmp_path: Path) -> None:
    a, b = (shutil.copytree(workshop.store(name), tmp_path / f"{name}.zarr") for name in "AB")
    bound = tmp_path / "bound.zarr"
    mmbind("bind", "--shared", "acc", "--embed", "raw", a, b, "-o", bound)
    moved = a.rename(tmp_path / "elsewhere.zarr")
    run = tmp_path / "run"
    outcome = mmbind("train", bound, "-o", run, "--steps", 1)
    assert_refused(outcome, 4, "--source utd-mhad-A=PATH")
    source = f"utd-mhad-A={moved}"
    assert mmbind("train", bound, "-o", run, "--steps", 1, "--source", source).exit_code == 0
    wrong = f"utd-mhad-A={b}"
    outcome = mmbind("train", bound, "-o", run, "--steps", 1, "--source", wrong, "--overwrite")
    assert_refused(outcome, 4, "content digest")


@pytest.mark.parametrize("value", ["", ",", "1,,2"])
def test_an_empty_list_does_not_mean_everything(
    mmbind: Mmbind, workshop: Workshop, place: Path, value: str
) -> None:
    outcome = mmbind("partition", workshop.store("utd"), place / "o", "--subjects", value)
    assert outcome.exit_code == 2
    assert "expected names separated by commas" in outcome.stderr


def test_options_that_would_do_nothing_are_refused(
    mmbind: Mmbind, workshop: Workshop, place: Path
) -> None:
    stores = (workshop.store("A"), workshop.store("B"), "-o", place / "o")
    for options in (
        ("--shared", "acc", "--label-model", "x"),
        ("--shared", "label", "--embed", "raw"),
        ("--shared", "label", "--steps", "3"),
    ):
        outcome = mmbind("bind", *stores, *options)
        assert outcome.exit_code == 2
        assert f"{options[2]} is not used" in outcome.stderr


def test_a_training_that_diverges_is_no_success(
    mmbind: Mmbind, workshop: Workshop, tmp_path: Path, place: Path
) -> None:
    config = tmp_path / "wild.json"
    config.write_text('{"budget": {"steps": 30, "learning_rate": 1e30}}')
    outcome = mmbind("train", workshop.store("bound"), "-o", place / "o", "--config", config, "-q")
    assert_refused(outcome, 3, "learning rate")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", r"unreadable at \S+/c.json: expected a JSON object, got a list. Give a file with"),
        ("{", r"unreadable at \S+/c.json: expected a JSON object, got Expecting property name"),
        ('"x"', "expected a JSON object, got a str"),
        ('{"temperature": -1}',
         r"bad value at temperature in \S+/c.json: expected a number greater than 0, got -1. "
         r"Leave it out for the default, 0.07"),
        ('{"budget": {"batch": 1}}',
         r"budget.batch in \S+/c.json: expected a number greater than or equal to 2, got 1. Leave"),
        ('{"seeds": 1}',
         r"unknown field at seeds in \S+/c.json: expected a field of the schema, got 1. Did you "
         "mean seed"),
        ('{"loss": {"reductoin": "sum"}}', "at loss.reductoin in .*Did you mean reduction"),
        ('{"budget": 3}', r"bad value at budget in \S+/c.json: .* got 3. Leave it out"),
        ('{"budget": {"steps": 1, "epochs": 1}}',
         r"give either steps or epochs at budget in \S+/c.json: expected values that agree, got"),
        (None, r"unreadable at \S+/c.json: expected a JSON object, got a folder. Give a file"),
    ],
)  # fmt: skip
def test_a_config_that_is_none(
    mmbind: Mmbind, workshop: Workshop, tmp_path: Path, place: Path, text: str | None, message: str
) -> None:
    config = tmp_path / "c.json"
    if text is None:
        config.mkdir()
    else:
        config.write_text(text)
    command = ("train", workshop.store("bound"), "-o", place / "o", "--config", config)
    outcome = mmbind(*command, "--steps", 1) if text == '{"budget": 3}' else mmbind(*command)
    assert_refused(outcome, 2, "configuration")
    assert re.search(message, outcome.stderr), outcome.stderr
    assert "Input should" not in outcome.stderr


def test_a_bad_option_is_not_said_to_be_in_the_config(
    mmbind: Mmbind, workshop: Workshop, tmp_path: Path
) -> None:
    (tmp_path / "c.json").write_text('{"dropout": 0.1}')
    nodes = ("--finetune", workshop.store("C"), "--test", workshop.store("T"))
    options = ("--label-fraction", 2, "--config", tmp_path / "c.json")
    outcome = mmbind("evaluate", tmp_path, *nodes, *options)
    assert_refused(outcome, 2, "bad value at label_fraction in the options", "less than or equal")


@pytest.mark.parametrize("role", ["inertial", "skeleton"])
def test_a_number_beyond_float32_between_frames(
    mmbind: Mmbind, tmp_path: Path, place: Path, role: str
) -> None:
    """Stretching it makes NaN: the one sentence of `assert_refused` has no warning before it."""
    utd_mhad.write(tmp_path / "utd", rng=np.random.default_rng(0), subjects=(1,))
    path = tmp_path / "utd" / role.capitalize() / f"a1_s1_t1_{role}.mat"
    name = {"inertial": "d_iner", "skeleton": "d_skel"}[role]
    values = scipy.io.loadmat(path)[name].astype(np.float64)
    time_axis = {"inertial": 0, "skeleton": 2}[role]
    np.moveaxis(values, time_axis, 0)[5] = 1e39
    scipy.io.savemat(path, {name: values})
    outcome = mmbind("convert", "utd-mhad", tmp_path / "utd", place / "o.zarr")
    assert_refused(outcome, 4, f"a1_s1_t1_{role}.mat", "numbers below 3.4e38")


def test_unknown_raw_files_are_told(mmbind: Mmbind, raw: Path, tmp_path: Path) -> None:
    (csv(raw).parent / "sub_2 (1).csv").write_bytes(csv(raw).read_bytes())
    outcome = mmbind("convert", "motionsense", raw, tmp_path / "o.zarr")
    assert "1 files are not part of the dataset" in outcome.stderr
    assert "sub_2 (1).csv" in outcome.stderr


def test_samples_without_any_input_are_not_scored(
    mmbind: Mmbind, workshop: Workshop, tmp_path: Path
) -> None:
    """Depth exists for one trial of subject 3 alone: a test by depth judges that one."""
    nodes = {}
    for node, subject in (("N", "1"), ("D", "3")):
        nodes[node] = tmp_path / f"{node}.zarr"
        options = ("--subjects", subject, "--modalities", "acc,depth")
        mmbind("partition", workshop.store("utd"), nodes[node], *options)
    run = tmp_path / "run"
    mmbind("train", nodes["N"], "-o", run, "--method", "upper_bound", "--steps", 1)
    other = tmp_path / "other.zarr"
    mmbind("partition", workshop.store("utd"), other, "--subjects", "4")
    stores = ("--finetune", other, "--test", nodes["D"], "--seeds", 1, "--steps", 1)
    scored = mmbind("evaluate", run, *stores, "--modalities", "acc,depth", "--json")
    assert scored.document["result"]["n_test"] == 15
    assert scored.document["result"]["n_test_without_input"] == 0
    outcome = mmbind("evaluate", run, *stores, "--modalities", "depth")
    assert_refused(outcome, 4, "no labelled samples with such inputs")


def test_usage_errors_are_documents_too(mmbind: Mmbind) -> None:
    for words in (("convert", "x"), ("train", "a", "-o", "b", "--steps", "x"), ("nope",)):
        outcome = mmbind(*words, "--json")
        assert outcome.exit_code == 2
        assert outcome.document["ok"] is False
        assert outcome.document["issues"][0]["code"] == "usage"


def test_json_errors_are_documents(mmbind: Mmbind) -> None:
    outcome = mmbind("info", "/nowhere", "--json")
    assert outcome.exit_code == 4
    document = outcome.document
    assert document["ok"] is False
    assert document["issues"][0]["code"] == "format"
    assert "/nowhere" in document["issues"][0]["message"]


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux alone")
def test_a_stray_file_whose_name_is_no_text_is_told(mmbind: Mmbind, tmp_path: Path) -> None:
    raw, descriptor = tmp_path / "raw", tmp_path / "own.json"
    raw.mkdir()
    (raw / "s1.csv").write_text("x\n" + "1\n" * 100)
    Path(os.fsdecode(os.fsencode(raw) + b"/s\xff.bin")).write_bytes(b"1")
    modality = {"columns": ["x"], "unit": "g", "rate_hz": 50}
    own = {"dataset_id": "own", "title": "t", "path": "{subject}.csv"}
    descriptor.write_text(json.dumps({**own, "modalities": {"acc": modality}}))
    words = ("convert", "table", raw, tmp_path / "o.zarr", "--descriptor", descriptor, "--json")
    outcome = mmbind(*words, "--dry-run")
    assert outcome.document["result"]["unrecognised"] == [r"raw/s\udcff.bin"]
    assert mmbind(*words).exit_code == 0


def test_a_broken_descriptor_is_named(mmbind: Mmbind, tmp_path: Path, place: Path) -> None:
    descriptor = tmp_path / "own.json"
    descriptor.write_text("{")
    outcome = mmbind("convert", "table", tmp_path, place / "o.zarr", "--descriptor", descriptor)
    assert_refused(outcome, 4, str(descriptor), "Mend that place")
