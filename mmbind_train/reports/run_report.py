"""The report on a run: one HTML file that needs nothing but a browser."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.manifold import TSNE

from mmbind_data.errors import FormatError
from mmbind_data.reports.html import DOING, Section, check_page, render_page, write_page
from mmbind_data.reports.plots import cloud_plot, curve_plot, heat_map
from mmbind_data.reports.tables import fold_classes
from mmbind_data.spec.validation_messages import fault_of
from mmbind_data.spec.verdict import Verdict, judge_pairing
from mmbind_data.store.dataset import open_dataset
from mmbind_train.data.batch import make_batch
from mmbind_train.data.training_set import gather_store
from mmbind_train.evaluation.evaluate import Result
from mmbind_train.networks.model import AdaptiveModel
from mmbind_train.training.logs import METRICS
from mmbind_train.training.run_folder import RunInfo, load_run

MAX_SAMPLES, MIN_POINTS = 300, 8  # of a map
BATCH = 128


def report_run(
    run: str | Path,
    out: str | Path,
    *,
    evaluation: str | Path | None = None,
    store: str | Path | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write a report on a run: one HTML file, readable without a network.

    It gives ``path``, ``bytes``, ``method``, ``stages`` and ``n_mapped``.

    Parameters
    ----------
    run : path
        The output of `train`, or what `evaluate` has saved.
    evaluation : path, optional
        What ``mmbind evaluate --json`` printed, or its result alone.
    store : path, optional
        A converted store whose samples the map of embeddings shows.
    seed : int
        Decides which of its samples, if there are too many.

    Raises
    ------
    FormatError, IntegrityError
        The run, the evaluation or the store is missing or of another kind.
    OutputError
        Something else exists at ``out``, or it cannot be written.
    """
    run, out = Path(run), Path(out)
    inputs = [run, *([Path(store)] if store is not None else [])]
    check_page(out, inputs, overwrite=overwrite)
    info, model = load_run(run)
    judged = None if evaluation is None else read_evaluation(evaluation)
    curves = read_metrics(run / METRICS) if any(one.steps for one in info.stages) else {}
    mapped = None if store is None else _map(info, model, Path(store), seed)
    config = json.dumps(info.config.model_dump(mode="json"), indent=1)
    page = render_page(
        "run.html",
        package=__package__,
        name=run.resolve().name,
        summary=f"{info.method} on {Path(info.data.path).name}",
        foot="Curves are those of the training; labels of a map were read for its colours only.",
        glance={"info": info, "judged": judged},
        sections=[
            Section("stages", "What was read", {"stages": info.stages, "verdict": _verdict(info)}),
            _curves(curves),
            None if judged is None else Section("accuracy", "Accuracy", {"judged": judged}),
            None if judged is None else _classes(judged),
            mapped,
            Section("settings", "Settings", {"info": info, "config": config}),
        ],
    )
    return {
        "path": str(out),
        "bytes": write_page(out, inputs, page, overwrite=overwrite),
        "method": info.method,
        "stages": [one.name for one in info.stages],
        "n_mapped": mapped.data["n_samples"] if mapped else 0,
    }


def _verdict(info: RunInfo) -> Verdict | None:
    """What to think of the pairs that were trained on; None where none were read, or judged."""
    data = info.data
    return judge_pairing(data.quality, data.shared) if data.quality else None


def read_evaluation(path: str | Path) -> Result:
    """Read a result of `evaluate`, also inside the object that ``--json`` prints.

    Raises
    ------
    FormatError
    """
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
        inner = document.get("result", document) if isinstance(document, dict) else document
        return Result.model_validate_json(json.dumps(inner))
    except (OSError, ValueError) as error:
        step = "Evaluations are the output of mmbind evaluate --json."
        raise FormatError(cannot=DOING, **fault_of(error, path), fix=step) from error


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
        problem, expected = "unreadable log", "a line of JSON per logged step"
        raise FormatError(
            cannot=DOING, problem=problem, at=path, expected=expected, got=error
        ) from error
    return found


