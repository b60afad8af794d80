"""What the targets are, given raw predictions: how latent targets, noise and biases are drawn.

Each class turns its targets into Gaussian ones, whose residuals it gives to the tables of blocks:
one table per raw prediction of a row. Predictive distributions are in ``predictive``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, ndtr, ndtri, ndtri_exp

from ...kernels import HAS_KERNELS
from ..blocks.contract import BlockTable
from .noise import Noise

__all__ = [
    "Gaussian",
    "Likelihood",
    "MultinomialProbit",
    "OrdinalProbit",
    "Probit",
    "between",
    "count_copies",
]

_BIAS_PRECISION = 0.01  # of the bias, around 0
_MAX_COPIES = 100
_FARTHEST = 1e3  # that a latent target may be from its mean


class Likelihood(Protocol):
    """Targets of all rows.

    Attributes
    ----------
    bias : ndarray of shape (n_outputs,)
        One per raw prediction.
    """

    bias: NDArray[np.float64]

    def start(self, block_tables: Sequence[BlockTable]) -> None:
        """Give the tables residuals, from weights of 0 and the best bias."""

    def draw(self, block_tables: Sequence[BlockTable], rng: np.random.Generator) -> None:
        """Draw what is latent, the noise and the biases, given the weights."""

    def loss(
        self, block_tables: Sequence[BlockTable], rows: NDArray[np.intp] | None = None
    ) -> float:
        """Training error of the weights as they are, on all rows or some."""

    def raw(
        self, block_tables: Sequence[BlockTable], rows: NDArray[np.intp] | None = None
    ) -> NDArray[np.float64]:
        """Raw predictions of all rows, (n_rows, n_outputs), or of some."""

    def values(self) -> dict[str, NDArray[np.float64]]:
        """What predictions need besides weights: bias, and noise or cut points."""

    def load_values(self, values: dict[str, NDArray[np.float64]]) -> None:
        """Go on from such values."""


class _Targets:
    """Targets with weights; the part that all likelihoods share.

    Parameters
    ----------
    weight : ndarray of shape (n_rows,)
        Sample weights.
    n_outputs : int
        Raw predictions per row.
    """

    def __init__(self, weight: NDArray[np.float64], n_outputs: int) -> None:
        self.weight = weight
        self.bias = np.zeros(n_outputs)
        self.target = np.zeros((len(weight), n_outputs))  # Gaussian ones

    def raw(
        self, block_tables: Sequence[BlockTable], rows: NDArray[np.intp] | None = None
    ) -> NDArray[np.float64]:
        """Raw predictions of all rows, or of some."""
        target = self.target if rows is None else self.target[rows]
        return target - np.column_stack([table.residuals(rows) for table in block_tables])

    def values(self) -> dict[str, NDArray[np.float64]]:
        """Biases."""
        return {"bias": self.bias.copy()}

    def load_values(self, values: dict[str, NDArray[np.float64]]) -> None:
        """Go on from biases."""
        self.bias = np.array(values["bias"], dtype=np.float64)

    def _set(
        self,
        block_tables: Sequence[BlockTable],
        raw: NDArray[np.float64],
        precision: NDArray[np.float64],
        rng: np.random.Generator,
    ) -> None:
        """Draw biases given raw predictions and new targets, and tell the tables."""
        total = precision.sum() + _BIAS_PRECISION
        for c, block_table in enumerate(block_tables):
            residual = self.target[:, c] - raw[:, c]
            # (precision @ (residual + bias) is the likelihood's, the prior's mean is 0)
            mean = (precision @ residual + precision.sum() * self.bias[c]) / total
            drawn = mean + rng.standard_normal() / math.sqrt(total)
            block_table.set_residuals(residual - (drawn - self.bias[c]), precision)
            self.bias[c] = drawn


class Gaussian(_Targets):
    """Targets with normal noise of unknown precision: y_i ~ N(raw_i, 1 / p_i).

    Parameters
    ----------
    target : ndarray of shape (n_rows,)
        Targets of about unit variance.
    noise : Noise
        Model of the precisions p, which has the sample weights.
    """

    def __init__(self, target: NDArray[np.float64], noise: Noise) -> None:
        super().__init__(noise.weight, 1)
        self.target[:, 0] = target
        self.noise = noise

    def start(self, block_tables: Sequence[BlockTable]) -> None:
        """Take the weighted mean of the target for bias."""
        self.bias[:] = np.average(self.target[:, 0], weights=self.weight)
        block_tables[0].set_residuals(self.target[:, 0] - self.bias[0], self.weight)

    def draw(self, block_tables: Sequence[BlockTable], rng: np.random.Generator) -> None:
        """Draw the noise's precision and the bias."""
        residual = block_tables[0].residuals()
        precision = self.noise.draw(residual, rng)
        self._set(block_tables, self.target - residual[:, None], precision, rng)

    def loss(
        self, block_tables: Sequence[BlockTable], rows: NDArray[np.intp] | None = None
    ) -> float:
        """Root mean squared error in units of the target given."""
        weight = self.weight if rows is None else self.weight[rows]
        return math.sqrt(np.average(block_tables[0].residuals(rows) ** 2, weights=weight))

    def values(self) -> dict[str, NDArray[np.float64]]:
        """Bias and noise."""
        return super().values() | self.noise.values()

    def load_values(self, values: dict[str, NDArray[np.float64]]) -> None:
        """Go on from such values."""
        super().load_values(values)
        self.noise.load_values(values)


