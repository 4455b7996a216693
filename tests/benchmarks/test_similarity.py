"""Two-way matching against faiss, as a ratio in one run.

OMP_NUM_THREADS=2 OMP_WAIT_POLICY=PASSIVE pytest -m benchmark -s tests/benchmarks/test_similarity.py

MMBIND_BENCHMARK_ROWS=100000 measures a large case, and
MMBIND_BENCHMARK_OPTIONS=1 adds a row for each option.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

import faiss
import numpy as np
import pytest
import torch
from matching_peak import RULES, random_unit_rows

from mmbind_data.matching import products
from mmbind_data.matching.approximate import approximate_candidates
from mmbind_data.matching.candidates import Matches
from mmbind_data.matching.match import match
from mmbind_data.matching.rule import MatchRule

pytestmark = pytest.mark.benchmark

ROWS = int(os.environ.get("MMBIND_BENCHMARK_ROWS", "20000"))
MEMORY_MIB = 250


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def growth_mib(work: Callable[[], object]) -> float:
    """Peak of resident memory during some work over what was there before, sampled."""
    before, peak, done = resident_mib(), 0.0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.002):
            peak = max(peak, resident_mib())

    watcher = threading.Thread(target=watch)
    watcher.start()
    work()
    done.set()
    watcher.join()
    return max(peak, resident_mib()) - before


def best_matches(a: np.ndarray, b: np.ndarray) -> tuple[Matches, Matches]:
    return match(a, b, MatchRule())


def wrong(a: np.ndarray, b: np.ndarray, ours: np.ndarray, theirs: np.ndarray) -> tuple[int, float]:
    """Rows with another partner than faiss's, and by how much theirs is better at most."""
    rows = np.flatnonzero(ours != theirs)
    wide = a[rows].astype(np.float64)
    gain = (wide * b[theirs[rows]]).sum(axis=1) - (wide * b[ours[rows]]).sum(axis=1)
    return len(rows), float(gain.max(initial=0.0))


def test_two_way_matching_beats_two_flat_searches() -> None:
    d, repeats = 128, 3 if ROWS <= 50_000 else 1
    threads = products.usable_threads()
    faiss.omp_set_num_threads(threads)
    a, b = random_unit_rows(ROWS, d)

    def peer() -> tuple[np.ndarray, np.ndarray]:
        found = []
        for queries, base in ((a, b), (b, a)):
            index = faiss.IndexFlatIP(d)
            index.add(base)
            found.append(index.search(queries, 1)[1][:, 0])
        return found[0], found[1]

    torch.mm(torch.ones(64, 64), torch.ones(64, 64))  # the trainer and the autoencoder load it too
    with products.fast_kernel(float(ROWS) * ROWS * d, d) as kernel:
        path, error = kernel.name, products.probe_error(kernel, d)
    growth = growth_mib(lambda: best_matches(a, b))
    ours, theirs = [], []
    for _ in range(repeats):  # interleaved, so that other load hits both
        ours.append(seconds(lambda: best_matches(a, b)))
        theirs.append(seconds(peer))
    forward, backward = best_matches(a, b)
    to_b, to_a = peer()
    off, gain = zip(
        wrong(a, b, forward.partner[:, 0], to_b),
        wrong(b, a, backward.partner[:, 0], to_a),
        strict=True,
    )
    agreement = 1.0 - max(off) / ROWS
    ratio = statistics.median(theirs) / statistics.median(ours)
    print(
        f"\n{ROWS} x {ROWS} x {d}: mmbind {statistics.median(ours):.2f} s ({path}, probe error "
        f"{error:.1e}), faiss flat twice {statistics.median(theirs):.2f} s, ratio {ratio:.2f}; "
        f"{threads} threads, load {os.getloadavg()[0]:.1f}, peak growth {growth:.0f} MiB, "
        f"agreement {agreement:.6f}, faiss better by {max(gain):.1e} at most, "
        f"OPENBLAS_CORETYPE={os.environ.get('OPENBLAS_CORETYPE')}"
    )
    assert agreement >= 0.9999
    assert max(gain) <= 1e-6
    assert growth < MEMORY_MIB
    assert ratio >= (1.7 if path == "onednn" else 1.0)


