"""The parts of a run that work without mmbind: physical units in, features and logits out.

Letters: n samples, M modalities.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmbind_data.scale import Recentre, Statistics
from mmbind_data.spec import Modality

from .config import Space
from .inputs import standardise
from .model import AdaptiveModel, Classifier


class ModalityPart(nn.Module):
    """Encoder and head of one modality, and what a sample goes through in front of them.

    Parameters
    ----------
    model : AdaptiveModel
        Not changed: its parts are copied.
    name : str
    modality : Modality
    statistics : Statistics
    recentre : {"frame", "first", "none"}
        Of skeletons.
    """

    def __init__(
        self,
        model: AdaptiveModel,
        name: str,
        modality: Modality,
        statistics: Statistics,
        recentre: Recentre,
    ) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(model.encoders[name]).cpu().eval()
        self.head = copy.deepcopy(model.heads[name]).cpu().eval()
        self.modality, self.statistics, self.recentre = modality, statistics, recentre

    def forward(self, values: Tensor, present: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Encode samples of one modality.

        Parameters
        ----------
        values : Tensor, shape (n, *shape), float32
            In the modality's unit; point clouds padded with NaN.
        present : Tensor, shape (n, M), bool, optional
            Which modalities the sample has; given if and only if the network is told of it.

        Returns
        -------
        feature : Tensor, shape (n, dim), float32
        embedding : Tensor, shape (n, F), float32
            Of unit norm.
        """
        centred = recentred(values, self.modality, self.recentre)
        feature = self.encoder(standardise(centred, self.modality, self.statistics))
        prompted = feature if present is None else torch.cat([feature, present.float()], dim=-1)
        return feature, functional.normalize(self.head(prompted), dim=-1)


def recentred(values: Tensor, modality: Modality, recentre: Recentre) -> Tensor:
    """What `mmbind_data.scale.centre` does, in operations that can be exported."""
    if modality.kind != "skeleton" or recentre == "none":
        return values
    frames = values if recentre == "frame" else values[:, :1]
    if modality.root is None:
        return values - frames.mean(dim=2, keepdim=True)
    root = (modality.axes[1].names or ()).index(modality.root)
    return values - frames[:, :, root : root + 1]


class ClassifierPart(nn.Module):
    """From what the parts of the modalities give to the logits of the classes.

    Parameters
    ----------
    model : AdaptiveModel
    classifier : Classifier
        Not changed.
    space : {"feature", "embedding"}
        What it reads.
    given : tuple of str
        Modalities in the order of the inputs; all others of the model are absent.
    """

    def __init__(
        self, model: AdaptiveModel, classifier: Classifier, space: Space, given: tuple[str, ...]
    ) -> None:
        super().__init__()
        self.classifier = copy.deepcopy(classifier).cpu().eval()
        self.columns = [given.index(name) if name in given else None for name in model.modalities]
        self.prompted = model.n_prompt > 0 and space == "feature"
        self.width = model.width(space)
        self.reads = space

    def forward(self, present: Tensor, *read: Tensor) -> Tensor:
        """Logits, shape (n, classes).

        Parameters
        ----------
        present : Tensor, shape (n, M of `given`), bool
        *read : Tensor, shape (n, dim of the modality), float32
            Features, or embeddings; where a modality is absent anything, it is not looked at.
        """
        mask, columns = present.float(), []
        nothing = torch.zeros_like(mask[:, :1])
        everybody = torch.cat(
            [nothing if k is None else mask[:, k : k + 1] for k in self.columns], dim=1
        )
        for k in self.columns:
            longest = self.width - (len(self.columns) if self.prompted else 0)
            if k is None:
                column = nothing.expand(-1, longest)
            else:
                own = torch.where(present[:, k : k + 1], read[k], 0.0)
                column = functional.pad(own, (0, longest - own.shape[1]))
            columns.append(torch.cat([column, everybody], dim=1) if self.prompted else column)
        logits: Tensor = self.classifier(torch.stack(columns, dim=1))
        return logits
