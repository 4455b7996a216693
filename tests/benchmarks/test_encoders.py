"""Compact encoders beside the paper's: size, speed and accuracy. `pytest -m benchmark -s FILE`.

Size and speed: real shapes, 64 rows, one thread (set OMP_NUM_THREADS=1), CPU milliseconds of one
forward and backward pass. Accuracy: UTD-MHAD, trained from scratch on the labels of subjects 1-4,
tested once on subject 5, the same steps, batches, optimiser and augmentation for both; subject 6
serves as the unlabelled store that a run begins with. Development subjects: 7 and 8 are not read.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from kinds import modality

from mmbind_data.conversion.convert import convert
from mmbind_data.embedding.encoders import Variant, build_encoder
from mmbind_data.errors import UsageError
from mmbind_data.spec.descriptor import Modality
from mmbind_data.store.partitioning import partition
from mmbind_train.config import Budget, EvaluateConfig, NetworkOptions, TrainConfig
from mmbind_train.evaluation.evaluate import evaluate
from mmbind_train.training.pretrain import train

pytestmark = pytest.mark.benchmark
ROWS = 64
VARIANTS: tuple[Variant, ...] = ("compact", "reference")
STILL = [("height", 60), ("width", 80)]
SUN_STILL = [("height", 240), ("width", 320)]
SHAPES: Mapping[str, Modality] = {
    "inertial (UTD)": modality("inertial", [("time", 120), ("channel", 3)]),
    "inertial (PAMAP2, 10 s)": modality("inertial", [("time", 1000), ("channel", 3)]),
    "signal (heart rate)": modality("signal", [("time", 200), ("channel", 1)]),
    "skeleton (UTD)": modality("skeleton", [("time", 40), ("joint", 20), ("coordinate", 3)]),
    "skeleton (MM-Fi, 297 frames)": modality(
        "skeleton", [("time", 297), ("joint", 17), ("coordinate", 3)]
    ),
    "keypoints (MM-Fi)": modality("skeleton", [("time", 30), ("joint", 17), ("coordinate", 2)]),
    "depth video (UTD)": modality("depth_video", [("time", 16), *STILL]),
    "depth video (MM-Fi)": modality("depth_video", [("time", 30), ("height", 48), ("width", 64)]),
    "radar (MM-Fi)": modality("point_cloud", [("time", 30), ("point", 32), ("channel", 5)]),
    "lidar (MM-Fi)": modality("point_cloud", [("time", 30), ("point", 128), ("channel", 3)]),
    "csi (MM-Fi)": modality(
        "csi", [("time", 30), ("antenna", 3), ("subcarrier", 114), ("packet", 10)]
    ),
    "image (SUN, 60 x 80)": modality("image", [*STILL, ("channel", 3)]),
    "depth still (SUN, 60 x 80)": modality("image", STILL),
    "semseg (SUN, 60 x 80)": modality("image", STILL, classes=38),
    "image (SUN, 240 x 320)": modality("image", [*SUN_STILL, ("channel", 3)]),
}
# the published network for depth takes some four seconds a step: fewer steps for both there
STEPS: Mapping[str, int] = {"acc": 200, "gyro": 200, "skeleton": 200, "depth": 60}
SEEDS = (0, 1, 2)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def milliseconds(encoder: torch.nn.Module, values: torch.Tensor) -> float:
    """CPU time of one forward and backward pass: the best of several, behind a warm-up."""
    spent: list[float] = []
    while len(spent) < 2 or (len(spent) < 6 and sum(spent) < 3):
        begin = time.process_time()
        torch.autograd.backward(encoder(values).square().mean())
        spent.append(time.process_time() - begin)
    return 1000 * min(spent[1:])


def test_size_and_speed() -> None:
    print(f"\nforward + backward of {ROWS} rows, one thread, ms of CPU time")
    print("| input | compact: parameters | ms | reference: parameters | ms | ratio |")
    print("|---|---|---|---|---|---|")
    ratios = {}
    for name, one in SHAPES.items():
        cells, spent = [], []
        for variant in VARIANTS:
            torch.manual_seed(0)
            try:
                encoder = build_encoder(one, variant=variant)
            except UsageError:  # nothing was published for signals
                cells.append("| |")
                continue
            values = torch.randn(ROWS, *one.shape)
            values = values.abs().mul(9).round() if one.classes else values
            spent.append(milliseconds(encoder, values))
            n_parameters = sum(one.numel() for one in encoder.parameters())
            cells.append(f"{n_parameters:,} | {spent[-1]:.0f} |")
        ratio = f"{spent[1] / spent[0]:.0f}" if len(spent) == 2 else ""
        ratios[name] = spent[1] / spent[0] if len(spent) == 2 else None
        print(f"| {name} | {' '.join(cells)} {ratio} |", flush=True)
    assert all(ratio is None or ratio > 1.5 for ratio in ratios.values()), ratios


def accuracy(root: Path, name: str, variant: Variant, steps: int) -> tuple[float, float, float]:
    """Mean accuracy in %, its sample deviation, and CPU seconds of one fine-tuning."""
    network = NetworkOptions(variant=variant)
    run = root / f"run-{name}-{variant}"
    train(root / f"{name}-6.zarr", run, method="lower_bound", config=TrainConfig(network=network))
    config = EvaluateConfig(seeds=SEEDS, budget=Budget(steps=steps, batch=32))
    begin = time.process_time()
    result = evaluate(run, root / f"{name}-1234.zarr", root / f"{name}-5.zarr", config=config)
    spent = (time.process_time() - begin) / len(SEEDS)
    return 100 * result.accuracy, 100 * (result.accuracy_std or 0.0), spent


@pytest.mark.realdata
@pytest.mark.parametrize("name", STEPS)
def test_accuracy_from_scratch(real_data: Path, tmp_path: Path, name: str) -> None:
    raw = real_data / "utd-mhad"
    whole = convert("utd-mhad", raw, tmp_path / "utd.zarr", modalities=[name]).path
    for subjects in ("1234", "5", "6"):
        partition(whole, tmp_path / f"{name}-{subjects}.zarr", subjects=list(subjects))
    print(
        f"\nUTD-MHAD {name}: subjects 1-4 train, 5 tests, {STEPS[name]} steps of 32, "
        f"{len(SEEDS)} seeds; % and CPU seconds per training"
    )
    print("| input | compact | s | reference | s |\n|---|---|---|---|---|")
    found, cells = [], []
    for variant in VARIANTS:
        mean, deviation, spent = accuracy(tmp_path, name, variant, STEPS[name])
        found.append(mean)
        cells.append(f"{mean:.1f} ± {deviation:.1f} | {spent:.0f}")
    print(f"| {name} | {' | '.join(cells)} |", flush=True)
    assert found[0] > found[1] - 1
