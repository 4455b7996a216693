"""Transfer: labels of some modalities serve others, of which no label is read anywhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from smallstores import World
from torch.nn import functional

from mmbind_data.errors import UsageError
from mmbind_data.store.dataset import open_dataset
from mmbind_data.store.partitioning import partition
from mmbind_train.config import Budget, EvaluateConfig, NetworkOptions, TrainConfig
from mmbind_train.data.batch import make_batch
from mmbind_train.data.training_set import gather_store
from mmbind_train.evaluation.evaluate import Result, evaluate
from mmbind_train.networks.model import SharedClassifier
from mmbind_train.training.pretrain import train
from mmbind_train.training.run_folder import load_classifier, load_run

SMALL = TrainConfig(
    budget=Budget(steps=60, batch=16), network=NetworkOptions(width=8, feature_dim=16)
)
TRANSFER = EvaluateConfig(
    finetune_modalities=("skeleton",), test_modalities=("gyro",), seeds=(0, 1)
)


@pytest.fixture(scope="module")
def run(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "run"
    train(world.bound, path, method="mmbind", config=SMALL)
    return path


def embeddings(run: Path, store: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Unit embeddings of one modality of a store, and label texts, computed by hand."""
    info, model = load_run(run)
    data = open_dataset(store)
    rows = gather_store(data, like=info.modalities, modalities=[name], every_column=True)
    batch = make_batch(rows, np.arange(len(rows)), info.statistics)
    with torch.no_grad():
        z = model.embed(model.features(batch.inputs, batch.present))
    names = data.names("label")
    label = np.array([names[code] for code in data.column("label")])
    return z[:, list(info.modalities).index(name)].numpy(), label


def test_accuracy_is_that_of_class_means_computed_by_hand(run: Path, world: World) -> None:
    z, label = embeddings(run, world.C, "skeleton")
    queries, truth = embeddings(run, world.T, "gyro")
    classes = np.unique(label)
    means = np.stack([z[label == one].mean(axis=0) for one in classes])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    expected = classes[(queries @ means.T).argmax(axis=1)] == truth
    result = evaluate(run, world.C, world.T, config=TRANSFER)
    assert [one.accuracy for one in result.per_seed] == [pytest.approx(expected.mean())] * 2
    assert result.finetune_modalities == ("skeleton",)
    assert result.test_modalities == ("gyro",)
    assert result.modalities == ("skeleton", "gyro")
    assert result.per_seed[0].final_loss is None
    assert Result.model_validate_json(result.model_dump_json()) == result


def test_nothing_of_the_tested_modality_is_read_in_c(run: Path, own_world: World) -> None:
    """Neither its samples nor, therefore, any label of it: C may hold any values there."""
    learnt = TRANSFER.model_copy(update={"learn": "head", "budget": Budget(steps=5, batch=8)})
    first = [evaluate(run, own_world.C, own_world.T, config=one) for one in (TRANSFER, learnt)]
    data = zarr.open_array(own_world.C / "modalities" / "gyro" / "data", mode="r+")
    data[:] = np.asarray(data)[::-1] * 100
    again = [evaluate(run, own_world.C, own_world.T, config=one) for one in (TRANSFER, learnt)]
    assert again == first
    # and the modality whose labels are read need not arrive in T
    data = zarr.open_array(own_world.T / "modalities" / "skeleton" / "data", mode="r+")
    data[:] = 0
    assert [
        evaluate(run, own_world.C, own_world.T, config=one) for one in (TRANSFER, learnt)
    ] == first


def test_each_store_needs_its_own_modalities_only(run: Path, world: World, tmp_path: Path) -> None:
    c, t = tmp_path / "C.zarr", tmp_path / "T.zarr"
    partition(world.C, c, modalities=["skeleton"])
    partition(world.T, t, modalities=["gyro"])
    config = TRANSFER.model_copy(update={"seeds": (0,)})
    result = evaluate(run, c, t, config=config)
    assert result.accuracy == evaluate(run, world.C, world.T, config=config).accuracy
    with pytest.raises(UsageError, match=r"no such modality at .*T\.zarr.*'skeleton'"):
        evaluate(run, c, t, config=config, retrieval=True)


