"""The state of a sweep: what each row sums up, and how it catches up with blocks that moved.

A raw prediction is linear in the block of one index. A block's move reaches a row when it is next
visited, for the block of the row's next entry: so an entry costs one visit.
How blocks come to move is of no concern here.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ..compile import COMPILE, INLINE, PART
from ..simd import beyond, fill, load, multiply_add, pointer, prefetch, store, total

__all__ = ["AHEAD", "Blocks", "State", "follow", "gather", "retarget", "set_block"]
__all__ += ["settle", "sum_up"]

#: Entries from now whose rows are asked for.
AHEAD = 24


class Blocks(NamedTuple):
    """Which entries make each block, and in which order blocks are updated.

    Attributes
    ----------
    starts : ndarray of int64 of shape (n_blocks + 1,)
        First entry of each block.
    rows : ndarray of int32 of shape (n_entries,)
        Row of each entry.
    values, linear_values : ndarray of shape (n_entries,) or (0,)
        Multipliers of each entry's vector and weight; both empty if all are 1.
    before : ndarray of int32 of shape (n_entries,)
        Block whose move the row of an entry has yet to catch up with, or -1: that of the row's
        entry before.
    values_before, linear_before : ndarray of shape (n_entries,) or (0,)
        Multipliers of that entry.
    last : ndarray of int32 of shape (n_rows,)
        Block whose move each row has yet to catch up with after all entries, or -1.
    values_last, linear_last : ndarray of shape (n_rows,) or (0,)
        Multipliers of that entry.
    pools : ndarray of int64 of shape (n_entries,) or (0,)
        Which embedding of a field each entry is part of, in pooled groups.
    prior_of : ndarray of int32 of shape (n_blocks,)
        Prior of each block.
    groups : ndarray of int64 of shape (n_groups, 2)
        First chunk, and the one behind the last. Blocks of a group share no row, unless they are
        all in one chunk.
    pooled : ndarray of bool of shape (n_groups,)
        Whether blocks add up to embeddings of fields in the rows that they share, which are kept
        apart while the group is updated.
    chunks : ndarray of int64 of shape (n_chunks, 4)
        First block and the one behind the last, first entry and the one behind the last; a chunk of
        several is all of its blocks', one of a single block may be a piece of it. Pieces of a block
        stand together.
    """

    starts: NDArray[np.int64]
    rows: NDArray[np.int32]
    values: NDArray[np.floating]
    linear_values: NDArray[np.floating]
    before: NDArray[np.int32]
    values_before: NDArray[np.floating]
    linear_before: NDArray[np.floating]
    last: NDArray[np.int32]
    values_last: NDArray[np.floating]
    linear_last: NDArray[np.floating]
    pools: NDArray[np.int64]
    prior_of: NDArray[np.int32]
    groups: NDArray[np.int64]
    pooled: NDArray[np.bool_]
    chunks: NDArray[np.int64]


class State(NamedTuple):
    """Blocks and rows.

    Attributes
    ----------
    vectors : ndarray of shape (n_blocks, K)
        v.
    weights : ndarray of shape (n_blocks,)
        w.
    moves : ndarray of shape (n_blocks, K)
        Way that each vector last went.
    gaps : ndarray of shape (n_blocks, 2)
        Product of that way and the vector before it, and the way that the weight went.
    sums : ndarray of shape (n_rows, K)
        Sum of the embeddings of a row's fields, S.
    residuals : ndarray of shape (n_rows, 2)
        Target less raw prediction, and the root of its precision.
    pooled : ndarray of shape (n_pools, K)
        Room for the embeddings of fields in a pooled group.
    """

    vectors: NDArray[np.floating]
    weights: NDArray[np.floating]
    moves: NDArray[np.floating]
    gaps: NDArray[np.floating]
    sums: NDArray[np.floating]
    residuals: NDArray[np.floating]
    pooled: NDArray[np.floating]


@njit(**INLINE)
def gather(
    layout: Any, blocks: Any, state: Any, own: Any, first: int, n: int, end: int, X: Any
) -> tuple[float, float]:
    """Let the rows of n entries catch up, and write their feature rows, times the root of their
    precisions, into X.

    A feature row is [x (S - x v) | x_w, e]. Returns the sums of x_w^2 and of x_w e.

    Parameters
    ----------
    own : pointer
        The block's vector v.
    end : int
        Entry that none is to be asked for from.
    """
    K, lanes, R = layout.K, layout.lanes, layout.row
    rows, before = pointer(blocks.rows), pointer(blocks.before)
    values, linear_values = pointer(blocks.values), pointer(blocks.linear_values)
    values_before, linear_before = pointer(blocks.values_before), pointer(blocks.linear_before)
    have_values = len(blocks.values) > 0
    sums, residuals = pointer(state.sums), pointer(state.residuals)
    moves, gaps = pointer(state.moves), pointer(state.gaps)
    ww, we = 0.0, 0.0
    for i in range(n):
        entry = first + i
        if entry + AHEAD < end:
            soon = np.int64(rows[entry + AHEAD])
            prefetch(residuals, soon * 2)
            block = np.int64(before[entry + AHEAD])
            for k in range(0, K, 16):
                prefetch(sums, soon * K + k)
                if block >= 0:
                    prefetch(moves, block * K + k)
        row, block = np.int64(rows[entry]), np.int64(before[entry])
        base, at = row * K, i * R
        precise = residuals[2 * row + 1]
        if have_values:
            x, x_w = values[entry], linear_values[entry]
            x_all, factor = fill(layout, x), fill(layout, x * precise)
            feature_w = x_w * precise
        else:
            x_all, factor = fill(layout, 1.0), fill(layout, precise)
            feature_w = precise
        e = residuals[2 * row]
        if block >= 0:
            y_all, change = fill(layout, 1.0), fill(layout, 0.0)
            if have_values:
                y_all = fill(layout, values_before[entry])
            for k in range(0, K, lanes):
                S, d = load(layout, sums, base + k), load(layout, moves, block * K + k)
                change = multiply_add(S, d, change)
                S = multiply_add(y_all, d, S)
                store(sums, base + k, S)
                store(X, at + k, factor * (S - x_all * load(layout, own, k)))
            if have_values:
                y = values_before[entry]
                e -= y * (total(change) - y * gaps[2 * block])
                e -= linear_before[entry] * gaps[2 * block + 1]
            else:
                e -= total(change) - gaps[2 * block] + gaps[2 * block + 1]
            residuals[2 * row] = e
        else:
            for k in range(0, K, lanes):
                S = load(layout, sums, base + k)
                store(X, at + k, factor * (S - x_all * load(layout, own, k)))
        X[at + K] = feature_w
        X[at + K + 1] = e * precise
        ww += feature_w * feature_w
        we += feature_w * (e * precise)
    return ww, we


@njit(**INLINE)
def set_block(layout: Any, state: Any, block: int, new: Any) -> None:
    """Move a block, and note its way for the rows to catch up with."""
    K = layout.K
    vectors, moves = pointer(state.vectors), pointer(state.moves)
    gap = fill(layout, 0.0)
    for k in range(0, K, layout.lanes):
        v, now = load(layout, vectors, block * K + k), load(layout, new, k)
        gap = multiply_add(now - v, v, gap)
        store(moves, block * K + k, now - v)
        store(vectors, block * K + k, now)
    state.gaps[block, 0] = total(gap)
    state.gaps[block, 1] = new[K] - state.weights[block]
    state.weights[block] = new[K]


@njit(**INLINE)
def follow(layout: Any, state: Any, row: int, block: int, x: float, x_w: float) -> None:
    """Let a row catch up with the move of a block, whose vector and weight x and x_w multiply."""
    K = layout.K
    sums, moves = pointer(state.sums), pointer(state.moves)
    residuals, gaps = pointer(state.residuals), pointer(state.gaps)
    x_all, change = fill(layout, x), fill(layout, 0.0)
    for k in range(0, K, layout.lanes):
        S, d = load(layout, sums, row * K + k), load(layout, moves, block * K + k)
        change = multiply_add(S, d, change)
        store(sums, row * K + k, multiply_add(x_all, d, S))
    residuals[2 * row] -= x * (total(change) - x * gaps[2 * block])
    residuals[2 * row] -= x_w * gaps[2 * block + 1]


@njit(**PART)
def settle(layout: Any, blocks: Any, state: Any, first: int, last: int) -> None:
    """Let rows catch up with the last of their blocks."""
    K, moves = layout.K, pointer(state.moves)
    of_row, have_values = pointer(blocks.last), len(blocks.values) > 0
    values, linear_values = pointer(blocks.values_last), pointer(blocks.linear_last)
    for row in range(first, last):
        if row + AHEAD < last:
            for k in range(0, K, 16):
                prefetch(moves, max(np.int64(of_row[row + AHEAD]), 0) * K + k)
        block = np.int64(of_row[row])
        if block < 0:
            continue
        x = values[row] if have_values else 1.0
        x_w = linear_values[row] if have_values else 1.0
        follow(layout, state, row, block, x, x_w)


@njit(**COMPILE)
def retarget(state: Any, target_: Any, residuals_: Any, precision_: Any) -> None:
    """Move the targets of rows so that these are their residuals, and set their precisions.

    Parameters
    ----------
    state : State
        The rows.
    target_ : ndarray of float64 of shape (n_rows,)
        Moved by as much as the residuals are.
    residuals_ : ndarray of float64 of shape (n_rows,)
        New residuals.
    precision_ : ndarray of float64 of shape (n_rows,) or (1,)
        Of each row, or of all.
    """
    target, residuals, precision = pointer(target_), pointer(residuals_), pointer(precision_)
    now, step = pointer(state.residuals), np.int64(len(precision_) > 1)
    for row in range(len(residuals_)):
        target[row] += residuals[row] - now[2 * row]
        now[2 * row] = residuals[row]
        now[2 * row + 1] = np.sqrt(precision[step * row])


@njit(**COMPILE)
def sum_up(layout: Any, blocks: Any, state: Any, raw_: Any) -> None:
    """Write the sums of embeddings of all rows, and raw predictions without the bias.

    raw = linear term + (|S|^2 - sum of |e|^2 over the embeddings e that S sums) / 2

    Parameters
    ----------
    layout : BlockLayout
        Where numbers stand.
    blocks : Blocks
        The blocks.
    state : State
        Their weights, and the rows.
    raw_ : ndarray of float64 of shape (n_rows,)
        Receives the raw predictions.
    """
    K, raw = layout.K, pointer(raw_)
    vectors, weights = pointer(state.vectors), pointer(state.weights)
    sums, pooled = pointer(state.sums), pointer(state.pooled)
    rows, values, have_values = pointer(blocks.rows), pointer(blocks.values), len(blocks.values)
    linear_values, pools = pointer(blocks.linear_values), pointer(blocks.pools)
    starts = pointer(blocks.starts)
    for r in range(len(state.sums)):
        raw[r] = 0.0
        for k in range(0, K, layout.lanes):
            store(sums, r * K + k, fill(layout, 0.0))
    for g in range(len(blocks.groups)):
        first = blocks.chunks[blocks.groups[g, 0], 0]
        last = blocks.chunks[blocks.groups[g, 1] - 1, 1]
        if blocks.pooled[g]:
            pool(layout, blocks, state, first, last)
        for block in range(first, last):
            own = beyond(vectors, block * K)
            for entry in range(starts[block], starts[block + 1]):
                row = np.int64(rows[entry])
                x = values[entry] if have_values else 1.0
                x_w = linear_values[entry] if have_values else 1.0
                x_all, twice = fill(layout, x), fill(layout, 0.0)
                for k in range(0, K, layout.lanes):
                    v = x_all * load(layout, own, k)
                    other = v
                    if blocks.pooled[g]:
                        other = load(layout, pooled, pools[entry] * K + k)
                    twice = multiply_add(v, other, twice)
                    S = load(layout, sums, row * K + k)
                    store(sums, row * K + k, S + v)
                raw[row] += x_w * weights[block] - total(twice) / 2
    for r in range(len(state.sums)):
        square = fill(layout, 0.0)
        for k in range(0, K, layout.lanes):
            S = load(layout, sums, r * K + k)
            square = multiply_add(S, S, square)
        raw[r] += total(square) / 2


@njit(**PART)
def pool(layout: Any, blocks: Any, state: Any, first: int, last: int) -> None:
    """Sum the embeddings of a group's blocks in each row."""
    K = layout.K
    vectors, pooled = pointer(state.vectors), pointer(state.pooled)
    pools, values, have_values = pointer(blocks.pools), pointer(blocks.values), len(blocks.values)
    starts, zero = pointer(blocks.starts), fill(layout, 0.0)
    for entry in range(starts[first], starts[last]):
        for k in range(0, K, layout.lanes):
            store(pooled, pools[entry] * K + k, zero)
    for block in range(first, last):
        for entry in range(starts[block], starts[block + 1]):
            at = pools[entry] * K
            x = fill(layout, values[entry] if have_values else 1.0)
            for k in range(0, K, layout.lanes):
                v = load(layout, vectors, block * K + k)
                store(pooled, at + k, multiply_add(x, v, load(layout, pooled, at + k)))
