"""Rows of blocks that add up to the embedding of a field, such as those of a bag.

Two of them may meet in a row and do not interact there, so the embeddings that they add up to are
kept apart, and rows are brought up to date after each block. Other rows catch up later: see `rows`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from ..compile import PART
from ..simd import fill, load, multiply_add, pointer, prefetch, store, total
from .rows import AHEAD, follow

__all__ = ["apply_pooled", "catch_up", "gather_pooled"]


@njit(**PART)
def catch_up(layout: Any, blocks: Any, state: Any, first: int, last: int) -> None:
    """Let the rows of entries catch up with blocks of groups before."""
    rows, before = pointer(blocks.rows), pointer(blocks.before)
    values, linear_values = pointer(blocks.values_before), pointer(blocks.linear_before)
    have_values = len(blocks.values) > 0
    for entry in range(first, last):
        row, block = np.int64(rows[entry]), np.int64(before[entry])
        if block < 0:
            continue
        x = values[entry] if have_values else 1.0
        x_w = linear_values[entry] if have_values else 1.0
        follow(layout, state, row, block, x, x_w)


@njit(**PART)
def gather_pooled(
    layout: Any, blocks: Any, state: Any, first: int, n: int, end: int, X: Any
) -> tuple[float, float]:
    """Write the feature rows of n entries, as `rows.gather` does."""
    K, R = layout.K, layout.row
    rows, pools = pointer(blocks.rows), pointer(blocks.pools)
    values, linear_values = pointer(blocks.values), pointer(blocks.linear_values)
    have_values = len(blocks.values) > 0
    sums, residuals, pooled = pointer(state.sums), pointer(state.residuals), pointer(state.pooled)
    ww, we = 0.0, 0.0
    for i in range(n):
        entry = first + i
        if entry + AHEAD < end:
            for k in range(0, K, 16):
                prefetch(sums, np.int64(rows[entry + AHEAD]) * K + k)
                prefetch(pooled, pools[entry + AHEAD] * K + k)
        row, at = np.int64(rows[entry]), i * R
        precise = residuals[2 * row + 1]
        x = values[entry] if have_values else 1.0
        x_w = (linear_values[entry] if have_values else 1.0) * precise
        factor = fill(layout, x * precise)
        for k in range(0, K, layout.lanes):
            others = load(layout, sums, row * K + k) - load(layout, pooled, pools[entry] * K + k)
            store(X, at + k, factor * others)
        X[at + K] = x_w
        X[at + K + 1] = residuals[2 * row] * precise
        ww += x_w * x_w
        we += x_w * (residuals[2 * row] * precise)
    return ww, we


@njit(**PART)
def apply_pooled(layout: Any, blocks: Any, state: Any, block: int, first: int, last: int) -> None:
    """Bring rows and embeddings up to date with the move of a block."""
    K = layout.K
    rows, pools = pointer(blocks.rows), pointer(blocks.pools)
    values, linear_values = pointer(blocks.values), pointer(blocks.linear_values)
    have_values = len(blocks.values) > 0
    sums, residuals, pooled = pointer(state.sums), pointer(state.residuals), pointer(state.pooled)
    moves, way = pointer(state.moves), state.gaps[block, 1]
    for entry in range(first, last):
        row, at = np.int64(rows[entry]), pools[entry] * K
        x = values[entry] if have_values else 1.0
        x_w = linear_values[entry] if have_values else 1.0
        x_all, change = fill(layout, x), fill(layout, 0.0)
        for k in range(0, K, layout.lanes):
            S, d = load(layout, sums, row * K + k), load(layout, moves, block * K + k)
            E = load(layout, pooled, at + k)
            change = multiply_add(S - E, d, change)
            store(sums, row * K + k, multiply_add(x_all, d, S))
            store(pooled, at + k, multiply_add(x_all, d, E))
        residuals[2 * row] -= x * total(change) + x_w * way
