"""Rows completed with what a network generates from the shared modality (method cmg)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from mmbind_data.signal.normalise import Statistics
from mmbind_train.data.batch import make_batch
from mmbind_train.data.training_set import TrainingSet
from mmbind_train.objectives.modules import Translate

CHUNK = 256


def with_generated(
    rows: TrainingSet, translate: Translate, statistics: Mapping[str, Statistics]
) -> TrainingSet:
    """Fill each modality that a row lacks with what is generated from its shared one.

    Parameters
    ----------
    rows : TrainingSet
        Incomplete ones.
    translate : Translate
        Trained.
    statistics : mapping of name to Statistics
        What the network's inputs are standardised with.

    Returns
    -------
    TrainingSet
        Of kind ``generated``; generated samples stand behind the measured ones in ``values``, in
        the modality's unit, with the code of the sample that they were made from. Of class maps
        each pixel is of its most likely class; clouds have as many points in every frame.
    """
    values, index, sample = rows.arrays(), rows.index.copy(), rows.sample.copy()
    shared = translate.shared
    translate.eval()
    for column, name in enumerate(rows.modalities):
        lacking = np.flatnonzero((index[:, column] < 0) & (rows.index[:, shared] >= 0))
        if name not in translate.beside or len(lacking) == 0:
            continue
        made = [
            _generate(rows, lacking[start : start + CHUNK], translate, statistics, name)
            for start in range(0, len(lacking), CHUNK)
        ]
        index[lacking, column] = len(values[name]) + np.arange(len(lacking))
        sample[lacking, column] = rows.sample[lacking, shared]
        values[name] = np.concatenate([values[name], *made])
    kind = np.full(len(rows), "generated", dtype=object)
    return replace(rows, values=values, index=index, sample=sample, kind=kind)


@torch.no_grad()
def _generate(
    rows: TrainingSet,
    chosen: np.ndarray,
    translate: Translate,
    statistics: Mapping[str, Statistics],
    name: str,
) -> np.ndarray:
    """Generate one modality of some rows, shape (n, *shape), float32, in its unit."""
    batch = make_batch(rows, chosen, statistics).to(translate.model.device)
    standard = translate.generate(batch.inputs, batch.present, name).cpu()
    mean, std = torch.tensor(statistics[name].mean), torch.tensor(statistics[name].std)
    found: np.ndarray = (standard * std + mean).numpy().astype(np.float32)
    return found
