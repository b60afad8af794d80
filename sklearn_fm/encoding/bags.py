"""Columns whose cells hold any number of categories as codes in as many slots.

A category within a bag is coded by the same encoders as one in a cell of its own.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sklearn_fm.user_line import warn_user

from .categories import CategoryEncoder, HashEncoder
from .column_encoder import ColumnEncoder
from .fields import BagField

__all__ = ["EMPTY", "BagEncoder", "Bags", "read_bags"]

EMPTY = -2
_MOST_CODES = 2**31  # of one column; beyond, padding would fill the memory


class Bags(NamedTuple):
    """The categories of a column's bags one after the other.

    Attributes
    ----------
    items : array of shape (n_items,)
        ndarray or pandas extension array.
    lengths : ndarray of shape (n_rows,)
        How many of them belong to each row.
    weights : ndarray of shape (n_items,) or None
        Their weights, if cells hold them.
    """

    items: Any
    lengths: NDArray[np.int64]
    weights: NDArray[np.float64] | None = None

    @property
    def rows(self) -> NDArray[np.intp]:
        """Row of each category."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    @property
    def places(self) -> NDArray[np.intp]:
        """Place of each category within its bag."""
        starts = np.cumsum(self.lengths) - self.lengths
        return np.arange(self.lengths.sum()) - np.repeat(starts, self.lengths)


