"""From codes to indices and values in one pass that also checks them.

The same as ``data`` does with numpy, which also finds the words for what is wrong.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from .rules import COMPILE

__all__ = ["to_entries"]

_LARGEST = float(np.finfo(np.float32).max)


@njit(**COMPILE)
def to_entries(codes: Any, first: Any, top: Any, numeric: Any, indices: Any, values: Any) -> bool:
    """Write indices and values of codes.

    Parameters
    ----------
    codes : ndarray of shape (n_rows, n_slots)
        Codes, and numbers in numeric slots.
    first : ndarray of shape (n_slots,)
        Index of the unknown, or of the number.
    top : ndarray of shape (n_slots,)
        Largest code.
    numeric : ndarray of bool of shape (n_slots,)
        Which slots hold numbers.
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
        for s in range(codes.shape[1]):
            code = codes[r, s]
            value = np.float32(1)
            index = first[s]
            if numeric[s]:
                number = float(code)
                value = np.float32(0)
                if number == number:  # not missing
                    if not abs(number) <= _LARGEST:
                        return False
                    value = np.float32(number)
            else:
                if not (code >= -1 and code <= top[s]) or code != math.trunc(code):
                    return False
                index += 1 + int(code)
            indices[r, s] = index
            if has_values:
                values[r, s] = value
    return True
