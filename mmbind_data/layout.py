"""Where things lie inside a store, and how to read them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .attributes import ROOT, read_info
from .bundle_place import store_place
from .errors import FormatError, IntegrityError, problem, suggest
from .places import beside, parquet_place, place_of, zarr_place
from .points import Clouds
from .spec import BOUND_SPEC, DATASET_SPEC, BoundInfo, DatasetInfo, SourceInfo

if TYPE_CHECKING:
    import pyarrow as pa
    import zarr

META = "meta"
SAMPLES = "meta/samples.parquet"
RAW_FILES = "meta/raw_files.parquet"
DESCRIPTOR = "meta/descriptor.json"
PROVENANCE = "meta/provenance.json"
PAIRS = "meta/pairs.parquet"
SOURCES = "meta/sources.json"
EVALUATION = "eval"
ENCODER = "encoder"
INNER = "sources"  # of a self-contained bound store: one converted store each
CODED_COLUMNS = ("label", "subject", "placement", "environment")
# Rows read at one go when only some of them are wanted: bounds memory for large samples.
READ_BYTES = 64 << 20
GAP_BYTES = 1 << 20  # between wanted rows: reading it takes as long as another read does


# row numbers in the order wanted; None stands for all
Rows = np.ndarray | Sequence[int] | slice | None


def data_path(modality: str) -> str:
    """Path of a modality's values inside a converted store."""
    return f"modalities/{modality}/data"


def valid_path(modality: str) -> str:
    """Path of a modality's presence mask inside a converted store."""
    return f"modalities/{modality}/valid"


def point_paths(modality: str) -> tuple[str, str, str]:
    """Paths of a point cloud's values, sample offsets and frame offsets."""
    root = f"modalities/{modality}"
    return f"{root}/values", f"{root}/offsets", f"{root}/frame_offsets"


