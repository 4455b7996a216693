"""Find partners by a sensor that both sides have: embed its samples and match the embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mmbind_data.binding.confidence import domain_gap, pair_probabilities, people_of
from mmbind_data.binding.options import DEFAULT_TOP_K, BindOptions, recorded_settings
from mmbind_data.binding.pairing import BindingStep, PairingMethod, Sides, match_groups
from mmbind_data.embedding.autoencoder import embed_autoencoder
from mmbind_data.embedding.contrastive import embed_contrastive
from mmbind_data.embedding.vectors import Embedded, embed_file, embed_raw, embed_with
from mmbind_data.errors import BindingError, UsageError
from mmbind_data.matching.candidates import Matches
from mmbind_data.matching.csls import shortlist
from mmbind_data.matching.dtw import elastic_signals, reranked
from mmbind_data.matching.match import match, match_by_lot, match_candidates
from mmbind_data.matching.rule import MatchRule
from mmbind_data.progress import Progress
from mmbind_data.signal.derived import derive, find_derivation
from mmbind_data.signal.windows import stretch
from mmbind_data.spec.comparison import why_incomparable
from mmbind_data.spec.descriptor import Modality
from mmbind_data.store.dataset import Dataset
from mmbind_data.store.pair_table import PairTable


def pair_by_sensor(
    sides: Sides, shared: str, options: BindOptions, progress: Progress | None = None
) -> BindingStep:
    """Load the shared modality of both sides, find partners, and judge how likely each is right."""
    values, modality = shared_values(sides, shared, options.derive)
    (to_b, to_a), embedded = match_sensor(values, modality, sides, options, progress)
    people = people_of(sides[0]), people_of(sides[1])
    gap = domain_gap(values, modality, embedded.vectors, people, options)
    likely = pair_probabilities(to_b, to_a, 1.0 if gap is None else gap)
    if options.rule.match == "random":
        vectors, k = embedded.vectors, to_b.partner.shape[1]
        rng, n = np.random.default_rng(options.seed), len(sides[0])
        to_b, to_a = match_by_lot(vectors[:n], vectors[n:], k, rng)
    matches = replace(to_b, probability=likely[0]), replace(to_a, probability=likely[1])
    settings, rule = recorded_settings(options, modality.kind), options.weight_rule
    return BindingStep(shared, sides, matches, embedded, settings, gap=gap, weight_rule=rule)


def match_sensor(
    values: np.ndarray,
    modality: Modality,
    sides: Sides,
    options: BindOptions,
    progress: Progress | None = None,
) -> tuple[tuple[Matches, Matches], Embedded]:
    """Embed the shared sensor of both sides and match both ways; labels are never read.

    Parameters
    ----------
    values : ndarray, shape (n_a + n_b, T, ...), float32
    sides : two PairTable
        Candidates, all of which carry the shared modality.

    Raises
    ------
    BindingError
        The embedding is not one vector per sample.

    Notes
    -----
    Source: MMBind paper, section 5.1, eq. 1 and 2; hubness correction and warping are ours.
    """
    options = resolve_options(options, modality.kind, (len(sides[0]), len(sides[1])))
    embedded = _embed(values, modality, options, progress)
    n, rule = len(sides[0]), options.rule
    if rule.match == "random":  # whose weights are those of the pairs that csls finds
        rule = replace(rule, match="csls")
        options = replace(options, rule=rule)
    a, b = embedded.vectors[:n], embedded.vectors[n:]
    group_a, group_b = match_groups(sides, options.group_by)
    try:
        if options.index != "exact":
            return _match_on_index(embedded, values, modality, n, options)
        if not options.warps(modality.kind):
            return match(a, b, rule, group_a=group_a, group_b=group_b), embedded
        if progress:
            progress(0, 1, "comparing candidates elastically")
        if options.group_by is None:
            listed = shortlist(a, b, options.candidates, csls_k=rule.csls_k)
        else:
            many = MatchRule("csls", top_k=options.candidates, csls_k=rule.csls_k)
            listed = match(a, b, many, group_a=group_a, group_b=group_b)
        return rerank_by_dtw(listed, values, modality, n, options), embedded
    except UsageError:
        raise  # it is a ValueError too, and has its sentence
    except ValueError as error:
        raise BindingError(
            cannot="bind",
            problem="options that do not fit",
            at="the data",
            expected="a rule that applies",
            got=error,
        ) from error


def rerank_by_dtw(
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
    """As `match_sensor`, with candidates from an approximate index, whose recall is recorded."""
    from mmbind_data.matching.approximate import approximate_candidates, match_approximately

    rule, index = options.rule, options.index
    unfit = {
        "--group-by": options.group_by is not None,
        "--match sinkhorn": rule.match == "sinkhorn",
        "--pca": rule.pca is not None,
    }
    if index == "exact" or any(unfit.values()):
        raise UsageError(
            cannot="bind",
            problem="an approximate index does not offer that",
            at=f"--index {index}",
            expected="--index exact",
            got=" and ".join(name for name, given in unfit.items() if given),
        )
    a, b, seed = embedded.vectors[:n], embedded.vectors[n:], options.seed
    if options.warps(modality.kind):
        listed, recall = approximate_candidates(a, b, options.candidates, index=index, seed=seed)
        matches = rerank_by_dtw(listed, values, modality, n, options)
    else:
        matches, recall = match_approximately(a, b, rule, index=index, seed=seed)
    recorded = {
        "index": index,
        "index_recall_best": round(recall.best, 4),
        "index_recall_listed": round(recall.listed, 4),
        "index_rows_judged": recall.n,
    }
    return matches, Embedded(embedded.vectors, {**embedded.config, **recorded}, embedded.weights)


def resolve_options(options: BindOptions, kind: str, n: tuple[int, int]) -> BindOptions:
    """Options with as many partners as there can be, if their number is the default.

    Parameters
    ----------
    kind : str
        The modality kind.
    n : (int, int)
        Samples of each side.

    Raises
    ------
    UsageError
        A rule that cannot be followed, or a part of it that would have no effect.
    """
    rule, warps = options.rule, options.warps(kind)
    most = min(*n, options.candidates) if warps else min(n)
    if rule.top_k == DEFAULT_TOP_K and rule.top_k > most:
        rule = replace(rule, top_k=max(1, most))
        options = replace(options, rule=rule)
    if rule.top_k > min(n):
        _refuse_rule("--top-k", f"at most the {min(n)} samples of a side", rule.top_k)
    if warps:
        step = "Give --rerank none, or leave it out."
        where = "where candidates are compared by time warping"
        if rule.top_k > options.candidates:
            _refuse_rule("--top-k", f"at most the {options.candidates} of --candidates", rule.top_k)
        if rule.match == "sinkhorn":
            _refuse_rule("--match", f"best, csls or mutual {where}", rule.match, step)
        if rule.metric != "cosine":
            _refuse_rule("--metric", f"none {where}", rule.metric, step)
        if rule.pca is not None:
            _refuse_rule("--pca", f"none {where}", rule.pca, step)
    return options


def _refuse_rule(option: str, expected: str, got: object, step: str = "") -> None:
    what = "a rule that cannot be followed"
    raise UsageError(cannot="bind", problem=what, at=option, expected=expected, got=got, fix=step)


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


def check_sensor(sides: Sides, shared: str, options: BindOptions, exact: bool) -> None:
    """Refuse options that the samples of a sensor cannot follow; see `PairingMethod.check`.

    Raises
    ------
    UsageError, BindingError
    """
    found = [source.store.info.modalities.get(shared) for source in sides[0].sources]
    kind = next((one.kind for one in found if one), "inertial")  # else a derived motion
    n = len(sides[0]), len(sides[1])
    resolve_options(options, kind, n)
    match_groups(sides if exact else (sides[1], sides[1]), options.group_by)
    if isinstance(options.embed, Path):
        embed_file(options.embed, sum(n) if exact else None)


def has_sensor(rows: PairTable, shared: str, options: BindOptions) -> np.ndarray:
    """Which rows have a modality, or something that it can be derived from: bool, shape (n,)."""
    has = rows.carries(shared)
    for code, source in enumerate(rows.sources if options.derive else ()):
        origin = _origin(source.store, shared, options.derive)
        if origin and origin[0] in rows.given:
            has = has | (rows.given[origin[0]][:, 0] == code)
    return has


def derivable(store: Dataset, derivations: Sequence[str]) -> list[str]:
    """Modalities that a store does not have, but can be given by the derivations named."""
    targets = [find_derivation(name).target for name in derivations]
    return [target for target in targets if _origin(store, target, derivations)]


def check_derivations(
    stores: Sequence[Dataset], chosen: Sequence[str], names: Sequence[str]
) -> None:
    """Refuse a derivation that no store needs: a misunderstanding.

    Raises
    ------
    UsageError
    """
    origins = (_origin(store, shared, names) for store in stores for shared in chosen)
    used = {origin[1] for origin in origins if origin}
    for name in names:
        if find_derivation(name).name not in used:
            shared = ", ".join(dict.fromkeys(chosen))
            raise UsageError(
                cannot="bind",
                problem="a derivation that is of no use",
                at="--derive",
                expected=f"one that gives {shared} to a store that lacks it",
                got=repr(name),
            )


def _origin(store: Dataset, shared: str, derivations: Sequence[str]) -> tuple[str, str] | None:
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
    sides: Sides, shared: str, derivations: Sequence[str] = ()
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
    loaded: list[tuple[np.ndarray, np.ndarray, Modality, Dataset]] = []
    for side, start in zip(sides, (0, len(sides[0])), strict=True):
        for code, source in enumerate(side.sources):
            origin = _origin(source.store, shared, derivations)
            given = side.given.get(origin[0] if origin else shared)
            if given is None:
                continue
            here = given[:, 0] == code
            if origin and shared in side.given:  # measured beats derived
                here &= side.given[shared][:, 0] < 0
            if here.any():
                values, modality = _load(source.store, shared, given[here, 1], origin)
                loaded.append((start + np.flatnonzero(here), values, modality, source.store))
    first = loaded[0][2]
    check_comparable([(store, modality) for *_, modality, store in loaded], shared)
    n_frames = min(values.shape[1] for _, values, _, _ in loaded)
    union = np.empty((sum(map(len, sides)), n_frames, *first.shape[1:]), dtype=np.float32)
    for rows, values, _, _ in loaded:
        if values.shape[1] != n_frames and first.axes[0].name == "time":
            # stretch works along the first axis
            values = stretch(values.swapaxes(0, 1), n_frames).swapaxes(0, 1)
        union[rows] = values
    places = dict.fromkeys(str(store.path) for *_, store in loaded)
    check_finite(union, shared, "bind", " and ".join(places))
    return union, first


def check_finite(values: np.ndarray, shared: str, doing: str, at: str) -> None:
    """Refuse samples with NaN or infinity.

    Raises
    ------
    BindingError
    """
    if not np.isfinite(values).all():
        raise BindingError(
            cannot=doing,
            problem="values that are not finite",
            at=at,
            expected=f"finite {shared}",
            got="NaN or infinity",
            fix="Check it with mmbind validate.",
        )


def _load(
    store: Dataset, shared: str, rows: np.ndarray, origin: tuple[str, str] | None
) -> tuple[np.ndarray, Modality]:
    if origin is None:
        return store.load(shared, rows), store.info.modalities[shared]
    own, name = origin
    return derive(store.load(own, rows), store.info.modalities[own], find_derivation(name))


def check_comparable(held: Sequence[tuple[Dataset, Modality]], shared: str) -> None:
    """Refuse samples whose numbers do not mean the same, as far as is known.

    Raises
    ------
    BindingError
    """
    first, described = held[0]
    for other, modality in held:
        reason = why_incomparable(described, modality)
        if reason:
            raise BindingError(
                cannot="bind",
                problem=f"{shared} differs between the stores",
                at=" and ".join(dict.fromkeys((str(first.path), str(other.path)))),
                expected="the same kind, unit, axes and duration",
                got=reason,
                fix="Convert both with presets that agree.",
            )


BY_SENSOR = PairingMethod(has_sensor, check_sensor, pair_by_sensor, completes=True)
