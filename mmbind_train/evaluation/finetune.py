"""Fine-tune a pre-trained network on a few labels.

All methods are fine-tuned alike: labels, steps, rates, augmentation, dropout and the kind of
classifier come from one `EvaluateConfig`. Two things depend on the method, unless ``space``,
``start`` and ``carry`` fix them for all:

- what the classifier reads: what was trained (`Method.space`). Features for lower_bound and
  unimodal, and wherever labels were learnt from; embeddings after a contrast.
- where it starts: at the means of the classes. For lower_bound at random, as no network was trained
  whose features could be compared; where pre-training learnt a classifier, at that one.

In a transfer the labels of some modalities serve others. There one classifier reads every modality
(`SharedClassifier`), it starts at the means of the classes, inputs are standardised as in
pre-training, and unless asked otherwise nothing is trained: it would move the labelled modalities
away from those they are aligned with.

Source: MMBind paper, section 6.1.2; docs/protocols.md.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mmbind_data.progress import Progress
from mmbind_data.signal.normalise import Statistics
from mmbind_data.spec.label_synonyms import synonym_of
from mmbind_train.config import EvaluateConfig, Space
from mmbind_train.data.batch import all_batches, drop_modalities, make_batch
from mmbind_train.data.stored import check_memory, sample_bytes
from mmbind_train.data.training_set import TrainingSet, measure_statistics
from mmbind_train.evaluation.metrics import FinetunedModel, accuracy_while_training, late_epochs
from mmbind_train.networks.model import AdaptiveModel, Classifier, SharedClassifier
from mmbind_train.training.hardware import Hardware
from mmbind_train.training.logs import Log
from mmbind_train.training.loop import Group, fit
from mmbind_train.training.run_folder import RunInfo


@dataclass(frozen=True)
class Pretrained:
    """A run that was read; its classifier is the one that was learnt along with the encoders."""

    info: RunInfo
    model: AdaptiveModel
    classifier: Classifier | None


def finetune(
    pretrained: Pretrained,
    rows: TrainingSet,
    config: EvaluateConfig,
    seed: int,
    *,
    progress: Progress | None = None,
    watched: TrainingSet | None = None,
    log: Log | None = None,
) -> FinetunedModel:
    """Train a classifier and the encoders of the modalities at hand on the chosen labels.

    ``rows`` are labelled, ``watched`` are the test rows, for the paper's statistic alone. The seed
    decides on the choice of labels, the order of rows, augmentation and dropout. ``pretrained`` is
    not changed.
    """
    chosen = _labelled_in_memory(rows.select(choose_labelled(rows.label, config, seed)))
    statistics: Mapping[str, Statistics] = pretrained.info.statistics
    if config.statistics == "finetune" and not config.is_transfer:
        statistics = measure_statistics(chosen)
    rng = torch.Generator().manual_seed(seed)
    with Hardware(pretrained.model.device).fork_rng():
        torch.manual_seed(seed)
        start = _initial(pretrained, chosen, statistics, config, seed)
        model, classifier = start.model.train(config.learns == "all"), start.classifier.train()

        def loss_of(picked: np.ndarray) -> Tensor:
            batch = make_batch(chosen, picked, statistics, config.augmentation, rng)
            here = drop_modalities(batch.present, config.modality_dropout, rng)
            batch = replace(batch, present=here).to(model.device)
            logits = classifier(model.represent(batch.inputs, batch.present, start.space))
            loss = functional.cross_entropy(logits, batch.label)
            return loss + config.hold * squared_distance(weights, held) if config.hold else loss

        used = [name for k, name in enumerate(rows.modalities) if chosen.present[:, k].any()]
        encoders: list[nn.Module] = [model.encoders[name] for name in used]
        if start.space == "embedding":
            encoders += dict.fromkeys(model.head(name) for name in used)
        weights = [weight for module in encoders for weight in module.parameters()]
        held = [weight.detach().clone() for weight in weights]
        rate = config.encoder_rate if config.learns == "all" else 0.0
        curve, note = list[float](), None
        if watched is not None:
            look = partial(accuracy_while_training, start, watched)
            note = late_epochs(look, len(chosen), config.budget, curve)
        loss = fit(
            [Group([classifier]), Group(encoders, rate)],
            loss_of,
            n_rows=len(chosen),
            n_steps=0 if config.learns == "means" else config.budget.n_steps(len(chosen)),
            budget=config.budget,
            seed=seed,
            stage=stage_name(seed),
            log=log,
            progress=progress,
            after_step=note,
        )
    model.eval()
    if isinstance(classifier, SharedClassifier):
        classifier = classifier.for_each(len(rows.modalities))
    accuracy = float(np.mean(curve)) if curve else None
    return replace(start, classifier=classifier.eval(), loss=loss, test_accuracy=accuracy)


def squared_distance(weights: Sequence[Tensor], start: Sequence[Tensor]) -> Tensor:
    """Sum of squared differences from where the weights began, shape ().

    Source: Li, Grandvalet, Davoine: Explicit inductive bias for transfer learning with
    convolutional networks, ICML 2018 (L2-SP).
    """
    moved = [((one - was) ** 2).sum() for one, was in zip(weights, start, strict=True)]
    return torch.stack(moved).sum()


def _labelled_in_memory(rows: TrainingSet) -> TrainingSet:
    """The same rows with their samples in memory, which must hold them: labels are few."""
    if not rows.on_disk:
        return rows
    need = len(rows) * sum(map(sample_bytes, rows.modalities.values()))
    problem = "the labelled samples do not fit into memory"
    fix = "Take fewer: --labels-per-class."
    check_memory(need, f"{len(rows)} rows of C", problem, doing="fine-tune", fix=fix)
    return rows.loaded()


def stage_name(seed: int) -> str:
    """Name of the fine-tuning of a seed in logs, progress and run.json."""
    return f"finetune seed {seed}"


def choose_labelled(label: np.ndarray, config: EvaluateConfig, seed: int) -> np.ndarray:
    """Choose the rows that count as labelled: the same share or number of every class.

    From classes, (n,) int >= 0, to ascending row numbers. ``config`` has labels_per_class, of which
    a class with fewer rows gives all, or label_fraction, of which each class gives at least one.
    """
    rng = np.random.default_rng((seed, 1))
    chosen = []
    for each in np.unique(label):
        rows, n = rng.permutation(np.flatnonzero(label == each)), config.labels_per_class
        if config.label_fraction is not None:
            n = max(1, round(config.label_fraction * len(rows)))
        chosen.append(rows[:n])
    return np.sort(np.concatenate(chosen))


def _initial(
    pretrained: Pretrained,
    chosen: TrainingSet,
    statistics: Mapping[str, Statistics],
    config: EvaluateConfig,
    seed: int,
) -> FinetunedModel:
    """A copy of the network, and the classifier that it starts with."""
    info = pretrained.info
    transfer, space = config.is_transfer, config.space or info.space
    start = config.start or ("means" if info.steps or config.learns == "means" else "random")
    model = copy.deepcopy(pretrained.model).eval()
    size = (model.width(space), len(chosen.label_names), config.dropout)
    classifier = SharedClassifier(*size) if transfer else Classifier(len(info.modalities), *size)
    classifier.to(model.device)
    if start == "means":
        start_at_means(classifier, model, chosen, statistics, space, config.sharpness)
    if config.carry and not transfer and pretrained.classifier is not None and space == info.space:
        carry_classes(
            classifier, pretrained.classifier, info.classes, chosen.label_names, info.wordings
        )
    return FinetunedModel(seed, model, classifier, statistics, len(chosen), None, space=space)


@torch.no_grad()
def start_at_means(
    classifier: Classifier,
    model: AdaptiveModel,
    rows: TrainingSet,
    statistics: Mapping[str, Statistics],
    space: Space,
    sharpness: float,
) -> None:
    """Set a classifier's weights so that it compares a row with the mean of every class.

    A class's logit becomes ``sharpness`` times the sum over the modalities of the cosine between
    the row's feature and the mean of the class's features (each of unit norm). With one label per
    class that is the nearest neighbour. A `SharedClassifier` compares every modality with the mean
    over all of them.

    The classifier is changed in place; it reads the given space, and a class without rows gets
    zeros.

    Source: Qi, Brown, Lowe: Low-shot learning with imprinted weights, CVPR 2018.
    """
    shape = (classifier.linear.out_features, len(rows.modalities), model.width(space))
    sums = torch.zeros(shape, device=model.device)
    for batch in all_batches(rows, statistics, model.device):
        features = model.represent(batch.inputs, batch.present, space)
        sums.index_add_(0, batch.label, functional.normalize(features, dim=-1))
    if isinstance(classifier, SharedClassifier):
        sums = sums.sum(dim=1, keepdim=True)
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
    """Copy the weights of the classes that were learnt in pre-training, matched by text.

    ``known`` are the classes of ``learnt``; ``classes`` those of ``classifier``, which is changed
    in place. ``wordings`` are the words that labels were given in pre-training: a text without any,
    which is no class, may be one in its known wording.
    """
    place = {text: number for number, text in enumerate(known)}
    for number, text in enumerate(classes):
        word = wordings.get(text, text)
        if word not in place and text not in wordings:
            word = synonym_of(text) or text
        if word in place:
            classifier.linear.weight[number] = learnt.linear.weight[place[word]]
            classifier.linear.bias[number] = learnt.linear.bias[place[word]]
