"""Every dataset, every way its raw data goes wrong: exit 4, one sentence, nothing left behind."""

from __future__ import annotations

import importlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mmbind_data.datasets import list_datasets

from .conftest import Mmbind

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
    return "first"


DAMAGES: tuple[Damage, ...] = (
    empty_folder, missing, holiday, cut_archive, no_archive, copies_that_differ,
)  # fmt: skip


@pytest.mark.parametrize("name", list_datasets())
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda one: one.__name__)
def test_damaged_raw_data(mmbind: Mmbind, tmp_path: Path, name: str, damage: Damage) -> None:
    writer = importlib.import_module(f"rawdata.{name.replace('-', '_')}")
    raw = writer.write(tmp_path / "raw", rng=np.random.default_rng(7)).root
    named = damage(raw)
    outcome = mmbind("convert", name, raw, tmp_path / "o.zarr", "--json")
    assert outcome.exit_code == 4, outcome
    assert not (tmp_path / "o.zarr").exists()
    assert not list(tmp_path.glob(".*"))
    document = outcome.document
    assert (document["ok"], document["result"]) == (False, None)
    (issue,) = document["issues"]
    message = issue["message"]
    assert named in message, message
    assert re.match(r"cannot [^\n]+: expected [^\n]+, got [^\n]+\.", message), message
    assert "Traceback" not in outcome.stderr


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
