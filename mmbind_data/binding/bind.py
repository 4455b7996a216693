"""Bind datasets: find partners for what two of them share, and go on with the next one."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mmbind_data.binding.completion import (
    candidates,
    complete_sides,
    concatenate,
    refuse_means,
    shares,
    stack_sources,
)
from mmbind_data.binding.evaluation import pairing_warnings, report_pairing
from mmbind_data.binding.inputs import check_request, open_inputs, pairing_method
from mmbind_data.binding.options import BindOptions
from mmbind_data.binding.pairing import BindingStep
from mmbind_data.binding.writing import describe_bound, write_bound
from mmbind_data.errors import BindingError
from mmbind_data.io.atomic import check_output, staged
from mmbind_data.matching.match import normalise_weights
from mmbind_data.progress import Progress
from mmbind_data.spec.store import LABEL, BinderInfo, BoundInfo
from mmbind_data.store.bound import BoundDataset
from mmbind_data.store.dataset import Dataset
from mmbind_data.store.pair_table import MEAN, PSEUDO, PairTable, pairs_table


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
        Current locations of the sources of bound inputs.
    overwrite : bool
    progress : callable (done, total, text), optional

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
    sides, chosen, options = check_request(opened, shared, options)
    rows, steps = sides[0], list[BindingStep]()
    for side, name in zip(sides[1:], chosen, strict=True):
        rows, step = join(rows, side, name, options, progress)
        rows = _weighted(rows, step, options.softness)
        steps.append(step)
    binder = _binders(opened, steps, options)
    report = report_pairing(steps, options.softness)
    with staged(out, overwrite=overwrite, doing="bind") as folder:
        table = pairs_table(rows)
        info = describe_bound(
            out, rows, binder, report, table, pairing_warnings(steps, report.quality, chosen)
        )
        write_bound(folder, info, table, [step.embedded for step in steps], report)
    return info


def join(
    first: PairTable,
    second: PairTable,
    shared: str,
    options: BindOptions,
    progress: Progress | None = None,
) -> tuple[PairTable, BindingStep]:
    """Bind two sets of rows by what they share.

    Returns
    -------
    PairTable
        Completed rows of the first, completed rows of the second, then rows that stay as they were.
    BindingStep
        The candidates of both sides, and their partners.

    Raises
    ------
    BindingError
        No sample found a partner.
    """
    method = pairing_method(shared)
    first, second = stack_sources(first, second)
    refuse_means((first, second), mean=options.mean, top_k=options.rule.top_k)
    chosen_a, chosen_b = (
        candidates(rows, method.carries(rows, shared, options)) for rows in (first, second)
    )
    step = method.pair((first.take(chosen_a), second.take(chosen_b)), shared, options, progress)
    if all((match.partner < 0).all() for match in step.matches):
        raise BindingError(
            cannot="bind",
            problem="no sample found a partner",
            at=first.place,
            expected="one pair or more",
            got="none",
            fix="Loosen --min-similarity, --match, --group-by or --window.",
        )
    total = complete_sides(
        (first, second), (chosen_a, chosen_b), step.matches, shared, mean=options.mean
    )
    return total, step


def check_binding(
    opened: Sequence[Dataset | BoundDataset], shared: str | Sequence[str], options: BindOptions
) -> dict[str, int]:
    """Refuse what `bind` refuses, as far as no sample need be compared for it.

    Gives, by the ids of an input's sources, how many samples carry what its binding shares.

    Raises
    ------
    UsageError, BindingError
        See `bind`.
    """
    sides, chosen, options = check_request(opened, shared, options)
    earlier, gains = sides[0], np.zeros(len(sides[0]), dtype=bool)
    for side, name in zip(sides[1:], chosen, strict=True):
        method = pairing_method(name)
        first, second = stack_sources(earlier, side)
        refuse_means((first, second), mean=options.mean, top_k=options.rule.top_k)
        own, theirs = (method.carries(rows, name, options) for rows in (first, second))
        most = own | gains if method.completes else own
        compared = first.take(candidates(first, most)), second.take(candidates(second, theirs))
        method.check(compared, name, options, bool((most == own).all()))
        earlier = concatenate([first, second], list({**first.given, **second.given}), (name,))
        gains = np.concatenate([gains | own, theirs])
    return {
        " + ".join(source.source_id for source in side.sources): int(
            pairing_method(name).carries(side, name, options).sum()
        )
        for side, name in zip(sides, [chosen[0], *chosen], strict=True)
    }


def _weighted(rows: PairTable, step: BindingStep, softness: float) -> PairTable:
    """Give the rows of the last binding their loss weights; others keep theirs, originals have 1.

    Pairs that are judged have the product of their probabilities already. Else several partners of
    an anchor share 1, and rows of one partner each are weighted by the rule.
    """
    weight, last = rows.weight.copy(), rows.hop == len(rows.shared) - 1
    pseudo = np.flatnonzero((rows.kind == PSEUDO) & last)
    if not step.judged and step.several:
        weight[pseudo] = shares(rows, pseudo, softness)
    elif not step.judged:
        weight[pseudo] = normalise_weights(rows.similarity[pseudo], step.weight_rule)
    means = np.flatnonzero((rows.kind == MEAN) & last)
    weight[means] = shares(rows, means, softness)
    return replace(rows, weight=weight)


def _binders(
    opened: Sequence[Dataset | BoundDataset], steps: Sequence[BindingStep], options: BindOptions
) -> list[BinderInfo]:
    """How all partners were found: by the bindings of the inputs, then by these steps.

    Raises
    ------
    BindingError
        Labels were compared by another sentence model in an input.
    """
    parents = [store.info if isinstance(store, BoundDataset) else None for store in opened]
    earlier = [one for info in parents if info for one in info.binder]
    found = []
    for number, step in enumerate(steps):
        parent = parents[number + 1] or (parents[0] if number == 0 else None)
        binder = BinderInfo(
            **step.recorded(),
            parent_digest=parent.content_digest if parent else None,
            weight_rule="shares" if step.shares else step.weight_rule,
            seed=options.seed,
        )
        found.append(binder)
    # another sentence model: its similarities mean something else
    labels = [one.embedding for one in found if one.shared == LABEL]
    for store in opened:
        binders = store.info.binder if isinstance(store, BoundDataset) else ()
        before = [one.embedding for one in binders if one.shared == LABEL]
        for then, now in itertools.product(before, labels):
            if _model(then) != _model(now):
                raise BindingError(
                    cannot="bind",
                    problem="labels were compared by another model",
                    at=store.path,
                    expected=f"--label-model {then.get('model')}",
                    got=now.get("model"),
                    fix="Take that one, or bind anew.",
                )
    return [*earlier, *found]


def _model(embedding: Mapping[str, Any]) -> object:
    return embedding.get("sha256") or embedding.get("model")
