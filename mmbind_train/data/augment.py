"""Random changes of samples that leave the activity or the scene what it is.

Letters: n samples, T frames, P points, H x W pixels, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Generator, Tensor

from mmbind_data.embedding.augmentation import cross_matrices, warped_time
from mmbind_data.spec.descriptor import Modality
from mmbind_data.store.input_size import FRAME_KINDS
from mmbind_train.config import Augmentation

KNOTS = 4  # pieces of constant speed in a time warp
Change = Callable[[Tensor, Modality, Augmentation, Generator], Tensor]


def augment(
    values: Tensor,
    modality: Modality,
    options: Augmentation,
    rng: Generator,
    flipped: Tensor | None = None,
) -> Tensor:
    """Change each sample by a random amount of its own, by the changes of its kind (`CHANGES`).

    ``values``, (n, *modality.shape), are in their physical unit; point clouds may have room for
    fewer points. Noise is added later, to standardised values: see `jitter`. ``flipped``, (n,)
    bool, are stills to be mirrored, see `draw_flips`.
    """
    for change in CHANGES.get(modality.kind, ()):
        values = change(values, modality, options, rng)
    if flipped is not None and modality.kind == "image":
        mirror = flipped.view(-1, *[1] * (values.ndim - 1))
        values = torch.where(mirror, values.flip(2), values)
    return values


def jitter(values: Tensor, modality: Modality, options: Augmentation, rng: Generator) -> Tensor:
    """Add noise to standardised samples; pictures are noisy already and get none.

    The packets of a CSI frame share their noise: 64 samples have six million values.
    """
    if not options.jitter or modality.kind in ("image", "depth_video"):
        return values
    shape = (*values.shape[:-1], 1) if modality.kind == "csi" else values.shape
    return values + options.jitter * torch.randn(shape, generator=rng)


def draw_flips(n: int, options: Augmentation, rng: Generator) -> Tensor | None:
    """Rows whose stills are mirrored, all of a row together: (n,) bool, None = none."""
    return torch.rand(n, generator=rng) < options.flip if options.flip else None


def rotations(n: int, angle: float, rng: Generator) -> Tensor:
    """Rotation matrices about random axes, shape (n, 3, 3); ``angle``: standard deviation, rad."""
    axis = torch.nn.functional.normalize(torch.randn(n, 3, generator=rng), dim=1)
    return _rotations_about(axis, angle * torch.randn(n, generator=rng))


def _rotations_about(axis: Tensor, angle: Tensor) -> Tensor:
    """Rodrigues' formula: (n, 3) unit axes, (n,) rad -> (n, 3, 3)."""
    turn, cross = angle.view(-1, 1, 1), cross_matrices(axis)
    return torch.eye(3) + torch.sin(turn) * cross + (1 - torch.cos(turn)) * (cross @ cross)


def _warp(values: Tensor, modality: Modality, options: Augmentation, rng: Generator) -> Tensor:
    """Play each sample at a speed that changes piece by piece; first and last frame stay.

    Frames of videos, point clouds and CSI are picked, never blended.
    """
    if not options.warp:
        return values
    n, n_frames = values.shape[:2]
    pace = torch.exp(options.warp * torch.randn(n, KNOTS, generator=rng))
    elapsed = torch.cat([torch.zeros(n, 1), pace.cumsum(dim=1)], dim=1)
    moment = warped_time(elapsed / elapsed[:, -1:], n_frames)
    if modality.kind in FRAME_KINDS:
        frame = moment.round().long().clamp(0, n_frames - 1)
        return values[torch.arange(n).unsqueeze(1), frame]
    left = moment.floor().long().clamp(0, n_frames - 2)
    flat = values.flatten(2)
    spread = left.unsqueeze(-1).expand(-1, -1, flat.shape[2])
    before, after = flat.gather(1, spread), flat.gather(1, spread + 1)
    return torch.lerp(before, after, (moment - left).unsqueeze(-1)).view_as(values)


def _turn(values: Tensor, modality: Modality, options: Augmentation, rng: Generator) -> Tensor:
    """Rotate three-axis vectors about a random axis; keypoints in a picture stay."""
    del modality
    if not options.rotation or values.shape[-1] != 3:
        return values
    turn = rotations(len(values), options.rotation, rng)
    return torch.einsum("n...c,ndc->n...d", values, turn)


def _yaw(values: Tensor, modality: Modality, options: Augmentation, rng: Generator) -> Tensor:
    """Rotate the scene about the vertical; radial quantities such as Doppler do not change."""
    names = modality.axes[-1].names or ()
    if not options.rotation or not {"x", "y", "z"} <= set(names):
        return values
    places = [names.index(axis) for axis in ("x", "y", "z")]
    up = torch.tensor([0.0, 0.0, 1.0]).expand(len(values), 3)
    turn = _rotations_about(up, options.rotation * torch.randn(len(values), generator=rng))
    turned = values.clone()
    turned[..., places] = torch.einsum("n...c,ndc->n...d", values[..., places], turn)
    return turned


def _drop(values: Tensor, modality: Modality, options: Augmentation, rng: Generator) -> Tensor:
    """Remove points, each with the same probability."""
    del modality
    if not options.drop:
        return values
    lost = torch.rand(values.shape[:-1], generator=rng) < options.drop
    return values.masked_fill(lost.unsqueeze(-1), math.nan)


def _gain(values: Tensor, modality: Modality, options: Augmentation, rng: Generator) -> Tensor:
    """Scale each sample: stronger or weaker, brighter or darker, nearer or farther.

    Decibels are shifted by as much; angles and class numbers have no gain.
    """
    if not options.gain or modality.classes is not None or modality.unit == "rad":
        return values
    gain = 1 + options.gain * torch.randn(len(values), generator=rng)
    gain = gain.view(-1, *[1] * (values.ndim - 1))
    if modality.unit == "dB":
        return values + 20 * torch.log10(gain.clamp(min=0.1))
    return values * gain


def _shift(values: Tensor, modality: Modality, options: Augmentation, rng: Generator) -> Tensor:
    """Move each picture by whole pixels, all frames alike; the gap is filled with background."""
    if not options.shift:
        return values
    row = [axis.name for axis in modality.axes].index("height") + 1
    height, width = values.shape[row : row + 2]
    sides = torch.tensor([height, width])
    moves = options.shift * sides * torch.randn(len(values), 2, generator=rng)
    moves = moves.round().long().clamp(-sides // 2, sides // 2)
    shifted = torch.full_like(values, modality.background or 0.0)
    old, new = (one.movedim((row, row + 1), (1, 2)) for one in (values, shifted))
    for sample, (down, right) in enumerate(moves.tolist()):
        new[sample, _overlap(down, height), _overlap(right, width)] = old[
            sample, _overlap(-down, height), _overlap(-right, width)
        ]
    return shifted


def _overlap(step: int, size: int) -> slice:
    """Places of an axis that something moved by ``step`` still covers."""
    return slice(max(0, step), size + min(0, step))


# kind -> changes in physical units, in this order
CHANGES: Mapping[str, tuple[Change, ...]] = {
    "inertial": (_warp, _turn, _gain),
    "signal": (_warp,),
    "skeleton": (_warp, _turn, _gain),
    "depth_video": (_warp, _shift, _gain),
    "image": (_shift, _gain),
    "point_cloud": (_warp, _yaw, _drop),
    "csi": (_warp, _gain),
}
