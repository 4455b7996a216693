"""From rows in memory to the tensors of one batch: augmented, standardised, zero where absent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mmbind_data.signal.normalise import Statistics
from mmbind_data.spec.descriptor import Modality
from mmbind_train.config import Augmentation
from mmbind_train.data.augment import augment, draw_flips, jitter
from mmbind_train.data.training_set import TrainingSet

AT_ONCE = 256  # rows


@dataclass(frozen=True)
class Batch:
    """Tensors of one batch; point clouds have room for its largest frame, or for more."""

    inputs: Mapping[str, Tensor]  # by modality: (B, *shape), float32
    present: Tensor  # (B, M), bool
    weight: Tensor  # (B,), float32
    label: Tensor  # (B,), int64

    def take(self, places: np.ndarray) -> Batch:
        """Some rows of the batch, by their numbers, shape (n,)."""
        kept = torch.from_numpy(places)
        return self._each(lambda one: one[kept])

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device; the copy from pinned memory is asynchronous."""
        if device.type == "cpu":
            return self
        pinned = device.type == "cuda"
        return self._each(
            lambda one: (one.pin_memory() if pinned else one).to(device, non_blocking=pinned)
        )

    def _each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        inputs = {name: change(one) for name, one in self.inputs.items()}
        return Batch(inputs, change(self.present), change(self.weight), change(self.label))


def make_batch(
    rows: TrainingSet,
    chosen: np.ndarray,
    statistics: Mapping[str, Statistics],
    augmentation: Augmentation | None = None,
    rng: torch.Generator | None = None,
) -> Batch:
    """Put the rows with numbers ``chosen``, (B,), together; ``augmentation`` requires ``rng``."""
    index, flips, inputs = rows.index[chosen], None, {}
    stills = any(one.kind == "image" for one in rows.modalities.values())
    if augmentation is not None and rng is not None and stills:
        flips = draw_flips(len(chosen), augmentation, rng)
    for column, (name, modality) in enumerate(rows.modalities.items()):
        here = np.flatnonzero(index[:, column] >= 0)
        given = torch.from_numpy(here)
        values = torch.from_numpy(rows.values[name][index[here, column]])
        if modality.kind == "point_cloud":
            values = _without_padding(values)
        if augmentation is not None and rng is not None and len(here):
            flipped = None if flips is None else flips[given]
            values = augment(values, modality, augmentation, rng, flipped)
            values = standardise(values, modality, statistics[name])
            values = jitter(values, modality, augmentation, rng)
        else:
            values = standardise(values, modality, statistics[name])
        inputs[name] = torch.zeros(len(chosen), *values.shape[1:])
        inputs[name][given] = values
    weight, label = torch.from_numpy(rows.weight[chosen]), torch.from_numpy(rows.label[chosen])
    return Batch(inputs, torch.from_numpy(index >= 0), weight, label)


def all_batches(
    rows: TrainingSet, statistics: Mapping[str, Statistics], device: torch.device
) -> Iterator[Batch]:
    """All rows in their order, `AT_ONCE` at a time, as they are."""
    for start in range(0, len(rows), AT_ONCE):
        chosen = np.arange(start, min(start + AT_ONCE, len(rows)))
        yield make_batch(rows, chosen, statistics).to(device)


def standardise(values: Tensor, modality: Modality, statistics: Statistics) -> Tensor:
    """Subtract the mean, divide by the deviation; pixels without a reading become 0.

    Class numbers are not changed. `signal.normalise.standardise` does it for numpy, without kinds.
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
    """Remove each modality with probability ``share``; a row keeps at least one of its own.

    From a presence mask, (B, M) bool, to another; a share of 0 draws nothing.
    """
    if not share:
        return present
    kept = present & (torch.rand(present.shape, generator=rng) >= share)
    # a row that would lose all of them keeps the one with the largest draw
    draw = torch.rand(present.shape, generator=rng).masked_fill(~present, -1.0)
    last = torch.zeros_like(present).scatter(1, draw.argmax(dim=1, keepdim=True), value=True)
    return torch.where(kept.any(dim=1, keepdim=True), kept, last & present)


def same_sample(sample: np.ndarray) -> np.ndarray:
    """Which rows share a source sample: (B, M) codes -> (B, B) bool; -1 equals nothing."""
    equal = sample[:, None, :, None] == sample[None, :, None, :]
    shared: np.ndarray = (equal & (sample >= 0)[:, None, :, None]).any(axis=(2, 3))
    return shared


def _without_padding(values: Tensor) -> Tensor:
    """Cut (n, T, P, C) clouds, padded behind the last point, to the largest frame."""
    n_points = int((~values[..., 0].isnan()).sum(dim=2).max()) if len(values) else 0
    return values[:, :, : max(1, n_points)]
