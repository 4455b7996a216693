"""Advice before the work: which modality that two stores share would bind them well, and why.

Nothing is trained on: samples are embedded as they are, and judged by their neighbours.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from typing import Literal

import numpy as np

from . import suitability
from .advice_samples import Drawn, draw, label_codes, load_both
from .advice_scores import partner_scores
from .advice_words import Advice, in_words
from .bind_inputs import check_disjoint, check_recordings
from .bind_options import BindOptions
from .calibration import wilson
from .comparable import why_incomparable
from .embed import embed_raw
from .embed_given import EmbedFunction
from .errors import BindingError, problem
from .layout import Store
from .pairs import LABEL, open_source
from .rule import Rule
from .spec import Modality

MIN_ROWS = 4  # samples a side needs before anything can be said
MIN_PAIRS = 50  # pairs with two labels that make a measurement of its own
# 90 % intervals. People differ: SPREAD is the standard deviation that one subject a side brings in,
# MODEL what no number of subjects takes away (round trips err together with the classes that are
# taken for each other), GAP_COST the share of the accuracy that a full domain gap may take unseen.
# Set on MotionSense (the first two) and on UTD-MHAD subjects 1-6 behind artificial gaps (the last),
# see tests/benchmarks/test_advise.py.
Z = 1.645
SPREAD = 0.12
MODEL = 0.03
GAP_COST = 0.8
GAP_DISCOUNT = 0.4  # share of its rank that a candidate without labels loses by a full gap
SIMILAR_TEXT = 0.6  # difflib ratio from which two label texts may mean the same

Match = Literal["best", "csls"]


def advise(
    a: Store,
    b: Store,
    *,
    seed: int = 0,
    max_samples: int = 1500,
    match: Match = "csls",
    rerank: Literal["auto", "none"] = "auto",
    embed: EmbedFunction | None = None,
    use_labels: tuple[bool, bool] = (True, True),
) -> list[Advice]:
    """Judge every modality that both stores share, and the label, as a link between them.

    Parameters
    ----------
    a, b : Store
    seed : int
        Of the samples drawn, their perturbation and the folds.
    max_samples : int
        Samples per side; time and memory grow as its square. Fewer samples mean farther
        neighbours: of a subsample the expected accuracy errs on the low side.
    match : {"best", "csls"}
        How partners would be chosen.
    rerank : {"auto", "none"}
        Whether candidates would be compared elastically, as the default recipe of `bind` does it.
    embed : callable (values (n, T, ...), Modality) to (n, d), optional
        The embedding that would be bound with; raw standardised values by default.
    use_labels : (bool, bool)
        False: the labels of that side are not looked at, and the label is no candidate.

    Returns
    -------
    list of Advice
        Best first: by score, then name. A candidate whose accuracy can be estimated comes before
        one without labels to judge by.

    Raises
    ------
    BindingError
        Nothing is shared, or what is cannot be compared; the sentence says why.

    Notes
    -----
    Expected pairing accuracy. Where both sides have labels of equal text, it is the share of equal
    labels among the pairs of the samples drawn. Where one side has, a way is followed from each
    labelled sample to its partner on the other side and back, to another subject: the share c of
    ways that end at the label they began with gives p by c = p^2 + (1 - p)^2 / (n - 1). The gap
    between the sides is thus crossed twice. With too few labels nothing is said. What no label of
    one side can show is a partner that is always the same wrong one; for that the lower end falls
    with the domain gap d as 1 - 0.8 (d / 2)^2.
    """
    uids = [(store.path, [open_source(store, "").uid]) for store in (a, b)]
    check_disjoint(uids, "advise")
    check_recordings((a, b), "advise")
    modalities, refused = candidates(a, b)
    found = []
    for name in modalities:
        if name == LABEL and not all(use_labels):
            continue
        first, second = (
            draw(store, name, max_samples, np.random.default_rng((seed, number)), used)
            for number, (store, used) in enumerate(zip((a, b), use_labels, strict=True))
        )
        if name == LABEL:
            found.append(_advise_label(first, second))
        else:
            options = BindOptions(rerank=rerank, rule=Rule(match), embed=embed or _raw)
            found.append(_advise_sensor(first, second, name, seed, options))
    if not found:
        why = "; ".join(f"{name}: {reason}" for name, reason in refused.items())
        raise BindingError(
            problem("advise", "nothing to bind by", f"{a.path} and {b.path}",
                    "a modality, or labels, that both have and that can be compared",
                    why or f"{', '.join(a.info.modalities)} and {', '.join(b.info.modalities)}")
        )  # fmt: skip
    return sorted(found, key=lambda one: (one.expected is None, -one.score, one.shared))


def candidates(a: Store, b: Store) -> tuple[list[str], dict[str, str]]:
    """What two stores might be bound by, and why other common names cannot be.

    Returns
    -------
    list of str
        Modalities in the order of the first store, then ``label`` where both have labels.
    dict of str to str
        Common modality to the reason against it.
    """
    usable, refused = [], {}
    for name, first in a.info.modalities.items():
        if name in b.info.modalities:
            reason = why_incomparable(first, b.info.modalities[name])
            reason = reason or _too_few((store, store.info.n_present[name]) for store in (a, b))
            if reason:
                refused[name] = reason
            else:
                usable.append(name)
    if a.info.labels and b.info.labels:
        reason = _too_few((store, sum(store.info.labels.values())) for store in (a, b))
        if reason:
            refused[LABEL] = reason
        else:
            usable.append(LABEL)
    return usable, refused


def _too_few(counts: Iterable[tuple[Store, int]]) -> str:
    short = [f"{store.path} has {n} samples with it" for store, n in counts if n < MIN_ROWS]
    return short[0] if short else ""


def _advise_sensor(a: Drawn, b: Drawn, name: str, seed: int, options: BindOptions) -> Advice:
    modality, values = load_both(a, b, name)
    embed = options.embed if callable(options.embed) else _raw
    n_a = len(a.rows)
    rng = np.random.default_rng((seed, 2))
    changed = suitability.perturb(values[:n_a], modality, rng)
    left, right = _embedded(embed, values, modality, name, n_a)
    similarity = suitability.cosines(left, right)
    score = partner_scores(left, right, values, modality, options)
    # as if A had been recorded otherwise: embedded and compared anew, together with B
    values = np.concatenate([changed, values[n_a:]])
    other = _embedded(embed, values, modality, name, n_a)
    perturbed = partner_scores(*other, values, modality, options)
    kept = suitability.stability(score, perturbed)
    codes = label_codes(a, b)
    agreement = [
        suitability.label_agreement(part, code, side.group)
        for part, code, side in zip((left, right), codes, (a, b), strict=True)
    ]
    gap = suitability.a_distance(left, right, a.group, b.group, seed=seed)
    known = [one for one in agreement if one is not None]
    expected, interval, basis = _expect(score, codes, a, b, gap)
    separability = float(np.mean(known)) if known else kept
    coverage = _share(a, b)
    rank = kept * (1.0 - GAP_DISCOUNT * (gap / 2.0) ** 2) if expected is None else expected
    advice = Advice(
        shared=name,
        score=round(rank * coverage, 6),
        separability=round(separability, 6),
        separability_basis="labels" if known else "stability",
        stability=round(kept, 6),
        domain_gap=round(gap, 6),
        hubness=round((suitability.hubness(similarity) + suitability.hubness(similarity.T)) / 2, 6),
        expected=expected,
        interval=interval,
        basis=basis,
        coverage=round(coverage, 6),
        n_samples=(len(a.rows), len(b.rows)),
    )
    return in_words(advice, (a.n_subjects, b.n_subjects), _chance(codes))


def _embedded(
    embed: EmbedFunction, values: np.ndarray, modality: Modality, name: str, n_a: int
) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of A and B together, as `bind` embeds them."""
    vectors = np.asarray(embed(values, modality), dtype=np.float64)
    if vectors.ndim != 2 or len(vectors) != len(values) or not np.isfinite(vectors).all():
        raise BindingError(
            problem("advise", "bad embedding", name,
                    f"finite values of shape ({len(values)}, d)", f"shape {vectors.shape}")
        )  # fmt: skip
    return vectors[:n_a], vectors[n_a:]


