"""The sampler against exact posteriors, and Geweke's test of the joint distribution."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import ndtr

from sklearn_fm import FieldArray, FieldSchema
from sklearn_fm.solvers.blocks.design import make_design
from sklearn_fm.solvers.blocks.table import CompiledBlockTable
from sklearn_fm.solvers.blocks.torch_table import TorchBlockTable
from sklearn_fm.solvers.gibbs import chain as gibbs
from sklearn_fm.solvers.gibbs import likelihoods
from sklearn_fm.solvers.gibbs.chain import Chain, Schedule, sample
from sklearn_fm.solvers.gibbs.convergence import effective_size
from sklearn_fm.solvers.gibbs.hyperprior import FixedPrior, HalfT, Wishart
from sklearn_fm.solvers.gibbs.likelihoods import (
    Gaussian,
    MultinomialProbit,
    OrdinalProbit,
    Probit,
)
from sklearn_fm.solvers.gibbs.noise import Noise

PINNED = 1e12  # precision of what is not to move
MANY = 1e10


# -- posteriors in closed form ---------------------------------------------------------


def draw_states(chain, n_sweeps, seed=0):
    """Bias and blocks, flat, after each sweep."""
    rng = np.random.default_rng(seed)
    states = []
    for _ in range(n_sweeps):
        chain.sweep(rng)
        states.append(np.append(chain.likelihood.bias, chain.block_tables[0].read().ravel()))
    return np.array(states)


def assert_posterior(states, mean, covariance):
    """Mean and covariance of the draws are these, within four standard errors."""
    n = effective_size(states)
    deviation = np.sqrt(np.diagonal(covariance))
    z = (states.mean(axis=0) - mean) / (deviation / np.sqrt(n))
    assert np.abs(z).max() < 4
    found = np.cov(states.T) / np.outer(deviation, deviation)
    assert_allclose(found, covariance / np.outer(deviation, deviation), atol=5 / np.sqrt(n.min()))
    assert n.min() > 300


def known_noise(y, weight, alpha):
    return Gaussian(y, Noise(weight, shape=MANY, rate=MANY / alpha))


def regression(features, y, weight, alpha, precision, prior_mean=0.0):
    """Posterior mean and covariance of a linear regression."""
    A = alpha * features.T @ (weight[:, None] * features) + np.diag(precision)
    covariance = np.linalg.inv(A)
    return covariance @ (alpha * features.T @ (weight * y) + precision * prior_mean), covariance


def test_linear_regression():
    """Vectors held at 0 leave a ridge regression on a category, a number and the bias."""
    rng = np.random.default_rng(1)
    n, alpha = 15, 0.4
    codes, x = rng.integers(0, 3, n), rng.normal(size=n)
    X = FieldArray(np.column_stack([codes, x]), FieldSchema.from_sizes([4, 1]))
    y, weight = rng.normal(size=n) + x, rng.choice([0.5, 1.0, 2.0], n)
    design = make_design(X)
    block_table = CompiledBlockTable(design, 1)
    chain = Chain(
        [block_table], known_noise(y, weight, alpha), [FixedPrior(2, np.array([PINNED, 2.0]))]
    )
    chain.likelihood.start(chain.block_tables)
    states = draw_states(chain, 4000)
    weights = states[:, [0, *range(2, states.shape[1], 2)]]
    assert np.abs(states[:, 1::2]).max() < 1e-5
    features = np.column_stack([np.ones(n), codes == 0, codes == 1, codes == 2, x])
    precision = np.array([0.01, 2.0, 2.0, 2.0, 2.0])
    assert_posterior(weights, *regression(features, y, weight, alpha, precision))


def test_vectors_given_those_of_their_partner():
    """A number's vector is held at m, so each user has a regression on x * m, with a prior."""
    rng = np.random.default_rng(2)
    n, alpha, K = 15, 0.4, 2
    users, x = rng.integers(0, 3, n), rng.normal(size=n)
    X = FieldArray(np.column_stack([users, x]), FieldSchema.from_sizes([4, 1]))
    y, m = rng.normal(size=n), np.array([1.0, -0.5, 0.0])
    prior = FixedPrior(2, np.full(K + 1, 1.5))
    prior.precision[1], prior.mean[1] = PINNED * np.eye(K + 1), m
    prior.mean[0] = [0.3, -0.2, 0.1]
    prior.precision[0, 0, 1] = prior.precision[0, 1, 0] = 0.5
    chain = Chain(
        [CompiledBlockTable(make_design(X), K)], known_noise(y, np.ones(n), alpha), [prior]
    )
    chain.likelihood.start(chain.block_tables)
    states = draw_states(chain, 4000)[20:]  # the partner starts from 0
    features = [np.ones(n)]
    for user in range(3):
        features += [(users == user) * x * m[0], (users == user) * x * m[1], users == user]
    features = np.column_stack(features).astype(float)
    A = alpha * features.T @ features
    A[0, 0] += 0.01
    b = alpha * features.T @ y
    for user in range(3):
        own = slice(1 + 3 * user, 4 + 3 * user)
        A[own, own] += prior.precision[0]
        b[own] += prior.precision[0] @ prior.mean[0]
    covariance = np.linalg.inv(A)
    assert_posterior(states[:, :10], covariance @ b, covariance)


