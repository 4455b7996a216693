"""Measures of how well one shared modality would bind, from its embeddings alone. Pure.

Letters: n_a, n_b samples; d embedding length; score (n_a, n_b) what partners are chosen by.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from scipy.spatial.transform import Rotation
from scipy.stats import skew

from mmbind_data.matching.csls import csls_of_table
from mmbind_data.matching.metric import unit_rows
from mmbind_data.matching.nearest import largest
from mmbind_data.signal.normalise import centre
from mmbind_data.spec.descriptor import Modality

CORRECTION_K = 10  # neighbours whose mean similarity is subtracted, as in CSLS
OCCURRENCE_K = 10  # neighbours counted for hubness and stability
LABEL_K = 5  # neighbours asked for their label
MIN_SAME = 2.0  # samples of the same label in other groups, on average, that a round trip needs
COMPONENTS = 20  # principal components that the two sides are classified by
MAX_PARTS = 3  # parts that a side's subjects are dealt into for cross-validation
DECIMALS = 6  # as stored similarities: float noise of 1e-7 cannot change a partner

# How a sample is perturbed: the strengths that mmbind_train augments with, set before any measuring
ROTATION, WARP, GAIN, JITTER = 0.15, 0.3, 0.1, 0.05
VECTOR_KINDS = frozenset({"inertial", "skeleton"})


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosine similarities of all rows of a (n_a, d) and b (n_b, d), rounded: (n_a, n_b) float64.

    A zero row is similar to nothing.
    """
    return np.asarray(np.round(unit_rows(a) @ unit_rows(b).T, DECIMALS))


def csls_of_products(similarity: np.ndarray, k: int = CORRECTION_K) -> np.ndarray:
    """Similarities less the mean similarity of both samples to their neighbours, against hubs.

    2 s - r_a - r_b, r being the mean similarity to the k most similar, or to all if there are
    fewer; (n_a, n_b) both, float64.

    Notes
    -----
    Source: Conneau et al., Word translation without parallel data, ICLR 2018, eq. 8 (CSLS).
    """
    return np.asarray(np.round(2.0 * csls_of_table(similarity, k), DECIMALS))


def label_agreement(vectors: np.ndarray, label: np.ndarray, group: np.ndarray) -> float | None:
    """How often the nearest samples of other groups carry the same label.

    Parameters
    ----------
    vectors : ndarray, shape (n, d)
    label : ndarray of int, shape (n,)
        -1 = unlabelled, and left out.
    group : ndarray of int, shape (n,)
        Subjects, or recordings: a sample's own group is no neighbour.

    Returns
    -------
    float or None
        Mean share among the 5 nearest; None without two labels in two groups.
    """
    rows = np.flatnonzero(label >= 0)
    if len(np.unique(label[rows])) < 2 or len(np.unique(group[rows])) < 2:
        return None
    similarity = cosines(vectors[rows], vectors[rows])
    shares = []
    for own in np.unique(group[rows]):
        asking, asked = np.flatnonzero(group[rows] == own), np.flatnonzero(group[rows] != own)
        order = _nearest(similarity[np.ix_(asking, asked)], LABEL_K)
        equal = label[rows][asked[order]] == label[rows][asking][:, np.newaxis]
        shares.append(equal.mean(axis=1))
    return float(np.concatenate(shares).mean())