def count_copies(weight: NDArray[np.float64]) -> NDArray[np.intp]:
    """Rows that a row stands for where targets are latent: its weight rounded up, 100 at most.

    Parameters
    ----------
    weight : ndarray of shape (n_rows,)
        Sample weights.

    Returns
    -------
    ndarray of int of shape (n_rows,)
    """
    return np.clip(np.ceil(weight), 1, _MAX_COPIES).astype(np.intp)


class _Latent(_Targets):
    """Targets that are signs or ranks of latent ones of unit noise.

    A row of weight w stands for m = ceil(w) rows (100 at most) of precision w / m each, so a whole
    weight is that many copies of a row. The block_table sees the mean of their latent targets.

    Parameters
    ----------
    weight : ndarray of shape (n_rows,)
        Sample weights.
    n_outputs : int
        Raw predictions per row.
    """

    def __init__(self, weight: NDArray[np.float64], n_outputs: int) -> None:
        super().__init__(weight, n_outputs)
        copies = count_copies(weight)
        self.single = bool(np.all(weight == 1))
        self.of: Any = slice(None) if self.single else np.repeat(np.arange(len(weight)), copies)
        self.copies = copies
        self.unit_of_row = np.sqrt(weight / copies)  # of a copy, 1 / its noise
        self.unit = np.ones(1) if self.single else self.unit_of_row[self.of]

    def _take(self, c: int, latent: NDArray[np.float64]) -> None:
        """Make means over the copies of rows the targets of output c."""
        if self.single:
            self.target[:, c] = latent
            return
        sums = np.bincount(self.of, weights=latent, minlength=len(self.weight))
        self.target[:, c] = sums / self.copies


class Probit(_Latent):
    """Two classes: the sign of a latent target, P(1) = Phi(raw).

    Parameters
    ----------
    target : ndarray of shape (n_rows,)
        0 or 1.
    weight : ndarray of shape (n_rows,)
        Sample weights.

    References
    ----------
    Albert, Chib (1993), Bayesian analysis of binary and polychotomous response data, JASA 88.
    """

    def __init__(self, target: NDArray[np.float64], weight: NDArray[np.float64]) -> None:
        super().__init__(weight, 1)
        self.sign = np.where(target > 0, 1.0, -1.0)

    def start(self, block_tables: Sequence[BlockTable]) -> None:
        """Take the share of class 1 for bias."""
        share = np.average(self.sign > 0, weights=self.weight)
        self.bias[:] = ndtri(min(max(share, 1e-6), 1 - 1e-6))
        self.target[:] = self.bias
        block_tables[0].set_residuals(np.zeros(len(self.weight)), self.weight)

    def draw(self, block_tables: Sequence[BlockTable], rng: np.random.Generator) -> None:
        """Draw latent targets on the side of the class, then the bias."""
        raw = self.raw(block_tables)
        mean, sign = self.unit * raw[self.of, 0], self.sign[self.of]
        margin = sign * mean
        apart = -_draw_below(margin, rng)
        self._take(0, (mean + sign * apart) / self.unit)
        self._set(block_tables, raw, self.weight, rng)

    def loss(
        self, block_tables: Sequence[BlockTable], rows: NDArray[np.intp] | None = None
    ) -> float:
        """Mean log loss."""
        at = slice(None) if rows is None else rows
        margin = self.unit_of_row[at] * self.sign[at] * self.raw(block_tables, rows)[:, 0]
        return float(-self.copies[at] @ log_ndtr(margin) / self.weight[at].sum())


