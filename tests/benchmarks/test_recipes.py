"""Which recipe pairs best, on real data, and what it costs. `pytest -m benchmark -s FILE`.

Chosen on these same subjects (development data): the figures are those of the best of several
recipes on five overlapping splits, not an estimate for new subjects. Recipes never read a label;
labels only say afterwards which share of the pairs, both ways, agrees.

Seconds are wall time of one process with one thread (set OMP_NUM_THREADS=1), everything after the
samples are in memory: embedding or training, candidates, re-scoring, matching.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from mmbind_data.conversion.convert import convert
from mmbind_data.embedding.autoencoder import embed_autoencoder
from mmbind_data.embedding.contrastive import embed_contrastive
from mmbind_data.embedding.vectors import Embedded, embed_raw
from mmbind_data.matching.candidates import Matches
from mmbind_data.matching.csls import shortlist
from mmbind_data.matching.dtw import Elastic, dtw_pairs, elastic_signals, reranked
from mmbind_data.matching.match import match, match_candidates
from mmbind_data.matching.rule import MatchRule
from mmbind_data.spec.descriptor import Axis, Modality
from mmbind_data.store.dataset import Dataset, open_dataset

pytestmark = [pytest.mark.benchmark, pytest.mark.realdata]

Pairing = tuple[Matches, Matches]
Recipe = Callable[[np.ndarray, int, Modality], Pairing]  # values, n_a, modality
Split = tuple[np.ndarray, np.ndarray]  # rows of A, rows of B

UTD_SPLITS = (("16", "23"), ("12", "34"), ("25", "36"), ("14", "56"), ("36", "45"))
MOTIONSENSE_SPLITS = (
    (range(1, 10), range(10, 19)),
    (range(1, 19, 2), range(2, 19, 2)),
    ((*range(1, 5), *range(10, 15)), (*range(5, 10), *range(15, 19))),
)
BEST, CSLS = MatchRule(), MatchRule("csls")
CANDIDATES = 100
DEFAULT = f"raw, {CANDIDATES} candidates > elastic, csls"


@dataclass
class Trained:
    """Match by an embedding that takes long to train; rules share one training per split.

    ``saved`` is what the last call would have spent more on a training of its own.
    """

    embed: Callable[..., Embedded]
    rule: MatchRule
    done: dict[tuple[str, int], tuple[np.ndarray, float]]
    saved: float = 0.0

    def __call__(self, values: np.ndarray, n_a: int, modality: Modality) -> Pairing:
        key = (self.embed.__name__, id(values))
        self.saved = 0.0
        if key in self.done:
            self.saved = self.done[key][1]
        else:
            begin = time.perf_counter()
            vectors = self.embed(values, modality).vectors
            self.done[key] = (vectors, time.perf_counter() - begin)
        vectors = self.done[key][0]
        return match(vectors[:n_a], vectors[n_a:], self.rule, threads=1)


def raw(rule: MatchRule) -> Recipe:
    def pair(values: np.ndarray, n_a: int, modality: Modality) -> Pairing:
        vectors = embed_raw(values, modality).vectors
        return match(vectors[:n_a], vectors[n_a:], rule, threads=1)

    return pair


def all_pairs(elastic: Elastic, rule: MatchRule) -> Recipe:
    def pair(values: np.ndarray, n_a: int, modality: Modality) -> Pairing:
        signals = elastic_signals(values, modality, elastic)
        a, b = signals[:n_a], signals[n_a:]
        row_a, row_b = (rows.ravel() for rows in np.indices((len(a), len(b))))
        pairs = dtw_pairs(a, b, row_a, row_b, band=elastic.band)
        similarity = pairs.reshape(len(a), len(b))
        to_b, to_a = (
            Matches(np.tile(np.arange(one.shape[1]), (len(one), 1)), one)
            for one in (similarity, similarity.T)
        )
        return match_candidates(to_b, to_a, rule)

    return pair


def candidates_then_elastic(c: int, rule: MatchRule = CSLS, *, by_signal: bool = False) -> Recipe:
    elastic = Elastic()

    def pair(values: np.ndarray, n_a: int, modality: Modality) -> Pairing:
        if by_signal:
            vectors = elastic_signals(values, modality, elastic).reshape(len(values), -1)
        else:
            vectors = embed_raw(values, modality).vectors
        to_b, to_a = shortlist(vectors[:n_a], vectors[n_a:], c)
        signals = elastic_signals(values, modality, elastic)
        listed = reranked(to_b, to_a, signals[:n_a], signals[n_a:], band=elastic.band)
        return match_candidates(*listed, rule)

    return pair


def cheap_recipes() -> dict[str, Recipe]:
    """Recipes without training, that need no time as N^2 beyond a matrix product."""
    found: dict[str, Recipe] = {"raw, best": raw(BEST), "raw, csls": raw(CSLS)}
    for c in (20, 50, 100, 200):
        found[f"raw, {c} candidates > elastic, csls"] = candidates_then_elastic(c)
    for c in (20, 50, 100):
        name = f"signals, {c} candidates > elastic, csls"
        found[name] = candidates_then_elastic(c, by_signal=True)
    found["raw, 100 candidates > elastic, best"] = candidates_then_elastic(100, BEST)
    return found


def trained_recipes() -> dict[str, Recipe]:
    """1000 steps each, as `mmbind bind` does by default."""
    done: dict[tuple[str, int], tuple[np.ndarray, float]] = {}
    return {
        "autoencoder, best (paper)": Trained(embed_autoencoder, BEST, done),
        "autoencoder, csls": Trained(embed_autoencoder, CSLS, done),
        "contrastive, best": Trained(embed_contrastive, BEST, done),
        "contrastive, csls": Trained(embed_contrastive, CSLS, done),
    }


def exhaustive_recipes() -> dict[str, Recipe]:
    plain = Elastic(frames=24, band=3, offset=0, slope=0)
    return {
        "plain dtw 24, all pairs, best": all_pairs(plain, BEST),
        "plain dtw 24, all pairs, csls": all_pairs(plain, CSLS),
        "elastic, all pairs, best": all_pairs(Elastic(), BEST),
        "elastic, all pairs, csls": all_pairs(Elastic(), CSLS),
    }


def pairing_accuracy(pairing: Pairing, label_a: np.ndarray, label_b: np.ndarray) -> float:
    to_b, to_a = (side.partner[:, 0] for side in pairing)
    agree = np.concatenate([label_a == label_b[to_b], label_b == label_a[to_a]])
    return float(agree.mean())


def table(
    title: str, store: Dataset, splits: Sequence[Split], recipes: dict[str, Recipe]
) -> dict[str, tuple[float, float]]:
    """Print a line per recipe; give its mean accuracy and its median seconds."""
    label, modality = store.column("label"), store.info.modalities["acc"]
    data = [store.load("acc", np.concatenate(split)) for split in splits]
    print(f"\n{title}: {len(splits)} splits, {np.mean([len(v) for v in data]):.0f} rows, acc, "
          f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS')}")  # fmt: skip
    print(f"{'recipe':<48}{'accuracy':>9}{'sd':>6}{'seconds':>9}")
    found = {}
    for name, recipe in recipes.items():
        accuracies, seconds = [], []
        for values, (rows_a, rows_b) in zip(data, splits, strict=True):
            begin = time.perf_counter()
            pairing = recipe(values, len(rows_a), modality)
            seconds.append(time.perf_counter() - begin + getattr(recipe, "saved", 0.0))
            accuracies.append(100 * pairing_accuracy(pairing, label[rows_a], label[rows_b]))
        mean, cost = float(np.mean(accuracies)), float(np.median(seconds))
        found[name] = (mean, cost)
        print(f"{name:<48}{mean:>8.1f}%{np.std(accuracies, ddof=1):>6.1f}{cost:>9.2f}", flush=True)
    return found


def rows_of(store: Dataset, subjects: Iterable[object]) -> np.ndarray:
    names = [str(subject) for subject in subjects]
    codes = [code for code, name in enumerate(store.names("subject")) if name in names]
    assert len(codes) == len(names)
    return np.flatnonzero(np.isin(store.column("subject"), codes))


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def test_recipes_on_utd(real_data: Path, tmp_path: Path) -> None:
    path = convert("utd-mhad", real_data / "utd-mhad", tmp_path / "u.zarr", modalities=["acc"]).path
    store = open_dataset(path)
    splits = [(rows_of(store, a), rows_of(store, b)) for a, b in UTD_SPLITS]
    recipes = exhaustive_recipes() | cheap_recipes() | trained_recipes()
    found = table("UTD-MHAD, subjects 1-6", store, splits, recipes)
    assert found[DEFAULT][0] >= 85
    assert found[DEFAULT][0] > found["autoencoder, csls"][0]
    assert found[DEFAULT][1] < found["autoencoder, best (paper)"][1] / 5


def test_recipes_on_motionsense(real_data: Path, tmp_path: Path) -> None:
    """The winner on UTD must not lose where it was not looked for."""
    path = convert("motionsense", real_data / "motionsense", tmp_path / "m.zarr").path
    store = open_dataset(path)
    splits = [(rows_of(store, a), rows_of(store, b)) for a, b in MOTIONSENSE_SPLITS]
    recipes = cheap_recipes() | trained_recipes()
    found = table("MotionSense, subjects 1-18", store, splits, recipes)
    for name in ("raw, best", "raw, csls", "autoencoder, best (paper)", "autoencoder, csls"):
        assert found[DEFAULT][0] > found[name][0]


@pytest.mark.parametrize("n", [1000, 5000, 10000])
def test_cost_of_the_default_as_data_grows(n: int) -> None:
    """Signals are noise: the steps taken do not depend on the values."""
    acc = Modality(
        kind="inertial", unit="m/s^2",
        axes=(Axis(name="time", size=120), Axis(name="channel", size=3)),
    )  # fmt: skip
    values = np.random.default_rng(0).standard_normal((2 * n, 120, 3), dtype=np.float32)
    begin = time.perf_counter()
    vectors = embed_raw(values, acc).vectors
    to_b, to_a = shortlist(vectors[:n], vectors[n:], CANDIDATES)
    listed = time.perf_counter()
    elastic = Elastic()
    signals = elastic_signals(values, acc, elastic)
    ranked = reranked(to_b, to_a, signals[:n], signals[n:], band=elastic.band)
    scored = time.perf_counter()
    pairing = match_candidates(*ranked, CSLS)
    end = time.perf_counter()
    print(
        f"\n{n} x {n}: {end - begin:.2f} s = candidates {listed - begin:.2f} + "
        f"elastic {scored - listed:.2f} + csls {end - scored:.2f}, "
        f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS')}"
    )
    assert (pairing[0].partner >= 0).all()
