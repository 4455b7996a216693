"""Protocols of transfer: conditions, averages over both ways, retrieval, controls as rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from benchdata import small_document, write_raw

from mmbind_data.errors import FormatError
from mmbind_train.benchmarks.plan import BenchmarkRequest
from mmbind_train.benchmarks.protocol import Protocol, list_protocols, load_protocol
from mmbind_train.benchmarks.results import Results, difference_rows, remarks, table_rows
from mmbind_train.benchmarks.run import benchmark
from mmbind_train.benchmarks.statistics import difference
from mmbind_train.evaluation.evaluate import evaluate

TO_GYRO = {
    "name": "to gyro", "finetune_modalities": ["skeleton"], "test_modalities": ["gyro"],
    "retrieval": True,
}  # fmt: skip
TO_SKELETON = {
    "name": "to skeleton", "finetune_modalities": ["gyro"], "test_modalities": ["skeleton"],
}  # fmt: skip
TRANSFERS = ("utd-transfer", "utd-transfer-final", "motionsense-transfer", "transfer-dose")


def transfer_document(**changes: Any) -> dict[str, Any]:
    rows = [
        {"name": "dcm", "method": "dcm"},
        {"name": "unpaired", "method": "mmbind", "partners": {"kind": "none"},
         "train": {"network": {"shared_head": True}}},
        {"name": "mmbind", "method": "mmbind"},
        {"name": "by lot", "method": "mmbind", "partners": {"kind": "lot"}},
        {"name": "natural", "method": "upper_bound", "data": "N"},
    ]  # fmt: skip
    new = {
        "conditions": [TO_GYRO, TO_SKELETON], "averages": {"both": ["to gyro", "to skeleton"]},
        "rows": rows, "baselines": ["dcm", "unpaired"], "claims": [["mmbind", "by lot"]],
        "switches": ["partners", "train.network.shared_head"], "seeds": [0],
    }  # fmt: skip
    return small_document(**new) | changes


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Results]:
    root = tmp_path_factory.mktemp("transfer")
    (root / "small.json").write_text(json.dumps(transfer_document()))
    request = BenchmarkRequest(root / "small.json", write_raw(root / "data"))
    return root, benchmark(request, root / "out", jobs=1)


def test_an_average_is_the_mean_of_its_conditions(done: tuple[Path, Results]) -> None:
    _, results = done
    assert results.failures == ()
    found = {(one.row, one.condition): one for one in results.scores}
    for row in ("dcm", "unpaired", "mmbind", "by lot", "natural"):
        ways = [found[row, name] for name in ("to gyro", "to skeleton")]
        both = found[row, "both"]
        assert both.accuracy == pytest.approx(sum(one.accuracy for one in ways) / 2)
        assert both.macro_f1 == pytest.approx(sum(one.macro_f1 for one in ways) / 2)
        assert [one.finetune_steps for one in ways] == [0, 0]
        assert ways[0].recall_5 is not None
        assert ways[1].recall_5 is None


def test_a_score_is_what_evaluate_gives(done: tuple[Path, Results]) -> None:
    root, results = done
    work = root / "out" / "work" / "generated"
    protocol = Protocol.model_validate(transfer_document(), strict=False)
    for run in (path.parent for path in (work / "runs").glob("*/run.json")):
        document = json.loads((run / "run.json").read_text())
        if document["method"] != "mmbind" or document["partners"] != "lot":
            continue
        (c,), (t,) = (list((work / "nodes").glob(f"{name}-*.zarr")) for name in "CT")
        config = protocol.evaluate_config(protocol.rows[3], protocol.conditions[0], 0)
        expected = evaluate(run, c, t, config=config, retrieval=True)
        (score,) = [one for one in results.scores if (one.row, one.condition) == (
            "by lot", "to gyro")]  # fmt: skip
        assert score.accuracy == expected.accuracy
        recalls = [one.recording["5"] for one in expected.retrieval]
        assert score.recall_5 == pytest.approx(sum(recalls) / 2)
        return
    pytest.fail("no run has partners by lot")


def test_differences_are_of_averages_to_the_best_baseline_and_as_claimed(
    done: tuple[Path, Results],
) -> None:
    _, results = done
    assert {one.condition for one in results.differences} == {"both"}
    baselines = {one.baseline for one in results.differences} - {"by lot"}
    assert len(baselines) == 1
    assert baselines <= {"dcm", "unpaired"}
    (claim,) = [one for one in results.differences if one.baseline == "by lot"]
    scores = {
        row: {(one.split, one.seed): one.accuracy for one in results.scores
              if (one.row, one.condition) == (row, "both")}
        for row in ("mmbind", "by lot")
    }  # fmt: skip
    assert claim == difference("mmbind", "by lot", "both", scores["mmbind"], scores["by lot"])
    assert any(text.startswith("mmbind - by lot, both") for text in difference_rows(results))
    assert not any("fine-tuning for all methods" in text for text in remarks(results))


def test_the_table_has_the_retrieval_of_both_ways(done: tuple[Path, Results]) -> None:
    head, lines = table_rows(done[1])
    assert head[:4] == ["method", "to gyro", "to skeleton", "both"]
    assert head[4:6] == ["same recording in first 5", "same class first"]
    assert all(float(line[4]) >= 0 for line in lines)


def test_finished_transfers_are_not_repeated(done: tuple[Path, Results]) -> None:
    root, results = done
    runs = root / "out" / "work" / "generated" / "runs"
    before = {path: path.stat().st_mtime_ns for path in runs.glob("*.json")}
    request = BenchmarkRequest(root / "small.json", root / "data")
    again = benchmark(request, root / "out", jobs=1)
    assert again.scores == results.scores
    assert {path: path.stat().st_mtime_ns for path in runs.glob("*.json")} == before


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"averages": {"both": ["to gyro", "to nowhere"]}}, "average both is not of other"),
        ({"averages": {"to gyro": ["to skeleton"]}}, "average to gyro is not of other"),
        ({"baselines": ["nobody"]}, "unknown row"),
        ({"claims": [["mmbind", "nobody"]]}, "unknown row"),
        ({"switches": ["train.network.shared_head"]}, "row unpaired differs in partners"),
        ({"evaluate": {"test_modalities": ["gyro"]}}, "which conditions sets for every row"),
    ],
)
def test_what_a_transfer_protocol_may_not_say(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    path = tmp_path / "small.json"
    path.write_text(json.dumps(transfer_document() | changes))
    with pytest.raises(FormatError, match=words):
        load_protocol(path)


def test_a_row_that_reads_no_pairs_has_no_partners(tmp_path: Path) -> None:
    document = transfer_document()
    document["rows"][0]["partners"] = {"kind": "lot"}
    path = tmp_path / "small.json"
    path.write_text(json.dumps(document))
    with pytest.raises(FormatError, match="dcm does not read partners"):
        load_protocol(path)


@pytest.mark.parametrize("name", TRANSFERS)
def test_shipped_transfers_test_each_person_once(name: str) -> None:
    protocol = load_protocol(list_protocols()[name])
    tested = [person for split in protocol.splits for person in split.people["T"]]
    everybody = {"utd": range(1, 7), "transfer": range(1, 7), "motionsense": range(1, 19)}
    if name == "utd-transfer-final":
        assert set(tested) == {"7", "8"}
    else:
        known = [str(one) for one in everybody[name.split("-", maxsplit=1)[0]]]
        assert sorted(tested) == sorted(known)
    for condition in protocol.conditions:
        assert condition.test_modalities is not None
        assert condition.finetune_modalities is not None
        assert not {*condition.test_modalities} & {*condition.finetune_modalities}
