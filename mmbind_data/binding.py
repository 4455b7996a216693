"""Bind two datasets: embed what they share, match both ways, write the table of pairs."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np

from .embed import (
    DEFAULT_LABEL_MODEL,
    Embedded,
    embed_autoencoder,
    embed_raw,
    embed_texts,
    fill_template,
    packaged_model,
)
from .errors import BindingError, UsageError, problem, suggest
from .layout import ENCODER, EVALUATION, META, PAIRS, PROVENANCE, SOURCES, Store, open_store
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
from .similarity import Matches, best_matches, normalise_weights, spread_ties
from .spec import BinderInfo, BoundInfo, DatasetInfo, SourceInfo
from .staging import check_output, staged
from .window import stretch
from .writer import finish_store, write_table

MEASURED = ("final_loss", "mean", "std")
Progress = Callable[[int, int, str], None]
WeightRule = Literal["minmax_mean1", "raw", "softmax", "none"]


@dataclass(frozen=True)
class BindOptions:
    """How to find partners.

    Attributes
    ----------
    embed : {"autoencoder", "raw"} or callable
        For a sensor: the embedding. A callable maps (n, T, ...) float32 to (n, d).
    steps : int
        Optimiser steps of the autoencoder.
    label_model : str
        For labels: a sentence-transformers model, by folder, package or hub name.
    label_text : str
        For labels: template over the columns of the sample table, ``{label}`` being the text.
    weight_rule : str
        How similarity becomes the weight of the loss.
    seed : int
        Autoencoder, and the order in which equally similar partners are dealt out.
    """

    embed: Literal["autoencoder", "raw"] | Callable[[np.ndarray], np.ndarray] = "autoencoder"
    steps: int = 1000
    label_model: str = DEFAULT_LABEL_MODEL
    label_text: str = "{label}"
    weight_rule: WeightRule = "minmax_mean1"
    seed: int = 0


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
        matches, embedded = _match_labels(sides, options)
    else:
        matches, embedded = _match_sensor(sides, shared, options, progress)
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


def _match_sensor(
    sides: Sequence[Side], shared: str, options: BindOptions, progress: Progress | None
) -> tuple[tuple[Matches, Matches], Embedded]:
    modality = sides[0].store.info.modalities[shared]
    values = common_shape(sides, shared)
    n_first = len(sides[0].usable)
    if callable(options.embed):
        vectors = np.asarray(options.embed(values), dtype=np.float32)
        embedded = Embedded(vectors, {"name": getattr(options.embed, "__name__", "callable")})
    elif options.embed == "raw":
        embedded = embed_raw(values, modality)
    else:
        embedded = embed_autoencoder(
            values, modality, steps=options.steps, seed=options.seed, progress=progress
        )
    vectors = embedded.vectors
    if vectors.ndim != 2 or len(vectors) != len(values) or not np.isfinite(vectors).all():
        raise BindingError(
            problem("bind", "bad embedding", embedded.config["name"],
                    f"finite values of shape ({len(values)}, d)", f"shape {vectors.shape}")
        )  # fmt: skip
    return best_matches(vectors[:n_first], vectors[n_first:]), embedded


def common_shape(sides: Sequence[Side], shared: str) -> np.ndarray:
    """The shared modality of both sides as one array; the longer windows are stretched.

    Returns
    -------
    ndarray, shape (n_a + n_b, T, ...), float32
        T is the smaller of the two numbers of frames.

    Raises
    ------
    BindingError
        The axes behind time, or the units, differ.
    """
    first, second = (side.store.info.modalities[shared] for side in sides)
    if (first.kind, first.unit, first.axes[1:]) != (second.kind, second.unit, second.axes[1:]):
        raise BindingError(
            problem(
                "bind",
                f"{shared} differs between the stores",
                sides[1].store.path,
                f"{first.kind} in {first.unit} of shape {first.shape}",
                f"{second.kind} in {second.unit} of shape {second.shape}",
            )
        )
    n_frames = min(first.shape[0], second.shape[0])
    parts = []
    for side in sides:
        values = side.store.load(shared, side.usable)
        if values.shape[1] != n_frames:  # stretch works along the first axis
            values = stretch(values.swapaxes(0, 1), n_frames).swapaxes(0, 1)
        parts.append(values)
    return np.concatenate(parts)


def _match_labels(
    sides: Sequence[Side], options: BindOptions
) -> tuple[tuple[Matches, Matches], Embedded]:
    """Match label texts, then deal out the samples behind equal texts evenly."""
    texts, groups = [], []
    for side in sides:
        rows = side.store.samples().take(side.usable).to_pylist()
        filled = [
            fill_template(options.label_text, {**row, "label": row["label_text"]}) for row in rows
        ]
        unique, group = np.unique(filled, return_inverse=True)
        texts.append([str(text) for text in unique])
        groups.append(group)
    model = packaged_model(options.label_model)
    embedded = embed_texts([*texts[0], *texts[1]], model)
    config = {**embedded.config, "label_text": options.label_text}
    if model != options.label_model:  # the package's name says more than that of its folder
        config["model"] = options.label_model
    embedded = Embedded(embedded.vectors, config)
    n_first = len(texts[0])
    to_b, to_a = best_matches(embedded.vectors[:n_first], embedded.vectors[n_first:])
    rng = np.random.default_rng(options.seed)
    return (
        spread_ties(groups[0], groups[1], to_b, rng),
        spread_ties(groups[1], groups[0], to_a, rng),
    ), embedded


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
