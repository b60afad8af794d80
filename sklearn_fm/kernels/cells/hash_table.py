"""Hash tables that number distinct texts and whole numbers in order of first appearance.

They hold plain arrays and compare keys exactly, so equal hashes never merge two keys. Counting,
growing the arrays and the way back from numbers to keys are the caller's.

A slot is 0 when empty, else the upper half of the key's hash above its number plus 1. Key i of a
table of texts is ``store[starts[i]:starts[i + 1]]``, of a table of numbers ``keys[i]``. Rows go
by in blocks: their hashes are known and the slots on their way from memory before the first
one is needed. Each table hashes by a secret of its own, so that nobody can choose keys that crowd
one stretch of it: 100,000 that differ only in the upper bits of a hash once took a thousand times
as long as others. No number depends on the secret. `kept` masks the hashes, so that tests can
make keys collide.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from ..compile import COMPILE, INLINE
from ..simd import pointer
from .hashing import is_valid, word
from .keyed import keyed_number, keyed_text

__all__ = [
    "index_numbers",
    "index_texts",
    "insert_numbers",
    "insert_texts",
    "look_up_numbers",
    "look_up_texts",
]

_BLOCK = 32
_NUMBER = np.uint64(0xFFFFFFFF)  # lower half of a slot
_HALF = np.uint64(32)


@intrinsic
def _prefetch(typing_context: Any, start: Any, offset: Any) -> Any:
    """Ask for the cache line of ``start[offset]``, to read it."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        byte, int32 = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, int32, int32, int32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        to_read, keep, data = (ir.Constant(int32, flag) for flag in (0, 3, 1))
        address = builder.bitcast(builder.gep(args[0], [args[1]]), byte)
        builder.call(function, [address, to_read, keep, data])
        return context.get_dummy_value()

    return types.void(start, types.int64), generate


@njit(**INLINE)
def _position(h: Any, last: Any) -> Any:
    return np.int64(h & last)


@njit(**INLINE)
def _slot(h: Any, number: int) -> Any:
    return (h & ~_NUMBER) | np.uint64(number + 1)


@njit(**INLINE)
def _after(position: int, last: Any) -> Any:
    return np.int64(np.uint64(position + 1) & last)


@njit(**INLINE)
def _next_match(slots: Any, position: int, h: Any, last: Any) -> Any:
    """First slot from `position` on that is empty or has the upper half of the hash."""
    while slots[position] != 0 and (slots[position] ^ h) >> _HALF != 0:
        position = _after(position, last)
    return position


@njit(**INLINE)
def _first_empty(slots: Any, h: Any, last: Any) -> Any:
    position = _position(h, last)
    while slots[position] != 0:
        position = _after(position, last)
    return position


@njit(**INLINE)
def _number_in(slot: Any) -> Any:
    return np.int64(slot & _NUMBER) - 1


@njit(**INLINE)
def _are_equal(left: Any, i: int, right: Any, j: int, length: int) -> bool:
    """Whether ``left[i : i + length] == right[j : j + length]``."""
    k = 0
    while k + 8 <= length:
        if word(left, i + k) != word(right, j + k):
            return False
        k += 8
    while k < length:
        if left[i + k] != right[j + k]:
            return False
        k += 1
    return True


# -- texts -----------------------------------------------------------------------------------


@njit(**INLINE)
def _find_text(
    data: Any, begin: int, end: int, h: Any, slots: Any, last: Any, starts: Any, store: Any
) -> int:
    """Slot of a text, or the empty one where it belongs."""
    position = _next_match(slots, _position(h, last), h, last)
    while slots[position] != 0:
        at = starts[_number_in(slots[position])]
        length = starts[_number_in(slots[position]) + 1] - at
        if length == end - begin and _are_equal(data, begin, store, at, length):
            break
        position = _next_match(slots, _after(position, last), h, last)
    return position


@njit(**INLINE)
def _hash_texts(
    ends: Any,
    data: Any,
    row: int,
    size: int,
    secret: Any,
    kept: Any,
    slots: Any,
    last: Any,
    hashes: Any,
) -> None:
    """Hash the texts of a block and ask for their slots."""
    for i in range(size):
        begin, end = np.int64(ends[row + i]), np.int64(ends[row + i + 1])
        hashes[i] = keyed_text(data, begin, end, secret) & kept
        _prefetch(slots, _position(hashes[i], last))


