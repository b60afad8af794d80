"""Raw predictions of a factorization machine by many draws of its weights, and their quantiles.

Weights that no training row has touched are known by their distribution only, whose variance goes
into that of the prediction.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from ..compile import COMPILE, INLINE, PART

__all__ = ["mixture_quantiles", "read_draws"]


@njit(**INLINE)
def _embed(table: Any, positions: Any, values: Any, start: int, end: int, K: int, E: Any) -> None:
    """Sum the embeddings of entries."""
    for k in range(K):
        E[k] = 0.0
    for entry in range(start, end):
        x, at = values[entry], positions[entry]
        for k in range(K):
            E[k] += x * table[at, k]


@njit(**COMPILE)
def read_draws(
    starts: Any,
    positions: Any,
    values: Any,
    linear_values: Any,
    fields: Any,
    n_blocks: int,
    tables: Any,
    covariances: Any,
    biases: Any,
    first: int,
    last: int,
    raw: Any,
    variance: Any,
) -> None:
    """Write the mean and variance of raw predictions by each draw.

    raw = bias + linear term + (|S|^2 - sum of |e_f|^2) / 2 at the means of the unknown weights; its
    variance is sum_i x_i' Sigma_i x_i over the blocks i of these, x_i = [x (S - e_f) | x], and
    x_i^2 x_j^2 tr(Sigma_i Sigma_j) for every two of them that interact.

    Parameters
    ----------
    starts : ndarray of int64 of shape (n_rows + 1,)
        First entry of each row.
    positions : ndarray of int32 of shape (n_entries,)
        Row of the tables of each entry; from `n_blocks` on a prior's mean.
    values, linear_values : ndarray of float64 of shape (n_entries,)
        Multipliers of the vector and of the weight.
    fields : ndarray of int32 of shape (n_entries,)
        Field of each entry; entries of a field stand side by side.
    n_blocks : int
        Rows of the tables that were drawn.
    tables : ndarray of float32 of shape (n_draws, n_blocks + n_priors, D)
        Blocks [v | w] and the priors' means.
    covariances : ndarray of float32 of shape (n_draws, n_priors, D, D)
        The priors' covariances.
    biases : ndarray of float64 of shape (n_draws,)
        Biases.
    first, last : int
        Rows to take.
    raw, variance : ndarray of float64 of shape (n_rows, n_draws)
        Receive mean and variance.
    """
    n_draws, K = tables.shape[0], tables.shape[2] - 1
    S, E, other = np.empty(K), np.empty(K), np.empty(K + 1)
    for draw in range(n_draws):
        table, covariance = tables[draw], covariances[draw]
        for row in range(first, last):
            total, square, unknown = biases[draw], 0.0, 0
            for k in range(K):
                S[k] = 0.0
            begin = starts[row]
            while begin < starts[row + 1]:
                end = begin
                for k in range(K):
                    E[k] = 0.0
                while end < starts[row + 1] and fields[end] == fields[begin]:
                    x, at = values[end], positions[end]
                    for k in range(K):
                        E[k] += x * table[at, k]
                    total += linear_values[end] * table[at, K]
                    unknown += at >= n_blocks
                    end += 1
                for k in range(K):
                    S[k] += E[k]
                    square -= E[k] * E[k]
                begin = end
            for k in range(K):
                square += S[k] * S[k]
            raw[row, draw] = total + square / 2
            variance[row, draw] = 0.0
            if unknown:
                variance[row, draw] = _variance(
                    starts[row],
                    starts[row + 1],
                    positions,
                    values,
                    linear_values,
                    fields,
                    n_blocks,
                    table,
                    covariance,
                    S,
                    E,
                    other,
                )


@njit(**PART)
def _variance(
    start: int,
    stop: int,
    positions: Any,
    values: Any,
    linear_values: Any,
    fields: Any,
    n_blocks: int,
    table: Any,
    covariance: Any,
    S: Any,
    E: Any,
    x: Any,
) -> float:
    """Variance of one raw prediction by the weights that are known by their distribution only."""
    K = len(S)
    sum_ = 0.0
    begin = start
    while begin < stop:
        end = begin
        while end < stop and fields[end] == fields[begin]:
            end += 1
        _embed(table, positions, values, begin, end, K, E)
        for i in range(begin, end):
            if positions[i] < n_blocks or values[i] == 0.0:
                continue
            own = covariance[positions[i] - n_blocks]
            for k in range(K):
                x[k] = values[i] * (S[k] - E[k])
            x[K] = linear_values[i]
            for a in range(K + 1):
                for c in range(K + 1):
                    sum_ += x[a] * own[a, c] * x[c]
            for j in range(end, stop):
                if positions[j] >= n_blocks:
                    others = covariance[positions[j] - n_blocks]
                    trace = 0.0
                    for a in range(K):
                        for c in range(K):
                            trace += own[a, c] * others[a, c]
                    sum_ += (values[i] * values[j]) ** 2 * trace
        begin = end
    return sum_


@njit(**COMPILE)
def mixture_quantiles(means: Any, deviations: Any, level: float, out: Any) -> None:
    """Quantiles of equal mixtures of normal distributions, by Newton's method within a bracket.

    Parameters
    ----------
    means, deviations : ndarray of float64 of shape (n_rows, n_parts)
        Of each part.
    level : float
        Probability below the quantile.
    out : ndarray of float64 of shape (n_rows,)
        Receives the quantiles; start values on entry.
    """
    n_parts = means.shape[1]
    for row in range(len(means)):
        low, high, widest = means[row, 0], means[row, 0], 0.0
        for part in range(n_parts):
            low, high = min(low, means[row, part]), max(high, means[row, part])
            widest = max(widest, deviations[row, part])
        low, high = low - 40 * widest, high + 40 * widest
        at = min(max(out[row], low), high)
        for _ in range(200):
            below, density = 0.0, 0.0
            for part in range(n_parts):
                z = (at - means[row, part]) / deviations[row, part]
                below += math.erfc(-z / math.sqrt(2.0)) / 2
                density += math.exp(-z * z / 2) / (math.sqrt(2 * math.pi) * deviations[row, part])
            apart = below / n_parts - level
            if apart > 0:
                high = at
            else:
                low = at
            step = at - apart * n_parts / max(density, 1e-300)
            if not low < step < high:
                step = (low + high) / 2
            if abs(step - at) <= 1e-9 * widest:
                break
            at = step
        out[row] = at
