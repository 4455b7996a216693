"""The training set D_S: every source sample once, and rows that refer to samples.

Source: MMBind paper, section 5.2.1. A row without a modality has index -1 and enters as zeros.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

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

ROW_COLUMNS = ("index", "sample", "kind", "rank", "weight", "similarity", "label")


@dataclass(frozen=True)
class TrainingSet:
    """Training rows over samples that are stored once.

    Samples are in the modality's unit, skeletons relative to their root unless asked otherwise,
    point clouds padded with NaN. `StoredSamples` are read from disk on every access. The codes of
    `sample` are equal for equal uids; columns behind those of the modalities hold the other samples
    of a mean, padded with -1.
    """

    modalities: Mapping[str, Modality]  # in the order of the columns of `index`
    values: Mapping[str, np.ndarray | StoredSamples]  # (n_samples, *shape), float32
    index: np.ndarray  # (n_rows, n_modalities), int64: row of `values`, -1 = lacks the modality
    sample: np.ndarray  # (n_rows, n_modalities or more), int64: code of the source sample, or -1
    kind: np.ndarray  # (n_rows,), str: pseudo, incomplete, natural or mean
    rank: np.ndarray  # (n_rows,), int64: of a pseudo row among those of its anchor, from 0
    weight: np.ndarray  # (n_rows,), float32
    similarity: np.ndarray  # (n_rows,), float32: of pseudo rows, else NaN
    label: np.ndarray  # (n_rows,), int64: index into `label_names`, -1 = none
    label_names: tuple[str, ...]  # empty for rows of a bound store, unless bound by label
    subjects: Mapping[str, tuple[str, ...]]  # of the samples, by dataset id
    stretched: Mapping[str, tuple[int, int]]  # "source/modality" -> frames stored, used; if unlike

    def __len__(self) -> int:
        return len(self.index)

    @property
    def present(self) -> np.ndarray:
        """Presence mask, shape (n_rows, n_modalities), bool."""
        present: np.ndarray = self.index >= 0
        return present

    @property
    def on_disk(self) -> bool:
        """Whether samples are read from disk on demand."""
        return any(isinstance(one, StoredSamples) for one in self.values.values())

    def arrays(self) -> dict[str, np.ndarray]:
        """`values`, all of them in memory."""
        return {
            name: one if isinstance(one, np.ndarray) else one[np.arange(len(one))]
            for name, one in self.values.items()
        }

    def loaded(self) -> TrainingSet:
        """The same rows, with the samples that they refer to in memory and no others."""
        index, values = np.full_like(self.index, -1), {}
        for column, name in enumerate(self.modalities):
            here = self.index[:, column] >= 0
            used, places = np.unique(self.index[here, column], return_inverse=True)
            index[here, column] = places
            values[name] = self.values[name][used]
        return replace(self, index=index, values=values)

    def select(self, chosen: np.ndarray) -> TrainingSet:
        """Keep some rows, given by index or by mask; the samples stay."""
        return replace(self, **{name: getattr(self, name)[chosen] for name in ROW_COLUMNS})

    def without_labels(self) -> TrainingSet:
        """The same rows for an objective that must not read labels."""
        return replace(self, label=np.full(len(self), -1, np.int64), label_names=())


def gather_bound(
    bound: BoundDataset,
    *,
    recentre: Recentre = "frame",
    bounds: InputBounds = DEFAULT_BOUNDS,
    load: bool = True,
) -> TrainingSet:
    """Read the rows of a bound store and, once, each sample that they refer to.

    Skeletons are relative to the root joint of every frame, of the first frame, or not. Samples
    larger than the bounds are reduced while they are read. With ``load=False`` they stay on disk,
    unless means are made of them.

    A modality whose length differs between sources has the longest of them. The mean rows of an
    anchor become one row: of each modality the mean of their samples by weight, among those that
    have it; what all of them share, such as the anchor's own modalities, stays as it is.

    Raises
    ------
    FormatError
        The sources disagree about the axes of a modality.
    IntegrityError
        A sample is not finite, or the table refers to rows that its source does not have.
    """
    table, names = bound.pairs(), bound.info.modalities
    stores = {one.source_id: bound.source(one.source_id) for one in bound.info.sources}
    columns = []
    for name in names:
        owner = np.array(table[f"{name}.source"].to_pylist(), dtype=object)
        row = table[f"{name}.row"].fill_null(-1).to_numpy().astype(np.int64)
        modality = _common_modality(name, stores.values(), bounds)
        columns.append(_Column(name, modality, recentre, len(table)))
        for source_id, store in stores.items():
            mine = np.flatnonzero(owner == source_id)
            outside = (row[mine] < 0) | (row[mine] >= len(store))
            if outside.any():
                raise IntegrityError(
                    cannot="train",
                    problem="the table of pairs points outside of its source",
                    at=bound.path,
                    expected=f"rows 0 to {len(store) - 1} of {source_id}",
                    got=f"{name}.row {row[mine][outside][0]}",
                    fix="Bind again.",
                )
            if len(mine):
                columns[-1].take(source_id, store, mine, row[mine])
    uids = np.array([table[f"{name}.uid"].to_pylist() for name in names], dtype=object).T
    # equal uids have one code, whatever column they are in
    code_of = {uid: code for code, uid in enumerate(dict.fromkeys(uids.ravel().tolist()))}
    code_of[None] = -1
    codes = np.array([[code_of[uid] for uid in row] for row in uids], dtype=np.int64)
    rows = TrainingSet(
        **_common_fields(columns, bound.info.sources),
        sample=codes.reshape(len(table), len(names)),
        kind=np.array(table["kind"].to_pylist(), dtype=object),
        rank=table["rank"].to_numpy().astype(np.int64),
        weight=table["weight"].to_numpy().astype(np.float32),
        similarity=table["similarity"].to_numpy(zero_copy_only=False).astype(np.float32),
        label=np.full(len(table), -1, np.int64),
        label_names=(),
    )
    if (rows.kind == "mean").any():
        return averaged(rows.loaded())
    return rows.loaded() if load else rows


def gather_store(
    store: Dataset,
    modalities: Sequence[str] | None = None,
    *,
    like: Mapping[str, Modality] | None = None,
    every_column: bool = False,
    recentre: Recentre = "frame",
    rows: np.ndarray | None = None,
    bounds: InputBounds = DEFAULT_BOUNDS,
    load: bool = True,
) -> TrainingSet:
    """Read a converted store as naturally paired rows of weight 1, with labels.

    Parameters
    ----------
    modalities : sequence of str, optional
        Columns of the result, in this order; all that the store has by default.
    like : mapping of name to Modality, optional
        Modalities whose shape the samples are brought to; as stored, within `bounds`, by default.
    every_column : bool
        Have all columns of `like`, in its order; a modality that is not asked for is absent.
    rows : ndarray of int, shape (n,), optional
        Rows of the store in the order wanted; all by default.
    recentre, bounds, load : as in `gather_bound`

    Raises
    ------
    UsageError
        The store lacks a modality.
    FormatError
        The store's axes differ from `like`.
    """
    chosen = np.arange(len(store)) if rows is None else np.asarray(rows, dtype=np.int64)
    names, columns = modalities or tuple(store.info.modalities), []
    for name in like if every_column and like else names:
        if name not in names and like:
            columns.append(_Column(name, like[name], recentre, len(chosen)))
            continue
        if name not in store.info.modalities:
            raise UsageError(
                cannot="read a store",
                problem="no such modality",
                at=store.path,
                expected=f"one of {', '.join(store.info.modalities)}",
                got=repr(name),
                fix=suggest(name, store.info.modalities),
            )
        modality = _common_modality(name, [store], bounds, (like or {}).get(name))
        here = np.flatnonzero(store.present(name)[chosen])
        columns.append(_Column(name, modality, recentre, len(chosen)))
        columns[-1].take(store.info.dataset_id, store, here, chosen[here])
    gathered = TrainingSet(
        **_common_fields(columns, [store.info]),
        sample=np.stack([np.where(one.index >= 0, chosen, -1) for one in columns], axis=1),
        kind=np.full(len(chosen), "natural", dtype=object),
        rank=np.zeros(len(chosen), np.int64),
        weight=np.ones(len(chosen), np.float32),
        similarity=np.full(len(chosen), np.nan, np.float32),
        label=store.column("label")[chosen].astype(np.int64),
        label_names=store.names("label"),
    )
    return gathered.loaded() if load else gathered


class _Column:
    """One modality of a training set that is being put together."""

    def __init__(self, name: str, modality: Modality, recentre: Recentre, n_rows: int) -> None:
        self.index, self.parts = np.full(n_rows, -1, np.int64), list[Part]()
        self.values = StoredSamples(name, modality, recentre, self.parts)
        self.stretched: dict[str, tuple[int, int]] = {}

    def take(self, source_id: str, store: Dataset, here: np.ndarray, rows: np.ndarray) -> None:
        """Let the training rows with numbers ``here`` have these rows of a store."""
        used, places = np.unique(rows, return_inverse=True)
        self.index[here] = len(self.values) + places
        self.parts.append(Part(replace(store), used))  # a copy without the table of samples
        name, modality = self.values.name, self.values.modality
        frames = (_n_frames(store.info.modalities[name]), _n_frames(modality))
        if frames[0] != frames[1]:
            self.stretched[f"{source_id}/{name}"] = frames


def _common_fields(
    columns: Sequence[_Column], infos: Iterable[DatasetInfo | SourceInfo]
) -> dict[str, Any]:
    """The fields of a training set that follow from its columns and the stores' attributes."""
    subjects: dict[str, set[str]] = {}
    for info in infos:
        subjects.setdefault(info.dataset_id, set()).update(info.subjects)
    return {
        "modalities": {one.values.name: one.values.modality for one in columns},
        "values": {one.values.name: one.values for one in columns},
        "index": np.stack([one.index for one in columns], axis=1),
        "subjects": {dataset: tuple(sorted(names)) for dataset, names in subjects.items()},
        "stretched": {key: frames for one in columns for key, frames in one.stretched.items()},
    }


