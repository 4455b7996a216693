"""Bind several datasets into one published bundle, as one JSON document declares it.

    python examples/foundation/build.py examples/foundation/foundation.json --data RAW -o OUT

``RAW`` holds one folder or zip per dataset, by its id. ``OUT`` gets three places: ``home`` with the
conversions and the bound store, ``bundle`` as it is published, and ``away``, another machine: its
own stores under other names, the bundle attached to them, and a run trained there.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from mmbind_data.binding import bind
from mmbind_data.convert import convert
from mmbind_data.errors import IntegrityError, MMBindError, UsageError, problem
from mmbind_data.hydrate import hydrate
from mmbind_data.layout import open_bound, open_store
from mmbind_data.publish import plan_bundle, publish
from mmbind_data.verify import verify
from mmbind_train.config import Budget, TrainConfig
from mmbind_train.train import train


class Declared(BaseModel):
    """Part of the document: no other keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(Declared):
    """A conversion: which people and modalities of which dataset."""

    id: str
    dataset: str
    preset: str = "default"
    subjects: tuple[str, ...] | None = None
    modalities: tuple[str, ...] | None = None
    placements: tuple[str, ...] | None = None
    options: dict[str, str] = {}


class Publish(Declared):
    """How it is published; a path of a permission is relative to the document."""

    mode: Literal["auto", "self-contained", "index-only"] = "auto"
    permissions: tuple[str, ...] = ()


class Train(Declared):
    """How long the run is trained."""

    steps: int = 700


class Foundation(Declared):
    """The document: hop n binds source n + 1 to all before it by the modality that is named."""

    name: str
    sources: tuple[Source, ...]
    hops: tuple[str, ...]
    publish: Publish = Publish()
    train: Train = Train()


def build(document: Path, data: Path, out: Path) -> dict[str, Any]:
    """Convert, bind, publish; then hydrate and train in another layout of folders.

    Returns
    -------
    dict
        ``mode``, ``n_rows``, ``hops`` (rows by hop), ``content_digest``, ``final_loss``.

    Raises
    ------
    MMBindError
    """
    declared = read_declaration(document)
    home, bundle, away = out / "home", out / "bundle", out / "away"
    stores = [_convert(one, data, home / f"{one.id}.zarr") for one in declared.sources]
    bind(stores, home / "bound.zarr", shared=declared.hops)
    bound = open_bound(home / "bound.zarr")
    permissions = [document.parent / name for name in declared.publish.permissions]
    plan = plan_bundle(bound, mode=declared.publish.mode, permissions=permissions,
                       name=declared.name)  # fmt: skip
    published = publish(plan, bundle)
    local = _move(declared, bound.info.sources, home, away / "archive")
    hydrated = hydrate(bundle, away / "work" / "foundation.zarr", local)
    found = [*verify(bundle, depth="values"), *verify(away / "work" / "foundation.zarr")]
    if found or hydrated.content_digest != published.content_digest:
        got = f"{found[0].where}: {found[0].message}" if found else "another content digest"
        raise IntegrityError(problem("build", "damaged on the way", out, "the same content", got))
    config = TrainConfig(budget=Budget(steps=declared.train.steps))
    run = train(away / "work" / "foundation.zarr", away / "run", config=config)
    hops = bound.pairs()["hop"].to_pylist()
    return {
        "mode": published.mode,
        "n_rows": dict(hydrated.n_rows),
        "hops": {hop: hops.count(hop) for hop in sorted(set(hops))},
        "content_digest": published.content_digest,
        "final_loss": run.final_loss,
    }


def read_declaration(document: Path) -> Foundation:
    """Read the document.

    Raises
    ------
    UsageError
    """
    expected = "sources, and a hop for each but the first"
    try:
        declared = Foundation.model_validate_json(document.read_bytes())
    except OSError as error:
        got = error.strerror or str(error)
    except ValidationError as error:
        first = error.errors()[0]
        got = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    else:
        if len(declared.hops) == len(declared.sources) - 1 > 0:
            return declared
        got = f"{len(declared.sources)} sources and {len(declared.hops)} hops"
    raise UsageError(problem("build", "the declaration cannot be used", document, expected, got))


def _convert(source: Source, data: Path, out: Path) -> Path:
    raw = data / source.dataset
    return convert(
        source.dataset,
        raw if raw.exists() else raw.with_suffix(".zip"),
        out,
        preset=source.preset,
        subjects=source.subjects,
        modalities=source.modalities,
        placements=source.placements,
        options=source.options,
    ).path


def _move(declared: Foundation, bound: Any, home: Path, archive: Path) -> dict[str, Path]:
    """Copy the stores as another machine might keep them: where each source of the pairs lies."""
    places = {}
    for number, source in enumerate(declared.sources):
        place = archive / f"volume-{number}" / f"{source.dataset}-{number}.zarr"
        shutil.copytree(home / f"{source.id}.zarr", place)
        digest = open_store(place).info.content_digest
        (one,) = [one for one in bound if one.content_digest == digest]
        places[one.source_id] = place
    return places


def main() -> int:
    """Run as a script; the exit code is that of the ``mmbind`` command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("declaration", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="raw datasets, by their ids")
    parser.add_argument("-o", "--out", type=Path, required=True)
    given = parser.parse_args()
    try:
        result = build(given.declaration, given.data, given.out)
    except MMBindError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    sys.stdout.writelines(f"{name}: {value}\n" for name, value in result.items())
    return 0


if __name__ == "__main__":
    sys.exit(main())
