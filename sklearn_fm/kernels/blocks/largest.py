"""Probabilities that each of several independent normal numbers is the largest, for many such sets.

The numbers' moments come from draws; where those come from is of no concern here.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from ..compile import COMPILE

__all__ = ["add_largest"]

_REACH = 8  # standard deviations beyond which a number is not expected
_PER_UNIT = 64
_NEGLIGIBLE = 1e-18
_X = np.arange(-_REACH * _PER_UNIT, _REACH * _PER_UNIT + 1) / _PER_UNIT
#: Distribution function and density of N(0, 1).
_NORMAL = np.array(
    [(math.erfc(-x / math.sqrt(2)) / 2, math.exp(-x * x / 2) / math.sqrt(2 * math.pi)) for x in _X]
)


@njit(**COMPILE)
def add_largest(means: Any, variances: Any, step: float, out: Any) -> None:
    """Add, over draws, the probabilities that each class has the largest latent target.

    P(c) = integral of Phi_1(z) ... Phi_C(z) phi_c(z) / Phi_c(z), where Phi and phi belong to the
    normal distributions of mean m and variance s^2 = 1 + variance. One grid serves all classes, so
    the cost is linear in their number.

    Parameters
    ----------
    means, variances : ndarray of float64 of shape (n_rows, n_draws, n_classes)
        Moments of raw predictions; latent targets have a variance of 1 besides.
    step : float
        Between nodes t, where z = low + 16 min(s) sinh(t).
    out : ndarray of float64 of shape (n_rows, n_classes)
        Is added to.

    Notes
    -----
    Below low = max(m - 8 s) the largest number is with probability 6e-16. A class that can be the
    largest has |m - low| <= 8 s, so that a grid of steps that grow with the distance from `low`
    is fine enough for all classes, however much their deviations differ; the trapezoidal rule
    converges exponentially there.
    """
    n_rows, n_draws, n_classes = means.shape
    center, narrowness = np.empty(n_classes), np.empty(n_classes)
    below, hazard = np.empty(n_classes), np.empty(n_classes)
    for row in range(n_rows):
        for draw in range(n_draws):
            # Distances are from the largest mean, lest large means cost digits.
            top = -np.inf
            for c in range(n_classes):
                top = max(top, means[row, draw, c])
            low, high, least = -np.inf, -np.inf, np.inf
            for c in range(n_classes):
                deviation = math.sqrt(1 + variances[row, draw, c])
                center[c], narrowness[c] = means[row, draw, c] - top, 1 / deviation
                low = max(low, center[c] - _REACH * deviation)
                high = max(high, center[c] + _REACH * deviation)
                least = min(least, deviation)
            unit = 2 * _REACH * least
            n_nodes = math.ceil(math.asinh((high - low) / unit) / step)
            for node in range(n_nodes, 0, -1):
                z = low + unit * math.sinh(node * step)
                for c in range(n_classes):
                    x = min((z - center[c]) * narrowness[c], _REACH)
                    # Taylor's series about the nearest number in the table.
                    near = int((x + _REACH) * _PER_UNIT + 0.5)
                    a = near / _PER_UNIT - _REACH
                    d, density = x - a, _NORMAL[near, 1]
                    second, third = a * a - 1, a * (a * a - 3)
                    rise = d * (1 + d * (-a / 2 + d * (second / 6 - d * third / 24)))
                    below[c] = _NORMAL[near, 0] + density * rise
                    density *= 1 + d * (-a + d * (second / 2 - d * third / 6))
                    hazard[c] = density * narrowness[c] / below[c]
                all_below = 1.0
                for c in range(n_classes):
                    all_below *= below[c]
                if all_below < _NEGLIGIBLE:
                    break  # and less so further down
                all_below *= unit * math.cosh(node * step) * step
                for c in range(n_classes):
                    out[row, c] += all_below * hazard[c]
