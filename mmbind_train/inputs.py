"""From rows in memory to the tensors of one batch: augmented, standardised, zero where absent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mmbind_data.scale import Statistics
from mmbind_data.spec import Modality

from .augment import augment
from .batches import Rows
from .config import Augmentation

AUGMENTED_KINDS = ("inertial", "skeleton")


@dataclass(frozen=True)
class Batch:
    """Tensors of one batch.

    Attributes
    ----------
    inputs : mapping of name to Tensor, shape (B, *shape), float32
    present : Tensor, shape (B, M), bool
    weight : Tensor, shape (B,), float32
    label : Tensor, shape (B,), int64
    same_sample : Tensor, shape (B, B), bool
        Whether two rows hold a sample of the same uid.
    """

    inputs: Mapping[str, Tensor]
    present: Tensor
    weight: Tensor
    label: Tensor
    same_sample: Tensor


def make_batch(
    rows: Rows,
    chosen: np.ndarray,
    statistics: Mapping[str, Statistics],
    augmentation: Augmentation | None = None,
    rng: torch.Generator | None = None,
) -> Batch:
    """Put the chosen rows together.

    Parameters
    ----------
    rows : Rows
    chosen : ndarray of int, shape (B,)
    statistics : mapping of name to Statistics
    augmentation : Augmentation, optional
        None: the values as they are.
    rng : torch.Generator, optional
        Needed with augmentation.
    """
    index = rows.index[chosen]
    inputs = {}
    for column, (name, modality) in enumerate(rows.modalities.items()):
        here = np.flatnonzero(index[:, column] >= 0)
        raw = torch.from_numpy(rows.values[name][index[here, column]])
        changed = augmentation is not None and rng is not None
        changed = changed and modality.kind in AUGMENTED_KINDS and len(here) > 0
        if changed and augmentation is not None and rng is not None:
            values = standardise(augment(raw, augmentation, rng), modality, statistics[name])
            values = values + augmentation.jitter * torch.randn(values.shape, generator=rng)
        else:
            values = standardise(raw, modality, statistics[name])
        filled = torch.zeros(len(chosen), *modality.shape)
        filled[torch.from_numpy(here)] = values
        inputs[name] = filled
    return Batch(
        inputs=inputs,
        present=torch.from_numpy(index >= 0),
        weight=torch.from_numpy(rows.weight[chosen]),
        label=torch.from_numpy(rows.label[chosen]),
        same_sample=torch.from_numpy(same_sample(rows.sample[chosen])),
    )


def standardise(values: Tensor, modality: Modality, statistics: Statistics) -> Tensor:
    """Subtract the mean, divide by the deviation; pixels without a reading become 0."""
    mean, std = torch.tensor(statistics.mean), torch.tensor(statistics.std)
    scaled = (values - mean) / std
    if modality.kind == "depth_video" and modality.background is not None:
        return torch.where(values == modality.background, 0.0, scaled)
    return scaled


def same_sample(sample: np.ndarray) -> np.ndarray:
    """Which rows share a source sample: (B, M) codes -> (B, B) bool; -1 matches nothing."""
    equal = sample[:, None, :, None] == sample[None, :, None, :]
    shared: np.ndarray = (equal & (sample >= 0)[:, None, :, None]).any(axis=(2, 3))
    return shared
