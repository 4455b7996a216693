"""Partners drawn by lot: the control that tells what right partners are worth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from smallstores import write_small_store

from mmbind_data.binding.bind import bind
from mmbind_data.binding.options import BindOptions
from mmbind_data.matching.match import match, match_by_lot
from mmbind_data.matching.rule import MatchRule
from mmbind_data.store.bound import open_bound
from mmbind_data.store.partitioning import partition


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("nodes")
    whole = write_small_store(folder / "whole")
    a, b = folder / "a.zarr", folder / "b.zarr"
    partition(whole, a, subjects=["1", "2", "3"], modalities=["acc", "skeleton"])
    partition(whole, b, subjects=["4", "5", "6"], modalities=["acc", "gyro"])
    return a, b


def test_every_partner_is_as_likely_as_any_other() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(3000, 4)), rng.normal(size=(12, 4))
    to_b, to_a = match_by_lot(a, b, 5, np.random.default_rng(1))
    counts = np.bincount(to_b.partner.ravel(), minlength=12)
    assert np.abs(counts / 3000 - 5 / 12).max() < 0.04  # 4 deviations of a binomial
    assert to_a.partner.shape == (12, 5)
    for matches, own, other in ((to_b, a, b), (to_a, b, a)):
        assert all(len(set(row)) == 5 for row in matches.partner.tolist())
        row, rank = 7, 2
        x, y = own[row], other[matches.partner[row, rank]]
        cosine = x @ y / np.linalg.norm(x) / np.linalg.norm(y)
        assert matches.similarity[row, rank] == pytest.approx(cosine, abs=1e-6)
        assert (np.diff(matches.similarity, axis=1) <= 0).all()


def test_all_of_a_side_can_be_partners() -> None:
    values = np.random.default_rng(0).normal(size=(6, 3))
    to_b, _ = match_by_lot(values, values, 6, np.random.default_rng(0))
    assert (np.sort(to_b.partner, axis=1) == np.arange(6)).all()


def test_bound_by_lot_is_called_bad(nodes: tuple[Path, Path], tmp_path: Path) -> None:
    options = BindOptions(rule=MatchRule(match="random", top_k=6), seed=3)
    info = bind(nodes, tmp_path / "o", shared="acc", options=options)
    assert info.quality is not None
    assert info.quality.all_right == pytest.approx(1 / 3, abs=0.1)  # three activities
    assert any(text.startswith("pairs are bad") for text in info.warnings)
    assert info.binder[0].match == "random"
    again = bind(nodes, tmp_path / "again", shared="acc", options=options)
    assert again.content_digest == info.content_digest
    pairs = open_bound(tmp_path / "o").pairs()
    found = replace(options, rule=MatchRule(match="csls", top_k=6))
    bind(nodes, tmp_path / "found", shared="acc", options=found)
    columns = [(one["kind"], one["weight"], one["rank"]) for one in (
        pairs, open_bound(tmp_path / "found").pairs())]  # fmt: skip
    assert columns[0] == columns[1]  # only the partners differ
    assert info.quality.all_expected is None
    other = BindOptions(rule=MatchRule(match="random", top_k=6), seed=4)
    bind(nodes, tmp_path / "other", shared="acc", options=other)
    assert not open_bound(tmp_path / "other").pairs().equals(pairs)


def test_match_refuses_to_draw() -> None:
    with pytest.raises(ValueError, match="match_by_lot"):
        match(np.eye(3), np.eye(3), MatchRule(match="random"))
