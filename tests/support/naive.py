"""Oracles and random rows that several tests of matching share."""

from __future__ import annotations

import math

import numpy as np

Table = list[list[float]]


def vectors(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def cosine(x: list[float], y: list[float]) -> float:
    """In Python floats; a zero row is similar to nothing."""
    length = math.sqrt(sum(v * v for v in x)) * math.sqrt(sum(v * v for v in y))
    return sum(v * w for v, w in zip(x, y, strict=True)) / length if length else 0.0


def cosines(a: np.ndarray, b: np.ndarray) -> Table:
    return [[cosine(x, y) for y in b.tolist()] for x in a.tolist()]


def turned(table: Table) -> Table:
    return [list(column) for column in zip(*table, strict=True)]
