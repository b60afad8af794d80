"""How many threads a step is worth.

On small arrays a second thread costs more than it brings, and where another process wants the
core it waits for in a spin, the step takes tens of times as long.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from threadpoolctl import threadpool_limits

__all__ = ["one_thread"]


@contextlib.contextmanager
def one_thread(wanted: bool = True) -> Iterator[None]:
    """Let torch and BLAS compute in the calling thread only, and restore them after.

    Parameters
    ----------
    wanted : bool, default=True
        False leaves all as it is.

    Yields
    ------
    None
    """
    if not wanted:
        yield
        return
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(limits=1, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(n_threads)
