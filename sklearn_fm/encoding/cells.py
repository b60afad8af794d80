"""Reads a column of any container as texts, whole numbers, codes or other cells.

It copies no text that Arrow holds already, and gives no cell a code.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = [
    "Cells",
    "Coded",
    "Column",
    "TextPiece",
    "Texts",
    "Wholes",
    "factorize",
    "is_whole",
    "read_cells",
    "read_column",
]

_FEW_ROWS = 32  # up to here looking at each cell is quicker than calling pandas and pyarrow


class TextPiece(NamedTuple):
    """Texts one after the other, in Arrow's layout."""

    offsets: NDArray[Any]
    data: NDArray[np.uint8]
    valid: NDArray[np.uint8]  # a bit per row, 0 for missing; empty if nothing is missing
    first: int  # bit of the first row


class Texts(NamedTuple):
    """Nothing but texts."""

    n_rows: int
    n_missing: int
    pieces: list[TextPiece]

    @property
    def is_all_missing(self) -> bool:
        """Whether no row holds a text."""
        return self.n_missing == self.n_rows

    def parts(self, out: NDArray[Any]) -> Iterator[tuple[TextPiece, NDArray[Any]]]:
        """Each piece and its rows of an array."""
        start = 0
        for piece in self.pieces:
            end = start + len(piece.offsets) - 1
            yield piece, out[start:end]
            start = end


class Wholes(NamedTuple):
    """Nothing but whole numbers that int64 holds."""

    numbers: NDArray[np.int64]
    missing: NDArray[np.bool_]  # empty if nothing is missing
    are_bools: bool = False

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self.numbers)

    @property
    def is_all_missing(self) -> bool:
        """Whether no row holds a number."""
        return len(self.missing) == len(self.numbers) and bool(self.missing.all())


class Coded(NamedTuple):
    """Categories that the container has numbered itself."""

    codes: NDArray[Any]  # -1 for missing
    categories: Any

    def used(self) -> tuple[NDArray[np.intp], Any]:
        """Codes that occur, in order of first appearance, and their categories."""
        codes = pd.unique(self.codes)
        codes = codes[codes >= 0].astype(np.intp)
        return codes, self.categories.take(codes)


class Cells(NamedTuple):
    """Anything else, or a mixture."""

    values: Any  # ndarray or pandas extension array


Column = Texts | Wholes | Coded | Cells


def read_column(values: Any) -> Column:
    """Find out what a column holds.

    Parameters
    ----------
    values : array-like of shape (n_rows,)
        An array of numpy, pandas or pyarrow, or a sequence.

    Returns
    -------
    Texts, Wholes, Coded or Cells
        Whole floats and booleans are whole numbers. A column of one kind, missing cells
        aside, is read as that kind whatever its container.
    """
    values = read_cells(values)
    if isinstance(values, pd.Categorical):
        return Coded(values.codes, values.categories)
    if not isinstance(values, np.ndarray):
        return _read_extension(values)
    if values.dtype == object:
        return _read_few(values) or _read_objects(values)
    if values.dtype.kind in "biuf":
        return _read_numbers(values) or Cells(values)
    return Cells(values)


def read_cells(values: Any) -> Any:
    """Return a column as an array that pandas works with.

    Parameters
    ----------
    values : array-like of shape (n_rows,)
        An array of numpy, pandas or pyarrow, or a sequence.

    Returns
    -------
    ndarray or pandas extension array
        Without a copy, except of a sequence.
    """
    if isinstance(values, (pd.Series, pd.Index)):
        values = values.to_numpy() if isinstance(values.dtype, np.dtype) else values.array
    if isinstance(values, np.ndarray):
        return values.astype(object) if values.dtype.kind in "UT" else values  # numpy's texts
    if isinstance(values, pd.api.extensions.ExtensionArray):
        if isinstance(values.dtype, pd.ArrowDtype) and _is_nested(values.dtype):
            return np.asarray(values, dtype=object)  # Arrow does not compare lists
        return np.asarray(values) if isinstance(values.dtype, pd.SparseDtype) else values
    if _is_pyarrow(values):
        return pd.arrays.ArrowExtensionArray(values)
    cells = np.empty(len(values), dtype=object)
    cells[:] = values
    return cells


