"""Soft targets: how much two source samples are partners, derived from the table of pairs."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from mmbind_train.config import PublishedRule
from mmbind_train.data.training_set import TrainingSet


def incomplete_rows(rows: TrainingSet) -> TrainingSet:
    """Every source sample once, with its own modalities: the incomplete rows, weight 1."""
    return rows.select(rows.kind == "incomplete")


@dataclass(frozen=True)
class PairGraph:
    """Source samples that are pseudo-paired, and how much.

    Row i of ``shares`` is how sample i's weight is shared among its partners, both directions of a
    pair counted; it sums to 1, or to 0 without partners.
    """

    shares: sparse.csr_array  # (n, n), float32
    columns: sparse.csc_array  # the same, for reading columns

    def among(self, chosen: np.ndarray, *, steps: int = 2) -> np.ndarray:
        """How much some samples are partners: (B,) int -> (B, B) float32, the diagonal 0.

        With ``steps=2`` samples two pairs apart count as much as those of one pair. This links
        samples of one source, which no pair does.
        """
        own = self.shares[chosen]
        block: np.ndarray = own[:, chosen].toarray()
        if steps == 2:
            block = block + (own @ self.columns[:, chosen]).toarray()
        np.fill_diagonal(block, 0)
        return block


def pair_graph(rows: TrainingSet, own: TrainingSet) -> PairGraph:
    """Make the graph of the pairs of the training rows.

    ``rows`` are those of a bound store with its pseudo rows, in which the weights of an anchor's
    partners sum to 1; ``own``, from `incomplete_rows`, are the nodes of the graph.
    """
    n_codes = int(rows.sample.max(initial=-1)) + 1
    pseudo = rows.select(rows.kind == "pseudo")
    links = []
    for p, q in itertools.permutations(range(len(rows.modalities)), 2):
        a, b = pseudo.sample[:, p], pseudo.sample[:, q]
        linked = np.flatnonzero((a >= 0) & (b >= 0) & (a != b))
        links.append(np.stack([linked, a[linked], b[linked]]))
    # a row links two samples once, however many modalities it takes from each
    row, anchor, partner = np.unique(np.concatenate(links, axis=1), axis=1)
    entries = (pseudo.weight[row].astype(np.float64), (anchor, partner))
    node = own.sample.max(axis=1)  # an incomplete row holds one sample
    graph = sparse.coo_array(entries, shape=(n_codes, n_codes)).tocsr()[node][:, node]
    graph = graph + graph.T
    degree = np.asarray(graph.sum(axis=1)).ravel()
    shared = sparse.diags_array(1 / np.where(degree > 0, degree, 1)) @ graph
    shared = shared.astype(np.float32)
    return PairGraph(shared.tocsr(), shared.tocsc())


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
