"""Which pairs the report shows, and where the signals lie that were compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .layout import PAIRS, Bound, Store
from .places import parquet_place
from .report_tables import Judged, Samples

OUTCOMES = ("right", "wrong", "not judged")
PLACES = ("best", "median", "worst")
POOL = 0.1  # share of an outcome's pairs that best, median and worst are drawn from


@dataclass(frozen=True)
class Draw:
    """One pair to be shown: its number within `Judged`, and what it stands for."""

    pair: int
    outcome: str
    place: str


@dataclass(frozen=True)
class Shown:
    """A drawn pair with all that is told of it.

    Attributes
    ----------
    draw : Draw
    shared : str
        What the pair was bound by.
    anchor, partner : mapping
        Their rows of the sample tables; ``source`` is the source id, ``label`` its text.
    signals : two of (Store, int), or None
        Store and row of the shared modality of both; None where it is not stored.
    completed : mapping of modality to source id
        What the row gets from others than its anchor.
    """

    draw: Draw
    shared: str
    anchor: Mapping[str, Any]
    partner: Mapping[str, Any]
    signals: tuple[tuple[Store, int] | None, tuple[Store, int] | None]
    completed: Mapping[str, str]


def draw_pairs(judged: Judged, n_pairs: int, rng: np.random.Generator) -> list[Draw]:
    """Draw pairs from the best, the median and the worst of the right and of the wrong ones.

    Parameters
    ----------
    judged : Judged
    n_pairs : int
        In all; spread evenly over what there is.
    rng : numpy.random.Generator

    Returns
    -------
    list of Draw
        By outcome, then place, then similarity from high to low; all pairs if there are no more.
    """
    masks = (judged.right, judged.judged & ~judged.right, ~judged.judged)
    strata: dict[tuple[str, str], np.ndarray] = {}
    pool: dict[str, int] = {}
    for outcome, mask in zip(OUTCOMES, masks, strict=True):
        chosen = np.flatnonzero(mask & np.isfinite(judged.similarity))
        chosen = chosen[np.argsort(-judged.similarity[chosen], kind="stable")]
        pool[outcome] = int(POOL * len(chosen))
        for place, third in zip(PLACES, _thirds(chosen), strict=True):
            strata[outcome, place] = third
    quotas = _deal(n_pairs, {name: len(members) for name, members in strata.items()})
    drawn = []
    for (outcome, place), members in strata.items():
        quota = quotas[outcome, place]
        near = members[: max(quota, pool[outcome])]
        pairs = np.sort(rng.permutation(len(near))[:quota])
        ordered = sorted(near[pairs].tolist(), key=lambda one: (-judged.similarity[one], one))
        drawn += [Draw(pair, outcome, place) for pair in ordered]
    return drawn


def _thirds(ordered: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Best, median and worst third of pairs in falling order, the most typical of each first."""
    low, high = -(-len(ordered) // 3), len(ordered) - len(ordered) // 3
    middle = np.arange(low, high)
    middle = middle[np.argsort(np.abs(middle - (len(ordered) - 1) / 2), kind="stable")]
    return ordered[:low], ordered[middle], ordered[high:][::-1]


def _deal(total: int, sizes: Mapping[tuple[str, str], int]) -> dict[tuple[str, str], int]:
    """Deal ``total`` places out one by one, in turn, to whoever has members left."""
    quotas = dict.fromkeys(sizes, 0)
    left = min(total, sum(sizes.values()))
    while left:
        for name, size in sizes.items():
            if left and quotas[name] < size:
                quotas[name] += 1
                left -= 1
    return quotas


def look_up(bound: Bound, samples: Samples, judged: Judged, draws: Sequence[Draw]) -> list[Shown]:
    """Find what is told of drawn pairs: only their rows are read, whatever the size of the tables.

    Parameters
    ----------
    bound : Bound
    samples : Samples
    judged : Judged
    draws : sequence of Draw
    """
    pairs = np.array([one.pair for one in draws], dtype=np.int64)
    numbers = np.concatenate([judged.anchor[pairs], judged.partner[pairs]])
    facts = samples.facts(numbers.tolist())
    for number, row in facts.items():
        row["source"] = samples.ids[samples.source[number]]
        row["label"] = samples.label[number]
    rows = _rows_about(bound, [row["uid"] for row in facts.values()])
    by_row = {row["row"]: row for row in rows}
    shown = []
    for draw in draws:
        name = bound.info.shared[int(judged.hop[draw.pair])]
        ends = [int(judged.anchor[draw.pair]), int(judged.partner[draw.pair])]
        anchor, partner = (facts[end] for end in ends)
        row = by_row.get(int(judged.row[draw.pair]), {})
        signals = [_locate(samples, end, facts[end]["uid"], name, rows) for end in ends]
        completed = {
            modality: row[f"{modality}.source"]
            for modality in bound.info.modalities
            if row.get(f"{modality}.source") and row[f"{modality}.uid"] != anchor["uid"]
        }
        shown.append(Shown(draw, name, anchor, partner, (signals[0], signals[1]), completed))
    return shown


def _rows_about(bound: Bound, uids: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of the table of pairs with these anchors, read batch by batch."""
    wanted = pa.array(uids, type=pa.string())
    found: list[dict[str, Any]] = []
    with pq.ParquetFile(parquet_place(bound.path / PAIRS)) as file:
        for batch in file.iter_batches():
            mask = pc.is_in(batch.column("anchor_uid").cast(pa.string()), value_set=wanted)
            found += batch.filter(mask).to_pylist()
    return found


def _locate(
    samples: Samples, number: int, uid: str, modality: str, rows: Sequence[Mapping[str, Any]]
) -> tuple[Store, int] | None:
    """Store and row of a sample's modality: its own, else what an earlier binding gave it."""
    store, row = samples.stores[samples.source[number]], int(samples.row[number])
    if modality in store.info.modalities and store.present(modality)[row]:
        return store, row
    for given in rows:
        if given["anchor_uid"] == uid and given.get(f"{modality}.source"):
            code = samples.ids.index(given[f"{modality}.source"])
            return samples.stores[code], int(given[f"{modality}.row"])
    return None
