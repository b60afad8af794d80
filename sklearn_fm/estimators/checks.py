"""Checks of what comes in besides X: targets; and why a loss diverged.

Each raises one error that says what was expected, what came and what to do.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_consistent_length

from ..data.array import FieldArray
from ..schema import FieldSchema

__all__ = [
    "check_consistent_rows",
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
