"""The graph of pairs against a loop over the table, and what it makes of one partner."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from mmbind_train.data.training_set import TrainingSet
from mmbind_train.objectives.pair_graph import PairGraph, incomplete_rows, pair_graph


def naive_graph(rows: TrainingSet, own: TrainingSet, steps: int) -> np.ndarray:
    """The same by loops over dictionaries of sample codes."""
    nodes = [int(codes.max()) for codes in own.sample]
    likely = {(a, b): 0.0 for a in nodes for b in nodes}
    for kind, codes, weight in zip(rows.kind, rows.sample, rows.weight, strict=True):
        for p, q in itertools.permutations(codes.tolist(), 2):
            if kind == "pseudo" and p >= 0 and q >= 0 and p != q:
                likely[p, q] = max(likely[p, q], min(1.0, float(weight)))
    reached = dict(likely)
    if steps == 2:
        for a, b in reached:
            total = sum(likely[a, c] for c in nodes)
            far = sum(likely[a, c] * likely[c, b] for c in nodes)
            reached[a, b] = max(reached[a, b], far / (total or 1))
    return np.array([[1 if a == b else reached[a, b] for b in nodes] for a in nodes])


@pytest.mark.parametrize("steps", [1, 2])
def test_the_graph_is_the_table(rows: TrainingSet, steps: int) -> None:
    own = incomplete_rows(rows)
    graph = pair_graph(rows, own).among(np.arange(36), steps=steps)
    np.testing.assert_allclose(graph, naive_graph(rows, own, steps), atol=1e-6)
    assert (graph == graph.T).all() or steps == 2
    few = np.random.default_rng(0).permutation(36)[[0, 1, 2, 3, 4, 5, 6, 2, 0]]  # some twice
    block = pair_graph(rows, own).among(few, steps=steps)
    np.testing.assert_array_equal(block, graph[np.ix_(few, few)])


def test_weights_that_are_no_probabilities_count_relative_to_a_samples_best(
    rows: TrainingSet,
) -> None:
    own = incomplete_rows(rows)
    found = pair_graph(rows, own, relative=True).likely.toarray()
    linked = pair_graph(rows, own).likely.toarray().max(axis=1) > 0
    assert found.max(axis=1)[linked] == pytest.approx(1)
    scaled = replace(rows, weight=np.float32(0.01) * rows.weight)
    again = pair_graph(scaled, own, relative=True).likely.toarray()
    np.testing.assert_allclose(found, again, rtol=1e-5)
    assert pair_graph(scaled, own).likely.max() < 0.02


def test_one_step_links_the_sources_and_two_steps_link_within(rows: TrainingSet) -> None:
    own = incomplete_rows(rows)
    side = own.present[:, list(rows.modalities).index("gyro")]
    same = (side[:, None] == side[None, :]) & ~np.eye(36, dtype=bool)
    assert (pair_graph(rows, own).among(np.arange(36), steps=1)[same] == 0).all()
    assert (pair_graph(rows, own).among(np.arange(36), steps=2)[same] > 0).any()


def test_partners_are_drawn_by_probability() -> None:
    graph = PairGraph.of_links(np.array([0, 0, 3]), np.array([1, 2, 1]), np.array([0.9, 0.3, 0]), 5)
    rng = np.random.default_rng(0)
    drawn = graph.draw(np.zeros(4000, dtype=np.int64), rng)
    assert np.bincount(drawn, minlength=5) / 4000 == pytest.approx([0, 0.75, 0.25, 0, 0], abs=0.03)
    alone = graph.draw(np.full(4000, 3), rng)  # without a partner: any sample
    assert np.bincount(alone, minlength=5) / 4000 == pytest.approx([0.2] * 5, abs=0.03)


def random_graph(n: int) -> tuple[PairGraph, np.ndarray]:
    """Two sides of ``n / 2`` samples, ten partners each; and the side of each sample."""
    rng, half = np.random.default_rng(0), n // 2
    anchor = np.repeat(np.arange(n), 10)
    partner = rng.integers(half, size=10 * n) + np.where(anchor < half, half, 0)
    return PairGraph.of_links(anchor, partner, rng.uniform(0.3, 0.9, 10 * n), n), np.arange(
        n
    ) < half


@pytest.mark.parametrize("n", [1_000, 10_000, 100_000])
def test_the_share_of_partners_does_not_fall_as_data_grows(n: int) -> None:
    """Of the targets of shared sensor and of modalities that nobody recorded together."""
    graph, side = random_graph(n)
    rng = np.random.default_rng(1)
    order = graph.with_partners(rng.permutation(n)[:640], 64, 0.5, rng)
    assert len(order) == 1280
    shares, met = [], []
    for batch in order.reshape(-1, 64):
        assert len(np.unique(batch[:32])) == 32
        target = graph.among(batch)
        other = target * (side[batch][:, None] != side[batch])
        # the anchor itself is among the targets of a sensor that both sides have
        shares += (other.sum(axis=1) / (1 + other.sum(axis=1))).tolist()
        met += (other.sum(axis=1) > 0).tolist()
    assert np.mean(shares) >= 0.2
    assert np.mean(met) > 0.9  # where only partners are targets, nearly all have one


def test_own_rows_hold_every_sample_once(rows: TrainingSet) -> None:
    own = incomplete_rows(rows)
    codes = own.sample.max(axis=1)
    assert len(np.unique(codes)) == len(codes) == 36
    assert (own.weight == 1).all()
