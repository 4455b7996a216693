"""What a network can be trained to do: each objective over rows, as one module.

``forward`` turns a batch into one tensor per row and ``loss`` turns those tensors of a whole batch
into a number. Between the two the rows of all processes come together, so that a row's negatives
are the whole batch however many processes share it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mmbind_train.config import LossOptions, TrainConfig
from mmbind_train.data.batch import Batch, same_sample
from mmbind_train.data.training_set import TrainingSet
from mmbind_train.networks.decoders import decoded_values, decoder_of, row_errors
from mmbind_train.networks.model import AdaptiveModel, Classifier
from mmbind_train.objectives.info_nce import soft_info_nce, weighted_info_nce
from mmbind_train.objectives.soft_targets import PairGraph


class Objective(nn.Module):
    """A network with what is trained beside it, and a loss over rows.

    Attributes
    ----------
    model : AdaptiveModel
    beside : nn.ModuleDict
        Decoders or a classifier that only this stage needs; learnt at the same rate.
    rows : TrainingSet
        What row numbers count.
    """

    def __init__(self, model: AdaptiveModel, rows: TrainingSet) -> None:
        super().__init__()
        self.model = model
        self.rows = rows
        self.beside = nn.ModuleDict()

    def loss(self, outputs: Tensor, chosen: np.ndarray) -> Tensor:
        """Loss of the rows with numbers ``chosen``, (B,), from what forward gave for them."""
        raise NotImplementedError


class Temperature(nn.Module):
    """A temperature that is learnt: embeddings divided by its square root, the loss's is then 1.

    It is part of the forward pass, so that several processes share its gradient. Bounded from below
    by 0.01, as in Radford et al.: CLIP (2021), section 2.5.

    Parameters
    ----------
    start : float
    """

    def __init__(self, start: float) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(-math.log(start)))

    def forward(self, z: Tensor) -> Tensor:
        """Embeddings whose inner products are divided by the temperature."""
        scaled: Tensor = z * (self.log_scale.clamp(max=math.log(100)) / 2).exp()
        return scaled


class Contrasting(Objective):
    """Objectives over embeddings; what they have in common is the temperature."""

    def __init__(self, model: AdaptiveModel, rows: TrainingSet, config: TrainConfig) -> None:
        super().__init__(model, rows)
        self.config = config
        if config.learn_temperature:
            self.beside["temperature"] = Temperature(config.temperature)

    @property
    def temperature(self) -> float:
        """What the loss divides inner products by."""
        return 1.0 if self.config.learn_temperature else self.config.temperature

    def embed(self, features: Tensor) -> Tensor:
        """Embeddings, shape (B, M, F), of unit norm unless the temperature is learnt."""
        z = self.model.embed(features)
        if self.config.learn_temperature:
            z = self.beside["temperature"](z)
        return z

    def soft_loss(
        self, z: Tensor, chosen: np.ndarray, partners: np.ndarray, *, across: bool = False
    ) -> Tensor:
        """`soft_info_nce` of some rows that are partners as given, and of themselves."""
        target, exclude = partners.astype(np.float32), None
        np.fill_diagonal(target, 1)
        if self.config.mask_same_sample:
            exclude = torch.from_numpy(same_sample(self.rows.sample[chosen])).to(z.device)
        return soft_info_nce(
            z,
            torch.from_numpy(self.rows.present[chosen]).to(z.device),
            torch.from_numpy(self.rows.weight[chosen]).to(z.device),
            torch.from_numpy(target).to(z.device),
            temperature=self.temperature,
            same_modality=self.config.pairs.same_modality,
            across=across,
            exclude=exclude,
        )


class Contrast(Contrasting):
    """Agreement of the modalities of a row: weighted InfoNCE, eq. 3."""

    def __init__(
        self,
        model: AdaptiveModel,
        rows: TrainingSet,
        config: TrainConfig,
        loss: LossOptions | None = None,
    ) -> None:
        super().__init__(model, rows, config)
        self.options = loss or config.loss

    def forward(self, batch: Batch) -> Tensor:
        """Embeddings, shape (B, M, F)."""
        features = self.model.features(
            batch.inputs, batch.present, encode_dummies=self.options.dummy_views
        )
        return self.embed(features)

    def loss(self, outputs: Tensor, chosen: np.ndarray) -> Tensor:
        """Mean over the terms of eq. 3 as the options read it."""
        device, exclude = outputs.device, None
        if self.config.mask_same_sample:
            exclude = torch.from_numpy(same_sample(self.rows.sample[chosen])).to(device)
        return weighted_info_nce(
            outputs,
            torch.from_numpy(self.rows.present[chosen]).to(device),
            torch.from_numpy(self.rows.weight[chosen]).to(device),
            temperature=self.temperature,
            exclude=exclude,
            options=self.options,
        )


class SoftContrast(Contrasting):
    """Agreement of the modalities of a row and of its partners: `soft_info_nce`.

    Parameters
    ----------
    model, rows, config
    graph : PairGraph
        Pairs of the rows; each row is its own partner with weight 1 besides.
    """

    def __init__(
        self, model: AdaptiveModel, rows: TrainingSet, config: TrainConfig, graph: PairGraph
    ) -> None:
        super().__init__(model, rows, config)
        self.graph = graph

    def forward(self, batch: Batch) -> Tensor:
        """Embeddings, shape (B, M, F)."""
        return self.embed(self.model.features(batch.inputs, batch.present))

    def loss(self, outputs: Tensor, chosen: np.ndarray) -> Tensor:
        """Mean cross entropy between targets and similarities."""
        partners = self.graph.among(chosen, steps=self.config.pairs.steps)
        return self.soft_loss(outputs, chosen, partners, across=True)


class Classify(Contrasting):
    """Classes from labelled rows: cross entropy of a classifier over whatever a row has.

    With ``contrast``, rows of one label are partners besides: `soft_info_nce`, same weight.
    """

    def __init__(
        self,
        model: AdaptiveModel,
        rows: TrainingSet,
        config: TrainConfig,
        *,
        contrast: bool = False,
    ) -> None:
        super().__init__(model, rows, config)
        self.contrast = contrast
        self.n_classes = len(rows.label_names)
        self.beside["classifier"] = Classifier(
            len(rows.modalities), model.dim, self.n_classes, config.dropout
        )

    @property
    def classifier(self) -> Classifier:
        """The classifier that is learnt."""
        return cast("Classifier", self.beside["classifier"])

    def forward(self, batch: Batch) -> Tensor:
        """Logits, and behind them the embeddings: shape (B, n_classes [+ M F])."""
        features = self.model.features(batch.inputs, batch.present)
        logits: Tensor = self.classifier(features)
        if not self.contrast:
            return logits
        return torch.cat([logits, self.embed(features).flatten(1)], dim=1)

    def loss(self, outputs: Tensor, chosen: np.ndarray) -> Tensor:
        """Mean cross entropy over the rows that have a label, and the contrast."""
        label = torch.from_numpy(self.rows.label[chosen]).to(outputs.device)
        logits = outputs[:, : self.n_classes]
        total = functional.cross_entropy(logits, label, ignore_index=-1, reduction="sum")
        entropy = total / (label >= 0).sum().clamp(min=1)
        if not self.contrast:
            return entropy
        codes = self.rows.label[chosen]
        partners = (codes[:, None] == codes[None, :]) & (codes >= 0)[:, None]
        z = outputs[:, self.n_classes :].view(len(outputs), len(self.rows.modalities), -1)
        return entropy + self.soft_loss(z, chosen, partners)


class Reconstruct(Objective):
    """Every modality from its own feature: one autoencoder per modality, eq. 1.

    What the error of a modality is depends on its kind: see `decoders`.
    """

    def __init__(
        self, model: AdaptiveModel, rows: TrainingSet, only: Sequence[str] | None = None
    ) -> None:
        super().__init__(model, rows)
        self.only = tuple(only or rows.modalities)
        for name in self.only:
            self.beside[name] = decoder_of(rows.modalities[name], model.dims[name])

    def forward(self, batch: Batch) -> Tensor:
        """Mean error per row and modality, shape (B, M); 0 where absent."""
        features = self.model.features(batch.inputs, batch.present, only=self.only)
        columns = [torch.zeros_like(features[:, 0, 0]) for _ in self.rows.modalities]
        for column, (name, modality) in enumerate(self.rows.modalities.items()):
            if name in self.only:
                decoded = self.beside[name](features[:, column, : self.model.dims[name]])
                errors = row_errors(decoded, batch.inputs[name], modality)
                columns[column] = torch.where(batch.present[:, column], errors, 0.0)
        return torch.stack(columns, dim=1)

    def loss(self, outputs: Tensor, chosen: np.ndarray) -> Tensor:
        """Sum over the modalities of the mean error of the rows that have it."""
        return _mean_of_present(outputs, self.rows.present[chosen])


class Translate(Objective):
    """Every other modality from the shared one, learnt where a row has both.

    Source: paper section 6.1.2, "Cross-Modality Generation".
    """

    def __init__(self, model: AdaptiveModel, rows: TrainingSet, shared: str) -> None:
        super().__init__(model, rows)
        self.shared = tuple(rows.modalities).index(shared)
        for name, modality in rows.modalities.items():
            if name != shared:
                self.beside[name] = decoder_of(modality, model.dims[shared])

    def _decode(self, inputs: Mapping[str, Tensor], present: Tensor, name: str) -> Tensor:
        shared = tuple(self.rows.modalities)[self.shared]
        features = self.model.features(inputs, present, only=[shared])
        decoded: Tensor = self.beside[name](features[:, self.shared, : self.model.dims[shared]])
        return decoded

    def generate(self, inputs: Mapping[str, Tensor], present: Tensor, name: str) -> Tensor:
        """A modality from the shared one as it would enter its encoder, shape (B, *shape)."""
        return decoded_values(self._decode(inputs, present, name), self.rows.modalities[name])

    def forward(self, batch: Batch) -> Tensor:
        """Mean error per row and modality, shape (B, M); 0 where not to be had."""
        columns = []
        for column, (name, modality) in enumerate(self.rows.modalities.items()):
            both = batch.present[:, column] & batch.present[:, self.shared]
            if name in self.beside:
                decoded = self._decode(batch.inputs, batch.present, name)
                errors = row_errors(decoded, batch.inputs[name], modality)
                columns.append(torch.where(both, errors, 0.0))
            else:
                columns.append(torch.zeros(len(both), device=both.device))
        return torch.stack(columns, dim=1)

    def loss(self, outputs: Tensor, chosen: np.ndarray) -> Tensor:
        """Sum over the modalities of the mean error of the rows that have it and the shared one."""
        present = self.rows.present[chosen]
        return _mean_of_present(outputs, present & present[:, self.shared : self.shared + 1])


def _mean_of_present(errors: Tensor, present: np.ndarray) -> Tensor:
    counts = torch.from_numpy(present).to(errors.device).sum(dim=0).clamp(min=1)
    return (errors.sum(dim=0) / counts).sum()
