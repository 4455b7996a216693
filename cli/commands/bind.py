"""mmbind bind --shared MODALITY A B [C ...] [-o OUT]."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import options
from ..bind_options import bind_options
from ..options import finite
from ..output import Report, Screen, notes, reported

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mmbind_data.binding.options import BindOptions
    from mmbind_data.spec.store import BoundInfo
    from mmbind_data.store.bound import BoundDataset
    from mmbind_data.store.dataset import Dataset

SHARED = "What both carry, label, time or location; of each binding."
HOW = "How partners are chosen; random: by lot, as a control."
RERANK = "Compare candidates once more by dynamic time warping."
INDEX = "Of the search; not exact: some are missed."
WINDOW = "Apart at most: seconds, metres."
WEIGHTS = "How the loss weighs a pair."
RULES = ["probability", "minmax_mean1", "raw", "softmax", "none"]
TEMPERATURE = "Of the weights of several partners."
POSITIVE = click.FloatRange(min=0, min_open=True)


@click.command("bind")
@click.argument("stores", nargs=-1, required=True, type=click.Path(), metavar="A B [C ...]")
@options.out(required=False, default="bound.zarr", show_default=True, help="The bound store.")
@click.option("--shared", required=True, multiple=True, help=SHARED)
@options.choice("--recipe", ["default", "paper"], "Where the options below begin.", "default")
@click.option("--embed", help="raw, autoencoder, contrastive, or PATH.npy.")
@options.choice("--rerank", ["auto", "dtw", "none"], RERANK)
@options.count("--candidates", help="Of each sample, for --rerank.")
@options.choice("--index", ["exact", "ivf", "hnsw"], INDEX, "exact")
@options.choice("--match", ["best", "csls", "mutual", "sinkhorn", "random"], HOW)
@options.choice("--metric", ["cosine", "euclidean"], "Of embeddings.")
@options.count("--top-k", help="Partners per sample (soft binding).")
@click.option("--mean", type=click.IntRange(min=2), help="Average so many partners when training.")
@click.option("--min-similarity", type=float, callback=finite, help="Drop pairs below.")
@options.count("--max-reuse", help="How often one may be a partner.")
@options.count("--pca", help="Reduce embeddings to so many dimensions.")
@click.option("--group-by", help="Match only inside equal values of this column.")
@click.option("--derive", multiple=True, help="Derivation for a store that lacks what is shared.")
@click.option("--window", type=click.FloatRange(min=0), callback=finite, help=WINDOW)
@options.count("--steps", help="Of an embedding that is trained.")
@options.label_model()
@click.option("--label-text", help="Text of a sample, from columns of its table: {label}, ...")
@click.option("--label-map", type=click.Path(), help="JSON: other wordings of label texts.")
@options.choice("--weights", RULES, WEIGHTS)
@click.option("--temperature", type=POSITIVE, callback=finite, help=TEMPERATURE)
@options.natural("--seed", default=0, show_default=True)
@options.source(help="Where a source of a bound input lies now.")
@options.dry_run(help="Check the request, write nothing.")
@options.overwrite()
@reported
def command(
    stores: tuple[str, ...], out: str, shared: tuple[str, ...], screen: Screen, **chosen: Any
) -> Report:
    """Pair each sample of A with its most similar one of B, and the reverse; then go on with C.

    A store may be converted, cut by partition, or bound already.
    """
    from mmbind_data.binding.bind import bind
    from mmbind_data.binding.inputs import open_inputs
    from mmbind_data.io.atomic import check_output

    dry_run, where = chosen.pop("dry_run"), {n: chosen.pop(n) for n in ("sources", "overwrite")}
    options = bind_options(shared, chosen)
    if dry_run:
        check_output(Path(out), overwrite=where["overwrite"], doing="bind", inputs=stores)
        return _preview(open_inputs(stores, where["sources"]), shared, options)
    with screen.progress(f"bind by {', '.join(shared)}") as progress:
        info = bind(stores, out, shared=shared, options=options, progress=progress, **where)
    return _report(out, info)


def _preview(
    opened: Sequence[Dataset | BoundDataset], shared: tuple[str, ...], options: BindOptions
) -> Report:
    from mmbind_data.binding.bind import check_binding

    counts = check_binding(opened, shared, options)
    line = " and ".join(f"{count} samples of {name}" for name, count in counts.items())
    return Report({"anchors": counts}, [f"would pair {line} by {', '.join(dict.fromkeys(shared))}"])


def _report(out: str, info: BoundInfo) -> Report:
    from mmbind_data.spec.verdict import describe_quality, judge_pairing

    result: dict[str, Any] = {
        "path": out,
        "pairs": info.n_rows,
        "similarity": info.similarity,
        "pairing_accuracy": info.pairing_accuracy,
        "quality": info.quality.model_dump() if info.quality else None,
        "reuse": info.reuse,
        "recipe": [one.recipe for one in info.binder],
        "content_digest": info.content_digest,
    }
    means = f"{info.n_rows['mean']} mean, " if "mean" in info.n_rows else ""
    line = (
        f"{out}: {info.n_rows['pseudo']} pseudo-paired, {means}{info.n_rows['incomplete']} "
        f"incomplete rows, median similarity {info.similarity['median']:.3f}, "
        f"a partner is used {info.reuse['max']:.0f} times at most"
    )
    lines = [line, describe_quality(info)]
    if info.quality:
        verdict = judge_pairing(info.quality, info.shared)
        result["verdict"] = asdict(verdict)
        lines += [str(verdict)] if verdict.level == "good" else []
    return Report(result, lines, notes([f"warning: {text}" for text in info.warnings]))
