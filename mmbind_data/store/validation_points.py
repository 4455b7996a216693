"""Check the point clouds of a store: their offsets, masks and values."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mmbind_data.errors import Finding
from mmbind_data.io.digests import ArrayDigest
from mmbind_data.spec.descriptor import Modality
from mmbind_data.store.dataset import Dataset, point_paths, valid_path

ROWS_PER_BLOCK = 64

Layout = tuple[str, tuple[str, ...], tuple[int, ...]]


def point_arrays(name: str, modality: Modality, n_samples: int) -> dict[str, Layout]:
    """Arrays of a point cloud: path -> dtype, dimensions, shape (the number of points is free)."""
    n_frames, n_features = modality.shape
    values, offsets, frames = point_paths(name)
    return {
        values: ("float32", ("point", "channel"), (-1, n_features)),
        offsets: ("int64", ("sample_edge",), (n_samples + 1,)),
        frames: ("int64", ("sample", "frame_edge"), (n_samples, n_frames + 1)),
    }


def check_points(store: Dataset, name: str, lines: list[str]) -> Iterator[Finding]:
    """Decode one point cloud; add its digest lines to ``lines``.

    Yields
    ------
    Finding
        Offsets that do not fit together, values that are no numbers, points of absent samples.
    """
    modality = store.info.modalities[name]
    value_path, offset_path, frame_path = point_paths(name)
    present = store.present(name)
    edges = store.point_edges(name)
    mask, starts = ArrayDigest("|b1", ()), ArrayDigest("<i8", ())
    values = ArrayDigest("<f4", modality.shape[1:])
    frames = ArrayDigest("<i8", (modality.shape[0] + 1,))
    mask.update(present)
    starts.update(edges)
    if edges[0] != 0 or edges[-1] != store.n_points(name) or (np.diff(edges) < 0).any():
        yield Finding(
            "offsets-broken", "error", offset_path, "do not rise from 0 to the last point"
        )
        return
    for start in range(0, len(store), ROWS_PER_BLOCK):
        clouds = store.load_points(name, slice(start, start + ROWS_PER_BLOCK))
        stop = start + len(clouds)
        values.update(clouds.values)
        frames.update(clouds.frame_offsets)
        inner = clouds.frame_offsets
        sizes = np.diff(edges[start : stop + 1])
        rising = (np.diff(inner, axis=1) >= 0).all(axis=1) & (inner[:, 0] == 0)
        broken = np.flatnonzero(~rising | (inner[:, -1] != sizes))
        if len(broken):
            where = f"row {start + broken[0]} disagrees with {offset_path}"
            yield Finding("offsets-broken", "error", frame_path, where)
        if not np.isfinite(clouds.values).all():
            where = f"rows {start}-{stop - 1} hold NaN"
            yield Finding("value-not-finite", "error", value_path, where)
        filled = np.flatnonzero(~present[start:stop] & (sizes > 0))
        if len(filled):
            where = f"row {start + filled[0]} is marked absent but holds points"
            yield Finding("value-not-absent", "error", value_path, where)
    if int(present.sum()) != store.info.n_present.get(name):
        yield Finding("count-differs", "error", valid_path(name), "n_present differs from the mask")
    lines += [
        mask.line(valid_path(name)),
        values.line(value_path),
        starts.line(offset_path),
        frames.line(frame_path),
    ]
