"""Columns whose cells hold any number of categories as codes in as many slots.

A category within a bag is coded by the same encoders as one in a cell of its own.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .column_encoder import ColumnEncoder
from .fields import BagField

__all__ = ["BagEncoder", "Bags", "read_bags"]

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


class BagEncoder(ColumnEncoder):
    """Codes and values of one bag field.

    Parameters
    ----------
    item_encoder : ColumnEncoder
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

    def __init__(self, item_encoder: ColumnEncoder, field: BagField) -> None:
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
        self.is_weighted = self.is_weighted or bags.weights is not None
        if len(bags.lengths):
            self.longest = max(self.longest, int(bags.lengths.max()))
        bags = self._shorten(bags) if self.field.max_length else bags
        self._count(bags.lengths == 0, weight)
        row_weight = np.ones(len(bags.lengths)) if weight is None else weight
        self.n_items += float(bags.lengths @ row_weight)
        item_weight = None if weight is None else np.repeat(weight, bags.lengths)
        return self.item_encoder.learn(bags.items, item_weight), bags

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
        if bags.weights is not None and not self.is_weighted:
            raise ValueError(
                f"Field {self.name!r} holds weights, but the bags in fit had none. Pass "
                "BagField(weights=True) if all have."
            )
        return self._lay_out(self.item_encoder.transform(bags.items), bags)

    def inverse_transform(self, codes: NDArray[Any]) -> NDArray[np.object_]:
        """Return bags as tuples; of pairs with multipliers if weighted."""
        step, n = self.item_encoder.slots, self.slots
        out = np.empty(len(codes), dtype=object)
        for row, own in enumerate(codes):
            full = own[:n:step] != EMPTY
            items = self.item_encoder.inverse_transform(own[:n].reshape(-1, step)[full])
            if self.is_weighted:
                items = zip(items, own[n::step][full].tolist(), strict=True)
            out[row] = tuple(items)
        return out

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
        field, weights = self.field, None
        if isinstance(field.weights, str):
            values, weights = values
        bags = read_bags(values, self.name, field.separator, pairs=field.weights is True)
        if weights is None:
            return bags
        numbers = read_bags(weights, f"{self.name}' weights '{field.weights}", field.separator)
        if (numbers.lengths != bags.lengths).any():
            row = int(np.argmax(numbers.lengths != bags.lengths))
            raise ValueError(
                f"Field {self.name!r} has {bags.lengths[row]} categories in row {row} but "
                f"{field.weights!r} has {numbers.lengths[row]} weights there; expected as many."
            )
        return bags._replace(weights=_as_weights(numbers.items, self.name))

    def _shorten(self, bags: Bags) -> Bags:
        most, lengths = self.max_length, bags.lengths
        if not len(lengths) or lengths.max() <= most:
            return bags
        if self.field.truncate is None:
            row = int(np.argmax(lengths > most))
            raise ValueError(
                f"Field {self.name!r} got a bag of {lengths[row]} values in row {row} but "
                f"max_length={most}. Raise max_length, or pass truncate='first' or 'last'."
            )
        place = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        if self.field.truncate == "last":
            place = np.repeat(lengths, lengths) - 1 - place
        kept = np.flatnonzero(place < most)
        weights = None if bags.weights is None else bags.weights[kept]
        return Bags(bags.items.take(kept), np.minimum(lengths, most), weights)

    def _lay_out(self, codes: NDArray[Any], bags: Bags) -> NDArray[Any]:
        """Codes of the items in the slots of their rows."""
        lengths, step = bags.lengths, self.item_encoder.slots
        n_rows = len(lengths)
        if n_rows * self.n_columns > _MOST_CODES:
            raise MemoryError(
                f"Field {self.name!r} would take {n_rows} rows of {self.max_length} slots. Pass "
                "a smaller max_length and truncate='first' or 'last'."
            )
        row = np.repeat(np.arange(n_rows), lengths)
        place = np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        shape = (n_rows, max(self.max_length, 1), step)
        out = np.full(shape, EMPTY, dtype=np.float64 if self.is_weighted else np.int32)
        out[row, place] = codes.reshape(-1, step)
        flat = out.reshape(n_rows, -1)
        if not self.is_weighted:
            return flat
        values = np.zeros(shape)
        weights = np.ones(len(row)) if bags.weights is None else bags.weights
        values[row, place] = self._multipliers(weights, row, n_rows)[:, None]
        return np.concatenate([flat, values.reshape(n_rows, -1)], axis=1)

    def _multipliers(
        self, weights: NDArray[np.float64], row: NDArray[np.intp], n_rows: int
    ) -> NDArray[np.float64]:
        if self.field.softmax and len(row):
            largest = np.full(n_rows, -np.inf)
            np.maximum.at(largest, row, weights)
            weights = np.exp(weights - largest[row])
            weights = weights / np.bincount(row, weights, n_rows)[row]
        if self.field.pooling == "sum":
            return weights
        is_mean = self.field.pooling == "mean"
        parts = np.abs(weights) if is_mean else weights**2
        size = np.bincount(row, parts, n_rows)[row]
        size = size if is_mean else np.sqrt(size)
        return weights / np.where(size > 0, size, 1)


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
    if separator is not None:
        return _split(values, name, separator)
    arrow = _arrow_lists(values)
    if arrow is not None and not pairs:
        return arrow
    cells = values if values.dtype == object else np.asarray(values, dtype=object)
    lists = [_open_bag(cell, row, name, separator) for row, cell in enumerate(cells)]
    lengths = np.fromiter(map(len, lists), dtype=np.int64, count=len(lists))
    flat = [item for bag in lists for item in bag]
    weights = None
    if pairs or any(isinstance(cell, dict) for cell in cells):
        rows = np.repeat(np.arange(len(lists)), lengths)
        for row, item in zip(rows, flat, strict=True):
            if not (isinstance(item, tuple) and len(item) == 2):
                raise ValueError(
                    f"Field {name!r} holds {item!r} in row {row}, expected a pair of a category "
                    "and its weight, or a dict of weights in all rows."
                )
        weights = _as_weights([item[1] for item in flat], name)
        flat = [item[0] for item in flat]
    items = np.empty(len(flat), dtype=object)
    for i, item in enumerate(flat):
        items[i] = item
    return Bags(items, lengths, weights)


