"""From scores to a table: means, sample standard deviations, paired differences with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
from pydantic import Field
from scipy.stats import permutation_test, sem
from scipy.stats import t as student_t

from mmbind_data.spec.descriptor import Model
from mmbind_train.benchmarks.protocol import REFERENCES
from mmbind_train.evaluation.metrics import spread

CONFIDENCE = 0.95
MOST_EXACT, RESAMPLES = 16, 99_999  # splits whose changes of sign are all tried; else how many
# what a summary averages; None where a score has none
MEANS = (
    "accuracy", "macro_f1", "paper_statistic", "n_pairs", "pretrain_cpu_s", "finetune_cpu_s",
    "joules", "recall_5", "same_class_1", "mean_rank",
)  # fmt: skip
PairKey = tuple[str, int]  # split, seed: what two paired scores have in common


class Score(Model):
    """One evaluation; accuracy and macro-F1 are between 0 and 1."""

    row: str
    method: str
    split: str
    seed: int
    condition: str
    accuracy: float
    macro_f1: float
    paper_statistic: float | None
    n_finetune: int
    n_test: int
    n_classes: int
    n_pairs: int | None
    pairing_accuracy: float | None
    pretrain_steps: int
    pretrain_cpu_s: float
    finetune_steps: int
    finetune_cpu_s: float
    joules: float | None
    recall_5: float | None = Field(
        default=None,
        description="of a transfer, both directions: share of test samples whose own recording is "
        "among the first 5 by the other modality",
    )
    same_class_1: float | None = Field(
        default=None, description="likewise: share whose first result is of their class"
    )
    mean_rank: float | None = Field(default=None, description="likewise: of the own recording")

    @property
    def key(self) -> tuple[str, str, int, str]:
        """Row, split, seed and condition."""
        return self.row, self.split, self.seed, self.condition


class Summary(Model):
    """A row under one condition, over all splits and seeds."""

    row: str
    method: str
    condition: str
    n: int
    accuracy: float
    accuracy_std: float | None = Field(description="sample standard deviation; null: one value")
    macro_f1: float
    macro_f1_std: float | None
    paper_statistic: float | None
    pairing_accuracy: float | None
    pairing_accuracy_std: float | None
    n_pairs: float | None
    finetune_steps: int
    pretrain_cpu_s: float
    finetune_cpu_s: float
    joules: float | None
    recall_5: float | None = None
    same_class_1: float | None = None
    mean_rank: float | None = None


class Difference(Model):
    """Accuracy of a row minus that of another, over equal splits and seeds."""

    row: str
    baseline: str
    condition: str
    n: int
    n_splits: int | None = Field(default=None, description="null: of a release that did not count")
    mean: float
    low: float | None = Field(
        description="bounds of the t interval over the means of splits, or over the seeds of the "
        "only one (releases without p: by a bootstrap); null: fewer than two"
    )
    high: float | None
    p: float | None = Field(
        default=None, description="exact two-sided sign-flip p over the means of splits"
    )
    confidence: float = CONFIDENCE


class Reached(Model):
    """The least fine-tuning with which a row's mean accuracy reaches a value; null: none."""

    row: str
    accuracy: float
    condition: str | None
    steps: int | None
    cpu_s: float | None


def summarise(scores: Sequence[Score]) -> tuple[Summary, ...]:
    """Means and sample standard deviations of each row and condition, in order of appearance."""
    lines = dict.fromkeys((score.row, score.condition) for score in scores)
    return tuple(_summary([s for s in scores if (s.row, s.condition) == line]) for line in lines)


def _summary(scores: Sequence[Score]) -> Summary:
    pairing = [s.pairing_accuracy for s in scores if s.pairing_accuracy is not None]
    same: dict[str, Any] = scores[0].model_dump(
        include={"row", "method", "condition", "finetune_steps"}
    )
    means: dict[str, Any] = {name: _mean([getattr(one, name) for one in scores]) for name in MEANS}
    return Summary(
        **same,
        **means,
        n=len(scores),
        accuracy_std=spread([one.accuracy for one in scores]),
        macro_f1_std=spread([one.macro_f1 for one in scores]),
        pairing_accuracy=_mean(pairing),
        pairing_accuracy_std=spread(pairing),
    )


def averaged_scores(
    scores: Sequence[Score], averages: Mapping[str, Sequence[str]]
) -> tuple[Score, ...]:
    """Scores of further conditions: means over others of the same row, split and seed.

    A row, split and seed that lacks one of the conditions gets none.
    """
    found, known = [], {score.key: score for score in scores}
    names = ("accuracy", "macro_f1", "paper_statistic", "recall_5", "same_class_1", "mean_rank")
    for condition, parts in averages.items():
        for at in dict.fromkeys(score.key[:3] for score in scores):
            both = [known[(*at, part)] for part in parts if (*at, part) in known]
            if len(both) == len(parts):
                means: dict[str, Any] = {
                    name: _mean([getattr(one, name) for one in both]) for name in names
                }
                found.append(both[0].model_copy(update={"condition": condition, **means}))
    return tuple(found)


