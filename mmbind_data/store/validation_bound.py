"""Check the values of a bound store: every row of the pairs table against its sources."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmbind_data.errors import Finding, FormatError, IntegrityError
from mmbind_data.spec.store import BoundInfo
from mmbind_data.store.bound import PAIRS, BoundDataset
from mmbind_data.store.dataset import Dataset
from mmbind_data.store.pair_table import FIXED_COLUMNS, bound_digest

BIND_AGAIN = "Bind the stores again."


def check_pairs_structure(bound: BoundDataset) -> Iterator[Finding]:
    """Columns and row counts of the pairs table."""
    try:
        table = bound.pairs()
    except IntegrityError as error:
        yield Finding("table-unreadable", "error", PAIRS, str(error), BIND_AGAIN)
        return
    columns = [*FIXED_COLUMNS]
    for name in bound.info.modalities:
        columns += [f"{name}.source", f"{name}.row", f"{name}.uid"]
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        text = f"columns missing: {', '.join(missing)}"
        yield Finding("column-missing", "error", PAIRS, text, BIND_AGAIN)
    elif table.num_rows != sum(bound.info.n_rows.values()):
        text = f"{table.num_rows} rows, the attributes say {bound.info.n_rows}"
        yield Finding("table-rows", "error", PAIRS, text, BIND_AGAIN)


def check_bound_values(bound: BoundDataset) -> Iterator[Finding]:
    """Digest, ranges, and that every reference leads to the sample it names."""
    table, info = bound.pairs(), bound.info
    similarity = np.asarray(table["similarity"].drop_null())
    if len(similarity) and np.abs(similarity).max() > 1.0 + 1e-6:
        yield Finding("value-range", "error", PAIRS, "similarity outside -1..1", BIND_AGAIN)
    if not (np.isfinite(similarity).all() and np.isfinite(np.asarray(table["weight"])).all()):
        text = "a similarity or a weight is not finite"
        yield Finding("value-not-finite", "error", PAIRS, text, BIND_AGAIN)
    elif not _is_digest_of(table, info):
        text = "the values are not those of content_digest"
        yield Finding("digest-differs", "error", PAIRS, text, BIND_AGAIN)
    yield from _check_means(table)
    known = {source.source_id for source in info.sources}
    for name in ("anchor_source", *(f"{name}.source" for name in info.modalities)):
        unknown = set(table[name].drop_null().to_pylist()) - known
        if unknown:
            text = f"refers to {', '.join(sorted(unknown))}, which is not one of the sources"
            yield Finding("reference-broken", "error", f"{PAIRS} {name}", text, BIND_AGAIN)
    for source in bound.info.sources:
        if not bound.attached(source.source_id):
            text = f"{source.source_id} is not attached: rows are not checked against it"
            fix = f"mmbind hydrate, with --source {source.source_id}=STORE"
            yield Finding("source-not-attached", "warning", source.source_id, text, fix)
            continue
        try:
            store = bound.source(source.source_id)
            yield from _check_references(bound, source.source_id, store, table)
        except (FormatError, IntegrityError) as error:
            fix = f"Make it again: {source.convert}"
            yield Finding("source-missing", "error", source.source_id, str(error), fix)


def _check_means(table: pa.Table) -> Iterator[Finding]:
    """Rows of kind mean: ranks of one anchor from 0 on, whose weights share 1."""
    table = table.filter(pc.equal(table["kind"].cast(pa.string()), "mean"))
    if not len(table):
        return
    rank = table["rank"].to_numpy().astype(np.int64)
    group = np.cumsum(rank == 0) - 1
    first = np.flatnonzero(rank == 0)
    anchor = np.array(table["anchor_uid"].to_pylist(), dtype=object)
    whole = rank[0] == 0 and (rank == np.arange(len(rank)) - first[group]).all()
    if not whole or (anchor != anchor[first[group]]).any():
        text = "the mean rows of an anchor are not ranks 0, 1, ... one after the other"
        yield Finding("mean-broken", "error", f"{PAIRS} rank", text, BIND_AGAIN)
        return
    total = np.bincount(group, table["weight"].to_numpy().astype(np.float64))
    if np.abs(total - 1.0).max() > 1e-5:
        text = "the weights of the mean rows of an anchor do not add up to 1"
        yield Finding("mean-broken", "error", f"{PAIRS} weight", text, BIND_AGAIN)


def _is_digest_of(table: pa.Table, info: BoundInfo) -> bool:
    """Whether the content digest fits, by today's rule or by that of mmbind 0.1."""
    return any(
        bound_digest(info.shared, info.binder, info.sources, table, row_numbers=numbers)
        == info.content_digest
        for numbers in (False, True)
    )


def _check_references(
    bound: BoundDataset, source_id: str, store: Dataset, table: Any
) -> Iterator[Finding]:
    uids = np.array(store.samples()["uid"].to_pylist())
    anchors = np.array(table["anchor_source"].to_pylist(), dtype=object) == source_id
    if set(table["anchor_uid"].filter(pa.array(anchors)).to_pylist()) - set(uids.tolist()):
        text = f"an anchor that {source_id} does not hold"
        yield Finding("reference-broken", "error", f"{PAIRS} anchor_uid", text, BIND_AGAIN)
    for name in bound.info.modalities:
        here = np.flatnonzero(
            np.array(table[f"{name}.source"].to_pylist(), dtype=object) == source_id
        )
        if not len(here):
            continue
        rows = np.asarray(table[f"{name}.row"].take(here).fill_null(-1))
        if rows.min() < 0 or rows.max() >= len(uids) or name not in store.info.modalities:
            text = f"rows of {source_id} that do not exist"
            yield Finding("reference-broken", "error", f"{PAIRS} {name}", text, BIND_AGAIN)
            continue
        wrong = np.flatnonzero(uids[rows] != np.array(table[f"{name}.uid"].take(here).to_pylist()))
        if len(wrong):
            text = f"row {here[wrong[0]]} names another uid than its source has"
            yield Finding("reference-broken", "error", f"{PAIRS} {name}", text, BIND_AGAIN)
        if not store.present(name)[rows].all():
            text = f"refers to samples of {source_id} that lack the modality"
            yield Finding("reference-absent", "error", f"{PAIRS} {name}", text, BIND_AGAIN)
