"""mmbind new-dataset NAME."""

from __future__ import annotations

from pathlib import Path

import click

from ..output import Report, reported


@click.command("new-dataset")
@click.argument("name")
@click.option(
    "-o", "--out", type=click.Path(), help="Where to write; ./NAME or ./NAME.json if left out."
)
@click.option("--table", is_flag=True, help="Only a descriptor, for mmbind convert table.")
@reported
def command(name: str, out: str | None, table: bool) -> Report:
    """Begin a dataset of your own: a package that passes the conformance kit as it stands.

    With --table: a commented descriptor for CSV, Parquet, NumPy and MATLAB files, no code.
    """
    from mmbind_data.testing.scaffold import new_descriptor, new_package

    place = Path(out or (f"{name}.json" if table else name))
    written = new_descriptor(name, place) if table else new_package(name, place)
    lines = [str(place) if table else f"{place}: {', '.join(written)}"]
    if table:
        lines.append(f"next: mend it, then mmbind convert table RAW OUT.zarr --descriptor {place}")
    else:
        lines.append(f"next: pip install -e {place} pytest, then pytest {place}")
    return Report({"path": str(place), "files": written}, lines)
