"""How much memory the samples need, before they are read."""

from __future__ import annotations

from pathlib import Path

import pytest
from smallstores import World

from mmbind_data.errors import UsageError
from mmbind_data.layout import open_any
from mmbind_data.thinning import InputBounds
from mmbind_train import memory
from mmbind_train.config import TrainConfig
from mmbind_train.memory import check_memory, free_memory, needed_memory
from mmbind_train.train import read_rows, train

BOUNDS = InputBounds()


@pytest.mark.parametrize(("name", "method"), [("bound", "mmbind"), ("AB", "upper_bound")])
def test_the_estimate_is_what_is_held_and_the_largest_once_more(
    world: World, name: str, method: str
) -> None:
    data = open_any(getattr(world, name))
    held = [one.nbytes for one in read_rows(data, method, TrainConfig()).values.values()]
    assert needed_memory(data, BOUNDS) == sum(held) + max(held)


def test_data_that_does_not_fit_is_refused_before_it_is_read(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = open_any(world.bound)
    need = needed_memory(data, BOUNDS)
    check_memory(data, BOUNDS, free=need)
    with pytest.raises(UsageError, match="do not fit into memory"):
        check_memory(data, BOUNDS, free=need - 1)
    with pytest.raises(UsageError, match="do not fit into memory"):
        check_memory(data, BOUNDS, processes=2, free=2 * need - 1)
    monkeypatch.setattr(memory, "free_memory", lambda: 1000)
    with pytest.raises(UsageError, match=r"expected at most 0\.0 GiB.*mmbind partition"):
        train(world.bound, tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_a_container_s_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "CONTAINER", tmp_path)
    assert free_memory() > 5700
    (tmp_path / "memory.current").write_text("3000\n")
    (tmp_path / "memory.stat").write_text("anon 2000\nfile 700\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory() > 5700
    (tmp_path / "memory.max").write_text("8000\n")
    assert free_memory() == 5700
