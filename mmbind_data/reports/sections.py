"""The sections of the report on a bound store, from figures to words."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmbind_data.reports.calibration import Calibration, calibrate, chance, wilson
from mmbind_data.reports.figures import calibration_plot, fold_classes, heat_map, histogram
from mmbind_data.reports.html import (
    Child,
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
from mmbind_data.reports.tables import (
    JudgedPairs,
    Samples,
    coverage,
    label_pairs,
    share,
)
from mmbind_data.spec.store import BinderInfo
from mmbind_data.store.bound import BoundDataset
from mmbind_data.store.dataset import DESCRIPTOR

MAX_ENTRIES = 10  # entries of a list of the largest
BINS = 40
NO_LABELS = (
    "No pair could be judged: samples carry no labels, or the two sides have no label text in "
    "common. Pairing accuracy, confusion and calibration need labels; pairing itself does not."
)


def at_a_glance(bound: BoundDataset, judged: JudgedPairs) -> Html:
    """The figures that matter most, large."""
    info, first = bound.info, judged.judged & (judged.rank == 0)
    facts = {
        "pseudo-paired rows": count(info.n_rows["pseudo"] + info.n_rows.get("mean", 0)),
        "pairing accuracy": percent(share(judged.right[first])),
        "median similarity": decimal(info.similarity["median"]),
        "candidates never used": percent(judged.document["reuse"]["share_never_used"]),
        "most uses of one partner": count(info.reuse["max"]),
    }
    pairs = [el("div", el("dt", name), el("dd", value)) for name, value in facts.items()]
    return el("dl", *pairs, class_="glance")


def what_was_bound(bound: BoundDataset, samples: Samples) -> Section:
    """Sources with licences and digests, how partners were found, and the commands."""
    info = bound.info
    sources = [
        (one.source_id, f"{one.dataset_id} {one.dataset_version}", ", ".join(one.modalities),
         count(one.n_samples), count(len(one.subjects)),
         el("code", one.content_digest[:12], title=one.content_digest))
        for one in info.sources
    ]  # fmt: skip
    paths = " ".join(shlex.quote(one.path) for one in info.sources)
    shared = " ".join(f"--shared {shlex.quote(one)}" for one in info.shared)
    commands = [*(one.convert for one in info.sources),
                f"mmbind bind {shared} {paths} -o {shlex.quote(bound.path.name)}"]  # fmt: skip
    return section(
        "bound", "What was bound",
        *(el("p", el("strong", "Warning: "), one, class_="warning")
          for one in getattr(info, "warnings", ())),
        table("Sources",
              ("source", "dataset", "modalities", "samples", "subjects", "content digest"),
              sources, text_columns=(0, 1, 2, 5)),
        *_licences(bound, samples),
        _settings(info.binder),
        el("h3", "Commands"),
        el("pre", el("code", "\n".join(commands)), tabindex=0),
        el("p", "The last with the settings above. Content digest of the result: ",
           el("code", info.content_digest)),
    )  # fmt: skip


def _licences(bound: BoundDataset, samples: Samples) -> list[Html]:
    """Verdict and wording of each dataset's licence, and how it wants to be cited."""
    groups: dict[tuple[str, ...], list[str]] = {}
    cited: dict[str, Html] = {}
    for one, store in zip(bound.info.sources, samples.stores, strict=True):
        terms = (one.licence.redistribution, one.licence.name, one.licence.source)
        groups.setdefault(terms, []).append(one.source_id)
        document = store.document(DESCRIPTOR)
        known = [str(document[name]["value"]) for name in ("citation", "homepage")
                 if name in document]  # fmt: skip
        if known:
            cited[one.dataset_id] = el("li", *(child for text in known for child in (text, " ")))
    rows = [(", ".join(ids), el("strong", verdict), name, source)
            for (verdict, name, source), ids in groups.items()]  # fmt: skip
    head = ("source", "verdict", "licence", "where it says so")
    parts = [table("Licences: may adapted data be passed on?", head, rows, text_columns=range(4))]
    if cited:
        parts += [el("h3", "To be cited"), el("ul", *cited.values())]
    return parts


