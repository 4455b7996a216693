"""The benchmark end to end, on raw data in the authentic layout: values, resuming, no leaks."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from benchdata import NAMES, small_document, write_protocol, write_raw
from PIL import Image

from mmbind_data.errors import LeakError, OutputError, RawLayoutError, UsageError
from mmbind_data.store.bound import open_bound
from mmbind_data.store.dataset import open_dataset
from mmbind_train.benchmarks.jobs import read_joules
from mmbind_train.benchmarks.pairing_accuracy import judge_pairs
from mmbind_train.benchmarks.plan import BenchmarkRequest
from mmbind_train.benchmarks.protocol import Protocol
from mmbind_train.benchmarks.results import Results, table_rows
from mmbind_train.benchmarks.run import benchmark, plan_benchmark
from mmbind_train.evaluation.evaluate import evaluate


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_raw(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def done(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Results]:
    """An undisturbed run; copy it before changing it."""
    root = tmp_path_factory.mktemp("done")
    path = write_protocol(root / "small.json")
    request = BenchmarkRequest(path, data, paper_statistic=True)
    return root, benchmark(request, root / "out", jobs=1, command="mmbind benchmark small")


def figures(results: Results) -> list[dict[str, Any]]:
    """Scores without times."""
    return [
        {name: value for name, value in one.model_dump().items() if not name.endswith("_cpu_s")}
        for one in results.scores
    ]


def stamps(out: Path) -> dict[str, int]:
    """When each finished piece of work was recorded."""
    return {
        path.relative_to(out).as_posix(): path.stat().st_mtime_ns
        for path in out.rglob("work/*/*/*.json")
    }


def test_every_row_condition_split_and_seed_has_a_score(done: tuple[Path, Results]) -> None:
    _, results = done
    assert results.failures == ()
    places = [(one.seed, one.row, one.condition) for one in results.scores]
    assert sorted(places) == sorted(
        (seed, row, condition)
        for seed in (0, 1)
        for row in NAMES
        for condition in ("1 per class", "all")
    )
    assert {one.n for one in results.summaries} == {2}
    for one in results.scores:
        assert one.n_test == 6  # three actions, two trials, person 5
        assert one.n_finetune == (3 if one.condition == "1 per class" else 6)
        assert one.pretrain_steps == (0 if one.method == "lower_bound" else 2)
        assert one.finetune_steps == 3


def test_a_score_is_what_evaluate_gives(done: tuple[Path, Results]) -> None:
    root, results = done
    work = root / "out" / "work" / "generated"
    protocol = Protocol.model_validate(small_document(), strict=False)
    for run in (work / "runs").iterdir():
        if run.suffix == ".json" or json.loads((run / "run.json").read_text())["method"] != "mim":
            continue
        seed = json.loads((run / "run.json").read_text())["config"]["seed"]
        config = protocol.evaluate_config(protocol.rows[1], protocol.conditions[1], seed)
        (c,), (t,) = (list((work / "nodes").glob(f"{name}-*.zarr")) for name in "CT")
        expected = evaluate(run, c, t, config=config)
        (found,) = [
            one for one in results.scores
            if (one.row, one.seed, one.condition) == ("mim", seed, "all")
        ]  # fmt: skip
        assert (found.accuracy, found.macro_f1) == (expected.accuracy, expected.macro_f1)


def test_work_is_shared_and_nodes_lack_what_they_lack(done: tuple[Path, Results]) -> None:
    root, _ = done
    work = root / "out" / "work" / "generated"
    # two seeds: two bindings, and one run for each of five rows
    assert len(list((work / "bound").glob("*.zarr"))) == 4
    assert len(list((work / "runs").glob("*/run.json"))) == 10
    for name, modalities, labelled in (
        ("A", ["acc", "skeleton"], False), ("B", ["acc", "gyro"], False),
        ("N", ["acc", "gyro", "skeleton"], False), ("C", ["gyro", "skeleton"], True),
        ("T", ["gyro", "skeleton"], True),
    ):  # fmt: skip
        (path,) = (work / "nodes").glob(f"{name}-*.zarr")
        store = open_dataset(path)
        assert sorted(store.info.modalities) == modalities
        assert bool(store.info.labels) is labelled
        assert (store.column("label") >= 0).all() == labelled
    assert not list((work / "nodes").glob("V-*"))


def test_pairing_accuracy_is_that_of_a_naive_loop(done: tuple[Path, Results]) -> None:
    root, results = done
    work = root / "out" / "work" / "generated"
    (store,) = (work / "stores").glob("*.zarr")
    label = {row["uid"]: row["label_text"] for row in open_dataset(store).samples().to_pylist()}
    naive = set()
    for path in (work / "bound").glob("*.zarr"):
        rows = [row for row in open_bound(path).pairs().to_pylist() if row["kind"] == "pseudo"]
        rows = [row for row in rows if row["rank"] == 0]
        hits = 0
        for row in rows:
            skeleton, gyro = label[row["skeleton.uid"]], label[row["gyro.uid"]]
            hits += skeleton == gyro
        naive.add(hits / len(rows))
        assert judge_pairs(path, [store]) == hits / len(rows)
    assert {one.pairing_accuracy for one in results.scores if one.row != "upper_bound"} == naive
    assert {one.n_pairs for one in results.scores if one.row == "mmbind"} == {240}


def test_the_files_tell_all_and_that_the_data_is_made_up(done: tuple[Path, Results]) -> None:
    root, results = done
    out = root / "out"
    assert Results.model_validate_json((out / "results.json").read_text()) == results
    assert results.generated
    assert results.command == "mmbind benchmark small"
    table = pq.read_table(out / "results.parquet").to_pylist()
    assert [row["accuracy"] for row in table] == [one.accuracy for one in results.scores]
    assert {row["generated"] for row in table} == {True}
    text = (out / "results.md").read_text()
    assert "GENERATED DATA" in text
    assert f"content digest {next(iter(results.sources.values()))}" in text
    first = results.summaries[0]
    assert f"| {first.row} | {100 * first.accuracy:.1f} ± " in text
    with Image.open(out / "results.png") as image:
        red = np.asarray(image.convert("RGB")).astype(int)
    assert (red[..., 0] - red[..., 2] > 40).any()  # the words across it


def test_one_network_meets_every_subset(data: Path, tmp_path: Path) -> None:
    subsets = (["gyro"], ["skeleton"], ["gyro", "skeleton"])
    document = small_document(seeds=[0], finetune="once")
    document["evaluate"] = {"budget": {"steps": 3}, "modality_dropout": 0.5}
    document["conditions"] = [{"name": "+".join(one), "modalities": one} for one in subsets]
    document["rows"] = [
        {"name": "mim", "method": "mim"},
        {"name": "mim each", "method": "mim", "finetune": "each"},
    ]
    document["switches"] = ["finetune"]
    document["paper"] = {
        "where": "nowhere",
        "figures": {"mim": [{"accuracy": 0.6642, "condition": "skeleton"}]},
    }
    (tmp_path / "p.json").write_text(json.dumps(document))
    results = benchmark(BenchmarkRequest(tmp_path / "p.json", data), tmp_path / "out", jobs=1)
    work = tmp_path / "out" / "work" / "generated"
    assert len(list((work / "scores").glob("*-result.json"))) == 1 + 3
    (run,) = (path.parent for path in (work / "runs").glob("*/run.json"))
    (c,), (t,) = (list((work / "nodes").glob(f"{name}-*.zarr")) for name in "CT")
    protocol = results.protocol
    once = protocol.evaluate_config(protocol.rows[0], protocol.conditions[0], 0)
    assert once.modalities == ("gyro", "skeleton")
    expected = {
        ("mim", "+".join(sorted(one.modalities))): (one.accuracy, one.macro_f1)
        for one in evaluate(run, c, t, config=once, every_subset=True).per_subset
    }
    for condition in protocol.conditions:
        config = protocol.evaluate_config(protocol.rows[1], condition, 0)
        assert config.modalities == condition.modalities
        own = evaluate(run, c, t, config=config)
        expected["mim each", condition.name] = (own.accuracy, own.macro_f1)
    found = {(one.row, one.condition): (one.accuracy, one.macro_f1) for one in results.scores}
    assert found == expected
    head, lines = table_rows(results)
    assert head == ["modalities", "method", "accuracy", "paper"]
    assert [line[:2] for line in lines] == [
        [" + ".join(one), row] for one in subsets for row in ("mim", "mim each")
    ]
    assert [line[3] for line in lines] == ["", "", "66.42", "", "", ""]
    plain = json.loads(results.model_dump_json())
    del plain["protocol"]["finetune"]  # as earlier releases wrote it
    assert Results.model_validate_json(json.dumps(plain)).protocol.finetune == "each"


def test_paper_statistic_changes_nothing_else(
    done: tuple[Path, Results], data: Path, tmp_path: Path
) -> None:
    root, results = done
    shutil.copytree(root / "out" / "work", tmp_path / "work")
    before = stamps(tmp_path)
    request = BenchmarkRequest(root / "small.json", data, methods=["mim"])
    plain = benchmark(request, tmp_path, jobs=1)
    watched = [one for one in figures(results) if one["row"] == "mim"]
    assert all(one.pop("paper_statistic") is not None for one in watched)
    own = figures(plain)
    assert all(one.pop("paper_statistic") is None for one in own)
    assert own == watched
    after = stamps(tmp_path)
    assert {name: after[name] for name in before} == before


def test_a_change_repeats_what_it_touches_only(
    done: tuple[Path, Results], data: Path, tmp_path: Path
) -> None:
    root, _ = done
    shutil.copytree(root / "out", tmp_path / "out")
    before = stamps(tmp_path)
    path = write_protocol(tmp_path / "small.json", evaluate={"budget": {"steps": 2}})
    work = tmp_path / "out" / "work"
    request = BenchmarkRequest(path, data, methods=["mmbind", "mim"])
    benchmark(request, tmp_path / "new", work=work, jobs=1)
    new = set(stamps(tmp_path)) - set(before)
    assert {Path(name).parent.name for name in new} == {"scores"}
    assert len([name for name in new if "result" not in name]) == 8
    preview = plan_benchmark(BenchmarkRequest(path, data), tmp_path / "new", work=work)
    assert preview.exact
    assert preview.n_jobs == {"bind": 4, "train": 10, "score": 20}
    assert preview.n_done == 4 + 10 + 8
    assert preview.seconds is not None
    assert preview.seconds > 0


def test_finished_results_are_not_replaced_by_fewer_or_others(
    done: tuple[Path, Results], data: Path, tmp_path: Path
) -> None:
    root, results = done
    out, path = tmp_path / "out", root / "small.json"
    work = out / "work"
    shutil.copytree(root / "out", out)
    before = {one.name: one.read_bytes() for one in out.iterdir() if one.is_file()}
    fewer = r"not all .*of the 20 figures there, such as mmbind.*--work \S+/out/work it reuses"
    other = write_protocol(tmp_path / "small.json", train={"budget": {"steps": 3, "batch": 16}})
    document = small_document()
    document["rows"][2]["bind"] = {"top_k": 3}
    document["switches"].append("bind.top_k")
    (tmp_path / "rows.json").write_text(json.dumps(document))
    for request, message in (
        (BenchmarkRequest(path, data, ["lower_bound", "mim"], paper_statistic=True), fewer),
        (BenchmarkRequest(path, data, seeds=1, paper_statistic=True), "10 of the 20 figures there"),
        (
            BenchmarkRequest(path, data, steps=1, paper_statistic=True),
            "other settings.*train.budget.steps",
        ),
        (BenchmarkRequest(other, data, paper_statistic=True), "other train.budget.steps"),
        (
            BenchmarkRequest(tmp_path / "rows.json", data, paper_statistic=True),
            "rows.mmbind.bind.top_k",
        ),
        (BenchmarkRequest(path, data), "it would drop a column.*expected --paper-statistic"),
    ):
        for call in (benchmark, plan_benchmark):
            with pytest.raises(OutputError, match=message):
                call(request, out, work=work, jobs=1)
    assert {one.name: one.read_bytes() for one in out.iterdir() if one.is_file()} == before
    # the same again, and more than stands there, whatever the words around it
    few = BenchmarkRequest(path, data, ["mim"], seeds=1)
    assert len(benchmark(few, tmp_path / "few", work=work, jobs=1).scores) == 2
    told = write_protocol(tmp_path / "told.json", title="another title", remarks=["a remark"])
    for place in (out, tmp_path / "few"):
        again = benchmark(
            BenchmarkRequest(told, data, paper_statistic=True), place, work=work, jobs=1
        )
        assert figures(again) == figures(results)


def test_two_processes_give_what_one_gives(
    done: tuple[Path, Results], data: Path, tmp_path: Path
) -> None:
    root, results = done
    few = ["mmbind", "upper_bound"]
    request = BenchmarkRequest(root / "small.json", data, few, seeds=6, paper_statistic=True)
    both = benchmark(request, tmp_path / "out", jobs=2)
    shared = [one for one in figures(both) if one["seed"] < 2]
    assert shared == [one for one in figures(results) if one["row"] in few]
    # seed by seed, so that an interrupted benchmark has whole ones
    records = {path: json.loads(path.read_text())
               for path in (tmp_path / "out" / "work").rglob("*/*/*.json")}  # fmt: skip
    ended = {path.stat().st_mtime_ns: one["title"]
             for path, one in records.items() if "cpu_seconds" in one}  # fmt: skip
    titles = [title for _, title in sorted(ended.items())]
    first = sum("seed 0" in title for title in titles)
    assert len(titles) == 6 * first > 24
    assert sum("seed 0" in title for title in titles[:first]) > first / 2


def test_a_failing_row_leaves_the_others(data: Path, tmp_path: Path) -> None:
    document = small_document(seeds=[0], switches=["bind"])
    document["rows"] = document["rows"][1:3]
    document["rows"][1]["bind"] = {"min_similarity": 2.0}
    (tmp_path / "p.json").write_text(json.dumps(document))
    results = benchmark(BenchmarkRequest(tmp_path / "p.json", data), tmp_path / "out", jobs=1)
    assert {one.row for one in results.scores} == {"mim"}
    reasons = [one.reason for one in results.failures]
    assert len(reasons) == 4  # bind, train, two tests
    assert reasons[0].startswith("cannot bind: no sample found a partner")
    assert all(one.startswith("not run: cannot bind") for one in reasons[1:])


def test_a_map_of_labels_leaves_rows_that_bind_by_a_sensor_alone(
    data: Path, tmp_path: Path
) -> None:
    document = small_document(seeds=[0], bind={"label_map": {"wave": "greeting"}}, switches=[])
    document["rows"] = document["rows"][1:2]
    (tmp_path / "p.json").write_text(json.dumps(document))
    results = benchmark(BenchmarkRequest(tmp_path / "p.json", data), tmp_path / "out", jobs=1)
    assert results.failures == ()
    assert {one.row for one in results.scores} == {"mim"}


def test_validation_never_opens_the_test(data: Path, tmp_path: Path) -> None:
    document = small_document(seeds=[0])
    document["rows"] = document["rows"][:1]
    document["splits"][0]["people"]["T"] = ["9"]  # whose data does not exist
    path = tmp_path / "p.json"
    path.write_text(json.dumps(document))
    results = benchmark(BenchmarkRequest(path, data, on="validation"), tmp_path / "v", jobs=1)
    assert results.on == "validation"
    assert "Validation people" in (tmp_path / "v" / "results.md").read_text()
    nodes = tmp_path / "v" / "work" / "generated" / "nodes"
    assert not list(nodes.glob("T-*"))
    (held_out,) = nodes.glob("V-*.zarr")
    assert set(open_dataset(held_out).info.subjects) == {"5"}
    with pytest.raises(RawLayoutError, match=r"role T are not in the data.*no 9 among 1, 2"):
        benchmark(BenchmarkRequest(path, data), tmp_path / "t", jobs=1)
    with pytest.raises(OutputError, match="the folder has other results"):
        benchmark(BenchmarkRequest(write_protocol(path), data), tmp_path / "v", jobs=1)


def test_generated_and_measured_do_not_mix(
    done: tuple[Path, Results], data: Path, tmp_path: Path
) -> None:
    root, _ = done
    unmarked = tmp_path / "data"
    shutil.copytree(data / "utd-mhad", unmarked / "utd-mhad")
    out = tmp_path / "out"
    shutil.copytree(root / "out", out, ignore=shutil.ignore_patterns("work"))
    path = root / "small.json"
    with pytest.raises(OutputError, match="measured data, on test, got small, generated data"):
        benchmark(BenchmarkRequest(path, unmarked, seeds=1), out, jobs=1)
    document = json.loads(path.read_text())
    document["sources"]["extra"] = {"dataset": "motionsense"}
    (tmp_path / "two.json").write_text(json.dumps(document))
    (unmarked / "motionsense").mkdir()
    (unmarked / "motionsense" / "GENERATED").touch()
    with pytest.raises(UsageError, match="generated and real data would be mixed"):
        benchmark(BenchmarkRequest(tmp_path / "two.json", unmarked), tmp_path / "new", jobs=1)


def test_a_sample_in_two_stages_is_refused(
    done: tuple[Path, Results], data: Path, tmp_path: Path
) -> None:
    root, _ = done
    shutil.copytree(root / "out" / "work", tmp_path / "work")
    nodes = tmp_path / "work" / "generated" / "nodes"
    (finetune,), (test,) = nodes.glob("C-*.zarr"), nodes.glob("T-*.zarr")
    shutil.rmtree(finetune)
    test.rename(finetune)
    with pytest.raises(LeakError, match=r"samples are in finetune and in test.*6 in both"):
        benchmark(BenchmarkRequest(root / "small.json", data), tmp_path, jobs=1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": None}, r"no data given.*personal\.utdallas\.edu"),
        ({"data": Path("nowhere")}, r"no raw data of utd-mhad.*personal\.utdallas\.edu"),
        ({"protocol": "pamap2-cross-node-sensor", "data": None, "generated": True},
         "no generator is shipped"),
        ({"protocol": "utd-cross-node-sensor-final"}, "role T are not in the data.*subjects 7, 8"),
    ],
)  # fmt: skip
def test_missing_data_is_told(
    changes: dict[str, Any], message: str, data: Path, tmp_path: Path
) -> None:
    asked: dict[str, Any] = {
        "protocol": write_protocol(tmp_path / "p.json"),
        "data": data,
        "methods": ["mmbind"],
    }
    with pytest.raises(RawLayoutError, match=message):
        benchmark(BenchmarkRequest(**asked | changes), tmp_path / "out", jobs=1)


def test_unknown_methods_are_named(data: Path, tmp_path: Path) -> None:
    document, path = small_document(), tmp_path / "p.json"
    document["rows"].append({"name": "new", "method": "not_there_yet"})
    path.write_text(json.dumps(document))
    with pytest.raises(UsageError, match=r"lacks methods.*not_there_yet.*--methods lower_bound"):
        benchmark(BenchmarkRequest(path, data), tmp_path / "out", jobs=1)
    with pytest.raises(UsageError, match="Did you mean mmbind or mim"):
        benchmark(BenchmarkRequest(path, data, methods=["mmi"]), tmp_path / "out", jobs=1)


def test_energy_is_the_sum_of_the_packages(tmp_path: Path) -> None:
    for name, counted in (("intel-rapl:0", 2_500_000), ("intel-rapl:1", 500_000)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "energy_uj").write_text(f"{counted}\n")
    (tmp_path / "intel-rapl:0:0").mkdir()  # a part of the package, counted in it
    (tmp_path / "intel-rapl:0:0" / "energy_uj").write_text("1\n")
    assert read_joules(tmp_path) == 3.0
    assert read_joules(tmp_path / "none") is None
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("")
    assert read_joules(tmp_path) is None


def test_rows_of_a_mean_are_judged_as_pairs(
    done: tuple[Path, Results], data: Path, tmp_path: Path
) -> None:
    root, _ = done
    shutil.copytree(root / "out" / "work", tmp_path / "work")
    document = small_document(seeds=[0], switches=["bind"])
    document["rows"] = [{**document["rows"][2], "bind": {"top_k": 2, "mean": True}}]
    document["conditions"] = document["conditions"][:1]
    (tmp_path / "p.json").write_text(json.dumps(document))
    (score,) = benchmark(BenchmarkRequest(tmp_path / "p.json", data), tmp_path, jobs=1).scores
    assert score.n_pairs == 48
    assert score.pairing_accuracy is not None
