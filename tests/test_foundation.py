"""The example of a foundational dataset: as it is declared, on real bytes of three people."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

from mmbind_data.conversion.convert import convert
from mmbind_data.errors import UsageError
from mmbind_data.store.bound import open_bound
from mmbind_data.store.root import read_bundle

FOLDER = Path(__file__).parents[1] / "examples" / "foundation"


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(FOLDER / "build.py"))


@pytest.mark.realdata
def test_the_example_runs(real_data: Path, tmp_path: Path, script: dict[str, Any]) -> None:
    document = json.loads((FOLDER / "foundation.json").read_text())
    document["sources"][1]["subjects"] = ["1"]
    document["train"]["steps"] = 2
    # one of them is converted already: it is declared by where it lies
    convert("utd-mhad", real_data / "utd-mhad", tmp_path / "worn.zarr", subjects=["2"],
            modalities=["gyro", "acc"])  # fmt: skip
    document["sources"][2] = {"id": "worn", "store": "worn.zarr"}
    declared = tmp_path / "small.json"
    declared.write_text(json.dumps(document))
    result = script["build"](declared, real_data, tmp_path / "out")
    # neither licence says that data may be passed on
    assert result["mode"] == "index-only"
    assert set(result["hops"]) == {0, 1}
    assert list(result["seconds"]) == ["convert", "bind", "publish", "hydrate", "verify", "train"]
    bundle = read_bundle(tmp_path / "out" / "bundle")
    assert bundle.name == "wearable-foundation"
    assert bundle.content_digest == result["content_digest"]
    bound = open_bound(tmp_path / "out" / "away" / "work" / "foundation.zarr")
    assert bound.info.shared == ("acc", "gyro")
    # a row that took both hops holds a modality of each of the three sources
    last = [row for row in bound.pairs().to_pylist() if row["hop"] == 1]
    names = bound.info.modalities
    assert len({row[f"{name}.source"] for row in last for name in names} - {None}) == 3
    card = (tmp_path / "out" / "bundle" / "README.md").read_text()
    assert card.splitlines()[0] == "---"
    assert "# utd-mhad + motionsense, bound by acc, gyro" in card


@pytest.mark.parametrize(
    ("change", "got"),
    [
        ({"hops": ["acc"]}, "3 sources and 1 hops"),
        ({"hop": ["acc"]}, "Extra inputs"),
        ({"sources": [{"id": "x"}]}, "x: give either dataset or store"),
    ],
)
def test_bad_declarations_are_told(
    tmp_path: Path, script: dict[str, Any], change: dict[str, Any], got: str
) -> None:
    document = json.loads((FOLDER / "foundation.json").read_text())
    declared = tmp_path / "bad.json"
    declared.write_text(json.dumps({**document, **change}))
    with pytest.raises(UsageError, match=got):
        script["build"](declared, tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
