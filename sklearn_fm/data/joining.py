"""The schema of codes that are joined with others, or with numbers, as numpy joins arrays.

It does not join them (see ``array``) and says nothing of what joining does to numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..schema import FieldSchema
from .marks import mark_of, unmarked

__all__ = ["of_two_axes", "plain_numbers", "schema_below", "schema_beside"]


def of_two_axes(part: Any) -> Any:
    """Make a column of a one-dimensional part, as ``np.column_stack`` does.

    Parameters
    ----------
    part : array-like of shape (n_rows,) or (n_rows, n_columns)
        What is to be joined.

    Returns
    -------
    array or DataFrame
    """
    if _is_frame(part):
        return part
    array = part if hasattr(part, "ndim") and hasattr(part, "dtype") else np.asarray(part)
    return np.asarray(array)[:, None] if array.ndim == 1 else array


def plain_numbers(part: Any) -> NDArray[Any]:
    """Give a part as a plain array without a mark, whatever class it has.

    Parameters
    ----------
    part : array or DataFrame
        What is to be joined.

    Returns
    -------
    ndarray
    """
    array = unmarked(part)
    if array.dtype.kind == "O" and _is_frame(part):  # pandas' numbers with its own missing value
        return np.asarray(part.astype("Float64").to_numpy(dtype=np.float64, na_value=np.nan))
    return array


def schema_below(parts: Sequence[Any]) -> FieldSchema | None:
    """Schema of FieldArrays below each other, if they have one.

    Parameters
    ----------
    parts : sequence of array
        From top to bottom.

    Returns
    -------
    FieldSchema or None
    """
    schemas = [None if _is_frame(part) else getattr(part, "schema", None) for part in parts]
    return schemas[0] if all(schema == schemas[0] for schema in schemas) else None


def schema_beside(parts: Sequence[Any]) -> FieldSchema | None:
    """Schema of codes beside each other; columns of plain numbers are numeric fields.

    Parameters
    ----------
    parts : sequence of array or DataFrame
        From left to right. Numbers of a DataFrame bear its names, those of an array are called x
        and their position.

    Returns
    -------
    FieldSchema or None
        None if it was lost in one of them.

    Raises
    ------
    ValueError
        If columns beside the codes are no numbers.
    """
    schemas: list[FieldSchema] = []
    start = 0
    for part in parts:
        is_frame = _is_frame(part)
        if not is_frame and getattr(part, "ndim", None) != 2:
            return None
        names = [f"x{start + column}" for column in range(part.shape[1])]
        names = [str(name) for name in part.columns] if is_frame else names
        dtypes = list(part.dtypes) if is_frame else [part.dtype] * len(names)
        _check_numbers(names, dtypes)
        start += len(names)
        marks = {mark_of(dtype) for dtype in dtypes}
        schema = marks.pop() if len(marks) == 1 else None
        if not is_frame:
            schema = getattr(part, "schema", schema)
        if schema is None:
            if marks or hasattr(part, "require_schema"):
                return None
            schema = FieldSchema.from_sizes([1] * len(names), names=names)
        if schema.n_columns != part.shape[1]:
            return None
        schemas.append(schema)
    return FieldSchema.side_by_side(schemas)


def _is_frame(part: Any) -> bool:
    return hasattr(part, "columns") and hasattr(part, "dtypes")


def _check_numbers(names: Sequence[str], dtypes: Sequence[Any]) -> None:
    """Raise for the first column that holds no numbers; those of a pandas type have a `kind`."""
    for name, dtype in zip(names, dtypes, strict=True):
        if hasattr(dtype, "kind"):
            is_number = dtype.kind in "biuf"
        else:  # of polars
            is_number = dtype.is_numeric() or str(dtype) == "Boolean"
        if not is_number:
            raise ValueError(
                f"Column {name!r} of dtype {dtype} stands beside codes of a FieldEncoder, where "
                "only codes and numbers can be read. Encode it too, by a FieldEncoder of all "
                "columns or by one of its own (in a ColumnTransformer remainder=FieldEncoder()), "
                "make it a column of numbers, or leave it out."
            )