def _settings(binder: Sequence[BinderInfo]) -> Html:
    settings = [one.model_dump(mode="json") for one in binder]
    names = list(dict.fromkeys(name for one in settings for name in one))
    rows = [
        (name.replace("_", " "), *(_setting(one.get(name)) for one in settings))
        for name in names
        if any(one.get(name) not in (None, {}, []) for one in settings)
    ]
    head = [f"binding {i + 1}" if len(settings) > 1 else "value" for i in range(len(settings))]
    return table("How partners were found", ("setting", *head), rows,
                 text_columns=range(len(head) + 1))  # fmt: skip


def _setting(value: object) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{name}: {_setting(one)}" for name, one in value.items())
    if isinstance(value, list):
        return ", ".join(map(_setting, value))
    return "–" if value is None else str(value)


def rows_by_kind(bound: BoundDataset) -> Section:
    """How many rows there are of each kind, and how many of them carry each modality."""
    modalities = bound.info.modalities
    names = ["kind", "shared", "rank", *(f"{name}.source" for name in modalities)]
    rows = bound.pairs().select(names)
    groups: dict[tuple[str, str], pa.Table] = {}
    kinds = rows["kind"].cast(pa.string())
    for kind in kinds.unique().to_pylist():
        mine = rows.filter(pc.equal(kinds, kind))
        texts = mine["shared"].cast(pa.string()).fill_null("–")
        for shared in [
            one for one in (*bound.info.shared, "–") if one in texts.unique().to_pylist()
        ]:
            groups.setdefault((kind, shared), mine.filter(pc.equal(texts, shared)))
    body = [
        (kind, shared, count(len(one)),
         *(count(len(one) - one[f"{name}.source"].null_count) for name in modalities))
        for (kind, shared), one in groups.items()
    ]  # fmt: skip
    n_ranks = (pc.max(rows["rank"]).as_py() or 0) + 1
    partners = f" Each anchor has up to {n_ranks} partners." if n_ranks > 1 else ""
    means = ""
    if "mean" in bound.info.n_rows:
        means = " The mean rows of an anchor are one training sample: the weighted mean of them."
    return section(
        "rows", "Rows",
        el("p", "A pseudo-paired row joins a sample with its partner; an incomplete row is a "
           "sample as it was measured, a dummy standing for what it lacks; a naturally paired row "
           f"was measured together.{partners}{means}"),
        table("Rows by kind, and how many of them carry each modality",
              ("kind", "bound by", "rows", *modalities), body, text_columns=(0, 1)),
    )  # fmt: skip


def accuracy(bound: BoundDataset, judged: JudgedPairs) -> Section:
    """Pairing accuracy by direction and rank, and what was taken for what."""
    first = judged.judged & (judged.rank == 0)
    title = "Pairing accuracy"
    if not first.any():
        return section("accuracy", title, el("p", NO_LABELS, class_="warning"))
    by_chance, shared = chance(judged.document), bound.info.shared[0]
    rows = [
        (f"{one['anchor']} → {one['partner']}", one.get("shared", shared),
         *_judged_cells(mask & first, judged), decimal(one["median_similarity"]))
        for i, one in enumerate(judged.document["directions"])
        for mask in [judged.direction == i]
    ]  # fmt: skip
    rows.append(("all", "", *_judged_cells(first, judged),
                 decimal(bound.info.similarity["median"])))  # fmt: skip
    parts: list[Child] = [
        el("p", "Share of anchors whose label equals that of their first partner. Labels were read "
           "only to judge. Were the same partners dealt out at random, it would be "
           f"{percent(by_chance)}."),
        table("Pairing accuracy by direction",
              ("anchor → partner", "shared", "judged", "right", "accuracy", "95 % interval",
               "median similarity"), rows, text_columns=(0, 1)),
    ]  # fmt: skip
    if judged.rank.any():
        ranks = [
            (f"{rank + 1}", *_judged_cells(mask, judged), decimal(_median(judged.similarity[mask])))
            for rank in range(int(judged.rank.max()) + 1)
            for mask in [judged.judged & (judged.rank == rank)]
        ]
        head = ("partner", "judged", "right", "share right", "95 % interval", "median similarity")
        parts.append(table("Partners of an anchor, from the most similar on", head, ranks))
    return section("accuracy", title, *parts)


