"""Data of the sections of the report on a bound store; its template makes words of them."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmbind_data.reports.calibration import calibrate, chance, wilson
from mmbind_data.reports.html import Section
from mmbind_data.reports.plots import calibration_plot, heat_map, histogram
from mmbind_data.reports.tables import (
    JudgedPairs,
    Samples,
    coverage,
    fold_classes,
    label_pairs,
    pseudo_rows,
    share,
)
from mmbind_data.spec.verdict import judge_pairing
from mmbind_data.store.bound import BoundDataset
from mmbind_data.store.dataset import DESCRIPTOR

MAX_ENTRIES = 10  # of a list of the largest
BINS = 40
SINGLE_USES = 12  # up to here each number of uses has a bin; beyond, each is WIDER times the last
WIDER = 4


def what_was_bound(bound: BoundDataset, samples: Samples) -> Section:
    """Sources with licences and digests, how partners were found, and the commands."""
    info = bound.info
    licences: dict[tuple[str, str, str], list[str]] = {}
    citations: dict[str, list[str]] = {}
    for one, store in zip(info.sources, samples.stores, strict=True):
        terms = one.licence.redistribution, one.licence.name, one.licence.source
        licences.setdefault(terms, []).append(one.source_id)
        document = store.document(DESCRIPTOR)
        known = [document[key]["value"] for key in ("citation", "homepage") if key in document]
        citations |= {one.dataset_id: known} if known else {}
    binder = [one.model_dump(mode="json") for one in info.binder]
    names = dict.fromkeys(name for one in binder for name in one)
    settings = [(name, *(one.get(name) for one in binder)) for name in names]
    head = [f"binding {i + 1}" for i in range(len(binder))] if len(binder) > 1 else ["value"]
    shared = [word for one in info.shared for word in ("--shared", one)]
    words = [*shared, *(one.path for one in info.sources), "-o", bound.path.name]
    data = {
        "info": info,
        "verdict": judge_pairing(info.quality, info.shared) if info.quality else None,
        "licences": [(", ".join(ids), *terms) for terms, ids in licences.items()],
        "citations": citations.values(),
        "bindings": head,
        "settings": [one for one in settings if any(v not in (None, {}, []) for v in one[1:])],
        "commands": [*(one.convert for one in info.sources), f"mmbind bind {shlex.join(words)}"],
    }
    return Section("bound", "What was bound", data)


def rows_by_kind(bound: BoundDataset) -> Section:
    """How many rows there are of each kind, and how many of them carry each modality."""
    modalities, rows, groups = bound.info.modalities, bound.pairs(), []
    kinds, shared = rows["kind"].cast(pa.string()), rows["shared"].cast(pa.string()).fill_null("–")
    for kind in kinds.unique().to_pylist():
        for name in dict.fromkeys((*bound.info.shared, "–")):
            group = rows.filter(pc.and_(pc.equal(kinds, kind), pc.equal(shared, name)))
            present = [len(group) - group[f"{one}.source"].null_count for one in modalities]
            if len(group):
                groups.append((kind, name, len(group), *present))
    n_partners = (pc.max(rows["rank"]).as_py() or 0) + 1
    data = {"modalities": modalities, "groups": groups, "n_partners": n_partners}
    return Section("rows", "Rows", data | {"has_means": "mean" in bound.info.n_rows})


def accuracy(bound: BoundDataset, judged: JudgedPairs) -> Section:
    """Pairing accuracy by direction and by rank."""
    first, shared, directions = judged.first, bound.info.shared[0], []
    for i, one in enumerate(judged.document["directions"]):
        title = f"{one['anchor']} → {one['partner']}"
        counts = _judgement(first & (judged.direction == i), judged)
        directions.append((title, one.get("shared", shared), one["median_similarity"], *counts))
    directions.append(("all", "", bound.info.similarity["median"], *_judgement(first, judged)))
    ranks = []
    for rank in range(int(judged.rank.max(initial=0)) + 1):
        mask = judged.judged & (judged.rank == rank)
        known = judged.similarity[mask & np.isfinite(judged.similarity)]
        median = float(np.median(known)) if len(known) else None
        ranks.append((f"{rank + 1}", median, *_judgement(mask, judged)))
    data = {
        "directions": directions if first.any() else [],
        "ranks": ranks if first.any() and len(ranks) > 1 else [],
        "by_chance": chance(judged.document),
    }
    return Section("accuracy", "Pairing accuracy", data)


def _judgement(mask: np.ndarray, judged: JudgedPairs) -> tuple[int, int, float, float]:
    """Numbers of judged and of right pairs, and the interval of their share."""
    n, n_right = int(mask.sum()), int(judged.right[mask].sum())
    lower, upper = wilson(np.array([n_right]), np.array([max(n, 1)]))
    return n, n_right, float(lower[0]), float(upper[0])


def confusion(judged: JudgedPairs, samples: Samples) -> Section | None:
    """Which label was paired with which, binding by binding; None without labels."""
    order = list(dict.fromkeys(n for store in samples.stores for n in store.names("label")))
    groups: list[dict[str, Any]] = []
    for title, chosen, known in _label_groups(judged):
        found = label_pairs(samples, judged, chosen)
        if not found:
            continue
        key, name = f"confusion-{len(groups)}", f"Pairing confusion {title}".strip()
        drawing = heat_map(key, name, *fold_classes(found, order), judged=known)
        sizes = Counter(label for label, _ in found.elements())
        unequal = [(n, a, b, n / sizes[a]) for (a, b), n in found.items() if a != b]
        unequal.sort(key=lambda one: (-one[0], *one[1:]))
        group = {"title": title, "judged": known, "drawing": drawing}
        groups.append(group | {"unequal": unequal[:MAX_ENTRIES]})
    return Section("confusion", "Pairing confusion", {"groups": groups}) if groups else None


def _label_groups(judged: JudgedPairs) -> Iterator[tuple[str, np.ndarray, bool]]:
    """Pairs whose labels are shown together: a title, the pairs, and whether they are judged.

    Both directions of a binding if labels can agree; otherwise each direction of its own.
    """
    for hop in np.unique(judged.hop).tolist():
        first = (judged.hop == hop) & (judged.rank == 0)
        if (first & judged.judged).any():
            yield f"Binding {hop + 1}" if judged.hop.any() else "", first & judged.judged, True
            continue
        for direction in np.unique(judged.direction[first]).tolist():
            document = judged.document["directions"][direction]
            title = f"{document['anchor']} → {document['partner']}"
            yield title, first & (judged.direction == direction), False


def similarity(judged: JudgedPairs) -> Section:
    """How similar partners are, and how often pairs of a similarity are right."""
    known, drawing, calibration, found = np.isfinite(judged.similarity), None, None, None
    if known.any():
        edges = _edges(judged.similarity[known])
        wrong = judged.judged & ~judged.right
        layers = {
            name: (colour, np.histogram(judged.similarity[mask & known], edges)[0])
            for name, colour, mask in (
                ("right", "right", judged.right),
                ("wrong", "wrong", wrong),
                ("not judged", "none", ~judged.judged),
            )
        }
        title = "Similarity of all pairs"
        drawing = histogram("similarity", title, "similarity", "pairs", edges, layers)
    first = judged.first & known
    if first.any():
        found = calibrate(judged.similarity[first], judged.right[first])
        overall = float(judged.right[first].mean())
        calibration = calibration_plot(
            "calibration",
            "Share of right pairs by similarity",
            found,
            overall,
            chance(judged.document),
        )
    data = {"drawing": drawing, "calibration": calibration, "found": found}
    return Section("similarity", "Similarity", data)


def _edges(values: np.ndarray) -> np.ndarray:
    """Edges of equal bins over all values; of one bin if the values do not differ."""
    low, high = float(values.min()), float(values.max())
    if high - low < 1e-6:
        return np.array([low - 5e-4, high + 5e-4])
    return np.linspace(low, high, BINS + 1)


def hubness(samples: Samples, judged: JudgedPairs, *, labels: bool = True) -> Section:
    """How evenly partners are used, and which are used most, with their labels or without."""
    document = judged.document
    uses = np.bincount(judged.partner, minlength=len(samples))
    falling = -np.sort(-uses[uses > 0])
    top = [int(one) for one in np.argsort(-uses, kind="stable")[:MAX_ENTRIES] if uses[one]]
    facts = samples.facts(top)
    partners = [
        (facts[one], uses[one], share(judged.right[(judged.partner == one) & judged.judged]))
        for one in top
    ]
    names, edges, counts = _use_bins(document["reuse"]["histogram"])
    layers = {"candidates": ("none", counts)}
    title, axes = "How often candidates are used", ("times used as a partner", "candidates")
    data = {
        "reuse": document["reuse"],
        "n_half": int(np.searchsorted(np.cumsum(falling), len(judged) / 2)) + 1 if top else 0,
        "n_alone": sum(one.get("n_without_partner", 0) for one in document["directions"]),
        "drawing": histogram("reuse", title, *axes, edges, layers, names),
        "partners": partners,
        "labels": labels,
    }
    return Section("hubness", "Hubness", data)


def _use_bins(found: Mapping[str, int]) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Ticks, edges and counts of bins 0, 1, 2, ..., and ever wider from `SINGLE_USES` on."""
    uses = np.array([int(one) for one in found], dtype=np.int64)
    most = int(uses.max(initial=0))
    limits = list(range(min(most + 1, SINGLE_USES) + 1))
    while limits[-1] <= most:
        limits.append(limits[-1] * WIDER)
    counts, _ = np.histogram(uses, limits, weights=np.array(list(found.values())))
    names = [
        f"{low}" if high == low + 1 else f"{low}–{min(high - 1, most)}"
        for low, high in pairwise(limits)
    ]
    return names, np.arange(len(limits), dtype=np.float64), counts.astype(np.int64)


