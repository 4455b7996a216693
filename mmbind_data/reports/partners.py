"""The sections of the report on partners and weights: who is used how often, what counts."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmbind_data.reports.figures import histogram
from mmbind_data.reports.html import (
    Html,
    Section,
    count,
    decimal,
    el,
    figure,
    percent,
    section,
    table,
)
from mmbind_data.reports.tables import JudgedPairs, Samples, share
from mmbind_data.store.bound import BoundDataset

MAX_ENTRIES = 10
SINGLE = 12  # fewer uses are counted one by one, more in ever wider bins
WIDER = 4
BINS = 40


def hubness(samples: Samples, judged: JudgedPairs, *, labels: bool = True) -> Section:
    """How evenly partners are used, and which are used most, with their labels or without."""
    reuse = judged.document["reuse"]
    uses = np.bincount(judged.partner, minlength=len(samples))
    falling = -np.sort(-uses[uses > 0])
    half = int(np.searchsorted(np.cumsum(falling), len(judged) / 2)) + 1 if len(judged) else 0
    top = [int(one) for one in np.argsort(-uses, kind="stable")[:MAX_ENTRIES] if uses[one]]
    facts = samples.facts(top)
    rows = [
        (provenance(facts[one]), samples.ids[samples.source[one]], facts[one]["subject"] or "–",
         (samples.label[one] if labels else "") or "–", count(uses[one]),
         percent(share(judged.right[(judged.partner == one) & judged.judged])))
        for one in top
    ]  # fmt: skip
    names, edges, counts = _use_bins(reuse["histogram"])
    drawn = histogram(
        "reuse", "How often candidates are used", "times used as a partner", "candidates",
        edges, {"candidates": ("none", counts)}, names,
    )  # fmt: skip
    alone = sum(one.get("n_without_partner", 0) for one in judged.document["directions"])
    none_found = f" {count(alone)} anchors found no partner." if alone else ""
    return section(
        "hubness", "Hubness",
        el("p", f"{percent(reuse['share_never_used'])} of the candidates are nobody's partner; a "
           f"partner that is used is used {decimal(reuse['mean'], 2)} times on average, at most "
           f"{count(reuse['max'])} times. Half of all pairs go to {count(half)} "
           f"partners.{none_found}"),
        figure(drawn, "Candidates by how often they are somebody's partner, at any rank."),
        table("Partners used most",
              ("sample", "source", "subject", "label", "times used", "of these right"),
              rows, text_columns=(0, 1, 2, 3)),
    )  # fmt: skip


def _use_bins(
    found: Mapping[str, int],
) -> tuple[dict[float, str], np.ndarray, np.ndarray]:
    """Ticks, edges and counts of bins 0, 1, 2, ..., and ever wider from `SINGLE` on."""
    uses = np.array([int(one) for one in found], dtype=np.int64)
    limits = [*range(SINGLE + 1)]
    while limits[-1] <= int(uses.max(initial=0)):
        limits.append(limits[-1] * WIDER if limits[-1] >= SINGLE else limits[-1] + 1)
    keep = [one for one in limits if one <= int(uses.max(initial=0))]
    limits = limits[: len(keep) + 1]
    counts, _ = np.histogram(uses, limits, weights=np.array(list(found.values())))
    names = {
        i + 0.5: f"{low}" if high == low + 1 else f"{low}+"
        for i, (low, high) in enumerate(pairwise(limits))
    }
    return names, np.arange(len(limits), dtype=np.float64), counts.astype(np.int64)


def weights(bound: BoundDataset, judged: JudgedPairs) -> Section:
    """How strongly pairs count in the loss."""
    rows_of = bound.pairs().select(["kind", "weight"])
    pseudo = pc.is_in(rows_of["kind"].cast(pa.string()), pa.array(["pseudo", "mean"]))
    known = rows_of.filter(pseudo)["weight"].to_numpy().astype(np.float64)
    rule = f"Rule: {', '.join(dict.fromkeys(one.weight_rule for one in bound.info.binder))}."
    if max(one.top_k for one in bound.info.binder) > 1:
        rule = "The partners of one anchor share a weight of 1, the more similar get more."
    effective = known.sum() ** 2 / max(float((known**2).sum()), 1e-300)
    low, high = float(known.min()), float(known.max())
    edges = np.histogram_bin_edges(known, 1 if high - low < 1e-6 else BINS)
    drawn = histogram("weights", "Weights of pseudo-paired rows", "weight", "rows", edges,
                      {"rows": ("none", np.histogram(known, edges)[0])})  # fmt: skip
    there = np.isfinite(judged.weight)
    groups = {
        "all": known,
        "right": judged.weight[judged.right & there],
        "wrong": judged.weight[judged.judged & ~judged.right & there],
    }
    rows = [
        (name, count(len(one)),
         *(decimal(float(f(one))) for f in (np.min, np.median, np.mean, np.max)))
        for name, one in groups.items() if len(one)
    ]  # fmt: skip
    return section(
        "weights", "Weights",
        el("p", f"{rule} Pairs count as if there were {count(effective)} of equal weight "
           f"instead of {count(len(known))}. Rows that were measured have weight 1."),
        figure(drawn, "Weights by which the loss counts pseudo-paired rows."),
        table("Weights of pseudo-paired rows",
              ("pairs", "rows", "smallest", "median", "mean", "largest"), rows),
    )  # fmt: skip


def provenance(facts: Mapping[str, Any]) -> Html:
    """Raw file and span of a sample, as far as its table tells."""
    span = ""
    if facts.get("t_start") is not None and facts.get("t_end") is not None:
        span = f", {facts['t_start']:g}–{facts['t_end']:g} s"
    if facts.get("raw_start") is not None and facts.get("raw_end") is not None:
        span += f", frames {facts['raw_start']}–{facts['raw_end']}"
    if facts.get("raw_file") and not span:
        span = ", whole"
    return el("code", f"{facts.get('raw_file') or facts['uid']}{span}")
