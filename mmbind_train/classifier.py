"""What a classifier starts from when labels are few."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch.nn import functional

from mmbind_data.label_wordings import known_wording
from mmbind_data.scale import Statistics

from .batches import Rows
from .config import Space
from .inputs import make_batch
from .model import AdaptiveModel, Classifier

CHUNK = 256


@torch.no_grad()
def start_at_means(
    classifier: Classifier,
    model: AdaptiveModel,
    rows: Rows,
    statistics: Mapping[str, Statistics],
    space: Space,
    sharpness: float,
) -> None:
    """Set a classifier's weights so that it compares a row with the mean of every class.

    A class's logit becomes ``sharpness`` times the sum over the modalities of the cosine between
    the row's feature and the mean of the class's features (each of unit norm). From one label per
    class that is the nearest neighbour.

    Parameters
    ----------
    classifier : Classifier
        Changed in place. A class without rows gets zeros.
    model : AdaptiveModel
    rows : Rows
        Labelled ones.
    statistics : mapping of name to Statistics
    space : {"feature", "embedding"}
        What the classifier reads.
    sharpness : float

    Notes
    -----
    Source: Qi, Brown, Lowe: Low-shot learning with imprinted weights, CVPR 2018.
    """
    n_modalities = len(rows.modalities)
    shape = (classifier.linear.out_features, n_modalities, model.width(space))
    sums = torch.zeros(shape, device=model.device)
    for start in range(0, len(rows), CHUNK):
        chosen = np.arange(start, min(start + CHUNK, len(rows)))
        batch = make_batch(rows, chosen, statistics).to(model.device)
        read = model.represent(batch.inputs, batch.present, space)
        sums.index_add_(0, batch.label, functional.normalize(read, dim=-1))
    means = functional.normalize(sums, dim=-1).flatten(1)
    classifier.linear.weight.copy_(means * (sharpness / classifier.scale))
    classifier.linear.bias.zero_()


@torch.no_grad()
def carry_classes(
    classifier: Classifier,
    learnt: Classifier,
    known: Sequence[str],
    classes: Sequence[str],
    wordings: Mapping[str, str],
) -> None:
    """Take over the weights of the classes that were learnt in pre-training, matched by text.

    Parameters
    ----------
    classifier : Classifier
        Changed in place.
    learnt : Classifier
    known, classes : sequence of str
        What ``learnt`` and ``classifier`` tell apart.
    wordings : mapping of str to str
        The words that labels were given in pre-training. A text that it had not, and that is no
        class of it, may be one in its known wording.
    """
    place = {text: number for number, text in enumerate(known)}
    for number, text in enumerate(classes):
        word = wordings.get(text, text)
        if word not in place and text not in wordings:
            word = known_wording(text) or text
        if word in place:
            classifier.linear.weight[number] = learnt.linear.weight[place[word]]
            classifier.linear.bias[number] = learnt.linear.bias[place[word]]
