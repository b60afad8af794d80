"""Losses against their slow twins, scipy and scikit-learn's metrics."""

import math

import numpy as np
import pytest
import reference
import torch
from numpy.testing import assert_allclose
from scipy.optimize import minimize
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score, root_mean_squared_error
from torch.autograd import gradcheck

from sklearn_fm.training.losses import BinaryLogLoss, MultinomialLogLoss, SquaredError
from sklearn_fm.training.rows import Batch

RNG = np.random.default_rng(0)
WEIGHT = RNG.uniform(0.1, 3, 30)
CASES = {
    "binary": (BinaryLogLoss(), RNG.integers(0, 2, 30), reference.binary_log_loss),
    "multinomial": (MultinomialLogLoss(4), RNG.integers(0, 4, 30), reference.multinomial_log_loss),
    "squared": (SquaredError(), RNG.normal(size=30), reference.squared_error),
    "standardized": (
        SquaredError(3.0, 2.0),
        RNG.normal(3, 2, size=30),
        lambda raw, y: reference.squared_error(raw, y, 3.0, 2.0),
    ),
    "range": (
        SquaredError(3.0, 2.0, (1.0, 5.0)),
        RNG.uniform(1, 5, size=30),
        lambda raw, y: reference.squared_error(raw, y, 3.0, 2.0, (1.0, 5.0)),
    ),
}
all_losses = pytest.mark.parametrize(("loss", "target", "twin"), CASES.values(), ids=CASES)


def batch_of(target):
    """Rows with nothing but encoded targets, which these losses look at alone."""
    target = torch.as_tensor(target)
    nothing = torch.empty(0, 0)
    return Batch(nothing, nothing, target, torch.ones_like(target))


def raw_for(loss, scale=2.0):
    return np.random.default_rng(1).normal(scale=scale, size=(30, loss.n_outputs))


@all_losses
def test_value_is_the_definition(loss, target, twin):
    raw = raw_for(loss)
    value = loss.value(torch.from_numpy(raw), batch_of(loss.encode(target.astype(float))))
    assert value.shape == (30,)
    assert_allclose(value, twin(raw, target), rtol=1e-10)


@all_losses
def test_gradcheck(loss, target, twin):
    raw = torch.from_numpy(raw_for(loss)).requires_grad_()
    y = torch.from_numpy(loss.encode(target.astype(float)))
    assert gradcheck(lambda raw: loss.value(raw, batch_of(y)), raw)


@all_losses
def test_best_constant_minimizes_the_weighted_value(loss, target, twin):
    best = loss.best_constant(target, WEIGHT)
    assert best.shape == (loss.n_outputs,)

    def objective(constant):
        return np.average(twin(np.tile(constant, (30, 1)), target), weights=WEIGHT)

    found = minimize(objective, np.zeros(loss.n_outputs), tol=1e-12)
    assert objective(best) <= found.fun + 1e-12
    y, weight = torch.from_numpy(loss.encode(target.astype(float))), torch.from_numpy(WEIGHT)
    constant = torch.from_numpy(best).requires_grad_()
    (loss.value(constant.expand(30, -1), batch_of(y)) * weight).sum().backward()
    assert_allclose(constant.grad, 0, atol=1e-10)


def test_log_losses_are_those_of_scikit_learn():
    for name in ("binary", "multinomial"):
        loss, target, _ = CASES[name]
        raw = raw_for(loss)
        value = loss.value(torch.from_numpy(raw), batch_of(loss.encode(target.astype(float))))
        probability = loss.predict(raw)
        assert_allclose(probability.sum(axis=1), 1, rtol=1e-14)
        assert_allclose(
            np.average(value, weights=WEIGHT),
            log_loss(target, probability, sample_weight=WEIGHT),
            rtol=1e-10,
        )


def test_predictions_of_best_constants_are_weighted_means():
    for name in ("binary", "multinomial"):
        loss, target, _ = CASES[name]
        shares = np.bincount(target, WEIGHT) / WEIGHT.sum()
        assert_allclose(loss.predict(loss.best_constant(target, WEIGHT)[None])[0], shares)
    for name in ("squared", "standardized", "range"):
        loss, target, _ = CASES[name]
        mean = np.average(target, weights=WEIGHT)
        assert_allclose(loss.predict(loss.best_constant(target, WEIGHT)[None]), mean)


