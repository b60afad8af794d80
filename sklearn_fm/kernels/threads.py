"""Threads for compiled kernels: a barrier inside them, and a pool that runs them.

Kernels are serial and release the interpreter's lock; each thread calls the same kernel with
its part. numba's own threading layers are not used: one kills forked children, another aborts
under concurrent threads.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

__all__ = ["barrier", "make_sync", "run_parts"]

_ARRIVED, _ROUND, _ABORT = 0, 8, 16  # a cache line each
_SPINS = 2000

#: Gives the core away while another thread is late.
_yield_core = types.ExternalFunction(
    "SwitchToThread" if sys.platform == "win32" else "sched_yield", types.int32()
)


def make_sync() -> NDArray[np.int64]:
    """State of a barrier, to be shared by the threads that meet there.

    Returns
    -------
    ndarray of int64
    """
    return np.zeros(24, dtype=np.int64)


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    view = context.make_array(array_type)(context, builder, array)
    return builder.gep(view.data, [index])


@intrinsic
def _add(typing_context: Any, array: Any, index: Any, number: Any) -> Any:
    """Add to ``array[index]`` and return what it was, atomically."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, signature.args[0], args[0], args[1])
        return builder.atomic_rmw("add", pointer, args[2], "seq_cst")

    return types.int64(array, types.int64, types.int64), generate


@intrinsic
def _read(typing_context: Any, array: Any, index: Any) -> Any:
    """``array[index]`` as the other threads left it."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, signature.args[0], args[0], args[1])
        return builder.load_atomic(pointer, "seq_cst", 8, typ=ir.IntType(64))

    return types.int64(array, types.int64), generate


@njit(nogil=True, cache=True)
def barrier(sync: Any, n_threads: int) -> None:
    """Wait until all threads have come here; what each wrote before, all see after.

    Parameters
    ----------
    sync : ndarray of int64
        From `make_sync`.
    n_threads : int
        How many must come.
    """
    if n_threads == 1:
        return
    this_round = _read(sync, _ROUND)
    if _add(sync, _ARRIVED, 1) == n_threads - 1:
        _add(sync, _ARRIVED, -n_threads)
        _add(sync, _ROUND, 1)
        return
    spins = 0
    while _read(sync, _ROUND) == this_round and _read(sync, _ABORT) == 0:
        spins += 1
        if spins > _SPINS:
            _yield_core()


def run_parts(
    pool: ThreadPoolExecutor | None, n_parts: int, work: Callable[[int], Any], sync: NDArray[Any]
) -> list[Any]:
    """Call ``work(part)`` for all parts at the same time.

    Parameters
    ----------
    pool : ThreadPoolExecutor or None
        With at least `n_parts` threads; None to call in this thread, one part.
    n_parts : int
        Number of parts.
    work : callable
        Takes the number of the part.
    sync : ndarray of int64
        Barrier that the parts use; opened for good if a part cannot be started, as when a
        Ctrl-C comes between them.

    Returns
    -------
    list
        Results in order.
    """
    if pool is None or n_parts == 1:
        return [work(0)]
    futures: list[Any] = []
    try:
        for part in range(n_parts):
            futures.append(pool.submit(work, part))  # noqa: PERF401
        return [future.result() for future in futures]
    except BaseException:
        if len(futures) < n_parts:
            sync[_ABORT] = 1
        wait(futures)
        raise
