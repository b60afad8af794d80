"""Models of the noise: a precision per row, as factors that belong to the categories of fields.

They are drawn given residuals; what residuals are of is the business of ``likelihoods``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv, gammaln

__all__ = [
    "Noise",
    "draw_by_slice",
    "group_categories",
    "noise_floor",
    "noise_precision",
]

_FACTOR, _SHAPE = "noise_factor_", "noise_shape_"
_ENDS = math.log(2.0), math.log(1e5)  # of shapes; the largest is one precision for all
_FIRST_SHAPE = 4.0
_WIDTH = 0.5  # of a slice, in logarithms
_GOLDEN = (math.sqrt(5) - 1) / 2
_LEAST_ROWS = 20.0  # of a category that has a noise of its own
_ROUNDED = 1 / 48, 1e-4, 0.02  # share of a squared step, and least and most of the variance


class Noise:
    """Normal noise whose precision is a product over the categories of fields.

    The noise of row i of weight w_i has the precision w_i p_i,

        p_i = alpha prod_f lambda_f[g_f(i)],  lambda_f[g] ~ Gamma(a_f, a_f),  1 / a_f ~ U(0, 1/2),

    where g_f(i) is the group of the row's category of field f. Factors have mean 1, and their
    variance 1 / a_f is drawn along: where all groups are alike it becomes 0, which is one precision
    for all. alpha ~ Gamma(shape, rate), and the joint density is multiplied by
    exp(-floor sum_i w_i p_i / 2). A weight of w is that many copies of a row.

    Parameters
    ----------
    weight : ndarray of shape (n_rows,)
        Sample weights w.
    groups : mapping of str to ndarray of int of shape (n_rows,), default=None
        Group of each row, from 0, by the name of the field; None for one precision.
    sizes : mapping of str to int, default=None
        Number of groups by the name of the field. The factor of one without rows is drawn from the
        prior, by which all draws together integrate over what is unknown.
    shape, rate : float
        Prior of alpha.
    floor : float, default=0
        Variance below which precisions gain nothing. Without it groups whose targets are all equal,
        as users who give one rating to all, have precisions without end, and alpha with them.

    Attributes
    ----------
    precision : float
        alpha.
    factors : dict of str to ndarray of shape (n_groups,)
        lambda_f.
    shapes : dict of str to float
        a_f.
    """

    def __init__(
        self,
        weight: NDArray[np.float64],
        groups: Mapping[str, NDArray[np.intp]] | None = None,
        sizes: Mapping[str, int] | None = None,
        *,
        shape: float = 1.0,
        rate: float = 0.01,
        floor: float = 0.0,
    ) -> None:
        self.weight, self.groups = weight, dict(groups or {})
        self.shape, self.rate, self.floor = shape, rate, floor
        self.precision = 1.0
        self.factors = {name: np.ones((sizes or {})[name]) for name in self.groups}
        self.shapes = dict.fromkeys(self.groups, _FIRST_SHAPE)
        self._half_rows, self._counts = {}, {}
        for name, group in self.groups.items():
            rows = np.bincount(group, weights=weight, minlength=len(self.factors[name])) / 2
            self._half_rows[name] = rows
            self._counts[name] = np.unique(rows, return_counts=True)
        self._total = float(weight.sum())
        self._last = list(self.groups)[-1] if self.groups else ""
        self._of_rows = weight.copy()  # w_i p_i

    def draw(self, residual: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
        """Draw everything once.

        Parameters
        ----------
        residual : ndarray of shape (n_rows,)
            Targets less raw predictions.
        rng : numpy.random.Generator
            Source of randomness.

        Returns
        -------
        ndarray of shape (n_rows,)
            Precision of each row, w_i p_i. The array is that of the next draw, too.

        Notes
        -----
        Shapes are drawn with their factors integrated out: a group of n rows with
        2 s = sum_i w_i (e_i^2 + floor) p_i / lambda has the marginal likelihood

            a^a / Gamma(a) * Gamma(a + n / 2) / (a + s)^(a + n / 2),

        and its factor is Gamma(a + n / 2, a + s). Then alpha, and for every field a step that
        multiplies alpha by a number and divides all factors by it, which leaves precisions alone:
        without it they would hold each other back.

        References
        ----------
        Liu, Sabatti (2000), Generalised Gibbs sampler and multigrid Monte Carlo for Bayesian
        computation, Biometrika 87(2).
        """
        squares = residual**2
        squares += self.floor
        squares *= self._of_rows
        total = None if self.groups else float(squares.sum())
        for name, group in self.groups.items():
            before = self.factors[name]
            of_groups = np.bincount(group, weights=squares, minlength=len(before))
            self._draw_factors(name, of_groups / before / 2, rng)
            change = self.factors[name] / before
            total = float(of_groups @ change)
            of_rows = change[group]
            self._of_rows *= of_rows
            if name != self._last:  # of which the total is all that is needed
                squares *= of_rows
        assert total is not None
        rate = self.rate + total / self.precision / 2
        precision = rng.gamma(self.shape + self._total / 2) / rate
        self._of_rows *= precision / self.precision
        self.precision = precision
        for name in self.groups:
            self._exchange(name, rng)
        return self._of_rows

    def _draw_factors(
        self, name: str, half_squares: NDArray[np.float64], rng: np.random.Generator
    ) -> None:
        """Draw the shape of a field, then its factors."""
        half_rows = self._half_rows[name]
        different, count = self._counts[name]
        n_groups = len(half_rows)

        def log_density(log_a: float) -> float:
            a = math.exp(log_a)
            known = n_groups * (a * log_a - math.lgamma(a)) + float(count @ gammaln(a + different))
            # the prior is a^-2 da, so a^-1 d log a
            return known - float((a + half_rows) @ np.log(a + half_squares)) - log_a

        log_a = math.log(self.shapes[name])
        log_a = draw_by_slice(log_density, log_a, rng, width=_WIDTH, ends=_ENDS)
        self.shapes[name] = a = math.exp(log_a)
        self.factors[name] = rng.standard_gamma(a + half_rows) / (a + half_squares)

    def _exchange(self, name: str, rng: np.random.Generator) -> None:
        """Multiply alpha by a number, and divide a field's factors by it."""
        factors, a = self.factors[name], self.shapes[name]
        n_groups, total = len(factors), float(factors.sum())

        def log_density(t: float) -> float:
            c = math.exp(t)
            return t * (self.shape - n_groups * a) - self.rate * self.precision * c - a * total / c

        width = 2 / math.sqrt(n_groups * a)
        c = math.exp(draw_by_slice(log_density, 0.0, rng, width=width, ends=(-50.0, 50.0)))
        self.precision *= c
        self.factors[name] = factors / c

    def values(self) -> dict[str, NDArray[np.float64]]:
        """alpha, factors and shapes by name, for `noise_precision`."""
        found = {"noise_precision": np.array([self.precision])}
        for name in self.groups:
            found[_SHAPE + name] = np.array([self.shapes[name]])
            found[_FACTOR + name] = self.factors[name].copy()
        return found

    def load_values(self, values: Mapping[str, NDArray[np.float64]]) -> None:
        """Go on from such values; fields whose groups are others start from factors of 1."""
        self.precision = float(values["noise_precision"][0])
        for name, factors in self.factors.items():
            known = values.get(_FACTOR + name, factors)
            factors[:] = known if len(known) == len(factors) else 1.0
            self.shapes[name] = float(values.get(_SHAPE + name, [_FIRST_SHAPE])[0])
        self._of_rows = self.weight * self.precision
        for name, group in self.groups.items():
            self._of_rows *= self.factors[name][group]


