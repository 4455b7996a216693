"""What pairing did, seen with the labels that pairing itself never read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from scipy.special import softmax

from mmbind_data.binding.pairing import BindingStep
from mmbind_data.matching.candidates import Matches
from mmbind_data.spec.store import PairQuality
from mmbind_data.spec.verdict import judge_pairing
from mmbind_data.store.pair_table import PairTable

N_BINS = 200  # of 0.01 each
# Two bindings whose distributions of similarity differ by more (Kolmogorov-Smirnov) are reported.
FAR_APART = 0.3


@dataclass(frozen=True)
class PairingReport:
    """Figures for the attributes, the document for eval/, and the partners' labels."""

    similarity: dict[Literal["min", "median", "max"], float]
    pairing_accuracy: float | None
    quality: PairQuality
    reuse: dict[Literal["max", "mean"], float]
    document: Mapping[str, Any]
    partners: pa.Table


def report_pairing(steps: Sequence[BindingStep], temperature: float = 1.0) -> PairingReport:
    """Judge both directions of every binding.

    ``temperature`` is that of the softmax that divides an anchor's weight among its partners.

    Returns
    -------
    PairingReport
        Pairing accuracy: share of anchors whose label has the text of their first partner's,
        among those with two labels; None if there are none, or if the datasets have no label text
        in common: then no pair could be right. Reuse: how often a partner is used at any rank,
        over the partners that are used at all.
    """
    rights, used, documents, tables = zip(
        *(_score_direction(step, hop, turn) for hop, step in enumerate(steps) for turn in (0, 1)),
        strict=True,
    )
    partners = pa.concat_tables(tables)
    similarity = partners["similarity"].to_numpy()
    counts, edges = np.histogram(similarity, bins=N_BINS, range=(-1.0, 1.0))
    uses, right = np.concatenate(used), np.concatenate(rights)
    accuracy = _share(right)
    reuse: dict[Literal["max", "mean"], float] = {
        "max": float(uses.max()),
        "mean": round(float(uses[uses > 0].mean()), 4),
    }
    return PairingReport(
        similarity={
            "min": float(similarity.min()),
            "median": float(np.median(similarity)),
            "max": float(similarity.max()),
        },
        pairing_accuracy=None if accuracy is None else round(accuracy, 6),
        quality=_quality(steps, temperature),
        reuse=reuse,
        document={
            "pairing_accuracy": accuracy,
            "n_judged": len(right),
            "directions": list(documents),
            "similarity_histogram": {
                "edges": [round(float(edge), 6) for edge in edges],
                "counts": counts.tolist(),
            },
            "reuse": {
                **reuse,
                "share_never_used": round(float((uses == 0).mean()), 4),
                "histogram": {str(times): n for times, n in sorted(Counter(uses.tolist()).items())},
            },
        },
        partners=partners,
    )


def _quality(steps: Sequence[BindingStep], temperature: float) -> PairQuality:
    """Means over all bindings and directions, of all partners by weight; the gap is the largest."""
    found: dict[str, list[np.ndarray]] = {name: [] for name in PairQuality.model_fields}
    by_weight: dict[str, list[np.ndarray]] = {"all_right": [], "all_expected": []}
    for step, turn in product(steps, (0, 1)):
        matches = step.matches[turn]
        here = matches.partner >= 0
        if not here.any():
            continue
        anchors, weight = here[:, 0], _weights(step, matches, temperature)
        likely = matches.probability
        if likely is not None and step.settings["match"] != "random":
            found["first_expected"].append(likely[anchors, 0])
            by_weight["all_expected"].append(np.stack([likely[here], weight[here]]))
        own, other = (step.labels(step.sides[side]) for side in (turn, 1 - turn))
        if not set(own) & set(other) - {""}:
            continue
        right = own[:, np.newaxis] == other[matches.partner]
        judged = here & (own != "")[:, np.newaxis] & (other[matches.partner] != "")
        found["first_right"].append(right[:, 0][judged[:, 0]])
        by_weight["all_right"].append(np.stack([right[judged], weight[judged]]))
        known = other[other != ""]
        names, counts = np.unique(known, return_counts=True)
        frequency = dict(zip(names.tolist(), (counts / len(known)).tolist(), strict=True))
        kept = own[judged.any(axis=1)]
        found["chance"].append(np.array([frequency.get(one, 0.0) for one in kept.tolist()]))
    gathered = {name: np.concatenate(one) for name, one in found.items() if one}
    means = {name: float(one.mean()) for name, one in gathered.items() if len(one)}
    for name, parts in by_weight.items():
        value, weight = np.concatenate([np.empty((2, 0)), *parts], axis=1)
        if weight.sum() > 0:
            means[name] = float(np.average(value, weights=weight))
    gaps = [step.gap for step in steps if step.gap is not None]
    rounded = {name: round(one, 6) for name, one in means.items()}
    return PairQuality(**rounded, domain_gap=round(max(gaps), 4) if gaps else None)