def averaged(rows: TrainingSet) -> TrainingSet:
    """Put each group of mean rows, from a rank 0 to the next, into one row of their means.

    The weight of a mean is the sum of its rows' weights, and it has the codes of all their samples.

    Source: MMBind paper, section 7 ("a weighted sum of multiple similar samples").
    """
    member = rows.kind == "mean"
    first = np.flatnonzero(~member | (rows.rank == 0))
    group = np.searchsorted(first, np.arange(len(rows)), side="right") - 1
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
    """Codes of all samples of each group, those of its first row in front, padded with -1."""
    given = sample >= 0
    owner = np.broadcast_to(group[:, None], sample.shape)[given]
    owner, code = np.unique(np.stack([owner, sample[given]]), axis=1)
    others = (sample[first[owner]] != code[:, None]).all(axis=1)
    owner, code = owner[others], code[others]
    place = np.arange(len(owner)) - np.searchsorted(owner, owner)
    more = np.full((len(first), place.max(initial=-1) + 1), -1, np.int64)
    more[owner, place] = code
    return np.concatenate([sample[first], more], axis=1)


def measure_statistics(rows: TrainingSet) -> dict[str, Statistics]:
    """Statistics of each modality over the samples that the rows refer to, means excluded."""
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
    """Samples in blocks of one size, in memory or not; many blocks are read from disk at a time."""
    step = MEASURED_AT_ONCE * max(1, READ_BYTES // (MEASURED_AT_ONCE * row_bytes))
    for start in range(0, len(used), step):
        read = values[used[start : start + step]]
        yield from np.split(read, range(MEASURED_AT_ONCE, len(read), MEASURED_AT_ONCE))


def _common_modality(
    name: str, stores: Iterable[Dataset], bounds: InputBounds, like: Modality | None = None
) -> Modality:
    """Describe a modality as it enters the network: as given, or the longest of the stores."""
    holders = [store for store in stores if name in store.info.modalities]
    entering = [bounded_modality(store.info.modalities[name], bounds) for store in holders]
    common = like or max(entering, key=_n_frames)
    for store, modality in zip(holders, entering, strict=True):
        reason = why_unlike(common, modality)
        if reason:
            raise FormatError(
                cannot="train",
                problem=f"{name} differs between the stores",
                at=store.path,
                expected="the kind, unit and axes of the others",
                got=reason,
            )
    return common


def _n_frames(modality: Modality) -> int:
    return modality.shape[0] if modality.axes[0].name == "time" else 1
