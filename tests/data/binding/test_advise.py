"""Advice on stores whose best link is known by construction."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import smallstores

from mmbind_data.binding.advise import advise, candidates
from mmbind_data.binding.advise_samples import MAX_NUMBERS, halve
from mmbind_data.binding.bind import bind
from mmbind_data.binding.options import BindOptions
from mmbind_data.errors import BindingError
from mmbind_data.matching.rule import MatchRule
from mmbind_data.spec.comparison import why_incomparable
from mmbind_data.spec.descriptor import Axis, Modality
from mmbind_data.store.dataset import Dataset, RowNumbers, open_dataset
from mmbind_data.store.partitioning import partition

PEOPLE = {"a": ["1", "2", "3"], "b": ["4", "5", "6"]}
SMALL = {"acc": 24, "gyro": 24, "skeleton": 12}


def pair(
    folder: Path,
    *,
    noise: float = 0.1,
    labels: tuple[str, ...] = smallstores.LABELS,
    missing: dict[str, tuple[int, ...]] | None = None,
    frames: dict[str, int] | None = None,
    other: dict[str, int] | None = None,
) -> tuple[Dataset, Dataset]:
    """Two stores of three subjects each; three trials of each label and subject."""
    found = []
    for name, subjects in PEOPLE.items():
        whole = smallstores.write_small_store(
            folder / f"whole-{name}.zarr",
            labels=labels,
            noise=noise,
            missing=missing,
            frames=(other or frames) if name == "b" else frames,
        )
        partition(whole, folder / f"{name}.zarr", subjects=subjects)
        found.append(open_dataset(folder / f"{name}.zarr"))
    return found[0], found[1]


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, Dataset]:
    return pair(tmp_path_factory.mktemp("clean"))


@dataclass(frozen=True)
class Changed(Dataset):
    """A store of which one modality, or each, reads otherwise."""

    change: Callable[[np.ndarray], np.ndarray] = np.ones_like
    modality: str | None = None

    def load(self, modality: str, rows: RowNumbers = None) -> np.ndarray:
        values = super().load(modality, rows)
        return self.change(values) if self.modality in (modality, None) else values


def spoil(stores: tuple[Dataset, Dataset], modality: str, noise: float) -> tuple[Changed, Changed]:
    """The stores with noise on a modality."""

    def noisy(store: Dataset) -> Changed:
        def change(values: np.ndarray) -> np.ndarray:
            rng = np.random.default_rng(sum(store.path.name.encode()))
            return np.asarray(values + noise * rng.normal(size=values.shape).astype(np.float32))

        return Changed(store.path, store.info, change, modality)

    return noisy(stores[0]), noisy(stores[1])


def test_every_candidate_is_judged_and_ranked(clean: tuple[Dataset, Dataset]) -> None:
    found = advise(*clean)
    assert {one.shared for one in found} == {"acc", "gyro", "skeleton", "label"}
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    for one in found:
        assert one.expected is not None
        assert one.interval is not None
        assert one.interval[0] <= one.expected <= one.interval[1]
        assert 0 <= one.domain_gap <= 2
        assert one.coverage == 1
        assert one.n_samples == (27, 27)
        assert all(math.isfinite(v) for v in (one.separability, one.stability, one.hubness))
        assert one.reasons


@pytest.mark.parametrize("use_labels", [(True, True), (True, False), (False, True), (False, False)])
def test_noise_ranks_last_whatever_is_known(
    clean: tuple[Dataset, Dataset], use_labels: tuple[bool, bool]
) -> None:
    stores = spoil(clean, "gyro", 30.0)
    found = {one.shared: one for one in advise(*stores, use_labels=use_labels)}
    others = [found[name] for name in ("acc", "skeleton")]
    assert all(found["gyro"].score < one.score for one in others)
    assert all(found["gyro"].separability < one.separability for one in others)
    basis = {2: "pairs", 1: "round trip", 0: "none"}[sum(use_labels)]
    assert found["gyro"].basis == basis
    assert ("label" in found) == all(use_labels)
    if any(use_labels):
        assert all(one.expected is not None and one.expected > 0.8 for one in others)
        gyro = found["gyro"].expected
        assert gyro is not None
        assert gyro < 0.65
    else:
        assert all((one.expected, one.interval) == (None, None) for one in found.values())
        assert all(one.separability == one.stability for one in found.values())
        assert "no labels to judge by" in found["acc"].reasons[0]


def test_pairs_are_counted_as_they_would_be_bound(clean: tuple[Dataset, Dataset]) -> None:
    """`expected` with two labelled sides is the pairing accuracy of plain cosine matching."""
    a, b = clean
    found = {one.shared: one for one in advise(a, b, match="best", rerank="none")}
    values = [store.load("acc").reshape(len(store), -1, 3).astype(np.float64) for store in (a, b)]

    def vectors(values: np.ndarray, _: Modality) -> np.ndarray:
        return values.reshape(len(values), -1)

    mine = {one.shared: one for one in advise(a, b, match="best", rerank="none",
                                               embed=vectors)}["acc"]  # fmt: skip
    flat = [part.reshape(len(part), -1) for part in values]
    equal = []
    names = [store.names("label") for store in (a, b)]
    label = [
        [own[code] for code in store.column("label")]
        for own, store in zip(names, (a, b), strict=True)
    ]
    for one, two in ((0, 1), (1, 0)):
        for row, text in zip(flat[one], label[one], strict=True):
            cosine = [
                round(row @ y / np.linalg.norm(row) / np.linalg.norm(y), 6) for y in flat[two]
            ]
            equal.append(label[two][int(np.argmax(cosine))] == text)
    assert mine.expected == pytest.approx(sum(equal) / len(equal), abs=1e-6)
    assert found["acc"].basis == mine.basis == "pairs"


@pytest.mark.parametrize("n_subjects", [6, 24])  # with 24 there are more pairs than candidates
@pytest.mark.parametrize(
    ("match", "rerank"), [("csls", "auto"), ("csls", "none"), ("best", "auto"), ("best", "none")]
)
def test_expected_is_what_bind_reports(
    tmp_path: Path, match: Any, rerank: Any, n_subjects: int
) -> None:
    """With two labelled sides, for the recipe of `bind`: the same share of right pairs."""
    names, half = tuple(str(number) for number in range(n_subjects)), n_subjects // 2
    whole = smallstores.write_small_store(tmp_path / "w", subjects=names, noise=2.5)
    for name, subjects, modality in (("a", names[:half], "skeleton"), ("b", names[half:], "gyro")):
        partition(whole, tmp_path / name, subjects=subjects, modalities=["acc", modality])
    options = BindOptions(rule=MatchRule(match), rerank=rerank)
    stores = tmp_path / "a", str(tmp_path / "b")
    info = bind(stores, tmp_path / "o", shared="acc", options=options)
    assert (info.sources[0].n_samples > options.candidates) == (n_subjects > 6)
    found = {one.shared: one for one in advise(*stores, match=match, rerank=rerank)}["acc"]
    assert info.pairing_accuracy is not None
    assert 0.3 < info.pairing_accuracy < 1
    assert found.expected == pytest.approx(info.pairing_accuracy, abs=1e-6)


def test_the_interval_follows_its_rule(clean: tuple[Dataset, Dataset]) -> None:
    a, b = clean
    for one in advise(a, b, use_labels=(True, False)):
        assert one.expected is not None
        p, n = one.expected, len(a)
        people = 0.12**2 * (1 / 3 + 1 / 3)
        half = 1.645 * math.sqrt(p * (1 - p) / n + people + 0.03**2)
        low = (p - half) * (1 - 0.8 * (one.domain_gap / 2) ** 2)
        assert one.interval == pytest.approx((max(0, low), min(1, p + half)), abs=1e-5)


def test_the_same_seed_gives_the_same_advice(clean: tuple[Dataset, Dataset]) -> None:
    assert advise(*clean, seed=4, max_samples=15) == advise(*clean, seed=4, max_samples=15)
    assert all(one.n_samples == (15, 15) for one in advise(*clean, max_samples=15))


def test_only_carried_samples_count(tmp_path: Path) -> None:
    a, b = pair(tmp_path, missing={"acc": tuple(range(0, 54, 2))})
    found = {one.shared: one for one in advise(a, b)}
    assert found["acc"].coverage == pytest.approx(0.5, abs=0.02)
    assert sum(found["acc"].n_samples) == 27
    assert found["acc"].score == pytest.approx(
        (found["acc"].expected or 0) * found["acc"].coverage, abs=1e-5
    )
    assert any("50% of the samples carry it" in reason for reason in found["acc"].reasons)


def test_label_texts_that_differ(tmp_path: Path) -> None:
    folder = tmp_path / "one"
    folder.mkdir()
    a, _ = pair(folder)
    folder = tmp_path / "two"
    folder.mkdir()
    _, b = pair(folder, labels=("clap", "kicking", "xyz"))
    found = {one.shared: one for one in advise(a, b)}["label"]
    assert found.basis == "texts"
    assert found.expected == pytest.approx(1 / 3, abs=1e-6)  # clap
    assert found.interval == pytest.approx((1 / 3, 2 / 3), abs=1e-6)  # kick - kicking
    assert found.domain_gap == pytest.approx(4 / 3, abs=1e-6)  # two of three classes, twice
    assert "67% with similar texts" in found.reasons[0]


def test_one_label_tells_nothing(tmp_path: Path) -> None:
    found = {one.shared: one for one in advise(*pair(tmp_path, labels=("walk",)))}
    for name in ("acc", "gyro", "skeleton"):
        assert found[name].basis == "none"
        assert found[name].expected is None
        assert found[name].separability_basis == "stability"
    assert found["label"].expected == 1.0


def test_one_subject_a_side(clean: tuple[Dataset, Dataset], tmp_path: Path) -> None:
    stores = []
    for name, subject in (("a", "1"), ("b", "4")):
        path = next(s.path for s in clean if s.path.stem == name)
        partition(path, tmp_path / f"{name}1.zarr", subjects=[subject])
        stores.append(open_dataset(tmp_path / f"{name}1.zarr"))
    found = {one.shared: one for one in advise(stores[0], stores[1])}
    assert found["acc"].expected is not None
    assert any("one subject" in reason for reason in found["acc"].reasons)


def test_constant_values_give_a_result(clean: tuple[Dataset, Dataset]) -> None:
    a, b = (Changed(store.path, store.info) for store in clean)
    found = {one.shared: one for one in advise(a, b)}
    for name in ("acc", "gyro", "skeleton"):
        assert found[name].domain_gap == 0
        assert found[name].expected == pytest.approx(1 / 3, abs=0.01)  # one partner for all


def test_windows_of_other_lengths_are_stretched_where_they_span_the_same(tmp_path: Path) -> None:
    a, b = pair(tmp_path, other={"acc": 48, "gyro": 24, "skeleton": 12})
    assert "acc" not in {one.shared for one in advise(a, b)}
    assert candidates(a, b)[1] == {"acc": "samples of 0.48 s and 0.96 s"}
    acc = b.info.modalities["acc"].model_copy(update={"rate_hz": 100.0})
    modalities = {**b.info.modalities, "acc": acc}
    faster = replace(b, info=b.info.model_copy(update={"modalities": modalities}))
    found = {one.shared: one for one in advise(a, faster)}
    assert (found["acc"].expected or 0) > 0.8


@pytest.mark.parametrize("wrong", [np.zeros((3, 2)), np.full((81, 2), np.nan), np.zeros(81)])
def test_a_bad_embedding_is_refused(clean: tuple[Dataset, Dataset], wrong: np.ndarray) -> None:
    def embed(_values: np.ndarray, _modality: Modality) -> np.ndarray:
        return wrong

    with pytest.raises(BindingError, match="bad embedding"):
        advise(*clean, embed=embed)


def test_values_that_are_no_numbers_are_refused(clean: tuple[Dataset, Dataset]) -> None:
    with pytest.raises(BindingError, match=r"not finite .* finite acc"):
        advise(*spoil(clean, "acc", math.nan))


def test_nothing_shared_names_the_reasons(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    partition(a.path, tmp_path / "acc.zarr", modalities=["acc"], labels="none")
    partition(b.path, tmp_path / "gyro.zarr", modalities=["gyro"], labels="none")
    with pytest.raises(BindingError, match=r"nothing to bind by .* got acc and gyro\."):
        advise(open_dataset(tmp_path / "acc.zarr"), open_dataset(tmp_path / "gyro.zarr"))
    info = a.info.modalities["acc"].model_copy(update={"unit": "g"})
    other = Dataset(a.path, a.info.model_copy(update={"modalities": {"acc": info}, "labels": {}}))
    with pytest.raises(BindingError, match=r"got acc: unit m/s\^2 and g"):
        advise(b, other)
    empty = {"acc": tuple(k for k in range(54) if k % 27 > 1)}
    folder = tmp_path / "empty"
    folder.mkdir()
    c, d = pair(folder, missing=empty, frames={"acc": 24})
    bare = [replace(store, info=store.info.model_copy(update={"labels": {}})) for store in (c, d)]
    with pytest.raises(BindingError, match=r"acc: .* has 2 samples with it"):
        advise(bare[0], bare[1])


def test_candidates_know_why_not(clean: tuple[Dataset, Dataset]) -> None:
    assert candidates(*clean) == (["acc", "gyro", "skeleton", "label"], {})
    acc = clean[0].info.modalities["acc"]
    swapped = Axis(name="channel", size=3, names=("z", "y", "x"))
    unnamed = Axis(name="channel", size=3)
    assert why_incomparable(acc, acc) == ""
    assert "axis" in why_incomparable(acc, acc.model_copy(update={"axes": (acc.axes[0], swapped)}))
    assert why_incomparable(acc, acc.model_copy(update={"axes": (acc.axes[0], unnamed)})) == ""
    assert "kind" in why_incomparable(acc, acc.model_copy(update={"kind": "signal"}))
    slower = acc.model_copy(update={"rate_hz": 25.0})
    assert why_incomparable(acc, slower) == "samples of 0.48 s and 0.96 s"
    assert why_incomparable(acc, acc.model_copy(update={"rate_hz": None})) == ""
    image = acc.model_copy(update={"axes": (Axis(name="height", size=24), acc.axes[1])})
    assert why_incomparable(acc, image) == "time axes 1 and 0"
    lower = acc.model_copy(update={"axes": (Axis(name="height", size=12), acc.axes[1])})
    assert why_incomparable(image, lower) == "shape after time [24, 3] and [12, 3]"
    cloud = acc.model_copy(update={"kind": "point_cloud"})
    assert "point clouds" in why_incomparable(cloud, cloud)


def test_large_samples_are_halved_without_mixing_channels() -> None:
    axes = (
        Axis(name="time", size=30), Axis(name="height", size=64), Axis(name="width", size=48),
        Axis(name="channel", size=2),
    )  # fmt: skip
    big = Modality(kind="depth_video", unit="m", axes=axes)
    values = np.zeros((3, 30, 64, 48, 2), dtype=np.float32)
    values[..., 1] = np.arange(3).reshape(3, 1, 1, 1)
    small = halve(values, big)
    assert np.prod(small.shape[1:]) <= MAX_NUMBERS
    assert small.shape[-1] == 2
    assert (small[..., 0] == 0).all()
    assert (small[..., 1] == np.arange(3).reshape(3, 1, 1, 1)).all()
    pairs = halve(np.arange(10000, dtype=np.float32).reshape(1, 10000, 1), Modality(
        kind="signal", unit="x", axes=(Axis(name="time", size=10000), Axis(name="channel", size=1))
    ))  # fmt: skip
    assert pairs.shape == (1, 2500, 1)
    assert pairs[0, 0, 0] == 1.5
