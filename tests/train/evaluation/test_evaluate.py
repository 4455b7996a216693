"""Fine-tuning and test: labels, budgets, and a test store that is read once, last."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from smallstores import LABELS, World, write_small_store

from mmbind_data.errors import UsageError
from mmbind_data.store.dataset import Dataset
from mmbind_data.store.partitioning import partition
from mmbind_train.config import Budget, EvaluateConfig, NetworkOptions, TrainConfig
from mmbind_train.data.training_set import measure_statistics
from mmbind_train.evaluation import finetune as finetune_module
from mmbind_train.evaluation.evaluate import Result, evaluate
from mmbind_train.evaluation.finetune import Pretrained, choose_labelled
from mmbind_train.evaluation.metrics import FinetunedModel
from mmbind_train.training.loop import Group, fit
from mmbind_train.training.methods import METHODS
from mmbind_train.training.pretrain import train

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


def test_the_test_store_is_read_once_after_the_last_step(
    run: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    read = Dataset._read

    def spy_read(self: Dataset, array: zarr.Array[Any], start: int, stop: int) -> np.ndarray:
        events.append(f"read {self.path.stem} {array.path}")
        return read(self, array, start, stop)

    monkeypatch.setattr(Dataset, "_read", spy_read)

    def spy_fit(*args: object, **kwargs: object) -> float | None:
        events.append("fit begins")
        loss = fit(*args, **kwargs)  # type: ignore[arg-type]
        events.append("fit ends")
        return loss

    monkeypatch.setattr(finetune_module, "fit", spy_fit)
    seeds = (0, 1, 2)
    budget = Budget(steps=2)
    evaluate(run, world.C, world.T, config=EvaluateConfig(seeds=seeds, budget=budget))
    last_fit = len(events) - 1 - events[::-1].index("fit ends")
    assert events.count("fit ends") == 3
    assert not [event for event in events[:last_fit] if event.startswith("read T")]
    for name in ("gyro", "skeleton"):
        assert events[last_fit + 1 :].count(f"read T modalities/{name}/data") == 1


def test_test_rows_never_enter_the_statistics(
    run: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def spy(rows: object) -> object:
        seen.append(len(rows))  # type: ignore[arg-type]
        return measure_statistics(rows)  # type: ignore[arg-type]

    monkeypatch.setattr(finetune_module, "measure_statistics", spy)
    config = EvaluateConfig(seeds=(0,), labels_per_class=2, budget=Budget(steps=1))
    evaluate(run, world.C, world.T, config=config)
    assert seen == [6]
    kept = config.model_copy(update={"statistics": "pretrain"})
    evaluate(run, world.C, world.T, config=kept)
    assert seen == [6]


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


def test_methods_are_fine_tuned_alike_but_for_space_and_start(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spaces = dict.fromkeys(METHODS, ("embedding", "means"))
    spaces |= {"unimodal": ("feature", "means"), "lower_bound": ("feature", "random")}
    seen: list[dict[str, Any]] = []
    begun: list[tuple[str, str]] = []
    real = finetune_module._begin

    def begin(pretrained: Pretrained, *rest: Any) -> FinetunedModel:
        tuned = real(pretrained, *rest)
        begun.append((tuned.space, pretrained.start(rest[2])))
        return tuned

    def spy(groups: list[Group], loss_of: Any, **options: Any) -> float | None:
        names = ("n_rows", "n_steps", "budget", "seed")
        rates = [one.rate for one in groups]
        seen.append({"rates": rates, **{name: options[name] for name in names}})
        return fit(groups, loss_of, **options)

    monkeypatch.setattr(finetune_module, "_begin", begin)
    monkeypatch.setattr(finetune_module, "fit", spy)
    config = QUICK.model_copy(update={"seeds": (3,), "budget": Budget(steps=1)})
    same = config.model_copy(update={"space": "embedding", "start": "random"})
    once = SMALL.model_copy(update={"budget": Budget(steps=2, batch=16)})
    for method in METHODS:
        path = world.AB if method == "upper_bound" else world.bound
        train(path, tmp_path / method, method=method, config=once)
        for one in (config, same):
            evaluate(tmp_path / method, world.C, world.T, config=one)
    assert all(one == seen[0] for one in seen)
    assert seen[0] == {"rates": [1, 1], "n_rows": 9, "n_steps": 1, "budget": Budget(steps=1),
                       "seed": 3}  # fmt: skip
    assert dict(zip(METHODS, begun[::2], strict=True)) == spaces
    assert set(begun[1::2]) == {("embedding", "random")}
