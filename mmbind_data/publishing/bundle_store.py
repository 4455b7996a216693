"""The bound store as it is published: self-contained, or pairs without a byte of the sources."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from mmbind_data.binding.writing import JUDGEMENT, PARTNERS, finish_bound, make_folders, write_json
from mmbind_data.progress import Progress
from mmbind_data.publishing.rights import Mode
from mmbind_data.spec.store import BoundInfo, SourceInfo
from mmbind_data.store.bound import ENCODER, INNER, BoundDataset
from mmbind_data.store.dataset import PROVENANCE, Dataset, read_table
from mmbind_data.store.lineage import named_rows, named_uids, rows_of, sample_digest
from mmbind_data.store.pair_table import bound_digest
from mmbind_data.store.partitioning import cut
from mmbind_data.store.writer import write_store, write_table

LABELS = ("anchor_label", "partner_label")
# what the configuration of an encoder says of the samples that it was trained on
STATISTICS = ("final_loss", "mean", "std")


def write_published(
    folder: Path,
    bound: BoundDataset,
    mode: Mode,
    *,
    encoder: bool,
    progress: Progress | None = None,
) -> BoundInfo:
    """Write the bound store of a bundle into an empty folder.

    Parameters
    ----------
    folder : Path
    bound : BoundDataset
        Its sources must be there.
    mode : {"self-contained", "index-only"}
        index-only: no array, no embedding, no label of a sample, nothing of a subject but the id.
    encoder : bool
        Whether the weights of encoders that saw the sources may be in it.
    progress : callable (done, total, text), optional

    Returns
    -------
    BoundInfo
        Its content digest is that of ``bound``: the pairs are the same.
    """
    contained = mode == "self-contained"
    make_folders(folder, *([INNER] if contained else []))
    table, sources = plain_texts(bound.pairs()), []
    for number, source in enumerate(bound.info.sources):
        if progress:
            progress(number, len(bound.info.sources), source.source_id)
        store = bound.source(source.source_id)
        named = named_uids(table, bound.info.modalities, source.source_id)
        changes = {"path": local_name(source), "sample_digest": sample_digest(store, named)}
        if contained:
            rows = named_rows(store, named)
            kept = [name for name in store.info.modalities if name in named]
            inner = folder / INNER / source.source_id
            written = write_store(inner, cut(store, rows, kept, command="publish"))
            changes["stored_digest"] = written.content_digest
            table = renumbered(
                table, bound.info.modalities, source.source_id, Dataset(inner, written)
            )
        sources.append(source.model_copy(update=changes))
    info = published_info(bound, mode, sources, table)
    _write_evaluation(folder, bound, labels=contained)
    _write_encoders(folder, bound, weights=encoder)
    finish_bound(folder, info, table, provenance(bound, "publish", mode=mode))
    return info


def provenance(bound: BoundDataset, command: str, **facts: str) -> dict[str, Any]:
    """Provenance of a store that a command made of a bound store."""
    parent = json.loads((bound.path / PROVENANCE).read_text())
    return {"command": command, "mmbind": version("mmbind"), **facts, "parent": parent}


def published_info(
    bound: BoundDataset, mode: Mode | Literal["linked"], sources: list[SourceInfo], table: pa.Table
) -> BoundInfo:
    """Attributes of the same pairs in another mode."""
    info = bound.info
    digest = bound_digest(info.shared, info.binder, sources, table)
    changes = {"mode": mode, "sources": tuple(sources), "content_digest": digest}
    return info.model_copy(update=changes)


def local_name(source: SourceInfo) -> str:
    """Name that a source's commands give to the store that they make."""
    return f"{source.partition.node if source.partition else source.dataset_id}.zarr"


def plain_texts(table: pa.Table) -> pa.Table:
    """The table without dictionary columns, which the Hugging Face viewer does not read.

    Columns that are all null become text, so that tables can be joined.
    """
    types = {pa.null(): pa.string()}
    fields = [
        pa.field(field.name, types.get(field.type, getattr(field.type, "value_type", field.type)))
        for field in table.schema
    ]
    return table.cast(pa.schema(fields))


def renumbered(
    table: pa.Table, modalities: Sequence[str], source_id: str, store: Dataset
) -> pa.Table:
    """The table of pairs with the row numbers that a store has for the uids of one source.

    Every uid must be there.
    """
    for name in modalities:
        mine = np.array(table[f"{name}.source"].to_pylist(), dtype=object) == source_id
        row = table[f"{name}.row"].fill_null(-1).to_numpy().astype(np.int64)
        row[mine] = rows_of(store, table[f"{name}.uid"].filter(pa.array(mine)).combine_chunks())
        place = table.column_names.index(f"{name}.row")
        table = table.set_column(place, f"{name}.row", pa.array(row, mask=row < 0))
    return table


def _write_evaluation(folder: Path, bound: BoundDataset, *, labels: bool) -> None:
    """Copy the evaluation of the pairing: counts by class always, labels of samples if allowed."""
    partners = read_table(bound.path / PARTNERS)
    if not labels:
        for name in LABELS:
            place = partners.column_names.index(name)
            partners = partners.set_column(place, name, pa.nulls(len(partners), pa.string()))
    write_table(folder / PARTNERS, partners)
    write_json(folder / JUDGEMENT, json.loads((bound.path / JUDGEMENT).read_text()))


def _write_encoders(folder: Path, bound: BoundDataset, *, weights: bool) -> None:
    """Copy encoders, or only their configuration without anything measured on samples."""
    for path in sorted((bound.path / ENCODER).glob("*")):
        if path.name.startswith("config"):
            config = json.loads(path.read_text())
            kept = {name: config[name] for name in config if weights or name not in STATISTICS}
            write_json(folder / ENCODER / path.name, kept)
        elif weights and path.suffix == ".safetensors":
            (folder / ENCODER / path.name).write_bytes(path.read_bytes())
