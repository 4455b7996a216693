"""One piece of advice as a frozen value, and its figures in words."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

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


def in_words(
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
