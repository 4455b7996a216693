"""What was written once is read forever: archives of every released specification."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmbind_data.publishing.hydrate import hydrate
from mmbind_data.publishing.verify import verify
from mmbind_data.store.bound import open_bound, open_store
from mmbind_data.store.dataset import open_dataset
from mmbind_data.store.differences import diff
from mmbind_data.store.root import read_bundle
from mmbind_data.store.validation import validate
from mmbind_train.data.leak_checks import check_bound
from mmbind_train.data.training_set import gather_bound
from mmbind_train.training.run_folder import load_run

ARCHIVES = sorted((Path(__file__).parent / "archives").glob("v*.zip"))
STORES = ("a.zarr", "b.zarr", "bound.zarr")
BUNDLES = ("index-only", "self-contained")


@pytest.fixture(scope="module", params=ARCHIVES, ids=lambda path: path.stem)
def archive(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp(request.param.stem)
    with zipfile.ZipFile(request.param) as content:
        content.extractall(root)
    return root


@pytest.fixture(scope="module")
def known(archive: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((archive / "known.json").read_text())
    return found


def test_there_is_one_and_it_is_small() -> None:
    assert ARCHIVES[0].stem == "v1"
    assert all(path.stat().st_size < 300_000 for path in ARCHIVES)


@pytest.mark.parametrize("name", [*STORES, *BUNDLES])
def test_stores_and_bundles_are_valid(archive: Path, name: str) -> None:
    found = validate(archive / name, level="values")
    assert [one for one in found if one.severity == "error"] == []
    assert verify(archive / name, depth="values") == []


def test_known_values_are_read(archive: Path, known: dict[str, Any]) -> None:
    store = open_dataset(archive / "a.zarr")
    assert store.info.content_digest == known["converted"]
    np.testing.assert_allclose(store.load("acc")[0, :3].ravel(), known["acc"], atol=5e-5)
    assert store.samples()["label_text"].to_pylist() == known["labels"]
    for name in ("bound.zarr", *BUNDLES):
        bound = open_bound(archive / name)
        assert bound.info.content_digest == known["bound"]
        assert bound.info.n_rows == known["n_rows"]
        rows = bound.pairs().to_pylist()[: len(known["partners"])]
        assert [row["similarity"] for row in rows] == known["similarity"]
        assert [row["gyro.uid"] for row in rows] == known["partners"]


def test_versions_of_bundles(archive: Path, known: dict[str, Any]) -> None:
    for name in BUNDLES:
        bundle = read_bundle(archive / name)
        assert (bundle.spec_version, bundle.data_version, bundle.mode) == ("1.0", "1.0.0", name)
        assert bundle.content_digest == known["bound"]
        assert open_store(archive / name).info.spec_version == "1.0"


def test_rows_can_be_trained_on(archive: Path) -> None:
    rows = [gather_bound(open_bound(archive / name)) for name in ("bound.zarr", "self-contained")]
    check_bound(open_bound(archive / "bound.zarr"), method="mmbind")
    np.testing.assert_array_equal(rows[0].weight, rows[1].weight)
    assert rows[0].present.sum() == rows[1].present.sum() > 0


def test_an_old_bundle_is_hydrated(archive: Path, known: dict[str, Any], tmp_path: Path) -> None:
    places = {f"utd-mhad-{name}": archive / f"{name}.zarr" for name in "ab"}
    info = hydrate(archive / "index-only", tmp_path / "o.zarr", places)
    assert info.content_digest == known["bound"]
    assert diff(tmp_path / "o.zarr", archive / "bound.zarr") == []


def test_a_run_is_loaded(archive: Path, known: dict[str, Any]) -> None:
    info, model = load_run(archive / "run")
    assert info.spec_version == "1.0"
    assert (info.steps, info.final_loss) == (known["steps"], known["final_loss"])
    assert info.data.content_digest == known["bound"]
    assert sum(value.numel() for value in model.parameters()) > 0
