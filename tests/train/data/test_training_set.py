"""D_S in memory: which sample each row holds, standardisation, lengths, same samples."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from smallstores import FRAMES, World, edit_pairs, modality, write_small_store

from mmbind_data.binding.bind import bind
from mmbind_data.binding.options import BindOptions
from mmbind_data.errors import FormatError, LeakError, UsageError
from mmbind_data.signal.normalise import Statistics
from mmbind_data.signal.windows import stretch
from mmbind_data.store.bound import open_bound
from mmbind_data.store.dataset import open_dataset
from mmbind_train.config import Augmentation, Budget, TrainConfig
from mmbind_train.data.batch import make_batch, same_sample, standardise
from mmbind_train.data.training_set import gather_bound, gather_store, measure_statistics
from mmbind_train.training.loop import row_batches
from mmbind_train.training.pretrain import train


def test_each_row_holds_the_samples_that_the_table_names(world: World) -> None:
    bound = open_bound(world.bound)
    rows = gather_bound(bound, recentre="none")
    table = bound.pairs().to_pylist()
    assert len(rows) == len(table) == 72
    stores = {source.source_id: bound.source(source.source_id) for source in bound.info.sources}
    for number, row in enumerate(table):
        assert rows.kind[number] == row["kind"]
        assert rows.weight[number] == np.float32(row["weight"])
        for column, name in enumerate(rows.modalities):
            index = rows.index[number, column]
            if row[f"{name}.source"] is None:
                assert index == rows.sample[number, column] == -1
                continue
            stored = stores[row[f"{name}.source"]].load(name, np.array([row[f"{name}.row"]]))[0]
            assert np.array_equal(rows.values[name][index], stored)
    for name, values in rows.arrays().items():
        assert len(values) == len(np.unique(values.reshape(len(values), -1), axis=0)), name


@pytest.mark.parametrize("hops", [1, 2])
def test_means_against_a_loop_over_the_table(world: World, tmp_path: Path, hops: int) -> None:
    """sum_j w_j x_j over the rows of a group that have the modality; the anchor's own unchanged."""
    options = replace(BindOptions(), rule=replace(BindOptions().rule, top_k=3), mean=True)
    bind([world.A, world.B], tmp_path / "o", shared="acc", options=options)
    edit_pairs(tmp_path / "o", {f"gyro.{part}": {1: None} for part in ("source", "row", "uid")})
    if hops == 2:
        few = write_small_store(tmp_path / "few.zarr", dataset_id="few", subjects=("9",), seed=3,
                                frames={"gyro": 24})  # fmt: skip
        bind([tmp_path / "o", few], tmp_path / "o2", shared="gyro", options=options)
    bound = open_bound(tmp_path / ("o" if hops == 1 else "o2"))
    rows = gather_bound(bound, recentre="none")
    groups: list[list[dict[str, Any]]] = []
    for row in bound.pairs().to_pylist():
        if row["kind"] != "mean" or row["rank"] == 0:
            groups.append([])
        groups[-1].append(row)
    assert len(groups) == len(rows)
    assert max(len(group) for group in groups) == 3**hops
    stores = {source.source_id: bound.source(source.source_id) for source in bound.info.sources}
    uids, n_averaged = [], 0
    for number, group in enumerate(groups):
        assert rows.kind[number] == group[0]["kind"]
        assert rows.weight[number] == pytest.approx(sum(row["weight"] for row in group), rel=1e-6)
        uids.append({row[f"{m}.uid"] for row in group for m in rows.modalities} - {None})
        for column, name in enumerate(rows.modalities):
            given = [row for row in group if row[f"{name}.source"] is not None]
            index = rows.index[number, column]
            assert (index >= 0) == bool(given)
            if not given:
                continue
            samples = [
                stores[row[f"{name}.source"]].load(name, np.array([row[f"{name}.row"]]))[0]
                for row in given
            ]
            total = sum(row["weight"] for row in given)
            mean = sum(
                row["weight"] / total * sample.astype(np.float64)
                for row, sample in zip(given, samples, strict=True)
            )
            got = rows.values[name][index]
            if len({row[f"{name}.uid"] for row in given}) == 1:
                assert np.array_equal(got, samples[0])
            else:
                n_averaged += 1
                np.testing.assert_allclose(got, mean, rtol=0, atol=1e-5)
                assert np.abs(got - samples[0]).max() > 1e-3
    assert n_averaged > 20
    shared = same_sample(rows.sample)
    for i in range(0, len(rows), 5):
        assert shared[i].tolist() == [bool(uids[i] & other) for other in uids]


