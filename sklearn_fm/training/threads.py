"""How many threads a step is worth.

On small arrays a second thread costs more than it brings, and where another process wants the
core it waits for in a spin, the step takes tens of times as long.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator

import joblib
import torch
from threadpoolctl import threadpool_limits

__all__ = ["HAS_KERNELS", "count_threads", "limit_threads"]

#: Whether the compiled kernels can be used.
HAS_KERNELS = importlib.util.find_spec("numba") is not None


def count_threads(n_jobs: int | None) -> int:
    """Threads that `n_jobs` stands for, no more than there are cores.

    Parameters
    ----------
    n_jobs : int or None
        As scikit-learn means it: None is 1 unless in a `joblib.parallel_config`, -1 all.

    Returns
    -------
    int
    """
    return max(min(joblib.effective_n_jobs(n_jobs), joblib.cpu_count()), 1)


@contextlib.contextmanager
def limit_threads(limit: int | None) -> Iterator[None]:
    """Let torch and BLAS use that many threads, and restore what was after.

    Parameters
    ----------
    limit : int or None
        Number of threads; None leaves all as it is.

    Yields
    ------
    None
    """
    if limit is None:
        yield
        return
    n_threads = torch.get_num_threads()
    torch.set_num_threads(limit)
    try:
        with threadpool_limits(limits=limit, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(n_threads)
