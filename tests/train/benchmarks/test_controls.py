"""Controls of claims about pairs: each changes the partners of a bound store and nothing else."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from smallstores import World

from mmbind_data.errors import UsageError
from mmbind_data.store.bound import open_bound
from mmbind_data.store.dataset import open_dataset
from mmbind_train.benchmarks.controls import Control, PartnersOf
from mmbind_train.config import Budget, NetworkOptions, TrainConfig
from mmbind_train.data.training_set import TrainingSet
from mmbind_train.objectives.pair_graph import PairGraph, incomplete_rows, pair_graph
from mmbind_train.training.pretrain import train

SMALL = TrainConfig(
    budget=Budget(steps=2, batch=16, warmup=1),
    network=NetworkOptions(width=8, feature_dim=16, embedding_dim=8),
)


def graph_of(world: World, rows: TrainingSet, seed: int = 0, **given: object) -> PairGraph:
    return Control(PartnersOf.model_validate(given), world.bound, (world.full,), seed)(rows)


def table_of(rows: TrainingSet) -> np.ndarray:
    graph = pair_graph(rows, incomplete_rows(rows), relative=True)
    return np.asarray(graph.likely.toarray())


def facts(world: World) -> tuple[np.ndarray, np.ndarray]:
    """Source and true label of each sample, in the order of the incomplete rows."""
    bound, full = open_bound(world.bound), open_dataset(world.full)
    texts = [full.names("label")[code] for code in full.column("label")]
    label = dict(zip(full.samples()["uid"].to_pylist(), texts, strict=True))
    rows = [row for row in bound.pairs().to_pylist() if row["kind"] == "incomplete"]
    source = np.array([row["anchor_source"] for row in rows])
    return source, np.array([label[row["anchor_uid"]] for row in rows])


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_lots_replace_a_share_of_the_partners(
    world: World, rows: TrainingSet, share: float
) -> None:
    table, source = table_of(rows), facts(world)[0]
    found = graph_of(world, rows, kind="lot", share=share).likely.toarray()
    assert (found[source[:, None] == source] == 0).all()  # partners are of the other source still
    links = np.triu(table > 0)
    kept = (links & (found > 0)).sum() / links.sum()
    if share == 0:
        np.testing.assert_array_equal(found, table)
    else:
        assert 1 - share - 0.25 < kept < 1 - share + 0.25
        assert set(found[found > 0].tolist()) <= set(table[table > 0].tolist())
        again = graph_of(world, rows, kind="lot", share=share).likely.toarray()
        np.testing.assert_array_equal(found, again)
        other = graph_of(world, rows, seed=1, kind="lot", share=share).likely.toarray()
        assert (found != other).any()


def test_a_constant_has_the_mass_of_the_table(world: World, rows: TrainingSet) -> None:
    found = graph_of(world, rows, kind="constant").likely.toarray()
    apart = ~np.eye(len(found), dtype=bool)
    assert found[apart].min() == found[apart].max() > 0
    assert found.sum() == pytest.approx(table_of(rows).sum(), rel=1e-4)


def test_true_labels_link_all_of_one_class_across(world: World, rows: TrainingSet) -> None:
    source, label = facts(world)
    found = graph_of(world, rows, kind="label").likely.toarray()
    for i, j in product(range(len(source)), repeat=2):
        assert found[i, j] == (source[i] != source[j] and label[i] == label[j])


def test_neighbours_are_the_nearest_of_the_same_source(world: World, rows: TrainingSet) -> None:
    source, label = facts(world)
    found = graph_of(world, rows, kind="neighbours", top_k=2).likely.toarray()
    assert (found[source[:, None] != source] == 0).all()
    assert ((found > 0).sum(axis=1) >= 2).all()
    assert (np.diag(found) == 0).all()
    linked = found > 0
    alike = (label[:, None] == label)[linked].mean()
    assert alike > 0.8  # each activity has waves of its own


def test_mined_positives_are_of_the_same_source(world: World, rows: TrainingSet) -> None:
    source, _ = facts(world)
    found = graph_of(world, rows, kind="mined", top_k=2).likely.toarray()
    assert (found[source[:, None] != source] == 0).all()
    assert ((found > 0).sum(axis=1) >= 2).all()


def test_nobody_has_a_partner(world: World, rows: TrainingSet) -> None:
    assert graph_of(world, rows, kind="none").likely.nnz == 0


def test_a_run_says_what_replaced_its_pairs(world: World, tmp_path: Path) -> None:

    out = tmp_path
    lot = Control(PartnersOf(kind="lot", share=0.5), world.bound, (), 0)
    runs = [
        train(world.bound, out / name, config=SMALL, partners=partners)
        for name, partners in (("table", None), ("lot", lot))
    ]
    assert [one.partners for one in runs] == [None, "lot (50%)"]
    assert runs[0].final_loss != runs[1].final_loss
    with pytest.raises(UsageError, match=r"train dcm: it reads no graph of partners"):
        train(world.bound, out / "dcm", method="dcm", config=SMALL, partners=lot)
    assert not (out / "dcm").exists()
