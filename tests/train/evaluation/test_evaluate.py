"""Fine-tuning and test: labels, budgets, and a test store that is read once, last."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from smallstores import LABELS, World, write_small_store

from mmbind_data.errors import UsageError
from mmbind_data.store.dataset import open_dataset
from mmbind_data.store.partitioning import partition
from mmbind_train.config import Budget, EvaluateConfig, NetworkOptions, TrainConfig
from mmbind_train.data.training_set import gather_store, measure_statistics
from mmbind_train.evaluation.evaluate import Result, evaluate
from mmbind_train.evaluation.finetune import choose_labelled
from mmbind_train.training.methods import METHODS
from mmbind_train.training.pretrain import train
from mmbind_train.training.run_folder import load_classifier, load_run

SMALL = TrainConfig(
    budget=Budget(steps=10, batch=16), network=NetworkOptions(width=8, feature_dim=16)
)
QUICK = EvaluateConfig(seeds=(0, 1), budget=Budget(steps=60, batch=16, learning_rate=1e-2))


@pytest.fixture(scope="module")
def run(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "run"
    train(world.bound, path, method="mmbind", config=SMALL)
    return path


def test_separable_activities_are_learnt(run: Path, world: World) -> None:
    result = evaluate(run, world.C, world.T, config=QUICK)
    assert result.n_test == 9
    assert result.n_classes == 3
    assert result.accuracy == pytest.approx(np.mean([one.accuracy for one in result.per_seed]))
    assert result.macro_f1 == pytest.approx(np.mean([one.macro_f1 for one in result.per_seed]))
    assert result.accuracy > 0.8
    assert [one.seed for one in result.per_seed] == [0, 1]
    assert result.modalities == tuple(
        m for m in ("acc", "skeleton", "gyro") if m in result.modalities
    )
    assert set(result.modalities) == {"gyro", "skeleton"}
    assert result.subjects["test"] == {"small": ("6",)}
    assert Result.model_validate_json(result.model_dump_json()) == result


def test_the_same_seeds_give_the_same_result(run: Path, world: World) -> None:
    first = evaluate(run, world.C, world.T, config=QUICK)
    assert evaluate(run, world.C, world.T, config=QUICK) == first
    swapped = QUICK.model_copy(update={"seeds": (1, 0)})
    assert evaluate(run, world.C, world.T, config=swapped).per_seed == first.per_seed[::-1]


def test_the_test_store_is_read_after_the_last_step(
    run: Path, own_world: World, tmp_path: Path
) -> None:
    """Until then its samples are not even there."""
    samples, away = own_world.T / "modalities", tmp_path / "away"

    def put_back(done: int, total: int, text: str) -> None:
        if done == total:
            away.rename(samples)

    for watching in (True, False):
        samples.rename(away)
        config = EvaluateConfig(seeds=(0, 1, 2), budget=Budget(steps=2))
        options: dict[str, Any] = {"config": config, "progress": put_back}
        if watching:  # the statistic that looks at the test while training goes on
            with pytest.raises((OSError, ValueError, KeyError)):
                evaluate(run, own_world.C, own_world.T, paper_statistic=True, **options)
            away.rename(samples)
        else:
            assert evaluate(run, own_world.C, own_world.T, **options).n_test == 9


def test_test_rows_never_enter_the_statistics(run: Path, world: World, tmp_path: Path) -> None:
    store = open_dataset(world.C)
    config = EvaluateConfig(seeds=(0,), labels_per_class=2, budget=Budget(steps=1))
    kept = config.model_copy(update={"statistics": "pretrain"})
    chosen = choose_labelled(store.column("label").astype(int), config, 0)
    assert len(chosen) == 6
    pretrained = load_run(run)[0]
    rows = gather_store(store, rows=chosen, like=pretrained.modalities)
    for one, expected in ((config, measure_statistics(rows)), (kept, pretrained.statistics)):
        saved = tmp_path / one.statistics
        used = evaluate(run, world.C, world.T, config=one, save=saved).modalities
        found = load_run(saved)[0].statistics
        assert [found[name] for name in used] == [expected[name] for name in used]


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        ({"labels_per_class": 2}, [2, 2, 1]),
        ({"label_fraction": 0.5}, [2, 5, 1]),
        ({"label_fraction": 0.01}, [1, 1, 1]),
        ({}, [4, 10, 1]),
    ],
)
def test_label_budgets_are_stratified_and_seeded(
    budget: dict[str, float], expected: list[int]
) -> None:
    label = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [4, 10, 1]))
    config = EvaluateConfig.model_validate(budget)
    draws = [choose_labelled(label, config, seed).tolist() for seed in range(8)]
    for draw in draws:
        assert np.bincount(label[draw], minlength=3).tolist() == expected
        assert draw == sorted(set(draw))
    assert choose_labelled(label, config, 3).tolist() == draws[3]
    assert len({tuple(draw) for draw in draws}) > 1 or not budget


def test_labels_are_matched_by_text(run: Path, tmp_path: Path, world: World) -> None:
    same = evaluate(run, world.C, world.T, config=QUICK)
    # the waves belong to the position of a label: with the texts turned round all must be wrong
    turned = (LABELS[1], LABELS[2], LABELS[0])
    for name, labels in (("t", LABELS), ("turned", turned)):
        write_small_store(tmp_path / f"{name}_full.zarr", labels=labels)
        partition(tmp_path / f"{name}_full.zarr", tmp_path / f"{name}.zarr", subjects=["6"])
    assert evaluate(run, world.C, tmp_path / "t.zarr", config=QUICK).accuracy == same.accuracy
    assert evaluate(run, world.C, tmp_path / "turned.zarr", config=QUICK).accuracy < 0.2


def test_a_test_label_that_cannot_be_learnt(run: Path, tmp_path: Path, world: World) -> None:
    write_small_store(tmp_path / "o.zarr", dataset_id="other", labels=("clap", "kick", "waves"))
    with pytest.raises(UsageError, match=r"got waves\. Did you mean wave"):
        evaluate(run, world.C, tmp_path / "o.zarr", config=QUICK)
    # the other way round is fine: a class that is never tested
    write_small_store(tmp_path / "p.zarr", dataset_id="other", labels=("clap", "kick"))
    quick = EvaluateConfig(seeds=(0,), budget=Budget(steps=1))
    assert evaluate(run, world.C, tmp_path / "p.zarr", config=quick).n_classes == 3


def test_stores_without_labels(run: Path, tmp_path: Path, world: World) -> None:
    partition(world.full, tmp_path / "bare.zarr", subjects=["5"], labels="none")
    with pytest.raises(UsageError, match="no labelled samples"):
        evaluate(run, tmp_path / "bare.zarr", world.T, config=QUICK)


def test_modalities_asked_for(run: Path, world: World) -> None:
    quick = EvaluateConfig(seeds=(0,), budget=Budget(steps=1))
    one = quick.model_copy(update={"modalities": ("gyro",)})
    assert evaluate(run, world.C, world.T, config=one).modalities == ("gyro",)
    for name, words in (("acc", r"no such modality at .*C\.zarr"), ("giro", "Did you mean gyro")):
        asked = quick.model_copy(update={"modalities": (name,)})
        with pytest.raises(UsageError, match=words):
            evaluate(run, world.C, world.T, config=asked)


def test_other_lengths_are_stretched_to_the_run_s(run: Path, tmp_path: Path, world: World) -> None:
    frames = {"gyro": 30, "skeleton": 20}
    write_small_store(tmp_path / "o.zarr", dataset_id="other", frames=frames, seed=3)
    assert evaluate(run, world.C, tmp_path / "o.zarr", config=QUICK).accuracy > 0.6


def test_progress_counts_all_seeds(run: Path, world: World) -> None:
    seen: list[tuple[int, int]] = []
    config = EvaluateConfig(seeds=(4, 5), budget=Budget(steps=3))
    evaluate(
        run,
        world.C,
        world.T,
        config=config,
        progress=lambda done, total, _: seen.append((done, total)),
    )
    assert seen == [(n, 6) for n in range(1, 7)]


def test_methods_are_fine_tuned_alike_but_for_space_and_start(world: World, tmp_path: Path) -> None:
    starts = dict.fromkeys(METHODS, ("embedding", "means"))
    starts |= {"unimodal": ("feature", "means"), "lower_bound": ("feature", "random")}
    config = QUICK.model_copy(update={"seeds": (3,), "budget": Budget(steps=0)})
    same = config.model_copy(update={"space": "embedding", "start": "random"})
    once = SMALL.model_copy(update={"budget": Budget(steps=2, batch=16)})
    for method in METHODS:
        path = world.AB if method == "upper_bound" else world.bound
        train(path, tmp_path / method, method=method, config=once)
        for one, expected in ((config, starts[method]), (same, ("embedding", "random"))):
            saved = tmp_path / f"{method}-{one.space}"
            evaluate(tmp_path / method, world.C, world.T, config=one, save=saved)
            info = load_run(saved)[0]
            classifier = load_classifier(saved, info)
            assert classifier is not None
            # the means of classes have no bias
            start = "random" if classifier.linear.bias.any() else "means"
            assert (info.space, start) == expected, method
            stage = info.stages[-1]
            assert (stage.name, stage.steps, stage.n_rows) == (
                "finetune seed 3",
                0,
                {"labelled": 9},
            )
