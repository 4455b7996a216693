"""Cut the store of a node out of a converted one: some subjects and modalities, nothing else.

Arrays of the dropped modalities are not written, so that the node cannot read them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from mmbind_data.errors import UsageError, suggest
from mmbind_data.io.atomic import check_output, staged
from mmbind_data.signal.point_clouds import RaggedPoints
from mmbind_data.spec.store import DatasetInfo, PartitionInfo
from mmbind_data.store.dataset import (
    CODED_COLUMNS,
    DESCRIPTOR,
    PROVENANCE,
    RAW_FILES,
    Dataset,
    open_dataset,
    read_table,
)
from mmbind_data.store.writer import StoreContent, shard_rows, write_store


def partition(
    source: str | Path,
    out: str | Path,
    *,
    subjects: Sequence[str] | None = None,
    modalities: Sequence[str] | None = None,
    labels: Literal["all", "none"] = "all",
    where: Mapping[str, Sequence[str]] | None = None,
    node: str | None = None,
    overwrite: bool = False,
) -> DatasetInfo:
    """Write the store of one node.

    Parameters
    ----------
    source : path
        A converted store, or a partition of one.
    out : path
        The node's store.
    subjects : sequence of str, optional
        Subjects whose samples the node owns; all by default.
    modalities : sequence of str, optional
        Modalities that the node measures; all by default. Samples without any are left out.
    labels : {"all", "none"}
        "none": the node has no labels.
    where : mapping of column to values, optional
        Only samples whose text in that column of the sample table is among the values, such as
        ``{"label_text": ["wave", "clap"]}``; of several columns, all must agree.
    node : str, optional
        The node's name; by default the file name without its ending.
    overwrite : bool

    Returns
    -------
    DatasetInfo
        Attributes of the written store.

    Raises
    ------
    UsageError
        Unknown subject, modality, column or value, or nothing is left.
    FormatError, OutputError
    """
    out = Path(out)
    check_output(out, overwrite=overwrite, doing="partition", inputs=[source])
    store, rows, kept, chosen = _select(source, subjects, modalities, where)
    content = cut(store, rows, kept, labels=labels, command="partition")
    before = store.info.partition
    filters = {**((before and before.where) or {}), **_texts(where)}
    everyone = subjects is None and (before is None or before.subjects is None)
    info = content.info.model_copy(
        update={
            "partition": PartitionInfo(
                node=node or out.stem,
                parent_digest=store.info.content_digest,
                subjects=None if everyone else tuple(chosen),
                modalities=tuple(kept),
                dropped=_dropped(store, kept),
                labels=before.labels if before and before.labels == "none" else labels,
                where=filters or None,
            )
        }
    )
    with staged(out, overwrite=overwrite, doing="partition") as folder:
        return write_store(folder, replace(content, info=info))


def plan_partition(
    source: str | Path,
    out: str | Path,
    *,
    subjects: Sequence[str] | None = None,
    modalities: Sequence[str] | None = None,
    where: Mapping[str, Sequence[str]] | None = None,
    overwrite: bool = False,
) -> tuple[int, list[str], list[str]]:
    """Number of samples, modalities and dropped modalities of a partition, which is not written.

    Parameters and errors are those of `partition`.
    """
    check_output(Path(out), overwrite=overwrite, doing="partition", inputs=[source])
    store, rows, kept, _ = _select(source, subjects, modalities, where)
    return len(rows), kept, list(_dropped(store, kept))


def _select(
    source: str | Path,
    subjects: Sequence[str] | None,
    modalities: Sequence[str] | None,
    where: Mapping[str, Sequence[str]] | None,
) -> tuple[Dataset, np.ndarray, list[str], list[str]]:
    store = open_dataset(source)
    kept = _choose(store, modalities, store.info.modalities, "modality")
    chosen = _choose(store, subjects, store.info.subjects, "subject")
    rows = select_rows(store, None if subjects is None else chosen, kept)
    for column, values in _texts(where).items():
        rows = rows[np.isin(_column(store, column, values)[rows], values)]
    if not len(rows):
        got = f"none with subjects {', '.join(chosen)} and modalities {', '.join(kept)}"
        raise _refusal(store, "no sample is left", "at least one", got)
    return store, rows, kept, chosen


def select_rows(
    store: Dataset, subjects: Sequence[str] | None, modalities: Sequence[str]
) -> np.ndarray:
    """Rows of the subjects (None: of all) that have one of the modalities or more, ascending."""
    wanted = np.logical_or.reduce([store.present(name) for name in modalities])
    if subjects is not None:
        names = store.names("subject")
        codes = [names.index(subject) for subject in subjects]
        wanted &= np.isin(store.column("subject"), codes)
    return np.flatnonzero(wanted)


def _choose(store: Dataset, wanted: Sequence[str] | None, known: Any, what: str) -> list[str]:
    for name in wanted or ():
        if name not in known:
            expected, fix = f"one of {', '.join(known)}", suggest(name, known)
            raise _refusal(store, f"unknown {what}", expected, repr(name), fix)
    return [name for name in known if wanted is None or name in wanted]


def _refusal(store: Dataset, problem: str, expected: str, got: str, fix: str = "") -> UsageError:
    return UsageError(
        cannot="partition", problem=problem, at=store.path, expected=expected, got=got, fix=fix
    )


def _texts(where: Mapping[str, Sequence[str]] | None) -> dict[str, tuple[str, ...]]:
    return {column: tuple(values) for column, values in (where or {}).items()}


def _column(store: Dataset, column: str, values: Sequence[str]) -> np.ndarray:
    """Texts of a column of the sample table; all the values must occur in it."""
    table = store.samples()
    names = [field.name for field in table.schema if "string" in str(field.type)]
    if column not in names:
        expected, fix = "a column of texts in the sample table", suggest(column, names)
        raise _refusal(store, "no such column", expected, repr(column), fix)
    texts = np.array(table[column].fill_null("").to_pylist(), dtype=object)
    for value in values:
        if value not in texts:
            known = sorted({text for text in texts if text})
            what, expected = f"nothing has this {column}", f"one of the {len(known)} that occur"
            raise _refusal(store, what, expected, repr(value), suggest(value, known))
    return texts


def _dropped(store: Dataset, kept: Sequence[str]) -> tuple[str, ...]:
    before = store.info.partition.dropped if store.info.partition else ()
    return (*before, *(name for name in store.info.modalities if name not in kept))


def cut(
    store: Dataset,
    rows: np.ndarray,
    kept: Sequence[str],
    *,
    command: str,
    labels: Literal["all", "none"] = "all",
) -> StoreContent:
    """Some rows and modalities of a store, ready to be written as one of their own.

    Parameters
    ----------
    store : Dataset
    rows : ndarray of int, shape (n,)
        In the wanted order.
    kept : sequence of str
        Modalities.
    command : str
        The command that cuts, for the provenance.
    labels : {"all", "none"}
    """
    columns = {name: (store.column(name)[rows], store.names(name)) for name in CODED_COLUMNS}
    samples = store.samples().take(pa.array(rows))
    samples = _replace(samples, "row", pa.array(range(len(rows)), type=pa.int64()))
    if labels == "none":
        columns["label"] = (np.full(len(rows), -1, dtype=np.int32), columns["label"][1])
        samples = _replace(samples, "label", pa.array(columns["label"][0]))
        samples = _replace(samples, "label_text", pa.nulls(len(rows), pa.string()))
    present = {name: store.present(name)[rows] for name in kept}
    ragged = [name for name in kept if store.info.modalities[name].ragged]

    def blocks(modality: str) -> Iterator[np.ndarray | RaggedPoints]:
        row_bytes = 4 * int(np.prod(store.info.modalities[modality].shape))
        load = store.load_points if modality in ragged else store.load
        step = shard_rows(row_bytes, len(rows))
        for start in range(0, len(rows), step):
            yield load(modality, rows[start : start + step])

    return StoreContent(
        info=_describe(store, samples, present),
        columns=columns,
        samples=samples,
        raw_files=read_table(store.path / RAW_FILES),
        present=present,
        blocks=blocks,
        documents={
            DESCRIPTOR: store.document(DESCRIPTOR),
            PROVENANCE: {
                "command": command,
                "mmbind": version("mmbind"),
                "parent_digest": store.info.content_digest,
                "parent": store.document(PROVENANCE),
            },
        },
        n_points={name: int(np.diff(store.point_edges(name))[rows].sum()) for name in ragged},
    )


def _describe(store: Dataset, samples: pa.Table, present: dict[str, np.ndarray]) -> DatasetInfo:
    subjects, labels = (Counter(samples[name].to_pylist()) for name in ("subject", "label_text"))
    return store.info.model_copy(
        update={
            "n_samples": samples.num_rows,
            "modalities": {name: store.info.modalities[name] for name in present},
            "n_present": {name: int(mask.sum()) for name, mask in present.items()},
            "subjects": {name: subjects[name] for name in store.info.subjects if subjects[name]},
            "labels": {name: labels[name] for name in store.info.labels if labels[name]},
        }
    )


def _replace(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, values)
