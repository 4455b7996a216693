"""Two-way matching against faiss, as a ratio in one run. `pytest -m benchmark -s tests/benchmarks`.

MMBIND_BENCHMARK_ROWS=100000 measures the large case of facts/performance.md.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable

import faiss
import numpy as np
import pytest

from mmbind_data.similarity import best_matches, unit_rows

pytestmark = pytest.mark.benchmark


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def test_two_way_matching_beats_two_flat_searches() -> None:
    n_rows, d, repeats = int(os.environ.get("MMBIND_BENCHMARK_ROWS", "20000")), 128, 3
    rng = np.random.default_rng(0)
    a, b = (unit_rows(rng.standard_normal((n_rows, d))) for _ in range(2))

    def peer() -> tuple[np.ndarray, np.ndarray]:
        found = []
        for queries, base in ((a, b), (b, a)):
            index = faiss.IndexFlatIP(d)
            index.add(base)
            found.append(index.search(queries, 1)[1][:, 0])
        return found[0], found[1]

    ours, theirs = [], []
    for _ in range(repeats):  # interleaved, so that other load hits both
        ours.append(seconds(lambda: best_matches(a, b)))
        theirs.append(seconds(peer))
    forward, backward = best_matches(a, b)
    to_b, to_a = peer()
    agreement = min((forward.partner == to_b).mean(), (backward.partner == to_a).mean())
    ratio = statistics.median(theirs) / statistics.median(ours)
    print(
        f"\n{n_rows} x {n_rows} x {d}: mmbind {statistics.median(ours):.2f} s, "
        f"faiss flat twice {statistics.median(theirs):.2f} s, ratio {ratio:.2f}, "
        f"agreement {agreement:.6f}, OPENBLAS_CORETYPE={os.environ.get('OPENBLAS_CORETYPE')}"
    )
    assert agreement >= 0.9999
    assert ratio >= 1.0
