"""The fastest exact float32 matrix product that this machine offers, for blocks of many rows.

numpy is always available. For large problems torch's oneDNN kernel is about twice as fast; it is
used only after a comparison with float64 has shown that it is as exact.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

# Multiply-adds from which importing torch pays.
IMPORT_TORCH = 5e11
PROBE_ERROR = 1e-6
MAX_THREADS = 8  # each holds a block and a few vectors: eight keep the documented memory
# The number of BLAS threads and torch's precision belong to the whole process: the thread that
# changes them restores them before another one may.
_PROCESS_SETTINGS = threading.RLock()


@dataclass(frozen=True)
class Blocking:
    """How a product of all pairs is cut into blocks: decides time and memory, never a result.

    Attributes
    ----------
    group : int
        Rows of a block, and neighbouring columns of which only the largest score is kept.
    columns : int
        Columns of a block, a multiple of ``group``: a block of the defaults stays in the cache
        between the multiplication and the two scans.
    visited_rows : int
        Rows of a block of the second pass.
    pending : int
        Candidates that are collected before they are reduced to k per row.
    large : float
        Multiply-adds from which several threads, and torch's kernel, pay.
    """

    group: int = 256
    columns: int = 4096
    visited_rows: int = 1024
    pending: int = 50_000
    large: float = 2e9


DEFAULT_BLOCKING = Blocking()


@dataclass(frozen=True)
class ProductKernel:
    """Two operations on float32 blocks.

    Attributes
    ----------
    name : {"numpy", "onednn"}
    multiply : callable (left (r, d), right (c, d), out (r, c))
        Writes left . right^T into a reused buffer.
    group_maxima : callable (block (r, g * width), width) -> ndarray (r, g)
        Largest value of each ``width`` neighbouring columns.
    """

    name: str
    multiply: Callable[[np.ndarray, np.ndarray, np.ndarray], object]
    group_maxima: Callable[[np.ndarray, int], np.ndarray]


NUMPY = ProductKernel(
    "numpy",
    lambda left, right, out: np.matmul(left, right.T, out=out),
    lambda block, width: block.reshape(len(block), -1, width).max(axis=2),
)


def onednn_kernel(torch: Any) -> ProductKernel:
    """The kernel that torch uses under the settings of `fast_kernel`."""

    def multiply(left: np.ndarray, right: np.ndarray, out: np.ndarray) -> None:
        torch.mm(torch.from_numpy(left), torch.from_numpy(right).t(), out=torch.from_numpy(out))

    def group_maxima(block: np.ndarray, width: int) -> np.ndarray:
        maxima: np.ndarray = torch.from_numpy(block).view(len(block), -1, width).amax(2).numpy()
        return maxima

    return ProductKernel("onednn", multiply, group_maxima)


def usable_threads() -> int:
    """Threads to use: as many as OMP_NUM_THREADS allows, else one per core; 8 at most."""
    limit = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if limit.isdigit() and int(limit) > 0:
        return min(int(limit), MAX_THREADS)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(cores or 1, MAX_THREADS)


@contextlib.contextmanager
def fast_kernel(
    work: float,
    d: int,
    *,
    blocking: Blocking = DEFAULT_BLOCKING,
    build: Callable[[Any], ProductKernel] = onednn_kernel,
) -> Iterator[ProductKernel]:
    """The kernel for a problem; while it is open, BLAS and torch use one thread per caller.

    Parameters
    ----------
    work : float
        Multiply-adds of the whole problem.
    d : int
        Length of the rows.
    build : callable (module torch) -> ProductKernel
        What is compared with float64, and used if it is as exact.

    Notes
    -----
    torch is used from ``blocking.large`` on if it is imported already, and imported only from
    ``IMPORT_TORCH`` on. Its precision setting belongs to the whole process: matrix products of
    other threads use the same mode meanwhile; it is restored at the end, and a second thread that
    wants a kernel waits until then. On CPUs where the mode rounds to bfloat16 the comparison fails
    and numpy is used.
    """
    if work < blocking.large:
        yield NUMPY
        return
    with one_blas_thread():
        torch: Any = sys.modules.get("torch") if work < IMPORT_TORCH else _import_or_none("torch")
        mkldnn = getattr(getattr(torch, "backends", None), "mkldnn", None)
        matmul: Any = getattr(mkldnn, "matmul", None)
        if not hasattr(matmul, "fp32_precision"):
            yield NUMPY
            return
        threads, precision = torch.get_num_threads(), matmul.fp32_precision
        try:
            torch.set_num_threads(1)
            # named after the least precise kernel that it permits: with AVX-512, float32 is used
            matmul.fp32_precision = "bf16"
            kernel = build(torch)
            yield kernel if probe_error(kernel, d) < PROBE_ERROR else NUMPY
        finally:
            matmul.fp32_precision = precision
            torch.set_num_threads(threads)


def probe_error(kernel: ProductKernel, d: int) -> float:
    """Largest error of one block of unit rows of length d, compared with float64.

    The block has the size of the real ones, since the size can decide which routine is used; its
    columns repeat, and the first and the last repetition are compared.
    """
    n_left, n_right = DEFAULT_BLOCKING.group, DEFAULT_BLOCKING.columns // 8
    rows = np.random.default_rng(0).uniform(-1.0, 1.0, size=(n_left + n_right, d))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    left, right = rows[:n_left], rows[n_left:]
    out = np.empty((n_left, 8 * n_right), dtype=np.float32)
    kernel.multiply(left, np.tile(right, (8, 1)), out)
    exact = left.astype(np.float64) @ right.T.astype(np.float64)
    return max(float(np.abs(end - exact).max()) for end in (out[:, :n_right], out[:, -n_right:]))


def _import_or_none(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limit BLAS to one thread: blocks are shared among Python threads, more would only compete."""
    with _PROCESS_SETTINGS:
        control = _import_or_none("threadpoolctl")
        with control.threadpool_limits(1, user_api="blas") if control else contextlib.nullcontext():
            yield
