"""mmbind benchmark as a user meets it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from benchdata import small_document, write_protocol, write_raw

from .conftest import Mmbind, wait_for_group

FEW = ("--methods", "lower_bound,mim", "--seeds", "1", "--jobs", "1")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_raw(tmp_path_factory.mktemp("data"))


def test_list_tells_every_protocol(mmbind: Mmbind) -> None:
    outcome = mmbind("benchmark", "--list", "--json")
    titles = outcome.document["result"]
    assert titles["utd-ablation"].startswith("UTD-MHAD: pairs, incomplete rows")
    lines = mmbind("benchmark", "--list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(titles)


def test_table_and_json_and_dry_run(mmbind: Mmbind, data: Path, tmp_path: Path) -> None:
    command = ("benchmark", write_protocol(tmp_path / "p.json"), "--data", data)
    planned = mmbind(*command, "-o", tmp_path / "r", *FEW, "--dry-run", "--json")
    assert planned.document["result"]["cells"] == {"bind": 1, "train": 2, "score": 4}
    assert planned.document["result"]["seconds"] is None
    assert not (tmp_path / "r").exists()
    outcome = mmbind(*command, "-o", tmp_path / "r", *FEW)
    assert outcome.exit_code == 0
    assert "GENERATED DATA" in outcome.stdout
    assert "mim" in outcome.stdout
    assert "benchmark p: 7 of 7, " in outcome.stderr
    again = mmbind(*command, "-o", tmp_path / "r", *FEW, "--json", "--quiet")
    result = again.document["result"]
    assert result["generated"] is True
    assert len(result["scores"]) == 4
    planned = mmbind(*command, "-o", tmp_path / "r", *FEW, "--dry-run")
    assert "jobs: 1 bind, 2 train, 4 score; 7 done" in planned.stdout


def test_failed_jobs_are_partial(mmbind: Mmbind, data: Path, tmp_path: Path) -> None:
    document = small_document(switches=["bind"])
    document["rows"][2]["bind"] = {"min_similarity": 2.0}
    (tmp_path / "p.json").write_text(json.dumps(document))
    words = ("--data", data, "-o", tmp_path / "r", "--methods", "mmbind,mim", "--seeds", 1)
    outcome = mmbind("benchmark", tmp_path / "p.json", *words, "--jobs", 1)
    assert outcome.exit_code == 7
    assert "Failed: bind by acc for mmbind" in outcome.stdout
    assert "no sample found a partner" in outcome.stdout


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ((), 2, "give a PROTOCOL"),
        (("utd-ablatoin", "-o", "r"), 2, "Did you mean utd-ablation"),
        (("utd-ablation", "-o", "r"), 4, "no data given"),
        (("utd-ablation", "-o", "r", "--data", "."), 4, "no raw data of utd-mhad"),
        (("utd-ablation", "-o", "r", "--data", ".", "--methods", "mpm"), 2, "no such row"),
    ],
)
def test_mistakes_have_their_code(
    mmbind: Mmbind, words: tuple[str, ...], code: int, message: str, tmp_path: Path
) -> None:
    with contextlib.chdir(tmp_path):
        outcome = mmbind("benchmark", *words)
    assert outcome.exit_code == code
    assert message in outcome.stderr
    assert not (tmp_path / "r").exists()


def test_interrupt_tells_how_to_go_on(mmbind: Mmbind, data: Path, tmp_path: Path) -> None:
    path = write_protocol(tmp_path / "p.json", train={"budget": {"steps": 400, "batch": 16}})
    words = ["benchmark", str(path), "--data", str(data), "-o", str(tmp_path / "r"), *FEW[:4]]
    process = subprocess.Popen(
        [sys.executable, "-m", "mmbind_cli", *words, "--jobs", "2"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    bound = tmp_path / "r" / "work" / "generated" / "bound"
    deadline = time.monotonic() + 120
    while not list(bound.glob("*.json")) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "run the same command to resume" in stderr
    assert "Traceback" not in stderr
    wait_for_group(process.pid)
    (record,) = bound.glob("*.json")
    before = record.stat().st_mtime_ns
    outcome = mmbind(*words, "--jobs", "1", "--json")
    assert outcome.exit_code == 0
    assert len(outcome.document["result"]["scores"]) == 4
    assert record.stat().st_mtime_ns == before


def test_a_killed_benchmark_gives_the_figures_of_an_undisturbed_one(
    mmbind: Mmbind, data: Path, tmp_path: Path
) -> None:
    path = write_protocol(tmp_path / "p.json", train={"budget": {"steps": 30, "batch": 16}})
    words = ["benchmark", str(path), "--data", str(data), *FEW[:4], "-o"]
    command = [sys.executable, "-m", "mmbind_cli", *words, str(tmp_path / "r"), "--jobs", "1"]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    work = tmp_path / "r" / "work" / "generated"
    deadline = time.monotonic() + 60
    while not list((work / "runs").glob("*.json")) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "r" / "results.json").exists()
    # as if it was stopped between the work and its record: this training is done again
    min((work / "runs").glob("*.json")).unlink()
    kept = {one: one.stat().st_mtime_ns for one in work.glob("*/*.json")}
    found = []
    for name in ("r", "whole"):
        outcome = mmbind(*words, tmp_path / name, "--jobs", 1, "--json", "--quiet")
        assert outcome.exit_code == 0, outcome.stderr
        scores = outcome.document["result"]["scores"]
        found.append([{k: v for k, v in one.items() if "cpu_s" not in k} for one in scores])
    assert found[0] == found[1]
    assert len(found[0]) == 4
    assert kept
    assert {one: one.stat().st_mtime_ns for one in kept} == kept
