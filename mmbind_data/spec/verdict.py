"""One sentence on whether pairs can be trusted, with the reason and what to do next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mmbind_data.spec.store import BoundInfo, PairQuality

# Shares of right partners, expected or known: training gained from pairs above the first, and lost
# below the second.
GOOD, DOUBTFUL = 0.5, 0.3
# Right partners as a multiple of chance below which pairs are little better than partners by lot.
ABOVE_CHANCE = 1.5
FAR = 1.1  # domain gap from which on the sides differ by more than their people


@dataclass(frozen=True)
class Verdict:
    """What to think of the pairs."""

    level: Literal["good", "doubtful", "bad"]
    reason: str
    next_step: str = ""

    def __str__(self) -> str:
        return " ".join(filter(None, [f"pairs are {self.level}: {self.reason}.", self.next_step]))


def judge_pairing(quality: PairQuality, shared: Sequence[str]) -> Verdict:
    """Judge by labels where both sides have some in common, else by the expected share of right.

    Where neither is known, as for labels, time and location, the pairs are as good as these are.
    """
    by = " and ".join(dict.fromkeys(shared))
    right, chance, gap = quality.all_right, quality.chance, quality.domain_gap
    share = quality.all_expected if right is None else right
    if share is None:
        return Verdict("good", f"they are given by {by}")
    if right is not None and chance is not None:
        reason = f"{right:.0%} of the partners have the anchor's label, {chance:.0%} by chance"
    else:
        reason = f"{share:.0%} of the partners are expected to be right"
    if right is not None and chance and right < ABOVE_CHANCE * chance:
        level: Literal["good", "doubtful", "bad"] = "bad"
    else:
        level = "good" if share >= GOOD else "doubtful" if share >= DOUBTFUL else "bad"
    if level == "good":
        return Verdict(level, reason)
    if gap is not None and gap > FAR:
        reason += (
            f"; the nearest samples of the other side are {gap - 1:.0%} farther away than those of "
            "other people of the same side, so sensor, placement or activities differ"
        )
        step = f"Compare unit, axes and placement of {by} (mmbind info), or bind by label."
    else:
        step = "See which sensor pairs better with mmbind advise, or bind by label."
    if level == "bad":
        step += " Training on these pairs may be worse than training without."
    return Verdict(level, reason, step)


def describe_quality(info: BoundInfo) -> str:
    """The shares of right pairs of a bound store, known and expected, and the domain gap."""
    quality, accuracy = info.quality, info.pairing_accuracy
    known = "unknown (no common labels)" if accuracy is None else f"{accuracy:.1%}"
    line = f"pairing accuracy {known}"
    if quality is None:
        return line
    if accuracy is not None and quality.all_right is not None and quality.chance is not None:
        line += f" of first partners, {quality.all_right:.1%} of all partners by weight, "
        line += f"{quality.chance:.1%} by chance"
    if quality.first_expected is not None and quality.all_expected is not None:
        line += f"; expected without labels {quality.first_expected:.0%} and "
        line += f"{quality.all_expected:.0%}"
    if quality.domain_gap is not None:
        line += f"; domain gap {quality.domain_gap:.2f}"
    return line
