"""Advice before binding: which shared modality would bind two stores well, and why.

Nothing is trained: samples are embedded as they are, and judged by their neighbours.
"""

from __future__ import annotations

import difflib
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from mmbind_data.binding import suitability
from mmbind_data.binding.advise_samples import SampleDraw, draw, label_codes, load_both
from mmbind_data.binding.inputs import check_disjoint, check_recordings
from mmbind_data.binding.options import BindOptions
from mmbind_data.embedding.vectors import EmbedFunction, embed_raw
from mmbind_data.errors import BindingError
from mmbind_data.matching.candidates import union_of_pairs
from mmbind_data.matching.csls import csls_of_pairs, shortlist
from mmbind_data.matching.dtw import dtw_pairs, elastic_signals
from mmbind_data.matching.rule import MatchRule
from mmbind_data.reports.calibration import wilson
from mmbind_data.spec.comparison import why_incomparable
from mmbind_data.spec.descriptor import Modality
from mmbind_data.spec.store import LABEL
from mmbind_data.store.dataset import Dataset, open_dataset
from mmbind_data.store.pair_table import open_source

MIN_ROWS = 4  # samples that each side needs
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
NON_CANDIDATE_PENALTY = 10.0  # more than any score: pairs that were not compared come last
HUB = 1.5  # skewness from which a few samples are the partners of many
ALIKE, FAR = 0.5, 1.5  # proxy A-distances
DECIMALS = 6  # of the figures of an advice

Match = Literal["best", "csls"]
Basis = Literal["pairs", "round trip", "texts", "none"]


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
        Share of the 10 best partners that remain when samples are rotated, warped in time and made
        noisy.
    domain_gap : float
        Proxy A-distance of the two sides, 0 to 2; of labels twice their total variation.
    hubness : float
        Skewness of how often a sample is among the 10 nearest.
    expected : float or None
        Expected pairing accuracy; None without labels to estimate it from.
    interval : (float, float) or None
        90 % interval of it; of labels: equal texts only, and similar texts too.
    basis : {"pairs", "round trip", "texts", "none"}
        Labels of both sides, of one side, label texts themselves, or no labels.
    coverage : float
        Share of all samples of both stores that have the modality.
    n_samples : (int, int)
        Samples drawn from A and B.
    reasons : tuple of str
        The figures in words, the most important first.
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
    basis: Basis
    coverage: float
    n_samples: tuple[int, int]
    reasons: tuple[str, ...] = ()


