"""Protocols whose real data is not at hand run on the authentic raw layouts, marked as generated.

The people are those of the writers; all else is as shipped, with few steps and small networks.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchdata import SMALL
from rawdata import mmfi, motionsense, pamap2, realworld, shoaib, sun_rgbd
from rawdata.pamap2 import Piece
from rawdata.realworld import Take
from rawdata.shoaib import Run
from rawdata.sun_rgbd import Scene

from mmbind_data.store.dataset import open_dataset
from mmbind_train.benchmarks.node_stores import GENERATED, group_share
from mmbind_train.benchmarks.plan import BenchmarkRequest
from mmbind_train.benchmarks.protocol import list_protocols, load_protocol
from mmbind_train.benchmarks.results import Results
from mmbind_train.benchmarks.run import benchmark


def run(
    name: str,
    data: Path,
    out: Path,
    rows: tuple[str, ...] | None,
    people: Any,
    classes: tuple[str, ...] = (),
    work: Path | None = None,
) -> Results:
    """Run a shipped protocol with other people, one seed, two steps; all rows by default."""
    document = json.loads(list_protocols()[name].read_text())
    document["splits"] = document["splits"][:1]
    document["conditions"] = document["conditions"][:1]
    document["train"] = {"network": SMALL, "inputs": {"frames": 8, "points": 8, "pixels": 300}}
    for node in document["nodes"].values():
        if "classes" in node:
            node["classes"] = [one for one in node["classes"] if one in classes]
    document["splits"][0]["people"] = people
    document["validation_splits"] = []
    path = out.with_suffix(".json")
    path.write_text(json.dumps(document))
    (data / GENERATED).touch()
    return benchmark(BenchmarkRequest(path, data, rows, seeds=1, steps=2), out, work=work, jobs=1)


def test_cross_dataset_activity(tmp_path: Path) -> None:
    data, rng = tmp_path / "data", np.random.default_rng(0)
    motionsense.write(data / "motionsense", rng=rng, subjects=(1, 2))
    runs = tuple(Run(label, 210) for label in ("walking", "sitting"))
    shoaib.write(data / "shoaib", rng=rng, files={1: runs, 2: runs})
    takes = tuple(
        Take(s, what, positions=("thigh",)) for s in (1, 4) for what in ("walking", "sitting")
    )
    realworld.write(data / "realworld", rng=rng, takes=takes)
    people = {"A": ["1", "2"], "B": ["1", "2"], "C": ["1"], "T": ["4"]}
    rows = ("lower_bound", "mmbind", "mmbind + left pocket")
    results = run("cross-dataset-activity-acc", data, tmp_path / "out", rows, people)
    assert results.failures == ()
    assert results.generated
    pairs = {one.row: one.n_pairs for one in results.scores}
    assert pairs["mmbind + left pocket"] > pairs["mmbind"] > 0  # type: ignore[operator]
    assert len(results.sources) == 5


def test_pamap2_keeps_the_seven_activities(tmp_path: Path) -> None:
    data = tmp_path / "data"
    pieces = tuple(Piece(code, 620) for code in (1, 24, 4))  # rope jumping is none of the seven
    files = {f"Protocol/subject{person}": pieces for person in (101, 102, 103, 104)}
    pamap2.write(data / "pamap2", rng=np.random.default_rng(0), files=files)
    people = {"A": ["101"], "B": ["102"], "C": ["103"], "T": ["104"]}
    rows = ("mim", "mmbind", "upper_bound")
    results = run(
        "pamap2-cross-node-sensor", data, tmp_path / "out", rows, people, ("lying", "walking")
    )
    assert results.failures == ()
    assert {one.n_classes for one in results.scores} == {2}
    assert {one.n_test for one in results.scores} == {6}


@pytest.fixture(scope="module")
def mmfi_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("mmfi")
    ten = dict.fromkeys(("S01", "S02", "S03", "S04"), ("A01", "A02", "A03", "A04", "A05"))
    mmfi.write_people(data / "mmfi", ten | dict.fromkeys(("S05", "S06"), ("A01", "A02")))
    return data


@pytest.mark.parametrize("name", [one for one in list_protocols() if one.startswith("mmfi-")])
def test_every_row_runs_on_mmfi(name: str, mmfi_data: Path, tmp_path: Path) -> None:
    people = {"A": ["S01", "S02"], "B": ["S03", "S04"], "C": ["S05"], "T": ["S06"]}
    work = mmfi_data / "work"  # stores and trainings that the protocols have in common
    results = run(name, mmfi_data, tmp_path / "out", None, people, work=work)
    check_every_row(name, results)


def check_every_row(name: str, results: Results) -> None:
    assert results.failures == ()
    methods = {one.row: one.method for one in results.scores}
    assert methods == {row.name: row.method for row in load_protocol(name).rows}
    steps = {one.pretrain_steps for one in results.scores if one.method != "lower_bound"}
    assert steps == {2}


ROOM_SHARES = {"A": (0, 0.3), "B": (0.3, 0.6), "C": (0.6, 0.8), "T": (0.8, 1)}
ROOMS = {
    role: {"column": "session", "low": low, "high": high}
    for role, (low, high) in ROOM_SHARES.items()
}


@pytest.fixture(scope="module")
def sun_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("sun")
    scenes = [
        Scene(f"xtion/sun3ddata/room_{room}/scan/000000{k}-0", label, stem="a", depth_stem="a")
        for room in range(14)
        for k, label in enumerate(("classroom", "bathroom"))
    ]
    sun_rgbd.write(data / "sun-rgbd", rng=np.random.default_rng(0), scenes=scenes, split=False)
    return data


@pytest.mark.parametrize("name", [one for one in list_protocols() if one.startswith("sun-rgbd-")])
def test_every_row_runs_on_sun_rgbd(name: str, sun_data: Path, tmp_path: Path) -> None:
    results = run(name, sun_data, tmp_path / "out", None, ROOMS, work=sun_data / "work")
    check_every_row(name, results)


def test_rooms_take_the_place_of_people(sun_data: Path, tmp_path: Path) -> None:
    results = run("sun-rgbd-cross-node-sensor", sun_data, tmp_path / "out", ("mmbind",), ROOMS)
    assert results.failures == ()
    nodes = tmp_path / "out" / "work" / "generated" / "nodes"
    for role, (low, high) in ROOM_SHARES.items():
        (path,) = nodes.glob(f"{role}-*.zarr")
        rooms = open_dataset(path).samples()["session"].to_pylist()
        expected = {
            f"room_{room}/scan" for room in range(14)
            if low <= group_share(f"room_{room}/scan") < high
        }  # fmt: skip
        assert set(rooms) == expected
        assert len(rooms) == 2 * len(set(rooms))
