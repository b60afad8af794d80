"""Raw predictions of a model for many rows, and what they cost in loss.

On a CPU the sums of embeddings come from the compiled kernels, else from torch.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from ..data.array import FieldArray
from ..kernels import HAS_KERNELS
from ..models.contract import FieldModel
from .loading import make_rows
from .losses import Loss
from .rows import Batch, CSRRows, Rows, check_rows
from .threads import WORTH_THREADS, limit_threads

if TYPE_CHECKING:
    from ..kernels.sgd.layout import Layout
    from ..kernels.sgd.step import Entries

__all__ = ["pack_tables", "predict_encoded", "raw_predictions", "weighted_loss"]

# Numbers in the embeddings of a batch: 128 MB of float32 with torch, a few MB in the cache.
_TORCH_NUMBERS = 2**25
_KERNEL_NUMBERS = 2**20
_THREAD_ENTRIES = 2**17  # entries that are worth a thread


def pack_tables(model: FieldModel, solver: str = "none") -> FieldModel:
    """Lay a model's tables out for the kernels, where they can be used.

    Parameters
    ----------
    model : FieldModel
        Changed in place, unless it was packed before.
    solver : str, default="none"
        Whose state the rows shall have room for.

    Returns
    -------
    FieldModel
        The same.
    """
    if HAS_KERNELS:
        from .packing import can_pack, find_packed, pack

        if can_pack(model) and find_packed(model) is None:
            pack(model, solver)
    return model


def raw_predictions(model: FieldModel, rows: Rows, n_threads: int = 1) -> NDArray[np.floating]:
    """Raw predictions of all rows, without gradients.

    Parameters
    ----------
    model : FieldModel
        Set to evaluation mode.
    rows : Rows
        On the model's device.
    n_threads : int, default=1
        Threads for the compiled part.

    Returns
    -------
    ndarray of shape (n_rows, C)
    """
    parts = [_raw_in_memory(model, piece, n_threads) for piece in rows.pieces()]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _raw_in_memory(model: FieldModel, rows: Rows, n_threads: int) -> NDArray[np.floating]:
    check_rows(rows, model)
    # A field has no place in the entries of a sparse row.
    if HAS_KERNELS and not (isinstance(rows.storage, CSRRows) and "fields" in model.reads):
        from .packing import entries_of, find_packed

        packed = find_packed(model)
        if packed is not None:
            order = rows.locate(torch.arange(len(rows))).numpy()
            return _by_kernels(model, *packed, entries_of(rows.storage, model), order, n_threads)
    model.eval()
    numbers_per_row = max(rows.width * model.embedding.weight.shape[1], 1)
    batch_size = min(max(_TORCH_NUMBERS // numbers_per_row, 1), 8192)
    with torch.inference_mode(), _few_threads(model, len(rows)):
        parts = [model(batch.indices, batch.values) for batch in rows.in_order(batch_size)]
    raw = torch.cat(parts) if parts else model.bias.detach().new_zeros(0, model.n_outputs)
    return raw.cpu().numpy()


def predict_encoded(
    model: FieldModel, encoded: FieldArray | sparse.csr_array, n_threads: int = 1
) -> NDArray[np.floating]:
    """Raw predictions of encoded rows; as `raw_predictions`, with less ado for few rows.

    Parameters
    ----------
    model : FieldModel
        Set to evaluation mode.
    encoded : FieldArray of shape (n_rows, n_slots) or csr_array of shape (n_rows, table_size)
        Encoded rows.
    n_threads : int, default=1
        Threads for the compiled part.

    Returns
    -------
    ndarray of shape (n_rows, C)
    """
    if HAS_KERNELS and isinstance(encoded, FieldArray):
        from .packing import find_packed, flat_entries

        packed = find_packed(model)
        if packed is not None:
            entries = flat_entries(encoded, model)
            return _by_kernels(model, *packed, entries, np.arange(len(encoded)), n_threads)
    rows = make_rows(
        encoded,
        positional="fields" in model.reads,
        dtype=model.bias.dtype,
        device=model.bias.device,
    )
    return raw_predictions(model, rows, n_threads)


def _few_threads(model: FieldModel, n_rows: int) -> contextlib.AbstractContextManager[None]:
    """One thread for dense layers that are not worth more, on a CPU."""
    dense = sum(p.numel() for p in model.parameters() if p.ndim > 1)
    dense -= sum(p.numel() for p in model.sparse_tables().values())
    small = model.bias.device.type == "cpu" and n_rows * dense < WORTH_THREADS
    return limit_threads(1 if small else None, blas=False)


def _by_kernels(
    model: FieldModel,
    layout: Layout,
    table: NDArray[np.float32],
    entries: Entries,
    order: NDArray[np.int64],
    n_threads: int,
) -> NDArray[np.float32]:
    from ..kernels.sgd.predict import read
    from ..kernels.threads import Workers, make_sync, run_parts

    n_rows, K = len(order), layout.K
    width = entries.width or -(-len(entries.columns) // max(len(entries.starts) - 1, 1))
    raw = np.empty((n_rows, layout.C), dtype=np.float32)
    nothing = np.empty((0, 0), dtype=np.float32)
    if model.fused == "fm" and layout.C == 1:
        n_parts = min(n_threads, 1 + n_rows * max(width, 1) // _THREAD_ENTRIES)
        cuts = [n_rows * part // n_parts for part in range(n_parts + 1)]

        def work(part: int) -> None:
            some = cuts[part], cuts[part + 1]
            read(layout, table, entries, order, *some, raw, nothing, nothing, True)

        workers = Workers(n_parts) if n_parts > 1 else None
        run_parts(workers, n_parts, work, make_sync())
        return raw
    batch_size = min(max(_KERNEL_NUMBERS // max(width * K, 1), 1), max(n_rows, 1))
    model.eval()
    has_fields, has_pairs = "fields" in model.reads, "pairs" in model.reads
    room_shape = (batch_size, entries.fields.n_fields, K) if has_fields else (0, 0, 0)
    room = np.empty(room_shape, dtype=np.float32)
    sums = np.empty((batch_size, K) if has_pairs else (0, 0), dtype=np.float32)
    K_used = layout.embedding_dim
    for first in range(0, n_rows, batch_size):
        last = min(first + batch_size, n_rows)
        flat = room.reshape(len(room), -1) if len(room) else nothing
        read(layout, table, entries, order, first, last, raw, sums, flat, False)
        m = last - first
        pairs = torch.from_numpy(sums[:m, :K_used]) if has_pairs else None
        e = torch.from_numpy(room[:m, :, :K_used]) if has_fields else None
        with torch.inference_mode(), _few_threads(model, m):
            finished = model.finish(torch.from_numpy(raw[first:last]), pairs, e)
        raw[first:last] = finished.numpy()
    return raw


def weighted_loss(loss: Loss, raw: NDArray[np.floating], rows: Rows) -> float:
    """Weighted mean loss of raw predictions.

    Parameters
    ----------
    loss : Loss
        What is measured.
    raw : ndarray of shape (n_rows, C)
        Raw predictions.
    rows : Rows
        Their targets and weights.

    Returns
    -------
    float
    """
    nothing = torch.empty(0, 0)
    batch = Batch(nothing, nothing, rows.target.cpu(), rows.weight.cpu())
    value = loss.value(torch.from_numpy(raw), batch).double()
    weight = batch.weight.double()
    return float((value * weight).sum() / weight.sum())
