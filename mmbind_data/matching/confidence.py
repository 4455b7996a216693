"""How likely each pair is right, judged from the lists of partners alone; no label is read.

A pair is likely right if it is mutual, at the front of both lists, nearly as close as the best
pairs of its anchor and of the whole set, and if the partner is also listed by samples that the
anchor resembles. A logistic regression turns these features into a probability.

Letters: n_a, n_b rows; k ranks.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from mmbind_data.matching.candidates import Matches

SMALLEST = 1e-3  # distances below, of equal samples, count as this


def pair_features(to_b: Matches, to_a: Matches, gap: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Features of every pair of both directions, in the order of `COEFFICIENTS`.

    Parameters
    ----------
    to_b, to_a : Matches, shapes (n_a, k), (n_b, k)
    gap : float
        How much farther a partner is than a sample of other people of the same side; 1 if unknown.

    Returns
    -------
    two ndarrays, shapes (n_a, k, n_features), (n_b, k, n_features), float64
        Of places without partner all features are 0.
    """
    links = [_links(to_b, len(to_a.partner)), _links(to_a, len(to_b.partner))]
    return (
        _directed(to_b, to_a, links[0], links[1], gap),
        _directed(to_a, to_b, links[1], links[0], gap),
    )


def _directed(
    own: Matches, other: Matches, mine: sparse.csr_array, theirs: sparse.csr_array, gap: float
) -> np.ndarray:
    """Features (n, k, n_features) of the pairs of one direction."""
    row, rank = np.nonzero(own.partner >= 0)
    partner, k = own.partner[row, rank], own.partner.shape[1]
    back = other.partner[partner] == row[:, None]
    mutual = back.any(axis=1)
    reverse = np.where(mutual, back.argmax(axis=1), other.partner.shape[1])
    distance = np.maximum(1.0 - own.similarity.astype(np.float64), SMALLEST)
    with np.errstate(invalid="ignore"):
        nearest = np.fmin.reduce(distance, axis=1)
    found = distance[row, rank]
    typical = float(np.median(nearest[np.unique(row)])) if len(row) else 1.0
    alike = (mine @ mine.T).tocsr()  # partners in common with another row of the same side
    through_itself = alike.diagonal()[row]
    others = np.asarray(alike.sum(axis=1)).ravel()[row] - through_itself
    paths = np.asarray((alike @ mine)[row, partner]).ravel() - through_itself
    features = np.zeros((*own.partner.shape, len(COEFFICIENTS)))
    features[row, rank] = np.stack(
        [
            np.log1p(rank),
            np.log1p(reverse),
            mutual,
            np.log(found / nearest[row]),
            np.log(found / typical),
            paths / np.maximum(others, 1),
            np.full(len(row), np.log(k)),
            np.full(len(row), max(0.0, np.log(gap))),
        ],
        axis=1,
    )
    return features


def _links(matches: Matches, n_other: int) -> sparse.csr_array:
    """Which rows list which partners: (n, n_other), 0 or 1."""
    row, rank = np.nonzero(matches.partner >= 0)
    shape = (len(matches.partner), n_other)
    ones = np.ones(len(row), dtype=np.float32)
    return sparse.csr_array((ones, (row, matches.partner[row, rank])), shape=shape)


COEFFICIENTS = {
    "log(1 + rank)": 0.0,
    "log(1 + rank in the partner's list)": 0.0,
    "mutual": 0.0,
    "log(distance / the anchor's nearest)": 0.0,
    "log(distance / the median nearest)": 0.0,
    "share of like samples that list the partner": 0.0,
    "log(k)": 0.0,
    "log(gap)": 0.0,
}
