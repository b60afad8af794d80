"""Diagnostics of chains against chains whose mixing is known."""

import numpy as np
import pytest
from scipy.signal import lfilter

from sklearn_fm.solvers.gibbs.convergence import effective_size, split_r_hat


def autoregressive(rho, n, n_quantities, seed=0):
    """Chains x_t = rho x_{t-1} + noise, from their stationary distribution."""
    noise = np.random.default_rng(seed).normal(size=(n, n_quantities))
    noise[0] /= np.sqrt(1 - rho**2)
    return lfilter([1.0], [1.0, -rho], noise, axis=0)


def test_noise_has_mixed():
    noise = np.random.default_rng(0).normal(size=(2000, 20))
    assert split_r_hat(noise) == pytest.approx(1, abs=0.01)
    assert effective_size(noise) == pytest.approx(2000, rel=0.25)


def test_a_trend_has_not():
    n = 400
    trend = np.linspace(0, 6, n)[:, None] + np.random.default_rng(0).normal(size=(n, 5))
    assert (split_r_hat(trend) > 1.5).all()
    assert (effective_size(trend) < 20).all()


def test_r_hat_by_its_formula():
    x = np.random.default_rng(1).normal(size=41)  # the middle draw of an odd number is left out
    a, b = x[:20], x[21:]
    within = (a.var(ddof=1) + b.var(ddof=1)) / 2
    between = 20 * np.var([a.mean(), b.mean()], ddof=1)
    expected = np.sqrt((19 / 20 * within + between / 20) / within)
    assert split_r_hat(x[:, None]) == pytest.approx([expected])


@pytest.mark.parametrize("rho", [0.3, 0.6, 0.9, -0.3])
def test_autoregressive_chains(rho):
    """The sum of autocorrelations is that of a geometric series."""
    n = 20_000
    sizes = effective_size(autoregressive(rho, n, 5))
    assert sizes == pytest.approx(n * (1 - rho) / (1 + rho), rel=0.25)


def test_what_never_moves():
    still = np.full((50, 2), 3.0)
    assert split_r_hat(still).tolist() == [1, 1]
    assert effective_size(still).tolist() == [50, 50]
    jump = np.repeat([0.0, 1.0], 25)[:, None]  # no variance within halves
    assert split_r_hat(jump) == np.inf


def test_scale_and_origin_do_not_matter():
    x = autoregressive(0.5, 500, 3)
    assert split_r_hat(5 * x - 2) == pytest.approx(split_r_hat(x))
    assert effective_size(5 * x - 2) == pytest.approx(effective_size(x))
