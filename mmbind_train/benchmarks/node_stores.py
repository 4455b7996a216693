"""The stores of a benchmark: raw data of each source converted, each role's node cut out of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from mmbind_data.conversion import convert as conversion
from mmbind_data.conversion.convert import convert
from mmbind_data.datasets.registry import load_descriptor, load_reader_module
from mmbind_data.errors import LeakError, RawLayoutError, UsageError
from mmbind_data.progress import Progress
from mmbind_data.store import partitioning
from mmbind_data.store.dataset import Dataset, open_dataset
from mmbind_data.store.partitioning import partition
from mmbind_train.benchmarks.protocol import (
    FINETUNE,
    TEST,
    VALIDATION,
    Node,
    People,
    Protocol,
    Share,
    SourceData,
    Split,
)
from mmbind_train.training.cache_keys import code_digest, job_key

GENERATED = "GENERATED"  # a file of this name marks raw data that nobody measured
STAGES = {FINETUNE: "finetune", TEST: "test", VALIDATION: "validation"}


class NotPreparedError(LookupError):
    """A store that is not there yet, and was not to be made."""


@dataclass(frozen=True)
class NodeStore:
    """A node that lies on disk; its key tells its content and how it was cut."""

    name: str
    path: Path
    key: str
    content_digest: str


@dataclass(frozen=True)
class NodeStores:
    """All stores: (split, node) -> store, and each source's converted store."""

    nodes: Mapping[tuple[str, str], NodeStore]
    sources: Mapping[str, Path]
    digests: Mapping[str, str]


def find_raw(protocol: Protocol, data: Path) -> dict[str, Path]:
    """Raw folder or zip of each dataset that a protocol reads.

    Raises
    ------
    RawLayoutError
        Naming every dataset that is missing and where it comes from.
    """
    found, missing = {}, {}
    for source in protocol.sources.values():
        places = [data / source.dataset, data / f"{source.dataset}.zip"]
        here = [place for place in places if place.exists()]
        if here:
            found[source.dataset] = here[0]
        else:
            missing[source.dataset] = load_descriptor(source.dataset).homepage.value
    if missing:
        names = ", ".join(missing)
        origin = ", ".join(f"{name} from {page}" for name, page in missing.items())
        raise RawLayoutError(
            cannot=f"run {protocol.name}",
            problem=f"no raw data of {names}",
            at=data,
            expected=" and ".join(f"{data}/{name}" for name in missing),
            got="nothing",
            fix=f"Get {origin}; or give --generated to try the protocol on made-up data.",
        )
    return found


def is_generated(raw: Mapping[str, Path], data: Path) -> bool:
    """Whether the raw data is marked as made up.

    Raises
    ------
    UsageError
        Some of it is, some is not.
    """
    marked = {
        name: (data / GENERATED).exists() or (path / GENERATED).exists()
        for name, path in raw.items()
    }
    if len(set(marked.values())) > 1:
        made_up = [name for name, mark in marked.items() if mark]
        raise UsageError(
            cannot="run a benchmark",
            problem="generated and real data would be mixed",
            at=data,
            expected="all of one kind",
            got=f"generated: {', '.join(made_up)}",
            fix=f"The file {GENERATED} marks a folder as generated.",
        )
    return any(marked.values())


def prepare(
    protocol: Protocol,
    raw: Mapping[str, Path],
    work: Path,
    splits: Sequence[Split],
    held_out: str,
    *,
    workers: int = 1,
    write: bool = True,
    progress: Progress | None = None,
) -> NodeStores:
    """Convert the sources and cut the nodes of each split; what lies there is used again.

    Parameters
    ----------
    protocol : Protocol
    raw : mapping of dataset id to path
    work : Path
    splits : sequence of Split
    held_out : {"T", "V"}
        The node that is held out; the other one is not cut at all.
    workers : int
    write : bool
        False: make nothing.
    progress : callable (done, total, text), optional

    Raises
    ------
    NotPreparedError
        Something would have to be made.
    RawLayoutError
        Raw data that cannot be read, or that lacks people whom a split names.
    LeakError
        A sample would be in two of pre-training, fine-tuning and test.
    """
    stores = {
        name: _convert(source, raw[source.dataset], work, workers, write, progress)
        for name, source in protocol.sources.items()
    }
    opened = {name: open_dataset(path) for name, path in stores.items()}
    for split in splits:
        _check_people(protocol, split, opened)
    nodes = {}
    for split in splits:
        for name in needed_nodes(protocol, held_out):
            node = protocol.nodes[name]
            nodes[split.name, name] = _cut(name, node, split, opened[node.source], work, write)
        _check_samples(split, {name: one for (at, name), one in nodes.items() if at == split.name})
    digests = {name: store.info.content_digest for name, store in opened.items()}
    return NodeStores(nodes, stores, digests)


