"""A bound store's pairs and its sources' tables are read once, in training and in binding."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from opens import count_opens
from plain import PLAIN

from mmbind_data.binding.bind import bind
from mmbind_data.store.bound import PAIRS
from mmbind_data.store.dataset import SAMPLES, read_table
from mmbind_train.config import Budget, TrainConfig
from mmbind_train.training.pretrain import train


def train_on(bound: Path, other: Path, out: Path) -> None:
    train(bound, out, config=TrainConfig(budget=Budget(steps=1)))


def bind_on(bound: Path, other: Path, out: Path) -> None:
    bind([bound, other], out, shared="acc", options=PLAIN)


@pytest.mark.parametrize("use", [train_on, bind_on])
def test_tables_are_read_once(
    use: Callable[[Path, Path, Path], None],
    bound_store: Path,
    node_stores: tuple[Path, Path],
    motionsense_store: Path,
    tmp_path: Path,
) -> None:
    tables = [bound_store / PAIRS, *(store / SAMPLES for store in node_stores)]
    with count_opens(tables) as once:
        for path in tables:
            read_table(path)
    with count_opens(tables) as found:
        use(bound_store, motionsense_store, tmp_path / "out")
    assert found == once
