"""From encoded rows to rows on a device, wherever they are stored."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from ..data.array import FieldArray
from ..data.folder import FieldFolder
from .rows import CSRRows, DenseRows, Rows

__all__ = ["make_rows"]


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
        from .folder_rows import FolderRows

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
