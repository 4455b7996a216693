"""Similarity of two sets of rows: cosine or euclidean, in a form that can be computed in blocks.

Both metrics become a plain product of two sets of rows, to which an offset per row may be added
(hubness, transport): score(j, k) = linear(j, k) + offset_a[j] + offset_b[k]. Float32 products only
choose candidates; what is compared and stored is measured pair by pair in float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

Metric = Literal["cosine", "euclidean"]
# Scores are compared as whole millionths: float noise cannot change a partner.
MILLIONTHS = 1e6
PIECE = 1024  # rows, or pairs, held in double precision at a time: these fit the cache


def pieces(n: int) -> Iterator[slice]:
    """Slices of `PIECE` rows that make up n rows."""
    return (slice(start, start + PIECE) for start in range(0, n, PIECE))


def round_similarity(value: np.ndarray) -> np.ndarray:
    """Similarities as they are stored: float32, rounded to 1e-6."""
    return np.asarray(np.rint(value * MILLIONTHS) / MILLIONTHS, dtype=np.float32)


@dataclass(frozen=True)
class PreparedMetric:
    """Two sets of rows and the metric between them.

    Attributes
    ----------
    a, b : ndarray, shapes (n_a, d), (n_b, d)
    metric : {"cosine", "euclidean"}
    centre : ndarray, shape (d,), float64
        Subtracted before float32 products of the euclidean metric; zeros for cosine.
    scale : float
        Unit of distance: the root mean square distance of two rows drawn from the union.
    length_a, length_b : ndarray, shapes (n_a,), (n_b,), float64
        Row lengths; 1 for a zero row, which is then similar to nothing.
    """

    a: np.ndarray
    b: np.ndarray
    metric: Metric
    centre: np.ndarray
    scale: float
    length_a: np.ndarray
    length_b: np.ndarray

    def among(self, rows_a: np.ndarray, rows_b: np.ndarray) -> PreparedMetric:
        """The same metric on some rows of each side."""
        a, length_a = self.a[rows_a], self.length_a[rows_a]
        b, length_b = self.b[rows_b], self.length_b[rows_b]
        return replace(self, a=a, b=b, length_a=length_a, length_b=length_b)

    def raw(self, rows_a: np.ndarray, rows_b: np.ndarray) -> np.ndarray:
        """Cosine, or distance in units of `scale`, of pairs; float64, the same either way round."""
        out = np.empty(len(rows_a), dtype=np.float64)
        for pairs in pieces(len(rows_a)):
            one = self.a[rows_a[pairs]].astype(np.float64)
            other = self.b[rows_b[pairs]].astype(np.float64)
            if self.metric == "cosine":
                lengths = self.length_a[rows_a[pairs]] * self.length_b[rows_b[pairs]]
                out[pairs] = np.clip((one * other).sum(axis=1) / lengths, -1.0, 1.0)
            else:
                out[pairs] = np.sqrt(((one - other) ** 2).sum(axis=1)) / self.scale
        return out

    def linear(self, raw: np.ndarray) -> np.ndarray:
        """The score to which offsets may be added: cosine, or minus half the squared distance.

        For rows of length one, and scale 1, the two differ by the constant 1.
        """
        return raw if self.metric == "cosine" else np.asarray(-0.5 * raw**2)

    def similarity(self, raw: np.ndarray) -> np.ndarray:
        """Stored similarity, float32, rounded to 1e-6: cosine, or 1 / (1 + distance)."""
        return round_similarity(raw if self.metric == "cosine" else 1.0 / (1.0 + raw))

    def keys(self, raw: np.ndarray, offset: np.ndarray | None) -> np.ndarray:
        """Whole millionths by which pairs are ranked: score with offset, else minus distance."""
        value = raw if self.metric == "cosine" else -raw
        if offset is not None:
            value = self.linear(raw) + offset
        return np.asarray(np.rint(value * MILLIONTHS), dtype=np.int64)

    def score_to_reach(self, keys: np.ndarray, *, offset: bool) -> np.ndarray:
        """Score below which no later row can come before a pair of the given key.

        Without offsets equal keys are ordered by row, so a later row needs more; with offsets they
        are ordered by similarity first.
        """
        if offset:
            return (keys - 0.5) / MILLIONTHS
        if self.metric == "cosine":
            return (keys + 0.5) / MILLIONTHS
        return -0.5 * (np.maximum(-keys - 0.5, 0.0) / MILLIONTHS) ** 2

    def operands(
        self,
        offset_a: np.ndarray | None = None,
        offset_b: np.ndarray | None = None,
        dtype: type[np.floating] = np.float32,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rows whose product is the score: (n_a, d) and (n_b, d), or d + 2 where offsets enter."""
        left = self._scaled(self.a, self.length_a, offset_a, dtype)
        right = self._scaled(self.b, self.length_b, offset_b, dtype)
        if left.shape[1] > self.a.shape[1]:
            right[:, [-2, -1]] = right[:, [-1, -2]]
        return left, right

    def _scaled(
        self,
        rows: np.ndarray,
        length: np.ndarray,
        offset: np.ndarray | None,
        dtype: type[np.floating],
    ) -> np.ndarray:
        """Rows as the product needs them, then their own term, then 1."""
        n, d = rows.shape
        extra = 2 if offset is not None or self.metric == "euclidean" else 0
        out = np.empty((n, d + extra), dtype=dtype)
        for part in pieces(n):
            wide = rows[part].astype(np.float64)
            own = np.zeros(len(wide)) if offset is None else offset[part]
            if self.metric == "cosine":
                wide /= length[part, None]
            else:
                wide = (wide - self.centre) / self.scale
                own = own - 0.5 * (wide**2).sum(axis=1)
            out[part, :d] = wide
            if extra:
                out[part, d], out[part, d + 1] = own, 1.0
        return out


