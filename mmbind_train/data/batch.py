"""From rows in memory to the tensors of one batch: augmented, standardised, zero where absent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mmbind_data.signal.normalise import Statistics
from mmbind_data.spec.descriptor import Modality
from mmbind_train.config import Augmentation
from mmbind_train.data.augment import augment, draw_flips, jitter
from mmbind_train.data.training_set import TrainingSet


@dataclass(frozen=True)
class Batch:
    """Tensors of one batch.

    Attributes
    ----------
    inputs : mapping of name to Tensor, shape (B, *shape), float32
        Of point clouds P may be smaller: the largest frame of the batch.
    present : Tensor, shape (B, M), bool
    weight : Tensor, shape (B,), float32
    label : Tensor, shape (B,), int64
    """

    inputs: Mapping[str, Tensor]
    present: Tensor
    weight: Tensor
    label: Tensor

    def take(self, places: np.ndarray) -> Batch:
        """Some rows of the batch."""
        kept = torch.from_numpy(places)
        return Batch(
            inputs={name: one[kept] for name, one in self.inputs.items()},
            present=self.present[kept],
            weight=self.weight[kept],
            label=self.label[kept],
        )

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device; from pinned memory the copy does not wait."""
        if device.type == "cpu":
            return self
        pinned = device.type == "cuda"

        def move(one: Tensor) -> Tensor:
            return (one.pin_memory() if pinned else one).to(device, non_blocking=pinned)

        return Batch(
            inputs={name: move(one) for name, one in self.inputs.items()},
            present=move(self.present),
            weight=move(self.weight),
            label=move(self.label),
        )


def make_batch(
    rows: TrainingSet,
    chosen: np.ndarray,
    statistics: Mapping[str, Statistics],
    augmentation: Augmentation | None = None,
    rng: torch.Generator | None = None,
) -> Batch:
    """Put the chosen rows together.

    Parameters
    ----------
    rows : TrainingSet
    chosen : ndarray of int, shape (B,)
    statistics : mapping of name to Statistics
    augmentation : Augmentation, optional
        None: the values as they are.
    rng : torch.Generator, optional
        Needed with augmentation.
    """
    index = rows.index[chosen]
    stills = any(one.kind == "image" for one in rows.modalities.values())
    flips = None
    if augmentation is not None and rng is not None and stills:
        flips = draw_flips(len(chosen), augmentation, rng)
    inputs = {}
    for column, (name, modality) in enumerate(rows.modalities.items()):
        here = np.flatnonzero(index[:, column] >= 0)
        values = torch.from_numpy(rows.values[name][index[here, column]])
        if modality.kind == "point_cloud":
            values = _without_padding(values)
        if augmentation is not None and rng is not None and len(here):
            flipped = flips[torch.from_numpy(here)] if flips is not None else None
            changed = augment(values, modality, augmentation, rng, flipped)
            scaled = standardise(changed, modality, statistics[name])
            values = jitter(scaled, modality, augmentation, rng)
        else:
            values = standardise(values, modality, statistics[name])
        filled = torch.zeros(len(chosen), *values.shape[1:])
        filled[torch.from_numpy(here)] = values
        inputs[name] = filled
    return Batch(
        inputs=inputs,
        present=torch.from_numpy(index >= 0),
        weight=torch.from_numpy(rows.weight[chosen]),
        label=torch.from_numpy(rows.label[chosen]),
    )


def standardise(values: Tensor, modality: Modality, statistics: Statistics) -> Tensor:
    """Subtract the mean, divide by the deviation; pixels without a reading become 0.

    Class numbers stay what they are.
    """
    if modality.classes is not None:
        return values
    mean = torch.tensor(statistics.mean, device=values.device)
    std = torch.tensor(statistics.std, device=values.device)
    scaled = (values - mean) / std
    if modality.background is not None:
        return torch.where(values == modality.background, 0.0, scaled)
    return scaled


def drop_modalities(present: Tensor, share: float, rng: torch.Generator) -> Tensor:
    """Take modalities away at random; a row keeps at least one that it has.

    Parameters
    ----------
    present : Tensor, shape (B, M), bool
    share : float
        Each modality of a row goes with this probability; 0 changes nothing and draws nothing.
    rng : torch.Generator

    Returns
    -------
    Tensor, shape (B, M), bool
    """
    if not share:
        return present
    kept = present & (torch.rand(present.shape, generator=rng) >= share)
    # of those that would be left with nothing, the modality with the largest draw stays
    draw = torch.rand(present.shape, generator=rng).masked_fill(~present, -1.0)
    last = torch.zeros_like(present).scatter(1, draw.argmax(dim=1, keepdim=True), value=True)
    return torch.where(kept.any(dim=1, keepdim=True), kept, last & present)


def same_sample(sample: np.ndarray) -> np.ndarray:
    """Which rows share a source sample: (B, M) codes -> (B, B) bool; -1 matches nothing."""
    equal = sample[:, None, :, None] == sample[None, :, None, :]
    shared: np.ndarray = (equal & (sample >= 0)[:, None, :, None]).any(axis=(2, 3))
    return shared


def _without_padding(values: Tensor) -> Tensor:
    """Cut (n, T, P, C) clouds, padded behind the last point, to the largest frame."""
    n_points = int((~values[..., 0].isnan()).sum(dim=2).max()) if len(values) else 0
    return values[:, :, : max(1, n_points)]
