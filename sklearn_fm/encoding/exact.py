"""Whole numbers too large for float64 as their distances from one of them, which are not.

It chooses no bins and reads no text.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["as_distances", "find_origin"]

_LARGEST_EXACT = 2**53  # beyond, float64 makes neighbours one


def find_origin(values: Any) -> int:
    """Where to count from: 0, unless float64 would make one of different whole numbers.

    Parameters
    ----------
    values : ndarray or pandas extension array of shape (n_rows,)
        A column of numbers.

    Returns
    -------
    int
        0 or the least number.
    """
    if not _holds_integers(values):
        return 0
    present = values[~np.asarray(pd.isna(values))]
    if not len(present):
        return 0
    least, most = int(present.min()), int(present.max())
    return least if max(-least, most) > _LARGEST_EXACT else 0


def as_distances(values: Any, numbers: NDArray[np.float64], origin: int) -> NDArray[np.float64]:
    """Distances of a column's numbers from an origin.

    Parameters
    ----------
    values : ndarray or pandas extension array of shape (n_rows,)
        The column.
    numbers : ndarray of shape (n_rows,)
        The column as float64, NaN for missing; may be written to.
    origin : int
        From `find_origin`.

    Returns
    -------
    ndarray of shape (n_rows,)
        Exact up to 2**53; beyond, in the order of the numbers. NaN for missing.
    """
    if origin == 0:
        return numbers
    if not _holds_integers(values):
        return numbers - origin
    present = ~np.isnan(numbers)
    wholes = np.asarray(values[present], dtype=object)
    numbers[present] = [float(int(whole) - origin) for whole in wholes]
    return numbers


def _holds_integers(values: Any) -> bool:
    if values.dtype == object:
        return str(pd.api.types.infer_dtype(values, skipna=True)) == "integer"
    return bool(pd.api.types.is_integer_dtype(values.dtype))
