"""One sweep over the blocks of a factorization machine: the vector and weight of an index at once.

A raw prediction is linear in the block of one index, so its conditional posterior is Gaussian, in
closed form. Kernels set each block to a draw of it, or to its mean. What precisions and priors are,
and where normal numbers come from, is the business of ``solvers``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from ..compile import COMPILE, INLINE
from ..simd import beyond, load, pointer, store
from ..threads import barrier
from .gram import BATCH, add_rows, clear
from .pooled import apply_pooled, catch_up, gather_pooled
from .rows import gather, pool, set_block, settle
from .solve import draw_by_entries, draw_by_precision, solve_size
from .together import add_block, add_entries, take_step

__all__ = ["room_sizes", "sweep"]


def room_sizes(layout: Any) -> tuple[int, int]:
    """Numbers that a thread needs as room: float64 ones, and those of the layout.

    Parameters
    ----------
    layout : BlockLayout
        Where numbers stand.

    Returns
    -------
    n_wide : int
        In float64.
    n : int
        In the layout's numbers.
    """
    wide = 2 * (layout.tall + 1) * layout.width + solve_size(layout)
    own = layout.K + layout.lanes
    return wide, 2 * BATCH * layout.row + (layout.few + 2) * own


@njit(**INLINE)
def _read(layout: Any, state: Any, block: int, theta: Any) -> None:
    """Copy a block."""
    vectors = pointer(state.vectors)
    for k in range(0, layout.K, layout.lanes):
        store(theta, k, load(layout, vectors, block * layout.K + k))
    theta[layout.K] = state.weights[block]


@njit(**INLINE)
def _draw(
    layout: Any,
    dim: int,
    priors: Any,
    prior: int,
    noise: Any,
    draws: bool,
    theta: Any,
    P: Any,
    room: Any,
    delta: Any,
    now: Any,
    new: Any,
) -> None:
    """Draw a block given its statistics; in float64, `delta` is its way and `now` its end."""
    W = layout.width
    for k in range(layout.K + 1):
        now[k] = theta[k]
    precision = beyond(pointer(priors.precision), prior * (layout.K + 1) * W)
    least = beyond(pointer(priors.least), prior * W)
    shift = beyond(pointer(priors.shift), prior * W)
    draw_by_precision(layout, dim, precision, least, shift, now, P, noise, draws, room, delta)
    for k in range(layout.K + 1):
        new[k] = now[k] + delta[k]
        now[k] = new[k]


@njit(**COMPILE)
def sweep(
    layout: Any,
    embedding_dim: int,
    few: int,
    blocks: Any,
    state: Any,
    priors: Any,
    steps: Any,
    noise_: Any,
    wide_: Any,
    room_: Any,
    slots_: Any,
    part: int,
    n_parts: int,
    sync: Any,
) -> None:
    """Update every block once, group after group, and the rows; one thread's part of it.

    Parameters
    ----------
    layout : BlockLayout
        Where numbers stand.
    embedding_dim : int
        K without padding.
    few : int
        Blocks of so many entries are drawn by way of these.
    blocks : Blocks
        Entries of the blocks.
    state : State
        Blocks and rows, moved in place.
    priors : Priors
        Priors of the blocks.
    steps : Steps
        Steps that groups take as a whole.
    noise_ : ndarray of shape (n_blocks, embedding_dim + 1 + few) or (0, ...)
        Standard normal numbers; empty to move each block to its mean.
    wide_ : ndarray of float64 of shape (n_parts, n_wide)
        Room for each thread, as `room_sizes` says.
    room_ : ndarray of shape (n_parts, n)
        Likewise, in the layout's numbers. Zeros; features rows' padding stays so.
    slots_ : ndarray of float64 of shape (n_chunks, tall * width)
        Room for the statistics of the chunks of a group.
    part, n_parts : int
        Which thread this is, of how many.
    sync : ndarray of int64
        Barrier, from `threads.make_sync`.
    """
    K, W = layout.K, layout.width
    own = K + layout.lanes
    size = layout.tall * W
    draws = len(noise_) > 0
    P = pointer(wide_[part])
    total, delta = beyond(P, size), beyond(P, 2 * size)
    now, room = beyond(delta, W), beyond(delta, 2 * W)
    X = pointer(room_[part])
    Y = beyond(X, BATCH * layout.row)
    theta = beyond(Y, BATCH * layout.row)
    new, B = beyond(theta, own), beyond(theta, 2 * own)
    noise, noise_width = pointer(noise_), noise_.shape[1]
    starts, prior_of = pointer(blocks.starts), pointer(blocks.prior_of)
    mean, covariance = pointer(priors.mean), pointer(priors.covariance)
    root, slots, chunks = pointer(priors.root), pointer(slots_), pointer(blocks.chunks)
    for g in range(len(blocks.groups)):
        first_chunk, last_chunk = blocks.groups[g, 0], blocks.groups[g, 1]
        n_chunks = last_chunk - first_chunk
        is_pooled, step = blocks.pooled[g], steps.of_group[g]
        stretches = steps.stretches[step] if step >= 0 else False
        has_pieces = False
        for chunk in range(first_chunk, last_chunk):
            c = beyond(chunks, 4 * chunk)
            has_pieces |= c[2] != starts[c[0]] or c[3] != starts[c[1]]
        own_first = first_chunk + n_chunks * part // n_parts
        own_last = first_chunk + n_chunks * (part + 1) // n_parts
        for chunk in range(own_first, own_last):
            first, last = chunks[4 * chunk], chunks[4 * chunk + 1]
            begin, end = chunks[4 * chunk + 2], chunks[4 * chunk + 3]
            Q = beyond(slots, (chunk - first_chunk) * size)
            is_piece = begin != starts[first] or end != starts[last]
            if step >= 0 and not is_piece:
                clear(layout, Q)
            if is_pooled:
                pool(layout, blocks, state, first, last)
                catch_up(layout, blocks, state, begin, end)
            n_waiting = np.int64(0)  # no literal, which would have functions of its own
            for block in range(first, last):
                begin = chunks[4 * chunk + 2] if is_piece else starts[block]
                stop = end if is_piece else starts[block + 1]
                n = stop - begin
                by_entries = n <= few and not is_piece
                sums = Q if is_piece else P
                _read(layout, state, block, theta)
                if not by_entries:
                    clear(layout, sums)
                at = begin
                while at < stop:
                    m = min(stop - at, BATCH)
                    if is_pooled:
                        ww, we = gather_pooled(layout, blocks, state, at, m, end, X)
                    else:
                        ww, we = gather(layout, blocks, state, theta, at, m, end, X)
                    if not by_entries:
                        add_rows(layout, X, m, sums)
                        sums[K * W + K] += ww
                        sums[(K + 1) * W + K] += we
                    at += m
                if is_piece:
                    continue
                prior = np.int64(prior_of[block])
                z = beyond(noise, block * noise_width)
                if by_entries:
                    draw_by_entries(
                        layout,
                        embedding_dim,
                        n,
                        X,
                        theta,
                        beyond(mean, prior * own),
                        beyond(covariance, prior * (K + 1) * own),
                        beyond(root, prior * (K + 1) * own),
                        z,
                        draws,
                        B,
                        room,
                        new,
                    )
                    if step >= 0:
                        n_waiting = add_entries(
                            layout, n, X, theta, new, stretches, Y, n_waiting, Q
                        )
                else:
                    _draw(
                        layout,
                        embedding_dim,
                        priors,
                        prior,
                        z,
                        draws,
                        theta,
                        P,
                        room,
                        delta,
                        now,
                        new,
                    )
                    if step >= 0:
                        add_block(layout, P, delta, now, stretches, Q)
                set_block(layout, state, block, new)
                if is_pooled:
                    apply_pooled(layout, blocks, state, block, begin, stop)
            if n_waiting:
                add_rows(layout, Y, n_waiting, Q)
        barrier(sync, n_parts)
        if has_pieces:
            n_long, chunk = 0, first_chunk
            while chunk < last_chunk:
                block = chunks[4 * chunk]
                following = chunk + 1
                while following < last_chunk and chunks[4 * following] == block:
                    following += 1
                if following - chunk > 1:
                    if n_long % n_parts == part:
                        sum_ = beyond(slots, (chunk - first_chunk) * size)
                        for other in range(chunk + 1, following):
                            more = beyond(slots, (other - first_chunk) * size)
                            for k in range(0, size, layout.wide.lanes):
                                both = load(layout.wide, sum_, k) + load(layout.wide, more, k)
                                store(sum_, k, both)
                        _read(layout, state, block, theta)
                        _draw(
                            layout,
                            embedding_dim,
                            priors,
                            np.int64(prior_of[block]),
                            beyond(noise, block * noise_width),
                            draws,
                            theta,
                            sum_,
                            room,
                            delta,
                            now,
                            new,
                        )
                        set_block(layout, state, block, new)
                        for other in range(chunk + 1, following):
                            clear(layout, beyond(slots, (other - first_chunk) * size))
                        if step >= 0:
                            more = beyond(slots, (chunk + 1 - first_chunk) * size)
                            add_block(layout, sum_, delta, now, stretches, more)
                            clear(layout, sum_)
                    n_long += 1
                chunk = following
            barrier(sync, n_parts)
        if step < 0:
            continue
        # every thread adds up the same in the same order, and draws the same step
        clear(layout, total)
        for chunk in range(n_chunks):
            more = beyond(slots, chunk * size)
            for k in range(0, size, layout.wide.lanes):
                store(total, k, load(layout.wide, total, k) + load(layout.wide, more, k))
        for k in range(K + 1):
            now[k] = 1.0 if stretches else 0.0
        draw_by_precision(
            layout,
            embedding_dim,
            beyond(pointer(steps.precision), step * (K + 1) * W),
            beyond(pointer(steps.least), step * W),
            beyond(pointer(steps.shift), step * W),
            now,
            total,
            beyond(pointer(steps.noise), step * (K + 1)),
            len(steps.noise) > 0,  # likewise
            room,
            delta,
        )
        for k in range(K + 1):
            new[k] = now[k] + delta[k]
            if part == 0:
                steps.taken[step, k] = now[k] + delta[k]
        for chunk in range(own_first, own_last):
            first, last = chunks[4 * chunk], chunks[4 * chunk + 1]
            if chunk == first_chunk or chunks[4 * chunk - 4] != first:  # once for all pieces
                take_step(layout, state, first, last, stretches, new)
        barrier(sync, n_parts)
    n_rows = len(blocks.last)
    settle(layout, blocks, state, n_rows * part // n_parts, n_rows * (part + 1) // n_parts)
