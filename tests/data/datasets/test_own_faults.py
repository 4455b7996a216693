"""A user's own data, wrong in every field: a sentence with the next step, never a traceback."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmbind_data.conversion.convert import convert
from mmbind_data.datasets.own.descriptor import parse_descriptor
from mmbind_data.datasets.own.units import conversion
from mmbind_data.datasets.registry import read_document
from mmbind_data.errors import FormatError, RawLayoutError
from mmbind_data.spec.store import SAMPLE_COLUMNS
from mmbind_data.store.dataset import open_dataset
from mmbind_data.store.validation import validate

ACC: dict[str, Any] = {"columns": ["x"], "unit": "g", "rate_hz": 50}
OWN: dict[str, Any] = {
    "dataset_id": "gloves",
    "title": "Two gloves",
    "path": "{subject}_{label}.csv",
    "modalities": {"acc": ACC},
}


def changed(**changes: Any) -> str:
    return json.dumps({**OWN, **changes})


def acc(**changes: Any) -> str:
    return changed(modalities={"acc": {**ACC, **changes}})


def write(folder: Path, name: str = "s1_sit.csv", n: int = 250) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text("x\n" + "".join(f"{i}\n" for i in range(n)))
    return path


def refused(tmp_path: Path, document: str, sentence: str) -> str:
    """Refuse at converting, with this sentence and nothing left; gives the whole of it."""
    with pytest.raises((FormatError, RawLayoutError), match=sentence) as caught:
        convert("table", tmp_path / "raw", tmp_path / "o.zarr", document=document)
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]
    return str(caught.value)


@pytest.mark.parametrize("name", [one for one in SAMPLE_COLUMNS if one not in
                                  ("subject", "session", "trial", "placement", "environment",
                                   "label")])  # fmt: skip
@pytest.mark.parametrize("pattern", ["{{{}}}_{{other}}.csv", "(?P<{}>s1)_.*"])
def test_a_group_must_not_replace_a_column_of_ours(tmp_path: Path, name: str, pattern: str) -> None:
    write(tmp_path / "raw")
    sentence = rf"path: mmbind writes a column {name} itself, rename that group at"
    refused(tmp_path, changed(path=pattern.format(name)), sentence)


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        (changed(windows={"seconds": 0.001}), r"0\.001 s at 50 Hz are 0 frames, .* raise windows"),
        (changed(windows={"seconds": 1e999}), r"windows.seconds .*less than or equal to 1000000"),
        (changed(windows={"rate_hz": 1e300}), r"windows.rate_hz .*less than or equal to"),
        (acc(rate_hz=float("nan")), r"acc.rate_hz .*finite number"),
        (changed(windows={"mode": "stretch", "frames": {"acc": 0}}), r"frames.acc .*equal to 1"),
        (changed(windows={"mode": "stretch", "frames": {"acc": 10**9}}), r"frames.acc .*100000"),
        (changed(windows={"frames": {"gyro": 5}}), r"windows.frames 'gyro': no modality \(acc\)"),
        (acc(unit="10**10**10*m/s^2"), r"unknown unit .*got '10\*\*10\*\*10\*m/s\^2'\. .*digit\.$"),
        (acc(unit="g" * 5000), r"unknown unit .*got 'g{40}\.\.\.'"),
        (acc(unit="0*g"), "unknown unit"),
        (acc(unit="1e400*g"), "unknown unit"),
        (acc(unit="m/s2"), r"got 'm/s2'\. Did you mean m/s\^2"),
        (acc(time={"column": "x", "unit": "m"}), r"unit of the time of acc .*s, ms, .*got m\."),
        (acc(time={"column": "x", "unit": "sekunde"}), r"unknown unit at time of acc in the desc"),
        (acc(columns=[-1]), r"acc.columns.0 .*a text, or a whole number from 0, got -1"),
        (acc(shape=[0]), r"acc.shape.0 .*equal to 1"),
        (acc(time_axis=-1), r"time_axis .*equal to 0"),
        (acc(time_axis=2), r"time_axis 2, but arrays have 2 axes"),
        (acc(axes=["finger"]), r"axes finger, but each must be another of these: channel, joint"),
        (acc(shape=[1, 1], axes=["joint", "joint"]), r"axes joint, joint, but each"),
        (acc(names=["a", "b"]), r"2 names, but axis channel has 1"),
        (acc(names=["a"], root="b"), r"root 'b' is none of its names"),
        (changed(table={"separator": "\n"}), "table.separator"),
        (changed(table={"separator": "é"}), "table.separator"),
        (changed(table={"skip_lines": 10**30}), "table.skip_lines .*1000000"),
        (changed(title="\ud800"), "broken JSON .*surrogates"),
        ("[" * 100_000, "broken JSON"),
        ("{", r"broken JSON .*line 1 column 2 .*Mend that place, or begin anew with mmbind new-d"),
        ("[]", r"bad value at the descriptor: expected an object \{\.\.\.\}, got \[\]"),
        (changed(modalities={}), r"modalities in .*: expected at least 1 entry, got \{\}"),
        (changed(modalities=[1]), r"modalities in .*: expected an object \{\.\.\.\}, got \[1\]"),
        (changed(modalities={"Acc": ACC}), r"the name modalities.Acc in .*small letters"),
        (changed(title=3), "title in .*: expected a text, got 3"),
        (acc(columns="x"), r"acc.columns in .*: expected a list \[\.\.\.\], got 'x'"),
        (changed(dataset_id="utd-mhad"), "dataset_id of a known dataset .*another dataset_id"),
    ],
)  # fmt: skip
def test_descriptors_that_cannot_be_used(tmp_path: Path, document: str, sentence: str) -> None:
    write(tmp_path / "raw")
    told = refused(tmp_path, document, sentence)
    for jargon in ("OwnDescriptor", "ictionary", "tuple", "[key]", "Input should"):
        assert jargon not in told


def test_the_file_of_a_descriptor_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    for document in (acc(unit="xyz"), changed(title=3), "{", changed(dataset_id="dhg")):
        path.write_text(document)
        with pytest.raises(FormatError, match=r"mine\.json: expected"):
            read_document(path)
    path.write_text(changed())
    assert read_document(path) == changed()


@given(text=st.text(alphabet="0129^*²³¹()/ .e-msq", max_size=45))
def test_no_unit_takes_long(text: str) -> None:
    begin = time.process_time()
    with contextlib.suppress(FormatError):
        assert np.isfinite(conversion(text, "x").scale)
    assert time.process_time() - begin < 2


@pytest.mark.parametrize("text", ["9**9**9**9", "9^9^9^9", "9 cubed cubed cubed cubed",
                                  "9²²²²²²²²²²²²²²", "(((((((9^9)^9)^9)^9)^9)^9)^9)",
                                  "9^(9*9*9*9*9*9*9*9)", "9^99999999999", "9^9e9", "9^9 cubed^9",
                                  "9 cubed²²²²²²"])  # fmt: skip
def test_powers_of_powers_are_not_computed(text: str) -> None:
    begin = time.process_time()
    with pytest.raises(FormatError, match="powers of one digit"):
        conversion(text, "x")
    assert time.process_time() - begin < 0.5


@pytest.mark.parametrize(("text", "scale"), [("m s^-2", 1), ("m*s**-2", 1), ("km/h**2", 1 / 12960),
                                             ("cm·s⁻²", 0.01),
                                             ("m/s squared", 1), ("2^10 m/s^2", None)])  # fmt: skip
def test_powers_that_units_have(text: str, scale: float | None) -> None:
    if scale is None:
        with pytest.raises(FormatError):
            conversion(text, "x")
        return
    got = conversion(text, "x")
    assert got.unit == "m/s^2"
    assert got.scale == pytest.approx(scale)


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux alone")
def test_a_file_name_that_is_no_text(tmp_path: Path) -> None:
    write(tmp_path / "raw")
    os.rename(tmp_path / "raw" / "s1_sit.csv", os.fsencode(tmp_path / "raw") + b"/s\xff_sit.csv")  # noqa: PTH104
    told = refused(tmp_path, changed(), r"a name that is no UTF-8 text .*Rename that file")
    assert r"s\udcff_sit.csv" in told


def test_names_of_columns_do_not_fit_an_array(tmp_path: Path) -> None:
    write(tmp_path / "raw")
    np.save(tmp_path / "raw" / "s1_sit.npy", np.zeros((250, 3)))
    refused(tmp_path, changed(path="{subject}_{label}.npy"), "positions: arrays have no column nam")


def test_labels_that_are_not_listed_are_named(tmp_path: Path) -> None:
    for name in ("s1_sit.csv", "s1_walk.csv", "s2_sit.csv"):
        write(tmp_path / "raw", name)
    sentence = r"no recording of a listed label at raw: expected one of the labels run, " \
        r"got 3 recordings of sit, walk\. Add them to labels"  # fmt: skip
    refused(tmp_path, changed(labels={"run": "running"}), sentence)


def test_two_raw_labels_may_have_one_text(tmp_path: Path) -> None:
    for name in ("s1_sit.csv", "s1_seat.csv", "s1_run.csv"):
        write(tmp_path / "raw", name)
    document = changed(labels={"sit": "sitting", "seat": "sitting", "run": "running"})
    store = open_dataset(convert("table", tmp_path / "raw", tmp_path / "o", document=document).path)
    assert store.names("label") == ("sitting", "running")
    assert store.info.labels == {"sitting": 4, "running": 2}
    assert validate(tmp_path / "o", level="values") == []


def test_too_short_recordings_say_how_long_they_are(tmp_path: Path) -> None:
    write(tmp_path / "raw", n=40)
    write(tmp_path / "raw", "s2_sit.csv", n=60)
    sentence = r"as long as a window, 100 frames \(2 s\), got at most 60 frames \(1\.2 s\) " \
        r"without a gap, in raw/s2_sit\.csv\. Lower windows\.seconds"  # fmt: skip
    refused(tmp_path, changed(), sentence)


def test_a_gap_shortens_what_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "raw", n=150)
    lines = path.read_text().split("\n")
    lines[71:81] = ["nan"] * 10
    path.write_text("\n".join(lines))
    sentence = r"got at most 70 frames \(1\.4 s\) without a gap.*windows over gaps dropped: 1"
    refused(tmp_path, changed(missing="gap"), sentence)


def test_streams_without_common_time(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    for name, begin in (("acc", 0), ("mag", 60)):
        rows = "".join(f"{begin + i / 50},{i}\n" for i in range(250))
        (tmp_path / "raw" / f"s1_{name}.csv").write_text("t,x\n" + rows)
    one = {"columns": ["x"], "time": {"column": "t"}}
    document = changed(
        path=None,
        modalities={
            "acc": {**one, "unit": "g", "path": "{subject}_acc.csv"},
            "mag": {**one, "unit": "uT", "path": "{subject}_mag.csv"},
        },
    )
    refused(tmp_path, document, "recordings whose streams have no time in common, left out: 1")


def test_a_stray_time_does_not_fill_the_memory(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    rows = "".join(f"{i / 50},{i}\n" for i in range(250))
    (tmp_path / "raw" / "s1_sit.csv").write_text(f"t,x\n{rows}1e15,1\n")
    sentence = r"cannot .*s1_sit\.csv"
    refused(tmp_path, acc(rate_hz=None, time={"column": "t"}), sentence)


def test_a_number_beyond_float32_has_no_official_archive(tmp_path: Path) -> None:
    path = write(tmp_path / "raw")
    path.write_text(path.read_text().replace("\n7\n", "\n1e300\n"))
    told = refused(tmp_path, changed(), "holds a value that float32 cannot .*Mend the file")
    assert "official" not in told


def test_any_value_in_any_field_is_used_or_refused() -> None:
    values: list[Any] = [None, True, -1, 0, 10**400, 1e308, "", "x", "\0", [], [[]], {}, {"": 1}]
    whole = json.loads(changed(labels={"a": "b"}, table={}, windows={}, licence={
        "name": "n", "redistribution": "allow", "source": "s"}))  # fmt: skip

    def places(value: Any) -> list[tuple[Any, Any]]:
        keys = list(value) if isinstance(value, dict) else range(len(value))
        own = [(value, key) for key in keys]
        inner = [value[key] for key in keys if isinstance(value[key], dict | list)]
        return own + [place for one in inner for place in places(one)]

    for holder, key in places(whole):
        kept = holder[key]
        for value in values:
            holder[key] = value
            with contextlib.suppress(FormatError):
                parse_descriptor(json.dumps(whole))
        holder[key] = kept
