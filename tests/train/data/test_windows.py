"""Samples that do not fit into memory: read in windows, with the values and losses of memory."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from plain import PLAIN
from smallstores import World

from mmbind_data.binding.bind import bind
from mmbind_data.errors import UsageError
from mmbind_data.matching.rule import MatchRule
from mmbind_data.store.bound import open_bound, open_store
from mmbind_data.store.dataset import open_dataset
from mmbind_train.config import Budget, EvaluateConfig, NetworkOptions, TrainConfig, recipe
from mmbind_train.data import stored as memory
from mmbind_train.data import windows
from mmbind_train.data.batch import make_batch
from mmbind_train.data.stored import GIB, StoredSamples, needed_memory
from mmbind_train.data.training_set import (
    TrainingSet,
    gather_bound,
    gather_store,
    measure_statistics,
)
from mmbind_train.data.windows import WindowReader, block_order, measure_reading
from mmbind_train.evaluation.evaluate import evaluate
from mmbind_train.training.logs import METRICS
from mmbind_train.training.loop import row_batches
from mmbind_train.training.methods import METHODS
from mmbind_train.training.pretrain import read_rows, train
from mmbind_train.training.run_folder import WEIGHTS, load_run

BATCH, ROW_BYTES = 4, 4 * 3 * (24 + 24 + 12 * 3)
LITTLE = TrainConfig(
    budget=Budget(steps=26, batch=BATCH),
    network=NetworkOptions(width=8, feature_dim=16, embedding_dim=8),
    memory=3 * BATCH * ROW_BYTES / GIB,  # three batches of rows that have all modalities
)


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let blocks be smaller than the small stores, which are one chunk."""
    monkeypatch.setattr(windows, "chunk_rows", lambda row_bytes: 2)


def data_of(world: World, method: str) -> Path:
    return world.AB if method == "upper_bound" else world.bound


def sizes(rows: TrainingSet) -> list[int]:
    return [values.nbytes for values in rows.arrays().values()]


def stored(world: World, method: str = "mmbind") -> TrainingSet:
    return read_rows(open_store(data_of(world, method)), method, LITTLE, load=False)


@pytest.mark.parametrize("recentre", ["frame", "none"])
def test_samples_on_disk_are_those_in_memory(world: World, recentre: str) -> None:
    bound = open_bound(world.bound)
    here = gather_bound(bound, recentre=recentre)  # type: ignore[arg-type]
    there = gather_bound(bound, recentre=recentre, load=False)  # type: ignore[arg-type]
    assert there.on_disk
    assert not here.on_disk
    assert here.index.tolist() == there.index.tolist()
    for name, values in here.arrays().items():
        places = np.random.default_rng(0).integers(len(values), size=50)
        np.testing.assert_array_equal(there.values[name][places], values[places])
        assert there.values[name][places[:0]].shape == (0, *values[:0].shape[1:])
    assert measure_statistics(here) == measure_statistics(there)
    whole = gather_store(open_dataset(world.AB))
    part = gather_store(open_dataset(world.AB), rows=np.array([7, 3, 3, 30]), load=False)
    some = part.select(np.array([2, 0])).loaded()
    for column, name in enumerate(whole.modalities):
        found = np.asarray(some.values[name])[some.index[:, column]]
        np.testing.assert_array_equal(found, np.asarray(whole.values[name])[[3, 7]])
        assert len(some.values[name]) == 2


def test_neighbourhoods_are_runs_of_one_store(world: World) -> None:
    samples = gather_bound(open_bound(world.bound), load=False).values["acc"]
    assert isinstance(samples, StoredSamples)
    assert [len(part.rows) for part in samples.parts] == [18, 18]
    wanted = [row // 4 for row in range(18)] + [5 + row // 4 for row in range(18)]
    assert samples.neighbourhoods(4).tolist() == wanted


def test_the_order_is_one_of_blocks_shuffled_within_windows() -> None:
    block = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 7))
    order = block_order(block, 16, 3, 5)
    assert sorted(order.tolist()) == list(range(70))
    assert order.tolist() == block_order(block, 16, 3, 5).tolist()
    others = [block_order(block, 16, *one).tolist() for one in ((3, 6), (4, 5))]
    assert order.tolist() not in others
    spans = [block[order[start : start + 16]] for start in range(0, 70, 16)]
    # only the block at the border is in two successive windows
    for one, two in itertools.pairwise(spans):
        assert len(set(one.tolist()) & set(two.tolist())) <= 1
    for one, two in itertools.combinations(range(len(spans)), 2):
        if two > one + 1:
            assert not set(spans[one].tolist()) & set(spans[two].tolist())
    rng, naive = np.random.default_rng((3, 5)), list[int]()
    rank = rng.permutation(10).tolist()
    for number in sorted(range(10), key=lambda one: rank[one]):
        naive += [row for row in range(70) if block[row] == number]
    shuffled = [rng.permutation(naive[start : start + 16]) for start in range(0, 70, 16)]
    assert order.tolist() == np.concatenate(shuffled).tolist()


