"""Fine-tune a pre-trained network on a few labels.

All methods are fine-tuned alike: labels, steps, rates, augmentation, dropout and the kind of
classifier are `EvaluateConfig`'s, which a protocol has once for all rows. Two things follow from
the method itself, unless ``space``, ``start`` and ``carry`` say one thing for all:

- what the classifier reads: what was trained (`Method.space`). Features in lower_bound and
  unimodal, and wherever labels were learnt from; embeddings behind a contrast.
- where it starts: at the means of the classes. In lower_bound at random, as nothing was trained
  that could be compared; where pre-training learnt a classifier, with that one.

Source: shared/PROTOCOLS.md section 2, rule 3.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mmbind_data.progress import Progress
from mmbind_data.signal.normalise import Statistics
from mmbind_data.spec.label_synonyms import synonym_of
from mmbind_train.config import EvaluateConfig, Space
from mmbind_train.data.batch import drop_modalities, make_batch
from mmbind_train.data.stored import check_memory, sample_bytes
from mmbind_train.data.training_set import TrainingSet, measure_statistics
from mmbind_train.evaluation.metrics import FinetunedModel, late_epochs
from mmbind_train.networks.model import AdaptiveModel, Classifier
from mmbind_train.training.hardware import Hardware
from mmbind_train.training.logs import Log
from mmbind_train.training.loop import Group, fit
from mmbind_train.training.run_folder import RunInfo


@dataclass(frozen=True)
class Pretrained:
    """A run, read.

    Attributes
    ----------
    info : RunInfo
    model : AdaptiveModel
    classifier : Classifier or None
        What was learnt along with the encoders, if labels were given.
    """

    info: RunInfo
    model: AdaptiveModel
    classifier: Classifier | None

    def space(self, config: EvaluateConfig) -> Space:
        """What a classifier reads: as asked for, or what the pre-training shaped."""
        return config.space or self.info.space

    def start(self, config: EvaluateConfig) -> str:
        """Where a classifier starts: as asked for, or at the means if there is what to compare."""
        return config.start or ("means" if self.info.steps else "random")


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

    Parameters
    ----------
    pretrained : Pretrained
        Not changed.
    rows : TrainingSet
        Labelled ones.
    config : EvaluateConfig
    seed : int
        Of the choice of labels, the order of rows, augmentation and dropout.
    progress : callable (done, total, text), optional
    watched : TrainingSet, optional
        The test rows, for the paper's statistic alone.
    log : Log, optional
        Where the loss of each logged step goes.
    """
    info = pretrained.info
    chosen = _held(rows.select(choose_labelled(rows.label, config, seed)))
    statistics: Mapping[str, Statistics] = info.statistics
    if config.statistics == "finetune":
        statistics = measure_statistics(chosen)
    rng = torch.Generator().manual_seed(seed)
    with Hardware(pretrained.model.device).fork_rng():
        torch.manual_seed(seed)
        begun = _begin(pretrained, chosen, statistics, config, seed)
        model, classifier = begun.model.train(), begun.classifier.train()

        def loss_of(picked: np.ndarray) -> Tensor:
            batch = make_batch(chosen, picked, statistics, config.augmentation, rng)
            here = drop_modalities(batch.present, config.modality_dropout, rng)
            batch = replace(batch, present=here).to(model.device)
            logits = classifier(model.represent(batch.inputs, batch.present, begun.space))
            return functional.cross_entropy(logits, batch.label)

        n_steps, curve = config.budget.n_steps(len(chosen)), list[float]()
        note = None if watched is None else late_epochs(begun, watched, curve, config.budget)
        loss = fit(
            [Group([classifier]), Group(_used(begun, chosen), config.encoder_rate)],
            loss_of,
            n_rows=len(chosen),
            n_steps=n_steps,
            budget=config.budget,
            seed=seed,
            stage=stage_name(seed),
            log=log,
            progress=progress,
            after_step=note,
        )
    return replace(
        begun,
        model=model.eval(),
        classifier=classifier.eval(),
        loss=loss,
        test_accuracy=float(np.mean(curve)) if curve else None,
    )


def stage_name(seed: int) -> str:
    """What the fine-tuning of a seed is called in logs, progress and run.json."""
    return f"finetune seed {seed}"


def choose_labelled(label: np.ndarray, config: EvaluateConfig, seed: int) -> np.ndarray:
    """Rows that count as labelled: the same share or number of every class.

    Parameters
    ----------
    label : ndarray of int, shape (n,)
        Class of each row, >= 0.
    config : EvaluateConfig
        Its labels_per_class or label_fraction (at least one row of each class).
    seed : int

    Returns
    -------
    ndarray of int
        Ascending; a class with fewer rows than asked for gives all it has.
    """
    rng = np.random.default_rng((seed, 1))
    chosen = []
    for each in np.unique(label):
        rows = rng.permutation(np.flatnonzero(label == each))
        n = len(rows)
        if config.labels_per_class is not None:
            n = config.labels_per_class
        elif config.label_fraction is not None:
            n = max(1, round(config.label_fraction * len(rows)))
        chosen.append(rows[:n])
    return np.sort(np.concatenate(chosen))


def _held(chosen: TrainingSet) -> TrainingSet:
    """The labelled rows in memory; those that lie on disk are few enough for that."""
    if not chosen.stored:
        return chosen
    need = len(chosen) * sum(map(sample_bytes, chosen.modalities.values()))
    what, way_out = "the labelled samples do not fit into memory", "Take fewer: --labels-per-class."
    check_memory(need, f"{len(chosen)} rows of C", what, doing="fine-tune", way_out=way_out)
    return chosen.held()


def _begin(
    pretrained: Pretrained,
    chosen: TrainingSet,
    statistics: Mapping[str, Statistics],
    config: EvaluateConfig,
    seed: int,
) -> FinetunedModel:
    """Copy the network and make the classifier that it starts with."""
    info, space = pretrained.info, pretrained.space(config)
    model = copy.deepcopy(pretrained.model).eval()
    classifier = Classifier(
        len(info.modalities), model.width(space), len(chosen.label_names), config.dropout
    ).to(model.device)
    if pretrained.start(config) == "means":
        start_at_means(classifier, model, chosen, statistics, space, config.sharpness)
    if config.carry and pretrained.classifier is not None and space == info.space:
        carry_classes(
            classifier, pretrained.classifier, info.classes, chosen.label_names, info.wordings
        )
    return FinetunedModel(seed, model, classifier, statistics, len(chosen), None, space=space)


def _used(tuned: FinetunedModel, rows: TrainingSet) -> list[torch.nn.Module]:
    """The parts of the network that these rows pass through."""
    model: AdaptiveModel = tuned.model
    names = [name for k, name in enumerate(rows.modalities) if rows.present[:, k].any()]
    used: list[torch.nn.Module] = [model.encoders[name] for name in names]
    return used + ([model.heads[name] for name in names] if tuned.space == "embedding" else [])


CHUNK = 256


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
    the row's feature and the mean of the class's features (each of unit norm). From one label per
    class that is the nearest neighbour.

    Parameters
    ----------
    classifier : Classifier
        Changed in place. A class without rows gets zeros.
    model : AdaptiveModel
    rows : TrainingSet
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
            word = synonym_of(text) or text
        if word in place:
            classifier.linear.weight[number] = learnt.linear.weight[place[word]]
            classifier.linear.bias[number] = learnt.linear.bias[place[word]]
