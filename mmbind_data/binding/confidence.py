"""How likely each pair is right, judged from the lists of partners alone; no label is read.

A pair is likely right if each is in the other's list and at its front, if it is nearly as close as
the best pairs of its anchor and of the whole set, and if the two sides resemble each other as much
as people within a side do. A logistic regression turns these features into a probability.

The coefficients were fitted on bindings with known labels, of which only the labels that judge the
pairs were read: UTD-MHAD, people 1-6, six splits into two nodes, the acceleration of the second
node as it is and turned by 20 to 180 degrees; MotionSense, people 1-18, three splits; and UTD-MHAD
with MotionSense; 1 to 10 partners each. With a split's people, or MotionSense, left out of the fit
the mean probability differs from the share of right pairs by 0.07 on average and 0.25 at most.

The domain gap says whether two sides resemble each other as people within a side do.
Samples of some people of a side are compared with those of its other people and with as many of the
other side. The gap is how much farther the nearest sample of the other side is. About 1: the sides
differ as people differ, and near samples can be partners. Well above: they differ in sensor,
placement or activity, and the nearest sample is near by chance.

Measured, without any label (UTD-MHAD, people 1-6 in six splits, second node's acceleration turned
by 0, 20, 40, 60, 90, 180 degrees; share of right first partners): gap 0.98: 0.87, 1.03: 0.85, 1.11:
0.76, 1.16: 0.60, 1.22: 0.27, 1.30: 0.10. MotionSense, two halves of 12 people: 0.92, 0.87.

Letters: n_a, n_b rows; k ranks.
"""

from __future__ import annotations

import numpy as np

from mmbind_data.binding.options import BindOptions
from mmbind_data.matching.candidates import Matches
from mmbind_data.matching.csls import shortlist
from mmbind_data.matching.dtw import elastic_signals, reranked
from mmbind_data.matching.match import match
from mmbind_data.matching.rule import MatchRule
from mmbind_data.spec.descriptor import Modality
from mmbind_data.store.pair_table import PairTable

INTERCEPT = 2.31
COEFFICIENTS = {
    "log(1 + rank in the partner's list)": -0.47,
    "mutual": 0.58,
    "log(distance / the anchor's nearest)": -4.45,
    "log(distance / the median nearest)": -2.12,
    "log(gap), if above 0": -14.99,
}
MIN_DISTANCE = 1e-3  # distances below, of equal samples, count as this
EQUAL = 0.2  # and in an anchor's list those below this share of the median nearest
QUERIES = 256  # samples of each side that look for their nearest
POOL = 1024  # samples among which they look
CANDIDATES = 20  # of each, that are compared again by time warping


def pair_probabilities(
    to_b: Matches, to_a: Matches, gap: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Probability that each pair is right, of both directions.

    Parameters
    ----------
    to_b, to_a : Matches, shapes (n_a, k), (n_b, k)
        Similarities are at most 1; the distance of a pair is 1 minus its similarity.
    gap : float
        How much farther the other side is than other people of the same side: see
        `domain_gap`; 1 if unknown.

    Returns
    -------
    two ndarrays, shapes (n_a, k), (n_b, k), float32
        0 without partner. What is missing to 1 at the first rank is the probability that the sample
        has found no partner.
    """
    return _directed(to_b, to_a, gap), _directed(to_a, to_b, gap)


def _directed(own: Matches, other: Matches, gap: float) -> np.ndarray:
    """Probabilities (n, k) of the pairs of one direction."""
    row, rank = np.nonzero(own.partner >= 0)
    probability = np.zeros(own.partner.shape, dtype=np.float32)
    if not len(row):
        return probability
    back = other.partner[own.partner[row, rank]] == row[:, np.newaxis]
    mutual = back.any(axis=1)
    reverse = np.where(mutual, back.argmax(axis=1), back.shape[1])
    found = 1.0 - own.similarity[row, rank].astype(np.float64)
    nearest = np.full(len(own.partner), np.inf)
    np.minimum.at(nearest, row, found)
    typical = max(float(np.median(nearest[np.unique(row)])), MIN_DISTANCE)
    # samples that are all but equal would make every other partner of theirs look far
    found, nearest = (np.maximum(one, EQUAL * typical) for one in (found, nearest))
    features = (
        np.log1p(reverse),
        mutual,
        np.log(found / nearest[row]),
        np.log(found / typical),
        max(0.0, np.log(gap)),
    )
    weights = COEFFICIENTS.values()
    logit = INTERCEPT + sum(w * f for w, f in zip(weights, features, strict=True))
    probability[row, rank] = 1 / (1 + np.exp(-logit))
    return probability


def domain_gap(
    values: np.ndarray,
    modality: Modality,
    vectors: np.ndarray,
    people: tuple[np.ndarray, np.ndarray],
    options: BindOptions,
) -> float | None:
    """How much farther the other side is than other people of the same side.

    Parameters
    ----------
    values : ndarray, shape (n_a + n_b, T, ...), float32
        The shared sensor.
    vectors : ndarray, shape (n_a + n_b, d)
        Its embeddings.
    people : two ndarrays of int, shapes (n_a,), (n_b,)
        Number of each sample's person, see `people_of`.

    Returns
    -------
    float or None
        Geometric mean over both sides of the median ratio of nearest distances; of one side if the
        other has a single person, None if both have.
    """
    rng, n = np.random.default_rng(options.seed), len(people[0])
    rows = np.arange(n), np.arange(n, n + len(people[1]))
    ratios = []
    for own, other, person in ((*rows, people[0]), (*rows[::-1], people[1])):
        known = rng.permutation(np.unique(person[person >= 0]))
        asked = np.isin(person, known[: len(known) // 2])
        queries = rng.permutation(own[asked])[:QUERIES]
        within = rng.permutation(own[~asked & (person >= 0)])[:POOL]
        across = rng.permutation(other)[: len(within)]
        if len(queries) and len(within):
            near, far = (
                _nearest_distance(values, modality, vectors, queries, pool, options)
                for pool in (within[: len(across)], across)
            )
            ratios.append(float(np.median(np.log(far / near))))
    return float(np.exp(np.mean(ratios))) if ratios else None


def people_of(side: PairTable) -> np.ndarray:
    """A number for each person of each source, -1 where unknown, shape (n,)."""
    subject = side.column("subject").astype(np.int64)
    span = int(subject.max(initial=0)) + 1
    return np.where(subject < 0, -1, side.anchor[:, 0] * span + subject)


def _nearest_distance(
    values: np.ndarray,
    modality: Modality,
    vectors: np.ndarray,
    queries: np.ndarray,
    pool: np.ndarray,
    options: BindOptions,
) -> np.ndarray:
    """1 - similarity of each query's nearest in the pool, at least `MIN_DISTANCE`, (n_queries,)."""
    a, b = vectors[queries], vectors[pool]
    if options.warps(modality.kind):
        signals = elastic_signals(values[[*queries, *pool]], modality, options.elastic)
        n = len(queries)
        listed = shortlist(a, b, min(CANDIDATES, n, len(pool)), csls_k=1)
        found = reranked(*listed, signals[:n], signals[n:], band=options.elastic.band)[0]
    else:
        found = match(a, b, MatchRule(metric=options.rule.metric))[0]
    nearest = np.nanmax(found.similarity.astype(np.float64), axis=1)
    return np.asarray(np.maximum(1.0 - nearest, MIN_DISTANCE))
