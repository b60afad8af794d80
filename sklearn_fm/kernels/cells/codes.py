"""From codes to indices and values in one pass that also checks them.

The same as ``data`` does with numpy, which also finds the words for what is wrong.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from ..compile import COMPILE

__all__ = ["to_entries"]

_LARGEST = float(np.finfo(np.float32).max)
_ZERO, _ONE = np.float32(0), np.float32(1)
_EMPTY = -2


@njit(**COMPILE)
def to_entries(
    codes: Any,
    first: Any,
    top: Any,
    low: Any,
    numeric: Any,
    column: Any,
    value_column: Any,
    divided: Any,
    indices: Any,
    values: Any,
) -> bool:
    """Write indices and values of codes.

    Parameters
    ----------
    codes : ndarray of shape (n_rows, n_columns)
        Codes, and numbers in numeric slots.
    first : ndarray of shape (n_slots,)
        Index of the unknown, or of the number.
    top, low : ndarray of shape (n_slots,)
        Largest and least code.
    numeric : ndarray of bool of shape (n_slots,)
        Which slots hold numbers.
    column, value_column : ndarray of shape (n_slots,)
        Where the code stands, and where its value; the latter -1 if there is none.
    divided : ndarray of shape (n, 3)
        First slot, last slot + 1, and 1 for the square root: where the values are to be
        divided by the number of those that are not empty.
    indices : ndarray of shape (n_rows, n_slots)
        Receives the rows of the table.
    values : ndarray of shape (n_rows, n_slots) or (0, 0)
        Receives the multipliers, if it has room.

    Returns
    -------
    bool
        False if a code is outside its vocabulary or a number is not one of float32.
    """
    has_values = len(values) > 0
    for r in range(codes.shape[0]):
        for s in range(len(column)):
            code = codes[r, column[s]]
            value = _ONE
            index = first[s]
            if numeric[s]:
                number = float(code)
                value = _ZERO
                if number == number:  # not missing
                    if not abs(number) <= _LARGEST:
                        return False
                    value = np.float32(number)
            else:
                if not (code >= low[s] and code <= top[s]) or code != math.trunc(code):
                    return False
                if value_column[s] >= 0:
                    number = float(codes[r, value_column[s]])
                    if not abs(number) <= _LARGEST:
                        return False
                    value = np.float32(number)
                if code == _EMPTY:
                    value = _ZERO
                else:
                    index += 1 + int(code)
            indices[r, s] = index
            if has_values:
                values[r, s] = value
        for d in range(len(divided)):
            count = _ZERO
            for s in range(divided[d, 0], divided[d, 1]):
                count += values[r, s]
            if divided[d, 2]:
                count = np.float32(math.sqrt(count))
            for s in range(divided[d, 0], divided[d, 1]):
                values[r, s] /= max(count, _ONE)
    return True
