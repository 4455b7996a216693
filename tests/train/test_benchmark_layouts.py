"""Protocols whose real data is not at hand run on the authentic raw layouts, marked as generated.

The people are those of the writers; all else is as shipped, with few steps and small networks.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from benchdata import SMALL
from rawdata import motionsense, pamap2, realworld, shoaib, sun_rgbd
from rawdata.pamap2 import Piece
from rawdata.realworld import Take
from rawdata.shoaib import Run
from rawdata.sun_rgbd import Scene

from mmbind_data.layout import open_store
from mmbind_train.benchmark import Request, benchmark
from mmbind_train.preparation import GENERATED, group_share
from mmbind_train.protocol import list_protocols
from mmbind_train.results import Results


def run(
    name: str,
    data: Path,
    out: Path,
    rows: tuple[str, ...],
    people: Any,
    classes: tuple[str, ...] = (),
) -> Results:
    """Run a shipped protocol with other people, one seed, two steps."""
    document = json.loads(list_protocols()[name].read_text())
    document["splits"] = document["splits"][:1]
    document["conditions"] = document["conditions"][:1]
    document["train"] = {"network": SMALL}
    for node in document["nodes"].values():
        if "classes" in node:
            node["classes"] = [one for one in node["classes"] if one in classes]
    document["splits"][0]["people"] = people
    document["validation_splits"] = []
    path = out.with_suffix(".json")
    path.write_text(json.dumps(document))
    (data / GENERATED).touch()
    return benchmark(Request(path, data, rows, seeds=1, steps=2), out, jobs=1)


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


def test_rooms_take_the_place_of_people(tmp_path: Path) -> None:
    data = tmp_path / "data"
    scenes = [
        Scene(f"xtion/sun3ddata/room_{room}/scan/000000{k}-0", label, stem="a", depth_stem="a")
        for room in range(14)
        for k, label in enumerate(("classroom", "bathroom"))
    ]
    sun_rgbd.write(data / "sun-rgbd", rng=np.random.default_rng(0), scenes=scenes, split=False)
    share = {"A": (0, 0.3), "B": (0.3, 0.6), "C": (0.6, 0.8), "T": (0.8, 1)}
    people = {
        role: {"column": "session", "low": low, "high": high} for role, (low, high) in share.items()
    }
    results = run("sun-rgbd-cross-node-sensor", data, tmp_path / "out", ("mmbind",), people)
    assert results.failures == ()
    nodes = tmp_path / "out" / "work" / "generated" / "nodes"
    for role, (low, high) in share.items():
        (path,) = nodes.glob(f"{role}-*.zarr")
        rooms = open_store(path).samples()["session"].to_pylist()
        expected = {
            f"room_{room}/scan" for room in range(14)
            if low <= group_share(f"room_{room}/scan") < high
        }  # fmt: skip
        assert set(rooms) == expected
        assert len(rooms) == 2 * len(set(rooms))
