"""The objectives that a network can be trained with, each one module over rows.

``forward`` turns a batch into one tensor per row and ``loss`` turns the tensors of a whole batch
into a number. In between the rows of all processes are gathered, so that a row's negatives are the
whole batch, however many processes share it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

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
from mmbind_train.objectives.pair_graph import PairGraph


class Objective(nn.Module):
    """A network, the auxiliary modules that only this stage needs, and a loss over rows.

    Decoders, a classifier or a temperature are auxiliary, learnt at the same rate.
    """

    def __init__(self, model: AdaptiveModel, rows: TrainingSet) -> None:
        super().__init__()
        self.model = model
        self.rows = rows
        self.auxiliary = nn.ModuleDict()

    def loss(self, outputs: Tensor, chosen: np.ndarray) -> Tensor:
        """Loss of the rows with numbers ``chosen``, (B,), from what forward returned for them."""
        raise NotImplementedError

    def arrange(self, order: np.ndarray, batch: int, rng: np.random.Generator) -> np.ndarray:
        """The rows of an epoch, batch by batch, from their shuffled order, (n,) int: as they are.

        An objective that needs certain rows in one batch adds them; the first row of each batch is
        of the order, and no other batch begins with it.
        """
        del batch, rng
        return order


class Temperature(nn.Module):
    """A learnt temperature: embeddings are divided by its square root, and the loss uses 1.

    It is part of the forward pass, so that several processes share its gradient. It is at least
    0.01, as in Radford et al.: CLIP (2021), section 2.5.
    """

    def __init__(self, start: float) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(-math.log(start)))

    def forward(self, z: Tensor) -> Tensor:
        """Embeddings whose inner products are divided by the temperature."""
        scaled: Tensor = z * (self.log_scale.clamp(max=math.log(100)) / 2).exp()
        return scaled


class Contrasting(Objective):
    """Objectives over embeddings, which share the temperature and what excludes negatives."""

    def __init__(self, model: AdaptiveModel, rows: TrainingSet, config: TrainConfig) -> None:
        super().__init__(model, rows)
        self.config = config
        if config.learn_temperature:
            self.auxiliary["temperature"] = Temperature(config.temperature)

    def embed(self, features: Tensor) -> Tensor:
        """Embeddings, shape (B, M, F), of unit norm unless the temperature is learnt."""
        z = self.model.embed(features)
        return self.auxiliary["temperature"](z) if self.config.learn_temperature else z

    def soft_loss(
        self, z: Tensor, chosen: np.ndarray, target: np.ndarray, *, across: float = 0.0
    ) -> Tensor:
        """`soft_info_nce` of some rows with targets of shape (B, B)."""
        return soft_info_nce(
            z,
            target=torch.from_numpy(target.astype(np.float32)).to(z.device),
            same_modality=self.config.pairs.same_modality,
            across=across,
            **self._arguments(chosen, z.device),
        )

    def _arguments(self, chosen: np.ndarray, device: torch.device) -> dict[str, Any]:
        """The arguments that both kinds of InfoNCE take from the rows and the configuration."""
        exclude = None
        if self.config.mask_same_sample:
            exclude = torch.from_numpy(same_sample(self.rows.sample[chosen])).to(device)
        return {
            "present": torch.from_numpy(self.rows.present[chosen]).to(device),
            "weight": torch.from_numpy(self.rows.weight[chosen]).to(device),
            "temperature": 1.0 if self.config.learn_temperature else self.config.temperature,
            "exclude": exclude,
        }


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
        dummies = self.options.dummy_views
        return self.embed(self.model.features(batch.inputs, batch.present, encode_dummies=dummies))

    def loss(self, outputs: Tensor, chosen: np.ndarray) -> Tensor:
        """Mean over the terms of eq. 3 as the options read it."""
        arguments = self._arguments(chosen, outputs.device)
        return weighted_info_nce(outputs, options=self.options, **arguments)


class SoftContrast(Contrasting):
    """Agreement of the modalities of a row and of its partners: `soft_info_nce`.

    ``graph`` has the pairs of the rows. A share of every batch are partners of its other rows.
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
        pairs = self.config.pairs
        target = self.graph.among(chosen, steps=pairs.steps)
        return self.soft_loss(outputs, chosen, target, across=pairs.across)

    def arrange(self, order: np.ndarray, batch: int, rng: np.random.Generator) -> np.ndarray:
        """Samples of the order, and partners of some of them."""
        return self.graph.with_partners(order, batch, self.config.pairs.drawn, rng)