def embeddings(
    info: RunInfo, model: AdaptiveModel, store: Path, seed: int
) -> tuple[dict[str, np.ndarray], np.ndarray, list[str], list[str]]:
    """Embeddings of some samples of a store by modality, (n, F) float32.

    Also which modalities each has, (n, modalities) bool, and its label and subject.
    """
    opened = open_dataset(store)
    names = [name for name in info.modalities if name in opened.info.modalities]
    if not names:
        problem = "the store has none of the run's modalities"
        expected, got = " or ".join(info.modalities), ", ".join(opened.info.modalities)
        raise FormatError(cannot=DOING, problem=problem, at=store, expected=expected, got=got)
    chosen = np.sort(np.random.default_rng(seed).permutation(len(opened))[:MAX_SAMPLES])
    rows = gather_store(
        opened,
        names,
        like=info.modalities,
        every_column=True,
        recentre=info.config.recentre,
        rows=chosen,
        bounds=info.config.inputs,
    )
    parts = [np.empty((0, len(info.modalities), model.embedding_dim), np.float32)]
    for start in range(0, len(chosen), BATCH):
        batch = make_batch(rows, np.arange(start, min(start + BATCH, len(chosen))), info.statistics)
        with torch.no_grad():
            parts.append(model.embed(model.features(batch.inputs, batch.present)).numpy())
    every = np.concatenate(parts)
    labels, subjects = (
        [([*opened.names(column), "unknown"])[code] for code in opened.column(column)[chosen]]
        for column in ("label", "subject")
    )
    columns = [list(info.modalities).index(name) for name in names]
    z = {name: every[:, column] for name, column in zip(names, columns, strict=True)}
    return z, rows.present[:, columns], labels, subjects


def _map(info: RunInfo, model: AdaptiveModel, store: Path, seed: int) -> Section | None:
    """All embeddings in one plane, by label, modality and subject; None for too few points."""
    z, present, labels, subjects = embeddings(info, model, store, seed)
    names = list(z)
    modality, row = np.nonzero(present.T)
    if len(row) < MIN_POINTS:
        return None
    stacked = np.concatenate([values[present[:, k]] for k, values in enumerate(z.values())])
    perplexity = min(30.0, (len(row) - 1) / 3)
    tsne = TSNE(metric="cosine", init="pca", perplexity=perplexity, random_state=0)
    plane, drawings = tsne.fit_transform(stacked), {}
    for what, groups in (
        ("label", [labels[i] for i in row]),
        ("modality", [names[k] for k in modality]),
        ("subject", [subjects[i] for i in row]),
    ):
        if len(set(groups)) > 1:
            drawings[what] = cloud_plot(f"map-{what}", f"Embeddings by {what}", plane, groups)
    data = {"n_samples": len(labels), "store": store.name, "modalities": names}
    return Section("map", "Embeddings", data | {"drawings": drawings})


def _curves(found: Mapping[str, Sequence[tuple[int, float]]]) -> Section | None:
    curves = [
        (name, points, curve_plot(f"loss-{i}", f"Loss of {name}", "step", "loss", points))
        for i, (name, points) in enumerate(found.items())
    ]
    return Section("loss", "Loss", {"curves": curves}) if curves else None


def _classes(judged: Result) -> Section | None:
    """Confusion and a row per class; None for a result of an older release."""
    counts, names = np.array(judged.confusion, dtype=np.int64), judged.classes
    if not counts.size:
        return None
    found = {(names[i], names[j]): int(n) for (i, j), n in np.ndenumerate(counts) if n}
    folded, axes = fold_classes(found, names), ("true", "predicted")
    drawing = heat_map("confusion", "Confusion", *folded, axis_names=axes, unit="samples")
    right, predicted, tested = np.diag(counts), counts.sum(axis=0), counts.sum(axis=1)
    with np.errstate(invalid="ignore"):  # 0 / 0 is shown as a dash
        scores = right / tested, right / predicted, 2 * right / (tested + predicted)
    classes = list(zip(names, tested, *scores, strict=True))
    return Section("confusion", "Classes", {"drawing": drawing, "classes": classes})
