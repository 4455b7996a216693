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
from mmbind_data.signal.point_clouds import RaggedPoints
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


@dataclass(frozen=True)
class ShownPair:
    """A drawn pair with all that its card shows.

    Attributes
    ----------
    draw : PairDraw
    shared : str
        The modality that the pair was bound by.
    anchor, partner : mapping
        Their rows of the sample tables; ``source`` is the source id, ``label`` its text.
    signals : two of (Dataset, int), or None
        Store and row of the shared modality of both; None if it is not stored.
    completed : mapping of modality to source id
        The modalities that the row takes from other samples than its anchor.
    """

    draw: PairDraw
    shared: str
    anchor: Mapping[str, Any]
    partner: Mapping[str, Any]
    signals: tuple[tuple[Dataset, int] | None, tuple[Dataset, int] | None]
    completed: Mapping[str, str]


def pairs_drawn(shown: Sequence[ShownPair], judged: JudgedPairs, seed: int) -> Section:
    """The drawn pairs, one card each, by outcome and place."""
    layouts: Layouts = {}
    cards = [_card(number, one, judged, layouts) for number, one in enumerate(shown, 1)]
    data = {"cards": cards, "seed": seed, "judged": judged.judged.any()}
    return Section("pairs", "Pairs drawn", data)


def _card(number: int, one: ShownPair, judged: JudgedPairs, layouts: Layouts) -> dict[str, Any]:
    pair, drawn = one.draw.pair, _draw(number, one, layouts)
    return {
        "outcome": one.draw.outcome,
        "place": one.draw.place,
        "shared": one.shared,
        "similarity": judged.similarity[pair],
        "weight": judged.weight[pair],
        "rank": judged.rank[pair] + 1 if judged.rank.any() else None,
        "binding": judged.hop[pair] + 1 if judged.hop.any() else None,
        "completed": ", ".join(f"{name} from {source}" for name, source in one.completed.items()),
        "sides": [
            {"role": role, "sample": sample, "signal": signal}
            for role, sample, signal in zip(ROLES, (one.anchor, one.partner), drawn, strict=True)
        ],
    }


def _draw(number: int, one: ShownPair, layouts: Layouts) -> list[SignalDrawing | str | None]:
    """Both signals; None for one that is not stored, empty texts if neither is, as of labels."""
    titles, modalities, values = [], [], []
    for role, signal in zip(ROLES, one.signals, strict=True):
        if signal is not None:
            store, row = signal
            ragged = store.info.modalities[one.shared].ragged
            titles.append(f"{role} of pair {number}: {one.shared}")
            modalities.append(store.info.modalities[one.shared])
            loaded = (store.load_points if ragged else store.load)(one.shared, [row])
            values.append(loaded if isinstance(loaded, RaggedPoints) else loaded[0])
    if not titles:
        return ["", ""]
    drawn = iter(draw_signals(f"pair-{number}", titles, modalities, values, layouts))
    return [None if signal is None else next(drawn) for signal in one.signals]


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


def look_up(
    bound: BoundDataset, samples: Samples, judged: JudgedPairs, draws: Sequence[PairDraw]
) -> list[ShownPair]:
    """Look up what the cards show of drawn pairs."""
    pairs = np.array([one.pair for one in draws], dtype=np.int64)
    numbers = np.concatenate([judged.anchor[pairs], judged.partner[pairs]])
    facts = samples.facts(numbers.tolist())
    for number, row in facts.items():
        row["source"] = samples.ids[samples.source[number]]
        row["label"] = samples.label[number]
    anchors = bound.pairs()["anchor_uid"].cast(pa.string())
    uids = pa.array([row["uid"] for row in facts.values()], type=pa.string())
    rows = bound.pairs().filter(pc.is_in(anchors, uids)).to_pylist()
    by_row = {row["row"]: row for row in rows}
    shown = []
    for draw in draws:
        name = bound.info.shared[int(judged.hop[draw.pair])]
        ends = [int(judged.anchor[draw.pair]), int(judged.partner[draw.pair])]
        anchor, partner = (facts[end] for end in ends)
        row = by_row.get(int(judged.row[draw.pair]), {})
        first, second = (_locate(samples, end, facts[end]["uid"], name, rows) for end in ends)
        completed = {
            modality: row[f"{modality}.source"]
            for modality in bound.info.modalities
            if row.get(f"{modality}.source") and row[f"{modality}.uid"] != anchor["uid"]
        }
        shown.append(ShownPair(draw, name, anchor, partner, (first, second), completed))
    return shown


def _locate(
    samples: Samples, number: int, uid: str, modality: str, rows: Sequence[Mapping[str, Any]]
) -> tuple[Dataset, int] | None:
    """Store and row of a sample's modality: its own, or what an earlier binding gave."""
    store, row = samples.stores[samples.source[number]], int(samples.row[number])
    if modality in store.info.modalities and store.present(modality)[row]:
        return store, row
    for given in rows:
        if given["anchor_uid"] == uid and given.get(f"{modality}.source"):
            code = samples.ids.index(given[f"{modality}.source"])
            return samples.stores[code], int(given[f"{modality}.row"])
    return None