class Classify(Contrasting):
    """Classes from labelled rows: cross entropy of a classifier over whatever a row has.

    With ``contrast``, `soft_info_nce` with rows of one label as partners is added with weight 1.
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
        self.contrast, self.n_classes = contrast, len(rows.label_names)
        self.auxiliary["classifier"] = Classifier(
            len(rows.modalities), model.dim, self.n_classes, config.dropout
        )

    @property
    def classifier(self) -> Classifier:
        """The classifier that is learnt."""
        return cast("Classifier", self.auxiliary["classifier"])

    def forward(self, batch: Batch) -> Tensor:
        """Logits, followed by the embeddings with contrast: shape (B, n_classes [+ M F])."""
        features = self.model.features(batch.inputs, batch.present)
        logits: Tensor = self.classifier(features)
        if not self.contrast:
            return logits
        return torch.cat([logits, self.embed(features).flatten(1)], dim=1)

    def loss(self, outputs: Tensor, chosen: np.ndarray) -> Tensor:
        """Mean cross entropy over the rows that have a label, and the contrast."""
        codes = self.rows.label[chosen]
        label = torch.from_numpy(codes).to(outputs.device)
        logits = outputs[:, : self.n_classes]
        total = functional.cross_entropy(logits, label, ignore_index=-1, reduction="sum")
        entropy = total / (label >= 0).sum().clamp(min=1)
        if not self.contrast:
            return entropy
        alike = (codes[:, None] == codes[None, :]) & (codes >= 0)[:, None]
        z = outputs[:, self.n_classes :].view(len(outputs), len(self.rows.modalities), -1)
        return entropy + self.soft_loss(z, chosen, alike | np.eye(len(codes), dtype=bool))


class Decode(Objective):
    """Modalities decoded from features; the error of each depends on its kind, see `decoders`.

    ``source_of`` names, for each modality that is decoded, the one from whose feature.
    """

    def __init__(
        self, model: AdaptiveModel, rows: TrainingSet, source_of: Mapping[str, str]
    ) -> None:
        super().__init__(model, rows)
        self.source_of = source_of
        for name, source in source_of.items():
            self.auxiliary[name] = decoder_of(rows.modalities[name], model.dims[source])
        names = list(rows.modalities)
        self.columns = [names.index(source_of.get(name, name)) for name in names]

    def forward(self, batch: Batch) -> Tensor:
        """Mean error per row and modality, shape (B, M); 0 unless the row has it and its source."""
        columns = []
        for column, (name, modality) in enumerate(self.rows.modalities.items()):
            errors = torch.zeros(len(batch.present), device=batch.present.device)
            if name in self.source_of:
                decoded = self._decoded(batch.inputs, batch.present, name)
                errors = row_errors(decoded, batch.inputs[name], modality)
            both = batch.present[:, column] & batch.present[:, self.columns[column]]
            columns.append(torch.where(both, errors, 0.0))
        return torch.stack(columns, dim=1)

    def loss(self, outputs: Tensor, chosen: np.ndarray) -> Tensor:
        """Sum over the modalities of the mean error of the rows that have it and its source."""
        present = self.rows.present[chosen]
        counts = torch.from_numpy(present & present[:, self.columns]).to(outputs.device).sum(dim=0)
        return (outputs.sum(dim=0) / counts.clamp(min=1)).sum()

    def _decoded(self, inputs: Mapping[str, Tensor], present: Tensor, name: str) -> Tensor:
        source = self.source_of[name]
        column = tuple(self.rows.modalities).index(source)
        features = self.model.features(inputs, present, only=[source])
        decoded: Tensor = self.auxiliary[name](features[:, column, : self.model.dims[source]])
        return decoded


class Reconstruct(Decode):
    """Every modality from its own feature: one autoencoder per modality, eq. 1."""

    def __init__(
        self, model: AdaptiveModel, rows: TrainingSet, only: Sequence[str] | None = None
    ) -> None:
        super().__init__(model, rows, {name: name for name in only or rows.modalities})


class Translate(Decode):
    """Every other modality from the shared one, learnt from the rows that have both.

    Source: MMBind paper, section 6.1.2, "Cross-Modality Generation".
    """

    def __init__(self, model: AdaptiveModel, rows: TrainingSet, shared: str) -> None:
        super().__init__(model, rows, {name: shared for name in rows.modalities if name != shared})
        self.shared = shared

    def generate(self, inputs: Mapping[str, Tensor], present: Tensor, name: str) -> Tensor:
        """A modality from the shared one as it would enter its encoder, shape (B, *shape)."""
        return decoded_values(self._decoded(inputs, present, name), self.rows.modalities[name])
