"""Binding by location through the command line, against distances computed by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from smallstores import write_small_store

from mmbind_data.store.bound import open_bound

from .conftest import Mmbind

N = 18
METRES_PER_DEGREE = 6_371_008.8 * math.pi / 180


def places(seed: int) -> list[tuple[float, float]]:
    """Metres east and north, in a square of 60 m."""
    east, north = np.random.default_rng(seed).uniform(0, 60, size=(2, N))
    return list(zip(east.tolist(), north.tolist(), strict=True))


def store(folder: Path, name: str, modality: str, **columns: list[object]) -> Path:
    subjects = ("1", "2") if name == "a" else ("3", "4")
    return write_small_store(folder / f"{name}.zarr", dataset_id=f"set-{name}", subjects=subjects,
                             frames={modality: 24}, extra=columns)  # fmt: skip


@pytest.mark.parametrize("globe", [True, False])
@pytest.mark.parametrize("text", [True, False])
def test_the_nearest_within_the_window_is_the_partner(
    mmbind: Mmbind, tmp_path: Path, globe: bool, text: bool
) -> None:
    sides = {"a": places(1), "b": places(2)}
    stores = []
    for name, modality in (("a", "acc"), ("b", "gyro")):
        east, north = (list(one) for one in zip(*sides[name], strict=True))
        if globe:  # at the equator a degree is as long either way
            columns = {
                "lat": [value / METRES_PER_DEGREE for value in north],
                "lon": [value / METRES_PER_DEGREE for value in east],
            }
        else:
            columns = {"x": east, "y": north}
        told = {key: [str(v) if text else v for v in values] for key, values in columns.items()}
        for values in told.values():  # nobody knows where the last sample of A was taken
            values[-1] = None if name == "a" else values[-1]
        stores.append(store(tmp_path, name, modality, **told))
    done = mmbind("bind", "--shared", "location", "--window", 8, *stores, "-o", tmp_path / "o",
                  "--json")  # fmt: skip
    assert done.exit_code == 0, done.stderr
    bound = open_bound(tmp_path / "o")
    row_of = {
        uid: row
        for source in bound.info.sources
        for row, uid in enumerate(bound.source(source.source_id).samples()["uid"].to_pylist())
    }
    got = {}
    for row in bound.pairs().to_pylist():
        if row["kind"] == "pseudo":
            names = row["acc.uid"], row["gyro.uid"]
            partner = names[names[0] == row["anchor_uid"]]
            got[row["anchor_uid"]] = (row_of[partner], row["similarity"])
    n_found = 0
    for own, other in (("a", "b"), ("b", "a")):
        uids = bound.source(f"set-{own}").samples()["uid"].to_pylist()
        for row, uid in enumerate(uids):
            near = [
                (math.dist(sides[own][row], sides[other][k]), k)
                for k in range(N)
                if not (own == "a" and row == N - 1) and not (other == "a" and k == N - 1)
            ]
            distance, partner = min(near, default=(math.inf, -1))
            if distance > 8:
                assert uid not in got
                continue
            n_found += 1
            assert got[uid][0] == partner
            assert got[uid][1] == pytest.approx(1 - distance / 8, abs=2e-4)
    assert len(got) == n_found
    assert 10 < n_found < 2 * N
    binder = bound.info.binder[0]
    assert (binder.shared, binder.metric, binder.recipe) == ("location",) * 3
    columns_told = ["lat", "lon"] if globe else ["x", "y"]
    assert binder.embedding == {"name": "location", "window_m": 8.0, "columns": columns_told}
    assert mmbind("validate", tmp_path / "o", "--level", "values").exit_code == 0
    assert mmbind("report", tmp_path / "o", "-o", tmp_path / "o.html").exit_code == 0


def test_what_cannot_be_bound_by_location(mmbind: Mmbind, tmp_path: Path) -> None:
    a = store(tmp_path, "a", "acc", x=[1.0] * N, y=[2.0] * N)
    cases: list[tuple[dict[str, list[object]], list[object], int, str]] = [
        ({}, [], 4, "columns lat and lon, or x and y"),
        ({"lat": [1.0] * N, "lon": [2.0] * N}, [], 4, "places of two sorts"),
        ({"x": ["far"] * N, "y": ["away"] * N}, [], 4, "no number"),
        ({"x": [100.0] * N, "y": [2.0] * N}, [], 4, "no sample found a partner"),
        ({"x": [1.0] * N, "y": [2.0] * N}, ["--window", 0], 4, "bad radius"),
        ({"x": [1.0] * N, "y": [2.0] * N}, ["--top-k", 2], 2, "--top-k is not used when location"),
    ]
    for columns, options, code, sentence in cases:
        folder = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        b = store(folder, "b", "gyro", **columns)
        done = mmbind("bind", "--shared", "location", a, b, "-o", folder / "o", *options)
        assert (done.exit_code, (folder / "o").exists()) == (code, False), done.stderr
        assert sentence in " ".join(done.stderr.split())
    done = mmbind("bind", "--shared", "location", "--shared", "time", a, a, a, "--window", 1,
                  "-o", tmp_path / "o")  # fmt: skip
    assert done.exit_code == 2
    assert "seconds and metres" in done.stderr