def make_metric(a: np.ndarray, b: np.ndarray, metric: Metric) -> PreparedMetric:
    """Lengths, centre and scale of two sets of rows, (n_a, d) and (n_b, d)."""
    centre, scale = np.zeros(a.shape[1]), 1.0
    if metric == "euclidean":
        n = len(a) + len(b)
        centre = (a.sum(axis=0, dtype=np.float64) + b.sum(axis=0, dtype=np.float64)) / n
        spread = sum(
            float(((rows[part].astype(np.float64) - centre) ** 2).sum())
            for rows in (a, b)
            for part in pieces(len(rows))
        )
        # E|x - y|^2 = 2 E|x - mean|^2 for two independent draws
        scale = float(np.sqrt(2.0 * spread / n)) or 1.0
    return PreparedMetric(a, b, metric, centre, scale, row_lengths(a), row_lengths(b))


def unit_rows(values: np.ndarray) -> np.ndarray:
    """Rows of length one, (n, d) float64; a zero row stays."""
    wide = np.asarray(values, dtype=np.float64)
    length = np.linalg.norm(wide, axis=1, keepdims=True)
    return np.asarray(wide / np.where(length > 0, length, 1.0))


def row_lengths(rows: np.ndarray) -> np.ndarray:
    """Length of each row, float64; 1 for a zero row."""
    out = np.empty(len(rows), dtype=np.float64)
    for part in pieces(len(rows)):
        out[part] = np.sqrt((rows[part].astype(np.float64) ** 2).sum(axis=1))
    return np.where(out > 0, out, 1.0)


def principal_components(
    a: np.ndarray, b: np.ndarray, n_components: int
) -> tuple[np.ndarray, np.ndarray]:
    """Both sets on the leading principal axes of their union, by decreasing variance.

    Exact: eigenvectors of the covariance of the union; the largest entry of each axis is positive.
    (n_a, d) and (n_b, d) become (n_a, n_components) and (n_b, n_components) float64.

    Raises
    ------
    ValueError
        More components than dimensions.
    """
    d = a.shape[1]
    if n_components > d:
        message = f"--pca {n_components} of embeddings that have {d} dimensions: give fewer"
        raise ValueError(message)
    n = len(a) + len(b)
    centre = (a.sum(axis=0, dtype=np.float64) + b.sum(axis=0, dtype=np.float64)) / n
    covariance = np.zeros((d, d))
    for rows in (a, b):
        for part in pieces(len(rows)):
            wide = rows[part].astype(np.float64) - centre
            covariance += wide.T @ wide / n
    axes = np.linalg.eigh(covariance)[1][:, ::-1][:, :n_components]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(n_components)])
    return _projected(a, centre, axes), _projected(b, centre, axes)


def _projected(rows: np.ndarray, centre: np.ndarray, axes: np.ndarray) -> np.ndarray:
    out = np.empty((len(rows), axes.shape[1]), dtype=np.float64)
    for part in pieces(len(rows)):
        wide = rows[part].astype(np.float64) - centre
        # without BLAS: equal rows give equal numbers at any position in a block
        out[part] = np.stack([(wide * axis).sum(axis=1) for axis in axes.T], axis=1)
    return out