def subjects_and_classes(samples: Samples, judged: JudgedPairs) -> Section:
    """How classes and subjects take part in the pairs."""
    source = np.array([f"{one}: " for one in samples.ids], dtype=object)[samples.source]
    subject = np.where(samples.subject != "", source + samples.subject, "")
    names = {"class": samples.label, "subject": subject}
    groups = {kind: coverage(one, judged) for kind, one in names.items()}
    return Section("coverage", "Coverage", {"groups": groups})


def weights(bound: BoundDataset, judged: JudgedPairs) -> Section:
    """How strongly pairs count in the loss."""
    known = pseudo_rows(bound)["weight"].to_numpy().astype(np.float64)
    edges, finite = _edges(known), np.isfinite(judged.weight)
    layers = {"rows": ("none", np.histogram(known, edges)[0])}
    groups = {
        "all": known,
        "right": judged.weight[judged.right & finite],
        "wrong": judged.weight[judged.judged & ~judged.right & finite],
    }
    statistics = (len, np.min, np.median, np.mean, np.max)
    data = {
        "rules": dict.fromkeys(one.weight_rule for one in bound.info.binder),
        "shared_by_partners": any(one.weight_rule == "shares" for one in bound.info.binder),
        "n_effective": known.sum() ** 2 / max(float((known**2).sum()), 1e-300),
        "n_rows": len(known),
        "drawing": histogram(
            "weights", "Weights of pseudo-paired rows", "weight", "rows", edges, layers
        ),
        "groups": [
            (name, *(f(one) for f in statistics)) for name, one in groups.items() if len(one)
        ],
    }
    return Section("weights", "Weights", data)