def noise_floor(target: NDArray[np.float64]) -> float:
    """Variance below which the noise of a target of unit variance cannot be told.

    A part of the variance that rounding to the least step between two values leaves, or that of a
    standard deviation of a hundredth where steps are small.

    Parameters
    ----------
    target : ndarray of shape (n_rows,)
        Targets.

    Returns
    -------
    float
    """
    steps = np.diff(np.unique(target))
    share, least, most = _ROUNDED
    return float(np.clip(share * steps.min() ** 2, least, most)) if len(steps) else least


def group_categories(
    category: NDArray[np.intp], weight: NDArray[np.float64], n_categories: int
) -> NDArray[np.int32]:
    """Group of each category of a field; those of few rows share the first one.

    Of few rows the noise would be what the weights left of them: users of two ratings each
    looked like users without noise.

    Parameters
    ----------
    category : ndarray of int of shape (n_rows,)
        Category of each row, 0 for the unknown one.
    weight : ndarray of shape (n_rows,)
        Sample weights.
    n_categories : int
        Number of categories.

    Returns
    -------
    ndarray of int32 of shape (n_categories,)
        From 0; a group of its own for each category of twenty rows or more, but the unknown one.
    """
    own = np.bincount(category, weights=weight, minlength=n_categories) >= _LEAST_ROWS
    own[0] = False
    return np.where(own, np.cumsum(own), 0).astype(np.int32)


