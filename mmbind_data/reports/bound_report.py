"""The report on a bound store: one HTML file that needs nothing but a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mmbind_data.errors import UsageError
from mmbind_data.reports.html import DOING, check_page, render_page, write_page
from mmbind_data.reports.pair_cards import draw_pairs, pairs_drawn
from mmbind_data.reports.sections import (
    accuracy,
    confusion,
    hubness,
    rows_by_kind,
    similarity,
    subjects_and_classes,
    weights,
    what_was_bound,
)
from mmbind_data.reports.tables import read_judged, read_samples, share
from mmbind_data.store.bound import BoundDataset, open_bound


def report(
    bound: str | Path | BoundDataset,
    out: str | Path,
    *,
    n_pairs: int = 20,
    seed: int = 0,
    overwrite: bool = False,
    public: bool = False,
) -> dict[str, Any]:
    """Write a report on a bound store: one HTML file, readable without a network.

    Parameters
    ----------
    bound : path or BoundDataset
        Its sources must be available.
    out : path
        The HTML file.
    n_pairs : int
        How many pairs to show with their signals.
    seed : int
        Decides which pairs.
    overwrite : bool
        Replace a report at ``out``.
    public : bool
        For readers who may not see the sources: neither signals nor labels of samples are shown.

    Returns
    -------
    dict
        ``path``, ``bytes``, ``n_pairs`` in the store, ``n_drawn``, ``n_judged`` and
        ``pairing_accuracy`` (None without labels).

    Raises
    ------
    UsageError
        A number of pairs or a seed below zero.
    OutputError
        Something else exists at ``out``, or it cannot be written.
    FormatError, IntegrityError
        A source is missing or another one; the evaluation is missing or broken.
    """
    out = Path(out)
    if n_pairs < 0 or seed < 0:
        got, where = f"--pairs {n_pairs} --seed {seed}", "--pairs or --seed"
        raise UsageError(
            cannot=DOING, problem="bad number", at=where, expected="0 or more", got=got
        )
    bound = bound if isinstance(bound, BoundDataset) else open_bound(bound)
    stores = [bound.path, *(bound.source(one.source_id).path for one in bound.info.sources)]
    check_page(out, stores, overwrite=overwrite)
    samples = read_samples(bound)
    judged = read_judged(bound, samples)
    draws = draw_pairs(judged, 0 if public else n_pairs, np.random.default_rng(seed))
    info, right = bound.info, share(judged.right[judged.first])
    sources = " + ".join(source.source_id for source in info.sources)
    page = render_page(
        "bound.html",
        name=bound.path.name,
        summary=f"{sources}, bound by {', '.join(dict.fromkeys(info.shared))}",
        foot="Labels were read for evaluation only.",
        glance={"info": info, "accuracy": right, "reuse": judged.document["reuse"]},
        sections=[
            what_was_bound(bound, samples),
            rows_by_kind(bound),
            accuracy(bound, judged),
            confusion(judged, samples),
            similarity(judged),
            hubness(samples, judged, labels=not public),
            subjects_and_classes(samples, judged),
            weights(bound, judged),
            None if public else pairs_drawn(bound, samples, judged, draws, seed),
        ],
    )
    return {
        "path": str(out),
        "bytes": write_page(out, stores, page, overwrite=overwrite),
        "n_pairs": len(judged),
        "n_drawn": len(draws),
        "n_judged": int(judged.first.sum()),
        "pairing_accuracy": right,
    }
