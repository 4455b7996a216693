"""Which cells a protocol needs: rows x splits x seeds x conditions, equal work only once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mmbind_data.pairs import LABEL
from mmbind_data.spec import Model

from .cells import BindJob, Cell, ScoreJob, TrainJob
from .fingerprint import cell_key, code_digest
from .preparation import NodeStore, Prepared
from .protocol import Condition, Protocol, Row, Split
from .protocol_bind import BindSettings
from .protocol_rules import FINETUNE, PAIRED_METHODS

# one evaluation of one row
Place = tuple[str, str, int, str]


@dataclass(frozen=True)
class Chain:
    """The cells behind one figure."""

    row: Row
    split: str
    seed: int
    condition: Condition
    bind: Cell | None
    train: Cell
    score: Cell


@dataclass(frozen=True)
class Asked:
    """What of a protocol is to be run."""

    rows: tuple[Row, ...]
    splits: tuple[Split, ...]
    seeds: tuple[int, ...]
    held_out: str
    paper_statistic: bool = False


def plan_cells(
    protocol: Protocol, asked: Asked, prepared: Prepared, work: Path
) -> tuple[list[Cell], list[Chain]]:
    """All cells, those that others need first, and what each figure comes from.

    Cells come seed by seed, so that an interrupted run has whole seeds.
    """
    chains = []
    for seed in asked.seeds:
        for split in asked.splits:
            nodes = {name: one for (at, name), one in prepared.nodes.items() if at == split.name}
            for row in asked.rows:
                chains += _chains(protocol, asked, row, split.name, seed, nodes, prepared, work)
    cells: dict[str, Cell] = {}
    for chain in chains:
        for cell in (chain.bind, chain.train, chain.score):
            if cell is not None:
                cells.setdefault(cell.key, cell)
    return list(cells.values()), chains


def _chains(
    protocol: Protocol,
    asked: Asked,
    row: Row,
    split: str,
    seed: int,
    nodes: Mapping[str, NodeStore],
    prepared: Prepared,
    work: Path,
) -> list[Chain]:
    at = f"{row.name}, split {split}, seed {seed}"
    bound = None
    if row.data is None:
        bound = _bind(protocol, row, seed, nodes, prepared, work, at)
        data, data_key = bound.out, bound.key
    else:
        data, data_key = nodes[row.data].path, nodes[row.data].key
    config = protocol.train_config(row, seed)
    code = code_digest("mmbind_train.train")
    key = cell_key("train", row.method, data_key, _plain(config), code)
    run = Cell(
        key, TrainJob(data, row.method, config), work / "runs" / key,
        (bound.key,) if bound else (), f"train {at}",
    )  # fmt: skip
    chains = []
    for condition in protocol.conditions:
        score = _score(protocol, asked, row, condition, seed, nodes, run, work)
        told = "" if protocol.once(row) else f", {condition.name}"
        named = replace(score, title=f"test {at}{told}")
        chains.append(Chain(row, split, seed, condition, bound, run, named))
    return chains


def _bind(
    protocol: Protocol,
    row: Row,
    seed: int,
    nodes: Mapping[str, NodeStore],
    prepared: Prepared,
    work: Path,
    at: str,
) -> Cell:
    # a method that does not read pairs takes those of the protocol, so its run is made once
    own = row if row.method in PAIRED_METHODS else row.model_copy(update={"bind": BindSettings()})
    options = protocol.bind_options(own, seed)
    inputs = [nodes[name] for name in row.inputs or protocol.inputs]
    shared = row.shared or protocol.shared
    if LABEL not in shared:  # the protocol's map is for those of its rows that bind by label
        options = replace(options, label_map={})
    labelled = tuple(prepared.sources[name] for name in sorted(prepared.sources))
    code = code_digest("mmbind_data.binding", "mmbind_train.protocol_bind", "mmbind_train.cells")
    key = cell_key("bind", [one.key for one in inputs], shared, repr(options), code)
    job = BindJob(tuple(one.path for one in inputs), shared, options, labelled)
    return Cell(
        key, job, work / "bound" / f"{key}.zarr", (), f"bind by {', '.join(shared)} for {at}"
    )


def _score(
    protocol: Protocol,
    asked: Asked,
    row: Row,
    condition: Condition,
    seed: int,
    nodes: Mapping[str, NodeStore],
    run: Cell,
    work: Path,
) -> Cell:
    finetune, held_out = nodes[FINETUNE], nodes[asked.held_out]
    config, once = protocol.evaluate_config(row, condition, seed), protocol.once(row)
    code = code_digest("mmbind_train.evaluate")
    key = cell_key(
        "score", run.key, finetune.key, held_out.key, _plain(config), asked.paper_statistic, once,
        code,
    )  # fmt: skip
    job = ScoreJob(run.out, finetune.path, held_out.path, config, asked.paper_statistic, once)
    return Cell(key, job, work / "scores" / f"{key}-result.json", (run.key,), "")


def _plain(config: Model) -> dict[str, object]:
    return config.model_dump(mode="json")


def estimate(cells: Sequence[Cell], measured: Mapping[str, Sequence[float]]) -> float | None:
    """Seconds of one process for what is not done, by the mean time of cells of its kind.

    None if some kind was never measured.
    """
    total = 0.0
    for cell in cells:
        if not cell.done:
            known = measured.get(cell.kind)
            if not known:
                return None
            total += sum(known) / len(known)
    return total
