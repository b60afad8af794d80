"""What is predicted by raw predictions of many draws: probabilities, means and quantiles.

How raw predictions come about is told in ``posterior``.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from ...kernels import HAS_KERNELS
from .posterior import Raw

__all__ = [
    "clipped_means",
    "multinomial_probabilities",
    "normal_quantiles",
    "ordinal_probabilities",
    "probit_probabilities",
]

_STEP = 0.04  # between the nodes of a grid for one class


def probit_probabilities(raw: Raw) -> NDArray[np.float64]:
    """Probability of class 1, averaged over draws.

    Parameters
    ----------
    raw : Raw
        Raw predictions of one output.

    Returns
    -------
    ndarray of shape (n_rows,)
    """
    return ndtr(raw.mean[:, :, 0] / np.sqrt(1 + raw.variance[:, :, 0])).mean(axis=1)


def multinomial_probabilities(raw: Raw) -> NDArray[np.float64]:
    """Probabilities that each latent target is the largest, averaged over draws.

    P(c) = E_u[prod_{j != c} Phi((raw_c + s_c u - raw_j) / s_j)], u ~ N(0, 1), s^2 = 1 + variance.

    Parameters
    ----------
    raw : Raw
        Raw predictions of one output per class.

    Returns
    -------
    ndarray of shape (n_rows, n_classes)
        NaN for rows with a raw prediction that is none.

    Notes
    -----
    As an integral over the largest target, on a grid that all classes share: linear in the number
    of classes, to some 1e-8. The distribution of the largest narrows with that number, and
    with it the grid.
    """
    n_rows, _, n_classes = raw.mean.shape
    step = _STEP / math.sqrt(1 + math.log(n_classes))
    p = np.zeros((n_rows, n_classes))
    finite = np.isfinite(raw.mean) & np.isfinite(raw.variance)
    usable = np.asarray(finite.all(axis=(1, 2)))
    mean, variance = raw.mean, raw.variance
    if not usable.all():
        mean, variance = (np.where(usable[:, None, None], a, 0.0) for a in (mean, variance))
    if HAS_KERNELS:
        from ...kernels.blocks.largest import add_largest

        add_largest(mean, variance, step, p)
    else:
        for draw in range(mean.shape[1]):
            _add_largest_slowly(mean[:, draw], variance[:, draw], step, p)
    p[~usable] = np.nan
    return p / p.sum(axis=1, keepdims=True)


def _add_largest_slowly(
    mean: NDArray[np.float64], variance: NDArray[np.float64], step: float, out: NDArray[np.float64]
) -> None:
    """What `kernels.blocks.largest` does, for one draw and all rows at once."""
    deviation = np.sqrt(1 + variance)
    center = mean - mean.max(axis=1, keepdims=True)
    low, high = ((center + side * deviation).max(axis=1, keepdims=True) for side in (-8, 8))
    unit = 16 * deviation.min(axis=1, keepdims=True)
    for t in np.arange(step, np.arcsinh((high - low) / unit).max() + step, step):
        x = np.minimum((low + unit * np.sinh(t) - center) / deviation, 40)  # where all is 1 or 0
        below = ndtr(x)
        hazard = np.exp(-x * x / 2) / (math.sqrt(2 * math.pi) * deviation * below)
        out += unit * np.cosh(t) * step * below.prod(axis=1, keepdims=True) * hazard


def ordinal_probabilities(raw: Raw, cuts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities of the levels, averaged over draws.

    Parameters
    ----------
    raw : Raw
        Raw predictions of one output.
    cuts : ndarray of shape (n_draws, n_levels - 1)
        Cut points.

    Returns
    -------
    ndarray of shape (n_rows, n_levels)
    """
    deviation = np.sqrt(1 + raw.variance[:, :, 0])
    below = [
        ndtr((cuts[:, j] - raw.mean[:, :, 0]) / deviation).mean(axis=1)
        for j in range(cuts.shape[1])
    ]
    edges = np.column_stack([np.zeros(len(deviation)), *below, np.ones(len(deviation))])
    return np.diff(edges, axis=1)


def clipped_means(raw: Raw, low: float, high: float) -> NDArray[np.float64]:
    """Means of what is cut off at the ends of an interval, averaged over draws.

    E[clip(x, a, b)] = a + s (h((m - a) / s) - h((m - b) / s)), h(z) = z Phi(z) + phi(z), where x is
    normal with mean m and standard deviation s.

    Parameters
    ----------
    raw : Raw
        Raw predictions of one output.
    low, high : float
        Ends.

    Returns
    -------
    ndarray of shape (n_rows,)
    """
    mean, variance = raw.mean[:, :, 0], raw.variance[:, :, 0]
    clipped = np.clip(mean, low, high)
    uncertain = variance > 0
    s = np.sqrt(variance[uncertain])
    above, beyond = ((mean[uncertain] - end) / s for end in (low, high))
    clipped[uncertain] = low + s * (_mean_excess(above) - _mean_excess(beyond))
    return np.clip(clipped, low, high).mean(axis=1)


def _mean_excess(z: NDArray[np.float64]) -> NDArray[np.float64]:
    """E[max(z + u, 0)], u ~ N(0, 1)."""
    return z * ndtr(z) + np.exp(-z * z / 2) / math.sqrt(2 * math.pi)


def normal_quantiles(
    mean: NDArray[np.float64], deviation: NDArray[np.float64], level: float
) -> NDArray[np.float64]:
    """Quantiles of equal mixtures of normal distributions.

    Parameters
    ----------
    mean, deviation : ndarray of shape (n_rows, n_draws)
        Of the parts.
    level : float
        Probability below the quantile.

    Returns
    -------
    ndarray of shape (n_rows,)
    """
    center = mean.mean(axis=1)
    spread = np.sqrt((deviation**2).mean(axis=1) + mean.var(axis=1))
    out = center + ndtri(level) * spread
    if HAS_KERNELS:
        from ...kernels.blocks.draws import mixture_quantiles

        mixture_quantiles(mean, deviation, level, out)
        return out
    low, high = out - 20 * spread, out + 20 * spread
    for _ in range(60):
        middle = (low + high) / 2
        above = ndtr((middle[:, None] - mean) / deviation).mean(axis=1) > level
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return (low + high) / 2
