"""Codes that come as a plain array or DataFrame: their schema is found again, or missed aloud.

How codes bear their schema is told in ``data``; tables that hold no codes pass through unchanged.
"""

from __future__ import annotations

import warnings
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sklearn_fm.user_line import levels_to_user

from ..data.array import FieldArray
from ..data.marks import mark_of
from ..encoding import FieldEncoder
from ..encoding.recognition import LIKE_COUNTS, likeness
from ..encoding.tables import is_polars
from ..schema import FieldSchema

__all__ = ["find_codes", "numbered_columns", "warn_of_merged", "warn_of_unseen"]


def find_codes(X: Any, expected: FieldSchema | None) -> Any:
    """Codes with their schema in place of a plain array or DataFrame that bears its mark.

    Bagging, AdaBoost, SelfTrainingClassifier and ColumnTransformer make a plain array of a
    FieldArray; `set_output` makes a DataFrame, whose columns are known by their names. Columns
    of numbers beside codes are numeric fields.

    Parameters
    ----------
    X : object
        What a user passes as features.
    expected : FieldSchema or None
        What X is read by if its own schema is lost and it has as many columns.

    Returns
    -------
    FieldArray or object
        `X` itself if it bears no mark.

    Raises
    ------
    ValueError
        If X holds codes whose fields cannot be told.
    """
    if isinstance(X, FieldArray) and X.schema is not None and X.dtype.kind not in "iuf":
        return FieldArray(X.astype(np.float64), X.schema)  # codes as objects
    is_frame = isinstance(X, pd.DataFrame)
    if isinstance(X, FieldArray) or not (is_frame or isinstance(X, np.ndarray)) or X.ndim != 2:
        return X
    marks = [mark_of(dtype) for dtype in (X.dtypes if is_frame else [X.dtype])]
    if not any(marks):
        return X
    codes = _from_frame(X, marks) if is_frame else _from_array(X, marks[0])
    if codes is not None:
        return codes
    if expected is not None and X.shape[1] == expected.n_columns:
        return X
    raise ValueError(
        f"X of shape {X.shape} holds codes of a FieldEncoder, but columns were chosen, added or "
        "renamed on the way, so that their fields are not known. Choose columns before the "
        "FieldEncoder, let the Pipeline set_output(transform='pandas'), by which they are known by "
        "name, or pass schema=encoder.schema_ of the columns that are left."
    )


def _from_array(X: NDArray[Any], schema: FieldSchema | None) -> FieldArray | None:
    assert schema is not None
    return FieldArray(X, schema) if X.shape[1] == schema.n_columns else None


def _from_frame(X: pd.DataFrame, marks: Sequence[FieldSchema | None]) -> FieldArray | None:
    """Codes of a DataFrame, field by field; None if a column is neither codes nor numbers."""
    names = [str(name) for name in X.columns]
    positions = {
        schema: {name: position for position, name in enumerate(schema.column_names)}
        for schema in set(marks)
        if schema is not None
    }
    # schema, fields in order, columns
    parts: list[tuple[FieldSchema | None, dict[int, None], list[int]]] = []
    start = 0
    while start < len(names):
        schema, f, width = marks[start], start, 1
        if schema is not None:
            first = _find_name(names[start], positions[schema])
            f = bisect_right(schema.first_columns, first) - 1
            width = schema.first_columns[f + 1] - first if first >= 0 else 0
            found = [_find_name(name, positions[schema]) for name in names[start : start + width]]
            if first != schema.first_columns[f] or found != list(range(first, first + width)):
                return None
        elif not pd.api.types.is_numeric_dtype(X.dtypes.iloc[start]):
            return None
        if not parts or parts[-1][0] != schema or f in parts[-1][1]:
            parts.append((schema, {}, []))
        parts[-1][1][f] = None
        parts[-1][2].extend(range(start, start + width))
        start += width
    made = []
    for schema, fields, columns in parts:
        values = X.iloc[:, columns].to_numpy(dtype=np.float64 if schema is None else None)
        if schema is None:
            own = FieldSchema.from_sizes([1] * len(columns), names=[names[c] for c in columns])
        else:
            own = schema.select(fields)
        made.append(FieldArray(values, own))
    return made[0] if len(made) == 1 else np.hstack(made)  # type: ignore[return-value]


def _find_name(name: str, positions: dict[str, int]) -> int:
    """Position of the column of that name, perhaps with others before "__"; -1 if there is none.

    ColumnTransformer and FeatureUnion write the transformer's name before that of the column.
    """
    while name not in positions and "__" in name:
        name = name.partition("__")[2]
    return positions.get(name, -1)


# -- no mark: what looks like codes ------------------------------------------------------------


