"""How to find partners, as one frozen value, and the two named recipes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from mmbind_data.embedding.sentences import DEFAULT_LABEL_MODEL
from mmbind_data.embedding.vectors import EmbedFunction
from mmbind_data.matching.dtw import Elastic
from mmbind_data.matching.rule import MatchRule

WeightRule = Literal["minmax_mean1", "raw", "softmax", "none"]
Embed = Literal["autoencoder", "raw", "contrastive"] | Path | EmbedFunction
Rerank = Literal["auto", "dtw", "none"]
Index = Literal["exact", "ivf", "hnsw"]
# signals that can be warped in time; an image or a label cannot
WARPED_KINDS = ("inertial", "signal", "skeleton")

DEFAULT_TOP_K = 10  # partners that share the weight of an anchor: soft targets train better


@dataclass(frozen=True)
class BindOptions:
    """How to find partners; as it stands, the default recipe.

    Attributes
    ----------
    embed : {"raw", "autoencoder", "contrastive"}, Path or callable
        For a sensor: the embedding. A path names a ``.npy`` file of one vector per sample, those
        of the first side first; a callable maps (n, T, ...) float32 and the modality to (n, d).
    rerank : {"auto", "dtw", "none"}
        Whether candidates are compared once more by dynamic time warping; auto does so for
        inertial data, signals and skeletons.
    candidates : int
        Candidates per sample that are compared once more.
    index : {"exact", "ivf", "hnsw"}
        How candidates, or partners, are searched by embedding: see `approximate`.
    elastic : Elastic
        How.
    rule : MatchRule
        How partners are chosen by their similarity.
    mean : bool
        The ``rule.top_k`` partners of a sample are averaged by the trainer: rows of kind mean.
    group_by : str, optional
        A column of the sample tables: only samples with equal values are matched.
    derive : tuple of str
        Names of derivations: a store that lacks the shared modality is matched by one that is
        computed from what it has.
    window_s : float
        For time: how far apart samples without overlap may lie.
    window_m : float
        For location: how far apart partners may lie, metres.
    steps : int
        Optimiser steps of an embedding that is trained.
    label_model : str
        For labels: a sentence-transformers model, by folder, package or hub name.
    label_text : str
        For labels: template over the columns of the sample table, ``{label}`` being the text.
    label_map : mapping of str to str
        For labels: other wordings, before the template is filled.
    weight_rule : str
        How similarity becomes the weight of the loss, where there is one partner per anchor.
    temperature : float
        Where there are several: of the softmax that shares one weight among them.
    seed : int
        Trained embeddings, and the order in which equally similar partners are dealt out.
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
    weight_rule: WeightRule = "minmax_mean1"
    temperature: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.mean and self.rule.top_k < 2:
            message = f"a mean of {self.rule.top_k}: expected 2 partners or more"
            raise ValueError(message)

    def warps(self, kind: str) -> bool:
        """Whether candidates of this modality kind are compared by dynamic time warping."""
        return self.rerank == "dtw" or (self.rerank == "auto" and kind in WARPED_KINDS)

    def told(self, kind: str) -> dict[str, Any]:
        """What a bound store remembers of the matching, for a sensor of this kind."""
        told = {f"rule_{name}": value for name, value in asdict(self.rule).items()}
        del told["rule_match"], told["rule_metric"], told["rule_top_k"]
        if self.warps(kind):
            told |= {"rerank": "dtw", "candidates": self.candidates}
            told |= {f"elastic_{name}": value for name, value in asdict(self.elastic).items()}
        if self.group_by:
            told["group_by"] = self.group_by
        if self.derive:
            told["derive"] = list(self.derive)
        if self.rule.top_k > 1:
            told["temperature"] = self.temperature
        if self.index != "exact":
            told["index"] = self.index
        if self.mean:
            told["mean"] = True
        return {name: value for name, value in told.items() if value is not None}


DEFAULT = BindOptions()
# MMBind paper, section 5.1: the autoencoder's cosine, one best partner
PAPER = BindOptions(embed="autoencoder", rerank="none", rule=MatchRule())
RECIPES: Mapping[str, BindOptions] = {"default": DEFAULT, "paper": PAPER}


def recipe_of(options: BindOptions) -> str:
    """The recipe that options follow in all that decides who is paired, or ``custom``."""
    for name, recipe in RECIPES.items():
        same = ("label_model", "label_text", "label_map", "weight_rule", "temperature", "seed")
        changed = {key: getattr(options, key) for key in (*same, "window_s", "window_m")}
        if replace(recipe, **changed) == options:
            return name
    return "custom"
