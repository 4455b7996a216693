"""Decoders of every kind of modality from a feature, their errors, and the values they stand for.

Quantities are compared number by number, the pixels of a class map by cross entropy, the points of
a cloud, which have no order, by the Chamfer distance.

Letters: B rows, T frames, P places for points, C channels, H x W pixels, K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmbind_data.embedding.encoders import WIDTH, build_decoder
from mmbind_data.embedding.points import real_points
from mmbind_data.embedding.temporal import TemporalDecoder
from mmbind_data.spec.descriptor import Axis, Modality

DECODED_POINTS = 16  # of every frame, or as many as fit


def decoder_of(modality: Modality, latent_dim: int) -> nn.Module:
    """Make the decoder of a modality as it enters the network, with fresh weights.

    It maps (B, latent_dim) float32 to standardised quantities, (B, *shape); of a class map to the
    logits of the classes, (B, H, W, K); of point clouds to the same number of points for every
    frame, (B, T, `DECODED_POINTS`, C). A kind or shape without a network is a UsageError.
    """
    if modality.kind == "point_cloud":
        n_frames, n_places, n_channels = modality.shape
        shape = (n_frames, min(DECODED_POINTS, n_places), n_channels)
        return TemporalDecoder(shape, latent_dim, WIDTH)
    if modality.classes is not None:
        logits = Axis(name="channel", size=modality.classes)
        planes = {"axes": (*modality.axes, logits), "classes": None, "background": None}
        return build_decoder(modality.model_copy(update=planes), latent_dim)
    return build_decoder(modality, latent_dim)


def row_errors(decoded: Tensor, wanted: Tensor, modality: Modality) -> Tensor:
    """Mean error of each row between what was decoded and what was measured, shape (B,) float32.

    That is the squared error of quantities; the cross entropy in nats of a class map, over the
    pixels of a known class; `chamfer` of clouds. ``decoded`` is from `decoder_of`; ``wanted``,
    (B, *shape) float32, is as it enters the encoder: standardised, class numbers, points padded
    with NaN.
    """
    if modality.kind == "point_cloud":
        return chamfer(decoded, wanted)
    if modality.classes is None:
        return (decoded - wanted).square().flatten(1).mean(dim=1)
    number = wanted.round().long()
    known = (number >= 0) & (number < modality.classes)
    entropy = functional.cross_entropy(
        decoded.movedim(-1, 1), number.where(known, -1), ignore_index=-1, reduction="none"
    )
    return entropy.flatten(1).sum(dim=1) / known.flatten(1).sum(dim=1).clamp(min=1)


def decoded_values(decoded: Tensor, modality: Modality) -> Tensor:
    """What was decoded as it would enter an encoder, shape (B, *shape): clouds padded with NaN."""
    if modality.kind == "point_cloud":
        padding = modality.shape[1] - decoded.shape[2]
        return functional.pad(decoded, (0, 0, 0, padding), value=torch.nan)
    return decoded if modality.classes is None else decoded.argmax(dim=-1).to(torch.float32)


def chamfer(decoded: Tensor, wanted: Tensor) -> Tensor:
    """Chamfer distance of two clouds: each point to the nearest of the other cloud, both ways.

    From (B, T, Q, C) and (B, T, P, C), NaN where there is no point, to (B,). Squared distances over
    C, so that a channel counts as much as a number elsewhere; the mean of the two directions, over
    the frames that have a point. Without any it is 0.

    Source: Fan, Su, Guibas: A Point Set Generation Network (CVPR 2017), section 3.2.
    """
    points, real = real_points(wanted)
    with torch.no_grad():  # the choice of the nearest point has no gradient, its distance has
        exact = "donot_use_mm_for_euclid_dist"
        apart = torch.cdist(decoded.float(), points.float(), compute_mode=exact)
        to_wanted = apart.masked_fill(~real.unsqueeze(2), torch.inf).argmin(dim=3)
        to_decoded = apart.argmin(dim=2)
    forth = (decoded - _take(points, to_wanted)).square().mean(dim=-1).mean(dim=2)
    back = (_take(decoded, to_decoded) - points).square().mean(dim=-1)
    n_points = real.sum(dim=2)
    back = torch.where(real, back, 0.0).sum(dim=2) / n_points.clamp(min=1)
    some = n_points > 0
    frames = torch.where(some, (forth + back) / 2, 0.0)
    return frames.sum(dim=1) / some.sum(dim=1).clamp(min=1)


def _take(points: Tensor, chosen: Tensor) -> Tensor:
    """Points (B, T, n, C) by their places, (B, T, n) from (B, T, any, C)."""
    return points.gather(2, chosen.unsqueeze(-1).expand(-1, -1, -1, points.shape[-1]))
