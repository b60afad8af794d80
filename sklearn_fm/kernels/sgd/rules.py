"""What a solver does with one row of the table: what it owes, and a step on its gradient.

The formulas are those of ``training.rules``, which does the same with torch on any device.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from ..compile import COMPILE, INLINE
from ..simd import fill, load, pointer, root, store, total
from .layout import ADAGRAD, ADAM, FTRL, SGD

__all__ = ["StepNumbers", "fetch", "settle", "take_step"]


_ZERO, _ONE = np.float32(0), np.float32(1)
_BETA1, _BETA2, _EPSILON = np.float32(0.9), np.float32(0.999), np.float32(1e-8)
_SERIES = tuple(np.float32(1 / math.factorial(n)) for n in range(2, 7))


class StepNumbers(NamedTuple):
    """Numbers that are the same for all rows of the table in a step."""

    stretch: np.float32  # numbers of a vector, or of a stretch of it that has a scale
    learning_rate: np.float32
    l2_linear: np.float32
    l2_embedding: np.float32
    clock: np.float32  # learning rate times share of the data, summed over the steps so far
    l1_paid: np.float32  # penalty times share, likewise: those of the linear term in "ftrl"
    l2_paid: np.float32


@njit(**INLINE)
def _shrinkage(owed: np.float32) -> np.float32:
    """exp(-owed), by its series for the small debts of frequent rows."""
    if owed < np.float32(0.25):
        a, b, c, d, e = _SERIES
        return _ONE - owed * (_ONE - owed * (a - owed * (b - owed * (c - owed * (d - owed * e)))))
    return np.float32(math.exp(-owed))


@njit(**INLINE)
def _ftrl_weight(z: np.float32, n: np.float32, step: StepNumbers) -> np.float32:
    """Weight of least regularized loss so far, given the gradients' sum z and squares n."""
    if abs(z) <= step.l1_paid:
        return _ZERO
    beyond = z - math.copysign(step.l1_paid, z)
    return -beyond / (np.float32(math.sqrt(n)) / step.learning_rate + step.l2_paid)


@njit(**INLINE)
def _embedding_shrinkage(L: Any, table: Any, t: int, a: int, step: StepNumbers) -> np.float32:
    """Factor that stretch a of the vector of the row at t owes to its prior."""
    missed = max(step.clock - table[t + L.clock], _ZERO)  # others may be ahead in Hogwild
    return _shrinkage(missed * step.l2_embedding * table[t + L.scale_v + a])


@njit(**INLINE)
def _weight(L: Any, table: Any, t: int, c: int, step: StepNumbers) -> np.float32:
    """Weight of the row at t for output c, all penalties paid."""
    if L.rule == FTRL:
        z = table[t + L.own_w + c]
        return _ftrl_weight(z, table[t + L.own_w + L.C + c], step)
    missed = max(step.clock - table[t + L.clock], _ZERO)
    shrink = _shrinkage(missed * step.l2_linear * table[t + L.scale_w])
    return table[t + L.K + c] * shrink


@njit(**INLINE)
def _pay(L: Any, table: Any, t: int, step: StepNumbers) -> None:
    """Let the row at t pay what it owes to the priors until now."""
    for a in range(L.stretches):
        factor = fill(L, _embedding_shrinkage(L, table, t, a, step))
        for k in range(a * L.stretch, (a + 1) * L.stretch, L.lanes):
            store(table, t + k, load(L, table, t + k) * factor)
    for c in range(L.C):
        table[t + L.K + c] = _weight(L, table, t, c, step)


@njit(**INLINE)
def fetch(L: Any, table: Any, t: int, work: Any, q: int, step: StepNumbers) -> None:
    """Let the row at t pay what it owes, copy it to the work at q, and zero the gradient behind."""
    _pay(L, table, t, step)
    table[t + L.clock] = step.clock
    for k in range(0, L.K, L.lanes):
        store(work, q + k, load(L, table, t + k))
        store(work, q + L.K + L.C + k, fill(L, _ZERO))
    for c in range(L.C):
        work[q + L.K + c] = table[t + L.K + c]
        work[q + 2 * L.K + L.C + c] = _ZERO


@njit(**COMPILE)
def settle(L: Any, table: Any, first: int, last: int, step: StepNumbers) -> None:
    """Let rows first to last of a table pay what they owe, and set their clocks to 0."""
    start = pointer(table)
    for i in range(first, last):
        _pay(L, start, i * L.width, step)
        start[i * L.width + L.clock] = _ZERO


