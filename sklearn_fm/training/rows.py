"""Rows on the device, and batches as slices of them.

No per-row Dataset and no DataLoader: a batch is one gather from whole tensors.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from ..models.contract import FieldModel

__all__ = ["Batch", "CSRRows", "DenseRows", "Rows", "check_indices", "check_rows"]


class Batch(NamedTuple):
    """Rows as a training step takes them."""

    indices: Tensor  # (B, S)
    values: Tensor  # (B, S)
    target: Tensor  # (B,)
    weight: Tensor  # (B,)


class Rows:
    """Encoded rows with targets and weights, all on one device.

    Parameters
    ----------
    target, weight : Tensor of shape (n_rows,)
        Encoded target and sample weight.
    """

    #: Whether every row gets a slot for each column.
    spread = False

    def __init__(self, target: Tensor, weight: Tensor) -> None:
        self.target = target
        self.weight = weight

    @property
    def storage(self) -> Rows:
        """The rows that hold the features; themselves unless they are picked out of others."""
        return self

    def locate(self, rows: Tensor) -> Tensor:
        """Positions in the storage."""
        return rows

    def __len__(self) -> int:
        return len(self.target)

    @property
    def width(self) -> int:
        """Slots of the widest batch."""
        raise NotImplementedError

    @property
    def index_range(self) -> tuple[int, int]:
        """Smallest and largest index; 0 and -1 without any."""
        raise NotImplementedError

    def features(self, rows: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Indices and values of some rows, both (B, S)."""
        raise NotImplementedError

    def take(self, rows: Tensor | slice) -> Batch:
        """Some rows as a batch."""
        return Batch(*self.features(rows), self.target[rows], self.weight[rows])

    @property
    def n_units(self) -> int:
        """Number of what `subset` selects from: rows, unless these are kept in blocks."""
        return len(self)

    def n_batches(self, batch_size: int) -> int:
        """Batches of an epoch, or a few more."""
        return -(-len(self) // batch_size)

    def parts(self, generator: torch.Generator) -> Iterator[tuple[Rows, Tensor]]:
        """Rows that are in memory, with the order to visit them; all parts are an epoch."""
        yield self, self.shuffled(generator)

    def pieces(self) -> Iterator[Rows]:
        """Rows that are in memory; all pieces are all rows as they come."""
        yield self

    def head(self, n_rows: int) -> Rows:
        """The first rows."""
        return self.subset(torch.arange(min(len(self), n_rows), device=self.target.device))

    def shuffled(self, generator: torch.Generator) -> Tensor:
        """Positions of all rows in random order."""
        return torch.randperm(len(self), generator=generator).to(self.target.device)

    def in_order(self, batch_size: int) -> Iterator[Batch]:
        """All rows once, as they come, in batches."""
        for start in range(0, len(self), batch_size):
            yield self.take(slice(start, start + batch_size))

    def subset(self, selection: Tensor) -> Rows:
        """Some of the rows, sharing their storage."""
        return _Subset(self, selection)


class _Subset(Rows):
    """Rows picked out of others by position, without copying their features."""

    def __init__(self, rows: Rows, selection: Tensor) -> None:
        super().__init__(rows.target[selection], rows.weight[selection])
        self.rows = rows
        self.selection = selection

    @property
    def storage(self) -> Rows:
        """What these were picked out of in the end."""
        return self.rows.storage

    def locate(self, rows: Tensor) -> Tensor:
        """Positions in the storage."""
        return self.rows.locate(self.selection[rows])

    @property
    def width(self) -> int:
        """Slots of the widest batch."""
        return self.rows.width

    @property
    def index_range(self) -> tuple[int, int]:
        """That of the storage."""
        return self.storage.index_range

    def features(self, rows: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Indices and values of some rows."""
        return self.rows.features(self.selection[rows])


class DenseRows(Rows):
    """Rows of equal length.

    Parameters
    ----------
    indices, values : Tensor of shape (n_rows, n_slots)
        Rows of the table and multipliers.
    target, weight : Tensor of shape (n_rows,)
        Encoded target and sample weight.
    """

    def __init__(self, indices: Tensor, values: Tensor, target: Tensor, weight: Tensor) -> None:
        super().__init__(target, weight)
        self.indices = indices
        self.values = values

    @property
    def width(self) -> int:
        """Slots of a row."""
        return self.indices.shape[1]

    @cached_property
    def index_range(self) -> tuple[int, int]:
        """Smallest and largest index; 0 and -1 without any."""
        return _range_of(self.indices)

    def features(self, rows: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Indices and values of some rows."""
        return self.indices[rows], self.values[rows]


class CSRRows(Rows):
    """Rows of different lengths: entry j of a row is index column[j], value data[j].

    A batch is padded to its longest row by slots of index 0 and value 0, or, for models
    that need each field at its place, spread out to all columns.

    Parameters
    ----------
    starts : Tensor of shape (n_rows + 1,)
        Where each row begins.
    columns, data : Tensor of shape (n_entries,)
        Index and value of the stored entries.
    target, weight : Tensor of shape (n_rows,)
        Encoded target and sample weight.
    n_columns : int
        Width of the matrix.
    spread : bool
        Whether every row gets a slot for each column.
    """

    def __init__(
        self,
        starts: Tensor,
        columns: Tensor,
        data: Tensor,
        target: Tensor,
        weight: Tensor,
        *,
        n_columns: int,
        spread: bool,
    ) -> None:
        super().__init__(target, weight)
        self.starts = starts
        self.columns = columns
        self.data = data
        self.n_columns = n_columns
        self.spread = spread

    @property
    def width(self) -> int:
        """Columns of the matrix when spread, else entries of the longest row."""
        if self.spread:
            return self.n_columns
        lengths = self.starts.diff()
        return int(lengths.max()) if len(lengths) else 0

    @cached_property
    def index_range(self) -> tuple[int, int]:
        """Smallest and largest index; 0 and -1 without any."""
        low, high = _range_of(self.columns)
        return (min(low, 0), max(high, self.n_columns - 1)) if self.spread else (low, high)

    def features(self, rows: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Indices and values of some rows, padded or spread."""
        first = self.starts[:-1][rows]
        lengths = self.starts[1:][rows] - first
        row = torch.repeat_interleave(torch.arange(len(first), device=first.device), lengths)
        before = torch.cumsum(lengths, 0) - lengths
        position = torch.arange(len(row), device=row.device) - before[row]
        entry = first[row] + position
        columns, data = self.columns[entry], self.data[entry]
        if self.spread:
            indices = torch.arange(self.n_columns, dtype=columns.dtype, device=columns.device)
            values = data.new_zeros(len(first), self.n_columns)
            values[row, columns.long()] = data
            return indices.expand(len(first), -1), values
        width = int(lengths.max()) if len(lengths) else 0
        indices = columns.new_zeros(len(first), width)
        values = data.new_zeros(len(first), width)
        indices[row, position] = columns
        values[row, position] = data
        return indices, values


def check_rows(rows: Rows, model: FieldModel) -> None:
    """Refuse rows that a model cannot read: kernels take indices and slots on trust.

    Parameters
    ----------
    rows : Rows
        In memory; indices are looked at once per storage.
    model : FieldModel
        Which is to read them.

    Raises
    ------
    ValueError
        If the slots of the rows are not those of the model's schema, though they must be.
    IndexError
        If an index is no row of the model's tables.
    """
    storage, schema = rows.storage, model.schema
    if isinstance(storage, CSRRows) and not storage.spread:
        if "fields" in model.reads:
            raise ValueError(
                f"{type(model).__name__} reads each field at its place, but sparse rows are padded "
                "to any length. Make them with make_rows(..., positional=True)."
            )
    elif storage.width != schema.n_slots:
        raise ValueError(
            f"{type(model).__name__} has a schema of {schema.n_slots} slots, but rows have "
            f"{storage.width}. Encode rows and build the model by the same schema."
        )
    check_indices(*storage.index_range, model)


def check_indices(low: int, high: int, model: FieldModel) -> None:
    """Refuse indices outside of a model's tables.

    Parameters
    ----------
    low, high : int
        Smallest and largest index.
    model : FieldModel
        With tables of schema.table_size rows.

    Raises
    ------
    IndexError
        If either is no row of them.
    """
    n_rows = len(model.embedding.weight)
    if low < 0 or high >= n_rows:
        raise IndexError(
            f"Indices from {low} to {high} do not fit the {n_rows} rows of the model's tables, 0 "
            f"to {n_rows - 1}. Encode rows and build the model by the same schema."
        )


def _range_of(indices: Tensor) -> tuple[int, int]:
    if not indices.numel():
        return 0, -1
    low, high = torch.aminmax(indices)
    return int(low), int(high)
