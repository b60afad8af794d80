"""Distinct categories numbered in order of first appearance, in three kinds of store.

A store counts nothing and knows no codes but those it is handed; `Vocabulary` does, and chooses
the kind. Two kinds are compiled hash tables over plain arrays, the third is a dict.
"""

from __future__ import annotations

import functools
import os
import re
import sys
from collections.abc import Iterable
from decimal import Decimal
from itertools import repeat
from numbers import Real
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..kernels import HAS_KERNELS
from .cells import Cells, Column, Texts, Wholes, factorize, read_column

__all__ = [
    "ABSENT",
    "MISSING",
    "WHOLE_TEXT",
    "CellStore",
    "Store",
    "TextStore",
    "WholeStore",
    "make_store",
]

#: A whole number as Python writes it: "7", but not "007", "+7" or "7.0".
WHOLE_TEXT = re.compile("0|-?[1-9][0-9]{0,38}")
#: In place of a number. A table of codes by number ends with those of an absent and of a
#: missing cell, where these find them.
MISSING, ABSENT = -1, -2


class Store:
    """Distinct categories by number."""

    holds: ClassVar[type[Column]]  # kind of columns

    def __len__(self) -> int:
        raise NotImplementedError

    def add(self, column: Any) -> NDArray[np.int32]:
        """Number the rows of a column, new categories after those known."""
        raise NotImplementedError

    def look_up(self, column: Any, codes: NDArray[np.int32]) -> NDArray[np.int32]:
        """Codes of the rows, from a table of codes by number."""
        raise NotImplementedError

    def find(self, cells: list[Any], codes: NDArray[np.int32]) -> NDArray[np.int32]:
        """Codes of hashable cells of any kind, none missing, from such a table."""
        raise NotImplementedError

    def as_own(self, cells: list[Any]) -> Column | None:
        """Return such cells as a column that the store holds; None if it cannot."""
        raise NotImplementedError

    def keys(self, numbers: Any = slice(None)) -> NDArray[Any]:
        """Return categories by number: bool, int64, float64 or object."""
        raise NotImplementedError

    def take(self, numbers: NDArray[np.intp]) -> Store:
        """Return a store of some categories, numbered anew."""
        raise NotImplementedError

    def order(self) -> NDArray[np.intp]:
        """Return the numbers, those of ascending keys if they are numbers."""
        return np.arange(len(self))

    @property
    def nbytes(self) -> int:
        """Bytes of memory in use."""
        raise NotImplementedError


class HashedStore(Store):
    """What the stores with a compiled hash table share."""

    hash_mask = np.uint64(2**64 - 1)  # tests take bits away, so that keys collide

    def __init__(self) -> None:
        self._n_keys = 0
        self._slots = np.zeros(64, dtype=np.uint64)
        # Of this table alone, so that nobody knows which keys collide. No number depends on it.
        self._secret = np.frombuffer(os.urandom(16), dtype=np.uint64)

    def __len__(self) -> int:
        return self._n_keys

    @property
    def _hashing(self) -> tuple[NDArray[np.uint64], np.uint64]:
        return self._secret, self.hash_mask

    def _make_slots(self) -> NDArray[np.uint64]:
        """Empty slots: more than twice the keys, which the kernels ask for."""
        return np.zeros(max(64, 2 << self._n_keys.bit_length()), dtype=np.uint64)


