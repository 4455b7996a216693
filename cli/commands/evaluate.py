"""mmbind evaluate RUN --finetune C --test T."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from .. import options
from ..config import read_config
from ..output import Report, Screen, notes, reported

if TYPE_CHECKING:
    from mmbind_train.evaluation.retrieval import RetrievalResult

LEARN = "What labels change.  [default: all; means in a transfer]"
CHANGED = (
    "modalities", "finetune_modalities", "test_modalities", "learn", "labels_per_class",
    "label_fraction", "modality_dropout",
)  # fmt: skip
DROPOUT = "Share of modalities taken away at random while fine-tuning."


@click.command("evaluate")
@click.argument("run", type=click.Path())
@click.option("--finetune", required=True, type=click.Path(), help="Labelled store C.")
@click.option("--test", required=True, type=click.Path(), help="Labelled store T.")
@options.names("--modalities", help="Inputs; by default all in common.")
@options.names("--finetune-modalities", help="Transfer: those of C whose labels are read.")
@options.names("--test-modalities", help="Transfer: those that arrive in T.")
@click.option("--learn", type=click.Choice(["all", "head", "means"]), help=LEARN)
@click.option(
    "--retrieval", is_flag=True, help="Find the ones by the others in T, and the reverse."
)
@options.count("--labels-per-class", help="Labelled samples a class.")
@click.option("--label-fraction", type=float, help="Share of C's samples that are labelled.")
@options.count("--seeds", help="How many.  [default: 5]")
@options.natural("--first-seed", help="[default: 0]")
@options.natural("--steps", help="Of the fine-tuning.  [default: 100]")
@options.device()
@click.option("--modality-dropout", type=click.FloatRange(0, 1, max_open=True), help=DROPOUT)
@click.option("--every-subset", is_flag=True, help="Also score every subset of the modalities.")
@click.option("--save", type=click.Path(), help="Write the first seed's network as a run.")
@options.overwrite(help="Replace a run at --save.")
@click.option("--config", type=click.Path(), help="JSON with every option.")
@reported
def command(
    run: str, finetune: str, test: str, screen: Screen, config: str | None, **chosen: Any
) -> Report:
    """Fine-tune RUN on few labels of C, once per seed; then read T, once, and score it.

    With --finetune-modalities and --test-modalities the labels of some sensors serve others: a
    classifier from C's skeletons, say, is tested on T's gyroscope, for which it has seen no label.
    """
    from mmbind_train.config import EvaluateConfig
    from mmbind_train.evaluation.evaluate import evaluate
    from mmbind_train.training.hardware import choose_hardware

    if chosen["labels_per_class"] is not None and chosen["label_fraction"] is not None:
        raise click.UsageError("--labels-per-class and --label-fraction cannot be given together")
    changes: dict[str, Any] = {"budget": {}}
    if chosen["seeds"] is not None or chosen["first_seed"] is not None:
        first = chosen["first_seed"] or 0
        changes["seeds"] = list(range(first, first + (chosen["seeds"] or 5)))
    for name in CHANGED:
        if chosen[name] is not None:
            changes[name] = chosen[name]
    if chosen["steps"] is not None:
        changes["budget"] = {"steps": chosen["steps"], "epochs": None}
    settings = read_config(EvaluateConfig, config, changes)
    hardware = choose_hardware(chosen["device"], doing="evaluate")
    with screen.progress("fine-tune") as progress:
        how = {name: chosen[name] for name in ("every_subset", "retrieval", "save", "overwrite")}
        how |= {"hardware": hardware, "progress": progress}
        result = evaluate(run, finetune, test, config=settings, **how)
    spread = "" if result.accuracy_std is None else f" +- {result.accuracy_std:.1%}"
    used = ", ".join(result.modalities)
    if settings.is_transfer:
        used = f"labels of {' + '.join(result.finetune_modalities)}"
        used += f", tested on {' + '.join(result.test_modalities)}"
    line = (
        f"{result.method} with {used}: accuracy {result.accuracy:.1%}"
        f"{spread}, macro-F1 {result.macro_f1:.3f}, {result.n_test} test samples of "
        f"{result.n_classes} classes, {len(result.per_seed)} seeds"
    )
    left_out = result.n_test_without_input
    remarks = [f"{left_out} labelled test samples carry none of the inputs: not scored"]
    subsets = [
        f"  {' + '.join(one.modalities)}: accuracy {one.accuracy:.1%} of {one.n_test}"
        for one in result.per_subset
    ]
    found = [_retrieved(one) for one in result.retrieval]
    kept = [f"{result.saved}: the network of seed {settings.seeds[0]}"] if result.saved else []
    lines = [line, *subsets, *found, *kept]
    return Report(result.model_dump(mode="json"), lines, notes(remarks if left_out else []))


def _retrieved(result: RetrievalResult) -> str:
    recording, same_class = (
        ", ".join(f"{share:.1%} in {k}" for k, share in one.items())
        for one in (result.recording, result.same_class)
    )
    return (
        f"  {' + '.join(result.query)} finds {' + '.join(result.gallery)}: the same recording "
        f"{recording}, mean rank {result.mean_rank:.1f} of {result.n}; the same class {same_class}"
    )
