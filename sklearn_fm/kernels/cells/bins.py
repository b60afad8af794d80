"""Numbers to the codes of their bins, some nanoseconds each.

The bins are chosen elsewhere, in ``encoding.bins``, which does the same with numpy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from ..compile import COMPILE

__all__ = ["place"]

_FEW = 100


@njit(**COMPILE)
def place(numbers: Any, upper: Any, missing: int, out: Any) -> None:
    """Write the bin of each number.

    Parameters
    ----------
    numbers : ndarray of shape (n_rows,)
        NaN for missing.
    upper : ndarray of shape (n_bins,)
        Largest number of each bin, ascending, at least one; the last bin is open.
    missing : int
        Code of NaN.
    out : ndarray of int32 of shape (n_rows,)
        Receives the first bin whose largest number is not below the number.
    """
    n_inner = len(upper) - 1
    if n_inner > _FEW:
        codes = np.searchsorted(upper[:-1], numbers)
        for r in range(len(numbers)):
            out[r] = missing if numbers[r] != numbers[r] else codes[r]
        return
    for r in range(len(numbers)):
        x = numbers[r]
        # To compare with all is quicker than to search: no branch has to be guessed.
        code = 0
        for b in range(n_inner):
            code += upper[b] < x
        out[r] = missing if x != x else code