def round_trip(score: np.ndarray, label: np.ndarray, group: np.ndarray) -> tuple[float, int] | None:
    """How often the way from A to a partner in B and back ends at the label it began with.

    The way back must not lead to the group it came from. The gap between A and B is crossed twice,
    and only A needs labels.

    Parameters
    ----------
    score : ndarray, shape (n_a, n_b)
        Of equal ones the lowest row is taken.
    label, group : ndarray of int, shape (n_a,)
        As for `label_agreement`.

    Returns
    -------
    (float, int) or None
        The share, and the number of samples it was measured on. None without two labels in two
        groups, or with so few that the nearest labelled sample is a far one: on real UTD-MHAD the
        estimate is 3 points low with 2 of a label in other groups, and 15 low with 1.
    """
    labelled = label >= 0
    if len(np.unique(label[labelled])) < 2 or len(np.unique(group[labelled])) < 2:
        return None
    kind, who = label[labelled], group[labelled]
    same = (kind == kind[:, np.newaxis]) & (who != who[:, np.newaxis])
    if same.sum(axis=1).mean() < MIN_SAME:
        return None
    partner = score.argmax(axis=1)
    equal = []
    for own in np.unique(group[labelled]):
        begin = np.flatnonzero(labelled & (group == own))
        ends = np.flatnonzero(labelled & (group != own))
        end = ends[score[np.ix_(ends, partner[begin])].argmax(axis=0)]
        equal.append(label[end] == label[begin])
    found = np.concatenate(equal)
    return float(found.mean()), len(found)


def one_way(round_trip_share: float, n_classes: float) -> float:
    """Share of right pairs p that explains a share of round trips c.

    Two steps are right both, or wrong both and by chance back: c = p^2 + (1 - p)^2 / (n - 1). The
    larger root; where c is below what any p gives, chance 1 / n.

    >>> round(one_way(0.25 + 0.25 / 9, 10), 6)
    0.5
    """
    other = 1.0 / max(n_classes - 1.0, 1e-9)
    inside = other**2 - (1.0 + other) * (other - round_trip_share)
    return min(1.0, (other + math.sqrt(max(inside, 0.0))) / (1.0 + other))


def a_distance(
    a: np.ndarray, b: np.ndarray, group_a: np.ndarray, group_b: np.ndarray, *, seed: int = 0
) -> float:
    """Proxy A-distance: how well a linear classifier separates the two sides.

    Parameters
    ----------
    a : ndarray, shape (n_a, d)
    b : ndarray, shape (n_b, d)
    group_a : ndarray of int, shape (n_a,)
    group_b : ndarray of int, shape (n_b,)
        Subjects. Where both sides have two or more, the classifier is tested on subjects that it
        did not see, so that it measures what sets the datasets apart, not the people.

    Returns
    -------
    float
        2 (1 - 2 e) of the balanced error e, 0 (alike) to 2 (always separated).

    Notes
    -----
    Source: Ben-David et al., Analysis of representations for domain adaptation, NIPS 2006.
    """
    rng = np.random.default_rng(seed)
    union = np.concatenate([unit_rows(a), unit_rows(b)])
    if np.ptp(union, axis=0).max() == 0:
        return 0.0
    table = _principal(union - union.mean(axis=0), COMPONENTS, rng)
    side = np.repeat([-1.0, 1.0], [len(a), len(b)])
    errors = []
    for test in _held_out(group_a, group_b, rng):
        right = _classify(table[~test], side[~test], table[test]) == side[test]
        errors.append(1.0 - np.mean([right[side[test] == each].mean() for each in (-1.0, 1.0)]))
    return float(max(0.0, 2.0 * (1.0 - 2.0 * np.mean(errors))))


def hubness(similarity: np.ndarray, k: int = OCCURRENCE_K) -> float:
    """Skewness of how often a column of an (n_a, n_b) table is among the k most similar of a row.

    About 0 where partners are used evenly; 1 and more where a few are used by most.

    Notes
    -----
    Source: Radovanovic, Nanopoulos, Ivanovic: Hubs in space, JMLR 11, 2010, section 2.
    """
    return skewness(np.bincount(_nearest(similarity, k).ravel(), minlength=similarity.shape[1]))


def skewness(counts: np.ndarray) -> float:
    """Skewness, 0 of what is constant."""
    return 0.0 if np.ptp(counts) < 1e-9 else float(skew(counts))


def stability(score: np.ndarray, perturbed: np.ndarray, k: int = OCCURRENCE_K) -> float:
    """Mean share of the k best partners that remain when samples are perturbed: of (n_a, n_b)."""
    before, after = _nearest(score, k), _nearest(perturbed, k)
    common = [np.isin(one, other).mean() for one, other in zip(before, after, strict=True)]
    return float(np.mean(common))