class TextStore(HashedStore):
    """Texts as UTF-8, one after the other."""

    holds = Texts

    def __init__(self) -> None:
        super().__init__()
        self._starts = np.zeros(33, dtype=np.int64)
        self._data = np.empty(256, dtype=np.uint8)

    @classmethod
    def from_arrays(cls, data: NDArray[np.uint8], lengths: NDArray[Any]) -> TextStore:
        """Store distinct texts that lie one after the other."""
        store = cls()
        store._n_keys = len(lengths)
        store._starts = np.append(0, np.cumsum(lengths, dtype=np.int64))
        store._data = data
        store._index()
        return store

    def add(self, column: Texts) -> NDArray[np.int32]:
        """Number the cells of a column, new ones after the others."""
        out = np.empty(column.n_rows, dtype=np.int32)
        insert = _kernels().insert_texts
        for piece, part in column.parts(out):
            row = 0
            while True:
                table = self._slots, self._starts, self._data, self._n_keys, *self._hashing
                row, self._n_keys = insert(*piece, row, *table, part)
                if row == len(part):
                    break
                self._make_room(int(piece.offsets[row + 1] - piece.offsets[row]))
        return out

    def look_up(self, column: Texts, codes: NDArray[np.int32]) -> NDArray[np.int32]:
        """Codes of the cells of a column, by those of numbers."""
        out = np.empty(column.n_rows, dtype=np.int32)
        look_up = _kernels().look_up_texts
        for piece, part in column.parts(out):
            look_up(*piece, self._slots, self._starts, self._data, codes, *self._hashing, part)
        return out

    def find(self, cells: list[Any], codes: NDArray[np.int32]) -> NDArray[np.int32]:
        """Codes of single cells, likewise."""
        out = np.full(len(cells), codes[ABSENT])
        found = [(i, text) for i, cell in enumerate(cells) if (text := _text(cell)) is not None]
        if found:
            rows, texts = zip(*found, strict=True)
            out[list(rows)] = self.look_up(read_column(texts), codes)  # type: ignore[arg-type]
        return out

    def as_own(self, cells: list[Any]) -> Column | None:
        """Cells as texts, unless one is neither a text nor a whole number."""
        texts = list(map(_text, cells))
        return None if None in texts else read_column(texts)

    def keys(self, numbers: Any = slice(None)) -> NDArray[Any]:
        """Categories of numbers."""
        starts, ends = self._starts[: self._n_keys][numbers], self._starts[1:][: self._n_keys]
        spans = list(zip(starts.tolist(), ends[numbers].tolist(), strict=True))
        data = self._data[: self._starts[self._n_keys]].tobytes()
        out = np.empty(len(spans), dtype=object)
        if data.isascii():
            text = data.decode()
            out[:] = [text[start:end] for start, end in spans]
        else:
            out[:] = [data[start:end].decode() for start, end in spans]
        return out

    def take(self, numbers: NDArray[np.intp]) -> Store:
        """A store of some of the categories."""
        lengths = np.diff(self._starts)[numbers]
        starts = np.cumsum(lengths) - lengths
        places = np.arange(lengths.sum()) + np.repeat(self._starts[numbers] - starts, lengths)
        return self.from_arrays(self._data[places], lengths)

    @property
    def nbytes(self) -> int:
        """Bytes of memory in use."""
        return self._slots.nbytes + self._starts.nbytes + self._data.nbytes

    def __reduce__(self) -> Any:
        lengths = np.diff(self._starts[: self._n_keys + 1])
        small = lengths.astype(np.min_scalar_type(lengths.max(initial=0)))
        return _restore_texts, (self._data[: self._starts[self._n_keys]].copy(), small)

    def _make_room(self, length: int) -> None:
        """Let more texts in, one of that many bytes first."""
        if self._n_keys + 1 == len(self._starts):
            self._starts = _extended(self._starts, 2 * len(self._starts))
        if (needed := int(self._starts[self._n_keys]) + length) > len(self._data):
            self._data = _extended(self._data, 2 * needed)
        if 2 * self._n_keys == len(self._slots):
            self._index()

    def _index(self) -> None:
        self._slots = self._make_slots()
        index = _kernels().index_texts
        index(self._starts, self._data, self._n_keys, *self._hashing, self._slots)


