"""How well a Markov chain has mixed: split R-hat and effective sample size.

It sees traces only, one number per sweep.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["effective_size", "split_r_hat"]


def split_r_hat(draws: NDArray[np.float64]) -> NDArray[np.float64]:
    """Potential scale reduction of a chain cut into halves; 1 when these agree.

    Parameters
    ----------
    draws : ndarray of shape (n_draws, n_quantities)
        Four draws or more.

    Returns
    -------
    ndarray of shape (n_quantities,)
        Square root of (W (n - 1) / n + B / n) / W, where W is the variance within the halves of
        n draws and B / n that between their means; 1 for a quantity that never moves.

    References
    ----------
    Gelman et al. (2013), Bayesian data analysis, 3rd edition, section 11.4.
    """
    n = len(draws) // 2
    halves = np.stack([draws[:n], draws[-n:]])
    within = halves.var(axis=1, ddof=1).mean(axis=0)
    between = halves.mean(axis=1).var(axis=0, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        r_hat = np.sqrt((n - 1) / n + between / within)
    return np.where(within + between > 0, r_hat, 1.0)


def effective_size(draws: NDArray[np.float64]) -> NDArray[np.float64]:
    """Number of independent draws that would tell the mean as well.

    n / (1 + 2 sum_t rho_t), the sum over pairs of lags up to the first pair of negative sum.

    Parameters
    ----------
    draws : ndarray of shape (n_draws, n_quantities)
        Draws of a chain.

    Returns
    -------
    ndarray of shape (n_quantities,)

    References
    ----------
    Geyer (1992), Practical Markov chain Monte Carlo, Statistical Science 7(4).
    """
    n = len(draws)
    apart = draws - draws.mean(axis=0)
    padded = np.fft.rfft(apart, 2 * n, axis=0)
    covariance = np.fft.irfft(padded * padded.conj(), axis=0)[:n] / n
    variance = np.where(covariance[0] > 0, covariance[0], 1.0)
    rho = covariance / variance
    pairs = rho[: n // 2 * 2].reshape(n // 2, 2, -1).sum(axis=1)
    positive = np.logical_and.accumulate(pairs > 0, axis=0)
    pairs = np.minimum.accumulate(np.where(positive, pairs, 0), axis=0)
    tau = np.maximum(2 * pairs.sum(axis=0) - 1, 1 / np.log10(max(n, 10)))
    return np.where(covariance[0] > 0, np.minimum(n / tau, n * np.log10(max(n, 10))), n)