def needed_nodes(protocol: Protocol, held_out: str) -> list[str]:
    """Nodes that the rows read, in the protocol's order."""
    names = {*protocol.inputs, FINETUNE, held_out}
    for row in protocol.rows:
        names |= {*(row.inputs or ()), *([row.data] if row.data else [])}
    return [name for name in protocol.nodes if name in names]


def group_share(name: str) -> float:
    """Place of a group between 0 and 1, the same on every machine.

    >>> round(group_share("sun3ddata/brown_bm_1"), 3)
    0.669
    """
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big") / 2**48


def _convert(
    source: SourceData,
    raw: Path,
    work: Path,
    workers: int,
    write: bool,
    progress: Progress | None,
) -> Path:
    reader = load_reader_module(source.dataset)
    code = code_digest(conversion, reader)
    # units, scales, windows and labels stand in the descriptor, which is no code
    known = load_descriptor(source.dataset).model_dump(mode="json")
    key = job_key("convert", source.model_dump(mode="json"), _listing(raw), known, code)
    out = work / "stores" / f"{source.dataset}-{key}.zarr"
    if not out.exists():
        _may_write(write, out)
        convert(
            source.dataset,
            raw,
            out,
            preset=source.preset,
            modalities=source.modalities,
            placements=source.placements,
            options=source.options,
            workers=workers,
            progress=progress,
        )
    return out


def _may_write(write: bool, out: Path) -> None:
    if not write:
        raise NotPreparedError(out)


def _listing(raw: Path) -> list[tuple[str, int, int]]:
    """Names, sizes and times of the raw files: a change of any makes a new conversion."""
    paths = sorted(raw.rglob("*")) if raw.is_dir() else [raw]
    return [
        (path.relative_to(raw.parent).as_posix(), path.stat().st_size, path.stat().st_mtime_ns)
        for path in paths
        if path.is_file()
    ]


def _people(node: Node, name: str, split: Split) -> list[People]:
    return [split.people[role] for role in node.people or (name,)]


def _check_people(protocol: Protocol, split: Split, opened: Mapping[str, Dataset]) -> None:
    for name, node in protocol.nodes.items():
        if any(role not in split.people for role in node.people or (name,)):
            continue  # the held-out node of the other kind of split
        info = opened[node.source].info
        asked = [one for chosen in _people(node, name, split) if not isinstance(chosen, Share)
                 for one in chosen]  # fmt: skip
        absent = [one for one in asked if one not in info.subjects]
        if absent:
            dataset = protocol.sources[node.source].dataset
            raise RawLayoutError(
                cannot=f"run {protocol.name}",
                problem=f"people of role {name} are not in the data",
                at=f"{dataset}, split {split.name}",
                expected=f"subjects {', '.join(asked)}",
                got=f"no {', '.join(absent)} among {', '.join(info.subjects)}",
                fix="Put the raw files of these people into the data folder and run it again.",
            )


def _cut(name: str, node: Node, split: Split, store: Dataset, work: Path, write: bool) -> NodeStore:
    """Write one role's store, unless it is there."""
    subjects: list[str] = []
    where: dict[str, list[str]] = {"label_text": list(node.classes)} if node.classes else {}
    for chosen in _people(node, name, split):
        if isinstance(chosen, Share):
            where.setdefault("uid", []).extend(_of_groups(store, chosen))
        else:
            subjects += chosen
    wanted = {
        "parent": store.info.content_digest,
        "subjects": subjects or None,
        "modalities": node.modalities,
        "labels": node.labels,
        "where": where or None,
        "node": name,
    }
    key = job_key("partition", wanted, code_digest(partitioning))
    out = work / "nodes" / f"{name}-{key}.zarr"
    if out.exists():
        digest = open_dataset(out).info.content_digest
    else:
        _may_write(write, out)
        digest = partition(
            store.path, out, subjects=subjects or None, modalities=node.modalities,
            labels=node.labels, where=where or None, node=name,
        ).content_digest  # fmt: skip
    return NodeStore(name, out, key, digest)


def _of_groups(store: Dataset, share: Share) -> list[str]:
    """Samples whose group lies in the share; one without a group is a group of its own."""
    samples = store.samples()
    uids = samples["uid"].to_pylist()
    groups = samples[share.column].to_pylist()
    return [
        uid
        for uid, group in zip(uids, groups, strict=True)
        if share.low <= group_share(group or uid) < share.high
    ]


def _check_samples(split: Split, nodes: Mapping[str, NodeStore]) -> None:
    """No sample in two stages, whatever the protocol says about people."""
    stages: dict[str, set[str]] = {}
    for name, node in nodes.items():
        stage = STAGES.get(name, "pretrain")
        stages.setdefault(stage, set()).update(open_dataset(node.path).samples()["uid"].to_pylist())
    for (first, own), (second, other) in combinations(stages.items(), 2):
        common = own & other
        if common:
            raise LeakError(
                cannot="run a benchmark",
                problem=f"samples are in {first} and in {second}",
                at=f"split {split.name}",
                expected="samples in one of them only",
                got=f"{len(common)} in both",
            )
