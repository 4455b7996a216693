"""The graph of pairs: which source samples are partners, and how likely each pair is right."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from mmbind_train.config import PublishedRule
from mmbind_train.data.training_set import TrainingSet


def incomplete_rows(rows: TrainingSet) -> TrainingSet:
    """Every source sample once, with its own modalities: the incomplete rows, weight 1."""
    return rows.select(rows.kind == "incomplete")


# from the training rows to partners other than those of the bound store
Partners = Callable[[TrainingSet], "PairGraph"]


@dataclass(frozen=True)
class PairGraph:
    """Source samples that are pseudo-paired, and the probability that each pair is right."""

    likely: sparse.csr_array  # (n, n), float32, symmetric, between 0 and 1; the diagonal is empty
    columns: sparse.csc_array  # the same, for reading columns

    @classmethod
    def of_links(cls, a: np.ndarray, b: np.ndarray, likely: np.ndarray, n: int) -> PairGraph:
        """The graph of ``n`` samples from links, (n_links,) each; of equal ones the likeliest."""
        low, high = np.minimum(a, b), np.maximum(a, b)
        order = np.lexsort((-likely, high, low))
        low, high, likely = low[order], high[order], likely[order]
        first = np.ones(len(low), dtype=bool)
        first[1:] = (low[1:] != low[:-1]) | (high[1:] != high[:-1])
        kept = first & (low != high) & (likely > 0)
        half = sparse.coo_array((likely[kept].astype(np.float32), (low[kept], high[kept])), (n, n))
        both = (half + half.T).tocsr()
        return cls(both, both.tocsc())

    @classmethod
    def without_links(cls, n: int) -> PairGraph:
        """The graph of ``n`` samples without partners."""
        nothing = np.empty(0, dtype=np.int64)
        return cls.of_links(nothing, nothing, np.empty(0), n)

    @property
    def n_pairs(self) -> int:
        """Pairs of different samples, each counted once."""
        return int(self.likely.nnz) // 2

    def among(self, chosen: np.ndarray, *, steps: int = 1) -> np.ndarray:
        """How likely some samples belong together: (B,) int -> (B, B) float32, 1 for the same one.

        With ``steps=2`` a sample also belongs to the partners of its partners, which may be of its
        own source: as likely as its partners on average belong to them.
        """
        own = self.likely[chosen]
        block: np.ndarray = own[:, chosen].toarray()
        if steps == 2:
            total = np.asarray(own.sum(axis=1)).reshape(-1, 1)
            far = (own @ self.columns[:, chosen]).toarray() / np.maximum(total, 1e-12)
            block = np.maximum(block, far)
        block[chosen[:, np.newaxis] == chosen] = 1
        return block.astype(np.float32)

    def draw(self, anchors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A partner of each anchor by probability, or any sample where it has none: (n,) int."""
        begin, end = self.likely.indptr[anchors], self.likely.indptr[anchors + 1]
        sums = np.concatenate([[0.0], np.cumsum(self.likely.data, dtype=np.float64)])
        point = sums[begin] + rng.random(len(anchors)) * (sums[end] - sums[begin])
        place = np.clip(np.searchsorted(sums, point, side="right") - 1, begin, end - 1)
        alone = begin == end
        drawn = rng.integers(self.likely.shape[0], size=len(anchors))
        drawn[~alone] = self.likely.indices[place[~alone]]
        return drawn

    def with_partners(
        self, order: np.ndarray, batch: int, share: float, rng: np.random.Generator
    ) -> np.ndarray:
        """Samples in the order of an epoch, (n,) int, with partners behind those of each batch.

        A ``share`` of each batch, half at most, are partners of as many of its samples, drawn anew
        for every epoch. So a target's share of partners does not depend on how many samples there
        are: in a batch of samples at random it falls as 1 / n.
        """
        n_drawn = int(share * batch)
        parts = []
        for start in range(0, len(order), batch - n_drawn):
            anchors = order[start : start + batch - n_drawn]
            parts += [anchors, self.draw(anchors[:n_drawn], rng)]
        return np.concatenate(parts)


def pair_graph(rows: TrainingSet, own: TrainingSet, *, relative: bool = False) -> PairGraph:
    """Make the graph of the pairs of the training rows.

    Parameters
    ----------
    rows : TrainingSet
        Those of a bound store, pseudo rows among them: the weight of one is the probability that
        the samples which it puts together belong together. Weights above 1 count as 1.
    own : TrainingSet
        From `incomplete_rows`: the nodes of the graph.
    relative : bool
        Weights are no probabilities: a sample's best partner counts as right, others in proportion.
    """
    pseudo = rows.select(rows.kind == "pseudo")
    links = []
    for p, q in itertools.combinations(range(len(rows.modalities)), 2):
        a, b = pseudo.sample[:, p], pseudo.sample[:, q]
        linked = np.flatnonzero((a >= 0) & (b >= 0) & (a != b))
        links.append(np.stack([linked, a[linked], b[linked]]))
    row, a, b = np.concatenate(links, axis=1)
    place = np.full(int(rows.sample.max(initial=-1)) + 1, -1)
    place[own.sample.max(axis=1)] = np.arange(len(own))  # an incomplete row holds one sample
    a, b, likely = place[a], place[b], pseudo.weight[row].astype(np.float64)
    if relative:
        best = np.zeros(len(own))
        np.maximum.at(best, np.concatenate([a, b]), np.concatenate([likely, likely]))
        likely = likely / np.maximum(np.minimum(best[a], best[b]), 1e-12)
    kept = (a >= 0) & (b >= 0)
    return PairGraph.of_links(a[kept], b[kept], np.clip(likely[kept], 0, 1), len(own))


def published_weights(rows: TrainingSet, rule: PublishedRule = "published") -> np.ndarray:
    """Weights that the published code computes from its similarities s.

    By rule: ``published`` (UTD) 1 + ln(s) / 2, originals 1; ``raw`` (PAMAP2 and SUN RGB-D) s,
    originals 1; ``published_mmfi`` 3 (s - 0.5), originals 0.1.

    Returns
    -------
    ndarray, shape (n_rows,), float32
        Negative where s is below 0.14, 0 or 0.5: such a pair is pushed apart. The logarithm has no
        value for s that are not positive: these get 0.

    Source: published code, main_mmbind_3_incomplete_contrastive_weighted.py of UTD/UTD-acc-bind,
    main_mmbind_3_weighted_fuse_contrastive.py of PAMAP2, and contrastive_design_3M_Weighted.py of
    MMFI/MMFI_Code_Weighted and SUN_RGBD_Main.
    """
    original = rows.kind == "incomplete"
    s = np.where(original, 1, rows.similarity).astype(np.float32)
    if rule == "raw":
        return s
    if rule == "published_mmfi":
        return np.where(original, np.float32(0.1), 3 * (s - 0.5)).astype(np.float32)
    logs = np.log(s, where=s > 0, out=np.zeros(len(rows), np.float32))
    return np.where(s > 0, 1 + logs / 2, 0).astype(np.float32)
