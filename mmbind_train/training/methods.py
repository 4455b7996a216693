"""The methods: what each may read, and the stages it trains a network in.

A method is one function over a `PretrainingRun`: it selects rows and runs objectives over them. It
gets no other data than ``training.rows``, which its entry in `METHODS` restricts.

Source: MMBind paper (SenSys 2025), section 6.1.2; docs/protocols.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, NoReturn

import numpy as np

from mmbind_data.errors import UsageError, suggest
from mmbind_data.spec.store import LABEL
from mmbind_data.store.bound import BoundDataset
from mmbind_data.store.dataset import Dataset
from mmbind_train.config import PairOptions, Space, TrainConfig
from mmbind_train.data.training_set import ROW_COLUMNS, TrainingSet
from mmbind_train.objectives.generated import with_generated
from mmbind_train.objectives.modules import Classify, Contrast, Reconstruct, SoftContrast, Translate
from mmbind_train.objectives.pair_graph import PairGraph, incomplete_rows, published_weights
from mmbind_train.training.run import PretrainingRun

SHARED = "shared modality"


@dataclass(frozen=True)
class Method:
    """A way to pre-train: ``pretrain`` runs its stages, None keeps the initial weights."""

    pretrain: Callable[[PretrainingRun], None] | None
    data: Literal["any", "bound", "natural"] = "bound"  # store; natural: converted, rows paired
    kinds: tuple[str, ...] = ("incomplete",)  # of rows that it may see
    prompt: bool = False  # the presence mask is an input of the network
    needs_sensor: bool = False  # the shared modality must be a sensor
    reads_shared: bool = False  # the shared modality must be in the store, to train on
    space: Space = "embedding"  # what it shapes, and a classifier should therefore read
    whole: bool = False  # it needs all samples in memory at once


def unimodal(training: PretrainingRun) -> None:
    """Each modality alone: an autoencoder; with labels, a classifier of each.

    Source: MMBind paper, section 6.1.2, "Unimodal Learning".
    """
    if training.labelled:
        rows = one_modality_rows(training.rows)
        training.run("classify", Classify(training.model, rows, training.config), labels=True)
    else:
        training.run("reconstruct", Reconstruct(training.model, training.rows))


def mim(training: PretrainingRun) -> None:
    """Incomplete rows; a missing modality is a zero input that counts as a view.

    Dummy inputs are views, as "Dual Contrastive" differs from this method only in excluding them.
    With labels: a classifier over the incomplete rows.

    Source: MMBind paper, section 6.1.2, "Multimodal Learning with Incomplete Modality"; 6.2.3.
    """
    if training.labelled:
        objective = Classify(training.model, training.rows, training.config)
        return training.run("classify", objective, labels=True)
    loss = training.config.loss.model_copy(update={"dummy_views": True})
    return training.run("contrast", Contrast(training.model, training.rows, training.config, loss))


def dcm(training: PretrainingRun) -> None:
    """Incomplete rows; only what was measured is a view.

    Source: MMBind paper, section 6.1.2, "Dual Contrastive Multimodal Learning".
    """
    training.run("contrast", Contrast(training.model, training.rows, training.config))


def cmg(training: PretrainingRun) -> None:
    """Generate what a row lacks from the shared modality, then contrast the completed rows.

    Source: MMBind paper, section 6.1.2, "Cross-Modality Generation".
    """
    translate = Translate(training.model, training.rows, training.shared[0])
    training.run("generate", translate, share=0.5)
    completed = with_generated(training.rows, translate, training.statistics)
    objective = Contrast(training.model, completed, training.config)
    training.run("contrast", objective, share=0.5)


def imagebind(training: PretrainingRun) -> None:
    """Learn the shared modality's encoder alone, freeze it, align the others with it.

    Source: MMBind paper, section 6.1.2, "ImageBind".
    """
    shared = training.shared[0]
    alone = Reconstruct(training.model, training.rows, only=[shared])
    training.run("reconstruct", alone, share=0.5)
    objective = Contrast(training.model, training.rows, training.config)
    training.run("contrast", objective, share=0.5, frozen=[shared])


def mmbind(training: PretrainingRun) -> None:
    """Source samples and their partners by soft targets, or eq. 3 over the rows of the table.

    Soft targets read the pairs of the pseudo rows as a graph over the incomplete rows.
    With labels: rows of one label are partners, and a classifier is learnt too.

    Source: MMBind paper, section 5.2 (D_S = X_A, X_B and X_P).
    """
    config, pairs = training.config, training.config.pairs
    if has_soft_targets(training.rows, pairs):
        rows = incomplete_rows(training.rows)
        objective = SoftContrast(training.model, rows, config, training.graph(rows))
        return training.run("soft contrast", objective)
    kinds = [*pairs.rows, *(["mean"] if "pseudo" in pairs.rows else [])]
    chosen = np.isin(training.rows.kind, kinds)
    if pairs.partners is not None:
        chosen &= (training.rows.kind != "pseudo") | (training.rows.rank < pairs.partners)
    rows = training.rows.select(chosen)
    if pairs.weights == "none":
        rows = replace(rows, weight=np.ones_like(rows.weight))
    elif pairs.weights != "table":
        rows = replace(rows, weight=published_weights(rows, pairs.weights))
    if not pairs.shared_input:
        rows = without_shared_input(rows, training.shared)
    return _supervised_or_hard(training, rows)


def has_soft_targets(rows: TrainingSet, pairs: PairOptions) -> bool:
    """Whether `mmbind` trains with soft targets; labels and means of partners have hard ones."""
    averaged = (rows.kind == "mean").any()  # the partners of an anchor are one sample already
    return pairs.targets == "soft" and not rows.label_names and not averaged


def upper_bound(training: PretrainingRun) -> None:
    """Naturally paired rows: what could be learnt if the nodes lacked nothing.

    With soft targets it has the objective of `mmbind`, where a row's own modalities are all its
    positives; with hard ones that of the paper.

    Source: MMBind paper, section 6.1.2, "Theoretical Upper Bound".
    """
    rows, config = training.rows, training.config
    if config.pairs.targets == "hard" or training.labelled:
        return _supervised_or_hard(training, rows)
    objective = SoftContrast(training.model, rows, config, PairGraph.without_links(len(rows)))
    return training.run("soft contrast", objective)


# All methods by name; METHODS["mmbind"].kinds are the rows that mmbind may see.
METHODS: Mapping[str, Method] = {
    "lower_bound": Method(None, data="any", kinds=("incomplete", "natural"), space="feature"),
    "unimodal": Method(unimodal, space="feature"),
    "mim": Method(mim),
    "mpm": Method(mim, prompt=True),
    "cmg": Method(cmg, needs_sensor=True, reads_shared=True, whole=True),
    "dcm": Method(dcm, needs_sensor=True),
    "imagebind": Method(imagebind, needs_sensor=True, reads_shared=True),
    "mmbind": Method(mmbind, kinds=("incomplete", "pseudo", "mean")),
    "upper_bound": Method(upper_bound, data="natural", kinds=("natural",)),
}


def _supervised_or_hard(training: PretrainingRun, rows: TrainingSet) -> None:
    """Eq. 3; where labels were given, a classifier and rows of one label as partners."""
    model, config = training.model, training.config
    if training.labelled:
        both = Classify(model, rows, config, contrast=True)
        training.run("classify and contrast", both, labels=True)
    else:
        training.run("contrast", Contrast(model, rows, config))


def one_modality_rows(rows: TrainingSet) -> TrainingSet:
    """Every row once per modality that it has, with that one alone."""
    parts = []
    for column in range(len(rows.modalities)):
        has, alone = rows.select(rows.present[:, column]), np.arange(len(rows.modalities)) == column
        index, sample = (np.where(alone, one, -1) for one in (has.index, has.sample))
        parts.append(replace(has, index=index, sample=sample))
    joined: dict[str, Any] = {
        name: np.concatenate([getattr(one, name) for one in parts]) for name in ROW_COLUMNS
    }
    return replace(rows, **joined)


def without_shared_input(rows: TrainingSet, shared: tuple[str, ...]) -> TrainingSet:
    """Pseudo rows with zeros for the shared modality, as the published code has them."""
    hidden = np.array([name in shared for name in rows.modalities])
    hidden = hidden & (rows.kind == "pseudo")[:, None]
    sample = rows.sample.copy()
    sample[:, : len(rows.modalities)][hidden] = -1
    return replace(rows, index=np.where(hidden, -1, rows.index), sample=sample)


def find_method(name: str) -> Method:
    """Entry of a method; a UsageError for an unknown one names the closest."""
    if name not in METHODS:
        raise UsageError(
            cannot="train",
            problem="unknown method",
            at="method",
            expected=" or ".join(METHODS),
            got=repr(name),
            fix=suggest(name, METHODS),
        )
    return METHODS[name]


def check_pairs(name: str, rows: TrainingSet, config: TrainConfig) -> None:
    """Refuse, with a UsageError, options of hard targets that soft ones would ignore."""
    default, unused = TrainConfig(), ["loss"] if config.loss != TrainConfig().loss else []
    for option in ("shared_input", "weights", "partners", "rows"):
        if getattr(config.pairs, option) != getattr(default.pairs, option):
            unused.insert(0, f"pairs.{option}")
    if METHODS[name].pretrain is mmbind and unused and has_soft_targets(rows, config.pairs):
        fix = f"Set it to hard, or leave {' and '.join(unused)} out."
        at, expected, got = "pairs.targets", "hard", "soft"
        _refuse(name, "an option of hard targets", at, expected, got, fix)


def check_partners(name: str, rows: TrainingSet, config: TrainConfig) -> None:
    """Refuse, with a UsageError, other partners for a method that does not read any."""
    if METHODS[name].pretrain is not mmbind or not has_soft_targets(rows, config.pairs):
        problem, expected = "it reads no graph of partners", "mmbind with soft targets"
        _refuse(name, problem, "partners", expected, name, "Leave partners out.")


def check_method(name: str, data: Dataset | BoundDataset) -> None:
    """Refuse, with a UsageError, a store that the method is not defined for."""
    method = METHODS[name]
    if isinstance(data, Dataset):
        if method.data == "bound":
            expected, got = "a bound store", "a converted store"
            fix = "Make one with mmbind bind, or use --method upper_bound."
            _refuse(name, "not a bound store", data.path, expected, got, fix)
        return
    shared, modalities = data.info.shared, data.info.modalities
    if method.data == "natural":
        expected = "a converted store in which the nodes' samples have all modalities"
        fix = "Cut one with mmbind partition, with the subjects of all nodes."
        problem = "a bound store has no natural pairs"
        _refuse(name, problem, data.path, expected, "a bound store", fix)
    if method.needs_sensor and LABEL in shared:
        problem, fix = "not defined where the label is shared", "mim, mpm, unimodal or mmbind"
        _refuse(name, problem, SHARED, "a sensor", ", ".join(shared), f"Take {fix}.")
    if method.reads_shared and shared[0] not in modalities:
        problem = "it trains on the shared modality, which the store lacks"
        expected, fix = f"one of {', '.join(modalities)}", "mim, mpm, dcm, unimodal or mmbind"
        _refuse(name, problem, SHARED, expected, shared[0], f"Take {fix}.")


def _refuse(method: str, problem: str, at: object, expected: str, got: str, fix: str) -> NoReturn:
    raise UsageError(
        cannot=f"train {method}", problem=problem, at=at, expected=expected, got=got, fix=fix
    )
