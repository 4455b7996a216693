"""A bound dataset, opened: its table of pairs and the sources that it points into."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmbind_data.errors import FormatError, suggest
from mmbind_data.io.locations import locate, resolve_link
from mmbind_data.spec.store import BOUND_SPEC, DATASET_SPEC, BoundInfo, DatasetInfo, SourceInfo
from mmbind_data.store.dataset import Dataset, open_dataset, read_table
from mmbind_data.store.root import ROOT, locate_store, read_info

if TYPE_CHECKING:
    import pyarrow as pa


PAIRS = "meta/pairs.parquet"
SOURCES = "meta/sources.json"
EVALUATION = "eval"
ENCODER = "encoder"
INNER = "sources"  # of a self-contained bound store: one converted store each


@dataclass(frozen=True)
class BoundDataset:
    """A bound dataset: a table of pairs and the stores that its rows refer to.

    The table of pairs is read once, each source is opened once, and both are kept as long as the
    object. `dataclasses.replace` and pickling give an object that has read nothing yet.

    Attributes
    ----------
    path : Path
    info : BoundInfo
    overrides : mapping of source id to path
        Current locations of sources that have moved since they were bound.
    """

    path: Path
    info: BoundInfo
    overrides: Mapping[str, Path] = field(default_factory=dict)
    _opened: dict[str, Dataset] = field(default_factory=dict, init=False, repr=False, compare=False)

    def pairs(self) -> pa.Table:
        """The table of pairs, one row per training sample.

        Returns
        -------
        pyarrow.Table
            The columns `pair_table.FIXED_COLUMNS`, then ``<m>.source``, ``<m>.row`` and ``<m>.uid``
            for each modality m.

        Raises
        ------
        IntegrityError
            The table is missing or broken.
        """
        return self._pairs

    @cached_property
    def _pairs(self) -> pa.Table:
        return read_table(self.path / PAIRS)

    def source(self, source_id: str) -> Dataset:
        """Open one source and check that it is the store that was bound.

        Raises
        ------
        FormatError
            There is no store, or it is another one.
        """
        if source_id not in self._opened:
            self._opened[source_id] = self._open(source_id)
        return self._opened[source_id]

    def _open(self, source_id: str) -> Dataset:
        known = {source.source_id: source for source in self.info.sources}
        if source_id not in known:
            raise _unknown_source("open a source", self, source_id)
        source = known[source_id]
        way_out = f"Say where it is with --source {source_id}=PATH, or make it: {source.convert}"
        if not self.attached(source_id):
            raise FormatError(
                cannot="open a source",
                problem="the store is index-only: it holds pairs, no sensor data",
                at=self.path,
                expected=f"{source_id} attached",
                got="nothing",
                fix=f"Run mmbind hydrate --source {source_id}=STORE. {way_out}",
            )
        inside = self.info.mode == "self-contained"
        place = self.path / INNER / source_id if inside else resolve_link(self.path, source.path)
        place = self.overrides.get(source_id, place)
        if not (place / ROOT).is_file():
            raise FormatError(
                cannot="open a source",
                problem="store not found",
                at=place,
                expected=source_id,
                got="nothing",
                fix=way_out,
            )
        return _same_content(open_dataset(place), source, way_out)

    def attached(self, source_id: str) -> bool:
        """Whether the location of a source is known; an index-only store needs an override."""
        return self.info.mode != "index-only" or source_id in self.overrides

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.info, self.overrides)  # another process reads anew


def open_bound(
    path: str | Path, *, sources: Mapping[str, str | Path] | None = None
) -> BoundDataset:
    """Open a bound store.

    Parameters
    ----------
    path : path
        The store, or a bundle that holds it.
    sources : mapping of source id to path, optional
        Current locations of sources that have moved.

    Raises
    ------
    FormatError
        Nothing there, not a bound store, or an override for a source that it does not have.
    """
    path = locate_store(path)
    info = read_info(path)
    if isinstance(info, DatasetInfo):
        raise FormatError(
            cannot="open a bound store",
            problem="wrong kind of store",
            at=path,
            expected=BOUND_SPEC,
            got=DATASET_SPEC,
            fix="Make one with mmbind bind.",
        )
    places = {name: locate(place) for name, place in (sources or {}).items()}
    bound = BoundDataset(path, info, places)
    unknown = places.keys() - {source.source_id for source in info.sources}
    if unknown:
        raise _unknown_source("open a bound store", bound, min(unknown))
    return bound


def _unknown_source(doing: str, bound: BoundDataset, source_id: str) -> FormatError:
    known = [source.source_id for source in bound.info.sources]
    return FormatError(
        cannot=doing,
        problem="unknown source id",
        at=bound.path,
        expected=", ".join(known),
        got=repr(source_id),
        fix=suggest(source_id, known),
    )


def open_store(
    path: str | Path, *, sources: Mapping[str, str | Path] | None = None
) -> Dataset | BoundDataset:
    """Open a store of either kind, or that of a bundle."""
    path = locate_store(path)
    if isinstance(read_info(path), BoundInfo):
        return open_bound(path, sources=sources)
    return open_dataset(path)


def _same_content(store: Dataset, source: SourceInfo, way_out: str) -> Dataset:
    if store.info.content_digest != source.expected_digest:
        raise FormatError(
            cannot="open a source",
            problem="another store than the one that was bound",
            at=store.path,
            expected=f"content digest {source.expected_digest[:12]}",
            got=store.info.content_digest[:12],
            fix=way_out,
        )
    return store
