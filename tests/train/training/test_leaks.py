"""What made the published tables unsupported, brought back one by one: each must be noticed.

docs/protocols.md lists the leaks. Those of the stores are in `test_leak_checks`, those of rows and
labels in `test_methods`, those of a protocol in `test_protocol`; here are the others.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from plain import PLAIN
from recording import recorded
from smallstores import FRAMES, LABELS, World, write_small_store
from torch import Tensor
from torch.nn import functional

from mmbind_data.binding.bind import bind
from mmbind_data.errors import LeakError
from mmbind_data.store.bound import BoundDataset, open_store
from mmbind_data.store.dataset import RAW_FILES, SAMPLES, open_dataset
from mmbind_data.store.partitioning import partition
from mmbind_train.config import Budget, EvaluateConfig, NetworkOptions, PairOptions, TrainConfig
from mmbind_train.data.anchor_labels import bound_by_label, with_anchor_labels
from mmbind_train.data.batch import make_batch
from mmbind_train.data.training_set import gather_store, measure_statistics
from mmbind_train.evaluation.evaluate import evaluate
from mmbind_train.evaluation.finetune import Pretrained, finetune
from mmbind_train.evaluation.metrics import predict
from mmbind_train.objectives.modules import Contrast, Objective, SoftContrast, Translate
from mmbind_train.objectives.pair_graph import PairGraph, incomplete_rows, published_weights
from mmbind_train.training.logs import METRICS, Log
from mmbind_train.training.loop import learning_rate_factor, row_batches
from mmbind_train.training.methods import METHODS
from mmbind_train.training.pretrain import pretrain, read_rows, train
from mmbind_train.training.run import PretrainingRun, stage_seed
from mmbind_train.training.run_folder import load_run

SMALL = TrainConfig(
    budget=Budget(steps=2, batch=16, warmup=1),
    network=NetworkOptions(width=8, feature_dim=16, embedding_dim=8),
)
LEARNING = [name for name, method in METHODS.items() if method.pretrain]
DUMMIES_ARE_VIEWS = {"mim", "mpm"}  # by definition: in this they differ from dcm


def hard(**pairs: Any) -> TrainConfig:
    return SMALL.model_copy(update={"pairs": PairOptions(targets="hard", **pairs)})


def learn(world: World, method: str, config: TrainConfig, steps: int = 0) -> PretrainingRun:
    data = open_store(world.AB if method == "upper_bound" else world.bound)
    return pretrain(read_rows(data, method, config), data, method, config, steps=steps)


def objectives_of(world: World, method: str, config: TrainConfig) -> list[Objective]:
    """The objectives that a method runs, in their order."""
    found: list[Objective] = recorded(
        learn(world, method, config), METHODS[method].pretrain
    ).objectives
    return found


def embeddings(objective: Objective, n: int, seed: int) -> Tensor:
    shape = (n, len(objective.rows.modalities), 8)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return functional.normalize(noise, dim=-1)


@pytest.mark.parametrize("method", LEARNING)
def test_every_method_learns_alike(world: World, tmp_path: Path, method: str) -> None:
    """No noise, rate, batch or order of rows that one method has alone, but for partners."""
    start, budget = learn(world, method, SMALL), SMALL.budget
    training = recorded(start, METHODS[method].pretrain, steps=4, log=Log(tmp_path))
    for number, objective in enumerate(training.objectives):

        def order_of(epoch: int, objective: Objective = objective) -> np.ndarray:
            shuffled = np.random.default_rng((SMALL.seed, epoch)).permutation(len(objective.rows))
            rng = np.random.default_rng((SMALL.seed, epoch, 1))
            return objective.arrange(shuffled, budget.batch, rng)

        order = row_batches(len(objective.rows), budget.batch, SMALL.seed, order_of)
        rng = torch.Generator().manual_seed(stage_seed(SMALL.seed, number))
        given = training.batches[number]
        assert len(given) == training.stages[number].steps > 0
        for batch, chosen in zip(given, order, strict=False):
            expected = make_batch(
                objective.rows, chosen, training.statistics, SMALL.augmentation, rng
            )
            for name, values in expected.inputs.items():
                assert torch.equal(batch.inputs[name], values)
            assert torch.equal(batch.present, expected.present)
    lines = [json.loads(line) for line in (tmp_path / METRICS).read_text().splitlines()]
    assert [line["stage"] for line in lines] == [one.name for one in training.stages]
    for line in lines:
        factor = learning_rate_factor(line["step"] - 1, line["step"], budget.warmup)
        assert line["learning_rate"] == pytest.approx(budget.learning_rate * factor)


@pytest.mark.parametrize("method", [*LEARNING, "mmbind hard"])
def test_what_was_not_measured_is_no_view(world: World, method: str) -> None:
    method, _, targets = method.partition(" ")
    config = hard() if targets else SMALL
    for objective in objectives_of(world, method, config):
        if not isinstance(objective, Contrast | SoftContrast):
            continue
        chosen = np.arange(0, len(objective.rows), 2)
        here = torch.from_numpy(objective.rows.present[chosen]).unsqueeze(-1)
        z = embeddings(objective, len(chosen), 0)
        changed = torch.where(here, z, embeddings(objective, len(chosen), 1))
        one, two = objective.loss(z, chosen), objective.loss(changed, chosen)
        if method in DUMMIES_ARE_VIEWS:
            assert not torch.isclose(one, two)
        else:
            assert torch.equal(one, two)


def test_weights_are_the_table_s_and_reach_the_loss(world: World) -> None:
    data = open_store(world.bound)
    assert isinstance(data, BoundDataset)
    table = data.pairs()["weight"].to_numpy().astype(np.float32)
    assert table.std() > 0
    (plain,) = objectives_of(world, "mmbind", hard())
    (without,) = objectives_of(world, "mmbind", hard(weights="none"))
    (published,) = objectives_of(world, "mmbind", hard(weights="published"))
    assert np.array_equal(plain.rows.weight, table)
    assert (without.rows.weight == 1).all()
    assert np.array_equal(published.rows.weight, published_weights(plain.rows))
    (soft,) = objectives_of(world, "mmbind", SMALL)
    for objective in (plain, soft):
        chosen = np.arange(len(objective.rows))
        z = embeddings(objective, len(chosen), 0)
        before = objective.loss(z, chosen)
        weight = np.linspace(0, 3, len(chosen), dtype=np.float32)
        objective.rows = replace(objective.rows, weight=weight * objective.rows.weight)
        tripled = replace(objective.rows, weight=3 * objective.rows.weight)
        after = objective.loss(z, chosen)
        objective.rows = tripled
        torch.testing.assert_close(objective.loss(z, chosen), 3 * after)
        assert not torch.isclose(before, after)


def test_weights_of_pairs_decide_what_is_learnt(world: World) -> None:
    """Soft targets: other weights, no pairs, or other partners give another network."""
    data = open_store(world.bound)
    rows = read_rows(data, "mmbind", SMALL)
    pseudo = rows.kind == "pseudo"

    def learnt(**changes: Any) -> dict[str, Tensor]:
        changed = replace(rows, **changes.pop("rows", {}))
        training = pretrain(changed, data, "mmbind", SMALL, steps=3, **changes)
        return training.model.state_dict()

    def differ(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
        return any(not torch.equal(one[key], two[key]) for key in one)

    plain, again = learnt(), learnt()
    assert not differ(plain, again)
    weight = np.where(pseudo, np.linspace(0.1, 1, len(rows)), 1).astype(np.float32)
    assert differ(plain, learnt(rows={"weight": weight}))
    nobody = np.where(pseudo, 0, rows.weight).astype(np.float32)
    alone = learnt(rows={"weight": nobody})
    assert differ(plain, alone)
    own = incomplete_rows(rows)
    without = learnt(partners=lambda _: PairGraph.without_links(len(own)))
    assert not differ(alone, without)


def test_every_channel_has_constants_of_its_own(world: World) -> None:
    """The published constants of MotionSense were permuted: a deviation of 25.7 instead of 1."""
    rows = gather_store(open_dataset(world.full), ["acc", "skeleton"])
    scale = np.array([1, 10, 100], dtype=np.float32)
    values = {}
    for name, one in rows.values.items():
        assert isinstance(one, np.ndarray)
        values[name] = one * scale + scale[::-1]
    rows = replace(rows, values=values)
    batch = make_batch(rows, np.arange(len(rows)), measure_statistics(rows))
    for tensor in batch.inputs.values():
        channels = tensor.flatten(0, -2).double()
        torch.testing.assert_close(channels.mean(dim=0), torch.zeros(3).double(), atol=1e-4, rtol=0)
        deviation = channels.std(dim=0, correction=0)
        torch.testing.assert_close(deviation, torch.ones(3).double(), atol=1e-3, rtol=0)


def test_a_stage_that_reads_no_labels_is_given_none(world: World) -> None:
    config = SMALL.model_copy(update={"labels": True})
    data = open_store(world.AB)
    rows = read_rows(data, "upper_bound", config)
    assert rows.label_names
    training = pretrain(rows, data, "upper_bound", config, steps=0)
    objective = Contrast(training.model, rows, config)
    training.run("contrast", objective)
    assert objective.rows.label_names == ()
    assert (objective.rows.label == -1).all()


def test_cmg_never_generates_a_modality_from_itself(world: World) -> None:
    training = learn(world, "cmg", SMALL)
    translate = Translate(training.model, training.rows, "acc").eval()
    rng = torch.Generator().manual_seed(0)
    inputs = {
        name: torch.randn(4, *one.shape, generator=rng)
        for name, one in training.rows.modalities.items()
    }
    present = torch.ones(4, len(inputs), dtype=torch.bool)
    with torch.no_grad():
        made = translate.generate(inputs, present, "gyro")
        for name, values in inputs.items():
            again = translate.generate(inputs | {name: values + 1}, present, "gyro")
            assert torch.equal(made, again) == (name != "acc")


def test_a_test_sample_is_judged_by_itself_alone(world: World, tmp_path: Path) -> None:
    """Statistics or batches of the test, or dropout, would show when it is taken one by one."""
    train(world.bound, tmp_path / "run", method="mim", config=SMALL)
    info, model = load_run(tmp_path / "run")
    store = open_dataset(world.full)
    rows = gather_store(store, list(info.modalities), like=info.modalities)
    subject = np.array(store.samples()["subject"].to_pylist())
    tuned_on, held_out = (rows.select(np.flatnonzero(subject == one)) for one in ("5", "6"))
    config = EvaluateConfig(budget=Budget(steps=5))
    tuned = finetune(Pretrained(info, model, None), tuned_on, config, 0)
    logits: list[Tensor] = []
    tuned.classifier.register_forward_hook(lambda _, __, given: logits.append(given))
    predict(tuned, held_out)
    for row in range(len(held_out)):
        predict(tuned, held_out.select(np.array([row])))
    whole, *parts = logits
    assert len(whole) == len(parts) == 9
    torch.testing.assert_close(torch.cat(parts), whole, atol=1e-4, rtol=1e-4)


def test_labels_of_a_source_that_was_bound_by_a_sensor_are_not_read(world: World) -> None:
    data = open_store(world.bound)
    assert isinstance(data, BoundDataset)

    def shared(*names: str) -> BoundDataset:
        return replace(data, info=data.info.model_copy(update={"shared": names}))

    assert not bound_by_label(data)
    assert bound_by_label(shared("label"))
    assert bound_by_label(shared("acc", "label"))  # all sources' labels were compared at the end
    # the third source joined by acc: nobody has been given its labels
    assert not bound_by_label(shared("label", "acc"))
    rows = read_rows(data, "mmbind", SMALL)
    with pytest.raises(ValueError, match="must not be read"):
        with_anchor_labels(rows, shared("label", "acc"))


def test_rows_of_a_mean_have_the_label_of_their_anchor(world: World, tmp_path: Path) -> None:
    options = replace(PLAIN, rule=replace(PLAIN.rule, top_k=3), mean=True)
    bind([world.A, world.B], tmp_path / "o.zarr", shared="acc", options=options)
    data = open_store(tmp_path / "o.zarr")
    assert isinstance(data, BoundDataset)
    by_label = replace(data, info=data.info.model_copy(update={"shared": ("label",)}))
    rows = with_anchor_labels(read_rows(data, "mmbind", SMALL), by_label)
    table = [row for row in data.pairs().to_pylist() if row["rank"] == 0]
    # a uid is small-subject-label-trial
    expected = [int(row["anchor_uid"].split("-")[2]) for row in table]
    assert set(rows.kind) == {"mean", "incomplete"}
    assert [LABELS.index(rows.label_names[code]) for code in rows.label] == expected


def test_what_the_binding_calls_the_same_is_one_class(world: World) -> None:
    """Rows of "wave" and "clap" are each other's positives where a label map made them one."""
    data = open_store(world.bound)
    assert isinstance(data, BoundDataset)
    maps = [{"wave": "kick"}, {"wave": "greeting", "clap": "greeting"}]
    binder = [
        data.info.binder[0].model_copy(update={"embedding": {"name": "text", "label_map": words}})
        for words in maps
    ]
    info = data.info.model_copy(update={"shared": ("label",), "binder": tuple(binder)})
    rows = with_anchor_labels(read_rows(data, "mmbind", SMALL), replace(data, info=info))
    assert rows.label_names == ("greeting", "kick")  # the last binding's words stand
    was = [int(uid.split("-")[2]) for uid in data.pairs()["anchor_uid"].to_pylist()]
    names = ["greeting" if LABELS[code] in ("wave", "clap") else "kick" for code in was]
    assert [rows.label_names[code] for code in rows.label] == names


