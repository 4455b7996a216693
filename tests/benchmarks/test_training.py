"""Rows per second of pre-training, ours beside the published one. `pytest -m benchmark -s FILE`.

Ours: the compact encoders, soft targets, augmentation. Published: the reference encoders, the
published code's loss and weights, no augmentation (``--encoder reference --recipe published``).
Shapes of UTD-MHAD: node A has acc and skeleton, node B acc and gyro, paired by acc; batches of 64,
on the CPU. Each figure is that of the best step of its own process, and the processes take turns:
what other programs take from the machine hardly enters. Peak memory is that of the process less
what it had before the first step. How well either learns is told by `mmbind benchmark`.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from mmbind_data.spec.descriptor import Axis, Modality
from mmbind_train.config import NetworkOptions, TrainConfig, recipe
from mmbind_train.data.training_set import TrainingSet, measure_statistics
from mmbind_train.networks.model import AdaptiveModel
from mmbind_train.training.methods import mmbind
from mmbind_train.training.run import PretrainingRun

pytestmark = pytest.mark.benchmark
OURS, PUBLISHED = "ours", "published"
CONFIGS = {
    OURS: recipe("default"),
    PUBLISHED: recipe("published").model_copy(
        update={"network": NetworkOptions(variant="reference")}
    ),
}
STEPS = {OURS: 40, PUBLISHED: 8}  # the last of a process are the steady ones
ROUNDS = 2
N = 400  # samples of each node
MIB = 2**10  # KiB, as the system counts


def axes(*sizes: tuple[str, int]) -> tuple[Axis, ...]:
    return tuple(Axis(name=name, size=size) for name, size in sizes)


MODALITIES = {
    "acc": Modality(kind="inertial", unit="m/s^2", axes=axes(("time", 120), ("channel", 3))),
    "gyro": Modality(kind="inertial", unit="rad/s", axes=axes(("time", 120), ("channel", 3))),
    "skeleton": Modality(
        kind="skeleton", unit="m", axes=axes(("time", 40), ("joint", 20), ("coordinate", 3))
    ),
}


def paired_rows(seed: int = 0) -> TrainingSet:
    """Both nodes' samples, and each with a partner of the other node."""
    rng = np.random.default_rng(seed)
    sizes = {"acc": 2 * N, "gyro": N, "skeleton": N}
    values = {
        name: rng.standard_normal((sizes[name], *one.shape), dtype=np.float32)
        for name, one in MODALITIES.items()
    }
    own, other, none = np.arange(N), rng.permutation(N), np.full(N, -1)
    index = np.concatenate(
        [
            np.stack(one, axis=1)
            for one in (
                (own, none, own),
                (N + own, own, none),
                (own, other, own),  # of A, with the gyro of B
                (N + own, own, other),
            )
        ]
    )
    code_a, code_b = own, N + own
    sample = np.concatenate(
        [
            np.stack(one, axis=1)
            for one in (
                (code_a, none, code_a),
                (code_b, code_b, none),
                (code_a, code_b[other], code_a),
                (code_b, code_b, code_a[other]),
            )
        ]
    )
    kind = np.repeat(np.array(["incomplete", "pseudo"], dtype=object), 2 * N)
    similarity = np.where(kind == "pseudo", 0.8, np.nan).astype(np.float32)
    return TrainingSet(
        modalities=MODALITIES, values=values, index=index, sample=sample, kind=kind,
        weight=np.ones(4 * N, np.float32), similarity=similarity, rank=np.zeros(4 * N, np.int64),
        label=np.full(4 * N, -1, np.int64), label_names=(), subjects={}, stretched={},
    )  # fmt: skip


def measure(name: str, threads: int) -> dict[str, float]:
    """CPU and wall seconds of the best step, and MiB that the steps took."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    config: TrainConfig = CONFIGS[name]
    rows = paired_rows()
    times: list[tuple[float, float]] = []

    def progress(done: int, total: int, text: str) -> None:
        times.append((time.process_time(), time.perf_counter()))

    training = PretrainingRun(
        rows=rows, shared=("acc",), model=AdaptiveModel(MODALITIES, config.network),
        statistics=measure_statistics(rows), config=config, steps=STEPS[name], progress=progress,
    )  # fmt: skip
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    mmbind(training)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cpu, wall = np.diff(np.array(times), axis=0)[2:].min(axis=0).tolist()
    parameters = sum(one.numel() for one in training.model.parameters())
    return {"cpu": cpu, "wall": wall, "mib": (peak - before) / MIB, "parameters": parameters}


def test_rows_per_second() -> None:
    batch = TrainConfig().budget.batch
    print(f"\n| {batch} rows a step | threads | rows per CPU second | rows per second | "
          "peak memory, MiB | parameters |\n|---|---|---|---|---|---|")  # fmt: skip
    ratios = {}
    for threads in (1, 2):
        found: dict[str, list[dict[str, float]]] = {name: [] for name in CONFIGS}
        for name in list(CONFIGS) * ROUNDS:
            done = subprocess.run(
                [sys.executable, __file__, name, str(threads)],
                check=True, capture_output=True, text=True,
                env={**os.environ, "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"},
            )  # fmt: skip
            found[name].append(json.loads(done.stdout))
        best = {
            name: {key: min(one[key] for one in all_) for key in all_[0]}
            for name, all_ in found.items()
        }
        for name, one in best.items():
            print(f"| {name} | {threads} | {batch / one['cpu']:.0f} | {batch / one['wall']:.0f} | "
                  f"{one['mib']:.0f} | {one['parameters']:,.0f} |", flush=True)  # fmt: skip
        ratios[threads] = [best[PUBLISHED][key] / best[OURS][key] for key in ("cpu", "wall")]
        cpu, wall = ratios[threads]
        print(f"| ratio | {threads} | {cpu:.1f} | {wall:.1f} | | |", flush=True)
    assert all(cpu >= 5 for cpu, _ in ratios.values()), ratios


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]))))
