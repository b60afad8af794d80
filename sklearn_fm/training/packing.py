"""A model's tables as one packed array for the kernels, and its rows as flat entries.

Parameters stay where a module's user looks for them: they become views of the array.
"""

from __future__ import annotations

import functools
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray

from ..kernels.sgd.layout import Layout
from ..kernels.sgd.step import Entries, Fields
from ..models.contract import FieldModel
from ..schema import FieldSchema
from .rows import CSRRows, DenseRows, Rows

__all__ = ["can_pack", "entries_of", "find_packed", "flat_entries", "make_fields", "pack"]

_ONE = np.ones(1, dtype=np.float32)
_NO_STARTS = np.zeros(1, dtype=np.int64)
_NO_FIELDS = Fields(0, _NO_STARTS, _NO_STARTS, _NO_STARTS, 0, _ONE, 1, 0)
_FEW_COLUMNS = 8  # too few to share them out among threads evenly


#: Array of each packed model.
_PACKED: WeakKeyDictionary[FieldModel, tuple[Layout, NDArray[np.float32]]] = WeakKeyDictionary()


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
    if packed is not None and packed[0] == layout:
        return packed
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
    _PACKED[model] = layout, table.numpy()
    return _PACKED[model]


def can_pack(model: FieldModel) -> bool:
    """Whether kernels can work on a model: float32 on the CPU, and no field pooled by "max".

    Parameters
    ----------
    model : FieldModel
        Any.

    Returns
    -------
    bool
    """
    weight = model.embedding.weight
    is_float32 = weight.device.type == "cpu" and weight.dtype == torch.float32
    return is_float32 and "max" not in model.schema.poolings


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
    packed = _PACKED.get(model)
    if packed is None or model.embedding.weight.data_ptr() != packed[1].ctypes.data:
        return None  # since moved, copied or cast
    return packed


@functools.lru_cache(maxsize=32)
def make_fields(schema: FieldSchema, pair_slots: bool = False) -> Fields:
    """How slots make up the fields of a schema.

    Parameters
    ----------
    schema : FieldSchema
        Slots and vocabularies of the fields.
    pair_slots : bool, default=False
        Whether pairs are taken over slots rather than fields.

    Returns
    -------
    Fields
    """
    if schema.has_columns:
        n = schema.n_fields
        fields = np.arange(n + 1, dtype=np.int64)
        none, all_ones = np.full(n, -1, dtype=np.int64), np.ones(n, dtype=np.float32)
        return Fields(n, fields, fields[:-1], none, 0, all_ones, 1, int(n < _FEW_COLUMNS))
    many = [slots > 1 and not pair_slots for slots in schema.slots]
    number = np.cumsum(many) - 1
    shares = len(set(schema.vocabularies)) < schema.n_fields
    return Fields(
        schema.n_fields,
        np.cumsum([0, *schema.slots], dtype=np.int64),
        np.asarray(schema.slot_fields, dtype=np.int64),
        np.where(many, number, -1).astype(np.int64),
        sum(many),
        np.array([schema.linear[f] for f in schema.slot_fields], dtype=np.float32),
        int(all(schema.linear)),
        int(shares or schema.n_slots > schema.n_fields or schema.n_fields < _FEW_COLUMNS),
    )


def flat_entries(
    indices: NDArray[np.integer], values: NDArray[np.float32], model: FieldModel
) -> Entries:
    """Rows of equal length as flat entries.

    Parameters
    ----------
    indices, values : ndarray of shape (n_rows, n_slots)
        C-contiguous, or values of one number broadcast.
    model : FieldModel
        Whose fields they are.

    Returns
    -------
    Entries
    """
    constant = values.strides == (0, 0)
    data = _ONE if constant else values.reshape(-1)
    fields = make_fields(model.schema, model.pair_slots)
    return Entries(
        indices.shape[1], _NO_STARTS, indices.reshape(-1), data, int(not constant), fields
    )


def entries_of(rows: Rows, model: FieldModel) -> Entries:
    """Stored rows as flat entries, without copying them.

    Parameters
    ----------
    rows : DenseRows or CSRRows
        On the CPU.
    model : FieldModel
        Whose fields they are.

    Returns
    -------
    Entries
    """
    if isinstance(rows, CSRRows):
        starts, columns, data = (
            tensor.contiguous().numpy() for tensor in (rows.starts, rows.columns, rows.data)
        )
        return Entries(0, starts, columns, data, 1, _NO_FIELDS)
    assert isinstance(rows, DenseRows)
    return flat_entries(rows.indices.numpy(), rows.values.numpy(), model)
