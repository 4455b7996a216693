"""Sections of the report on a bound store: what was bound, how well, and what is confused."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from markupsafe import Markup

from mmbind_data.reports.calibration import calibrate, chance, wilson
from mmbind_data.reports.html import Section, Table, count, decimal, percent
from mmbind_data.reports.plots import calibration_plot, fold_classes, heat_map, histogram
from mmbind_data.reports.tables import (
    JudgedPairs,
    Samples,
    coverage,
    label_pairs,
    share,
)
from mmbind_data.store.bound import BoundDataset
from mmbind_data.store.dataset import DESCRIPTOR

MAX_ENTRIES = 10  # of a list of the largest
BINS = 40


def at_a_glance(bound: BoundDataset, judged: JudgedPairs) -> dict[str, str]:
    """The figures that matter most."""
    info = bound.info
    return {
        "pseudo-paired rows": count(info.n_rows["pseudo"] + info.n_rows.get("mean", 0)),
        "pairing accuracy": percent(share(judged.right[judged.first])),
        "median similarity": decimal(info.similarity["median"]),
        "candidates never used": percent(judged.document["reuse"]["share_never_used"]),
        "most uses of one partner": count(info.reuse["max"]),
    }


def what_was_bound(bound: BoundDataset, samples: Samples) -> Section:
    """Sources with licences and digests, how partners were found, and the commands."""
    info = bound.info
    digest = Markup('<code title="{0}">{1}</code>')
    sources = [
        (one.source_id, f"{one.dataset_id} {one.dataset_version}", ", ".join(one.modalities),
         count(one.n_samples), count(len(one.subjects)),
         digest.format(one.content_digest, one.content_digest[:12]))
        for one in info.sources
    ]  # fmt: skip
    head = ("source", "dataset", "modalities", "samples", "subjects", "content digest")
    shared = [word for one in info.shared for word in ("--shared", one)]
    words = [*shared, *(one.path for one in info.sources), "-o", bound.path.name]
    data = {
        "warnings": getattr(info, "warnings", ()),
        "sources": Table("Sources", head, sources, (0, 1, 2, 5)),
        "licences": _licences(bound),
        "citations": _citations(bound, samples),
        "settings": _settings(bound),
        "commands": [*(one.convert for one in info.sources), f"mmbind bind {shlex.join(words)}"],
        "digest": info.content_digest,
    }
    return Section("bound", "What was bound", data)


def _licences(bound: BoundDataset) -> Table:
    """Verdict and text of each dataset's licence; sources with equal terms share a row."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for one in bound.info.sources:
        terms = (one.licence.redistribution, one.licence.name, one.licence.source)
        groups.setdefault(terms, []).append(one.source_id)
    bold = Markup("<strong>{}</strong>")
    rows = [(", ".join(ids), bold.format(verdict), *rest)
            for (verdict, *rest), ids in groups.items()]  # fmt: skip
    head = ("source", "verdict", "licence", "where it is stated")
    return Table("Licences: may adapted data be passed on?", head, rows, range(4))


def _citations(bound: BoundDataset, samples: Samples) -> list[str]:
    """How each dataset asks to be cited, and its page."""
    cited = {}
    for one, store in zip(bound.info.sources, samples.stores, strict=True):
        document = store.document(DESCRIPTOR)
        known = [str(document[key]["value"]) for key in ("citation", "homepage") if key in document]
        if known:
            cited[one.dataset_id] = " ".join(known)
    return list(cited.values())


def _settings(bound: BoundDataset) -> Table:
    settings = [one.model_dump(mode="json") for one in bound.info.binder]
    rows = [
        (name.replace("_", " "), *(_setting(one.get(name)) for one in settings))
        for name in dict.fromkeys(name for one in settings for name in one)
        if any(one.get(name) not in (None, {}, []) for one in settings)
    ]
    n = len(settings)
    head = ["value"] if n == 1 else [f"binding {i + 1}" for i in range(n)]
    return Table("How partners were found", ("setting", *head), rows, range(n + 1))


def _setting(value: object) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{name}: {_setting(one)}" for name, one in value.items())
    if isinstance(value, list):
        return ", ".join(map(_setting, value))
    return "–" if value is None else str(value)


def rows_by_kind(bound: BoundDataset) -> Section:
    """How many rows there are of each kind, and how many of them carry each modality."""
    modalities, rows = bound.info.modalities, bound.pairs()
    kinds, shared = rows["kind"].cast(pa.string()), rows["shared"].cast(pa.string()).fill_null("–")
    body = []
    for kind in kinds.unique().to_pylist():
        for name in dict.fromkeys((*bound.info.shared, "–")):
            group = rows.filter(pc.and_(pc.equal(kinds, kind), pc.equal(shared, name)))
            present = [len(group) - group[f"{one}.source"].null_count for one in modalities]
            if len(group):
                body.append((kind, name, count(len(group)), *map(count, present)))
    caption = "Rows by kind, and how many of them carry each modality"
    data = {
        "rows": Table(caption, ("kind", "bound by", "rows", *modalities), body, (0, 1)),
        "n_partners": (pc.max(rows["rank"]).as_py() or 0) + 1,
        "has_means": "mean" in bound.info.n_rows,
    }
    return Section("rows", "Rows", data)


