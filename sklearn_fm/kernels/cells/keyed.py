"""SipHash-1-3: 64 bits for a text or a whole number that nobody foretells who lacks the secret.

They spread keys over a hash table in memory. What is saved in models is hashed by ``hashing``,
whose results never change.

References
----------
Aumasson and Bernstein (2012), SipHash: a fast short-input PRF, INDOCRYPT.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from ..compile import INLINE
from .hashing import word

__all__ = ["keyed_number", "keyed_text"]

_V0 = np.uint64(0x736F6D6570736575)
_V1 = np.uint64(0x646F72616E646F6D)
_V2 = np.uint64(0x6C7967656E657261)
_V3 = np.uint64(0x7465646279746573)
_LAST = np.uint64(0xFF)


@njit(**INLINE)
def _rotate(x: Any, left: Any, right: Any) -> Any:
    return (x << np.uint64(left)) | (x >> np.uint64(right))


@njit(**INLINE)
def _round(a: Any, b: Any, c: Any, d: Any) -> Any:
    a += b
    b = _rotate(b, 13, 51) ^ a
    c += d
    d = _rotate(d, 16, 48) ^ c
    c += b
    b = _rotate(b, 17, 47) ^ c
    a = _rotate(a, 32, 32) + d
    d = _rotate(d, 21, 43) ^ a
    return a, b, _rotate(c, 32, 32), d


@njit(**INLINE)
def _take(a: Any, b: Any, c: Any, d: Any, piece: Any) -> Any:
    a, b, c, d = _round(a, b, c, d ^ piece)
    return a ^ piece, b, c, d


@njit(**INLINE)
def _finish(a: Any, b: Any, c: Any, d: Any) -> Any:
    a, b, c, d = _round(a, b, c ^ _LAST, d)
    a, b, c, d = _round(a, b, c, d)
    a, b, c, d = _round(a, b, c, d)
    return a ^ b ^ c ^ d


@njit(**INLINE)
def keyed_text(data: Any, begin: int, end: int, secret: Any) -> Any:
    """SipHash-1-3 of ``data[begin:end]`` under a secret of two words, all by their addresses."""
    a, b, c, d = _V0 ^ secret[0], _V1 ^ secret[1], _V2 ^ secret[0], _V3 ^ secret[1]
    at = begin
    while at + 8 <= end:
        a, b, c, d = _take(a, b, c, d, word(data, at))
        at += 8
    rest = np.uint64(end - begin) << np.uint64(56)
    for i in range(end - at):
        rest |= np.uint64(data[at + i]) << np.uint64(8 * i)
    a, b, c, d = _take(a, b, c, d, rest)
    return _finish(a, b, c, d)


@njit(**INLINE)
def keyed_number(number: Any, secret: Any) -> Any:
    """SipHash-1-3 of the 8 little-endian bytes of a number."""
    a, b, c, d = _V0 ^ secret[0], _V1 ^ secret[1], _V2 ^ secret[0], _V3 ^ secret[1]
    a, b, c, d = _take(a, b, c, d, np.uint64(number))
    a, b, c, d = _take(a, b, c, d, np.uint64(8) << np.uint64(56))
    return _finish(a, b, c, d)
