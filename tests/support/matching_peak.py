"""Peak of resident memory of one match over inputs, libraries and a first small match.

Run by test_similarity.py in a process of its own: ROWS RULE, prints MiB.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from mmbind_data.matching.match import match
from mmbind_data.matching.rule import MatchRule

RULES = {
    "best": MatchRule(),
    "top 10": MatchRule(top_k=10),
    "csls": MatchRule("csls"),
    "csls, top 10": MatchRule("csls", top_k=10),
    "mutual": MatchRule("mutual", top_k=10),
    "reuse 3": MatchRule(max_reuse=3),
    "csls, reuse 3": MatchRule("csls", max_reuse=3),
}


def random_unit_rows(n: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((n, d), dtype=np.float32) for _ in range(2))
    for rows in (a, b):
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return a, b


def status_mib(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def main() -> None:
    a, b = random_unit_rows(int(sys.argv[1]), 128)
    torch.mm(torch.ones(64, 64), torch.ones(64, 64))
    match(a[:5000], b[:5000], MatchRule())
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = status_mib("VmRSS")
    match(a, b, RULES[sys.argv[2]])
    sys.stdout.write(f"{status_mib('VmHWM') - before}\n")


if __name__ == "__main__":
    main()
