"""Show what a training did: one HTML file that needs nothing but a browser."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.manifold import TSNE

from mmbind_data.errors import FormatError
from mmbind_data.reports.curves import cloud_plot, curves_plot
from mmbind_data.reports.figures import fold_classes, heat_map
from mmbind_data.reports.html import (
    Child,
    Html,
    Section,
    check_page,
    compose,
    count,
    decimal,
    el,
    figure,
    percent,
    section,
    table,
    write_page,
)
from mmbind_data.spec.validation_messages import fault_of
from mmbind_data.store.dataset import open_dataset
from mmbind_train.data.batch import make_batch
from mmbind_train.data.training_set import gather_store
from mmbind_train.evaluation.evaluate import Result
from mmbind_train.networks.model import AdaptiveModel
from mmbind_train.training.logs import METRICS
from mmbind_train.training.run_folder import RunInfo, load_run

MOST_SAMPLES, FEWEST = 300, 8  # samples and points of a map
FOOT = "Curves are those of the training; labels of a map were read for its colours only."


def write_run_report(
    run: str | Path,
    out: str | Path,
    *,
    evaluation: str | Path | None = None,
    store: str | Path | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write a report on a run: one HTML file, readable without a network.

    Parameters
    ----------
    run : path
        The output of `train`, or what `evaluate` has saved.
    out : path
        The HTML file.
    evaluation : path, optional
        What ``mmbind evaluate --json`` printed, or its result alone.
    store : path, optional
        A converted store whose samples the map of embeddings shows.
    seed : int
        Which of its samples, where there are too many.
    overwrite : bool
        A report may stand there.

    Returns
    -------
    dict
        ``path``, ``bytes``, ``method``, ``stages``, ``n_mapped``.

    Raises
    ------
    FormatError, IntegrityError
        No run, no evaluation or no store there.
    OutputError
    """
    run, out = Path(run), Path(out)
    inputs = [run, *([Path(store)] if store is not None else [])]
    check_page(out, inputs, overwrite=overwrite)
    info, model = load_run(run)
    judged = None if evaluation is None else read_evaluation(Path(evaluation))
    curves = read_metrics(run / METRICS) if any(one.steps for one in info.stages) else {}
    sections: list[Section | None] = [_stages(info), _curves(curves)]
    if judged is not None:
        sections += [_accuracy(judged), _classes(judged)]
    n_mapped = 0
    if store is not None:
        mapped, n_mapped = _map(info, model, Path(store), seed)
        sections.append(mapped)
    sections.append(_settings(info))
    page = compose(
        run.resolve().name,
        f"{info.method} on {Path(info.data.path).name}",
        _glance(info, judged),
        [one for one in sections if one is not None],
        FOOT,
    )
    write_page(out, inputs, page, overwrite=overwrite)
    return {
        "path": str(out),
        "bytes": len(page.encode()),
        "method": info.method,
        "stages": [one.name for one in info.stages],
        "n_mapped": n_mapped,
    }


