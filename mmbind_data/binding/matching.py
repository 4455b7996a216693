"""Find partners for the samples of two stores by whatever they share."""

from __future__ import annotations

import numpy as np

from mmbind_data.binding.by_label import match_labels
from mmbind_data.binding.by_sensor import (
    match_sensor,
    shared_values,
)
from mmbind_data.binding.by_time_and_place import match_by_location, match_by_time
from mmbind_data.binding.options import BindOptions
from mmbind_data.embedding.vectors import Embedded
from mmbind_data.matching.candidates import Matches
from mmbind_data.progress import Progress
from mmbind_data.spec.store import LABEL, LOCATION, TIME
from mmbind_data.store.pair_table import PairTable


def match_sides(
    sides: tuple[PairTable, PairTable], shared: str, options: BindOptions, progress: Progress | None
) -> tuple[tuple[Matches, Matches], Embedded, str]:
    """Partners of both sides' rows by a sensor, the label, the time or the location.

    Returns
    -------
    (Matches, Matches)
        Of the first side's rows in the second's, and the reverse.
    Embedded
    str
        Modality kind that was compared; "text", "time" or "location" where it was no sensor.
    """
    if shared == LABEL:
        return *match_labels(sides, options), "text"
    nothing = np.empty((0, 0), dtype=np.float32)
    if shared == TIME:
        found = match_by_time(sides, options)
        return found, Embedded(nothing, {"name": TIME, "window_s": options.window_s}), TIME
    if shared == LOCATION:
        found, columns = match_by_location(sides, options)
        config = {"name": LOCATION, "window_m": options.window_m, "columns": list(columns)}
        return found, Embedded(nothing, config), LOCATION
    values, modality = shared_values(sides, shared, options.derive)
    return *match_sensor(values, modality, sides, options, progress), modality.kind
