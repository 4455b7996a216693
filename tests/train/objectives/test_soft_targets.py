"""The graph of pairs against a loop over the table, and what it makes of one partner."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mmbind_train.data.training_set import TrainingSet
from mmbind_train.objectives.soft_targets import incomplete_rows, pair_graph


def naive_graph(rows: TrainingSet, own: TrainingSet, steps: int) -> np.ndarray:
    """The same by loops over dictionaries of sample codes."""
    nodes = [int(codes.max()) for codes in own.sample]
    weight = {(a, b): 0.0 for a in nodes for b in nodes}
    for kind, codes, share in zip(rows.kind, rows.sample, rows.weight, strict=True):
        if kind != "pseudo":
            continue
        for p in set(codes.tolist()):
            for q in set(codes.tolist()):
                if p >= 0 and q >= 0 and p != q:
                    weight[int(p), int(q)] += float(share)
                    weight[int(q), int(p)] += float(share)

    def shares(matrix: dict[tuple[int, int], float]) -> dict[tuple[int, int], float]:
        total = {a: sum(matrix[a, b] for b in nodes) for a in nodes}
        return {(a, b): matrix[a, b] / (total[a] or 1) for a in nodes for b in nodes}

    one = shares(weight)
    reached = dict(one)
    if steps == 2:
        far = {(a, b): sum(one[a, c] * one[c, b] for c in nodes) for a in nodes for b in nodes}
        for key, value in shares(far).items():
            reached[key] += value
    return np.array([[0 if a == b else reached[a, b] for b in nodes] for a in nodes])


@pytest.mark.parametrize("steps", [1, 2])
def test_the_graph_is_the_table(rows: TrainingSet, steps: int) -> None:
    own = incomplete_rows(rows)
    graph = pair_graph(rows, own).among(np.arange(36), steps=steps)
    np.testing.assert_allclose(graph, naive_graph(rows, own, steps), atol=1e-6)
    few = np.random.default_rng(0).permutation(36)[:9]
    block = pair_graph(rows, own).among(few, steps=steps)
    np.testing.assert_array_equal(block, graph[np.ix_(few, few)])


def test_a_row_links_two_samples_once_however_many_modalities_it_has(rows: TrainingSet) -> None:
    own, gyro = incomplete_rows(rows), list(rows.modalities).index("gyro")
    acc = list(rows.modalities).index("acc")
    by_b = (rows.kind == "pseudo") & (rows.sample[:, acc] == rows.sample[:, gyro])
    sample = rows.sample.copy()
    sample[by_b, acc] = -1  # rows anchored in B link by one pair of modalities, those of A by two
    fewer = replace(rows, sample=sample)
    whole, less = (pair_graph(one, own).shares.toarray() for one in (rows, fewer))
    assert by_b.any()
    np.testing.assert_array_equal(whole, less)


def test_one_step_links_the_sources_and_two_steps_link_within(rows: TrainingSet) -> None:
    own = incomplete_rows(rows)
    side = own.present[:, list(rows.modalities).index("gyro")]
    same = side[:, None] == side[None, :]
    assert (pair_graph(rows, own).among(np.arange(36), steps=1)[same] == 0).all()
    two = pair_graph(rows, own).among(np.arange(36), steps=2)
    assert (two[same] > 0).any()
    assert (np.diag(two) == 0).all()


def test_own_rows_hold_every_sample_once(rows: TrainingSet) -> None:
    own = incomplete_rows(rows)
    codes = own.sample.max(axis=1)
    assert len(np.unique(codes)) == len(codes) == 36
    assert (own.weight == 1).all()
