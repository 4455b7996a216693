"""Each leak that the published code had, and some more, must be refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from smallstores import World, edit_pairs

from mmbind_data.errors import IntegrityError, LeakError
from mmbind_data.store.bound import BoundDataset, open_bound
from mmbind_data.store.dataset import data_path, open_dataset
from mmbind_data.store.partitioning import partition
from mmbind_train.config import Budget, EvaluateConfig, TrainConfig
from mmbind_train.data.leak_checks import check_bound, check_disjoint
from mmbind_train.evaluation.evaluate import evaluate
from mmbind_train.training.pretrain import train

SHORT = TrainConfig(budget=Budget(steps=2, batch=8))


def refused(world: World, words: str, method: str = "mmbind") -> None:
    out = world.root / "run"
    with pytest.raises(LeakError, match=words):
        train(world.bound, out, method=method, config=SHORT)
    assert not out.exists()
    assert not list(world.root.glob(".*"))


def row_of(bound: BoundDataset, kind: str, source: str) -> int:
    table = bound.pairs().to_pylist()
    return next(
        n for n, row in enumerate(table) if row["kind"] == kind and row["anchor_source"] == source
    )


def source_with(bound: BoundDataset, modality: str) -> str:
    return next(s.source_id for s in bound.info.sources if modality in s.modalities)


@pytest.mark.parametrize("method", ["lower_bound", "mim", "mmbind"])
def test_a_node_that_holds_a_dropped_modality_on_disk(own_world: World, method: str) -> None:
    # the attributes still say acc and skeleton, the gyro lies there all the same
    inside = Path(data_path("gyro")).parent
    shutil.copytree(own_world.AB / inside, own_world.A / inside)
    refused(own_world, "a node holds what it is said to lack.*also gyro", method)


def test_an_override_with_the_complete_store(own_world: World) -> None:
    # a complete store under the node's digest: the attributes were edited
    bound = open_bound(own_world.bound)
    source = source_with(bound, "skeleton")
    partition(own_world.full, own_world.fake, subjects=["1", "2"])
    digest = bound.source(source).info.content_digest
    document = own_world.fake / "zarr.json"
    text = document.read_text()
    own = open_bound(own_world.bound, sources={source: own_world.fake})
    document.write_text(text.replace(open_dataset(own_world.fake).info.content_digest, digest))
    with pytest.raises(LeakError, match="a node holds what it is said to lack"):
        check_bound(own, method="mmbind")


@pytest.mark.parametrize("method", ["mim", "mmbind"])
def test_natural_rows_in_a_bound_store(own_world: World, method: str) -> None:
    edit_pairs(own_world.bound, {"kind": {3: "natural"}})
    refused(own_world, "naturally paired rows", method)


def test_an_incomplete_row_with_a_modality_of_another_node(own_world: World) -> None:
    # the published "incomplete" rows were loaded with all modalities
    bound = open_bound(own_world.bound)
    a, b = source_with(bound, "skeleton"), source_with(bound, "gyro")
    row = row_of(bound, "incomplete", a)
    uid = bound.source(b).samples()["uid"].to_pylist()[0]
    edit_pairs(
        own_world.bound, {"gyro.source": {row: b}, "gyro.row": {row: 0}, "gyro.uid": {row: uid}}
    )
    refused(own_world, "incomplete row holds another sample's modality")


def test_an_incomplete_row_with_another_sample_of_its_own_node(own_world: World) -> None:
    bound = open_bound(own_world.bound)
    a = source_with(bound, "skeleton")
    row = row_of(bound, "incomplete", a)
    uid = bound.source(a).samples()["uid"].to_pylist()[7]
    edit_pairs(own_world.bound, {"skeleton.row": {row: 7}, "skeleton.uid": {row: uid}})
    refused(own_world, "incomplete row holds another sample's modality")


def test_a_row_that_takes_from_a_node_what_it_lacks(own_world: World) -> None:
    bound = open_bound(own_world.bound)
    a = source_with(bound, "skeleton")
    row = row_of(bound, "pseudo", a)
    edit_pairs(own_world.bound, {"gyro.source": {row: a}})
    refused(own_world, "takes from .* what that node lacks")


def test_a_pseudo_pair_that_is_one_recording_put_together_again(own_world: World) -> None:
    # both nodes saw the same people: the best partner of a sample is the sample itself
    bound = open_bound(own_world.bound)
    row = row_of(bound, "pseudo", source_with(bound, "skeleton"))
    uid = bound.pairs()["acc.uid"].to_pylist()[row]
    edit_pairs(own_world.bound, {"gyro.uid": {row: uid}})
    refused(own_world, "one recording put together again")


@pytest.mark.parametrize(
    "cell", [{"acc.row": {4: 5}}, {"acc.row": {4: 10**6}}, {"acc.uid": {4: "x"}}]
)
def test_a_table_that_points_at_another_sample(
    own_world: World, cell: dict[str, dict[int, object]]
) -> None:
    kind = open_bound(own_world.bound).pairs()["kind"].to_pylist()[4]
    assert kind == "pseudo"
    edit_pairs(own_world.bound, cell)
    with pytest.raises(IntegrityError, match="another sample than it names"):
        train(own_world.bound, own_world.root / "run", method="mmbind", config=SHORT)


def test_disjoint_subjects_per_dataset() -> None:
    check_disjoint(
        {"pretrain": {"x": ["1"], "y": ["2"]}, "finetune": {"x": ["2"]}, "test": {"y": ["1"]}}
    )
    with pytest.raises(LeakError, match=r"in finetune and in test at x.*subject 2"):
        check_disjoint({"finetune": {"x": ["1", "2"]}, "test": {"x": ["2"]}})


@pytest.fixture(scope="module", params=["lower_bound", "mim", "mmbind", "upper_bound"])
def run(
    request: pytest.FixtureRequest, world: World, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    path = tmp_path_factory.mktemp("run") / "run"
    data = world.AB if request.param == "upper_bound" else world.bound
    train(data, path, method=request.param, config=SHORT)
    return path


@pytest.mark.parametrize(
    ("finetune", "test", "words"),
    [
        ("C", "C", "in finetune and in test"),
        ("AB", "T", "in pretrain and in finetune"),
        ("C", "full", "in pretrain and in test"),
    ],
)
def test_subjects_are_met_once(
    run: Path, world: World, finetune: str, test: str, words: str
) -> None:
    config = EvaluateConfig(seeds=(0,), budget=Budget(steps=1))
    with pytest.raises(LeakError, match=words):
        evaluate(run, getattr(world, finetune), getattr(world, test), config=config)


def test_an_honest_store_passes(world: World) -> None:
    bound = open_bound(world.bound)
    check_bound(bound, method="mmbind")
    assert set(np.unique(bound.pairs()["kind"].to_pylist())) == {"incomplete", "pseudo"}
