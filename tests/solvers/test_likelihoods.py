"""Likelihoods against their definitions: latent targets, noise, biases, weights."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse, stats
from scipy.special import log_ndtr, ndtr

from sklearn_fm.solvers.blocks.design import make_design
from sklearn_fm.solvers.blocks.table import CompiledBlockTable
from sklearn_fm.solvers.gibbs.likelihoods import (
    Gaussian,
    MultinomialProbit,
    OrdinalProbit,
    Probit,
    _lower_tail,
)
from sklearn_fm.solvers.gibbs.noise import Noise


def start(likelihood, raw):
    """Machines whose raw predictions, bias included, are these."""
    likelihood.bias[:] = 0.3
    block_tables = []
    for c in range(raw.shape[1]):
        n = len(raw)
        design = make_design(sparse.csr_array(np.ones((n, 1))))
        block_table = CompiledBlockTable(design, 1, bits=64)
        block_table.set_residuals(likelihood.target[:, c] - raw[:, c], 1.0)
        block_tables.append(block_table)
    assert_allclose(likelihood.raw(block_tables), raw)
    return block_tables


def test_lower_tail_is_a_quantile():
    u = np.array([0.001, 0.3, 0.5, 0.999])
    for limit in (-29.0, -8.0, -1.0, 0.0, 3.0):
        expected = stats.truncnorm(-np.inf, limit).ppf(u)
        assert_allclose(_lower_tail(u, np.full(4, limit)), expected, rtol=1e-6, atol=1e-9)
    for limit in (-31.0, -100.0, -900.0):  # the tail is exponential there
        found = _lower_tail(u, np.full(4, limit))
        assert_allclose(log_ndtr(found) - log_ndtr(limit), np.log(u), atol=1e-6)
        assert (found < limit).all()
    assert _lower_tail(np.array([0.0, 0.5]), np.array([1.0, -1e5])).tolist() == [-1e3, -1e3]


def test_gaussian_noise_and_bias_given_the_rest():
    """alpha ~ Gamma(shape + sum w / 2, rate + sum w e^2 / 2), the bias normal."""
    rng = np.random.default_rng(0)
    n = 8
    y, w, raw = rng.normal(size=n), rng.uniform(0.5, 2, n), rng.normal(size=(n, 1))
    e = y - raw[:, 0]
    alphas, biases = [], []
    for _ in range(800):
        likelihood = Gaussian(y, Noise(w, shape=2.0, rate=3.0))
        block_tables = start(likelihood, raw)
        likelihood.draw(block_tables, rng)
        alpha, bias = likelihood.noise.precision, likelihood.bias[0]
        alphas.append(alpha)
        total = alpha * w.sum() + 0.01
        center = alpha * (w @ (e + 0.3)) / total
        biases.append((bias - center) * np.sqrt(total))
        # raw predictions move with the bias, targets stay
        assert_allclose(likelihood.raw(block_tables)[:, 0], raw[:, 0] + bias - 0.3)
        assert_array_equal(likelihood.target[:, 0], y)
    gamma = stats.gamma(2 + w.sum() / 2, scale=1 / (3 + w @ e**2 / 2))
    assert stats.kstest(alphas, gamma.cdf).pvalue > 1e-4
    assert stats.kstest(biases, "norm").pvalue > 1e-4


def latents(likelihood, raw, n_draws, seed=0):
    """Latent targets of every draw, each from the same raw predictions."""
    rng, found = np.random.default_rng(seed), []
    block_tables = start(likelihood, raw)
    for _ in range(n_draws):
        likelihood.bias[:] = 0.3
        for c, block_table in enumerate(block_tables):
            block_table.set_residuals(likelihood.target[:, c] - raw[:, c], 1.0)
        likelihood.draw(block_tables, rng)
        found.append(likelihood.target.copy())
    return np.array(found)


def test_probit_latents_are_truncated_normals():
    raw = np.array([[-3.0], [0.2], [2.0], [-3.0], [0.2], [2.0]])
    z = latents(Probit(np.array([0, 0, 0, 1, 1, 1.0]), np.ones(6)), raw, 2000)[:, :, 0]
    for i, mean in enumerate(raw[:, 0]):
        ends = (-np.inf, -mean) if i < 3 else (-mean, np.inf)
        assert stats.kstest(z[:, i], stats.truncnorm(*ends, loc=mean).cdf).pvalue > 1e-4


def test_multinomial_latents_are_normals_of_which_one_is_the_largest():
    """Against rejection sampling."""
    raw = np.array([[0.5, -0.3, 0.0]] * 3)
    likelihood = MultinomialProbit(np.array([0.0, 1.0, 2.0]), np.ones(3), 3)
    z = latents(likelihood, raw, 6000)
    assert (z.argmax(axis=2) == [0, 1, 2]).all()
    free = raw[0] + np.random.default_rng(1).normal(size=(60_000, 3))
    for label in range(3):
        kept = free[free.argmax(axis=1) == label]
        assert_allclose(z[:, label].mean(axis=0), kept.mean(axis=0), atol=0.08)
        assert_allclose(z[:, label].std(axis=0), kept.std(axis=0), atol=0.05)


def test_ordinal_latents_lie_between_the_cuts():
    raw = np.array([[-1.0], [0.5], [2.5], [30.0]])
    likelihood = OrdinalProbit(np.array([0.0, 1.0, 2.0, 1.0]), np.ones(4), 3)
    likelihood._steps[:] = 0  # cuts stay
    cuts = likelihood.cuts
    z = latents(likelihood, raw, 2000)[:, :, 0]
    for i, level in enumerate([0, 1, 2]):
        low, high = [-np.inf, *cuts, np.inf][level : level + 2]
        normal = stats.truncnorm(low - raw[i, 0], high - raw[i, 0], loc=raw[i, 0])
        assert stats.kstest(z[:, i], normal.cdf).pvalue > 1e-4
    assert ((z[:, 3] >= 0) & (z[:, 3] <= cuts[1])).all()  # far in the tail


def test_ordinal_cuts_have_their_posterior():
    """Given raw predictions, against the density on a grid."""
    rng = np.random.default_rng(0)
    raw = rng.normal(size=(12, 1))
    level = np.array([0, 1, 2] * 4)
    likelihood = OrdinalProbit(level.astype(float), np.ones(12), 3)
    gaps = []
    for _ in range(8000):
        likelihood._move_cuts(raw[:, 0], rng)
        gaps.append(likelihood.log_gaps[0])
    grid = np.linspace(-5, 2, 1001)
    log_p = [-(g**2) / 2 for g in grid]
    for k, g in enumerate(grid):
        edges = np.array([-np.inf, 0, np.exp(g), np.inf])
        p = ndtr(edges[level + 1] - raw[:, 0]) - ndtr(edges[level] - raw[:, 0])
        log_p[k] += np.log(p).sum()
    p = np.exp(log_p - np.max(log_p))
    p /= p.sum()
    mean = p @ grid
    deviation = np.sqrt(p @ (grid - mean) ** 2)
    gaps = np.array(gaps[500:])
    assert gaps.mean() == pytest.approx(mean, abs=0.12 * deviation)
    assert gaps.std() == pytest.approx(deviation, rel=0.1)


def test_start_values_of_an_ordinal_fit_the_shares():
    level = np.repeat([0.0, 1, 2, 3], [10, 20, 30, 40])
    likelihood = OrdinalProbit(level, np.ones(100), 4)
    likelihood.start([CompiledBlockTable(make_design(sparse.csr_array(np.ones((100, 1)))), 1)])
    below = ndtr(likelihood.cuts - likelihood.bias[0])
    assert below == pytest.approx([0.1, 0.3, 0.6])


@pytest.mark.parametrize("kind", ["probit", "multinomial", "ordinal"])
def test_a_whole_weight_is_that_many_copies(kind):
    """The mean of the copies' latent targets, at a precision that is their number."""
    weight, y = np.array([3.0, 1.0, 2.0]), np.array([1.0, 0.0, 2.0])
    make = {
        "probit": lambda y, w: Probit(y > 0, w),
        "multinomial": lambda y, w: MultinomialProbit(y, w, 3),
        "ordinal": lambda y, w: OrdinalProbit(y, w, 3),
    }[kind]
    copies = weight.astype(int)
    raw = np.random.default_rng(0).normal(size=(3, 3 if kind == "multinomial" else 1))
    weighted, repeated = make(y, weight), make(np.repeat(y, copies), np.ones(6))
    if kind == "ordinal":
        assert_allclose(weighted.cuts, repeated.cuts)
        weighted._steps[:] = repeated._steps[:] = 0
    a = latents(weighted, raw, 4000)
    b = latents(repeated, np.repeat(raw, copies, axis=0), 4000, seed=1)
    means = np.add.reduceat(b, [0, 3, 4], axis=1) / copies[:, None]
    assert_allclose(a.mean(axis=0), means.mean(axis=0), atol=0.1)
    assert_allclose(a.std(axis=0), means.std(axis=0), rtol=0.12, atol=0.02)
    block_tables = start(weighted, raw)
    others = start(repeated, np.repeat(raw, copies, axis=0))
    assert weighted.loss(block_tables) == pytest.approx(repeated.loss(others))


