"""Bind datasets: embed what two of them share, match both ways, go on with the next one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from mmbind_data.binding.by_label import with_label_map
from mmbind_data.binding.by_sensor import (
    MEASURED,
    has_shared,
)
from mmbind_data.binding.checks import check_request
from mmbind_data.binding.completion import (
    candidates,
    complete_groups,
    concatenate,
    refuse_means,
    shares,
    stack_sources,
    whole_groups,
)
from mmbind_data.binding.evaluation import BindingStep, report_pairing
from mmbind_data.binding.inputs import open_inputs
from mmbind_data.binding.matching import match_sides
from mmbind_data.binding.options import BindOptions, recorded_settings
from mmbind_data.binding.writing import describe_bound, write_bound
from mmbind_data.embedding.vectors import Embedded
from mmbind_data.errors import BindingError
from mmbind_data.io.atomic import check_output, staged
from mmbind_data.matching.match import normalise_weights
from mmbind_data.progress import Progress
from mmbind_data.spec.store import LABEL, LOCATION, TIME, BinderInfo, BoundInfo
from mmbind_data.store.bound import BoundDataset
from mmbind_data.store.dataset import Dataset
from mmbind_data.store.pair_table import INCOMPLETE, MEAN, PSEUDO, PairTable, pairs_table

# Two bindings whose distributions of similarity differ by more (Kolmogorov-Smirnov) are reported.
FAR_APART = 0.3
_METRICS: Mapping[str, Literal["cosine", "time", "location"]] = {
    LABEL: "cosine",
    TIME: "time",
    LOCATION: "location",
}


def bind(
    inputs: Sequence[str | Path],
    out: str | Path,
    *,
    shared: str | Sequence[str],
    options: BindOptions | None = None,
    sources: Mapping[str, str | Path] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> BoundInfo:
    """Pair the samples of two or more stores and write a bound store that points into them.

    Each sample of A that carries the shared modality gets its most similar sample of B, and the
    reverse: |A| + |B| pseudo-paired rows, and all original samples as incomplete rows. A third
    store is bound to these rows in the same way, and so on: a pseudo-paired row that gains a
    modality is replaced by the completed one, one hop further.

    Parameters
    ----------
    inputs : sequence of path
        Two or more converted stores, partitions, or bound stores.
    out : path
        The bound store; it holds pairs and no sensor values.
    shared : str or sequence of str
        A modality that both sides carry, or ``label``; of several, one for each binding.
    options : BindOptions, optional
    sources : mapping of source id to path, optional
        Where the sources of bound inputs lie now.
    overwrite : bool
    progress : callable (done, total, text), optional

    Returns
    -------
    BoundInfo

    Raises
    ------
    UsageError
        Fewer than two inputs, or an unknown shared modality.
    BindingError
        The stores hold the same samples, differ in the shared modality's axes, or have nothing to
        give to one another.
    FormatError, ModelError, OutputError

    Notes
    -----
    Source: MMBind paper, section 5.1; of more than two datasets, section 5.1.3. With a sensor as
    shared modality labels are read only afterwards, to report the pairing accuracy.
    """
    out = Path(out)
    options = options or BindOptions()
    check_output(out, overwrite=overwrite, doing="bind", inputs=inputs)
    opened = open_inputs(inputs, sources)
    sides, chosen = check_request(opened, shared, options.derive)
    options = with_label_map(options, sides, chosen)
    total, hops, embedded = sides[0], [], []
    for side, name in zip(sides[1:], chosen, strict=True):
        total, hop, found = join(total, side, name, options, progress)
        total = _weighted(total, options, len(total.shared) - 1, several=_several(hop, options))
        hops.append(hop)
        embedded.append(found)
    _check_label_models(opened, hops, embedded)
    report = report_pairing(hops)
    binder = [
        one for store in opened if isinstance(store, BoundDataset) for one in store.info.binder
    ]
    parents = [
        store.info.content_digest if isinstance(store, BoundDataset) else None for store in opened
    ]
    for number, (hop, found) in enumerate(zip(hops, embedded, strict=True)):
        parent = parents[number + 1] or (parents[0] if number == 0 else None)
        binder.append(_binder(hop, found, options, parent))
    with staged(out, overwrite=overwrite, doing="bind") as folder:
        table = pairs_table(total)
        warnings = [*_heterogeneity(hops), *_approximate(embedded)]
        info = describe_bound(out, total, binder, report, table, warnings)
        write_bound(folder, info, table, embedded, report)
    return info


def join(
    first: PairTable,
    second: PairTable,
    shared: str,
    options: BindOptions,
    progress: Progress | None,
) -> tuple[PairTable, BindingStep, Embedded]:
    """Bind two sets of rows by what they share.

    Returns
    -------
    PairTable
        Completed rows of the first, completed rows of the second, then what stays as it was.
    BindingStep
        Both sides' candidates and their partners.
    Embedded
    """
    first, second = stack_sources(first, second)
    shares = (*first.shared, *second.shared, shared)
    hop = len(shares) - 1
    chosen = [candidates(one, has_shared(one, shared, options.derive)) for one in (first, second)]
    sides = first.take(chosen[0]), second.take(chosen[1])
    refuse_means((first, second), mean=options.mean, top_k=options.rule.top_k)
    matches, embedded, kind = match_sides(sides, shared, options, progress)
    if all((match.partner < 0).all() for match in matches):
        place = " and ".join(str(source.store.path) for source in first.sources)
        raise BindingError(
            cannot="bind",
            problem="no sample found a partner",
            at=place,
            expected="one pair or more",
            got="none",
            fix="Loosen --min-similarity, --match, --group-by or --window.",
        )
    modalities = list(dict.fromkeys((*first.given, *second.given)))
    parts, kept = [], []
    for rows, other, match, numbers, others in (
        (first, second, matches[0], chosen[0], chosen[1]),
        (second, first, matches[1], chosen[1], chosen[0]),
    ):
        made, anchor = complete_groups(
            rows, numbers, other, others, match, modalities, hop, mean=options.mean
        )
        more = _n_given(made, modalities) > _n_given(rows, modalities)[numbers][anchor]
        gained = np.bincount(anchor, more, minlength=len(numbers)) > 0
        # an original always gets its pseudo-paired row; one that is bound already must gain
        fresh = rows.kind[numbers] == INCOMPLETE
        parts.append(made.take((fresh | gained)[anchor]))
        replaced = whole_groups(rows, numbers[~fresh & gained])
        kept.append(rows.take(np.setdiff1d(np.arange(len(rows)), replaced)))
    # later inputs count their hops behind those of the first
    moved = kept[1].hop + len(first.shared) * (kept[1].kind != INCOMPLETE)
    kept[1] = replace(kept[1], hop=moved.astype(np.int16))
    bound = [rows.take(rows.kind != INCOMPLETE) for rows in kept]
    originals = [rows.take(rows.kind == INCOMPLETE) for rows in kept]
    total = concatenate([*parts, *bound, *originals], modalities, shares)
    return (
        total,
        BindingStep(shared, sides, matches, kind, options.label_map if shared == LABEL else {}),
        embedded,
    )


def _n_given(rows: PairTable, modalities: Sequence[str]) -> np.ndarray:
    return np.asarray(np.sum([rows.carries(name) for name in modalities], axis=0))


def _several(hop: BindingStep, options: BindOptions) -> bool:
    """Whether an anchor has several partners: labels, times and places give it one."""
    return hop.kind not in ("text", TIME, LOCATION) and options.rule.top_k > 1


def _weighted(rows: PairTable, options: BindOptions, hop: int, *, several: bool) -> PairTable:
    """Give the rows of one hop their loss weights; those of others keep theirs, originals 1.

    Several partners of an anchor share 1; rows of one partner each are weighted by the rule.
    """
    weight = rows.weight.copy()
    pseudo = np.flatnonzero((rows.kind == PSEUDO) & (rows.hop == hop))
    if several:
        weight[pseudo] = shares(rows, pseudo, options.temperature)
    else:
        weight[pseudo] = normalise_weights(rows.similarity[pseudo], options.weight_rule)
    means = np.flatnonzero((rows.kind == MEAN) & (rows.hop == hop))
    weight[means] = shares(rows, means, options.temperature)
    return replace(rows, weight=weight)


def _check_label_models(
    opened: Sequence[Dataset | BoundDataset],
    hops: Sequence[BindingStep],
    embedded: Sequence[Embedded],
) -> None:
    """Refuse to go on with another sentence model: its similarities mean something else."""
    for store in opened:
        for one in store.info.binder if isinstance(store, BoundDataset) else ():
            for hop, found in zip(hops, embedded, strict=True):
                before, now = (config.get("sha256") or config.get("model")
                               for config in (one.embedding, found.config))  # fmt: skip
                if hop.shared == one.shared == LABEL and before != now:
                    raise BindingError(
                        cannot="bind",
                        problem="labels were compared by another model",
                        at=store.path,
                        expected=f"--label-model {one.embedding.get('model')}",
                        got=str(found.config.get("model")),
                        fix="Take that one, or bind anew.",
                    )


def _binder(
    hop: BindingStep, embedded: Embedded, options: BindOptions, parent: str | None
) -> BinderInfo:
    if hop.kind not in ("text", TIME, LOCATION):
        recorded = recorded_settings(options, hop.kind)
    else:
        recorded = {
            "recipe": "paper" if hop.shared == LABEL else hop.shared,
            "metric": _METRICS[hop.shared],
            "match": "best",
        }
        if options.group_by and hop.kind != "text":
            recorded["options"] = {"group_by": options.group_by}
    return BinderInfo(
        shared=hop.shared,
        embedding={name: value for name, value in embedded.config.items() if name not in MEASURED},
        parent_digest=parent,
        weight_rule="shares" if _several(hop, options) else options.weight_rule,
        seed=options.seed,
        **recorded,
    )


def _heterogeneity(hops: Sequence[BindingStep]) -> list[str]:
    """Say which later source resembles the others much less than the first two resemble each other.

    Notes
    -----
    Source: MMBind paper, section 6.3.3: more paired data helps only as far as it is alike.
    """
    found = []
    reference = np.sort(_similarities(hops[0]))
    for hop in hops[1:]:
        own = np.sort(_similarities(hop))
        if hop.shared != hops[0].shared or not len(own) or not len(reference):
            continue
        both = np.concatenate([reference, own])
        shares = [np.searchsorted(one, both, side="right") / len(one) for one in (reference, own)]
        distance = float(np.abs(shares[0] - shares[1]).max())
        if distance > FAR_APART and np.median(own) < np.median(reference):
            names = sorted({hop.sides[1].sources[code].source_id
                            for code in np.unique(hop.sides[1].anchor[:, 0])})  # fmt: skip
            found.append(
                f"{', '.join(names)} resembles the others much less (median similarity "
                f"{np.median(own):.3f}, first two {np.median(reference):.3f}, distance of the "
                f"distributions {distance:.2f}): binding it may not help"
            )
    return found


def _approximate(embedded: Sequence[Embedded]) -> list[str]:
    """Say that partners come from an approximate index, and what it missed."""
    return [
        f"partners are approximate: the {one.config['index']} index found "
        f"{one.config['index_recall_best']:.1%} of the most similar samples and "
        f"{one.config['index_recall_listed']:.1%} of the candidates, judged on "
        f"{one.config['index_rows_judged']} samples; --index exact finds all"
        for one in embedded
        if "index" in one.config
    ]


def _similarities(hop: BindingStep) -> np.ndarray:
    values = np.concatenate([match.similarity.ravel() for match in hop.matches])
    return np.asarray(values[np.isfinite(values)])