def numbered_columns(X: Any) -> dict[int, int]:
    """Columns of a table that number things from 0 without gaps, as codes do.

    Parameters
    ----------
    X : DataFrame or ndarray
        The table.

    Returns
    -------
    dict of int to int
        Position and largest number of each such column.
    """
    tops = {column: _largest_number(_cells(X, column)) for column in range(X.shape[1])}
    return {column: top for column, top in tops.items() if top is not None}


def _largest_number(cells: NDArray[Any]) -> int | None:
    if cells.dtype.kind == "O":
        kind = pd.api.types.infer_dtype(cells, skipna=False)
        cells = cells.astype(np.float64) if kind in ("integer", "floating") else cells
    if cells.dtype.kind not in "iuf" or cells.min() != 0 or not cells.max() < len(cells):
        return None
    whole = cells.astype(np.intp)
    if cells.dtype.kind == "f" and not np.array_equal(whole, cells):
        return None
    return int(whole.max()) if np.bincount(whole).all() else None


def warn_of_merged(encoder: FieldEncoder, tops: dict[int, int], X: Any) -> None:
    """Warn where what looks like codes was cut into bins of several each.

    Counts run from 0 without gaps, too, but neighbours among them are of similar frequency; they
    may share a bin. A different number in nearly every row is a row number, no code.

    Parameters
    ----------
    encoder : FieldEncoder
        Fitted to the table.
    tops : dict of int to int
        Its `numbered_columns`.
    X : DataFrame or ndarray
        The table.
    """
    for column, top in tops.items():
        if top < 2 or top + 1 > 0.9 * len(X):
            continue
        if likeness(np.bincount(_cells(X, column).astype(np.intp))) >= LIKE_COUNTS:
            continue
        n_bins = _n_bins(encoder, X, column)
        if n_bins is not None and n_bins < top + 1:
            label = _label(X, column)
            warnings.warn(
                f"Column {label!r} numbers things from 0 without gaps, as a FieldEncoder's codes "
                "do, but bears no schema, so that it was taken for a number: its "
                f"{top + 1} values share {n_bins} bins. Say what it is: schema=encoder.schema_ "
                f"for codes, encoder=FieldEncoder(categorical=[{label!r}]) for any ids, "
                f"encoder=FieldEncoder(numeric=[{label!r}]) for numbers.",
                UserWarning,
                stacklevel=levels_to_user(),
            )
            return


def warn_of_unseen(encoder: FieldEncoder, tops: dict[int, int], X: Any) -> None:
    """Warn of -1, which stands for unseen categories, in columns that were taken for numbers.

    Parameters
    ----------
    encoder : FieldEncoder
        Fitted to the table of fit.
    tops : dict of int to int
        The `numbered_columns` of that table.
    X : DataFrame or ndarray
        Another table of the same columns.
    """
    for column in tops:
        if np.any(_cells(X, column) == -1) and _n_bins(encoder, X, column) is not None:
            label = _label(X, column)
            warnings.warn(
                f"Column {label!r} holds -1, as a FieldEncoder writes for unseen categories, but "
                "X had no schema in fit, where the column was taken for a number from 0 on: -1 is "
                "read as 0. Say in fit what the columns are: schema=encoder.schema_ for codes, "
                f"encoder=FieldEncoder(categorical=[{label!r}]) for any ids, "
                f"encoder=FieldEncoder(numeric=[{label!r}]) for numbers.",
                UserWarning,
                stacklevel=levels_to_user(),
            )
            return


def _n_bins(encoder: FieldEncoder, X: Any, column: int) -> int | None:
    """Bins of a column; None if it was not taken for a number, or for one by its name ("hour")."""
    summary = encoder.summary()
    name = str(X.columns[column]) if hasattr(X, "columns") else f"x{column}"
    is_guess = (summary["kind"] == "binned") & (summary["chosen_by"] != "name")
    sizes = summary["vocabulary_size"][is_guess & (summary["columns"] == name)]
    return int(sizes.iloc[0]) - 1 if len(sizes) else None


def _label(X: Any, column: int) -> Any:
    """What a FieldEncoder calls a column."""
    return X.columns[column] if hasattr(X, "columns") else column


def _cells(X: Any, column: int) -> NDArray[Any]:
    """One column as numpy has it; without any cells if it is of another type."""
    if isinstance(X, np.ndarray):
        return X[:, column]
    cells: Any = X.iloc[:, column] if isinstance(X, pd.DataFrame) else X.to_series(column)
    if isinstance(cells.dtype, np.dtype) or (is_polars(X) and cells.dtype.is_numeric()):
        return np.asarray(cells.to_numpy())
    if not is_polars(X) and pd.api.types.is_numeric_dtype(cells.dtype):  # pandas' own numbers
        return np.asarray(cells.to_numpy(dtype=np.float64, na_value=np.nan))
    return np.empty(0, dtype=object)
