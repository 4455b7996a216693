"""What partners of drawn samples would be chosen by: the recipe of `bind`, for all their pairs."""

from __future__ import annotations

import numpy as np

from . import suitability
from .bind_options import BindOptions
from .candidates import corrected, union_of_pairs
from .elastic import dtw_pairs, elastic_signals
from .shortlist import shortlist
from .spec import Modality

BEHIND = 10.0  # pairs that were no candidates come after all that were: more than any score


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
    csls = options.rule.match == "csls"
    warps = options.warps(modality.kind) and modality.axes[0].name == "time"
    if not warps or values.shape[1] < 2:
        return suitability.corrected(similarity) if csls else similarity
    listed = shortlist(a, b, options.candidates, csls_k=options.rule.csls_k)
    row_a, row_b, _ = union_of_pairs(*listed)
    signals = elastic_signals(values, modality, options.elastic)
    warped = dtw_pairs(
        signals[: len(a)], signals[len(a) :], row_a, row_b, band=options.elastic.band
    )
    score = warped.astype(np.float64)
    if csls:
        score = corrected(row_a, row_b, score, (len(a), len(b)), options.rule.csls_k)
    scores = suitability.corrected(similarity) - BEHIND
    scores[row_a, row_b] = np.round(score, suitability.DECIMALS)
    return np.asarray(scores)
