"""Sections of the report on partners and weights: how often partners are used, what pairs weigh."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from markupsafe import Markup

from mmbind_data.reports.html import Section, Table, code, count, decimal, percent
from mmbind_data.reports.plots import histogram
from mmbind_data.reports.sections import MAX_ENTRIES, bin_edges
from mmbind_data.reports.tables import JudgedPairs, Samples, pseudo_rows, share
from mmbind_data.store.bound import BoundDataset

SINGLE = 12  # fewer uses have a bin each, more share ever wider bins
WIDER = 4


def hubness(samples: Samples, judged: JudgedPairs, *, labels: bool = True) -> Section:
    """How evenly partners are used, and which are used most, with their labels or without."""
    document = judged.document
    uses = np.bincount(judged.partner, minlength=len(samples))
    falling = -np.sort(-uses[uses > 0])
    top = [int(one) for one in np.argsort(-uses, kind="stable")[:MAX_ENTRIES] if uses[one]]
    facts = samples.facts(top)
    rows = [
        (provenance(facts[one]), samples.ids[samples.source[one]], facts[one]["subject"] or "–",
         (samples.label[one] if labels else "") or "–", count(uses[one]),
         percent(share(judged.right[(judged.partner == one) & judged.judged])))
        for one in top
    ]  # fmt: skip
    names, edges, counts = _use_bins(document["reuse"]["histogram"])
    drawing = histogram(
        "reuse", "How often candidates are used", "times used as a partner", "candidates",
        edges, {"candidates": ("none", counts)}, names,
    )  # fmt: skip
    head = ("sample", "source", "subject", "label", "times used", "of these right")
    data = {
        "reuse": document["reuse"],
        "n_half": int(np.searchsorted(np.cumsum(falling), len(judged) / 2)) + 1 if top else 0,
        "n_alone": sum(one.get("n_without_partner", 0) for one in document["directions"]),
        "drawing": drawing,
        "partners": Table("Partners used most", head, rows, range(4)),
    }
    return Section("hubness", "Hubness", data)


def _use_bins(found: Mapping[str, int]) -> tuple[dict[float, str], np.ndarray, np.ndarray]:
    """Ticks, edges and counts of bins 0, 1, 2, ..., and ever wider from `SINGLE` on."""
    uses = np.array([int(one) for one in found], dtype=np.int64)
    most = int(uses.max(initial=0))
    limits = list(range(min(most + 1, SINGLE) + 1))
    while limits[-1] <= most:
        limits.append(limits[-1] * WIDER)
    counts, _ = np.histogram(uses, limits, weights=np.array(list(found.values())))
    names = {
        i + 0.5: f"{low}" if high == low + 1 else f"{low}–{min(high - 1, most)}"
        for i, (low, high) in enumerate(pairwise(limits))
    }
    return names, np.arange(len(limits), dtype=np.float64), counts.astype(np.int64)


def weights(bound: BoundDataset, judged: JudgedPairs) -> Section:
    """How strongly pairs count in the loss."""
    known = pseudo_rows(bound)["weight"].to_numpy().astype(np.float64)
    rule = f"Rule: {', '.join(dict.fromkeys(one.weight_rule for one in bound.info.binder))}."
    if max(one.top_k for one in bound.info.binder) > 1:
        rule = "The partners of one anchor share a weight of 1; more similar ones get more of it."
    edges = bin_edges(known)
    layers = {"rows": ("none", np.histogram(known, edges)[0])}
    finite = np.isfinite(judged.weight)
    groups = {
        "all": known,
        "right": judged.weight[judged.right & finite],
        "wrong": judged.weight[judged.judged & ~judged.right & finite],
    }
    cells = [
        (name, count(len(one)),
         *(decimal(float(f(one))) for f in (np.min, np.median, np.mean, np.max)))
        for name, one in groups.items() if len(one)
    ]  # fmt: skip
    title = "Weights of pseudo-paired rows"
    data = {
        "rule": rule,
        "n_effective": known.sum() ** 2 / max(float((known**2).sum()), 1e-300),
        "n_rows": len(known),
        "drawing": histogram("weights", title, "weight", "rows", edges, layers),
        "groups": Table(title, ("pairs", "rows", "smallest", "median", "mean", "largest"), cells),
    }
    return Section("weights", "Weights", data)


def provenance(facts: Mapping[str, Any]) -> Markup:
    """Raw file and span of a sample, as far as they are recorded."""
    span = ""
    if facts.get("t_start") is not None and facts.get("t_end") is not None:
        span = f", {facts['t_start']:g}–{facts['t_end']:g} s"
    if facts.get("raw_start") is not None and facts.get("raw_end") is not None:
        span += f", frames {facts['raw_start']}–{facts['raw_end']}"
    if facts.get("raw_file") and not span:
        span = ", whole"
    return code(f"{facts.get('raw_file') or facts['uid']}{span}")
