"""Brings tables of any library into pandas, and single columns into arrays that pandas knows.

It checks no table against an estimator (see ``columns``) and encodes nothing.

Neither polars nor pyarrow is needed here, nor imported unless a table of theirs comes in.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

__all__ = [
    "array_values",
    "as_table",
    "dtype_kind",
    "is_polars",
    "pandas_values",
    "polars_kind",
    "polars_values",
]

_PANDAS_INDEX = re.compile(r"__index_level_\d+__")  # how pyarrow stores an index without a name


def as_table(X: Any) -> Any:
    """Bring a table of columns into pandas, leave the rest as it is.

    - pandas and polars DataFrames, plain arrays, sparse matrices and lists come back as they
      are, a masked array as one with missing cells.
    - Arrow tables, record batches and whatever else shows its columns to Arrow, structured
      arrays and dicts of columns become a pandas DataFrame that shares their memory where
      numpy or pandas can read it.
    - Whole numbers stay whole where some are missing. An index without a name, which pandas
      stored in an Arrow table, is no column.

    Parameters
    ----------
    X : object
        What the user passed.

    Returns
    -------
    object
        DataFrame of pandas or polars, or `X`.

    Raises
    ------
    TypeError
        If the table is a polars LazyFrame.
    ValueError
        If columns are not one-dimensional or differ in length.
    """
    if isinstance(X, np.ndarray):
        return _from_fields(X) if X.dtype.names is not None else _unmask(X)
    if isinstance(X, pd.DataFrame) or is_polars(X) or sparse.issparse(X):  # a dok_array is a dict
        return X
    if isinstance(X, Mapping):
        return _from_mapping(X)
    if _is_polars(X, "LazyFrame"):  # asking it for its columns would cost a warning
        raise TypeError("X is a polars LazyFrame, which holds no rows yet; pass X.collect().")
    if hasattr(X, "__arrow_c_stream__") and hasattr(X, "columns"):
        return _from_arrow_table(X)
    return X


def is_polars(X: Any) -> bool:
    """Whether an object is a polars DataFrame.

    Parameters
    ----------
    X : object
        Anything.

    Returns
    -------
    bool
    """
    return _is_polars(X, "DataFrame")


# -- columns of a DataFrame --------------------------------------------------------------------


def pandas_values(column: pd.Series) -> Any:
    """Cells of a pandas column, without copying those that numpy can read.

    Parameters
    ----------
    column : Series
        Column of any dtype.

    Returns
    -------
    ndarray or pandas extension array
    """
    dtype = column.dtype
    if isinstance(dtype, np.dtype):
        return array_values(column.to_numpy())
    if isinstance(dtype, pd.SparseDtype):
        return np.asarray(column)
    if not isinstance(dtype, pd.ArrowDtype):
        return column.array
    arrow = column.array.__arrow_array__()
    is_struct = _pyarrow().types.is_struct(arrow.type)
    return _objects(arrow.to_pylist()) if is_struct else _arrow_values(arrow)


def polars_values(column: Any, *, as_cells: bool = False) -> Any:
    """Cells of a polars column, without copying those that numpy can read.

    Parameters
    ----------
    column : polars.Series
        Column of any dtype.
    as_cells : bool, default=False
        Whether to give Python objects instead of Arrow arrays, which is quicker for a few
        rows; also done if pyarrow is not installed.

    Returns
    -------
    ndarray or pandas extension array
    """
    pl = sys.modules["polars"]
    dtype = column.dtype
    if dtype.is_float() or dtype == pl.Duration:
        return column.to_numpy()
    if dtype == pl.Boolean or (dtype.is_integer() and not _has_128_bits(dtype)):
        return _masked(column, dtype == pl.Boolean) if column.null_count() else column.to_numpy()
    if dtype == pl.Datetime:
        moments = column.to_numpy()  # of a time zone: in UTC
        if dtype.time_zone is None:
            return moments
        return pd.DatetimeIndex(moments, tz="UTC").tz_convert(dtype.time_zone).array
    no_arrow = isinstance(dtype, (pl.Time, pl.Object, pl.Null, pl.Struct)) or _has_128_bits(dtype)
    if as_cells or no_arrow or _pyarrow() is None:
        return _objects(column.to_list())
    if polars_kind(dtype) == "bag" and isinstance(dtype.inner, (pl.Categorical, pl.Enum)):
        column = column.cast(pl.List(pl.String))
    return _arrow_values(column.to_arrow())


def array_values(array: NDArray[Any]) -> NDArray[Any]:
    """Array as pandas can read it: in this machine's byte order.

    Parameters
    ----------
    array : ndarray of shape (n_rows,)
        One column.

    Returns
    -------
    ndarray of shape (n_rows,)
    """
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


# -- what a dtype says -------------------------------------------------------------------------


def dtype_kind(dtype: Any) -> str:
    """What cells of a numpy or pandas dtype are.

    Parameters
    ----------
    dtype : dtype
        Of numpy or pandas.

    Returns
    -------
    {"integer", "number", "date", "bag", "object", "other"}
        "object" if only the cells can tell, as whether decimals are whole; "number" includes
        complex ones and durations.
    """
    types = pd.api.types
    if isinstance(dtype, pd.SparseDtype):
        dtype = dtype.subtype
    if isinstance(dtype, np.dtype) and dtype.kind == "O":
        return "object"
    if types.is_bool_dtype(dtype):
        return "other"
    if isinstance(dtype, pd.ArrowDtype) and _pyarrow().types.is_decimal(dtype.pyarrow_dtype):
        return "object"
    if dtype.kind == "m":
        return "number"
    if types.is_numeric_dtype(dtype):
        return "integer" if types.is_integer_dtype(dtype) else "number"
    if types.is_datetime64_any_dtype(dtype):
        return "date"
    if isinstance(dtype, pd.ArrowDtype):
        kind, arrow = dtype.pyarrow_dtype, _pyarrow().types
        if arrow.is_date(kind):
            return "date"
        if arrow.is_nested(kind) and not arrow.is_struct(kind) and not arrow.is_union(kind):
            return "bag"
    return "other"


def polars_kind(dtype: Any) -> str:
    """What cells of a polars dtype are.

    Parameters
    ----------
    dtype : polars.DataType
        Instance.

    Returns
    -------
    {"integer", "number", "date", "bag", "object", "other"}
        As `dtype_kind` has it.
    """
    pl = sys.modules["polars"]
    kinds = {pl.Date: "date", pl.Datetime: "date", pl.List: "bag", pl.Array: "bag"}
    kinds |= {pl.Duration: "number", pl.Decimal: "object", pl.Object: "object"}
    if dtype.is_numeric() and dtype.base_type() not in kinds:
        return "integer" if dtype.is_integer() else "number"
    return kinds.get(dtype.base_type(), "other")


# -- tables ------------------------------------------------------------------------------------


def _from_fields(X: NDArray[Any]) -> pd.DataFrame:
    """Columns of a structured array."""
    names = X.dtype.names or ()
    if X.ndim != 1:
        raise ValueError(
            f"A structured array has one row per entry and must be one-dimensional, but X has "
            f"shape {X.shape}. Pass X.ravel()."
        )
    for name in names:
        field = X.dtype[name]
        if field.names is not None or field.subdtype is not None:
            raise ValueError(
                f"Field {name!r} of the structured array holds several values per row "
                f"({field}). Pass each as a column of its own, for instance in a dict of columns."
            )
    return _frame(names, [_unmask(X[name]) for name in names])


def _from_mapping(X: Mapping[Any, Any]) -> pd.DataFrame:
    """Columns of a dict."""
    columns = {name: _column(name, values) for name, values in X.items()}
    lengths = {name: len(values) for name, values in columns.items()}
    expected = next(iter(lengths.values()), 0)
    if others := {name: length for name, length in lengths.items() if length != expected}:
        first = next(iter(lengths))
        shown = ", ".join(f"{name!r} has {others[name]}" for name in list(others)[:5])
        raise ValueError(
            f"Columns of a dict must be of equal length, but {first!r} has {expected} rows and "
            f"{shown}."
        )
    return _frame(columns, list(columns.values()))


def _from_arrow_table(X: Any) -> pd.DataFrame:
    """Columns of whatever shows itself to Arrow: Table, RecordBatch, results of a query."""
    pa = _pyarrow()
    if pa is None:
        raise ImportError(f"A {type(X).__name__} is read by pyarrow: pip install pyarrow.")
    table = X if isinstance(X, pa.Table) else pa.table(X)
    kept = [k for k, name in enumerate(table.column_names) if not _PANDAS_INDEX.fullmatch(name)]
    names = [table.column_names[k] for k in kept]
    return _frame(names, [_arrow_values(table.column(k)) for k in kept])


def _frame(names: Iterable[Any], columns: list[Any]) -> pd.DataFrame:
    frame = pd.DataFrame(dict(enumerate(columns)), copy=False)
    names = list(names)
    if names:
        # dtype=object: tuples as names must not become levels
        frame.columns = pd.Index(names, dtype=object, tupleize_cols=False)
    return frame


# -- columns -----------------------------------------------------------------------------------


def _column(name: Any, values: Any) -> Any:
    """Column of a dict as an array."""
    if isinstance(values, (pd.Series, pd.Index)):
        return values.array  # of a Series without its index: columns are put together by position
    if isinstance(values, pd.api.extensions.ExtensionArray):
        return values
    if _is_polars(values, "Series"):
        return polars_values(values)
    pa = _pyarrow()
    if pa is not None and isinstance(values, (pa.Array, pa.ChunkedArray)):
        return _arrow_values(values)
    if isinstance(values, (list, tuple)):
        return _infer(_objects(values))
    array = _unmask(values) if isinstance(values, np.ndarray) else np.asarray(values)
    if array.ndim != 1:
        raise ValueError(
            f"Columns of a dict must be lists or one-dimensional arrays, but {name!r} is "
            f"{f'of shape {array.shape}' if array.ndim else f'a single {type(values).__name__}'}. "
            f"A single row is a dict of lists of one cell."
        )
    return array


def _objects(cells: list[Any] | tuple[Any, ...]) -> NDArray[np.object_]:
    """One-dimensional array of any cells, of lists too."""
    return np.fromiter(cells, dtype=object, count=len(cells))


def _infer(cells: NDArray[np.object_]) -> Any:
    """Python objects as an array of numbers, exact and with missing ones, if they are numbers."""
    kind = pd.api.types.infer_dtype(cells, skipna=True)
    numbers = ("integer", "floating", "mixed-integer-float", "boolean")
    return pd.array(cells) if kind in numbers else cells


def _unmask(array: NDArray[Any]) -> NDArray[Any]:
    """Array with its masked cells missing."""
    if not isinstance(array, np.ma.MaskedArray):
        return array
    mask, values = np.ma.getmaskarray(array), np.asarray(array)
    if not mask.any():
        return values
    missing: Any = np.nan if values.dtype.kind in "fc" else None
    if values.dtype.kind in "mM":
        missing = "NaT"
    elif missing is None:
        values = values.astype(object)
    values = np.array(values)
    values[mask] = missing
    return values


def _arrow_values(column: Any) -> Any:
    """Arrow column as an array that is as exact."""
    pa = _pyarrow()
    if isinstance(column, pa.Array):
        column = pa.chunked_array([column])
    kind, types = column.type, pa.types
    if types.is_floating(kind):
        return column.to_numpy()
    if types.is_integer(kind) or types.is_boolean(kind):
        is_bool = types.is_boolean(kind)
        return _masked(column, is_bool) if column.null_count else column.to_numpy()
    if str(kind) in ("string", "large_string", "string_view"):
        text: Any = pd.StringDtype(na_value=np.nan)
        return text.__from_arrow__(column)
    if types.is_null(kind):
        return np.full(len(column), None, dtype=object)
    if types.is_dictionary(kind):
        return _categorical_or_plain(column)
    if types.is_timestamp(kind) or types.is_duration(kind):
        return column.to_pandas().array
    if types.is_map(kind):
        return _objects([None if pairs is None else dict(pairs) for pairs in column.to_pylist()])
    if isinstance(kind, pa.BaseExtensionType):
        return pandas_values(column.to_pandas())
    try:
        _ = pd.ArrowDtype(kind).type
    except NotImplementedError:  # pandas does not know runs and views of lists
        return _infer(_objects(column.to_pylist()))
    return pd.arrays.ArrowExtensionArray(column)


def _categorical_or_plain(column: Any) -> Any:
    """Arrow's dictionary column as a Categorical, if its dictionary is one of pandas."""
    try:
        return column.to_pandas().array
    except ValueError:  # a category occurs twice, or is null
        return _arrow_values(column.cast(column.type.value_type))


def _masked(column: Any, is_bool: bool) -> Any:
    """Column of polars or Arrow, of integers or booleans some of which are missing."""
    array = pd.arrays.BooleanArray if is_bool else pd.arrays.IntegerArray
    return array(column.fill_null(False if is_bool else 0).to_numpy(), column.is_null().to_numpy())


def _has_128_bits(dtype: Any) -> bool:
    return str(dtype).endswith("Int128")


def _is_polars(X: Any, name: str) -> bool:
    """Whether an object is of a class of polars, which whoever passes one has imported."""
    polars = sys.modules.get("polars")
    return polars is not None and isinstance(X, getattr(polars, name))


def _pyarrow() -> Any:
    """The module, None if it is not installed."""
    try:
        return importlib.import_module("pyarrow")
    except ImportError:
        return None
