"""Every dataset, every way its raw data goes wrong: exit 4, one sentence, nothing left behind."""

from __future__ import annotations

import importlib
import io
import json
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from mmbind_data.datasets.registry import list_datasets, load_descriptor, load_reader_module
from mmbind_data.raw.files import scan

from .conftest import Mmbind, Outcome

Damage = Callable[[Path], str]


def empty_folder(raw: Path) -> str:
    shutil.rmtree(raw)
    raw.mkdir()
    return str(raw)


def missing(raw: Path) -> str:
    shutil.rmtree(raw)
    return str(raw)


def holiday(raw: Path) -> str:
    empty_folder(raw)
    (raw / "beach.tif").write_bytes(b"II*\0")
    return str(raw)


def cut_archive(raw: Path) -> str:
    packed = Path(shutil.make_archive(str(raw), "zip", raw))
    packed.write_bytes(packed.read_bytes()[:-200])
    shutil.rmtree(raw)
    raw.mkdir()
    packed.rename(raw / packed.name)
    return packed.name


def no_archive(raw: Path) -> str:
    empty_folder(raw)
    (raw / "data.zip").write_bytes(b"Rar!\x1a\7\0" + bytes(100))
    return "data.zip"


def copies_that_differ(raw: Path) -> str:
    """The same tree twice, the data of the second other bytes, as many."""
    inner = raw.with_name("inner")
    raw.rename(inner)
    raw.mkdir()
    shutil.copytree(inner, raw / "first")
    shutil.copytree(inner, raw / "second")
    for path in sorted((raw / "second").rglob("*")):
        if path.is_file() and not re.search(r"readme|\.md$|\.pdf$|\._|DS_Store", path.name, re.I):
            content = path.read_bytes()
            path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]) if content else b"\n")
    shutil.rmtree(inner)
    return "two different copies of "


DAMAGES: tuple[Damage, ...] = (
    empty_folder, missing, holiday, cut_archive, no_archive, copies_that_differ,
)  # fmt: skip


def write_raw(root: Path, name: str) -> Path:
    """Raw data of a dataset, always the same."""
    writer = importlib.import_module(f"rawdata.{name.replace('-', '_')}")
    written: Path = writer.write(root, rng=np.random.default_rng(7)).root
    return written


def assert_refused(outcome: Outcome, out: Path, named: str) -> None:
    """Hold a refusal against what each must be: one sentence, and nothing but the raw data left."""
    assert outcome.exit_code == 4, outcome
    assert not out.exists()
    assert not list(out.parent.glob(".*"))
    document = outcome.document
    assert (document["ok"], document["result"]) == (False, None)
    (issue,) = document["issues"]
    message = issue["message"]
    assert named in message, message
    assert re.match(r"cannot [^\n]+: expected [^\n]+, got [^\n]+\.", message), message
    assert "Traceback" not in outcome.stderr


@pytest.mark.parametrize("name", list_datasets())
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda one: one.__name__)
def test_damaged_raw_data(mmbind: Mmbind, tmp_path: Path, name: str, damage: Damage) -> None:
    raw = write_raw(tmp_path / "raw", name)
    named = damage(raw)
    outcome = mmbind("convert", name, raw, tmp_path / "o.zarr", "--json")
    assert_refused(outcome, tmp_path / "o.zarr", named)


OWN = {
    "dataset_id": "gloves",
    "title": "Gloves",
    "path": "{subject}/{label}.csv",
    "modalities": {
        "acc": {
            "columns": ["attr_x", "attr_y", "attr_z"],
            "unit": "m/s^2",
            "rate_hz": 50,
            "time": {"column": "attr_time", "unit": "ms"},
        }
    },
}


@pytest.mark.parametrize("name", ["realworld", "table"])
@pytest.mark.parametrize(("row", "time"), [(0, 0), (-1, 9_999_999_999_999_999)])
def test_one_absurd_time(mmbind: Mmbind, tmp_path: Path, name: str, row: int, time: int) -> None:
    times = [1_435_993_159_412 + 20 * k for k in range(600)]
    times[row] = time
    lines = [f"{k},{one},0.5,1.5,9.81" for k, one in enumerate(times)]
    folder = {"realworld": "proband1/data/acc_walking_csv", "table": "s1"}[name]
    path = tmp_path / "raw" / folder / "acc_walking_waist.csv"
    path.parent.mkdir(parents=True)
    path.write_text("\n".join(["id,attr_time,attr_x,attr_y,attr_z", *lines]))
    (tmp_path / "own.json").write_text(json.dumps(OWN))
    options = ("--descriptor", tmp_path / "own.json") if name == "table" else ()
    outcome = mmbind("convert", name, tmp_path / "raw", tmp_path / "o.zarr", *options, "--json")
    assert outcome.exit_code == 4, outcome
    assert sorted(one.name for one in tmp_path.iterdir()) == ["own.json", "raw"]
    (issue,) = outcome.document["issues"]
    pattern = rf" at {path}: expected 600 samples .*got (\S+) m?s followed by (\S+) m?s\. Mend"
    named = re.search(pattern, issue["message"])
    assert named, issue["message"]
    scale = 1e-3 if name == "table" else 1
    assert float(named[1 if row == 0 else 2]) == pytest.approx(time * scale, rel=1e-12)


# damage that only reading a file shows, in the last unit that has one of its kind

Spoil = Callable[[bytes, str], bytes | None]
TEXT = frozenset({".csv", ".txt", ".dat"})
NUMBER = re.compile(rb"-?[0-9]+\.[0-9]+(e[-+]?[0-9]+)?", re.I)
LISTED = re.compile(rb"(?<=[\[ ])-?[0-9]+(\.[0-9]+)?(e[-+]?[0-9]+)?(?=[,\]])", re.I)


