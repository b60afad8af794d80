"""How fast this machine reads and rewrites random rows of a table, the ceiling for any FM.

An epoch of a factorization machine must visit one table row per slot of every training row, so
that no fit can be faster than visiting them. The visits follow the rows of a real workload in a
random order; each thread takes a share of the rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numba import njit


@njit(nogil=True, cache=True, fastmath=True)
def read_rows(table: Any, indices: Any, order: Any, out: Any) -> None:
    """Sum the table rows of the training rows in `order`, into eight sums that overlap."""
    for b in range(order.shape[0]):
        for j in range(indices.shape[1]):
            row = indices[order[b], j]
            for k in range(table.shape[1]):
                out[j % 8, k] += table[row, k]


@njit(nogil=True, cache=True, fastmath=True)
def rewrite_rows(table: Any, indices: Any, order: Any, out: Any) -> None:
    """Change the table rows of the training rows in `order`; `out` is not used."""
    for b in range(order.shape[0]):
        for j in range(indices.shape[1]):
            row = indices[order[b], j]
            for k in range(table.shape[1]):
                table[row, k] = table[row, k] * np.float32(0.999) + np.float32(1e-6)


def measure_limits(
    indices: np.ndarray, table_size: int, row_bytes: int, threads: int, seed: int = 0
) -> dict[str, float]:
    """Training rows per second that reading and rewriting their table rows allows.

    Parameters
    ----------
    indices : ndarray of int of shape (n_rows, n_slots)
        Table rows of each training row.
    table_size : int
        Rows of the table.
    row_bytes : int
        Width of the table.
    threads : int
        Threads that share the rows.
    seed : int
        Order of the rows.

    Returns
    -------
    dict
        Rows per second for "read" and "rewrite"; the best of three passes.
    """
    table = _aligned((table_size, row_bytes // 4))
    order = np.random.default_rng(seed).permutation(len(indices))
    shares = np.array_split(order, threads)
    outs = [_aligned((8, table.shape[1])) for _ in shares]

    def seconds(kernel: Callable[..., None], pool: ThreadPoolExecutor) -> float:
        started = time.perf_counter()
        list(pool.map(lambda s, o: kernel(table, indices, s, o), shares, outs))
        return time.perf_counter() - started

    with ThreadPoolExecutor(threads) as pool:
        best = {}
        for name, kernel in {"read": read_rows, "rewrite": rewrite_rows}.items():
            kernel(table, indices, order[:10], outs[0])  # compiles
            best[name] = len(indices) / min(seconds(kernel, pool) for _ in range(3))
    return best


def _aligned(shape: tuple[int, ...]) -> np.ndarray:
    """Zeros in float32 that begin at a cache line, touched so that the pages are there."""
    size = int(np.prod(shape))
    raw = np.empty(size + 16, np.float32)
    first = (-raw.ctypes.data // 4) % 16
    raw[:] = 0
    return raw[first : first + size].reshape(shape)
