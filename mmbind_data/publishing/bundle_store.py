"""The bound store as it is published: self-contained, or pairs without a byte of the sources."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from mmbind_data.progress import Progress
from mmbind_data.publishing.rights import Mode
from mmbind_data.spec.store import BoundInfo, SourceInfo
from mmbind_data.store.bound import ENCODER, EVALUATION, INNER, PAIRS, SOURCES, BoundDataset
from mmbind_data.store.dataset import META, PROVENANCE, Dataset, read_table
from mmbind_data.store.lineage import named_rows, named_uids, rows_of, sample_digest
from mmbind_data.store.pair_table import bound_digest
from mmbind_data.store.partitioning import cut
from mmbind_data.store.writer import finish_store, write_store, write_table
from mmbind_data.store.zarr_format import group_node

PARTNERS = f"{EVALUATION}/partners.parquet"
JUDGEMENT = f"{EVALUATION}/pairing.json"
LABELS = ("anchor_label", "partner_label")
# of the samples that an encoder was trained on
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
    for name in (META, EVALUATION, ENCODER, *([INNER] if contained else [])):
        (folder / name).mkdir(parents=True)
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
    parent = bound.path / PROVENANCE
    provenance = {"command": "publish", "mmbind": version("mmbind"), "mode": mode,
                  "parent": json.loads(parent.read_text())}  # fmt: skip
    write_bound_tables(folder, info, table, provenance)
    return info


def published_info(
    bound: BoundDataset, mode: Literal["linked", "self-contained", "index-only"],
    sources: Sequence[SourceInfo], table: pa.Table,
) -> BoundInfo:  # fmt: skip
    """Attributes of the same pairs in another mode."""
    info = bound.info
    digest = bound_digest(info.shared, info.binder, sources, table)
    changes = {"mode": mode, "sources": tuple(sources), "content_digest": digest}
    return info.model_copy(update=changes)


def write_bound_tables(folder: Path, info: BoundInfo, table: pa.Table, provenance: Any) -> None:
    """Write pairs, sources, provenance and attributes; the folder is a store afterwards.

    Its folders, and the stores of sources that it contains, are there already.
    """
    groups = [path.name for path in sorted(folder.iterdir())]
    inner = [f"{INNER}/{path.name}" for path in sorted((folder / INNER).glob("*"))]
    write_table(folder / PAIRS, table)
    write_json(folder / SOURCES, [source.model_dump(mode="json") for source in info.sources])
    write_json(folder / PROVENANCE, provenance)
    nodes = {name: group_node() for name in groups}
    finish_store(folder, info.model_dump(mode="json"), nodes, inner=inner)


def local_name(source: SourceInfo) -> str:
    """What the source's `convert` command calls the store that it makes."""
    return f"{source.partition.node if source.partition else source.dataset_id}.zarr"


def plain_texts(table: pa.Table) -> pa.Table:
    """Texts as texts: other programs, the Hugging Face viewer first, read no coded columns."""
    for place, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            column = table[field.name].cast(field.type.value_type)
            table = table.set_column(place, field.name, column)
    return table.replace_schema_metadata(None)


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


def write_json(path: Path, value: Any) -> None:
    """Write a document as all of mmbind's are."""
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_evaluation(folder: Path, bound: BoundDataset, *, labels: bool) -> None:
    """Copy what pairing was judged to be; counts by class stay, labels of samples may not."""
    partners = read_table(bound.path / PARTNERS)
    if not labels:
        for name in LABELS:
            place = partners.column_names.index(name)
            partners = partners.set_column(place, name, pa.nulls(len(partners), pa.string()))
    write_table(folder / PARTNERS, partners)
    write_json(folder / JUDGEMENT, json.loads((bound.path / JUDGEMENT).read_text()))


def _write_encoders(folder: Path, bound: BoundDataset, *, weights: bool) -> None:
    """Copy encoders, or only what they are, without anything measured on samples."""
    for path in sorted((bound.path / ENCODER).glob("*")):
        if path.name.startswith("config"):
            config = json.loads(path.read_text())
            kept = {name: config[name] for name in config if weights or name not in STATISTICS}
            write_json(folder / ENCODER / path.name, kept)
        elif weights and path.suffix == ".safetensors":
            (folder / ENCODER / path.name).write_bytes(path.read_bytes())
