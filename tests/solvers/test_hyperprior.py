"""Priors of priors against their definitions: conditional moments, marginals, densities."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from sklearn_fm.solvers.blocks.contract import Moments
from sklearn_fm.solvers.gibbs.hyperprior import FixedPrior, HalfT, Wishart, make_hyperprior

D = 3


def some_blocks(seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(6, D)) * [1.0, 0.5, 2.0] + [1.0, 0.0, -1.0], rng.normal(size=(3, D))]


def moments_of(parts, center=0.3):
    """Sums over the blocks of each prior, around any center."""
    apart = [part - center for part in parts]
    return Moments(
        np.array([len(part) for part in parts], dtype=float),
        np.full((len(parts), D), center),
        np.array([part.sum(axis=0) for part in apart]),
        np.array([part.T @ part for part in apart]),
    )


def draw_often(prior, parts, n, seed=0, **fixed):
    """Means and precisions of many draws, each given the same rest."""
    rng = np.random.default_rng(seed)
    means, precisions = [], []
    for _ in range(n):
        for name, value in fixed.items():
            setattr(prior, name, value.copy())
        prior.draw(moments_of(parts), rng)
        means.append(prior.mean)
        precisions.append(prior.precision)
    return np.array(means), np.array(precisions)


def assert_mean(draws, expected):
    """The mean of independent draws is this, within 4.5 standard errors."""
    error = draws.std(axis=0) / np.sqrt(len(draws))
    assert (np.abs(draws.mean(axis=0) - expected) < 4.5 * error).all()


@pytest.mark.parametrize("kind", ["wishart", "half-t"])
def test_draws_given_blocks_have_their_moments(kind):
    """E[precision] = degrees * inverse scatter, E[mean] = sum of blocks / (n + 2)."""
    prior, parts = make_hyperprior(kind, 2, D, 0.8), some_blocks()
    inverse_a = np.array([[0.5, 1.0, 2.0], [3.0, 0.2, 1.0]])
    fixed = {"inverse_a": inverse_a} if kind == "half-t" else {}
    means, precisions = draw_often(prior, parts, 4000, **fixed)
    for g, part in enumerate(parts):
        n, center = len(part), part.mean(axis=0)
        if kind == "wishart":
            degrees, scatter = D, D * 0.8**2 * np.eye(D)
        else:
            degrees, scatter = 2 + D - 1, 4 * np.diag(inverse_a[g])
        scatter = scatter + (part - center).T @ (part - center)
        scatter += 2 * n / (2 + n) * np.outer(center, center)
        expected = (degrees + n) * np.linalg.inv(scatter)
        assert_mean(precisions[:, g], expected)
        assert_mean(means[:, g], part.sum(axis=0) / (n + 2))
        apart = means[:, g] - part.sum(axis=0) / (n + 2)
        # given the precision, means vary by Sigma / (n + 2)
        white = np.einsum("nd,ndc,nc->n", apart, precisions[:, g], apart) * (n + 2)
        assert stats.kstest(white, stats.chi2(D).cdf).pvalue > 1e-4


def test_without_blocks_wishart_draws_from_its_prior():
    prior = Wishart(1, D, 1.7)
    means, precisions = draw_often(prior, [np.empty((0, D))], 5000)
    assert_mean(precisions[:, 0], np.eye(D) / 1.7**2)
    one = precisions[:, 0, 0, 0] * D * 1.7**2
    assert stats.kstest(one, stats.chi2(D).cdf).pvalue > 1e-4
    assert_mean(np.tanh(means[:, 0]), 0)


def test_without_blocks_half_t_has_the_marginals_it_is_named_for():
    """Standard deviations half-t with 2 degrees of freedom, correlations uniform."""
    prior, rng = HalfT(1, D, 0.6), np.random.default_rng(0)
    deviations, correlations = [], []
    for sweep in range(12_000):
        prior.draw(moments_of([np.empty((0, D))]), rng)
        if sweep % 12 == 11:
            covariance = np.linalg.inv(prior.precision[0])
            deviation = np.sqrt(np.diagonal(covariance))
            deviations.append(deviation)
            correlations.append((covariance / np.outer(deviation, deviation))[[1, 2], [0, 1]])
    deviations, correlations = np.array(deviations), np.array(correlations)
    for k in range(D):
        assert (
            stats.kstest(deviations[:, k] / 0.6, lambda x: 2 * stats.t(2).cdf(x) - 1).pvalue > 1e-4
        )
    for k in range(2):
        assert stats.kstest(correlations[:, k], stats.uniform(-1, 2).cdf).pvalue > 1e-4


def test_draw_of_a_given_the_precision():
    """1/a_k ~ Gamma((nu + D) / 2, rate nu precision_kk + 1 / scale^2)."""
    prior, rng = HalfT(1, D, 0.6), np.random.default_rng(0)
    white = []
    for _ in range(3000):
        prior.draw(moments_of(some_blocks()[:1]), rng)
        rate = 2 * np.diagonal(prior.precision[0]) + 1 / 0.36
        white.append(prior.inverse_a[0] * rate)
    assert stats.kstest(np.ravel(white), stats.gamma((2 + D) / 2).cdf).pvalue > 1e-4


def log_density(prior, g):
    """log p(mu, Sigma, 1/a) up to a constant, as a density of (mu, Sigma, 1/a)."""
    covariance = np.linalg.inv(prior.precision[g])
    covariance = (covariance + covariance.T) / 2
    log_p = stats.multivariate_normal(np.zeros(D), covariance / 2).logpdf(prior.mean[g])
    if isinstance(prior, HalfT):
        b = prior.inverse_a[g]
        log_p += stats.invwishart(2 + D - 1, 4 * np.diag(b)).logpdf(covariance)
        log_p += stats.gamma(0.5, scale=prior.scale**2).logpdf(b).sum()
    return log_p


def state_of(kind):
    prior = make_hyperprior(kind, 2, D, 0.6)
    rng = np.random.default_rng(3)
    for _ in range(5):
        prior.draw(moments_of(some_blocks()), rng)
    return prior


@pytest.mark.parametrize("kind", ["wishart", "half-t"])
def test_the_prior_of_a_shift(kind):
    """log p(mu + c) = -c' A c / 2 + b' c + constant; blocks around mu stay as they are."""
    c = np.array([0.3, -1.0, 0.5])
    prior = state_of(kind)
    A, b = prior.of_shift(1)
    before = log_density(prior, 1)
    other = prior.mean[0].copy()
    mean, precision = prior.mean[1].copy(), prior.precision[1].copy()
    prior.shift(1, c)
    assert_allclose(prior.mean[1], mean + c)
    assert_array_equal(prior.precision[1], precision)
    assert_array_equal(prior.mean[0], other)
    assert log_density(prior, 1) - before == pytest.approx(-c @ A @ c / 2 + b @ c)


def test_the_prior_of_a_stretch():
    """Density of the stretched state times Jacobian times Haar measure (Liu, Sabatti 2000)."""
    s = np.array([0.5, -1.5, 2.0])
    prior, blocks = state_of("half-t"), some_blocks()[1]

    def log_p(prior, blocks):
        covariance = np.linalg.inv(prior.precision[1])
        covariance = (covariance + covariance.T) / 2
        normal = stats.multivariate_normal(prior.mean[1], covariance)
        return log_density(prior, 1) + normal.logpdf(blocks).sum()

    A, b = prior.of_stretch(1)
    before, other = log_p(prior, blocks), prior.precision[0].copy()
    prior.stretch(1, s)
    assert_array_equal(prior.precision[0], other)
    log_s = np.log(np.abs(s)).sum()
    # blocks and mu go by s each, the D (D + 1) / 2 numbers of Sigma by s_j s_k, 1/a by s^2
    jacobian = (len(blocks) + 1) * log_s + (D + 1) * log_s + 2 * log_s
    found = log_p(prior, blocks * s) + jacobian - log_s - before

    def log_q(s):
        return -s @ A @ s / 2 + b @ s

    assert found == pytest.approx(log_q(s) - log_q(np.ones(D)))


def test_wishart_does_not_stretch():
    prior = Wishart(1, D, 1.0)
    assert prior.of_stretch(0) is None
    with pytest.raises(NotImplementedError):
        prior.stretch(0, np.ones(D))


def test_a_fixed_prior_stays():
    prior = FixedPrior(2, np.array([1.0, 2.0, 3.0]))
    before = prior.state()
    assert_array_equal(before["precision"], [np.diag([1.0, 2.0, 3.0])] * 2)
    prior.draw(moments_of(some_blocks()), np.random.default_rng(0))
    assert prior.of_shift(0) is None
    assert prior.of_stretch(0) is None
    prior.load_state({"mean": np.ones((2, D)), "precision": np.ones((2, D, D))})
    for name, value in prior.state().items():
        assert_array_equal(value, before[name])


@pytest.mark.parametrize("kind", ["wishart", "half-t"])
def test_a_state_is_taken_over_and_is_a_copy(kind):
    prior = state_of(kind)
    state = prior.state()
    kept = {name: value.copy() for name, value in state.items()}
    other = make_hyperprior(kind, 2, D, 0.6)
    other.load_state(state)
    a, b = np.random.default_rng(0), np.random.default_rng(0)
    prior.draw(moments_of(some_blocks()), a)
    other.draw(moments_of(some_blocks()), b)
    other.shift(0, np.ones(D))
    prior.shift(0, np.ones(D))
    for name, value in prior.state().items():
        assert_array_equal(value, other.state()[name])
        assert_array_equal(state[name], kept[name])
