"""Counts what fitted encoders do not know of a table, and says so once where it is nearly all.

It gives no codes.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sklearn_fm.data.array import FieldArray
from sklearn_fm.user_line import warn_user

from .bags import EMPTY, BagEncoder
from .categories import CategoryEncoder
from .column_encoder import UNKNOWN, ColumnEncoder

__all__ = ["MOST", "unknown_share", "warn_of_unknown"]

#: Share of unknown categories from which on a column is not what it was in fit. Of new days with
#: mostly new users some are known.
MOST = 0.99
_IN_FIT = 0.5  # share of rare ones in fit up to which that is news
_FEWEST_ROWS = 100
_DISTINCT = (
    20  # different ones in it: a new user before all items, or a few of them, are a cold start
)
_SAMPLE = 32

_said = threading.Lock()


def unknown_share(codes: FieldArray) -> pd.Series:
    """Share of unknown codes of each field.

    Parameters
    ----------
    codes : FieldArray of shape (n_rows, n_columns)
        Encoded rows.

    Returns
    -------
    Series
        By field: of rows; of the categories in all bags; 0 for a number.
    """
    schema, array = codes.require_schema(), np.asarray(codes)
    shares = {}
    for name, kind, first, slots in zip(
        schema.names, schema.kinds, schema.first_columns[:-1], schema.slots, strict=True
    ):
        shares[name] = 0.0 if kind == "numeric" else _share(array[:, first : first + slots])
    return pd.Series(shares, name="unknown_share", dtype=np.float64).rename_axis("field")


def warn_of_unknown(encoder: ColumnEncoder, values: Any, codes: NDArray[Any]) -> None:
    """Warn, once for an encoder, if nearly all of a column is unknown that was known in fit.

    Parameters
    ----------
    encoder : ColumnEncoder
        Of the column; only categories with a vocabulary can be unknown.
    values : ndarray or pandas extension array of shape (n_rows,), or a pair of them
        The column.
    codes : ndarray of shape (n_rows,) or (n_rows, n_columns)
        Its codes.

    Warns
    -----
    UserWarning
        See the notes of `FieldEncoder.transform`.
    """
    items = encoder.item_encoder if isinstance(encoder, BagEncoder) else encoder
    n_rows = len(codes)
    if n_rows < _FEWEST_ROWS or not isinstance(items, CategoryEncoder) or items.has_warned:
        return
    # A few rows tell that all is well, and plain Python is quickest at a few.
    few = codes[:: n_rows // _SAMPLE]
    few = (few if few.ndim == 1 else few[:, : encoder.slots].ravel()).tolist()
    n_cells = max(len(few) - few.count(EMPTY), 1)
    if few.count(UNKNOWN) < 0.9 * n_cells or items.rare_share > _IN_FIT:
        return
    cells = encoder.items_of(values) if isinstance(encoder, BagEncoder) else values
    is_unknown = items.known.look_up(cells) < 0
    n_distinct = _n_distinct(cells)
    is_new = not n_distinct or n_distinct >= min(_DISTINCT, max(items.known.n_codes, 2))
    if is_unknown.mean() < MOST or not is_new:
        return
    with _said:
        if items.has_warned:
            return
        items.has_warned = True
    what = "rows" if encoder is items else "values of bags"
    known = ", ".join(map(_shown, items.known.first_categories(3)))
    example = _shown(cells[int(np.argmax(is_unknown))])
    warn_user(
        f"Field {encoder.name!r} is unknown in {is_unknown.sum():,} of {len(cells):,} {what}, for "
        f"instance {example}; it was in {items.rare_share:.0%} in fit, which knows {known} ... Is "
        "it the column of fit, with ids of the same kind? FieldEncoder.unknown_share counts; this "
        "is said once.",
    )


def _share(codes: NDArray[Any]) -> float:
    n_cells = codes.size - np.count_nonzero(codes == EMPTY)
    return float(np.count_nonzero(codes == UNKNOWN) / n_cells) if n_cells else 0.0


def _shown(cell: Any) -> str:
    return str(cell) if isinstance(cell, np.generic) else repr(cell)


def _n_distinct(cells: Any) -> int:
    """Number of distinct cells, missing ones aside, among a thousand spread over all."""
    rows = np.unique(np.linspace(0, len(cells) - 1, 1000).astype(np.intp))
    return len(pd.unique(pd.Series(cells[rows]).dropna()))
