"""Binding the real UTD-MHAD by derived motion and by time.

`pytest -m benchmark -s tests/benchmarks/test_other_information.py`; about ten seconds.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from realutd import SPLITS, Utd, open_utd, right_pairs

from mmbind_data.binding.suitability import cosines, csls_of_products
from mmbind_data.embedding.vectors import embed_raw
from mmbind_data.matching.time_and_place import match_times
from mmbind_data.signal.derived import DERIVATIONS, derive
from mmbind_data.signal.windows import stretch
from mmbind_data.spec.descriptor import Modality
from mmbind_data.store.dataset import Dataset, open_dataset
from mmbind_data.store.partitioning import partition

pytestmark = pytest.mark.benchmark
CHANCE = 1 / 27
WRIST_LABELS = 21  # the first 21 actions were recorded at the wrist, the others at the thigh


@pytest.fixture(scope="module")
def utd(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Utd:
    return open_utd(real_data, tmp_path_factory.mktemp("other"))


def measure(
    utd: Utd, derived: np.ndarray, target: np.ndarray, modality: Modality, among: np.ndarray
) -> np.ndarray:
    """Pairing accuracy of the derived modality of one side with the measured of the other.

    Returns (10, 2): both roles of each split; by cosine, and after hubness correction.
    """
    target = stretch(target.swapaxes(0, 1), derived.shape[1]).swapaxes(0, 1)
    found = []
    for split in SPLITS:
        for one, other in (split, split[::-1]):
            a, b = (np.intersect1d(utd.rows(side), among) for side in (one, other))
            vectors = embed_raw(np.concatenate([derived[a], target[b]]), modality).vectors
            similarity = cosines(vectors[: len(a)], vectors[len(a) :])
            found.append(
                [
                    right_pairs(score, utd.label[a], utd.label[b])
                    for score in (similarity, csls_of_products(similarity))
                ]
            )
    return np.array(found)


def test_skeleton_binds_with_acceleration(utd: Utd) -> None:
    skeleton, modality = utd.store.load("skeleton"), utd.store.info.modalities["skeleton"]
    sensors = {name: utd.store.load(name) for name in ("acc", "gyro")}
    every = np.arange(len(utd.store))
    wrist, thigh = every[utd.label < WRIST_LABELS], every[utd.label >= WRIST_LABELS]

    def of(name: str, among: np.ndarray, **changes: float) -> np.ndarray:
        derivation = replace(DERIVATIONS[name], **changes)  # type: ignore[arg-type]
        values, made = derive(skeleton, modality, derivation)
        return measure(utd, values, sensors[derivation.target], made, among)

    acc = utd.store.info.modalities["acc"]
    rows = {
        "acc with acc": measure(utd, sensors["acc"], sensors["acc"], acc, every),
        "right_wrist_acc with acc": of("right_wrist_acc", every),
        "right_wrist_acc with acc, trials at the wrist": of("right_wrist_acc", wrist),
        "right_thigh_acc with acc, trials at the thigh (6 classes)": of("right_thigh_acc", thigh),
        "right_wrist_gyro with gyro": of("right_wrist_gyro", every),
        **{
            f"right_wrist_acc with acc, samples taken as {seconds} s": of(
                "right_wrist_acc", every, seconds=seconds
            )
            for seconds in (1.5, 2.0, 4.0, 6.0)
        },
    }
    for name in ("acc_magnitude", "acc_motion"):
        values, made = derive(sensors["acc"], acc, DERIVATIONS[name])
        rows[f"{name} with {name}"] = measure(utd, values, values, made, every)
    print()
    for what, found in rows.items():
        mean, spread = 100 * found.mean(axis=0), 100 * found.std(axis=0, ddof=1)
        print(f"{what}: cosine {mean[0]:.1f} +- {spread[0]:.1f}, CSLS {mean[1]:.1f} +- "
              f"{spread[1]:.1f} % of {len(found)} bindings")  # fmt: skip
    assert rows["right_wrist_acc with acc"].min() > 10 * CHANCE
    assert rows["right_wrist_gyro with gyro"].min() > 7 * CHANCE
    assert rows["acc with acc"].mean() > rows["right_wrist_acc with acc"].mean()


def visit(store: Dataset, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Notional times: a subject's trials one after another, 2 to 4 s each, pauses of 2 s."""
    length = rng.uniform(2.0, 4.0, len(store))
    start = np.concatenate([[0.0], np.cumsum(length + 2.0)[:-1]]) + 86400.0 * store.column(
        "subject"
    )
    return start, start + length


def test_time_finds_natural_pairs(utd: Utd, tmp_path: Path) -> None:
    """Two devices, one visit: the other device's file of a trial is found by time alone."""
    sides = []
    for name in ("acc", "skeleton"):
        partition(utd.store.path, tmp_path / f"{name}.zarr", modalities=[name])
        sides.append(open_dataset(tmp_path / f"{name}.zarr"))
    uid = [np.array(side.samples()["uid"].to_pylist()) for side in sides]
    assert_array_equal(uid[0], uid[1])
    start, end = visit(sides[0], np.random.default_rng(0))
    shuffled = np.random.default_rng(1).permutation(len(start))
    # the camera starts earlier and stops later by up to half a second
    margin = np.random.default_rng(2).uniform(0, 0.5, size=(2, len(start)))
    print()
    for late in (0.0, 0.7, 1.5, 2.5, 3.5, 5.0):
        other = (start + late - margin[0])[shuffled], (end + late + margin[1])[shuffled]
        to_b, to_a = match_times(start, end, *other, window_s=1.0)
        found = [uid[1][shuffled][to_b.partner[:, 0]] == uid[0],
                 uid[0][to_a.partner[:, 0]] == uid[1][shuffled]]  # fmt: skip
        share = np.concatenate(found).mean()
        print(f"camera's clock {late} s late: {share:.1%} of {2 * len(start)} natural pairs")
        if late <= 1.5:  # later than that, the overlap with the next trial may be larger
            assert share == 1.0
