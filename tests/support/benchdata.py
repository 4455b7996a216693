"""A protocol small enough for tests, and raw data in the authentic layout for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from mmbind_data.testing.generated import write_utd_mhad
from mmbind_train.benchmarks.node_stores import GENERATED
from mmbind_train.benchmarks.protocol import list_protocols

SMALL = {"width": 8, "feature_dim": 8, "embedding_dim": 4}
NAMES = ("lower_bound", "mim", "mmbind", "mmbind by lot", "upper_bound")


def write_raw(root: Path, *, n_subjects: int = 6, marked: bool = True) -> Path:
    """A data folder with a raw UTD-MHAD of three actions, marked as generated."""
    rng = np.random.default_rng(3)
    folder = root / "utd-mhad"
    write_utd_mhad(folder, n_subjects=n_subjects, n_actions=3, n_trials=2, rng=rng)
    if marked:
        (root / GENERATED).touch()
    return root


def small_document(**changes: Any) -> dict[str, Any]:
    """utd-cross-node-sensor with five rows, two seeds, one split and two steps."""
    document: dict[str, Any] = json.loads(list_protocols()["utd-cross-node-sensor"].read_text())
    document |= {"name": "small", "seeds": [0, 1], "switches": ["bind.embed", "bind.weight_rule"]}
    document["paper"] = {"where": "nowhere"}
    document["splits"] = document["splits"][:1]
    document["validation_splits"] = document["validation_splits"][:1]
    document["conditions"] = [
        {"name": "1 per class", "labels_per_class": 1},
        {"name": "all", "label_fraction": 1.0},
    ]
    budget = {"steps": 2, "batch": 16}
    document["train"] = {"budget": budget, "network": SMALL}
    document["evaluate"] = {"budget": {"steps": 3}}
    by_lot = {"embed": "random", "weight_rule": "none"}
    document["rows"] = [
        {"name": "lower_bound", "method": "lower_bound"},
        {"name": "mim", "method": "mim"},
        {"name": "mmbind", "method": "mmbind"},
        {"name": "mmbind by lot", "method": "mmbind", "bind": by_lot},
        {"name": "upper_bound", "method": "upper_bound", "data": "N"},
    ]
    return document | changes


def write_protocol(path: Path, **changes: Any) -> Path:
    """`small_document` as a file."""
    path.write_text(json.dumps(small_document(**changes)))
    return path
