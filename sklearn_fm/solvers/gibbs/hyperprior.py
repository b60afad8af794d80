"""Gaussian priors of the blocks of each vocabulary, and how their means and precisions are drawn.

theta_i ~ N(mu_g, Sigma_g) for the blocks i of prior g, theta = [v_1 .. v_K, w]. Every class draws
(mu_g, Sigma_g) given the blocks, from its full conditional.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..blocks.contract import Moments

__all__ = ["FixedPrior", "HalfT", "Hyperprior", "Wishart", "make_hyperprior"]

_MEAN_WEIGHT = 2.0  # blocks that the prior of a mean, 0, counts for


class Hyperprior(Protocol):
    """Means and precisions of all priors.

    Attributes
    ----------
    mean : ndarray of shape (n_priors, D)
        mu.
    precision : ndarray of shape (n_priors, D, D)
        Inverse of Sigma.
    """

    mean: NDArray[np.float64]
    precision: NDArray[np.float64]

    def draw(self, moments: Moments, rng: np.random.Generator) -> None:
        """Draw means and precisions given the blocks of each prior, by their sums."""

    def of_shift(self, g: int) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Gaussian prior of a step c that mu_g and all blocks of prior g may take together.

        Returns
        -------
        precision : ndarray of shape (D, D)
        shift : ndarray of shape (D,)
            Precision times mean; None in place of both if they may not.
        """

    def of_stretch(self, g: int) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Likewise of the factors by which the coordinates of blocks, mu_g and Sigma_g go."""

    def shift(self, g: int, step: NDArray[np.float64]) -> None:
        """Take the step that the blocks took."""

    def stretch(self, g: int, factors: NDArray[np.float64]) -> None:
        """Stretch as the blocks were."""

    def state(self) -> dict[str, NDArray[np.float64]]:
        """Everything to go on from."""

    def load_state(self, state: dict[str, NDArray[np.float64]]) -> None:
        """Take over a state."""


class FixedPrior:
    """Mean 0 and independent coordinates of known precision.

    Parameters
    ----------
    n_priors : int
        Number of priors.
    precision : ndarray of shape (D,)
        Precision of each coordinate.
    """

    def __init__(self, n_priors: int, precision: NDArray[np.float64]) -> None:
        D = len(precision)
        self.mean = np.zeros((n_priors, D))
        self.precision = np.tile(np.diag(precision), (n_priors, 1, 1))

    def draw(self, moments: Moments, rng: np.random.Generator) -> None:
        """Leave all as it is."""

    def of_shift(self, g: int) -> None:
        """Nothing: the mean is known."""

    def of_stretch(self, g: int) -> None:
        """Nothing: the scale is known."""

    def shift(self, g: int, step: NDArray[np.float64]) -> None:
        """Move nothing: means stay 0."""

    stretch = shift

    def state(self) -> dict[str, NDArray[np.float64]]:
        """Means and precisions."""
        return {"mean": self.mean.copy(), "precision": self.precision.copy()}

    def load_state(self, state: dict[str, NDArray[np.float64]]) -> None:
        """Leave all as it is: parameters may have changed since."""


class _NormalWishart:
    """What the sampled hyperpriors share: mu | Sigma ~ N(0, Sigma / 2).

    Parameters
    ----------
    n_priors : int
        Number of priors.
    dim : int
        Number of coordinates, D.
    scale : float or ndarray of shape (D,)
        Standard deviation that coordinates are taken to have.
    """

    def __init__(self, n_priors: int, dim: int, scale: float | NDArray[np.float64]) -> None:
        self.scale = np.broadcast_to(scale, (dim,))
        self.mean = np.zeros((n_priors, dim))
        self.precision = np.tile(np.diag(1 / self.scale**2), (n_priors, 1, 1))

    def of_shift(self, g: int) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """What is left of p(mu | Sigma): blocks around their mean stay as they are."""
        precision = _MEAN_WEIGHT * self.precision[g]
        return precision, -precision @ self.mean[g]

    def shift(self, g: int, step: NDArray[np.float64]) -> None:
        """Move the mean."""
        self.mean[g] += step

    def state(self) -> dict[str, NDArray[np.float64]]:
        """Means and precisions."""
        return {"mean": self.mean.copy(), "precision": self.precision.copy()}

    def load_state(self, state: dict[str, NDArray[np.float64]]) -> None:
        """Take over a state."""
        self.mean, self.precision = state["mean"].copy(), state["precision"].copy()

    def _draw(
        self,
        moments: Moments,
        scatter: NDArray[np.float64],
        degrees: float,
        rng: np.random.Generator,
    ) -> None:
        """Draw precisions with means integrated out, then means; `scatter` is the inverse scale."""
        dim = scatter.shape[1]
        n_blocks, sums = moments.counts, moments.sums
        apart = sums / np.maximum(n_blocks, 1)[:, None]
        center = np.where(n_blocks[:, None] > 0, moments.center + apart, 0.0)
        scatter += moments.squares - sums[:, :, None] * apart[:, None, :]
        shrink = _MEAN_WEIGHT * n_blocks / (_MEAN_WEIGHT + n_blocks)
        scatter += shrink[:, None, None] * center[:, :, None] * center[:, None, :]
        # Bartlett: with scatter = R R', precision = M M' for M = R^-T B, B lower triangular
        B = np.tril(rng.standard_normal(scatter.shape), -1)
        freedom = degrees + n_blocks[:, None] - np.arange(dim)
        B[:, np.arange(dim), np.arange(dim)] = np.sqrt(rng.chisquare(freedom))
        R = np.linalg.cholesky(scatter)
        M = np.linalg.solve(R.transpose(0, 2, 1), B)
        self.precision = M @ M.transpose(0, 2, 1)
        spread = np.linalg.solve(M.transpose(0, 2, 1), rng.standard_normal((len(scatter), dim, 1)))
        total = (n_blocks + _MEAN_WEIGHT)[:, None]
        self.mean = n_blocks[:, None] * center / total + spread[:, :, 0] / np.sqrt(total)


class Wishart(_NormalWishart):
    """Normal-Wishart prior of fixed scale, as in Bayesian matrix factorization.

    Sigma^-1 ~ Wishart(D, (D diag(scale^2))^-1), mu | Sigma ~ N(0, Sigma / 2).

    References
    ----------
    Salakhutdinov, Mnih (2008), Bayesian probabilistic matrix factorization using Markov chain Monte
    Carlo, ICML.
    """

    def draw(self, moments: Moments, rng: np.random.Generator) -> None:
        """Draw precisions and means."""
        dim = self.mean.shape[1]
        scatter = np.tile(np.diag(dim * self.scale**2), (len(moments.counts), 1, 1))
        self._draw(moments, scatter, dim, rng)

    def of_stretch(self, g: int) -> None:
        """Nothing: with a fixed scale the density of factors has no simple form."""

    def stretch(self, g: int, factors: NDArray[np.float64]) -> None:
        """Never called."""
        raise NotImplementedError


class HalfT(_NormalWishart):
    """Half-t prior on each standard deviation and uniform correlations, so that scales adapt.

    Sigma^-1 | a ~ Wishart(nu + D - 1, (2 nu diag(1/a))^-1), 1/a_k ~ Gamma(1/2, rate 1/scale_k^2),
    mu | Sigma ~ N(0, Sigma / 2), nu = 2: standard deviations have half-t priors with 2 degrees of
    freedom and those scales, and correlations are uniform on (-1, 1).

    References
    ----------
    Huang, Wand (2013), Simple marginally noninformative prior distributions for covariance
    matrices, Bayesian Analysis 8(2). Liu, Sabatti (2000), Generalised Gibbs sampler and multigrid
    Monte Carlo for Bayesian computation, Biometrika 87(2).
    """

    nu = 2.0

    def __init__(self, n_priors: int, dim: int, scale: float | NDArray[np.float64]) -> None:
        super().__init__(n_priors, dim, scale)
        self.inverse_a = np.tile(self.scale**2, (n_priors, 1))

    def draw(self, moments: Moments, rng: np.random.Generator) -> None:
        """Draw precisions and means, then a."""
        dim, nu = self.mean.shape[1], self.nu
        self._draw(moments, 2 * nu * self.inverse_a[:, :, None] * np.eye(dim), nu + dim - 1, rng)
        rate = nu * np.diagonal(self.precision, axis1=1, axis2=2) + 1 / self.scale**2
        self.inverse_a = rng.gamma((nu + dim) / 2, size=rate.shape) / rate

    def of_stretch(self, g: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """What is left of p(1/a) when 1/a_k goes by the square of factor s_k.

        All other densities stay as they are, but for Jacobians, which the Haar measure of the group
        cancels (Liu, Sabatti 2000); left is exp(-s_k^2 / (a_k scale_k^2)), a normal density.
        """
        return np.diag(2 * self.inverse_a[g] / self.scale**2), np.zeros(len(self.inverse_a[g]))

    def stretch(self, g: int, factors: NDArray[np.float64]) -> None:
        """Stretch mean, covariance and a."""
        self.mean[g] *= factors
        self.precision[g] /= np.outer(factors, factors)
        self.inverse_a[g] *= factors**2

    def state(self) -> dict[str, NDArray[np.float64]]:
        """Means, precisions and a."""
        return super().state() | {"inverse_a": self.inverse_a.copy()}

    def load_state(self, state: dict[str, NDArray[np.float64]]) -> None:
        """Take over a state."""
        super().load_state(state)
        if "inverse_a" in state:  # a state of another hyperprior lacks it
            self.inverse_a = state["inverse_a"].copy()


def make_hyperprior(
    kind: str, n_priors: int, dim: int, scale: float | NDArray[np.float64]
) -> Hyperprior:
    """Return a hyperprior by its name.

    Parameters
    ----------
    kind : {"half-t", "wishart"}
        Name.
    n_priors : int
        Number of priors.
    dim : int
        Number of coordinates, D.
    scale : float or ndarray of shape (D,)
        Its scale.

    Returns
    -------
    Hyperprior
    """
    return (HalfT if kind == "half-t" else Wishart)(n_priors, dim, scale)
