"""Candidate lists against a plain sort of all scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmbind_data.matching.csls import shortlist
from mmbind_data.matching.match import match
from mmbind_data.matching.rule import MatchRule


def noise(n: int, d: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def grid_cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosines of vectors rounded to whole 1/2048ths, in double precision."""
    cut = [
        np.rint(2048 * v.astype(np.float64) / np.linalg.norm(v.astype(np.float64), axis=1)[:, None])
        for v in (a, b)
    ]
    return np.asarray(cut[0] @ cut[1].T / 2048**2)


@given(
    n_a=st.integers(1, 30),
    n_b=st.integers(1, 30),
    d=st.integers(1, 40),
    c=st.integers(1, 35),
    csls_k=st.integers(1, 12),
    seed=st.integers(0, 99),
)
def test_lists_equal_a_plain_sort(
    n_a: int, n_b: int, d: int, c: int, csls_k: int, seed: int
) -> None:
    a, b = noise(n_a, d, seed), noise(n_b, d, seed + 1)
    cosine = grid_cosines(a, b)
    half_a, half_b = (
        np.rint([np.sort(row)[-csls_k:].mean() * 2048**2 / 2 for row in m]) / 2048**2
        for m in (cosine, cosine.T)
    )
    to_b, to_a = shortlist(a, b, c, csls_k=csls_k)
    for got, raw, half in ((to_b, cosine, half_b), (to_a, cosine.T, half_a)):
        assert got.partner.shape == (len(raw), min(c, raw.shape[1]))
        for row, partners in enumerate(got.partner):
            score = raw[row] - half
            expected = sorted(range(len(score)), key=lambda k: (-score[k], k))[:c]
            assert partners.tolist() == expected
            np.testing.assert_allclose(
                got.similarity[row], np.clip(raw[row][partners], -1, 1), atol=1e-6
            )


def test_nearly_the_same_as_exact_matching() -> None:
    a, b = noise(300, 100, 0), noise(250, 100, 1)
    for ours, exact in zip(
        shortlist(a, b, 20), match(a, b, MatchRule("csls", top_k=20), threads=1), strict=True
    ):
        shared = [
            len(set(one) & set(other))
            for one, other in zip(ours.partner.tolist(), exact.partner.tolist(), strict=True)
        ]
        assert np.mean(shared) > 19.8
        first = ours.partner[:, 0] == exact.partner[:, 0]
        assert first.mean() > 0.97
        np.testing.assert_allclose(ours.similarity[first, 0], exact.similarity[first, 0], atol=1e-3)


def test_neither_blocks_nor_the_order_of_sums_show() -> None:
    a, b = noise(70, 90, 0), noise(50, 90, 1)
    b[20] = b[10]
    whole = shortlist(a, b, 12)
    order = np.random.default_rng(2).permutation(90)
    for columns in (slice(None), order):
        again = shortlist(a[:, columns], b[:, columns], 12, block_values=64)
        for one, other in zip(whole, again, strict=True):
            np.testing.assert_array_equal(one.partner, other.partner)
            np.testing.assert_array_equal(one.similarity, other.similarity)
    swapped = shortlist(b, a, 12)
    np.testing.assert_array_equal(swapped[1].partner, whole[0].partner)


def test_equal_rows_come_in_order_and_zeros_last() -> None:
    a = noise(6, 5, 0)
    b = np.concatenate([a[[2, 2, 2]], -a[[2]], np.zeros((1, 5), dtype=np.float32)])
    to_b, _ = shortlist(a, b, 5, csls_k=1)
    assert to_b.partner[2, :3].tolist() == [0, 1, 2]
    zero = to_b.partner[2].tolist().index(4)
    assert to_b.similarity[2, zero] == 0


def test_largest_possible_sums_stay_exact() -> None:
    ones = np.ones((3, 4096), dtype=np.float32)
    to_b, _ = shortlist(ones, ones, 3)
    assert to_b.partner.tolist() == [[0, 1, 2]] * 3
    assert (to_b.similarity == 1).all()


@pytest.mark.parametrize(("d", "c", "csls_k"), [(4, 1, 1), (5, 0, 1), (5, 1, 0)])
def test_what_does_not_fit_is_refused(d: int, c: int, csls_k: int) -> None:
    with pytest.raises(ValueError, match="expected"):
        shortlist(noise(3, 5, 0), noise(3, d, 1), c, csls_k=csls_k)