# -- the joint distribution ------------------------------------------------------------

USERS, ITEMS, K = 3, 4, 2
D = K + 1
CODES = np.array([(i % USERS, i % ITEMS) for i in range(12)])
GROUPS = {"x0": CODES[:, 0] // 2, "x1": CODES[:, 1] % 2}
#: Mean 1 within both groups: then a weighted likelihood is a density of targets.
WEIGHT = np.where(np.arange(12) % 4 < 2, 0.5, 1.5)

SCALE = np.array([0.7, 0.5, 1.0])
HYPERPRIORS = {
    "fixed": lambda: FixedPrior(2, np.array([2.0, 1.0, 0.5])),
    "wishart": lambda: Wishart(2, D, SCALE),
    "half-t": lambda: HalfT(2, D, SCALE),
}
LIKELIHOODS = {
    "gaussian": lambda: Gaussian(np.zeros(12), Noise(WEIGHT, shape=3.0, rate=2.0)),
    "gaussian, groups": lambda: Gaussian(
        np.zeros(12), Noise(WEIGHT, GROUPS, {"x0": 3, "x1": 2}, shape=3.0, rate=2.0)
    ),
    "probit": lambda: Probit(np.zeros(12), np.ones(12)),
    "multinomial": lambda: MultinomialProbit(np.zeros(12), np.ones(12), 3),
    "ordinal": lambda: OrdinalProbit(np.arange(12) % 4, np.ones(12), 4),
}


def draw_prior(prior, rng):
    """Draw a hyperprior's state and blocks as the docstrings say; Wisharts as sums of squares."""
    if not isinstance(prior, FixedPrior):
        for g in range(2):
            if isinstance(prior, HalfT):
                prior.inverse_a[g] = rng.gamma(0.5, size=D) * prior.scale**2
                degrees, scatter = 2 + D - 1, 2 * 2 * prior.inverse_a[g]
            else:
                degrees, scatter = D, D * prior.scale**2
            normal = rng.normal(size=(degrees, D)) / np.sqrt(scatter)
            prior.precision[g] = normal.T @ normal
            prior.mean[g] = draw_normal(np.zeros(D), 2 * prior.precision[g], rng)
    return np.array(
        [draw_normal(prior.mean[g], prior.precision[g], rng) for g in [0] * USERS + [1] * ITEMS]
    )


def draw_normal(mean, precision, rng):
    return mean + np.linalg.solve(np.linalg.cholesky(precision).T, rng.normal(size=len(mean)))


def draw_likelihood(likelihood, rng):
    """Draw biases, noise and cut points."""
    likelihood.bias[:] = rng.normal(size=len(likelihood.bias))
    if isinstance(likelihood, Gaussian):
        values = {"noise_precision": np.array([rng.gamma(3.0) / 2.0])}
        for name, factors in likelihood.noise.factors.items():
            a = 1 / rng.uniform(0, 0.5)
            values[f"noise_shape_{name}"] = np.array([a])
            values[f"noise_factor_{name}"] = rng.gamma(a, size=len(factors)) / a
        likelihood.noise.load_values(values)
    elif isinstance(likelihood, OrdinalProbit):
        likelihood.log_gaps = rng.normal(size=2)
        likelihood.cuts = np.append(0.0, np.cumsum(np.exp(likelihood.log_gaps)))


def raw_of(chain):
    """Raw predictions by definition."""
    raw = []
    for bias, block_table in zip(chain.likelihood.bias, chain.block_tables, strict=True):
        blocks = block_table.read()
        u, i = blocks[CODES[:, 0]], blocks[USERS + CODES[:, 1]]
        raw.append(bias + u[:, -1] + i[:, -1] + (u[:, :-1] * i[:, :-1]).sum(axis=1))
    return np.column_stack(raw)


def draw_targets(chain, rng):
    """Draw the targets of all rows, and tell likelihood and tables."""
    likelihood, raw = chain.likelihood, raw_of(chain)
    noise = rng.normal(size=raw.shape)
    if isinstance(likelihood, Gaussian):
        model = likelihood.noise
        alpha = model.precision * WEIGHT
        for name, factors in model.factors.items():
            alpha = alpha * factors[GROUPS[name]]
        noise /= np.sqrt(alpha)[:, None]
    z = raw + noise
    likelihood.target[:] = z
    for c, block_table in enumerate(chain.block_tables):
        block_table.set_residuals(z[:, c] - raw[:, c], 1.0)
    if isinstance(likelihood, Probit):
        likelihood.sign = np.where(z[:, 0] > 0, 1.0, -1.0)
    elif isinstance(likelihood, MultinomialProbit):
        likelihood.latent, likelihood.label = z, z.argmax(axis=1)
    elif isinstance(likelihood, OrdinalProbit):
        likelihood.level = np.searchsorted(likelihood.cuts, z[:, 0])


def functionals(chain):
    """Bounded functions of the state: its scales have no moments."""
    found = [np.tanh(chain.likelihood.bias[:1])]
    likelihood = chain.likelihood
    if isinstance(likelihood, Gaussian):
        noise = likelihood.noise
        found += [np.tanh(np.log([noise.precision]))]
        for name, factors in noise.factors.items():
            found += [np.tanh(np.log(factors)), np.tanh(np.log(factors)) ** 2]
            found += [[1 / noise.shapes[name], 1 / noise.shapes[name] ** 2]]
    elif isinstance(likelihood, OrdinalProbit):
        found += [np.tanh(likelihood.log_gaps), np.tanh(likelihood.log_gaps) ** 2]
    raw = np.tanh(raw_of(chain))
    found += [raw.mean(axis=0), (raw**2).mean(axis=0)]
    blocks, prior = chain.block_tables[-1].read(), chain.hyperpriors[-1]
    for g, own in enumerate([blocks[:USERS], blocks[USERS:]]):
        t = np.tanh(own)
        found += [t.mean(axis=0), (t**2).mean(axis=0), t.mean(axis=0) ** 2]
        found += [[(t[:, 0] * t[:, 1]).mean(), (t[:, 0] * t[:, -1]).mean()]]
        log_scale = np.log(np.diagonal(prior.precision[g])) / 2
        covariance = np.linalg.inv(prior.precision[g])
        found += [np.tanh(log_scale), np.tanh(np.log(np.diagonal(covariance)) / 4)]
        found += [np.tanh(prior.mean[g]), np.tanh(prior.mean[g]) ** 2]
        found += [[covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1])]]
        found += [[np.tanh(prior.inverse_a[g]).mean()]] if isinstance(prior, HalfT) else []
    return np.concatenate(found)