@dataclass(frozen=True)
class Last:
    """A file of the last unit that has one of its kind, and how many units come behind it."""

    kind: str
    file: Path
    n_behind: int


def truncated(content: bytes, suffix: str) -> bytes | None:
    """The first half; of a table no whole row more than that."""
    if suffix not in TEXT:
        return content[: len(content) // 2]
    end = content.find(b"\n", len(content) // 2) + 1
    row = content[end:].partition(b"\n")[0]
    return content[: end + len(row) // 2] if end else content[: len(content) // 2]


def overwritten(content: bytes, suffix: str) -> bytes | None:
    """As many bytes that mean nothing; None where any bytes are numbers."""
    return (
        None
        if suffix == ".bin"
        else (bytes(range(128, 256)) * (len(content) // 128 + 1))[: len(content)]
    )


def not_finite(content: bytes, suffix: str) -> bytes | None:
    """The last value of an array, or the last row of a table, infinite; None of images."""
    if suffix == ".bin":
        return content[:-8] + np.array([np.inf]).tobytes()
    if suffix in TEXT:
        before, end, row = content.rstrip().rpartition(b"\n")
        first = re.match(rb"[^ ,\t]*", row)  # the time, whose damage is another one
        assert first is not None
        return before + end + first[0] + NUMBER.sub(b"inf", row[first.end() :])
    if suffix == ".json":
        return LISTED.sub(b"Infinity", content)
    stream = io.BytesIO()
    if suffix == ".npy":
        np.save(stream, _ending_infinite(np.load(io.BytesIO(content))))
    elif suffix == ".npz":
        (array,) = np.load(io.BytesIO(content)).values()
        np.savez(stream, _ending_infinite(array))  # under the name arr_0
    elif suffix == ".mat":
        variables = scipy.io.loadmat(io.BytesIO(content))
        arrays = {key: variables[key] for key in variables if not key.startswith("__")}
        spoilt = {key: _ending_infinite(array) for key, array in arrays.items()}
        scipy.io.savemat(stream, spoilt)
    return stream.getvalue() or None


def _ending_infinite(array: np.ndarray) -> np.ndarray:
    changed = array.astype(np.float64)
    changed.flat[-1] = np.inf
    return changed


SPOILS: tuple[Spoil, ...] = (truncated, overwritten, not_finite)
# What readers take by design, and tell: dataset, kind of file, damage -> the count that grows.
TOLD: Mapping[tuple[str, str, str], str] = {
    ("sun-rgbd", "semseg", "truncated"): "annotations that are no JSON",
    ("sun-rgbd", "semseg", "overwritten"): "annotations that are no JSON",
    ("sun-rgbd", "semseg", "not_finite"): "annotations without a usable polygon",
    ("mmfi", "wifi-csi", "not_finite"): "wifi_csi values not finite, replaced by the mean",
}
# Read only where another file is missing or broken; its own test damages it there.
SPARE = {("sun-rgbd", "seg")}


def last_files(name: str, raw: Path) -> list[Last]:
    """One file of each kind; lists that all units share fail with the first and are left out."""
    descriptor = load_descriptor(name)
    options = {key: option.default for key, option in descriptor.options.items()}
    units = load_reader_module(name).find(scan(raw), "default", **options).units
    found: dict[str, Last] = {}
    times: dict[Path, int] = {}
    for index, unit in enumerate(units):
        files = unit.narrowed(descriptor.presets["default"].modalities).files
        for role, file in files.items():
            kind = re.sub(r"[_ /]?[0-9]+$", "", role)
            found[kind] = Last(kind, file.container, len(units) - 1 - index)
            times[file.container] = times.get(file.container, 0) + 1
    assert len(units) > 1
    read = (one for one in found.values() if (name, one.kind) not in SPARE)
    return [one for one in read if times[one.file] == 1]


def counts(outcome: Outcome) -> dict[str, int]:
    """Remarks that end with a number, by what stands before it."""
    messages = [issue["message"] for issue in outcome.document["issues"]]
    told = [re.fullmatch(r"(.+): ([0-9]+)", message) for message in messages]
    return {match[1]: int(match[2]) for match in told if match}


@pytest.mark.parametrize("name", list_datasets())
def test_damaged_content_of_the_last_unit(mmbind: Mmbind, tmp_path: Path, name: str) -> None:
    raw, out = write_raw(tmp_path / "raw", name), tmp_path / "o.zarr"
    convert = ("convert", name, raw, out, "--json", "--overwrite")
    n_refused_at_end = 0
    for last in last_files(name, raw):
        whole = last.file.read_bytes()
        for spoil in SPOILS:
            content = spoil(whole, last.file.suffix)
            if content in (None, whole):
                continue
            last.file.write_bytes(content)
            outcome = mmbind(*convert)
            remark = TOLD.get((name, last.kind, spoil.__name__))
            if remark is None:
                assert_refused(outcome, out, last.file.name)
                n_refused_at_end += last.n_behind == 0
                continue
            assert outcome.exit_code == 0, outcome
            last.file.write_bytes(whole)
            before, after = counts(mmbind(*convert)), counts(outcome)
            (key,) = (one for one in after if one.startswith(remark))
            assert after[key] == before.get(key, 0) + 1
            shutil.rmtree(out)
        last.file.write_bytes(whole)
    assert n_refused_at_end >= 2, "all units before were read in vain"
