"""Raw predictions of a factorization machine by a few draws at once, side by side in memory.

One index is one stretch of memory with its blocks in all draws, so that an entry costs one trip
there and the arithmetic goes through them in one run. What is computed is told in ``draws``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from ..compile import COMPILE, INLINE

__all__ = ["read_few_draws"]


@njit(**COMPILE)
def read_few_draws(
    starts: Any,
    positions: Any,
    values: Any,
    linear_values: Any,
    fields: Any,
    n_blocks: int,
    blocks: Any,
    covariances: Any,
    traces: Any,
    biases: Any,
    first: int,
    last: int,
    raw: Any,
    variance: Any,
) -> None:
    """Write the mean and variance of raw predictions by each draw, as `draws.read_draws` does.

    Parameters
    ----------
    starts : ndarray of int64 of shape (n_rows + 1,)
        First entry of each row.
    positions : ndarray of int32 of shape (n_entries,)
        Row of `blocks` of each entry; from `n_blocks` on a prior's mean.
    values, linear_values : ndarray of float64 of shape (n_entries,)
        Multipliers of the vector and of the weight.
    fields : ndarray of int32 of shape (n_entries,)
        Field of each entry; entries of a field stand side by side.
    n_blocks : int
        Rows of the tables that were drawn.
    blocks : ndarray of float32 of shape (n_blocks + n_priors, n_draws * (K + 1))
        Vectors of all draws, then the weights of all draws.
    covariances : ndarray of float32 of shape (n_draws, n_priors, K + 1, K + 1)
        The priors' covariances.
    traces : ndarray of float64 of shape (n_draws, n_priors, n_priors)
        Traces of the products of the vectors' covariances.
    biases : ndarray of float64 of shape (n_draws,)
        Biases.
    first, last : int
        Rows to take.
    raw, variance : ndarray of float64 of shape (n_rows, n_draws)
        Receive mean and variance.
    """
    n_draws = len(biases)
    n_numbers = blocks.shape[1] - n_draws
    K = n_numbers // n_draws
    S, Q = np.empty(n_numbers, dtype=np.float32), np.empty(n_numbers, dtype=np.float32)
    E, linear = np.empty(n_numbers, dtype=np.float32), np.empty(n_draws, dtype=np.float32)
    x, y = np.empty(K + 1, dtype=np.float32), np.empty(K + 1, dtype=np.float32)
    for row in range(first, last):
        S[:], Q[:], linear[:] = np.float32(0), np.float32(0), np.float32(0)
        begin, stop, has_unknown = starts[row], starts[row + 1], False
        while begin < stop:
            end = _end_of_field(fields, begin, stop)
            for entry in range(begin, end):
                at, w = positions[entry], np.float32(linear_values[entry])
                has_unknown |= at >= n_blocks
                for d in range(n_draws):
                    linear[d] += w * blocks[at, n_numbers + d]
            if end == begin + 1:  # without a trip to memory
                at, value = positions[begin], np.float32(values[begin])
                for k in range(n_numbers):
                    e = value * blocks[at, k]
                    S[k] += e
                    Q[k] += e * e
            else:
                _embed(blocks, positions, values, begin, end, E)
                for k in range(n_numbers):
                    S[k] += E[k]
                    Q[k] += E[k] * E[k]
            begin = end
        for d in range(n_draws):
            pairs = np.float32(0)
            for k in range(d * K, (d + 1) * K):
                pairs += S[k] * S[k] - Q[k]
            raw[row, d] = biases[d] + linear[d] + pairs / 2
            variance[row, d] = 0.0
        begin = starts[row]
        while has_unknown and begin < stop:
            end = _end_of_field(fields, begin, stop)
            _embed(blocks, positions, values, begin, end, E)
            for i in range(begin, end):
                own = positions[i] - n_blocks
                if own < 0 or values[i] == 0.0:
                    continue
                for d in range(n_draws):
                    for k in range(K):
                        x[k] = np.float32(values[i]) * (S[d * K + k] - E[d * K + k])
                    x[K] = np.float32(linear_values[i])
                    y[:] = np.float32(0)
                    for a in range(K + 1):
                        for c in range(K + 1):
                            y[c] += x[a] * covariances[d, own, a, c]
                    for c in range(K + 1):
                        variance[row, d] += x[c] * y[c]
                for j in range(end, stop):
                    other = positions[j] - n_blocks
                    if other >= 0:
                        both = (values[i] * values[j]) ** 2
                        for d in range(n_draws):
                            variance[row, d] += both * traces[d, own, other]
            begin = end


@njit(**INLINE)
def _end_of_field(fields: Any, begin: int, stop: int) -> int:
    """Entry behind those of a field."""
    end = begin + 1
    while end < stop and fields[end] == fields[begin]:
        end += 1
    return end


@njit(**INLINE)
def _embed(blocks: Any, positions: Any, values: Any, begin: int, end: int, E: Any) -> None:
    """Sum the vectors of a field's entries."""
    E[:] = np.float32(0)
    for entry in range(begin, end):
        at, value = positions[entry], np.float32(values[entry])
        for k in range(len(E)):
            E[k] += value * blocks[at, k]