def geweke_z(hyperprior, likelihood, *, n_chains, n_sweeps, seed=0, bits=64):
    """Scores of how far functionals drift when sweeps alternate with new targets.

    Every chain starts from a draw of the joint distribution of weights and targets, which a sweep
    leaves as it is, and so do new targets. Chains are independent, so that their differences
    from where they started have plain standard errors, however slowly chains mix.
    """
    rng = np.random.default_rng(seed)
    X = FieldArray(CODES, FieldSchema.from_sizes([USERS + 1, ITEMS + 1]))
    design = make_design(X)
    assert design.loose_priors == (0, 1)
    n_outputs = len(LIKELIHOODS[likelihood]().bias)
    block_tables = [CompiledBlockTable(design, K, bits=bits) for _ in range(n_outputs)]
    # rows of float32 have six digits of the largest of their terms
    close = {"rtol": 1e-6, "atol": 1e-6} if bits == 64 else {"rtol": 1e-3, "atol": 1e-3}
    drift = []
    for start in range(n_chains):
        chain = Chain(
            block_tables,
            LIKELIHOODS[likelihood](),
            [HYPERPRIORS[hyperprior]() for _ in block_tables],
            n_sweeps=start,
        )
        for block_table, prior in zip(block_tables, chain.hyperpriors, strict=True):
            block_table.write(draw_prior(prior, rng))
        draw_likelihood(chain.likelihood, rng)
        if likelihood == "ordinal":  # steps stay as they are
            chain.likelihood._steps[:], chain.likelihood._n_draws = 1.0, 10**12
        before = functionals(chain)
        for _ in range(n_sweeps):
            draw_targets(chain, rng)
            chain.sweep(rng)
        assert_allclose(chain.likelihood.raw(block_tables), raw_of(chain), **close)
        drift.append(functionals(chain) - before)
    drift = np.array(drift)
    error = drift.std(axis=0) / np.sqrt(n_chains)
    assert (error < 0.1).all()
    return drift.mean(axis=0) / np.maximum(error, 1e-12)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("hyperprior", HYPERPRIORS)
