"""The part of a protocol that says how partners are found: `BindOptions` as a document."""

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
    """Options of `mmbind bind`; what is null is as the recipe has it."""

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
        """What is set."""
        given: dict[str, Any] = self.model_dump(mode="json", exclude_none=True)
        return given


@dataclass(frozen=True)
class RandomEmbedding:
    """Vectors without any relation to the samples: the nearest of them is a partner by lot."""

    seed: int

    def __call__(self, values: np.ndarray, modality: Modality, /) -> np.ndarray:
        """Draw (n, 32) float32."""
        del modality
        rng = np.random.default_rng((self.seed, 2))
        return rng.standard_normal((len(values), RANDOM_DIM)).astype(np.float32)


def bind_options(common: BindSettings, row: BindSettings, seed: int) -> BindOptions:
    """Options of a binding: those of the recipe, the protocol, the row, in this order."""
    chosen: dict[str, Any] = common.given()
    if row.recipe:  # begins anew; of labels a recipe says nothing
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
    """In what a row's binding departs from the protocol's, as names of settings.

    What another recipe decides is told as ``recipe``. What the protocol sets besides, and a row
    that names a recipe does not take over, is told by its own name, too.
    """
    own, base = bind_options(common, row, 0), bind_options(common, BindSettings(), 0)
    names = (common.recipe or "default", row.recipe or common.recipe or "default")
    first, second = (RECIPES[name] for name in names)
    found = ["recipe"] if names[0] != names[1] else []
    for name in {**common.given(), **row.given()}:
        decided = name not in row.given() and _setting(first, name) != _setting(second, name)
        if name != "recipe" and not decided and _setting(own, name) != _setting(base, name):
            found.append(name)
    return found


def _setting(options: BindOptions, name: str) -> object:
    """What options say under the name that it has in a protocol; of the recipe, nothing."""
    return getattr(options.rule if name in RULE else options, name, None)
