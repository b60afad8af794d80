"""Checks of sample weights; how an encoder or a loss uses them is told there."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_array

from .columns import Columns

__all__ = ["check_sample_weight", "weighted_rows"]


def check_sample_weight(weight: Any, n_rows: int) -> NDArray[np.float64]:
    """Return sample weights as float64, ones if None, or raise.

    Parameters
    ----------
    weight : array-like of shape (n_rows,), float or None
        Weights; a single number counts for all rows.
    n_rows : int
        Number of rows they are for.

    Returns
    -------
    ndarray of shape (n_rows,)

    Raises
    ------
    ValueError
        If the shape is wrong, a weight is negative, NaN or infinite, all are zero, or their sum
        is infinite.
    """
    if weight is None:
        return np.ones(n_rows)
    if np.isscalar(weight):
        weight = np.full(n_rows, weight)
    weight = check_array(
        weight, ensure_2d=False, dtype=np.float64, input_name="sample_weight", ensure_min_samples=0
    )
    if weight.shape != (n_rows,):
        raise ValueError(
            f"sample_weight.shape == {weight.shape}, expected {(n_rows,)}: one weight per row."
        )
    if np.any(weight < 0):
        row = int(np.argmax(weight < 0))
        raise ValueError(
            "Negative values in data passed to `sample_weight`: expected weights >= 0, got "
            f"{weight[row]} at row {row}."
        )
    with np.errstate(over="ignore"):
        total = weight.sum()
    if np.isinf(total):
        raise ValueError(
            f"Sample weights of up to {weight.max():.3g} have an infinite sum; expected a finite "
            "one. Divide all of them by the largest."
        )
    if not np.any(weight):
        raise ValueError("All sample weights are zero; at least one row must count.")
    return weight


def weighted_rows(
    columns: Columns, sample_weight: Any
) -> tuple[Columns, NDArray[np.float64] | None]:
    """Return the rows of a table that have a weight, and that.

    Parameters
    ----------
    columns : Columns
        The table.
    sample_weight : array-like of shape (n_rows,) or None
        Non-negative weights.

    Returns
    -------
    Columns
        The same object if all rows have one.
    ndarray or None
        Positive weights; None as given.

    Raises
    ------
    ValueError
        As `check_sample_weight`.
    """
    if sample_weight is None:
        return columns, None
    weight = check_sample_weight(sample_weight, columns.n_rows)
    if weight.all():
        return columns, weight
    rows = np.flatnonzero(weight)
    return columns.take(rows), weight[rows]
