"""Protocols: every shipped one is well-formed, and unfair ones are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from benchdata import small_document

from mmbind_data.binding.options import DEFAULT, PAPER
from mmbind_data.datasets.registry import load_descriptor
from mmbind_data.errors import FormatError, UsageError
from mmbind_data.matching.rule import MatchRule
from mmbind_train.benchmarks.bind_settings import RandomEmbedding
from mmbind_train.benchmarks.plan import BenchmarkRequest, apply_request
from mmbind_train.benchmarks.protocol import Protocol, differences, list_protocols, load_protocol
from mmbind_train.benchmarks.protocol_parts import Row
from mmbind_train.config import EvaluateConfig, TrainConfig

KNOWN = {
    "lower_bound", "unimodal", "mim", "mpm", "cmg", "dcm", "imagebind", "mmbind", "upper_bound",
}  # fmt: skip
TABLES = (
    "cross-node-sensor", "cross-node-label", "cross-dataset-activity", "cross-dataset-gesture",
    "domain-shift", "ablation", "binding-modality", "pairing-scheme", "natural-pairs",
    "class-overlap", "label-fraction", "cost", "robustness", "motionsense-cross-node",
    "utd-motionsense-cross-dataset",
)  # fmt: skip


def test_every_table_has_a_protocol() -> None:
    for table in TABLES:
        assert [name for name in list_protocols() if table in name], table
    for dataset in ("utd", "mmfi", "pamap2", "sun-rgbd"):
        assert {f"{dataset}-cross-node-sensor", f"{dataset}-cross-node-label"} <= {
            *list_protocols()
        }


@pytest.mark.parametrize("name", list_protocols())
def test_shipped_protocol_fits_the_datasets(name: str) -> None:
    protocol = load_protocol(name)
    assert protocol.name == name
    assert {row.method for row in protocol.rows} <= KNOWN
    assert protocol.validation_splits or name == "utd-transfer-final"
    for source in protocol.sources.values():
        descriptor = load_descriptor(source.dataset)
        preset = descriptor.presets[source.preset]
        assert set(source.modalities or ()) <= set(descriptor.streams)
        assert set(source.options) <= set(descriptor.options)
        assert set(source.placements or ()) <= set(descriptor.placements)
        for node in protocol.nodes.values():
            if protocol.sources[node.source] == source:
                known = source.modalities or preset.modalities
                assert set(node.modalities) <= set(known)
                labels = set(descriptor.labels.values())
                assert set(node.classes or ()) <= labels


@pytest.mark.parametrize("name", list_protocols())
def test_nobody_who_is_tested_helps_to_choose(name: str) -> None:
    protocol = load_protocol(name)
    if "transfer" in name:  # each person is tested once: nobody is left, which is told
        assert protocol.validation_remark or not protocol.validation_splits
    else:
        assert protocol.validation_remark is None  # so V and T are apart, by the rule below
    if name.startswith("utd") and not name.endswith("final"):
        used = {
            person
            for split in (*protocol.splits, *protocol.validation_splits)
            for role, people in split.people.items()
            if protocol.sources[protocol.nodes[role].source].dataset == "utd-mhad"
            for person in (people if isinstance(people, tuple) else ())
        }
        assert used <= set("123456")


def test_final_protocol_tests_the_reserved_people() -> None:
    (split,) = load_protocol("utd-cross-node-sensor-final").splits
    assert split.people == {
        "A": ("1", "6"), "B": ("2", "3"), "C": ("4", "5"), "T": ("7", "8"),
    }  # fmt: skip


def test_configs_are_the_protocols_then_the_rows() -> None:
    protocol = Protocol.model_validate(small_document(), strict=False)
    row = protocol.rows[3]
    train = protocol.train_config(row, 7)
    assert train.seed == 7
    assert (train.budget.steps, train.budget.batch) == (2, 16)
    assert train.budget.learning_rate == TrainConfig().budget.learning_rate
    evaluate = protocol.evaluate_config(row, protocol.conditions[0], 7)
    assert evaluate.seeds == (7,)
    assert evaluate.labels_per_class == 1
    assert evaluate.modalities == ("gyro", "skeleton")
    assert evaluate.dropout == EvaluateConfig().dropout
    bind = protocol.bind_options(row, 7)
    assert bind.embed == RandomEmbedding(7)
    assert (bind.rerank, bind.weight_rule, bind.seed) == ("none", "none", 7)
    assert protocol.bind_options(protocol.rows[2], 0) == DEFAULT


def test_recipes_are_those_of_bind() -> None:
    rows = {row.name: row for row in load_protocol("utd-pairing-scheme").rows}
    protocol = load_protocol("utd-pairing-scheme")
    assert protocol.bind_options(rows["recipe paper"], 0) == PAPER
    assert protocol.bind_options(rows["top 10"], 0) == DEFAULT
    assert protocol.bind_options(rows["best partner"], 0).rule == MatchRule("csls")
    assert protocol.bind_options(rows["top 5"], 0).rule.top_k == 5


# place in the document, what is set there, message
MIM, MMBIND, UPPER = ("rows", 1), ("rows", 2), ("rows", 4)
PEOPLE = ("splits", 0, "people")
BAD: list[tuple[tuple[str | int, ...], dict[str, Any], str]] = [
    (MMBIND, {"train": {"budget": {"steps": 3}}},
     r"row mmbind differs in train.budget.steps at rows.mmbind in \S+p.json: expected the same "
     "budget and options in every row, got options of its own. Set them for all rows; or name"),
    (MMBIND, {"train": {"budget": {"batch": 8}}}, "train.budget.batch"),
    (MMBIND, {"evaluate": {"budget": {"learning_rate": 0.1}}}, "evaluate.budget.learning_rate"),
    (MIM, {"train": {"augmentation": {"jitter": 0}}}, "mim differs in train.augmentation.jitter"),
    (MIM, {"train": {"network": {"width": 16}}}, "train.network.width"),
    (MIM, {"evaluate": {"dropout": 0.9}}, "evaluate.dropout"),
    (MMBIND, {"shared": ["label"]}, "row mmbind differs in shared"),
    (MIM, {"bind": {"embed": "random"}}, "mim does not read pairs"),
    (PEOPLE, {"T": ["4"]}, "T and A have people in common"),
    (PEOPLE, {"B": ["1", "4"]}, "A and B have people in common"),
    (PEOPLE, {"V": ["4"]}, "V cannot stand beside T"),
    (("validation_splits", 0, "people"), {"A": ["5"], "V": ["6"]},
     "say in validation_remark why they are there"),
    (MIM, {"train": {"seed": 5}}, "row mim has train.seed, which seeds sets"),
    # the published MPM was tested on other modalities
    (MIM, {"evaluate": {"modalities": ["acc"]}},
     "row mim has evaluate.modalities, which modalities sets"),
    (("evaluate",), {"label_fraction": 0.5},
     "the protocol has evaluate.label_fraction, which conditions sets"),
    (PEOPLE, {"B": []}, "does not say who is B"),
    ((), {"inputs": ["A", "C", "X"]}, "no node X"),
    (UPPER, {"data": "X"}, "no node X"),
    (UPPER, {"data": None}, "upper_bound takes a node"),
    ((), {"sedes": [1]}, r"unknown field at sedes in \S+p.json.*Did you mean seeds or nodes"),
    (MMBIND, {"train": {"budjet": 1}},
     r"unknown field at rows.mmbind.train.budjet in \S+p.json: .* schemas/protocol"),
    (("evaluate",), {"budget": {"steps": -1}}, r"bad value at evaluate.budget.steps in .*expected "
     r"a number greater than or equal to 0, got -1\."),
    (MIM, {"finetune": "once"}, "row mim differs in finetune"),
    ((), {"finetune": "once", "conditions": [{"name": "A", "modalities": ["acc"]}]},
     "condition A has modalities that nothing is fine-tuned on"),
    ((), {"paper": {"where": "x", "figures": {"best": []}}}, "name rows that are not here: best"),
    ((), {"against": "mmbnid"}, "compared with an unknown row at against"),
    # one switch does not allow another that begins alike
    ((), {"switches": ["bind", "train.budget.step"], "rows": [
        {"name": "mim", "method": "mim", "train": {"budget": {"steps": 3}}}]},
     r"train\.budget\.steps"),
]  # fmt: skip


@pytest.mark.parametrize(("place", "change", "message"), BAD)
def test_unfair_protocols_are_refused(
    place: tuple[str | int, ...], change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    document = small_document()
    path = tmp_path / "p.json"
    path.write_text(json.dumps(document))
    load_protocol(path)
    changed: Any = document
    for step in place:
        changed = changed[step]
    changed |= change
    path.write_text(json.dumps(document))
    with pytest.raises(FormatError, match=message) as caught:
        load_protocol(path)
    assert "Value error" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", list_protocols())
def test_every_method_is_fine_tuned_with_the_same_options(name: str) -> None:
    protocol = load_protocol(name)
    for condition in protocol.conditions:
        configs = [protocol.evaluate_config(row, condition, 0) for row in protocol.rows]
        for row, config in zip(protocol.rows, configs, strict=True):
            own = {path for path in differences(protocol, row) if path.startswith("evaluate.")}
            assert own <= {*protocol.switches}
            if not own and not row.finetune:
                assert config == protocol.evaluate_config(
                    Row(name="any", method="mim"), condition, 0
                )
    if name.startswith("utd") and protocol.shared == ("acc",) and not name.endswith("final"):
        assert "recipe was chosen by the accuracy of its pairs among people 1-6" in "".join(
            protocol.remarks
        )


def test_two_halves_of_the_people_are_each_other_s_test() -> None:
    first, second = (load_protocol(f"utd-cross-node-sensor{half}") for half in ("", "-swapped"))
    people = [
        [[split.people[role] for role in ("A", "B", "C", held_out)] for split in splits]
        for held_out, splits in (
            ("T", first.splits), ("V", second.validation_splits),
            ("V", first.validation_splits), ("T", second.splits),
        )
    ]  # fmt: skip
    assert people[0] == people[1]
    assert people[2] == people[3]
    assert {split.people["T"] for one in (first, second) for split in one.splits} == {
        (subject,) for subject in "123456"
    }
    same = ("nodes", "rows", "conditions", "inputs", "shared", "train", "evaluate", "bind", "seeds")
    assert all(getattr(first, name) == getattr(second, name) for name in same)


def test_what_is_said_of_labels_holds_for_rows_with_a_recipe() -> None:
    """--label-model sets it for the whole protocol."""
    for name in ("utd-cross-node-sensor", "utd-pairing-scheme"):
        document = load_protocol(name).model_dump(mode="json")
        document["bind"]["label_model"] = "a-model"
        protocol = Protocol.model_validate(document, strict=False)
        assert {protocol.bind_options(row, 0).label_model for row in protocol.rows} == {"a-model"}


def test_a_named_switch_is_allowed(tmp_path: Path) -> None:
    document = small_document(switches=["train.budget", "bind"], against="mmbind")
    document["rows"][2]["train"] = {"budget": {"steps": 3}}
    path = tmp_path / "p.json"
    path.write_text(json.dumps(document))
    protocol = load_protocol(path)
    assert protocol.train_config(protocol.rows[2], 0).budget.steps == 3
    assert protocol.against == "mmbind"


def test_groups_by_hash_must_be_apart(tmp_path: Path) -> None:
    document = json.loads(list_protocols()["sun-rgbd-cross-node-sensor"].read_text())
    path = tmp_path / "p.json"
    document["splits"][0]["people"]["T"]["low"] = 0.83
    path.write_text(json.dumps(document))
    with pytest.raises(FormatError, match="C and T have people in common"):
        load_protocol(path)


def test_a_try_out_shortens_the_rows_of_another_budget(tmp_path: Path) -> None:
    document = small_document(switches=["train.budget", "evaluate.budget", "bind"])
    own = {"budget": {"epochs": 5, "steps": None, "batch": 8}}
    document["rows"][2] |= {"train": own, "evaluate": own, "bind": {"steps": 700}}
    path = tmp_path / "p.json"
    path.write_text(json.dumps(document))
    protocol, _, _ = apply_request(BenchmarkRequest(path, steps=4))
    for row in protocol.rows:
        budgets = (
            protocol.train_config(row, 0).budget,
            protocol.evaluate_config(row, protocol.conditions[0], 0).budget,
        )
        assert [(one.steps, one.epochs) for one in budgets] == [(4, None)] * 2
        assert protocol.bind_options(row, 0).steps == 4
    # what else a row has of its own stays
    assert protocol.train_config(protocol.rows[2], 0).budget.batch == 8
    shortest, _, changes = apply_request(BenchmarkRequest(path, steps=0))
    assert shortest.train_config(shortest.rows[2], 0).budget.steps == 0
    assert changes == ("0 steps of every training",)


def test_what_a_row_with_a_recipe_does_not_take_over_is_told(tmp_path: Path) -> None:
    path = tmp_path / "p.json"

    def read(**row: Any) -> Protocol:
        document = small_document(switches=["bind.recipe", "bind.embed"])
        document["bind"] = {"group_by": "trial", "weight_rule": "none", "top_k": 4, "embed": "raw"}
        document["rows"][2]["bind"] = {"recipe": "paper"} | row
        del document["rows"][3]["bind"]["weight_rule"]
        path.write_text(json.dumps(document))
        return load_protocol(path)

    with pytest.raises(FormatError, match=r"row mmbind differs in bind.group_by at"):
        read()
    protocol = read(group_by="trial")  # how pairs are weighed is part of the recipe
    assert differences(protocol, protocol.rows[2]) == ["bind.recipe"]
    assert protocol.bind_options(protocol.rows[2], 0).rule.top_k == 1  # as the recipe has it
    # what says in other words what holds anyway is no difference
    protocol = read(group_by="trial", weight_rule="none", recipe="default", top_k=4)
    assert differences(protocol, protocol.rows[2]) == []


def test_a_label_model_is_for_labels(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no label is compared .* one that binds by acc"):
        apply_request(BenchmarkRequest("utd-cross-node-sensor", label_model="some-model"))
    protocol, _, changes = apply_request(
        BenchmarkRequest("utd-cross-node-label", label_model="some-model")
    )
    assert protocol.bind.label_model == "some-model"
    assert changes == ("label model some-model",)


def test_unknown_names_are_suggested(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Did you mean utd-ablation"):
        load_protocol("utd-ablatoin")
    with pytest.raises(FormatError, match="unreadable"):
        load_protocol(tmp_path / "none.json")
