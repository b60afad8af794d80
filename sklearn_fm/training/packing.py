"""A model's tables as one packed array for the kernels, and its rows as flat entries.

Parameters stay where a module's user looks for them: they become views of the array.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from ..kernels.layout import RULES, Layout
from ..kernels.step import Rows as Entries
from ..models.base import FieldModel
from .batching import CSRRows, DenseRows, Rows

__all__ = ["can_pack", "entries_of", "find_packed", "pack"]


def pack(model: FieldModel, solver: str = "none") -> tuple[Layout, NDArray[np.float32]]:
    """Lay the tables and the bias of a model out as kernels want them.

    Parameters
    ----------
    model : FieldModel
        On the CPU, of float32. Its parameters become views of the array.
    solver : str, default="none"
        Rule whose state the rows shall have room for.

    Returns
    -------
    layout : Layout
        Of a row.
    table : ndarray of shape (table_size + 1, layout.width)
        The array, zero beside the weights unless it was packed before; the last row is the bias.
    """
    packed = find_packed(model)
    layout = Layout(model.embedding.weight.shape[1], model.n_outputs, solver)
    if packed is not None and packed[0].width == layout.width:
        return layout, packed[1]
    table_size = len(model.embedding.weight)
    # Rows start at cache lines.
    line = 16
    raw = torch.zeros((table_size + 1) * layout.width + line)
    skip = (-raw.data_ptr() // raw.element_size()) % line
    table = raw[skip : skip + (table_size + 1) * layout.width].view(-1, layout.width)
    views = {
        model.embedding.weight: table[:-1, : layout.embedding_dim],
        model.linear.weight: table[:-1, layout.K : layout.K + layout.C],
        model.bias: table[-1, layout.K : layout.K + layout.C],
    }
    for parameter, view in views.items():
        view.copy_(parameter.data)
        parameter.data = view
    return layout, table.numpy()


def can_pack(model: FieldModel) -> bool:
    """Whether kernels can work on a model: float32 on the CPU.

    Parameters
    ----------
    model : FieldModel
        Any.

    Returns
    -------
    bool
    """
    weight = model.embedding.weight
    return weight.device.type == "cpu" and weight.dtype == torch.float32


def find_packed(model: FieldModel) -> tuple[Layout, NDArray[np.float32]] | None:
    """Array that the model's parameters are views of, if there is one.

    Parameters
    ----------
    model : FieldModel
        Any.

    Returns
    -------
    tuple of (Layout, ndarray) or None
        As `pack` gives them.
    """
    v, w, bias = model.embedding.weight.data, model.linear.weight.data, model.bias.data
    if not can_pack(model) or v.stride(1) != 1:
        return None
    width, size = v.stride(0), v.element_size()
    for solver in RULES:
        layout = Layout(v.shape[1], model.n_outputs, solver)
        if layout.width != width or not len(v):
            continue
        w_at = v.data_ptr() + layout.K * size
        bias_at = w_at + len(v) * width * size
        if w.data_ptr() == w_at and bias.data_ptr() == bias_at and w.stride() == (width, 1):
            return layout, torch.as_strided(v, (len(v) + 1, width), (width, 1)).numpy()
    return None


def entries_of(rows: Rows) -> Entries:
    """Stored rows as flat entries, without copying them.

    Parameters
    ----------
    rows : DenseRows or CSRRows
        On the CPU.

    Returns
    -------
    Entries
    """
    if isinstance(rows, CSRRows):
        starts, columns = rows.starts.numpy(), rows.columns.numpy()
        return Entries(0, starts, columns, _flat(rows.data), 1)
    assert isinstance(rows, DenseRows)
    constant = rows.values.stride() == (0, 0) and rows.values.numel() > 0
    data = rows.values[0, :1] if constant else rows.values.reshape(-1)
    width = rows.indices.shape[1]
    columns = rows.indices.reshape(-1).numpy()
    return Entries(width, np.zeros(1, dtype=np.int64), columns, _flat(data), int(not constant))


def _flat(values: torch.Tensor) -> NDArray[np.float32]:
    return values.contiguous().numpy()