@pytest.mark.parametrize("rule", RULES)
def test_memory_over_the_inputs(rule: str) -> None:
    """In a process of its own; 250 MiB at 100 000 rows, in proportion (and 40 MiB) below."""
    script = Path(__file__).parents[1] / "support" / "matching_peak.py"
    done = subprocess.run(
        [sys.executable, script, str(ROWS), rule], capture_output=True, text=True, check=True
    )
    peak = float(done.stdout)
    allowed = min(MEMORY_MIB, 40 + MEMORY_MIB * ROWS / 100_000)
    print(f"\n{ROWS} x {ROWS} x 128, {rule}: {peak:.0f} MiB over the inputs")
    assert peak < allowed


@pytest.mark.parametrize("index", ["ivf", "hnsw"])
def test_what_an_approximate_index_finds_and_saves(index: Literal["ivf", "hnsw"]) -> None:
    """Rows around 500 centres, as embeddings of activities lie; 10 candidates."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((500, 128), dtype=np.float32)
    a, b = (
        centres[rng.integers(0, 500, ROWS)] + rng.standard_normal((ROWS, 128), dtype=np.float32)
        for _ in range(2)
    )
    begin = time.process_time()
    found, recall = approximate_candidates(a, b, 10, index=index)
    middle = time.process_time()
    exact = match(a, b, MatchRule(top_k=10))
    end = time.process_time()
    best = np.mean(
        [
            (got.partner[:, 0] == want.partner[:, 0]).mean()
            for got, want in zip(found, exact, strict=True)
        ]
    )
    print(
        f"\n{index}, {ROWS} x {ROWS} x 128: {middle - begin:.1f} s of processor, exact "
        f"{end - middle:.1f} s; best found {best:.4f} (estimated {recall.best:.4f}), candidates "
        f"{recall.listed:.4f}"
    )
    assert recall.best == pytest.approx(best, abs=0.05)
    assert best > 0.9


def test_a_million_rows_derived_from_slices() -> None:
    """Time is a * n_a * n_b * d + what grows with the rows: two slices give both."""
    n, d = 1_000_000, 64
    slice_rows, columns = 4096, 100_000
    a, b = random_unit_rows(columns, d)
    times = [seconds(lambda: best_matches(a[:slice_rows], b)) for _ in range(3)]
    half = [seconds(lambda: best_matches(a[: slice_rows // 2], b)) for _ in range(3)]
    per_pair = (min(times) - min(half)) / (slice_rows / 2 * columns)
    print(
        f"\n1M x 1M x {d}, derived from {slice_rows} and {slice_rows // 2} x {columns} rows: "
        f"{per_pair * 1e9:.3f} ns a pair, {per_pair * n * n / 60:.1f} min on "
        f"{products.usable_threads()} threads; operands {2 * n * d * 4 / 2**20:.0f} MiB"
    )
    assert per_pair > 0


@pytest.mark.skipif("MMBIND_BENCHMARK_OPTIONS" not in os.environ, reason="on request")
def test_what_the_options_cost() -> None:
    a, b = random_unit_rows(ROWS, 128)
    base = seconds(lambda: best_matches(a, b))
    rules = {
        "euclidean": MatchRule(metric="euclidean"),
        "mutual": MatchRule("mutual"),
        "top 10": MatchRule(top_k=10),
        "csls": MatchRule("csls"),
        "csls, top 10": MatchRule("csls", top_k=10),
        "reuse 3": MatchRule(max_reuse=3),
        "pca 32": MatchRule(pca=32),
    }
    print(f"\n{ROWS} x {ROWS} x 128: best {base:.2f} s")
    for name, rule in rules.items():
        work = partial(match, a, b, rule)
        growth = growth_mib(work)
        print(f"  {name}: {seconds(work):.2f} s, {growth:.0f} MiB")
