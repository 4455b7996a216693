"""What each command prints, for people and for scripts."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from mmbind_train.training.run_folder import RunInfo

from .conftest import Mmbind, Workshop

CONTRACT = {"schema", "ok", "result", "issues"}


def test_convert_prints_the_contract(mmbind: Mmbind, workshop: Workshop, tmp_path: Path) -> None:
    out = tmp_path / "ms.zarr"
    outcome = mmbind("convert", "motionsense", workshop.motionsense_raw, out, "--json")
    assert outcome.exit_code == 0
    document = outcome.document
    assert set(document) == CONTRACT
    assert document["ok"] is True
    result = document["result"]
    n_samples = result["n_samples"]
    assert result["path"] == str(out)
    assert result["dataset_id"] == "motionsense"
    assert result["modalities"]["acc"] == [n_samples, 100, 3]
    assert result["n_subjects"] == 1
    assert sum(result["labels"].values()) == n_samples > 10
    assert len(result["content_digest"]) == 64
    again = mmbind("convert", "motionsense", workshop.motionsense_raw, out, "--json", "--overwrite")
    assert again.document["result"] == result


def test_convert_reports_on_two_channels(
    mmbind: Mmbind, workshop: Workshop, tmp_path: Path
) -> None:
    outcome = mmbind("convert", "utd-mhad", workshop.utd_raw, tmp_path / "a.zarr")
    assert outcome.stdout.startswith(f"{tmp_path}/a.zarr: 63 samples of 4 subjects")
    assert "of 861 trials" in outcome.stderr
    quiet = mmbind("convert", "utd-mhad", workshop.utd_raw, tmp_path / "b.zarr", "--quiet")
    assert quiet.stderr == ""


def test_dry_run_writes_nothing(mmbind: Mmbind, workshop: Workshop, tmp_path: Path) -> None:
    out = tmp_path / "x.zarr"
    nodes = (workshop.store("A"), workshop.store("B"))
    for command in (
        ("convert", "utd-mhad", workshop.utd_raw, out),
        ("partition", workshop.store("utd"), out, "--subjects", "1"),
        ("bind", "--shared", "acc", *nodes, "-o", out),
        ("train", workshop.store("bound"), "-o", out),
    ):
        outcome = mmbind(*command, "--dry-run")
        assert outcome.exit_code == 0, outcome
        assert outcome.stdout.startswith("would")
    assert list(tmp_path.iterdir()) == []


def test_dry_run_refuses_a_path_that_is_taken(
    mmbind: Mmbind, workshop: Workshop, tmp_path: Path
) -> None:
    out, bundle = tmp_path / "taken", tmp_path / "bundle"
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    assert mmbind("publish", workshop.store("bound"), bundle).exit_code == 0
    nodes = (workshop.store("A"), workshop.store("B"))
    for command in (
        ("convert", "utd-mhad", workshop.utd_raw, out),
        ("partition", workshop.store("utd"), out, "--subjects", "1"),
        ("bind", "--shared", "acc", *nodes, "-o", out),
        ("train", workshop.store("bound"), "-o", out),
        ("publish", workshop.store("bound"), out),
        ("hydrate", bundle, "-o", out, *(f"--source=utd-mhad-{one.stem}={one}" for one in nodes)),
        ("pack", bundle, "-o", out),
    ):
        for words in ((*command, "--dry-run"), (*command, "--dry-run", "--overwrite")):
            outcome = mmbind(*words)
            assert outcome.exit_code == 4, words
            assert str(out) in outcome.stderr, words


def test_bind_prints_the_contract(mmbind: Mmbind, workshop: Workshop, tmp_path: Path) -> None:
    nodes = (workshop.store("A"), workshop.store("B"))
    outcome = mmbind(
        "bind", "--shared", "acc", "--embed", "raw", *nodes, "-o", tmp_path / "b.zarr", "--json"
    )
    result = outcome.document["result"]
    assert result["pairs"] == {"pseudo": 320, "incomplete": 32, "natural": 0}
    similarity = result["similarity"]
    assert -1 <= similarity["min"] <= similarity["median"] <= similarity["max"] <= 1
    assert 0 <= result["pairing_accuracy"] <= 1
    assert result["reuse"]["max"] >= result["reuse"]["mean"] >= 1


def test_info_tells_what_is_inside(mmbind: Mmbind, workshop: Workshop) -> None:
    text = mmbind("info", workshop.store("A")).stdout
    for expected in ("16 samples", "acc", "skeleton", "dropped modalities gyro, depth", "m/s^2"):
        assert expected in text
    assert "depth_video" not in text
    text = mmbind("info", workshop.store("bound")).stdout
    for expected in ("bound by acc", "utd-mhad-A", "utd-mhad-B", "320 pseudo", "pairing accuracy"):
        assert expected in text
    document = mmbind("info", workshop.store("bound"), "--json").document
    assert document["result"]["mode"] == "linked"


def test_validate_ends_with_3_on_damage(mmbind: Mmbind, workshop: Workshop, tmp_path: Path) -> None:
    store = tmp_path / "a.zarr"
    mmbind("partition", workshop.store("utd"), store, "--subjects", "1")
    assert mmbind("validate", store, "--level", "values").exit_code == 0
    shard = next((store / "modalities/acc/data/c").rglob("0"))
    while shard.is_dir():
        shard = next(shard.iterdir())
    content = bytearray(shard.read_bytes())
    content[100] ^= 1
    shard.write_bytes(content)
    outcome = mmbind("validate", store, "--level", "bytes", "--json")
    assert outcome.exit_code == 3
    assert outcome.document["ok"] is False
    (problem,) = outcome.document["result"]["problems"]
    assert problem["code"] == "file-changed"
    assert outcome.document["issues"] == [problem]
    assert problem["where"] == shard.relative_to(store).as_posix()


def test_datasets_lists_and_shows(mmbind: Mmbind) -> None:
    text = mmbind("datasets").stdout
    assert "motionsense" in text
    assert "utd-mhad" in text
    one = mmbind("datasets", "motionsense").stdout
    for expected in ("licence", "IoTDI", "raw layout", "not verified", "paper"):
        assert expected in one
    document = mmbind("datasets", "motionsense", "--json").document
    assert document["result"]["licence"]["redistribution"] in ("allow", "forbid", "unknown")


def test_train_and_evaluate(mmbind: Mmbind, workshop: Workshop, tmp_path: Path) -> None:
    run = tmp_path / "run"
    trained = mmbind("train", workshop.store("bound"), "-o", run, "--steps", 3, "--json")
    assert trained.exit_code == 0, trained
    assert trained.document["result"]["n_rows"] == {"incomplete": 32}
    evaluated = mmbind(
        "evaluate", run, "--finetune", workshop.store("C"), "--test", workshop.store("T"),
        "--modalities", "gyro,skeleton", "--labels-per-class", 1, "--seeds", 2, "--steps", 3,
        "--json",
    )  # fmt: skip
    assert evaluated.exit_code == 0, evaluated
    result = evaluated.document["result"]
    assert result["n_test"] == 16
    assert len(result["per_seed"]) == 2
    mean = sum(one["accuracy"] for one in result["per_seed"]) / 2
    assert result["accuracy"] == pytest.approx(mean)
    assert 0 <= result["macro_f1"] <= 1


def test_a_run_is_deployed_and_told(mmbind: Mmbind, workshop: Workshop, tmp_path: Path) -> None:
    run, tuned, out = (tmp_path / name for name in ("run", "tuned", "out"))
    nodes = ("--finetune", workshop.store("C"), "--test", workshop.store("T"), "--steps", 3)
    small = tmp_path / "small.json"
    small.write_text('{"network": {"width": 8, "feature_dim": 16}}')
    mmbind("train", workshop.store("bound"), "-o", run, "--steps", 12, "--config", small)
    options = ("--seeds", 1, "--modality-dropout", 0.3, "--every-subset", "--save", tuned)
    evaluated = mmbind("evaluate", run, *nodes, *options, "--json")
    assert evaluated.exit_code == 0, evaluated
    result = evaluated.document["result"]
    assert [one["modalities"] for one in result["per_subset"]] == [
        ["skeleton"], ["gyro"], ["skeleton", "gyro"],
    ]  # fmt: skip
    assert result["config"]["modality_dropout"] == 0.3
    assert result["saved"] == str(tuned)
    exported = mmbind("export", tuned, out)
    assert exported.exit_code == 0, exported
    assert "classifier.pt2: any of skeleton, gyro to " in exported.stdout
    assert {path.name for path in out.iterdir()} == {
        "classifier.pt2", "contract.json", "gyro.pt2", "skeleton.pt2",
    }  # fmt: skip
    assert mmbind("export", tuned, out).exit_code == 4
    bare = mmbind("export", run, tmp_path / "bare", "--modalities", "gyro")
    assert "the run has no classifier" in bare.stderr
    judged = tmp_path / "result.json"
    judged.write_text(evaluated.stdout)
    page = tmp_path / "run.html"
    told = mmbind("report", tuned, "-o", page, "--evaluation", judged, "--json").document["result"]
    assert told["stages"][-1] == "finetune seed 0"
    assert "Loss of finetune seed 0" in page.read_text()
    wrong = mmbind("report", tuned, "-o", tmp_path / "x.html", "--pairs", 3)
    assert wrong.exit_code == 2
    assert "--pairs is for a bound store" in wrong.stderr


def test_a_seed_of_the_config_file_stays_unless_another_is_given(
    mmbind: Mmbind, workshop: Workshop, tmp_path: Path
) -> None:
    config, run = tmp_path / "train.json", tmp_path / "run"
    config.write_text('{"seed": 7}')
    training = ("train", workshop.store("bound"), "-o", run, "--steps", 0, "--config", config)
    for given, seed in ([], 7), (["--seed", 0], 0):
        assert mmbind(*training, "--overwrite", *given).exit_code == 0
        assert RunInfo.model_validate_json((run / "run.json").read_text()).config.seed == seed
    config.write_text('{"seeds": [3, 8]}')
    nodes = ("--finetune", workshop.store("C"), "--test", workshop.store("T"))
    for more, seeds in ([], [3, 8]), (["--first-seed", 4, "--seeds", 1], [4]):
        outcome = mmbind("evaluate", run, *nodes, "--steps", 1, "--config", config, "--json", *more)
        result = outcome.document["result"]
        assert [one["seed"] for one in result["per_seed"]] == seeds


def test_a_rehearsal_of_the_lower_bound_says_that_nothing_is_learnt(
    mmbind: Mmbind, workshop: Workshop, tmp_path: Path
) -> None:
    words = ("train", workshop.store("bound"), "-o", tmp_path / "run", "--dry-run", "--method")
    assert mmbind(*words, "lower_bound").stdout == "lower_bound keeps its initial weights\n"
    assert mmbind(*words, "mim").stdout == "would train on 32 incomplete rows\n"


def test_config_file_reaches_the_loss(mmbind: Mmbind, workshop: Workshop, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(
        '{"loss": {"dummy_views": true}, "pairs": {"targets": "hard"}, "temperature": 0.2}'
    )
    run = tmp_path / "run"
    command = ("train", workshop.store("bound"), "-o", run, "--steps", 1, "--config", config)
    assert mmbind(*command).exit_code == 0
    import json

    recorded = json.loads((run / "run.json").read_text())["config"]
    assert recorded["loss"]["dummy_views"] is True
    assert recorded["temperature"] == 0.2
    assert recorded["budget"]["steps"] == 1
    config.write_text('{"budget": {"epochs": 1}}')
    assert mmbind(*command[:4], "--config", config, "--overwrite").exit_code == 0
    budget = json.loads((run / "run.json").read_text())["config"]["budget"]
    assert (budget["steps"], budget["epochs"]) == (None, 1)
    config.write_text('{"temperatur": 0.2}')
    outcome = mmbind(*command, "--overwrite")
    assert outcome.exit_code == 2
    assert "temperatur" in outcome.stderr


def test_the_demo_binds_with_options_that_exist(mmbind: Mmbind, workshop: Workshop) -> None:
    source = (Path(__file__).parents[2] / "cli" / "demo" / "steps.py").read_text()
    lines = re.findall(r'"(bind --shared acc [^"]*)"', source)
    assert len(lines) == 3
    for line in lines:
        words = [*shlex.split(line), "-o", str(workshop.store("nothing"))]
        names = [place for place, word in enumerate(words[:-2]) if word.endswith(".zarr")]
        for place, store in zip(names, ("A", "B", "nothing"), strict=False):
            words[place] = str(workshop.store(store))
        outcome = mmbind(*words, "--dry-run")
        assert outcome.exit_code == 0, outcome.stderr


def test_a_demo_that_fails_leaves_no_folder(
    mmbind: Mmbind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(folder: Path) -> None:
        folder.mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr("mmbind_cli.demo.generate", fail)
    assert mmbind("demo", "-o", tmp_path / "demo").exit_code == 130
    assert not (tmp_path / "demo").exists()
