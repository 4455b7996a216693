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
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from mmbind_data.binding.bind import bind
from mmbind_data.conversion.convert import convert
from mmbind_data.errors import IntegrityError, MMBindError, UsageError
from mmbind_data.publishing.hydrate import hydrate
from mmbind_data.publishing.publish import publish
from mmbind_data.publishing.verify import verify
from mmbind_data.spec.store import SourceInfo
from mmbind_data.store.bound import open_bound
from mmbind_data.store.dataset import open_dataset
from mmbind_train.config import Budget, TrainConfig
from mmbind_train.training.pretrain import train


class Declared(BaseModel):
    """Part of the document: no other keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(Declared):
    """A conversion: which people and modalities of which dataset; or a store that is there."""

    id: str
    dataset: str | None = None
    store: str | None = None
    preset: str = "default"
    subjects: tuple[str, ...] | None = None
    modalities: tuple[str, ...] | None = None
    placements: tuple[str, ...] | None = None
    options: dict[str, str] = {}

    @model_validator(mode="after")
    def one_of_both(self) -> Self:
        """Refuse a source that is converted and there already, or neither."""
        if (self.dataset is None) == (self.store is None):
            message = f"{self.id}: give either dataset or store"
            raise ValueError(message)
        return self


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
        ``mode``, ``n_rows``, ``hops`` (rows by hop), ``content_digest``, ``final_loss``, and
        ``seconds`` of each step.

    Raises
    ------
    MMBindError
    """
    declared = read_declaration(document)
    home, bundle, away = out / "home", out / "bundle", out / "away"
    work, seconds = away / "work" / "foundation.zarr", dict[str, float]()
    with timed(seconds, "convert"):
        stores = [_make(one, document, data, home / f"{one.id}.zarr") for one in declared.sources]
    with timed(seconds, "bind"):
        bind(stores, home / "bound.zarr", shared=declared.hops)
    bound = open_bound(home / "bound.zarr")
    with timed(seconds, "publish"):
        permissions = [document.parent / name for name in declared.publish.permissions]
        how = declared.publish.mode
        published = publish(bound, bundle, mode=how, permissions=permissions, name=declared.name)
    with timed(seconds, "hydrate"):
        local = _move(stores, bound.info.sources, away / "archive")
        hydrated = hydrate(bundle, work, local)
    with timed(seconds, "verify"):
        found = [*verify(bundle, depth="values"), *verify(work)]
    if found or hydrated.content_digest != published.content_digest:
        got = f"{found[0].where}: {found[0].message}" if found else "another content digest"
        raise IntegrityError(
            cannot="build",
            problem="damaged on the way",
            at=out,
            expected="the same content",
            got=got,
        )
    with timed(seconds, "train"):
        config = TrainConfig(budget=Budget(steps=declared.train.steps))
        run = train(work, away / "run", config=config)
    hops = bound.pairs()["hop"].to_pylist()
    return {
        "mode": published.mode,
        "n_rows": dict(hydrated.n_rows),
        "hops": {hop: hops.count(hop) for hop in sorted(set(hops))},
        "content_digest": published.content_digest,
        "final_loss": run.final_loss,
        "seconds": seconds,
    }


@contextmanager
def timed(seconds: dict[str, float], step: str) -> Iterator[None]:
    """Tell how long a step took, and keep it."""
    begin = time.monotonic()
    yield
    seconds[step] = round(time.monotonic() - begin, 1)
    sys.stderr.write(f"{step}: {seconds[step]} s\n")


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
        got = f"{len(declared.sources)} sources and {len(declared.hops)} hops"
        if len(declared.hops) == len(declared.sources) - 1 > 0:
            return declared
    raise UsageError(
        cannot="build",
        problem="the declaration cannot be used",
        at=document,
        expected=expected,
        got=got,
    )


def _make(source: Source, document: Path, data: Path, out: Path) -> Path:
    """The source's store: converted, or where it lies, seen from the declaration."""
    if source.store is not None:
        return open_dataset(document.parent / source.store).path
    name = str(source.dataset)
    raw = data / name
    return convert(
        name,
        raw if raw.exists() else raw.with_suffix(".zip"),
        out,
        preset=source.preset,
        subjects=source.subjects,
        modalities=source.modalities,
        placements=source.placements,
        options=source.options,
    ).path


def _move(stores: Sequence[Path], bound: Sequence[SourceInfo], archive: Path) -> dict[str, Path]:
    """Copy the stores as another machine might keep them: where each source of the pairs lies."""
    places = {}
    for number, store in enumerate(stores):
        place = archive / f"volume-{number}" / f"data-{number}.zarr"
        shutil.copytree(store, place)
        digest = open_dataset(place).info.content_digest
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
