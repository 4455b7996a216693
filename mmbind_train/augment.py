"""Random changes of sensor windows that leave the activity what it is."""

from __future__ import annotations

import torch
from torch import Tensor

from .config import Augmentation

KNOTS = 4  # pieces of constant speed in a time warp


def augment(values: Tensor, options: Augmentation, rng: torch.Generator) -> Tensor:
    """Warp the time of, rotate and scale each window by its own random amount.

    Parameters
    ----------
    values : Tensor, shape (n, T, ..., C)
        Windows in their physical unit; only streams with three channels are rotated.
    options : Augmentation
        Strengths. Jitter is not applied here: its unit is the standardised one.
    rng : torch.Generator

    Returns
    -------
    Tensor, same shape
    """
    if options.warp:
        values = _warp(values, options.warp, rng)
    if options.rotation and values.shape[-1] == 3:
        turn = rotations(len(values), options.rotation, rng)
        values = torch.einsum("n...c,ndc->n...d", values, turn)
    if options.gain:
        gain = 1 + options.gain * torch.randn(len(values), generator=rng)
        values = values * gain.view(-1, *[1] * (values.ndim - 1))
    return values


def rotations(n: int, angle: float, rng: torch.Generator) -> Tensor:
    """Rotation matrices about random axes, shape (n, 3, 3); ``angle``: standard deviation, rad."""
    axis = torch.nn.functional.normalize(torch.randn(n, 3, generator=rng), dim=1)
    turn = (angle * torch.randn(n, generator=rng)).view(-1, 1, 1)
    cross = torch.zeros(n, 3, 3)
    for row, column, entry, sign in ((0, 1, 2, -1), (0, 2, 1, 1), (1, 2, 0, -1)):
        cross[:, row, column] = sign * axis[:, entry]
        cross[:, column, row] = -sign * axis[:, entry]
    # Rodrigues' formula
    return torch.eye(3) + torch.sin(turn) * cross + (1 - torch.cos(turn)) * (cross @ cross)


def _warp(values: Tensor, strength: float, rng: torch.Generator) -> Tensor:
    """Play each window at a speed that changes piece by piece; first and last frame stay."""
    n, n_frames = values.shape[:2]
    pace = torch.exp(strength * torch.randn(n, KNOTS, generator=rng))
    elapsed = torch.cat([torch.zeros(n, 1), pace.cumsum(dim=1)], dim=1)
    elapsed = elapsed / elapsed[:, -1:]
    ticks = torch.linspace(0, KNOTS, n_frames)
    knot = ticks.floor().long().clamp(max=KNOTS - 1)
    share = ticks - knot
    moment = (elapsed[:, knot] * (1 - share) + elapsed[:, knot + 1] * share) * (n_frames - 1)
    left = moment.floor().long().clamp(0, n_frames - 2)
    flat = values.flatten(2)
    spread = left.unsqueeze(-1).expand(-1, -1, flat.shape[2])
    before, after = flat.gather(1, spread), flat.gather(1, spread + 1)
    return torch.lerp(before, after, (moment - left).unsqueeze(-1)).view_as(values)
