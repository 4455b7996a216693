"""Embed the shared modality with an encoder that is trained on the union of both datasets.

torch is imported when a function that needs it is called.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from mmbind_data.embedding.vectors import Embedded
from mmbind_data.progress import Progress
from mmbind_data.signal.normalise import Statistics, centre, channel_statistics, standardise
from mmbind_data.spec.descriptor import Modality

if TYPE_CHECKING:
    from torch import Tensor, nn


# of the encoder, the auxiliary module and a batch of standardised samples
LossOf = Callable[["nn.Module", "nn.Module", "Tensor"], "Tensor"]

LATENT_DIM = 128
BATCH = 128


def embed_autoencoder(
    values: np.ndarray,
    modality: Modality,
    *,
    steps: int = 1000,
    seed: int = 0,
    progress: Progress | None = None,
) -> Embedded:
    """Train an autoencoder on the union of both datasets and return its latent vectors.

    Parameters
    ----------
    values : ndarray, shape (n, T, ...), float32
        The shared modality of both datasets, all present.
    modality : Modality
        Picks the encoder by kind.
    steps : int
        Optimiser steps of Adam at 1e-3, batches of 128.
    seed : int
        Weights and batches follow from it.

    Returns
    -------
    Embedded
        Vectors of length 128, and the encoder's weights.

    Raises
    ------
    UsageError
        There is no autoencoder for this kind of modality.

    Notes
    -----
    Source: MMBind paper, section 5.1.1, eq. 1: L = ||m' - m||^2 with m' = f_dec(f_enc(m)).
    """
    from torch.nn.functional import mse_loss

    from mmbind_data.embedding.encoders import build_decoder

    return train_encoder(
        "autoencoder",
        values,
        modality,
        auxiliary=lambda sized: build_decoder(sized, LATENT_DIM),
        objective=lambda _: (
            lambda encoder, decoder, batch: mse_loss(decoder(encoder(batch)), batch)
        ),
        steps=steps,
        seed=seed,
        progress=progress,
    )


def train_encoder(
    name: str,
    values: np.ndarray,
    modality: Modality,
    *,
    auxiliary: Callable[[Modality], nn.Module],
    objective: Callable[[Statistics], LossOf],
    steps: int,
    seed: int,
    progress: Progress | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Embedded:
    """Train an encoder on standardised samples and return the vectors that it gives them.

    Parameters
    ----------
    name : str
        Name of the embedding in the config and in progress reports.
    values : ndarray, shape (n, T, ...), float32
    auxiliary : callable (modality of the samples' shape) -> nn.Module
        The module that only the training needs: a decoder, or a projection head.
    objective : callable (statistics of the samples) -> LossOf
        Gives the loss of an encoder, the auxiliary module and a batch.
    settings : mapping, optional
        Further entries of the config.
    """
    import torch

    from mmbind_data.embedding.encoders import build_encoder

    centred = centre(values, modality)
    statistics = channel_statistics([centred], modality)
    scaled = torch.from_numpy(standardise(centred, statistics))
    sized = modality.sized(tuple(scaled.shape[1:]))  # perhaps fewer frames than declared
    with torch.random.fork_rng(devices=[]):  # leave the caller's generator as it is
        torch.manual_seed(seed)
        encoder, other = build_encoder(sized, feature_dim=LATENT_DIM), auxiliary(sized)
    loss_of = objective(statistics)

    def loss(batch: Tensor) -> Tensor:
        return loss_of(encoder, other, batch)

    modules = torch.nn.ModuleList([encoder, other])
    last = _minimise(modules, loss, scaled, steps, seed, name, progress)
    encoder.eval()
    with torch.no_grad():
        parts = [encoder(scaled[start : start + 1024]) for start in range(0, len(scaled), 1024)]
    config = {
        "name": name,
        "kind": modality.kind,
        "shape": list(sized.shape),
        "modality": sized.model_dump(mode="json", exclude_none=True),
        "latent_dim": LATENT_DIM,
        "steps": steps,
        "seed": seed,
        **(settings or {}),
        "final_loss": round(last, 4),
        "mean": list(statistics.mean),
        "std": list(statistics.std),
    }
    weights = {name: tensor.numpy() for name, tensor in encoder.state_dict().items()}
    return Embedded(torch.cat(parts).numpy(), config, weights)


def _minimise(
    modules: nn.ModuleList,
    loss_of: Callable[[Tensor], Tensor],
    samples: Tensor,
    steps: int,
    seed: int,
    name: str,
    progress: Progress | None,
) -> float:
    """Minimise a loss with Adam over random batches; returns the last loss."""
    import torch

    optimiser = torch.optim.Adam(modules.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    rng = np.random.default_rng(seed)
    loss = torch.zeros(())
    for step in range(steps):
        rows = rng.choice(len(samples), min(BATCH, len(samples)), replace=False)
        loss = loss_of(samples[torch.from_numpy(rows)])
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        schedule.step()
        if progress and (step + 1) % 50 == 0:
            progress(step + 1, steps, f"{name}, loss {loss.item():.3f}")
    return loss.item()