def noise_precision(
    values: Mapping[str, NDArray[np.float64]],
    groups: Mapping[str, NDArray[np.intp]],
    n_rows: int,
    unseen: frozenset[str] = frozenset(),
) -> NDArray[np.float64]:
    """Precision of the noise of rows by each draw.

    Parameters
    ----------
    values : mapping of str to ndarray of shape (n_draws, ...)
        What `Noise.values` gave, by draw.
    groups : mapping of str to ndarray of int of shape (n_rows,)
        Group of each row by the name of the field.
    n_rows : int
        Number of rows.
    unseen : frozenset of str, default=frozenset()
        Fields whose first group had no rows. The draws of its factor, which may be few, give way to
        quantiles of its distribution.

    Returns
    -------
    ndarray of shape (n_rows, n_draws)
    """
    of_draws = values["noise_precision"][:, 0]
    precision: NDArray[Any] = np.broadcast_to(of_draws, (n_rows, len(of_draws)))
    for name, group in groups.items():
        factors = values[_FACTOR + name]
        if name in unseen:
            factors = factors.copy()
            factors[:, 0] = _spread_out(values[_SHAPE + name][:, 0])
        precision = precision * factors.T[group]
    return precision


def _spread_out(shapes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Quantiles of gamma distributions of mean 1, one of each, evenly and in no order.

    The mean of their inverses is that of the distributions.
    """
    n = len(shapes)
    order = np.argsort(np.argsort(np.arange(n) * _GOLDEN % 1))
    factors = gammaincinv(shapes, (order + 0.5) / n) / shapes
    expected = (shapes / (shapes - 1)).mean()
    return np.asarray(factors * (1 / factors).mean() / expected)


def draw_by_slice(
    log_density: Callable[[float], float],
    x: float,
    rng: np.random.Generator,
    *,
    width: float,
    ends: tuple[float, float],
) -> float:
    """Draw a number given the one before, so that a density is left as it is.

    Parameters
    ----------
    log_density : callable
        Logarithm of the density, up to a constant.
    x : float
        The number before.
    rng : numpy.random.Generator
        Source of randomness.
    width : float
        About the width of the density: by such steps the interval is widened.
    ends : tuple of (float, float)
        Where the density ends.

    Returns
    -------
    float
        The number before where its density is none, as in a chain that has diverged.

    References
    ----------
    Neal (2003), Slice sampling, Annals of Statistics 31(3), figures 3 and 5.
    """
    level = log_density(x) - rng.exponential()
    if not math.isfinite(level):
        return x
    low = x - width * rng.random()
    high = min(low + width, ends[1])
    low = max(low, ends[0])
    while low > ends[0] and log_density(low) > level:
        low = max(low - width, ends[0])
    while high < ends[1] and log_density(high) > level:
        high = min(high + width, ends[1])
    while True:
        drawn = low + (high - low) * rng.random()
        if log_density(drawn) >= level:  # as it is at x, to rounding
            return drawn
        low, high = (drawn, high) if drawn < x else (low, drawn)
