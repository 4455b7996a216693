"""Contrastive embedding: views keep what they should, the loss is the stated one."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from waves import ACC, waves

from mmbind_data.embedding import augmentation
from mmbind_data.embedding.augmentation import cross_matrices, rotations, view, warp_time
from mmbind_data.embedding.contrastive import embed_contrastive, nt_xent
from mmbind_data.embedding.vectors import Embedded
from mmbind_data.errors import UsageError
from mmbind_data.spec.descriptor import Axis, Modality

SKELETON = Modality(
    kind="skeleton",
    unit="m",
    axes=(
        Axis(name="time", size=16),
        Axis(name="joint", size=2, names=("hip", "hand")),
        Axis(name="coordinate", size=3),
    ),
    root="hip",
)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)


@pytest.fixture(scope="module")
def trained() -> Embedded:
    return embed_contrastive(waves(48), ACC, steps=60, seed=3)


def test_the_loss_equals_a_plain_loop() -> None:
    rng = np.random.default_rng(0)
    first, second = (rng.standard_normal((5, 4)) for _ in range(2))
    both = np.concatenate([first, second])
    both /= np.linalg.norm(both, axis=1, keepdims=True)
    total = 0.0
    for i in range(10):
        others = sum(np.exp(both[i] @ both[k] / 0.5) for k in range(10) if k != i)
        total -= np.log(np.exp(both[i] @ both[(i + 5) % 10] / 0.5) / others)
    got = nt_xent(torch.from_numpy(first), torch.from_numpy(second), 0.5)
    assert got.item() == pytest.approx(total / 10)


def test_samples_of_one_kind_are_found_again(trained: Embedded) -> None:
    assert trained.vectors.shape == (48, 128)
    assert trained.vectors.dtype == np.float32
    unit = trained.vectors / np.linalg.norm(trained.vectors, axis=1, keepdims=True)
    similarity = unit @ unit.T
    np.fill_diagonal(similarity, -1)
    kind = np.arange(48) % 3
    assert (kind[similarity.argmax(axis=1)] == kind).mean() > 0.9
    start = embed_contrastive(waves(48), ACC, steps=1, seed=3)
    assert trained.config["final_loss"] < 0.8 * start.config["final_loss"]


def test_warped_time_keeps_ends_and_order() -> None:
    ramp = torch.arange(30.0).view(1, 30, 1).expand(50, 30, 2)
    warped = warp_time(ramp, generator(), warp=0.3)
    assert warped.shape == ramp.shape
    torch.testing.assert_close(warped[:, [0, -1]], ramp[:, [0, -1]], atol=1e-4, rtol=0)
    assert (warped.diff(dim=1) > 0).all()
    torch.testing.assert_close(warped[..., 0], warped[..., 1])
    assert (warped - ramp).abs().max() > 2  # frames; each sample its own way
    assert (warped[0] - warped[1]).abs().max() > 0.5
    torch.testing.assert_close(warp_time(ramp[:, :1], generator()), ramp[:, :1])


def test_rotations_turn_and_do_nothing_else() -> None:
    turned = rotations(200, generator())
    identity = torch.eye(3).expand(200, 3, 3)
    torch.testing.assert_close(turned @ turned.transpose(1, 2), identity, atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.linalg.det(turned), torch.ones(200))
    cosine = (turned.diagonal(dim1=1, dim2=2).sum(dim=1) - 1) / 2
    angle = torch.acos(cosine.clamp(-1, 1))
    assert angle.square().mean().sqrt().item() == pytest.approx(augmentation.TURN, rel=0.15)


def test_cross_matrices_give_the_cross_product() -> None:
    one, other = torch.randn(2, 7, 3, generator=generator())
    product = (cross_matrices(one) @ other.unsqueeze(2)).squeeze(2)
    torch.testing.assert_close(product, torch.linalg.cross(one, other))


def test_turning_happens_in_space() -> None:
    turned_only = functools.partial(view, jitter=0.0, scaling=0.0, warp=0.0)
    batch = torch.randn(20, 9, 3, generator=generator())
    spread = torch.tensor([1.0, 5.0, 20.0])
    got = turned_only(batch, spread, generator())
    # lengths in m/s^2 are kept, those in standard deviations are not
    torch.testing.assert_close((got * spread).norm(dim=2), (batch * spread).norm(dim=2))
    assert (got - batch).abs().max() > 0.1
    torch.testing.assert_close(turned_only(batch, None, generator()), batch, atol=1e-4, rtol=1e-4)


def test_noise_and_scaling_have_the_stated_spread() -> None:
    batch = torch.zeros(200, 50, 2, 3)
    noise = view(batch, None, generator(), warp=0.0)
    assert noise.shape == batch.shape
    assert noise.std().item() == pytest.approx(augmentation.JITTER, rel=0.05)
    scaled = view(batch + 1, None, generator(), warp=0.0, jitter=0.0)
    assert scaled.std().item() == pytest.approx(augmentation.SCALING, rel=0.1)
    # one factor per sample and channel
    torch.testing.assert_close(scaled, scaled[:, :1].expand_as(scaled), atol=1e-4, rtol=1e-4)


def test_only_three_axis_inertial_samples_are_turned() -> None:
    rng = np.random.default_rng(0)
    body = rng.normal(size=(6, 16, 2, 3)).astype(np.float32)
    embedded = embed_contrastive(body, SKELETON, steps=2)
    assert embedded.config["views"]["turn"] == 0
    moved = body + 5 * rng.normal(size=(6, 1, 1, 3)).astype(np.float32)
    np.testing.assert_allclose(
        embed_contrastive(moved, SKELETON, steps=2).vectors, embedded.vectors, atol=1e-3
    )
    assert embed_contrastive(waves(6), ACC, steps=1).config["views"]["turn"] == augmentation.TURN
    two = embed_contrastive(waves(6)[..., :2], ACC, steps=1)
    assert two.config["views"]["turn"] == 0


def test_a_kind_without_an_encoder_is_refused() -> None:
    axes = tuple(Axis(name=name, size=8) for name in ("height", "width"))
    image = Modality(kind="image", unit="1", axes=axes)
    with pytest.raises(UsageError, match="image"):
        embed_contrastive(np.zeros((4, 8, 8), dtype=np.float32), image, steps=1)