def factorize(values: Any) -> tuple[NDArray[np.intp], list[Any]]:
    """Number the distinct cells of an array from `read_cells`.

    Parameters
    ----------
    values : ndarray or pandas extension array of shape (n_rows,)
        The column.

    Returns
    -------
    numbers : ndarray of shape (n_rows,)
        Number of each cell by first appearance; -1 for missing.
    cells : list
        The distinct cells as Python objects; NaN may be one of them.

    Raises
    ------
    TypeError
        If a cell cannot be hashed.
    """
    if isinstance(values, np.ndarray) and values.dtype.kind == "f":
        values = values.astype(np.float64, copy=False)
    numbers, found = pd.factorize(values)
    if isinstance(found, (pd.Categorical, pd.CategoricalIndex)):
        found = found.astype(found.categories.dtype)
    cells = np.asarray(found)
    if cells.dtype.kind in "mM":
        cells = np.asarray(pd.Index(cells).astype(object))
    return numbers, cells.tolist()


def is_whole(cell: Any) -> bool:
    """Whether a number is finite and whole; decimals may be of any size.

    Parameters
    ----------
    cell : float, int or Decimal
        Not NaN.

    Returns
    -------
    bool
    """
    if isinstance(cell, Decimal):  # whose division has digits for 10**28 only
        return cell.is_finite() and cell == cell.to_integral_value()
    return bool(cell == cell // 1)


# -- kinds -----------------------------------------------------------------------------------


def _read_extension(values: Any) -> Column:
    """Column of a pandas extension array."""
    dtype = values.dtype
    if isinstance(dtype, pd.StringDtype) and dtype.storage == "python":
        return _read_objects(values.to_numpy(dtype=object))
    if isinstance(dtype, (pd.StringDtype, pd.ArrowDtype)):
        column = _read_arrow(values)
        if column is not None:
            return column
    kind: type[Any] = np.int64
    if pd.api.types.is_float_dtype(dtype):
        floats = values.to_numpy(dtype=np.float64, na_value=np.nan)
        return _read_numbers(floats) or Cells(floats)
    if pd.api.types.is_bool_dtype(dtype):
        kind = np.bool_
    elif pd.api.types.is_unsigned_integer_dtype(dtype):
        kind = np.uint64
    elif not pd.api.types.is_integer_dtype(dtype):
        return Cells(values)
    numbers = values.to_numpy(dtype=kind, na_value=0)
    return _read_numbers(numbers, np.asarray(values.isna())) or Cells(values)


def _read_arrow(values: Any) -> Texts | Coded | None:
    """Texts and dictionaries of an array that Arrow holds; None for anything else."""
    import pyarrow as pa

    array = pa.array(values)
    kind = array.type
    if pa.types.is_dictionary(kind):
        if isinstance(array, pa.ChunkedArray):
            array = array.unify_dictionaries().combine_chunks()
        codes = array.indices.cast(pa.int64()).fill_null(-1).to_numpy()
        return Coded(codes, pd.arrays.ArrowExtensionArray(array.dictionary))
    if pa.types.is_string_view(kind):
        array = array.cast(pa.large_string())
    elif not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return None
    pieces = array.chunks if isinstance(array, pa.ChunkedArray) else [array]
    pieces = [_arrow_piece(piece) for piece in pieces if len(piece)]
    return Texts(len(array), array.null_count, pieces)


def _arrow_piece(array: Any) -> TextPiece:
    valid, offsets, data = array.buffers()
    dtype = np.dtype(np.int64 if str(array.type) == "large_string" else np.int32)
    ends = np.frombuffer(offsets, dtype, len(array) + 1, array.offset * dtype.itemsize)
    return TextPiece(
        _fixed(ends),
        _fixed(np.frombuffer(data or b"", dtype=np.uint8)),
        _fixed(np.frombuffer(valid if array.null_count else b"", dtype=np.uint8)),
        array.offset,
    )


def _read_few(values: NDArray[np.object_]) -> Column | None:
    """Column of a few objects of the same usual kind; None if they are not."""
    if not 0 < len(values) <= _FEW_ROWS:
        return None
    cells = values.tolist()
    kinds = set(map(type, cells))
    if kinds == {str}:
        return _read_texts(cells)
    if kinds <= {int, np.int64} or kinds <= {float, np.float64}:
        try:
            dtype = np.float64 if kinds <= {float, np.float64} else np.int64
            return _read_numbers(np.array(cells, dtype=dtype))
        except OverflowError:
            return None
    return None


def _read_objects(values: NDArray[np.object_]) -> Column:
    """Column of objects, by what they are."""
    kind = pd.api.types.infer_dtype(values, skipna=True)
    column: Column | None = None
    if kind == "string":
        column = _read_strings(values)
    elif kind in ("boolean", "integer", "floating", "mixed-integer-float", "empty"):
        dtype: type[Any] = {"boolean": np.bool_, "integer": np.int64}.get(kind, np.float64)
        missing = np.asarray(pd.isna(values))
        present = values[~missing]
        numbers = np.zeros(len(values), dtype=dtype)
        try:
            numbers[~missing] = present
        except OverflowError:
            return Cells(values)
        if kind in ("boolean", "integer") or (numbers[~missing] == present).all():
            column = _read_numbers(numbers, missing)
    return column or Cells(values)


def _read_strings(values: NDArray[np.object_]) -> Texts | None:
    """Texts of an array that holds nothing but str and missing."""
    try:
        import pyarrow as pa
    except ImportError:
        missing = np.asarray(pd.isna(values))
        return _read_texts(np.where(missing, "", values).tolist(), missing)
    try:
        column = _read_arrow(pa.array(values, type=pa.large_string(), from_pandas=True))
    except (UnicodeEncodeError, pa.ArrowInvalid):
        return None
    assert isinstance(column, Texts)
    return column


def _read_texts(cells: list[str], missing: NDArray[np.bool_] | None = None) -> Texts | None:
    """Texts of a list; None if UTF-8 cannot hold one of them."""
    joined = "".join(cells)
    try:
        data = joined.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return None
    lengths = map(len, cells if len(data) == len(joined) else map(str.encode, cells))
    ends = np.array([0, *accumulate(lengths)], dtype=np.int64)
    bits, n_missing = _NOTHING, 0
    if missing is not None and missing.any():
        bits, n_missing = np.packbits(~missing, bitorder="little"), int(missing.sum())
    piece = TextPiece(_fixed(ends), np.frombuffer(data, dtype=np.uint8), _fixed(bits), 0)
    return Texts(len(cells), n_missing, [piece])


def _read_numbers(
    numbers: NDArray[Any], missing: NDArray[np.bool_] | None = None
) -> Wholes | Cells | None:
    """Whole numbers of an array of numbers; None if some are not, or too large."""
    are_bools = numbers.dtype == bool
    if numbers.dtype.kind == "u" and numbers.size and numbers.max() >= 2**63:
        return None
    if numbers.dtype.kind == "f":
        numbers = numbers.astype(np.float64, copy=False)
        nan = np.isnan(numbers)
        missing = nan if missing is None else nan | missing
        numbers = np.where(missing, 0, numbers) if missing.any() else numbers
        if not ((np.abs(numbers) < 2**63) & (numbers == np.trunc(numbers))).all():
            return None
    if missing is None or not missing.any():
        missing = _NOTHING.view(bool)
    whole = np.ascontiguousarray(numbers, dtype=np.int64)
    return Wholes(_fixed(whole), _fixed(missing), are_bools)


def _fixed(array: NDArray[Any]) -> NDArray[Any]:
    """A read-only view: kernels are compiled anew for arrays that may be written."""
    view = array.view()
    view.flags.writeable = False
    return view


def _is_nested(dtype: pd.ArrowDtype) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_nested(dtype.pyarrow_dtype))


def _is_pyarrow(values: Any) -> bool:
    return type(values).__module__.partition(".")[0] == "pyarrow"


_NOTHING = np.empty(0, dtype=np.uint8)