@all_losses
def test_metric_is_that_of_scikit_learn(loss, target, twin):
    raw = raw_for(loss)
    truth = {
        "auc": lambda: roc_auc_score(target, raw[:, 0], sample_weight=WEIGHT),
        "accuracy": lambda: accuracy_score(target, raw.argmax(axis=1), sample_weight=WEIGHT),
        "rmse": lambda: root_mean_squared_error(target, loss.predict(raw), sample_weight=WEIGHT),
    }[loss.metric_name]()
    assert_allclose(loss.metric(raw, loss.encode(target), WEIGHT), truth, rtol=1e-12)


def test_extreme_raw_predictions_stay_finite():
    raw = torch.tensor([[-800.0], [800.0]], dtype=torch.float64)
    for y, values in ((0.0, [0.0, 800.0]), (1.0, [800.0, 0.0])):
        value = BinaryLogLoss().value(raw, batch_of(torch.full((2,), y, dtype=torch.float64)))
        assert_allclose(value, values, atol=1e-300)
    assert BinaryLogLoss().predict(raw.numpy()).tolist() == [[1, 0], [0, 1]]
    wide = torch.tensor([[-800.0, 800.0]], dtype=torch.float64)
    value = MultinomialLogLoss(2).value(wide, batch_of(torch.zeros(1, dtype=torch.float64)))
    assert_allclose(value, 1600)
    assert MultinomialLogLoss(2).predict(wide.numpy()).tolist() == [[0, 1]]


def test_predictions_are_float64_whatever_the_device_computed():
    for loss, _, _ in CASES.values():
        assert loss.predict(raw_for(loss).astype(np.float32)).dtype == np.float64


def test_small_probabilities_of_class_0_do_not_round_to_nothing():
    """1 - sigmoid(40) is 0 in float64, sigmoid(-40) is 4e-18: a log loss sees the difference."""
    probability = BinaryLogLoss().predict(np.array([[40.0], [-40.0]]))
    assert_allclose(probability[0, 0], 1 / (1 + math.exp(40)), rtol=1e-10)
    assert_allclose(probability[1, 1], 1 / (1 + math.exp(40)), rtol=1e-10)


def test_best_constant_of_one_class_is_finite():
    assert 10 < BinaryLogLoss().best_constant(np.ones(5), np.ones(5))[0] < 20
    assert np.isfinite(MultinomialLogLoss(3).best_constant(np.ones(5), np.ones(5))).all()
    assert math.isnan(BinaryLogLoss().metric(np.zeros((5, 1)), np.ones(5), np.ones(5)))


def test_squared_error_standardizes_by_the_weighted_target():
    """A change of unit changes neither raw predictions' meaning nor the loss."""
    target = CASES["standardized"][1]
    loss = SquaredError.of_target(target, WEIGHT)
    assert_allclose(loss.center, np.average(target, weights=WEIGHT))
    assert_allclose(loss.scale**2, np.cov(target, aweights=WEIGHT, ddof=0))
    other = SquaredError.of_target(1000 * target - 7, WEIGHT)
    raw = raw_for(loss)
    assert_allclose(other.predict(raw), 1000 * loss.predict(raw) - 7)
    assert_allclose(
        other.value(torch.from_numpy(raw), batch_of(other.encode(1000 * target - 7))),
        loss.value(torch.from_numpy(raw), batch_of(loss.encode(target))),
    )


@pytest.mark.parametrize(("constant", "scale"), [(0.0, 1.0), (0.1, 0.00625), (1e9, 1.0)])
def test_scale_of_a_constant_target(constant, scale):
    """Not the rounding error of its mean; small against it, so that start values hardly show."""
    assert SquaredError.of_target(np.full(7, constant), np.full(7, 0.3)).scale == scale


def test_range_keeps_predictions_inside():
    loss = SquaredError(y_range=(1.0, 5.0))
    prediction = loss.predict(np.array([[-30.0], [0.0], [30.0]]))
    assert ((prediction >= 1) & (prediction <= 5)).all()
    assert prediction[1] == 3