class BagEncoder(ColumnEncoder):
    """Codes and values of one bag field.

    Parameters
    ----------
    item_encoder : CategoryEncoder or HashEncoder
        What encodes a category; also names the field. May take several slots for each.
    field : BagField
        How cells are read, pooled and cut off.

    Attributes
    ----------
    max_length : int
        Most categories of a bag.
    n_items, longest : float, int
        Weighted number of categories learned, and most in one bag.
    """

    kind = "bag"

    def __init__(self, item_encoder: CategoryEncoder | HashEncoder, field: BagField) -> None:
        super().__init__(item_encoder.name)
        self.item_encoder = item_encoder
        self.field = field
        self.is_weighted = field.weights is not False
        self.max_length = field.max_length or 0
        self.n_items = 0.0
        self.longest = 0

    @property
    def slots(self) -> int:  # type: ignore[override]
        """Slots of a bag of full length."""
        return max(self.max_length, 1) * self.item_encoder.slots

    @property
    def pooling(self) -> str:  # type: ignore[override]
        """How the model pools; weighted bags have their multipliers made here."""
        return "weighted" if self.is_weighted else self.field.pooling

    @property
    def vocabulary_name(self) -> str:
        """That of the categories."""
        return self.item_encoder.vocabulary_name

    @property
    def vocabulary_size(self) -> int:
        """Rows of the table that the field reads."""
        return self.item_encoder.vocabulary_size

    def learn(self, values: Any, weight: NDArray[np.float64] | None = None) -> Any:
        """Take note of the categories of a column.

        Parameters
        ----------
        values : ndarray or pandas extension array of shape (n_rows,), or a pair of them
            The column; with the one of weights if the field names it.
        weight : ndarray of shape (n_rows,), default=None
            Positive weights of the rows.

        Returns
        -------
        object
            Draft for `encode`.

        Raises
        ------
        ValueError
            If a cell is no bag, or too long.
        """
        bags = self._read(values)
        if not self.n_rows:
            self._decide_on_weights(bags)
        self.longest = max(self.longest, int(bags.lengths.max(initial=0)))
        bags = self._shorten(bags) if self.field.max_length else bags
        self._count(bags.lengths == 0, weight)
        row_weight = np.ones(len(bags.lengths)) if weight is None else weight
        self.n_items += float(bags.lengths @ row_weight)
        item_weight = None if weight is None else np.repeat(weight, bags.lengths)
        return self.item_encoder.learn(bags.items, item_weight, bags.rows), bags

    def settle(self, *, keep: bool = False) -> None:
        """Make up codes of the categories; fix the length if it is still open."""
        self.item_encoder.settle(keep=keep)
        if not self.field.max_length and not (keep and self.max_length):
            self.max_length = max(self.longest, 1)

    def encode(self, draft: Any) -> NDArray[Any]:
        """Codes, and values if weighted, of (n_rows, n_columns)."""
        items, bags = draft
        return self._lay_out(self.item_encoder.encode(items), bags)

    def transform(self, values: Any) -> NDArray[Any]:
        """Return the codes of a column.

        Parameters
        ----------
        values : ndarray or pandas extension array of shape (n_rows,), or a pair of them
            The column; with the one of weights if the field names it.

        Returns
        -------
        ndarray of shape (n_rows, n_columns)

        Raises
        ------
        ValueError
            If a cell is no bag, or too long.
        """
        bags = self._shorten(self._read(values))
        return self._lay_out(self.item_encoder.transform(bags.items, bags.rows), bags)

    def inverse_transform(self, codes: NDArray[Any]) -> NDArray[np.object_]:
        """Return bags as tuples; of pairs with multipliers if weighted."""
        step, n = self.item_encoder.slots, self.slots
        out = np.empty(len(codes), dtype=object)
        for row, own in enumerate(codes):
            full = own[:n:step] != EMPTY
            items = tuple(self.item_encoder.inverse_transform(own[:n].reshape(-1, step)[full]))
            if self.is_weighted:
                items = tuple(zip(items, own[n::step][full].tolist(), strict=True))
            out[row] = items
        return out

    def items_of(self, values: Any) -> Any:
        """Return the categories of a column one after the other, those of long bags too."""
        return self._read(values).items

    def forget_rare(self) -> None:
        """Drop the categories without a code."""
        self.item_encoder.forget_rare()

    # -- implementation ------------------------------------------------------------------

    def _describe(self) -> dict[str, Any]:
        return {
            **self.item_encoder._describe(),
            "mean_length": self.n_items / self.n_rows if self.n_rows else 0.0,
            "max_length": self.max_length,
        }

    def _read(self, values: Any) -> Bags:
        field = self.field
        if not isinstance(field.weights, str):
            bags = read_bags(values, self.name, field.separator, pairs=self.is_weighted)
            if bags.weights is not None and not self.is_weighted and self.n_rows:
                raise ValueError(
                    f"Field {self.name!r} holds weights, but the bags in fit had none. Pass "
                    "BagField(weights=True) if all have."
                )
            return bags
        bags = read_bags(values[0], self.name, field.separator)
        numbers = read_bags(values[1], field.weights, field.separator)
        if (numbers.lengths != bags.lengths).any():
            row = int(np.argmax(numbers.lengths != bags.lengths))
            raise ValueError(
                f"Field {self.name!r} has {bags.lengths[row]} categories in row {row} but "
                f"{field.weights!r} has {numbers.lengths[row]} weights there; expected as many."
            )
        return bags._replace(weights=_as_weights(numbers.items, bags.rows, self.name))

    def _decide_on_weights(self, bags: Bags) -> None:
        """Dicts in the first cells make the field weighted."""
        self.is_weighted = self.is_weighted or bags.weights is not None
        if self.is_weighted and self.field.pooling == "max":
            raise ValueError(f"Field {self.name!r} holds weights, which pooling='max' cannot use.")
        if self.field.softmax and not self.is_weighted and len(bags.items):
            raise ValueError(f"Field {self.name!r} has softmax=True, but its bags hold no weights.")

    def _shorten(self, bags: Bags) -> Bags:
        most, lengths = self.max_length, bags.lengths
        if not len(lengths) or lengths.max() <= most:
            return bags
        if self.field.truncate is None and self.field.max_length:
            row = int(np.argmax(lengths > most))
            raise ValueError(
                f"Field {self.name!r} got a bag of {lengths[row]} values in row {row} but "
                f"max_length={most}. Raise max_length, or pass truncate='first' or 'last'."
            )
        if self.field.truncate is None:
            warn_user(
                f"Field {self.name!r} got bags of up to {lengths.max()} values, but the longest in "
                f"fit had {most}: only the first {most} of each are used. Pass BagField("
                "max_length=...) to have room for more, or truncate= to say which to keep."
            )
        place = bags.places
        if self.field.truncate == "last":
            place = np.repeat(lengths, lengths) - 1 - place
        kept = np.flatnonzero(place < most)
        weights = None if bags.weights is None else bags.weights[kept]
        return Bags(bags.items.take(kept), np.minimum(lengths, most), weights)

    def _lay_out(self, codes: NDArray[Any], bags: Bags) -> NDArray[Any]:
        """Codes of the items in the slots of their rows."""
        n_rows, step = len(bags.lengths), self.item_encoder.slots
        if n_rows * self.n_columns > _MOST_CODES:
            raise ValueError(
                f"Field {self.name!r} would take {n_rows} rows of {self.max_length} slots. Pass "
                "a smaller max_length and truncate='first' or 'last'."
            )
        row, place = bags.rows, bags.places
        shape = (n_rows, max(self.max_length, 1), step)
        out = np.full(shape, EMPTY, dtype=np.float64 if self.is_weighted else np.int32)
        out[row, place] = codes.reshape(-1, step)
        flat = out.reshape(n_rows, -1)
        if not self.is_weighted:
            return flat
        values = np.zeros(shape)
        weights = np.ones(len(row)) if bags.weights is None else bags.weights
        values[row, place] = self._multipliers(weights, row)[:, None]
        return np.concatenate([flat, values.reshape(n_rows, -1)], axis=1)

    def _multipliers(
        self, weights: NDArray[np.float64], row: NDArray[np.intp]
    ) -> NDArray[np.float64]:
        """Values of categories from their weights; each hash of a category counts as one."""
        if self.field.softmax:
            with np.errstate(over="ignore"):
                weights = np.exp(weights - _largest(weights, row))
            weights = weights / np.bincount(row, weights)[row]
        if self.field.pooling == "sum":
            return weights
        power = 1 if self.field.pooling == "mean" else 2
        largest = _largest(np.abs(weights), row)
        weights = weights / np.where(largest > 0, largest, 1)  # lest squares over- or underflow
        total = self.item_encoder.slots * np.bincount(row, np.abs(weights) ** power)[row]
        return weights / np.where(total > 0, total, 1.0) ** (1 / power)


