"""Rows on the device, and batches as slices of them.

No per-row Dataset and no DataLoader: a batch is one gather from whole tensors.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from ..data import FieldArray
from ..folder import FieldFolder

__all__ = ["Batch", "CSRRows", "DenseRows", "Rows", "make_rows"]


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


def make_rows(
    X: FieldArray | sparse.csr_array,
    target: NDArray[Any] | None = None,
    weight: NDArray[Any] | None = None,
    *,
    positional: bool = False,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Rows:
    """Move encoded rows to the device.

    Parameters
    ----------
    X : FieldArray or FieldFolder of (n_rows, n_columns), or csr_array of (n_rows, table_size)
        Encoded rows.
    target, weight : ndarray of shape (n_rows,), default=None
        Encoded target and sample weight; 0 and 1 when omitted.
    positional : bool, default=False
        Whether the model needs a slot for every column of a sparse matrix.
    dtype : torch.dtype, default=torch.float32
        Of values, targets and weights.
    device : torch.device or str, default="cpu"
        Where the rows shall live.

    Returns
    -------
    Rows
    """
    n_rows = X.shape[0]
    y = torch.zeros(n_rows) if target is None else torch.from_numpy(np.ascontiguousarray(target))
    if weight is None or weight.strides == (0,):
        w = torch.full((), 1.0 if weight is None or not n_rows else float(weight[0])).expand(n_rows)
    else:
        w = torch.from_numpy(np.ascontiguousarray(weight))
    y, w = y.to(dtype).to(device), w.to(dtype).to(device)  # some devices lack float64
    if isinstance(X, FieldFolder):
        from .streaming import FolderRows

        return FolderRows(X, y, w)
    if isinstance(X, FieldArray):
        indices, values = X.to_torch(device)
        return DenseRows(indices, values.to(dtype), y, w.contiguous())
    index_dtype = np.int32 if X.shape[1] < 2**31 else np.int64
    return CSRRows(
        torch.from_numpy(X.indptr.astype(np.int64)).to(device),
        torch.from_numpy(X.indices.astype(index_dtype)).to(device),
        torch.from_numpy(np.array(X.data)).to(dtype).to(device),
        y,
        w.contiguous(),
        n_columns=X.shape[1],
        spread=positional,
    )
