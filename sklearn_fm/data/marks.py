"""The mark in the dtype of codes: their schema, which outlives the class `FieldArray`.

numpy hands metadata of a dtype on with rows, copies, pickles and the columns of a DataFrame. It
does so with changed numbers too, so a mark proves nothing: whoever reads it checks the codes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..schema import FieldSchema

__all__ = ["mark_of", "marked", "unmarked"]

_KEY = "sklearn_fm.schema"


def marked(dtype: np.dtype[Any], schema: FieldSchema) -> np.dtype[Any]:
    """Mark a dtype as that of codes; it equals the plain one.

    Parameters
    ----------
    dtype : dtype
        Of the codes.
    schema : FieldSchema
        Their schema.

    Returns
    -------
    dtype
    """
    return np.dtype(dtype, metadata={_KEY: schema})


def mark_of(dtype: Any) -> FieldSchema | None:
    """Schema that a dtype bears.

    Parameters
    ----------
    dtype : object
        Of an array or a column; one that is not numpy's bears none.

    Returns
    -------
    FieldSchema or None
    """
    metadata = getattr(dtype, "metadata", None) if isinstance(dtype, np.dtype) else None
    schema = metadata.get(_KEY) if metadata else None
    return schema if isinstance(schema, FieldSchema) else None


def unmarked(array: Any) -> NDArray[Any]:
    """View an array, of whatever class, as a plain one without a mark.

    Parameters
    ----------
    array : ndarray
        Perhaps of codes.

    Returns
    -------
    ndarray
    """
    plain = np.asarray(array)
    return plain if mark_of(plain.dtype) is None else plain.view(plain.dtype.str)