class MultinomialProbit(_Latent):
    """More classes: the largest of latent targets, one per class, with independent noise.

    Parameters
    ----------
    target : ndarray of shape (n_rows,)
        0 .. n_classes - 1.
    weight : ndarray of shape (n_rows,)
        Sample weights.
    n_classes : int
        Number of classes.

    References
    ----------
    Albert, Chib (1993), Bayesian analysis of binary and polychotomous response data, JASA 88.
    """

    def __init__(
        self, target: NDArray[np.float64], weight: NDArray[np.float64], n_classes: int
    ) -> None:
        super().__init__(weight, n_classes)
        self.label = target.astype(np.intp)
        n = len(self.label[self.of])
        self.latent = np.full((n, n_classes), -0.5)
        self.latent[np.arange(n), self.label[self.of]] = 0.5

    def start(self, block_tables: Sequence[BlockTable]) -> None:
        """Start from latent targets that agree with the labels."""
        for c, block_table in enumerate(block_tables):
            block_table.set_residuals(np.zeros(len(self.weight)), self.weight)
            self.target[:, c] = self.bias[c]

    def draw(self, block_tables: Sequence[BlockTable], rng: np.random.Generator) -> None:
        """Draw the label's latent target above the others, these below it, then the biases."""
        raw = self.raw(block_tables)
        mean, label = self.unit[:, None] * raw[self.of], self.label[self.of]
        rows = np.arange(len(label))
        z = self.latent
        others = z.copy()
        others[rows, label] = -np.inf
        own = mean[rows, label]
        own = own - _draw_below(own - others.max(axis=1), rng)
        for c in range(z.shape[1]):
            drawn = mean[:, c] + _draw_below(own - mean[:, c], rng)
            z[:, c] = np.where(label == c, own, drawn)
            self._take(c, z[:, c] / self.unit)
        self._set(block_tables, raw, self.weight, rng)

    def loss(
        self, block_tables: Sequence[BlockTable], rows: NDArray[np.intp] | None = None
    ) -> float:
        """Share of rows whose largest raw prediction is another class's; NaN where one is none."""
        at = slice(None) if rows is None else rows
        raw = self.raw(block_tables, rows)
        wrong = np.where(np.isfinite(raw).all(axis=1), raw.argmax(axis=1) != self.label[at], np.nan)
        return float(np.average(wrong, weights=self.weight[at]))


