"""What one binding is made of: a way of finding partners, and the partners that it found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mmbind_data.binding.options import BindOptions, WeightRule
from mmbind_data.embedding.vectors import Embedded
from mmbind_data.errors import UsageError, suggest
from mmbind_data.matching.candidates import Matches
from mmbind_data.progress import Progress
from mmbind_data.spec.label_synonyms import canonical_label
from mmbind_data.store.pair_table import PairTable

Sides = tuple[PairTable, PairTable]
# figures of an embedding that vary with machine and threads: they stay out of digests
MEASURED = ("final_loss", "mean", "std")


@dataclass(frozen=True)
class BindingStep:
    """One binding: what was compared, and which partners were found."""

    shared: str  # a modality, or label, time or location
    sides: Sides  # the rows that were compared
    matches: tuple[Matches, Matches]  # of the first side's rows in the second, and the reverse
    embedded: Embedded
    settings: Mapping[str, Any]  # the fields recipe, metric, match, top_k, options of a BinderInfo
    # labels that were compared under another wording
    label_map: Mapping[str, str] = field(default_factory=dict)
    gap: float | None = None  # of sensors: see `domain_gap`
    weight_rule: WeightRule = "minmax_mean1"  # probability only where matches have one

    @property
    def several(self) -> bool:
        """Whether an anchor may have several partners."""
        return bool(self.settings.get("top_k", 1) > 1)

    @property
    def shares(self) -> bool:
        """Whether the partners of an anchor share a weight of 1 by their similarity."""
        return self.several and (not self.judged or "mean" in self.settings["options"])

    @property
    def judged(self) -> bool:
        """Whether each pair is weighed by the probability that it is right."""
        return self.weight_rule == "probability"

    def labels(self, side: PairTable) -> np.ndarray:
        """Label of each row of a side in its common wording: str objects, shape (n,)."""
        found = side.texts("label").tolist()
        wording = {text: canonical_label(text, self.label_map) for text in set(found)}
        return np.array([wording[text] for text in found], dtype=object)

    def recorded(self) -> dict[str, Any]:
        """Fields of a `BinderInfo` that say how partners were found."""
        config = self.embedded.config
        embedding = {name: value for name, value in config.items() if name not in MEASURED}
        return {"shared": self.shared, "embedding": embedding, **self.settings}


@dataclass(frozen=True)
class PairingMethod:
    """A way of finding partners; each function is given the name of what is shared.

    Attributes
    ----------
    carries : callable (rows, shared, options) -> bool ndarray, shape (n,)
        Which rows have the shared information.
    check : callable (sides, shared, options, exact)
        Raises what `pair` would raise, as far as no samples need be compared for it. Where
        ``exact`` is False the first side has at most these rows: earlier bindings decide which.
    pair : callable (sides, shared, options, progress) -> BindingStep
    completes : bool
        Whether partners give the shared information to a row that lacks it: a sensor's samples,
        but no label, time or location.
    """

    carries: Callable[[PairTable, str, BindOptions], np.ndarray]
    check: Callable[[Sides, str, BindOptions, bool], object]
    pair: Callable[[Sides, str, BindOptions, Progress | None], BindingStep]
    completes: bool = False


def match_groups(sides: Sides, column: str | None) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Codes of a column of the sample tables, by which samples may be matched.

    Returns
    -------
    two ndarrays of int, shapes (n_a,), (n_b,), or two None
        Equal for equal values of both sides; an unknown value equals none of the other side.

    Raises
    ------
    UsageError
        A source lacks the column, a side has no value in it, or it is that of the label.
    """
    if column is None:
        return None, None
    if column in ("label", "label_text"):
        raise UsageError(
            cannot="bind",
            problem="labels are not read here",
            at="--group-by",
            expected="another column",
            got=repr(column),
            fix="The label itself can be shared: --shared label.",
        )
    codes: dict[str, int] = {}
    found = []
    for number, side in enumerate(sides):
        for code in np.unique(side.anchor[:, 0]):
            columns = side.sources[code].store.samples().column_names
            if column not in columns:
                raise UsageError(
                    cannot="bind",
                    problem="no such column",
                    at="--group-by",
                    expected=f"a column of all sample tables, such as {', '.join(sorted(columns))}",
                    got=repr(column),
                    fix=suggest(column, columns),
                )
        values = side.values(column).tolist()
        if all(value is None for value in values):
            raise UsageError(
                cannot="bind",
                problem=f"no sample has a {column}",
                at=side.place,
                expected="a column with values",
                got=f"--group-by {column}",
            )
        unknown = -1 - number
        numbered = [
            unknown if one is None else codes.setdefault(str(one), len(codes)) for one in values
        ]
        found.append(np.array(numbered))
    return found[0], found[1]
