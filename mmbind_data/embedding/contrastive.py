"""Embed the shared modality by contrast: two altered views of a sample belong together.

torch is imported when a function that needs it is called.

Letters: n samples of a batch, T frames, C channels, d embedding length.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from mmbind_data.embedding.autoencoder import LATENT_DIM, LossOf, train_encoder
from mmbind_data.embedding.vectors import Embedded
from mmbind_data.errors import UsageError
from mmbind_data.progress import Progress
from mmbind_data.signal.normalise import Statistics
from mmbind_data.spec.descriptor import Modality

if TYPE_CHECKING:
    from torch import Tensor, nn


TEMPERATURE = 0.1  # of NT-Xent
# kinds that can be warped in time and scaled, and whose values are worth noise
STREAM_KINDS = ("inertial", "signal", "skeleton")


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
    values, modality, steps
        As for `autoencoder.embed_autoencoder`.
    seed : int
        Weights, batches and views follow from it.

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
    representations" (ICML 2020), eq. 1; the views: `mmbind_data.embedding.augmentation.view`.
    """
    import torch

    from mmbind_data.embedding import augmentation

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
        sizes = ((LATENT_DIM, LATENT_DIM), (LATENT_DIM, LATENT_DIM // 2))
        layers = [(torch.nn.ReLU(), torch.nn.Linear(*size)) for size in sizes]
        return torch.nn.Sequential(*itertools.chain(*layers))

    def objective(statistics: Statistics) -> LossOf:
        spread = torch.tensor(statistics.std) if turned else None

        def loss(encoder: nn.Module, head: nn.Module, batch: Tensor) -> Tensor:
            views = [augmentation.view(batch, spread, generator) for _ in range(2)]
            first, second = head(encoder(torch.cat(views))).split(len(batch))
            return nt_xent(first, second, TEMPERATURE)

        return loss

    views = {
        "jitter": augmentation.JITTER,
        "scaling": augmentation.SCALING,
        "turn": augmentation.TURN if turned else 0.0,
        "warp": augmentation.WARP,
    }
    return train_encoder(
        "contrastive",
        values,
        modality,
        auxiliary=head,
        objective=objective,
        steps=steps,
        seed=seed,
        progress=progress,
        settings={"temperature": TEMPERATURE, "views": views},
    )


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Normalised cross entropy of telling each view's other view from all views of the batch.

    The views, (n, d) each, are row by row of one sample; a scalar.
    """
    import torch
    from torch.nn import functional

    unit = functional.normalize(torch.cat([first, second]), dim=1)
    logits = unit @ unit.T / temperature
    logits = logits.masked_fill(torch.eye(len(logits), dtype=torch.bool), -torch.inf)
    return functional.cross_entropy(logits, torch.arange(len(logits)).roll(len(first)))
