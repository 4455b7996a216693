"""The training set D_S: every source sample once, and rows that point at samples.

Source: paper section 5.2.1. A row without a modality has index -1 there; it enters as zeros.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from mmbind_data.errors import FormatError, IntegrityError, UsageError, suggest
from mmbind_data.signal.normalise import Recentre, Statistics, channel_statistics
from mmbind_data.spec.comparison import why_unlike
from mmbind_data.spec.descriptor import Modality
from mmbind_data.spec.store import DatasetInfo, InputBounds, SourceInfo
from mmbind_data.store.bound import BoundDataset
from mmbind_data.store.dataset import READ_BYTES, Dataset
from mmbind_data.store.input_size import bounded_modality
from mmbind_train.data.stored import Part, StoredSamples, sample_bytes

DEFAULT_BOUNDS = InputBounds()
MEASURED_AT_ONCE = 256  # samples

ROW_COLUMNS = ("index", "sample", "kind", "weight", "similarity", "label")


@dataclass(frozen=True)
class TrainingSet:
    """Training rows over samples that are held once.

    Attributes
    ----------
    modalities : mapping of name to Modality
        In the order of the columns of `index`; all samples of a modality have its shape.
    values : mapping of name to ndarray, shape (n_samples, *shape), float32
        The modality's unit; skeletons relative to their root if that was asked for; point clouds
        padded with NaN. `StoredSamples` are read from disk whenever they are asked for.
    index : ndarray, shape (n_rows, n_modalities), int64
        Row of `values`, -1 = the row lacks the modality.
    sample : ndarray, shape (n_rows, n_modalities or more), int64
        Code of the source sample (equal uid = equal code), -1 where `index` is -1. Further columns
        hold the other samples of a mean, padded with -1.
    kind : ndarray of str, shape (n_rows,)
        pseudo, incomplete, natural or mean.
    weight : ndarray, shape (n_rows,), float32
    similarity : ndarray, shape (n_rows,), float32
        Of pseudo rows; NaN of others.
    label : ndarray, shape (n_rows,), int64
        Index into `label_names`, -1 = unlabelled; rows of a bound store have no labels.
    label_names : tuple of str
    subjects : mapping of dataset id to the subjects whose samples were seen
    stretched : mapping of "source/modality" to (frames stored, frames used), where they differ
        Interpolated, or of videos, point clouds and CSI picked.
    """

    modalities: Mapping[str, Modality]
    values: Mapping[str, np.ndarray | StoredSamples]
    index: np.ndarray
    sample: np.ndarray
    kind: np.ndarray
    weight: np.ndarray
    similarity: np.ndarray
    label: np.ndarray
    label_names: tuple[str, ...]
    subjects: Mapping[str, tuple[str, ...]]
    stretched: Mapping[str, tuple[int, int]]

    def __len__(self) -> int:
        return len(self.index)

    @property
    def present(self) -> np.ndarray:
        """Presence mask, shape (n_rows, n_modalities), bool."""
        present: np.ndarray = self.index >= 0
        return present

    @property
    def stored(self) -> bool:
        """Whether samples lie on disk."""
        return any(isinstance(one, StoredSamples) for one in self.values.values())

    def arrays(self) -> dict[str, np.ndarray]:
        """`values`, all of them in memory."""
        return {
            name: one[np.arange(len(one))] if isinstance(one, StoredSamples) else one
            for name, one in self.values.items()
        }

    def held(self) -> TrainingSet:
        """The same rows, with the samples that they point at in memory and no others."""
        index, values = np.full_like(self.index, -1), {}
        for column, name in enumerate(self.modalities):
            here = self.index[:, column] >= 0
            used, places = np.unique(self.index[here, column], return_inverse=True)
            index[here, column] = places
            values[name] = self.values[name][used]
        return replace(self, index=index, values=values)

    def select(self, chosen: np.ndarray) -> TrainingSet:
        """Keep some rows, given by index or by mask; the samples stay."""
        columns = {name: getattr(self, name)[chosen] for name in ROW_COLUMNS}
        return replace(self, **columns)

    def without_labels(self) -> TrainingSet:
        """The same rows for an objective that must not read labels."""
        return replace(self, label=np.full(len(self), -1, np.int64), label_names=())


def gather_bound(
    bound: BoundDataset,
    *,
    recentre: Recentre = "frame",
    bounds: InputBounds = DEFAULT_BOUNDS,
    held: bool = True,
) -> TrainingSet:
    """Read the rows of a bound store and each sample that they point at, once.

    Parameters
    ----------
    bound : BoundDataset
    recentre : {"frame", "first", "none"}
        Skeletons relative to the root joint of every frame, of the first frame, or not.
    bounds : InputBounds
        Larger samples are thinned out while they are read.
    held : bool
        False: leave the samples on disk, unless there are means to be made of them.

    Returns
    -------
    TrainingSet
        A modality whose length differs between sources has the longest of them. The mean rows of
        an anchor become one row: of each modality the mean of their samples by weight, among those
        that have it; what all of them share, such as the anchor's own modalities, stays as it is.

    Raises
    ------
    FormatError
        The sources disagree about the axes of a modality.
    IntegrityError
        A sample is not finite, or the table points outside of its source.
    """
    table = bound.pairs()
    stores = {source.source_id: bound.source(source.source_id) for source in bound.info.sources}
    names = bound.info.modalities
    modalities = {name: _common_modality(name, stores, bounds) for name in names}
    index, values = np.full((len(table), len(names)), -1, np.int64), {}
    stretched: dict[str, tuple[int, int]] = {}
    for column, name in enumerate(names):
        owner = np.array(table[f"{name}.source"].to_pylist(), dtype=object)
        row = table[f"{name}.row"].fill_null(-1).to_numpy().astype(np.int64)
        parts, offset = list[Part](), 0
        for source_id, store in stores.items():
            mine = np.flatnonzero(owner == source_id)
            used, inverse = np.unique(row[mine], return_inverse=True)
            if len(used) == 0:
                continue
            if used[0] < 0 or used[-1] >= len(store):
                raise IntegrityError(
                    cannot="train",
                    problem="the table of pairs points outside of its source",
                    at=bound.path,
                    expected=f"rows 0 to {len(store) - 1} of {source_id}",
                    got=f"{name}.row {used[0]} to {used[-1]}",
                    fix="Bind again.",
                )
            parts.append(Part(replace(store), used))  # without the table of samples
            index[mine, column] = offset + inverse
            offset += len(used)
            stretched |= _lengths(source_id, name, store.info.modalities[name], modalities[name])
        values[name] = StoredSamples(name, modalities[name], recentre, parts)
    rows = TrainingSet(
        modalities=modalities,
        values=values,
        index=index,
        sample=_sample_codes(table, names),
        kind=np.array(table["kind"].to_pylist(), dtype=object),
        weight=table["weight"].to_numpy().astype(np.float32),
        similarity=table["similarity"].to_numpy(zero_copy_only=False).astype(np.float32),
        label=np.full(len(table), -1, np.int64),
        label_names=(),
        subjects=_subjects(bound.info.sources),
        stretched=stretched,
    )
    if (rows.kind == "mean").any():
        return averaged(rows.held(), table["rank"].to_numpy())
    return rows.held() if held else rows


def averaged(rows: TrainingSet, rank: np.ndarray) -> TrainingSet:
    """Put each group of mean rows, from a rank 0 to the next, into one row of their means.

    Parameters
    ----------
    rows : TrainingSet
    rank : ndarray of int, shape (n_rows,)

    Returns
    -------
    TrainingSet
        The weight of a mean is the sum of its rows' weights, and it holds all their samples.

    Notes
    -----
    Source: MMBind paper, section 7 ("a weighted sum of multiple similar samples").
    """
    member = rows.kind == "mean"
    first = np.flatnonzero(~member | (rank == 0))
    group = np.cumsum(~member | (rank == 0)) - 1
    index = np.full((len(first), len(rows.modalities)), -1, np.int64)
    values = rows.arrays()
    for column, name in enumerate(rows.modalities):
        own = rows.index[:, column]
        given = np.flatnonzero(own >= 0)
        index[group[given], column] = own[given]
        apart = np.unique(group[given[own[given] != index[group[given], column]]])
        if not len(apart):
            continue
        given = given[np.isin(group[given], apart)]
        place = np.searchsorted(apart, group[given])
        total = np.bincount(place, rows.weight[given])
        sums = np.zeros((len(apart), *values[name].shape[1:]), dtype=np.float32)
        for one, target in zip(given.tolist(), place.tolist(), strict=True):
            sums[target] += np.float32(rows.weight[one] / total[target]) * values[name][own[one]]
        index[apart, column] = len(values[name]) + np.arange(len(apart))
        values[name] = np.concatenate([values[name], sums])
    weight = np.bincount(group, rows.weight).astype(np.float32)
    kept = rows.select(first)
    sample = _samples_of_groups(rows.sample, group, first)
    return replace(kept, index=index, values=values, weight=weight, sample=sample)


def _samples_of_groups(sample: np.ndarray, group: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Codes of all samples of each group; the first row's stand in front."""
    rest: list[list[int]] = [[] for _ in first]
    for row in np.flatnonzero(~np.isin(np.arange(len(group)), first)).tolist():
        own, known = group[row], rest[group[row]]
        for code in sample[row].tolist():
            if code >= 0 and code not in known and code not in sample[first[own]]:
                known.append(code)
    width = max((len(codes) for codes in rest), default=0)
    more = np.array([[*codes, *[-1] * (width - len(codes))] for codes in rest], dtype=np.int64)
    return np.concatenate([sample[first], more.reshape(len(first), width)], axis=1)


