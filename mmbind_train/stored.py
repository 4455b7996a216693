"""Samples of one modality as they enter the network, on disk until they are asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmbind_data.layout import READ_BYTES, Store
from mmbind_data.scale import Recentre, centre
from mmbind_data.spec import Modality
from mmbind_data.thinning import load_thinned


@dataclass(frozen=True)
class Part:
    """Some rows of a store, ascending."""

    store: Store
    rows: np.ndarray


@dataclass(frozen=True)
class StoredSamples:
    """The samples of one modality, of one store after the other; indexed as an array of them is.

    Attributes
    ----------
    name : str
        The modality.
    modality : Modality
        As it enters the network.
    recentre : {"frame", "first", "none"}
    parts : sequence of Part
    """

    name: str
    modality: Modality
    recentre: Recentre
    parts: Sequence[Part]

    def __len__(self) -> int:
        return sum(len(part.rows) for part in self.parts)

    def __getitem__(self, places: np.ndarray) -> np.ndarray:
        """Read some samples, each once, in the order in which they lie on disk.

        Parameters
        ----------
        places : ndarray of int, shape (n,)

        Returns
        -------
        ndarray, shape (n, *modality.shape), float32

        Raises
        ------
        IntegrityError
            A sample is missing, damaged or not finite.
        """
        wanted, inverse = np.unique(places, return_inverse=True)
        values = np.empty((len(wanted), *self.modality.shape), dtype=np.float32)
        begin, step = 0, max(1, READ_BYTES // sample_bytes(self.modality))
        for part in self.parts:
            here = slice(*np.searchsorted(wanted, (begin, begin + len(part.rows))))
            rows, found = part.rows[wanted[here] - begin], values[here]
            for start in range(0, len(rows), step):  # nothing is in memory twice
                some = slice(start, start + step)
                thinned = load_thinned(part.store, self.name, rows[some], self.modality)
                found[some] = centre(thinned, self.modality, self.recentre)
            begin += len(part.rows)
        return values if np.array_equal(wanted, places) else values[inverse]

    def neighbourhoods(self, n_rows: int) -> np.ndarray:
        """Number of the run of ``n_rows`` rows of a store that each sample lies in.

        Returns
        -------
        ndarray, shape (len(self),), int64
            From 0 on without gaps.
        """
        runs, first = [np.empty(0, np.int64)], 0
        for part in self.parts:
            runs.append(first + part.rows // n_rows)
            first = int(runs[-1].max(initial=first - 1)) + 1
        return np.unique(np.concatenate(runs), return_inverse=True)[1].astype(np.int64)


def sample_bytes(modality: Modality) -> int:
    """Bytes of one sample of a modality that is no ragged one."""
    return 4 * math.prod(modality.shape)
