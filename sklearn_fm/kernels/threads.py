"""Threads for compiled kernels: a barrier inside them, and workers that run them.

Kernels are serial and release the interpreter's lock; each thread calls the same kernel with
its part. numba's own threading layers are not used: one kills forked children, another aborts
under concurrent threads.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

__all__ = ["Workers", "barrier", "make_sync", "run_parts"]

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


class Workers:
    """Threads that wait for work, each at a queue of its own.

    Unlike a ThreadPoolExecutor, whose locks a Ctrl-C can leave locked for ever while work is handed
    out, a SimpleQueue is never left half done.

    Parameters
    ----------
    n_threads : int
        Number of threads; they end with this object.
    """

    def __init__(self, n_threads: int) -> None:
        self.inboxes: list[SimpleQueue[Any]] = [SimpleQueue() for _ in range(n_threads)]
        for inbox in self.inboxes:
            Thread(target=_serve, args=(inbox,), name="sklearn_fm", daemon=True).start()

    def __del__(self) -> None:
        for inbox in getattr(self, "inboxes", ()):
            inbox.put(None)


def _serve(inbox: SimpleQueue[Any]) -> None:
    """Do what comes, until None comes."""
    while (task := inbox.get()) is not None:
        work, part, outbox = task
        try:
            outbox.put((part, work(part), None))
        except BaseException as error:
            outbox.put((part, None, error))
        del task, work, outbox  # may hold large arrays


def run_parts(
    workers: Workers | None, n_parts: int, work: Callable[[int], Any], sync: NDArray[Any]
) -> list[Any]:
    """Call ``work(part)`` for all parts at the same time.

    Parameters
    ----------
    workers : Workers or None
        At least `n_parts` threads; None to call in this thread, one part.
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
    if workers is None or n_parts == 1:
        return [work(0)]
    inboxes = workers.inboxes[:n_parts]
    outbox: SimpleQueue[Any] = SimpleQueue()
    n_started = 0
    try:
        for part, inbox in enumerate(inboxes):
            inbox.put((work, part, outbox))
            n_started = part + 1
        results = sorted((outbox.get() for _ in inboxes), key=lambda result: result[0])
    except BaseException:
        if n_started < n_parts:
            sync[_ABORT] = 1
        _wait_until_idle(inboxes)
        raise
    for _, _, error in results:
        if error is not None:
            raise error
    return [result for _, result, _ in results]


def _wait_until_idle(inboxes: list[SimpleQueue[Any]]) -> None:
    """Wait until all that was handed out is done: what is handed out last is done last."""
    outbox: SimpleQueue[Any] = SimpleQueue()
    for part, inbox in enumerate(inboxes):
        inbox.put((int, part, outbox))
    for _ in inboxes:
        outbox.get()