def gather_store(
    store: Dataset,
    modalities: Sequence[str] | None = None,
    *,
    like: Mapping[str, Modality] | None = None,
    recentre: Recentre = "frame",
    rows: np.ndarray | None = None,
    bounds: InputBounds = DEFAULT_BOUNDS,
    held: bool = True,
) -> TrainingSet:
    """Read a converted store as naturally paired rows.

    Parameters
    ----------
    store : Dataset
    modalities : sequence of str, optional
        Columns of the result, in this order; all that the store has by default.
    like : mapping of name to Modality, optional
        What the samples are brought to in time; as stored, within `bounds`, by default.
    recentre : {"frame", "first", "none"}
    rows : ndarray of int, shape (n,), optional
        Rows of the store in the order wanted; all by default.
    bounds : InputBounds
        Larger samples are thinned out while they are read.
    held : bool
        False: leave the samples on disk.

    Returns
    -------
    TrainingSet
        With labels; weight 1.

    Raises
    ------
    UsageError
        The store lacks a modality.
    FormatError
        The store's axes differ from `like`.
    """
    names = tuple(modalities or store.info.modalities)
    for name in names:
        if name not in store.info.modalities:
            raise UsageError(
                cannot="read a store",
                problem="no such modality",
                at=store.path,
                expected=f"one of {', '.join(store.info.modalities)}",
                got=repr(name),
                fix=suggest(name, store.info.modalities),
            )
    wanted = np.arange(len(store)) if rows is None else np.asarray(rows, dtype=np.int64)
    index, values, found = [], {}, {}
    stretched: dict[str, tuple[int, int]] = {}
    for name in names:
        own = bounded_modality(store.info.modalities[name], bounds)
        found[name] = like[name] if like and name in like else own
        _check_alike(name, own, found[name], store)
        here = store.present(name)[wanted]
        used, places = np.unique(wanted[here], return_inverse=True)
        values[name] = StoredSamples(name, found[name], recentre, [Part(replace(store), used)])
        column = np.full(len(wanted), -1, np.int64)
        column[here] = places
        index.append(column)
        source_id = store.info.dataset_id
        stretched |= _lengths(source_id, name, store.info.modalities[name], found[name])
    filled = np.stack(index, axis=1)
    gathered = TrainingSet(
        modalities=found,
        values=values,
        index=filled,
        sample=np.where(filled >= 0, wanted[:, None], -1),
        kind=np.full(len(wanted), "natural", dtype=object),
        weight=np.ones(len(wanted), np.float32),
        similarity=np.full(len(wanted), np.nan, np.float32),
        label=store.column("label")[wanted].astype(np.int64),
        label_names=store.names("label"),
        subjects=_subjects([store.info]),
        stretched=stretched,
    )
    return gathered.held() if held else gathered