def test_sweeps_leave_the_joint_distribution_as_it_is(hyperprior, likelihood, monkeypatch):
    """Geweke (2004), Getting it right: joint distribution tests of posterior simulators."""
    monkeypatch.setattr(likelihoods, "_BIAS_PRECISION", 1.0)  # else biases hardly move
    n_chains = 800 if (hyperprior, likelihood) == ("half-t", "gaussian") else 300
    n_chains = 150 if likelihood == "multinomial" else n_chains  # three tables of blocks
    z = geweke_z(hyperprior, likelihood, n_chains=n_chains, n_sweeps=4, seed=1)
    assert np.abs(z).max() < 4.2


def test_sweeps_in_single_precision_leave_it_as_it_is(monkeypatch):
    monkeypatch.setattr(likelihoods, "_BIAS_PRECISION", 1.0)
    for likelihood in ("gaussian, groups", "probit"):
        z = geweke_z("half-t", likelihood, n_chains=300, n_sweeps=4, bits=32)
        assert np.abs(z).max() < 4.2


def test_a_wrong_sampler_is_noticed(monkeypatch):
    """One degree of freedom too many, or steps that forget part of their prior."""
    right = Wishart._draw

    def wrong(self, moments, scatter, degrees, rng):
        right(self, moments, scatter, degrees + 1, rng)

    monkeypatch.setattr(likelihoods, "_BIAS_PRECISION", 1.0)
    monkeypatch.setattr(Wishart, "_draw", wrong)
    assert np.abs(geweke_z("wishart", "gaussian", n_chains=300, n_sweeps=4)).max() > 4.2
    monkeypatch.undo()
    monkeypatch.setattr(likelihoods, "_BIAS_PRECISION", 1.0)
    of_stretch = HalfT.of_stretch
    monkeypatch.setattr(
        HalfT, "of_stretch", lambda self, g: (of_stretch(self, g)[0] / 2, np.zeros(D))
    )
    assert np.abs(geweke_z("half-t", "gaussian", n_chains=400, n_sweeps=4)).max() > 4.2


# -- chains ----------------------------------------------------------------------------


def make_chain(engine=CompiledBlockTable, likelihood="gaussian", hyperprior="half-t", **options):
    X = FieldArray(CODES, FieldSchema.from_sizes([USERS + 1, ITEMS + 1]))
    design = make_design(X)
    outcome = LIKELIHOODS[likelihood]()
    if likelihood == "gaussian":
        outcome.target[:, 0] = np.random.default_rng(4).normal(size=12)
    block_tables = [engine(design, K, **options) for _ in outcome.bias]
    chain = Chain(block_tables, outcome, [HYPERPRIORS[hyperprior]() for _ in block_tables])
    outcome.start(block_tables)
    return chain


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_both_engines_make_the_same_chain(likelihood, monkeypatch):
    """From the same normal numbers."""

    def draw_noise(self, rng):
        return rng.standard_normal((self.design.n_blocks, D + self.few)).astype(np.float32)

    states = []
    for engine, options in ((CompiledBlockTable, {"bits": 64}), (TorchBlockTable, {})):
        monkeypatch.setattr(engine, "draw_noise", draw_noise)
        chain, rng = make_chain(engine, likelihood, **options), np.random.default_rng(0)
        for _ in range(5):
            chain.sweep(rng)
        states.append((chain.block_tables[0].read(), chain.likelihood.raw(chain.block_tables)))
    for a, b in zip(*states, strict=True):
        assert_allclose(a, b, rtol=1e-6, atol=1e-8)