def test_the_shuffle_quality_is_counted_right() -> None:
    block = np.repeat(np.arange(9), 4)[:34]
    order = block_order(block, 10, 0, 0)

    def share(rows: np.ndarray) -> list[bool]:
        return [block[a] == block[b] for a in rows for b in rows if a != b]

    spans = [order[start : start + 10] for start in range(0, 34, 10)]
    wanted = sum(len(span) / 34 * np.mean(share(span)) for span in spans)
    found = measure_reading(block, 10, order)
    assert found.neighbours == pytest.approx(wanted)
    assert found.neighbours_shuffled == pytest.approx(np.mean(share(np.arange(34))))
    assert (found.window_rows, found.n_windows, found.n_blocks) == (10, 4, 9)
    assert found.blocks_per_window == np.mean([len(set(block[one].tolist())) for one in spans])
    alone = measure_reading(block, 40, order)
    assert alone.neighbours == pytest.approx(alone.neighbours_shuffled)


@pytest.mark.parametrize("method", ["mmbind", "upper_bound"])
@pytest.mark.parametrize("n_batches_held", [3, 100])
def test_every_row_comes_once_an_epoch_in_little_memory(
    world: World, method: str, n_batches_held: int
) -> None:
    rows, n_bytes = stored(world, method), n_batches_held * BATCH * ROW_BYTES
    whole, statistics = rows.loaded(), measure_statistics(rows)
    one = WindowReader(rows, BATCH, 0, n_bytes, lambda order, *_: order)
    assert (one.reading.n_windows > 2) == (n_batches_held == 3)
    assert one.reading.blocks_per_window > 2
    n_batches, loaded = len(rows) // BATCH, []
    for epoch in range(2):
        seen, begun = list[int](), list[int]()
        batches = itertools.islice(row_batches(len(rows), BATCH, 0, one.order), epoch * n_batches,
                                   (epoch + 1) * n_batches)  # fmt: skip
        for chosen in batches:
            held, places = one.load(chosen)
            begun += [id(held)] if not begun or begun[-1] != id(held) else []
            loaded.append(sum(sizes(held)))
            found, wanted = (
                make_batch(*both, statistics) for both in ((held, places), (whole, chosen))
            )
            for name, values in wanted.inputs.items():
                assert torch.equal(found.inputs[name], values)
            assert torch.equal(found.present, wanted.present)
            seen += chosen.tolist()
        assert len(set(seen)) == len(seen) == n_batches * BATCH
        assert len(begun) <= one.reading.n_windows  # each window is read once
    assert min(n_bytes, sum(sizes(whole))) / 4 < max(loaded) <= n_bytes


@pytest.mark.parametrize(
    ("name", "targets"),
    [(one, "default") for one in METHODS if one not in ("lower_bound", "cmg")]
    + [("mmbind", "paper")],
)
def test_losses_and_weights_are_those_of_the_same_order_in_memory(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, targets: str
) -> None:
    config = recipe(targets).model_copy(  # type: ignore[arg-type]
        update={one: getattr(LITTLE, one) for one in ("budget", "network", "memory")}
    )
    messages: list[str] = []
    info = train(data_of(world, name), tmp_path / "disk", method=name, config=config,
                 on_message=messages.append)  # fmt: skip
    for stage, text in zip(info.stages, messages, strict=True):
        assert stage.reading is not None
        assert text == str(stage.reading)
        assert stage.reading.n_windows >= 2
        assert 0 < stage.reading.neighbours_shuffled < stage.reading.neighbours < 0.7
    assert load_run(tmp_path / "disk")[0] == info

    def all_held(self: WindowReader, chosen: np.ndarray) -> tuple[TrainingSet, np.ndarray]:
        return self._rows.loaded(), chosen

    monkeypatch.setattr(WindowReader, "load", all_held)
    train(data_of(world, name), tmp_path / "memory", method=name, config=config)
    for one in (METRICS, WEIGHTS):
        assert (tmp_path / "disk" / one).read_bytes() == (tmp_path / "memory" / one).read_bytes()


