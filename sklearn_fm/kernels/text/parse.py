"""Rows of libsvm and libffm text as numbers, in one pass over its bytes.

It finds no words for what is wrong and rounds no long decimals; ``lines`` does both.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from ..compile import COMPILE, INLINE
from ..simd import pointer
from .decimals import to_float

__all__ = ["parse"]

_NEWLINE, _BLANK, _HASH = ord("\n"), ord(" "), ord("#")
_PLUS, _MINUS, _POINT, _COLON, _E = ord("+"), ord("-"), ord("."), ord(":"), ord("e")
_ZERO, _TEN = np.uint64(ord("0")), np.uint64(10)


@njit(**INLINE)
def _skip_blanks(text: Any, p: int) -> int:
    """First position from p on without a blank; a newline is none."""
    while text[p] == _BLANK or (9 <= text[p] <= 13 and text[p] != _NEWLINE):
        p += 1
    return p


@njit(**INLINE)
def _is_end(text: Any, p: int) -> bool:
    """Whether a token ends before p."""
    return text[p] == _BLANK or 9 <= text[p] <= 13 or text[p] == _HASH


@njit(**INLINE)
def _digits(text: Any, p: int, number: Any) -> Any:
    """Append the digits from p on to a number; return it and the position behind them."""
    digit = np.uint64(text[p]) - _ZERO
    while digit < _TEN:
        number = number * _TEN + digit
        p += 1
        digit = np.uint64(text[p]) - _ZERO
    return number, p


@njit(**INLINE)
def _index(text: Any, p: int) -> Any:
    """Whole number at p and the position behind its colon, or -1 if it is none."""
    number, q = _digits(text, p, np.uint64(0))
    if q == p or q > p + 18 or text[q] != _COLON:
        return np.int64(0), -1
    return np.int64(number), q + 1


@njit(**INLINE)
def _exponent(text: Any, p: int) -> Any:
    """Exponent that begins at p, if any, and the position behind it, or -1."""
    if text[p] | 32 != _E:
        return np.int64(0), p
    p += 1
    negative = text[p] == _MINUS
    if negative or text[p] == _PLUS:
        p += 1
    number, q = _digits(text, p, np.uint64(0))
    if q == p:
        return np.int64(0), -1
    exponent = np.int64(number) if q < p + 6 else np.int64(100_000)
    return -exponent if negative else exponent, q


@njit(**INLINE)
def _number(text: Any, p: int) -> Any:
    """Number at p, the position behind it or -1 if it is none, and whether it is exact."""
    negative = text[p] == _MINUS
    if negative or text[p] == _PLUS:
        p += 1
    whole, q = _digits(text, p, np.uint64(0))
    n_digits, n_decimals = q - p, 0
    if text[q] == _POINT:
        p = q + 1
        whole, q = _digits(text, p, whole)
        n_decimals = q - p
    exponent, q = _exponent(text, q)
    if n_digits + n_decimals == 0 or q < 0 or not _is_end(text, q):
        return 0.0, -1, False
    if n_digits + n_decimals > 19:  # more than 64 bits surely hold
        return 0.0, q, False
    number, found = to_float(whole, exponent - n_decimals)
    return -number if negative else number, q, found


@njit(**COMPILE)
def parse(
    text: Any,
    has_fields: bool,
    first_line: int,
    labels: Any,
    lines: Any,
    ends: Any,
    fields: Any,
    indices: Any,
    values: Any,
    long_ones: Any,
) -> Any:
    """Write the rows of some lines of text to arrays, which must be long enough.

    Parameters
    ----------
    text : ndarray of uint8
        Whole lines, the last one with its newline.
    has_fields : bool
        Whether entries are ``field:index:value``; else they are ``index:value`` and the indices
        of a row must ascend.
    first_line : int
        Number of the first line.
    labels : ndarray of float64
        Receives the label of each row.
    lines : ndarray of int64
        Receives the line number of each row.
    ends : ndarray of int64
        Receives the number of entries up to the end of each row.
    fields : ndarray of int64
        Receives the field of each entry, if there are fields.
    indices : ndarray of int64
        Receives the index of each entry.
    values : ndarray of float64
        Receives the value of each entry.
    long_ones : ndarray of int64 of shape (n, 3)
        Receives the numbers that are left to the caller: entry, or -1 - row for a label,
        and where in the text they begin and end.

    Returns
    -------
    n_rows : int
        Number of rows, -1 if some line is malformed.
    n_entries : int
        Number of entries.
    n_long : int
        Number of numbers left to the caller.
    """
    t, end = pointer(text), len(text)
    p, line, row, entry, n_long = 0, first_line, 0, 0, 0
    while p < end:
        p = _skip_blanks(t, p)
        if t[p] != _NEWLINE and t[p] != _HASH:
            start = p
            labels[row], p, exact = _number(t, start)
            if p < 0:
                return -1, 0, 0
            if not exact:
                long_ones[n_long] = (-1 - row, start, p)
                n_long += 1
            previous = np.int64(-1)
            p = _skip_blanks(t, p)
            while t[p] != _NEWLINE and t[p] != _HASH:
                if has_fields:
                    fields[entry], p = _index(t, p)
                    if p < 0:
                        return -1, 0, 0
                index, start = _index(t, p)
                if start < 0 or (not has_fields and index <= previous):
                    return -1, 0, 0
                values[entry], p, exact = _number(t, start)
                if p < 0:
                    return -1, 0, 0
                if not exact:
                    long_ones[n_long] = (entry, start, p)
                    n_long += 1
                indices[entry] = previous = index
                entry += 1
                p = _skip_blanks(t, p)
            lines[row] = line
            ends[row] = entry
            row += 1
        while t[p] != _NEWLINE:
            p += 1
        p += 1
        line += 1
    return row, entry, n_long
