"""Checks of what comes in besides X: targets, weights, memory; and why a loss diverged.

Each raises one error that says what was expected, what came and what to do.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_array, check_consistent_length, column_or_1d

from ..data.array import FieldArray
from ..schema import FieldSchema
from .memory import find_memory_limit

__all__ = [
    "check_consistent_rows",
    "check_memory",
    "check_regression_target",
    "check_sample_weight",
    "divergence_cause",
]


def check_consistent_rows(X: Any, y: Any) -> None:
    """Raise unless X and y have the same number of rows.

    Parameters
    ----------
    X, y : array-like
        Features and target.

    Raises
    ------
    ValueError
        If the lengths differ.
    """
    try:
        check_consistent_length(X, y)
    except ValueError as error:
        raise ValueError(f"{error} X and y must agree: pass one target per row.") from None


def check_regression_target(y: Any) -> NDArray[np.float64]:
    """Return a numeric target as float64, or raise.

    Parameters
    ----------
    y : array-like of shape (n_rows,)
        Target; a column is taken with scikit-learn's usual warning.

    Returns
    -------
    ndarray of shape (n_rows,)

    Raises
    ------
    ValueError
        If the target is not one-dimensional, not numeric, or holds NaN or infinity.
    """
    y = column_or_1d(y, warn=True)
    y = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y", ensure_min_samples=0)
    if np.any(np.abs(y) > 1e100):
        row = int(np.argmax(np.abs(y)))
        raise ValueError(
            f"y holds {y[row]:g} at row {row}; expected numbers up to 1e100, whose squares can be "
            "summed. Rescale the target."
        )
    return y


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
        If the shape is wrong, a weight is negative, NaN or infinite, or all are zero.
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
    if not np.any(weight):
        raise ValueError("All sample weights are zero; at least one row must count.")
    return weight


def check_memory(schema: FieldSchema, floats_per_row: float, dense_floats: float) -> None:
    """Raise before allocating tables that cannot fit into the memory that there is.

    Parameters
    ----------
    schema : FieldSchema
        The fields.
    floats_per_row : float
        Numbers held per row of the table: weights, state of the solver, best copy.
    dense_floats : float
        Numbers held by dense layers, likewise.

    Raises
    ------
    MemoryError
        Naming the fields with the largest share.
    """
    limit = find_memory_limit()
    needed = 4 * (schema.table_size * floats_per_row + dense_floats)
    if limit is None or needed <= limit[0]:
        return
    available, who = limit
    if schema.has_columns:
        advice = (
            "Each column of the sparse matrix has a row: pass those that are needed (are its "
            "indices meant to be as large?)"
        )
    else:
        by_size = sorted(zip(schema.vocabulary_sizes, schema.names, strict=True), reverse=True)
        blame = ", ".join(f"{name!r} ({size:,} rows)" for size, name in by_size[:3])
        advice = (
            f"Largest fields: {blame}. Raise min_frequency or set max_categories in FieldEncoder"
        )
    raise MemoryError(
        f"Training needs about {needed / 2**30:,.1f} GiB for a table of {schema.table_size:,} rows "
        f"and the layers above, {who} {available / 2**30:,.1f} GiB. {advice}, "
        "or lower embedding_dim or hidden_layer_sizes."
    )


def divergence_cause(
    X: Any, target: NDArray[Any], schema: FieldSchema, learning_rate: float, *, regression: bool
) -> str:
    """Find the likely reason why a loss was no longer finite.

    Parameters
    ----------
    X : FieldArray or csr_array
        Encoded training rows.
    target : ndarray of shape (n_rows,)
        Training target.
    schema : FieldSchema
        The fields.
    learning_rate : float
        Step size in use.
    regression : bool
        Whether the target is a number.

    Returns
    -------
    str
        One sentence: the cause, and what to change.
    """
    if isinstance(X, FieldArray):
        largest = np.abs(X.values).max(axis=0, initial=0)
        fields = schema.slot_fields
    else:
        largest, fields = np.abs(X.data), X.indices
    if len(largest) and largest.max() > 100:
        worst = int(np.argmax(largest))
        name = schema.field_name(int(fields[worst]))
        return (
            f"Field {name!r} is not scaled: its values reach {largest[worst]:.3g}. Encode "
            "it with FieldEncoder(scaler='bins') or scale it to about 1."
        )
    if regression:
        off = np.abs(target - np.median(target))
        usual = np.median(off) or off.mean() or 1.0
        if off.max() > 1000 * usual:
            row = int(np.argmax(off))
            return (
                f"The target has an extreme value, {target[row]:.3g} at row {row}, "
                f"{off[row] / usual:.0f} times the usual distance from the median. Clip or "
                "transform it."
            )
    if not learning_rate:
        return "The solver found no descent. Strengthen the priors or lower init_scale."
    return f"learning_rate={learning_rate:g} is too large for these data. Lower it tenfold."
