"""Equal rows as one, so that a row of weight 2 and the row twice give the same bits."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ..data.array import FieldArray

__all__ = ["MERGED_ROWS", "group_equal_features", "merge_equal_rows"]

#: Rows up to which solvers that take all rows at once merge equal ones first.
MERGED_ROWS = 5_000


def merge_equal_rows(
    X: FieldArray | sparse.csr_array, target: NDArray[Any], weight: NDArray[Any]
) -> tuple[FieldArray | sparse.csr_array, NDArray[Any], NDArray[Any]]:
    """Equal rows as one, with the sum of their weights.

    Parameters
    ----------
    X : FieldArray or csr_array of shape (n_rows, n_columns)
        Encoded rows; the entries of a CSR row sorted by column.
    target, weight : ndarray of shape (n_rows,)
        Rows are equal only if their targets are.

    Returns
    -------
    X, target, weight
        Distinct rows in an order that depends on their content alone.
    """
    keys = [
        features + np.float64(y + 0.0).tobytes()
        for features, y in zip(_keys(X), target, strict=True)
    ]
    group = _numbered(keys)
    first = np.unique(group, return_index=True)[1]
    rank = sorted(range(len(first)), key=lambda g: keys[first[g]])
    rows = first[rank]
    merged = np.zeros(len(first))
    by_weight = np.argsort(weight)  # a sum must not depend on the order of rows
    np.add.at(merged, group[by_weight], weight[by_weight])
    return X[rows], target[rows], merged[rank]


def group_equal_features(X: FieldArray | sparse.csr_array) -> NDArray[np.intp]:
    """Number rows so that those of equal features, whatever their target, have one number.

    Parameters
    ----------
    X : FieldArray or csr_array of shape (n_rows, n_columns)
        Encoded rows; the entries of a CSR row sorted by column.

    Returns
    -------
    ndarray of shape (n_rows,)
        From 0 on, in the order of the first of them.
    """
    return _numbered(_keys(X))


def _keys(X: FieldArray | sparse.csr_array) -> list[bytes]:
    """Bytes of each row that are equal if and only if the rows are."""
    if isinstance(X, FieldArray):
        return [row.tobytes() for row in np.asarray(X, dtype=np.float64) + 0.0]  # no -0.0
    return [
        X.indices[a:b].tobytes() + X.data[a:b].tobytes()
        for a, b in zip(X.indptr[:-1], X.indptr[1:], strict=True)
    ]


def _numbered(keys: list[bytes]) -> NDArray[np.intp]:
    order: dict[bytes, int] = {}
    return np.array([order.setdefault(key, len(order)) for key in keys], dtype=np.intp)