@njit(**COMPILE)
def insert_texts(
    offsets: Any,
    data: Any,
    valid: Any,
    first: int,
    row: int,
    slots: Any,
    starts: Any,
    store: Any,
    n_keys: int,
    secret: Any,
    kept: Any,
    out: Any,
) -> Any:
    """Number the texts from a row on, adding new ones until there is no room.

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
    row : int
        Where to begin.
    slots : ndarray of uint64
        The table; a power of two of them, at most half of which get filled.
    starts : ndarray of int64
        Where the keys start in the store.
    store : ndarray of uint8
        The bytes of the keys.
    n_keys : int
        Number of keys so far.
    secret : ndarray of uint64 of shape (2,)
        What the hashes of this table depend on.
    kept : uint64
        Mask of the hashes.
    out : ndarray of int32 of shape (n_rows,)
        Receives the numbers, and -1 for missing.

    Returns
    -------
    row : int
        The row there was no room for, or the number of rows.
    n_keys : int
        Number of keys.
    """
    ends, at, bits = pointer(offsets), pointer(data), pointer(valid)
    table, begins, bytes_ = pointer(slots), pointer(starts), pointer(store)
    last = np.uint64(len(slots) - 1)
    most = min(len(slots) // 2, len(starts) - 1)
    block_hashes = np.empty(_BLOCK, dtype=np.uint64)
    hashes = pointer(block_hashes)
    for block in range(row, len(out), _BLOCK):
        size = min(_BLOCK, len(out) - block)
        _hash_texts(ends, at, block, size, pointer(secret), kept, table, last, hashes)
        for i in range(block, block + size):
            if not is_valid(bits, len(valid) > 0, first + i):
                out[i] = -1
                continue
            begin, end = np.int64(ends[i]), np.int64(ends[i + 1])
            h = hashes[i - block]
            position = _find_text(at, begin, end, h, table, last, begins, bytes_)
            if table[position] == 0:
                free = begins[n_keys]
                if n_keys >= most or free + end - begin > len(store):
                    return i, n_keys
                for k in range(end - begin):
                    bytes_[free + k] = at[begin + k]
                begins[n_keys + 1] = free + end - begin
                table[position] = _slot(h, n_keys)
                n_keys += 1
            out[i] = np.int32(_number_in(table[position]))
    return len(out), n_keys


@njit(**COMPILE)
def look_up_texts(
    offsets: Any,
    data: Any,
    valid: Any,
    first: int,
    slots: Any,
    starts: Any,
    store: Any,
    codes: Any,
    secret: Any,
    kept: Any,
    out: Any,
) -> None:
    """Write the code of each text.

    Parameters
    ----------
    offsets, data, valid, first, slots, starts, store, secret, kept
        As in `insert_texts`.
    codes : ndarray of int32 of shape (n_keys + 2,)
        Code of each number, then that of an absent text and that of a missing one.
    out : ndarray of int32 of shape (n_rows,)
        Receives the codes.
    """
    ends, at, bits = pointer(offsets), pointer(data), pointer(valid)
    table, begins, bytes_ = pointer(slots), pointer(starts), pointer(store)
    code_of, absent, missing = pointer(codes), codes[len(codes) - 2], codes[len(codes) - 1]
    last = np.uint64(len(slots) - 1)
    block_hashes = np.empty(_BLOCK, dtype=np.uint64)
    hashes = pointer(block_hashes)
    for block in range(0, len(out), _BLOCK):
        size = min(_BLOCK, len(out) - block)
        _hash_texts(ends, at, block, size, pointer(secret), kept, table, last, hashes)
        for i in range(block, block + size):
            if not is_valid(bits, len(valid) > 0, first + i):
                out[i] = missing
                continue
            begin, end = np.int64(ends[i]), np.int64(ends[i + 1])
            h = hashes[i - block]
            position = _find_text(at, begin, end, h, table, last, begins, bytes_)
            number = _number_in(table[position])
            out[i] = code_of[number] if number >= 0 else absent


@njit(**COMPILE)
def index_texts(starts: Any, store: Any, n_keys: int, secret: Any, kept: Any, slots: Any) -> None:
    """Fill an empty table with the keys of a store.

    Parameters
    ----------
    starts, store, n_keys, secret, kept
        As in `insert_texts`.
    slots : ndarray of uint64
        Zeros, at least twice as many as keys.
    """
    table, begins, bytes_ = pointer(slots), pointer(starts), pointer(store)
    last, hidden = np.uint64(len(slots) - 1), pointer(secret)
    for number in range(n_keys):
        h = keyed_text(bytes_, begins[number], begins[number + 1], hidden) & kept
        table[_first_empty(table, h, last)] = _slot(h, number)


# -- whole numbers ---------------------------------------------------------------------------


@njit(**INLINE)
def _find_number(key: Any, h: Any, slots: Any, last: Any, keys: Any) -> int:
    """Slot of a whole number, or the empty one where it belongs."""
    position = _next_match(slots, _position(h, last), h, last)
    while slots[position] != 0 and keys[_number_in(slots[position])] != key:
        position = _next_match(slots, _after(position, last), h, last)
    return position


@njit(**INLINE)
def _hash_numbers(
    cells: Any, row: int, size: int, secret: Any, kept: Any, slots: Any, last: Any, hashes: Any
) -> None:
    """Hash the numbers of a block and ask for their slots."""
    for i in range(size):
        hashes[i] = keyed_number(cells[row + i], secret) & kept
        _prefetch(slots, _position(hashes[i], last))


@njit(**COMPILE)
def insert_numbers(
    cells: Any,
    missing: Any,
    row: int,
    slots: Any,
    keys: Any,
    n_keys: int,
    secret: Any,
    kept: Any,
    out: Any,
) -> Any:
    """Number the whole numbers from a row on, adding new ones until there is no room.

    Parameters
    ----------
    cells : ndarray of int64 of shape (n_rows,)
        The whole numbers.
    missing : ndarray of bool of shape (n_rows,) or (0,)
        Which are missing; empty when none is.
    row : int
        Where to begin.
    slots : ndarray of uint64
        The table; a power of two of them, at most half of which get filled.
    keys : ndarray of int64
        The keys, with room for more.
    n_keys : int
        Number of keys so far.
    secret : ndarray of uint64 of shape (2,)
        What the hashes of this table depend on.
    kept : uint64
        Mask of the hashes.
    out : ndarray of int32 of shape (n_rows,)
        Receives the numbers, and -1 for missing.

    Returns
    -------
    row : int
        The row there was no room for, or the number of rows.
    n_keys : int
        Number of keys.
    """
    table, known, has_missing = pointer(slots), pointer(keys), len(missing) > 0
    last = np.uint64(len(slots) - 1)
    most = min(len(slots) // 2, len(keys))
    block_hashes = np.empty(_BLOCK, dtype=np.uint64)
    hashes = pointer(block_hashes)
    for block in range(row, len(out), _BLOCK):
        size = min(_BLOCK, len(out) - block)
        _hash_numbers(pointer(cells), block, size, pointer(secret), kept, table, last, hashes)
        for i in range(block, block + size):
            if has_missing and missing[i]:
                out[i] = -1
                continue
            h = hashes[i - block]
            position = _find_number(cells[i], h, table, last, known)
            if table[position] == 0:
                if n_keys >= most:
                    return i, n_keys
                known[n_keys] = cells[i]
                table[position] = _slot(h, n_keys)
                n_keys += 1
            out[i] = np.int32(_number_in(table[position]))
    return len(out), n_keys


@njit(**COMPILE)
def look_up_numbers(
    cells: Any, missing: Any, slots: Any, keys: Any, codes: Any, secret: Any, kept: Any, out: Any
) -> None:
    """Write the code of each whole number.

    Parameters
    ----------
    cells, missing, slots, keys, secret, kept
        As in `insert_numbers`.
    codes : ndarray of int32 of shape (n_keys + 2,)
        Code of each number, then that of an absent cell and that of a missing one.
    out : ndarray of int32 of shape (n_rows,)
        Receives the codes.
    """
    table, known, has_missing = pointer(slots), pointer(keys), len(missing) > 0
    code_of, absent, missing_code = pointer(codes), codes[len(codes) - 2], codes[len(codes) - 1]
    last = np.uint64(len(slots) - 1)
    block_hashes = np.empty(_BLOCK, dtype=np.uint64)
    hashes = pointer(block_hashes)
    for block in range(0, len(out), _BLOCK):
        size = min(_BLOCK, len(out) - block)
        _hash_numbers(pointer(cells), block, size, pointer(secret), kept, table, last, hashes)
        for i in range(block, block + size):
            if has_missing and missing[i]:
                out[i] = missing_code
                continue
            position = _find_number(cells[i], hashes[i - block], table, last, known)
            number = _number_in(table[position])
            out[i] = code_of[number] if number >= 0 else absent


@njit(**COMPILE)
def index_numbers(keys: Any, n_keys: int, secret: Any, kept: Any, slots: Any) -> None:
    """Fill an empty table with keys.

    Parameters
    ----------
    keys, n_keys, secret, kept
        As in `insert_numbers`.
    slots : ndarray of uint64
        Zeros, at least twice as many as keys.
    """
    table, hidden = pointer(slots), pointer(secret)
    last = np.uint64(len(slots) - 1)
    for number in range(n_keys):
        h = keyed_number(keys[number], hidden) & kept
        table[_first_empty(table, h, last)] = _slot(h, number)
