"""The real UTD-MHAD of subjects 1-6, and the five splits that pairing is judged by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmbind_data.conversion.convert import convert
from mmbind_data.store.dataset import Dataset, open_dataset

SPLITS = (("16", "23"), ("12", "34"), ("25", "36"), ("14", "56"), ("36", "45"))


@dataclass(frozen=True)
class Utd:
    """The converted store with its columns read once: label and subject are (n,) int."""

    store: Dataset
    label: np.ndarray
    subject: np.ndarray

    def rows(self, subjects: str) -> np.ndarray:
        """Rows of the subjects whose one-figure names are given together, such as "16"."""
        codes = [self.store.names("subject").index(one) for one in subjects]
        return np.flatnonzero(np.isin(self.subject, codes))


def open_utd(real_data: Path, folder: Path) -> Utd:
    """Convert the real data into a folder and open it."""
    out = folder / "utd.zarr"
    if not out.exists():
        convert("utd-mhad", real_data / "utd-mhad", out, modalities=["acc", "gyro", "skeleton"])
    store = open_dataset(out)
    return Utd(store, store.column("label"), store.column("subject"))


def right_pairs(score: np.ndarray, label_a: np.ndarray, label_b: np.ndarray) -> float:
    """Share of pairs of equal label, both ways, of the best partners under a score (n_a, n_b)."""
    equal = [label_b[score.argmax(axis=1)] == label_a, label_a[score.argmax(axis=0)] == label_b]
    return float(np.concatenate(equal).mean())
