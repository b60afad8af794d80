"""A model's tables as one packed array for the kernels, and its rows as flat entries.

Parameters stay where a module's user looks for them: they become views of the array.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray

from ..data.array import FieldArray
from ..kernels.sgd.layout import Layout
from ..kernels.sgd.step import Entries, Fields
from ..models.contract import FieldModel
from ..schema import FieldSchema
from .rows import Batch, CSRRows, DenseRows, Rows, check_indices, check_rows

__all__ = [
    "batch_entries",
    "can_pack",
    "entries_of",
    "fields_of",
    "find_packed",
    "flat_entries",
    "pack",
]

_ONE = np.ones(1, dtype=np.float32)
_NO_STARTS = np.zeros(1, dtype=np.int64)
_FEW_COLUMNS = 8  # too few to share them out among threads evenly


class _Packed(NamedTuple):
    """A model's array, and where in memory its parameters were put as views of it."""

    layout: Layout
    table: NDArray[np.float32]
    places: list[Any]


_PACKED: WeakKeyDictionary[FieldModel, _Packed] = WeakKeyDictionary()


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
    spec = model.table_specs["embedding"]
    layout = Layout(spec.width, model.n_outputs, solver, spec.accumulators)
    if packed is not None and packed[0] == layout:
        return packed
    sparse = model.sparse_tables()
    table_size = len(model.embedding.weight)
    # Rows start at cache lines.
    line = 16
    raw = torch.zeros((table_size + 1) * layout.width + line)
    skip = (-raw.data_ptr() // raw.element_size()) % line
    table = raw[skip : skip + (table_size + 1) * layout.width].view(-1, layout.width)
    columns = {
        "embedding": slice(layout.embedding_dim),
        "linear": slice(layout.K, layout.K + layout.C),
    }
    views = {parameter: table[:-1, columns[name]] for name, parameter in sparse.items()}
    views[model.bias] = table[-1, columns["linear"]]
    for parameter, view in views.items():
        view.copy_(parameter.data)
        parameter.data = view
    places = [_place_of(parameter) for parameter in _packable(model)]
    packed = layout, table.numpy()
    _PACKED[model] = _Packed(*packed, places)
    return packed


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
    """Array that the model's tables and bias are views of, if there is one.

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
    if packed is None:
        return None
    for parameter, place in zip(_packable(model), packed.places, strict=True):
        if _place_of(parameter) != place:
            return None  # since moved, copied, cast, or replaced by its user
    return packed.layout, packed.table


def _packable(model: FieldModel) -> list[torch.nn.Parameter]:
    """Parameters that are laid out together."""
    return [*model.sparse_tables().values(), model.bias]


def _place_of(parameter: torch.Tensor) -> Any:
    """What tells whether two tensors are one stretch of memory, read in one way."""
    return parameter.data_ptr(), parameter.shape, parameter.stride()


def fields_of(model: FieldModel) -> Fields:
    """How slots make up the fields of rectangular rows.

    Parameters
    ----------
    model : FieldModel
        Whose schema says.

    Returns
    -------
    Fields
    """
    return _make_fields(model.schema, model.pair_slots, "linear" in model.reads)


@functools.lru_cache(maxsize=32)
def _make_fields(schema: FieldSchema, pair_slots: bool, has_linear: bool) -> Fields:
    if schema.has_columns:
        n = schema.n_fields
        fields = np.arange(n + 1, dtype=np.int64)
        none, mask = np.full(n, -1, dtype=np.int64), np.full(n, has_linear, dtype=np.float32)
        return Fields(n, fields, fields[:-1], none, 0, mask, int(has_linear), int(n < _FEW_COLUMNS))
    many = [slots > 1 and not pair_slots for slots in schema.slots]
    number = np.cumsum(many) - 1
    shares = len(set(schema.vocabularies)) < schema.n_fields
    linear = [has_linear and schema.linear[f] for f in schema.slot_fields]
    return Fields(
        schema.n_fields,
        np.cumsum([0, *schema.slots], dtype=np.int64),
        np.asarray(schema.slot_fields, dtype=np.int64),
        np.where(many, number, -1).astype(np.int64),
        sum(many),
        np.array(linear, dtype=np.float32),
        int(all(linear)),
        int(shares or schema.n_slots > schema.n_fields or schema.n_fields < _FEW_COLUMNS),
    )


def flat_entries(encoded: FieldArray, model: FieldModel) -> Entries:
    """Rows of equal length as flat entries.

    Parameters
    ----------
    encoded : FieldArray of shape (n_rows, n_columns)
        Encoded rows.
    model : FieldModel
        Whose fields they are.

    Returns
    -------
    Entries

    Raises
    ------
    ValueError
        If rows have other slots than the schema of the model.
    IndexError
        If an index may be no row of its tables.
    """
    indices, values = encoded.indices_and_values()
    if indices.shape[1] != model.schema.n_slots:
        raise ValueError(
            f"The model's schema has {model.schema.n_slots} slots, but rows have "
            f"{indices.shape[1]}. Encode rows and build the model by the same schema."
        )
    # Codes lie within the vocabularies of their schema, so no index reaches beyond its table.
    check_indices(0, encoded.require_schema().table_size - 1, model)
    return _rectangle(indices, values, model)


def batch_entries(batch: Batch, model: FieldModel) -> Entries:
    """Entries of a batch taken from rows that `check_rows` has seen.

    Parameters
    ----------
    batch : Batch
        Rows of all slots of the schema.
    model : FieldModel
        Whose fields they are.

    Returns
    -------
    Entries
    """
    indices, values = batch.indices.contiguous(), batch.values.contiguous()
    return _rectangle(indices.numpy(), values.numpy(), model)


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

    Raises
    ------
    ValueError or IndexError
        If `check_rows` refuses them.
    """
    check_rows(rows, model)
    if isinstance(rows, CSRRows):
        starts, columns, data = (
            tensor.contiguous().numpy() for tensor in (rows.starts, rows.columns, rows.data)
        )
        has_linear = int("linear" in model.reads)
        fields = Fields(0, _NO_STARTS, _NO_STARTS, _NO_STARTS, 0, _ONE, has_linear, 0)
        return Entries(0, starts, columns, data, 1, fields)
    assert isinstance(rows, DenseRows)
    return _rectangle(rows.indices.numpy(), rows.values.numpy(), model)


def _rectangle(
    indices: NDArray[np.integer], values: NDArray[np.float32], model: FieldModel
) -> Entries:
    constant = values.strides == (0, 0)
    data = _ONE if constant else values.reshape(-1)
    return Entries(
        indices.shape[1], _NO_STARTS, indices.reshape(-1), data, int(not constant), fields_of(model)
    )
