"""Reports on runs and on results: what they say, read back by a strict parser and a browser."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from benchdata import small_document
from reportpages import browse, number, read_html, table_of
from smallstores import World

from mmbind_data.errors import FormatError, OutputError
from mmbind_data.store.dataset import open_dataset
from mmbind_train.benchmarks.protocol import Protocol
from mmbind_train.benchmarks.results import RESULTS, Results
from mmbind_train.benchmarks.statistics import Score, compare, summarise
from mmbind_train.config import Budget, EvaluateConfig, NetworkOptions, TrainConfig
from mmbind_train.data.batch import make_batch
from mmbind_train.data.training_set import gather_store
from mmbind_train.evaluation.evaluate import Result, evaluate
from mmbind_train.reports.benchmark_report import report_results
from mmbind_train.reports.run_report import embeddings, read_metrics, report_run
from mmbind_train.training.logs import METRICS
from mmbind_train.training.pretrain import train
from mmbind_train.training.run_folder import load_run


@pytest.fixture(scope="module")
def run(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "<run>"
    network = NetworkOptions(width=8, feature_dim=16)
    train(world.bound, path, config=TrainConfig(budget=Budget(steps=25, batch=16), network=network))
    return path


@pytest.fixture(scope="module")
def judged(run: Path, world: World) -> Result:
    config = EvaluateConfig(seeds=(0, 1), budget=Budget(steps=5, batch=16))
    return evaluate(run, world.C, world.T, config=config, every_subset=True)


def test_a_run_is_told(run: Path, judged: Result, world: World, tmp_path: Path) -> None:
    size = len(judged.classes)  # counts that tell rows from columns
    ramp = tuple(tuple(range(k * size + 1, (k + 1) * size + 1)) for k in range(size))
    judged = judged.model_copy(update={"confusion": ramp})
    document = tmp_path / "result.json"
    document.write_text(json.dumps({"ok": True, "result": judged.model_dump(mode="json")}))
    out = tmp_path / "run.html"
    result = report_run(run, out, evaluation=document, store=world.T)
    page = read_html(out)
    info, _ = load_run(run)
    told = table_of(page, "Stages")
    assert [row["stage"] for row in told] == [one.name for one in info.stages] == result["stages"]
    assert [int(number(row["steps"])) for row in told] == [one.steps for one in info.stages]
    for row, stage in zip(told, info.stages, strict=True):
        assert row["rows"] == ", ".join(f"{n:,} {kind}" for kind, n in stage.n_rows.items())
    metrics = read_metrics(run / METRICS)
    path = page.all("g", "signal")[0].all("path")[0]
    points = metrics[info.stages[0].name]
    drawn = (path.attributes["d"] or "").replace("M", "").split("L")
    assert len(drawn) == len(points) > 2
    heights = [float(one.split()[1]) for one in drawn]
    losses = [loss for _, loss in points]
    assert np.argsort(heights).tolist() == np.argsort(losses)[::-1].tolist()  # SVG looks down
    classes = table_of(page, "By class")
    counts = np.array(judged.confusion)
    for k, row in enumerate(classes):
        assert row["class"] == judged.classes[k]
        assert number(row["tested"]) == counts[k].sum()
        recall, precision = counts[k, k] / counts[k].sum(), counts[k, k] / counts[:, k].sum()
        assert number(row["recall"]) == pytest.approx(100 * recall, abs=0.1)
        assert number(row["precision"]) == pytest.approx(100 * precision, abs=0.1)
        f1 = 2 * recall * precision / (recall + precision)
        assert number(row["F1"]) == pytest.approx(f1, abs=1e-3)
    subsets = table_of(page, "The same network, fewer modalities")
    for row, one in zip(subsets, judged.per_subset, strict=True):
        assert row["modalities"] == " + ".join(one.modalities)
        assert number(row["accuracy"]) == pytest.approx(100 * one.accuracy, abs=0.1)
    assert result["n_mapped"] == 9
    maps = [one for one in page.all("svg") if "Embeddings" in one.all("title")[0].text()]
    dots = [sum(len(group.all("use")) for group in one.all("g", "points")) for one in maps]
    assert dots == [18] * 2  # two modalities of nine samples, by label and by modality
    assert "<run>" not in out.read_text()


def test_embeddings_of_a_map_are_the_runs(run: Path, world: World) -> None:
    info, model = load_run(run)
    z, present, labels, subjects = embeddings(info, model, world.T, 0)
    store = open_dataset(world.T)
    rows = gather_store(store, list(z), like=info.modalities)
    batch = make_batch(rows, np.arange(len(rows)), info.statistics)
    for name, values in z.items():
        with torch.no_grad():
            feature = model.encoders[name](batch.inputs[name])
            expected = torch.nn.functional.normalize(model.heads[name](feature), dim=-1)
        np.testing.assert_allclose(values, expected.numpy(), atol=1e-5)
    assert present.all()
    assert subjects == ["6"] * 9
    assert labels == [store.names("label")[code] for code in store.column("label")]


def score(row: str, split: str, seed: int, accuracy: float) -> Score:
    return Score(
        row=row, method="mmbind" if row == "mmbind" else "lower_bound", split=split, seed=seed,
        condition="all", accuracy=accuracy, macro_f1=accuracy, paper_statistic=None, n_finetune=6,
        n_test=6, n_classes=3, n_pairs=None, pairing_accuracy=None, pretrain_steps=2,
        pretrain_cpu_s=1.0, finetune_steps=3, finetune_cpu_s=1.0, joules=None,
    )  # fmt: skip


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A folder with results of two rows, two splits and two seeds."""
    scores = tuple(
        score(row, split, seed, base + 0.1 * (split == "b") + 0.02 * seed)
        for row, base in (("lower_bound", 0.5), ("mmbind", 0.62))
        for split in ("a", "b")
        for seed in (0, 1)
    )
    made = Results(
        generated=True, on="test", changes=(), command="mmbind benchmark <small>",
        protocol=Protocol.model_validate(small_document(), strict=False), protocol_digest="0",
        versions={"mmbind": "1"}, sources={"utd": "0"}, nodes={}, scores=scores,
        summaries=summarise(scores), differences=compare(scores), reached=(), failures=(),
    )  # fmt: skip
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / RESULTS).write_text(made.model_dump_json())
    return tmp_path / "results"


