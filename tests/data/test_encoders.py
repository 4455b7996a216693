"""Encoders and decoders: shapes, gradients, independence of rows, negative outputs."""

from __future__ import annotations

import pytest
import torch

from mmbind_data.encoders import Variant, build_decoder, build_encoder, count_parameters
from mmbind_data.errors import UsageError

SHAPES = {"inertial": (120, 3), "skeleton": (40, 20, 3), "depth_video": (12, 30, 40)}
CASES: list[tuple[str, Variant]] = [
    ("inertial", "compact"),
    ("skeleton", "compact"),
    ("depth_video", "compact"),
    ("inertial", "reference"),
    ("skeleton", "reference"),
]


@pytest.mark.parametrize(("kind", "variant"), CASES)
def test_shape_and_gradient_of_every_parameter(kind: str, variant: Variant) -> None:
    torch.manual_seed(0)
    encoder = build_encoder(kind, SHAPES[kind], variant=variant, feature_dim=24)
    feature = encoder(torch.randn(3, *SHAPES[kind]))
    assert feature.shape == (3, 1920 if variant == "reference" else 24)
    torch.autograd.backward(feature.square().sum())
    still = [n for n, p in encoder.named_parameters() if p.grad is None or not p.grad.any()]
    # a bias in front of a batch normalisation has no effect: its gradient is rounding at most
    assert [name for name in still if not name.endswith("bias")] == []


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("n_frames", [8, 9, 15, 100, 241])
def test_any_number_of_frames_from_eight_on(kind: str, n_frames: int) -> None:
    shape = (n_frames, *SHAPES[kind][1:])
    assert build_encoder(kind, shape, width=8)(torch.randn(2, *shape)).shape == (2, 128)
    if kind != "depth_video":
        assert build_decoder(kind, shape, 16)(torch.randn(2, 16)).shape == (2, *shape)


@pytest.mark.parametrize("kind", SHAPES)
def test_other_rows_of_the_batch_never_matter(kind: str) -> None:
    torch.manual_seed(1)
    encoder = build_encoder(kind, SHAPES[kind], width=8).train()
    values = torch.randn(4, *SHAPES[kind])
    alone = encoder(values[:1])
    spoilt = torch.cat([values[:1], torch.zeros_like(values[1:]), 1e4 * values[1:]])
    torch.testing.assert_close(encoder(spoilt)[:1], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", SHAPES)
def test_the_order_of_frames_matters(kind: str) -> None:
    torch.manual_seed(2)
    encoder = build_encoder(kind, SHAPES[kind])
    values = torch.randn(2, *SHAPES[kind]).cumsum(dim=1)
    assert (encoder(values) - encoder(values.flip(1))).abs().mean() > 0.05


@pytest.mark.parametrize("kind", ["inertial", "skeleton"])
def test_a_decoder_can_fit_a_negative_ramp(kind: str) -> None:
    torch.manual_seed(3)
    shape = (24, 3) if kind == "inertial" else (24, 2, 3)
    ramp = torch.linspace(-3, -1, 24).view(1, 24, *[1] * (len(shape) - 1)).expand(1, *shape)
    decoder, latent = build_decoder(kind, shape, 8), torch.ones(1, 8)
    optimiser = torch.optim.Adam(decoder.parameters(), lr=0.01)
    for _ in range(150):
        loss = (decoder(latent) - ramp).square().mean()
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
    assert float(loss.detach()) < 0.01
    assert (decoder(latent) < -0.5).all()


def test_the_published_sizes() -> None:
    # counts measured on the published modules (shared/facts 2.1, 2.2)
    def size(kind: str, shape: tuple[int, ...]) -> int:
        return count_parameters(build_encoder(kind, shape, variant="reference"))

    assert size("inertial", (120, 3)) == 219_872
    assert size("inertial", (1000, 3)) == 853_472
    assert size("inertial", (100, 3)) == 205_472
    assert size("skeleton", (40, 20, 3)) == 393_008


@pytest.mark.parametrize(
    ("kind", "shape", "variant", "word"),
    [
        ("inertal", (120, 3), "compact", "Did you mean inertial"),
        ("inertial", (7, 3), "compact", "at least 8 frames"),
        ("skeleton", (40, 20), "compact", "3 axes"),
        ("depth_video", (16, 60, 80), "reference", "inertial or skeleton"),
        ("skeleton", (12, 20, 3), "reference", "too small"),
        ("inertial", (120, 3), "published", "compact or reference"),
    ],
)
def test_what_has_no_network_is_refused(
    kind: str, shape: tuple[int, ...], variant: Variant, word: str
) -> None:
    with pytest.raises(UsageError, match=word):
        build_encoder(kind, shape, variant=variant)


def test_the_same_seed_gives_the_same_network() -> None:
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return torch.cat(
            [p.detach().flatten() for p in build_encoder("inertial", (50, 3)).parameters()]
        )

    assert torch.equal(weights(5), weights(5))
    assert not torch.equal(weights(5), weights(6))
