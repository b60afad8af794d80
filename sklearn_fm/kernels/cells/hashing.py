"""XXH64: 64 bits that stand for a text or a whole number, the same on every machine.

It is for spreading values over buckets, not for keeping secrets, nor for tables in memory, which
``keyed`` is for. What it returns for a value is saved in models and never changes.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from ..compile import COMPILE, INLINE
from ..simd import pointer

__all__ = ["hash_numbers", "hash_text", "hash_texts", "is_valid", "word"]

# Everything is a uint64: numba makes a float of uint64 and int64 together.
_P1 = np.uint64(0x9E3779B185EBCA87)
_P2 = np.uint64(0xC2B2AE3D27D4EB4F)
_P3 = np.uint64(0x165667B19E3779F9)
_P4 = np.uint64(0x85EBCA77C2B2AE63)
_P5 = np.uint64(0x27D4EB2F165667C5)


def _unsigned(bits: int) -> Any:
    kind = ir.IntType(bits)

    @intrinsic
    def read(typing_context: Any, start: Any, offset: Any) -> Any:
        """The bytes at start + offset as a little-endian number."""

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            address = builder.gep(args[0], [args[1]])
            number = builder.load(builder.bitcast(address, kind.as_pointer()))
            number.align = 1
            if sys.byteorder == "big":
                number = builder.bswap(number)
            return builder.zext(number, ir.IntType(64)) if bits < 64 else number

        return types.uint64(types.CPointer(types.uint8), types.int64), generate

    return read


#: ``word(start, offset)``: the 8 bytes there as a little-endian number.
word = _unsigned(64)
_half_word = _unsigned(32)


@njit(**INLINE)
def _rotate(x: Any, left: Any, right: Any) -> Any:
    return (x << np.uint64(left)) | (x >> np.uint64(right))


@njit(**INLINE)
def _round(lane: Any, piece: Any) -> Any:
    return _rotate(lane + piece * _P2, 31, 33) * _P1


@njit(**INLINE)
def _merge(h: Any, lane: Any) -> Any:
    return (h ^ _round(np.uint64(0), lane)) * _P1 + _P4


@njit(**INLINE)
def _mix_word(h: Any, piece: Any) -> Any:
    return _rotate(h ^ _round(np.uint64(0), piece), 27, 37) * _P1 + _P4


@njit(**INLINE)
def _avalanche(h: Any) -> Any:
    h = (h ^ (h >> np.uint64(33))) * _P2
    h = (h ^ (h >> np.uint64(29))) * _P3
    return h ^ (h >> np.uint64(32))


@njit(**COMPILE)
def _start_long(data: Any, begin: int, end: int, seed: Any) -> Any:
    """State after the whole pieces of 32 bytes."""
    a, b, c, d = seed + _P1 + _P2, seed + _P2, seed, seed - _P1
    for at in range(begin, end - 31, 32):
        a = _round(a, word(data, at))
        b = _round(b, word(data, at + 8))
        c = _round(c, word(data, at + 16))
        d = _round(d, word(data, at + 24))
    h = _rotate(a, 1, 63) + _rotate(b, 7, 57) + _rotate(c, 12, 52) + _rotate(d, 18, 46)
    return _merge(_merge(_merge(_merge(h, a), b), c), d)


@njit(**INLINE)
def hash_text(data: Any, begin: int, end: int, seed: Any) -> Any:
    """XXH64 of ``data[begin:end]``, `data` being the address of bytes."""
    length = end - begin
    at = begin
    h = seed + _P5
    if length >= 32:
        h = _start_long(data, begin, end, seed)
        at = end - length % 32
    h += np.uint64(length)
    while at + 8 <= end:
        h = _mix_word(h, word(data, at))
        at += 8
    if at + 4 <= end:
        h = _rotate(h ^ (_half_word(data, at) * _P1), 23, 41) * _P2 + _P3
        at += 4
    while at < end:
        h = _rotate(h ^ (np.uint64(data[at]) * _P5), 11, 53) * _P1
        at += 1
    return _avalanche(h)


@njit(**INLINE)
def _write(number: Any, text: Any) -> int:
    """Write a whole number in digits to the end of 20 bytes; return where they begin."""
    at = 20
    # In uint64, so that the least int64 has an absolute value.
    rest = np.uint64(number) if number >= 0 else np.uint64(0) - np.uint64(number)
    while True:
        at -= 1
        text[at] = np.uint8(np.uint64(48) + rest % np.uint64(10))
        rest //= np.uint64(10)
        if rest == np.uint64(0):
            break
    if number < 0:
        at -= 1
        text[at] = np.uint8(45)
    return at


@njit(**INLINE)
def is_valid(valid: Any, has_bits: bool, row: int) -> bool:
    """Whether Arrow's bitmap, if there is one, says that a row is not missing."""
    return not has_bits or (valid[row >> 3] >> (row & 7)) & 1 != 0


@njit(**COMPILE)
def hash_texts(
    offsets: Any, data: Any, valid: Any, first: int, seed: Any, n_buckets: Any, out: Any
) -> None:
    """Write the bucket of each text, XXH64 modulo their number.

    Parameters
    ----------
    offsets : ndarray of int32 or int64 of shape (n_rows + 1,)
        Text i is ``data[offsets[i]:offsets[i + 1]]``, as in Arrow.
    data : ndarray of uint8
        The bytes.
    valid : ndarray of uint8
        A bit per row, 0 for missing; empty when nothing is missing.
    first : int
        Bit of the first row.
    seed : uint64
        Seed of the hash.
    n_buckets : uint64
        Number of buckets.
    out : ndarray of int32 of shape (n_rows,)
        Receives the buckets, and -1 for missing.
    """
    ends, start, bits = pointer(offsets), pointer(data), pointer(valid)
    has_bits = len(valid) > 0
    for i in range(len(out)):
        out[i] = -1
        if is_valid(bits, has_bits, first + i):
            h = hash_text(start, np.int64(ends[i]), np.int64(ends[i + 1]), seed)
            out[i] = np.int32(h % n_buckets)


@njit(**COMPILE)
def hash_numbers(numbers: Any, missing: Any, seed: Any, n_buckets: Any, out: Any) -> None:
    """Write the bucket of each whole number, XXH64 of its digits as text modulo their number.

    Parameters
    ----------
    numbers : ndarray of int64 of shape (n_rows,)
        The numbers.
    missing : ndarray of bool of shape (n_rows,) or (0,)
        Which are missing; empty when none is.
    seed : uint64
        Seed of the hash.
    n_buckets : uint64
        Number of buckets.
    out : ndarray of int32 of shape (n_rows,)
        Receives the buckets, and -1 for missing.
    """
    digits = np.empty(20, dtype=np.uint8)
    text = pointer(digits)
    for i in range(len(out)):
        out[i] = -1
        if len(missing) == 0 or not missing[i]:
            begin = _write(numbers[i], digits)
            out[i] = np.int32(hash_text(text, begin, 20, seed) % n_buckets)
