"""Reading a settled table: what raw predictions need of each row, without a batch's bookkeeping."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from ..compile import COMPILE
from ..simd import fill, load, pointer, prefetch, store, total
from .step import Entries, linear_value, row_pointers, start_of

__all__ = ["read"]

_ZERO, _HALF = np.float32(0), np.float32(0.5)
_LINE = 16


@njit(**COMPILE)
def read(
    L: Any,
    table: Any,
    rows: Entries,
    order: Any,
    first: int,
    last: int,
    linear: Any,
    pairs: Any,
    e: Any,
    add_pairs: bool,
) -> None:
    """Bias plus linear term, pairwise sums and embeddings of some rows.

    Parameters
    ----------
    L : Layout
        Of the table.
    table : ndarray of shape (table_size + 1, L.width)
        The last row is the bias.
    rows : Entries
        All rows.
    order : ndarray of int64
        Positions of the rows wanted.
    first, last : int
        The part of `order` to do.
    linear : ndarray of shape (len(order), C)
        Receives bias plus linear term.
    pairs : ndarray of shape (last - first, K) or (0, 0)
        Receives the pairwise sums, if it has room.
    e : ndarray of shape (last - first, F * K) or (0, 0)
        Receives the embeddings of the fields, if it has room; rows must then be rectangular.
    add_pairs : bool
        Whether to add the total of the pairwise sums to `linear`.
    """
    weights, bias = pointer(table), (len(table) - 1) * L.width
    out, out_pairs, out_e = pointer(linear), pointer(pairs), pointer(e)
    entries, has_pairs, has_e = row_pointers(rows), len(pairs) > 0, len(e) > 0
    columns, data, stride, fields = entries.columns, entries.data, entries.stride, entries.fields
    for b in range(first, last):
        if b + 1 < last:
            for j in range(start_of(entries, order[b + 1]), start_of(entries, order[b + 1] + 1)):
                for k in range(0, L.K + L.C, _LINE):
                    prefetch(weights, np.int64(columns[j]) * L.width + k)
        start, end = start_of(entries, order[b]), start_of(entries, order[b] + 1)
        for c in range(L.C):
            z = weights[bias + L.K + c]
            for j in range(start, end):
                x = linear_value(entries, data[j * stride], j - start)
                z += x * weights[np.int64(columns[j]) * L.width + L.K + c]
            out[b * L.C + c] = z
        if not (add_pairs or has_pairs):
            for f in range(fields.n_fields if has_e else 0):
                for k in range(0, L.K, L.lanes):
                    field = fill(L, _ZERO)
                    for j in range(start + fields.starts[f], start + fields.starts[f + 1]):
                        v = load(L, weights, np.int64(columns[j]) * L.width + k)
                        field = field + fill(L, data[j * stride]) * v
                    store(out_e, ((b - first) * fields.n_fields + f) * L.K + k, field)
            continue
        has_fields = fields.n_fields < entries.width
        for k in range(0, L.K, L.lanes):
            sums = fill(L, _ZERO)
            squares = fill(L, _ZERO)
            for f in range(fields.n_fields if has_fields else 0):
                field = fill(L, _ZERO)
                own_squares = fill(L, _ZERO)
                for j in range(start + fields.starts[f], start + fields.starts[f + 1]):
                    v = load(L, weights, np.int64(columns[j]) * L.width + k)
                    xv = fill(L, data[j * stride]) * v
                    field = field + xv
                    own_squares = own_squares + xv * xv
                if fields.pooled[f] >= 0:
                    own_squares = field * field
                sums = sums + field
                squares = squares + own_squares
                if has_e:
                    store(out_e, ((b - first) * fields.n_fields + f) * L.K + k, field)
            for j in range(start, start if has_fields else end):
                v = load(L, weights, np.int64(columns[j]) * L.width + k)
                xv = fill(L, data[j * stride]) * v
                sums = sums + xv
                squares = squares + xv * xv
                if has_e:
                    store(out_e, ((b - first) * entries.width + j - start) * L.K + k, xv)
            pairwise = fill(L, _HALF) * (sums * sums - squares)
            if has_pairs:
                store(out_pairs, (b - first) * L.K + k, pairwise)
            if add_pairs:
                out[b * L.C] += total(pairwise)
