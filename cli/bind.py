"""mmbind bind --shared MODALITY A B -o OUT."""

from __future__ import annotations

from typing import Any

import click

from .output import Report, Screen, notes, reported


@click.command("bind")
@click.argument("stores", nargs=-1, required=True, type=click.Path(), metavar="A B [C ...]")
@click.option("-o", "--out", required=True, type=click.Path(), help="The bound store.")
@click.option("--shared", required=True, multiple=True,
              help="A modality that both sides carry, or label; once, or per binding.")  # fmt: skip
@click.option(
    "--embed",
    type=click.Choice(["autoencoder", "raw"]),
    default="autoencoder",
    show_default=True,
    help="How samples of a shared sensor are embedded.",
)
@click.option(
    "--steps",
    default=1000,
    show_default=True,
    type=click.IntRange(min=1),
    help="Of the autoencoder.",
)
@click.option("--label-model", help="Sentence model: a folder, a package or a hub name.")
@click.option(
    "--label-text",
    default="{label}",
    show_default=True,
    help="Text of a sample, from columns of its sample table.",
)
@click.option("--label-map", type=click.Path(), help="JSON: other wordings of label texts.")
@click.option(
    "--weights",
    type=click.Choice(["minmax_mean1", "raw", "softmax", "none"]),
    default="minmax_mean1",
    show_default=True,
    help="How similarity becomes weight.",
)
@click.option("--seed", default=0, show_default=True)
@click.option("--dry-run", is_flag=True, help="Check the request, write nothing.")
@click.option("--overwrite", is_flag=True, help="Replace OUT.")
@reported
def command(
    stores: tuple[str, ...], out: str, shared: tuple[str, ...], screen: Screen, dry_run: bool,
    overwrite: bool, **chosen: Any,
) -> Report:  # fmt: skip
    """Pair each sample of A with its most similar one of B, and the reverse; then go on with C.

    A store may be converted, cut by partition, or bound already.
    """
    from mmbind_data.binding import BindOptions, bind
    from mmbind_data.embed import DEFAULT_LABEL_MODEL
    from mmbind_data.label_texts import read_label_map

    kinds = {"label" if name == "label" else "sensor" for name in shared}
    if len(kinds) == 1:
        _refuse_idle_options(kinds.pop())
    if dry_run:
        return _rehearse(stores, shared)
    options = BindOptions(
        embed=chosen["embed"],
        steps=chosen["steps"],
        label_model=chosen["label_model"] or DEFAULT_LABEL_MODEL,
        label_text=chosen["label_text"],
        label_map=read_label_map(chosen["label_map"]) if chosen["label_map"] else {},
        weight_rule=chosen["weights"],
        seed=chosen["seed"],
    )
    with screen.progress(f"bind by {', '.join(shared)}") as progress:
        info = bind(
            stores, out, shared=shared, options=options, overwrite=overwrite, progress=progress
        )
    result = {
        "path": out,
        "pairs": info.n_rows,
        "similarity": info.similarity,
        "pairing_accuracy": info.pairing_accuracy,
        "reuse": info.reuse,
        "content_digest": info.content_digest,
    }
    accuracy = info.pairing_accuracy
    judged = "unknown" if accuracy is None else f"{accuracy:.1%}"
    line = (
        f"{out}: {info.n_rows['pseudo']} pseudo-paired and {info.n_rows['incomplete']} incomplete "
        f"rows, median similarity {info.similarity['median']:.3f}, pairing accuracy {judged}, "
        f"a partner is used {info.reuse['max']:.0f} times at most"
    )
    return Report(result, [line], notes(info.warnings, "heterogeneous"))


def _rehearse(stores: tuple[str, ...], shared: tuple[str, ...]) -> Report:
    from mmbind_data.binding import check_request, open_inputs
    from mmbind_data.pairs import candidates

    sides, chosen = check_request(open_inputs(stores), shared)
    names = [chosen[0], *chosen]
    counts = {
        " + ".join(source.source_id for source in side.sources): len(candidates(side, name))
        for side, name in zip(sides, names, strict=True)
    }
    line = " and ".join(f"{count} samples of {name}" for name, count in counts.items())
    return Report({"anchors": counts}, [f"would pair {line} by {', '.join(dict.fromkeys(chosen))}"])


def _refuse_idle_options(shared: str) -> None:
    """An option that the chosen kind of shared modality does not use is a misunderstanding."""
    idle = {"label": ("embed", "steps"), "sensor": ("label_model", "label_text", "label_map")}[
        shared
    ]
    context = click.get_current_context()
    for name in idle:
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            message = f"--{name.replace('_', '-')} is not used when a {shared} is shared"
            raise click.UsageError(message)