class WholeStore(HashedStore):
    """Whole numbers that int64 holds."""

    holds = Wholes

    def __init__(self) -> None:
        super().__init__()
        self._keys = np.empty(32, dtype=np.int64)
        self._are_bools = True  # until a number comes

    @classmethod
    def from_arrays(cls, keys: NDArray[np.int64], are_bools: bool) -> WholeStore:
        """Store distinct numbers."""
        store = cls()
        store._n_keys, store._keys, store._are_bools = len(keys), keys, are_bools
        store._index()
        return store

    def add(self, column: Wholes) -> NDArray[np.int32]:
        """Number the cells of a column, new ones after the others."""
        out = np.empty(len(column.numbers), dtype=np.int32)
        self._are_bools &= column.are_bools
        insert, row = _kernels().insert_numbers, 0
        while True:
            table = self._slots, self._keys, self._n_keys, *self._hashing
            row, self._n_keys = insert(column.numbers, column.missing, row, *table, out)
            if row == len(out):
                return out
            self._make_room()

    def look_up(self, column: Wholes, codes: NDArray[np.int32]) -> NDArray[np.int32]:
        """Codes of the cells of a column, by those of numbers."""
        out = np.empty(len(column.numbers), dtype=np.int32)
        table = self._slots, self._keys, codes, *self._hashing
        _kernels().look_up_numbers(column.numbers, column.missing, *table, out)
        return out

    def find(self, cells: list[Any], codes: NDArray[np.int32]) -> NDArray[np.int32]:
        """Codes of single cells, likewise."""
        out = np.full(len(cells), codes[ABSENT])
        found = [(i, whole) for i, cell in enumerate(cells) if _fits(whole := _whole(cell))]
        if found:
            rows, wholes = zip(*found, strict=True)
            out[list(rows)] = self.look_up(_wholes(wholes), codes)
        return out

    def as_own(self, cells: list[Any]) -> Column | None:
        """Cells as whole numbers, unless one is none that int64 holds, nor the text of one."""
        wholes = list(map(_whole, cells))
        return _wholes(wholes) if all(map(_fits, wholes)) else None

    def keys(self, numbers: Any = slice(None)) -> NDArray[Any]:
        """Categories of numbers."""
        keys = self._keys[: self._n_keys][numbers]
        return keys.astype(bool) if self._are_bools else keys.copy()

    def take(self, numbers: NDArray[np.intp]) -> Store:
        """A store of some of the categories."""
        return self.from_arrays(self._keys[numbers], self._are_bools)

    def order(self) -> NDArray[np.intp]:
        """Numbers in the order in which categories get codes."""
        return np.argsort(self._keys[: self._n_keys])

    @property
    def nbytes(self) -> int:
        """Bytes of memory in use."""
        return self._slots.nbytes + self._keys.nbytes

    def __reduce__(self) -> Any:
        return _restore_wholes, (self._keys[: self._n_keys].copy(), self._are_bools)

    def _make_room(self) -> None:
        """Let more numbers in."""
        if self._n_keys == len(self._keys):
            self._keys = _extended(self._keys, 2 * len(self._keys) + 32)
        if 2 * self._n_keys == len(self._slots):
            self._index()

    def _index(self) -> None:
        self._slots = self._make_slots()
        _kernels().index_numbers(self._keys, self._n_keys, *self._hashing, self._slots)


class CellStore(Store):
    """Any hashable Python objects, equal as a dict says.

    A whole number and its text are kept apart if they come in one column; else the second to
    come is taken for the first.

    Parameters
    ----------
    keys : iterable, default=()
        Distinct categories to begin with.
    """

    holds = Cells

    def __init__(self, keys: Iterable[Any] = ()) -> None:
        self._numbers = {key: number for number, key in enumerate(keys)}

    def __len__(self) -> int:
        return len(self._numbers)

    def add(self, column: Cells) -> NDArray[np.int32]:
        """Number the cells of a column, new ones after the others."""
        rows, cells = factorize(column.values)
        known, before = self._numbers, self._numbers_of(cells).tolist()
        numbers = [
            known.setdefault(cell, len(known)) if number == ABSENT else number
            for cell, number in zip(cells, before, strict=True)
        ]
        return np.array([*numbers, MISSING], dtype=np.int32)[rows]

    def look_up(self, column: Cells, codes: NDArray[np.int32]) -> NDArray[np.int32]:
        """Codes of the cells of a column, by those of numbers."""
        values = column.values
        if values.dtype != object:
            rows, cells = factorize(values)
            return np.append(self.find(cells, codes), codes[MISSING])[rows]
        numbers = self._numbers_of(values.tolist())  # a hash look-up each, so need not factorize
        if len(absent := np.flatnonzero(numbers == ABSENT)):
            numbers[absent[np.asarray(pd.isna(values[absent]))]] = MISSING
        return codes[numbers]

    def find(self, cells: list[Any], codes: NDArray[np.int32]) -> NDArray[np.int32]:
        """Codes of single cells, likewise."""
        return codes[self._numbers_of(cells)]

    def keys(self, numbers: Any = slice(None)) -> NDArray[Any]:
        """Categories of numbers."""
        keys = np.empty(len(self), dtype=object)
        keys[:] = list(self._numbers)
        return _numbers_or_objects(keys[numbers])

    def take(self, numbers: NDArray[np.intp]) -> Store:
        """A store of some of the categories."""
        keys = list(self._numbers)
        return CellStore(keys[number] for number in numbers.tolist())

    def order(self) -> NDArray[np.intp]:
        """Numbers in the order in which categories get codes."""
        keys = self.keys()
        return np.argsort(keys) if _are_numbers(keys) else np.arange(len(keys))

    @property
    def nbytes(self) -> int:
        """Bytes of memory in use."""
        return sys.getsizeof(self._numbers) + sum(map(sys.getsizeof, self._numbers))

    def __reduce__(self) -> Any:
        return CellStore, (list(self._numbers),)

    def _numbers_of(self, cells: list[Any]) -> NDArray[np.int32]:
        find = self._numbers.get
        numbers = np.fromiter(map(find, cells, repeat(ABSENT)), dtype=np.int32, count=len(cells))
        for i in np.flatnonzero(numbers == ABSENT).tolist():
            if (twin := _twin(cells[i])) is not None:
                numbers[i] = find(twin, ABSENT)
        return numbers


