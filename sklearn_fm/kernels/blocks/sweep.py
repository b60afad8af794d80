"""One sweep over the blocks of a factorization machine: the vector and weight of an index at once.

A raw prediction is linear in the block of one index, so its conditional posterior is Gaussian, in
closed form. Kernels set each block to a draw of it, or to its mean. What precisions and priors are,
and where normal numbers come from, is the business of ``solvers``.

A *row state* is ``[S_1 .. S_K, padding | e, p]``: the sum of the embeddings of a row's fields, its
residual (target less raw prediction) and its precision.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ..compile import COMPILE, INLINE
from ..simd import fill, load, multiply_add, pointer, prefetch, store, total
from ..threads import barrier

__all__ = ["Blocks", "sweep", "work_size"]

#: Entries from now whose rows are asked for.
AHEAD = 6


class Blocks(NamedTuple):
    """Which entries make each block, and in which order blocks are updated.

    Blocks of a *group* share no row, so that threads can update them at the same time; if they do
    share rows, `cuts` gives them all to one thread. Long lists of entries are cut into *pieces*.

    Attributes
    ----------
    starts : ndarray of int64 of shape (n_blocks + 1,)
        First entry of each block.
    rows : ndarray of int32 of shape (n_entries,)
        Row of each entry.
    values : ndarray of float64 of shape (n_entries,) or (0,)
        Multiplier of each entry; empty if all are 1.
    prior_of : ndarray of int32 of shape (n_blocks,)
        Prior of each block.
    linear_values : ndarray of float64 of shape (n_entries,) or (0,)
        What multiplies the weight of the linear term; empty if the same as `values`.
    pools : ndarray of int64 of shape (n_entries,) or (0,)
        Which embedding of a field each entry is part of, in pooled groups.
    groups : ndarray of int64 of shape (n_groups, 4)
        First block, last block + 1, first piece, last piece + 1.
    pooled : ndarray of bool of shape (n_groups,)
        Whether blocks add up to embeddings of fields in the rows that they share, which are kept
        apart while the group is updated.
    pieces : ndarray of int64 of shape (n_pieces, 3)
        Block, first entry and last entry + 1.
    cuts : ndarray of int64 of shape (n_groups, n_parts + 1)
        Blocks at which the groups are shared out to threads.
    """

    starts: NDArray[np.int64]
    rows: NDArray[np.int32]
    values: NDArray[np.float64]
    prior_of: NDArray[np.int32]
    linear_values: NDArray[np.float64]
    pools: NDArray[np.int64]
    groups: NDArray[np.int64]
    pooled: NDArray[np.bool_]
    pieces: NDArray[np.int64]
    cuts: NDArray[np.int64]


def work_size(K: int, width: int) -> int:
    """Numbers that a thread needs for its work on one block.

    Parameters
    ----------
    K, width : int
        As in `BlockLayout`.

    Returns
    -------
    int
    """
    return (K + 2) * width + 5 * width + (K + 1) * width + 4 * width


@njit(**INLINE)
def fetch(layout: Any, state: Any, row: int) -> None:
    """Ask for a row state."""
    base = np.int64(row) * (layout.K + 2)
    for k in range(0, layout.K + 2, 8):
        prefetch(state, base + k)


@njit(**INLINE)
def take_entry(
    layout: Any,
    state: Any,
    row: int,
    x: float,
    own: Any,
    own_at: int,
    own_scale: float,
    x_linear: float,
    X: Any,
    at: int,
) -> None:
    """Write what multiplies a block in one row, [x (S - own) | x, e], where own is the embedding
    that the block is part of, which its vector does not interact with."""
    K = layout.K
    base = row * (K + 2)
    x_all, scale = fill(layout, x), fill(layout, own_scale)
    for k in range(0, K, layout.lanes):
        others = load(layout, state, base + k) - scale * load(layout, own, own_at + k)
        store(X, at + k, x_all * others)
    X[at + K] = x_linear
    X[at + K + 1] = state[base + K]


@njit(**INLINE)
def add_four(layout: Any, P: Any, X: Any, q: Any) -> None:
    """P += sum_j q_j X_j X_j' over four rows, lower triangle in whole registers."""
    K, width = layout.K, layout.width
    lanes = layout.lanes
    for a in range(K + 2):
        s0 = fill(layout, q[0] * X[a])
        s1 = fill(layout, q[1] * X[width + a])
        s2 = fill(layout, q[2] * X[2 * width + a])
        s3 = fill(layout, q[3] * X[3 * width + a])
        for c in range(0, a + 1, lanes):
            sum_ = load(layout, P, a * width + c)
            sum_ = multiply_add(s0, load(layout, X, c), sum_)
            sum_ = multiply_add(s1, load(layout, X, width + c), sum_)
            sum_ = multiply_add(s2, load(layout, X, 2 * width + c), sum_)
            sum_ = multiply_add(s3, load(layout, X, 3 * width + c), sum_)
            store(P, a * width + c, sum_)