def test_labels_per_class_draw_other_labels_for_each_seed(run: Path, world: World) -> None:
    config = TRANSFER.model_copy(update={"labels_per_class": 1, "seeds": (0, 1, 2)})
    result = evaluate(run, world.C, world.T, config=config)
    assert [one.n_finetune for one in result.per_seed] == [3, 3, 3]


@pytest.mark.parametrize(
    ("learn", "moved"), [("means", set()), ("head", set()), ("all", {"skeleton"})]
)
def test_only_what_is_to_learn_changes(
    run: Path, world: World, tmp_path: Path, learn: str, moved: set[str]
) -> None:
    config = TRANSFER.model_copy(
        update={"learn": learn, "seeds": (0,), "budget": Budget(steps=5, batch=8)}
    )
    result = evaluate(run, world.C, world.T, config=config, save=tmp_path / "saved")
    assert (result.per_seed[0].final_loss is None) == (learn == "means")
    before, after = load_run(run)[1].state_dict(), load_run(tmp_path / "saved")[1].state_dict()
    changed = {name.split(".")[1] for name in before if not torch.equal(before[name], after[name])}
    assert changed == moved
    # the saved classifier treats all modalities alike
    classifier = load_classifier(tmp_path / "saved", load_run(tmp_path / "saved")[0])
    assert classifier is not None
    parts = classifier.linear.weight.chunk(3, dim=1)
    assert torch.equal(parts[0], parts[1])
    assert torch.equal(parts[0], parts[2])


def test_hold_keeps_the_encoders_near_their_start(run: Path, world: World, tmp_path: Path) -> None:
    def distance(hold: float) -> float:
        config = TRANSFER.model_copy(
            update={
                "learn": "all",
                "seeds": (0,),
                "hold": hold,
                "budget": Budget(steps=20, batch=8),
            }
        )
        path = tmp_path / str(hold)
        evaluate(run, world.C, world.T, config=config, save=path)
        before, after = load_run(run)[1], load_run(path)[1]
        return sum(
            float(((a - b) ** 2).detach().sum())
            for a, b in zip(before.parameters(), after.parameters(), strict=True)
        )

    assert distance(100.0) < 0.5 * distance(0.0)


def test_shared_classifier_adds_the_logits_of_what_is_present() -> None:
    classifier = SharedClassifier(4, 3, 0.5).eval()
    with torch.no_grad():
        classifier.linear.bias.copy_(torch.tensor([0.1, 0.2, 0.3]))
    features = torch.randn(5, 2, 4)
    features[0, 1] = 0  # absent
    z = 2 * functional.normalize(features, dim=-1)
    expected = z[:, 0] @ classifier.linear.weight.T + z[:, 1] @ classifier.linear.weight.T
    torch.testing.assert_close(classifier(features), expected + classifier.linear.bias)
    torch.testing.assert_close(classifier.for_each(2)(features), classifier(features))


def test_what_is_labelled_and_tested_must_differ(run: Path, world: World) -> None:
    both = EvaluateConfig(finetune_modalities=("gyro", "skeleton"), test_modalities=("gyro",))
    with pytest.raises(UsageError, match=r"gyro would be labelled and tested.*Use --modalities"):
        evaluate(run, world.C, world.T, config=both)
    for fields, words in (
        ({"test_modalities": ("gyro",)}, "or neither"),
        ({"finetune_modalities": ("gyro",)}, "or neither"),
        (
            {
                "modalities": ("gyro",),
                "finetune_modalities": ("skeleton",),
                "test_modalities": ("gyro",),
            },
            "not both",
        ),
    ):
        with pytest.raises(ValueError, match=words):
            EvaluateConfig.model_validate(fields)
