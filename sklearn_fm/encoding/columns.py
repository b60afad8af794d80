"""Reads the columns of a pandas or polars DataFrame or of an array, one at a time.

It copies no table and encodes nothing.

Columns of a DataFrame are found by name, as ColumnTransformer does it. A ColumnTransformer
also serves to understand its column specifications, but not to encode: it stacks copies of
its results, where `FieldEncoder` writes each column into its place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.utils.validation import check_array, validate_data

__all__ = ["Columns", "read_columns", "select_columns"]

FEW_ROWS = 8  # up to here pandas is quicker asked for each cell than for each column


class Columns:
    """The columns of one table, by position.

    Parameters
    ----------
    names : list
        Names of the columns as the table has them.
    n_rows : int
        Number of rows.
    read : callable
        ``read(j)`` gives column j as ndarray or pandas extension array.
    is_number : callable, default=None
        ``is_number(j)`` tells whether the dtype of column j is one of numbers; found out
        from the cells when omitted.
    """

    def __init__(
        self,
        names: list[Any],
        n_rows: int,
        read: Callable[[int], Any],
        is_number: Callable[[int], bool] | None = None,
    ) -> None:
        self.names = names
        self.n_rows = n_rows
        self.read = read
        self._is_number = is_number

    def is_number(self, j: int) -> bool:
        """Whether column j holds numbers (booleans are none)."""
        if self._is_number is not None:
            return self._is_number(j)
        values = self.read(j)
        if values.dtype != object:
            return values.dtype.kind in "iuf"
        kind = pd.api.types.infer_dtype(values, skipna=True)
        return kind in ("integer", "floating", "mixed-integer-float", "decimal")

    def take(self, rows: NDArray[np.intp]) -> Columns:
        """Columns of some rows only."""
        return Columns(self.names, len(rows), lambda j: self.read(j)[rows], self._is_number)


def read_columns(X: Any, estimator: BaseEstimator, *, reset: bool) -> Columns:
    """Check a table against an estimator and open its columns.

    Parameters
    ----------
    X : DataFrame or array-like of shape (n_rows, n_columns)
        The table.
    estimator : estimator
        Gets `n_features_in_` and `feature_names_in_` if `reset`, else is asked for them.
    reset : bool
        True in fit.

    Returns
    -------
    Columns
        In the order of fit.

    Raises
    ------
    ValueError
        If the table is empty or not two-dimensional, a column is missing, a column name
        occurs twice, or the number of columns differs from fit's.
    TypeError
        If the table is sparse.
    """
    is_pandas = isinstance(X, pd.DataFrame)
    if not is_pandas and not hasattr(X, "get_column"):
        return _array_columns(X, estimator, reset=reset)
    if min(X.shape) == 0:
        what = "sample(s)" if X.shape[0] == 0 else "feature(s)"
        raise ValueError(
            f"Found array with 0 {what} (shape={tuple(X.shape)}) while a minimum of 1 is "
            f"required by {type(estimator).__name__}."
        )
    names = list(X.columns)
    if len(set(names)) < len(names):
        twice = [name for i, name in enumerate(names) if name in names[:i]]
        raise ValueError(f"Column names must differ, but these occur twice: {twice}.")
    fitted = None if reset else getattr(estimator, "feature_names_in_", None)
    if fitted is None or not isinstance(names[0], str):
        validate_data(estimator, X, reset=reset, skip_check_array=True)
    elif names != (wanted := fitted.tolist()):
        if missing := [name for name in wanted if name not in names]:
            raise ValueError(f"columns are missing: {missing}")
        names = wanted
    return _pandas_columns(X, names) if is_pandas else _polars_columns(X, names)


def select_columns(X: Any, spec: Any, columns: Columns) -> set[int]:
    """Positions of the columns that a specification means.

    Parameters
    ----------
    X : DataFrame or array-like of shape (n_rows, n_columns)
        The table, for a callable or a dtype to look at.
    spec : str, int, list, slice, mask, callable, dtype or list of dtypes
        Columns as ColumnTransformer takes them, or dtypes as DataFrame.select_dtypes does.
    columns : Columns
        The columns of `X`.

    Returns
    -------
    set of int

    Raises
    ------
    ValueError
        If a column does not exist.
    """
    names = columns.names
    if callable(spec) and not isinstance(spec, type):
        spec = spec(X)
    if _is_dtypes(spec, names):
        head = X.iloc[:1] if isinstance(X, pd.DataFrame) else _pandas_head(columns)
        spec = make_column_selector(dtype_include=spec)(head)
    if isinstance(spec, (str, int)):
        spec = [spec]  # ColumnTransformer would pass on a single column as one-dimensional
    wanted = [item for item in spec if isinstance(item, str)] if isinstance(spec, list) else []
    if missing := [name for name in wanted if name not in names]:
        raise ValueError(f"columns are missing: {missing}; the table has {names}.")
    # One row that holds the position of each column: whatever is selected tells where it was.
    table = pd.DataFrame([range(len(names))], columns=names)
    selector = ColumnTransformer([("selected", "passthrough", spec)], sparse_threshold=0)
    selected = selector.set_output(transform="default").fit_transform(table)
    return set(np.asarray(selected, dtype=int).ravel().tolist())


# -- containers ----------------------------------------------------------------------------


def _array_columns(X: Any, estimator: BaseEstimator, *, reset: bool) -> Columns:
    array = validate_data(estimator, X, reset=reset, dtype=None, ensure_all_finite=False)
    if not hasattr(X, "dtype") and array.dtype.kind == "U":
        # numpy turned the numbers of a list such as [[1, "a"]] into text
        array = check_array(X, dtype=object, ensure_all_finite=False)

    names = [f"x{j}" for j in range(array.shape[1])]
    return Columns(names, len(array), lambda j: np.ascontiguousarray(array[:, j]))


def _pandas_columns(X: pd.DataFrame, names: list[Any]) -> Columns:
    place = {name: k for k, name in enumerate(X.columns)}
    places = [place[name] for name in names]

    def read(j: int) -> Any:
        column = X.iloc[:, places[j]]
        return column.to_numpy() if isinstance(column.dtype, np.dtype) else column.array

    def read_cells(j: int) -> NDArray[np.object_]:
        cells = np.empty(len(X), dtype=object)
        for i in range(len(X)):
            cells[i] = X.iat[i, places[j]]
        return cells

    def is_number(j: int) -> bool:
        dtype = X.dtypes.iloc[places[j]]
        return pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_bool_dtype(dtype)

    return Columns(names, len(X), read_cells if len(X) <= FEW_ROWS else read, is_number)


def _polars_columns(X: Any, names: list[Any]) -> Columns:
    def read(j: int) -> NDArray[Any]:
        column = X.get_column(names[j])
        if column.dtype.is_integer() and column.null_count():
            return np.array(column.to_list(), dtype=object)  # to_numpy would round to float
        return column.to_numpy()

    return Columns(names, len(X), read, lambda j: X.get_column(names[j]).dtype.is_numeric())


# -- dtypes as a specification ---------------------------------------------------------------


def _is_dtypes(spec: Any, names: list[Any]) -> bool:
    """Whether a specification lists dtypes; a string that names a column is that column."""
    items = spec if isinstance(spec, (list, tuple)) else [spec]
    return bool(items) and all(
        isinstance(item, (type, np.dtype, pd.api.extensions.ExtensionDtype))
        or (isinstance(item, str) and item not in names and _is_dtype_name(item))
        for item in items
    )


def _is_dtype_name(text: str) -> bool:
    if text in ("number", "datetime", "timedelta", "datetimetz"):  # words of select_dtypes
        return True
    try:
        pd.api.types.pandas_dtype(text)
    except TypeError:
        return False
    return True


def _pandas_head(columns: Columns) -> pd.DataFrame:
    """First row as a DataFrame, for its dtypes."""
    return pd.DataFrame({name: columns.read(j)[:1] for j, name in enumerate(columns.names)})
