"""Encoders and decoders: shapes, gradients, independence of rows, points, classes, sizes."""

from __future__ import annotations

import functools
import math

import pytest
import torch
from kinds import MODALITIES, modality

from mmbind_data.embedding.encoders import (
    DECODERS,
    Variant,
    build_decoder,
    build_encoder,
    encoder_dim,
)
from mmbind_data.errors import UsageError
from mmbind_data.spec.descriptor import Modality
from mmbind_data.spec.store import InputBounds
from mmbind_data.store.input_size import bounded_modality

BOUNDS = InputBounds(points=6)
ENTERING = {name: bounded_modality(one, BOUNDS) for name, one in MODALITIES.items()}
LARGE_DEPTH = modality("depth_video", [("time", 8), ("height", 48), ("width", 50)])
# what the published kernels can take
PUBLISHED = {
    **{name: one for name, one in ENTERING.items() if name not in ("heart_rate", "ir")},
    "depth": LARGE_DEPTH,
}
CASES: list[tuple[str, Modality, Variant]] = [
    *((name, one, "compact") for name, one in ENTERING.items()),
    *((name, one, "reference") for name, one in PUBLISHED.items()),
]
TIMED = [name for name, one in ENTERING.items() if one.kind != "image"]


def count_parameters(module: torch.nn.Module) -> int:
    return sum(one.numel() for one in module.parameters() if one.requires_grad)