def read_evaluation(path: Path) -> Result:
    """Read a result of `evaluate`, also inside the object that ``--json`` prints.

    Raises
    ------
    FormatError
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        inner = document.get("result", document) if isinstance(document, dict) else document
        return Result.model_validate_json(json.dumps(inner))
    except (OSError, ValueError) as error:
        step = "Evaluations are the output of mmbind evaluate --json."
        raise FormatError(cannot="report", **fault_of(error, path), fix=step) from error


def read_metrics(path: Path) -> dict[str, list[tuple[int, float]]]:
    """Steps and losses of each stage, in the order of the stages.

    Raises
    ------
    FormatError
    """
    found: dict[str, list[tuple[int, float]]] = {}
    try:
        for text in path.read_text(encoding="utf-8").splitlines():
            one = json.loads(text)
            found.setdefault(str(one["stage"]), []).append((int(one["step"]), float(one["loss"])))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FormatError(
            cannot="report",
            problem="unreadable log",
            at=path,
            expected="a line of JSON per logged step",
            got=str(error),
        ) from error
    return found


def embeddings(
    info: RunInfo, model: AdaptiveModel, store: Path, seed: int
) -> tuple[dict[str, np.ndarray], np.ndarray, list[str], list[str]]:
    """Embeddings of a sample of a store.

    Returns
    -------
    z : mapping of modality to ndarray, shape (n, F), float32
    present : ndarray, shape (n, modalities), bool
    labels, subjects : list of str, one per sample
    """
    opened = open_dataset(store)
    names = [name for name in info.modalities if name in opened.info.modalities]
    if not names:
        raise FormatError(
            cannot="report",
            problem="the store has none of the run's modalities",
            at=store,
            expected=" or ".join(info.modalities),
            got=", ".join(opened.info.modalities),
        )
    drawn = np.random.default_rng(seed).permutation(len(opened))[:MOST_SAMPLES]
    chosen = np.sort(drawn)
    rows = gather_store(
        opened, names, like=info.modalities, recentre=info.config.recentre, rows=chosen,
        bounds=info.config.inputs,
    )  # fmt: skip
    found = {name: np.zeros((len(chosen), model.embedding_dim), np.float32) for name in names}
    with torch.no_grad():
        for start in range(0, len(chosen), 128):
            here = np.arange(start, min(start + 128, len(chosen)))
            batch = make_batch(rows, here, info.statistics)
            present = torch.zeros(len(here), len(info.modalities), dtype=torch.bool)
            for k, name in enumerate(names):
                present[:, list(info.modalities).index(name)] = batch.present[:, k]
            blank = {
                name: batch.inputs.get(name, torch.zeros(len(here), *one.shape))
                for name, one in info.modalities.items()
            }
            z = model.embed(model.features(blank, present)).cpu().numpy()
            for name in names:
                found[name][here] = z[:, list(info.modalities).index(name)]
    texts = [
        [(opened.names(column) or ("",))[code] if code >= 0 else "unknown"
         for code in opened.column(column)[chosen]]
        for column in ("label", "subject")
    ]  # fmt: skip
    return found, rows.present, texts[0], texts[1]


def _map(info: RunInfo, model: AdaptiveModel, store: Path, seed: int) -> tuple[Section | None, int]:
    """All embeddings in one plane: who are neighbours, by label, modality and subject."""
    z, present, labels, subjects = embeddings(info, model, store, seed)
    where = [(k, row) for k in range(len(z)) for row in np.flatnonzero(present[:, k]).tolist()]
    if len(where) < FEWEST:
        return None, 0
    stacked = np.concatenate([values[present[:, k]] for k, values in enumerate(z.values())])
    plane = TSNE(
        metric="cosine", init="pca", perplexity=min(30.0, (len(where) - 1) / 3), random_state=0
    ).fit_transform(stacked)
    names, drawn = list(z), list[Child]()
    for what, groups in (
        ("label", [labels[row] for _, row in where]),
        ("modality", [names[k] for k, _ in where]),
        ("subject", [subjects[row] for _, row in where]),
    ):
        if len(set(groups)) > 1:
            plot = cloud_plot(f"map-{what}", f"Embeddings by {what}", plane, groups)
            drawn.append(figure(plot, f"Coloured by {what}."))
    told = (
        f"{count(len(labels))} samples of {store.name}, a point for each of their modalities "
        f"({', '.join(names)}). Points that lie together have similar embeddings; distances "
        "between groups tell nothing (t-SNE of cosine distances)."
    )
    return section("map", "Embeddings", el("p", told), *drawn), len(labels)


def _glance(info: RunInfo, judged: Result | None) -> Html:
    facts = [
        ("optimiser steps", count(sum(one.steps for one in info.stages))),
        ("last loss", decimal(info.stages[-1].final_loss if info.stages else None)),
        ("modalities", count(len(info.modalities))),
    ]
    if judged is not None:
        facts.append((f"accuracy, {len(judged.per_seed)} seeds", percent(judged.accuracy)))
        facts.append(("macro-F1", decimal(judged.macro_f1)))
    pairs = (el("div", el("dt", name), el("dd", value)) for name, value in facts)
    return el("dl", *pairs, class_="glance")


def _stages(info: RunInfo) -> Section:
    rows = [
        (one.name, count(one.steps), _counted(one.n_rows), _counted(one.n_present),
         "yes" if one.labels else "no", decimal(one.final_loss))
        for one in info.stages
    ]  # fmt: skip
    if not rows:
        return section("stages", "What was read", el("p", "Nothing: no pre-training."))
    head = ("stage", "steps", "rows", "present", "labels read", "last loss")
    return section(
        "stages", "What was read", table("Stages", head, rows, text_columns=(0, 2, 3, 4))
    )


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count(n)} {name}" for name, n in counts.items())


def _curves(found: Mapping[str, Sequence[tuple[int, float]]]) -> Section | None:
    if not found:
        return None
    drawn = [
        figure(
            curves_plot(f"loss-{number}", f"Loss of {name}", "step", "loss", {name: points}),
            f"{name}: loss of every logged step, {decimal(points[0][1])} at first, "
            f"{decimal(points[-1][1])} at last.",
        )
        for number, (name, points) in enumerate(found.items())
    ]
    return section("loss", "Loss", *drawn)


def _accuracy(judged: Result) -> Section:
    rows = [
        (f"{one.seed}", percent(one.accuracy), decimal(one.macro_f1), count(one.n_finetune))
        for one in judged.per_seed
    ]
    parts: list[Child] = [
        el("p", f"{percent(judged.accuracy)} of {count(judged.n_test)} test samples of "
           f"{judged.n_classes} classes with {', '.join(judged.modalities)}."),
        table("By seed", ("seed", "accuracy", "macro-F1", "labelled samples"), rows),
    ]  # fmt: skip
    if judged.per_subset:
        subsets = [
            (" + ".join(one.modalities), percent(one.accuracy), decimal(one.macro_f1),
             count(one.n_test))
            for one in judged.per_subset
        ]  # fmt: skip
        head = ("modalities", "accuracy", "macro-F1", "test samples")
        parts.append(table("The same network, fewer modalities", head, subsets))
    return section("accuracy", "Accuracy", *parts)


def _classes(judged: Result) -> Section | None:
    """Confusion and a row per class; None: a result of an older release."""
    counts = np.array(judged.confusion, dtype=np.int64)
    if not counts.size:
        return None
    names = judged.classes
    found = {
        name: {to: int(n) for to, n in zip(names, row, strict=True) if n}
        for name, row in zip(names, counts, strict=True)
        if row.sum()
    }
    drawn = heat_map(
        "confusion",
        "Confusion",
        *fold_classes(found, names),
        axes=("true", "predicted"),
        unit="samples",
    )
    right, taken, there = np.diag(counts), counts.sum(axis=0), counts.sum(axis=1)
    rows = []
    for k, name in enumerate(names):
        recall = right[k] / there[k] if there[k] else None
        precision = right[k] / taken[k] if taken[k] else None
        f1 = 2 * right[k] / (there[k] + taken[k]) if there[k] + taken[k] else None
        rows.append((name, count(there[k]), percent(recall), percent(precision), decimal(f1)))
    return section(
        "confusion",
        "Classes",
        figure(drawn, "Classes in rows, what they were taken for in columns, all seeds together."),
        table("By class", ("class", "tested", "recall", "precision", "F1"), rows),
    )


def _settings(info: RunInfo) -> Section:
    told = [(name, one.kind, " x ".join(map(str, one.shape)), one.unit)
            for name, one in info.modalities.items()]  # fmt: skip
    subjects = [(name, ", ".join(one)) for name, one in info.subjects.items()]
    text = json.dumps(info.config.model_dump(mode="json"), indent=1)
    versions = ", ".join(f"{name} {one}" for name, one in info.versions.items())
    return section(
        "settings",
        "Settings",
        table("Inputs", ("modality", "kind", "shape", "unit"), told, text_columns=(0, 1, 2, 3)),
        table("People that the run has seen", ("dataset", "subjects"), subjects,
              text_columns=(0, 1)),
        el("p", f"Data {info.data.path}, content digest ", el("code", info.data.content_digest)),
        el("p", versions),
        el("pre", el("code", text)),
    )  # fmt: skip