def test_means_are_trained_on(world: World, tmp_path: Path) -> None:
    options = replace(BindOptions(), rule=replace(BindOptions().rule, top_k=3), mean=True)
    bind([world.A, world.B], tmp_path / "o", shared="acc", options=options)
    config = TrainConfig(budget=Budget(steps=2, batch=16))
    info = train(tmp_path / "o", tmp_path / "run", config=config)
    assert info.n_rows == {"incomplete": 36, "mean": 36}
    assert info.final_loss is not None
    own = gather_bound(open_bound(world.bound))  # inputs are scaled by what was measured alone
    measured = measure_statistics(own.select(own.kind == "incomplete"))
    for name, one in info.statistics.items():
        assert one == measured[name]
    row = next(n for n, one in enumerate(open_bound(tmp_path / "o").pairs()["rank"].to_pylist())
               if one == 2)  # fmt: skip
    source = open_bound(tmp_path / "o").info.sources[0].source_id
    edit_pairs(tmp_path / "o", {"gyro.source": {row: source}})
    with pytest.raises(LeakError, match="what that node lacks"):
        train(tmp_path / "o", tmp_path / "again", config=config)


def test_equal_codes_mean_equal_uids(world: World) -> None:
    bound = open_bound(world.bound)
    rows, table = gather_bound(bound), bound.pairs()
    uids = np.array([table[f"{name}.uid"].to_pylist() for name in rows.modalities], object).T
    shared = same_sample(rows.sample)
    for i in range(0, len(rows), 7):
        for j in range(len(rows)):
            common = {uid for uid in uids[i] if uid} & {uid for uid in uids[j] if uid}
            assert shared[i, j] == bool(common)


def test_same_sample_by_hand() -> None:
    sample = np.array([[0, -1], [1, 0], [2, -1], [3, 3]])
    expected = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], dtype=bool)
    assert np.array_equal(same_sample(sample), expected)


def test_dummies_are_zero_behind_standardisation(world: World) -> None:
    rows = gather_bound(open_bound(world.bound))
    statistics = measure_statistics(rows)
    batch = make_batch(rows, np.arange(len(rows)), statistics)
    for column, (name, values) in enumerate(batch.inputs.items()):
        here = batch.present[:, column]
        assert (values[~here] == 0).all()
        assert (values[here].abs().flatten(1).sum(dim=1) > 0).all()
        used = np.unique(rows.index[rows.index[:, column] >= 0, column])
        scaled = standardise(
            torch.from_numpy(rows.values[name][used]), rows.modalities[name], statistics[name]
        )
        means = scaled.flatten(0, -2).mean(dim=0)
        torch.testing.assert_close(means, torch.zeros(3), atol=1e-4, rtol=0)


def test_statistics_count_only_samples_that_rows_point_at(world: World) -> None:
    rows = gather_store(open_dataset(world.full), ["gyro"])
    few = rows.select(np.array([3, 8]))
    expected = rows.arrays()["gyro"][[3, 8]].reshape(-1, 3)
    assert measure_statistics(few)["gyro"].mean == pytest.approx(expected.mean(axis=0), abs=1e-6)