def of_nobody(store: Path) -> Path:
    """Take the subjects' names from a store's attributes."""
    document = json.loads((store / "zarr.json").read_text())
    document["attributes"]["mmbind"]["subjects"] = {}
    (store / "zarr.json").write_text(json.dumps(document))
    return store


def test_samples_of_nobody_are_met_once(world: World, tmp_path: Path) -> None:
    """Where a dataset names no subjects, the samples themselves must be apart."""
    train(world.bound, tmp_path / "run", method="lower_bound", config=SMALL)
    nobody = write_small_store(tmp_path / "nobody.zarr", dataset_id="pictures", subjects=("1",))
    of_nobody(nobody)
    quick = EvaluateConfig(seeds=(0,), budget=Budget(steps=1))
    with pytest.raises(LeakError, match=r"in finetune and in test.*9 samples in both"):
        evaluate(tmp_path / "run", nobody, nobody, config=quick)


def test_samples_of_nobody_that_were_trained_on_are_not_met_again(tmp_path: Path) -> None:
    everyone = write_small_store(tmp_path / "everyone.zarr", subjects=tuple("12345"))

    def store(subject: str, *names: str) -> Path:
        path = tmp_path / f"{subject}.zarr"
        partition(everyone, path, subjects=[subject], modalities=list(names))
        return of_nobody(path)

    a, b = store("1", "acc", "skeleton"), store("2", "acc", "gyro")
    c, t, other = (store(subject, "acc", "gyro") for subject in "345")
    run, tuned = tmp_path / "run", tmp_path / "tuned"
    bind([a, b], tmp_path / "o.zarr", shared="acc", options=PLAIN)
    train(tmp_path / "o.zarr", run, config=SMALL)
    quick = EvaluateConfig(seeds=(0,), budget=Budget(steps=1))
    evaluate(run, c, t, config=quick, save=tuned)
    for trained, first, second, role in (
        (run, b, t, "finetune"), (run, c, a, "test"), (tuned, other, c, "test"),
    ):  # fmt: skip
        with pytest.raises(LeakError, match=rf"in pretrain and in {role}.* got 9 samples in both"):
            evaluate(trained, first, second, config=quick)


