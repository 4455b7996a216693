"""Check a bound store: the table of pairs, and every row of it against its sources."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmbind_data.errors import Finding, FormatError, IntegrityError
from mmbind_data.spec.store import BoundInfo
from mmbind_data.store.bound import PAIRS, BoundDataset
from mmbind_data.store.dataset import Dataset
from mmbind_data.store.pair_table import FIXED_COLUMNS, bound_digest

_finding = partial(Finding, fix="Bind the stores again.")


def check_pairs_structure(bound: BoundDataset) -> Iterator[Finding]:
    """Columns and row counts of the pairs table."""
    try:
        table = bound.pairs()
    except IntegrityError as error:
        yield _finding("table-unreadable", PAIRS, str(error))
        return
    parts = ("source", "row", "uid")
    columns = [f"{name}.{part}" for name in bound.info.modalities for part in parts]
    missing = [name for name in (*FIXED_COLUMNS, *columns) if name not in table.column_names]
    if missing:
        yield _finding("column-missing", PAIRS, f"columns missing: {', '.join(missing)}")
    elif table.num_rows != sum(bound.info.n_rows.values()):
        text = f"{table.num_rows} rows, the attributes say {bound.info.n_rows}"
        yield _finding("table-rows", PAIRS, text)


def check_bound_values(bound: BoundDataset) -> Iterator[Finding]:
    """Check the digest, the ranges, and that every reference names the sample that it points to."""
    table, info = bound.pairs(), bound.info
    similarity = np.asarray(table["similarity"].drop_null())
    if len(similarity) and np.abs(similarity).max() > 1.0 + 1e-6:
        yield _finding("value-range", PAIRS, "similarity outside -1..1")
    if not (np.isfinite(similarity).all() and np.isfinite(np.asarray(table["weight"])).all()):
        yield _finding("value-not-finite", PAIRS, "a similarity or a weight is not finite")
    elif not _is_digest_of(table, info):
        yield _finding("digest-differs", PAIRS, "the values are not those of content_digest")
    yield from _check_means(table)
    known = {source.source_id for source in info.sources}
    for name in ("anchor_source", *(f"{name}.source" for name in info.modalities)):
        unknown = set(table[name].drop_null().to_pylist()) - known
        if unknown:
            text = f"refers to {', '.join(sorted(unknown))}, which is not one of the sources"
            yield _finding("reference-broken", f"{PAIRS} {name}", text)
    for source in info.sources:
        where = source.source_id
        if not bound.attached(where):
            text = f"{where} is not attached: rows are not checked against it"
            fix = f"mmbind hydrate, with --source {where}=STORE"
            yield _finding("source-not-attached", where, text, fix=fix, severity="warning")
            continue
        try:
            yield from _check_references(bound, where, bound.source(where), table)
        except (FormatError, IntegrityError) as error:
            fix = f"Make it again: {source.convert}"
            yield _finding("source-missing", where, str(error), fix=fix)


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
        yield _finding("mean-broken", f"{PAIRS} rank", text)
        return
    total = np.bincount(group, table["weight"].to_numpy().astype(np.float64))
    if np.abs(total - 1.0).max() > 1e-5:
        text = "the weights of the mean rows of an anchor do not add up to 1"
        yield _finding("mean-broken", f"{PAIRS} weight", text)


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
        yield _finding("reference-broken", f"{PAIRS} anchor_uid", text)
    for name in bound.info.modalities:
        here = np.flatnonzero(
            np.array(table[f"{name}.source"].to_pylist(), dtype=object) == source_id
        )
        if not len(here):
            continue
        rows = np.asarray(table[f"{name}.row"].take(here).fill_null(-1))
        if rows.min() < 0 or rows.max() >= len(uids) or name not in store.info.modalities:
            text = f"rows of {source_id} that do not exist"
            yield _finding("reference-broken", f"{PAIRS} {name}", text)
            continue
        wrong = np.flatnonzero(uids[rows] != np.array(table[f"{name}.uid"].take(here).to_pylist()))
        if len(wrong):
            text = f"row {here[wrong[0]]} names another uid than its source has"
            yield _finding("reference-broken", f"{PAIRS} {name}", text)
        if not store.present(name)[rows].all():
            text = f"refers to samples of {source_id} that lack the modality"
            yield _finding("reference-absent", f"{PAIRS} {name}", text)