def accuracy(bound: BoundDataset, judged: JudgedPairs) -> Section:
    """Pairing accuracy by direction and by rank."""
    first = judged.first
    if not first.any():
        return Section("accuracy", "Pairing accuracy")
    shared = bound.info.shared[0]
    rows = [
        (f"{one['anchor']} → {one['partner']}", one.get("shared", shared),
         *_judged_cells(first & (judged.direction == i), judged), decimal(one["median_similarity"]))
        for i, one in enumerate(judged.document["directions"])
    ]  # fmt: skip
    rows.append(("all", "", *_judged_cells(first, judged),
                 decimal(bound.info.similarity["median"])))  # fmt: skip
    head = ("anchor → partner", "shared", "judged", "right", "accuracy", "95 % interval",
            "median similarity")  # fmt: skip
    table = Table("Pairing accuracy by direction", head, rows, (0, 1))
    data = {"directions": table, "by_chance": chance(judged.document)}
    if judged.rank.any():
        ranks = [
            (f"{rank + 1}", *_judged_cells(mask, judged), decimal(_median(judged.similarity[mask])))
            for rank in range(int(judged.rank.max()) + 1)
            for mask in [judged.judged & (judged.rank == rank)]
        ]
        head = ("partner", "judged", "right", "share right", "95 % interval", "median similarity")
        data["ranks"] = Table("Partners of an anchor, from the most similar on", head, ranks)
    return Section("accuracy", "Pairing accuracy", data)


def _judged_cells(mask: np.ndarray, judged: JudgedPairs) -> tuple[str, str, str, str]:
    """Judged pairs, right ones, their share and its interval."""
    n, n_right = int(mask.sum()), int(judged.right[mask].sum())
    if not n:
        return "0", "0", "–", "–"
    lower, upper = wilson(np.array([n_right]), np.array([n]))
    return count(n), count(n_right), percent(n_right / n), _interval(lower[0], upper[0])


def _interval(lower: float, upper: float) -> str:
    return f"{100 * lower:.1f}–{100 * upper:.1f} %"


def _median(values: np.ndarray) -> float | None:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else None


def confusion(judged: JudgedPairs, samples: Samples) -> Section | None:
    """Which label was paired with which, binding by binding; None without labels."""
    order = list(dict.fromkeys(n for store in samples.stores for n in store.names("label")))
    groups: list[dict[str, Any]] = []
    for title, chosen, known in _label_groups(judged):
        found = label_pairs(samples, judged, chosen)
        if found:
            name = f"Pairing confusion {title}".strip()
            drawing = heat_map(
                f"confusion-{len(groups)}", name, *fold_classes(found, order), judged=known
            )
            groups.append({"title": title, "judged": known, "drawing": drawing,
                           "unequal": _most_frequent(found)})  # fmt: skip
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


def _most_frequent(
    found: Mapping[str, Mapping[str, int]],
) -> list[tuple[int, str, str, float]]:
    """The most frequent pairs of different labels: count, both labels, share of the first's."""
    unequal = [
        (n, label, to, n / sum(inner.values()))
        for label, inner in found.items() for to, n in inner.items() if to != label
    ]  # fmt: skip
    return sorted(unequal, key=lambda one: (-one[0], one[1], one[2]))[:MAX_ENTRIES]


def similarity(judged: JudgedPairs) -> Section:
    """How similar partners are, and how often pairs of a similarity are right."""
    known, drawing = np.isfinite(judged.similarity), None
    if known.any():
        edges = bin_edges(judged.similarity[known])
        layers = {
            name: (colour, np.histogram(judged.similarity[mask & known], edges)[0])
            for name, colour, mask in (
                ("right", "right", judged.right),
                ("wrong", "wrong", judged.judged & ~judged.right),
                ("not judged", "none", ~judged.judged),
            )
        }
        drawing = histogram(
            "similarity", "Similarity of all pairs", "similarity", "pairs", edges, layers
        )
    data: dict[str, Any] = {"drawing": drawing}
    first = judged.first & known
    if first.any():
        found = calibrate(judged.similarity[first], judged.right[first])
        title = "Share of right pairs by similarity"
        overall = float(judged.right[first].mean())
        plot = calibration_plot("calibration", title, found, overall, chance(judged.document))
        columns = (found.low, found.high, found.n, found.n_right, found.share, found.lower,
                   found.upper)  # fmt: skip
        bins = [
            (f"{decimal(low)} to {decimal(high)}", count(n), count(n_right), percent(of),
             _interval(lower, upper))
            for low, high, n, n_right, of, lower, upper in zip(*columns, strict=True)
        ]  # fmt: skip
        head = ("similarity", "pairs", "right", "share right", "95 % interval")
        order = None if np.isnan(found.order) else found.order
        data |= {"calibration": plot, "order": order, "bins": Table(title, head, bins)}
    return Section("similarity", "Similarity", data)


def bin_edges(values: np.ndarray) -> np.ndarray:
    """Edges of equal bins over all values; of one bin if the values do not differ."""
    low, high = float(values.min()), float(values.max())
    if high - low < 1e-6:
        return np.array([low - 5e-4, high + 5e-4])
    return np.linspace(low, high, BINS + 1)


def subjects_and_classes(samples: Samples, judged: JudgedPairs) -> Section:
    """How classes and subjects take part in the pairs."""
    head = ("samples", "anchors", "used as partner", "times used", "right", "accuracy")
    source = np.array([f"{one}: " for one in samples.ids], dtype=object)[samples.source]
    subject = np.where(samples.subject != "", source + samples.subject, "")
    tables = []
    for kind, names in (("class", samples.label), ("subject", subject)):
        rows = [
            (name, count(n), count(anchors), f"{count(used)} ({percent(used / n)})", count(uses),
             count(right) if of else "–", percent(right / of if of else None))
            for name, (n, anchors, used, uses, of, right) in coverage(names, judged)
        ]  # fmt: skip
        tables.append(Table(f"Per {kind}: anchors and partners", (kind, *head), rows))
    return Section("coverage", "Coverage", {"tables": tables})