@njit(**INLINE)
def take_step(L: Any, table: Any, t: int, work: Any, q: int, step: StepNumbers) -> None:
    """Step in the row at t, fetched before, along the gradient in the work at q."""
    if L.rule == ADAM:
        _adam(L, table, t, work, q, step)
        return
    gv = L.K + L.C
    gw = gv + L.K
    for a in range(L.stretches):
        _step_stretch(L, table, t, a, work, q + gv, step)
    scale_w = table[t + L.scale_w]
    if L.rule == ADAGRAD:
        squared = _ZERO
        for c in range(L.C):
            squared += work[q + gw + c] * work[q + gw + c]
        accumulator = table[t + L.own_w] + squared / np.float32(L.C)
        scale_w = _ONE / np.float32(math.sqrt(accumulator))
        table[t + L.own_w] = accumulator
        table[t + L.scale_w] = scale_w
    if L.rule == FTRL:
        _ftrl(L, table, t, work, q, step)
    else:
        for c in range(L.C):
            change = step.learning_rate * scale_w * work[q + gw + c]
            table[t + L.K + c] = table[t + L.K + c] - change


@njit(**INLINE)
def _step_stretch(
    L: Any, table: Any, t: int, a: int, work: Any, gradient: int, step: StepNumbers
) -> None:
    """Step in stretch a of the vector of the row at t; its gradient starts in the work there."""
    first, last = a * L.stretch, (a + 1) * L.stretch
    scale = table[t + L.scale_v + a]
    if L.rule != SGD:
        squares = fill(L, _ZERO)
        for k in range(first, last, L.lanes):
            g = load(L, work, gradient + k)
            squares = squares + g * g
        accumulator = table[t + L.own + a] + total(squares) / step.stretch
        scale = _ONE / np.float32(math.sqrt(accumulator))
        table[t + L.own + a] = accumulator
        table[t + L.scale_v + a] = scale
    rate = fill(L, step.learning_rate * scale)
    for k in range(first, last, L.lanes):
        store(table, t + k, load(L, table, t + k) - rate * load(L, work, gradient + k))


@njit(**INLINE)
def _ftrl(L: Any, table: Any, t: int, work: Any, q: int, step: StepNumbers) -> None:
    for c in range(L.C):
        z, n = L.own_w + c, L.own_w + L.C + c
        g = work[q + 2 * L.K + L.C + c]
        before = table[t + n]
        squares = before + g * g
        growth = np.float32(math.sqrt(squares)) - np.float32(math.sqrt(before))
        summed = table[t + z] + g - growth / step.learning_rate * table[t + L.K + c]
        table[t + z] = summed
        table[t + n] = squares
        table[t + L.K + c] = _ftrl_weight(summed, squares, step)


@njit(**INLINE)
def _adam(L: Any, table: Any, t: int, work: Any, q: int, step: StepNumbers) -> None:
    gv = L.K + L.C
    gw = gv + L.K
    mean, square = L.own + 1, L.own + 1 + gv
    count = table[t + L.own] + _ONE
    table[t + L.own] = count
    correct1 = _ONE / (_ONE - _BETA1**count)
    correct2 = _ONE / (_ONE - _BETA2**count)
    rate = step.learning_rate * correct1
    squares = fill(L, _ZERO)
    for k in range(0, L.K, L.lanes):
        g = load(L, work, q + gv + k)
        m = g + fill(L, _BETA1) * (load(L, table, t + mean + k) - g)
        s = g * g + fill(L, _BETA2) * (load(L, table, t + square + k) - g * g)
        store(table, t + mean + k, m)
        store(table, t + square + k, s)
        squares = squares + s
        divisor = root(s * fill(L, correct2)) + fill(L, _EPSILON)
        store(table, t + k, load(L, table, t + k) - fill(L, rate) * m / divisor)
    squared = _ZERO
    for c in range(L.C):
        g = work[q + gw + c]
        m = g + _BETA1 * (table[t + mean + L.K + c] - g)
        s = g * g + _BETA2 * (table[t + square + L.K + c] - g * g)
        table[t + mean + L.K + c] = m
        table[t + square + L.K + c] = s
        squared += s
        divisor = np.float32(math.sqrt(s * correct2)) + _EPSILON
        table[t + L.K + c] = table[t + L.K + c] - rate * m / divisor
    typical_v = np.float32(math.sqrt(total(squares) / step.stretch * correct2))
    typical_w = np.float32(math.sqrt(squared / np.float32(L.C) * correct2))
    table[t + L.scale_v] = _ONE / (typical_v + _EPSILON) if typical_v > _ZERO else _ZERO
    table[t + L.scale_w] = _ONE / (typical_w + _EPSILON) if typical_w > _ZERO else _ZERO
