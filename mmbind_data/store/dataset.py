"""Open a converted dataset and read its samples; the paths of arrays and tables in a store."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmbind_data.errors import FormatError, IntegrityError, suggest
from mmbind_data.io.locations import locate, parquet_location, zarr_location
from mmbind_data.signal.point_clouds import RaggedPoints
from mmbind_data.spec.store import BOUND_SPEC, DATASET_SPEC, BoundInfo, DatasetInfo
from mmbind_data.store.root import read_info

if TYPE_CHECKING:
    import pyarrow as pa
    import zarr


META = "meta"
SAMPLES = "meta/samples.parquet"
RAW_FILES = "meta/raw_files.parquet"
DESCRIPTOR = "meta/descriptor.json"
PROVENANCE = "meta/provenance.json"
READ = "read a store"
CODED_COLUMNS = ("label", "subject", "placement", "environment")
READ_BYTES = 64 << 20  # read together if only some rows are wanted: bounds memory for large samples
GAP_BYTES = 1 << 20  # between wanted rows: reading it takes as long as a second read

# row numbers in the wanted order; None is all rows
RowNumbers = np.ndarray | Sequence[int] | slice | None


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
class Dataset:
    """A converted dataset, made by `open_dataset`: values are read from disk when they are needed.

    The table of samples is read once and kept with the object.

    Attributes
    ----------
    path : Path
    info : DatasetInfo
        The attributes of the store: modalities, labels, subjects, licence, digest.

    Examples
    --------
    >>> dataset = open_dataset("utd-mhad.zarr")  # doctest: +SKIP
    >>> len(dataset), list(dataset.info.modalities)  # doctest: +SKIP
    (861, ['acc', 'gyro', 'skeleton'])
    >>> dataset.load("acc", [0, 5]).shape  # samples, time, channel  # doctest: +SKIP
    (2, 120, 3)
    >>> dataset.names("label")[dataset.column("label")[0]]  # doctest: +SKIP
    'swipe left'
    """

    path: Path
    info: DatasetInfo

    def __len__(self) -> int:
        return self.info.n_samples

    def load(self, modality: str, rows: RowNumbers = None) -> np.ndarray:
        """Read samples of one modality.

        Parameters
        ----------
        modality : str
        rows : row numbers, slice or None
            Rows in the wanted order, 0 to n_samples - 1; None reads all.

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
            cannot, got = f"read {modality} as one array", "points whose number differs by frame"
            raise self._wrong_shape(cannot, "a fixed shape", got, "Use load_points.")
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
        """Read samples of one modality in blocks of about `READ_BYTES` at most.

        Yields
        ------
        places : ndarray of int, shape (k,)
            Positions of these samples in ``rows``; each position occurs once, in any order.
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

    def load_points(self, modality: str, rows: RowNumbers = None) -> RaggedPoints:
        """Read samples of a point cloud.

        Parameters and errors are those of `load`; a row without the modality has no points.
        """
        described = self.info.modalities[self._known(modality)]
        if not described.ragged:
            cannot = f"read {modality} as points"
            raise self._wrong_shape(cannot, "a point cloud", described.kind, "Use load.")
        values, _, frames = (self._array(path) for path in point_paths(modality))
        if rows is None or isinstance(rows, slice):
            rows = np.arange(*(rows or slice(None)).indices(len(self)))
        rows = self._row_numbers(rows)
        edges = self.point_edges(modality)
        parts = [np.empty((0, values.shape[1]), dtype=np.float32)]
        # adjacent rows are read together
        for run in np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1):
            if len(run) and edges[run[-1] + 1] > edges[run[0]]:
                parts.append(self._read(values, int(edges[run[0]]), int(edges[run[-1] + 1])))
        chosen = np.empty((0, frames.shape[1]), dtype=np.int64)
        if len(rows):
            low, high = int(rows.min()), int(rows.max()) + 1
            chosen = self._read(frames, low, high)[rows - low]
        return RaggedPoints(np.concatenate(parts), chosen)

    def n_points(self, modality: str) -> int:
        """Number of points in all samples of a point cloud."""
        return int(self._array(point_paths(self._known(modality))[0]).shape[0])

    def point_edges(self, modality: str) -> np.ndarray:
        """First point of each sample of a point cloud, and one past the last: int64, (n + 1,)."""
        return self._read(self._array(point_paths(self._known(modality))[1]), 0, len(self) + 1)

    def present(self, modality: str) -> np.ndarray:
        """Which samples have the modality: bool, shape (n_samples,)."""
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
        return self._samples

    @cached_property
    def _samples(self) -> pa.Table:
        return read_table(self.path / SAMPLES)

    def document(self, name: str) -> Any:
        """Parsed JSON document of the store, such as `DESCRIPTOR`."""
        return json.loads((self.path / name).read_text())

    @cached_property
    def group(self) -> zarr.Group:
        """The Zarr root, opened for reading."""
        import zarr

        return zarr.open_group(zarr_location(self.path), mode="r")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.info)  # another process reads what it needs

    def _known(self, modality: str) -> str:
        if modality not in self.info.modalities:
            expected = f"one of {', '.join(self.info.modalities)}"
            raise FormatError(
                cannot=f"read {modality}",
                problem="no such modality",
                at=self.path,
                expected=expected,
                got=repr(modality),
                fix=suggest(modality, self.info.modalities),
            )
        return modality

    def _wrong_shape(self, cannot: str, expected: str, got: str, fix: str) -> FormatError:
        what = "a modality of another shape"
        return FormatError(
            cannot=cannot, problem=what, at=self.path, expected=expected, got=got, fix=fix
        )

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
            at = f"{self.path}/{path}"
            raise FormatError(
                cannot=READ, problem="array missing", at=at, expected="an array", got="none"
            )
        return array

    def _read(self, array: zarr.Array[Any], start: int, stop: int) -> np.ndarray:
        # zarr reads a shard that was deleted or emptied as fill values: check the files first
        shard = (array.shards or array.chunks)[0]
        for index in range(start // shard, -(-stop // shard)):
            place = self.path / array.path / "c" / "/".join([str(index)] + ["0"] * (array.ndim - 1))
            if not place.is_file() or not place.stat().st_size:
                raise _damaged("a file is missing", place, "a shard", "nothing")
        try:
            return np.asarray(array[start:stop])
        except (RuntimeError, ValueError, OSError) as error:
            at, got = f"{self.path}/{array.path} rows {start}-{stop}", str(error).partition(". ")[0]
            fix = "Convert the raw data again."
            raise _damaged("damaged data", at, "intact chunks", got, fix) from error


def open_dataset(path: str | Path) -> Dataset:
    """Open a converted store; see `Dataset` for an example.

    Parameters
    ----------
    path : path
        A folder, or an address ``s3://bucket/prefix``.

    Raises
    ------
    FormatError
        There is no store, or it is not a converted one.
    """
    path = locate(path)
    info = read_info(path)
    if isinstance(info, BoundInfo):
        what, fix = "wrong kind of store", "Give the output of mmbind convert or mmbind partition."
        cannot, expected = "open a converted store", DATASET_SPEC
        raise FormatError(
            cannot=cannot, problem=what, at=path, expected=expected, got=BOUND_SPEC, fix=fix
        )
    return Dataset(path, info)


def read_table(path: Path) -> pa.Table:
    """Read a Parquet file.

    Raises
    ------
    IntegrityError
        The file is missing or broken.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise _damaged("table missing", path, "a Parquet file", "no such file")
    try:
        return pq.read_table(parquet_location(path))
    except (OSError, pa.ArrowException) as error:
        raise _damaged("unreadable table", path, "a Parquet file", error) from error


def _damaged(problem: str, at: object, expected: str, got: object, fix: str = "") -> IntegrityError:
    return IntegrityError(cannot=READ, problem=problem, at=at, expected=expected, got=got, fix=fix)
