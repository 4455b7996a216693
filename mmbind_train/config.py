"""The options of a training and of an evaluation, as frozen values."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from mmbind_data.spec.descriptor import Model
from mmbind_data.spec.store import InputBounds

MEMORY = (
    "GiB that samples may take in memory; null: all that is free, or 1 if not all samples fit. "
    "What does not fit is read in windows, whose size decides the order of rows"
)
Space = Literal["feature", "embedding"]
Recipe = Literal["default", "paper", "published"]
PublishedRule = Literal["published", "raw", "published_mmfi"]
WeightsFrom = Literal["table", "none"] | PublishedRule


class LossOptions(Model):
    """How eq. 3 is read: `PAPER` as printed, `ARTEFACT` as the published code computes it.

    The defaults differ from the print in that a dummy is no view, and in taking the mean.

    Source: MMBind paper (SenSys 2025), section 5.2.2, eq. 3; published code,
    UTD/UTD-acc-bind/train/shared_files/contrastive_design_3M_Weighted.py.
    """

    positive_in_denominator: bool = Field(
        default=False, description="add the positive to the sum that it is divided by"
    )
    denominator: Literal["pair", "pooled"] = Field(
        default="pair",
        description="pair: for the term (p, q) other rows' modality q; pooled: all modalities",
    )
    same_modality_negatives: bool = Field(
        default=True,
        description="other rows' embeddings of the anchor's own modality are negatives; "
        "with denominator=pair these are the terms p = q of the printed double sum",
    )
    dummy_views: bool = Field(
        default=False, description="embeddings of absent modalities count as views"
    )
    reduction: Literal["mean", "sum"] = Field(
        default="mean",
        description="sum: as printed; mean: the same sum divided by its number of terms",
    )


PAPER = LossOptions(dummy_views=True, reduction="sum")
ARTEFACT = LossOptions(positive_in_denominator=True, denominator="pooled", dummy_views=True)


class NetworkOptions(Model):
    """Encoders and projection heads, the same for every method."""

    variant: Literal["compact", "reference"] = "compact"
    width: int = Field(default=32, ge=8, multiple_of=8, description="first layer's channels")
    feature_dim: int = Field(default=128, ge=8, description="length of a feature h")
    embedding_dim: int = Field(default=128, ge=2, description="F: length of an embedding z")
    shared_head: bool = Field(
        default=False,
        description="one projection head for all modalities, which ties them without any pair",
    )
    dummy_value: float = Field(
        default=0.0,
        description="what a dummy input holds, standardised; the published MM-Fi code has -1.1",
    )
    prompt: bool = Field(
        default=False, description="append the presence mask to every feature (method mpm)"
    )


class Augmentation(Model):
    """Random changes of the inputs during training; a strength of 0 switches one off.

    `mmbind_train.data.augment.CHANGES` lists the changes of each kind of modality.
    """

    rotation: float = Field(
        default=0.15,
        ge=0,
        description="standard deviation of the angle, rad; of point clouds about the vertical",
    )
    warp: float = Field(default=0.3, ge=0, description="standard deviation of the log of speed")
    gain: float = Field(default=0.1, ge=0, description="standard deviation of the gain around 1")
    jitter: float = Field(default=0.05, ge=0, description="standard deviation of added noise")
    shift: float = Field(
        default=0.04, ge=0, description="of pictures: standard deviation, parts of a side"
    )
    flip: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="share of the rows whose stills are mirrored; videos "
        "never are: left and right are part of a gesture",
    )
    drop: float = Field(default=0.1, ge=0, lt=1, description="share of points taken away")


NO_AUGMENTATION = Augmentation(rotation=0, warp=0, gain=0, jitter=0, shift=0, flip=0, drop=0)


class Budget(Model):
    """How long one training lasts and how fast it learns."""

    steps: int | None = Field(default=None, ge=0, description="optimiser steps")
    epochs: int | None = Field(default=None, ge=0, description="passes over the rows instead")
    batch: int = Field(default=64, ge=2)
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    warmup: int = Field(default=20, ge=0, description="steps of linear rise; then half a cosine")

    @model_validator(mode="after")
    def _one_length(self) -> Budget:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give either steps or epochs")
        return self

    def n_steps(self, n_rows: int) -> int:
        """Optimiser steps for a training set of n_rows."""
        if self.steps is not None:
            return self.steps
        return (self.epochs or 0) * max(1, n_rows // self.batch)


class PairOptions(Model):
    """What mmbind makes of the table of pairs.

    The ablations of the paper's Fig. 11 are C1 (``rows=("pseudo",)``, ``weights="none"``), C2 (both
    kinds of rows, no weights) and C3 (both, weighted), all with ``targets="hard"``.
    """

    targets: Literal["soft", "hard"] = Field(
        default="soft",
        description="soft: the partners of a sample share its positives by probability; hard: "
        "eq. 3, a row each",
    )
    same_modality: bool = Field(
        default=True, description="soft targets also hold within one modality"
    )
    steps: int = Field(
        default=1,
        ge=1,
        le=2,
        description="2: partners of a partner, samples of the same source, are soft targets too",
    )
    drawn: float = Field(
        default=0.5,
        ge=0,
        le=0.5,
        description="share of a batch that are partners, drawn by probability, of its other rows",
    )
    across: float = Field(
        default=1.0,
        ge=0,
        description="factor on the terms between a sample and a modality that its partner alone "
        "has; 0 leaves soft targets to what both have",
    )
    rows: tuple[Literal["pseudo", "incomplete"], ...] = Field(
        default=("pseudo", "incomplete"), min_length=1, description="kinds that hard targets use"
    )
    partners: int | None = Field(
        default=None, ge=1, description="of an anchor that hard targets use; null: all of the table"
    )
    weights: WeightsFrom = Field(
        default="table",
        description="table: of the bound store; else of similarities s as the paper's code has "
        "them: published 1 + ln(s) / 2 (UTD), raw s (PAMAP2, SUN), published_mmfi 3 (s - 0.5) and "
        "0.1 for originals; none: 1",
    )
    shared_input: bool = Field(
        default=True, description="pseudo rows keep the shared modality; the paper's code zeroes it"
    )


class TrainConfig(Model):
    """The options of a pre-training; every field has a default.

    Examples
    --------
    >>> config = TrainConfig(seed=1, budget=Budget(epochs=30, batch=32))
    >>> config.budget.n_steps(n_rows=640)
    600
    >>> TrainConfig.model_validate_json(config.model_dump_json()) == config
    True
    """

    seed: int = Field(default=0, ge=0)
    budget: Budget = Budget(steps=700)
    network: NetworkOptions = NetworkOptions()
    inputs: InputBounds = InputBounds()
    augmentation: Augmentation = Augmentation()
    loss: LossOptions = Field(
        default=LossOptions(positive_in_denominator=True),
        description="of methods whose positives are one row each (soft targets have theirs in the "
        "denominator by definition); not `PAPER`: with the positive in the denominator hard pairs "
        "gained 3 and 5 points (two seeds, development subjects)",
    )
    pairs: PairOptions = PairOptions()
    labels: bool = Field(
        default=False,
        description="read labels of a converted store, as bound stores bound by label allow",
    )
    dropout: float = Field(default=0.2, ge=0, lt=1, description="in front of a classifier")
    temperature: float = Field(default=0.07, gt=0)
    learn_temperature: bool = Field(default=False, description="begin with it and learn it")
    mask_same_sample: bool = Field(
        default=True, description="rows that hold the same source sample are no negatives"
    )
    recentre: Literal["frame", "first", "none"] = Field(
        default="frame", description="skeletons relative to the root joint of which frame"
    )
    memory: float | None = Field(default=None, gt=0, description=MEMORY)


def recipe(name: Recipe) -> TrainConfig:
    """The options of a named recipe: ours, the paper's text, or the paper's published code.

    ``paper``: eq. 3 as printed over all rows of D_S, weighted by the table, dummies among the
    views; nothing is masked or augmented, and of an anchor's partners the first is used.
    ``published``: the code's loss (pooled denominator), its weights, pseudo rows without the shared
    modality. Both leave to other options what the paper has besides: its encoders
    (`NetworkOptions.variant`), 200 to 300 epochs of Adam at a constant rate (`Budget`; ours is
    AdamW with warm-up and a cosine), for MM-Fi a dummy other than 0 (`NetworkOptions.dummy_value`).

    Source: MMBind paper, section 5.2; published code, UTD/UTD-acc-bind/train.

    Examples
    --------
    >>> recipe("paper").pairs.targets, recipe("published").loss.denominator
    ('hard', 'pooled')
    """
    if name == "paper":
        return TrainConfig(
            loss=PAPER,
            pairs=PairOptions(targets="hard", partners=1),
            mask_same_sample=False,
            augmentation=NO_AUGMENTATION,
        )
    if name == "published":
        return TrainConfig(
            loss=ARTEFACT,
            pairs=PairOptions(targets="hard", partners=1, weights="published", shared_input=False),
            mask_same_sample=False,
            augmentation=NO_AUGMENTATION,
        )
    return TrainConfig()


class EvaluateConfig(Model):
    """The options of a fine-tuning and its test; every field has a default.

    Examples
    --------
    >>> config = EvaluateConfig(labels_per_class=1, seeds=(0, 1, 2))
    >>> config.budget.steps
    100
    """

    modalities: tuple[str, ...] | None = Field(
        default=None,
        description="that are labelled in C and arrive in T; null: all that the run, C and T have",
    )
    finetune_modalities: tuple[str, ...] | None = Field(
        default=None,
        description="transfer: those whose labels are read, while test_modalities arrive in T",
    )
    test_modalities: tuple[str, ...] | None = Field(
        default=None, description="transfer: those that arrive in T; none of C's are read"
    )
    learn: Literal["all", "head", "means"] | None = Field(
        default=None,
        description="all: encoders and classifier; head: the classifier alone; means: nothing, the "
        "classifier compares with the mean embedding of each class; null: means in a transfer, "
        "where training may undo the alignment, else all",
    )
    hold: float = Field(
        default=0.0,
        ge=0,
        description="factor on the squared distance of the encoders' weights from those that "
        "pre-training left, added to the loss (L2-SP)",
    )
    labels_per_class: int | None = Field(default=None, ge=1)
    label_fraction: float | None = Field(default=None, gt=0, le=1)
    seeds: tuple[int, ...] = Field(default=(0, 1, 2, 3, 4), min_length=1)
    budget: Budget = Budget(steps=100)
    augmentation: Augmentation = Augmentation()
    encoder_rate: float = Field(
        default=1.0, ge=0, description="learning rate of encoders over that of the classifier"
    )
    space: Space | None = Field(
        default=None,
        description="what the classifier reads; null: the one that pre-training has shaped",
    )
    start: Literal["means", "random"] | None = Field(
        default=None,
        description="means: the classifier starts at the mean of each class; null: so do runs with "
        "a pre-training, others start at random",
    )
    sharpness: float = Field(
        default=10.0, gt=0, description="factor on the cosines that it starts with"
    )
    carry: bool = Field(
        default=True, description="where the run learnt a classifier, start with that one"
    )
    dropout: float = Field(default=0.2, ge=0, lt=1, description="in front of the classifier")
    modality_dropout: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="share of a row's modalities taken away at random while fine-tuning, at least "
        "one stays: for a network that must do with any subset of them",
    )
    statistics: Literal["finetune", "pretrain"] = Field(
        default="finetune", description="which rows the inputs are standardised with"
    )
    memory: float | None = Field(
        default=None,
        gt=0,
        description="GiB that C, and T, may take in memory; null: all that is free. What does not "
        "fit is read when it is needed",
    )

    @model_validator(mode="after")
    def _one_label_budget(self) -> EvaluateConfig:
        parts = (self.finetune_modalities, self.test_modalities)
        if (parts[0] is None) != (parts[1] is None):
            raise ValueError("give finetune_modalities and test_modalities, or neither")
        if self.modalities is not None and parts[0] is not None:
            raise ValueError(
                "give modalities, or finetune_modalities and test_modalities, not both"
            )
        if self.labels_per_class is not None and self.label_fraction is not None:
            raise ValueError("give labels_per_class or label_fraction, not both")
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError("a seed is given twice")
        return self

    @property
    def is_transfer(self) -> bool:
        """Whether the labels of some modalities serve others."""
        return self.test_modalities is not None

    @property
    def learns(self) -> Literal["all", "head", "means"]:
        """What fine-tuning changes, by default or as asked."""
        return self.learn or ("means" if self.is_transfer else "all")
