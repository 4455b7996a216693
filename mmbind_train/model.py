"""The adaptive network: encoders and heads per modality, a classifier over any subset of them.

Source: paper section 5.2.1 (adaptive architecture) and 5.2.2 (heads onto the unit sphere, F=128).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmbind_data.encoders import REFERENCE_DIM, build_encoder, encoder_dim
from mmbind_data.spec import Modality

from .config import NetworkOptions

REFERENCE_HIDDEN = 1280  # width of the published projection head


class AdaptiveModel(nn.Module):
    """One encoder and one head per modality; an absent modality's feature is zero.

    Parameters
    ----------
    modalities : mapping of name to Modality
        In the order of the columns of every presence mask.
    options : NetworkOptions
    """

    def __init__(self, modalities: Mapping[str, Modality], options: NetworkOptions) -> None:
        super().__init__()
        self.modalities = tuple(modalities)
        self.dim = encoder_dim(options.variant, options.feature_dim)
        hidden = REFERENCE_HIDDEN if self.dim == REFERENCE_DIM else self.dim
        self.encoders = nn.ModuleDict(
            {
                name: build_encoder(
                    modality.kind,
                    modality.shape,
                    variant=options.variant,
                    width=options.width,
                    feature_dim=options.feature_dim,
                )
                for name, modality in modalities.items()
            }
        )
        self.heads = nn.ModuleDict(
            {
                name: nn.Sequential(
                    nn.ReLU(),
                    nn.Linear(self.dim, hidden),
                    nn.ReLU(),
                    nn.Linear(hidden, options.embedding_dim),
                )
                for name in modalities
            }
        )

    def features(
        self,
        inputs: Mapping[str, Tensor],
        present: Tensor,
        *,
        encode_dummies: bool = False,
        only: Sequence[str] | None = None,
    ) -> Tensor:
        """Features of all modalities side by side.

        Parameters
        ----------
        inputs : mapping of name to Tensor, shape (B, *shape), float32
            Standardised; zeros where a row lacks the modality.
        present : Tensor, shape (B, M), bool
        encode_dummies : bool
            Pass the zeros of absent modalities through the encoder, as the published code does.
        only : sequence of str, optional
            Modalities to use; the others count as absent.

        Returns
        -------
        Tensor, shape (B, M, dim), float32
        """
        columns = []
        for column, name in enumerate(self.modalities):
            feature = torch.zeros(len(present), self.dim)
            used = present[:, column] | encode_dummies
            if (only is None or name in only) and used.any():
                if used.all():
                    feature = self.encoders[name](inputs[name])
                else:
                    feature = feature.index_put(
                        (used.nonzero().squeeze(1),), self.encoders[name](inputs[name][used])
                    )
            columns.append(feature)
        return torch.stack(columns, dim=1)

    def embed(self, features: Tensor) -> Tensor:
        """Embeddings z of unit norm, shape (B, M, F), from features, shape (B, M, dim)."""
        columns = [self.heads[name](features[:, k]) for k, name in enumerate(self.modalities)]
        return functional.normalize(torch.stack(columns, dim=1), dim=-1)


class Classifier(nn.Module):
    """One linear layer over the features of all modalities, each brought to one length before.

    Without that the modality with the largest features decides alone while labels are few. A zero
    feature (absent modality) stays zero.
    """

    def __init__(self, n_modalities: int, dim: int, n_classes: int, dropout: float) -> None:
        super().__init__()
        self.scale = dim**0.5
        self.layers = nn.Sequential(nn.Dropout(dropout), nn.Linear(n_modalities * dim, n_classes))

    def forward(self, features: Tensor) -> Tensor:
        """Logits, shape (B, n_classes), from features, shape (B, M, dim)."""
        balanced = self.scale * functional.normalize(features, dim=-1)
        logits: Tensor = self.layers(balanced.flatten(1))
        return logits
