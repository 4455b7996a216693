"""mmbind datasets [NAME]."""

from __future__ import annotations

import json
from typing import Any

import click

from mmbind_data.spec.descriptor import Descriptor

from ..output import Report, reported


@click.command("datasets")
@click.argument("name", required=False)
@reported
def command(name: str | None) -> Report:
    """List the known datasets, or show NAME in full: licence, raw layout, modalities."""
    from mmbind_data.datasets.reader import TABLE
    from mmbind_data.datasets.registry import list_datasets, load_descriptor

    if name == TABLE:
        return _own_data()
    if name is None:
        known = [load_descriptor(dataset) for dataset in list_datasets()]
        lines = [_table(known), "", "your own tables and arrays: mmbind datasets table"]
        return Report([_row(descriptor) for descriptor in known], lines)
    descriptor = load_descriptor(name)
    return Report(descriptor.model_dump(mode="json"), _sheet(descriptor))


def _row(descriptor: Descriptor) -> dict[str, Any]:
    return {
        "dataset_id": descriptor.dataset_id,
        "title": descriptor.title,
        "modalities": list(descriptor.streams),
        "presets": list(descriptor.presets),
        "licence": descriptor.licence.name,
        "redistribution": descriptor.licence.redistribution,
    }


def _own_data() -> Report:
    """What a descriptor of one's own data may say: the commented one that new-dataset writes."""
    from mmbind_data.json_schemas import json_schema
    from mmbind_data.testing.scaffold import own_data_text

    lines = [
        "table: your own CSV, TSV, Parquet, NumPy or MATLAB files, described by a JSON document.",
        "Begin with: mmbind new-dataset NAME --table, which writes this:",
        own_data_text("my-data"),
        "Convert: mmbind convert table RAW OUT.zarr --descriptor my-data.json",
    ]
    return Report(json_schema("own_data"), lines)


def _table(known: list[Descriptor]) -> Any:
    from rich.table import Table

    table = Table("dataset", "modalities", "presets", "redistribution", box=None)
    for one in known:
        names = ", ".join(one.streams)
        presets = ", ".join(one.presets)
        table.add_row(one.dataset_id, names, presets, one.licence.redistribution)
    return table


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _sheet(one: Descriptor) -> list[str]:
    lines = [
        f"{one.dataset_id}: {one.title} (version {one.version})",
        f"homepage        {one.homepage.value}",
        f"citation        {one.citation.value}",
        f"licence         {one.licence.name}; may adapted data be passed on: "
        f"{one.licence.redistribution} ({one.licence.source})",
        f"size            {one.size.value}",
        f"subjects        {one.n_subjects.value}",
        f"labels          {'; '.join(one.labels.values()) or 'as found in the data'}",
        "modalities",
    ]
    width = max(len(name) for name in (*one.streams, *one.presets))
    for name, stream in one.streams.items():
        shape = " x ".join(str(axis.size) for axis in stream.channels)
        optional = ", only when asked for" if stream.optional else ""
        rate = stream.raw_rate_hz.value
        speed = f" at {rate} Hz" if isinstance(rate, (int, float)) else ""
        lines.append(
            f"  {name:<{width}} {stream.kind}, {shape}, {stream.unit} "
            f"(raw {stream.raw_unit.value}{speed}{optional})"
        )
    if one.placements:
        lines.append(f"placements      {', '.join(one.placements)} (--placement)")
    for name, option in one.options.items():
        lines.append(f"--set {name}={option.default:<10}{option.summary}")
    lines.append("presets")
    lines += [f"  {name:<{width}} {preset.summary}" for name, preset in one.presets.items()]
    lines += ["raw layout", *(f"  {line}" for line in str(one.raw_layout.value).splitlines())]
    if one.checksums:
        names = dict.fromkeys(known.file for known in one.checksums)
        lines += ["official checksums known", f"  {', '.join(names)}"]
    lines += ["quirks", *(f"  {_plain(fact.value)}" for fact in one.quirks)] if one.quirks else []
    lines += ["verified on real bytes", *(f"  {text}" for text in one.verified)]
    return [*lines, "not verified", *(f"  {text}" for text in one.unverified)]
