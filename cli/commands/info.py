"""mmbind info STORE."""

from __future__ import annotations

import click

from mmbind_data.spec.store import BoundInfo, DatasetInfo
from mmbind_data.spec.verdict import describe_quality
from mmbind_data.store.root import locate_store, read_info

from ..output import Report, reported


@click.command("info")
@click.argument("store", type=click.Path())
@reported
def command(store: str) -> Report:
    """Show what STORE, or the store of a bundle, holds, from its attributes alone."""
    info = read_info(locate_store(store))
    lines = _bound(info) if isinstance(info, BoundInfo) else _converted(info)
    lines.insert(0, f"{store}: {info.spec} {info.spec_version}")
    return Report(info.model_dump(mode="json"), lines)


def _converted(info: DatasetInfo) -> list[str]:
    lines = [
        f"{info.title} ({info.dataset_id} {info.dataset_version}, preset {info.preset})",
        f"{info.n_samples} samples",
    ]
    for name, modality in info.modalities.items():
        rate = f"{modality.rate_hz:g} Hz" if modality.rate_hz else "stretched to the recording"
        rate = rate if modality.axes[0].name == "time" else "still"
        shape = " x ".join(str(size) for size in modality.shape)
        lines.append(
            f"  {name:<10} {modality.kind:<12} {shape:<14} {modality.unit:<6} {rate}, "
            f"in {info.n_present[name]} samples"
        )
    lines.append(f"{_number(info.subjects, 'subject')}: {_counts(info.subjects)}")
    lines.append(f"{_number(info.labels, 'label')}: {_counts(info.labels)}")
    if info.partition:
        dropped = ", ".join(info.partition.dropped) or "none"
        lines.append(f"partition {info.partition.node}: dropped modalities {dropped}")
    lines.append(f"licence {info.licence.name}, redistribution {info.licence.redistribution}")
    return [*lines, f"content {info.content_digest}"]


def _bound(info: BoundInfo) -> list[str]:
    lines = [f"bound by {', '.join(info.shared)}, {info.mode}"]
    for source in info.sources:
        place = {"linked": f"at {source.path}", "index-only": "to be attached: mmbind hydrate",
                 "self-contained": "inside"}[info.mode]  # fmt: skip
        lines.append(
            f"  {source.source_id:<16} {source.n_samples} samples, "
            f"{', '.join(source.modalities)}, {place}"
        )
    lines.append(", ".join(f"{count} {kind}" for kind, count in info.n_rows.items()) + " rows")
    low, median, high = (info.similarity[key] for key in ("min", "median", "max"))
    lines.append(f"similarity {low:.3f} to {high:.3f}, median {median:.3f}")
    lines.append(describe_quality(info))
    lines += [f"warning: {text}" for text in info.warnings]
    mean, most = info.reuse["mean"], info.reuse["max"]
    lines.append(f"a partner is used {mean:.1f} times on average, {most:.0f} at most")
    return [*lines, f"content {info.content_digest}"]


def _number(things: dict[str, int], word: str) -> str:
    return f"{len(things)} {word}" if len(things) == 1 else f"{len(things) or 'no'} {word}s"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())