def _expect(
    score: np.ndarray, codes: tuple[np.ndarray, np.ndarray], a: Drawn, b: Drawn, gap: float
) -> tuple[float | None, tuple[float, float] | None, Literal["pairs", "round trip", "none"]]:
    """Expected pairing accuracy, its 90 % interval, and what they rest on."""
    first, second = codes
    if len(np.intersect1d(first[first >= 0], second[second >= 0])) > 0:
        own = np.concatenate([first, second])
        partner = np.concatenate([second[score.argmax(axis=1)], first[score.argmax(axis=0)]])
        judged = (own >= 0) & (partner >= 0)
        if judged.sum() >= MIN_PAIRS and len(np.unique(own[judged])) > 1:
            share = round(float((own == partner)[judged].mean()), 6)
            # a pair found from both ends is one observation
            n = float(judged.sum()) / 2.0
            low, high = (float(end) for end in wilson(np.array(share * n), np.array(n), Z))
            return share, (round(low, 6), round(high, 6)), "pairs"
    trips = []
    for matrix, code, side in ((score, first, a), (score.T, second, b)):
        trip = suitability.round_trip(matrix, code, side.group)
        if trip is not None:
            share = np.unique(code[code >= 0], return_counts=True)[1] / (code >= 0).sum()
            trips.append((suitability.one_way(trip[0], 1.0 / (share**2).sum()), trip[1]))
    if not trips:
        return None, None, "none"
    expected = float(np.mean([one for one, _ in trips]))
    sampling = expected * (1.0 - expected) / sum(n for _, n in trips)
    people = SPREAD**2 * (1.0 / max(a.n_subjects, 1) + 1.0 / max(b.n_subjects, 1))
    half = Z * math.sqrt(sampling + people + MODEL**2)
    low = max(0.0, expected - half) * (1.0 - GAP_COST * (gap / 2.0) ** 2)
    return round(expected, 6), (round(low, 6), round(min(1.0, expected + half), 6)), "round trip"