class OrdinalProbit(_Latent):
    """Ordered levels: the interval between two cut points in which a latent target lies.

    P(y <= j) = Phi(cut_j - raw). The first cut point is 0; logarithms of the gaps between the
    others are N(0, 1) a priori and are moved by random walks, given raw predictions alone.

    Parameters
    ----------
    target : ndarray of shape (n_rows,)
        Levels 0 .. n_levels - 1.
    weight : ndarray of shape (n_rows,)
        Sample weights.
    n_levels : int
        Number of levels, two or more.

    References
    ----------
    Cowles (1996), Accelerating Monte Carlo Markov chain convergence for cumulative-link generalized
    linear models, Statistics and Computing 6.
    """

    def __init__(
        self, target: NDArray[np.float64], weight: NDArray[np.float64], n_levels: int
    ) -> None:
        super().__init__(weight, 1)
        self.level = target.astype(np.intp)
        share = np.cumsum(np.bincount(self.level, weights=weight, minlength=n_levels))
        first = ndtri(np.clip(share / share[-1], 1e-4, 1 - 1e-4))[:-1]
        self.cuts = first - first[0]
        self.log_gaps = np.log(np.maximum(np.diff(self.cuts), 0.05))
        self.cuts = self._cuts(self.log_gaps)
        self._start_bias = -first[0]
        self._steps = np.full(n_levels - 2, 0.02)  # of the random walks, in logarithms
        self._n_draws = 0

    @staticmethod
    def _cuts(log_gaps: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.concatenate([[0.0], np.cumsum(np.exp(log_gaps))])

    def start(self, block_tables: Sequence[BlockTable]) -> None:
        """Take cut points and bias from the shares of the levels."""
        self.bias[:] = self._start_bias
        self.target[:] = self.bias
        block_tables[0].set_residuals(np.zeros(len(self.weight)), self.weight)

    def draw(self, block_tables: Sequence[BlockTable], rng: np.random.Generator) -> None:
        """Move cut points, draw latent targets between them, then the bias."""
        raw = self.raw(block_tables)
        self._move_cuts(raw[:, 0], rng)
        mean = raw[self.of, 0]
        low, high = self._ends(self.level[self.of], mean, self.cuts, self.unit)
        z = between(rng.random(len(mean)), low, high)
        self._take(0, mean + z / self.unit)
        self._set(block_tables, raw, self.weight, rng)

    @staticmethod
    def _ends(
        level: NDArray[np.intp],
        mean: NDArray[np.float64],
        cuts: NDArray[np.float64],
        unit: NDArray[np.float64],
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Interval of the noise of each row or copy, in units of the noise; ends are finite."""
        edges = np.concatenate([[-np.inf], cuts, [np.inf]])
        low = np.clip(unit * (edges[level] - mean), -38, 38)
        high = np.clip(unit * (edges[level + 1] - mean), -38, 38)
        return low, high

    def _log_likelihood(
        self, raw: NDArray[np.float64], cuts: NDArray[np.float64], at: Any = slice(None)
    ) -> float:
        """Of rows `at`, whose raw predictions are given."""
        low, high = self._ends(self.level[at], raw, cuts, self.unit_of_row[at])
        flip = low + high > 0
        a, b = np.where(flip, -high, low), np.where(flip, -low, high)
        return float(self.copies[at] @ np.log(np.maximum(ndtr(b) - ndtr(a), 1e-300)))

    def _move_cuts(self, raw: NDArray[np.float64], rng: np.random.Generator) -> None:
        """One Metropolis step for each gap, with latent targets integrated out."""
        now = self._log_likelihood(raw, self.cuts)
        self._n_draws += 1
        for j in range(len(self.log_gaps)):
            proposed = self.log_gaps.copy()
            proposed[j] += self._steps[j] * rng.standard_normal()
            cuts = self._cuts(proposed)
            then = self._log_likelihood(raw, cuts)
            prior = (self.log_gaps[j] ** 2 - proposed[j] ** 2) / 2
            chance = math.exp(min(then - now + prior, 0.0))
            if rng.random() < chance:
                self.log_gaps, self.cuts, now = proposed, cuts, then
            # the step adapts less and less, towards accepting 0.44
            self._steps[j] *= math.exp((chance - 0.44) / math.sqrt(self._n_draws))

    def loss(
        self, block_tables: Sequence[BlockTable], rows: NDArray[np.intp] | None = None
    ) -> float:
        """Mean negative log-likelihood."""
        at = slice(None) if rows is None else rows
        raw = self.raw(block_tables, rows)[:, 0]
        return -self._log_likelihood(raw, self.cuts, at) / float(self.weight[at].sum())

    def values(self) -> dict[str, NDArray[np.float64]]:
        """Bias and cut points."""
        return super().values() | {"cuts": self.cuts.copy()}

    def load_values(self, values: dict[str, NDArray[np.float64]]) -> None:
        """Go on from such values."""
        super().load_values(values)
        self.cuts = np.array(values["cuts"], dtype=np.float64)
        self.log_gaps = np.log(np.diff(self.cuts))


def between(
    u: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Quantiles of standard normal numbers that lie in intervals.

    Parameters
    ----------
    u : ndarray
        Probabilities.
    low, high : ndarray
        Ends of the intervals, within 38 of 0.

    Returns
    -------
    ndarray
    """
    # in the upper tail differences of probabilities vanish, in the lower one they do not
    flip = low + high > 0
    a, b = np.where(flip, -high, low), np.where(flip, -low, high)
    at_a = ndtr(a)
    z = np.clip(ndtri(at_a + u * (ndtr(b) - at_a)), a, b)
    return np.where(flip, -z, z)


def _draw_below(limit: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw standard normal numbers below limits, (n,)."""
    if not HAS_KERNELS:
        return _lower_tail(rng.random(len(limit)), limit)
    from ...kernels.blocks.normals import fill_above

    drawn = np.empty(len(limit))
    fill_above(int(rng.integers(2**62)), -limit, drawn)
    return np.maximum(-drawn, -_FARTHEST)


def _lower_tail(u: NDArray[np.float64], limit: NDArray[np.float64]) -> NDArray[np.float64]:
    """Quantile u of a standard normal number that is below a limit, (n,)."""
    drawn = ndtri(u * ndtr(limit))
    far = limit < -30
    if far.any():
        with np.errstate(divide="ignore"):
            drawn[far] = ndtri_exp(np.log(np.maximum(u[far], 1e-300)) + log_ndtr(limit[far]))
    return np.maximum(drawn, -_FARTHEST)
