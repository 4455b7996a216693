"""Advice before the work: which modality that two stores share would bind them well, and why.

Nothing is trained on: samples are embedded as they are, and judged by their neighbours.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from mmbind_data.binding import suitability
from mmbind_data.binding.advise_samples import SampleDraw, draw, label_codes, load_both
from mmbind_data.binding.inputs import check_disjoint, check_recordings
from mmbind_data.binding.options import BindOptions
from mmbind_data.embedding.vectors import EmbedFunction, embed_raw
from mmbind_data.errors import BindingError
from mmbind_data.matching.candidates import union_of_pairs
from mmbind_data.matching.csls import csls_of_pairs
from mmbind_data.matching.dtw import dtw_pairs, elastic_signals
from mmbind_data.matching.rule import MatchRule
from mmbind_data.matching.shortlist import shortlist
from mmbind_data.reports.calibration import wilson
from mmbind_data.spec.comparison import why_incomparable
from mmbind_data.spec.descriptor import Modality
from mmbind_data.spec.store import LABEL
from mmbind_data.store.dataset import Dataset
from mmbind_data.store.pair_table import open_source

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
    a: Dataset,
    b: Dataset,
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
    a, b : Dataset
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
            options = BindOptions(rerank=rerank, rule=MatchRule(match), embed=embed or _raw)
            found.append(_advise_sensor(first, second, name, seed, options))
    if not found:
        why = "; ".join(f"{name}: {reason}" for name, reason in refused.items())
        raise BindingError(
            cannot="advise",
            problem="nothing to bind by",
            at=f"{a.path} and {b.path}",
            expected="a modality, or labels, that both have and that can be compared",
            got=why or f"{', '.join(a.info.modalities)} and {', '.join(b.info.modalities)}",
        )
    return sorted(found, key=lambda one: (one.expected is None, -one.score, one.shared))


def candidates(a: Dataset, b: Dataset) -> tuple[list[str], dict[str, str]]:
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


def _too_few(counts: Iterable[tuple[Dataset, int]]) -> str:
    short = [f"{store.path} has {n} samples with it" for store, n in counts if n < MIN_ROWS]
    return short[0] if short else ""


def _advise_sensor(
    a: SampleDraw, b: SampleDraw, name: str, seed: int, options: BindOptions
) -> Advice:
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
    return with_reasons(advice, (a.n_subjects, b.n_subjects), _chance(codes))


def _embedded(
    embed: EmbedFunction, values: np.ndarray, modality: Modality, name: str, n_a: int
) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of A and B together, as `bind` embeds them."""
    vectors = np.asarray(embed(values, modality), dtype=np.float64)
    if vectors.ndim != 2 or len(vectors) != len(values) or not np.isfinite(vectors).all():
        raise BindingError(
            cannot="advise",
            problem="bad embedding",
            at=name,
            expected=f"finite values of shape ({len(values)}, d)",
            got=f"shape {vectors.shape}",
        )
    return vectors[:n_a], vectors[n_a:]


