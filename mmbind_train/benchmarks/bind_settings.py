"""The part of a protocol that sets how partners are found: `BindOptions` as a document."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from pydantic import Field

from mmbind_data.binding.options import RECIPES, BindOptions, Rerank, WeightRule
from mmbind_data.matching.metric import Metric
from mmbind_data.matching.rule import Match
from mmbind_data.spec.descriptor import Modality, Model

RULE = ("match", "metric", "top_k", "min_similarity", "max_reuse", "pca")
LABELS = ("label_model", "label_text", "label_map")
RANDOM_DIM = 32


class BindSettings(Model):
    """Options of `mmbind bind`; null means the recipe's value."""

    recipe: Literal["default", "paper"] | None = None
    embed: Literal["autoencoder", "raw", "contrastive", "random"] | None = Field(
        default=None, description="random: partners are drawn by lot"
    )
    rerank: Rerank | None = None
    candidates: int | None = Field(default=None, ge=1)
    match: Match | None = None
    metric: Metric | None = None
    top_k: int | None = Field(default=None, ge=1)
    mean: bool | None = Field(default=None, description="the top_k partners are averaged")
    min_similarity: float | None = None
    max_reuse: int | None = Field(default=None, ge=1)
    pca: int | None = Field(default=None, ge=1)
    group_by: str | None = None
    derive: tuple[str, ...] | None = None
    steps: int | None = Field(default=None, ge=1, description="of an embedding that is trained")
    label_model: str | None = None
    label_text: str | None = None
    label_map: dict[str, str] | None = None
    weight_rule: WeightRule | None = None
    temperature: float | None = Field(default=None, gt=0)

    def given(self) -> dict[str, Any]:
        """The options that are not null."""
        given: dict[str, Any] = self.model_dump(mode="json", exclude_none=True)
        return given


@dataclass(frozen=True)
class RandomEmbedding:
    """Vectors without any relation to the samples: their nearest neighbours are random partners."""

    seed: int

    def __call__(self, values: np.ndarray, modality: Modality, /) -> np.ndarray:
        """Draw (n, 32) float32."""
        del modality
        rng = np.random.default_rng((self.seed, 2))
        return rng.standard_normal((len(values), RANDOM_DIM)).astype(np.float32)


def bind_options(common: BindSettings, row: BindSettings, seed: int) -> BindOptions:
    """Options of a binding: those of the recipe, the protocol, the row, in this order."""
    chosen: dict[str, Any] = common.given()
    if row.recipe:  # it replaces the protocol's settings, except those of labels
        chosen = {name: value for name, value in chosen.items() if name in LABELS}
    chosen |= row.given()
    options = RECIPES[chosen.pop("recipe", "default")]
    rule = {name: chosen.pop(name) for name in RULE if name in chosen}
    if chosen.get("embed") == "random":
        chosen |= {"embed": RandomEmbedding(seed), "rerank": "none"}
    if "derive" in chosen:
        chosen["derive"] = tuple(chosen["derive"])
    return replace(options, rule=replace(options.rule, **rule), seed=seed, **chosen)


def changed_settings(common: BindSettings, row: BindSettings) -> list[str]:
    """Settings in which a row's binding differs from the protocol's.

    What follows from another recipe is named ``recipe``. Settings of the protocol that a row with
    a recipe does not take over are named as well.
    """
    changed, base = bind_options(common, row, 0), bind_options(common, BindSettings(), 0)
    names = (common.recipe or "default", row.recipe or common.recipe or "default")
    first, second = (RECIPES[name] for name in names)
    found = ["recipe"] if names[0] != names[1] else []
    for name in {**common.given(), **row.given()}:
        decided = name not in row.given() and _setting(first, name) != _setting(second, name)
        if name != "recipe" and not decided and _setting(changed, name) != _setting(base, name):
            found.append(name)
    return found


def _setting(options: BindOptions, name: str) -> object:
    """The value that options have for a setting of a protocol; None for the recipe."""
    return getattr(options.rule if name in RULE else options, name, None)
