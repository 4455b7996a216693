"""Which kernel is taken, and that a reduced-precision one never is."""

from __future__ import annotations

import contextlib
import importlib
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch

from mmbind_data.matching import products
from mmbind_data.matching.match import match
from mmbind_data.matching.metric import Metric
from mmbind_data.matching.products import (
    DEFAULT_BLOCKING,
    NUMPY,
    Blocking,
    ProductKernel,
    fast_kernel,
    onednn_kernel,
    probe_error,
    usable_threads,
)
from mmbind_data.matching.rule import MatchRule

LARGE = DEFAULT_BLOCKING.large


def has_switch() -> bool:
    matmul = getattr(torch.backends.mkldnn, "matmul", None)
    return hasattr(matmul, "fp32_precision")


def coarse(left: np.ndarray, right: np.ndarray, out: np.ndarray) -> None:
    """What a chip that really rounds to bfloat16 would give."""

    def rounded(rows: np.ndarray) -> np.ndarray:
        return (rows.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)

    np.matmul(rounded(left), rounded(np.ascontiguousarray(right)).T, out=out)


@pytest.mark.parametrize("d", [1, 3, 128, 300])
def test_numpy_passes_the_probe_and_rounding_to_bfloat16_fails_it(d: int) -> None:
    assert probe_error(NUMPY, d) < products.PROBE_ERROR
    if d > 1:  # rows of length one in one dimension are 1 and -1, exact in any precision
        bad = ProductKernel("coarse", coarse, NUMPY.group_maxima)
        assert probe_error(bad, d) > 10 * products.PROBE_ERROR


def test_a_kernel_that_fails_the_probe_is_not_used() -> None:
    bad = ProductKernel("coarse", coarse, NUMPY.group_maxima)
    with fast_kernel(LARGE, 32, build=lambda torch: bad) as kernel:
        assert kernel.name == "numpy"


@pytest.mark.skipif(not has_switch(), reason="this torch has no switch")
def test_the_settings_of_the_process_are_restored() -> None:
    """After an exception, and after two threads that want a kernel at the same time."""
    matmul = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before, threads = matmul.fp32_precision, torch.get_num_threads()
    inside, other_inside = threading.Event(), threading.Event()

    def settings() -> list[object]:
        pools = importlib.import_module("threadpoolctl").threadpool_info()
        limits = [pool["num_threads"] for pool in pools]
        return [matmul.fp32_precision, torch.get_num_threads(), limits]

    def first() -> None:
        with contextlib.suppress(KeyError), fast_kernel(LARGE, 32):
            assert settings()[:2] == ["bf16", 1]
            inside.set()
            other_inside.wait(0.3)  # the second thread enters before this one leaves, if it may
            raise KeyError

    def second() -> None:
        inside.wait()
        with fast_kernel(LARGE, 32):
            other_inside.set()
            done.wait(0.3)

    done = threading.Event()
    try:
        matmul.fp32_precision = "ieee"
        torch.set_num_threads(2)
        wanted = settings()
        workers = [threading.Thread(target=work) for work in (first, second)]
        for worker in workers:
            worker.start()
        workers[0].join()
        done.set()
        workers[1].join()
        assert other_inside.is_set()
        assert settings() == wanted
    finally:
        matmul.fp32_precision = before
        torch.set_num_threads(threads)


def test_small_problems_leave_torch_alone() -> None:
    with fast_kernel(LARGE - 1, 32) as kernel:
        assert kernel.name == "numpy"


@pytest.mark.parametrize("width", [1, 4, 8])
def test_group_maxima_of_both_kernels(width: int) -> None:
    block = np.random.default_rng(0).normal(size=(5, 16)).astype(np.float32)
    wanted = [[max(row[i : i + width]) for i in range(0, 16, width)] for row in block.tolist()]
    for kernel in (NUMPY, onednn_kernel(torch)):
        np.testing.assert_array_equal(kernel.group_maxima(block, width), np.array(wanted))
        out = np.empty((5, 5), dtype=np.float32)
        kernel.multiply(block, block, out)
        np.testing.assert_allclose(out, block @ block.T, rtol=1e-5)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_threads_and_kernels_do_not_show(metric: Metric) -> None:
    rng = np.random.default_rng(1)
    a, b = (rng.normal(size=(n, 24)).astype(np.float32) for n in (1500, 5000))
    rule = MatchRule("csls", metric, top_k=3)
    wanted = match(a, b, rule, threads=1)
    for threads in (1, 2, 5):
        again = match(a, b, rule, threads=threads, blocking=Blocking(large=0.0))
        for got, want in zip(again, wanted, strict=True):
            np.testing.assert_array_equal(got.partner, want.partner)
            np.testing.assert_array_equal(got.similarity, want.similarity)


def test_threads_follow_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for text, wanted in (("1", 1), ("3", 3), ("4,2", 4), ("1000", products.MAX_THREADS)):
        monkeypatch.setenv("OMP_NUM_THREADS", text)
        assert usable_threads() == wanted
    for text in ("", "many", "0"):
        monkeypatch.setenv("OMP_NUM_THREADS", text)
        assert 1 <= usable_threads() <= products.MAX_THREADS


def test_matching_small_sets_imports_no_torch() -> None:
    code = (
        "import sys, numpy as np\n"
        "from mmbind_data.matching.match import match\n"
        "from mmbind_data.matching.rule import MatchRule\n"
        "a = np.random.default_rng(0).normal(size=(50, 4))\n"
        "match(a, a, MatchRule('csls'))\n"
        "sys.exit('torch' in sys.modules or 'faiss' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
