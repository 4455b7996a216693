"""Bind two datasets: embed what they share, match both ways, write the table of pairs."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from .embed import Embedded
from .errors import BindingError, UsageError, problem, suggest
from .layout import ENCODER, EVALUATION, META, PAIRS, PROVENANCE, SOURCES, Store, open_store
from .matching import BindOptions, Progress, match_labels, match_sensor
from .pairing_report import PairingReport, report_pairing
from .pairs import (
    Side,
    assemble_pairs,
    bound_digest,
    incomplete_rows,
    open_side,
    pseudo_rows,
    union,
)
from .similarity import normalise_weights
from .spec import BinderInfo, BoundInfo, DatasetInfo, SourceInfo
from .staging import check_output, staged
from .writer import finish_store, write_table

__all__ = ["BindOptions", "bind", "check_request", "rebuild_command"]

MEASURED = ("final_loss", "mean", "std")


def bind(
    a: str | Path,
    b: str | Path,
    out: str | Path,
    *,
    shared: str,
    options: BindOptions | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> BoundInfo:
    """Pair the samples of two stores and write a bound store that points into them.

    Each sample of A that carries the shared modality gets its most similar sample of B, and the
    reverse: |A| + |B| pseudo-paired rows, and all original samples as incomplete rows.

    Parameters
    ----------
    a, b : path
        Converted stores, or partitions.
    out : path
        The bound store; it holds pairs and no sensor values.
    shared : str
        A modality that both carry, or ``label``.
    options : BindOptions, optional
    overwrite : bool
    progress : callable (done, total, text), optional

    Returns
    -------
    BoundInfo

    Raises
    ------
    UsageError
        Unknown shared modality.
    BindingError
        The stores hold the same samples, differ in the shared modality's axes, or have nothing to
        give to one another.
    FormatError, ModelError, OutputError

    Notes
    -----
    Source: MMBind paper, section 5.1. With a sensor as shared modality labels are read only
    afterwards, to report the pairing accuracy.
    """
    out = Path(out)
    options = options or BindOptions()
    check_output(out, overwrite=overwrite, doing="bind", inputs=[a, b])
    stores = [open_store(a), open_store(b)]
    sides = check_request(stores, shared)
    if shared == "label":
        matches, embedded = match_labels(sides, options)
    else:
        matches, embedded = match_sensor(sides, shared, options, progress)
    weights = normalise_weights(
        np.concatenate([match.similarity for match in matches]), options.weight_rule
    )
    per_side = np.split(weights, [len(matches[0].partner)])
    modalities = union(sides)
    parts = [
        pseudo_rows(sides[0], sides[1], matches[0], per_side[0], modalities),
        pseudo_rows(sides[1], sides[0], matches[1], per_side[1], modalities),
        *(incomplete_rows(side, modalities) for side in sides),
    ]
    report = report_pairing(sides, matches)
    with staged(out, overwrite=overwrite, doing="bind") as folder:
        table = assemble_pairs(parts, shared)
        info = _describe(out, sides, shared, options, embedded, report, table)
        _write(folder, info, table, embedded, report)
    return info


def check_request(stores: Sequence[Store], shared: str) -> list[Side]:
    """Refuse what cannot be bound, before anything is computed.

    Raises
    ------
    UsageError, BindingError
        See `bind`.
    """
    common = [name for name in stores[0].info.modalities if name in stores[1].info.modalities]
    if shared not in [*common, "label"]:
        raise UsageError(
            problem(
                "bind",
                f"{shared} is not shared",
                " and ".join(str(store.path) for store in stores),
                f"--shared {' or '.join([*common, 'label'])}",
                repr(shared),
                suggest(shared, [*common, "label"]),
            )
        )
    names = _source_ids(stores)
    sides = [open_side(store, name, shared) for store, name in zip(stores, names, strict=True)]
    for side in sides:
        if not len(side.usable):
            raise BindingError(
                problem("bind", f"no sample carries {shared}", side.store.path, "one or more", "0")
            )
    twice = np.intersect1d(sides[0].uid, sides[1].uid)
    if len(twice):
        raise BindingError(
            problem(
                "bind",
                "both stores hold the same samples",
                f"{stores[0].path} and {stores[1].path}",
                "different subjects or datasets",
                f"{len(twice)} common samples",
                "Give each node subjects of its own with mmbind partition --subjects.",
            )
        )
    if set(stores[0].info.modalities) == set(stores[1].info.modalities):
        raise BindingError(
            problem(
                "bind",
                "both stores carry the same modalities",
                f"{stores[0].path} and {stores[1].path}",
                "a modality that the other lacks",
                ", ".join(stores[0].info.modalities),
                "There is nothing to complete.",
            )
        )
    return sides


def _source_ids(stores: Sequence[Store]) -> list[str]:
    """Short unique names: the dataset's id, with the node's where both come from one dataset."""
    ids = [store.info.dataset_id for store in stores]
    if len(set(ids)) < len(ids):
        ids = [
            f"{store.info.dataset_id}-{part.node if (part := store.info.partition) else 'all'}"
            for store in stores
        ]
    if len(set(ids)) < len(ids):
        ids = [f"{name}-{index + 1}" for index, name in enumerate(ids)]
    return ids


def _describe(
    out: Path,
    sides: Sequence[Side],
    shared: str,
    options: BindOptions,
    embedded: Embedded,
    report: PairingReport,
    table: Any,
) -> BoundInfo:
    kinds = table["kind"].to_pylist()
    binder = BinderInfo(
        shared=shared,
        recipe="paper" if options.embed == "autoencoder" or shared == "label" else "custom",
        # figures that vary with machine and threads stay out of the digest; encoder/ has them
        embedding={name: value for name, value in embedded.config.items() if name not in MEASURED},
        metric="cosine",
        match="best",
        weight_rule=options.weight_rule,
        seed=options.seed,
    )
    sources = tuple(_source_info(side, out) for side in sides)
    return BoundInfo(
        mode="linked",
        shared=(shared,),
        binder=(binder,),
        sources=sources,
        modalities=tuple(union(sides)),
        n_rows={
            "pseudo": kinds.count("pseudo"),
            "incomplete": kinds.count("incomplete"),
            "natural": kinds.count("natural"),
        },
        similarity=report.similarity,
        pairing_accuracy=report.pairing_accuracy,
        reuse=report.reuse,
        content_digest=bound_digest([shared], [binder], sources, table),
    )


def _source_info(side: Side, out: Path) -> SourceInfo:
    info = side.store.info
    return SourceInfo(
        source_id=side.source_id,
        dataset_id=info.dataset_id,
        dataset_version=info.dataset_version,
        content_digest=info.content_digest,
        n_samples=info.n_samples,
        modalities=info.modalities,
        subjects=tuple(info.subjects),
        partition=info.partition,
        licence=info.licence,
        # Resolved, because ".." behind a link leads to the parent of what it points to.
        path=Path(os.path.relpath(side.store.path.resolve(), out.parent.resolve())).as_posix(),
        convert=rebuild_command(info),
    )


def rebuild_command(info: DatasetInfo) -> str:
    """The commands that make a source store from raw data."""
    target = f"{info.dataset_id}.zarr"
    command = f"mmbind convert {info.dataset_id} RAW {target}"
    if info.preset != "default":
        command += f" --preset {info.preset}"
    if info.selection.subjects is not None:
        command += f" --subjects {','.join(info.selection.subjects)}"
    if info.selection.modalities is not None:
        command += f" --modalities {','.join(info.selection.modalities)}"
    part = info.partition
    if part is None:
        return command
    command += f" && mmbind partition {target} {shlex.quote(f'{part.node}.zarr')}"
    if part.subjects is not None:
        command += f" --subjects {','.join(part.subjects)}"
    command += f" --modalities {','.join(part.modalities)}"
    return command + (" --labels none" if part.labels == "none" else "")


def _write(
    folder: Path, info: BoundInfo, table: Any, embedded: Embedded, report: PairingReport
) -> None:
    import zarr

    group = zarr.create_group(folder, overwrite=True)
    for name in (META, EVALUATION, ENCODER):
        group.create_group(name)
    write_table(folder / PAIRS, table)
    _write_json(folder / SOURCES, [source.model_dump(mode="json") for source in info.sources])
    _write_json(folder / PROVENANCE, {"command": "bind", "mmbind": version("mmbind")})
    _write_json(folder / ENCODER / "config.json", dict(embedded.config))
    if embedded.weights:
        from safetensors.numpy import save_file

        weights = {name: np.ascontiguousarray(array) for name, array in embedded.weights.items()}
        save_file(weights, folder / ENCODER / "model.safetensors")
    _write_json(folder / EVALUATION / "pairing.json", report.document)
    write_table(folder / EVALUATION / "partners.parquet", report.partners)
    finish_store(folder, info.model_dump(mode="json"))


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")