def mean_retrieval(found: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """The fields of a score about retrieval, both directions together, from `RetrievalResult`s."""
    return {
        "recall_5": _mean([one["recording"]["5"] for one in found]),
        "same_class_1": _mean([one["same_class"]["1"] for one in found]),
        "mean_rank": _mean([one["mean_rank"] for one in found]),
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None


def compare(
    scores: Sequence[Score],
    against: str | None = None,
    baselines: Sequence[str] | None = None,
    claims: Sequence[tuple[str, str]] = (),
) -> tuple[Difference, ...]:
    """Each row against one of them, or the best baseline of the same condition; then the claims.

    The best baseline is the one of highest mean accuracy among ``baselines``, or among all rows but
    those of `REFERENCES`, over the splits and seeds that all have, so that a failed job on a hard
    split is no advantage. It is chosen on the same scores, which makes the difference rather too
    small than too large. Baselines that have no split and seed in common have no best one: no
    difference is given. ``claims`` are pairs of rows that are compared besides.
    """
    found = []
    for condition in dict.fromkeys(score.condition for score in scores):
        here = [score for score in scores if score.condition == condition]
        rows = {
            row: {(s.split, s.seed): s.accuracy for s in here if s.row == row}
            for row in dict.fromkeys(score.row for score in here)
        }
        usual = {s.row for s in here if s.method not in REFERENCES}
        known = [row for row in rows if row in (usual if baselines is None else baselines)]
        best = against or _best({row: rows[row] for row in known})
        pairs = [(row, best) for row in rows if row != best and best in rows]
        pairs += [pair for pair in claims if set(pair) <= set(rows) and pair not in pairs]
        found += [
            difference(row, other, condition, rows[row], rows[other])
            for row, other in pairs
            if other is not None
        ]
    return tuple(one for one in found if one is not None)


def _best(baselines: Mapping[str, Mapping[PairKey, float]]) -> str | None:
    """The baseline of highest mean over what all have; of equal ones the last by name."""
    common = sorted(set.intersection(*map(set, baselines.values()))) if baselines else []
    if not common:
        return None
    return max(baselines, key=lambda row: (np.mean([baselines[row][at] for at in common]), row))


def difference(
    row: str,
    baseline: str,
    condition: str,
    accuracy: Mapping[PairKey, float],
    reference: Mapping[PairKey, float],
) -> Difference | None:
    """Mean of the differences over the splits that both have, its interval and its p."""
    both = [pair for pair in accuracy if pair in reference]
    if not both:
        return None
    values = np.array([accuracy[pair] - reference[pair] for pair in both])
    splits = [split for split, _ in both]
    low, high = interval(values, splits)
    return Difference(
        row=row,
        baseline=baseline,
        condition=condition,
        n=len(both),
        n_splits=len(set(splits)),
        mean=float(units(values, splits).mean()),
        low=low,
        high=high,
        p=sign_flip_p(values, splits),
    )


def interval(values: np.ndarray, splits: Sequence[str]) -> tuple[float, float] | tuple[None, None]:
    """Student's t interval of a mean over splits, whose values are the means of their seeds.

    Seeds of one split share the people of fine-tuning and test, so they are not independent: they
    make a split's mean more exact and count as one. With a single split the interval is over its
    seeds and says nothing of other people. A percentile bootstrap of so few splits is too narrow:
    of intervals with a nominal coverage of 95 % it covered 86 % (three splits) and 91 % (six).

    Parameters
    ----------
    values : ndarray, shape (n,), float
        Paired differences.
    splits : sequence of str
        The split of each.
    """
    means = units(values, splits)
    if len(means) < 2:
        return None, None
    half = float(student_t.ppf((1 + CONFIDENCE) / 2, len(means) - 1) * sem(means))
    return float(means.mean()) - half, float(means.mean()) + half


def sign_flip_p(values: np.ndarray, splits: Sequence[str]) -> float | None:
    """Two-sided p that the mean over splits is 0: the share of sign changes as far from 0.

    Exact for up to 16 splits, which have 65,536 changes of sign; else by 99,999 of them. With n
    splits it is at least 2 / 2 ** n, whatever the difference: 0.25 for three, 0.031 for six.

    Source: Fisher's randomisation test; Edgington and Onghena, Randomization Tests (2007).
    """
    means = units(values, splits)
    if len(means) < 2:
        return None
    most = np.inf if len(means) <= MOST_EXACT else RESAMPLES
    flips = {"permutation_type": "samples", "n_resamples": most, "vectorized": True}
    found = permutation_test((means,), np.mean, rng=np.random.default_rng(0), **flips)
    return float(found.pvalue)


def units(values: np.ndarray, splits: Sequence[str]) -> np.ndarray:
    """What counts as independent: the mean of each split, or the seeds of the only one."""
    names = np.array(list(splits))
    different = list(dict.fromkeys(names.tolist()))
    if len(different) == 1:
        return np.asarray(values)
    return np.array([values[names == name].mean() for name in different])


def reached(summaries: Sequence[Summary], accuracies: Sequence[float]) -> tuple[Reached, ...]:
    """Fewest fine-tuning steps with which each row's mean accuracy reaches each value."""
    curve = sorted(summaries, key=lambda one: one.finetune_steps)
    found = []
    for row, accuracy in product(dict.fromkeys(one.row for one in summaries), accuracies):
        first = next((s for s in curve if s.row == row and s.accuracy >= accuracy), None)
        found.append(
            Reached(
                row=row,
                accuracy=accuracy,
                condition=first and first.condition,
                steps=first and first.finetune_steps,
                cpu_s=first and first.finetune_cpu_s,
            )
        )
    return tuple(found)
