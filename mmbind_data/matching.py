"""Find partners for the samples of two datasets: by a sensor, label, time or location."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from .bind_options import DEFAULT_TOP_K, BindOptions, Progress
from .comparable import why_incomparable
from .derive import derive, find_derivation
from .elastic import elastic_signals, reranked
from .embed import Embedded, embed_raw
from .embed_contrastive import embed_contrastive
from .embed_given import embed_file, embed_with
from .embed_trained import embed_autoencoder
from .errors import BindingError, UsageError, problem
from .label_matching import match_labels, texts_of
from .layout import Store
from .occasion import LOCATION, TIME, groups_of, match_by_location, match_by_time, places_of
from .pairs import LABEL, Rows
from .shortlist import shortlist
from .similarity import Matches, Rule, match, match_candidates
from .spec import Modality
from .window import stretch

# figures that vary with machine and threads stay out of digests
MEASURED = ("final_loss", "mean", "std")


def match_sides(
    sides: tuple[Rows, Rows], shared: str, options: BindOptions, progress: Progress | None
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


def check_options(
    sides: tuple[Rows, Rows], shared: str, options: BindOptions, *, exact: bool = True
) -> None:
    """Refuse options that the data cannot follow, as far as no sample need be compared for it.

    Parameters
    ----------
    sides : two Rows
        That would be compared.
    shared : str
    options : BindOptions
    exact : bool
        False: the first side has at most these rows, as earlier bindings decide which of them
        carry what is shared.

    Raises
    ------
    UsageError, BindingError
    """
    if shared == LABEL:
        texts_of(sides, options)
    elif shared in (TIME, LOCATION):
        match_sides(sides, shared, options, None)
    else:
        found = [source.store.info.modalities.get(shared) for source in sides[0].sources]
        kind = next((one.kind for one in found if one), "inertial")  # else a derived motion
        n = (len(sides[0]), len(sides[1]))
        _fitted(options, kind, n)
        groups_of(sides if exact else (sides[1], sides[1]), options.group_by)
        if isinstance(options.embed, Path):
            embed_file(options.embed, sum(n) if exact else None)


def match_sensor(
    values: np.ndarray,
    modality: Modality,
    sides: tuple[Rows, Rows],
    options: BindOptions,
    progress: Progress | None = None,
) -> tuple[tuple[Matches, Matches], Embedded]:
    """Embed the shared sensor of both sides and match both ways; labels are never read.

    Parameters
    ----------
    values : ndarray, shape (n_a + n_b, T, ...), float32
    modality : Modality
    sides : two Rows
        Candidates, all of which carry the shared modality.
    options : BindOptions

    Returns
    -------
    (Matches, Matches)
    Embedded

    Raises
    ------
    BindingError
        The embedding is not one vector per sample.

    Notes
    -----
    Source: MMBind paper, section 5.1, eq. 1 and 2; hubness correction and warping are ours.
    """
    options = _fitted(options, modality.kind, (len(sides[0]), len(sides[1])))
    embedded = _embed(values, modality, options, progress)
    vectors, n = embedded.vectors, len(sides[0])
    groups = groups_of(sides, options.group_by)
    rule = options.rule
    try:
        if options.index != "exact":
            return _match_on_index(embedded, values, modality, n, options)
        if not options.warps(modality.kind):
            return match(
                vectors[:n], vectors[n:], rule, group_a=groups[0], group_b=groups[1]
            ), embedded
        if progress:
            progress(0, 1, "comparing candidates elastically")
        if options.group_by is None:
            listed = shortlist(vectors[:n], vectors[n:], options.candidates, csls_k=rule.csls_k)
        else:
            many = Rule("csls", top_k=options.candidates, csls_k=rule.csls_k)
            listed = match(vectors[:n], vectors[n:], many, group_a=groups[0], group_b=groups[1])
        return _warped(listed, values, modality, n, options), embedded
    except UsageError:
        raise  # it is a ValueError too, and has its sentence
    except ValueError as error:
        message = problem("bind", "options that do not fit", "the data", "a rule that applies",
                          str(error))  # fmt: skip
        raise BindingError(message) from error


def _warped(
    listed: tuple[Matches, Matches],
    values: np.ndarray,
    modality: Modality,
    n: int,
    options: BindOptions,
) -> tuple[Matches, Matches]:
    """Partners among candidates that are compared once more by dynamic time warping."""
    signals = elastic_signals(values, modality, options.elastic)
    ranked = reranked(*listed, signals[:n], signals[n:], band=options.elastic.band)
    return match_candidates(*ranked, options.rule)


def _match_on_index(
    embedded: Embedded, values: np.ndarray, modality: Modality, n: int, options: BindOptions
) -> tuple[tuple[Matches, Matches], Embedded]:
    """As `match_sensor`, but candidates come from an approximate index, whose recall is told."""
    from .approximate import approximate_candidates, match_approximately

    rule, index = options.rule, options.index
    unfit = [
        name
        for name, given in (
            ("--group-by", options.group_by is not None),
            ("--match sinkhorn", rule.match == "sinkhorn"),
            ("--pca", rule.pca is not None),
        )
        if given
    ]
    if index == "exact" or unfit:
        raise UsageError(
            problem("bind", "an approximate index does not offer that", f"--index {index}",
                    "--index exact", " and ".join(unfit))
        )  # fmt: skip
    a, b = embedded.vectors[:n], embedded.vectors[n:]
    if options.warps(modality.kind):
        listed, recall = approximate_candidates(
            a, b, options.candidates, index=index, seed=options.seed
        )
        matches = _warped(listed, values, modality, n, options)
    else:
        matches, recall = match_approximately(a, b, rule, index=index, seed=options.seed)
    told = {
        "index": index,
        "index_recall_best": round(recall.best, 4),
        "index_recall_listed": round(recall.listed, 4),
        "index_rows_judged": recall.n,
    }
    return matches, Embedded(embedded.vectors, {**embedded.config, **told}, embedded.weights)


def _fitted(options: BindOptions, kind: str, n: tuple[int, int]) -> BindOptions:
    """Refuse a rule that cannot be followed, or a part of it that would be passed over.

    The default number of partners means as many as there are, up to that.
    """
    rule, warps = options.rule, options.warps(kind)
    if rule.top_k == DEFAULT_TOP_K:
        most = min(*n, options.candidates) if warps else min(n)
        rule = replace(rule, top_k=max(1, min(rule.top_k, most)))
    step = "Give --rerank none, or leave it out." if warps else ""
    for option, idle, expected, got in (
        ("--top-k", rule.top_k > min(n), f"at most the {min(n)} samples of a side", rule.top_k),
        ("--top-k", warps and rule.top_k > options.candidates,
         f"at most the {options.candidates} of --candidates", rule.top_k),
        ("--match", warps and rule.match == "sinkhorn",
         "best, csls or mutual where candidates are compared by time warping", rule.match),
        ("--metric", warps and rule.metric != "cosine",
         "none where candidates are compared by time warping", rule.metric),
        ("--pca", warps and rule.pca is not None,
         "none where candidates are compared by time warping", rule.pca),
    ):  # fmt: skip
        if idle:
            next_step = step if option != "--top-k" else ""
            what = "a rule that cannot be followed"
            raise UsageError(problem("bind", what, option, expected, str(got), next_step))
    return replace(options, rule=rule)


def _embed(
    values: np.ndarray, modality: Modality, options: BindOptions, progress: Progress | None
) -> Embedded:
    if isinstance(options.embed, Path):
        return embed_file(options.embed, len(values))
    if callable(options.embed):
        return embed_with(options.embed, values, modality)
    if options.embed == "raw":
        return embed_raw(values, modality)
    train = embed_contrastive if options.embed == "contrastive" else embed_autoencoder
    return train(values, modality, steps=options.steps, seed=options.seed, progress=progress)


def carried(rows: Rows, shared: str, derivations: Sequence[str]) -> np.ndarray:
    """Which rows have what is shared, or something that it can be derived from: bool, (n,)."""
    if shared == TIME:
        return np.ones(len(rows), dtype=bool)
    if shared == LOCATION:
        return np.asarray(np.isfinite(places_of(rows)[0]).all(axis=1))
    has = rows.carries(shared)
    for code, source in enumerate(rows.sources):
        origin = _origin(source.store, shared, derivations)
        if origin and origin[0] in rows.given:
            has = has | (rows.given[origin[0]][:, 0] == code)
    return has


def derivable(store: Store, derivations: Sequence[str]) -> list[str]:
    """Modalities that a store does not have, but can be given by the derivations named."""
    targets = [find_derivation(name).target for name in derivations]
    return [target for target in targets if _origin(store, target, derivations)]


def check_derivations(stores: Sequence[Store], chosen: Sequence[str], names: Sequence[str]) -> None:
    """Refuse a derivation that no store needs: a misunderstanding.

    Raises
    ------
    UsageError
    """
    used = {
        origin[1]
        for store in stores
        for shared in chosen
        if (origin := _origin(store, shared, names)) is not None
    }
    for name in names:
        if find_derivation(name).name not in used:
            wanted = ", ".join(dict.fromkeys(chosen))
            raise UsageError(
                problem("bind", "a derivation that is of no use", "--derive",
                        f"one that gives {wanted} to a store that lacks it", repr(name))
            )  # fmt: skip


def _origin(store: Store, shared: str, derivations: Sequence[str]) -> tuple[str, str] | None:
    """The modality that a store derives the shared one from, and the derivation's name."""
    if shared in store.info.modalities:
        return None
    for name in derivations:
        derivation = find_derivation(name)
        for own, modality in store.info.modalities.items():
            fits = derivation.source_kind == modality.kind and derivation.target == shared
            if fits and (modality.kind == "skeleton" or own == "acc"):
                return own, name
    return None


