"""How to find partners, as one frozen value, and the two named recipes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal

from mmbind_data.embedding.sentences import DEFAULT_LABEL_MODEL
from mmbind_data.embedding.vectors import EmbedFunction
from mmbind_data.matching.dtw import Elastic
from mmbind_data.matching.rule import MatchRule
from mmbind_data.spec.store import LOCATION, TIME, BinderInfo

WeightRule = Literal["probability", "minmax_mean1", "raw", "softmax", "none"]
Embed = Literal["autoencoder", "raw", "contrastive"] | Path | EmbedFunction
Rerank = Literal["auto", "dtw", "none"]
Index = Literal["exact", "ivf", "hnsw"]
# signals that can be warped in time; an image or a label cannot
WARPED_KINDS = ("inertial", "signal", "skeleton")

DEFAULT_TOP_K = 10  # partners that share the weight of an anchor: soft targets train better


@dataclass(frozen=True)
class BindOptions:
    """How to find partners; the defaults are the default recipe.

    Attributes
    ----------
    embed : {"raw", "autoencoder", "contrastive"}, Path or callable
        For a sensor: the embedding. A path names a ``.npy`` file of one vector per sample, those
        of the first side first; a callable maps (n, T, ...) float32 and the modality to (n, d).
    rerank : {"auto", "dtw", "none"}
        Whether candidates are compared again by dynamic time warping; auto does so for inertial
        data, signals and skeletons.
    candidates : int
        Candidates per sample that are compared again.
    index : {"exact", "ivf", "hnsw"}
        How candidates, or partners, are searched by embedding: see `matching.approximate`.
    elastic : Elastic
        How signals are compared by time warping.
    rule : MatchRule
        How partners are chosen by their similarity.
    mean : bool
        The ``rule.top_k`` partners of a sample are averaged by the trainer: rows of kind mean.
    group_by : str, optional
        A column of the sample tables: only samples with equal values are matched.
    derive : tuple of str
        Names of derivations: in a store that lacks the shared modality it is computed from another.
    window_s : float
        For time: the largest gap between samples that do not overlap, seconds.
    window_m : float
        For location: the largest distance between partners, metres.
    steps : int
        Optimiser steps of an embedding that is trained.
    label_model : str
        For labels: a sentence-transformers model, by folder, package or hub name.
    label_text : str
        For labels: template over the columns of the sample table, ``{label}`` being the text.
    label_map : mapping of str to str
        For labels: other wordings, before the template is filled.
    weight_rule : str
        How the loss weighs a pair. ``probability``: of being right, see `confidence`, for pairs by
        a sensor; other pairs are weighed as by ``minmax_mean1``. The other rules follow from
        similarity alone; by them, several partners of an anchor share one weight.
    temperature : float
        Of the softmax that divides one weight among several partners.
    seed : int
        Of trained embeddings, and of the order in which equally similar partners are distributed.
    """

    embed: Embed = "raw"
    rerank: Rerank = "auto"
    candidates: int = 100
    index: Index = "exact"
    elastic: Elastic = field(default_factory=Elastic)
    rule: MatchRule = field(default_factory=lambda: MatchRule(match="csls", top_k=DEFAULT_TOP_K))
    mean: bool = False
    group_by: str | None = None
    derive: tuple[str, ...] = ()
    window_s: float = 1.0
    window_m: float = 10.0
    steps: int = 1000
    label_model: str = DEFAULT_LABEL_MODEL
    label_text: str = "{label}"
    label_map: Mapping[str, str] = field(default_factory=dict)
    weight_rule: WeightRule = "probability"
    temperature: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.mean and self.rule.top_k < 2:
            message = f"a mean of {self.rule.top_k}: expected 2 partners or more"
            raise ValueError(message)

    @property
    def softness(self) -> float:
        """Temperature by which partners share an anchor's weight; those by lot share it equally."""
        return math.inf if self.rule.match == "random" else self.temperature

    @property
    def similarity_rule(self) -> WeightRule:
        """The rule of pairs for which no probability is known: by label, time and location."""
        return "minmax_mean1" if self.weight_rule == "probability" else self.weight_rule

    def warps(self, kind: str) -> bool:
        """Whether candidates of this modality kind are compared by dynamic time warping."""
        return self.rerank == "dtw" or (self.rerank == "auto" and kind in WARPED_KINDS)


DEFAULT = BindOptions()
# MMBind paper, section 5.1: the autoencoder's cosine, one best partner
PAPER = BindOptions(
    embed="autoencoder", rerank="none", rule=MatchRule(), weight_rule="minmax_mean1"
)
RECIPES: Mapping[str, BindOptions] = {"default": DEFAULT, "paper": PAPER}
# settings that a recipe leaves open
FREE = (
    "label_model", "label_text", "label_map", "weight_rule", "temperature", "seed", "window_s",
    "window_m",
)  # fmt: skip
TRAINED = ("autoencoder", "contrastive")
# command-line option -> attribute of `BindOptions`
_WORDS = {
    "--match": "rule.match", "--metric": "rule.metric", "--top-k": "rule.top_k",
    "--rerank": "rerank",
    "--candidates": "candidates", "--min-similarity": "rule.min_similarity",
    "--max-reuse": "rule.max_reuse", "--pca": "rule.pca", "--group-by": "group_by",
    "--temperature": "temperature", "--index": "index", "--label-text": "label_text",
    "--steps": "steps", "--weights": "weight_rule", "--seed": "seed",
}  # fmt: skip


