"""Rows as lines of libsvm and libffm text, the reverse of ``text``.

Labels and numbers of many digits come as text: finding the shortest digits of any double is left to
the caller.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from ..compile import COMPILE, INLINE
from ..simd import pointer

__all__ = ["count_decimals", "print_rows"]

_NEWLINE, _BLANK, _COLON = np.uint8(ord("\n")), np.uint8(ord(" ")), np.uint8(ord(":"))
_MINUS, _POINT, _ZERO = np.uint8(ord("-")), np.uint8(ord(".")), np.uint64(ord("0"))
_TEN = np.uint64(10)
_POWERS = np.array([float(f"1e{k}") for k in range(16)])
_EXACT = float(2**53)  # up to here a whole number over a power of ten is rounded once


@njit(**COMPILE)
def count_decimals(numbers: Any, decimals: Any) -> None:
    """Count the decimals that tell numbers from their neighbours.

    Parameters
    ----------
    numbers : ndarray of float64 or float32 of shape (n,)
        Finite numbers.
    decimals : ndarray of int8 of shape (n,)
        Receives the least number of decimals with which it is read back as the same number of
        its type; -1 where that needs more than 15 digits or decimals, or an exponent.
    """
    back = np.empty(1, dtype=numbers.dtype)
    for i in range(len(numbers)):
        number = abs(float(numbers[i]))
        decimals[i] = -1
        if number == 0 or 1e-4 <= number <= _EXACT:
            for k in range(len(_POWERS)):
                whole = math.floor(number * _POWERS[k] + 0.5)
                if whole > _EXACT:
                    break
                back[0] = whole / _POWERS[k]
                if back[0] == abs(numbers[i]):
                    decimals[i] = k
                    break


@njit(**INLINE)
def _put_whole(out: Any, p: int, number: Any) -> int:
    """Write a whole number at p; return the position behind it."""
    n_digits, rest = 1, number // _TEN
    while rest:
        rest //= _TEN
        n_digits += 1
    for q in range(p + n_digits - 1, p - 1, -1):
        out[q] = np.uint8(number % _TEN + _ZERO)
        number //= _TEN
    return p + n_digits


@njit(**INLINE)
def _put_decimal(out: Any, p: int, number: float, n_decimals: int) -> int:
    """Write a number with so many decimals at p; return the position behind it."""
    if math.copysign(1.0, number) < 0:
        out[p] = _MINUS
        p += 1
    scaled = np.uint64(math.floor(abs(number) * _POWERS[n_decimals] + 0.5))
    power = np.uint64(_POWERS[n_decimals])
    p = _put_whole(out, p, scaled // power)
    if n_decimals:
        out[p] = _POINT
        rest = scaled % power
        for q in range(p + n_decimals, p, -1):
            out[q] = np.uint8(rest % _TEN + _ZERO)
            rest //= _TEN
        p += 1 + n_decimals
    return p


@njit(**INLINE)
def _put_text(out: Any, p: int, text: Any, start: int, end: int) -> int:
    """Copy part of a text to p; return the position behind it."""
    for q in range(start, end):
        out[p] = text[q]
        p += 1
    return p


@njit(**COMPILE)
def print_rows(
    starts: Any,
    fields: Any,
    indices: Any,
    values: Any,
    decimals: Any,
    labels: Any,
    label_ends: Any,
    long_ones: Any,
    long_ends: Any,
    out: Any,
) -> int:
    """Write rows as lines to bytes, which must be long enough.

    Parameters
    ----------
    starts : ndarray of shape (n_rows + 1,)
        First entry of each row, and the end of the last one.
    fields : ndarray of int64 of shape (n_entries,) or (0,)
        Field of each entry, if the lines are to have fields.
    indices : ndarray of int64 of shape (n_entries,)
        Index of each entry.
    values : ndarray of float64 or float32 of shape (n_entries,)
        Value of each entry.
    decimals : ndarray of int8 of shape (n_entries,)
        As `count_decimals` gives them.
    labels : ndarray of uint8
        Texts of all labels.
    label_ends : ndarray of int64 of shape (n_rows,)
        Where they end.
    long_ones : ndarray of uint8
        Texts of the values with -1 decimals.
    long_ends : ndarray of int64
        Where they end.
    out : ndarray of uint8
        Receives the lines.

    Returns
    -------
    int
        Number of bytes written.
    """
    target = pointer(out)
    p, long_one, long_start, label_start = 0, 0, 0, 0
    for row in range(len(starts) - 1):
        p = _put_text(target, p, labels, label_start, label_ends[row])
        label_start = label_ends[row]
        for entry in range(starts[row], starts[row + 1]):
            target[p] = _BLANK
            p += 1
            if len(fields):
                p = _put_whole(target, p, np.uint64(fields[entry]))
                target[p] = _COLON
                p += 1
            p = _put_whole(target, p, np.uint64(indices[entry]))
            target[p] = _COLON
            p += 1
            if decimals[entry] < 0:
                p = _put_text(target, p, long_ones, long_start, long_ends[long_one])
                long_start = long_ends[long_one]
                long_one += 1
            else:
                p = _put_decimal(target, p, float(values[entry]), decimals[entry])
        target[p] = _NEWLINE
        p += 1
    return p
