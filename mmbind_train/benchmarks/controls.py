"""Controls of claims about pairs: each replaces the partners of a bound store by others.

A control is one function from the training rows to a graph of partners. All else stays as it is:
network, objective, batches, steps. What a method gains from its pairs is the difference to them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from mmbind_data.embedding.contrastive import embed_contrastive
from mmbind_data.embedding.vectors import embed_raw
from mmbind_data.matching.candidates import Matches
from mmbind_data.matching.csls import shortlist
from mmbind_data.matching.dtw import Elastic, elastic_signals, reranked
from mmbind_data.matching.match import match
from mmbind_data.matching.rule import MatchRule
from mmbind_data.spec.descriptor import Modality, Model
from mmbind_data.spec.label_synonyms import canonical_label
from mmbind_data.store.bound import BoundDataset, open_bound
from mmbind_data.store.dataset import open_dataset
from mmbind_train.data.training_set import TrainingSet
from mmbind_train.objectives.pair_graph import PairGraph, incomplete_rows, pair_graph

CANDIDATES = 50  # neighbours that are compared once more by time warping
MINING_STEPS = 60  # optimiser steps of each encoder that mines positives


class PartnersOf(Model):
    """Where a row's partners come from instead of the bound store."""

    kind: Literal["lot", "constant", "neighbours", "mined", "label", "none"] = Field(
        description="lot: those of the store, replaced by samples drawn from the same source; "
        "constant: everybody, with as much probability in all; neighbours: the nearest of the same "
        "source by the shared sensor; mined: the nearest of the same source by embeddings of each "
        "of its modalities (after CMC-CMKM, Brinzea et al. 2022); label: all of the other source "
        "with the same true label; none"
    )
    share: float = Field(default=1.0, ge=0, le=1, description="lot: of the pairs that it replaces")
    top_k: int = Field(default=5, ge=1, description="neighbours, mined: partners of a sample")


@dataclass(frozen=True)
class Control:
    """A graph of partners in place of that of a bound store; `train` takes it as ``partners``."""

    given: PartnersOf
    bound: Path
    labelled: tuple[Path, ...]  # converted stores that know the labels of the sources' samples
    seed: int

    def __call__(self, rows: TrainingSet) -> PairGraph:
        """The graph over the incomplete rows."""
        own, data = incomplete_rows(rows), open_bound(self.bound)
        return CONTROLS[self.given.kind](self, _Samples(rows, own, data))

    def __str__(self) -> str:
        share = f" ({self.given.share:.0%})" if self.given.share < 1 else ""
        return f"{self.given.kind}{share}"


@dataclass(frozen=True)
class _Samples:
    """The samples of a bound store: its rows, and its sources' names of them."""

    rows: TrainingSet
    own: TrainingSet
    data: BoundDataset

    @property
    def graph(self) -> PairGraph:
        return pair_graph(self.rows, self.own, relative=not self.data.info.judged)

    def column(self, name: str) -> np.ndarray:
        """A column of the table's incomplete rows, which are the samples in their order: (n,)."""
        table = self.data.pairs()
        kept = np.array(table["kind"].to_pylist(), dtype=object) == "incomplete"
        column: np.ndarray = np.array(table[name].to_pylist(), dtype=object)[kept]
        return column


def by_lot(control: Control, samples: _Samples) -> PairGraph:
    """Links of the store of which a share gets another end, from the source of the one it had."""
    rng, half = np.random.default_rng((control.seed, 3)), samples.graph.likely.tocoo()
    upper = half.row < half.col
    a, b, likely = half.row[upper], half.col[upper], half.data[upper]
    swapped = rng.random(len(a)) < 0.5  # either end may be the one that stays
    a, b = np.where(swapped, b, a), np.where(swapped, a, b)
    source = np.unique(samples.column("anchor_source"), return_inverse=True)[1]
    for code in np.unique(source):
        mine = np.flatnonzero((source[b] == code) & (rng.random(len(b)) < control.given.share))
        b[mine] = rng.choice(np.flatnonzero(source == code), size=len(mine))
    return PairGraph.of_links(a, b, likely, len(source))


