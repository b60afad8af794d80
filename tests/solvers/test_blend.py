"""Weights of two predictions: against other solvers, and where it is known what they are worth."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import log_softmax
from sklearn.linear_model import LinearRegression, LogisticRegression

from sklearn_fm.solvers.blend import Blend, find_blend
from sklearn_fm.solvers.problem import Task, Watch
from sklearn_fm.training.losses import BinaryLogLoss, MultinomialLogLoss, SquaredError

N_ROWS = 2000
BINARY = Task("classes", n_classes=2)


def watch(target, weight=None):
    return Watch(None, target.astype(float), np.ones(len(target)) if weight is None else weight)


def two_views(seed=0, n_outputs=1):
    """Two signals, and two predictions of their sum that see one of them each, and noise."""
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, N_ROWS, n_outputs))
    return rng, a, b


@pytest.mark.parametrize("base", [0.0, -1.5])
def test_weights_of_log_odds_are_a_logistic_regression(base):
    """Without an intercept, on what either says besides the base rate."""
    rng, a, b = two_views()
    y = rng.random(N_ROWS) < 1 / (1 + np.exp(-(base + a + 0.5 * b)[:, 0]))
    weight = rng.choice([0.5, 1.0, 3.0], N_ROWS)
    found = find_blend(base + a, base + b, watch(y, weight), np.array([base]), BinaryLogLoss())
    table = np.column_stack([np.full(N_ROWS, base), a, b])
    fixed = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-8, max_iter=1000)
    if base:  # an intercept that is given: as a column, whose weight comes near 1
        weights = fixed.fit(table, y, weight).coef_[0]
        assert_allclose([found.of_draws, found.of_deep], weights[1:], atol=0.05)
        return
    weights = fixed.fit(table[:, 1:], y, weight).coef_[0]
    assert_allclose([found.of_draws, found.of_deep], weights, rtol=1e-3)


def test_weights_of_numbers_are_least_squares():
    rng, a, b = two_views()
    y = 50 + 10 * (0.7 * a + 0.4 * b)[:, 0] + rng.normal(0, 3, N_ROWS)
    loss = SquaredError(center=50.0, scale=10.0)
    found = find_blend(a, b, watch(y), np.zeros(1), loss)
    line = LinearRegression(fit_intercept=False).fit(np.column_stack([a, b]), (y - 50) / 10)
    assert_allclose([found.of_draws, found.of_deep], line.coef_, rtol=1e-4)


def test_weights_of_classes_have_the_least_loss():
    rng, a, b = two_views(n_outputs=3)
    p = np.exp(log_softmax(a + b, axis=1))
    y = (p.cumsum(axis=1) < rng.random(N_ROWS)[:, None]).sum(axis=1)
    found = find_blend(a, b, watch(y), np.zeros(3), MultinomialLogLoss(3))

    def loss(of_draws, of_deep):
        log_p = log_softmax(of_draws * a + of_deep * b, axis=1)
        return -log_p[np.arange(N_ROWS), y].mean()

    best = loss(found.of_draws, found.of_deep)
    for step in (-0.02, 0.02):
        assert loss(found.of_draws + step, found.of_deep) > best
        assert loss(found.of_draws, found.of_deep + step) > best
    assert_allclose([found.of_draws, found.of_deep], 1, atol=0.15)


@pytest.mark.parametrize("seed", range(5))
def test_what_adds_nothing_has_no_weight(seed):
    """Noise, and the draws' own predictions once more, even if the draws exaggerate."""
    rng, a, noise = two_views(seed)
    y = rng.random(N_ROWS) < 1 / (1 + np.exp(-a[:, 0]))
    for draws, deep in ((a, noise), (a, a), (3 * a, a), (a, np.zeros_like(a))):
        found = find_blend(draws, deep, watch(y), np.zeros(1), BinaryLogLoss())
        assert (found.of_draws, found.of_deep) == (1, 0)
        assert "left out" in found.describe()


def test_gain_is_what_it_saves_on_other_rows():
    rng, a, b = two_views()
    y = 0.5 * (a + b)[:, 0] + rng.normal(0, 0.5, N_ROWS)
    found = find_blend(a, b, watch(y), np.zeros(1), SquaredError())
    assert found.gain == pytest.approx(0.25 / 2, rel=0.15)  # the variance of b / 2, halved
    assert found.gain > 5 * found.standard_error
    assert found.n_held_out == N_ROWS
    assert "2,000 rows held out" in found.describe()


def test_rows_of_weight_two_are_two_rows():
    rng, a, b = two_views()
    y = rng.random(N_ROWS) < 1 / (1 + np.exp(-(a + b)[:, 0]))
    twice = np.repeat(np.arange(N_ROWS), 2)
    one = find_blend(a, b, watch(y, np.full(N_ROWS, 2.0)), np.zeros(1), BinaryLogLoss())
    two = find_blend(a[twice], b[twice], watch(y[twice]), np.zeros(1), BinaryLogLoss())
    assert_allclose([one.of_draws, one.of_deep], [two.of_draws, two.of_deep], rtol=1e-3)


def test_mixture_stays_in_the_range():
    blend = Blend(0.9, 0.8, np.zeros(1), 0.1, 0.01, 100)
    task = Task("numbers", y_range=(1.0, 5.0))
    loss = SquaredError(center=3.0, scale=2.0)
    ends = np.array([[-1.0], [0.0], [1.0]])
    assert_allclose(loss.predict(blend.mix(ends, ends, loss, task)), [1, 3, 5])


def test_one_row_held_out():
    """Too few to tell anything: no weight, no error."""
    one = find_blend(
        np.ones((1, 1)), np.ones((1, 1)), watch(np.ones(1)), np.zeros(1), SquaredError()
    )
    assert one.of_deep == 0
