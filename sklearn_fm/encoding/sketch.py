"""Distribution of a column of numbers, gathered chunk by chunk in bounded memory.

It cuts no bins; ``bins`` does that.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["Sketch"]

_SKETCH_SIZE = 2**13


class Sketch:
    """Distribution of the numbers of a column, gathered from any number of chunks.

    Exact for one chunk; before another is added, what is there is summarized by its least
    number and the last ones of 8191 pieces of about equal weight, so that a rank is off by at
    most a share of 1/8191 per chunk.

    Attributes
    ----------
    numbers : ndarray of shape (n,)
        Distinct, ascending.
    weights : ndarray of shape (n,)
        Weight of each.
    """

    def __init__(self) -> None:
        self.numbers: NDArray[np.float64] = np.empty(0)
        self.weights: NDArray[np.float64] = np.empty(0)

    @property
    def nbytes(self) -> int:
        """Bytes of memory in use."""
        return self.numbers.nbytes + self.weights.nbytes

    def add(self, numbers: NDArray[np.float64], weight: NDArray[np.float64] | None) -> None:
        """Take note of numbers, none of them NaN.

        Parameters
        ----------
        numbers : ndarray of shape (n,)
            In any order.
        weight : ndarray of shape (n,), default=None
            Their weights.
        """
        distinct, weights = _weighted_distinct(numbers, weight)
        if len(self.numbers):
            self.shorten()
            numbers = np.append(self.numbers, distinct)
            distinct, weights = _weighted_distinct(numbers, np.append(self.weights, weights))
        self.numbers, self.weights = distinct, weights

    def shorten(self) -> None:
        """Summarize by few numbers."""
        if len(self.numbers) > _SKETCH_SIZE:
            cumulative = np.cumsum(self.weights)
            ends = np.union1d(0, _quantile_ends(cumulative, _SKETCH_SIZE - 1))  # keeps the range
            self.numbers = self.numbers[ends]
            self.weights = np.diff(cumulative[ends], prepend=0.0)

    def quantiles(self, n_bins: int) -> NDArray[np.intp]:
        """Positions of the last number of each of at most `n_bins` bins of equal weight."""
        if len(self.numbers) <= n_bins:
            return np.arange(len(self.numbers))
        return _quantile_ends(np.cumsum(self.weights), n_bins)


def _quantile_ends(cumulative: NDArray[np.float64], n_bins: int) -> NDArray[np.intp]:
    """Positions of the last distinct number of each bin, from their cumulative weights.

    They ascend to the last number, even where weights are lost in the rounding of the sum.
    """
    cumulative = np.ldexp(cumulative, -np.frexp(cumulative[-1])[1])  # no multiple overflows
    last = len(cumulative) - 1
    ends: list[int] = []
    end, filled = -1, 0.0
    for left in range(n_bins, 1, -1):
        # cumulative >= filled + (total - filled) / left, multiplied out: exact for integers.
        goal = filled * (left - 1) + cumulative[-1]
        end = max(end + 1, int(np.searchsorted(cumulative * left, goal)))
        if end >= last:
            break
        ends.append(end)
        filled = cumulative[end]
    return np.array([*ends, last])


def _weighted_distinct(
    numbers: NDArray[np.float64], weights: NDArray[np.float64] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Distinct numbers in ascending order, with the sum of each one's weights."""
    numbers = numbers + 0.0  # -0.0 becomes 0.0
    if weights is None:
        distinct, counts = np.unique(numbers, return_counts=True)
        return distinct, counts.astype(np.float64)
    # Equal numbers are sorted by weight too: sums do not depend on the order of rows.
    order = np.lexsort((weights, numbers))
    numbers = numbers[order]
    is_first = np.append(True, numbers[1:] != numbers[:-1])[: len(numbers)]
    starts = np.flatnonzero(is_first)
    return numbers[starts], np.add.reduceat(weights[order], starts)