def inputs(one: Modality, n: int, seed: int = 0) -> torch.Tensor:
    """Standardised samples; clouds with padding behind their points, one without a point."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(n, *one.shape, generator=generator)
    if one.classes is not None:
        return torch.randint(0, one.classes, (n, *one.shape), generator=generator).float()
    if one.kind == "point_cloud":
        size = torch.randint(0, one.shape[1], (n, one.shape[0], 1), generator=generator)
        values[torch.arange(one.shape[1]) >= size] = math.nan
        values[-1] = math.nan
    return values


@pytest.mark.parametrize(("name", "one", "variant"), CASES, ids=lambda case: str(case)[:12])
def test_shape_and_gradient_of_every_parameter(name: str, one: Modality, variant: Variant) -> None:
    torch.manual_seed(0)
    encoder = build_encoder(one, variant=variant, feature_dim=24)
    feature = encoder(inputs(one, 5))
    assert feature.shape == (5, encoder_dim(one, variant=variant, feature_dim=24)), name
    assert feature.isfinite().all()
    torch.autograd.backward(feature.square().sum())
    still = [n for n, p in encoder.named_parameters() if p.grad is None or not p.grad.any()]
    # a bias in front of a batch normalisation has no effect: its gradient is rounding at most
    assert [n for n in still if not n.endswith("bias")] == []
    if one.classes is not None:
        assert all(parameter.grad is not None for parameter in encoder.parameters())


@pytest.mark.parametrize("name", TIMED)
@pytest.mark.parametrize("n_frames", [8, 9, 15, 100])
def test_any_number_of_frames_from_eight_on(name: str, n_frames: int) -> None:
    one = ENTERING[name]
    shape = (n_frames, *one.shape[1:])
    longer = one.sized(shape)
    assert build_encoder(longer, width=8)(inputs(longer, 2)).shape == (2, 128)
    if one.kind in DECODERS:
        assert build_decoder(longer, 16)(torch.randn(2, 16)).shape == (2, *shape)


@pytest.mark.parametrize("sides", [(8, 8), (9, 31), (60, 80)])
def test_any_number_of_pixels_from_eight_a_side_on(sides: tuple[int, int]) -> None:
    for name in ("image", "still_depth", "semseg"):
        one = ENTERING[name].sized((*sides, *ENTERING[name].shape[2:]))
        assert build_encoder(one, width=8)(inputs(one, 2)).shape == (2, 128)
        if one.classes is None:
            assert build_decoder(one, 16)(torch.randn(2, 16)).shape == (2, *one.shape)


@pytest.mark.parametrize("name", ENTERING)
def test_other_rows_of_the_batch_never_matter(name: str) -> None:
    torch.manual_seed(1)
    encoder = build_encoder(ENTERING[name], width=8).train()
    values = inputs(ENTERING[name], 4)
    alone = encoder(values[:1])
    spoilt = torch.cat([values[:1], torch.zeros_like(values[1:]), 1e4 * values[1:]])
    torch.testing.assert_close(encoder(spoilt)[:1], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", TIMED)
def test_the_order_of_frames_matters(name: str) -> None:
    torch.manual_seed(2)
    encoder = build_encoder(ENTERING[name])
    values = inputs(ENTERING[name], 2, seed=3)
    values = values if values.isnan().any() else values.cumsum(dim=1)
    assert (encoder(values) - encoder(values.flip(1)))[0].abs().mean() > 0.02


@pytest.mark.parametrize("variant", ["compact", "reference"])
def test_padding_and_the_order_of_points_change_nothing(variant: Variant) -> None:
    torch.manual_seed(4)
    one = ENTERING["radar"]
    # in double precision what is left is rounding alone
    encoder = build_encoder(one, variant=variant).eval().double()
    values = inputs(one, 6, seed=5).double()
    close = functools.partial(torch.testing.assert_close, rtol=0, atol=1e-12)
    feature = encoder(values)
    padded = torch.cat([values, torch.full((6, one.shape[0], 40, 5), math.nan)], dim=2)
    close(encoder(padded), feature)
    close(encoder(padded[:, :, torch.randperm(padded.shape[2])]), feature)
    # beside a larger cloud: the published network gave another feature then
    crowd = torch.randn(1, *padded.shape[1:], dtype=torch.float64)
    close(encoder(torch.cat([padded, crowd]))[:6], feature)


@pytest.mark.parametrize("variant", ["compact", "reference"])
def test_a_cloud_without_a_point_is_legal_and_unlike_others(variant: Variant) -> None:
    torch.manual_seed(6)
    one = ENTERING["radar"]
    encoder = build_encoder(one, variant=variant).eval()
    empty = torch.full((1, *one.shape), math.nan)
    single = empty.clone()
    single[:, :, 0] = 1.0
    feature = encoder(empty)
    assert feature.isfinite().all()
    assert (encoder(single) - feature).abs().max() > 1e-3
    torch.autograd.backward(feature.sum())
    grads = [p.grad for p in encoder.parameters() if p.grad is not None]
    assert all(grad.isfinite().all() for grad in grads)


def test_every_point_counts() -> None:
    torch.manual_seed(7)
    values = inputs(ENTERING["radar"], 3, seed=8).requires_grad_()
    torch.autograd.backward(build_encoder(ENTERING["radar"])(values).square().sum())
    assert values.grad is not None
    real = values.isfinite().all(dim=-1)
    assert (values.grad[real].abs().sum(dim=-1) > 0).all()
    assert (values.grad.nan_to_num()[~real] == 0).all()


@pytest.mark.parametrize("variant", ["compact", "reference"])
def test_classes_are_names_not_numbers(variant: Variant) -> None:
    torch.manual_seed(9)
    one = ENTERING["semseg"]
    encoder = build_encoder(one, variant=variant)
    table = next(p for n, p in encoder.named_parameters() if n.endswith("vectors.weight"))
    values = inputs(one, 2)
    before = encoder(values)
    other = torch.tensor([3, 1, 4, 0, 6, 5, 2])
    with torch.no_grad():  # renaming the classes, vectors and all, changes nothing
        renamed = torch.empty_like(table)
        renamed[other], renamed[-1] = table[:7].clone(), table[-1]
        table.copy_(renamed)
    torch.testing.assert_close(encoder(other[values.long()].float()), before)
    unknown = [encoder(torch.full_like(values, number)) for number in (7.0, 99.0, -1.0)]
    assert torch.equal(unknown[0], unknown[1])
    assert torch.equal(unknown[0], unknown[2])
    assert not torch.equal(unknown[0], encoder(torch.full_like(values, 6.0)))


@pytest.mark.parametrize("name", ["acc", "skeleton", "heart_rate", "image", "wifi_csi"])
def test_a_decoder_can_fit_a_negative_ramp(name: str) -> None:
    torch.manual_seed(3)
    small = {"wifi_csi": (9, 1, 4, 2), "image": (12, 16, 3), "skeleton": (24, 2, 3)}
    one = ENTERING[name].sized(small.get(name, ENTERING[name].shape))
    ramp = torch.linspace(-3, -1, one.shape[0]).view(1, -1, *[1] * (len(one.shape) - 1))
    decoder, latent = build_decoder(one, 8), torch.ones(1, 8)
    optimiser = torch.optim.Adam(decoder.parameters(), lr=0.01)
    for _ in range(150):
        loss = (decoder(latent) - ramp).square().mean()
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
    assert float(loss.detach()) < 0.01
    assert (decoder(latent) < -0.5).all()


def test_the_published_sizes() -> None:
    # counts measured on the published modules
    def size(one: Modality) -> tuple[int, int]:
        encoder = build_encoder(one, variant="reference")
        return count_parameters(encoder), encoder_dim(one, variant="reference")

    acc, body = ENTERING["acc"], ENTERING["skeleton"]
    assert size(acc.sized((120, 3))) == (219_872, 1920)
    assert size(acc.sized((1000, 3))) == (853_472, 1920)
    assert size(acc.sized((100, 3))) == (205_472, 1920)
    assert size(body.sized((40, 20, 3))) == (393_008, 1920)
    assert size(ENTERING["keypoints"].sized((30, 17, 2))) == (36_588, 480)
    assert size(ENTERING["depth"].sized((30, 48, 64))) == (271_616, 1920)
    assert size(ENTERING["radar"].sized((30, 20, 5))) == (173_971, 1920)
    assert size(ENTERING["wifi_csi"].sized((30, 3, 114, 10))) == (8_356, 480)
    assert size(ENTERING["image"].sized((240, 320, 3))) == (1_038_612, 1536)
    # a depth map has one plane, a class map three learnt colours for 7 classes and the unknown
    assert size(ENTERING["still_depth"].sized((240, 320))) == (1_038_612 - 2 * 256, 1536)
    assert size(ENTERING["semseg"].sized((240, 320))) == (1_038_612 + 8 * 3, 1536)


def test_compact_encoders_are_small() -> None:
    for name, one in ENTERING.items():
        assert count_parameters(build_encoder(one)) < 170_000, name


@pytest.mark.parametrize(
    ("one", "variant", "word"),
    [
        (modality("text", [("time", 120), ("channel", 3)]), "compact", "no network for this kind"),
        (ENTERING["acc"].sized((7, 3)), "compact", "at least 8 frames"),
        (modality("skeleton", [("time", 40), ("joint", 20)]), "compact", "3 axes"),
        (MODALITIES["radar"], "compact", "padded"),
        (ENTERING["image"].sized((4, 30, 3)), "compact", "8 pixels a side"),
        (ENTERING["heart_rate"], "reference", "inertial or skeleton"),
        (ENTERING["depth"], "reference", "kernels"),
        (ENTERING["wifi_csi"].sized((9, 3, 115, 10)), "reference", "after time exactly"),
        (ENTERING["skeleton"].sized((12, 20, 3)), "reference", "Use the compact"),
        (ENTERING["acc"], "published", "compact or reference"),
    ],
)
def test_what_has_no_network_is_refused(one: Modality, variant: Variant, word: str) -> None:
    with pytest.raises(UsageError, match=word):
        build_encoder(one, variant=variant)


@pytest.mark.parametrize(("name", "word"), [("radar", "no network"), ("semseg", "class numbers")])
def test_what_cannot_be_reconstructed_is_refused(name: str, word: str) -> None:
    with pytest.raises(UsageError, match=word):
        build_decoder(ENTERING[name], 16)


def test_the_same_seed_gives_the_same_network() -> None:
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        encoder = build_encoder(ENTERING["acc"])
        return torch.cat([p.detach().flatten() for p in encoder.parameters()])

    assert torch.equal(weights(5), weights(5))
    assert not torch.equal(weights(5), weights(6))
