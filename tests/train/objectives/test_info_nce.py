"""The loss against a double loop that knows nothing of tensors, and against closed forms."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmbind_train.config import ARTEFACT, LossOptions
from mmbind_train.objectives.info_nce import soft_info_nce, weighted_info_nce

OPTIONS = [
    LossOptions(
        positive_in_denominator=positive,
        denominator=denominator,
        same_modality_negatives=same,
        dummy_views=dummy,
        reduction=reduction,
    )
    for positive, denominator, same, dummy, reduction in itertools.product(
        (False, True), ("pair", "pooled"), (False, True), (False, True), ("mean", "sum")
    )
]


def naive(
    z: np.ndarray,
    present: np.ndarray,
    weight: np.ndarray,
    exclude: np.ndarray,
    temperature: float,
    options: LossOptions,
) -> float:
    rows, modalities = range(len(z)), range(z.shape[1])
    here = np.ones_like(present) if options.dummy_views else present
    total, n_terms = 0.0, 0
    for i, p, q in itertools.product(rows, modalities, modalities):
        if not (here[i, p] and here[i, q]):
            continue
        if p == q and (options.denominator == "pooled" or not options.same_modality_negatives):
            continue
        negatives = [
            (j, k)
            for j in rows
            for k in modalities
            if j != i
            and not exclude[i, j]
            and here[j, k]
            and (
                k == q
                if options.denominator == "pair"
                else (k != p or options.same_modality_negatives)
            )
        ]
        if not negatives:
            continue
        summed = sum(math.exp(z[i, p] @ z[j, k] / temperature) for j, k in negatives)
        if options.positive_in_denominator:
            positives = (
                [q]
                if options.denominator == "pair"
                else [k for k in modalities if k != p and here[i, k]]
            )
            summed += sum(math.exp(z[i, p] @ z[i, k] / temperature) for k in positives)
        total += weight[i] * (math.log(summed) - z[i, p] @ z[i, q] / temperature)
        n_terms += 1
    return total if options.reduction == "sum" else total / max(1, n_terms)


def draw(seed: int, b: int, m: int, f: int = 5) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(b, m, f))
    z /= np.linalg.norm(z, axis=-1, keepdims=True)
    present = rng.random((b, m)) < 0.7
    exclude = rng.random((b, b)) < 0.2
    return z, present, rng.random(b), exclude | exclude.T


def loss(
    z: np.ndarray,
    present: np.ndarray,
    weight: np.ndarray,
    exclude: np.ndarray | None,
    options: LossOptions,
    temperature: float = 0.3,
) -> float:
    value = weighted_info_nce(
        torch.from_numpy(z),
        torch.from_numpy(present),
        torch.from_numpy(weight),
        temperature=temperature,
        exclude=None if exclude is None else torch.from_numpy(exclude),
        options=options,
    )
    return float(value)


@pytest.mark.parametrize(
    "options", OPTIONS, ids=lambda o: "-".join(map(str, o.model_dump().values()))
)
def test_every_reading_equals_the_double_loop(options: LossOptions) -> None:
    for seed, (b, m) in enumerate(itertools.product((1, 2, 5, 9), (1, 2, 3))):
        z, present, weight, exclude = draw(seed, b, m)
        expected = naive(z, present, weight, exclude, 0.3, options)
        assert loss(z, present, weight, exclude, options) == pytest.approx(expected, abs=1e-10)


def test_defaults_are_the_printed_equation() -> None:
    z, _, weight, _ = draw(3, 6, 3)
    everything = np.ones((6, 3), dtype=bool)
    printed = 0.0
    for i in range(6):
        for p in range(3):
            for q in range(3):
                others = sum(math.exp(z[i, p] @ z[j, q] / 0.07) for j in range(6) if j != i)
                printed -= weight[i] * math.log(math.exp(z[i, q] @ z[i, p] / 0.07) / others)
    summed = LossOptions(reduction="sum")
    assert loss(z, everything, weight, None, summed, 0.07) == pytest.approx(printed)
    assert loss(z, everything, weight, None, LossOptions(), 0.07) == pytest.approx(printed / 54)


def test_the_artefact_is_supervised_contrast_with_one_class_per_row() -> None:
    z, _, weight, _ = draw(4, 5, 3)
    everything = np.ones((5, 3), dtype=bool)
    flat = z.reshape(15, -1)
    row = np.repeat(np.arange(5), 3)
    total = 0.0
    for a in range(15):
        logits = flat @ flat[a] / 0.3
        log_sum = math.log(sum(math.exp(logits[b]) for b in range(15) if b != a))
        positives = [b for b in range(15) if row[b] == row[a] and b != a]
        total -= weight[row[a]] * sum(logits[b] - log_sum for b in positives) / len(positives)
    assert loss(z, everything, weight, None, ARTEFACT) == pytest.approx(total / 15)


def test_closed_form_for_orthogonal_rows() -> None:
    # row i has e_i in both modalities: positives have similarity 1, negatives 0
    z = np.repeat(np.eye(4)[:, None], 2, axis=1)
    everything, weight = np.ones((4, 2), dtype=bool), np.full(4, 2.0)
    expected = 2 * (math.log(3) - 1 / 0.5)
    assert loss(z, everything, weight, None, LossOptions(), 0.5) == pytest.approx(expected)
    expected = 2 * (math.log(3 + math.exp(2)) - 2)
    with_positive = LossOptions(positive_in_denominator=True)
    assert loss(z, everything, weight, None, with_positive, 0.5) == pytest.approx(expected)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([o for o in OPTIONS if not o.dummy_views]))
def test_an_absent_modality_never_matters(seed: int, options: LossOptions) -> None:
    z, present, weight, exclude = draw(seed, 6, 3)
    before = loss(z, present, weight, exclude, options)
    for filler in (np.nan, 1e6, 0.0):
        replaced = np.where(present[..., None], z, filler)
        assert loss(replaced, present, weight, exclude, options) == before


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(OPTIONS))
def test_the_order_of_rows_and_modalities_never_matters(seed: int, options: LossOptions) -> None:
    z, present, weight, exclude = draw(seed, 6, 3)
    rng = np.random.default_rng(seed)
    rows, columns = rng.permutation(6), rng.permutation(3)
    moved = loss(
        z[rows][:, columns],
        present[rows][:, columns],
        weight[rows],
        exclude[np.ix_(rows, rows)],
        options,
    )
    assert moved == pytest.approx(loss(z, present, weight, exclude, options), abs=1e-10)


@pytest.mark.parametrize("options", [LossOptions(), ARTEFACT, LossOptions(denominator="pooled")])
def test_rows_without_negatives_give_zero_and_finite_gradients(options: LossOptions) -> None:
    z = torch.nn.functional.normalize(torch.randn(4, 2, 3), dim=-1).requires_grad_()
    everyone = torch.ones(4, 4, dtype=torch.bool)
    present = torch.ones(4, 2, dtype=torch.bool)
    value = weighted_info_nce(z, present, torch.ones(4), exclude=everyone, options=options)
    torch.autograd.backward(value)
    assert float(value.detach()) == 0
    assert z.grad is not None
    assert torch.equal(z.grad, torch.zeros_like(z))


def test_gradients_ignore_absent_embeddings_that_are_not_numbers() -> None:
    z = torch.full((3, 2, 4), torch.nan)
    present = torch.tensor([[True, False], [True, True], [True, True]])
    z[present] = torch.nn.functional.normalize(torch.randn(5, 4), dim=-1)
    z.requires_grad_()
    torch.autograd.backward(weighted_info_nce(z, present, torch.ones(3)))
    assert z.grad is not None
    assert torch.isfinite(z.grad).all()
    assert (z.grad[0, 1] == 0).all()
    assert (z.grad[present] != 0).any()


def soft_naive(
    z: np.ndarray,
    present: np.ndarray,
    weight: np.ndarray,
    target: np.ndarray,
    exclude: np.ndarray,
    temperature: float,
    same_modality: bool,
    across: float = 0.0,
) -> float:
    rows, modalities = range(len(z)), range(z.shape[1])
    total = total_importance = 0.0
    for i, p, q in itertools.product(rows, modalities, modalities):
        if not present[i, p] or (p == q and not same_modality):
            continue
        candidates = [
            j
            for j in rows
            if present[j, q]
            and not (j == i and p == q)
            and (j == i or target[i, j] > 0 or not exclude[i, j])
        ]
        shares = [target[i, j] for j in candidates]
        if len(candidates) < 2 or sum(shares) == 0:
            continue
        importance = max(shares) * (1 if present[i, q] else across)
        summed = sum(math.exp(z[i, p] @ z[j, q] / temperature) for j in candidates)
        for j, share in zip(candidates, shares, strict=True):
            chance = math.exp(z[i, p] @ z[j, q] / temperature) / summed
            total -= importance * weight[i] * share / sum(shares) * math.log(chance)
        total_importance += importance
    return total / total_importance if total_importance else 0.0


def draw_target(seed: int, b: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.where(rng.random((b, b)) < 0.4, rng.random((b, b)), 0.0) + np.eye(b)


def soft_loss(
    *arrays: np.ndarray, same: bool = True, temperature: float = 0.3, across: float = 0.0
) -> float:
    z, present, weight, target, exclude = (torch.from_numpy(one) for one in arrays)
    value = soft_info_nce(
        z, present, weight, target, temperature=temperature, same_modality=same, across=across,
        exclude=exclude,
    )  # fmt: skip
    return float(value)


@pytest.mark.parametrize(("same", "across"), [(True, 0.0), (False, 0.0), (True, 3.0)])
def test_soft_targets_equal_the_double_loop(same: bool, across: float) -> None:
    for seed, (b, m) in enumerate(itertools.product((1, 2, 5, 9), (1, 2, 3))):
        z, present, weight, exclude = draw(seed, b, m)
        target = draw_target(seed, b)
        for one in (target, np.eye(b), target - np.diag(np.diag(target))):
            expected = soft_naive(z, present, weight, one, exclude, 0.3, same, across)
            found = soft_loss(z, present, weight, one, exclude, same=same, across=across)
            assert found == pytest.approx(expected, abs=1e-10)


def test_modalities_that_nobody_recorded_together_meet_in_partners() -> None:
    """Two nodes with nothing in common: all terms lead from one to the other."""
    apart = np.eye(2, dtype=bool)[[0, 0, 0, 1, 1, 1]]
    pairs = 0.4 * np.kron(1 - np.eye(2), np.eye(3)) + np.eye(6)
    z, *_ = draw(0, 6, 2)
    arrays = z, apart, np.ones(6), pairs, np.zeros((6, 6), dtype=bool)
    assert soft_loss(*arrays, across=0.0) == 0
    one, other = z[:3, 0], z[3:, 1]
    logits = one @ other.T / 0.3
    expected = -sum(
        np.log(np.exp(turn.diagonal()) / np.exp(turn).sum(axis=1)).sum()
        for turn in (logits, logits.T)
    )
    assert soft_loss(*arrays, across=1.0) == pytest.approx(expected / 6)


def gradient_of(target: torch.Tensor) -> torch.Tensor:
    """Gradient on the third modality of rows that have it, without the second."""
    generator = torch.Generator().manual_seed(0)
    z = torch.nn.functional.normalize(torch.randn(6, 3, 8, generator=generator), dim=-1)
    z.requires_grad_()
    present = torch.tensor([[True, True, False]] * 3 + [[True, False, True]] * 3)
    loss = soft_info_nce(z, present, torch.ones(6), target, across=1.0, same_modality=False)
    (gradient,) = torch.autograd.grad(loss, z)
    return torch.Tensor(gradient[3:, 2])


def test_a_term_abstains_where_no_partner_is_likely() -> None:
    """The pull across falls with the probability of the pairs, to nothing where there is none."""
    pairs, alone = torch.eye(3).repeat(2, 2), torch.eye(6)
    none = gradient_of(alone)
    pulls = [
        (gradient_of(torch.maximum(alone, likely * pairs)) - none).norm().item()
        for likely in (0.9, 0.5, 0.1, 0.01)
    ]
    assert pulls == sorted(pulls, reverse=True)
    assert pulls[-1] < 0.05 * pulls[0]


def test_one_partner_that_is_the_row_itself_is_equation_3() -> None:
    for seed in range(4):
        z, present, weight, exclude = draw(seed, 7, 3)
        options = LossOptions(positive_in_denominator=True, same_modality_negatives=False)
        hard = loss(z, present, weight, exclude, options)
        soft = soft_loss(z, present, weight, np.eye(7), exclude, same=False)
        assert soft == pytest.approx(hard, abs=1e-12)


def test_soft_targets_of_a_class_are_supervised_contrast_in_closed_form() -> None:
    # two classes, all rows of a class at one point, the classes orthogonal: of 3 candidates of an
    # anchor one is its classmate (logit 1/t), two are of the other class (logit 0)
    z = np.repeat(np.eye(2), 2, axis=0)[:, None]
    target = np.kron(np.eye(2), np.ones((2, 2)))
    found = soft_loss(
        z, np.ones((4, 1), dtype=bool), np.ones(4), target, np.zeros((4, 4), dtype=bool),
        temperature=0.5,
    )  # fmt: skip
    assert found == pytest.approx(math.log(math.exp(2) + 2) - 2)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_soft_targets_ignore_what_is_absent(seed: int, same: bool) -> None:
    z, present, weight, exclude = draw(seed, 6, 3)
    target = draw_target(seed, 6)
    before = soft_loss(z, present, weight, target, exclude, same=same)
    replaced = np.where(present[..., None], z, np.nan)
    assert soft_loss(replaced, present, weight, target, exclude, same=same) == before


def test_soft_targets_without_candidates_give_zero_and_finite_gradients() -> None:
    z = torch.nn.functional.normalize(torch.randn(4, 2, 3), dim=-1).requires_grad_()
    present = torch.tensor([[True, False]] * 4)
    value = soft_info_nce(z, present, torch.ones(4), torch.eye(4))
    torch.autograd.backward(value)
    assert float(value.detach()) == 0
    assert z.grad is not None
    assert torch.equal(z.grad, torch.zeros_like(z))
