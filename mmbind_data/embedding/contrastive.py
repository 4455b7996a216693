"""Embed the shared modality by contrast: two altered views of a sample belong together.

torch is imported when a function that needs it is called.

Letters: n samples of a batch, T frames, C channels, d embedding length.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mmbind_data.embedding.autoencoder import LATENT_DIM, LossOf, train_encoder
from mmbind_data.embedding.vectors import Embedded
from mmbind_data.errors import UsageError
from mmbind_data.progress import Progress
from mmbind_data.signal.normalise import Statistics
from mmbind_data.spec.descriptor import Modality

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn


# The best of ten settings on UTD-MHAD subjects 1-6 at 300 steps.
TEMPERATURE = 0.1
JITTER = 0.8  # standard deviations of the signal
SCALING = 0.5  # relative
TURN = 0.4  # radians: how differently two people wear a device
# kinds that can be warped in time and scaled, and whose values are worth noise
STREAM_KINDS = ("inertial", "signal", "skeleton")
KNOTS = 5  # pieces of a warped time axis
WARP = 0.15  # log-normal spread of their lengths


def embed_contrastive(
    values: np.ndarray,
    modality: Modality,
    *,
    steps: int = 1000,
    seed: int = 0,
    progress: Progress | None = None,
) -> Embedded:
    """Train an encoder on the union to tell samples apart however they are altered.

    Two views of each sample are drawn: warped in time, scaled, with noise, and turned in space if
    it is a three-axis inertial one. NT-Xent makes views of one sample close, of others far.
    Labels are never read.

    Parameters
    ----------
    values : ndarray, shape (n, T, ...), float32
        The shared modality of both datasets, all present.
    modality : Modality
        Picks the encoder by kind.
    steps : int
        Optimiser steps of Adam at 1e-3, batches of 128.
    seed : int
        Weights, batches and views follow from it.
    progress : callable (done, total, text), optional

    Returns
    -------
    Embedded
        Vectors of length 128 (before the projection head), and the encoder's weights.

    Raises
    ------
    UsageError
        Not a stream, or a sample is too short for the encoder.

    Notes
    -----
    Source: T. Chen et al., "A simple framework for contrastive learning of visual
    representations" (ICML 2020), eq. 1; the alterations: T. Um et al., "Data augmentation of
    wearable sensor data" (ICMI 2017).
    """
    import torch

    if modality.kind not in STREAM_KINDS:
        raise UsageError(
            cannot="embed by contrast",
            problem="no views are known of this kind of modality",
            at=f"kind {modality.kind!r}",
            expected=" or ".join(STREAM_KINDS),
            got=repr(modality.kind),
        )
    turned = modality.kind == "inertial" and values.shape[2:] == (3,)
    generator = torch.Generator().manual_seed(seed)

    def head(_: Modality) -> nn.Module:
        return torch.nn.Sequential(
            torch.nn.ReLU(), torch.nn.Linear(LATENT_DIM, LATENT_DIM),
            torch.nn.ReLU(), torch.nn.Linear(LATENT_DIM, LATENT_DIM // 2),
        )  # fmt: skip

    def objective(statistics: Statistics) -> LossOf:
        spread = torch.tensor(statistics.std) if turned else None

        def loss(encoder: nn.Module, head: nn.Module, batch: Tensor) -> Tensor:
            views = torch.cat([view(batch, spread, generator) for _ in range(2)])
            first, second = head(encoder(views)).split(len(batch))
            return nt_xent(first, second, TEMPERATURE)

        return loss

    views = {"jitter": JITTER, "scaling": SCALING, "turn": TURN if turned else 0.0, "warp": WARP}
    return train_encoder(
        "contrastive",
        values,
        modality,
        beside=head,
        objective=objective,
        steps=steps,
        seed=seed,
        progress=progress,
        settings={"temperature": TEMPERATURE, "views": views},
    )


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Normalised cross entropy of telling each view's other view from all views of the batch.

    Parameters
    ----------
    first, second : Tensor, shape (n, d)
        Row by row two views of one sample.
    temperature : float

    Returns
    -------
    Tensor, scalar
    """
    import torch
    from torch.nn import functional

    unit = functional.normalize(torch.cat([first, second]), dim=1)
    logits = unit @ unit.T / temperature
    logits = logits.masked_fill(torch.eye(len(logits), dtype=torch.bool), -torch.inf)
    return functional.cross_entropy(logits, torch.arange(len(logits)).roll(len(first)))


def view(batch: Tensor, spread: Tensor | None, generator: Generator) -> Tensor:
    """One altered copy of standardised samples: warped in time, turned, scaled, with noise.

    Parameters
    ----------
    batch : Tensor, shape (n, T, ...)
    spread : Tensor, shape (3,), or None
        Standard deviations that undo the standardisation of three-axis inertial samples, so that
        they are turned in space and not in units of their spread; None: no turning.
    generator : torch.Generator

    Returns
    -------
    Tensor, shape (n, T, ...)
    """
    import torch

    flat = warp_time(batch.flatten(2), generator)
    if spread is not None:
        flat = (flat * spread) @ rotations(len(flat), generator) / spread
    factor = 1 + SCALING * torch.randn(len(flat), 1, flat.shape[2], generator=generator)
    noise = JITTER * torch.randn(flat.shape, generator=generator)
    return (flat * factor + noise).reshape(batch.shape)


def warp_time(batch: Tensor, generator: Generator) -> Tensor:
    """Run (n, T, C) samples faster and slower, both ends and the order of frames kept."""
    import torch

    n, frames = batch.shape[:2]
    pace = torch.exp(WARP * torch.randn(n, KNOTS, generator=generator))
    # piecewise linear time, 0..T-1, through knots at the summed lengths of the pieces
    knots = torch.cat([torch.zeros(n, 1), pace.cumsum(1) / pace.sum(1, keepdim=True)], dim=1)
    place = torch.linspace(0, KNOTS, frames)
    piece = place.long().clamp(max=KNOTS - 1)
    share = place - piece
    time = (knots[:, piece] * (1 - share) + knots[:, piece + 1] * share) * (frames - 1)
    left = time.long().clamp(0, max(frames - 2, 0))
    rest = (time - left).unsqueeze(2)
    rows = torch.arange(n).unsqueeze(1)
    right = (left + 1).clamp(max=frames - 1)
    return batch[rows, left] * (1 - rest) + batch[rows, right] * rest


def rotations(n: int, generator: Generator) -> Tensor:
    """Rotation matrices (n, 3, 3) about random axes, by angles of spread `TURN`."""
    import torch

    vector = TURN * torch.randn(n, 3, generator=generator) / 3**0.5
    x, y, z = vector.unbind(1)
    zero = torch.zeros(n)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=1).view(n, 3, 3)
    turned: Tensor = torch.linalg.matrix_exp(skew)
    return turned
