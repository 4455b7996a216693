"""What pairing did, seen with the labels that pairing itself never read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from mmbind_data.binding.pairing import BindingStep
from mmbind_data.matching.candidates import Matches
from mmbind_data.store.pair_table import PairTable

N_BINS = 200  # of 0.01 each
# Two bindings whose distributions of similarity differ by more (Kolmogorov-Smirnov) are reported.
FAR_APART = 0.3


@dataclass(frozen=True)
class PairingReport:
    """Figures for the attributes, the document for eval/, and the partners' labels."""

    similarity: dict[Literal["min", "median", "max"], float]
    pairing_accuracy: float | None
    reuse: dict[Literal["max", "mean"], float]
    document: Mapping[str, Any]
    partners: pa.Table


def report_pairing(hops: Sequence[BindingStep]) -> PairingReport:
    """Judge both directions of every binding.

    Returns
    -------
    PairingReport
        Pairing accuracy: share of anchors whose label has the text of their first partner's,
        among those with two labels; None if there are none, or if the datasets have no label text
        in common: then no pair could be right. Reuse: how often a partner is used at any rank,
        over the partners that are used at all.
    """
    directions = [
        _score_direction(hop, number, hop.sides[turn], hop.sides[1 - turn], hop.matches[turn])
        for number, hop in enumerate(hops)
        for turn in (0, 1)
    ]
    similarity = np.concatenate([direction.similarity for direction in directions])
    counts, edges = np.histogram(similarity, bins=N_BINS, range=(-1.0, 1.0))
    uses = np.concatenate([direction.uses for direction in directions])
    judged = sum(direction.n_judged for direction in directions)
    equal = sum(direction.n_equal for direction in directions)
    accuracy = equal / judged if judged else None
    used = uses[uses > 0]
    reuse: dict[Literal["max", "mean"], float] = {
        "max": float(used.max()), "mean": round(float(used.mean()), 4)
    }  # fmt: skip
    return PairingReport(
        similarity={
            "min": float(similarity.min()),
            "median": float(np.median(similarity)),
            "max": float(similarity.max()),
        },
        pairing_accuracy=None if accuracy is None else round(accuracy, 6),
        reuse=reuse,
        document={
            "pairing_accuracy": accuracy,
            "n_judged": judged,
            "directions": [direction.document for direction in directions],
            "similarity_histogram": {
                "edges": [round(float(edge), 6) for edge in edges],
                "counts": counts.tolist(),
            },
            "reuse": {
                **reuse,
                "share_never_used": round(float((uses == 0).mean()), 4),
                "histogram": {
                    str(times): count for times, count in sorted(Counter(uses.tolist()).items())
                },
            },
        },
        partners=pa.concat_tables([direction.partners for direction in directions]),
    )


@dataclass(frozen=True)
class _Direction:
    similarity: np.ndarray
    uses: np.ndarray
    n_judged: int
    n_equal: int
    document: dict[str, Any]
    partners: pa.Table


def _score_direction(
    hop: BindingStep, number: int, anchor: PairTable, partner: PairTable, matches: Matches
) -> _Direction:
    index, rank = np.nonzero(matches.partner >= 0)
    matched = matches.partner[index, rank]
    similarity = matches.similarity[index, rank]
    labels = hop.labels(anchor), hop.labels(partner)
    own, other = labels[0][index], labels[1][matched]
    comparable = bool(set(labels[0]) & set(labels[1]) - {""})
    judged = (own != "") & (other != "") & (rank == 0) & comparable
    equal = judged & (own == other)
    confusion: dict[str, dict[str, int]] = {}
    pairs = Counter(zip(own[judged].tolist(), other[judged].tolist(), strict=True))
    for (label, partner_label), count in sorted(pairs.items()):
        confusion.setdefault(label, {})[partner_label] = count
    n_judged, n_equal = int(judged.sum()), int(equal.sum())
    return _Direction(
        similarity=similarity,
        uses=np.bincount(matched, minlength=len(partner)),
        n_judged=n_judged,
        n_equal=n_equal,
        document={
            "hop": number,
            "shared": hop.shared,
            "anchor": _named(anchor),
            "partner": _named(partner),
            "n_pairs": len(matched),
            "n_without_partner": int((matches.partner[:, 0] < 0).sum()),
            "pairing_accuracy": n_equal / n_judged if n_judged else None,
            "median_similarity": float(np.median(similarity)) if len(similarity) else None,
            "confusion": confusion,
        },
        partners=pa.table(
            {
                "hop": pa.array(np.full(len(matched), number, dtype=np.int16)),
                "rank": pa.array(rank.astype(np.int16)),
                "similarity": pa.array(similarity, type=pa.float32()),
                "anchor_uid": pa.array(anchor.anchor_uid[index], type=pa.string()),
                "partner_uid": pa.array(partner.anchor_uid[matched], type=pa.string()),
                "anchor_label": pa.array(own, type=pa.string(), mask=own == ""),
                "partner_label": pa.array(other, type=pa.string(), mask=other == ""),
            }
        ),
    )


def _named(side: PairTable) -> str:
    """Ids of the sources whose samples are the side's anchors."""
    codes = np.unique(side.anchor[:, 0])
    return " + ".join(side.sources[code].source_id for code in codes)


def pairing_warnings(steps: Sequence[BindingStep]) -> list[str]:
    """What a user should look at: sources that differ, and partners that are approximate."""
    return [*_heterogeneity(steps), *_approximate(steps)]


def _heterogeneity(steps: Sequence[BindingStep]) -> list[str]:
    """Say which later source resembles the others much less than the first two resemble each other.

    Notes
    -----
    Source: MMBind paper, section 6.3.3: more paired data helps only as far as it is alike.
    """
    found = []
    reference = np.sort(_similarities(steps[0]))
    for hop in steps[1:]:
        own = np.sort(_similarities(hop))
        if hop.shared != steps[0].shared or not len(own) or not len(reference):
            continue
        both = np.concatenate([reference, own])
        shares = [np.searchsorted(one, both, side="right") / len(one) for one in (reference, own)]
        distance = float(np.abs(shares[0] - shares[1]).max())
        if distance > FAR_APART and np.median(own) < np.median(reference):
            names = sorted({hop.sides[1].sources[code].source_id
                            for code in np.unique(hop.sides[1].anchor[:, 0])})  # fmt: skip
            found.append(
                f"{', '.join(names)} resembles the others much less (median similarity "
                f"{np.median(own):.3f}, first two {np.median(reference):.3f}, distance of the "
                f"distributions {distance:.2f}): binding it may not help"
            )
    return found


def _approximate(steps: Sequence[BindingStep]) -> list[str]:
    """Say that partners come from an approximate index, and what it missed."""
    configs = [step.embedded.config for step in steps]
    return [
        f"partners are approximate: the {config['index']} index found "
        f"{config['index_recall_best']:.1%} of the most similar samples and "
        f"{config['index_recall_listed']:.1%} of the candidates, judged on "
        f"{config['index_rows_judged']} samples; --index exact finds all"
        for config in configs
        if "index" in config
    ]


def _similarities(hop: BindingStep) -> np.ndarray:
    values = np.concatenate([match.similarity.ravel() for match in hop.matches])
    return np.asarray(values[np.isfinite(values)])
