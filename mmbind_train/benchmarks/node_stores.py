"""The stores of a benchmark: each source converted, and every node cut out of its source."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from mmbind_data.conversion import convert as conversion
from mmbind_data.conversion.convert import convert
from mmbind_data.datasets.registry import load_descriptor, load_reader_module
from mmbind_data.errors import LeakError, RawLayoutError, UsageError
from mmbind_data.progress import Progress
from mmbind_data.store import partitioning
from mmbind_data.store.dataset import Dataset, open_dataset
from mmbind_data.store.partitioning import partition
from mmbind_train.benchmarks.protocol import FINETUNE, TEST, VALIDATION, Protocol, read_nodes
from mmbind_train.benchmarks.protocol_parts import Node, People, Share, SourceData, Split
from mmbind_train.training.cache_keys import code_digest, job_key

GENERATED = "GENERATED"  # a file of this name marks raw data that was not measured
CONVERT_OPTIONS = ("preset", "modalities", "placements", "options")  # fields of a source
STAGES = {FINETUNE: "finetune", TEST: "test", VALIDATION: "validation"}


class NotPreparedError(LookupError):
    """A store does not exist yet and may not be written now."""


@dataclass(frozen=True)
class NodeStore:
    """A node on disk; its key depends on its content and on how it was cut."""

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
    datasets = dict.fromkeys(source.dataset for source in protocol.sources.values())
    found = {
        name: path
        for name in datasets
        for path in (data / f"{name}.zip", data / name)
        if path.exists()
    }
    if missing := [name for name in datasets if name not in found]:
        problem = f"no raw data of {', '.join(missing)}"
        expected = " and ".join(f"{data}/{name}" for name in missing)
        fix = f"Get {origins(missing)}; or give --generated to try the protocol on made-up data."
        raise missing_data(protocol, problem, data, expected, "nothing", fix)
    return found


def missing_data(
    protocol: Protocol, problem: str, at: object, expected: str, got: str, fix: str
) -> RawLayoutError:
    """The error for raw data that a protocol needs and that is not there."""
    return RawLayoutError(
        cannot=f"run {protocol.name}", problem=problem, at=at, expected=expected, got=got, fix=fix
    )


def origins(datasets: Sequence[str]) -> str:
    """Datasets and the pages that they are downloaded from, for people."""
    return ", ".join(f"{one} from {load_descriptor(one).homepage.value}" for one in datasets)


def is_generated(raw: Mapping[str, Path], data: Path) -> bool:
    """Whether the raw data is marked as made up.

    Raises
    ------
    UsageError
        Some of it is, some is not.
    """
    marked = [name for name, path in raw.items() if (path / GENERATED).exists()]
    if (data / GENERATED).exists():
        return True
    if 0 < len(marked) < len(raw):
        raise UsageError(
            cannot="run a benchmark",
            problem="generated and real data would be mixed",
            at=data,
            expected="all of one kind",
            got=f"generated: {', '.join(marked)}",
            fix=f"The file {GENERATED} marks a folder as generated.",
        )
    return bool(marked)


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
    """Convert the sources and cut the nodes of each split; stores that exist are reused.

    ``raw`` has a path per dataset id. ``held_out`` is the node that is held out, T or V; the other
    one is not cut at all. With ``write=False`` nothing is written.

    Raises
    ------
    NotPreparedError
        A store is missing and ``write`` is False.
    RawLayoutError
        Raw data that cannot be read, or that lacks people of a split.
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
        for name in read_nodes(protocol, held_out):
            node = protocol.nodes[name]
            nodes[split.name, name] = _cut(name, node, split, opened[node.source], work, write)
        _check_samples(split, {name: one for (at, name), one in nodes.items() if at == split.name})
    digests = {name: store.info.content_digest for name, store in opened.items()}
    return NodeStores(nodes, stores, digests)


def group_share(name: str) -> float:
    """A number from 0 to 1 for a group, the same on every machine.

    >>> round(group_share("sun3ddata/brown_bm_1"), 3)
    0.669
    """
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big") / 2**48


def _convert(
    source: SourceData, raw: Path, work: Path, workers: int, write: bool, progress: Progress | None
) -> Path:
    code = code_digest(conversion, load_reader_module(source.dataset))
    # units, scales, windows and labels are in the descriptor, which is not code
    descriptor = load_descriptor(source.dataset).model_dump(mode="json")
    key = job_key("convert", source.model_dump(mode="json"), _listing(raw), descriptor, code)
    out = work / "stores" / f"{source.dataset}-{key}.zarr"
    if not out.exists():
        if not write:
            raise NotPreparedError(out)
        chosen: dict[str, Any] = {name: getattr(source, name) for name in CONVERT_OPTIONS}
        convert(source.dataset, raw, out, workers=workers, progress=progress, **chosen)
    return out


def _listing(raw: Path) -> list[tuple[str, int, int]]:
    """Names, sizes and times of the raw files: a change of one makes a new conversion."""
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
        people = [one for one in _people(node, name, split) if not isinstance(one, Share)]
        subjects = [subject for one in people for subject in one]
        if absent := [one for one in subjects if one not in info.subjects]:
            problem = f"people of role {name} are not in the data"
            at = f"{protocol.sources[node.source].dataset}, split {split.name}"
            got = f"no {', '.join(absent)} among {', '.join(info.subjects)}"
            fix = "Put the raw files of these people into the data folder and run it again."
            raise missing_data(protocol, problem, at, f"subjects {', '.join(subjects)}", got, fix)


def _cut(name: str, node: Node, split: Split, store: Dataset, work: Path, write: bool) -> NodeStore:
    """Write a node's store, unless it exists."""
    subjects: list[str] = []
    where: dict[str, list[str]] = {"label_text": list(node.classes)} if node.classes else {}
    for people in _people(node, name, split):
        if isinstance(people, Share):
            where.setdefault("uid", []).extend(_uids_of_share(store, people))
        else:
            subjects += people
    options: dict[str, Any] = {
        "subjects": subjects or None,
        "modalities": node.modalities,
        "labels": node.labels,
        "where": where or None,
        "node": name,
    }
    code = code_digest(partitioning)
    key = job_key("partition", {"parent": store.info.content_digest, **options}, code)
    out = work / "nodes" / f"{name}-{key}.zarr"
    if not out.exists():
        if not write:
            raise NotPreparedError(out)
        partition(store.path, out, **options)
    return NodeStore(name, out, key, open_dataset(out).info.content_digest)


def _uids_of_share(store: Dataset, share: Share) -> list[str]:
    """Samples whose group is in the share; a sample without a group is a group of its own."""
    samples = store.samples()
    uids, groups = samples["uid"].to_pylist(), samples[share.column].to_pylist()
    return [
        uid
        for uid, group in zip(uids, groups, strict=True)
        if share.low <= group_share(group or uid) < share.high
    ]


def _check_samples(split: Split, nodes: Mapping[str, NodeStore]) -> None:
    """Refuse a sample in two stages, whatever the protocol says about people."""
    stages: dict[str, set[str]] = {}
    for name, node in nodes.items():
        stage = STAGES.get(name, "pretrain")
        stages.setdefault(stage, set()).update(open_dataset(node.path).samples()["uid"].to_pylist())
    for (first, samples), (second, others) in combinations(stages.items(), 2):
        if common := samples & others:
            raise LeakError(
                cannot="run a benchmark",
                problem=f"samples are in {first} and in {second}",
                at=f"split {split.name}",
                expected="samples in one of them only",
                got=f"{len(common)} in both",
            )
