"""How many threads a step is worth.

On small arrays a second thread costs more than it brings, and where another process wants the
core it waits for in a spin, the step takes tens of times as long.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

__all__ = ["one_thread"]


@contextlib.contextmanager
def one_thread(wanted: bool = True) -> Iterator[None]:
    """Let torch compute in the calling thread only, and restore its setting after.

    Parameters
    ----------
    wanted : bool, default=True
        False leaves torch as it is.

    Yields
    ------
    None
    """
    n_threads = torch.get_num_threads()
    if wanted:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if wanted:
            torch.set_num_threads(n_threads)
