"""One fine-tuned network for any subset of its modalities, and its files."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from smallstores import World

from mmbind_data.errors import LeakError, OutputError
from mmbind_data.store.dataset import open_dataset
from mmbind_train.config import Budget, EvaluateConfig, NetworkOptions, TrainConfig
from mmbind_train.data.batch import drop_modalities
from mmbind_train.data.training_set import gather_store, measure_statistics
from mmbind_train.evaluation.evaluate import evaluate
from mmbind_train.exporting.export import export, load_program
from mmbind_train.training.logs import METRICS
from mmbind_train.training.pretrain import train
from mmbind_train.training.run_folder import load_classifier, load_run

SMALL = TrainConfig(
    budget=Budget(steps=10, batch=16), network=NetworkOptions(width=8, feature_dim=16)
)
QUICK = EvaluateConfig(
    seeds=(0, 1), budget=Budget(steps=12, batch=16, learning_rate=1e-2), modality_dropout=0.4
)


@pytest.fixture(scope="module")
def run(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "run"
    train(world.bound, path, config=SMALL)
    return path


def test_dropped_modalities_against_a_loop() -> None:
    present = torch.tensor([[True, True, True], [True, False, True], [False, True, False]] * 400)
    kept = drop_modalities(present, 0.6, torch.Generator().manual_seed(3))
    rng = torch.Generator().manual_seed(3)
    first, second = (torch.rand(present.shape, generator=rng) for _ in range(2))
    for row in range(len(present)):
        expected = [bool(present[row, k]) and bool(first[row, k] >= 0.6) for k in range(3)]
        if not any(expected):
            has = [k for k in range(3) if present[row, k]]
            expected[max(has, key=lambda k: float(second[row, k]))] = True
        assert kept[row].tolist() == expected
    whole = present.all(dim=1)
    assert 0.4 < float(kept[whole].float().mean()) < 0.55  # 0.4 + 0.6^3 / 3 of what was there
    untouched = torch.Generator().manual_seed(1)
    before = untouched.get_state()
    assert drop_modalities(present, 0.0, untouched) is present
    assert torch.equal(untouched.get_state(), before)


def test_every_subset_of_one_network_against_a_loop(
    run: Path, world: World, tmp_path: Path
) -> None:
    one_seed = QUICK.model_copy(update={"seeds": (0,)})
    saved = tmp_path / "tuned"
    result = evaluate(run, world.C, world.T, config=one_seed, every_subset=True, save=saved)
    info, model = load_run(saved)
    classifier = load_classifier(saved, info)
    assert classifier is not None
    assert info.classes == result.classes
    assert info.finetuned is not None
    assert info.finetuned.modalities == result.modalities
    assert info.finetuned.config.seeds == (0,)
    names = result.modalities
    before, _ = load_run(run)
    labelled = gather_store(open_dataset(world.C), names, like=info.modalities)
    measured = measure_statistics(labelled)
    assert info.statistics == {**before.statistics, **{name: measured[name] for name in names}}
    assert before.statistics != info.statistics
    assert [one.name for one in info.stages] == [
        *(one.name for one in before.stages), "finetune seed 0",
    ]  # fmt: skip
    assert info.stages[-1].n_rows == {"labelled": result.per_seed[0].n_finetune}
    lines = [json.loads(line) for line in (saved / METRICS).read_text().splitlines()]
    assert [one["stage"] for one in lines][-1] == "finetune seed 0"
    assert (run / METRICS).read_text() in (saved / METRICS).read_text()
    expected = [s for n in (1, 2) for s in itertools.combinations(names, n)]
    assert [one.modalities for one in result.per_subset] == expected
    store = open_dataset(world.T)
    rows = gather_store(store, names, like=info.modalities)
    truth = [info.classes.index(store.names("label")[code]) for code in store.column("label")]
    for parameter in [*model.parameters(), *classifier.parameters()]:
        parameter.requires_grad = False
    for one in result.per_subset:
        right = 0
        for row in range(len(rows)):
            columns = []
            for name in info.modalities:
                feature = torch.zeros(model.dims[name])
                if name in one.modalities:
                    stats = info.statistics[name]
                    value = np.asarray(rows.values[name])[rows.index[row, names.index(name)]]
                    scaled = (value - np.array(stats.mean)) / np.array(stats.std)
                    feature = model.encoders[name](torch.from_numpy(scaled)[None].float())[0]
                columns.append(feature)
            if info.space == "embedding":
                columns = [
                    torch.nn.functional.normalize(model.heads[name](f), dim=0)
                    if name in one.modalities
                    else torch.zeros(model.embedding_dim)
                    for name, f in zip(info.modalities, columns, strict=True)
                ]
            right += int(classifier(torch.stack(columns)[None]).argmax()) == truth[row]
        assert one.accuracy == pytest.approx(right / len(rows))
        assert one.n_test == len(rows)
    assert result.per_subset[-1].accuracy == result.accuracy
    assert np.trace(np.array(result.confusion)) == round(result.accuracy * result.n_test)
    assert np.sum(result.confusion) == result.n_test


def test_a_saved_network_is_exported_with_its_logits(
    run: Path, world: World, tmp_path: Path
) -> None:
    result = evaluate(run, world.C, world.T, config=QUICK, save=tmp_path / "tuned")
    contract = export(tmp_path / "tuned", tmp_path / "out")
    assert set(contract.modalities) == {"gyro", "skeleton"}
    assert contract.classifier is not None
    store = open_dataset(world.T)
    names = contract.classifier.modalities
    rows = gather_store(store, names, recentre="none")
    read = []
    for name in names:
        program = load_program(tmp_path / "out" / contract.modalities[name].file)
        feature, embedding = program(torch.from_numpy(rows.values[name][np.arange(len(rows))]))
        read.append(feature if contract.classifier.reads == "feature" else embedding)
    classify = load_program(tmp_path / "out" / contract.classifier.file)
    logits = classify(torch.ones(len(rows), 2, dtype=torch.bool), *read)
    assert isinstance(logits, torch.Tensor)
    said = [contract.classifier.classes[k] for k in logits.argmax(dim=1).tolist()]
    truth = [store.names("label")[code] for code in store.column("label")]
    right = np.mean([a == b for a, b in zip(said, truth, strict=True)])
    assert right == pytest.approx(result.per_seed[0].accuracy)


def test_a_saved_network_remembers_whom_it_has_seen(
    run: Path, world: World, tmp_path: Path
) -> None:
    saved = tmp_path / "tuned"
    plain = evaluate(run, world.C, world.T, config=QUICK)
    assert plain.per_subset == ()
    kept = evaluate(run, world.C, world.T, config=QUICK, save=saved)
    assert kept == plain.model_copy(update={"saved": str(saved)})
    with pytest.raises(LeakError):
        evaluate(saved, world.T, world.C, config=QUICK)
    with pytest.raises(OutputError, match="exists already"):
        evaluate(run, world.C, world.T, config=QUICK, save=saved)
    with pytest.raises(OutputError, match="one of the inputs"):
        evaluate(run, world.C, world.T, config=QUICK, save=run, overwrite=True)


def test_dropout_of_modalities_changes_what_is_learnt(run: Path, world: World) -> None:
    without = QUICK.model_copy(update={"modality_dropout": 0.0})
    losses = [
        [seed.final_loss for seed in evaluate(run, world.C, world.T, config=one).per_seed]
        for one in (QUICK, without)
    ]
    assert losses[0] != losses[1]
