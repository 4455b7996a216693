"""How likely pairs are right, without labels: against naive loops, and against labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from smallstores import write_small_store

from mmbind_data.binding.bind import bind
from mmbind_data.binding.confidence import COEFFICIENTS, INTERCEPT, domain_gap, pair_probabilities
from mmbind_data.binding.options import BindOptions
from mmbind_data.binding.writing import PARTNERS
from mmbind_data.conversion.convert import convert
from mmbind_data.matching.candidates import Matches
from mmbind_data.matching.rule import MatchRule
from mmbind_data.spec.descriptor import Axis, Modality
from mmbind_data.spec.store import BoundInfo, PairQuality
from mmbind_data.spec.verdict import describe_quality, judge_pairing
from mmbind_data.store.bound import open_bound
from mmbind_data.store.dataset import open_dataset
from mmbind_data.store.partitioning import partition


def random_matches(rng: np.random.Generator, n: int, m: int, k: int) -> Matches:
    partner = np.stack([rng.permutation(m)[:k] for _ in range(n)])
    partner[rng.random((n, k)) < 0.1] = -1
    partner = np.take_along_axis(partner, np.argsort(partner < 0, axis=1, kind="stable"), axis=1)
    similarity = -np.sort(-rng.uniform(0.1, 1.0, (n, k)).astype(np.float32), axis=1)
    return Matches(partner, np.where(partner >= 0, similarity, np.float32(np.nan)))


def naive(own: Matches, other: Matches, gap: float) -> np.ndarray:
    """The same probabilities, pair by pair."""
    n, k = own.partner.shape
    rows = [
        [(int(j), 1 - float(s)) for j, s in zip(*one, strict=True) if j >= 0]
        for one in zip(own.partner, own.similarity, strict=True)
    ]
    typical = np.median([min(d for _, d in row) for row in rows if row])
    rows = [[(j, max(d, 0.2 * typical)) for j, d in row] for row in rows]
    found = np.zeros((n, k))
    for i, row in enumerate(rows):
        for rank, (j, distance) in enumerate(row):
            back = other.partner[j].tolist()
            reverse = back.index(i) if i in back else len(back)
            features = [
                np.log(1 + reverse),
                float(i in back),
                np.log(distance / min(d for _, d in row)),
                np.log(distance / typical),
                max(0, np.log(gap)),
            ]
            logit = INTERCEPT + np.dot(list(COEFFICIENTS.values()), features)
            found[i, rank] = 1 / (1 + np.exp(-logit))
    return found


@pytest.mark.parametrize(("seed", "gap"), [(0, 0.9), (1, 1.2), (2, 1.2)])
def test_probabilities_are_those_of_a_naive_loop(seed: int, gap: float) -> None:
    rng = np.random.default_rng(seed)
    to_b, to_a = random_matches(rng, 30, 20, 4), random_matches(rng, 20, 30, 4)
    found = pair_probabilities(to_b, to_a, gap)
    np.testing.assert_allclose(found[0], naive(to_b, to_a, gap), atol=1e-6)
    np.testing.assert_allclose(found[1], naive(to_a, to_b, gap), atol=1e-6)


def test_no_partner_has_no_probability() -> None:
    nobody = Matches.empty(3, 2)
    for found in pair_probabilities(nobody, nobody):
        assert (found == 0).all()


def nodes(folder: Path) -> tuple[Path, Path]:
    whole = write_small_store(folder / "whole", noise=1.0)
    a, b = folder / "a.zarr", folder / "b.zarr"
    partition(whole, a, subjects=["1", "2", "3"], modalities=["acc", "skeleton"])
    partition(whole, b, subjects=["4", "5", "6"], modalities=["acc", "gyro"])
    return a, b


@pytest.fixture
def world() -> tuple[np.ndarray, Modality]:
    """120 samples of six people on each side, ten activities: directions in 30 dimensions."""
    rng = np.random.default_rng(0)
    activity = rng.normal(size=(10, 1, 30))
    person = 0.5 * rng.normal(size=(12, 1, 1, 30))
    values = activity + person + 0.2 * rng.normal(size=(12, 10, 2, 30))
    axes = (Axis(name="channel", size=30),)
    return (
        values.reshape(240, 30).astype(np.float32),
        Modality(kind="signal", unit="1", axes=axes),
    )


def gap_of(values: np.ndarray, modality: Modality, n_people: int = 6) -> float | None:
    people = np.repeat(np.arange(n_people), len(values) // (2 * n_people))
    return domain_gap(values, modality, values, (people, people), BindOptions(rerank="none"))


def test_gap_is_one_where_sides_differ_as_people_do(world: tuple[np.ndarray, Modality]) -> None:
    values, modality = world
    found = gap_of(values, modality)
    assert found is not None
    assert 0.85 < found < 1.15
    assert gap_of(values, modality) == found


def test_gap_grows_with_what_is_done_to_one_side(world: tuple[np.ndarray, Modality]) -> None:
    values, modality = world
    turned = values[120:, ::-1]
    changed = [(1 - t) * values[120:] + t * turned for t in (0.0, 0.3, 1.0)]
    gaps = [gap_of(np.concatenate([values[:120], one]), modality) for one in changed]
    assert all(one is not None for one in gaps)
    assert gaps == sorted(gaps, key=float)  # type: ignore[arg-type]
    assert gaps[-1] is not None
    assert gaps[-1] > 1.2


def test_one_person_a_side_leaves_the_gap_unknown(world: tuple[np.ndarray, Modality]) -> None:
    values, modality = world
    assert gap_of(values, modality, 1) is None


def test_quality_is_that_of_naive_counts(tmp_path: Path) -> None:
    a, b = nodes(tmp_path)
    options = BindOptions(rule=MatchRule(match="csls", top_k=3))
    info = bind([a, b], tmp_path / "o", shared="acc", options=options)
    assert info.quality is not None
    label: dict[str, str] = {}
    for path in (a, b):
        store = open_dataset(path)
        texts = [store.names("label")[code] for code in store.column("label")]
        label |= dict(zip(store.samples()["uid"].to_pylist(), texts, strict=True))
    table = open_bound(tmp_path / "o").pairs().to_pylist()
    rows = [row for row in table if row["kind"] == "pseudo"]
    total = right = first = 0.0
    for row in rows:
        uids = {row[f"{name}.uid"] for name in ("acc", "skeleton", "gyro")} - {row["anchor_uid"]}
        (partner,) = uids - {None}
        same = label[row["anchor_uid"]] == label[partner]
        right, total = right + row["weight"] * same, total + row["weight"]
        first += same and row["rank"] == 0
    assert info.quality.all_right == pytest.approx(right / total, abs=1e-5)
    assert info.quality.first_right == pytest.approx(first / 54, abs=1e-5)
    assert info.quality.first_right == info.pairing_accuracy
    assert info.quality.chance == pytest.approx(1 / 3)
    assert "by chance" in describe_quality(info)


def test_weights_are_probabilities_and_multiply_over_bindings(tmp_path: Path) -> None:
    a, b = nodes(tmp_path)
    c = tmp_path / "c.zarr"
    more = write_small_store(tmp_path / "more", dataset_id="more", seed=1)
    partition(more, c, subjects=["1", "2"], modalities=["gyro"])
    options = BindOptions(rule=MatchRule(match="csls", top_k=3))
    bind([a, b], tmp_path / "ab", shared="acc", options=options)
    bind([tmp_path / "ab", c], tmp_path / "abc", shared="gyro", options=options)
    weights = [pseudo_weights(tmp_path / name) for name in ("ab", "abc")]
    likely = [probabilities(tmp_path / name) for name in ("ab", "abc")]
    assert weights[0] == likely[0]
    assert 0 < min(weights[0].values()) < max(weights[0].values()) < 1
    n_made = 0
    for (hop, anchor, rank), weight in weights[1].items():
        if hop == 1:  # C's samples are completed by first partners of the first binding
            partner = weight / likely[1][0, anchor, rank]  # hops count within a call
            assert min(abs(partner - one) for one in weights[0].values()) < 1e-6
            n_made += 1
        else:
            assert weight == weights[0][hop, anchor, rank]
    assert n_made == 3 * len(open_dataset(c))


def pseudo_weights(path: Path) -> dict[tuple[int, str, int], float]:
    rows = [row for row in open_bound(path).pairs().to_pylist() if row["kind"] == "pseudo"]
    return {(row["hop"], row["anchor_uid"], row["rank"]): row["weight"] for row in rows}


def probabilities(path: Path) -> dict[tuple[int, str, int], float]:
    rows = pq.read_table(path / PARTNERS).to_pylist()
    return {(row["hop"], row["anchor_uid"], row["rank"]): row["probability"] for row in rows}


@pytest.mark.parametrize(
    ("fields", "level", "words"),
    [
        ({}, "good", "given by acc"),
        ({"all_right": 0.7, "chance": 0.04}, "good", "70% of the partners have the anchor's label"),
        ({"all_right": 0.4, "chance": 0.04}, "doubtful", "mmbind advise"),
        ({"all_right": 0.6, "chance": 0.5}, "bad", "50% by chance"),
        ({"all_expected": 0.8, "domain_gap": 1.3}, "good", "80% of the partners are expected"),
        ({"all_expected": 0.1, "domain_gap": 1.27}, "bad", "27% farther away"),
        ({"all_expected": 0.4, "domain_gap": None}, "doubtful", "or bind by label"),
    ],
)
def test_verdicts(fields: dict[str, float | None], level: str, words: str) -> None:
    verdict = judge_pairing(PairQuality.model_validate(fields), ["acc", "acc"])
    assert verdict.level == level
    assert words in str(verdict)
    assert bool(verdict.next_step) == (level != "good")


# real data


@pytest.fixture(scope="module")
def utd(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("utd")
    convert(
        "utd-mhad",
        real_data / "utd-mhad",
        folder / "u.zarr",
        modalities=["acc", "gyro", "skeleton"],
    )
    partition(
        folder / "u.zarr",
        folder / "a.zarr",
        subjects=["1", "2", "3"],
        modalities=["acc", "skeleton"],
    )
    partition(
        folder / "u.zarr", folder / "b.zarr", subjects=["4", "5", "6"], modalities=["acc", "gyro"]
    )
    return folder


@pytest.mark.realdata
def test_real_pairs_are_as_often_right_as_expected(utd: Path, tmp_path: Path) -> None:
    for k in (1, 3, 10):
        options = BindOptions(rule=MatchRule(match="csls", top_k=k))
        out = tmp_path / str(k)
        quality = bind([utd / "a.zarr", utd / "b.zarr"], out, shared="acc", options=options).quality
        assert quality is not None
        assert quality.first_expected == pytest.approx(quality.first_right, abs=0.1)
        assert quality.all_expected == pytest.approx(quality.all_right, abs=0.15)
        assert quality.domain_gap is not None
        assert 0.9 < quality.domain_gap < 1.05


@pytest.mark.realdata
def test_real_datasets_that_differ_are_told(real_data: Path, utd: Path, tmp_path: Path) -> None:
    """UTD-MHAD's wrist and MotionSense's pocket: other activities, and no common label text."""
    convert(
        "motionsense", real_data / "motionsense", tmp_path / "m.zarr", modalities=["acc", "gyro"]
    )
    partition(tmp_path / "m.zarr", tmp_path / "b.zarr", subjects=["1", "2", "3", "4"])
    info: BoundInfo = bind([utd / "a.zarr", tmp_path / "b.zarr"], tmp_path / "o", shared="acc")
    assert info.quality is not None
    assert info.quality.first_right is None
    assert info.quality.domain_gap is not None
    assert info.quality.domain_gap > 1.15
    assert any(text.startswith("pairs are bad") and "farther" in text for text in info.warnings)