def test_a_part_of_a_weight_is_a_noisier_row():
    """Weight 1/4 is a latent target of noise 2."""
    likelihood = Probit(np.array([1.0]), np.array([0.25]))
    block_tables = start(likelihood, np.array([[0.5]]))
    assert likelihood.loss(block_tables) == pytest.approx(-log_ndtr(0.25) / 0.25)
    z = latents(likelihood, np.array([[0.5]]), 2000)[:, 0, 0]
    normal = stats.truncnorm(-0.25, np.inf, loc=0.5, scale=2)
    assert stats.kstest(z, normal.cdf).pvalue > 1e-4


def test_values_are_taken_over():
    rng = np.random.default_rng(0)
    known = Gaussian(np.zeros(3), Noise(np.ones(3)))
    known.draw(start(known, rng.normal(size=(3, 1))), rng)
    other = Gaussian(np.zeros(3), Noise(np.ones(3)))
    other.load_values(known.values())
    assert other.noise.precision == known.noise.precision
    assert_array_equal(other.bias, known.bias)
    ordinal = OrdinalProbit(np.array([0.0, 1, 2]), np.ones(3), 3)
    ordinal.load_values({"bias": np.array([0.7]), "cuts": np.array([0.0, 2.0])})
    assert ordinal.log_gaps == pytest.approx(np.log([2.0]))
    assert ordinal.values()["cuts"].tolist() == [0.0, 2.0]
