"""How well embeddings of one set of modalities find those of another, of the same samples."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from mmbind_data.errors import UsageError
from mmbind_data.signal.normalise import Statistics
from mmbind_data.spec.descriptor import Model
from mmbind_train.config import Space
from mmbind_train.data.batch import all_batches
from mmbind_train.data.training_set import TrainingSet
from mmbind_train.networks.model import AdaptiveModel

WITHIN = (1, 5, 10)  # first results that count


class RetrievalResult(Model):
    """Each sample's query against all samples; by chance a recall of the recording is k / n."""

    query: tuple[str, ...]
    gallery: tuple[str, ...]
    n: int = Field(description="samples that have both; each is a query once")
    recording: dict[str, float] = Field(
        description="share of queries whose own recording is among the first 1, 5 or 10 results"
    )
    same_class: dict[str, float] = Field(
        description="share of queries with any result of their class among the first 1, 5 or 10"
    )
    mean_rank: float = Field(
        description="of the query's own recording, from 1; (n + 1) / 2 is luck"
    )


def retrieve(
    model: AdaptiveModel,
    rows: TrainingSet,
    statistics: Mapping[str, Statistics],
    sets: tuple[tuple[str, ...], tuple[str, ...]],
    space: Space = "embedding",
) -> tuple[RetrievalResult, ...]:
    """Retrieval of the second set of modalities by the first, and the reverse.

    Results are ordered by cosine; of equal ones the right one comes last, so that embeddings which
    do not differ find nothing. A set of several modalities is the mean of their unit vectors.

    Parameters
    ----------
    rows : TrainingSet
        Labelled; those without any modality of either set are left out.

    Raises
    ------
    UsageError
        Fewer than two samples have both.
    """
    columns = [[tuple(rows.modalities).index(name) for name in names] for names in sets]
    both = np.logical_and.reduce([rows.present[:, one].any(axis=1) for one in columns])
    chosen = rows.select(np.flatnonzero(both))
    if len(chosen) < 2:
        raise UsageError(
            cannot="evaluate retrieval",
            problem="too few samples have both sets of modalities",
            at=" and ".join(" + ".join(names) for names in sets),
            expected="2 samples or more",
            got=len(chosen),
        )
    one, other = (_means(model, chosen, statistics, each, space) for each in columns)
    return (
        score_retrieval(one @ other.T, chosen.label, query=sets[0], gallery=sets[1]),
        score_retrieval(other @ one.T, chosen.label, query=sets[1], gallery=sets[0]),
    )


def score_retrieval(
    similarity: np.ndarray, label: np.ndarray, *, query: tuple[str, ...], gallery: tuple[str, ...]
) -> RetrievalResult:
    """Scores of a table of similarities, queries in rows, (n, n), of samples with labels, (n,)."""
    own = np.diagonal(similarity)[:, None]
    rank = (similarity >= own).sum(axis=1)  # itself included: the rank counts from 1
    alike = label[:, None] == label[None, :]
    best = np.where(alike, similarity, -np.inf).max(axis=1, keepdims=True)
    before = (~alike & (similarity >= best)).sum(axis=1)
    return RetrievalResult(
        query=query,
        gallery=gallery,
        n=len(label),
        recording={str(k): float((rank <= k).mean()) for k in WITHIN},
        same_class={str(k): float((before < k).mean()) for k in WITHIN},
        mean_rank=float(rank.mean()),
    )


@torch.no_grad()
def _means(
    model: AdaptiveModel,
    rows: TrainingSet,
    statistics: Mapping[str, Statistics],
    columns: list[int],
    space: Space,
) -> np.ndarray:
    """Unit means over some modalities, shape (n_rows, width), float32."""
    found: list[Tensor] = []
    for batch in all_batches(rows, statistics, model.device):
        features = model.represent(batch.inputs, batch.present, space)[:, columns]
        mean = functional.normalize(features, dim=-1).sum(dim=1)
        found.append(functional.normalize(mean, dim=-1).cpu())
    vectors: np.ndarray = torch.cat(found).numpy()
    return vectors
