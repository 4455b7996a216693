"""Tables whose every row has a label: cut them into segments, and bridge what is missing."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from mmbind_data.raw.files import RawFile, bad_file
from mmbind_data.signal.time_grid import bridge

OTHER_ROWS = "rows of activities outside the preset left out"


@dataclass(frozen=True)
class Segment:
    """Rows of one label without interruption."""

    number: int
    rows: slice
    label: str


def labelled_segments(
    labels: np.ndarray, breaks: np.ndarray, kept: Collection[str]
) -> tuple[list[Segment], int]:
    """Cut a table into segments; returned are those of the labels that are kept.

    ``labels`` are those of the rows, str of shape (n,), empty where there is none; ``breaks``, bool
    of shape (n - 1,), tell whether a segment ends between a row and the next one. The segments'
    numbers count all labelled segments of the table, so that they do not depend on what is kept.
    The second result is the number of labelled rows that are in no segment returned.
    """
    edges = [0, *(np.flatnonzero(breaks) + 1).tolist(), len(labels)]
    runs = [slice(*pair) for pair in pairwise(edges) if labels[pair[0]]]
    segments = [Segment(i, rows, str(labels[rows.start])) for i, rows in enumerate(runs, 1)]
    others = [one.rows for one in segments if one.label not in kept]
    return (
        [one for one in segments if one.label in kept],
        sum(rows.stop - rows.start for rows in others),
    )


def bridged_streams(
    table: Mapping[int, np.ndarray],
    positions: Mapping[str, Sequence[int]],
    rows: slice,
    max_bridge: int,
) -> tuple[dict[str, np.ndarray], np.ndarray, int]:
    """Streams of some rows of a table; spans of up to ``max_bridge`` frames are bridged linearly.

    The columns in ``table``, each of shape (n,), are NaN where nothing was measured; ``positions``
    are the columns of each modality.

    Returns
    -------
    streams : dict of str to ndarray, shape (n_rows, n_columns), float32
    gaps : ndarray of bool, shape (n_rows,)
        Frames that stay missing in one of the streams at least.
    n_bridged : int
        Frames of which a value was bridged.
    """
    streams = {}
    gaps, bridged = (np.zeros(rows.stop - rows.start, dtype=bool) for _ in range(2))
    for name, columns in positions.items():
        values = np.stack([table[column][rows] for column in columns], axis=1)
        blank = np.isnan(values).any(axis=1)
        if blank.any():
            # one modality at a time: its values must not depend on which others are read
            values, missing = bridge(values, max_bridge)
            bridged |= blank & ~missing
            gaps |= missing
        streams[name] = values.astype(np.float32)
    return streams, gaps, int(bridged.sum())


def check_not_infinite(
    file: RawFile,
    table: Mapping[int, np.ndarray],
    skip: int = 0,
    expected: str = "a number or a blank cell",
    *,
    complete: Collection[int] = (),
) -> None:
    """Refuse infinite numbers, and NaN in the columns that must be complete.

    Raises
    ------
    RawLayoutError
    """
    for column, values in table.items():
        broken = np.isinf(values) | (np.isnan(values) if column in complete else False)
        if broken.any():
            row = int(np.argmax(broken))
            what = f"column {column + 1} on line {row + skip + 1}"
            raise bad_file(file, what, expected, values[row])