def measure_statistics(rows: TrainingSet) -> dict[str, Statistics]:
    """Statistics of each modality over the samples that the rows point at, means left aside."""
    found, measured = {}, rows.index[rows.kind != "mean"]
    for column, (name, modality) in enumerate(rows.modalities.items()):
        used = np.unique(measured[:, column])
        used = used[used >= 0]
        found[name] = channel_statistics(
            _blocks(rows.values[name], used, sample_bytes(modality)), modality
        )
    return found


def _blocks(
    values: np.ndarray | StoredSamples, used: np.ndarray, row_bytes: int
) -> Iterator[np.ndarray]:
    """Samples in the same blocks wherever they lie; from disk many blocks are read at one go."""
    step = MEASURED_AT_ONCE * max(1, READ_BYTES // (MEASURED_AT_ONCE * row_bytes))
    for start in range(0, len(used), step):
        held = values[used[start : start + step]]
        yield from np.split(held, range(MEASURED_AT_ONCE, len(held), MEASURED_AT_ONCE))


def _common_modality(name: str, stores: Mapping[str, Dataset], bounds: InputBounds) -> Modality:
    """Describe a modality as it enters the network: the longest of the sources' lengths."""
    holders = [store for store in stores.values() if name in store.info.modalities]
    entering = [bounded_modality(store.info.modalities[name], bounds) for store in holders]
    common = max(entering, key=_n_frames)
    for store, own in zip(holders, entering, strict=True):
        _check_alike(name, own, common, store)
    return common


def _n_frames(modality: Modality) -> int:
    return modality.shape[0] if modality.axes[0].name == "time" else 1


def _lengths(
    source_id: str, name: str, stored: Modality, used: Modality
) -> dict[str, tuple[int, int]]:
    """Tell how many frames are stored and used, if that is not the same."""
    counts = (_n_frames(stored), _n_frames(used))
    return {f"{source_id}/{name}": counts} if counts[0] != counts[1] else {}


def _check_alike(name: str, own: Modality, common: Modality, store: Dataset) -> None:
    reason = why_unlike(common, own)
    if reason:
        expected = "the kind, unit and axes of the others"
        raise FormatError(
            cannot="train",
            problem=f"{name} differs between the stores",
            at=store.path,
            expected=expected,
            got=reason,
        )


def _sample_codes(table: pa.Table, names: Sequence[str]) -> np.ndarray:
    """Code of each row's source sample per modality, equal for equal uids of whatever column."""
    uids = np.array([table[f"{name}.uid"].to_pylist() for name in names], dtype=object).T
    known = {uid: code for code, uid in enumerate(dict.fromkeys(uids.ravel().tolist()))}
    codes = [[-1 if uid is None else known[uid] for uid in row] for row in uids]
    return np.array(codes, dtype=np.int64).reshape(len(table), len(names))


def _subjects(infos: Sequence[DatasetInfo | SourceInfo]) -> dict[str, tuple[str, ...]]:
    """Subjects per dataset id; of a source those that were bound, whoever lies in its store."""
    found: dict[str, set[str]] = {}
    for info in infos:
        found.setdefault(info.dataset_id, set()).update(info.subjects)
    return {dataset: tuple(sorted(subjects)) for dataset, subjects in found.items()}