def advise(
    a: str | Path | Dataset,
    b: str | Path | Dataset,
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
    a, b : path or Dataset
        Converted stores.
    seed : int
        Of the samples drawn, their perturbation and the folds.
    max_samples : int
        Samples per side; time and memory grow as its square. Fewer samples have farther neighbours:
        the expected accuracy of a subsample is biased towards low values.
    match : {"best", "csls"}
        How partners would be chosen.
    rerank : {"auto", "none"}
        Whether candidates would be compared by time warping, as in the default recipe of `bind`.
    embed : callable (values (n, T, ...), Modality) to (n, d), optional
        The embedding to bind with; raw standardised values by default.
    use_labels : (bool, bool)
        False: the labels of that side are not read, and the label is no candidate.

    Returns
    -------
    list of Advice
        Sensors first, the best first: by score, then name; one whose accuracy can be estimated
        comes before one without labels. The label is last: it says what a sample shows, not how it
        was done, so its share of right pairs is no measure beside that of a sensor.

    Raises
    ------
    BindingError
        Nothing is shared, or what is cannot be compared; the message names the reasons.

    Notes
    -----
    Expected pairing accuracy. If both sides have labels of equal text, it is the share of equal
    labels among the pairs of the samples drawn. If one side has, each labelled sample is followed
    to its partner on the other side and back to a sample of another subject: the share c of these
    round trips that end at the label they began with gives p by c = p^2 + (1 - p)^2 / (n - 1). The
    gap between the sides is thus crossed twice. With too few labels no accuracy is given. Labels of
    one side cannot show a partner that is always the same wrong one; for that the lower end of the
    interval falls with the domain gap d as 1 - 0.8 (d / 2)^2.
    """
    first, second = (one if isinstance(one, Dataset) else open_dataset(one) for one in (a, b))
    stores = (first, second)
    check_disjoint([(store.path, [open_source(store, "")]) for store in stores], "advise")
    check_recordings(stores, "advise")
    names, refused = candidates(*stores)
    options = BindOptions(rerank=rerank, rule=MatchRule(match))
    found = []
    for name in names:
        if name == LABEL and not all(use_labels):
            continue
        one, other = (
            draw(store, name, max_samples, np.random.default_rng((seed, number)), used)
            for number, (store, used) in enumerate(zip(stores, use_labels, strict=True))
        )
        if name == LABEL:
            found.append(_advise_label(one, other))
        else:
            found.append(_advise_sensor(one, other, name, seed, embed or _raw, options))
    if not found:
        modalities = " and ".join(", ".join(store.info.modalities) for store in stores)
        raise BindingError(
            cannot="advise",
            problem="nothing to bind by",
            at=f"{first.path} and {second.path}",
            expected="a modality, or labels, that both have and that can be compared",
            got="; ".join(f"{name}: {why}" for name, why in refused.items()) or modalities,
        )
    return sorted(
        found, key=lambda one: (one.shared == LABEL, one.expected is None, -one.score, one.shared)
    )


def candidates(a: Dataset, b: Dataset) -> tuple[list[str], dict[str, str]]:
    """What two stores might be bound by, and why other common names cannot be used.

    Returns
    -------
    list of str
        Modalities in the order of the first store, then ``label`` where both have labels.
    dict of str to str
        Common modality to the reason against it.
    """
    reasons = {}
    for name, first in a.info.modalities.items():
        if name in b.info.modalities:
            why = why_incomparable(first, b.info.modalities[name])
            reasons[name] = why or _too_few(*((one, one.info.n_present[name]) for one in (a, b)))
    if a.info.labels and b.info.labels:
        reasons[LABEL] = _too_few(*((one, sum(one.info.labels.values())) for one in (a, b)))
    usable = [name for name, why in reasons.items() if not why]
    return usable, {name: why for name, why in reasons.items() if why}


def _too_few(*counts: tuple[Dataset, int]) -> str:
    short = [f"{store.path} has {n} samples with it" for store, n in counts if n < MIN_ROWS]
    return short[0] if short else ""


def _advise_sensor(
    a: SampleDraw, b: SampleDraw, name: str, seed: int, embed: EmbedFunction, options: BindOptions
) -> Advice:
    modality, values = load_both(a, b, name)
    n = len(a.rows)
    left, right = _embedded(embed, values, modality, name, n)
    score = partner_scores(left, right, values, modality, options)
    # as if A had been recorded otherwise: embedded and compared anew, together with B
    changed = suitability.perturb(values[:n], modality, np.random.default_rng((seed, 2)))
    values = np.concatenate([changed, values[n:]])
    perturbed = partner_scores(
        *_embedded(embed, values, modality, name, n), values, modality, options
    )
    stability = suitability.stability(score, perturbed)
    codes = label_codes(a, b)
    agreements = (
        suitability.label_agreement(vectors, code, side.group)
        for vectors, code, side in zip((left, right), codes, (a, b), strict=True)
    )
    known = [one for one in agreements if one is not None]
    gap = suitability.a_distance(left, right, a.group, b.group, seed=seed)
    expected, interval, basis = _expect(score, codes, (a, b), gap)
    discounted = stability * (1.0 - GAP_DISCOUNT * (gap / 2.0) ** 2)
    similarity = suitability.cosines(left, right)
    advice = Advice(
        shared=name,
        score=(discounted if expected is None else expected) * _coverage(a, b),
        separability=float(np.mean(known)) if known else stability,
        separability_basis="labels" if known else "stability",
        stability=stability,
        domain_gap=gap,
        hubness=(suitability.hubness(similarity) + suitability.hubness(similarity.T)) / 2,
        expected=expected,
        interval=interval,
        basis=basis,
        coverage=_coverage(a, b),
        n_samples=(n, len(b.rows)),
    )
    counts = [np.unique(code[code >= 0], return_counts=True)[1] for code in codes]
    shares = [float(((one / one.sum()) ** 2).sum()) for one in counts if len(one)]
    # of equal labels among random samples of the labelled sides
    chance = float(np.mean(shares)) if shares else None
    return _finished(advice, (a.n_subjects, b.n_subjects), chance)


def _embedded(
    embed: EmbedFunction, values: np.ndarray, modality: Modality, name: str, n: int
) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of A, the first n samples, and of B, made together as `bind` makes them."""
    vectors = np.asarray(embed(values, modality), dtype=np.float64)
    if vectors.ndim != 2 or len(vectors) != len(values) or not np.isfinite(vectors).all():
        raise BindingError(
            cannot="advise",
            problem="bad embedding",
            at=name,
            expected=f"finite values of shape ({len(values)}, d)",
            got=f"shape {vectors.shape}",
        )
    return vectors[:n], vectors[n:]


def _raw(values: np.ndarray, modality: Modality) -> np.ndarray:
    return embed_raw(values, modality).vectors


def _expect(
    score: np.ndarray,
    codes: tuple[np.ndarray, np.ndarray],
    sides: tuple[SampleDraw, SampleDraw],
    gap: float,
) -> tuple[float | None, tuple[float, float] | None, Basis]:
    """Expected pairing accuracy, its 90 % interval, and what they are estimated from."""
    first, second = codes
    if len(np.intersect1d(first[first >= 0], second[second >= 0])) > 0:
        label = np.concatenate([first, second])
        partner = np.concatenate([second[score.argmax(axis=1)], first[score.argmax(axis=0)]])
        judged = (label >= 0) & (partner >= 0)
        if judged.sum() >= MIN_PAIRS and len(np.unique(label[judged])) > 1:
            share = round(float((label == partner)[judged].mean()), DECIMALS)
            # a pair found from both ends is one observation
            n = float(judged.sum()) / 2.0
            low, high = (float(end) for end in wilson(np.array(share * n), np.array(n), Z))
            return share, (round(low, DECIMALS), round(high, DECIMALS)), "pairs"
    trips = []
    for matrix, code, side in zip((score, score.T), codes, sides, strict=True):
        trip = suitability.round_trip(matrix, code, side.group)
        if trip is not None:
            frequency = np.unique(code[code >= 0], return_counts=True)[1] / (code >= 0).sum()
            n_classes = 1.0 / (frequency**2).sum()
            trips.append((suitability.one_way(trip[0], n_classes), trip[1]))
    if not trips:
        return None, None, "none"
    expected = float(np.mean([one for one, _ in trips]))
    sampling = expected * (1.0 - expected) / sum(n for _, n in trips)
    people = SPREAD**2 * sum(1.0 / max(side.n_subjects, 1) for side in sides)
    half = Z * math.sqrt(sampling + people + MODEL**2)
    low = max(0.0, expected - half) * (1.0 - GAP_COST * (gap / 2.0) ** 2)
    interval = (round(low, DECIMALS), round(min(1.0, expected + half), DECIMALS))
    return round(expected, DECIMALS), interval, "round trip"


def _advise_label(a: SampleDraw, b: SampleDraw) -> Advice:
    """The label as a link: right where the texts agree, whatever the samples hold."""
    counts = [Counter(sorted(side.label.tolist())) for side in (a, b)]
    directions = [(counts[0], counts[1]), (counts[1], counts[0])]
    n_exact = n_near = 0
    for own, others in directions:
        for text, n in own.items():
            n_exact += n * (text in others)
            close = difflib.get_close_matches(text, others, 1, SIMILAR_TEXT)
            n_near += n * bool(text in others or close)
    n_all = len(a.rows) + len(b.rows)
    exact, near = round(n_exact / n_all, DECIMALS), round(n_near / n_all, DECIMALS)
    texts = sorted({*counts[0], *counts[1]})
    shares = [np.array([one[text] for text in texts]) / one.total() for one in counts]
    uses = [
        np.repeat([others[text] / n for text, n in own.items()], list(own.values()))
        for own, others in directions
    ]
    advice = Advice(
        shared=LABEL,
        score=_coverage(a, b) * n_exact / n_all,
        separability=1.0,
        separability_basis="labels",
        stability=1.0,
        domain_gap=float(np.abs(shares[0] - shares[1]).sum()),
        hubness=float(np.mean([suitability.skewness(one) for one in uses])),
        expected=exact,
        interval=(exact, near),
        basis="texts",
        coverage=_coverage(a, b),
        n_samples=(len(a.rows), len(b.rows)),
    )
    return _finished(advice, (a.n_subjects, b.n_subjects), None)


def _coverage(a: SampleDraw, b: SampleDraw) -> float:
    """Share of all samples that could be bound."""
    n_a, n_b = len(a.store), len(b.store)
    return (a.coverage * n_a + b.coverage * n_b) / (n_a + n_b)


def partner_scores(
    a: np.ndarray, b: np.ndarray, values: np.ndarray, modality: Modality, options: BindOptions
) -> np.ndarray:
    """Score by which `bind` would choose partners.

    Parameters
    ----------
    a, b : ndarray, shapes (n_a, d), (n_b, d)
        Embeddings.
    values : ndarray, shape (n_a + n_b, T, ...), float32
    options : BindOptions
        With reranking, the candidates of either side are compared by dynamic time warping, and that
        similarity is corrected among them; other pairs follow, ordered by their cosine.

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


def _finished(advice: Advice, n_subjects: tuple[int, int], chance: float | None) -> Advice:
    """The advice with rounded figures and its reasons; chance: accuracy of random partners."""
    figures = {
        name: round(value, DECIMALS)
        for name, value in vars(advice).items()
        if isinstance(value, float)
    }
    advice = replace(advice, **figures)  # type: ignore[arg-type]
    return replace(advice, reasons=tuple(_reasons(advice, min(n_subjects) > 1, chance)))


def _reasons(advice: Advice, people_differ: bool, chance: float | None) -> Iterator[str]:
    yield _accuracy_in_words(advice, chance)
    if advice.basis == "texts":
        yield "labels say which class a sample is, not how it was moved; both need them"
        if advice.domain_gap > ALIKE:
            yield "the classes are not equally frequent on both sides, or not the same"
    else:
        if advice.separability_basis == "labels":
            share = f"{advice.separability:.0%}"
            yield f"{share} of the nearest samples of other subjects have the same label"
        else:
            yield f"{advice.stability:.0%} of the best partners remain when samples are perturbed"
        figure = f"(A-distance {advice.domain_gap:.1f} of 2)"
        people = "" if people_differ else ", in part perhaps by the people"
        if advice.domain_gap < ALIKE:
            yield f"the two sides look alike {figure}"
        elif advice.domain_gap < FAR:
            yield f"the two sides differ somewhat {figure}{people}"
        else:
            step = "compare mounting, unit and protocol"
            yield f"the two sides can be told apart {figure}{people}: {step}"
        figure = f"(hubness {advice.hubness:.1f})"
        if advice.hubness < HUB:
            yield f"partners are spread evenly {figure}"
        else:
            yield f"a few samples are many samples' partner {figure}: use hubness correction"
    if advice.coverage < 1:
        yield f"{advice.coverage:.0%} of the samples carry it"
    if advice.basis != "texts" and not people_differ:
        yield "a side has one subject: how far people differ is not known"


def _accuracy_in_words(advice: Advice, chance: float | None) -> str:
    if advice.expected is None or advice.interval is None:
        return "no labels to judge by, or too few: ranked by how stable neighbours are, a weak sign"
    low, high = advice.interval
    if advice.basis == "texts":
        text = f"{advice.expected:.0%} of the labelled samples find a label of the same text"
        return f"{text}, {high:.0%} with similar texts" if high > low else text
    how = (
        "measured on pairs with two labels"
        if advice.basis == "pairs"
        else "from round trips, since labels of both sides are missing or differ"
    )
    against = "" if chance is None else f", by chance {chance:.0%}"
    return f"{advice.expected:.0%} of the pairs right ({low:.0%} to {high:.0%}{against}), {how}"
