"""What all blocks of a prior do together: steps and stretches; and sums over blocks made anew.

Blocks one by one are the business of ``blocks``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from ..compile import COMPILE
from ..simd import fill, load, multiply_add, pointer, store, total
from .sweep import AHEAD, add_four, apply, fetch, move, pool, take_entry

__all__ = ["add_moves", "move_all", "sum_up"]


@njit(**COMPILE)
def add_moves(
    layout: Any,
    blocks: Any,
    table_: Any,
    state_: Any,
    stretches: bool,
    first: int,
    last: int,
    statistics_: Any,
    work_: Any,
) -> None:
    """Sum the statistics of a step that blocks take together, over all of their entries.

    Parameters
    ----------
    layout : BlockLayout
        Where numbers stand.
    blocks : Blocks
        The blocks.
    table_, state_ : ndarray of float64
        As in `sweep`.
    stretches : bool
        Whether each coordinate of the blocks is multiplied by a number, rather than added to.
    first, last : int
        Blocks, which share no row.
    statistics_ : ndarray of float64 of shape (K + 2, width)
        Receives sum of p x x', lower triangle, where x is the derivative of the raw prediction
        by the step, followed by the residual.
    work_ : ndarray of float64 of shape (`work_size`,)
        Room.
    """
    K, width = layout.K, layout.width
    table, state, P = pointer(table_), pointer(state_), pointer(statistics_)
    X, q = pointer(work_), pointer(work_[4 * width :])
    rows, values, have_values = pointer(blocks.rows), pointer(blocks.values), len(blocks.values)
    linear_values, same = pointer(blocks.linear_values), len(blocks.linear_values) == 0
    starts = pointer(blocks.starts)
    zero = fill(layout, 0.0)
    for k in range(0, (K + 2) * width, layout.lanes):
        store(P, k, zero)
    end = starts[last]
    j = 0
    for block in range(first, last):
        own = block * (K + 1)
        for entry in range(starts[block], starts[block + 1]):
            row = np.int64(rows[entry])
            if entry + AHEAD < end:
                fetch(layout, state, rows[entry + AHEAD])
            x = values[entry] if have_values else 1.0
            x_linear = x if same else linear_values[entry]
            at = j * width
            take_entry(layout, state, row, x, table, own, x, x_linear, X, at)
            if stretches:
                for k in range(0, K, layout.lanes):
                    store(X, at + k, load(layout, X, at + k) * load(layout, table, own + k))
                X[at + K] *= table[own + K]
            q[j] = state[row * (K + 2) + K + 1]
            j += 1
            if j == 4:
                add_four(layout, P, X, q)
                j = 0
    for rest in range(j, 4):
        q[rest] = 0.0
        for k in range(0, width, layout.lanes):
            store(X, rest * width + k, zero)
    if j:
        add_four(layout, P, X, q)


@njit(**COMPILE)
def move_all(
    layout: Any,
    blocks: Any,
    table_: Any,
    state_: Any,
    stretches: bool,
    step: Any,
    first: int,
    last: int,
    work_: Any,
) -> None:
    """Move blocks by one step: add it to them, or multiply them by it.

    Parameters
    ----------
    layout, blocks, table_, state_, stretches, first, last, work_
        As in `add_moves`.
    step : ndarray of float64 of shape (width,)
        What to add or to multiply by, in the places of [v | w].
    """
    K = layout.K
    table, state, delta = pointer(table_), pointer(state_), pointer(work_)
    starts = pointer(blocks.starts)
    for block in range(first, last):
        for k in range(K + 1):
            delta[k] = (step[k] - 1) * table[block * (K + 1) + k] if stretches else step[k]
        start, end = starts[block], starts[block + 1]
        apply(layout, blocks, state, table, table, block, start, end, delta, False)
        move(layout, table, block, delta)


@njit(**COMPILE)
def sum_up(layout: Any, blocks: Any, table_: Any, state_: Any, pooled_: Any, raw_: Any) -> None:
    """Write the sums of embeddings into the row states, and raw predictions without the bias.

    raw = linear term + (|S|^2 - sum of |e|^2 over the embeddings e that S sums) / 2

    Parameters
    ----------
    layout : BlockLayout
        Where numbers stand.
    blocks : Blocks
        The blocks.
    table_, state_, pooled_ : ndarray of float64
        As in `sweep`.
    raw_ : ndarray of float64 of shape (n_rows,)
        Receives the raw predictions.
    """
    K = layout.K
    table, state, pooled, raw = pointer(table_), pointer(state_), pointer(pooled_), pointer(raw_)
    rows, values, have_values = pointer(blocks.rows), pointer(blocks.values), len(blocks.values)
    linear_values, same = pointer(blocks.linear_values), len(blocks.linear_values) == 0
    pools, starts = pointer(blocks.pools), pointer(blocks.starts)
    for r in range(len(state_)):
        raw[r] = 0.0
        for k in range(K):
            state[r * (K + 2) + k] = 0.0
    for g in range(len(blocks.groups)):
        first, last = blocks.groups[g, 0], blocks.groups[g, 1]
        if blocks.pooled[g]:
            pool(layout, blocks, table, pooled, first, last)
        for block in range(first, last):
            own = block * (K + 1)
            for entry in range(starts[block], starts[block + 1]):
                row = np.int64(rows[entry])
                x = values[entry] if have_values else 1.0
                x_linear = x if same else linear_values[entry]
                x_all, twice = fill(layout, x), fill(layout, 0.0)
                for k in range(0, K, layout.lanes):
                    at = row * (K + 2) + k
                    v = x_all * load(layout, table, own + k)
                    S = load(layout, state, at)
                    if blocks.pooled[g]:
                        twice = multiply_add(v, load(layout, pooled, pools[entry] * K + k), twice)
                    else:
                        twice = multiply_add(v, v, twice)
                    store(state, at, S + v)
                raw[row] += x_linear * table[own + K] - total(twice) / 2
    for r in range(len(state_)):
        square = fill(layout, 0.0)
        for k in range(0, K, layout.lanes):
            S = load(layout, state, r * (K + 2) + k)
            square = multiply_add(S, S, square)
        raw[r] += total(square) / 2