def test_an_interrupted_training_goes_on_with_its_windows(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = type("Stop", (BaseException,), {})
    config = LITTLE.model_copy(update={"memory": None})
    monkeypatch.setattr(memory, "OVERHEAD_BYTES", 0)
    need = needed_memory(open_store(world.bound), config.inputs)
    monkeypatch.setattr(memory, "WINDOW", need // 2)
    monkeypatch.setattr(memory, "free_memory", lambda: need - 1)
    train(world.bound, tmp_path / "whole", config=config)

    def interrupt(done: int, total: int, text: str) -> None:
        if done == 19:
            raise stop

    for again in (need - 1, 10 * need):  # it would fit by now: another order, other losses
        with pytest.raises(stop):
            train(world.bound, tmp_path / "run", config=config, checkpoint_every=7,
                  progress=interrupt)  # fmt: skip
        monkeypatch.setattr(memory, "free_memory", lambda free=again: free)
        messages: list[str] = []
        train(
            world.bound, tmp_path / "run", config=config, on_message=messages.append, overwrite=True
        )
        assert messages[0] == "resumes after step 14 of stage 1"
        assert messages[1].startswith("reads windows of")
        for one in (METRICS, WEIGHTS):
            assert (tmp_path / "run" / one).read_bytes() == (tmp_path / "whole" / one).read_bytes()
        (tmp_path / "run").rename(tmp_path / f"done-{again}")
        monkeypatch.setattr(memory, "free_memory", lambda: need - 1)
    monkeypatch.setattr(memory, "free_memory", lambda: need)
    with pytest.raises(stop):
        train(world.bound, tmp_path / "run", config=config, checkpoint_every=7, progress=interrupt)
    monkeypatch.setattr(memory, "free_memory", lambda: need - 1)
    with pytest.raises(UsageError, match="into memory as they did when this training began"):
        train(world.bound, tmp_path / "run", config=config)


def test_what_must_have_all_samples_is_refused(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda: memory.OVERHEAD_BYTES + 2000)
    with pytest.raises(UsageError, match="do not fit into memory, and cmg must have all of them"):
        train(world.bound, tmp_path / "run", method="cmg", config=LITTLE)
    options = replace(PLAIN, rule=MatchRule(top_k=3), mean=True)
    bind([world.A, world.B], tmp_path / "means.zarr", shared="acc", options=options)
    with pytest.raises(UsageError, match="and means must have all of them"):
        train(tmp_path / "means.zarr", tmp_path / "run", config=LITTLE)
    assert not list(tmp_path.glob("*run*"))


def test_memory_for_less_than_a_batch_is_refused(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = LITTLE.model_copy(update={"memory": 2000 / GIB})
    with pytest.raises(UsageError, match=r"not even one batch fits.*Give more --memory"):
        train(world.bound, tmp_path / "run", config=config)
    monkeypatch.setattr(memory, "free_memory", lambda: memory.OVERHEAD_BYTES + 2000)
    with pytest.raises(UsageError, match="not even a window of samples fits"):
        train(world.bound, tmp_path / "run", config=LITTLE)
    assert not list(tmp_path.iterdir())


def test_a_run_is_evaluated_alike_from_disk(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(world.bound, tmp_path / "run", config=LITTLE)
    config = EvaluateConfig(labels_per_class=2, seeds=(0, 1), budget=Budget(steps=5))
    wanted = evaluate(tmp_path / "run", world.C, world.T, config=config)
    little = config.model_copy(update={"memory": 1000 / GIB})
    found = evaluate(tmp_path / "run", world.C, world.T, config=little)
    assert found.model_copy(update={"config": config}) == wanted
    monkeypatch.setattr(memory, "free_memory", lambda: 1000)
    with pytest.raises(UsageError, match=r"the labelled samples do not fit.*--labels-per-class"):
        evaluate(tmp_path / "run", world.C, world.T, config=little)