def recipe_of(options: BindOptions) -> str:
    """The recipe that options follow in all that decides who is paired, or ``custom``."""
    free = {name: getattr(options, name) for name in FREE}
    same = [name for name, recipe in RECIPES.items() if replace(recipe, **free) == options]
    return same[0] if same else "custom"


def recorded_settings(options: BindOptions, kind: str) -> dict[str, Any]:
    """What a bound store records of the options, for a sensor of this modality kind.

    These are the fields recipe, metric, match, top_k and options of a `BinderInfo`;
    `restored_options` is the inverse.
    """
    recorded = {f"rule_{name}": value for name, value in asdict(options.rule).items()}
    rule = {name: recorded.pop(f"rule_{name}") for name in ("metric", "match", "top_k")}
    if options.warps(kind):
        recorded |= {"rerank": "dtw", "candidates": options.candidates}
        recorded |= {f"elastic_{name}": value for name, value in asdict(options.elastic).items()}
    recorded |= {
        "group_by": options.group_by or None,
        "derive": list(options.derive) or None,
        "temperature": options.temperature if options.rule.top_k > 1 else None,
        "index": options.index if options.index != "exact" else None,
        "mean": options.mean or None,
    }
    given = {name: value for name, value in recorded.items() if value is not None}
    return {"recipe": recipe_of(options), **rule, "options": given}


def restored_options(binder: BinderInfo) -> BindOptions:
    """The options that a binding was made with, as far as a bound store records them.

    An embedding by a function, whose code is not recorded, becomes a path to a file.
    """
    recorded: dict[str, Any] = dict(binder.options)
    embedding: dict[str, Any] = dict(binder.embedding)
    found: dict[str, Any] = {"seed": binder.seed}
    by_sensor = binder.metric not in (TIME, LOCATION) and "label_text" not in embedding
    if by_sensor and not recorded.get("mean"):  # else the default rule means the same
        shared = binder.weight_rule == "shares"
        found["weight_rule"] = "minmax_mean1" if shared else binder.weight_rule
    elif binder.weight_rule not in ("shares", "minmax_mean1"):
        found["weight_rule"] = binder.weight_rule
    found |= {name: recorded[name] for name in ("temperature", "group_by") if name in recorded}
    found |= {name: embedding[name] for name in ("label_text", "label_map") if name in embedding}
    if binder.recipe != "custom":
        return replace(RECIPES.get(binder.recipe, DEFAULT), **found)

    def part(kind: type[MatchRule | Elastic], prefix: str) -> dict[str, Any]:
        names = {prefix + one.name: one.name for one in fields(kind)}
        return {names[key]: value for key, value in recorded.items() if key in names}

    name = embedding.get("name")
    rule: dict[str, Any] = {"match": binder.match, "metric": binder.metric, "top_k": binder.top_k}
    return replace(
        DEFAULT,
        embed=name if name in ("raw", *TRAINED) else Path(embedding.get("file", "PATH.npy")),
        rerank="auto" if "rerank" in recorded else "none",
        candidates=recorded.get("candidates", DEFAULT.candidates),
        index=recorded.get("index", DEFAULT.index),
        elastic=Elastic(**part(Elastic, "elastic_")),
        rule=MatchRule(**rule, **part(MatchRule, "rule_")),
        mean=bool(recorded.get("mean")),
        derive=tuple(recorded.get("derive", ())),
        steps=embedding.get("steps", DEFAULT.steps) if name in TRAINED else DEFAULT.steps,
        **found,
    )


def command_words(binder: BinderInfo) -> dict[str, str]:
    """Options of ``mmbind bind`` that repeat a binding, by name.

    Shared modalities, derivations and files of label maps are those of a whole request, and left
    out.
    """
    options, usual = restored_options(binder), RECIPES.get(binder.recipe, DEFAULT)
    embedding, words = binder.embedding, {}
    if binder.metric in (TIME, LOCATION):
        words["--window"] = str(embedding.get("window_s", embedding.get("window_m")))
    elif "label_text" in embedding:
        words["--label-model"] = str(embedding.get("model"))
    elif usual != DEFAULT:
        words["--recipe"] = binder.recipe
    if options.embed != usual.embed:
        words["--embed"] = str(options.embed)
    for word, name in _WORDS.items():
        value, default = (attrgetter(name)(one) for one in (options, usual))
        if word == "--top-k" and options.mean:
            word, default = "--mean", None
        if value is not None and value != default:
            words[word] = str(value)
    return words
