"""Codes out of their one-hot form, a sparse matrix with a column per row of the table.

The way into that form is `FieldArray.to_csr`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ..schema import FieldSchema
from .csr import check_csr

__all__ = ["codes_of_one_hot"]


def codes_of_one_hot(matrix: Any, schema: FieldSchema) -> NDArray[Any]:
    """Codes and numbers that the entries of a matrix stand for.

    Parameters
    ----------
    matrix : sparse matrix or array of shape (n_rows, table_size)
        As `FieldArray.from_csr` takes it.
    schema : FieldSchema
        The fields that own the columns.

    Returns
    -------
    ndarray of shape (n_rows, n_slots)

    Raises
    ------
    ValueError
        If entries do not tell where they came from, as `FieldArray.from_csr` says.
    """
    if schema.n_columns > schema.n_fields or len(set(schema.vocabularies)) < schema.n_fields:
        raise ValueError(
            "The one-hot form does not tell slots of one field, or fields of one vocabulary, "
            "apart; from_csr takes schemas of one slot per field and own vocabularies."
        )
    check_csr(matrix)
    coo = sparse.coo_array(matrix)
    if coo.shape[1] != schema.table_size:
        raise ValueError(
            f"Expected {schema.table_size} columns (schema.table_size), got {coo.shape[1]}."
        )
    offsets = np.asarray(schema.offsets)
    slot = np.searchsorted(offsets, coo.col, side="right") - 1
    numeric = np.zeros(schema.n_slots, dtype=bool)
    numeric[list(schema.numeric_slots)] = True
    cells = coo.row.astype(np.int64) * schema.n_slots + slot
    if len(np.unique(cells)) < len(cells):
        raise ValueError("A row holds two entries of one field; a field has one slot.")
    if np.any(coo.data[~numeric[slot]] != 1):
        raise ValueError("The entry of a categorical or binned field must be 1.")
    dtype = np.float64 if numeric.any() else np.int64
    out = np.where(numeric, 0, -1).astype(dtype) * np.ones((coo.shape[0], 1), dtype=dtype)
    out[coo.row, slot] = np.where(numeric[slot], coo.data, coo.col - offsets[slot] - 1)
    return out
