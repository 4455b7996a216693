"""Every option of a matching rule against naive loops; properties that hold for all of them."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive import Table, cosines, turned, vectors

from mmbind_data.matching.candidates import Matches
from mmbind_data.matching.match import match
from mmbind_data.matching.metric import Metric
from mmbind_data.matching.products import Blocking
from mmbind_data.matching.rule import Match, MatchRule

MATCHES: tuple[Match, ...] = ("best", "csls", "mutual", "sinkhorn")


def distances(a: np.ndarray, b: np.ndarray) -> Table:
    """In units of the root mean square distance of two rows of the union, drawn independently."""
    union = [*a.tolist(), *b.tolist()]
    squares = [math.dist(x, y) ** 2 for x in union for y in union]
    scale = math.sqrt(sum(squares) / len(squares)) or 1.0
    return [[math.dist(x, y) / scale for y in b.tolist()] for x in a.tolist()]


def whole(table: Table) -> list[list[int]]:
    return [[round(value * 1e6) for value in row] for row in table]


def order_of(scores: Table, k: int) -> list[list[int]]:
    """The k best of each row in whole millionths, the lowest first among equal ones."""
    return [
        sorted(range(len(row)), key=lambda column, row=row: (-row[column], column))[:k]  # type: ignore[misc]
        for row in whole(scores)
    ]


def centred_by_neighbours(scores: Table, k: int) -> Table:
    def near(row: list[float]) -> float:
        best = sorted((round(value, 6) for value in row), reverse=True)[:k]
        return sum(best) / len(best)

    own, other = [near(row) for row in scores], [near(row) for row in turned(scores)]
    return [
        [value - (own[j] + other[k]) / 2 for k, value in enumerate(row)]
        for j, row in enumerate(scores)
    ]


def transported(scores: Table, temperature: float) -> Table:
    """Logarithm of the plan: plain Sinkhorn scaling of exp(score / temperature)."""
    kernel = np.exp(np.array(scores) / temperature)
    n_a, n_b = kernel.shape
    v = np.ones(n_b)
    for _ in range(20_000):
        u = 1 / n_a / (kernel @ v)
        v = 1 / n_b / (kernel.T @ u)
    log_u, log_v = temperature * np.log(u), temperature * np.log(v)
    return [[scores[j][k] + log_u[j] + log_v[k] for k in range(n_b)] for j in range(n_a)]


def assert_listed(got: Matches, order: list[list[int]], similarity: Table, k: int) -> None:
    assert got.partner.dtype == np.int64
    assert got.similarity.dtype == np.float32
    assert got.partner.shape == got.similarity.shape == (len(order), k)
    padded = [[*row, *[-1] * (k - len(row))] for row in order]
    np.testing.assert_array_equal(got.partner, padded)
    for row, partners, values in zip(similarity, padded, got.similarity.tolist(), strict=True):
        for partner, value in zip(partners, values, strict=True):
            if partner < 0:
                assert math.isnan(value)
            else:
                assert abs(value - row[partner]) <= 0.6e-6


@pytest.mark.parametrize("k", [1, 2, 5, 40])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("group", [256, 3])
def test_the_k_best(k: int, metric: Metric, group: int) -> None:
    a, b = vectors(25, 4, 1), 3 * vectors(33, 4, 2) + 1
    a[7], b[11], b[12] = a[3], b[5], a[20]
    table = cosines(a, b) if metric == "cosine" else distances(a, b)
    scores = table if metric == "cosine" else [[-r for r in row] for row in table]
    shown = table if metric == "cosine" else [[1 / (1 + r) for r in row] for row in table]
    rule = MatchRule(metric=metric, top_k=k)
    to_b, to_a = match(a, b, rule, blocking=Blocking(group, 4 * group))
    assert_listed(to_b, order_of(scores, k), shown, k)
    assert_listed(to_a, order_of(turned(scores), k), turned(shown), k)


@pytest.mark.parametrize("rule", ["csls", "sinkhorn"])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize(("n_a", "n_b"), [(25, 33), (40, 6)])
def test_corrected_rankings(rule: Match, metric: Metric, n_a: int, n_b: int) -> None:
    a, b = vectors(n_a, 4, 3), 2 * vectors(n_b, 4, 4) + 1
    table = cosines(a, b) if metric == "cosine" else distances(a, b)
    linear = table if metric == "cosine" else [[-(r**2) / 2 for r in row] for row in table]
    shown = table if metric == "cosine" else [[1 / (1 + r) for r in row] for row in table]
    scores = centred_by_neighbours(linear, 7) if rule == "csls" else transported(linear, 0.2)
    chosen = MatchRule(rule, metric, top_k=3, csls_k=7, sinkhorn_temperature=0.2)
    to_b, to_a = match(a, b, chosen)
    assert_listed(to_b, order_of(scores, 3), shown, 3)
    assert_listed(to_a, order_of(turned(scores), 3), turned(shown), 3)
    assert (to_b.partner[:, 0] != match(a, b, MatchRule(metric=metric))[0].partner[:, 0]).any()


@pytest.mark.parametrize("k", [1, 3])
def test_mutual_pairs_alone(k: int) -> None:
    a, b = vectors(30, 3, 5), vectors(20, 3, 6)
    table = cosines(a, b)
    forward, backward = order_of(table, k), order_of(turned(table), k)
    to_b, to_a = match(a, b, MatchRule("mutual", top_k=k))
    agreed = [[other for other in row if j in backward[other]] for j, row in enumerate(forward)]
    agreed_back = [[j for j in row if other in forward[j]] for other, row in enumerate(backward)]
    assert any(not row for row in agreed)
    assert any(agreed)
    assert_listed(to_b, agreed, table, k)
    assert_listed(to_a, agreed_back, turned(table), k)


def test_the_threshold_keeps_what_reaches_it() -> None:
    a, b = vectors(30, 3, 7), vectors(20, 3, 8)
    table = cosines(a, b)
    bar = round(sorted(itertools.chain(*table))[-40], 6)  # some pair has exactly this similarity
    to_b, to_a = match(a, b, MatchRule(top_k=4, min_similarity=bar))
    for got, own in ((to_b, table), (to_a, turned(table))):
        order = [
            [other for other in row if round(own[j][other], 6) >= bar]
            for j, row in enumerate(order_of(own, 4))
        ]
        assert_listed(got, order, own, 4)
        assert any(not row for row in order)
    assert float(np.nanmin(to_b.similarity)) == np.float32(bar)


@pytest.mark.parametrize(("cap", "k"), [(1, 1), (2, 1), (3, 2)])
def test_a_partner_is_used_as_often_as_the_cap_allows(cap: int, k: int) -> None:
    a, b = vectors(40, 3, 9), vectors(35, 3, 10) + 0.7
    table = cosines(a, b)
    to_b, to_a = match(a, b, MatchRule(max_reuse=cap, top_k=k))
    for got, own in ((to_b, table), (to_a, turned(table))):
        listed = order_of(own, 32)
        pairs = sorted(
            (-round(own[j][other] * 1e6), j, rank, other)
            for j, row in enumerate(listed)
            for rank, other in enumerate(row)
        )
        given_to: list[list[int]] = [[] for _ in own]
        uses = dict.fromkeys(range(len(own[0])), 0)
        for _, j, _, other in pairs:
            if len(given_to[j]) < k and uses[other] < cap:
                given_to[j].append(other)
                uses[other] += 1
        assert_listed(got, given_to, own, k)
        used = np.bincount(got.partner[got.partner >= 0])
        assert used.max() == cap
    uncapped = np.bincount(match(a, b, MatchRule(top_k=k))[0].partner.ravel())
    assert uncapped.max() > cap


@pytest.mark.parametrize("group", [256, 1])
def test_equal_scores_go_by_similarity_then_row(group: int) -> None:
    blocking = Blocking(group, pending=0)
    a, b = vectors(1, 3, 22), vectors(6, 3, 23)  # a single row gives each of B the same
    b[5] = b[0]
    order = order_of(cosines(a, b), 6)
    assert order[0][0] > 0  # behind lower rows of equal score
    for k in (1, 3, 6):
        to_b, to_a = match(a, b, MatchRule("sinkhorn", top_k=k), blocking=blocking)
        assert_listed(to_b, [order[0][:k]], cosines(a, b), k)
    capped_b, capped_a = match(a, b, MatchRule("sinkhorn", max_reuse=1), blocking=blocking)
    assert capped_b.partner[0, 0] == order[0][0]
    np.testing.assert_array_equal(np.flatnonzero(capped_a.partner[:, 0] == 0), [order[0][0]])
    np.testing.assert_array_equal(to_a.partner[:, 0], np.zeros(6))


def test_groups_match_inside_and_a_lone_group_stays_without() -> None:
    a, b = vectors(30, 3, 11), vectors(25, 3, 12)
    group_a, group_b = np.arange(30) % 4 - 1, np.arange(25) % 3 + 1  # -1, 0 | 1, 2 | 3
    table = cosines(a, b)
    to_b, to_a = match(a, b, MatchRule(top_k=2), group_a=group_a, group_b=group_b)
    sides = ((to_b, table, group_a, group_b), (to_a, turned(table), group_b, group_a))
    for got, own, mine, theirs in sides:
        order = [
            [other for other in row if mine[j] == theirs[other]][:2]
            for j, row in enumerate(order_of(own, len(own[0])))
        ]
        assert_listed(got, order, own, 2)
        assert any(not row for row in order)


@pytest.mark.parametrize("rule", MATCHES)
def test_a_group_is_matched_as_if_alone(rule: Match) -> None:
    a, b = vectors(30, 3, 13), vectors(25, 3, 14)
    group_a, group_b = np.arange(30) % 2, (np.arange(25) > 9).astype(int)
    chosen = MatchRule(rule, top_k=2, max_reuse=4)
    to_b, _ = match(a, b, chosen, group_a=group_a, group_b=group_b)
    rows_a, rows_b = np.flatnonzero(group_a == 1), np.flatnonzero(group_b == 1)
    alone, _ = match(a[rows_a], b[rows_b], chosen)
    np.testing.assert_array_equal(
        to_b.partner[rows_a], np.where(alone.partner >= 0, rows_b[alone.partner], -1)
    )
    np.testing.assert_array_equal(to_b.similarity[rows_a], alone.similarity)


def test_pca_is_that_of_the_singular_values() -> None:
    a, b = vectors(40, 6, 15) * [5, 4, 3, 2, 1, 0.5] + 2, vectors(30, 6, 16) * [5, 4, 3, 2, 1, 0.5]
    union = np.concatenate([a, b]).astype(np.float64)
    centred = union - union.mean(axis=0)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:3]
    reduced = centred @ axes.T
    table = cosines(reduced[:40], reduced[40:])
    to_b, to_a = match(a, b, MatchRule(pca=3, top_k=2))
    assert_listed(to_b, order_of(table, 2), table, 2)
    assert_listed(to_a, order_of(turned(table), 2), turned(table), 2)
    full, plain = (
        match(a, b, MatchRule(metric="euclidean", pca=6)),
        match(a, b, MatchRule(metric="euclidean")),
    )
    np.testing.assert_array_equal(full[0].partner, plain[0].partner)  # a rotation keeps distances


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("rule", MATCHES)
def test_a_set_finds_itself(rule: Match, metric: Metric) -> None:
    a = vectors(300, 16, 17)
    for got in match(a, a.copy(), MatchRule(rule, metric)):
        np.testing.assert_array_equal(got.partner[:, 0], np.arange(300))
        np.testing.assert_array_equal(got.similarity, np.ones((300, 1)))


RULES = st.builds(
    MatchRule,
    match=st.sampled_from(MATCHES),
    metric=st.sampled_from(["cosine", "euclidean"]),
    top_k=st.integers(1, 4),
    min_similarity=st.sampled_from([None, 0.3]),
    max_reuse=st.sampled_from([None, 1, 3]),
    pca=st.sampled_from([None, 3]),
    csls_k=st.integers(1, 12),
    sinkhorn_temperature=st.sampled_from([0.1, 0.3]),
)


@settings(max_examples=60, deadline=None)
@given(rule=RULES, n_a=st.integers(1, 30), n_b=st.integers(1, 30), seed=st.integers(0, 9))
def test_permuting_b_only_renumbers(rule: MatchRule, n_a: int, n_b: int, seed: int) -> None:
    a, b = vectors(n_a, 5, seed), vectors(n_b, 5, seed + 100)
    order = np.random.default_rng(seed).permutation(n_b)
    (to_b, to_a), (mixed, mixed_a) = match(a, b, rule), match(a, b[order], rule)
    assert to_b.partner.shape == (n_a, rule.top_k)
    assert to_a.partner.shape == (n_b, rule.top_k)
    np.testing.assert_array_equal(
        np.where(mixed.partner >= 0, order[mixed.partner], -1), to_b.partner
    )
    np.testing.assert_array_equal(mixed.similarity, to_b.similarity)
    np.testing.assert_array_equal(mixed_a.partner, to_a.partner[order])
    np.testing.assert_array_equal(mixed_a.similarity, to_a.similarity[order])


@settings(max_examples=60, deadline=None)
@given(rule=RULES, n_a=st.integers(1, 40), n_b=st.integers(1, 40), seed=st.integers(0, 9))
def test_blocks_and_threads_do_not_show(rule: MatchRule, n_a: int, n_b: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    # few whole numbers: many equal rows, equal similarities and rows of zeros
    a, b = (rng.integers(-1, 2, size=(n, 3)).astype(np.float32) for n in (n_a, n_b))
    wanted = match(a, b, rule)
    group = int(rng.integers(1, 6))
    blocking = Blocking(group, 2 * group, visited_rows=2, pending=5)
    got = match(a, b, rule, threads=3, blocking=blocking)
    for one, other in zip(got, wanted, strict=True):
        np.testing.assert_array_equal(one.partner, other.partner)
        np.testing.assert_array_equal(one.similarity, other.similarity)


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("group", [256, 4])
def test_ties_by_the_hundred_give_the_lowest_rows(k: int, group: int) -> None:
    kinds = vectors(3, 8, 18)
    which_a, which_b = np.arange(400) % 3, np.arange(350) // 120
    # far below a millionth: equal in what is compared, not in single precision
    noise_a, noise_b = (vectors(n, 8, n) * np.float32(1e-7) for n in (400, 350))
    a, b = kinds[which_a] + noise_a, kinds[which_b] + noise_b
    to_b, to_a = match(a, b, MatchRule(top_k=k), blocking=Blocking(group, 4 * group, pending=100))
    np.testing.assert_array_equal(
        to_b.partner, np.array([0, 120, 240])[which_a][:, None] + range(k)
    )
    np.testing.assert_array_equal(to_a.partner, which_b[:, None] + 3 * np.arange(k))


def test_large_numbers_far_from_the_origin_keep_their_distances() -> None:
    a, b = vectors(50, 3, 20) + 1e4, vectors(60, 3, 21) + 1e4
    table = distances(a, b)
    to_b, _ = match(a, b, MatchRule(metric="euclidean", top_k=2))
    assert_listed(
        to_b,
        order_of([[-r for r in row] for row in table], 2),
        [[1 / (1 + r) for r in row] for row in table],
        2,
    )


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"match": "first"}, "match 'first'"),
        ({"metric": "dot"}, "metric 'dot'"),
        ({"top_k": 0}, "top_k of 0"),
        ({"max_reuse": 0}, "max_reuse of 0"),
        ({"pca": 0}, "pca of 0"),
        ({"csls_k": 0}, "csls_k of 0"),
        ({"sinkhorn_temperature": 0.0}, "temperature of 0"),
        ({"sinkhorn_temperature": math.nan}, "temperature of nan"),
        ({"min_similarity": math.nan}, "min_similarity of nan"),
    ],
)
def test_rules_out_of_range_are_refused(change: dict[str, object], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        MatchRule(**change)  # type: ignore[arg-type]


def test_requests_that_do_not_fit_are_refused() -> None:
    a, b = vectors(5, 3, 0), vectors(6, 3, 1)
    with pytest.raises(ValueError, match="--pca 4 of embeddings that have 3"):
        match(a, b, MatchRule(pca=4))
    for group_a, group_b in ((np.zeros(5), None), (np.zeros(4), np.zeros(6)), (None, np.zeros(6))):
        with pytest.raises(ValueError, match="groups of shapes"):
            match(a, b, MatchRule(), group_a=group_a, group_b=group_b)
