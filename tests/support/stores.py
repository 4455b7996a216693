"""Small converted stores whose every value tells its row, its modality and its place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from mmbind_data.io.digests import sample_uid
from mmbind_data.spec.descriptor import Axis, Licence, Modality
from mmbind_data.spec.store import DatasetInfo
from mmbind_data.store.dataset import DESCRIPTOR, PROVENANCE, Dataset, open_dataset
from mmbind_data.store.writer import StoreContent, write_store

XYZ = Axis(name="channel", size=3, names=("x", "y", "z"))
MODALITIES = {
    "acc": Modality(kind="inertial", unit="m/s^2", axes=(Axis(name="time", size=5), XYZ)),
    "depth": Modality(
        kind="depth_video",
        unit="m",
        axes=(Axis(name="time", size=2), Axis(name="height", size=4), Axis(name="width", size=6)),
        background=0.0,
    ),
}
LABELS = ("walk", "run", "sit")
SUBJECTS = ("1", "2", "10")


def coded(modality: str, rows: Sequence[int] | np.ndarray) -> np.ndarray:
    """Values of some rows: 1000 * row + 500 * (is it depth) + place in the sample."""
    shape = MODALITIES[modality].shape
    place = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    first = 1000.0 * np.asarray(rows, dtype=np.float32) + 500.0 * (modality == "depth")
    return (first.reshape(-1, *[1] * len(shape)) + place).astype(np.float32)


def content(n: int, *, absent: Sequence[int] = (), block: int = 4) -> StoreContent:
    """What `write_coded` writes; depth is absent in some rows."""
    number = np.arange(n)
    carried = ~np.isin(number, absent)
    present = {"acc": np.ones(n, dtype=bool), "depth": carried}
    label = np.where(number % 7 == 6, -1, number % 3).astype(np.int32)
    subject = (number * 3 // n).astype(np.int32)
    unknown = np.full(n, -1, dtype=np.int32)
    texts = [LABELS[code] if code >= 0 else None for code in label]
    samples = pa.table(
        {
            "row": number,
            "uid": [sample_uid("coded", f"r{row}", "whole", "default") for row in range(n)],
            "subject": [SUBJECTS[code] for code in subject],
            **{
                name: pa.nulls(n, pa.string())
                for name in ("session", "trial", "placement", "environment")
            },
            "label": label,
            "label_text": pa.array(texts, type=pa.string()),
            "raw_file": [f"r{row}.csv" for row in range(n)],
            "raw_start": number,
            "raw_end": number + 5,
            "t_start": number / 50,
            "t_end": (number + 5) / 50,
            "window_index": np.zeros(n, dtype=np.int64),
        }
    )

    def blocks(modality: str) -> Iterator[np.ndarray]:
        for start in range(0, n, block):
            rows = number[start : start + block]
            values = coded(modality, rows)
            values[~present[modality][rows]] = np.nan
            yield values

    return StoreContent(
        info=DatasetInfo(
            dataset_id="coded",
            dataset_version="1",
            title="Coded values",
            preset="default",
            modalities=MODALITIES,
            n_samples=n,
            subjects={name: int((subject == i).sum()) for i, name in enumerate(SUBJECTS)},
            labels={name: int((label == i).sum()) for i, name in enumerate(LABELS)},
            n_present={name: int(mask.sum()) for name, mask in present.items()},
            licence=Licence(name="none", redistribution="allow", source="this file"),
            content_digest="",
        ),
        columns={
            "label": (label, LABELS),
            "subject": (subject, SUBJECTS),
            "placement": (unknown, ()),
            "environment": (unknown, ()),
        },
        samples=samples,
        raw_files=pa.table(
            {
                "path": [f"r{row}.csv" for row in range(n)],
                "bytes": number,
                "sha256": ["0" * 64] * n,
                "role": ["all"] * n,
            }
        ),
        present=present,
        blocks=blocks,
        documents={DESCRIPTOR: {}, PROVENANCE: {"command": "test"}},
    )


def write_coded(root: Path, n: int, *, absent: Sequence[int] = (), block: int = 4) -> Dataset:
    """Write and open a store of ``n`` rows."""
    write_store(root, content(n, absent=absent, block=block))
    return open_dataset(root)