def _weights(step: BindingStep, matches: Matches, temperature: float) -> np.ndarray:
    """Weight of each partner in the loss, (n, k) float64; 0 without partner."""
    here = matches.partner >= 0
    if step.judged and matches.probability is not None and not step.shares:
        return matches.probability.astype(np.float64)
    listed = np.where(here, matches.similarity.astype(np.float64) / temperature, -np.inf)
    listed[~here[:, 0]] = 0
    return np.asarray(softmax(listed, axis=1)) * here


def _score_direction(
    step: BindingStep, hop: int, turn: int
) -> tuple[np.ndarray, np.ndarray, dict[str, Any], pa.Table]:
    """Whether the judged pairs of a direction are right, the uses of partners, document, table."""
    anchor, partner, matches = step.sides[turn], step.sides[1 - turn], step.matches[turn]
    index, rank = np.nonzero(matches.partner >= 0)
    matched = matches.partner[index, rank]
    similarity = matches.similarity[index, rank]
    labels = step.labels(anchor), step.labels(partner)
    own, other = labels[0][index], labels[1][matched]
    comparable = bool(set(labels[0]) & set(labels[1]) - {""})
    judged = (own != "") & (other != "") & (rank == 0) & comparable
    confusion: dict[str, dict[str, int]] = {}
    pairs = Counter(zip(own[judged].tolist(), other[judged].tolist(), strict=True))
    for (label, partner_label), count in sorted(pairs.items()):
        confusion.setdefault(label, {})[partner_label] = count
    right = (own == other)[judged]
    document = {
        "hop": hop,
        "shared": step.shared,
        "anchor": " + ".join(_source_ids(anchor)),
        "partner": " + ".join(_source_ids(partner)),
        "n_pairs": len(matched),
        "n_without_partner": int((matches.partner[:, 0] < 0).sum()),
        "pairing_accuracy": _share(right),
        "median_similarity": float(np.median(similarity)) if len(similarity) else None,
        "confusion": confusion,
    }
    partners = pa.table(
        {
            "hop": pa.array(np.full(len(matched), hop, dtype=np.int16)),
            "rank": pa.array(rank.astype(np.int16)),
            "similarity": pa.array(similarity, type=pa.float32()),
            "probability": pa.array(_probability(step, matches)[index, rank], type=pa.float32()),
            "anchor_uid": pa.array(anchor.anchor_uid[index], type=pa.string()),
            "partner_uid": pa.array(partner.anchor_uid[matched], type=pa.string()),
            "anchor_label": pa.array(own, type=pa.string(), mask=own == ""),
            "partner_label": pa.array(other, type=pa.string(), mask=other == ""),
        }
    )
    return right, np.bincount(matched, minlength=len(partner)), document, partners


def _probability(step: BindingStep, matches: Matches) -> np.ndarray:
    """Probability (n, k) that each pair is right; null, as NaN, where none is known."""
    if matches.probability is None or step.settings["match"] == "random":
        return np.full(matches.partner.shape, np.nan, dtype=np.float32)
    return matches.probability


def _share(right: np.ndarray) -> float | None:
    return int(right.sum()) / len(right) if len(right) else None


def _source_ids(side: PairTable) -> list[str]:
    """Ids of the sources whose samples are the side's anchors."""
    return [side.sources[code].source_id for code in np.unique(side.anchor[:, 0])]


def pairing_warnings(
    steps: Sequence[BindingStep], quality: PairQuality, shared: Sequence[str]
) -> list[str]:
    """What a user should look at: bad pairs, sources that differ, recall of an approximate index.

    A later source differs that resembles the others much less than the first two each other.

    Notes
    -----
    Source: MMBind paper, section 6.3.3: more paired data helps only as far as it is alike.
    """
    verdict = judge_pairing(quality, shared)
    found = [] if verdict.level == "good" else [str(verdict)]
    first = np.sort(_similarities(steps[0]))
    for step in steps[1:]:
        later = np.sort(_similarities(step))
        if step.shared != steps[0].shared or not len(later) or not len(first):
            continue
        both = np.concatenate([first, later])
        shares = [np.searchsorted(one, both, side="right") / len(one) for one in (first, later)]
        distance = float(np.abs(shares[0] - shares[1]).max())
        if distance > FAR_APART and np.median(later) < np.median(first):
            found.append(
                f"{', '.join(sorted(_source_ids(step.sides[1])))} resembles the others much less "
                f"(median similarity {np.median(later):.3f}, first two {np.median(first):.3f}, "
                f"distance of the distributions {distance:.2f}): binding it may not help"
            )
    configs = [step.embedded.config for step in steps]
    return found + [
        f"partners are approximate: the {config['index']} index found "
        f"{config['index_recall_best']:.1%} of the most similar samples and "
        f"{config['index_recall_listed']:.1%} of the candidates, judged on "
        f"{config['index_rows_judged']} samples; --index exact finds all"
        for config in configs
        if "index" in config
    ]


def _similarities(step: BindingStep) -> np.ndarray:
    values = np.concatenate([match.similarity.ravel() for match in step.matches])
    return np.asarray(values[np.isfinite(values)])
