"""The adaptive network: encoders and heads per modality, a classifier over any subset of them.

Source: paper section 5.2.1 (adaptive architecture) and 5.2.2 (heads onto the unit sphere, F=128).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmbind_data.embedding.encoders import build_encoder, encoder_dim, reference_of
from mmbind_data.errors import UsageError
from mmbind_data.spec.descriptor import Modality
from mmbind_train.config import NetworkOptions, Space

EVERY = "every_modality"  # name of a head that all share


class AdaptiveModel(nn.Module):
    """One encoder and one head per modality; an absent modality's feature is zero.

    The modalities are in the order of the columns of every presence mask.

    Examples
    --------
    >>> axes = [{"name": "time", "size": 40}, {"name": "channel", "size": 3}]
    >>> acc = Modality.model_validate({"kind": "inertial", "unit": "m/s^2", "axes": axes})
    >>> model = AdaptiveModel({"acc": acc}, NetworkOptions())
    >>> present = torch.ones(8, 1, dtype=torch.bool)
    >>> features = model.features({"acc": torch.zeros(8, 40, 3)}, present)
    >>> features.shape, model.embed(features).shape
    (torch.Size([8, 1, 128]), torch.Size([8, 1, 128]))
    """

    def __init__(self, modalities: Mapping[str, Modality], options: NetworkOptions) -> None:
        super().__init__()
        variant, size = options.variant, options.feature_dim
        self.modalities = tuple(modalities)
        self.dims = {
            name: encoder_dim(one, variant=variant, feature_dim=size)
            for name, one in modalities.items()
        }
        self.n_prompt = len(modalities) if options.prompt else 0
        self.dim = max(self.dims.values()) + self.n_prompt
        self.embedding_dim = options.embedding_dim
        self.dummy_value = options.dummy_value
        self.shared_head = options.shared_head
        if options.shared_head and len(set(self.dims.values())) > 1:
            sizes = ", ".join(f"{name} {size}" for name, size in self.dims.items())
            raise UsageError(
                cannot="share a head",
                problem="features differ in length",
                at="network.shared_head",
                expected="the compact encoders, whose features have one length",
                got=sizes,
            )
        self.encoders, self.heads = nn.ModuleDict(), nn.ModuleDict()
        for name, one in modalities.items():
            self.encoders[name] = build_encoder(
                one, variant=variant, width=options.width, feature_dim=size
            )
        for name, one in modalities.items():  # as published, or as wide as the feature
            hidden = reference_of(one).hidden if variant == "reference" else size
            entry = nn.Linear(self.dims[name] + self.n_prompt, hidden)
            leave = nn.Linear(hidden, self.embedding_dim)
            self.heads[self._head(name)] = nn.Sequential(nn.ReLU(), entry, nn.ReLU(), leave)

    def head(self, name: str) -> nn.Module:
        """The projection head of a modality."""
        return self.heads[self._head(name)]

    def _head(self, name: str) -> str:
        return EVERY if self.shared_head else name

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
            Pass the zeros of absent modalities through the encoder, as the published code does;
            the statistics of batch normalisation still come from present rows alone.
        only : sequence of str, optional
            Modalities to use; the others count as absent.

        Returns
        -------
        Tensor, shape (B, M, dim), float32
            A feature shorter than `dim` is padded with zeros; with a prompt, the presence mask is
            at the end.
        """
        columns, longest = [], self.dim - self.n_prompt
        for column, name in enumerate(self.modalities):
            feature = torch.zeros(len(present), self.dims[name], device=present.device)
            here = present[:, column]
            if only is not None and name not in only:
                here = torch.zeros_like(here)
            elif encode_dummies and not here.all():
                with _fixed_statistics(self.encoders[name]):
                    dummy = torch.full_like(inputs[name][:1], self.dummy_value)
                    feature = self.encoders[name](dummy).expand(len(present), -1)
            if here.all():
                feature = self.encoders[name](inputs[name])
            elif here.any():
                encoded = self.encoders[name](inputs[name][here])
                feature = feature.to(encoded.dtype).index_put((here.nonzero().squeeze(1),), encoded)
            columns.append(functional.pad(feature, (0, longest - self.dims[name])))
        features = torch.stack(columns, dim=1)
        if self.n_prompt == 0:
            return features
        mask = present.to(features.dtype).unsqueeze(1).expand(-1, len(self.modalities), -1)
        return torch.cat([features, mask], dim=-1)

    def compile_encoders(self) -> None:
        """Let torch compile the encoders, for any number of rows; names and weights stay."""
        for encoder in self.encoders.values():
            encoder.compile(dynamic=True)

    @property
    def device(self) -> torch.device:
        """Device of the network's weights."""
        return next(self.parameters()).device

    def embed(self, features: Tensor) -> Tensor:
        """Embeddings z of unit norm, shape (B, M, F), from features, shape (B, M, dim)."""
        prompt = features[:, 0, self.dim - self.n_prompt :]
        columns = []
        for k, name in enumerate(self.modalities):
            own = features[:, k, : self.dims[name]]
            columns.append(self.head(name)(torch.cat([own, prompt], dim=-1)))
        return functional.normalize(torch.stack(columns, dim=1), dim=-1)

    def represent(self, inputs: Mapping[str, Tensor], present: Tensor, space: Space) -> Tensor:
        """What a classifier reads, (B, M, `width`), zero where a modality is absent."""
        features = self.features(inputs, present)
        if space == "feature":
            return features
        return self.embed(features) * present.unsqueeze(-1)

    def width(self, space: Space) -> int:
        """Values per modality of `represent`."""
        return self.dim if space == "feature" else self.embedding_dim