@njit(**INLINE)
def _accumulate(
    layout: Any,
    blocks: Any,
    state: Any,
    table: Any,
    pooled: Any,
    block: int,
    first: int,
    last: int,
    P: Any,
    X: Any,
    q: Any,
    is_pooled: bool,
) -> None:
    """Set P to the sum of p x x' over entries, where x ends on the residual."""
    K, width = layout.K, layout.width
    rows, values, have_values = pointer(blocks.rows), pointer(blocks.values), len(blocks.values)
    zero = fill(layout, 0.0)
    for k in range(0, (K + 2) * width, layout.lanes):
        store(P, k, zero)
    pools, linear_values = pointer(blocks.pools), pointer(blocks.linear_values)
    same = len(blocks.linear_values) == 0
    own_row = block * (K + 1)
    j = 0
    for entry in range(first, last):
        row = np.int64(rows[entry])
        if entry + AHEAD < last:
            fetch(layout, state, rows[entry + AHEAD])
        x = values[entry] if have_values else 1.0
        x_linear = x if same else linear_values[entry]
        if is_pooled:
            own = pools[entry] * K
            take_entry(layout, state, row, x, pooled, own, 1.0, x_linear, X, j * width)
        else:
            take_entry(layout, state, row, x, table, own_row, x, x_linear, X, j * width)
        q[j] = state[row * (K + 2) + K + 1]
        j += 1
        if j == 4:
            add_four(layout, P, X, q)
            j = 0
    if j:
        for rest in range(j, 4):
            q[rest] = 0.0
            for k in range(0, width, layout.lanes):
                store(X, rest * width + k, zero)
        add_four(layout, P, X, q)


