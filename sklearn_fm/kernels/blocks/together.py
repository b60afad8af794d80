"""Steps that all blocks of a prior take together: added to each, or multiplying its coordinates.

Raw predictions are linear in the step, whose statistics come of those of the blocks, so that no row
is visited. Which priors these are, and what is known of a step before, is told from outside.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ..compile import COMPILE, PART
from ..simd import fill, load, multiply_add, pointer, store, total
from .gram import BATCH, add_rows

__all__ = ["Steps", "add_block", "add_entries", "add_moments", "take_step"]


class Steps(NamedTuple):
    """Steps to be drawn, in the places of [v_1 .. v_K, padding | w].

    Attributes
    ----------
    of_group : ndarray of int64 of shape (n_groups,)
        Which step the blocks of each group take when they have been drawn; -1 for none.
    stretches : ndarray of bool of shape (n_steps,)
        Whether a step multiplies blocks, rather than being added to them.
    precision : ndarray of float64 of shape (n_steps, K + 1, width)
        Prior of the step.
    least : ndarray of float64 of shape (n_steps, width)
        Pivots of its precision, as in `solve.Priors`.
    shift : ndarray of float64 of shape (n_steps, width)
        Precision times mean of it.
    noise : ndarray of float64 of shape (n_steps, K + 1)
        Standard normal numbers.
    taken : ndarray of float64 of shape (n_steps, width)
        Receives the steps.
    """

    of_group: NDArray[np.int64]
    stretches: NDArray[np.bool_]
    precision: NDArray[np.float64]
    least: NDArray[np.float64]
    shift: NDArray[np.float64]
    noise: NDArray[np.float64]
    taken: NDArray[np.float64]


@njit(**PART)
def add_block(layout: Any, P: Any, delta: Any, new: Any, stretches: bool, Q: Any) -> None:
    """Add to the statistics Q of a step those of a block, P, which has just moved by delta."""
    wide, K, W = layout.wide, layout.K, layout.width
    for a in range(K):
        for c in range(a + 1, K + 1):
            P[a * W + c] = P[c * W + a]
    product = (K + 1) * W
    for c in range(0, W, wide.lanes):
        sum_ = load(wide, P, product + c)
        for a in range(K + 1):
            sum_ = multiply_add(fill(wide, -delta[a]), load(wide, P, a * W + c), sum_)
        store(P, product + c, sum_)
    for a in range(K + 2):
        factor = fill(wide, new[a] if stretches and a <= K else 1.0)
        for c in range(0, W, wide.lanes):
            part = factor * load(wide, P, a * W + c)
            if stretches:
                part = part * load(wide, new, c)
            store(Q, a * W + c, load(wide, Q, a * W + c) + part)


@njit(**PART)
def add_entries(
    layout: Any,
    n: int,
    X: Any,
    theta: Any,
    new: Any,
    stretches: bool,
    Y: Any,
    n_waiting: int,
    Q: Any,
) -> int:
    """Likewise for a block whose n feature rows were not summed; theta is where it was.

    Rows wait in Y until there are enough of them. Returns their number.
    """
    K, R, W = layout.K, layout.row, layout.width
    ww, we = 0.0, 0.0
    way = new[K] - theta[K]
    factor_w = new[K] if stretches else new[K] - new[K] + 1
    for i in range(n):
        at, to = i * R, n_waiting * R
        change = fill(layout, 0.0)
        for c in range(0, K, layout.lanes):
            x, now = load(layout, X, at + c), load(layout, new, c)
            change = multiply_add(x, now - load(layout, theta, c), change)
            if stretches:
                x = x * now
            store(Y, to + c, x)
        x_w = X[at + K] * factor_w
        e = X[at + K + 1] - total(change) - X[at + K] * way
        Y[to + K] = x_w
        Y[to + K + 1] = e
        ww += x_w * x_w
        we += x_w * e
        n_waiting += 1
        if n_waiting == BATCH:
            add_rows(layout, Y, n_waiting, Q)
            n_waiting = 0
    Q[K * W + K] += ww
    Q[(K + 1) * W + K] += we
    return n_waiting


@njit(**PART)
def take_step(layout: Any, state: Any, first: int, last: int, stretches: bool, step: Any) -> None:
    """Let blocks take a step, which becomes part of the move that rows have yet to catch up with.

    Parameters
    ----------
    step : pointer
        In the layout's numbers.
    """
    K = layout.K
    vectors, moves, gaps = pointer(state.vectors), pointer(state.moves), pointer(state.gaps)
    weights = pointer(state.weights)
    for block in range(first, last):
        gap = fill(layout, 0.0)
        for k in range(0, K, layout.lanes):
            at = block * K + k
            v, s = load(layout, vectors, at), load(layout, step, k)
            before = v - load(layout, moves, at)
            now = v * s if stretches else v + s
            gap = multiply_add(now - before, before, gap)
            store(moves, at, now - before)
            store(vectors, at, now)
        w = weights[block]
        weights[block] = w * step[K] if stretches else w + step[K]
        gaps[2 * block] = total(gap)
        gaps[2 * block + 1] += weights[block] - w


@njit(**COMPILE)
def add_moments(
    layout: Any, state: Any, center_: Any, first: int, last: int, X_: Any, out_: Any
) -> None:
    """Add up d d' and d over blocks, d = theta - center.

    In float64: few blocks far from the center leave sums of squares that are all but singular.

    Parameters
    ----------
    layout : BlockLayout
        Where numbers stand.
    state : State
        The blocks.
    center_ : ndarray of float64 of shape (width,)
        In the places of [v_1 .. v_K, padding | w].
    first, last : int
        Which blocks.
    X_ : ndarray of float64 of shape (BATCH * wide.row,)
        Zeros, as room.
    out_ : ndarray of float64 of shape (wide.tall * width,)
        Is added to: sums of squares in the lower triangle of the first K + 1 rows, sums in row
        K + 1.
    """
    K, wide = layout.K, layout.wide
    R, W = wide.row, layout.width
    vectors, center, X, out = pointer(state.vectors), pointer(center_), pointer(X_), pointer(out_)
    weights = pointer(state.weights)
    for begin in range(first, last, BATCH):
        n = min(last - begin, BATCH)
        square, sum_ = 0.0, 0.0
        for i in range(n):
            for k in range(0, K, wide.lanes):
                v = load(wide, vectors, (begin + i) * K + k)
                store(X, i * R + k, v - load(wide, center, k))
            w = weights[begin + i] - center[K]
            X[i * R + K] = w
            X[i * R + K + 1] = 1.0
            square += w * w
            sum_ += w
        add_rows(wide, X, n, out)
        out[K * W + K] += square
        out[(K + 1) * W + K] += sum_