def test_results_are_told(results: Path, tmp_path: Path) -> None:
    out = tmp_path / "results.html"
    assert report_results(results, out)["n_scores"] == 8
    page = read_html(out)
    splits = {row["row"]: row for row in table_of(page, "Accuracy in %, mean over seeds")}
    assert [splits["mmbind"][name] for name in "ab"] == ["63.0", "73.0"]
    assert [splits["lower_bound"][name] for name in "ab"] == ["51.0", "61.0"]
    (difference,) = table_of(page, "Paired differences")
    assert difference["points"] == "+12.0"
    assert len(page.all("g", "dot")) == 2
    assert "GENERATED DATA" in page.words()


def test_two_halves_are_pooled(results: Path, tmp_path: Path) -> None:
    """examples/pool.py, on a second table of other splits whose gain is 4 points, not 12."""

    def pool(*folders: Path) -> subprocess.CompletedProcess[str]:
        script = Path(__file__).parents[3] / "examples" / "pool.py"
        words = [sys.executable, str(script), *map(str, folders)]
        return subprocess.run(words, capture_output=True, text=True, check=False)

    other = tmp_path / "other"
    other.mkdir()
    document = json.loads((results / RESULTS).read_text())
    for one in document["scores"]:
        one["split"] = {"a": "c", "b": "d"}[one["split"]]
        one["accuracy"] -= 0.08 * (one["row"] == "mmbind")
    (other / RESULTS).write_text(json.dumps(document))
    done = pool(results, other)
    lines = done.stdout.splitlines()
    # 0.5 and 0.62, half of them less 0.08; +0.1 in every other split, +0.02 in every other seed
    spread = 100 * np.std([0.0, 0.02, 0.1, 0.12] * 2, ddof=1)
    assert lines[2] == f"| lower_bound | 56.0 ± {spread:.1f} (0.56) |"
    assert lines[3].startswith("| mmbind | 64.0 ± ")
    assert lines[5:] == [
        "mmbind - lower_bound, all: +8.0 [+0.7, +15.3], p = 0.125, n = 8 of 4 splits"
    ]
    document["generated"] = False
    (other / RESULTS).write_text(json.dumps(document))
    assert "not pooled" in pool(results, other).stderr
    assert "the same split" in pool(results, results).stderr
    missing = pool(tmp_path / "nothing").stderr
    assert missing.startswith("error: cannot report: unreadable at ")
    assert "got no file. Results are the output of mmbind benchmark." in missing


def test_a_browser_has_no_complaint(
    run: Path, judged: Result, world: World, results: Path, tmp_path: Path, chromium: str
) -> None:
    document = tmp_path / "result.json"
    document.write_text(judged.model_dump_json())
    report_run(run, tmp_path / "run.html", evaluation=document, store=world.T)
    report_results(results, tmp_path / "results.html")
    for name in ("run", "results"):
        shown = browse(chromium, tmp_path / f"{name}.html", "--dump-dom")
        assert "CONSOLE" not in shown.stderr
        assert shown.stdout.count("<svg") == len(read_html(tmp_path / f"{name}.html").all("svg"))


def test_what_is_missing_is_told(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.html"
    with pytest.raises(FormatError, match="mmbind evaluate --json"):
        report_run(run, out, evaluation=tmp_path / "none.json")
    with pytest.raises(FormatError, match="output of mmbind benchmark"):
        report_results(tmp_path, out)
    with pytest.raises(OutputError, match="lies inside one"):
        report_run(run, run / "x.html")
    assert not out.exists()
    report_run(run, out)
    with pytest.raises(OutputError, match="exists already"):
        report_run(run, out)
