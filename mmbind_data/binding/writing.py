"""Describe and write a bound store: attributes, sources, tables, encoder, evaluation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mmbind_data.binding.evaluation import PairingReport
from mmbind_data.binding.rebuild import source_commands
from mmbind_data.embedding.vectors import Embedded
from mmbind_data.io.locations import relative_link
from mmbind_data.spec.store import BinderInfo, BoundInfo, SourceInfo
from mmbind_data.store.bound import ENCODER, EVALUATION, INNER, PAIRS, SOURCES
from mmbind_data.store.dataset import META, PROVENANCE
from mmbind_data.store.pair_table import KINDS, PairTable, Source, bound_digest
from mmbind_data.store.writer import finish_store, write_table
from mmbind_data.store.zarr_format import group_node

PARTNERS = f"{EVALUATION}/partners.parquet"
JUDGEMENT = f"{EVALUATION}/pairing.json"


def describe_bound(
    out: Path,
    rows: PairTable,
    binder: Sequence[BinderInfo],
    report: PairingReport,
    table: pa.Table,
    warnings: Sequence[str],
) -> BoundInfo:
    """What the attributes of a bound store's root say."""
    sources = tuple(source_info(source, out) for source in rows.sources)
    counts = dict(zip(KINDS, np.bincount(rows.kind, minlength=len(KINDS)).tolist(), strict=True))
    return BoundInfo(
        mode="linked",
        shared=rows.shared,
        binder=tuple(binder),
        sources=sources,
        modalities=tuple(rows.given),
        # of the kinds only mean is left out where there is none
        n_rows={name: count for name, count in counts.items() if count or name != "mean"},
        similarity=report.similarity,
        pairing_accuracy=report.pairing_accuracy,
        quality=report.quality,
        reuse=report.reuse,
        warnings=tuple(warnings),
        content_digest=bound_digest(rows.shared, binder, sources, table),
    )


def source_info(source: Source, out: Path) -> SourceInfo:
    """What a bound store remembers of one of its sources."""
    info = source.store.info
    return SourceInfo(
        source_id=source.source_id,
        dataset_id=info.dataset_id,
        dataset_version=info.dataset_version,
        content_digest=info.content_digest,
        n_samples=info.n_samples,
        modalities=info.modalities,
        subjects=tuple(info.subjects),
        partition=info.partition,
        licence=info.licence,
        path=relative_link(source.store.path, out),
        convert=str(source_commands(info)),
    )


def write_bound(
    folder: Path,
    info: BoundInfo,
    table: pa.Table,
    embedded: Sequence[Embedded],
    report: PairingReport,
) -> None:
    """Write a bound store into an empty folder; encoders of later hops are numbered."""
    make_folders(folder)
    for hop, one in enumerate(embedded):
        number = f"-{hop}" if hop else ""
        write_json(folder / ENCODER / f"config{number}.json", dict(one.config))
        if one.weights:
            from safetensors.numpy import save_file

            weights = {name: np.ascontiguousarray(array) for name, array in one.weights.items()}
            save_file(weights, folder / ENCODER / f"model{number}.safetensors")
    write_json(folder / JUDGEMENT, report.document)
    write_table(folder / PARTNERS, report.partners)
    finish_bound(folder, info, table, {"command": "bind", "mmbind": version("mmbind")})


def make_folders(folder: Path, *more: str) -> None:
    """Make the folders of a bound store."""
    for name in (META, EVALUATION, ENCODER, *more):
        (folder / name).mkdir(parents=True)


def finish_bound(folder: Path, info: BoundInfo, table: pa.Table, provenance: Any) -> None:
    """Write pairs, sources, provenance and attributes; the folder is a bound store afterwards.

    Its folders, and the stores of sources that it contains, must exist already.
    """
    nodes = {path.name: group_node() for path in sorted(folder.iterdir())}
    inner = [f"{INNER}/{path.name}" for path in sorted((folder / INNER).glob("*"))]
    write_table(folder / PAIRS, table)
    write_json(folder / SOURCES, [source.model_dump(mode="json") for source in info.sources])
    write_json(folder / PROVENANCE, provenance)
    finish_store(folder, info.model_dump(mode="json"), nodes, inner=inner)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON document in the layout that all documents of mmbind have."""
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
