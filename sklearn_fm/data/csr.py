"""Whether the arrays of a sparse matrix describe entries that the matrix has room for.

Neither the values nor the number of columns is looked at; those are the reader's.
"""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

__all__ = ["check_csr"]


def check_csr(matrix: Any) -> None:
    """Raise unless every entry of a sparse matrix lies within its shape.

    scipy and compiled code trust these arrays: an index beyond the shape makes them read and
    write memory that is not theirs. So call this before anything that converts, slices or
    sorts the matrix.

    Parameters
    ----------
    matrix : object
        A sparse matrix of any format. What is not one, or not of two dimensions, is left to
        others.

    Raises
    ------
    ValueError
        Naming the place: row, column and entry, or the array that is at fault.
    """
    if not sparse.issparse(matrix) or len(matrix.shape) != 2:
        return
    kind = matrix.format
    if kind in ("csr", "csc", "bsr"):
        _check_compressed(matrix, kind)
    elif kind == "coo":
        for axis, indices in zip(("row", "column"), matrix.coords, strict=True):
            _check_lengths(indices, f"{axis} indices", len(matrix.data), "values")
            _check_range(indices, matrix.shape[axis == "column"], axis)
    elif kind == "lil":
        _check_lists(matrix)
    elif kind == "dok":
        cells = matrix.keys()  # the matrix itself gives rows
        for row, column in cells:
            if not (0 <= row < matrix.shape[0] and 0 <= column < matrix.shape[1]):
                _fail(f"an entry at {(row, column)}, but its shape is {matrix.shape}")
    elif kind == "dia":
        _check_lengths(matrix.offsets, "offsets", len(matrix.data), "diagonals")


def _check_compressed(matrix: Any, kind: str) -> None:
    """Check a matrix that lists its entries row by row, column by column, or in blocks of rows."""
    block = matrix.data.shape[1:] if kind == "bsr" else (1, 1)
    major, minor = ("column", "row") if kind == "csc" else ("row", "column")
    n_major, n_minor = matrix.shape[::-1] if kind == "csc" else matrix.shape
    if kind == "bsr":
        major, minor = "row of blocks", "column of blocks"
        n_major, n_minor = n_major // block[0], n_minor // block[1]
    starts, indices = matrix.indptr, matrix.indices
    _check_lengths(indices, "indices", len(matrix.data), "values")
    _check_lengths(starts, "indptr", n_major + 1, f"entries, one per {major} and one more")
    falls = starts[1:] < starts[:-1]
    if falls.any():
        at = int(falls.argmax())
        _fail(f"indptr that falls from {starts[at]} to {starts[at + 1]} at {major} {at}")
    if starts[0] != 0 or starts[-1] != len(indices):
        _fail(f"{len(indices)} entries, but indptr runs from {starts[0]} to {starts[-1]}")
    _check_range(indices, n_minor, minor, major, starts)


def _check_lists(matrix: Any) -> None:
    """Check a matrix that has a list of columns and one of values per row."""
    _check_lengths(matrix.rows, "lists of columns", matrix.shape[0], "rows")
    _check_lengths(matrix.data, "lists of values", matrix.shape[0], "rows")
    for row, (columns, values) in enumerate(zip(matrix.rows, matrix.data, strict=True)):
        if len(columns) != len(values):
            _fail(f"{len(columns)} columns but {len(values)} values in row {row}")
        for column in columns:
            if not 0 <= column < matrix.shape[1]:
                _fail_at(f"column index {column} in row {row}", "column", matrix.shape[1])


def _check_lengths(array: NDArray[Any], name: str, length: int, what: str) -> None:
    if array.ndim != 1 or len(array) != length:
        _fail(f"{name} of shape {array.shape}, but {length} {what}")


def _check_range(
    indices: NDArray[Any],
    size: int,
    name: str,
    major: str = "",
    starts: NDArray[Any] | None = None,
) -> None:
    """Raise for the first index that is negative or not below a size."""
    if indices.dtype.kind not in "iu":
        _fail(f"{name} indices of dtype {indices.dtype}; expected integers")
    if not len(indices) or (indices.min() >= 0 and indices.max() < size):
        return
    entry = int(np.argmax((indices < 0) | (indices >= size)))
    where = f"entry {entry}"
    if starts is not None:
        where = f"{major} {int(np.searchsorted(starts, entry, side='right')) - 1} ({where})"
    _fail_at(f"{name} index {indices[entry]} in {where}", name, size)


def _fail_at(found: str, name: str, size: int) -> NoReturn:
    _fail(
        f"{found}, but it has {size} {name}s, which count from 0 to {size - 1}. If its indices "
        "count from 1, subtract 1"
    )


def _fail(found: str) -> NoReturn:
    raise ValueError(f"The sparse matrix is damaged: it has {found}. Build it anew.")
