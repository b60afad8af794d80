"""Checks of what comes in besides X: targets, rows to watch; and why a loss diverged.

Each raises one error that says what was expected, what came and what to do.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_consistent_length

from ..data.array import FieldArray
from ..schema import FieldSchema

__all__ = ["check_consistent_rows", "check_validation_rows", "divergence_cause"]


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


def check_validation_rows(
    eval_set: Any, X_val: Any, y_val: Any, sample_weight_val: Any
) -> tuple[Any, Any, Any] | None:
    """Features, targets and weights of the rows to watch, in whatever way they were passed.

    Parameters
    ----------
    eval_set : tuple (X, y) or (X, y, sample_weight), list of one such tuple, or None
        All in one.
    X_val, y_val, sample_weight_val : array-like or None
        One by one.

    Returns
    -------
    tuple (X, y, sample_weight) or None
        None if there are none.

    Raises
    ------
    ValueError
        If they are passed in both ways, or X_val or y_val is missing.
    """
    if eval_set is None:
        if X_val is not None:
            return X_val, y_val, sample_weight_val
        if y_val is not None or sample_weight_val is not None:
            raise ValueError("y_val or sample_weight_val is given, but not X_val: pass both.")
        return None
    if not (X_val is None and y_val is None and sample_weight_val is None):
        raise ValueError(
            "eval_set is short for X_val, y_val and sample_weight_val, but both were passed. "
            "Pass one of them."
        )
    if isinstance(eval_set, list) and len(eval_set) == 1:
        eval_set = eval_set[0]
    if not isinstance(eval_set, tuple) or len(eval_set) not in (2, 3):
        raise ValueError(
            "eval_set must be a tuple (X, y) or (X, y, sample_weight), got "
            f"{type(eval_set).__name__}."
        )
    X, y, *weight = eval_set
    return X, y, weight[0] if weight else None


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