def make_store(column: Column) -> Store:
    """Return an empty store of the kind that a column needs.

    Parameters
    ----------
    column : Texts, Wholes, Coded or Cells
        From `read_column`.

    Returns
    -------
    Store
    """
    if isinstance(column, Texts):
        return TextStore()
    return WholeStore() if isinstance(column, Wholes) else CellStore()


# -- implementation --------------------------------------------------------------------------


@functools.cache
def _kernels() -> Any:
    from ..kernels.cells import hash_table

    return hash_table


def _extended(array: NDArray[Any], size: int) -> NDArray[Any]:
    out = np.empty(size, dtype=array.dtype)
    out[: len(array)] = array
    return out


def _restore_texts(data: NDArray[np.uint8], lengths: NDArray[Any]) -> Store:
    if HAS_KERNELS:
        return TextStore.from_arrays(data, lengths)
    ends = np.cumsum(lengths, dtype=np.int64)
    spans = zip((ends - lengths).tolist(), ends.tolist(), strict=True)
    return CellStore(data[start:end].tobytes().decode() for start, end in spans)


def _restore_wholes(keys: NDArray[np.int64], are_bools: bool) -> Store:
    if HAS_KERNELS:
        return WholeStore.from_arrays(keys, are_bools)
    return CellStore((keys.astype(bool) if are_bools else keys).tolist())


def _text(cell: Any) -> str | None:
    """A text itself, if UTF-8 holds it, or that of a whole number of up to 39 digits."""
    if not isinstance(cell, str):
        whole = _whole(cell)
        return None if whole is None or abs(whole) >= 10**39 else str(whole)
    try:
        cell.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return None
    return cell


def _whole(cell: Any) -> int | None:
    """The whole number that a cell equals, or of which it is the text."""
    if isinstance(cell, str):
        return int(cell) if WHOLE_TEXT.fullmatch(cell) else None
    if not isinstance(cell, (Real, Decimal, np.bool_)):
        return None
    number: Any = cell
    try:
        whole = int(number)
    except (OverflowError, ValueError):  # infinite, or not a number
        return None
    return whole if whole == cell else None


def _twin(cell: Any) -> Any:
    """The text of a whole number, or the whole number of a text; None if there is none."""
    return _whole(cell) if isinstance(cell, str) else _text(cell)


def _fits(whole: int | None) -> bool:
    return whole is not None and -(2**63) <= whole < 2**63


def _wholes(wholes: Any) -> Wholes:
    return Wholes(np.array(wholes, dtype=np.int64), np.empty(0, dtype=bool))


def _numbers_or_objects(keys: NDArray[np.object_]) -> NDArray[Any]:
    """Objects as an array of numbers if all are numbers and stay exact."""
    kind = _kind(keys)
    dtype: type[Any] = {"boolean": bool, "integer": np.int64}.get(kind, np.float64)
    if kind not in _NUMBERS:
        return keys
    try:
        numbers: NDArray[Any] = keys.astype(dtype)
    except OverflowError:
        return keys
    return numbers if (numbers.astype(object) == keys).all() else keys


def _are_numbers(keys: NDArray[Any]) -> bool:
    return keys.dtype != object or _kind(keys) in _NUMBERS


def _kind(keys: NDArray[Any]) -> str:
    return str(pd.api.types.infer_dtype(keys, skipna=False))


_NUMBERS = ("boolean", "integer", "floating", "mixed-integer-float")