@njit(**INLINE)
def _solve(
    layout: Any,
    D: int,
    table: Any,
    precision: Any,
    shift: Any,
    noise: Any,
    block: int,
    prior: int,
    noise_at: int,
    draws: bool,
    P: Any,
    U: Any,
    h: Any,
    u: Any,
    delta: Any,
) -> None:
    """Move a block to a draw from its conditional posterior, or its mean; delta is the way.

    The posterior has precision Lambda + P and mean m with (Lambda + P) m = b + P theta + h, where h
    is the last row of P: residuals are those under the theta from before.
    """
    K, width = layout.K, layout.width
    own = block * (K + 1)
    W = width
    lambda_at, b_at = prior * (K + 1) * W, prior * W
    Kt = D - 1  # dimensions of the vectors without padding
    # upper triangle by rows of [v_1 .. v_Kt, w], so that loops run along memory
    for a in range(D):
        pa = a if a < Kt else K
        h[a] = shift[b_at + pa] + P[(K + 1) * W + pa]
        for c in range(a, D):
            pc = c if c < Kt else K
            value = P[pc * W + pa]
            U[a * W + c] = value + precision[lambda_at + pa * W + pc]
            tc = table[own + (pc if pc < K else K)]
            h[a] += value * tc
    for a in range(D):  # the lower half of P theta
        pa = a if a < Kt else K
        ta = table[own + pa]
        for c in range(a + 1, D):
            pc = c if c < Kt else K
            h[c] += P[pc * W + pa] * ta
    # Cholesky, U'U, with the forward substitution of h alongside
    for c in range(D):
        root = np.sqrt(U[c * W + c])
        inverse = 1.0 / root
        row_c = c * W
        U[row_c + c] = inverse
        u[c] = h[c] * inverse
        scale = fill(layout, inverse)
        start = ((c + 1) // layout.lanes) * layout.lanes
        diagonal = U[row_c + c]
        for k in range(start, D, layout.lanes):
            store(U, row_c + k, load(layout, U, row_c + k) * scale)
        U[row_c + c] = diagonal
        for a in range(c + 1, D):
            factor = U[row_c + a]
            h[a] -= factor * u[c]
            minus = fill(layout, -factor)
            begin = (a // layout.lanes) * layout.lanes
            for k in range(begin, D, layout.lanes):
                sum_ = multiply_add(minus, load(layout, U, row_c + k), load(layout, U, a * W + k))
                store(U, a * W + k, sum_)
    if draws:
        for a in range(D):
            u[a] += noise[noise_at + a]
    for a in range(D - 1, -1, -1):
        rest = u[a]
        for m in range(a + 1, D):
            rest -= U[a * W + m] * u[m]
        u[a] = rest * U[a * W + a]
    for k in range(W):
        delta[k] = 0.0
    for a in range(D):
        pa = a if a < Kt else K
        delta[pa] = u[a] - table[own + pa]


@njit(**INLINE)
def apply(
    layout: Any,
    blocks: Any,
    state: Any,
    table: Any,
    pooled: Any,
    block: int,
    first: int,
    last: int,
    delta: Any,
    is_pooled: bool,
) -> None:
    """Bring row states up to date with the way that a block is about to go."""
    K = layout.K
    rows, values, have_values = pointer(blocks.rows), pointer(blocks.values), len(blocks.values)
    pools, linear_values = pointer(blocks.pools), pointer(blocks.linear_values)
    same = len(blocks.linear_values) == 0
    own_row = block * (K + 1)
    for entry in range(first, last):
        row = np.int64(rows[entry])
        if entry + AHEAD < last:
            fetch(layout, state, rows[entry + AHEAD])
        x = values[entry] if have_values else 1.0
        x_linear = x if same else linear_values[entry]
        pool = pools[entry] * K if is_pooled else 0
        x_all = fill(layout, x)
        base = row * (K + 2)
        change = fill(layout, 0.0)
        for k in range(0, K, layout.lanes):
            S, d = load(layout, state, base + k), load(layout, delta, k)
            if is_pooled:
                E = load(layout, pooled, pool + k)
                others = S - E
                store(pooled, pool + k, multiply_add(x_all, d, E))
            else:
                others = S - x_all * load(layout, table, own_row + k)
            change = multiply_add(others, d, change)
            store(state, base + k, multiply_add(x_all, d, S))
        state[base + K] -= x * total(change) + x_linear * delta[K]


@njit(**INLINE)
def move(layout: Any, table: Any, block: int, delta: Any) -> None:
    """Add to a block."""
    for k in range(layout.K + 1):
        table[block * (layout.K + 1) + k] += delta[k]


@njit(**INLINE)
def pool(layout: Any, blocks: Any, table: Any, pooled: Any, first: int, last: int) -> None:
    """Sum the embeddings of a group's blocks in each row."""
    K = layout.K
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
                v = load(layout, table, block * (K + 1) + k)
                store(pooled, at + k, multiply_add(x, v, load(layout, pooled, at + k)))


@njit(**COMPILE)
def sweep(
    layout: Any,
    embedding_dim: int,
    blocks: Any,
    table_: Any,
    state_: Any,
    pooled_: Any,
    precision_: Any,
    shift_: Any,
    noise_: Any,
    work_: Any,
    pieces_: Any,
    part: int,
    n_parts: int,
    sync: Any,
) -> None:
    """Update every block once, group after group; one thread's part of it.

    Parameters
    ----------
    layout : BlockLayout
        Where numbers stand.
    embedding_dim : int
        K without padding.
    blocks : Blocks
        The blocks.
    table_ : ndarray of float64 of shape (n_blocks, K + 1)
        Blocks [v | w], moved in place.
    state_ : ndarray of float64 of shape (n_rows, K + 2)
        Row states, brought up to date.
    pooled_ : ndarray of float64 of shape (n_pools, K)
        Room for the embeddings of fields in a pooled group.
    precision_ : ndarray of float64 of shape (n_priors, K + 1, width)
        Precision of each prior.
    shift_ : ndarray of float64 of shape (n_priors, width)
        Precision times mean of each prior.
    noise_ : ndarray of float64 of shape (n_blocks, embedding_dim + 1) or (0, ...)
        Standard normal numbers; empty to move each block to its mean.
    work_ : ndarray of float64 of shape (n_parts, `work_size`)
        Room for each thread.
    pieces_ : ndarray of float64 of shape (n_pieces, (K + 2) * width)
        Room for the statistics of the pieces.
    part, n_parts : int
        Which thread this is, of how many.
    sync : ndarray of int64
        Barrier, from `threads.make_sync`.
    """
    K, W = layout.K, layout.width
    D = embedding_dim + 1
    table, state, pooled = pointer(table_), pointer(state_), pointer(pooled_)
    precision, shift, noise = pointer(precision_), pointer(shift_), pointer(noise_)
    draws = len(noise_) > 0
    P = pointer(work_[part])
    X = pointer(work_[part, (K + 2) * W :])
    U = pointer(work_[part, (K + 7) * W :])
    h = pointer(work_[part, (2 * K + 8) * W :])
    u = pointer(work_[part, (2 * K + 9) * W :])
    delta = pointer(work_[part, (2 * K + 10) * W :])
    q = pointer(work_[part, (2 * K + 11) * W :])
    starts, prior_of = pointer(blocks.starts), pointer(blocks.prior_of)
    for g in range(len(blocks.groups)):
        first, last = blocks.groups[g, 0], blocks.groups[g, 1]
        first_piece, last_piece = blocks.groups[g, 2], blocks.groups[g, 3]
        is_pooled = blocks.pooled[g]
        if is_pooled and part == 0:
            pool(layout, blocks, table, pooled, first, last)
        next_piece = first_piece
        for block in range(blocks.cuts[g, part], blocks.cuts[g, part + 1]):
            start, end = starts[block], starts[block + 1]
            while next_piece < last_piece and blocks.pieces[next_piece, 0] < block:
                next_piece += 1
            if next_piece < last_piece and blocks.pieces[next_piece, 0] == block:
                continue
            _accumulate(layout, blocks, state, table, pooled, block, start, end, P, X, q, is_pooled)
            _solve(
                layout,
                D,
                table,
                precision,
                shift,
                noise,
                block,
                np.int64(prior_of[block]),
                block * D,
                draws,
                P,
                U,
                h,
                u,
                delta,
            )
            apply(layout, blocks, state, table, pooled, block, start, end, delta, is_pooled)
            move(layout, table, block, delta)
        size = (K + 2) * W
        for piece in range(first_piece + part, last_piece, n_parts):
            block = blocks.pieces[piece, 0]
            _accumulate(
                layout,
                blocks,
                state,
                table,
                pooled,
                block,
                blocks.pieces[piece, 1],
                blocks.pieces[piece, 2],
                pointer(pieces_[piece]),
                X,
                q,
                is_pooled,
            )
        barrier(sync, n_parts)
        if first_piece == last_piece:
            continue
        n_long = 0
        piece = first_piece
        while piece < last_piece:
            block, begin = blocks.pieces[piece, 0], piece
            while piece < last_piece and blocks.pieces[piece, 0] == block:
                piece += 1
            if n_long % n_parts == part:
                sum_ = pointer(pieces_[begin])
                for other in range(begin + 1, piece):
                    more = pointer(pieces_[other])
                    for k in range(0, size, layout.lanes):
                        store(sum_, k, load(layout, sum_, k) + load(layout, more, k))
                _solve(
                    layout,
                    D,
                    table,
                    precision,
                    shift,
                    noise,
                    block,
                    np.int64(prior_of[block]),
                    block * D,
                    draws,
                    sum_,
                    U,
                    h,
                    u,
                    delta,
                )
                for other in range(begin, piece):  # statistics are done with
                    for k in range(W):
                        pieces_[other, k] = delta[k]
            n_long += 1
        barrier(sync, n_parts)
        for piece in range(first_piece + part, last_piece, n_parts):
            apply(
                layout,
                blocks,
                state,
                table,
                pooled,
                blocks.pieces[piece, 0],
                blocks.pieces[piece, 1],
                blocks.pieces[piece, 2],
                pointer(pieces_[piece]),
                is_pooled,
            )
        barrier(sync, n_parts)
        n_long = 0
        piece = first_piece
        while piece < last_piece:
            block, begin = blocks.pieces[piece, 0], piece
            while piece < last_piece and blocks.pieces[piece, 0] == block:
                piece += 1
            if n_long % n_parts == part:
                move(layout, table, block, pointer(pieces_[begin]))
            n_long += 1
        # the next group reads the row states only, until the barrier at its end
