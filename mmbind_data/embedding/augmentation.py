"""Random changes of signals that keep what they show: time warps, rotations, scaling, noise.

Everything that draws such changes with torch shares `warped_time` and `cross_matrices`.

Letters: n samples of a batch, T frames, C channels, p pieces of a warped time axis.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

# The best of ten settings of the contrastive embedding on UTD-MHAD subjects 1-6 at 300 steps.
JITTER = 0.8  # standard deviations of the signal
SCALING = 0.5  # relative
TURN = 0.4  # radians: how differently two people wear a device
KNOTS = 5  # pieces of a warped time axis
WARP = 0.15  # log-normal spread of their lengths


def warped_time(knots: Tensor, n_frames: int) -> Tensor:
    """Moments at which the frames of a time axis of piecewise constant speed are read.

    Parameters
    ----------
    knots : Tensor, shape (n, p + 1), float32
        Where each of the p equally long pieces of the new axis begins and the last one ends, as
        shares of the old axis: rising from 0 to 1.

    Returns
    -------
    Tensor, shape (n, T), float32, frames
        0 to T - 1, rising.
    """
    n_pieces = knots.shape[1] - 1
    place = torch.linspace(0, n_pieces, n_frames)
    piece = place.long().clamp(max=n_pieces - 1)
    share = place - piece
    return (knots[:, piece] * (1 - share) + knots[:, piece + 1] * share) * (n_frames - 1)


def cross_matrices(vectors: Tensor) -> Tensor:
    """Matrices (n, 3, 3) whose product with any w is the cross product of v (n, 3) and w."""
    x, y, z = vectors.unbind(1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=1).view(-1, 3, 3)


def view(
    batch: Tensor,
    spread: Tensor | None,
    generator: Generator,
    *,
    jitter: float = JITTER,
    scaling: float = SCALING,
    warp: float = WARP,
) -> Tensor:
    """One altered copy of standardised samples: warped in time, turned, scaled, with noise.

    Parameters
    ----------
    batch : Tensor, shape (n, T, ...)
    spread : Tensor, shape (3,), or None
        Standard deviations that undo the standardisation of three-axis inertial samples, so that
        they are turned in space and not in units of their spread; None: no turning.
    jitter, scaling, warp : float
        Strengths, in units of the constants of this module.

    Returns
    -------
    Tensor, shape (n, T, ...)

    Notes
    -----
    Source: T. Um et al., "Data augmentation of wearable sensor data" (ICMI 2017).
    """
    flat = warp_time(batch.flatten(2), generator, warp)
    if spread is not None:
        flat = (flat * spread) @ rotations(len(flat), generator) / spread
    factor = 1 + scaling * torch.randn(len(flat), 1, flat.shape[2], generator=generator)
    noise = jitter * torch.randn(flat.shape, generator=generator)
    return (flat * factor + noise).reshape(batch.shape)


def warp_time(batch: Tensor, generator: Generator, warp: float = WARP) -> Tensor:
    """Play (n, T, C) samples faster and slower; both ends and the order of frames are kept.

    Frames between two of the sample are blended linearly.
    """
    n, n_frames = batch.shape[:2]
    pace = torch.exp(warp * torch.randn(n, KNOTS, generator=generator))
    elapsed = pace.cumsum(1) / pace.sum(1, keepdim=True)
    time = warped_time(torch.cat([torch.zeros(n, 1), elapsed], dim=1), n_frames)
    left = time.long().clamp(0, max(n_frames - 2, 0))
    rest = (time - left).unsqueeze(2)
    rows = torch.arange(n).unsqueeze(1)
    right = (left + 1).clamp(max=n_frames - 1)
    return batch[rows, left] * (1 - rest) + batch[rows, right] * rest


def rotations(n: int, generator: Generator) -> Tensor:
    """Rotation matrices (n, 3, 3) about random axes, by angles of spread `TURN`."""
    vectors = TURN * torch.randn(n, 3, generator=generator) / 3**0.5
    turns: Tensor = torch.linalg.matrix_exp(cross_matrices(vectors))
    return turns