def _advise_label(a: Drawn, b: Drawn) -> Advice:
    """The label as a link: exact where the texts agree, whatever the samples hold."""
    texts = [np.unique(side.label, return_counts=True) for side in (a, b)]
    counts = [dict(zip(*(part.tolist() for part in one), strict=True)) for one in texts]
    exact, near = (
        sum(
            n
            for mine, theirs in (counts, counts[::-1])
            for text, n in mine.items()
            if text in theirs
            or (close and difflib.get_close_matches(text, theirs, 1, SIMILAR_TEXT))
        )
        / (len(a.rows) + len(b.rows))
        for close in (False, True)
    )
    every = sorted({*counts[0], *counts[1]})
    share = [np.array([one.get(text, 0) for text in every]) for one in counts]
    gap = float(np.abs(share[0] / share[0].sum() - share[1] / share[1].sum()).sum())
    coverage = _share(a, b)
    uses = [
        np.array([theirs.get(text, 0) / n for text, n in mine.items() for _ in range(n)])
        for mine, theirs in (counts, counts[::-1])
    ]
    advice = Advice(
        shared=LABEL,
        score=round(coverage * exact, 6),
        separability=1.0,
        separability_basis="labels",
        stability=1.0,
        domain_gap=round(gap, 6),
        hubness=round(float(np.mean([suitability.skewness(one) for one in uses])), 6),
        expected=round(exact, 6),
        interval=(round(exact, 6), round(near, 6)),
        basis="texts",
        coverage=round(coverage, 6),
        n_samples=(len(a.rows), len(b.rows)),
    )
    return in_words(advice, (a.n_subjects, b.n_subjects), None)


def _raw(values: np.ndarray, modality: Modality) -> np.ndarray:
    return embed_raw(values, modality).vectors


def _chance(codes: tuple[np.ndarray, np.ndarray]) -> float | None:
    """Share of equal labels among random samples of the labelled sides."""
    shares = []
    for code in codes:
        counts = np.unique(code[code >= 0], return_counts=True)[1]
        if len(counts):
            shares.append(float(((counts / counts.sum()) ** 2).sum()))
    return float(np.mean(shares)) if shares else None


def _share(a: Drawn, b: Drawn) -> float:
    """Share of all samples that could be bound."""
    n_a, n_b = len(a.store), len(b.store)
    return (a.coverage * n_a + b.coverage * n_b) / (n_a + n_b)