def _split(values: Any, name: str, separator: str) -> Bags:
    """Categories of delimited strings."""
    cells = np.asarray(values, dtype=object)
    missing = pd.isna(cells)
    lists: list[list[str]] = []
    for row, cell in enumerate(cells):
        if missing[row]:
            lists.append([])
        elif isinstance(cell, str):
            lists.append([item for item in cell.split(separator) if item])
        else:
            raise ValueError(
                f"Field {name!r} holds {cell!r} ({type(cell).__name__}) in row {row}, expected a "
                f"string delimited by {separator!r}. Leave separator out where cells are lists."
            )
    lengths = np.fromiter(map(len, lists), dtype=np.int64, count=len(lists))
    return Bags(np.array([item for bag in lists for item in bag], dtype=object), lengths)


def _open_bag(cell: Any, row: int, name: str, separator: str | None) -> Any:
    """Categories of one cell, as something with a length and an order."""
    if isinstance(cell, (list, tuple)):
        return cell
    if isinstance(cell, dict):
        return list(cell.items())
    if isinstance(cell, (set, frozenset)):
        return sorted(cell, key=lambda item: (type(item).__name__, repr(item)))
    if isinstance(cell, np.ndarray) and cell.ndim == 1:
        return cell.tolist()
    if cell is None or cell is pd.NA or cell is pd.NaT or cell != cell:
        return ()
    hint = " Pass BagField(separator=...) for delimited strings." if isinstance(cell, str) else ""
    raise ValueError(
        f"Field {name!r} is a bag, but row {row} holds {cell!r} ({type(cell).__name__}); expected "
        f"a list, tuple, set or one-dimensional array.{hint}"
    )


def _arrow_lists(values: Any) -> Bags | None:
    """Categories of a column of Arrow lists, without touching cells; None if it is none."""
    if not isinstance(values.dtype, pd.ArrowDtype):
        return None
    import pyarrow as pa
    import pyarrow.compute as pc

    chunked = pa.chunked_array(values.__arrow_array__())
    kind = chunked.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        return None
    lengths = pc.fill_null(pc.list_value_length(chunked), 0).to_numpy().astype(np.int64)
    items = pc.list_flatten(chunked)
    return Bags(pd.array(items, dtype=pd.ArrowDtype(items.type)), lengths)


def _as_weights(weights: Any, name: str) -> NDArray[np.float64]:
    try:
        numbers = np.asarray(weights, dtype=np.float64)
    except (TypeError, ValueError):
        bad = next(w for w in weights if not isinstance(w, (int, float, np.number)))
        raise ValueError(
            f"Field {name!r} has the weight {bad!r}; expected finite numbers."
        ) from None
    if not np.isfinite(numbers).all():
        bad = numbers[~np.isfinite(numbers)][0]
        raise ValueError(f"Field {name!r} has the weight {bad}; expected finite numbers.")
    return numbers