def renamed(store: Path, dataset: str, raw: str) -> Path:
    """Make a store one of another dataset, with uids of its own, that was cut from one raw file."""
    document = json.loads((store / "zarr.json").read_text())
    document["attributes"]["mmbind"]["dataset_id"] = dataset
    (store / "zarr.json").write_text(json.dumps(document))
    table = open_dataset(store).samples()
    texts = [f"{dataset}-{uid}" for uid in table["uid"].to_pylist()]
    table = table.set_column(table.column_names.index("uid"), "uid", pa.array(texts))
    table = table.append_column("raw_file", pa.array(["x.csv"] * len(table)))
    pq.write_table(table, store / SAMPLES)
    pq.write_table(pa.table({"path": ["x.csv"], "sha256": [raw]}), store / RAW_FILES)
    return store


def test_a_recording_is_met_once_whatever_it_is_called(tmp_path: Path) -> None:
    """One raw file that was converted under two names has other uids and other subjects."""

    def store(name: str, raw: str, *modalities: str) -> Path:
        frames = {one: FRAMES[one] for one in modalities}
        path = tmp_path / f"{name}.zarr"
        return renamed(write_small_store(path, frames=frames, subjects=(name,)), name, raw)

    a, b = store("a", "1" * 64, "acc", "skeleton"), store("b", "2" * 64, "acc", "gyro")
    c, t = store("c", "3" * 64, "acc", "gyro"), store("t", "4" * 64, "acc", "gyro")
    same_as_c, same_as_b = store("d", "3" * 64, "acc", "gyro"), store("e", "2" * 64, "acc", "gyro")
    bind([a, b], tmp_path / "o.zarr", shared="acc", options=PLAIN)
    train(tmp_path / "o.zarr", tmp_path / "run", config=SMALL)
    quick = EvaluateConfig(seeds=(0,), budget=Budget(steps=1))
    evaluate(tmp_path / "run", c, t, config=quick)
    for first, second, words in (
        (c, same_as_c, "recordings are in finetune and in test"),
        (c, same_as_b, "recordings are in pretrain and in test"),
        (same_as_b, t, "recordings are in pretrain and in finetune"),
    ):
        with pytest.raises(LeakError, match=words):
            evaluate(tmp_path / "run", first, second, config=quick)
    pq.write_table(pa.table({"path": ["x.csv"], "sha256": ["1" * 64]}), b / RAW_FILES)
    with pytest.raises(LeakError, match=r"recordings are in a and in b .*got 1 recordings in both"):
        train(tmp_path / "o.zarr", tmp_path / "again", config=SMALL)
