"""Single pairs of the report: both signals side by side, and where they come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .layout import Store
from .points import Clouds
from .report_draws import Shown
from .report_html import Child, Html, Section, decimal, el, section
from .report_partners import provenance
from .report_signals import draw_signals
from .report_tables import Judged

ROLES = ("Anchor", "Partner")
DETAILS = ("placement", "session", "trial", "environment")


def pairs_drawn(shown: Sequence[Shown], judged: Judged, seed: int) -> Section:
    """The drawn pairs, one card each, by outcome and place."""
    of = " of the right and of the wrong pairs" if judged.judged.any() else ""
    parts: list[Child] = [
        el("p", f"{len(shown)} pairs drawn at random (seed {seed}) from the most similar, the "
           f"median and the least similar{of}. Left the anchor, right the partner; their signals "
           "are on one scale.")
    ]  # fmt: skip
    last = ("", "")
    for number, one in enumerate(shown, 1):
        stratum = (one.draw.outcome, one.draw.place)
        if stratum != last:
            parts.append(el("h3", f"{stratum[0]}, {_PLACE[stratum[1]]}".capitalize()))
            last = stratum
        parts.append(_card(number, one, judged))
    return section("pairs", "Pairs drawn", *parts)


_PLACE = {"best": "most similar", "median": "in the middle", "worst": "least similar"}


def _card(number: int, one: Shown, judged: Judged) -> Html:
    pair = one.draw.pair
    tag = {"right": "right", "wrong": "wrong"}.get(one.draw.outcome, "none")
    given = ", ".join(f"{name} from {source}" for name, source in one.completed.items())
    facts = [
        ("similarity", decimal(float(judged.similarity[pair]))),
        ("weight", decimal(float(judged.weight[pair]))),
        ("rank", f"{judged.rank[pair] + 1}" if judged.rank.any() else None),
        ("binding", f"{judged.hop[pair] + 1}" if judged.hop.any() else None),
        ("shared", one.shared),
        ("completed by", given or None),
    ]
    line: list[Child] = [el("span", one.draw.outcome, class_=f"tag {tag}")]
    line += [el("span", f"{name} ", el("b", value)) for name, value in facts if value is not None]
    drawings = _drawings(number, one)
    sides = [
        el("div", el("h4", f"{role}: ", el("q", facts_of["label"] or "no label")), drawn,
           _origin(facts_of), class_="side")
        for role, facts_of, drawn in zip(ROLES, (one.anchor, one.partner), drawings,
                                         strict=True)
    ]  # fmt: skip
    return el("article", el("p", f"{number}. ", *line, class_="facts"),
              el("div", *sides, class_="sides"), class_="card")  # fmt: skip


def _drawings(number: int, one: Shown) -> list[Html | None]:
    """Both signals, as far as they are stored; labels and times are told in words."""
    stored = [signal for signal in one.signals if signal is not None]
    roles = [role for role, signal in zip(ROLES, one.signals, strict=True) if signal is not None]
    drawn = iter(
        draw_signals(
            f"pair-{number}",
            [f"{role} of pair {number}: {one.shared}" for role in roles],
            [store.info.modalities[one.shared] for store, _ in stored],
            [_load(store, row, one.shared) for store, row in stored],
        )
    )
    if not stored:
        return [None, None]
    missing = el("p", f"{one.shared} is not stored: it was derived.", class_="origin")
    return [missing if signal is None else next(drawn) for signal in one.signals]


def _load(store: Store, row: int, modality: str) -> Any | Clouds:
    if store.info.modalities[modality].ragged:
        return store.load_points(modality, [row])
    return store.load(modality, [row])[0]


def _origin(facts: Mapping[str, Any]) -> Html:
    details = [f"{name} {facts[name]}".replace("_", " ") for name in DETAILS
               if facts.get(name) is not None]  # fmt: skip
    who = f"{facts['source']}, subject {facts.get('subject') or 'unknown'}"
    return el("p", ", ".join([who, *details]), el("br"), provenance(facts), class_="origin")
