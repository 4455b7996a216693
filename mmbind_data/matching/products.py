"""The fastest exact float32 product that this machine offers, for blocks of many rows.

numpy is the ground: always there, always right. For large problems torch's oneDNN kernel is about
twice as fast; it is used only after a probe against float64 has shown that it is as exact.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

# A block of the product stays in the cache between the multiplication and the two scans.
BLOCK_ROWS = 256
BLOCK_COLUMNS = 4096
# Multiply-adds from which threads and torch pay, and from which even importing torch pays.
LARGE = 2e9
HUGE = 5e11
PROBE_ERROR = 1e-6
MAX_THREADS = 8  # each holds a block and a few vectors: eight keep the memory promised


@dataclass(frozen=True)
class Kernel:
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
    multiply: Callable[[np.ndarray, np.ndarray, np.ndarray], None]
    group_maxima: Callable[[np.ndarray, int], np.ndarray]


def _numpy_multiply(left: np.ndarray, right: np.ndarray, out: np.ndarray) -> None:
    np.matmul(left, right.T, out=out)


def _numpy_group_maxima(block: np.ndarray, width: int) -> np.ndarray:
    maxima: np.ndarray = block.reshape(len(block), -1, width).max(axis=2)
    return maxima


NUMPY = Kernel("numpy", _numpy_multiply, _numpy_group_maxima)


def usable_threads() -> int:
    """Threads to use: as many as OMP_NUM_THREADS allows, else as there are cores; 8 at most."""
    wanted = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if wanted.isdigit() and int(wanted) > 0:
        return min(int(wanted), MAX_THREADS)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(cores or 1, MAX_THREADS)


@contextlib.contextmanager
def fast_kernel(work: float, d: int) -> Iterator[Kernel]:
    """The kernel for a problem, and one BLAS thread per caller as long as it is open.

    Parameters
    ----------
    work : float
        Multiply-adds of the whole problem.
    d : int
        Length of the rows.

    Notes
    -----
    torch is not touched below ``LARGE``, and not imported for it below ``HUGE``. Its switch is one
    of the whole process: matrix products of other threads run in the same mode meanwhile. On CPUs
    where the mode would round to bfloat16 the probe fails and numpy is used.
    """
    if work < LARGE:
        yield NUMPY
        return
    with one_blas_thread():
        torch: Any = sys.modules.get("torch") if work < HUGE else _import_or_none("torch")
        matmul: Any = getattr(
            getattr(getattr(torch, "backends", None), "mkldnn", None), "matmul", None
        )
        if torch is None or not hasattr(matmul, "fp32_precision"):
            yield NUMPY
            return
        threads, precision = torch.get_num_threads(), matmul.fp32_precision
        try:
            torch.set_num_threads(1)
            # named after the least it may do; on AVX-512 it picks the plain float32 kernel
            matmul.fp32_precision = "bf16"
            kernel = _torch_kernel(torch)
            yield kernel if probe_error(kernel, d) < PROBE_ERROR else NUMPY
        finally:
            matmul.fp32_precision = precision
            torch.set_num_threads(threads)


def probe_error(kernel: Kernel, d: int) -> float:
    """Largest error of one block of unit rows against float64.

    The block has the real shape, since the shape can choose the routine; its columns repeat, and
    the first and last repeat are looked at.
    """
    n_right = BLOCK_COLUMNS // 8
    rows = np.random.default_rng(0).uniform(-1.0, 1.0, size=(BLOCK_ROWS + n_right, d))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    left, right = rows[:BLOCK_ROWS], rows[BLOCK_ROWS:]
    out = np.empty((BLOCK_ROWS, BLOCK_COLUMNS), dtype=np.float32)
    kernel.multiply(left, np.tile(right, (8, 1)), out)
    exact = left.astype(np.float64) @ right.T.astype(np.float64)
    ends = (out[:, :n_right], out[:, -n_right:])
    return max(float(np.abs(end - exact).max()) for end in ends)


def _torch_kernel(torch: Any) -> Kernel:
    def multiply(left: np.ndarray, right: np.ndarray, out: np.ndarray) -> None:
        torch.mm(torch.from_numpy(left), torch.from_numpy(right).t(), out=torch.from_numpy(out))

    def group_maxima(block: np.ndarray, width: int) -> np.ndarray:
        tensor = torch.from_numpy(block).view(len(block), -1, width)
        maxima: np.ndarray = tensor.amax(2).numpy()
        return maxima

    return Kernel("onednn", multiply, group_maxima)


def _import_or_none(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def one_blas_thread() -> contextlib.AbstractContextManager[Any]:
    """Row blocks are shared out over Python threads; BLAS threads below them would only collide."""
    control = _import_or_none("threadpoolctl")
    if control is None:
        return contextlib.nullcontext()
    limits: contextlib.AbstractContextManager[Any] = control.threadpool_limits(1, user_api="blas")
    return limits