def shared_values(
    sides: Sequence[Rows], shared: str, derivations: Sequence[str] = ()
) -> tuple[np.ndarray, Modality]:
    """The shared modality of all rows as one array; longer windows are stretched to the shortest.

    Returns
    -------
    values : ndarray, shape (n_a + n_b, T, ...), float32
        T is the smallest number of frames among the stores used.
    modality : Modality
        Of the first store used.

    Raises
    ------
    BindingError
        Kind, unit, axes behind time or duration differ.
    """
    loaded: list[tuple[int, np.ndarray, np.ndarray, Modality, Store]] = []
    for number, side in enumerate(sides):
        for code, source in enumerate(side.sources):
            origin = _origin(source.store, shared, derivations)
            given = side.given.get(origin[0] if origin else shared)
            rows = np.flatnonzero(given[:, 0] == code) if given is not None else np.array([], int)
            if origin and shared in side.given:  # measured beats derived
                rows = rows[side.given[shared][rows, 0] < 0]
            if len(rows) and given is not None:
                values, modality = _load(source.store, shared, given[rows, 1], origin)
                loaded.append((number, rows, values, modality, source.store))
    first = loaded[0][3]
    check_comparable([(store, modality) for *_, modality, store in loaded], shared)
    still = first.axes[0].name != "time"
    n_frames = min(values.shape[1] for _, _, values, _, _ in loaded)
    parts = [np.empty((len(side), n_frames, *first.shape[1:]), dtype=np.float32) for side in sides]
    for number, rows, values, _, _ in loaded:
        if values.shape[1] != n_frames and not still:  # stretch works along the first axis
            values = stretch(values.swapaxes(0, 1), n_frames).swapaxes(0, 1)
        parts[number][rows] = values
    union = np.concatenate(parts)
    if not np.isfinite(union).all():
        place = " and ".join(dict.fromkeys(str(store.path) for *_, store in loaded))
        raise BindingError(
            problem("bind", "values that are not finite", place, f"finite {shared}",
                    "NaN or infinity", "Check it with mmbind validate.")
        )  # fmt: skip
    return union, first


def _load(
    store: Store, shared: str, rows: np.ndarray, origin: tuple[str, str] | None
) -> tuple[np.ndarray, Modality]:
    if origin is None:
        return store.load(shared, rows), store.info.modalities[shared]
    own, name = origin
    return derive(store.load(own, rows), store.info.modalities[own], find_derivation(name))


def check_comparable(held: Sequence[tuple[Store, Modality]], shared: str) -> None:
    """Refuse samples whose numbers do not mean the same, as far as is known.

    Raises
    ------
    BindingError
    """
    for other, modality in held:
        reason = why_incomparable(held[0][1], modality)
        if reason:
            place = " and ".join(dict.fromkeys(str(store.path) for store in (held[0][0], other)))
            step = "Convert both with presets that agree."
            raise BindingError(
                problem("bind", f"{shared} differs between the stores", place,
                        "the same kind, unit, axes and duration", reason, step)
            )  # fmt: skip
