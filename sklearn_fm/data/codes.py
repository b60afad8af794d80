"""Codes as indices and values: what each slot of a schema reads, and whether codes fit it.

Compiled where numba is installed. What carries the codes is the business of ``array``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..schema import FieldSchema

__all__ = ["Slots", "check_codes", "write_entries"]


@functools.cache
def _compiled_to_entries() -> Callable[..., bool] | None:
    """Kernel for `FieldArray.indices_and_values`, if numba is installed."""
    try:
        from ..kernels.cells.codes import to_entries
    except ImportError:
        return None
    return to_entries


class Slots(NamedTuple):
    """A schema as arrays with one number per slot, for all slots at once."""

    first: NDArray[np.int64]  # index of the unknown, or of the number
    top: NDArray[np.int64]  # largest code
    low: NDArray[np.int64]  # least code
    numeric: NDArray[np.bool_]
    column: NDArray[np.int64]  # of the code or number
    value_column: NDArray[np.int64]  # of its value, -1 if there is none
    divided: NDArray[np.int64]  # (n_divided, 3): first and last + 1 slot, 1 for a square root
    have_values: bool  # whether some value may differ from 1
    largest: int

    @classmethod
    @functools.lru_cache(maxsize=32)
    def of(cls, schema: FieldSchema) -> Slots:
        rows: list[tuple[int, int, int, bool, int, int]] = []
        divided = []
        for f, kind in enumerate(schema.kinds):
            n, start, pooling = schema.slots[f], schema.first_columns[f], schema.poolings[f]
            is_numeric = kind == "numeric"
            top, low = schema.vocabulary_sizes[f] - 2, -2 if kind == "bag" else -1
            if pooling in ("mean", "sqrtn") and n > 1:
                divided.append((len(rows), len(rows) + n, int(pooling == "sqrtn")))
            for s in range(n):
                first = schema.offsets[f] + s * is_numeric
                value_column = start + n + s if pooling == "weighted" else -1
                rows.append((first, top, low, is_numeric, start + s, value_column))
        table = np.array(rows, dtype=np.int64).reshape(-1, 6).T.copy()
        numeric = table[3].astype(bool)
        plain = {"categorical", "binned"}.issuperset(schema.kinds)
        return cls(
            first=table[0],
            top=table[1],
            low=table[2],
            numeric=numeric,
            column=table[4],
            value_column=table[5],
            divided=np.array(divided, dtype=np.int64).reshape(-1, 3),
            have_values=not plain or "weighted" in schema.poolings or bool(divided),
            largest=int(table[1][~numeric].max(initial=0)),
        )

    @property
    def arrays(self) -> tuple[NDArray[Any], ...]:
        """What `kernels.codes.to_entries` takes."""
        return self[:7]

    def are_exact_in(self, dtype: np.dtype[Any]) -> bool:
        """Whether kernels know numbers of that type, and these can hold the codes."""
        if dtype.char not in "bBhHiIlLqQfd" or not dtype.isnative:
            return False
        return dtype.kind != "f" or self.largest <= 2 ** (np.finfo(dtype).nmant + 1)


def _to_entries(
    codes: NDArray[Any], slots: Slots, indices: NDArray[Any], values: NDArray[np.float32]
) -> None:
    """Write indices and values of checked codes; `values` has no room if all are 1."""
    is_code = ~slots.numeric
    indices[:, slots.numeric] = slots.first[slots.numeric]
    coded = codes[:, slots.column[is_code]]
    shift = (slots.first[is_code] + 1).astype(indices.dtype)
    clipped = np.maximum(coded, -1) if coded.dtype.kind != "u" else coded  # an empty slot is -2
    indices[:, is_code] = np.add(clipped, shift, dtype=indices.dtype, casting="unsafe")
    if not len(values):
        return
    values[:, is_code] = coded != -2
    numbers = codes[:, slots.column[slots.numeric]]
    values[:, slots.numeric] = np.where(np.isnan(numbers), 0, numbers)
    weighted = slots.value_column >= 0
    values[:, weighted] *= codes[:, slots.value_column[weighted]]
    for start, end, is_root in slots.divided:
        count = values[:, start:end].sum(axis=1, keepdims=True)
        values[:, start:end] /= np.maximum(np.sqrt(count) if is_root else count, 1)


def check_codes(codes: NDArray[Any], schema: FieldSchema) -> None:
    """Raise unless codes are integers within their vocabularies and numbers not infinite.

    Parameters
    ----------
    codes : ndarray of shape (n_rows, n_columns)
        Codes, and numbers in the columns of numeric fields and of values.
    schema : FieldSchema
        The fields that the columns stand for.

    Raises
    ------
    ValueError
        Naming the first field at fault and what was found.
    """
    if not len(codes):
        return
    slots = Slots.of(schema)
    weighted = slots.value_column >= 0
    for mask, columns in ((slots.numeric, slots.column), (weighted, slots.value_column)):
        numbers = codes[:, columns[mask]]
        if numbers.dtype.kind != "f":
            continue
        with np.errstate(over="ignore"):
            bad_numbers = np.isinf(numbers.astype(np.float32))
        what = "infinity"
        if mask is weighted and np.isnan(numbers).any():
            bad_numbers, what = np.isnan(numbers), "NaN as a value"
        if bad_numbers.any():
            row, position = np.argwhere(bad_numbers)[0]
            name = schema.names[schema.slot_fields[int(np.flatnonzero(mask)[position])]]
            raise ValueError(
                f"Field {name!r} holds {what} in row {row}; expected finite numbers of float32, "
                "or NaN for missing ones in a numeric field. Clip it or replace it."
            )
    is_code = ~slots.numeric
    top, least = slots.top[is_code], slots.low[is_code]
    coded = codes[:, slots.column[is_code]]
    low, high = coded.min(axis=0), coded.max(axis=0)
    bad = ~((low >= least) & (high <= top))  # NaN compares false, hence bad
    if codes.dtype.kind == "f" and is_code.any():
        n_bits = np.finfo(codes.dtype).nmant + 1
        if top.max() > 2**n_bits:
            raise ValueError(
                f"{codes.dtype} cannot hold the codes of a vocabulary beyond 2**{n_bits}. "
                "Pass int64 or float64."
            )
        with np.errstate(invalid="ignore"):
            bad |= (coded != np.trunc(coded)).any(axis=0)
    if bad.any():
        at = int(np.argmax(bad))
        name = schema.names[schema.slot_fields[int(np.flatnonzero(is_code)[at])]]
        empty = "-2 (empty), " if least[at] == -2 else ""
        raise ValueError(
            f"Field {name!r} takes the integer codes {empty}-1 (unknown) to {top[at]}, "
            f"got values from {low[at]} to {high[at]}."
        )


def write_entries(
    codes: NDArray[Any],
    schema: FieldSchema,
    indices: NDArray[Any],
    values: NDArray[np.float32],
) -> None:
    """Write what codes stand for: rows of the shared table and multipliers.

    Parameters
    ----------
    codes : ndarray of shape (n_rows, n_columns)
        Codes, C-contiguous.
    schema : FieldSchema
        The fields that the columns stand for.
    indices : ndarray of shape (n_rows, n_slots)
        Receives the indices.
    values : ndarray of shape (n_rows, n_slots) or (0, 0)
        Receives the multipliers; without room if all are 1.

    Raises
    ------
    ValueError
        If a code lies outside its field's vocabulary or is not an integer.
    """
    slots = Slots.of(schema)
    to_entries = _compiled_to_entries()
    if to_entries is None or not slots.are_exact_in(codes.dtype):
        check_codes(codes, schema)
        _to_entries(codes, slots, indices, values)
    elif not to_entries(codes, *slots.arrays, indices, values):
        check_codes(codes, schema)
