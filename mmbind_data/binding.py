"""Bind datasets: embed what two of them share, match both ways, go on with the next one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from .bind_inputs import check_disjoint, check_recordings, open_inputs, open_rows
from .bind_options import BindOptions, Progress, recipe_of
from .bound_store import describe_bound, rebuild_command, write_bound
from .embed import Embedded
from .errors import BindingError, UsageError, problem, suggest
from .label_matching import worded
from .layout import Bound, Store
from .matching import (
    MEASURED,
    carried,
    check_comparable,
    check_derivations,
    derivable,
    match_sides,
)
from .mean_rows import complete_groups, refuse_means, shares, whole_groups
from .occasion import LOCATION, TIME
from .pairing_report import Hop, report_pairing
from .pairs import (
    INCOMPLETE,
    LABEL,
    MEAN,
    PSEUDO,
    Rows,
    candidates,
    concatenate,
    pairs_table,
    stack_sources,
)
from .similarity import normalise_weights
from .spec import BinderInfo, BoundInfo
from .staging import check_output, staged

__all__ = ["BindOptions", "bind", "check_request", "open_inputs", "rebuild_command"]

# Two hops whose distributions of similarity differ by more (Kolmogorov-Smirnov) are worth a look.
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
    sources: Mapping[str, Path] | None = None,
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
    options = worded(options, sides, chosen)
    total, hops, embedded = sides[0], [], []
    for side, name in zip(sides[1:], chosen, strict=True):
        total, hop, found = join(total, side, name, options, progress)
        total = _weighted(total, options, len(total.shared) - 1, several=_several(hop, options))
        hops.append(hop)
        embedded.append(found)
    _check_label_models(opened, hops, embedded)
    report = report_pairing(hops)
    binder = [one for store in opened if isinstance(store, Bound) for one in store.info.binder]
    parents = [store.info.content_digest if isinstance(store, Bound) else None for store in opened]
    for number, (hop, found) in enumerate(zip(hops, embedded, strict=True)):
        parent = parents[number + 1] or (parents[0] if number == 0 else None)
        binder.append(_binder(hop, found, options, parent))
    with staged(out, overwrite=overwrite, doing="bind") as folder:
        table = pairs_table(total)
        warnings = [*_heterogeneity(hops), *_approximate(embedded)]
        info = describe_bound(out, total, binder, report, table, warnings)
        write_bound(folder, info, table, embedded, report)
    return info


def check_request(
    opened: Sequence[Store | Bound], shared: str | Sequence[str], derivations: Sequence[str] = ()
) -> tuple[list[Rows], list[str]]:
    """Refuse what cannot be bound, before anything is computed.

    Returns
    -------
    list of Rows
        Of each input.
    list of str
        What is shared at each binding.

    Raises
    ------
    UsageError, BindingError
        See `bind`.
    """
    if len(opened) < 2:
        raise UsageError(problem("bind", "too few stores", "A B", "two or more", str(len(opened))))
    chosen = [shared] if isinstance(shared, str) else list(shared)
    chosen = chosen * (len(opened) - 1) if len(chosen) == 1 else chosen
    if len(chosen) != len(opened) - 1:
        expected = f"one, or one for each of {len(opened) - 1} bindings"
        what = "another number of shared modalities"
        raise UsageError(problem("bind", what, "--shared", expected, str(len(chosen))))
    sides = open_rows(opened)
    paths = [store.path for store in opened]
    uids = [[source.uid for source in side.sources] for side in sides]
    check_disjoint(list(zip(paths, uids, strict=True)), "bind")
    if not set(chosen) <= {TIME, LOCATION}:  # by these, one recording's parts are put together
        check_recordings(opened, "bind")
    check_derivations(_stores(sides), chosen, derivations)
    known = set(_modalities(opened[0]))
    place = str(opened[0].path)
    for number, (store, name) in enumerate(zip(opened[1:], chosen, strict=True), start=1):
        own = _modalities(store)
        reach = [
            set(side) | {target for one in stores for target in derivable(one, derivations)}
            for side, stores in (
                (known, _stores(sides[:number])),
                (own, _stores(sides[number:][:1])),
            )
        ]
        _check_pair(known, own, reach, name, f"{place} and {store.path}")
        check_comparable(
            [
                (one, one.info.modalities[name])
                for one in _stores(sides[: number + 1])
                if name in one.info.modalities
            ],
            name,
        )
        known |= set(own)
        place = f"{place}, {store.path}"
    for number, (store, side) in enumerate(zip(opened, sides, strict=True)):
        # the first input must have what the first binding shares, each other one its own
        name = chosen[max(0, number - 1)]
        if not carried(side, name, derivations).any():
            step = "Places are the columns lat and lon, or x and y, of the sample table."
            raise BindingError(
                problem("bind", f"no sample carries {name}", store.path, "one or more", "0",
                        step if name == LOCATION else "")
            )  # fmt: skip
    return sides, chosen


def _check_pair(
    known: set[str], own: Sequence[str], reach: Sequence[set[str]], shared: str, place: str
) -> None:
    common = [*(name for name in (*own, *sorted(reach[1] - set(own))) if name in reach[0]), LABEL]
    if shared not in (*common, TIME, LOCATION):
        refusal = BindingError if shared in {*known, *own} else UsageError
        raise refusal(
            problem("bind", f"{shared} is not shared", place,
                    f"--shared {' or '.join(common)}", repr(shared), suggest(shared, common))
        )  # fmt: skip
    if set(known) == set(own):
        raise BindingError(
            problem("bind", "both stores carry the same modalities", place,
                    "a modality that the other lacks", ", ".join(own),
                    "There is nothing to complete.")
        )  # fmt: skip


def join(
    first: Rows, second: Rows, shared: str, options: BindOptions, progress: Progress | None
) -> tuple[Rows, Hop, Embedded]:
    """Bind two sets of rows by what they share.

    Returns
    -------
    Rows
        Completed rows of the first, completed rows of the second, then what stays as it was.
    Hop
        Both sides' candidates and their partners.
    Embedded
    """
    first, second = stack_sources(first, second)
    shares = (*first.shared, *second.shared, shared)
    hop = len(shares) - 1
    chosen = [candidates(one, carried(one, shared, options.derive)) for one in (first, second)]
    sides = first.take(chosen[0]), second.take(chosen[1])
    refuse_means((first, second), mean=options.mean, top_k=options.rule.top_k)
    matches, embedded, kind = match_sides(sides, shared, options, progress)
    if all((match.partner < 0).all() for match in matches):
        place = " and ".join(str(source.store.path) for source in first.sources)
        raise BindingError(
            problem("bind", "no sample found a partner", place, "one pair or more", "none",
                    "Loosen --min-similarity, --match, --group-by or --window.")
        )  # fmt: skip
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
        Hop(shared, sides, matches, kind, options.label_map if shared == LABEL else {}),
        embedded,
    )


def _n_given(rows: Rows, modalities: Sequence[str]) -> np.ndarray:
    return np.asarray(np.sum([rows.carries(name) for name in modalities], axis=0))


def _several(hop: Hop, options: BindOptions) -> bool:
    """Whether an anchor has several partners: labels, times and places give it one."""
    return hop.kind not in ("text", TIME, LOCATION) and options.rule.top_k > 1


def _weighted(rows: Rows, options: BindOptions, hop: int, *, several: bool) -> Rows:
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
    opened: Sequence[Store | Bound], hops: Sequence[Hop], embedded: Sequence[Embedded]
) -> None:
    """Refuse to go on with another sentence model: its similarities mean something else."""
    for store in opened:
        for one in store.info.binder if isinstance(store, Bound) else ():
            for hop, found in zip(hops, embedded, strict=True):
                before, now = (config.get("sha256") or config.get("model")
                               for config in (one.embedding, found.config))  # fmt: skip
                if hop.shared == one.shared == LABEL and before != now:
                    raise BindingError(
                        problem("bind", "labels were compared by another model", store.path,
                                f"--label-model {one.embedding.get('model')}",
                                str(found.config.get("model")), "Take that one, or bind anew.")
                    )  # fmt: skip


def _binder(hop: Hop, embedded: Embedded, options: BindOptions, parent: str | None) -> BinderInfo:
    sensor = hop.kind not in ("text", TIME, LOCATION)
    other = "paper" if hop.shared == LABEL else hop.shared
    grouped = {"group_by": options.group_by} if options.group_by and hop.kind != "text" else {}
    return BinderInfo(
        shared=hop.shared,
        recipe=recipe_of(options) if sensor else other,
        embedding={name: value for name, value in embedded.config.items() if name not in MEASURED},
        metric=options.rule.metric if sensor else _METRICS[hop.shared],
        match=options.rule.match if sensor else "best",
        top_k=options.rule.top_k if sensor else 1,
        options=options.told(hop.kind) if sensor else grouped,
        parent_digest=parent,
        weight_rule="shares" if _several(hop, options) else options.weight_rule,
        seed=options.seed,
    )


def _heterogeneity(hops: Sequence[Hop]) -> list[str]:
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


def _similarities(hop: Hop) -> np.ndarray:
    values = np.concatenate([match.similarity.ravel() for match in hop.matches])
    return np.asarray(values[np.isfinite(values)])


def _stores(sides: Sequence[Rows]) -> list[Store]:
    return [source.store for side in sides for source in side.sources]


def _modalities(store: Store | Bound) -> list[str]:
    return list(store.info.modalities)
