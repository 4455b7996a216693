"""Small converted stores with separable activities, written in a moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from plain import PLAIN

from mmbind_data.binding.bind import bind
from mmbind_data.signal.point_clouds import RaggedPoints
from mmbind_data.spec.descriptor import Axis, Licence, Modality
from mmbind_data.spec.store import DatasetInfo
from mmbind_data.store.bound import PAIRS, open_bound
from mmbind_data.store.dataset import DESCRIPTOR, PROVENANCE
from mmbind_data.store.partitioning import partition
from mmbind_data.store.validation import validate
from mmbind_data.store.writer import StoreContent, write_store

LABELS = ("clap", "kick", "wave")
SUBJECTS = ("1", "2", "3", "4", "5", "6")
TRIALS = 3
FRAMES = {"acc": 24, "gyro": 24, "skeleton": 12}
UNITS = {"acc": "m/s^2", "gyro": "rad/s", "skeleton": "m"}
JOINTS = ("head", "hip", "hand")
NO_LICENCE = Licence(name="none", redistribution="unknown", source="made for tests")


def modality(name: str, n_frames: int, rate_hz: float = 50.0) -> Modality:
    time = Axis(name="time", size=n_frames)
    if name != "skeleton":
        axes = (time, Axis(name="channel", size=3, names=("x", "y", "z")))
        return Modality(kind="inertial", unit=UNITS[name], axes=axes, rate_hz=rate_hz)
    joints = Axis(name="joint", size=len(JOINTS), names=JOINTS)
    xyz = Axis(name="coordinate", size=3, names=("x", "y", "z"))
    return Modality(kind="skeleton", unit="m", axes=(time, joints, xyz), root="hip")


def write_small_store(
    path: Path,
    *,
    dataset_id: str = "small",
    labels: tuple[str, ...] = LABELS,
    subjects: tuple[str, ...] = SUBJECTS,
    frames: dict[str, int] | None = None,
    missing: dict[str, tuple[int, ...]] | None = None,
    seed: int = 0,
    noise: float = 0.1,
    extra: Mapping[str, Sequence[object]] | None = None,
    licence: Licence | None = None,
    rate_hz: float = 50.0,
) -> Path:
    """Each label has its own waves in every modality; each subject its own gain and offset.

    ``extra`` are further columns of the sample table.
    """
    frames = frames or FRAMES
    rng = np.random.default_rng(seed)
    rows = list(product(range(len(subjects)), range(len(labels)), range(TRIALS)))
    n = len(rows)
    modalities = {name: modality(name, length, rate_hz) for name, length in frames.items()}
    present = {name: np.ones(n, dtype=bool) for name in frames}
    values = {}
    for name, one in modalities.items():
        waves = np.random.default_rng(sorted(FRAMES).index(name)).normal(
            size=(len(labels), 3, *one.shape[1:])
        )
        offset = rng.normal(size=(len(subjects), *one.shape[1:])) * 0.3
        ticks = np.linspace(0, 1, one.shape[0])
        basis = np.stack([np.sin((k + 1) * np.pi * ticks) for k in range(3)])
        data = np.stack([np.tensordot(basis.T, waves[c], 1) + offset[s] for s, c, _ in rows])
        values[name] = (data + noise * rng.normal(size=data.shape)).astype(np.float32)
        for row in (missing or {}).get(name, ()):
            present[name][row] = False
            values[name][row] = np.nan
    return write_labelled_store(
        path, values, dataset_id=dataset_id, modalities=modalities, subjects=subjects,
        labels=labels, present=present, extra=extra, licence=licence,
    )  # fmt: skip


def write_labelled_store(
    path: Path,
    held: Mapping[str, np.ndarray | RaggedPoints],
    *,
    dataset_id: str,
    modalities: dict[str, Modality],
    subjects: tuple[str, ...],
    labels: tuple[str, ...],
    trials: int = TRIALS,
    present: dict[str, np.ndarray] | None = None,
    extra: Mapping[str, Sequence[object]] | None = None,
    licence: Licence | None = None,
) -> Path:
    """Write what is held of the trials of each label of each subject, in this order."""
    cells = list(product(range(len(subjects)), range(len(labels)), range(trials)))
    n = len(cells)
    present = present or {name: np.ones(n, dtype=bool) for name in held}
    code = {"subject": [s for s, _, _ in cells], "label": [c for _, c, _ in cells]}
    names = {"subject": subjects, "label": labels, "placement": (), "environment": ()}
    columns = {
        name: (np.array(code.get(name, [-1] * n), dtype=np.int32), names[name]) for name in names
    }
    samples = pa.table(
        {
            "row": pa.array(range(n), type=pa.int64()),
            "uid": [f"{dataset_id}-{s}-{c}-{t}" for s, c, t in cells],
            "subject": [subjects[s] for s, _, _ in cells],
            "label": columns["label"][0],
            "label_text": [labels[c] for _, c, _ in cells],
            **{name: pa.array(column) for name, column in (extra or {}).items()},
        }
    )
    info = DatasetInfo(
        dataset_id=dataset_id,
        dataset_version="1",
        title="small",
        preset="default",
        modalities=modalities,
        n_samples=n,
        subjects=dict.fromkeys(subjects, len(labels) * trials),
        labels=dict.fromkeys(labels, len(subjects) * trials),
        n_present={name: int(here.sum()) for name, here in present.items()},
        licence=licence or NO_LICENCE,
        content_digest="",
    )
    content = StoreContent(
        info=info,
        columns=columns,
        samples=samples,
        raw_files=pa.table({"path": ["none"], "sha256": ["0" * 64]}),
        present=present,
        blocks=lambda name: iter([held[name]]),
        documents={DESCRIPTOR: {}, PROVENANCE: {}},
        n_points={
            name: len(one.values) for name, one in held.items() if isinstance(one, RaggedPoints)
        },
    )
    write_store(path, content)
    return path


def write_nodes(folder: Path, noise: float = 0.1) -> dict[str, Path]:
    """A has acc + skeleton, B acc + gyro, C gyro alone, D acc alone; of two people each."""
    people = tuple(str(number) for number in range(1, 9))
    whole = write_small_store(folder / "whole", subjects=people, noise=noise)
    carried = {"A": ["acc", "skeleton"], "B": ["acc", "gyro"], "C": ["gyro"], "D": ["acc"]}
    made = {name: folder / f"{name}.zarr" for name in carried}
    for index, (name, modalities) in enumerate(carried.items()):
        own = people[2 * index : 2 * index + 2]
        partition(whole, made[name], subjects=own, modalities=modalities)
    return made


def checked_rows(bound: Path) -> list[dict[str, Any]]:
    """The table of pairs of a store in which validation finds nothing."""
    assert validate(bound, level="values") == []
    rows: list[dict[str, Any]] = open_bound(bound).pairs().to_pylist()
    return rows


def edit_pairs(bound: Path, changes: dict[str, dict[int, object]]) -> None:
    """Change single cells of a bound store's table: column -> row -> value."""
    table = pq.read_table(bound / PAIRS)
    for name, cells in changes.items():
        column = table[name].to_pylist()
        for row, value in cells.items():
            column[row] = value
        kind = table.schema.field(name).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        place = table.schema.get_field_index(name)
        table = table.set_column(place, name, pa.array(column, type=kind))
    pq.write_table(table, bound / PAIRS)


@dataclass(frozen=True)
class World:
    """Subjects 1-2 are node A, 3-4 node B, 5 fine-tunes, 6 tests."""

    root: Path

    def __getattr__(self, name: str) -> Path:
        return self.root / f"{name}.zarr"


def make_world(root: Path) -> World:
    full = write_small_store(root / "full.zarr")
    nodes: dict[str, tuple[list[str], list[str]]] = {
        "A": (["1", "2"], ["acc", "skeleton"]),
        "B": (["3", "4"], ["acc", "gyro"]),
        "AB": (["1", "2", "3", "4"], ["acc", "gyro", "skeleton"]),
        "C": (["5"], ["gyro", "skeleton"]),
        "T": (["6"], ["gyro", "skeleton"]),
    }
    for name, (subjects, modalities) in nodes.items():
        partition(full, root / f"{name}.zarr", subjects=subjects, modalities=modalities)
    options = PLAIN
    bind([root / "A.zarr", root / "B.zarr"], root / "bound.zarr", shared="acc", options=options)
    return World(root)