def _expect(
    score: np.ndarray,
    codes: tuple[np.ndarray, np.ndarray],
    a: SampleDraw,
    b: SampleDraw,
    gap: float,
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


def _advise_label(a: SampleDraw, b: SampleDraw) -> Advice:
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
    return with_reasons(advice, (a.n_subjects, b.n_subjects), None)


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


def _share(a: SampleDraw, b: SampleDraw) -> float:
    """Share of all samples that could be bound."""
    n_a, n_b = len(a.store), len(b.store)
    return (a.coverage * n_a + b.coverage * n_b) / (n_a + n_b)


NON_CANDIDATE_PENALTY = (
    10.0  # pairs that were no candidates come after all that were: more than any score
)


def partner_scores(
    a: np.ndarray, b: np.ndarray, values: np.ndarray, modality: Modality, options: BindOptions
) -> np.ndarray:
    """Score by which `bind` would choose partners.

    Parameters
    ----------
    a, b : ndarray, shapes (n_a, d), (n_b, d)
        Embeddings.
    values : ndarray, shape (n_a + n_b, T, ...), float32
    modality : Modality
    options : BindOptions
        With elastic comparison: the candidates of either side are compared by dynamic time warping,
        and that similarity is corrected among them; other pairs come behind, by their cosine.

    Returns
    -------
    ndarray, shape (n_a, n_b), float64
    """
    similarity = suitability.cosines(a, b)
    corrected = options.rule.match == "csls"
    warps = options.warps(modality.kind) and modality.axes[0].name == "time"
    if not warps or values.shape[1] < 2:
        return suitability.csls_of_products(similarity) if corrected else similarity
    listed = shortlist(a, b, options.candidates, csls_k=options.rule.csls_k)
    row_a, row_b, _ = union_of_pairs(*listed)
    signals = elastic_signals(values, modality, options.elastic)
    warped = dtw_pairs(
        signals[: len(a)], signals[len(a) :], row_a, row_b, band=options.elastic.band
    )
    score = warped.astype(np.float64)
    if corrected:
        score = csls_of_pairs(row_a, row_b, score, (len(a), len(b)), options.rule.csls_k)
    scores = suitability.csls_of_products(similarity) - NON_CANDIDATE_PENALTY
    scores[row_a, row_b] = np.round(score, suitability.DECIMALS)
    return np.asarray(scores)


HUB = 1.5  # skewness from which a few samples are many samples' partner
ALIKE, FAR = 0.5, 1.5  # proxy A-distances


@dataclass(frozen=True)
class Advice:
    """How well two stores would bind by one shared modality.

    Attributes
    ----------
    shared : str
        The modality, or ``label``.
    score : float
        What candidates are ranked by, 0 to 1: `expected`, or without labels the stability less a
        discount for the domain gap; times `coverage`.
    separability : float
        Share of the 5 nearest samples of other subjects with the same label; without labels
        `stability`.
    separability_basis : {"labels", "stability"}
    stability : float
        Share of the 10 best partners that remain when samples are turned, hastened and made noisy.
    domain_gap : float
        Proxy A-distance of the two sides, 0 to 2; of labels twice their total variation.
    hubness : float
        Skewness of how often a sample is among the 10 nearest.
    expected : float or None
        Expected pairing accuracy; None where no labels tell.
    interval : (float, float) or None
        90 % interval of it; of labels: equal texts only, and similar texts too.
    basis : {"pairs", "round trip", "texts", "none"}
        Labels of both sides, of one side, label texts themselves, or no labels.
    coverage : float
        Share of all samples of both stores that carry it.
    n_samples : (int, int)
        Samples looked at in A and B.
    reasons : tuple of str
        The above in words, the most important first.
    """

    shared: str
    score: float
    separability: float
    separability_basis: Literal["labels", "stability"]
    stability: float
    domain_gap: float
    hubness: float
    expected: float | None
    interval: tuple[float, float] | None
    basis: Literal["pairs", "round trip", "texts", "none"]
    coverage: float
    n_samples: tuple[int, int]
    reasons: tuple[str, ...] = ()


def with_reasons(
    advice: Advice,
    n_subjects: tuple[int, int],
    chance: float | None,
) -> Advice:
    """The advice with its reasons.

    Parameters
    ----------
    advice : Advice
    n_subjects : (int, int)
        Of A and B.
    chance : float or None
        Pairing accuracy of random partners, where labels tell.
    """
    reasons = [_expectation(advice, chance)]
    if advice.basis == "texts":
        reasons.append("labels say which class a sample is, not how it was moved; both need them")
        if advice.domain_gap > ALIKE:
            reasons.append("the classes are not equally frequent on both sides, or not the same")
    else:
        reasons += [_separation(advice), _gap(advice, min(n_subjects) > 1), _hubs(advice)]
    if advice.coverage < 1:
        reasons.append(f"{advice.coverage:.0%} of the samples carry it")
    if advice.basis != "texts" and min(n_subjects) < 2:
        reasons.append("a side has one subject: how far people differ is not known")
    return replace(advice, reasons=tuple(reasons))


def _expectation(advice: Advice, chance: float | None) -> str:
    if advice.expected is None or advice.interval is None:
        return "no labels to judge by, or too few: ranked by how stable neighbours are, a weak sign"
    low, high = advice.interval
    if advice.basis == "texts":
        text = f"{advice.expected:.0%} of the labelled samples find a label of the same text"
        if high > low:
            return f"{text}, {high:.0%} with similar texts"
        return text
    how = {
        "pairs": "measured on pairs with two labels",
        "round trip": "from round trips, since labels of both sides are missing or differ",
    }[advice.basis]
    against = "" if chance is None else f", by chance {chance:.0%}"
    return f"{advice.expected:.0%} of the pairs right ({low:.0%} to {high:.0%}{against}), {how}"


def _separation(advice: Advice) -> str:
    if advice.separability_basis == "labels":
        share = f"{advice.separability:.0%}"
        return f"{share} of the nearest samples of other subjects have the same label"
    return f"{advice.stability:.0%} of the best partners remain when samples are perturbed"


def _gap(advice: Advice, across_subjects: bool) -> str:
    figure = f"(A-distance {advice.domain_gap:.1f} of 2)"
    people = "" if across_subjects else ", in part perhaps by the people"
    if advice.domain_gap < ALIKE:
        return f"the two sides look alike {figure}"
    if advice.domain_gap < FAR:
        return f"the two sides differ somewhat {figure}{people}"
    return f"the two sides can be told apart {figure}{people}: compare mounting, unit and protocol"


def _hubs(advice: Advice) -> str:
    if advice.hubness < HUB:
        return f"partners are spread evenly (hubness {advice.hubness:.1f})"
    return (
        f"a few samples are many samples' partner (hubness {advice.hubness:.1f}): "
        "use hubness correction"
    )
