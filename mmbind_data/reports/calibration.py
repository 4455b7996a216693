"""How often pairs of a similarity are right, for evaluation only."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Z_95 = 1.959964  # normal quantile of a two-sided interval of 95 %
PAIRS_PER_BIN = 20  # with fewer, the interval of a bin is too wide to be of use
MAX_BINS = 10


@dataclass(frozen=True)
class Calibration:
    """Share of right pairs by similarity, in bins of about equal count.

    Attributes
    ----------
    low, high, middle : ndarray, shape (bins,), float64
        Smallest, largest and median similarity within each bin.
    n, n_right : ndarray, shape (bins,), int64
    lower, upper : ndarray, shape (bins,), float64
        Interval of 95 % of the share (Wilson).
    order : float
        Probability that a right pair is more similar than a wrong one; NaN without both.
    """

    low: np.ndarray
    high: np.ndarray
    middle: np.ndarray
    n: np.ndarray
    n_right: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    order: float

    @property
    def share(self) -> np.ndarray:
        """Share of right pairs in each bin."""
        return np.asarray(self.n_right / self.n)


def wilson(n_right: np.ndarray, n: np.ndarray, z: float = Z_95) -> tuple[np.ndarray, np.ndarray]:
    """Interval of a binomial share, by default of 95 %.

    scipy's needs whole numbers of trials, and scipy.stats takes 0.7 s to import.

    Parameters
    ----------
    n_right, n : ndarray, shape (bins,)
        Trials need not be whole: of pairs found from both ends, each counts half.
    z : float
        Normal quantile of the two-sided interval.

    Returns
    -------
    lower, upper : ndarray, shape (bins,), float64

    Notes
    -----
    Source: E. B. Wilson, Probable inference, the law of succession, and statistical inference,
    JASA 22 (1927), 209-212.
    """
    n = np.asarray(n, dtype=np.float64)
    share = np.asarray(n_right) / n
    centre = share + z**2 / (2 * n)
    half = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    scale = 1 + z**2 / n
    return np.clip((centre - half) / scale, 0, 1), np.clip((centre + half) / scale, 0, 1)


def calibrate(similarity: np.ndarray, right: np.ndarray) -> Calibration:
    """How often pairs of a similarity are right; equal similarities share a bin.

    Parameters
    ----------
    similarity : ndarray, shape (n,), float32
        One or more, finite.
    right : ndarray, shape (n,), bool
    """
    wide = np.asarray(similarity, dtype=np.float64)
    bins = min(MAX_BINS, max(1, len(wide) // PAIRS_PER_BIN))
    inner = np.quantile(wide, np.arange(1, bins) / bins, method="higher")
    _, group = np.unique(np.searchsorted(np.unique(inner), wide, side="right"), return_inverse=True)
    parts = [wide[group == one] for one in range(int(group.max()) + 1)]
    low, high, middle = (np.array([f(one) for one in parts]) for f in (np.min, np.max, np.median))
    n = np.bincount(group)
    n_right = np.bincount(group[right], minlength=len(n))
    return Calibration(low, high, middle, n, n_right, *wilson(n_right, n), _order(wide, right))


def _order(similarity: np.ndarray, right: np.ndarray) -> float:
    """Share of (right, wrong) couples in which the right one is more similar; ties count half."""
    n_right, n_wrong = int(right.sum()), int((~right).sum())
    if not n_right or not n_wrong:
        return math.nan
    _, group, sizes = np.unique(similarity, return_inverse=True, return_counts=True)
    ranks = np.cumsum(sizes) - (sizes - 1) / 2
    return float((ranks[group][right].sum() - n_right * (n_right + 1) / 2) / (n_right * n_wrong))


def chance(document: Mapping[str, Any]) -> float | None:
    """Pairing accuracy if each direction dealt out the same partners at random."""
    hits, total = 0.0, 0
    for direction in document["directions"]:
        rows, columns = Counter[str](), Counter[str]()
        for label, inner in direction["confusion"].items():
            rows[label] += sum(inner.values())
            columns.update(inner)
        n = rows.total()
        hits += sum(number * columns[label] for label, number in rows.items()) / max(n, 1)
        total += n
    return hits / total if total else None