def test_depth_background_stays_zero() -> None:
    pixels = modality("acc", 8).model_copy(update={"kind": "depth_video", "background": 0.0})
    values = torch.tensor([[0.0, 2.0, 4.0]])
    scaled = standardise(values, pixels, Statistics(mean=(3.0,), std=(0.5,)))
    assert scaled.tolist() == [[0.0, -2.0, 2.0]]


@pytest.mark.parametrize("recentre", ["frame", "first", "none"])
def test_skeletons_are_relative_to_the_root_joint(world: World, recentre: str) -> None:
    raw = open_dataset(world.full).load("skeleton")
    rows = gather_store(open_dataset(world.full), ["skeleton"], recentre=recentre)  # type: ignore[arg-type]
    hip = raw[:, :, 1:2] if recentre == "frame" else raw[:, :1, 1:2]
    expected = raw if recentre == "none" else raw - hip
    assert np.array_equal(rows.arrays()["skeleton"], expected)


def test_lengths_of_two_sources_become_the_longer_one(tmp_path: Path) -> None:
    a = write_small_store(tmp_path / "a.zarr", frames={"acc": 24, "skeleton": 12})
    short = {"acc": 16, "gyro": 16}
    b = write_small_store(tmp_path / "b.zarr", dataset_id="other", frames=short, rate_hz=100 / 3)
    bind([a, b], tmp_path / "ab.zarr", shared="acc", options=BindOptions(embed="raw"))
    bound = open_bound(tmp_path / "ab.zarr")
    rows = gather_bound(bound)
    assert rows.arrays()["acc"].shape[1:] == (24, 3)
    (key, lengths), *more = rows.stretched.items()
    assert (key.split("/")[1], lengths, more) == ("acc", (16, 24), [])
    table = bound.pairs().to_pylist()
    number = next(i for i, row in enumerate(table) if row["acc.source"] == key.split("/")[0])
    stored = open_dataset(b).load("acc", np.array([table[number]["acc.row"]]))[0]
    column = list(rows.modalities).index("acc")
    assert np.array_equal(rows.arrays()["acc"][rows.index[number, column]], stretch(stored, 24))
    assert rows.subjects == {"small": tuple("123456"), "other": tuple("123456")}


def test_absent_samples_become_dummies(tmp_path: Path) -> None:
    path = write_small_store(tmp_path / "s.zarr", missing={"gyro": (0, 5)})
    rows = gather_store(open_dataset(path), ["gyro", "acc"])
    assert np.flatnonzero(rows.index[:, 0] < 0).tolist() == [0, 5]
    assert np.isfinite(rows.arrays()["gyro"]).all()
    assert rows.present[:, 1].all()


def test_a_missing_or_different_modality_is_refused(world: World) -> None:
    with pytest.raises(UsageError, match="Did you mean gyro"):
        gather_store(open_dataset(world.full), ["giro"])
    other = modality("acc", FRAMES["acc"]).model_copy(update={"unit": "g"})
    with pytest.raises(FormatError, match="differs between the stores"):
        gather_store(open_dataset(world.full), ["acc"], like={"acc": other})


def test_batches_are_a_pure_function_of_seed_and_epoch() -> None:
    def first(n: int, seed: int) -> list[list[int]]:
        batches = row_batches(10, 4, seed)
        return [next(batches).tolist() for _ in range(n)]

    assert first(6, 1) == first(6, 1) != first(6, 2)
    epoch = [row for batch in first(2, 1) for row in batch]
    assert len(set(epoch)) == 8  # no row twice; the rest of two is left out
    assert first(2, 1) != first(4, 1)[2:]
    assert sorted(next(row_batches(3, 64, 0)).tolist()) == [0, 1, 2]


def test_augmentation_is_drawn_from_the_generator(world: World) -> None:
    rows = gather_store(open_dataset(world.full), ["acc"])
    statistics = measure_statistics(rows)

    def draw(seed: int) -> torch.Tensor:
        rng = torch.Generator().manual_seed(seed)
        return make_batch(rows, np.arange(4), statistics, Augmentation(), rng).inputs["acc"]

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))
