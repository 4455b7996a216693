"""What pairing did, seen with the labels that pairing itself never read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from .pairs import Side
from .similarity import Matches

N_BINS = 200  # of 0.01 each


@dataclass(frozen=True)
class PairingReport:
    """Figures for the attributes, the document for eval/, and the partners' labels."""

    similarity: dict[Literal["min", "median", "max"], float]
    pairing_accuracy: float | None
    reuse: dict[Literal["max", "mean"], float]
    document: Mapping[str, Any]
    partners: pa.Table


def report_pairing(sides: Sequence[Side], matches: Sequence[Matches]) -> PairingReport:
    """Judge both directions of a pairing.

    Parameters
    ----------
    sides : the two sides
    matches : of the first in the second, and of the second in the first

    Returns
    -------
    PairingReport
        Pairing accuracy: share of pseudo-pairs whose two labels have equal text, among those with
        two labels; None if there are none, or if the datasets have no label text in common: then
        no pair could be right. Reuse: how often a partner is used, over the partners that are used
        at all.
    """
    directions = [
        _judge(sides[0], sides[1], matches[0]),
        _judge(sides[1], sides[0], matches[1]),
    ]
    similarity = np.concatenate([match.similarity for match in matches])
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
    uses: np.ndarray
    n_judged: int
    n_equal: int
    document: dict[str, Any]
    partners: pa.Table


def _judge(anchor: Side, partner: Side, matches: Matches) -> _Direction:
    matched = partner.usable[matches.partner]
    own = _label_texts(anchor)[anchor.usable]
    other = _label_texts(partner)[matched]
    comparable = bool(set(anchor.store.info.labels) & set(partner.store.info.labels))
    judged = (own != "") & (other != "") & comparable
    equal = judged & (own == other)
    confusion: dict[str, dict[str, int]] = {}
    pairs = Counter(zip(own[judged].tolist(), other[judged].tolist(), strict=True))
    for (label, partner_label), count in sorted(pairs.items()):
        confusion.setdefault(label, {})[partner_label] = count
    n_judged, n_equal = int(judged.sum()), int(equal.sum())
    return _Direction(
        uses=np.bincount(matches.partner, minlength=len(partner.usable)),
        n_judged=n_judged,
        n_equal=n_equal,
        document={
            "anchor": anchor.source_id,
            "partner": partner.source_id,
            "n_pairs": len(matched),
            "pairing_accuracy": n_equal / n_judged if n_judged else None,
            "median_similarity": float(np.median(matches.similarity)),
            "confusion": confusion,
        },
        partners=pa.table(
            {
                "anchor_uid": anchor.uid[anchor.usable],
                "partner_uid": partner.uid[matched],
                "anchor_label": pa.array(own, mask=own == ""),
                "partner_label": pa.array(other, mask=other == ""),
            }
        ),
    )


def _label_texts(side: Side) -> np.ndarray:
    """Label text of every sample, empty where there is none."""
    names = np.array([*side.store.names("label"), ""])
    return np.asarray(names[side.store.column("label")])
