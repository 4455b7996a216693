"""The samples that advice is based on: drawn, loaded, reduced in size, with coded labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmbind_data.binding.by_sensor import check_finite
from mmbind_data.signal.windows import stretch
from mmbind_data.spec.descriptor import Modality
from mmbind_data.spec.label_synonyms import canonical_label
from mmbind_data.spec.store import LABEL
from mmbind_data.store.dataset import READ_BYTES, Dataset

MAX_NUMBERS = 4096  # numbers per sample after halving frames and pixels
KEPT_AXES = frozenset({"channel", "joint", "coordinate"})


@dataclass(frozen=True)
class SampleDraw:
    """The samples of one store that are looked at, and what is known about them."""

    store: Dataset
    rows: np.ndarray  # (n,) int, ascending
    label: np.ndarray  # (n,) str, empty where there is none
    # (n,) int: subject; recording where there is one subject, the sample where there is one of both
    group: np.ndarray
    n_subjects: int
    coverage: float  # share of the store's samples that carry the modality


def draw(
    store: Dataset, shared: str, max_samples: int, rng: np.random.Generator, use_labels: bool
) -> SampleDraw:
    """Samples of one store that carry the modality, at most so many, the same for the same rng."""
    texts = [canonical_label(text, {}) for text in store.names("label")]
    label = np.array([*texts, ""])[store.column("label")]
    carried = label != "" if shared == LABEL else store.present(shared)
    rows = np.flatnonzero(carried)
    if len(rows) > max_samples:
        rows = np.sort(rng.choice(rows, max_samples, replace=False))
    if not use_labels and shared != LABEL:
        label = np.full_like(label, "")
    subject = store.column("subject")[rows]
    n_subjects = len(np.unique(subject))
    if n_subjects < 2:
        table = store.samples()
        subject = np.arange(len(rows))
        if "raw_file" in table.column_names:
            recordings = np.array([str(one) for one in table["raw_file"].to_pylist()])
            names, codes = np.unique(recordings[rows], return_inverse=True)
            subject = codes if len(names) > 1 else subject
    return SampleDraw(store, rows, label[rows], subject, n_subjects, float(carried.mean()))


def load_both(a: SampleDraw, b: SampleDraw, name: str) -> tuple[Modality, np.ndarray]:
    """The modality of both sides, A's rows first, halved until a sample is small enough."""
    modality = a.store.info.modalities[name]
    n_frames = min(modality.shape[0], b.store.info.modalities[name].shape[0])
    parts = []
    for side in (a, b):
        size = 4 * int(np.prod(side.store.info.modalities[name].shape))
        block = max(1, READ_BYTES // size)
        for start in range(0, len(side.rows), block):
            values = side.store.load(name, side.rows[start : start + block])
            if values.shape[1] != n_frames:  # stretch works along the first axis
                values = stretch(values.swapaxes(0, 1), n_frames).swapaxes(0, 1)
            parts.append(halve(values, modality))
    values = np.concatenate(parts)
    check_finite(values, name, "advise", f"{a.store.path} or {b.store.path}")
    return modality, values


def halve(values: np.ndarray, modality: Modality) -> np.ndarray:
    """Average neighbours along frames and pixels, the longest axis first, until few numbers remain.

    Parameters
    ----------
    values : ndarray, shape (n, T, ...), float32
    modality : Modality
        Channels, joints and coordinates are never mixed.

    Returns
    -------
    ndarray, shape (n, T', ...), float32
        At most 4096 numbers per sample, if averaging can reach that.
    """
    small = values
    free = [k + 1 for k, axis in enumerate(modality.axes) if axis.name not in KEPT_AXES]
    while np.prod(small.shape[1:]) > MAX_NUMBERS:
        axis = max(free, key=lambda k: small.shape[k], default=0)
        if not axis or small.shape[axis] < 2:
            break
        pairs = small.shape[axis] // 2
        even = np.take(small, range(0, 2 * pairs, 2), axis=axis)
        small = (even + np.take(small, range(1, 2 * pairs, 2), axis=axis)) / 2
    return np.asarray(small, dtype=np.float32)


def label_codes(a: SampleDraw, b: SampleDraw) -> tuple[np.ndarray, np.ndarray]:
    """Labels as numbers common to both sides, -1 = none."""
    texts = np.unique(np.concatenate([a.label, b.label]))
    place = {text: number for number, text in enumerate(one for one in texts.tolist() if one)}
    first, second = (
        np.array([place.get(text, -1) for text in side.label.tolist()], dtype=np.int64)
        for side in (a, b)
    )
    return first, second