def _judged_cells(mask: np.ndarray, judged: JudgedPairs) -> tuple[str, str, str, str]:
    mask = mask & judged.judged
    n, n_right = int(mask.sum()), int(judged.right[mask].sum())
    if not n:
        return "0", "0", "–", "–"
    lower, upper = wilson(np.array([n_right]), np.array([n]))
    interval = f"{100 * lower[0]:.1f}–{100 * upper[0]:.1f} %"
    return count(n), count(n_right), percent(n_right / n), interval


def _median(values: np.ndarray) -> float | None:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else None


def confusion(judged: JudgedPairs, samples: Samples) -> Section | None:
    """Which label was paired with which, binding by binding; None without labels."""
    order = list(dict.fromkeys(n for store in samples.stores for n in store.names("label")))
    parts: list[Child] = []
    for number, (title, chosen, known) in enumerate(_label_groups(judged)):
        found = label_pairs(samples, judged, chosen)
        if not found:
            continue
        parts.append(el("h3", title) if title else None)
        drawn = heat_map(f"confusion-{number}", f"Pairing confusion {title}".strip(),
                         *fold_classes(found, order), judged=known)  # fmt: skip
        colours = " Blue: the labels agree. Orange: they do not." if known else ""
        parts.append(figure(drawn, f"Anchors' labels in rows, first partners' in columns.{colours} "
                            "The stronger a colour, the larger the share of the row."))  # fmt: skip
        parts.append(_most_frequent(found, known=known))
    return section("confusion", "Pairing confusion", *parts) if parts else None


def _label_groups(judged: JudgedPairs) -> list[tuple[str, np.ndarray, bool]]:
    """Pairs whose labels are shown together: a title, the pairs, and whether they are judged.

    Both directions of a binding if labels can agree; else each of its own, as neither can.
    """
    groups = []
    for hop in np.unique(judged.hop).tolist():
        first = (judged.hop == hop) & (judged.rank == 0)
        if (first & judged.judged).any():
            title = f"Binding {hop + 1}" if judged.hop.any() else ""
            groups.append((title, first & judged.judged, True))
            continue
        for direction in np.unique(judged.direction[first]).tolist():
            told = judged.document["directions"][direction]
            title = f"{told['anchor']} → {told['partner']}"
            groups.append((title, first & (judged.direction == direction), False))
    return groups


def _most_frequent(found: Mapping[str, Mapping[str, int]], *, known: bool) -> Html:
    """The most frequent pairs of unlike labels, in words."""
    unlike = [
        (n, label, to) for label, inner in found.items() for to, n in inner.items() if to != label
    ]
    unlike.sort(key=lambda one: (-one[0], one[1], one[2]))
    if not unlike:
        return el("p", "No pair joins two different labels.")
    sizes = {label: sum(inner.values()) for label, inner in found.items()}
    items = [
        el("li", el("q", label), " paired with ", el("q", to), ": ",
           "once" if n == 1 else f"{count(n)} times", f", {percent(n / sizes[label])} of its pairs")
        for n, label, to in unlike[:MAX_ENTRIES]
    ]  # fmt: skip
    title = "The largest confusions" if known else "The most frequent pairs of labels"
    return el("div", el("h3", title), el("ol", *items))