@dataclass(frozen=True)
class Store:
    """A converted dataset, opened lazily: nothing but attributes is read until asked for.

    Attributes
    ----------
    path : Path
    info : DatasetInfo
        What the root's attributes say: modalities, labels, subjects, licence, digest.
    """

    path: Path
    info: DatasetInfo

    def __len__(self) -> int:
        return self.info.n_samples

    def load(self, modality: str, rows: Rows = None) -> np.ndarray:
        """Read samples of one modality.

        Parameters
        ----------
        modality : str
        rows : row numbers, slice or None
            Rows in the order wanted, 0 to n_samples - 1; None reads all.

        Returns
        -------
        ndarray, shape (n, *info.modalities[modality].shape), float32
            In the modality's unit; a row without the modality is all NaN.

        Raises
        ------
        FormatError
            The store does not hold the modality, or it is a point cloud: see `load_points`.
        IntegrityError
            A chunk is missing or damaged.
        IndexError
            A row that the store does not have, or a mask instead of rows.
        """
        if self.info.modalities[self._known(modality)].ragged:
            raise FormatError(
                problem(f"read {modality} as one array", "point cloud", self.path, "a fixed shape",
                        "points whose number differs by frame", "Use load_points.")
            )  # fmt: skip
        array = self._array(data_path(modality))
        if rows is None or isinstance(rows, slice):
            start, stop, step = (rows or slice(None)).indices(len(self))
            if step == 1:
                return self._read(array, start, max(start, stop))
            rows = np.arange(start, stop, step)
        rows = self._row_numbers(rows)
        result = np.empty((len(rows), *array.shape[1:]), dtype=np.float32)
        for places, values in self.blocks(modality, rows):
            result[places] = values
        return result

    def blocks(
        self, modality: str, rows: np.ndarray | Sequence[int]
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Read samples of one modality a few at a time, about `READ_BYTES` of them at most.

        Yields
        ------
        places : ndarray of int, shape (k,)
            Where in ``rows`` these samples stand; each place comes once, in any order.
        values : ndarray, shape (k, *info.modalities[modality].shape), float32
        """
        array, rows = self._array(data_path(self._known(modality))), self._row_numbers(rows)
        row_bytes = max(1, int(np.prod(array.shape[1:])) * 4)
        chunk, order = array.chunks[0], np.argsort(rows, kind="stable")
        block = max(chunk, READ_BYTES // row_bytes // chunk * chunk)
        ascending, gap = rows[order], max(chunk, GAP_BYTES // row_bytes)
        apart = (np.diff(ascending // block) != 0) | (np.diff(ascending) > gap)
        for wanted in np.split(order, np.flatnonzero(apart) + 1) if len(rows) else ():
            low, high = int(rows[wanted[0]]), int(rows[wanted[-1]]) + 1
            yield wanted, self._read(array, low, high)[rows[wanted] - low]

    def load_points(self, modality: str, rows: Rows = None) -> Clouds:
        """Read samples of a point cloud.

        Parameters and errors are those of `load`; a row without the modality has no points.
        """
        if not self.info.modalities[self._known(modality)].ragged:
            raise FormatError(
                problem(f"read {modality} as points", "an array of fixed shape", self.path,
                        "a point cloud", self.info.modalities[modality].kind, "Use load.")
            )  # fmt: skip
        values, _, frames = (self._array(path) for path in point_paths(modality))
        if rows is None or isinstance(rows, slice):
            rows = np.arange(*(rows or slice(None)).indices(len(self)))
        rows = self._row_numbers(rows)
        edges = self.point_edges(modality)
        parts = [np.empty((0, values.shape[1]), dtype=np.float32)]
        # neighbouring rows are read at one go
        for run in np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1):
            if len(run) and edges[run[-1] + 1] > edges[run[0]]:
                parts.append(self._read(values, int(edges[run[0]]), int(edges[run[-1] + 1])))
        chosen = np.empty((0, frames.shape[1]), dtype=np.int64)
        if len(rows):
            low, high = int(rows.min()), int(rows.max()) + 1
            chosen = self._read(frames, low, high)[rows - low]
        return Clouds(np.concatenate(parts), chosen)

    def n_points(self, modality: str) -> int:
        """Points of all samples of a point cloud."""
        return int(self._array(point_paths(self._known(modality))[0]).shape[0])

    def point_edges(self, modality: str) -> np.ndarray:
        """First point of each sample of a point cloud, and one past the last: int64, (n + 1,)."""
        return self._read(self._array(point_paths(self._known(modality))[1]), 0, len(self) + 1)

    def present(self, modality: str) -> np.ndarray:
        """Which samples carry the modality: bool, shape (n_samples,)."""
        return self._read(self._array(valid_path(self._known(modality))), 0, len(self))

    def column(self, name: str) -> np.ndarray:
        """Codes of a column such as ``label``: int32, shape (n_samples,), -1 = unknown."""
        return self._read(self._array(name), 0, len(self))

    def names(self, column: str) -> tuple[str, ...]:
        """Texts of a column's codes: ``names("label")[code]``."""
        names: Any = self._array(column).attrs["names"]
        return tuple(names)

    def samples(self) -> pa.Table:
        """One row per sample: uid, subject, label, raw file and span."""
        return read_table(self.path / SAMPLES)

    def document(self, name: str) -> Any:
        """Parsed JSON document of the store, such as `DESCRIPTOR`."""
        return json.loads((self.path / name).read_text())

    @cached_property
    def group(self) -> zarr.Group:
        """The Zarr root, opened for reading."""
        import zarr

        return zarr.open_group(zarr_place(self.path), mode="r")

    def _known(self, modality: str) -> str:
        if modality not in self.info.modalities:
            raise FormatError(
                problem(f"read {modality}", "no such modality", self.path,
                        f"one of {', '.join(self.info.modalities)}", repr(modality),
                        suggest(modality, self.info.modalities))
            )  # fmt: skip
        return modality

    def _row_numbers(self, rows: np.ndarray | Sequence[int]) -> np.ndarray:
        rows = np.asarray(rows)
        if rows.dtype == bool or (len(rows) and not 0 <= rows.min() <= rows.max() < len(self)):
            got = "a mask" if rows.dtype == bool else f"{rows.min()} to {rows.max()}"
            message = f"expected row numbers 0 to {len(self) - 1}, got {got}"
            raise IndexError(message)
        return rows.astype(np.int64)

    def _array(self, path: str) -> zarr.Array[Any]:
        import zarr

        try:
            array = self.group[path]
        except KeyError:
            array = None
        if not isinstance(array, zarr.Array):
            raise FormatError(
                problem("read a store", "array missing", f"{self.path}/{path}", "an array", "none")
            )
        return array

    def _read(self, array: zarr.Array[Any], start: int, stop: int) -> np.ndarray:
        # A deleted or emptied shard would read as the fill value: look at the files first.
        shard = (array.shards or array.chunks)[0]
        for index in range(start // shard, -(-stop // shard)):
            place = self.path / array.path / "c" / "/".join([str(index)] + ["0"] * (array.ndim - 1))
            if not place.is_file() or not place.stat().st_size:
                raise IntegrityError(
                    problem("read a store", "a file is missing", place, "a shard", "nothing")
                )
        try:
            return np.asarray(array[start:stop])
        except (RuntimeError, ValueError, OSError) as error:
            raise IntegrityError(
                problem(
                    "read a store",
                    "damaged data",
                    f"{self.path}/{array.path} rows {start}-{stop}",
                    "intact chunks",
                    str(error).partition(". ")[0],
                    "Convert the raw data again.",
                )
            ) from error


@dataclass(frozen=True)
class Bound:
    """A bound dataset: a table of pairs and the stores that its rows point into.

    Attributes
    ----------
    path : Path
    info : BoundInfo
    overrides : mapping of source id to path
        Where sources lie now, if not where they lay when they were bound.
    """

    path: Path
    info: BoundInfo
    overrides: Mapping[str, Path] = field(default_factory=dict)

    def pairs(self) -> pa.Table:
        """One row per training sample; see DESIGN section 5 for the columns."""
        return read_table(self.path / PAIRS)

    def source(self, source_id: str) -> Store:
        """Open one source and make sure that it is the one that was bound.

        Raises
        ------
        FormatError
            No store lies there, or it is another one.
        """
        known = {source.source_id: source for source in self.info.sources}
        if source_id not in known:
            raise FormatError(
                problem("open a source", "unknown source id", self.path, ", ".join(known),
                        repr(source_id), suggest(source_id, known))
            )  # fmt: skip
        source = known[source_id]
        way_out = f"Say where it is with --source {source_id}=PATH, or make it: {source.convert}"
        if not self.attached(source_id):
            raise FormatError(
                problem("open a source", "the store is index-only: it holds pairs, no sensor data",
                        self.path, f"{source_id} attached", "nothing",
                        f"Run mmbind hydrate --source {source_id}=STORE. {way_out}")
            )  # fmt: skip
        inside = self.info.mode == "self-contained"
        place = self.path / INNER / source_id if inside else beside(self.path, source.path)
        place = self.overrides.get(source_id, place)
        if not (place / ROOT).is_file():
            raise FormatError(
                problem("open a source", "store not found", place, source_id, "nothing", way_out)
            )
        return _same_content(open_store(place), source, way_out)

    def attached(self, source_id: str) -> bool:
        """Whether the store says where the source lies; of an index-only one, an override does."""
        return self.info.mode != "index-only" or source_id in self.overrides


def open_store(path: str | Path) -> Store:
    """Open a converted store.

    Raises
    ------
    FormatError
        Nothing there, or it is not a converted store.
    """
    path = place_of(path)
    info = read_info(path)
    if isinstance(info, BoundInfo):
        raise FormatError(
            problem("open a converted store", "wrong kind of store", path, DATASET_SPEC,
                    BOUND_SPEC, "Give the output of mmbind convert or mmbind partition.")
        )  # fmt: skip
    return Store(path, info)


def open_bound(path: str | Path, *, sources: Mapping[str, Path] | None = None) -> Bound:
    """Open a bound store.

    Parameters
    ----------
    path : path
        The store, or a bundle that holds it.
    sources : mapping of source id to path, optional
        Where sources lie now.

    Raises
    ------
    FormatError
        Nothing there, not a bound store, or an override for a source that it does not have.
    """
    path = store_place(path)
    info = read_info(path)
    if isinstance(info, DatasetInfo):
        raise FormatError(
            problem("open a bound store", "wrong kind of store", path, BOUND_SPEC, DATASET_SPEC,
                    "Make one with mmbind bind.")
        )  # fmt: skip
    bound = Bound(path, info, dict(sources or {}))
    known = [source.source_id for source in info.sources]
    for source_id in bound.overrides:
        if source_id not in known:
            raise FormatError(
                problem("open a bound store", "unknown source id", path, ", ".join(known),
                        repr(source_id), suggest(source_id, known))
            )  # fmt: skip
    return bound


def open_any(path: str | Path, *, sources: Mapping[str, Path] | None = None) -> Store | Bound:
    """Open a store of either kind, or that of a bundle."""
    path = store_place(path)
    if isinstance(read_info(path), BoundInfo):
        return open_bound(path, sources=sources)
    return open_store(path)


def _same_content(store: Store, source: SourceInfo, way_out: str) -> Store:
    if store.info.content_digest != source.expected_digest:
        raise FormatError(
            problem("open a source", "another store than the one that was bound", store.path,
                    f"content digest {source.expected_digest[:12]}",
                    store.info.content_digest[:12], way_out)
        )  # fmt: skip
    return store


def read_table(path: Path) -> pa.Table:
    """Read a Parquet file.

    Raises
    ------
    IntegrityError
        It is missing or broken.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        text = problem("read a store", "table missing", path, "a Parquet file", "no such file")
        raise IntegrityError(text)
    try:
        return pq.read_table(parquet_place(path))
    except (OSError, pa.ArrowException) as error:
        raise IntegrityError(
            problem("read a store", "unreadable table", path, "a Parquet file", str(error))
        ) from error