def test_which_sweeps_are_kept():
    told = []
    plan = Schedule(23, n_burn=5, thin=4, on_sweep=lambda record: told.append(record) or False)
    chain = make_chain()
    run = sample(chain, plan, np.random.default_rng(0))
    other, rng = make_chain(), np.random.default_rng(0)
    expected = []
    for sweep in range(1, 24):
        other.sweep(rng)
        if sweep in (9, 13, 17, 21):
            expected.append(other.draw())
    assert len(run.draws) == 4
    for draw, wanted in zip(run.draws, expected, strict=True):
        assert_array_equal(draw.tables, wanted.tables)
        assert_array_equal(draw.covariances, wanted.covariances)
        assert draw.values.keys() == wanted.values.keys()
    assert [record["epoch"] for record in run.records] == list(range(1, 24))
    assert told == run.records
    assert chain.n_sweeps == 23
    assert run.probes.shape == (23, 12)
    assert_allclose(run.probes[-1], chain.likelihood.raw(chain.block_tables)[:, 0])
    assert {"train_loss", "noise_precision", "scale_x0", "scale_x1"} <= set(run.records[0])


def test_draws_are_thinned_to_the_memory(monkeypatch):
    chain = make_chain()
    size = chain.draw().nbytes
    assert size == 4 * ((USERS + ITEMS + 2) * D + 2 * D * D) + 8 * 2  # bias, alpha
    monkeypatch.setattr(gibbs, "DRAWS_MEMORY", 12 * size)
    run = sample(chain, Schedule(60, n_burn=10), np.random.default_rng(0))
    assert len(run.draws) == 10
    monkeypatch.setattr(gibbs, "DRAWS_MEMORY", size)  # ten at least
    run = sample(chain, Schedule(30), np.random.default_rng(0))
    assert len(run.draws) == 10


def test_stopping():
    """By a callback, or Ctrl-C; something is kept even if all sweeps were to be burnt."""
    stopped = sample(
        make_chain(), Schedule(50, on_sweep=lambda r: r["epoch"] == 7), np.random.default_rng(0)
    )
    assert len(stopped.draws) == len(stopped.records) == 7
    assert stopped.stopped_by is None

    def interrupt(record):
        if record["epoch"] == 3:
            raise KeyboardInterrupt

    plan = Schedule(50, n_burn=20, on_sweep=interrupt)
    stopped = sample(make_chain(), plan, np.random.default_rng(0))
    assert isinstance(stopped.stopped_by, KeyboardInterrupt)
    assert len(stopped.draws) == 1
    assert stopped.probes.shape == (3, 12)


@pytest.mark.parametrize("likelihood", ["probit", "multinomial", "ordinal"])
def test_losses_are_those_of_the_raw_predictions(likelihood):
    chain, rng = make_chain(likelihood=likelihood), np.random.default_rng(0)
    for _ in range(3):
        chain.sweep(rng)
    raw, outcome = raw_of(chain), chain.likelihood
    if likelihood == "probit":
        expected = -np.log(ndtr(outcome.sign * raw[:, 0])).mean()
    elif likelihood == "multinomial":
        expected = (raw.argmax(axis=1) != outcome.label).mean()
    else:
        edges = np.concatenate([[-np.inf], outcome.cuts, [np.inf]])
        p = ndtr(edges[outcome.level + 1] - raw[:, 0]) - ndtr(edges[outcome.level] - raw[:, 0])
        expected = -np.log(p).mean()
    assert outcome.loss(chain.block_tables) == pytest.approx(expected)
    assert chain.record()["train_loss"] == pytest.approx(expected)
