"""What a user asks of a protocol, and the protocol as it is then run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mmbind_data.errors import UsageError, problem, suggest
from mmbind_data.pairs import LABEL

from .benchmark_plan import Asked
from .methods import METHODS
from .protocol import Protocol, Row, load_protocol, merged
from .protocol_rules import TEST, VALIDATION


@dataclass(frozen=True)
class Request:
    """What to run of a protocol.

    Attributes
    ----------
    protocol : str or Path
        A shipped name or a file.
    data : Path, optional
        Folder of raw folders by dataset id; none with generated data.
    methods : sequence of str, optional
        Rows by name or method; all by default.
    seeds, splits : int, optional
        How many; those of the protocol by default.
    on : {"test", "validation"}
    paper_statistic : bool
    generated : bool
        The data is made up; without ``data`` it is made here.
    steps : int, optional
        Optimiser steps of every training, to try a protocol out.
    label_model : str, optional
        Another sentence model.
    """

    protocol: str | Path
    data: Path | None = None
    methods: Sequence[str] | None = None
    seeds: int | None = None
    splits: int | None = None
    on: Literal["test", "validation"] = "test"
    paper_statistic: bool = False
    generated: bool = False
    steps: int | None = None
    label_model: str | None = None


def narrow(request: Request) -> tuple[Protocol, Asked, tuple[str, ...]]:
    """The protocol as it is to be run, what of it, and how that departs from the file.

    Raises
    ------
    UsageError
        A row or method that does not exist, validation without validation splits, or a label model
        where no label is compared.
    """
    protocol = load_protocol(request.protocol)
    changes = []
    if request.steps is not None:
        protocol = _with_steps(protocol, request.steps)
        changes.append(f"{request.steps} steps of every training")
    if request.label_model is not None:
        protocol = _with_label_model(protocol, request.label_model)
        changes.append(f"label model {request.label_model}")
    rows = _chosen_rows(protocol, request.methods)
    if len(rows) < len(protocol.rows):
        changes.append(f"rows {', '.join(row.name for row in rows)} only")
    on_test = request.on == "test"
    splits = protocol.splits if on_test else protocol.validation_splits
    if not splits:
        raise UsageError(
            problem(f"run {protocol.name}", "it has no validation splits", "--on validation",
                    "a protocol with validation_splits", "none")
        )  # fmt: skip
    if request.splits is not None and request.splits < len(splits):
        splits = splits[: request.splits]
        changes.append(f"{request.splits} splits only")
    seeds = protocol.seeds
    if request.seeds is not None and request.seeds != len(seeds):
        more = range(max(seeds) + 1, max(seeds) + 1 + request.seeds)
        seeds = (*seeds, *more)[: request.seeds]
        changes.append(f"{request.seeds} seeds")
    held_out = TEST if on_test else VALIDATION
    asked = Asked(rows, splits, seeds, held_out, request.paper_statistic)
    return protocol, asked, tuple(changes)


def _chosen_rows(protocol: Protocol, names: Sequence[str] | None) -> tuple[Row, ...]:
    known = {name for row in protocol.rows for name in (row.name, row.method)}
    for name in names or ():
        if name not in known:
            raise UsageError(
                problem(f"run {protocol.name}", "no such row or method", "--methods",
                        f"some of {', '.join(sorted(known))}", repr(name), suggest(name, known))
            )  # fmt: skip
    # a row's own name is meant first: several rows may have one method
    titles = {row.name for row in protocol.rows}
    rows = tuple(
        row
        for row in protocol.rows
        if not names or row.name in names or row.method in set(names) - titles
    )
    lacking = sorted({row.method for row in rows} - set(METHODS))
    if lacking:
        ready = [row.name for row in protocol.rows if row.method in METHODS]
        raise UsageError(
            problem(f"run {protocol.name}", "this version of mmbind lacks methods", "its rows",
                    f"methods among {', '.join(METHODS)}", ", ".join(lacking),
                    f"Leave them out with --methods {','.join(ready)}.")
        )  # fmt: skip
    return rows


def _with_label_model(protocol: Protocol, label_model: str) -> Protocol:
    shared = sorted({name for row in protocol.rows for name in row.shared or protocol.shared})
    if LABEL not in shared:
        raise UsageError(
            problem(f"run {protocol.name}", "no label is compared", "--label-model",
                    "a protocol that binds by label", f"one that binds by {', '.join(shared)}",
                    "Leave it out.")
        )  # fmt: skip
    document = protocol.model_dump(mode="json")
    document["bind"]["label_model"] = label_model
    return Protocol.model_validate_json(json.dumps(document))


def _with_steps(protocol: Protocol, steps: int) -> Protocol:
    """The same protocol with short trainings, for every row alike."""
    document = protocol.model_dump(mode="json")
    budget = {"budget": {"steps": steps, "epochs": None}}
    document["train"] = merged(document["train"], budget)
    document["evaluate"] = merged(document["evaluate"], budget)
    embedding = max(1, steps)  # one that is not trained at all is none
    document["bind"]["steps"] = embedding
    for row in document["rows"]:
        for part in ("train", "evaluate"):
            if "budget" in row[part]:  # one of its own: shortened as well
                row[part] = merged(row[part], budget)
        if row["bind"]["recipe"] is not None or row["bind"]["steps"] is not None:
            row["bind"]["steps"] = embedding
    for condition in document["conditions"]:
        if condition["steps"] is not None:
            condition["steps"] = min(steps, condition["steps"])
    document["switches"] = [*document["switches"], "bind.steps"]
    return Protocol.model_validate_json(json.dumps(document))
