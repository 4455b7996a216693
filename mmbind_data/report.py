"""Show what binding did: one HTML file that needs nothing but a browser."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from .errors import OutputError, UsageError, problem
from .layout import Bound
from .report_cards import pairs_drawn
from .report_draws import draw_pairs, look_up
from .report_html import Section, el, escape, joined
from .report_partners import hubness, weights
from .report_sections import (
    accuracy,
    at_a_glance,
    confusion,
    rows_by_kind,
    similarity,
    subjects_and_classes,
    what_was_bound,
)
from .report_tables import Judged, read_judged, read_samples, share
from .staging import claimed, failed, make_folder, staging_path

DOING = "report"
TEMPLATE = "report.html.template"
MARK = '<meta name="generator" content="mmbind report">'


def write_report(
    bound: Bound, out: str | Path, *, n_pairs: int = 20, seed: int = 0, overwrite: bool = False,
    public: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Write a report on a bound store: one HTML file, readable without a network.

    Parameters
    ----------
    bound : Bound
        Its sources must be there.
    out : path
        The HTML file.
    n_pairs : int
        How many pairs to show with their signals.
    seed : int
        Decides which.
    overwrite : bool
        A report may stand there.
    public : bool
        For readers who may not see the sources: no signal is drawn, no sample's label is told.

    Returns
    -------
    dict
        ``path``, ``bytes``, ``n_pairs`` in the store, ``n_drawn``, ``n_judged`` and
        ``pairing_accuracy`` (null without labels).

    Raises
    ------
    UsageError
        A number of pairs or a seed below zero.
    OutputError
        Something stands at the path, or it cannot be written.
    FormatError, IntegrityError
        A source is missing or another; the evaluation is missing or broken.
    """
    out = Path(out)
    if n_pairs < 0 or seed < 0:
        got = f"--pairs {n_pairs} --seed {seed}"
        raise UsageError(problem(DOING, "bad number", "--pairs or --seed", "0 or more", got))
    _check(bound, out, overwrite=overwrite)
    samples = read_samples(bound)
    judged = read_judged(bound, samples)
    draws = draw_pairs(judged, 0 if public else n_pairs, np.random.default_rng(seed))
    shown = look_up(bound, samples, judged, draws)
    sections = [
        what_was_bound(bound, samples),
        rows_by_kind(bound),
        accuracy(bound, judged),
        confusion(judged, samples),
        similarity(judged),
        hubness(samples, judged, labels=not public),
        subjects_and_classes(samples, judged),
        weights(bound, judged),
        None if public else pairs_drawn(shown, judged, seed),
    ]
    page = _page(bound, judged, [one for one in sections if one is not None])
    _write(bound, out, page, overwrite=overwrite)
    first = judged.judged & (judged.rank == 0)
    return {
        "path": str(out),
        "bytes": len(page.encode()),
        "n_pairs": len(judged),
        "n_drawn": len(draws),
        "n_judged": int(first.sum()),
        "pairing_accuracy": share(judged.right[first]),
    }


def _page(bound: Bound, judged: Judged, sections: Sequence[Section]) -> str:
    template = Template((files(__package__) / "template" / TEMPLATE).read_text(encoding="utf-8"))
    sources = " + ".join(source.source_id for source in bound.info.sources)
    contents = [el("li", el("a", one.title, href=f"#{one.name}")) for one in sections]
    return template.substitute(
        mark=MARK,
        name=escape(bound.path.name),
        summary=escape(f"{sources}, bound by {', '.join(dict.fromkeys(bound.info.shared))}"),
        glance=at_a_glance(bound, judged).text,
        contents=joined(contents).text,
        sections=joined(one.html for one in sections).text,
        version=escape(version("mmbind")),
    )


def _check(bound: Bound, out: Path, *, overwrite: bool) -> None:
    """Refuse a path that is taken, unless by a report, or that lies within a store."""
    place = out.resolve()
    stores = [bound.path, *(bound.source(one.source_id).path for one in bound.info.sources)]
    for store in stores:
        if store.resolve() in (place, *place.parents):
            what, expected = "the output lies inside a store", "a path outside the stores"
            raise OutputError(problem(DOING, what, out, expected, f"{out} within {store}"))
    if not os.path.lexists(out):
        return
    if not overwrite:
        step = "Choose another path, or replace it with --overwrite."
        what, expected = "the output exists already", "a path that does not exist"
        raise OutputError(problem(DOING, what, out, expected, "a file", step))
    if not out.is_file() or MARK not in _beginning(out):
        step = "Choose another path, or remove it yourself."
        what = "what stands there is no report that mmbind made"
        raise OutputError(
            problem(DOING, what, out, "a report to overwrite", "something else", step)
        )


def _beginning(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(4096).decode(errors="replace")


def _write(bound: Bound, out: Path, page: str, *, overwrite: bool) -> None:
    """Write beside the target, then rename: a report appears whole or not at all."""
    make_folder(out.parent, doing=DOING)
    partial = staging_path(out)
    with claimed(out, doing=DOING):
        try:
            with partial.open("w", encoding="utf-8", newline="\n") as file:
                file.write(page)
                file.flush()
                os.fsync(file.fileno())
            _check(bound, out, overwrite=overwrite)
            partial.replace(out)
        except OSError as error:
            if isinstance(error, OutputError):
                raise
            raise failed(out, error, doing=DOING) from error
        finally:
            partial.unlink(missing_ok=True)
