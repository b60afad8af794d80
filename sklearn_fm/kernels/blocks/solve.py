"""Draws of one block from a normal distribution, by its precision or by way of its few entries.

The posterior of a block theta is that of a linear regression: y = A theta + noise of precision 1,
theta ~ N(mu, Sigma), where the rows of A and y - A theta for the theta of now are feature rows.
What the rows are, and where normal numbers come from, is told from outside.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ..compile import PART
from ..simd import beyond, fill, load, multiply_add, store, total

__all__ = ["Priors", "draw_by_entries", "draw_by_precision", "solve_size"]


class Priors(NamedTuple):
    """Priors of blocks, in the places of [v_1 .. v_K, padding | w].

    Attributes
    ----------
    precision : ndarray of float64 of shape (n_priors, K + 1, width)
        Lambda.
    least : ndarray of float64 of shape (n_priors, width)
        Its pivots, from the weight up to v_1.
    shift : ndarray of float64 of shape (n_priors, width)
        Lambda mu.
    mean : ndarray of shape (n_priors, K + lanes)
        mu.
    covariance : ndarray of shape (n_priors, K + 1, K + lanes)
        Sigma; of no priors if blocks are to be drawn by their precision in any case.
    root : ndarray of shape (n_priors, K + 1, K + lanes)
        Rows r_0 .. r_K such that Sigma is the sum of r r'; r_0 alone has a weight.
    """

    precision: NDArray[np.float64]
    least: NDArray[np.float64]
    shift: NDArray[np.float64]
    mean: NDArray[np.floating]
    covariance: NDArray[np.floating]
    root: NDArray[np.floating]


def solve_size(layout: Any) -> int:
    """Float64 numbers that the functions here need as room.

    Parameters
    ----------
    layout : BlockLayout
        Where numbers stand.

    Returns
    -------
    int
    """
    return max((2 * layout.K + 5) * layout.width, layout.few * (layout.few + 1))


@njit(**PART)
def draw_by_precision(
    layout: Any,
    dim: int,
    precision: Any,
    least: Any,
    shift: Any,
    theta: Any,
    P: Any,
    noise: Any,
    draws: bool,
    room: Any,
    delta: Any,
) -> None:
    """Set delta to the way from theta to a draw from the posterior, or to its mean.

    The posterior has precision A = Lambda + P, and delta the mean A^-1 (b - Lambda theta + h) where
    h is the last row of the statistics P. A is taken apart from the weight up to v_1 without roots,
    A = U D U', since rows of its lower triangle begin at v_1. Pivots are not less than those of
    Lambda alone, `least`, however much rounding there is in the statistics.
    """
    wide = layout.wide
    K, W, lanes = layout.K, layout.width, layout.wide.lanes
    A, U, h = room, beyond(room, (K + 1) * W), beyond(room, (2 * K + 2) * W)
    inverse, y = beyond(h, W), beyond(h, 2 * W)
    # h + b - Lambda theta, two sums at a time
    for c in range(0, W, lanes):
        even = load(wide, shift, c) + load(wide, P, (K + 1) * W + c)
        odd = fill(wide, 0.0)
        for k in range(0, K, 2):
            even = multiply_add(fill(wide, -theta[k]), load(wide, precision, k * W + c), even)
            odd = multiply_add(fill(wide, -theta[k + 1]), load(wide, precision, k * W + W + c), odd)
        even = multiply_add(fill(wide, -theta[K]), load(wide, precision, K * W + c), even)
        store(h, c, even + odd)
        store(delta, c, fill(wide, 0.0))
    for a in range(dim):
        for c in range(0, a + 1, lanes):
            store(A, a * W + c, load(wide, P, a * W + c) + load(wide, precision, a * W + c))
    for c in range(0, W, lanes):
        store(A, K * W + c, load(wide, P, K * W + c) + load(wide, precision, K * W + c))
    p = K
    while p >= 0:
        at = p * W
        inv = 1.0 / max(A[at + p], least[p])
        inverse[p] = inv
        y[p] = h[p] * inv
        last = dim if p == K else p
        minus, minus_y = fill(wide, -inv), fill(wide, -y[p])
        for c in range(0, last, lanes):
            row = load(wide, A, at + c)
            store(U, at + c, minus * row)
            store(h, c, multiply_add(minus_y, row, load(wide, h, c)))
        for c in range(0, last, lanes):
            row = load(wide, A, at + c)
            for a in range(c, last):
                factor = fill(wide, U[at + a])
                store(A, a * W + c, multiply_add(factor, row, load(wide, A, a * W + c)))
        p = last - 1
    for i in range(dim + 1):
        p = i if i < dim else K
        sum_ = y[p]
        if draws:
            sum_ += np.sqrt(inverse[p]) * noise[i]
        for k in range(i):
            sum_ += U[p * W + k] * delta[k]
        delta[p] = sum_


@njit(**PART)
def draw_by_entries(
    layout: Any,
    dim: int,
    n: int,
    X: Any,
    theta: Any,
    mean: Any,
    covariance: Any,
    root: Any,
    noise: Any,
    draws: bool,
    B: Any,
    room: Any,
    new: Any,
) -> None:
    """Set new to a draw from the posterior, or its mean, in O(n K^2) for n entries.

    new = u + Sigma A' (A Sigma A' + I)^-1 (y - A u - noise), where u is a draw from the prior.

    References
    ----------
    Bhattacharya, Chakraborty, Mallick (2016), Fast sampling with Gaussian scale mixture priors in
    high-dimensional regression, Biometrika 103(4).
    """
    K, R, f = layout.K, layout.row, layout.few
    Kw = K + layout.lanes
    M, r = room, beyond(room, f * f)
    new_w = mean[K]
    if draws:
        new_w += noise[0] * root[K]
    for c in range(0, K, layout.lanes):
        even, odd = load(layout, mean, c), fill(layout, 0.0)
        if draws:
            for k in range(0, dim, 2):
                z, at = fill(layout, noise[k]), k * Kw + c
                even = multiply_add(z, load(layout, root, at), even)
                z = fill(layout, noise[k + 1])
                odd = multiply_add(z, load(layout, root, at + Kw), odd)
            if dim % 2 == 0:
                z = fill(layout, noise[dim])
                even = multiply_add(z, load(layout, root, dim * Kw + c), even)
        store(new, c, even + odd)
    gap_w = theta[K] - new_w
    variance_w = covariance[K * Kw + K]
    for i in range(n):
        x_at, b_at = i * R, i * Kw
        x_w = X[x_at + K]
        beside, apart = fill(layout, 0.0), fill(layout, 0.0)
        for c in range(0, K, layout.lanes):
            even = fill(layout, x_w) * load(layout, covariance, K * Kw + c)
            odd = fill(layout, 0.0)
            for k in range(0, K, 2):
                x, at = fill(layout, X[x_at + k]), k * Kw + c
                even = multiply_add(x, load(layout, covariance, at), even)
                x = fill(layout, X[x_at + k + 1])
                odd = multiply_add(x, load(layout, covariance, at + Kw), odd)
            store(B, b_at + c, even + odd)
            x = load(layout, X, x_at + c)
            beside = multiply_add(x, load(layout, covariance, K * Kw + c), beside)
            apart = multiply_add(x, load(layout, theta, c) - load(layout, new, c), apart)
        B[b_at + K] = total(beside) + variance_w * x_w
        r[i] = X[x_at + K + 1] + total(apart) + x_w * gap_w
        if draws:
            r[i] -= noise[dim + 1 + i]
        for j in range(i + 1):
            product = fill(layout, 0.0)
            for c in range(0, K, layout.lanes):
                x = load(layout, X, x_at + c)
                product = multiply_add(x, load(layout, B, j * Kw + c), product)
            M[i * f + j] = total(product) + x_w * B[j * Kw + K]
        M[i * f + i] += 1.0
    for i in range(n):  # M = L D L', and the substitution of r alongside
        for j in range(i):
            factor = M[i * f + j]
            for k in range(j):
                factor -= M[i * f + k] * M[j * f + k] * M[k * f + k]
            factor /= M[j * f + j]
            M[i * f + j] = factor
            r[i] -= factor * r[j]
            M[i * f + i] -= factor * factor * M[j * f + j]
        M[i * f + i] = max(M[i * f + i], 1.0)  # it is, but for rounding
    for i in range(n - 1, -1, -1):
        rest = r[i] / M[i * f + i]
        for j in range(i + 1, n):
            rest -= M[j * f + i] * r[j]
        r[i] = rest
        for c in range(0, K, layout.lanes):
            b = load(layout, B, i * Kw + c)
            store(new, c, multiply_add(fill(layout, rest), b, load(layout, new, c)))
        new_w += rest * B[i * Kw + K]
    new[K] = new_w
