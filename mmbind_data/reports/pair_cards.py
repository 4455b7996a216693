"""Single pairs of the report: both signals side by side, and where they come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmbind_data.reports.html import Section
from mmbind_data.reports.plots import Layouts
from mmbind_data.reports.signals import SignalDrawing, draw_signals
from mmbind_data.reports.tables import JudgedPairs, Samples
from mmbind_data.store.bound import BoundDataset
from mmbind_data.store.dataset import Dataset

ROLES = ("Anchor", "Partner")
OUTCOMES = ("right", "wrong", "not judged")
PLACES = ("best", "median", "worst")
POOL = 0.1  # share of an outcome's pairs that best, median and worst are drawn from


@dataclass(frozen=True)
class PairDraw:
    """One pair to be shown: its number within `JudgedPairs`, its outcome, and its place."""

    pair: int
    outcome: str
    place: str


Signal = tuple[Dataset, int]  # a store and a row


def pairs_drawn(
    bound: BoundDataset, samples: Samples, judged: JudgedPairs, draws: Sequence[PairDraw], seed: int
) -> Section:
    """The drawn pairs, one card each, in the order given."""
    numbers = [int(side[one.pair]) for side in (judged.anchor, judged.partner) for one in draws]
    facts = samples.facts(numbers)
    anchors = bound.pairs()["anchor_uid"].cast(pa.string())
    uids = pa.array([one["uid"] for one in facts.values()], type=pa.string())
    rows = bound.pairs().filter(pc.is_in(anchors, uids)).to_pylist()
    by_row = {row["row"]: row for row in rows}
    layouts: Layouts = {}
    cards = []
    for number, draw in enumerate(draws, 1):
        pair = draw.pair
        shared, row = bound.info.shared[judged.hop[pair]], by_row.get(judged.row[pair], {})
        ends = int(judged.anchor[pair]), int(judged.partner[pair])
        signals = [_locate(samples, one, facts[one]["uid"], shared, rows) for one in ends]
        drawings = _draw(f"pair-{number}", f"pair {number}", shared, signals, layouts)
        card = {
            "outcome": draw.outcome,
            "place": draw.place,
            "shared": shared,
            "similarity": judged.similarity[pair],
            "weight": judged.weight[pair],
            "rank": judged.rank[pair] + 1 if judged.rank.any() else None,
            "binding": judged.hop[pair] + 1 if judged.hop.any() else None,
            "completed": ", ".join(
                f"{name} from {row[f'{name}.source']}"
                for name in bound.info.modalities
                if row.get(f"{name}.source") and row[f"{name}.uid"] != facts[ends[0]]["uid"]
            ),
        }
        sides = zip(ROLES, ends, drawings, strict=True)
        card["sides"] = [
            {"role": role, "sample": facts[end], "signal": signal} for role, end, signal in sides
        ]
        cards.append(card)
    data = {"cards": cards, "seed": seed, "judged": judged.judged.any()}
    return Section("pairs", "Pairs drawn", data)


def _draw(
    key: str, pair: str, shared: str, signals: Sequence[Signal | None], layouts: Layouts
) -> list[SignalDrawing | str | None]:
    """Both signals; None for one that is not stored, empty texts if neither is, as of labels."""
    stored = []
    for role, signal in zip(ROLES, signals, strict=True):
        if signal is not None:
            store, row = signal
            modality = store.info.modalities[shared]
            values = (
                store.load_points(shared, [row])
                if modality.ragged
                else store.load(shared, [row])[0]
            )
            stored.append((f"{role} of {pair}: {shared}", modality, values))
    if not stored:
        return ["", ""]
    drawn = iter(draw_signals(key, stored, layouts))
    return [None if signal is None else next(drawn) for signal in signals]


def draw_pairs(judged: JudgedPairs, n_pairs: int, rng: np.random.Generator) -> list[PairDraw]:
    """Draw pairs from the best, the median and the worst of the right and of the wrong ones.

    Parameters
    ----------
    judged : JudgedPairs
    n_pairs : int
        In all; spread evenly over what there is.
    rng : numpy.random.Generator

    Returns
    -------
    list of PairDraw
        By outcome, then place, then similarity from high to low; all pairs if there are no more.
    """
    masks = (judged.right, judged.judged & ~judged.right, ~judged.judged)
    strata: dict[tuple[str, str], np.ndarray] = {}
    pools: dict[str, int] = {}
    for outcome, mask in zip(OUTCOMES, masks, strict=True):
        chosen = np.flatnonzero(mask & np.isfinite(judged.similarity))
        chosen = chosen[np.argsort(-judged.similarity[chosen], kind="stable")]
        pools[outcome] = int(POOL * len(chosen))
        for place, third in zip(PLACES, _thirds(chosen), strict=True):
            strata[outcome, place] = third
    quotas = _quotas(n_pairs, {name: len(members) for name, members in strata.items()})
    drawn = []
    for (outcome, place), members in strata.items():
        quota = quotas[outcome, place]
        near = members[: max(quota, pools[outcome])]
        pairs = np.sort(rng.permutation(len(near))[:quota])
        ordered = sorted(near[pairs].tolist(), key=lambda one: (-judged.similarity[one], one))
        drawn += [PairDraw(pair, outcome, place) for pair in ordered]
    return drawn


def _thirds(ordered: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Best, median and worst third of pairs in falling order, the most typical of each first."""
    low, high = -(-len(ordered) // 3), len(ordered) - len(ordered) // 3
    middle = np.arange(low, high)
    middle = middle[np.argsort(np.abs(middle - (len(ordered) - 1) / 2), kind="stable")]
    return ordered[:low], ordered[middle], ordered[high:][::-1]


def _quotas(total: int, sizes: Mapping[tuple[str, str], int]) -> dict[tuple[str, str], int]:
    """Share ``total`` places out one by one, in turn, among the strata with members left."""
    quotas = dict.fromkeys(sizes, 0)
    left = min(total, sum(sizes.values()))
    while left:
        for name, size in sizes.items():
            if left and quotas[name] < size:
                quotas[name] += 1
                left -= 1
    return quotas


def _locate(
    samples: Samples, number: int, uid: str, modality: str, rows: Sequence[Mapping[str, Any]]
) -> Signal | None:
    """Store and row of a sample's modality: its own, or what an earlier binding gave."""
    store, row = samples.stores[samples.source[number]], int(samples.row[number])
    if modality in store.info.modalities and store.present(modality)[row]:
        return store, row
    for given in rows:
        if given["anchor_uid"] == uid and given.get(f"{modality}.source"):
            code = samples.ids.index(given[f"{modality}.source"])
            return samples.stores[code], int(given[f"{modality}.row"])
    return None
