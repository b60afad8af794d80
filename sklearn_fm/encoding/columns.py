"""Reads the columns of a table one at a time, and tells what they are.

It copies no table and encodes nothing.

Columns of a DataFrame are found by name, as ColumnTransformer does it. A ColumnTransformer
also serves to understand its column specifications, but not to encode: it stacks copies of
its results, where `FieldEncoder` writes each column into its place.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.utils.validation import check_array, validate_data

from .cells import is_whole
from .tables import (
    array_values,
    as_table,
    dtype_kind,
    is_polars,
    pandas_values,
    polars_kind,
    polars_values,
)

__all__ = ["Columns", "check_array_table", "check_frame", "read_columns", "select_columns"]

FEW_ROWS = 8  # up to here pandas is quicker asked for each cell than for each column,
FEW_POLARS_ROWS = 100  # and up to here polars is quicker with Python objects than with Arrow
N_SAMPLES = 100  # cells to look at for lists
BAGS = (list, tuple, set, frozenset, dict, np.ndarray)


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
    kind : callable
        ``kind(j)`` tells what the dtype of column j says: "integer", "number", "date",
        "bag", "other", or "object" when only the cells can tell.
    has_dtypes : bool, default=True
        Whether each column has a dtype of its own, so that one of objects is not meant to
        hold numbers.
    """

    def __init__(
        self,
        names: list[Any],
        n_rows: int,
        read: Callable[[int], Any],
        kind: Callable[[int], str],
        *,
        has_dtypes: bool = True,
    ) -> None:
        self.names = names
        self.n_rows = n_rows
        self.read = read
        self._kind = kind
        self._has_dtypes = has_dtypes

    def is_number(self, j: int) -> bool:
        """Whether column j holds numbers, decimals or durations.

        Booleans are none, nor are other objects of a DataFrame, which has dtypes for numbers.
        """
        kind = self._kind(j)
        if kind != "object":
            return kind in ("integer", "number")
        inferred = _infer(self.read(j))
        if self._has_dtypes:
            return inferred in ("decimal", "timedelta")
        numbers = ("integer", "floating", "mixed-integer-float", "decimal", "timedelta")
        return inferred in numbers

    def is_integer(self, j: int) -> bool:
        """Whether column j is of an integer dtype, or of objects that are whole numbers."""
        kind = self._kind(j)
        if kind != "object":
            return kind == "integer"
        cells = self.read(j)
        inferred = _infer(cells)
        if inferred in ("floating", "mixed-integer-float", "decimal"):
            return all(map(is_whole, cells[~pd.isna(cells)]))
        return inferred == "integer"

    def is_bag(self, j: int) -> bool:
        """Whether cells of column j hold several values each: lists, sets, arrays, dicts.

        Objects are told by a hundred of them, all of which must.
        """
        kind = self._kind(j)
        if kind != "object":
            return kind == "bag"
        cells = _sample(self.read(j))
        return bool(len(cells)) and all(isinstance(cell, BAGS) for cell in cells)

    def is_date(self, j: int) -> bool:
        """Whether column j holds dates, with or without a time of day."""
        kind = self._kind(j)
        if kind != "object":
            return kind == "date"
        cells = self.read(j)
        types = set(map(type, cells[~pd.isna(cells)]))
        return bool(types) and all(issubclass(kind, (date, np.datetime64)) for kind in types)

    def take(self, rows: NDArray[np.intp]) -> Columns:
        """Columns of some rows only."""
        return Columns(
            self.names,
            len(rows),
            lambda j: self.read(j)[rows],
            self._kind,
            has_dtypes=self._has_dtypes,
        )


def read_columns(X: Any, estimator: BaseEstimator, *, reset: bool) -> Columns:
    """Check a table against an estimator and open its columns.

    Parameters
    ----------
    X : table of shape (n_rows, n_columns)
        DataFrame of pandas or polars, or what `as_table` makes one of; or an array-like.
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
        occurs twice, the number of columns differs from fit's, or numbers are complex.
    TypeError
        If the table is sparse or not yet computed, or only some names are strings.
    """
    X = as_table(X)
    is_pandas = isinstance(X, pd.DataFrame)
    if not is_pandas and not is_polars(X):
        return _array_columns(check_array_table(X, estimator, reset=reset))
    names = check_frame(X, estimator)
    if reset and is_pandas and (wrong := [k for k, d in X.dtypes.items() if d.kind == "c"]):
        raise ValueError(f"Complex data not supported: columns {wrong}.")
    fitted = None if reset else getattr(estimator, "feature_names_in_", None)
    if fitted is None or not any(isinstance(name, str) for name in names):
        validate_data(estimator, X, reset=reset, skip_check_array=True)
    elif names != (wanted := fitted.tolist()):
        if missing := [name for name in wanted if name not in names]:
            raise ValueError(f"columns are missing: {missing}")
        names = wanted
    return _pandas_columns(X, names) if is_pandas else _polars_columns(X, names)