def constant(control: Control, samples: _Samples) -> PairGraph:
    """Everybody is everybody's partner; all together have the probability of the store's pairs."""
    del control
    n, total = len(samples.own), float(samples.graph.likely.sum())
    a, b = np.triu_indices(n, 1)
    return PairGraph.of_links(a, b, np.full(len(a), total / max(1, n * (n - 1))), n)


def neighbours(control: Control, samples: _Samples) -> PairGraph:
    """The nearest samples of the same source by time warping of what the sources share."""

    def listed(values: np.ndarray, modality: Modality) -> Matches:
        vectors, count = embed_raw(values, modality).vectors, min(CANDIDATES, len(values))
        signals = elastic_signals(values, modality, Elastic())
        return reranked(*shortlist(vectors, vectors, count), signals, signals)[0]

    return _joined([_within_sources(control, samples, samples.data.info.shared[0], listed)])


def mined(control: Control, samples: _Samples) -> PairGraph:
    """The nearest samples of the same source, by an encoder trained alone on each modality."""

    def listed(values: np.ndarray, modality: Modality) -> Matches:
        embedded = embed_contrastive(values, modality, steps=MINING_STEPS, seed=control.seed)
        rule = MatchRule(top_k=min(control.given.top_k + 1, len(values)))
        return match(embedded.vectors, embedded.vectors, rule)[0]

    modalities = samples.own.modalities
    return _joined([_within_sources(control, samples, name, listed) for name in modalities])


def same_label(control: Control, samples: _Samples) -> PairGraph:
    """All samples of other sources that truly have the same label."""
    label: dict[str, str] = {}
    for path in control.labelled:
        table = open_dataset(path).samples()
        texts = [canonical_label(one or "", {}) for one in table["label_text"].to_pylist()]
        label |= dict(zip(table["uid"].to_pylist(), texts, strict=True))
    own = np.array([label.get(uid, "") for uid in samples.column("anchor_uid")], dtype=object)
    source = samples.column("anchor_source")
    alike = (own[:, np.newaxis] == own) & (own != "") & (source[:, np.newaxis] != source)
    a, b = np.nonzero(alike)
    return PairGraph.of_links(a, b, np.ones(len(a)), len(own))


def nobody(control: Control, samples: _Samples) -> PairGraph:
    """No partners at all: what is learnt from the modalities that each sample has itself."""
    del control
    return PairGraph.without_links(len(samples.own))


CONTROLS: Mapping[str, Callable[[Control, _Samples], PairGraph]] = {
    "lot": by_lot,
    "constant": constant,
    "neighbours": neighbours,
    "mined": mined,
    "label": same_label,
    "none": nobody,
}


def _within_sources(
    control: Control,
    samples: _Samples,
    name: str,
    listed: Callable[[np.ndarray, Modality], Matches],
) -> PairGraph:
    """The nearest samples of each source by one modality; a sample is not its own partner.

    ``listed`` finds, from the samples of a source (n, *shape), the nearest of each, itself among
    them.
    """
    own, links = samples.own, [np.empty((3, 0))]
    column, source = list(own.modalities).index(name), samples.column("anchor_source")
    for one in np.unique(source[own.present[:, column]].astype(str)):
        mine = np.flatnonzero((source == one) & own.present[:, column])
        found = listed(own.values[name][own.index[mine, column]], own.modalities[name])
        itself = found.partner == np.arange(len(mine))[:, np.newaxis]
        row, rank = np.nonzero((found.partner >= 0) & ~itself)
        place = np.arange(len(row)) - np.searchsorted(row, row)
        row, rank = row[place < control.given.top_k], rank[place < control.given.top_k]
        a, b = mine[row], mine[found.partner[row, rank]]
        links.append(np.stack([a, b, np.ones(len(a))]))
    a, b, likely = np.concatenate(links, axis=1)
    return PairGraph.of_links(a.astype(np.int64), b.astype(np.int64), likely, len(own))


def _joined(graphs: Sequence[PairGraph]) -> PairGraph:
    """All links of some graphs; of equal ones the likeliest."""
    links = [graph.likely.tocoo() for graph in graphs]
    a, b, likely = (
        np.concatenate([getattr(one, part) for one in links]) for part in ("row", "col", "data")
    )
    return PairGraph.of_links(a, b, likely, graphs[0].likely.shape[0])
