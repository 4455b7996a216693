"""Inertial samples that are easy to compress and to tell apart."""

from __future__ import annotations

import numpy as np

from mmbind_data.spec.descriptor import Axis, Modality

ACC = Modality(
    kind="inertial", unit="m/s^2", axes=(Axis(name="time", size=40), Axis(name="channel", size=3))
)


def waves(n: int) -> np.ndarray:
    """Oscillations of three frequencies with gravity, (n, 40, 3), each with its own phase."""
    rng = np.random.default_rng(4)
    phase = rng.uniform(0, 2 * np.pi, size=(n, 1, 3))
    frequency = 1.0 + 2 * (np.arange(n)[:, None, None] % 3)
    values = np.sin(2 * np.pi * frequency * np.arange(40)[None, :, None] / 40 + phase)
    return (values * [1.0, 2.0, 4.0] + [0.0, 0.0, 9.8]).astype(np.float32)