def similarity(judged: JudgedPairs) -> Section:
    """How similar partners are, and what a similarity is worth."""
    known = np.isfinite(judged.similarity)
    parts: list[Child] = []
    if known.any():
        edges = _edges(judged.similarity[known])
        layers = {
            name: (class_, np.histogram(judged.similarity[mask & known], edges)[0])
            for name, class_, mask in (
                ("right", "right", judged.right),
                ("wrong", "wrong", judged.judged & ~judged.right),
                ("not judged", "none", ~judged.judged),
            )
        }
        drawn = histogram("similarity", "Similarity of all pairs", "similarity", "pairs",
                          edges, layers)  # fmt: skip
        parts.append(figure(drawn, "Similarity of anchor and partner as measured."))
    first = judged.judged & (judged.rank == 0) & known
    if not first.any():
        unknown = "Calibration, the share of right pairs by similarity, needs labels to judge by."
        return section("similarity", "Similarity", *parts, el("p", unknown, class_="warning"))
    found = calibrate(judged.similarity[first], judged.right[first])
    overall = float(judged.right[first].mean())
    plot = calibration_plot("calibration", "Share of right pairs by similarity", found,
                            overall, chance(judged.document))  # fmt: skip
    parts += [
        el("h3", "Calibration"),
        figure(plot, "First partners in bins of about equal count: share of right pairs, at the "
               "bin's median similarity. Vertical: binomial interval of 95 % (Wilson). "
               "Horizontal: extent of the bin."),
        el("p", "For evaluation only. Pairs of one subject are not independent, so true intervals "
           "are wider."),
        None if np.isnan(found.order) else el(
            "p", "A right pair is more similar than a wrong one in ", el("b", percent(found.order)),
            " of all such couples. At 50 % similarity would not tell them apart, and weights made "
            "of it would not either."),
        table("Share of right pairs by similarity",
              ("similarity", "pairs", "right", "share right", "95 % interval"),
              _calibration_rows(found)),
    ]  # fmt: skip
    return section("similarity", "Similarity", *parts)


def _calibration_rows(found: Calibration) -> list[tuple[str, ...]]:
    return [
        (f"{decimal(found.low[i])} to {decimal(found.high[i])}", count(found.n[i]),
         count(found.n_right[i]), percent(found.share[i]),
         f"{100 * found.lower[i]:.1f}–{100 * found.upper[i]:.1f} %")
        for i in range(len(found.n))
    ]  # fmt: skip


def _edges(values: np.ndarray) -> np.ndarray:
    """Edges of bins over all values; one bin where they do not differ."""
    low, high = float(values.min()), float(values.max())
    if high - low < 1e-6:
        return np.array([low - 5e-4, high + 5e-4])
    return np.histogram_bin_edges(np.array([low, high]), BINS)


def subjects_and_classes(samples: Samples, judged: JudgedPairs) -> Section:
    """Who takes part in the pairs, by class and by subject."""
    head = ("samples", "anchors", "used as partner", "times used", "right", "accuracy")

    def rows(names: np.ndarray) -> list[tuple[str, ...]]:
        return [
            (name, count(n), count(anchors), f"{count(used)} ({percent(used / n)})", count(uses),
             count(right) if of else "–", percent(right / of if of else None))
            for name, (n, anchors, used, uses, of, right) in coverage(names, judged)
        ]  # fmt: skip

    source = np.array([f"{one}: " for one in samples.ids], dtype=object)[samples.source]
    subject = np.where(samples.subject != "", source + samples.subject, "")
    parts = []
    for title, names in (("Per class", samples.label), ("Per subject", subject)):
        found = rows(names)
        name = title.removeprefix("Per ")
        parts.append(
            table(f"{title}: anchors and partners", (name, *head), found)
            if found
            else el("p", f"{title}: not known.")
        )
    return section("coverage", "Coverage", *parts)