@contextmanager
def _fixed_statistics(encoder: nn.Module) -> Iterator[None]:
    """Let batch normalisation use its running statistics unchanged, without dropout."""
    kinds = (nn.modules.batchnorm._BatchNorm, nn.Dropout)
    stopped = [one for one in encoder.modules() if isinstance(one, kinds) and one.training]
    for module in stopped:
        module.training = False
    try:
        yield
    finally:
        for module in stopped:
            module.training = True


class Classifier(nn.Module):
    """One linear layer over the features of all modalities, each scaled to one length.

    Otherwise the modality with the largest features would decide alone while labels are few. The
    zero feature of an absent modality stays zero.
    """

    def __init__(self, n_modalities: int, dim: int, n_classes: int, dropout: float) -> None:
        super().__init__()
        self.scale = dim**0.5
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(n_modalities * dim, n_classes)

    def forward(self, features: Tensor) -> Tensor:
        """Logits, shape (B, n_classes), from features, shape (B, M, dim)."""
        balanced = self.scale * functional.normalize(features, dim=-1)
        logits: Tensor = self.linear(self.dropout(balanced.flatten(1)))
        return logits


class SharedClassifier(Classifier):
    """The same linear layer for every modality; the logits of those present are added.

    What it learns from one modality therefore holds for another whose embeddings are aligned.
    """

    def __init__(self, dim: int, n_classes: int, dropout: float) -> None:
        super().__init__(1, dim, n_classes, dropout)

    def forward(self, features: Tensor) -> Tensor:
        """Logits, shape (B, n_classes), from features, shape (B, M, dim)."""
        balanced = self.scale * functional.normalize(features, dim=-1)
        logits: Tensor = self.linear(self.dropout(balanced.sum(dim=1)))
        return logits

    @torch.no_grad()
    def for_each(self, n_modalities: int) -> Classifier:
        """The same function as a `Classifier` of so many modalities."""
        found = Classifier(
            n_modalities, self.linear.in_features, self.linear.out_features, self.dropout.p
        ).to(self.linear.weight.device)
        found.linear.weight.copy_(self.linear.weight.repeat(1, n_modalities))
        found.linear.bias.copy_(self.linear.bias)
        return found.train(self.training)
