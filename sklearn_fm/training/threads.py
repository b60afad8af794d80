"""How many threads a step is worth.

On small arrays a second thread costs more than it brings, and where another process wants the
core it waits for in a spin, the step takes tens of times as long.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator

import joblib
import torch
from joblib.parallel import get_active_backend
from threadpoolctl import threadpool_limits

__all__ = ["WORTH_THREADS", "count_threads", "limit_threads"]

#: Multiply-adds of the dense layers, in a step or a prediction, from which on torch may use all
#: its threads. On 2 cores a second thread gains little below.
WORTH_THREADS = 1e8


def count_threads(n_jobs: int | None) -> int:
    """Threads that `n_jobs` stands for, no more than there are cores.

    Parameters
    ----------
    n_jobs : int or None
        As scikit-learn means it: None is 1 unless in a `joblib.parallel_config`, -1 all; but
        in a worker of joblib, whose neighbours have the other cores, -1 is 1.

    Returns
    -------
    int
    """
    if n_jobs == 1:
        return 1
    if n_jobs is not None and n_jobs < 0 and get_active_backend()[0].nesting_level:
        return 1
    wanted = joblib.effective_n_jobs(n_jobs)
    return wanted if wanted == 1 else max(min(wanted, _n_cores()), 1)


_n_cores = functools.lru_cache(joblib.cpu_count)


@contextlib.contextmanager
def limit_threads(limit: int | None, *, blas: bool = True) -> Iterator[None]:
    """Let torch and BLAS use that many threads, and restore what was after.

    Parameters
    ----------
    limit : int or None
        Number of threads; None leaves all as it is.
    blas : bool, default=True
        Whether to limit numpy's BLAS as well, which takes a few milliseconds.

    Yields
    ------
    None
    """
    if limit is None:
        yield
        return
    n_threads = torch.get_num_threads()
    torch.set_num_threads(limit)
    others = threadpool_limits(limits=limit, user_api="blas") if blas else contextlib.nullcontext()
    try:
        with others:
            yield
    finally:
        torch.set_num_threads(n_threads)
