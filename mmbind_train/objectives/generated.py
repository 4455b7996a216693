"""Rows completed with what a network generates from the shared modality (method cmg)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from mmbind_data.signal.normalise import Statistics
from mmbind_train.data.batch import all_batches
from mmbind_train.data.training_set import TrainingSet
from mmbind_train.objectives.modules import Translate


@torch.no_grad()
def with_generated(
    rows: TrainingSet, translate: Translate, statistics: Mapping[str, Statistics]
) -> TrainingSet:
    """Generate each modality that a row lacks from its shared one.

    The result has the kind ``generated``. Generated samples follow the measured ones in ``values``,
    in the modality's unit, with the code of the sample that they were made from. Of class maps each
    pixel is of its most likely class; clouds have the same number of points in every frame.
    """
    values, index, sample = rows.arrays(), rows.index.copy(), rows.sample.copy()
    shared = tuple(rows.modalities).index(translate.shared)
    translate.eval()
    for column, name in enumerate(rows.modalities):
        lacking = np.flatnonzero((index[:, column] < 0) & (rows.index[:, shared] >= 0))
        if name not in translate.source_of or len(lacking) == 0:
            continue
        mean, std = torch.tensor(statistics[name].mean), torch.tensor(statistics[name].std)
        generated = [
            translate.generate(batch.inputs, batch.present, name).cpu() * std + mean
            for batch in all_batches(rows.select(lacking), statistics, translate.model.device)
        ]
        index[lacking, column] = len(values[name]) + np.arange(len(lacking))
        sample[lacking, column] = rows.sample[lacking, shared]
        values[name] = np.concatenate([values[name], *(one.numpy() for one in generated)])
    kind = np.full(len(rows), "generated", dtype=object)
    return replace(rows, values=values, index=index, sample=sample, kind=kind)
