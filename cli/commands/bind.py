"""mmbind bind --shared MODALITY A B [C ...] -o OUT."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..options import bind_options, finite, source_paths
from ..output import Report, Screen, notes, reported

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mmbind_data.binding.options import BindOptions
    from mmbind_data.spec.store import BoundInfo
    from mmbind_data.store.bound import BoundDataset
    from mmbind_data.store.dataset import Dataset


@click.command("bind")
@click.argument("stores", nargs=-1, required=True, type=click.Path(), metavar="A B [C ...]")
@click.option("-o", "--out", required=True, type=click.Path(), help="The bound store.")
@click.option("--shared", required=True, multiple=True,
              help="What both carry, label, time or location; of each binding.")  # fmt: skip
@click.option("--recipe", type=click.Choice(["default", "paper"]), default="default",
              show_default=True, help="Where the options below begin.")  # fmt: skip
@click.option("--embed", help="raw, autoencoder, contrastive, or PATH.npy.")
@click.option("--rerank", type=click.Choice(["auto", "dtw", "none"]),
              help="Compare candidates once more by dynamic time warping.")  # fmt: skip
@click.option("--candidates", type=click.IntRange(min=1), help="Of each sample, for --rerank.")
@click.option("--index", type=click.Choice(["exact", "ivf", "hnsw"]), default="exact",
              show_default=True, help="Of the search; not exact: some are missed.")  # fmt: skip
@click.option("--match", type=click.Choice(["best", "csls", "mutual", "sinkhorn"]),
              help="How partners are chosen.")  # fmt: skip
@click.option("--metric", type=click.Choice(["cosine", "euclidean"]), help="Of embeddings.")
@click.option("--top-k", type=click.IntRange(min=1), help="Partners per sample (soft binding).")
@click.option("--mean", type=click.IntRange(min=2), help="Average so many partners when training.")
@click.option("--min-similarity", type=float, callback=finite, help="Drop pairs below.")
@click.option("--max-reuse", type=click.IntRange(min=1), help="How often one may be a partner.")
@click.option("--pca", type=click.IntRange(min=1), help="Reduce embeddings to so many dimensions.")
@click.option("--group-by", help="Match only inside equal values of this column.")
@click.option("--derive", multiple=True, help="Derivation for a store that lacks what is shared.")
@click.option("--window", type=click.FloatRange(min=0), callback=finite,
              help="Apart at most: seconds, metres.")  # fmt: skip
@click.option("--steps", type=click.IntRange(min=1), help="Of an embedding that is trained.")
@click.option("--label-model", help="Sentence model: a folder, a package or a hub name.")
@click.option("--label-text", help="Text of a sample, from columns of its table: {label}, ...")
@click.option("--label-map", type=click.Path(), help="JSON: other wordings of label texts.")
@click.option("--weights", type=click.Choice(["minmax_mean1", "raw", "softmax", "none"]),
              help="How similarity becomes weight.")  # fmt: skip
@click.option("--temperature", type=click.FloatRange(min=0, min_open=True), callback=finite,
              help="Of the weights of several partners.")  # fmt: skip
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0))
@click.option("--source", "sources", multiple=True, metavar="ID=PATH",
              help="Where a source of a bound input lies now.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Check the request, write nothing.")
@click.option("--overwrite", is_flag=True, help="Replace OUT.")
@reported
def command(
    stores: tuple[str, ...], out: str, shared: tuple[str, ...], sources: tuple[str, ...],
    screen: Screen, dry_run: bool, overwrite: bool, **chosen: Any,
) -> Report:  # fmt: skip
    """Pair each sample of A with its most similar one of B, and the reverse; then go on with C.

    A store may be converted, cut by partition, or bound already.
    """
    from mmbind_data.binding.bind import bind
    from mmbind_data.binding.inputs import open_inputs
    from mmbind_data.io.atomic import check_output

    options = bind_options(shared, chosen)
    if dry_run:
        check_output(Path(out), overwrite=overwrite, doing="bind", inputs=stores)
        opened = open_inputs(stores, source_paths(sources))
        return _rehearse(opened, shared, options)
    with screen.progress(f"bind by {', '.join(shared)}") as progress:
        info = bind(
            stores,
            out,
            shared=shared,
            options=options,
            sources=source_paths(sources),
            overwrite=overwrite,
            progress=progress,
        )
    return _report(out, info)


def _rehearse(
    opened: Sequence[Dataset | BoundDataset], shared: tuple[str, ...], options: BindOptions
) -> Report:
    from mmbind_data.binding.bind import check_binding

    counts = check_binding(opened, shared, options)
    line = " and ".join(f"{count} samples of {name}" for name, count in counts.items())
    return Report({"anchors": counts}, [f"would pair {line} by {', '.join(dict.fromkeys(shared))}"])


def _report(out: str, info: BoundInfo) -> Report:
    result = {
        "path": out,
        "pairs": info.n_rows,
        "similarity": info.similarity,
        "pairing_accuracy": info.pairing_accuracy,
        "reuse": info.reuse,
        "recipe": [one.recipe for one in info.binder],
        "content_digest": info.content_digest,
    }
    accuracy = info.pairing_accuracy
    judged = "unknown" if accuracy is None else f"{accuracy:.1%}"
    means = f"{info.n_rows['mean']} mean, " if "mean" in info.n_rows else ""
    line = (
        f"{out}: {info.n_rows['pseudo']} pseudo-paired, {means}{info.n_rows['incomplete']} "
        f"incomplete rows, median similarity {info.similarity['median']:.3f}, "
        f"pairing accuracy {judged}, a partner is used {info.reuse['max']:.0f} times at most"
    )
    return Report(result, [line], notes([f"warning: {text}" for text in info.warnings]))
