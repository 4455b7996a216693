"""mmbind advise A B."""

from __future__ import annotations

from dataclasses import asdict

import click

from .. import options
from ..output import Report, notes, reported


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
        lines.append(f"{rank}. {one.shared}: expected pairing accuracy {expected}")
        lines += [f"   {reason}" for reason in one.reasons]
    step = f"mmbind bind --shared {advice[0].shared} {a} {b} -o bound.zarr"
    if set(stores[0].info.modalities) == set(stores[1].info.modalities):
        step = "nothing; both carry the same modalities, so neither completes the other"
    lines.append(f"next: {step}")
    return Report([asdict(one) for one in advice], lines, notes(refused))
