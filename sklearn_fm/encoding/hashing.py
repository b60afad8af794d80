"""Cells as one of a fixed number of buckets, by a hash that never changes.

It learns nothing, so it cannot tell which cells it was shown before and cannot go back.

The hash is XXH64 of bytes that stand for the cell, the same for all cells that are equal:

==========================  ============================================  ===================
cell                        bytes                                         added to the seed
==========================  ============================================  ===================
str                         UTF-8                                         0
whole number below 10**39,
bool                        its digits in UTF-8, so that ids are the
                            same as numbers and as text                   0
bytes                       themselves                                    2 * 2**32
other float                 8 of float64, little-endian                   3 * 2**32
other number                exact, as "numerator/denominator"             4 * 2**32
date, time without a zone   as the whole number of nanoseconds since
                            1970; a date is its midnight                  5 * 2**32
time with a zone            likewise, in UTC                              6 * 2**32
==========================  ============================================  ===================
"""

from __future__ import annotations

import datetime
import struct
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..kernels import HAS_KERNELS
from .cells import Cells, Coded, Wholes, factorize, read_cells, read_column

__all__ = ["hash_codes", "xxh64"]

_TEXT = 0
_BYTES, _FLOAT, _EXACT, _DATE, _INSTANT = range(2 << 32, 7 << 32, 1 << 32)
_NANOSECONDS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}


def hash_codes(
    values: Any,
    n_buckets: int,
    *,
    seed: int = 0,
    name: str = "x",
    rows: NDArray[np.intp] | None = None,
) -> NDArray[np.int32]:
    """Return the bucket of each cell.

    Parameters
    ----------
    values : array-like of shape (n_rows,)
        The column, in any container.
    n_buckets : int
        Number of buckets.
    seed : int, default=0
        Another one, from 0 to 2**32 - 1, spreads the cells otherwise.
    name : str, default="x"
        Name of the field, for error messages.
    rows : ndarray of shape (n_rows,), default=None
        Numbers of the rows in error messages; from 0 when omitted.

    Returns
    -------
    ndarray of shape (n_rows,)
        XXH64 modulo `n_buckets`; -1 for missing.

    Raises
    ------
    TypeError
        If a cell is no text, number, date or bytes.
    """
    try:
        return _hash_column(values, n_buckets, seed)
    except TypeError:
        _check_cells(values, name, rows)
        raise


def _hash_column(values: Any, n_buckets: int, seed: int) -> NDArray[np.int32]:
    """Buckets of a column."""
    column = read_column(values) if HAS_KERNELS else Cells(read_cells(values))
    if isinstance(column, Coded):
        used, categories = column.used()
        table = np.full(len(column.categories) + 1, -1, dtype=np.int32)
        table[used] = _hash_column(categories, n_buckets, seed)
        return table[column.codes]
    if isinstance(column, Cells):
        return _hash_cells(column.values, n_buckets, seed)
    from ..kernels.cells.hashing import hash_numbers, hash_texts

    out = np.empty(column.n_rows, dtype=np.int32)
    key = np.uint64(seed + _TEXT)
    if isinstance(column, Wholes):
        hash_numbers(column.numbers, column.missing, key, np.uint64(n_buckets), out)
        return out
    for piece, part in column.parts(out):
        hash_texts(*piece, key, np.uint64(n_buckets), part)
    return out


def xxh64(data: bytes, seed: int = 0) -> int:
    """XXH64 in plain Python.

    Parameters
    ----------
    data : bytes
        What to hash.
    seed : int, default=0
        From 0 to 2**64 - 1.

    Returns
    -------
    int
        From 0 to 2**64 - 1.

    References
    ----------
    Collet, xxHash fast digest algorithm, version 0.1.1.
    """
    n_long = len(data) // 32 * 32
    h = _start_long(data[:n_long], seed) if n_long else seed + _P5
    h = (h + len(data)) & _BITS
    rest = data[n_long:]
    n_words = len(rest) // 8
    for (piece,) in struct.iter_unpack("<Q", rest[: 8 * n_words]):
        h = (_rotate(h ^ _round(0, piece), 27) * _P1 + _P4) & _BITS
    rest = rest[8 * n_words :]
    if len(rest) >= 4:
        piece = int.from_bytes(rest[:4], "little")
        h = (_rotate(h ^ (piece * _P1 & _BITS), 23) * _P2 + _P3) & _BITS
        rest = rest[4:]
    for byte in rest:
        h = _rotate(h ^ (byte * _P5 & _BITS), 11) * _P1 & _BITS
    h = (h ^ (h >> 33)) * _P2 & _BITS
    h = (h ^ (h >> 29)) * _P3 & _BITS
    return h ^ (h >> 32)