def read_bags(values: Any, name: str, separator: str | None = None, *, pairs: bool = False) -> Bags:
    """The categories of a column's cells one after the other.

    Parameters
    ----------
    values : ndarray or pandas extension array of shape (n_rows,)
        Cells: lists, tuples, sets, arrays, dicts of weights, or strings with a separator;
        missing for an empty bag. Sets are put in order.
    name : str
        Name of the field, for error messages.
    separator : str, default=None
        What stands between categories in strings; nothing between two of them is no category.
    pairs : bool, default=False
        Whether categories come as pairs with their weight.

    Returns
    -------
    Bags

    Raises
    ------
    ValueError
        If a cell is no bag.
    """
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = np.asarray(values, dtype=object)
    arrow = None if pairs else _arrow_bags(values, separator)
    if arrow is not None:
        return arrow
    cells = np.asarray(values, dtype=object)
    lists = [_open_bag(cell, row, name, separator) for row, cell in enumerate(cells)]
    lengths = np.fromiter(map(len, lists), dtype=np.int64, count=len(lists))
    flat = [item for bag in lists for item in bag]
    weights = None
    if pairs or any(isinstance(cell, dict) for cell in cells):
        rows = np.repeat(np.arange(len(lists)), lengths)
        for row, item in zip(rows, flat, strict=True):
            if not (isinstance(item, (tuple, list)) and len(item) == 2):
                raise ValueError(
                    f"Field {name!r} holds {item!r} in row {row}, expected a pair of a category "
                    "and its weight, or a dict of weights in all rows."
                )
        weights = _as_weights([item[1] for item in flat], rows, name)
        flat = [item[0] for item in flat]
    items = np.empty(len(flat), dtype=object)
    for i, item in enumerate(flat):
        items[i] = item
    return Bags(items, lengths, weights)


def _open_bag(cell: Any, row: int, name: str, separator: str | None) -> Any:
    """Categories of one cell, as something with a length and an order."""
    if isinstance(cell, (list, tuple)):
        return cell
    if isinstance(cell, str) and separator is not None:
        return [item for item in cell.split(separator) if item]
    if isinstance(cell, dict):
        return list(cell.items())
    if isinstance(cell, (set, frozenset)):
        return sorted(cell, key=lambda item: (type(item).__name__, repr(item)))
    if isinstance(cell, np.ndarray) and cell.ndim == 1:
        return pd.Index(cell).tolist() if cell.dtype.kind in "mM" else cell.tolist()
    if pd.api.types.is_scalar(cell) and pd.isna(cell):
        return ()
    hint = " Pass BagField(separator=...) for delimited strings." if isinstance(cell, str) else ""
    raise ValueError(
        f"Field {name!r} is a bag, but row {row} holds {cell!r} ({type(cell).__name__}); expected "
        f"a list, tuple, set or one-dimensional array.{hint}"
    )


def _arrow_bags(values: Any, separator: str | None) -> Bags | None:
    """Categories of a column of lists or delimited strings by Arrow; None if it cannot."""
    is_arrow = isinstance(values.dtype, (pd.ArrowDtype, pd.StringDtype))
    if not is_arrow and (separator is None or pd.api.types.infer_dtype(values) != "string"):
        return None
    try:
        import pyarrow as pa
        import pyarrow.compute as pc

        column = pa.array(values, type=None if is_arrow else pa.large_string(), from_pandas=True)
    except (ImportError, TypeError, ValueError):  # not only text, or half of a surrogate pair
        return None
    kind = column.type
    if separator is not None and (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        column = pc.split_pattern(column, separator)
    elif not (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        return None
    lengths = np.asarray(pc.fill_null(pc.list_value_length(column), 0), dtype=np.int64)
    bags = Bags(pd.arrays.ArrowExtensionArray(pc.list_flatten(column)), lengths)
    if column.type == kind:
        return bags
    is_item = np.asarray(bags.items != "", dtype=bool)
    counts = np.bincount(bags.rows[is_item], minlength=len(lengths))
    return Bags(bags.items[is_item], counts.astype(np.int64))


def _as_weights(weights: Any, rows: NDArray[np.intp], name: str) -> NDArray[np.float64]:
    try:
        numbers = np.asarray(weights, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        numbers = np.array([_as_float(weight) for weight in weights])
    if not np.isfinite(numbers).all():
        at = int(np.argmin(np.isfinite(numbers)))
        raise ValueError(
            f"Field {name!r} has the weight {weights[at]!r} in row {rows[at]}; expected finite "
            "numbers."
        )
    return numbers


def _as_float(weight: Any) -> float:
    try:
        return float(weight)
    except (TypeError, ValueError, OverflowError):
        return np.nan


def _largest(numbers: NDArray[np.float64], row: NDArray[np.intp]) -> NDArray[np.float64]:
    """Largest number of the row that each of them is in."""
    largest = np.full(row[-1] + 1 if len(row) else 0, -np.inf)
    np.maximum.at(largest, row, numbers)
    return largest[row]
