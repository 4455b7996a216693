"""How much memory the samples need, before they are read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from smallstores import World

from mmbind_data.errors import UsageError
from mmbind_data.spec.store import InputBounds
from mmbind_data.store.bound import open_store
from mmbind_train.config import TrainConfig
from mmbind_train.data import stored as memory
from mmbind_train.data.stored import (
    GIB,
    OVERHEAD_BYTES,
    check_memory,
    fits,
    free_memory,
    needed_memory,
    window_bytes,
)
from mmbind_train.training.pretrain import read_rows, train

BOUNDS = InputBounds()


@pytest.mark.parametrize(("name", "method"), [("bound", "mmbind"), ("AB", "upper_bound")])
def test_the_estimate_is_what_is_held(world: World, name: str, method: str) -> None:
    data = open_store(getattr(world, name))
    held = [
        np.asarray(one).nbytes for one in read_rows(data, method, TrainConfig()).values.values()
    ]
    assert needed_memory(data, BOUNDS) == sum(held)


def test_what_fits_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda: 2 * (1000 + OVERHEAD_BYTES))
    assert fits(1000, None)
    assert fits(1000, None, processes=2)
    assert not fits(1001, None, processes=2)
    assert fits(1000, 1000 / GIB, processes=9)
    assert not fits(1001, 1000 / GIB)
    assert (window_bytes(None), window_bytes(0.5)) == (GIB, GIB // 2)


def test_memory_that_is_not_there_is_refused(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda: 2 * (1000 + OVERHEAD_BYTES))
    check_memory(1000, "here", "too much", processes=2)
    with pytest.raises(UsageError, match=r"too much at here: expected at most 1\.0 GiB"):
        check_memory(1001, "here", "too much", processes=2)
    monkeypatch.setattr(memory, "free_memory", lambda: 1000)
    config = TrainConfig(memory=1)  # all of it would fit into that, if it were there
    with pytest.raises(UsageError, match=r"do not fit into memory.*mmbind partition"):
        train(world.bound, tmp_path / "run", config=config)
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