def perturb(values: np.ndarray, modality: Modality, rng: np.random.Generator) -> np.ndarray:
    """Samples as another person might have given them: rotated, warped, scaled and noisier.

    Vectors of three (inertial, skeleton) are rotated; a single frame is not warped. Both
    (n, T, ...) float32.
    """
    changed = np.array(centre(values, modality), dtype=np.float32)
    n, n_frames = changed.shape[:2]
    tail = [1] * (changed.ndim - 2)
    if n_frames > 1:
        speed = np.exp(rng.normal(0.0, WARP, size=(n, 1)))
        position = np.linspace(0.0, 1.0, n_frames) ** speed * (n_frames - 1)
        left = np.minimum(position.astype(np.int64), n_frames - 2)
        share = (position - left).reshape(n, n_frames, *tail)
        sample = np.arange(n)[:, np.newaxis]
        changed = changed[sample, left] * (1.0 - share) + changed[sample, left + 1] * share
    if modality.kind in VECTOR_KINDS and changed.shape[-1] == 3:
        turn = Rotation.from_rotvec(rng.normal(0.0, ROTATION, size=(n, 3))).as_matrix()
        shape = changed.shape
        changed = np.matmul(changed.reshape(n, -1, 3), turn.swapaxes(1, 2)).reshape(shape)
    spread = changed.std(axis=tuple(range(changed.ndim - 1)))
    changed *= rng.normal(1.0, GAIN, size=(n, 1, *tail))
    changed += JITTER * spread * rng.standard_normal(changed.shape)
    return np.asarray(changed, dtype=np.float32)


def _nearest(score: np.ndarray, k: int) -> np.ndarray:
    """The k best columns of each row; of equal ones the lowest. Shape (n_a, min(k, n_b))."""
    return largest(np.rint(score * 10**DECIMALS).astype(np.int64), min(k, score.shape[1]))[0]


def _principal(centred: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """The first n principal components of each row, each of variance one; (rows, <= n).

    Source: Halko, Martinsson, Tropp, SIAM Review 53, 2011, algorithm 4.4 (randomised range finder).
    """
    basis = rng.standard_normal((centred.shape[1], min(n + 10, *centred.shape)))
    for _ in range(4):
        basis = np.linalg.qr(centred.T @ np.linalg.qr(centred @ basis)[0])[0]
    left, sizes, _ = np.linalg.svd(centred @ basis, full_matrices=False)
    significant = sizes[:n] > 1e-9 * sizes[0]
    return np.asarray(left[:, :n][:, significant] * math.sqrt(len(centred)))


def _classify(table: np.ndarray, side: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Side of each row asked, -1 or 1: ridge regression with equal weight of both sides."""
    design = np.column_stack([table, np.ones(len(table))])
    weight = 0.5 / np.where(side > 0, (side > 0).mean(), (side < 0).mean())
    normal = (design * weight[:, np.newaxis]).T @ design + np.eye(design.shape[1])
    plane = np.linalg.solve(normal, design.T @ (weight * side))
    return np.where(np.column_stack([asked, np.ones(len(asked))]) @ plane > 0, 1.0, -1.0)


def _held_out(
    group_a: np.ndarray, group_b: np.ndarray, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Masks over A then B of the test rows of each fold: a part of either side at a time."""
    by_subject = min(len(np.unique(group_a)), len(np.unique(group_b))) > 1
    parts = []
    for group in (group_a, group_b):
        names, codes = np.unique(
            group if by_subject else np.arange(len(group)), return_inverse=True
        )
        place = np.empty(len(names), dtype=np.int64)
        place[rng.permutation(len(names))] = np.arange(len(names)) % MAX_PARTS
        parts.append(place[codes])
    for one in np.unique(parts[0]):
        for other in np.unique(parts[1]):
            yield np.concatenate([parts[0] == one, parts[1] == other])