def check_frame(X: Any, estimator: BaseEstimator) -> list[Any]:
    """Raise unless a DataFrame has rows, and columns of one name each.

    Parameters
    ----------
    X : DataFrame
        Of pandas or polars.
    estimator : estimator
        Who asks.

    Returns
    -------
    list
        Names of the columns.

    Raises
    ------
    ValueError
        If the table is empty, or names are of several levels or occur twice.
    """
    if min(X.shape) == 0:
        what = "sample(s)" if X.shape[0] == 0 else "feature(s)"
        raise ValueError(
            f"Found array with 0 {what} (shape={tuple(X.shape)}) while a minimum of 1 is "
            f"required by {type(estimator).__name__}."
        )
    names = list(X.columns)
    if isinstance(X.columns, pd.MultiIndex):
        raise ValueError(
            f"Columns must have one name each, but have several levels, as {names[0]}. Join them: "
            "X.columns = ['_'.join(map(str, name)) for name in X.columns]."
        )
    if len(set(names)) < len(names):
        twice = [name for i, name in enumerate(names) if name in names[:i]]
        raise ValueError(f"Column names must differ, but these occur twice: {twice}.")
    return names


def check_array_table(X: Any, estimator: BaseEstimator, *, reset: bool) -> NDArray[Any]:
    """Check an array-like of any cells against an estimator.

    Parameters
    ----------
    X : array-like of shape (n_rows, n_columns)
        The table.
    estimator : estimator
        Gets `n_features_in_` if `reset`, else is asked for it.
    reset : bool
        True in fit.

    Returns
    -------
    ndarray of shape (n_rows, n_columns)

    Raises
    ------
    ValueError
        If the table is empty, not two-dimensional, complex, or of another width than in fit.
    TypeError
        If the table is sparse.
    """
    array = validate_data(estimator, X, reset=reset, dtype=None, ensure_all_finite=False)
    if not hasattr(X, "dtype") and array.dtype.kind == "U":
        # numpy turned the numbers of a list such as [[1, "a"]] into text
        array = check_array(X, dtype=object, ensure_all_finite=False)
    return array


def select_columns(X: Any, spec: Any, columns: Columns) -> set[int]:
    """Positions of the columns that a specification means.

    Parameters
    ----------
    X : table of shape (n_rows, n_columns)
        The table, for a callable or a dtype to look at. A callable gets what `as_table`
        makes of it.
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
    if _is_dtypes(spec, names):
        spec = make_column_selector(dtype_include=spec)
    if callable(spec):
        X = as_table(X)
        spec = spec(_pandas_head(X, columns) if isinstance(spec, make_column_selector) else X)
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


def _array_columns(array: NDArray[Any]) -> Columns:
    def read(j: int) -> NDArray[Any]:
        return array_values(np.ascontiguousarray(array[:, j]))

    names = [f"x{j}" for j in range(array.shape[1])]
    return Columns(names, len(array), read, lambda j: dtype_kind(array.dtype), has_dtypes=False)


def _pandas_columns(X: pd.DataFrame, names: list[Any]) -> Columns:
    place = {name: k for k, name in enumerate(X.columns)}
    places = [place[name] for name in names]

    def read(j: int) -> Any:
        return pandas_values(X.iloc[:, places[j]])

    def read_cells(j: int) -> NDArray[np.object_]:
        cells = np.empty(len(X), dtype=object)
        for i in range(len(X)):
            cells[i] = X.iat[i, places[j]]
        # Arrow gives its maps as lists of pairs
        return read(j) if any(type(cell) is list for cell in cells) else cells

    def kind(j: int) -> str:
        return dtype_kind(X.dtypes.iloc[places[j]])

    return Columns(names, len(X), read_cells if len(X) <= FEW_ROWS else read, kind)


def _polars_columns(X: Any, names: list[Any]) -> Columns:
    def read(j: int) -> Any:
        return polars_values(X.get_column(names[j]), as_cells=len(X) <= FEW_POLARS_ROWS)

    return Columns(names, len(X), read, lambda j: polars_kind(X.get_column(names[j]).dtype))


# -- cells -----------------------------------------------------------------------------------


def _infer(cells: Any) -> str:
    return pd.api.types.infer_dtype(cells, skipna=True)


def _sample(cells: NDArray[np.object_]) -> NDArray[np.object_]:
    """Some cells that are not missing, spread over the column; none only if all are missing."""
    rows = np.linspace(0, len(cells) - 1, min(N_SAMPLES, len(cells))).astype(np.intp)
    sample = cells[rows]
    present = sample[~pd.isna(sample)]
    return present if len(present) else cells[~pd.isna(cells)][:N_SAMPLES]


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


def _pandas_head(X: Any, columns: Columns) -> pd.DataFrame:
    """First row as a DataFrame, for its dtypes."""
    if isinstance(X, pd.DataFrame):
        return X.iloc[:1]
    if is_polars(X):
        return pd.DataFrame({column.name: polars_values(column[:1]) for column in X})
    return pd.DataFrame({name: columns.read(j)[:1] for j, name in enumerate(columns.names)})