# -- cells -----------------------------------------------------------------------------------


def _hash_cells(values: Any, n_buckets: int, seed: int) -> NDArray[np.int32]:
    """Buckets of an array from `read_cells`, cell by distinct cell."""
    rows, cells = factorize(values)
    hashes = [_hash_cell(cell, seed) % n_buckets for cell in cells]
    return np.array([*hashes, -1], dtype=np.int32)[rows]


def _hash_cell(cell: Any, seed: int) -> int:
    data, kind = _to_bytes(cell)
    return xxh64(data, seed + kind)


def _to_bytes(cell: Any) -> tuple[bytes, int]:
    """Bytes that stand for a cell, and its kind.

    Parameters
    ----------
    cell : object
        A cell that is not missing.

    Returns
    -------
    data : bytes
        Equal for equal cells.
    kind : int
        What is added to the seed.

    Raises
    ------
    TypeError
        If it is none of the kinds.
    """
    if isinstance(cell, str):
        return cell.encode("utf-8", "surrogatepass"), _TEXT
    if isinstance(cell, bytes):
        return bytes(cell), _BYTES
    if isinstance(cell, (Real, Decimal, np.bool_)):
        return _number_to_bytes(cell)
    if isinstance(cell, (datetime.date, np.datetime64)):
        moment = pd.Timestamp(cell)
        unit = str(np.datetime_data(moment.asm8)[0])
        nanoseconds = int(moment.asm8.astype(np.int64)) * _NANOSECONDS[unit]
        return _instant_to_bytes(nanoseconds), _DATE if moment.tz is None else _INSTANT
    raise TypeError(type(cell).__name__)


def _number_to_bytes(cell: Any) -> tuple[bytes, int]:
    as_float = _as_float(cell)
    if as_float is not None and not as_float.is_integer():  # infinite ones as well
        return struct.pack("<d", as_float), _FLOAT
    if (whole := int(cell)) == cell and abs(whole) < 10**39:
        return str(whole).encode(), _TEXT
    return "{:x}/{:x}".format(*cell.as_integer_ratio()).encode(), _EXACT


def _as_float(cell: Any) -> float | None:
    """The float64 that a number equals."""
    try:
        as_float = float(cell)
    except OverflowError:
        return None
    return as_float if as_float == cell else None


def _instant_to_bytes(nanoseconds: int) -> bytes:
    if -(2**63) <= nanoseconds < 2**63:
        return struct.pack("<q", nanoseconds)
    return f"{nanoseconds:x}".encode()


def _check_cells(values: Any, name: str, rows: NDArray[np.intp] | None) -> None:
    """Raise for the first cell that cannot be hashed, if one is the reason."""
    for row, value in zip(range(len(values)) if rows is None else rows, values, strict=True):
        try:
            is_missing = pd.api.types.is_scalar(value) and pd.isna(value)
            _ = is_missing or _to_bytes(value)
        except TypeError:
            raise TypeError(
                f"Field {name!r} holds {value!r} in row {row}: to be hashed it must be a string, "
                f"a number, a date or bytes, not {type(value).__name__}."
            ) from None


# -- XXH64 -----------------------------------------------------------------------------------

_BITS = 2**64 - 1
_P1 = 0x9E3779B185EBCA87
_P2 = 0xC2B2AE3D27D4EB4F
_P3 = 0x165667B19E3779F9
_P4 = 0x85EBCA77C2B2AE63
_P5 = 0x27D4EB2F165667C5


def _rotate(x: int, left: int) -> int:
    return ((x << left) | (x >> (64 - left))) & _BITS


def _round(lane: int, piece: int) -> int:
    return _rotate((lane + piece * _P2) & _BITS, 31) * _P1 & _BITS


def _start_long(data: bytes, seed: int) -> int:
    """State after the whole pieces of 32 bytes."""
    lanes = [(seed + start) & _BITS for start in (_P1 + _P2, _P2, 0, -_P1)]
    for pieces in struct.iter_unpack("<4Q", data):
        lanes = [_round(lane, piece) for lane, piece in zip(lanes, pieces, strict=True)]
    h = sum(_rotate(lane, left) for lane, left in zip(lanes, (1, 7, 12, 18), strict=True)) & _BITS
    for lane in lanes:
        h = ((h ^ _round(0, lane)) * _P1 + _P4) & _BITS
    return h
