"""Finished jobs count as done only for the code that made them, shown on copies of the product."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from benchdata import small_document, write_raw

from mmbind_train.benchmarks.plan import BIND_CODE, SCORE_CODE, TRAIN_CODE, BenchmarkRequest
from mmbind_train.benchmarks.run import benchmark, plan_benchmark
from mmbind_train.training.cache_keys import code_digest

ROOT = Path(__file__).parents[3]
CODE = {"bind": BIND_CODE, "train": TRAIN_CODE, "score": SCORE_CODE}
DIGESTS = """
import json, sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from mmbind_train.training.cache_keys import code_digest
code, edits = json.load(sys.stdin)
for name, addition in [("mmbind_data.errors", b""), *((name, b"# edited") for name in edits)]:
    path = Path(find_spec(name).origin)
    source = path.read_bytes()
    path.write_bytes(source + addition)
    code_digest.cache_clear()
    print(json.dumps({kind: code_digest(*map(ModuleType, code[kind])) for kind in code}))
    path.write_bytes(source)
"""
PREVIEW = """
import json, sys
from mmbind_train.benchmarks.plan import BenchmarkRequest
from mmbind_train.benchmarks.run import plan_benchmark
found = plan_benchmark(BenchmarkRequest(sys.argv[1], sys.argv[2]), sys.argv[3])
print(json.dumps([found.exact, found.n_done]))
"""


def copy_product(to: Path) -> Path:
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("mmbind_data", "mmbind_train"):
        shutil.copytree(ROOT / name, to / name, ignore=ignored)
    shutil.copytree(ROOT / "schemas", to / "mmbind_data" / "schemas", ignore=ignored)
    return to


def rename_module(product: Path, old: str, new: str) -> None:
    """As `git mv` and an editor do: the file moves, every import follows."""
    old_file, new_file = (product.joinpath(*name.split(".")) for name in (old, new))
    old_file.with_suffix(".py").rename(new_file.with_suffix(".py"))
    for path in product.rglob("*.py"):
        path.write_text(path.read_text().replace(old, new))


def run_python(product: Path, code: str, *words: object, given: str = "") -> list[str]:
    finished = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)],
        env=os.environ | {"PYTHONPATH": str(product)}, cwd=product,
        input=given, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return finished.stdout.splitlines()


def test_a_changed_module_repeats_the_jobs_that_import_it(tmp_path: Path) -> None:
    edits: dict[str, set[str]] = {
        "mmbind_data.store.dataset": {"bind", "train", "score"},
        "mmbind_data.binding.by_sensor": {"bind"},
        "mmbind_train.benchmarks.bind_settings": {"bind"},
        "mmbind_train.networks.model": {"train", "score"},
        "mmbind_train.objectives.info_nce": {"train"},
        "mmbind_train.evaluation.metrics": {"score"},
        "mmbind_train.benchmarks.results": set(),
        "mmbind_data.publishing.card": set(),
    }
    code = {kind: [module.__name__ for module in modules] for kind, modules in CODE.items()}
    given = json.dumps([code, list(edits)])
    lines = run_python(copy_product(tmp_path), DIGESTS, given=given)
    plain, *edited = [json.loads(line) for line in lines]
    assert plain == {kind: code_digest(*modules) for kind, modules in CODE.items()}
    for (name, kinds), found in zip(edits.items(), edited, strict=True):
        assert {kind for kind in CODE if found[kind] != plain[kind]} == kinds, name


def test_a_module_that_does_not_exist_has_no_digest() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"training\.renamed"):
        code_digest(ModuleType("mmbind_train.training.renamed"))


def test_jobs_finished_before_a_move_are_not_taken_for_done(tmp_path: Path) -> None:
    data, work = write_raw(tmp_path / "data"), tmp_path / "out"
    document = small_document(seeds=[0])
    document["rows"], document["conditions"] = document["rows"][2:3], document["conditions"][:1]
    protocol = tmp_path / "p.json"
    protocol.write_text(json.dumps(document))
    assert benchmark(BenchmarkRequest(protocol, data), work, jobs=1).failures == ()
    assert plan_benchmark(BenchmarkRequest(protocol, data), work).n_done == 3
    asked = (protocol, data, work)
    product = copy_product(tmp_path / "product")
    rename_module(product, "mmbind_train.objectives.info_nce", "mmbind_train.objectives.contrast")
    assert run_python(product, PREVIEW, *asked) == [
        "[true, 1]"
    ]  # the binding, which is no training
    descriptor = product / "mmbind_data" / "datasets" / "utd_mhad.json"
    corrected = json.loads(descriptor.read_text())
    corrected["labels"]["a1"] = "corrected"
    descriptor.write_text(json.dumps(corrected))
    assert run_python(product, PREVIEW, *asked) == ["[false, 0]"]
