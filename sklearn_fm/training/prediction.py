"""Raw predictions of a model for many rows, and what they cost in loss.

On a CPU the sums of embeddings come from the compiled kernels, else from torch.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from ..models.base import FieldModel
from .batching import Rows
from .losses import Loss
from .threads import HAS_KERNELS, limit_threads

if TYPE_CHECKING:
    from ..kernels.layout import Layout

__all__ = ["pack_tables", "raw_predictions", "weighted_loss"]

# Numbers in the embeddings of a batch: 128 MB of float32 with torch, a few MB in the cache.
_TORCH_NUMBERS = 2**25
_KERNEL_NUMBERS = 2**20
_THREAD_ENTRIES = 2**17  # entries that are worth a thread
_WORTH_THREADS = 1e8  # multiply-adds of the dense layers that are


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
    model.eval()
    dense = sum(p.numel() for p in model.parameters())
    dense -= sum(p.numel() for p in model.sparse_tables().values())
    small = model.bias.device.type == "cpu" and len(rows) * dense < _WORTH_THREADS
    with torch.inference_mode(), limit_threads(1 if small else None):
        packed = None
        if HAS_KERNELS and not rows.storage.spread:
            from .packing import find_packed

            packed = find_packed(model)
        if packed is not None:
            return _by_kernels(model, rows, *packed, n_threads)
        numbers_per_row = max(rows.width * model.embedding.weight.shape[1], 1)
        batch_size = min(max(_TORCH_NUMBERS // numbers_per_row, 1), 8192)
        parts = [model(batch.indices, batch.values) for batch in rows.in_order(batch_size)]
        raw = torch.cat(parts) if parts else model.bias.new_zeros(0, model.n_outputs)
        return raw.cpu().numpy()


def _by_kernels(
    model: FieldModel,
    rows: Rows,
    layout: Layout,
    table: NDArray[np.float32],
    n_threads: int,
) -> NDArray[np.float32]:
    from ..kernels.predict import read
    from .packing import entries_of

    n_rows, K = len(rows), layout.K
    entries = entries_of(rows.storage)
    order = rows.locate(torch.arange(n_rows)).numpy()
    raw = np.empty((n_rows, layout.C), dtype=np.float32)
    nothing = np.empty((0, 0), dtype=np.float32)
    if layout.C == 1 and not model.uses_embeddings:
        whole = model.uses_pairs
        n_parts = min(n_threads, 1 + n_rows * max(rows.width, 1) // _THREAD_ENTRIES)
        cuts = [n_rows * part // n_parts for part in range(n_parts + 1)]

        def work(part: int) -> None:
            some = cuts[part], cuts[part + 1]
            read(layout, table, entries, order, *some, raw, nothing, nothing, whole)

        if n_parts == 1:
            work(0)
        else:
            with ThreadPoolExecutor(n_parts) as pool:
                list(pool.map(work, range(n_parts)))
        return raw
    batch_size = min(max(_KERNEL_NUMBERS // max(rows.width * K, 1), 1), max(n_rows, 1))
    room_shape = (batch_size, entries.width, K) if model.uses_embeddings else (0, 0, 0)
    room = np.empty(room_shape, dtype=np.float32)
    sums = np.empty((batch_size, K) if model.uses_pairs else (0, 0), dtype=np.float32)
    for first in range(0, n_rows, batch_size):
        last = min(first + batch_size, n_rows)
        flat = room.reshape(len(room), -1) if len(room) else nothing
        read(layout, table, entries, order, first, last, raw, sums, flat, False)
        m, width = last - first, layout.embedding_dim
        pairs = torch.from_numpy(sums[:m, :width]) if model.uses_pairs else None
        e = torch.from_numpy(room[:m, :, :width]) if model.uses_embeddings else None
        raw[first:last] = model.combine(torch.from_numpy(raw[first:last]), pairs, e).numpy()
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
    value = loss.value(torch.from_numpy(raw), rows.target.cpu()).double()
    weight = rows.weight.cpu().double()
    return float((value * weight).sum() / weight.sum())
