"""The rule by which partners are chosen, as one frozen value."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from mmbind_data.matching.metric import Metric

Match = Literal["best", "csls", "mutual", "sinkhorn", "random"]


@dataclass(frozen=True)
class MatchRule:
    """How partners are chosen.

    Attributes
    ----------
    match : {"best", "csls", "mutual", "sinkhorn", "random"}
        best: the most similar; csls: the most similar after each similarity is lowered by half the
        mean similarity of the ``csls_k`` nearest of either row, which corrects for hubs (rows that
        are similar to everything); mutual: pairs of which each is among the ``top_k`` of the other;
        sinkhorn: the largest entries of the entropic transport plan with uniform marginals; random:
        each partner of csls is replaced by one drawn by lot and the weights stay, the control
        that tells what right partners are worth.
    metric : {"cosine", "euclidean"}
        euclidean: similarity is 1 / (1 + r), r being the distance in units of the root mean square
        distance of two rows drawn from both sets; so a threshold or weight does not depend on
        the unit of the embedding: 1 is the same row, 0.5 a row at random. Order follows r itself,
        in steps of 1e-6. csls and sinkhorn work on -r^2 / 2, which for rows of length one is the
        cosine up to a constant and the factor of the unit.
    top_k : int
        Partners per row.
    min_similarity : float, optional
        Less similar pairs are dropped.
    max_reuse : int, optional
        How often one row may be a partner, in each direction: see `candidates.cap_reuse`. A
        row falls back on its 32 best (or ``top_k``, if more; under mutual, the mutual ones).
    pca : int, optional
        Reduce to so many principal axes of the union first; centres the embeddings.
    csls_k : int
    sinkhorn_temperature : float
        In units of the similarity (cosine) or of r^2 / 2: small is close to a one-to-one
        assignment and slow, large is close to ``best`` without hubs.

    Raises
    ------
    ValueError
        A value out of range.
    """

    match: Match = "best"
    metric: Metric = "cosine"
    top_k: int = 1
    min_similarity: float | None = None
    max_reuse: int | None = None
    pca: int | None = None
    csls_k: int = 10
    sinkhorn_temperature: float = 0.1

    def __post_init__(self) -> None:
        for name, known in (("match", Match), ("metric", Metric)):
            if getattr(self, name) not in get_args(known):
                expected = ", ".join(get_args(known))
                message = f"unknown {name} {getattr(self, name)!r}: expected {expected}"
                raise ValueError(message)
        for name in ("top_k", "max_reuse", "pca", "csls_k"):
            number = getattr(self, name)
            if number is not None and number < 1:
                message = f"{name} of {number}: expected 1 or more"
                raise ValueError(message)
        if not (math.isfinite(self.sinkhorn_temperature) and self.sinkhorn_temperature > 0):
            message = f"sinkhorn_temperature of {self.sinkhorn_temperature}: expected more than 0"
            raise ValueError(message)
        if self.min_similarity is not None and not math.isfinite(self.min_similarity):
            message = f"min_similarity of {self.min_similarity}: expected a number"
            raise ValueError(message)
